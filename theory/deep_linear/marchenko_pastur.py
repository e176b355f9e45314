"""Spectrum of the input correlations of few samples in many dimensions (Marchenko & Pastur 1967).

P random inputs in N dimensions give `X^T X` (X is P x N, independent entries of mean 0 and variance 1/N) a bulk of
eigenvalues on [(1 - sqrt alpha)^2, (1 + sqrt alpha)^2], alpha = P/N, and, for alpha < 1, N - P zeros. Each eigenvalue
is the rate at which one direction of a linear student is learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, whole


class Spectrum(eqx.Module):
    """Non-zero eigenvalues of X^T X with weights, and what is left over.

    alpha: samples per dimension, P/N, shape (...).
    rates: eigenvalues (or the nodes of a quadrature over them), shape (..., n).
    weights: fraction of the N input directions at each of them, shape (..., n).
    frozen: fraction of the N input directions that no sample touches: the zero modes, shape (...).
    unfit: fraction of the P directions of sample space that the inputs do not reach, shape (...).
    """

    alpha: Float[Array, "..."]
    rates: Float[Array, "... n"]
    weights: Float[Array, "... n"]
    frozen: Float[Array, "..."]
    unfit: Float[Array, "..."]

    def sum(self, values: Float[Array, "... n"]) -> Float[Array, "..."]:
        """Sum of `values` (one per rate) over the non-zero modes, per input direction."""
        return jnp.sum(self.weights * values, axis=-1)


def bulk_edges(alpha: Real[ArrayLike, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Ends of the bulk, (1 - sqrt alpha)^2 and (1 + sqrt alpha)^2.

    Arguments:
        alpha: samples per dimension P/N, > 0, shape (...).
    Returns:
        (lower, upper), each of shape (...).
    Holds when: N, P -> infinity at fixed alpha.
    Source: Marchenko & Pastur 1967.
    """
    alpha = positive("alpha", alpha)
    return _lower(alpha), (1 + jnp.sqrt(alpha)) ** 2


