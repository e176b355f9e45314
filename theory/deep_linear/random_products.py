"""Products of random layers: the mean squared norm is kept while almost every singular value dies (Newman 1986).

The end-to-end map of a deep linear network at its start is a product of N random matrices. Square Gaussian layers have
Lyapunov exponents in closed form; orthogonal layers keep all singular values alike (Saxe, McClelland & Ganguli 2013).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real
from scipy.special import digamma, polygamma

from theory.checks import non_negative, positive, whole


class Moments(NamedTuple):
    """Mean and variance of a random variable."""

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]


def lyapunov_exponents(n: int, gain: Real[ArrayLike, ""] = 1.0) -> Float[Array, " n"]:
    """Growth rates per layer of the singular values of a product of square Gaussian layers.

    lim (1/N) ln sigma_i(W_N ... W_1) = ln gain + 1/2 [psi((n - i + 1)/2) + ln(2/n)],   i = 1..n.

    Arguments:
        n: width, a whole number >= 1.
        gain: the entries of each layer are independent N(0, gain^2 / n); > 0.
    Returns:
        the exponents, largest first, shape (n,). The largest is ln gain - 1/(2n) + O(1/n^2), the others follow
        ln gain + 1/2 ln(1 - (i - 1)/n) as n -> infinity, and the last is ln gain - (gamma + ln(2 n)) / 2.
    Holds when: N -> infinity for the singular values. At every N it is exactly the mean growth of the i-th diagonal
        entry in a QR decomposition that is carried from layer to layer.
    Source: Newman 1986 (Commun. Math. Phys. 103, 121).
    """
    freedom = _freedom(n)
    shrinking = np.where(2 * freedom < n, np.log(freedom / n), np.log1p((freedom - n) / n))
    # The width is static, so this is a constant of the compiled program.
    return jnp.log(positive("gain", gain)) + jnp.asarray((_digamma_excess(freedom / 2) + shrinking) / 2)


def lyapunov_variances(n: int) -> Float[Array, " n"]:
    """Variance per layer of the logarithms of the singular values of a product of square Gaussian layers.

    lim (1/N) Var ln sigma_i(W_N ... W_1) = 1/4 psi'((n - i + 1)/2),   i = 1..n.

    Arguments:
        n: width, a whole number >= 1.
    Returns:
        the variances, in the order of `lyapunov_exponents`, shape (n,). They do not depend on the gain.
    Holds when: N -> infinity for the singular values, which are then independent and log-normal; at every N for the
        diagonal entries of the carried QR decomposition, which are independent at every N.
    Source: Newman 1986; psi'(k/2) is the variance of ln chi^2 with k degrees of freedom.
    """
    return jnp.asarray(polygamma(1, _freedom(n) / 2) / 4)


def log_volume_moments(
    depth: Real[ArrayLike, "..."], n: int, k: int = 1, gain: Real[ArrayLike, "..."] = 1.0
) -> Moments:
    """Moments of the logarithm of the volume that k fixed orthonormal inputs span behind N square Gaussian layers.

    ln V = sum over layers of sum_{i=1}^k 1/2 ln(gain^2 chi^2_{n-i+1} / n): mean N sum_i lambda_i, variance
    N/4 sum_i psi'((n - i + 1)/2). k = 1 is ln |W_N ... W_1 v| of a unit vector v, k = n is ln |det W_N ... W_1|.

    Arguments, of which depth and gain broadcast:
        depth: number of layers N, >= 0.
        n: width, a whole number >= 1.
        k: number of inputs, a whole number from 1 to n.
        gain: the entries of each layer are independent N(0, gain^2 / n); > 0.
    Returns:
        (mean, variance), of the broadcast shape.
    Holds when: always; no limit is taken.
    Source: rotation invariance of Gaussian matrices; Newman 1986.
    """
    depth, gain = non_negative("depth", depth), positive("gain", gain)
    if whole("k", k) > whole("n", n):
        raise ValueError(f"k must be at most the width n = {n}, got {k}")
    mean = depth * (jnp.sum(lyapunov_exponents(n)[:k]) + k * jnp.log(gain))
    return Moments(mean, depth * jnp.sum(lyapunov_variances(n)[:k]) + jnp.zeros_like(mean))


def squared_norm_moments(
    depth: Real[ArrayLike, "..."], n: Real[ArrayLike, "..."], gain: Real[ArrayLike, "..."] = 1.0
) -> Moments:
    """Moments of |W_N ... W_1 v|^2 of a unit vector v behind N square Gaussian layers.

    mean gain^(2 N),   variance gain^(4 N) [(1 + 2/n)^N - 1].

    Arguments, which broadcast:
        depth: number of layers N, >= 0.
        n: width, >= 1.
        gain: the entries of each layer are independent N(0, gain^2 / n); > 0.
    Returns:
        (mean, variance), of the broadcast shape. At gain 1 the mean is kept exactly, although the typical norm dies
        as exp(-N/(2n)): it is carried by ever rarer events, which the variance shows.
    Holds when: always; no limit is taken. The variance overflows where it is larger than the largest number.
    Source: moments of chi^2 with n degrees of freedom.
    """
    depth, n, gain = non_negative("depth", depth), positive("n", n), positive("gain", gain)
    mean = gain ** (2 * depth)
    return Moments(mean + jnp.zeros_like(n), mean**2 * jnp.expm1(depth * jnp.log1p(2 / n)))


def critical_gain(n: int) -> Float[Array, ""]:
    """Gain at which a typical vector neither grows nor dies behind square Gaussian layers.

    gain = sqrt(n/2) exp(-psi(n/2) / 2),   at which the largest Lyapunov exponent is 0.

    Arguments:
        n: width, a whole number >= 1.
    Returns:
        the gain, 1 + 1/(2n) + O(1/n^2): above 1, at which the mean squared norm is kept.
    Holds when: as for `lyapunov_exponents`.
    Source: as for `lyapunov_exponents`.
    """
    return jnp.exp(-lyapunov_exponents(n)[0])


def orthogonal_strength(depth: Real[ArrayLike, "..."], gain: Real[ArrayLike, "..."] = 1.0) -> Float[Array, "..."]:
    """Singular values of a product of orthogonal layers, which are all alike.

    sigma_i(W_N ... W_1) = gain^N.

    Arguments, which broadcast:
        depth: number of layers N, >= 0.
        gain: each layer is gain times an orthogonal matrix; > 0.
    Returns:
        the singular value, of the broadcast shape.
    Holds when: always.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section on orthogonal initial weights.
    """
    return positive("gain", gain) ** non_negative("depth", depth)


def _freedom(n: int) -> np.ndarray:
    """Degrees of freedom n - i + 1 of the i-th diagonal entry."""
    return np.arange(whole("n", n), 0, -1, dtype=np.float64)


def _digamma_excess(x: np.ndarray) -> np.ndarray:
    """psi(x) - ln x, to full relative precision for large x too."""
    y = 1 / np.maximum(x, 12) ** 2
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * (691 / 32760 - y / 12))))))
    return np.where(x < 12, digamma(x) - np.log(x), -1 / (2 * x) - series)
