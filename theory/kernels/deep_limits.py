"""What an infinitely deep and wide classifier does: nearest neighbour, majority vote, or a singular kernel.

On the unit sphere a layer of a wide network maps the cosine of two inputs by the normalised dual of its activation,
f(xi) = sum_k a_k^2 xi^k with sum_k a_k^2 = 1. Three numbers decide about infinite depth: f(0), f'(0) and f'(1). If f(0)
= 0 and 0 < f'(0) < 1 the off-diagonal of both kernels becomes Koenigs' function of f, whose singularity
1 / |x - x'|^alpha makes a consistent classifier if alpha is the dimension of the sphere (Radhakrishnan, Belkin & Uhler
2023, "Wide and deep neural networks achieve consistency for classification", PNAS 120).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, require, whole, within
from theory.kernels.activations import Activation, activation
from theory.kernels.pairs import Pair

NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2
# Below this a coefficient is rounding: f(0) of an activation that is odd, say.
ROUNDING = 1e-13


class PowerSeries(eqx.Module):
    """The dual f(xi) = sum_k coefficients[k] xi^k of an activation given by its squared Hermite coefficients a_k^2."""

    coefficients: Float[Array, " orders"]

    def layer(self, xi, h) -> tuple[Array, Array]:
        """f(xi) and (1 - f(xi)) / 2, from xi and h = (1 - xi) / 2: neither loses digits at its own end."""
        tails = jnp.cumsum(self.coefficients[::-1])[::-1]
        # (1 - xi^k) / (1 - xi) = 1 + xi + ... + xi^{k-1}.
        return _agreeing(_horner(self.coefficients, xi), h * _horner(tails[1:], xi))

    def slope(self, xi, h) -> Array:
        """f'(xi)."""
        return _horner(self.slopes, xi)

    def slope_deficit(self, xi, h) -> Array:
        """f'(1) - f'(xi), without cancellation."""
        tails = jnp.cumsum(self.slopes[::-1])[::-1]
        return 2 * h * _horner(tails[1:], xi)

    @property
    def slopes(self) -> Array:
        return jnp.arange(1, len(self.coefficients)) * self.coefficients[1:]

    @property
    def order(self) -> int:
        """The lowest power."""
        return int(np.flatnonzero(np.asarray(self.coefficients) > ROUNDING)[0])


class OfActivation(eqx.Module):
    """The dual f(xi) = E[phi(u) phi(v)] / E[phi(u)^2], u and v standard normal with covariance xi."""

    phi: Activation = eqx.field(static=True)

    def layer(self, xi, h) -> tuple[Array, Array]:
        """f(xi) and (1 - f(xi)) / 2, from xi and h = (1 - xi) / 2."""
        moments = self.phi.dual(_unit_pair(xi, h))
        # Close to coincidence 1 - f would lose its digits: there f' is integrated.
        close = jnp.minimum(h, 1e-3)[..., None] * NODES**2
        integral = h * jnp.sum(2 * NODES * WEIGHTS * self.slope(1 - 2 * close, close), -1)
        return _agreeing(moments.rho, jnp.where(h < 1e-3, integral, moments.h))

    def slope(self, xi, h) -> Array:
        """f'(xi)."""
        pair = _unit_pair(xi, h)
        assert self.phi.derivative is not None, "normalised_dual refuses what jumps"
        return self.phi.derivative(pair) / self.phi.dual(_unit_pair(jnp.ones_like(h), jnp.zeros_like(h))).q1

    def slope_deficit(self, xi, h) -> Array:
        """f'(1) - f'(xi)."""
        return self.slope(jnp.ones_like(h), jnp.zeros_like(h)) - self.slope(xi, h)

    @property
    def order(self) -> int:
        """The lowest power, as far as it matters: 0, 1, or 2 for anything higher."""
        zero, half = jnp.zeros(()), jnp.full((), 0.5)
        at_zero = (self.layer(zero, half)[0], self.slope(zero, half))
        return next((k for k, value in enumerate(at_zero) if abs(float(value)) > ROUNDING), 2)


