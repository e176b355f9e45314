"""Continual learning of classes: what perceptrons with related Gaussian teachers can know of all tasks at best.

Task t has a teacher w*_t in R^N with |w*_t|^2 / N = 1 and overlaps R_st = w*_s . w*_t / N, and P_t = alpha_t N inputs x
of unit variance with labels sign(w*_t . x). A student's weights w enter through R = w . w*_t / N and q = |w|^2 / N.
The posterior mean of a Bayesian student has R = q: what it expects is what is.

Per coordinate of the weights all samples of a task are one measurement of the teacher with Gaussian noise, of a
precision that depends on q alone. It is an average over a standard normal v of kappa(u) = phi(u) / Phi(u), the mean by
which a normal variable exceeds -u where it does.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import floating, non_negative, require, within
from theory.lazy_rich.continual_regression import correlation_matrix, posterior_covariance

# Equal steps: their error on an average over a standard normal falls as exp(-2 pi d / step), with d the distance of
# the nearest pole from the real axis: 2.8 over the slope for kappa, pi / 2 over the slope for tanh.
NODES = np.arange(-10, 10.0001, 0.05)
WEIGHTS = np.exp(-(NODES**2) / 2)
WEIGHTS /= WEIGHTS.sum()


class Channel(NamedTuple):
    """What the labels of one task say of one weight: a measurement with noise.

    `signal`     R_hat, factor of the teacher's weight in the student's field, (...).
    `precision`  q_hat, variance of the field's noise, (...); equal to the signal for R = q.
    """

    signal: Float[Array, "..."]
    precision: Float[Array, "..."]


def sign_precision(q: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Precision with which sign labels measure a weight, for a Bayesian student.

    q_hat = alpha sqrt(2 / pi) E kappa(sqrt(q) v) / sqrt(1 - q).

    Arguments, which broadcast:
        q: overlap of the student with itself and with the teacher, in [0, 1].
        alpha: samples per dimension, >= 0.
    Returns:
        q_hat, of the broadcast shape; 2 alpha / pi at q = 0, infinite at q = 1.
    Holds when: N -> infinity, posterior variances and teacher agree (R = q).
    Source: the replica result of Gyorgyi & Tishby 1990, (2 alpha / (1 - q)) int Dz Phi(u) kappa(u)^2 with
        u = z sqrt(q / (1 - q)), brought to this form in derivations/lazy_rich/continual_perceptron.py.
    """
    q, alpha = within("q", q, 0.0, 1.0), non_negative("alpha", alpha)
    return bayes_channel(q, 1 - q, alpha)


