"""Regression on weights of rank one, w = vec(z z^T), exactly: no sampling where z has two entries.

With z = sqrt(rho) (cos phi, sin phi) of N(0, I) the angle is uniform on half a circle, since z and -z predict alike,
and rho = |z|^2 is exponential of mean 2. Along one angle a label is y_t = rho a_t + noise with

    a_t = x_11 cos^2 phi + (x_12 + x_21) cos phi sin phi + x_22 sin^2 phi,

so that rho given the labels is a Gaussian cut off at zero, whose integrals are a continued fraction; the trapezoid rule
over angles, which are periodic, converges exponentially. In more dimensions, or at higher rank, the reference is
sampled: `posterior_sampling.low_rank_model`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.prequential import Predictions
from theory.checks import matrix, positive, real, whole

# The continued fraction with so many terms is exact to rounding from here on; below, the closed form loses one digit.
_TERMS, _FAR = 60, 3.0


class CutGaussian(NamedTuple):
    """`log_total` ln I_0, `mean` I_1 / I_0 and `square` I_2 / I_0 of I_k = int_0^inf u^k e^{-x u - u^2 / 2} du."""

    log_total: Float[Array, "..."]
    mean: Float[Array, "..."]
    square: Float[Array, "..."]


def cut_gaussian(x: Real[ArrayLike, "..."]) -> CutGaussian:
    """Integrals over the positive half of a Gaussian.

    I_0 = sqrt(2 pi) e^{x^2 / 2} Phi(-x),   I_k / I_{k-1} = k / (x + (k + 1) / (x + (k + 2) / (x + ...))).

    Arguments:
        x: minus the mean of the Gaussian that is cut at zero, in its standard deviations, any numbers.
    Returns:
        `CutGaussian`, of relative error 1e-13 and the shape of x.
    Holds when: always; without overflow or cancellation at either end.
    Source: Laplace's continued fraction; derived in derivations/bayes_icl/low_rank.py.
    """
    return _cut(real("x", x))


@jax.jit
def _cut(x):
    far = jnp.maximum(x, _FAR)
    # r_k = I_k / I_{k-1} = k / (x + r_{k+1}), from a late k down to 1.
    second = jax.lax.fori_loop(0, _TERMS - 1, lambda i, r: (_TERMS - i) / (far + r), jnp.zeros_like(far))
    first = 1 / (far + second)
    near = jnp.minimum(x, _FAR)
    log_total = near**2 / 2 + log_ndtr(-near) + jnp.log(2 * jnp.pi) / 2
    mean = jnp.exp(-log_total) - near
    direct = CutGaussian(log_total, mean, 1 - near * mean)
    fraction = CutGaussian(-jnp.log(far + first), first, first * second)
    return CutGaussian(*(jnp.where(x < _FAR, a, b) for a, b in zip(direct, fraction, strict=True)))


def rank_one_predictions(
    x: Real[ArrayLike, "..."], y: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."], angles: int = 128
) -> Predictions:
    """Every label from those before it, when the weight is z z^T with z of two entries N(0, 1).

    p(y_t | past) = int dphi P(phi | past) int drho p(rho | phi, past) N(y_t; rho a_t, sigma^2).

    Arguments:
        x: inputs, 2 x 2 matrices row by row, (n, 4); y: labels, (n,); noise: sigma^2 > 0.
        angles: J, a Python int: points of the trapezoid rule on half a circle.
    Returns:
        `Predictions`, (n,) each; not linear in y.
    Holds when: J is some five times sqrt(2 n rho^2 / sigma^2), one over the width of the posterior of the angle, of the
        largest rho that occurs, about 2 ln(number of prompts): the rule's error is exp(-J^2 sigma^2 / (n rho^2)).
    Source: the family of Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891); derived in derivations/bayes_icl/low_rank.py.
    """
    inputs, targets, s2 = matrix("x", x, columns=4), real("y", y), positive("noise", noise)
    if targets.shape != inputs.shape[:1] or s2.ndim:
        raise ValueError(f"y must hold a label for each of the {len(inputs)} inputs, got shape {targets.shape}")
    phi = jnp.pi * jnp.arange(whole("angles", angles)) / angles
    cosine, sine = jnp.cos(phi), jnp.sin(phi)
    along = inputs @ jnp.stack([cosine**2, cosine * sine, cosine * sine, sine**2])
    # exp(-rho / 2 + rho (a . y) / s2 - rho^2 (a . a) / (2 s2)) of all labels before t, and after the last.
    shift = jnp.cumsum(jnp.pad(along * targets[:, None], ((1, 0), (0, 0))), axis=0) / s2 - 0.5
    width = jnp.cumsum(jnp.pad(along**2, ((1, 0), (0, 0))), axis=0) / s2
    # Where nothing is known rho is exponential: the limit of a Gaussian so wide that only the slope is left.
    root = jnp.sqrt(jnp.maximum(width, 1e-24))
    cut = _cut(-shift / root)
    log_weight = cut.log_total - jnp.log(root)
    weight = jax.nn.softmax(log_weight[:-1], axis=1)
    mean = jnp.sum(weight * along * cut.mean[:-1] / root[:-1], axis=1)
    square = jnp.sum(weight * along**2 * cut.square[:-1] / root[:-1] ** 2, axis=1)
    evidence = jax.nn.logsumexp(log_weight, axis=1)
    density = jnp.diff(evidence) - targets**2 / (2 * s2) - jnp.log(2 * jnp.pi * s2) / 2
    return Predictions(mean, square - mean**2 + s2, density)
