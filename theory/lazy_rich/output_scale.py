"""Output scale: multiplying a network's output makes it lazy, and by how much is known in advance.

A network alpha (f(theta) - f(theta_0)) with a large alpha needs to move its weights by 1/alpha only, so little that
its tangent kernel stays. Rates are divided by alpha^2 throughout (loss over alpha^2): outputs then learn at a speed
that does not depend on alpha. For a homogeneous network the same is a larger start. Of one mode of a two-layer linear
network everything is known: its kernel is sqrt(imbalance^2 + 4 f^2), rich where the second term rules. A coordinate of
a diagonal network is such a mode too.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require
from theory.kernels.mean_field import aligned_output

# Powers of the output scale with which a smooth network leaves its start, to leading order (Chizat et al. 2019).
WEIGHT_ORDER, KERNEL_ORDER, LINEARISATION_ORDER, MISALIGNMENT_ORDER = -1, -1, -1, -2


class Rescaling(NamedTuple):
    """By what a start's weights, and time, are multiplied."""

    weights: Float[Array, "..."]
    time: Float[Array, "..."]


def equivalent_start(scale: Real[ArrayLike, "..."], degree: Real[ArrayLike, "..."]) -> Rescaling:
    """The start without output scale that trains like a homogeneous network with it.

    theta -> alpha^{1/L} theta,   t -> alpha^{2/L - 2} t.

    Arguments, which broadcast:
        scale: alpha > 0, with rates divided by alpha^2 (t is learning rate times steps before that division).
        degree: L > 0, f(c theta) = c^L f(theta): the number of layers of a network of rectifiers or linear units
            without biases.
    Returns:
        `Rescaling(weights, time)`: the network f from weights alpha^{1/L} theta_0 has at time alpha^{2/L - 2} t the
        outputs that alpha f from theta_0 has at time t.
    Holds when: gradient flow; the output is not centred (or both are).
    Source: Chizat, Oyallon & Bach 2019 (arXiv:1812.07956), section 1.2, homogeneous models.
    """
    scale, degree = positive("scale", scale), positive("degree", degree)
    return Rescaling(scale ** (1 / degree), scale ** (2 / degree - 2))


def lazy_weight_change(
    t: Real[ArrayLike, " T"],
    kernel: Real[ArrayLike, "P samples"],
    missing: Real[ArrayLike, " labels"],
    scale: Real[ArrayLike, ""],
) -> Float[Array, " T"]:
    """Distance that the weights travel, to leading order in 1/alpha.

    |theta_t - theta_0| = (1/alpha) sqrt(r^T Theta^{-1} (1 - e^{-Theta t / P})^2 r) -> (1/alpha) sqrt(r^T Theta^{-1} r).

    Arguments:
        t: times, >= 0, learning rate times steps of the loss (1/2P) sum (y - F)^2 over alpha^2, shape (T,).
        kernel: Theta, tangent kernel of f (not alpha f) at the start, symmetric and positive semi-definite, (P, P).
        missing: r = y - F_0, (P,).
        scale: alpha > 0.
    Returns:
        the distance, shape (T,).
    Holds when: alpha -> infinity; the correction is of relative order 1/alpha.
    Source: Chizat, Oyallon & Bach 2019 (arXiv:1812.07956), theorem 2.2, evaluated on the linearised model.
    """
    t, kernel, missing = non_negative("t", t), matrix("kernel", kernel), real("missing", missing)
    kernel = matrix("kernel", kernel, kernel.shape[0], kernel.shape[0])
    if missing.shape != kernel.shape[:1]:
        raise ValueError(f"missing must hold a number for each of {kernel.shape[0]} samples, got {missing.shape}")
    rates, modes = jnp.linalg.eigh(kernel)
    floor = 10 * len(rates) * jnp.finfo(rates.dtype).eps * jnp.max(jnp.abs(rates))
    rates = jnp.maximum(require("kernel", rates, rates >= -floor, "must be positive semi-definite, it has"), 0.0)
    run = -jnp.expm1(-rates * t[:, None] / len(rates))
    along = (modes.T @ missing) * run / jnp.sqrt(jnp.where(rates > 0, rates, jnp.inf))
    return jnp.linalg.norm(along, axis=1) / positive("scale", scale)