def density(lam: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Density of the bulk per input direction; its integral is min(1, alpha).

    rho(lam) = sqrt((upper - lam) (lam - lower)) / (2 pi lam) between the edges, 0 outside.

    Arguments, which broadcast:
        lam: eigenvalue of X^T X, finite.
        alpha: samples per dimension P/N, > 0.
    Returns:
        rho(lam), of the broadcast shape. The atom (1 - alpha)_+ at 0 is not in it.
    Holds when: N, P -> infinity at fixed alpha.
    Source: Marchenko & Pastur 1967; Advani & Saxe 2017 (arXiv:1710.03667).
    """
    lam = real("lam", lam)
    lower, upper = bulk_edges(alpha)
    inside = (lam > lower) & (lam < upper)
    square = jnp.where(inside, (upper - lam) * (lam - lower), 1.0)
    return jnp.where(inside, jnp.sqrt(square) / (2 * jnp.pi * jnp.where(inside, lam, 1.0)), 0.0)


def bulk(alpha: Real[ArrayLike, "..."], inputs: int | None = None, refine: int = 1) -> Spectrum:
    """Quadrature over the bulk that is exact to rounding for decaying exponentials of any rate.

    lam(x) = lower + 4 sqrt(alpha) x with tan(theta / 2) = e^s, x = sin^2(theta / 2): equal steps in s resolve both
    ends of the bulk on a logarithmic scale, and all poles of 1/lam stay at |Im s| = pi/2 whatever alpha.

    Arguments:
        alpha: samples per dimension P/N, > 0, shape (...).
        inputs: N, to add the leading correction of finite size, of order 1/N, to every average; None for N = infinity.
        refine: how many times finer than the 588 nodes that e^{-lam t} and 1/(lam + g) need; a whole number.
    Returns:
        Spectrum of n = 588 refine nodes (802 with `inputs`); averages of e^{-lam t} to 1e-14, relative, for t <= 1e15.
    Holds when: N, P -> infinity at fixed alpha; with `inputs`, Gaussian inputs and functions that are smooth on the
        scale of the gaps between eigenvalues (at alpha = 1: t << N^2). float32 carries 1e-5, for t <= 1e5.
    Source: Marchenko & Pastur 1967; the order 1/N: Bai & Silverstein 2004 (real entries, fourth moment 3).
    """
    alpha = positive("alpha", alpha)
    s, h = _steps(alpha.dtype, whole("refine", refine), inputs is not None)
    root, lower = jnp.sqrt(alpha)[..., None], _lower(alpha)[..., None]
    x = jax.nn.sigmoid(2 * s)
    rates = lower + 4 * root * x
    sech = 1 / jnp.cosh(s)
    # 2 alpha sin^2(theta) dtheta / (pi lam), with x / lam written so that x may be as small as it likes.
    weights = h * 8 / jnp.pi * alpha[..., None] * sech * jax.nn.sigmoid(-2 * s) / (lower / x + 4 * root)
    if inputs is not None:
        n = whole("inputs", inputs)
        ends = jnp.broadcast_to(0.25 / n, (*alpha.shape, 2)).astype(alpha.dtype)
        rates = jnp.concatenate([rates, lower, lower + 4 * root], axis=-1)
        weights = jnp.concatenate([weights - h / (2 * jnp.pi * n) * sech, ends], axis=-1)
    # At alpha = 1 the slope of both these maxima is the mean of its sides, like that of the quadrature.
    return Spectrum(alpha, rates, weights, jnp.maximum(1 - alpha, 0), jnp.maximum(1 - 1 / alpha, 0))


def edge_angles(alpha: Real[ArrayLike, ""], refine: int = 1) -> tuple[Float[Array, " n"], ...]:
    """Nodes for averages over the angle of the bulk, lam = 1 + alpha - 2 sqrt(alpha) cos(theta), theta even on (0, pi).

    Arguments:
        alpha: samples per dimension P/N, > 0, a scalar.
        refine: as for `bulk`.
    Returns:
        (lam, x, 1 - x, weights): x = sin^2(theta / 2) from 0 at the lower to 1 at the upper edge, weights of sum 1.
    Holds when: as for `bulk`; the density in theta is smooth.
    Source: the angle of Chebyshev; corrections to the law of large N are integrals over it.
    """
    alpha = positive("alpha", alpha)
    s, h = _steps(alpha.dtype, whole("refine", refine), True)
    x = jax.nn.sigmoid(2 * s)
    return _lower(alpha) + 4 * jnp.sqrt(alpha) * x, x, jax.nn.sigmoid(-2 * s), h / (jnp.pi * jnp.cosh(s))


def sample_spectrum(eigenvalues: Real[ArrayLike, " N"], samples: int) -> Spectrum:
    """The spectrum of given inputs: every average over it is exact at finite size.

    Arguments:
        eigenvalues: all N eigenvalues of X^T X, >= 0 up to rounding, shape (N,), in any order.
        samples: P, the number of rows of X.
    Returns:
        Spectrum of N rates. Eigenvalues below N eps max count as zero modes.
    Holds when: always; alpha = P/N is that of the sample.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), before the limit of large N.
    """
    lam = real("eigenvalues", eigenvalues)
    if lam.ndim != 1 or not lam.size:
        raise ValueError(f"eigenvalues must be a vector of N eigenvalues, got shape {lam.shape}")
    n, p = lam.size, whole("samples", samples)
    floor = n * jnp.finfo(lam.dtype).eps * jnp.max(jnp.abs(lam))
    lam = require("eigenvalues", lam, lam >= -floor, "must be non-negative up to rounding")
    learned = lam > floor
    rank = jnp.sum(learned).astype(lam.dtype)
    alpha = jnp.asarray(p / n, lam.dtype)
    return Spectrum(alpha, jnp.where(learned, lam, 0), learned / n, (n - rank) / n, (p - rank) / p)


def average(
    f: Callable[[Array], Array], alpha: Real[ArrayLike, "..."], inputs: int | None = None
) -> Float[Array, "..."]:
    """Average over all N directions of f(eigenvalue), zero modes included.

    (1 - alpha)_+ f(0) + int rho(lam) f(lam) dlam.

    Arguments:
        f: eigenvalues -> values of the same shape; smooth from 0 to the upper edge.
        alpha, inputs: as for `bulk`.
    Returns:
        The average, shape (...).
    Holds when: as for `bulk`; f must be analytic where the bulk is, up to rates of growth like e^{+lam t}.
    Source: Marchenko & Pastur 1967.
    """
    spectrum = bulk(alpha, inputs)
    return spectrum.frozen * f(jnp.zeros_like(spectrum.alpha)) + spectrum.sum(f(spectrum.rates))


def moment(alpha: Real[ArrayLike, "..."], k: int) -> Float[Array, "..."]:
    """The k-th moment of the eigenvalues of X^T X, per input direction.

    m_k = sum_{r=1}^k C(k, r) C(k, r-1) alpha^r / k (Narayana numbers): alpha, alpha + alpha^2, ...

    Arguments:
        alpha: samples per dimension P/N, > 0, shape (...).
        k: order, a whole number of at least 1.
    Returns:
        m_k, shape (...).
    Holds when: N, P -> infinity at fixed alpha.
    Source: Marchenko & Pastur 1967.
    """
    alpha, k = positive("alpha", alpha), whole("k", k)
    return sum(math.comb(k, r) * math.comb(k, r - 1) // k * alpha**r for r in range(1, k + 1))


def resolvent(g: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Trace of (X^T X + g)^{-1} per input direction, zero modes included.

    m = 1 / (g + alpha / (1 + m)),   m(g) = [sqrt(b^2 + 4 g) - b] / (2 g),   b = g + alpha - 1.

    Arguments, which broadcast:
        g: ridge, >= 0; at g = 0, m = 1 / (alpha - 1) for alpha > 1 and infinite otherwise.
        alpha: samples per dimension P/N, > 0.
    Returns:
        m(g), of the broadcast shape.
    Holds when: N, P -> infinity at fixed alpha.
    Source: Marchenko & Pastur 1967.
    """
    g, alpha = non_negative("g", g), positive("alpha", alpha)
    b = g + (alpha - 1)
    # Either form cancels on one side of b = 0; each is only evaluated where it does not.
    root = jnp.sqrt(jnp.where((g == 0) & (b == 0), 1.0, b**2 + 4 * g))
    over = b > 0
    few = (root - jnp.where(over, 0.0, b)) / (2 * jnp.where((g > 0) & ~over, g, 1.0))
    many = 2 / jnp.where(over, b + root, 1.0)
    return jnp.where(over, many, jnp.where(g > 0, few, jnp.inf))


def _lower(alpha):
    """(1 - sqrt alpha)^2 without the cancellation at alpha = 1."""
    return ((1 - alpha) / (1 + jnp.sqrt(alpha))) ** 2


def _steps(dtype, refine: int, wide: bool):
    """Equal steps of s = ln tan(theta / 2), and their size. The error is e^{-pi^2 / 2h}: 1e-17 at h = 1/8.

    At large s the weights of the bulk fall like e^{-3s}, those of its finite size (`wide`) like e^{-s}. At small s and
    alpha = 1 they fall like e^s, so that the left end decides the longest time.
    """
    double = np.finfo(dtype).bits == 64
    left, right = (60.0 if double else 20.0), ((40.0 if double else 17.0) if wide else 13.5)
    h = 0.125 / refine
    return jnp.asarray(np.arange(-left, right, h), dtype), h