# How a dual may be given: an activation or its name, squared Hermite coefficients, or the dual itself.
DualLike = str | Activation | PowerSeries | OfActivation | Real[ArrayLike, " orders"]


class DeepLimit(NamedTuple):
    """Which classifier an activation becomes at infinite depth.

    `case`      "nearest neighbour", "majority vote", "interpolation with a free constant", "singular kernel", or
                "linear" for the identity, which no depth changes.
    `exponent`  alpha of the singularity 1 / |x - x'|^alpha of the singular kernel; not a number in the other cases.
    `constant`  f(0) = E[phi]^2 of the normalised activation, A^2.
    `linear`    f'(0) = E[phi']^2, A'^2.
    `slope`     f'(1) = E[phi'^2], B'.
    """

    case: str
    exponent: float
    constant: float
    linear: float
    slope: float


def normalised_dual(phi: DualLike) -> PowerSeries | OfActivation:
    """The map of cosines f, f(1) = 1, from layer to layer.

    f(xi) = sum_k a_k^2 xi^k / sum_k a_k^2

    Arguments:
        phi: an activation or its name, on inputs of norm sqrt(d) (unit variance); or the vector of squared Hermite
            coefficients a_k^2 >= 0, from k = 0 on, of any positive sum: phi = sum_k a_k h_k, h_k orthonormal.
    Returns:
        f, as every function here and in `theory.kernels.deep_classifiers` takes it (they also take `phi`).
    Holds when: no biases, and weights scaled so that the variance stays one: sigma_w^2 = 1 / E[phi(z)^2].
    Source: Daniely, Frostig & Singer 2016 (arXiv:1602.05897), section 4.
    """
    if isinstance(phi, PowerSeries | OfActivation):
        return phi
    if isinstance(phi, str | Activation):
        phi = activation(phi)
        if phi.derivative is None:
            raise ValueError(f"phi must be continuous to have a tangent kernel, got {phi.name!r}, which jumps")
        return OfActivation(phi)
    squares = non_negative("phi", phi)
    if squares.ndim != 1 or len(squares) < 2:
        raise ValueError(f"phi must be a vector of two or more squared coefficients, got shape {squares.shape}")
    total = require("phi", squares.sum(), squares[1:].sum() > 0, "must not be constant")
    return PowerSeries(squares / total)


def deep_limit(phi: DualLike) -> DeepLimit:
    """Which classifier the kernel machine of a network becomes as its depth grows.

    f(0) = 0, f'(0) = 0:        nearest neighbour
    f(0) = 0, 0 < f'(0) < 1:    singular kernel of exponent alpha = -2 ln f'(0) / ln f'(1)
    f(0) > 0, f'(1) >= 1:       majority vote
    f(0) > 0, f'(1) < 1:        kernel interpolation with a free constant; majority vote only if a ridge is added

    Arguments:
        phi: as for `normalised_dual`, concrete.
    Returns:
        the `DeepLimit`. A number below 1e-13 counts as zero.
    Holds when: inputs on the unit sphere, none twice or opposite; no biases; first width, then depth to infinity.
    Source: Radhakrishnan, Belkin & Uhler 2023 (PNAS 120), theorem on the taxonomy; the case f'(1) < 1 without ridge is
        derived in derivations/kernels/deep_limits.py.
    """
    dual = normalised_dual(phi)
    zero, half = jnp.zeros(()), jnp.full((), 0.5)
    constant, linear = float(dual.layer(zero, half)[0]), float(dual.slope(zero, half))
    slope = float(dual.slope(jnp.ones(()), zero))
    exponent = math.nan
    if constant > ROUNDING:
        case = "majority vote" if slope > 1 - ROUNDING else "interpolation with a free constant"
    elif linear < ROUNDING:
        case = "nearest neighbour"
    elif linear > 1 - ROUNDING:
        case = "linear"
    else:
        case, exponent = "singular kernel", -2 * math.log(linear) / math.log(slope)
    return DeepLimit(case, exponent, constant, linear, slope)


