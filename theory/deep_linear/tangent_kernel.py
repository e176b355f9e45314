"""The neural tangent kernel of linear networks, and how far training moves it: the measure of lazy and rich.

A kernel that stays put means lazy learning, one that moves means that features are learned. For white inputs the
movement follows from two Gram matrices of the weights, without a kernel ever being formed (Dominé et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, real
from theory.deep_linear.matrix import Solution


def tangent_kernel(
    weights: Sequence[Real[ArrayLike, "_ _"]],
    x: Real[ArrayLike, "n_in P"],
    other: Real[ArrayLike, "n_in R"] | None = None,
) -> Float[Array, "M N"]:
    """The neural tangent kernel of a linear network of any depth.

    K = sum_l (A_l A_l^T) (x) (X^T B_l^T B_l X'),   A_l = W_N ... W_{l+1},   B_l = W_{l-1} ... W_1.

    Arguments:
        weights: W_1 (hidden x n_in), ..., W_N (n_out x hidden), N >= 1.
        x: inputs in columns, X.
        other: a second set of inputs, X'; X itself if not given.
    Returns:
        K, shape (n_out P, n_out R), the output index slow: row o P + p is output o on sample p.
    Holds when: the kernel is the sum of products of gradients of the outputs, with no 1/width and no 1/P.
    Source: Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572), definition of the kernel, for linear layers.
    """
    if not len(weights):
        raise ValueError("weights must hold one layer or more, got none")
    x = matrix("x", x)
    other = x if other is None else matrix("other", other, rows=x.shape[0])
    layers, width = [], x.shape[0]
    for i, w in enumerate(weights):
        layers.append(matrix(f"weights[{i}]", w, columns=width))
        width = layers[-1].shape[0]
    # Inputs of each layer from below, and the map to the outputs from above.
    inputs, outputs = [(x, other)], [jnp.eye(width, dtype=layers[-1].dtype)]
    for w in layers[:-1]:
        inputs.append((w @ inputs[-1][0], w @ inputs[-1][1]))
    for w in layers[:0:-1]:
        outputs.append(outputs[-1] @ w)
    terms = zip(reversed(outputs), inputs, strict=True)
    return sum(jnp.kron(a @ a.T, b.T @ b_other) for a, (b, b_other) in terms)


def two_layer_kernel(solution: Solution | tuple, x: Real[ArrayLike, "n_in P"]) -> Float[Array, "M M"]:
    """The neural tangent kernel of a two-layer network at one time, from what `exact_solution` gives.

    K = I (x) X^T W1^T W1 X + W2 W2^T (x) X^T X.

    Arguments:
        solution: W2 W1, W1^T W1 and W2 W2^T at one time (use `jax.vmap` for several).
        x: inputs in columns, X.
    Returns:
        K, shape (n_out P, n_out P), the output index slow.
    Holds when: as for `tangent_kernel`.
    Source: Braun, Dominé, Fitzgerald & Saxe 2022, the section on the neural tangent kernel.
    """
    _, hidden, outputs = Solution(*solution)
    hidden, outputs = real("hidden_similarity", hidden), real("output_gram", outputs)
    x = matrix("x", x, rows=hidden.shape[-1])
    one = jnp.eye(outputs.shape[-1], dtype=x.dtype)
    return jnp.kron(one, x.T @ hidden @ x) + jnp.kron(outputs, x.T @ x)


def kernel_movement(before: Solution | tuple, after: Solution | tuple) -> Float[Array, "*T"]:
    """How far the kernel has turned between two times: S = 1 - <K, K'> / (|K| |K'|), for white inputs.

    <K, K'> / P^2 = n_out tr(A A') + tr A tr B' + tr A' tr B + n_in tr(B B'),   A = W1^T W1,   B = W2 W2^T.

    Arguments:
        before, after: W2 W1, W1^T W1 and W2 W2^T, at one time or at times, shape (*T, ...); they broadcast.
    Returns:
        S in [0, 1], of the shape of the times, without cancellation at small S; 0 for a kernel that only grows.
    Holds when: X X^T is a multiple of the identity; neither kernel vanishes.
    Source: the kernel distance of Fort et al. 2020 (arXiv:2010.15110), evaluated on `two_layer_kernel`.
    """
    first, second = normalised_kernel(before), normalised_kernel(after)
    # Half the squared distance of unit vectors, which is exact where one minus their product is rounding.
    return 0.5 * sum(jnp.sum((a - b) ** 2, axis=(-2, -1)) for a, b in zip(first, second, strict=True))


def normalised_kernel(solution: Solution | tuple) -> tuple[Float[Array, "*T n_in n_in"], ...]:
    """The kernel, of length one, in coordinates in which products of kernels are sums of products of entries.

    I (x) A + B (x) I has three orthogonal parts: the traceless ones of A and B, and the multiple of the identity.
    """
    _, a, b = Solution(*solution)
    a, b = real("hidden_similarity", a), real("output_gram", b)
    n_in, n_out = a.shape[-1], b.shape[-1]
    mean_a = jnp.trace(a, axis1=-2, axis2=-1)[..., None, None] / n_in
    mean_b = jnp.trace(b, axis1=-2, axis2=-1)[..., None, None] / n_out
    parts = (
        jnp.sqrt(n_out) * (a - mean_a * jnp.eye(n_in, dtype=a.dtype)),
        jnp.sqrt(n_in) * (b - mean_b * jnp.eye(n_out, dtype=b.dtype)),
        jnp.sqrt(n_in * n_out) * (mean_a + mean_b),
    )
    length = jnp.sqrt(sum(jnp.sum(part**2, axis=(-2, -1), keepdims=True) for part in parts))
    return tuple(part / length for part in parts)
