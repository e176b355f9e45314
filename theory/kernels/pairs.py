"""Two correlated Gaussians by their variances and half their angle: the form in which no kernel loses its digits.

A kernel entry is the covariance of a pair (u, v). Written as a covariance it cannot tell close inputs apart: with
rho = 1 - 1e-17 the angle, on which the tangent kernel depends, is gone. A `Pair` carries sin^2 and cos^2 of half the
angle as well: of these three, one is small, and therefore precise, wherever a kernel depends on it.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real


class Pair(NamedTuple):
    """(u, v) ~ N(0, [[q1, c], [c, q2]]): rho = cos(theta) = c / sqrt(q1 q2), h = sin^2(theta/2), g = cos^2(theta/2).

    All five broadcast against each other; h + g = 1 and rho = g - h.
    """

    q1: Float[Array, "*rows"]
    q2: Float[Array, "*columns"]
    rho: Float[Array, "*P"]
    h: Float[Array, "*P"]
    g: Float[Array, "*P"]

    @property
    def size(self) -> Float[Array, "*P"]:
        """sqrt(q1 q2), the largest covariance that there can be."""
        return root(self.q1) * root(self.q2)

    @property
    def covariance(self) -> Float[Array, "*P"]:
        """c = E[u v]."""
        return self.size * self.rho

    @property
    def determinant(self) -> Float[Array, "*P"]:
        """q1 q2 - c^2, without cancellation."""
        return 4 * (self.q1 * self.h) * (self.q2 * self.g)


def pair(q1, q2, c) -> Pair:
    """The pair of variances q1, q2 and covariance c, |c| <= sqrt(q1 q2).

    A covariance does not hold the angle of nearly parallel Gaussians: sqrt(precision) is what is left of it; an
    angle of exactly zero stays exact. Enough for the second moments of a smooth function, whose own kernel does not
    feel the angle's last digits.
    """
    size = root(q1) * root(q2)
    safe = jnp.where(size > 0, size, 1)
    cosine = jnp.clip(jnp.where(size > 0, c / safe, 0), -1, 1)
    # 1 - |cos| from sin^2, which is exactly zero for c = q1 = q2, where the rounded cosine is not exactly one.
    gap = jnp.maximum(q1 * q2 - c * c, 0) / safe / safe
    small = gap / (2 * (1 + jnp.abs(cosine)))
    steep = jnp.abs(cosine) > 0.5
    h = jnp.where(steep & (cosine > 0), small, jnp.where(steep, 1 - small, (1 - cosine) / 2))
    g = jnp.where(steep & (cosine < 0), small, jnp.where(steep, 1 - small, (1 + cosine) / 2))
    return Pair(q1, q2, cosine, h, g)


def add(first: Pair | tuple, second: Pair | tuple) -> Pair:
    """The sum of two independent pairs. All terms are positive: nothing cancels."""
    first, second = Pair(*first), Pair(*second)
    q1, q2 = first.q1 + second.q1, first.q2 + second.q2
    size, g1, g2 = root(q1) * root(q2), first.size, second.size
    # sqrt(q1 q2) - g1 - g2 from the difference of their squares, which is itself a square.
    cross = (root(first.q1) * root(second.q2) - root(first.q2) * root(second.q1)) ** 2
    total = size + g1 + g2
    excess = cross / jnp.where(total > 0, total, 1)
    scale = jnp.where(size > 0, 2 * size, 1)

    def part(a, b):
        return jnp.where(size > 0, (excess + 2 * g1 * a + 2 * g2 * b) / scale, 0.5)

    rho = 2 * (g1 * first.rho + g2 * second.rho) / scale
    return Pair(q1, q2, rho, part(first.h, second.h), part(first.g, second.g))


def scaled(pair: Pair, factor) -> Pair:
    """Both Gaussians times sqrt(factor)."""
    return pair._replace(q1=factor * pair.q1, q2=factor * pair.q2)


def root(x: Real[ArrayLike, "*n"]) -> Float[Array, "*n"]:
    """sqrt(x) whose derivative at zero is zero, not infinite: what multiplies it vanishes there."""
    safe = jnp.where(x > 0, x, 1)
    return jnp.where(x > 0, jnp.sqrt(safe), 0)


class Arc(NamedTuple):
    """The smaller of theta and pi - theta, whether it is theta, and the chord functions of it."""

    angle: Float[Array, "*P"]
    near: Bool[Array, "*P"]
    lens: Float[Array, "*P"]


def arc(h: Float[ArrayLike, "*P"], g: Float[ArrayLike, "*P"], lens: bool = True) -> Arc:
    """The angle a = min(theta, pi - theta) and sin a - a cos a, each to full relative precision.

    Both are polynomials in m = min(h, g) times powers of sqrt(m), which costs a tenth of an inverse cosine.
    """
    h, g = jnp.asarray(h), jnp.asarray(g)
    near = h <= g
    # Not jnp.minimum: at a right angle, where the two are equal, its derivative is their mean.
    m = jnp.where(near, h, g)
    r = root(m)
    angle = 2 * r * fitted(m, ARCSINE())
    return Arc(angle, near, r * m * fitted(m, LENS()) if lens else angle)


def arctangent(y: Float[Array, "*P"], x: Float[Array, "*P"], norm: Float[Array, "*P"]) -> Float[Array, "*P"]:
    """atan(x / y) in [-pi/2, pi/2] for y >= 0 and x^2 + y^2 = norm, to full precision at both ends and at zero."""
    flat = x * x <= y * y
    small = jnp.where(flat, x, y) / root(norm)
    value = small * fitted(jnp.minimum(small * small, 0.5), ARCSINE())
    return jnp.where(flat, value, jnp.sign(x) * (jnp.pi / 2 - value))


class Series(NamedTuple):
    """A function of m on [0, 1/2]: its value at zero, and the rest over m as coefficients of powers of 4 m - 1."""

    first: float
    rest: dict[str, np.ndarray]


def fitted(m: Float[Array, "*P"], series: Series) -> Float[Array, "*P"]:
    """A fitted function on 0 <= m <= 1/2, in the precision of m; where m vanishes it is exact."""
    coefficients = series.rest["float32" if m.dtype == jnp.float32 else "float64"]
    t = 4 * m - 1
    value = jnp.full_like(t, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * t + jnp.asarray(c, t.dtype)
    return series.first + m * value


@cache
def _fit(function, first: Fraction) -> Series:
    """Chebyshev approximation of a function of (r, a), m = r^2, a = 2 asin r, that is `first` at zero."""

    def of(t):
        r = mpmath.sqrt((1 + t) / 4)
        return (function(r, 2 * mpmath.asin(r)) - first) / r**2

    with mpmath.workdps(50):
        first = mpmath.mpf(first.numerator) / first.denominator
        # The nearest singularity is m = 1, that is t = 3: the coefficients fall as (3 + sqrt 8)^-degree.
        fits = {"float32": mpmath.chebyfit(of, [-1, 1], 9), "float64": mpmath.chebyfit(of, [-1, 1], 22)}
    return Series(float(first), {name: np.array([float(c) for c in reversed(fit)]) for name, fit in fits.items()})


# Fitted when first asked for: the approximation takes a tenth of a second each.
ARCSINE = partial(_fit, lambda r, a: a / (2 * r), Fraction(1))
LENS = partial(_fit, lambda r, a: (mpmath.sin(a) - a * mpmath.cos(a)) / r**3, Fraction(8, 3))
THIRD = partial(
    _fit,
    lambda r, a: (a * (1 + 2 * mpmath.cos(a) ** 2) - 3 * mpmath.sin(a) * mpmath.cos(a)) / r**5,
    Fraction(128, 15),
)


def angle(h: Float[ArrayLike, "*P"], g: Float[ArrayLike, "*P"]) -> Float[Array, "*P"]:
    """theta in [0, pi]."""
    a, near, _ = arc(h, g, lens=False)
    return jnp.where(near, a, jnp.pi - a)


class Inputs(NamedTuple):
    """Inputs in rows, `x`, their lengths and their directions: found once, so that an input meets itself as itself."""

    x: Float[Array, "P d"]
    length: Float[Array, " P"]
    unit: Float[Array, "P d"]


# Below these values of sin^2(theta/2) and cos^2(theta/2) a product of unit vectors has lost digits that a kernel shows.
NEAR = {"float32": (2e-2, 2e-1), "float64": (2e-2, 2e-2)}
# Numbers held at a time where pairs are compared by their differences.
DIFFERENCES = 2**22


def pairs_of_inputs(first: Inputs, second: Inputs, itself: Bool[ArrayLike, "*P"] = False) -> Pair:
    """The pairs of two sets of inputs, (P, R): by one product of matrices, and one by one where that loses digits.

    `itself`, (P, R), says where an input meets itself: it is exactly parallel, whatever its rounded product says.
    """
    (x, length, unit), (other, other_length, other_unit) = first, second
    rho = jnp.clip(jnp.matmul(unit, other_unit.T, precision=jax.lax.Precision.HIGHEST), -1, 1)
    h, g = (1 - rho) / 2, (1 + rho) / 2

    low, high = NEAR["float32" if rho.dtype == jnp.float32 else "float64"]
    near, far = (h < low) & jnp.logical_not(itself), (g < high) & jnp.logical_not(itself)

    def by_differences(_):
        """sin^2(theta) from the part of one input across the other, once what they share is subtracted exactly."""
        # Lengths are made alike by powers of two, which round nothing.
        ratio = length[:, None] / jnp.where(other_length > 0, other_length, 1)
        factor = jnp.where(near, 1, -1) * jnp.exp2(jnp.round(jnp.log2(jnp.where(ratio > 0, ratio, 1))))

        def across_one(row):
            x, unit, factor = row
            rest = factor[:, None] * other - x
            along = jnp.sum(unit * rest, axis=-1, keepdims=True)
            return jnp.sum((rest - along * unit) ** 2, axis=-1)

        across = jax.lax.map(across_one, (x, unit, factor), batch_size=max(1, DIFFERENCES // other.size))
        square = across / jnp.where(other_length > 0, factor * other_length, 1) ** 2
        # Where a branch is not taken its denominator may be zero, which a derivative would feel.
        rest = 4 * jnp.where(near, g, jnp.where(far, h, 1))
        return jnp.where(near, square / rest, h), jnp.where(far, square / rest, g)

    h, g = jax.lax.cond(jnp.any(near | far), by_differences, lambda _: (h, g), None)
    # A zero vector has no angle: any will do, and with itself it is parallel like any other.
    seen = (length > 0)[:, None] & (other_length > 0)[None, :]
    rho, h, g = (
        jnp.where(itself, same, jnp.where(seen, value, unseen))
        for value, unseen, same in ((rho, 0, 1), (h, 0.5, 0), (g, 0.5, 1))
    )
    return Pair((length**2)[:, None], (other_length**2)[None, :], rho, h, g)


def polar(x: Float[Array, "P d"]) -> Inputs:
    """Inputs in rows, with length and direction of each (zero for a zero vector). No square over- or underflows."""
    largest = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    rescaled = x / jnp.where(largest > 0, largest, 1)
    length = root(jnp.sum(rescaled**2, axis=1, keepdims=True))
    return Inputs(x, (length * largest)[:, 0], rescaled / jnp.where(length > 0, length, 1))
