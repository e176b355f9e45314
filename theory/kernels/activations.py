"""Dual activations: what a wide layer does to a kernel, E[phi(u) phi(v)] and E[phi'(u) phi'(v)], in closed form.

Every activation is a bundle of three functions. `relu()` and its family keep the angle of nearly parallel and nearly
opposite inputs, on which their tangent kernel depends; the others are smooth and do not need it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, real, require
from theory.kernels.pairs import THIRD, Pair, arc, arctangent, fitted, pair, root


class Activation(NamedTuple):
    """phi, and what it does to Gaussian pairs (u, v).

    `name`        as the field calls it.
    `function`    phi itself, elementwise.
    `dual`        `Pair` of (u, v) -> `Pair` of second moments of (phi(u), phi(v)).
    `derivative`  `Pair` of (u, v) -> E[phi'(u) phi'(v)]; None where phi jumps, so that there is no tangent kernel.
    """

    name: str
    function: Callable[[Array], Array]
    dual: Callable[[Pair], Pair]
    derivative: Callable[[Pair], Array] | None


def dual(
    phi: str | tuple | Activation, q1: Real[ArrayLike, "..."], q2: Real[ArrayLike, "..."], c: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The dual activation.

    T(q1, q2, c) = E[phi(u) phi(v)],   (u, v) ~ N(0, [[q1, c], [c, q2]])

    Arguments:
        phi: a name ("relu", "erf", ...), a name with parameters ("leaky_relu", 0.1), or an `Activation`.
        q1, q2: variances, >= 0; c: covariance, |c| <= sqrt(q1 q2). They broadcast.
    Returns:
        T, of the broadcast shape.
    Holds when: always; near |c| = sqrt(q1 q2) a covariance holds the angle to sqrt(precision) only (the kernels of
        `theory.kernels.infinite` carry the angle itself).
    Source: Cho & Saul 2009; Daniely, Frostig & Singer 2016 (arXiv:1602.05897), section 4.
    """
    phi = activation(phi)
    found = _dual(phi, _pair(q1, q2, c))
    must = f"must leave a finite dual of {phi.name}: its moments grow beyond what a float holds"
    return require("q1, q2 and c", found, ~jnp.isnan(found), must)