def singular_kernel(
    xi: Real[ArrayLike, "..."],
    phi: DualLike,
    h: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """The off-diagonal of both kernels at infinite depth, where f(0) = 0 and 0 < f'(0) < 1: Koenigs' function of f.

    g(xi) = lim f^L(xi) / f'(0)^L,   the solution of g(f(xi)) = f'(0) g(xi), g(0) = 0, g'(0) = 1

    Arguments:
        xi: cosine of two inputs, between -1 and 1, of any shape.
        phi: as for `normalised_dual`, concrete.
        h: (1 - xi)/2 = |x - x'|^2 / 4, of the same shape, if it is known better than from xi.
    Returns:
        g(xi), infinite at xi = 1 and beyond 1e308; as 1 - xi -> 0 it is (1 - xi)^{-alpha/2} times a bounded function
        that may oscillate in the logarithm of 1 - xi. Differentiable in xi.
    Holds when: as for `deep_limit`. The NNGP kernel approaches g geometrically in depth, the tangent kernel, over L,
        only as 1/L, and later the closer the inputs.
    Source: Radhakrishnan, Belkin & Uhler 2023 (PNAS 120); Koenigs 1884.
    """
    log, sign = log_singular_kernel(xi, phi, h)
    return sign * jnp.exp(log)


def log_singular_kernel(
    xi: Real[ArrayLike, "..."],
    phi: DualLike,
    h: Real[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """ln |g| and the sign of g, the `singular_kernel`: ln |xi| + sum_l ln |f(xi_l) / (f'(0) xi_l)|, xi_{l+1} = f(xi_l).

    Arguments: as for `singular_kernel`.
    Returns:
        (ln |g|, sign g), each of the shape of xi; (inf, 1) at xi = 1.
    """
    dual = normalised_dual(phi)
    limit = deep_limit(dual)
    if limit.case != "singular kernel":
        raise ValueError(f"phi must have f(0) = 0 and 0 < f'(0) < 1 for a singular kernel, got a {limit.case}")
    # From the last bit of 1 - xi to one, and from one to where f is linear to rounding.
    layers = _rounded_up(40 / math.log(limit.slope) - 45 / math.log(limit.linear))
    return _log_koenigs_at_zero(dual, *_cosines(xi, h), jnp.asarray(limit.linear), layers)


def interpolation_distance(
    xi: Real[ArrayLike, "..."],
    phi: DualLike,
    h: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """How the kernels deviate from a constant at great depth, where f'(1) < 1: Koenigs' function of f at coincidence.

    D(xi) = lim (1 - f^L(xi)) / f'(1)^L,   the solution of D(f(xi)) = f'(1) D(xi), D(1) = 0, D'(1) = -1

    Arguments: as for `singular_kernel`.
    Returns:
        D(xi) >= 0, of the shape of xi; -D is a conditionally positive definite kernel.
    Holds when: as for `deep_limit`; f'(1) < 1, so that all inputs become one. The tangent kernel deviates from
        1 / (1 - f'(1)) by L f'(1)^L D at leading order.
    Source: Koenigs 1884; derivations/kernels/deep_limits.py.
    """
    dual = normalised_dual(phi)
    limit = deep_limit(dual)
    if not limit.slope < 1 - ROUNDING:
        raise ValueError(f"phi must have f'(1) < 1 for all inputs to become one, got {limit.slope}")
    # A kink leaves corrections of the order of the root of 1 - xi.
    layers = _rounded_up(-90 / math.log(limit.slope))
    return _koenigs_at_one(dual, *_cosines(xi, h), jnp.asarray(limit.slope), layers)


def mixture_share(dimension: Real[ArrayLike, "..."], degree: int) -> Float[Array, "..."]:
    """The activation whose deep networks are consistent classifiers on the sphere of that dimension.

    phi = sqrt(p) h_1 + sqrt(1 - p) h_k has exponent alpha = d where   p^2 (k - (k - 1) p)^d = 1,   0 < p < 1

    Arguments:
        dimension: d of the sphere S^d in R^{d+1}, > 2 / (k - 1).
        degree: k of the second Hermite polynomial, a Python int >= 2.
    Returns:
        p, of the shape of d. For d <= 2 / (k - 1) there is none, and the dimension is refused: take a higher degree.
    Holds when: as for `deep_limit`.
    Source: Radhakrishnan, Belkin & Uhler 2023 (PNAS 120), the construction of consistent networks.
    """
    degree = whole("degree", degree, at_least=2)
    dimension = positive("dimension", dimension)
    least = 2 / (degree - 1)
    dimension = require("dimension", dimension, dimension > least, f"must be above 2/(k - 1) = {least:g}")
    return jnp.vectorize(functools.partial(_mixture_share, degree=degree))(dimension)


@functools.partial(jax.jit, static_argnames="degree")
def _mixture_share(dimension, degree: int) -> Float[Array, ""]:
    def law(log_p, d):
        return 2 * log_p + d * jnp.log(degree - (degree - 1) * jnp.exp(log_p))

    # The law is concave in p, is negative at the lower end and zero at p = 1, beyond its maximum at the upper end.
    low = -dimension / 2 * math.log(degree)
    high = jnp.log(2 * degree / ((degree - 1) * (dimension + 2)))
    low, high = jax.lax.stop_gradient((low, high))
    options = {"lower": low, "upper": high}
    solver = optx.Bisection(rtol=1e-15, atol=1e-15)
    return jnp.exp(optx.root_find(law, solver, (low + high) / 2, dimension, options, max_steps=200, throw=False).value)


def _rounded_up(layers: float) -> int:
    """To a power of two, so that few numbers of layers are ever compiled."""
    return 2 ** math.ceil(math.log2(layers + 20))


def _cosines(xi, h) -> tuple[Array, Array]:
    """xi and (1 - xi)/2, checked."""
    xi = within("xi", xi, -1.0, 1.0)
    return _agreeing(xi, (1 - xi) / 2 if h is None else jnp.broadcast_to(within("h", h, 0.0, 1.0), xi.shape))


@eqx.filter_jit
def _log_koenigs_at_zero(dual, xi, h, linear, layers: int) -> tuple[Array, Array]:
    def step(_, state):
        xi, h, log, sign = state
        after, h_after = dual.layer(xi, h)
        moving = (jnp.abs(xi) > 1e-19) & (h > 0)
        ratio = jnp.where(moving, after / (linear * jnp.where(moving, xi, 1)), 1)
        size = jnp.abs(ratio)
        log = log + jnp.log(jnp.where(size > 0, size, 1)) + jnp.where(size > 0, 0, -jnp.inf)
        return after, h_after, log, sign * jnp.sign(ratio)

    away = jnp.abs(xi) > 0
    log = jnp.where(away, jnp.log(jnp.where(away, jnp.abs(xi), 1)), -jnp.inf)
    _, _, log, sign = jax.lax.fori_loop(0, layers, step, (xi, h, log, jnp.sign(xi)))
    return jnp.where(h > 0, log, jnp.inf), jnp.where(h > 0, sign, 1)


@eqx.filter_jit
def _koenigs_at_one(dual, xi, h, slope, layers: int) -> Array:
    def step(_, state):
        xi, h, scaled = state
        after, h_after = dual.layer(xi, h)
        moving = h > 1e-42
        ratio = jnp.where(moving, h_after / (slope * jnp.where(moving, h, 1)), 1)
        return after, h_after, scaled * ratio

    return jax.lax.fori_loop(0, layers, step, (xi, h, 2 * h))[2]


def _agreeing(xi, h) -> tuple[Array, Array]:
    """Near coincidence xi is taken from h, whose digits it lacks: the two must not drift apart from layer to layer."""
    return jnp.where(h < 0.25, 1 - 2 * h, xi), h


def _unit_pair(xi, h) -> Pair:
    one = jnp.ones_like(h)
    return Pair(one, one, xi, h, 1 - h)


def _horner(coefficients, x) -> Array:
    return jnp.polyval(coefficients[::-1], x) if len(coefficients) else jnp.zeros_like(x)
