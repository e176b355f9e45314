"""Discrete time: what steps of finite size add to the flow.

Exact gradient descent on quadratics, and how fast the balance of deep linear layers, which the flow conserves, drifts
when steps are finite. What gradient descent adds to a flow in general is `theory.flow.descent_error`; steps on single
samples and batches are in `sgd`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import floating, matrix, non_negative, real, require


def descent_factor(
    k: Real[ArrayLike, "..."], lr: Real[ArrayLike, "..."], lam: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """What is left of an error after k steps of gradient descent along one direction of a quadratic.

    (1 - lr lam)^k.

    Arguments, which broadcast:
        k: number of steps, whole, >= 0.
        lr: step, >= 0.
        lam: curvature of the direction, any sign.
    Returns:
        the factor, of the broadcast shape: e^{-lam t} at t = lr k for small lr; it alternates in sign for lr lam > 1
        and grows for lr lam > 2 (to infinity, where it passes the largest float).
    Holds when: the loss is quadratic; k is treated as a constant by differentiation.
    Source: linear recursion.
    """
    k, lr, lam = whole_steps("k", k), non_negative("lr", lr), real("lam", lam)
    x = lr * lam
    sign = jnp.where((x > 1) & (k % 2 == 1), -1.0, 1.0)
    # log1p keeps every digit of a small lr lam over many steps; at lr lam = 1 one step ends it.
    ended = x == 1
    safe = jnp.where(ended, 0, x)
    log = jnp.where(x > 1, jnp.log(jnp.where(x > 1, safe - 1, 1)), jnp.log1p(-jnp.where(x > 1, 0, safe)))
    return jnp.where(ended, jnp.where(k == 0, 1.0, jnp.where(k == 1, 1 - x, 0.0)), sign * jnp.exp(k * log))


def balance_drift(
    weights: Sequence[Real[ArrayLike, "_ _"]],
    lr: Real[ArrayLike, ""],
    sxx: Real[ArrayLike, "_ _"],
    syx: Real[ArrayLike, "_ _"],
) -> tuple[Float[Array, "_ _"], ...]:
    """Change of each W_{l+1}^T W_{l+1} - W_l W_l^T in one step of gradient descent, exactly.

    lr^2 (G_{l+1}^T G_{l+1} - G_l G_l^T),   G_l = (W_N .. W_{l+1})^T E (W_{l-1} .. W_1)^T,   E = Syx - W Sxx.

    Two layers: lr^2 (W_1 E^T E W_1^T - W_2^T E E^T W_2). The first order in lr cancels, which is why the flow conserves
    these matrices; over a time t = lr k the drift adds up to order lr.

    Arguments:
        weights: W_1 ... W_N from the input up; W_l is n_l x n_{l-1}.
        lr: step, >= 0.
        sxx: input correlation, (n_in, n_in).
        syx: input-output correlation, (n_out, n_in).
    Returns:
        N - 1 symmetric matrices, of shape (n_l, n_l), l = 1 ... N - 1.
    Holds when: always, at any depth and for any data; G_l is minus the gradient in W_l.
    Source: the step W_l + lr G_l, in which the terms linear in lr are the same matrix twice.
    """
    weights = tuple(matrix(f"weights[{i}]", w) for i, w in enumerate(weights))
    if not weights:
        raise ValueError("weights must hold at least one matrix, got none")
    for i, (below, above) in enumerate(itertools.pairwise(weights)):
        if above.shape[1] != below.shape[0]:
            raise ValueError(f"weights[{i + 1}] must have {below.shape[0]} columns, got shape {above.shape}")
    n_in, n_out = weights[0].shape[1], weights[-1].shape[0]
    lr, sxx, syx = non_negative("lr", lr), matrix("sxx", sxx, n_in, n_in), matrix("syx", syx, n_out, n_in)
    below = [jnp.eye(n_in, dtype=syx.dtype)]
    for w in weights:
        below.append(w @ below[-1])
    # What reaches layer l from the error above it, from the top down.
    error = [syx - below[-1] @ sxx]
    for w in reversed(weights[1:]):
        error.append(w.T @ error[-1])
    g = [e @ b.T for e, b in zip(reversed(error), below[:-1], strict=True)]
    return tuple(lr**2 * (above.T @ above - layer @ layer.T) for layer, above in itertools.pairwise(g))


def balance_factor(a: Real[ArrayLike, " N"], s: Real[ArrayLike, ""], lr: Real[ArrayLike, ""]) -> Float[Array, "N N"]:
    """Factor by which one step of gradient descent multiplies a_l^2 - a_m^2, for one mode with weights a_1 ... a_N.

    1 - lr^2 e^2 (prod_{j not l, m} a_j)^2,   e = s - a_1 ... a_N;   two layers: 1 - lr^2 e^2.

    Arguments:
        a: weights of the layers, any sign, shape (N,).
        s: strength of the target (white inputs).
        lr: step, >= 0.
    Returns:
        the factor of each pair of layers, shape (N, N), symmetric; ones on the diagonal, where the difference is zero.
    Holds when: always. Layers approach each other as long as the factor lies in (-1, 1): over-large steps balance.
    Source: `balance_drift` for one mode.
    """
    a, s, lr = real("a", a), real("s", s), non_negative("lr", lr)
    layers = jnp.arange(a.shape[0])
    left_out = (layers[:, None, None] == layers) | (layers[:, None] == layers)
    others = jnp.prod(jnp.where(left_out, 1, a), axis=-1)
    factor = 1 - (lr * (s - jnp.prod(a)) * others) ** 2
    return jnp.where(layers[:, None] == layers, 1.0, factor)


def whole_steps(name: str, value: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """`value` as a floating array; every entry must be a whole number of steps."""
    x = floating(name, value)
    return require(name, x, jnp.isfinite(x) & (x >= 0) & (x == jnp.round(x)), "must be a whole number, at least zero")