def dual_derivative(
    phi: str | tuple | Activation, q1: Real[ArrayLike, "..."], q2: Real[ArrayLike, "..."], c: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The dual of the derivative, which is the derivative of the dual with respect to the covariance (Price 1958).

    T'(q1, q2, c) = E[phi'(u) phi'(v)] = dT/dc

    Arguments: as for `dual`.
    Returns:
        T', of the broadcast shape.
    Holds when: phi is continuous; a jump has no derivative dual, and is refused.
    Source: Price 1958; Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572), theorem 1.
    """
    phi = activation(phi)
    if phi.derivative is None:
        raise ValueError(f"phi must be continuous to have a derivative dual, got {phi.name!r}, which jumps")
    return _derivative(phi, _pair(q1, q2, c))


@functools.partial(jax.jit, static_argnums=0)
def _dual(phi: Activation, p: Pair):
    return phi.dual(p).covariance


@functools.partial(jax.jit, static_argnums=0)
def _derivative(phi: Activation, p: Pair):
    return phi.derivative(p)


def _pair(q1, q2, c) -> Pair:
    q1, q2, c = non_negative("q1", q1), non_negative("q2", q2), real("c", c)
    # A covariance may exceed its bound by the rounding of the product that made it.
    limit = root(q1) * root(q2)
    c = require(
        "c", c, jnp.abs(c) <= limit * (1 + 8 * jnp.finfo(limit.dtype).eps), "must be at most sqrt(q1 q2) in size"
    )
    return pair(q1, q2, c)


@functools.cache
def identity() -> Activation:
    """phi(x) = x."""
    return Activation("identity", lambda x: x, lambda p: p, lambda p: jnp.ones_like(p.h))


@functools.cache
def abrelu(a: float, b: float) -> Activation:
    """phi(x) = a min(x, 0) + b max(x, 0): ReLU (0, 1), leaky ReLU (slope, 1), absolute value (-1, 1)."""
    a, b = float(a), float(b)
    total, cut = a * a + b * b, (a - b) ** 2
    if not 0 < total < math.inf:
        raise ValueError(f"a and b must be finite and not both zero, got {a} and {b}")

    def moments(p):
        side = arc(p.h, p.g)
        # Near, 1 - rho' is 1 - rho less a lens; far, rho' is a lens more than nothing (or than what is linear).
        close = p.h - cut / (2 * jnp.pi * total) * side.lens
        opposite = (cut / jnp.pi * side.lens + 2 * a * b * p.rho) / total
        rho = jnp.where(side.near, 1 - 2 * close, opposite)
        lens = cut * (side.lens / jnp.pi + 1) + 4 * a * b * p.g
        g = jnp.where(side.near, 1 - close, lens / (2 * total))
        return Pair(total / 2 * p.q1, total / 2 * p.q2, rho, jnp.where(side.near, close, 1 - g), g)

    def derivative(p):
        side = arc(p.h, p.g, lens=False)
        # Small angles are added to what they change: ten thousand layers feel a bias of 1e-17 in each.
        turn = cut / (2 * jnp.pi) * side.angle
        return jnp.where(side.near, total / 2 - turn, a * b + turn)

    return Activation(
        f"abrelu({a:g}, {b:g})", lambda x: a * jnp.minimum(x, 0) + b * jnp.maximum(x, 0), moments, derivative
    )


def relu() -> Activation:
    """phi(x) = max(x, 0)."""
    return abrelu(0.0, 1.0)


def leaky_relu(slope: float = 0.01) -> Activation:
    """phi(x) = x above zero, `slope` x below."""
    return abrelu(slope, 1.0)


def absolute() -> Activation:
    """phi(x) = |x|."""
    return abrelu(-1.0, 1.0)


@functools.cache
def rectified_power() -> Activation:
    """phi(x) = max(x, 0)^2."""

    def moments(p):
        side = arc(p.h, p.g, lens=False)
        m = jnp.where(side.near, p.h, p.g)
        tail = m**2 * root(m) * fitted(m, THIRD())
        # Near, 1 - rho' = (tail + 2 pi sin^2) / 3 pi; far, rho' is the tail itself.
        close = tail / (6 * jnp.pi) + 4 / 3 * p.h * p.g
        rho = jnp.where(side.near, 1 - 2 * close, tail / (3 * jnp.pi))
        h = jnp.where(side.near, close, (1 - rho) / 2)
        return Pair(1.5 * p.q1**2, 1.5 * p.q2**2, rho, h, jnp.where(side.near, 1 - close, (1 + rho) / 2))

    def derivative(p):
        return 4 * relu().dual(p).covariance

    return Activation("rectified_power", lambda x: jnp.maximum(x, 0) ** 2, moments, derivative)


@functools.cache
def step() -> Activation:
    """phi(x) = 1 for x > 0, else 0."""
    return Activation("step", lambda x: (x > 0).astype(x.dtype), lambda p: _jump(p, 0.5, 2 * math.pi), None)


@functools.cache
def sign() -> Activation:
    """phi(x) = sign x."""
    return Activation("sign", jnp.sign, lambda p: _jump(p, 1.0, math.pi), None)


def _finite(name: str, number: float) -> float:
    """A parameter of an activation: a plain number, since activations are kept by theirs."""
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {number}")
    return float(number)


def _jump(p: Pair, size: float, turn: float) -> Pair:
    """Second moments of a step: rho' = 1 - 2 theta / turn. At zero variance both steps are at their zero."""
    a, near, _ = arc(p.h, p.g, lens=False)
    opposite = (turn - 2 * math.pi + 2 * a) / turn
    rho = jnp.where(near, 1 - 2 * a / turn, opposite)
    h = jnp.where(near, a / turn, (1 - opposite) / 2)
    q = jnp.asarray(size, p.h.dtype)
    return Pair(jnp.where(p.q1 > 0, q, 0), jnp.where(p.q2 > 0, q, 0), rho, h, 1 - h)


