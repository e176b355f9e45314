"""Where did training end? Measures of a loss landscape between two networks, and landscapes where they are exact.

Two networks are trained alike but for their noise. What the loss does on the straight path between them, and whether
their outputs agree, tells three regimes apart, in which pruning wants different training:

| `regime` | connectivity | similarity | what it means |
|---|---|---|---|
| poorly connected | negative: a barrier | any | noise chose between valleys |
| connected but dissimilar | none or positive | low | one valley, wide in functions |
| connected and similar | none or positive | high | one function, whatever the noise |

On a quadratic loss, and between the minima of a scalar two-layer linear network, connectivity has a closed form:
`quadratic_connectivity` and `scalar_network_connectivity`. There is no closed theory of which regime a network is in.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import matrix, non_negative, real, require, within
from theory.lazy_rich.laziness import centred_alignment, gram

REGIMES = ("poorly connected", "connected but dissimilar", "connected and similar")


def mode_connectivity(losses: Real[ArrayLike, "*runs K"]) -> Float[Array, "*runs"]:
    """Linear mode connectivity: mean loss of two networks less the loss between them, where that differs most.

    (L(0) + L(1)) / 2 - L(t*),   t* = argmax_t |(L(0) + L(1)) / 2 - L(t)|;   negative means a barrier, positive that
    the loss is lower between the networks than at them.

    Arguments:
        losses: L on K >= 3 points of the path, both ends among them, first and last, (..., K).
    Returns:
        connectivity in units of the loss, of the leading axes' shape. Two deviations of equal size and opposite sign
        count as the positive one. Ends of unequal loss deviate by half their difference, and so does a path without
        a bump: a positive value. `barrier` is free of that.
    Holds when: always; K points see no structure finer than 1 / (K - 1).
    Source: Yang et al. 2021 (arXiv:2107.11228), mode connectivity; of pruned networks Zhou et al. 2023
        (arXiv:2305.18383).
    """
    losses = _path(losses)
    first, last = losses[..., 0], losses[..., -1]
    # Ends deviate by exactly opposite amounts: computed once, so that rounding does not decide the sign.
    half = 0.5 * jnp.abs(last - first)
    between = 0.5 * (first + last)[..., None] - losses[..., 1:-1]
    high = jnp.maximum(half, jnp.max(between, axis=-1))
    low = jnp.minimum(-half, jnp.min(between, axis=-1))
    return jnp.where(-low > high, low, high)


def barrier(losses: Real[ArrayLike, "*runs K"]) -> Float[Array, "*runs"]:
    """Loss barrier: the largest height of the loss on a path above the straight line between its ends.

    max_t  L(t) - (1 - t) L(0) - t L(1)   >= 0.

    Arguments:
        losses: L on K >= 3 points at equal distances, both ends among them, (..., K).
    Returns:
        height in units of the loss, of the leading axes' shape; 0 on a convex path.
    Holds when: always, as for `mode_connectivity`; between ends of equal loss it is -connectivity, if that is negative.
    Source: Entezari et al. 2021 (arXiv:2110.06296), loss barrier.
    """
    losses = _path(losses)
    t = jnp.linspace(0.0, 1.0, losses.shape[-1])
    line = (1 - t) * losses[..., :1] + t * losses[..., -1:]
    # At the ends the height is zero, not its rounding.
    return jnp.maximum(0.0, jnp.max((losses - line)[..., 1:-1], axis=-1))


def output_similarity(
    outputs: Real[ArrayLike, "P *units"], other: Real[ArrayLike, "samples *classes"]
) -> Float[Array, ""]:
    """Similarity of two networks by their outputs on the same samples: centred kernel alignment (CKA).

    <H F F^T H, H G G^T H> / (|H F F^T H| |H G G^T H|),   H = 1 - 1 1^T / P.

    Arguments:
        outputs, other: F and G, samples in rows, (P,) or (P, outputs); neither is constant over samples.
    Returns:
        between 0 and 1; 1 where outputs agree up to a shift, a rotation and a scale.
    Holds when: always.
    Source: Kornblith et al. 2019 (arXiv:1905.00414), eq. 4 with linear kernels; as a landscape metric Yang et al. 2021
        (arXiv:2107.11228).
    """
    outputs, other = real("outputs", outputs), real("other", other)
    if outputs.shape[:1] != other.shape[:1]:
        raise ValueError(f"other must have as many samples as outputs, {outputs.shape[:1]}, got {other.shape[:1]}")
    return centred_alignment(gram(outputs), gram(other))


def regime(
    connectivity: Real[ArrayLike, "*runs"],
    similarity: Real[ArrayLike, "*others"],
    least_connectivity: Real[ArrayLike, ""] = -0.05,
    least_similarity: Real[ArrayLike, ""] = 0.95,
) -> Int[Array, "..."]:
    """Which of the three `REGIMES` a pair of networks is in: 0, 1 or 2.

    0 where connectivity < least_connectivity; of the others 2 where similarity >= least_similarity, else 1.

    Arguments:
        connectivity: from `mode_connectivity`; similarity: from `output_similarity`, in [0, 1]; they broadcast.
        least_connectivity: the deepest barrier that still counts as connected, <= 0, in units of the loss;
        least_similarity: in [0, 1].
    Returns:
        index into `REGIMES`, of the broadcast shape.
    Holds when: always; where the borders lie is a convention.
    Source: Zhou et al. 2023 (arXiv:2305.18383), the three regimes.
    """
    connectivity = real("connectivity", connectivity)
    # A cosine may pass one by rounding.
    similarity = within("similarity", similarity, 0.0, 1.0 + 1e-6)
    least_connectivity = -non_negative("minus least_connectivity", -jnp.asarray(least_connectivity))
    least_similarity = within("least_similarity", least_similarity, 0.0, 1.0)
    return jnp.where(connectivity < least_connectivity, 0, jnp.where(similarity >= least_similarity, 2, 1))


def quadratic_connectivity(
    hessian: Real[ArrayLike, "n n2"], first: Real[ArrayLike, " n3"], second: Real[ArrayLike, " n4"]
) -> Float[Array, ""]:
    """Mode connectivity of two points of the quadratic loss L = w^T H w / 2.

    q / 8 + s^2 / (2 q)  for |s| <= |q| / 2,   |s| / 2  beyond,   with d = w_2 - w_1, q = d^T H d, s = L(w_2) - L(w_1).

    Arguments:
        hessian: H, symmetric, (n, n); first, second: w_1 and w_2, as distances from the minimum (or saddle), (n,).
    Returns:
        connectivity in units of the loss: d^T H d / 8 between points of equal loss; never negative for positive
        semi-definite H, for there is no barrier in a convex valley.
    Holds when: the loss is quadratic between the points; on the whole path, not only on sampled points.
    Source: derived in derivations/lazy_rich/landscape.py.
    """
    hessian = matrix("hessian", hessian)
    hessian = matrix("hessian", hessian, columns=hessian.shape[0])
    scale = jnp.max(jnp.abs(hessian), initial=0.0)
    hessian = require("hessian", hessian, jnp.abs(hessian - hessian.T) <= 1e-6 * scale, "must be symmetric")
    first, second = real("first", first), real("second", second)
    for name, point in (("first", first), ("second", second)):
        if point.shape != hessian.shape[:1]:
            raise ValueError(f"{name} must have shape {hessian.shape[:1]}, got {point.shape}")
    apart, middle = second - first, 0.5 * (first + second)
    # L(w_2) - L(w_1) by the slope half-way: exact for a parabola, and without cancellation between the two losses.
    return parabola_connectivity(apart @ hessian @ apart, apart @ hessian @ middle)


def parabola_connectivity(curvature: Real[ArrayLike, "*runs"], tilt: Real[ArrayLike, "*others"]) -> Float[Array, "..."]:
    """Mode connectivity of a path on which the loss is a parabola.

    q / 8 + s^2 / (2 q)  for |s| <= |q| / 2,   |s| / 2  beyond.

    Arguments:
        curvature: q = L''(t), t from 0 to 1 along the path (d^T H d of a network's Hessian), any sign;
        tilt: s = L(1) - L(0). They broadcast.
    Returns:
        connectivity in units of the loss, of the broadcast shape.
    Holds when: third derivatives along the path are small against q.
    Source: derived in derivations/lazy_rich/landscape.py.
    """
    q, s = jnp.broadcast_arrays(real("curvature", curvature), real("tilt", tilt))
    # A double `where`: gradients stay finite on a flat path.
    bent = (jnp.abs(s) <= 0.5 * jnp.abs(q)) & (q != 0)
    safe = jnp.where(bent, q, 1.0)
    return jnp.where(bent, safe / 8 + s**2 / (2 * safe), 0.5 * jnp.abs(s))


def scalar_network_connectivity(
    first: Real[ArrayLike, "*runs"], second: Real[ArrayLike, "*others"], target: Real[ArrayLike, "*targets"] = 1.0
) -> Float[Array, "..."]:
    """Mode connectivity of two minima (a, m/a) and (b, m/b) of the scalar linear network, L = (m - w_1 w_2)^2 / 2.

    -m^2 (a - b)^4 / (32 a^2 b^2);   -m^2 / 2 between a minimum and its sign flip, whatever its scale.

    Arguments:
        first, second: first-layer weights a and b, not zero; target: m. They broadcast.
    Returns:
        connectivity in units of the loss, of the broadcast shape; the barrier, with a minus, is half-way.
    Holds when: both points are minima. They are joined by a curve without a barrier where a and b have one sign; the
        straight path leaves it all the same.
    Source: derived in derivations/lazy_rich/landscape.py.
    """
    a, b, m = real("first", first), real("second", second), real("target", target)
    a, b = (require(name, w, w != 0, "must not be zero") for name, w in (("first", a), ("second", b)))
    # (a - b)^2 / (a b) as a sum of ratios: no overflow of powers.
    ratio = (a - b) / a * ((a - b) / b)
    return -((m * ratio) ** 2) / 32


def _path(losses) -> Float[Array, "*runs K"]:
    losses = real("losses", losses)
    if losses.ndim < 1 or losses.shape[-1] < 3:
        raise ValueError(f"losses must hold three points of a path or more in the last axis, got shape {losses.shape}")
    return losses