def sign_channel(teacher: Real[ArrayLike, "..."], q: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."]) -> Channel:
    """What sign labels say of a weight to a student whose expectations need not be right.

    R_hat = alpha sqrt(2 / pi) E kappa(v sqrt((q - R^2) / (1 - q))) / sqrt(1 - q),
    q_hat = (2 alpha / (1 - q)) int Dz Phi(a) kappa(u)^2,   u = z sqrt(q / (1 - q)),   a = R z / sqrt(q - R^2).

    Arguments, which broadcast:
        teacher: R, overlap of the posterior mean with the teacher, R^2 < q.
        q: overlap of the posterior mean with itself, in [0, 1); 1 - q is the variance that the student expects.
        alpha: samples per dimension, >= 0.
    Returns:
        the `Channel`; for R = q both are `sign_precision`.
    Holds when: N -> infinity; sqrt(q / (1 - q)) below 20.
    Source: derived in derivations/lazy_rich/continual_perceptron.py.
    """
    overlap, q = floating("teacher", teacher), within("q", q, 0.0, 1.0)
    q = require("q", q, q < 1, "must lie below 1")
    # At q = 0 there is nothing to overlap with.
    sound = (overlap**2 < q) | ((q == 0) & (overlap == 0))
    overlap = require("teacher", overlap, sound, "must have a square below q")
    return mismatched_channel(overlap, q, non_negative("alpha", alpha))


def posterior_overlaps(gram: Real[ArrayLike, "T T"], alpha: Real[ArrayLike, " tasks"]) -> Float[Array, " T"]:
    """Overlaps q of the posterior means with their teachers, all tasks' samples seen: exact Bayes.

    q_a = 1 - C_aa,   C = (R^{-1} + diag p)^{-1},   p_a = `sign_precision`(q_a, alpha_a).

    Arguments:
        gram: overlaps R of the teachers, unit diagonal, positive semi-definite, (T, T).
        alpha: samples per dimension of each task, >= 0, (T,): zero for tasks that are still to come.
    Returns:
        q, (T,), in [0, 1).
    Holds when: N -> infinity, teachers Gaussian with covariance R at each coordinate, and known to be so. The order of
        the tasks does not matter and nothing is forgotten.
    Source: derived in derivations/lazy_rich/continual_perceptron.py; one task: Gyorgyi & Tishby 1990.
    """
    gram, alpha = correlation_matrix("gram", gram), non_negative("alpha", alpha)
    if alpha.shape != gram.shape[:1]:
        raise ValueError(f"alpha must hold one number for each of {gram.shape[0]} tasks, got shape {alpha.shape}")
    return 1 - _missing(gram, alpha)


def posterior_mean_error(
    q: Real[ArrayLike, "..."], teacher: Real[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """Fraction of new inputs that the posterior mean gets wrong: arccos(R / sqrt(q)) / pi.

    Arguments, which broadcast:
        q: overlap of the mean with itself, in [0, 1].
        teacher: R, its overlap with the teacher, R^2 <= q; R = q if not given.
    Returns:
        the error, in [0, 1]; 1/2 where q = 0. For R = q it is the lowest of all students.
    Holds when: N -> infinity or Gaussian inputs.
    Source: the angle between two vectors.
    """
    q = within("q", q, 0.0, 1.0)
    if teacher is None:
        return angle(jnp.sqrt(q))
    overlap = floating("teacher", teacher)
    # Overlaps that were measured may exceed by rounding.
    overlap = require("teacher", overlap, overlap**2 <= q * (1 + 1e-9), "must have a square of at most q")
    return angle(jnp.where(q > 0, overlap / jnp.sqrt(jnp.where(q > 0, q, 1.0)), 0.0))


def gibbs_error(q: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Fraction of new inputs that one sample of the posterior gets wrong: arccos(q) / pi.

    Arguments:
        q: overlap of two samples, and of a sample with the teacher, in [0, 1].
    Returns:
        the error, of the shape of q, above that of the posterior mean.
    Holds when: the student is Bayesian and its prior is right; weights of unit norm.
    Source: Gyorgyi & Tishby 1990.
    """
    return angle(within("q", q, 0.0, 1.0))


def kappa(u: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """phi(u) / Phi(u), of a normal variable's density and distribution: about -u for u -> -infinity.

    Arguments: u: any.
    Returns: kappa, of the shape of u.
    """
    u = jnp.asarray(u)
    return jnp.exp(-(u**2) / 2 - log_ndtr(u)) / jnp.sqrt(2 * jnp.pi)


@jax.jit
def bayes_channel(q, missing, alpha) -> Float[Array, "..."]:
    """`sign_precision`, unchecked, with 1 - q given apart."""
    mean = kappa(jnp.sqrt(q)[..., None] * NODES) @ WEIGHTS
    return alpha * jnp.sqrt(2 / jnp.pi / missing) * mean


@jax.jit
def mismatched_channel(teacher, q, alpha) -> Channel:
    """`sign_channel`, unchecked."""
    missing, rest = 1 - q, jnp.maximum(q - teacher**2, 1e-15)
    mean = kappa(jnp.sqrt(rest / missing)[..., None] * NODES) @ WEIGHTS
    a = (teacher / jnp.sqrt(rest))[..., None] * NODES
    square = (ndtr(a) * kappa(jnp.sqrt(q / missing)[..., None] * NODES) ** 2) @ WEIGHTS
    return Channel(alpha * jnp.sqrt(2 / jnp.pi / missing) * mean, 2 * alpha / missing * square)


def angle(cosine) -> Float[Array, "..."]:
    """arccos(cosine) / pi, with finite slope at neither end, and 1 + rounding allowed."""
    return jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / jnp.pi


@jax.jit
def _missing(gram, alpha):
    """Posterior variances: falling from the prior's to the largest solution, halving the logarithm of what is left."""

    def variances(missing, _):
        return jnp.diagonal(posterior_covariance(gram, bayes_channel(1 - missing, missing, alpha)))

    solver = optx.FixedPointIteration(rtol=1e-13, atol=1e-15)
    return optx.fixed_point(variances, solver, jnp.ones_like(alpha), max_steps=1000, throw=False).value