@functools.cache
def erf() -> Activation:
    """phi(x) = erf x."""

    def covariance(c, norm, below):
        return 2 / jnp.pi * arctangent(root(below), 2 * c, norm)

    def moments(p):
        square = (1 + 2 * p.q1) * (1 + 2 * p.q2)
        below = 1 + 2 * p.q1 + 2 * p.q2 + 4 * p.determinant
        return pair(
            *(covariance(q, (1 + 2 * q) ** 2, 1 + 4 * q) for q in (p.q1, p.q2)), covariance(p.covariance, square, below)
        )

    def derivative(p):
        return 4 / jnp.pi / root(1 + 2 * p.q1 + 2 * p.q2 + 4 * p.determinant)

    return Activation("erf", jax.scipy.special.erf, moments, derivative)


@functools.cache
def normal_cdf() -> Activation:
    """phi(x) = Phi(x), the cumulative distribution of a standard normal."""

    def moments(p):
        return pair(*(_above(q, q, q, 0 * q) for q in (p.q1, p.q2)), _above(p.covariance, p.q1, p.q2, p.determinant))

    def derivative(p):
        return 1 / (2 * jnp.pi * root(1 + p.q1 + p.q2 + p.determinant))

    return Activation("normal_cdf", jax.scipy.stats.norm.cdf, moments, derivative)


def _above(c, q1, q2, determinant):
    """E[Phi(u) Phi(v)] = 1/4 + asin(c / sqrt((1 + q1)(1 + q2))) / 2 pi."""
    return 0.25 + arctangent(root(1 + q1 + q2 + determinant), c, (1 + q1) * (1 + q2)) / (2 * jnp.pi)


@functools.cache
def gelu() -> Activation:
    """phi(x) = x Phi(x), the exact GELU (not its tanh approximation)."""

    def covariance(c, q1, q2, determinant):
        square, below = (1 + q1) * (1 + q2), 1 + q1 + q2 + determinant
        rest = root(below) * (q1 / (1 + q1)) * (q2 / (1 + q2)) + c / square * (c / root(below))
        return c * _above(c, q1, q2, determinant) + rest / (2 * jnp.pi)

    def moments(p):
        return pair(
            *(covariance(q, q, q, 0 * q) for q in (p.q1, p.q2)), covariance(p.covariance, p.q1, p.q2, p.determinant)
        )

    def derivative(p):
        c, square, below = p.covariance, (1 + p.q1) * (1 + p.q2), 1 + p.q1 + p.q2 + p.determinant
        slope = (3 + p.q1 + p.q2) / square + (c / square) * (c / below)
        return _above(c, p.q1, p.q2, p.determinant) + slope * c / (2 * jnp.pi * root(below))

    return Activation("gelu", lambda x: jax.nn.gelu(x, approximate=False), moments, derivative)


@functools.cache
def sine(scale: float = 1.0, phase: float = 0.0) -> Activation:
    """phi(x) = sin(scale x + phase)."""
    scale, phase = _finite("scale", scale), _finite("phase", phase)
    a2, odd, even = scale**2, math.sin(phase) ** 2, math.cos(phase) ** 2

    def waves(p):
        """exp(-a^2 E(u - v)^2 / 2) - exp(-a^2 E(u + v)^2 / 2), and the second of them."""
        apart = (root(p.q1) - root(p.q2)) ** 2
        minus, plus = a2 / 2 * (apart + 4 * p.size * p.h), a2 / 2 * (apart + 4 * p.size * p.g)
        difference = 2 * a2 * p.covariance
        more = difference >= 0
        gap = -jnp.exp(-jnp.where(more, minus, plus)) * jnp.expm1(-jnp.where(more, difference, -difference))
        return jnp.where(more, gap, -gap), jnp.exp(-plus)

    def moments(p):
        gap, plus = waves(p)
        own = [(-jnp.expm1(-2 * a2 * q) + 2 * odd * jnp.exp(-2 * a2 * q)) / 2 for q in (p.q1, p.q2)]
        return pair(*own, gap / 2 + odd * plus)

    def derivative(p):
        gap, plus = waves(p)
        return a2 * (gap / 2 + even * plus)

    return Activation(f"sine({scale:g}, {phase:g})", lambda x: jnp.sin(scale * x + phase), moments, derivative)


