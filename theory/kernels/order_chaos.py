"""Order and chaos: how far two inputs can be told apart through the depth of a wide random network.

Layer by layer the variance of the preactivations runs to a fixed point q*, and the covariance of two inputs to c*.
Where the slope chi_1 of the correlation map at coincidence is below one, all inputs become one (order); above one,
neighbours part (chaos); on the line between, the edge of chaos, signals reach any depth. Poole et al. 2016
(arXiv:1606.05340), Schoenholz et al. 2017 (arXiv:1611.01232), and for the tangent kernel Xiao, Pennington & Schoenholz
2020 (arXiv:1912.13053) and Hayou, Doucet & Rousseau 2019 (arXiv:1905.13654).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import floating, non_negative, positive, real, require, within
from theory.kernels.activations import Activation, activation
from theory.kernels.pairs import Pair

# A fixed point is looked for in steps of an eighth of a decade, up or down from the start.
STEPS = np.arange(8 * 30 + 1)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2


class FixedPoint(NamedTuple):
    """Where depth leads, and how fast.

    `variance`    q* of the preactivations; 0 or infinity where they die out or explode.
    `covariance`  c* <= q* of two different inputs.
    `chi_q`       slope of the variance map at q*; the fixed point is stable where |chi_q| <= 1.
    `chi_1`       slope of the correlation map at coincidence, sigma_w^2 E[phi'(u)^2].
    `chi_c`       its slope at c*; equal to chi_1 in the ordered phase.
    """

    variance: Float[Array, "..."]
    covariance: Float[Array, "..."]
    chi_q: Float[Array, "..."]
    chi_1: Float[Array, "..."]
    chi_c: Float[Array, "..."]


class DepthScales(NamedTuple):
    """Over how many layers the variance and the correlation of two inputs forget where they began."""

    variance: Float[Array, "..."]
    correlation: Float[Array, "..."]


def variance_map(
    q: Real[ArrayLike, "..."],
    phi: str | Activation,
    weight_variance: Real[ArrayLike, "..."],
    bias_variance: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Variance of the preactivations one layer further.

    V(q) = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2,   z ~ N(0, 1)

    Arguments, which broadcast:
        q: variance in this layer, >= 0.
        phi: a name ("erf", "relu", ...) or an `Activation`.
        weight_variance, bias_variance: sigma_w^2 > 0 (the weights' variance times their number), sigma_b^2 >= 0.
    Returns:
        V(q), of the broadcast shape.
    Holds when: the width is infinite.
    Source: Poole et al. 2016 (arXiv:1606.05340), eq. 3.
    """
    q, bias_variance = non_negative("q", q), non_negative("bias_variance", bias_variance)
    return _variance_map(q, activation(phi), positive("weight_variance", weight_variance), bias_variance)


def correlation_map(
    rho: Real[ArrayLike, "..."],
    q: Real[ArrayLike, "..."],
    phi: str | Activation,
    weight_variance: Real[ArrayLike, "..."],
    bias_variance: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Correlation of two inputs one layer further.

    C(rho) = (sigma_w^2 E[phi(u) phi(v)] + sigma_b^2) / V(q),   (u, v) of variance q and covariance rho q

    Arguments, which broadcast:
        rho: correlation in this layer, between -1 and 1.
        q: variance of both inputs in this layer, > 0.
        phi, weight_variance, bias_variance: as for `variance_map`.
    Returns:
        C(rho), of the broadcast shape; C(1) = 1, and all derivatives are non-negative on [0, 1]: no more than one
        fixed point lies below 1, and it attracts all |rho| < 1 if there is one.
    Holds when: the width is infinite.
    Source: Poole et al. 2016 (arXiv:1606.05340), eq. 5.
    """
    rho, q = within("rho", rho, -1.0, 1.0), positive("q", q)
    weight_variance = positive("weight_variance", weight_variance)
    bias_variance = non_negative("bias_variance", bias_variance)
    moments = activation(phi).dual(Pair(*jnp.broadcast_arrays(q, q, rho, (1 - rho) / 2, (1 + rho) / 2)))
    return (weight_variance * moments.covariance + bias_variance) / (weight_variance * moments.q1 + bias_variance)


def fixed_variance(
    phi: str | Activation,
    weight_variance: Real[ArrayLike, "..."],
    bias_variance: Real[ArrayLike, "..."] = 0.0,
    start: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """The fixed point of the variance map to which inputs of variance `start` are led.

    q* = V(q*): the first one from `start` on, on the side to which V moves it

    Arguments, which broadcast:
        phi, weight_variance, bias_variance: as for `variance_map`.
        start: variance of the first preactivations, > 0. It matters where there are several fixed points, and where
            every q is one (ReLU with sigma_w^2 = 2, sigma_b = 0), when it is returned.
    Returns:
        q*, of the broadcast shape; 0 where the variance dies out, infinity where it explodes (where there is no
        fixed point on that side up to 1e30 times the start). Differentiable in both variances.
    Holds when: V increases, as it does wherever x phi(x) phi'(x) >= 0 on average; for others (a Gaussian bump) the
        fixed point is the limit only if |chi_q| < 1. Fixed points closer than an eighth of a decade may be missed.
    Source: Poole et al. 2016 (arXiv:1606.05340), section 2.
    """
    weight_variance = positive("weight_variance", weight_variance)
    bias_variance, start = non_negative("bias_variance", bias_variance), positive("start", start)
    return _fixed_variance(activation(phi), weight_variance, bias_variance, start)


def fixed_point(
    phi: str | Activation,
    weight_variance: Real[ArrayLike, "..."],
    bias_variance: Real[ArrayLike, "..."] = 0.0,
    start: Real[ArrayLike, "..."] = 1.0,
) -> FixedPoint:
    """Where depth leads the variance of inputs and the covariance of two of them, and the slopes there.

    q* = V(q*),   c* = sigma_w^2 E[phi(u) phi(v)] + sigma_b^2 at variance q* and covariance c*,
    chi_1 = sigma_w^2 E[phi'(u)^2],   chi_c = sigma_w^2 E[phi'(u) phi'(v)] at c*,   chi_q = V'(q*)

    Arguments: as for `fixed_variance`.
    Returns:
        the `FixedPoint`, every field of the broadcast shape. c* = q* where chi_1 <= 1, and c* < q* above; where q* is
        infinite the other fields are not numbers.
    Holds when: as for `fixed_variance`; phi is continuous. c* attracts all pairs but coincident (and opposite) ones.
    Source: Poole et al. 2016 (arXiv:1606.05340), eqs. 3-6; Schoenholz et al. 2017 (arXiv:1611.01232), section 3.
    """
    phi = _smooth(phi)
    variance = fixed_variance(phi, weight_variance, bias_variance, start)
    found = jnp.isfinite(variance)
    slopes = _slopes(phi, jnp.where(found, variance, 1), positive("weight_variance", weight_variance))
    return FixedPoint(variance, *(jnp.where(found, x, jnp.nan) for x in slopes))


def phase(chi_1: Real[ArrayLike, "..."], tolerance: float = 1e-12) -> Float[Array, "..."]:
    """The phase: sign(chi_1 - 1), which is -1 in the ordered, +1 in the chaotic phase and 0 at the edge of chaos.

    Arguments:
        chi_1: of a `FixedPoint`, >= 0.
        tolerance: how far from 1 still counts as the edge.
    Returns: of the shape of chi_1.
    """
    above = non_negative("chi_1", chi_1) - 1
    return jnp.sign(above) * (jnp.abs(above) > tolerance)


def depth_scales(point: FixedPoint | tuple) -> DepthScales:
    """Over how many layers variance and correlation approach their fixed points: q - q* ~ exp(-l / xi_q), and so on.

    xi_q = -1 / ln |chi_q|,   xi_c = -1 / ln chi_c

    Arguments:
        point: of `fixed_point`, or its fields in order.
    Returns:
        (xi_q, xi_c), in layers; infinite at the edge of chaos, where the approach is a power of depth. Zero where the
        slope is zero (the approach is faster than exponential).
    Holds when: the fixed point is stable. Networks train up to a depth of a few xi_c.
    Source: Schoenholz et al. 2017 (arXiv:1611.01232), section 3.
    """
    point = FixedPoint(*point)
    return DepthScales(_layers(jnp.abs(real("chi_q", point.chi_q))), _layers(non_negative("chi_c", point.chi_c)))


def critical_line(q: Real[ArrayLike, "..."], phi: str | Activation) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The edge of chaos, by the variance q* that a network on it carries through all layers.

    sigma_w^2 = 1 / E[phi'(u)^2],   sigma_b^2 = q - sigma_w^2 E[phi(u)^2],   u ~ N(0, q);
    erf:  sigma_w^2 = (pi/4) sqrt(1 + 4 q),   sigma_b^2 = q - (2/pi) sigma_w^2 asin(2 q / (1 + 2 q))

    Arguments:
        q: variance, > 0 (>= 0 for smooth phi).
        phi: a name or an `Activation`.
    Returns:
        (sigma_w^2, sigma_b^2), each of the shape of q. A negative sigma_b^2 says that no network is critical at that q.
        ReLU gives (2, 0) at every q.
    Holds when: phi is continuous.
    Source: Poole et al. 2016 (arXiv:1606.05340), section 2; the parametrisation by q* as in Hayou et al. 2019.
    """
    q, phi = non_negative("q", q), _smooth(phi)
    weight_variance = 1 / _slope(q, 0.0, phi)
    return weight_variance, q - _variance_map(q, phi, weight_variance, 0.0)


def critical_variance(bias_variance: Real[ArrayLike, "..."], phi: str | Activation) -> Float[Array, "..."]:
    """The variance q at which the critical line has that bias variance: `critical_line(q, phi)` then has both.

    q - E[phi(u)^2] / E[phi'(u)^2] = sigma_b^2,   u ~ N(0, q)

    Arguments:
        bias_variance: sigma_b^2 > 0.
        phi: a name or an `Activation`.
    Returns:
        q, of the shape of sigma_b^2: the smallest such q >= sigma_b^2. Infinity if there is none: a ReLU network with
        biases is never critical.
    Holds when: phi is continuous.
    """
    return _critical_variance(_smooth(phi), positive("bias_variance", bias_variance))


def tangent_kernel(
    depth: Real[ArrayLike, "..."], point: FixedPoint | tuple
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Tangent kernel of a network whose inputs begin at the fixed point.

    diagonal = q* (1 - chi_1^{L+1}) / (1 - chi_1),   off-diagonal = c* (1 - chi_c^{L+1}) / (1 - chi_c)

    Arguments, which broadcast:
        depth: number L of hidden layers, >= 0; infinity gives the limits: q*/(1 - chi_1) for all entries in the ordered
            phase; an infinite diagonal and c*/(1 - chi_c) off it in the chaotic one; `critical_gap` has the edge.
        point: of `fixed_point`, or its fields in order.
    Returns:
        (diagonal, off-diagonal) in NTK parametrisation: (L + 1) q* on the diagonal at the edge of chaos.
    Holds when: variance and covariance are q* and c* from the first layer on. From another start the limits are the
        same, and the diagonal in the chaotic phase grows as chi_1^L with another prefactor.
    Source: Xiao, Pennington & Schoenholz 2020 (arXiv:1912.13053), section 3.
    """
    point, depth = FixedPoint(*point), floating("depth", depth)
    depth = require("depth", depth, depth >= 0, "must be non-negative")
    variance, covariance = non_negative("variance", point.variance), real("covariance", point.covariance)
    chi_1, chi_c = non_negative("chi_1", point.chi_1), non_negative("chi_c", point.chi_c)
    return variance * _geometric(chi_1, depth), covariance * _geometric(chi_c, depth)


def critical_gap(
    depth: Real[ArrayLike, "..."], curvature: Real[ArrayLike, "..."] | None = None, kink: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "..."]:
    """How far from coincidence two inputs still are, deep in a network at the edge of chaos: 1 - rho at leading order.

    smooth phi:   2 / (C''(1) L),             and the tangent kernel's off-diagonal over its diagonal tends to 1/3;
    kinked phi:   9 pi^2 / (2 kappa^2 L^2),   and the ratio tends to 1/4.

    Arguments, which broadcast:
        depth: number L of layers, > 0.
        curvature: C''(1) > 0 of the correlation map (`critical_curvature`); None for a kinked activation.
        kink: kappa = (a - b)^2 / (a^2 + b^2) of phi = a min(x, 0) + b max(x, 0): 1 for ReLU, 2 for the absolute value.
    Returns:
        1 - rho at leading order in 1/L; the start is forgotten.
    Holds when: chi_1 = 1; corrections are of relative order ln(L)/L.
    Source: Hayou, Doucet & Rousseau 2019 (arXiv:1902.06853), section 3; for the ratios 1905.13654.
    """
    depth = positive("depth", depth)
    if curvature is None:
        return 4.5 * (jnp.pi / (positive("kink", kink) * depth)) ** 2
    return 2 / (positive("curvature", curvature) * depth)


def critical_curvature(q: Real[ArrayLike, "..."], phi: str | Activation) -> Float[Array, "..."]:
    """Curvature of the correlation map at coincidence on the critical line: C''(1) = q E[phi''(u)^2] / E[phi'(u)^2].

    Arguments:
        q: variance q* > 0 of the critical network.
        phi: a smooth activation, or its name.
    Returns:
        C''(1), of the shape of q.
    Holds when: phi' is differentiable; a kink makes the curvature infinite, which is not noticed here.
    """
    q, phi = positive("q", q), _smooth(phi)
    # rho = 1 - 2 h, so that d/drho = -1/2 d/dh; C' = sigma_w^2 E[phi'(u) phi'(v)] with sigma_w^2 of the line.
    one = jnp.vectorize(jax.grad(lambda h, q: -0.5 * _slope(q, h, phi)))
    return one(jnp.zeros_like(q), q) / _slope(q, 0.0, phi)


def _variance_map(q, phi: Activation, weight_variance, bias_variance) -> Float[Array, "..."]:
    return weight_variance * phi.dual(_alike(q, 0.0)).q1 + bias_variance


def _slope(q, h, phi: Activation) -> Float[Array, "..."]:
    """E[phi'(u) phi'(v)] at variance q and correlation 1 - 2 h."""
    assert phi.derivative is not None, "the public entries refuse what jumps"
    return phi.derivative(_alike(q, h))


def _alike(q, h) -> Pair:
    """Two Gaussians of the same variance and of correlation 1 - 2 h."""
    q, h = jnp.broadcast_arrays(q, jnp.asarray(h, q.dtype))
    return Pair(q, q, 1 - 2 * h, h, 1 - h)


def _smooth(phi: str | Activation) -> Activation:
    phi = activation(phi)
    if phi.derivative is None:
        raise ValueError(f"phi must be continuous to have a slope, got {phi.name!r}, which jumps")
    return phi


def _layers(chi) -> Float[Array, "..."]:
    """-1 / ln chi, infinite where the rounding of chi hides its distance from 1."""
    inside = (chi > 0) & (jnp.abs(chi - 1) > 8 * jnp.finfo(chi.dtype).eps)
    return jnp.where(inside, -1 / jnp.log(jnp.where(inside, chi, 0.5)), jnp.where(chi > 0, jnp.inf, 0.0))


def _geometric(chi, depth) -> Float[Array, "..."]:
    """1 + chi + ... + chi^depth."""
    away = jnp.where(chi == 1, 0.5, chi)
    total = jnp.expm1((depth + 1) * jnp.log(jnp.where(away > 0, away, 1e-300))) / (away - 1)
    return jnp.where(chi == 1, depth + 1, total)


@functools.partial(jax.jit, static_argnums=0)
def _fixed_variance(phi: Activation, weight_variance, bias_variance, start) -> Float[Array, "..."]:
    def excess(log_q, variances):
        return _variance_map(jnp.exp(log_q), phi, *variances) / jnp.exp(log_q) - 1

    return jnp.vectorize(lambda w, b, start: _first_root(excess, start, (w, b)))(weight_variance, bias_variance, start)


@functools.partial(jax.jit, static_argnums=0)
def _critical_variance(phi: Activation, bias_variance) -> Float[Array, "..."]:
    def excess(log_q, bias_variance):
        # q never lies below the bias variance: from there on the sign changes at the root.
        return (bias_variance - critical_line(jnp.exp(log_q), phi)[1]) / jnp.exp(log_q)

    return jnp.vectorize(lambda b: _first_root(excess, b, b))(bias_variance)


@functools.partial(jax.jit, static_argnums=0)
def _slopes(phi: Activation, q, weight_variance) -> tuple[Float[Array, "..."], ...]:
    """c*, chi_q, chi_1 and chi_c at the fixed point q."""

    def one(q, weight_variance):
        h = _fixed_gap(q, weight_variance, phi)
        chi_q = jax.grad(lambda q: _variance_map(q, phi, weight_variance, 0.0))(q)
        return q * (1 - 2 * h), chi_q, weight_variance * _slope(q, 0.0, phi), weight_variance * _slope(q, h, phi)

    return jnp.vectorize(one, signature="(),()->(),(),(),()")(q, weight_variance)


def _fixed_gap(q, weight_variance, phi: Activation) -> Float[Array, ""]:
    """h = (1 - rho*)/2 of the fixed point of the correlation map below coincidence, or 0 if there is none.

    The chord of the correlation map from rho to 1 has the slope int 2 v chi(h v^2) dv, v from 0 to 1. By convexity it
    falls from chi_1 at h = 0 to 1 - C(0) <= 1 at h = 1/2; it is 1 at the fixed point.
    """

    def chord(log_h, given):
        q, weight_variance = given
        h = jnp.exp(log_h)
        # Close to coincidence 1 - C would lose its digits: there the slope is integrated.
        far = phi.dual(_alike(q, h))
        near = jnp.minimum(h, 1e-3)
        integral = 2 * jnp.sum(NODES * WEIGHTS * _slope(q, near * NODES**2, phi))
        return weight_variance * jnp.where(h < 1e-3, integral, far.q1 * far.h / (h * q)) - 1

    low, high = jnp.log(jnp.asarray(1e-16, q.dtype)), jnp.log(jnp.asarray(0.5, q.dtype))
    given = (jnp.where(q > 0, q, 1), weight_variance)
    chaotic = (q > 0) & (chord(low, given) > 0)
    end = chord(high, given) >= -8 * jnp.finfo(q.dtype).eps
    log_h = _bracketed(chord, low, high, given, chaotic & ~end)
    return jnp.where(chaotic, jnp.where(end, 0.5, jnp.exp(log_h)), 0.0)


def _first_root(excess: Callable, start, given) -> Float[Array, ""]:
    """The first root q of `excess(log q, given)` from the start on: upward if it is positive there."""
    tolerance, log_start = 8 * jnp.finfo(start.dtype).eps, jnp.log(start)
    begin = excess(log_start, given)
    direction = jnp.where(begin > 0, 1.0, -1.0)
    grid = log_start + direction * STEPS * (jnp.log(10.0) / 8)
    beyond = -direction * excess(grid, given)
    found, still = (beyond > tolerance).any(), jnp.abs(begin) <= tolerance
    k = jnp.where(found, jnp.argmax(beyond > tolerance), 1)
    # A step that ends on the root itself may round to either side: then it lies between the steps before and after.
    before = jnp.where(beyond[k - 1] < 0, grid[k - 1], grid[jnp.maximum(k - 2, 0)])
    root = jnp.exp(_bracketed(excess, before, grid[k], given, found & ~still))
    return jnp.where(still, start, jnp.where(found, root, jnp.where(direction > 0, jnp.inf, 0.0)))


def _bracketed(function: Callable, low, high, given, valid) -> Float[Array, ""]:
    """The root of `function(x, given)` by bisection, differentiated implicitly; the middle if it is not `valid`."""
    low, high = jax.lax.stop_gradient((jnp.minimum(low, high), jnp.maximum(low, high)))
    middle = (low + high) / 2

    def law(x, given):
        return jnp.where(valid, function(jnp.where(valid, x, middle), given), x - middle)

    solver = optx.Bisection(rtol=1e-15, atol=1e-15)
    options = {"lower": low, "upper": high}
    return optx.root_find(law, solver, middle, given, options, max_steps=200, throw=False).value