def two_layer_kernel(
    output: Real[ArrayLike, "..."], imbalance: Real[ArrayLike, "..."], scale: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "..."]:
    """Tangent kernel of one mode of a two-layer linear network, at the moment at which it says F.

    K = a^2 + w^2 = sqrt(lam^2 + 4 (F / alpha)^2),   F = alpha a w,   lam = a^2 - w^2, which training keeps.

    Arguments, which broadcast:
        output: F, of any sign.
        imbalance: lam, of any sign: 0 for balanced layers.
        scale: alpha > 0.
    Returns:
        K, in units in which F learns at the rate K of the loss over alpha^2. It is lazy, K = |lam|, for
        |F| << alpha |lam| / 2, and rich, K = 2 |F| / alpha, beyond.
    Holds when: gradient flow.
    Source: Saxe, McClelland & Ganguli 2014 (arXiv:1312.6120); Kunin et al. 2024 (arXiv:2406.06158).
    """
    return jnp.hypot(real("imbalance", imbalance), 2 * real("output", output) / positive("scale", scale))


def diagonal_kernel(
    output: Real[ArrayLike, "..."], product: Real[ArrayLike, "..."], scale: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "..."]:
    """Tangent kernel of one coordinate of a diagonal network, through training: twice that of a two-layer mode.

    K = 4 (u^2 + v^2) = 4 sqrt((F / alpha)^2 + 4 p^2),   F = alpha (u^2 - v^2),   p = u v, which training keeps.

    Arguments, which broadcast:
        output: F, of any sign.
        product: p >= 0, the squared size of an unbiased start u = v.
        scale: alpha > 0.
    Returns:
        K; 4 p takes the place of a two-layer mode's imbalance: `crossover_scale(target, 4 p)` is where the coordinate
        turns from lazy to rich, and `two_layer_output(2 t, target, 4 p, scale)` its course from u = v.
    Holds when: gradient flow on an orthogonal feature of unit mean square.
    Source: Woodworth et al. 2020 (arXiv:2002.09277), the diagonal network of depth 2.
    """
    return 2 * two_layer_kernel(output, 4 * non_negative("product", product), scale)


def crossover_scale(
    target: Real[ArrayLike, "..."],
    imbalance: Real[ArrayLike, "..."],
    growth: Real[ArrayLike, "..."] = 2**0.5,
) -> Float[Array, "..."]:
    """The output scale below which one mode's kernel grows by more than a factor while it learns.

    alpha = 2 |y| / (|lam| sqrt(growth^2 - 1)).

    Arguments, which broadcast:
        target: y, what the mode learns from F = 0.
        imbalance: lam, not 0: a balanced start at 0 is rich at every scale.
        growth: K(y) / K(0) > 1; sqrt(2) where both terms of the kernel are equal.
    Returns:
        alpha. Networks of larger scale are lazier.
    Holds when: as for `two_layer_kernel`.
    Source: `two_layer_kernel`, solved for alpha.
    """
    imbalance = real("imbalance", imbalance)
    imbalance = require("imbalance", imbalance, imbalance != 0, "must not be zero")
    growth = real("growth", growth)
    growth = require("growth", growth, growth > 1, "must be above 1")
    return 2 * jnp.abs(real("target", target)) / (jnp.abs(imbalance) * jnp.sqrt((growth - 1) * (growth + 1)))


def two_layer_output(
    t: Real[ArrayLike, "..."],
    target: Real[ArrayLike, "..."],
    imbalance: Real[ArrayLike, "..."],
    scale: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Output of one mode of a two-layer linear network that starts at F = 0 with one layer at zero.

    dF/dt = sqrt(lam^2 + 4 (F / alpha)^2) (y - F),   F(0) = 0:
    F = 2 q / (g (1 - q^2)),   q = r (1 - E) / (1 + r^2 E),   E = exp(-|lam| sqrt(1 + c^2) t),
    g = 2 / (alpha |lam|),   c = g y,   r = c / (1 + sqrt(1 + c^2)).

    Arguments, which broadcast:
        t: time, >= 0, learning rate times steps of the loss (y - F)^2 / 2 over alpha^2.
        target: y; imbalance: lam, not 0, the squared size of the layer that is not zero; scale: alpha > 0.
    Returns:
        F: y (1 - exp(-|lam| t)) in the lazy limit, a late and abrupt rise in the rich one.
    Holds when: gradient flow on one white mode.
    Source: the flow of `two_layer_kernel`, that of `theory.kernels.mean_field.aligned_output` in other units.
    """
    t, target = non_negative("t", t), real("target", target)
    imbalance = real("imbalance", imbalance)
    size = jnp.abs(require("imbalance", imbalance, imbalance != 0, "must not be zero"))
    return aligned_output(t, target, jnp.sqrt(2 / size) / positive("scale", scale), size / 2)