def cosine(scale: float = 1.0) -> Activation:
    """phi(x) = cos(scale x)."""
    return sine(scale, math.pi / 2)


@functools.cache
def exponential(scale: float = 1.0) -> Activation:
    """phi(x) = exp(scale x). Its moments leave the floating numbers at variances above 350 / scale^2."""
    scale = _finite("scale", scale)
    a2 = scale**2

    def moments(p):
        apart = (root(p.q1) - root(p.q2)) ** 2 + 4 * p.size * p.h
        h = -jnp.expm1(-a2 / 2 * apart) / 2
        return Pair(jnp.exp(2 * a2 * p.q1), jnp.exp(2 * a2 * p.q2), jnp.exp(-a2 / 2 * apart), h, 1 - h)

    return Activation(
        f"exponential({scale:g})", lambda x: jnp.exp(scale * x), moments, lambda p: a2 * moments(p).covariance
    )


@functools.cache
def gaussian() -> Activation:
    """phi(x) = exp(-x^2)."""

    def below(p):
        return 1 + 2 * p.q1 + 2 * p.q2 + 4 * p.determinant

    def moments(p):
        return pair(*(1 / root(1 + 4 * q) for q in (p.q1, p.q2)), 1 / root(below(p)))

    return Activation("gaussian", lambda x: jnp.exp(-x * x), moments, lambda p: 4 * p.covariance / below(p) ** 1.5)


@functools.cache
def polynomial(*coefficients: float) -> Activation:
    """phi(x) = sum_p coefficients[p] x^p."""
    a = tuple(float(x) for x in coefficients)
    if not a or not all(map(math.isfinite, a)):
        raise ValueError(f"coefficients must be finite numbers, one or more, got {coefficients}")
    slope = tuple(p * x for p, x in enumerate(a))[1:] or (0.0,)

    def moments(p):
        own = [_polynomial(a, q, q, q) for q in (p.q1, p.q2)]
        return pair(*own, _polynomial(a, p.q1, p.q2, p.covariance))

    return Activation(
        f"polynomial{a}",
        lambda x: jnp.polyval(jnp.asarray(a[::-1], x.dtype), x),
        moments,
        lambda p: _polynomial(slope, p.q1, p.q2, p.covariance),
    )


def _polynomial(a, q1, q2, c):
    """sum_k c^k/k! E[phi^(k)(u)] E[phi^(k)(v)]: Mehler's formula, finite for a polynomial."""

    def mean(k, q):
        """E of the k-th derivative of phi, over N(0, q)."""
        even = [p for p in range(k, len(a)) if (p - k) % 2 == 0]
        terms = (a[p] * math.perm(p, k) * _odd_factorial(p - k) * q ** ((p - k) // 2) for p in even)
        return sum(terms, jnp.zeros_like(q))

    return sum(c**k / math.factorial(k) * mean(k, q1) * mean(k, q2) for k in range(len(a)))


def _odd_factorial(n: int) -> int:
    """(n - 1)!! = 1 3 5 ... (n - 1), the n-th moment of a standard normal."""
    return math.prod(range(1, n, 2))


NAMED = {
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "abs": absolute,
    "abrelu": abrelu,
    "polynomial": polynomial,
    "rectified_power": rectified_power,
    "erf": erf,
    "normal_cdf": normal_cdf,
    "gelu": gelu,
    "sine": sine,
    "cosine": cosine,
    "exponential": exponential,
    "gaussian": gaussian,
    "step": step,
    "sign": sign,
}


def activation(phi: str | tuple | Activation) -> Activation:
    """The `Activation` of that name ("relu"), of name and parameters ("leaky_relu", 0.1), or `phi` if it is one."""
    if isinstance(phi, Activation):
        return phi
    name, *parameters = (phi,) if isinstance(phi, str) else phi
    if name not in NAMED:
        raise ValueError(f"activation must be one of {', '.join(NAMED)} or an Activation, got {phi!r}")
    return NAMED[name](*parameters)
