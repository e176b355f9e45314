"""Generative or discriminative: what a linear rule costs, and how many samples a generative classifier needs.

Two classes, equally likely, N(mu_1, S) and N(mu_0, S). A generative classifier estimates the means. To know all of d
means to a given accuracy takes a number of samples that grows with log d only; but to classify as well as can be takes
samples in proportion to d where the classes are apart by a fixed distance in all, and few, whatever d, where every
feature tells as much as any other. Which of the two is meant decides what "log d samples" is worth.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require


def linear_rule_error(
    weights: Real[ArrayLike, " d"],
    bias: Real[ArrayLike, ""],
    means: Real[ArrayLike, "2 d"],
    covariance: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, ""]:
    """Probability that a linear rule, class 1 where w . x + b > 0, is wrong.

    P = 1/2 Phi(-(w . mu_1 + b) / s) + 1/2 Phi((w . mu_0 + b) / s),   s^2 = w^T S w.

    Arguments:
        weights: w, (d,), not zero; bias: b.
        means: mu_0 and mu_1, in that order, (2, d).
        covariance: S of both classes, a variance (), variances (d,) or symmetric positive definite (d, d).
    Returns:
        P, from 0 to 1.
    Holds when: classes are equally likely and Gaussian with the same covariance; w . x varies.
    Source: Fisher 1936; in this use Ng & Jordan 2001.
    """
    w, b, mu, s = real("weights", weights), real("bias", bias), real("means", means), real("covariance", covariance)
    d = w.shape[-1] if w.ndim else 0
    if w.ndim != 1 or mu.shape != (2, d):
        raise ValueError(f"weights must be (d,) and means (2, d), got shapes {w.shape} and {mu.shape}")
    if s.shape not in ((), (d,), (d, d)):
        raise ValueError(f"covariance must have shape (), ({d},) or ({d}, {d}), got {s.shape}")
    variance = w @ s @ w if s.ndim == 2 else jnp.sum(s * w**2)
    spread = jnp.sqrt(require("covariance", variance, variance > 0, "must let w . x vary: its variance"))
    off = (mu @ w + b) / spread
    return (ndtr(-off[1]) + ndtr(off[0])) / 2


def mean_samples(
    dimension: Real[ArrayLike, "..."] | int, accuracy: Real[ArrayLike, "..."], failure: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Samples after which all of d means are known to a given accuracy.

    m = (z / eps)^2,   P(|N(0, 1)| > z) = 1 - (1 - delta)^{1/d},   at most 2 ln(2 d / delta) / eps^2.

    Arguments, which broadcast:
        dimension: d >= 1, means of independent features of variance one.
        accuracy: eps > 0, the largest error allowed, in standard deviations of a feature.
        failure: delta, the chance that some mean is worse, between 0 and 1.
    Returns:
        m, not rounded; it grows like 2 ln(d) / eps^2.
    Source: Ng & Jordan 2001 for the logarithm; exact for Gaussian features.
    """
    d, eps = positive("dimension", dimension), positive("accuracy", accuracy)
    delta = positive("failure", failure)
    delta = require("failure", delta, delta < 1, "must be below 1")
    # One tail of one feature, without subtracting from one.
    tail = -jnp.expm1(jnp.log1p(-delta) / d) / 2
    return (ndtri(tail) / eps) ** 2


def estimated_means_error(
    separation: Real[ArrayLike, "..."], dimension: Real[ArrayLike, "..."] | int, samples: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Error of the classifier that puts estimated means in place of the true ones.

    P = Phi(-(Delta^2 / 2) / sqrt(Delta^2 + 2 d / m)).

    Arguments, which broadcast:
        separation: Delta = |mu_1 - mu_0| > 0, in standard deviations; dimension: d >= 1; samples: m > 0 of each class.
    Returns:
        P, from Phi(-Delta / 2), the least there is, at m -> inf to one half at m -> 0.
    Holds when: d and m are large, features independent of variance one; corrections are of order 1 / sqrt(m).
        At fixed Delta an excess needs m in proportion to d; at fixed Delta / sqrt(d) some samples do for any d.
    Source: Raudys 1967; derived in derivations/bayes_icl/generative_discriminative.py.
    """
    delta, d, m = positive("separation", separation), positive("dimension", dimension), positive("samples", samples)
    return ndtr(-(delta**2) / 2 / jnp.sqrt(delta**2 + 2 * d / m))


def samples_for_excess(
    separation: Real[ArrayLike, "..."], dimension: Real[ArrayLike, "..."] | int, share: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Samples of each class after which the classifier acts as if classes were nearer by a given share.

    Phi(-(1 - share) Delta / 2) = estimated_means_error at   m = 2 d / {Delta^2 [(1 - share)^{-2} - 1]}.

    Arguments, which broadcast:
        separation: Delta > 0; dimension: d >= 1; share: between 0 and 1.
    Returns:
        m, in proportion to d at fixed Delta.
    Holds when: as `estimated_means_error`.
    Source: inverted from there.
    """
    delta, d, lost = positive("separation", separation), positive("dimension", dimension), non_negative("share", share)
    lost = require("share", lost, (lost > 0) & (lost < 1), "must lie between 0 and 1, ends left out")
    # (1 - s)^-2 - 1 = s (2 - s) / (1 - s)^2.
    return 2 * d * (1 - lost) ** 2 / (delta**2 * lost * (2 - lost))
