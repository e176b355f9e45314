"""Kernels on the sphere that depend on the angle alone: their spectrum, harmonic by harmonic (Schoenberg 1942).

On the unit sphere S^{d-1} in d dimensions, with the uniform measure, the eigenfunctions of every kernel k(x . x') are
the spherical harmonics, the same for all kernels. Those of degree k share one eigenvalue and there are N(d, k) of them:

    k(t) = sum_k lam_k N(d, k) P_k(t),   P_k the Legendre polynomial in d dimensions, P_k(1) = 1.

The kernels of infinitely wide networks on normalised inputs are such kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.scipy.special import gammaln
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, positive, real, whole, within


def legendre(t: Real[ArrayLike, "..."], degrees: int, d: int) -> Float[Array, "... levels"]:
    """Legendre polynomials in d dimensions, of degree 0 to `degrees`, on the last axis.

    (k + d - 2) P_{k+1} = (2 k + d - 2) t P_k - k P_{k-1},   P_0 = 1,   P_1 = t.

    Arguments:
        t: cosine of the angle, in [-1, 1], shape (...).
        degrees: the highest degree, a Python int >= 0.
        d: dimension of the space around the sphere, a Python int >= 2: cos(k angle) at 2, the ordinary ones at 3.
    Returns:
        P_0(t), ..., P_degrees(t), shape (..., degrees + 1), in [-1, 1].
    Holds when: always; absolute error about 1e-15 times the degree.
    Source: Atkinson & Han 2012, Spherical Harmonics, eq. 2.86; the Gegenbauer polynomial C_k^{(d-2)/2} over its value
        at 1.
    """
    t = within("t", t, -1.0, 1.0)
    degrees, d = whole("degrees", degrees, at_least=0), whole("d", d, at_least=2)
    return _legendre(t, degrees, float(d))


@partial(jax.jit, static_argnums=1)
def _legendre(t, degrees, d):
    k = jnp.arange(1.0, max(degrees, 1), dtype=t.dtype)

    def above(pair, k):
        lower, upper = pair
        following = ((2 * k + d - 2) * t * upper - k * lower) / (k + d - 2)
        return (upper, following), following

    _, higher = jax.lax.scan(above, (jnp.ones_like(t), t), k)
    first = jnp.stack([jnp.ones_like(t), t])
    return jnp.moveaxis(jnp.concatenate([first, higher])[: degrees + 1], 0, -1)


def multiplicities(degrees: int, d: int) -> Float[Array, " levels"]:
    """Number of independent spherical harmonics of degree 0 to `degrees` in d dimensions.

    N(d, k) = (2 k + d - 2) / k C(k + d - 3, k - 1),   N(d, 0) = 1.

    Arguments: as for `legendre`.
    Returns: N(d, k), shape (degrees + 1,), as floating numbers: exact as long as they are below 2^53.
    Holds when: always. It grows as 2 k^{d-2} / (d-2)!.
    Source: Atkinson & Han 2012, Spherical Harmonics, eq. 2.10.
    """
    degrees, d = whole("degrees", degrees, at_least=0), whole("d", d, at_least=2)
    counts = [1] + [(2 * k + d - 2) * math.comb(k + d - 3, k - 1) // k for k in range(1, degrees + 1)]
    return jnp.asarray([float(count) for count in counts])


def zonal_eigenvalues(
    kernel: Callable[[Float[Array, " nodes"]], Float[Array, " nodes"]], degrees: int, d: int, nodes: int = 512
) -> Float[Array, " levels"]:
    """Eigenvalues of a kernel on the sphere, of degree 0 to `degrees`.

    lam_k = int_0^pi k(cos a) P_k(cos a) sin^{d-2} a da / int_0^pi sin^{d-2} a da.

    Arguments:
        kernel: k(t) of an array of cosines t, elementwise.
        degrees, d: as for `legendre`.
        nodes: of the quadrature, a Python int; more than (degrees + d) / 2 and what the kernel itself needs.
    Returns:
        lam_k, shape (degrees + 1,). Negative rounding is kept: of a positive kernel, replace it by 0.
    Holds when: k(cos a) is smooth in the angle a, ends included, as that of every activation's kernel is (a cusp in t
        at t = 1, such as sqrt(1 - t), is smooth in a): the quadrature, Gauss-Legendre in the angle, then converges
        exponentially, to an absolute error of about 1e-16 max|k|. A high degree whose eigenvalue is below that is
        rounding, which its multiplicity blows up: `zonal_spectrum` leaves it out.
    Source: Funk-Hecke formula; Atkinson & Han 2012, Spherical Harmonics, theorem 2.22.
    """
    t, weights = angular_quadrature(whole("nodes", nodes), whole("d", d, at_least=2))
    values = jnp.asarray(kernel(jnp.asarray(t)))
    if values.shape != t.shape:
        raise ValueError(f"kernel must be elementwise, from shape {t.shape} to the same, got shape {values.shape}")
    return (weights * real("kernel", values)) @ legendre(t, degrees, d)


class ZonalSpectrum(NamedTuple):
    """A kernel on the sphere for `theory.kernels.learning_curves.KernelTask`: levels, and the trace of what they lack.

    eigenvalues: lam_k, shape (degrees + 1,), 0 where the degree is left out.
    multiplicities: N(d, k), shape (degrees + 1,).
    tail: k(1) - sum_k lam_k N(d, k) >= 0, of all degrees that are left out.
    """

    eigenvalues: Float[Array, " levels"]
    multiplicities: Float[Array, " levels"]
    tail: Float[Array, ""]


def zonal_spectrum(
    kernel: Callable[[Float[Array, " nodes"]], Float[Array, " nodes"]], degrees: int, d: int, nodes: int = 512
) -> ZonalSpectrum:
    """The spectrum of a positive kernel on the sphere as far as it can be told from rounding, and the rest as a tail.

    Levels below 10^4 roundings of k(1) are left out: their eigenvalues have fewer than three right digits or so, and
    multiplicities beyond 10^16 would make a trace of errors out of them.

    Arguments:
        kernel, degrees, d, nodes: as for `zonal_eigenvalues`; the kernel is positive, as networks' kernels are.
    Returns:
        `ZonalSpectrum(eigenvalues, multiplicities, tail)`: eigenvalues @ multiplicities + tail = k(1).
    Holds when: as for `zonal_eigenvalues`. What is in the tail cannot be learned, which is right while its eigenvalues
        are far below the effective ridge: for n far below 10^12, in double precision.
    Source: Schoenberg 1942; the tail as a ridge: Simon et al. 2023 (arXiv:2110.03922).
    """
    lam, m = zonal_eigenvalues(kernel, degrees, d, nodes), multiplicities(degrees, d)
    trace = kernel(jnp.ones(1, lam.dtype))[0]
    kept = jnp.where(lam > 1e4 * jnp.finfo(lam.dtype).eps * trace, lam, 0.0)
    return ZonalSpectrum(kept, m, jnp.maximum(trace - kept @ m, 0.0))


def zonal_kernel(t: Real[ArrayLike, "..."], eigenvalues: Real[ArrayLike, " levels"], d: int) -> Float[Array, "..."]:
    """The kernel that has given eigenvalues: k(t) = sum_k lam_k N(d, k) P_k(t).

    Arguments:
        t: cosine of the angle, in [-1, 1], shape (...).
        eigenvalues: lam_k of degree 0, 1, ..., shape (degrees + 1,).
        d: as for `legendre`.
    Returns:
        k(t), shape (...); k(1) = sum_k lam_k N(d, k) is the trace.
    Holds when: always; what the eigenvalues leave out is at most its trace.
    Source: Schoenberg 1942.
    """
    lam = real("eigenvalues", eigenvalues)
    degrees = lam.shape[0] - 1
    return legendre(t, degrees, d) @ (lam * multiplicities(degrees, d))


def zonal_harmonic(x: Real[ArrayLike, "P d"], pole: Real[ArrayLike, " d"], degree: int) -> Float[Array, " P"]:
    """The harmonic of one degree that is symmetric about a pole, of unit power: sqrt(N(d, k)) P_k(cos angle).

    Arguments:
        x: points in rows, of any length > 0, shape (P, d): only their direction counts.
        pole: a direction, of any length > 0, shape (d,).
        degree: k, a Python int >= 0.
    Returns:
        values at the points, shape (P,); mean square 1 over the sphere, orthogonal for different degrees. A target of
        power v^2 on degree k is v times this.
    Holds when: always.
    Source: Atkinson & Han 2012, Spherical Harmonics, addition theorem 2.9.
    """
    x, pole = matrix("x", x), real("pole", pole)
    lengths, length = jnp.linalg.norm(x, axis=1), jnp.linalg.norm(pole)
    lengths, length = positive("length of x", lengths), positive("length of pole", length)
    t = jnp.clip(x @ pole / (lengths * length), -1, 1)
    d = x.shape[1]
    return jnp.sqrt(multiplicities(degree, d)[-1]) * legendre(t, degree, d)[:, -1]


def chord_eigenvalues(power: Real[ArrayLike, ""], degrees: int, d: int) -> Float[Array, " levels"]:
    """Eigenvalues of a power of the distance, ((1 - t)/2)^power = (|x - x'| / 2)^{2 power}, in closed form.

    lam_k = Gamma(k - p) / Gamma(-p) Gamma(p + (d-1)/2) Gamma(d-1) / (Gamma((d-1)/2) Gamma(k + p + d - 1)).

    A kernel with a cusp c ((1 - t)/2)^p at t = 1 and none elsewhere has c times these at high degree: they fall as
    k^{-(d - 1 + 2 p)}. With p = 1/2 for the tangent kernel of ReLU networks or the Laplace kernel, k^{-d}; with p = 3/2
    for the first ReLU layer's own kernel, k^{-(d + 2)}.

    Arguments:
        power: p > 0.
        degrees, d: as for `legendre`.
    Returns:
        lam_k, shape (degrees + 1,); of the sign of Gamma(-p) from k > p on, and 0 there if p is whole.
    Holds when: always. A cusp at t = -1 adds (-1)^k times the like.
    Source: Rodrigues' formula; for the decay Bietti & Bach 2021 (arXiv:2009.14397), theorem 1.
    """
    p = positive("power", power)
    degrees, d = whole("degrees", degrees, at_least=0), whole("d", d, at_least=2)
    k, half = jnp.arange(degrees + 1.0, dtype=p.dtype), (d - 1) / 2
    # Gamma(k - p) / Gamma(-p) = (-p)(1 - p)...(k - 1 - p), zero from k = p + 1 on if p is whole.
    rising = jnp.concatenate([jnp.ones(1, p.dtype), jnp.cumprod((k - p) / (k + p + d - 1))[:-1]])
    first = gammaln(p + half) + gammaln(2 * half) - gammaln(half) - gammaln(p + 2 * half)
    return jnp.exp(first) * rising


def decay_exponent(
    eigenvalues: Real[ArrayLike, " levels"], multiplicities: Real[ArrayLike, "*levels"] = 1.0
) -> Float[Array, " levels-1"]:
    """How fast eigenvalues fall with their number, between neighbouring levels: a in lam_i ~ i^{-a}.

    a = - ln(lam_{k+1} / lam_k) / ln(i_{k+1} / i_k),   i_k the number of modes up to the middle of level k.

    Arguments:
        eigenvalues: in falling order, > 0, shape (levels,).
        multiplicities: modes in each level, > 0, shape (levels,) or a scalar.
    Returns:
        a, shape (levels - 1,); on the sphere, lam_k ~ k^{-s} has a -> s / (d - 1).
    Holds when: always.
    Source: a definition.
    """
    lam = positive("eigenvalues", eigenvalues)
    m = jnp.broadcast_to(positive("multiplicities", multiplicities), lam.shape)
    middle = jnp.cumsum(m) - m / 2
    return -jnp.diff(jnp.log(lam)) / jnp.diff(jnp.log(middle))


@lru_cache
def angular_quadrature(nodes: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and weights for means over the sphere of functions of one angle: Gauss-Legendre in the angle."""
    x, w = scipy.special.roots_legendre(nodes)
    angle = np.pi / 2 * (1 + x)
    # In the logarithm: sin^{d-2} underflows at high d.
    log_weight = np.log(w) + (d - 2) * np.log(np.sin(angle))
    weights = np.exp(log_weight - log_weight.max())
    return np.cos(angle), weights / weights.sum()
