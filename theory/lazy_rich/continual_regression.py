"""Continual learning in linear regression: the errors of all tasks while they are learned one after the other.

Task t has a teacher w*_t in R^N with |w*_t|^2 / N = 1 and overlaps R_st = w*_s . w*_t / N, and P_t = alpha_t N fresh
samples y = X w*_t + noise, the entries of X independent Gaussians of variance 1/N. The error of task s is
D_s = |w - w*_s|^2 / N, the excess risk on new samples; the student starts at w = 0, where D_s = 1.

However a student learns a task from where it stands (to convergence, for a while, pulled back to its old weights), it
keeps a share k(x) of its distance to the teacher along each direction of curvature x of the loss. Three averages of k
over the spectrum, a `Filter`, carry the errors of all tasks from one task to the next.

Losses are the SUM, (1/2) |y - X w|^2, and time is lr times steps of it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole, within
from theory.deep_linear.marchenko_pastur import bulk


class Filter(NamedTuple):
    """Averages over the eigenvalues x of X^T X, zeros included, of the share k(x) of the old distance that is kept.

    `kept`    <k>, (...).
    `spread`  <k (1 - k)>, (...): what is neither kept nor learned.
    `noise`   <(1 - k)^2 / x>, (...): label noise of variance one that goes into the weights.
    """

    kept: Float[Array, "..."]
    spread: Float[Array, "..."]
    noise: Float[Array, "..."]


def flow_filter(alpha: Real[ArrayLike, "..."], inputs: int | None = None) -> Filter:
    """Gradient flow to convergence: k = 0 where there are data, 1 where there are none.

    <k> = (1 - alpha)_+,   <k (1 - k)> = 0,   <(1 - k)^2 / x> = min(alpha, 1) / (|1 - alpha| - 1/N).

    Arguments:
        alpha: samples per dimension, > 0.
        inputs: N, for the mean over data sets at that size; None for N = infinity.
    Returns:
        the `Filter`, of the shape of alpha; its noise is infinite where |1 - alpha| <= 1/N.
    Holds when: Gaussian inputs; exact in the mean at every N.
    Source: mean of an inverse Wishart matrix; Advani & Saxe 2017 (arXiv:1710.03667) for N = infinity.
    """
    alpha = positive("alpha", alpha)
    room = jnp.abs(1 - alpha) - (0.0 if inputs is None else 1 / whole("inputs", inputs))
    # Rounding must not put a finite gap where P = N or N +- 1.
    room = jnp.where(room > 8 * jnp.finfo(room.dtype).eps, room, 0.0)
    return Filter(jnp.maximum(1 - alpha, 0), jnp.zeros_like(alpha), jnp.minimum(alpha, 1) / room)


def pull_filter(pull: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."]) -> Filter:
    """The minimum of (1/2) |y - X w|^2 + (pull / 2) |w - w_old|^2: k = pull / (x + pull).

    1 - <k> = 2 alpha / (1 + pull + alpha + r),   <(1 - k)^2 / x> = (1 - <k>) / r,   <k (1 - k)> = pull (1 - <k>) / r,
    r = sqrt((pull + alpha - 1)^2 + 4 pull).

    Arguments, which broadcast:
        pull: strength, >= 0; zero is `flow_filter`.
        alpha: samples per dimension, > 0.
    Returns:
        the `Filter`, of the broadcast shape.
    Holds when: N -> infinity. The first task, from w_old = 0, is ordinary ridge regression.
    Source: Marchenko & Pastur 1967; derived in derivations/lazy_rich/continual_regression.py.
    """
    pull, alpha = non_negative("pull", pull), positive("alpha", alpha)
    b = pull + alpha - 1
    square = b**2 + 4 * pull
    r = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    learned = 2 * alpha / (1 + pull + alpha + r)
    # Either form cancels on one side of b = 0.
    kept = jnp.where(b > 0, 2 * pull / jnp.where(b > 0, b + r, 1.0), (r - b) / 2)
    noise = learned / r
    return Filter(kept, pull * jnp.where(pull > 0, noise, 0.0), noise)


def stopped_flow_filter(
    time: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."], inputs: int | None = None
) -> Filter:
    """Gradient flow that is stopped: k = e^{-x time}.

    Arguments, which broadcast:
        time: >= 0, of the loss (1/2) |y - X w|^2.
        alpha: samples per dimension, > 0.
        inputs: N, to add the correction of order 1/N to the averages.
    Returns:
        the `Filter`, of the broadcast shape.
    Holds when: Gaussian inputs, N -> infinity or with the correction.
    Source: averages over the law of Marchenko & Pastur 1967 (`theory.deep_linear.marchenko_pastur`).
    """
    time, alpha = jnp.broadcast_arrays(non_negative("time", time), positive("alpha", alpha))
    return _averages(lambda x: jnp.expm1(-x * time[..., None]), alpha, inputs)


def descent_filter(
    steps: int, lr: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."], inputs: int | None = None
) -> Filter:
    """Gradient descent with finite steps: k = (1 - lr x)^steps.

    Arguments, which broadcast:
        steps: a Python int >= 0; lr: the step, > 0, on the loss (1/2) |y - X w|^2; stable below 2 / (1 + sqrt alpha)^2.
        alpha, inputs: as for `stopped_flow_filter`.
    Returns:
        the `Filter`, of the broadcast shape.
    Holds when, and source: as for `stopped_flow_filter`.
    """
    lr, alpha = jnp.broadcast_arrays(positive("lr", lr), positive("alpha", alpha))
    steps = whole("steps", steps, at_least=0)

    def change(x):
        z = lr[..., None] * x
        return jnp.where(z < 0.5, jnp.expm1(steps * jnp.log1p(-jnp.minimum(z, 0.5))), (1 - z) ** steps - 1)

    return _averages(change, alpha, inputs)


def errors_after(
    errors: Real[ArrayLike, " S"],
    distances: Real[ArrayLike, " teachers"],
    old: Real[ArrayLike, ""],
    learned: Filter | tuple,
    noise: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, " S"]:
    """Errors of all tasks after one more task is learned.

    D_s <- <k> D_s + (1 - <k>) Delta_s - <k (1 - k)> D_old + noise <(1 - k)^2 / x>.

    Arguments:
        errors: D_s before, >= 0, shape (S,).
        distances: Delta_s = |w*_s - w*|^2 / N = 2 (1 - R_s) of each teacher from the one that is learned, (S,).
        old: error of the task that is learned, before; the entry of `errors` with Delta = 0, if it is among them.
        learned: the `Filter` of this task, scalars.
        noise: variance of its labels' noise, >= 0.
    Returns:
        D_s after, shape (S,).
    Holds when: the samples are independent of the student and of all teachers; in the mean over data sets at every N,
        with the averages of that N.
    Source: derived in derivations/lazy_rich/continual_regression.py; gradient flow: Evron et al. 2022
        (arXiv:2205.09588) study the same projections for given inputs.
    """
    errors, distances = non_negative("errors", errors), non_negative("distances", distances)
    if errors.shape != distances.shape:
        raise ValueError(f"distances must be of the shape of errors, {errors.shape}, got {distances.shape}")
    old, noise = non_negative("old", old), non_negative("noise", noise)
    return _after(errors, distances, old, Filter(*(real("learned", part) for part in learned)), noise)


def sequential_errors(
    gram: Real[ArrayLike, "T T"], learned: Filter | tuple, noise: Real[ArrayLike, ""] = 0.0
) -> Float[Array, "stages T"]:
    """Errors of all tasks before the first task and after each: the table of continual learning.

    Arguments:
        gram: overlaps R of the teachers, unit diagonal, positive semi-definite, (T, T); learned in the order of its
            rows. A task that returns is a further row.
        learned: the `Filter` of each task, (T,) each (scalars are the same for all).
        noise: variance of the label noise, >= 0.
    Returns:
        D, (T + 1, T): row t after t tasks; row 0 is one.
    Holds when, and source: as for `errors_after`.
    """
    gram, noise = correlation_matrix("gram", gram), non_negative("noise", noise)
    return _sequence(gram, Filter(*(jnp.broadcast_to(real("learned", x), gram.shape[:1]) for x in learned)), noise)


def optimal_pull(old: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The pull of lowest error on the task that is learned: noise / D_old. The error is then <k> D_old.

    Arguments, which broadcast:
        old: error of this task before it is learned, > 0.
        noise: variance of its label noise, >= 0.
    Returns:
        the pull, of the broadcast shape.
    Holds when: always, also at finite N: the old distance is a Gaussian prior of variance D_old.
    Source: derived in derivations/lazy_rich/continual_regression.py.
    """
    return non_negative("noise", noise) / positive("old", old)


def fisher_pull(
    strength: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."], ridge: Real[ArrayLike, "..."] = 0.0
) -> Float[Array, "..."]:
    """The pull that elastic weight consolidation with a diagonal Fisher matrix is: strength (alpha + ridge).

    Arguments, which broadcast:
        strength: factor on the Fisher matrix, >= 0.
        alpha: samples per dimension of all earlier tasks together, >= 0; ridge: of the first task, >= 0.
    Returns:
        the pull for `pull_filter`, of the broadcast shape.
    Holds when: N -> infinity with isotropic inputs: diag(X^T X) = alpha + O(1/sqrt N) tells no weight from another.
        The full Fisher matrix does: it is `joint_ridge_errors` with weights (strength, 1).
    Source: Kirkpatrick et al. 2017 (arXiv:1612.00796), on this model.
    """
    return non_negative("strength", strength) * (non_negative("alpha", alpha) + non_negative("ridge", ridge))


def forgetting(
    correlation: Real[ArrayLike, "..."],
    first: Real[ArrayLike, "..."],
    second: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Rise of the first task's error while a second one is learned to convergence.

    F = a_2 (1 + a_1 - 2 correlation - V_1) + V_2,   a = min(alpha, 1),   V = noise a / |1 - alpha|.

    Arguments, which broadcast:
        correlation: R_12, in [-1, 1].
        first, second: alpha_1, alpha_2, > 0, not 1 where there is noise.
        noise: variance of the label noise, >= 0.
    Returns:
        F; negative where the second task teaches the first: without noise for correlation > (1 + a_1) / 2.
    Holds when: gradient flow to convergence, N -> infinity.
    Source: derived in derivations/lazy_rich/continual_regression.py.
    """
    correlation, (a1, v1), (a2, v2) = _pair(correlation, first, second, noise)
    return a2 * (1 + a1 - 2 * correlation - v1) + v2


def transfer(
    correlation: Real[ArrayLike, "..."],
    first: Real[ArrayLike, "..."],
    second: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Fall of the second task's error that the first one brings: learned from zero weights less learned in sequence.

    (1 - a_2) [a_1 (2 correlation - 1) - V_1].

    Arguments: as for `forgetting`.
    Returns:
        the gain; without noise positive for correlation > 1/2, at any number of samples below alpha_2 = 1.
    Holds when, and source: as for `forgetting`.
    """
    correlation, (a1, v1), (a2, _) = _pair(correlation, first, second, noise)
    return (1 - a2) * (a1 * (2 * correlation - 1) - v1)


def joint_ridge_errors(
    gram: Real[ArrayLike, "T T"],
    alpha: Real[ArrayLike, " loads"],
    weights: Real[ArrayLike, " weights"],
    pull: Real[ArrayLike, ""],
    noise: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, " T"]:
    """Errors of ridge regression on all tasks at once, each with a weight.

    The minimum of sum_a (g_a / 2) |y_a - X_a w|^2 + (pull / 2) |w|^2 has
    D_s = B_s + sum_a k_a (B_a + noise) / (1 - sum_a k_a),   B_s = (c - e_s)^T R (c - e_s),   k_a = c_a^2 / alpha_a,
    c_a = m g_a alpha_a / (1 + g_a m),   sum_a c_a + pull m = 1.

    Arguments:
        gram: overlaps R of the teachers, as for `sequential_errors`, (T, T).
        alpha: samples per dimension, > 0, (T,); weights: g, > 0, (T,).
        pull: ridge, > 0; noise: variance of the label noise, >= 0.
    Returns:
        D, (T,). With weights (strength, 1) and pull strength * ridge it is elastic weight consolidation with the full
        Fisher matrix after a task learned with `ridge`: at strength 1 nothing is forgotten.
    Holds when: N -> infinity.
    Source: derived in derivations/lazy_rich/continual_regression.py.
    """
    gram, pull, noise = correlation_matrix("gram", gram), positive("pull", pull), non_negative("noise", noise)
    alpha, weights = _per_task("alpha", positive, alpha, gram), _per_task("weights", positive, weights, gram)
    return _joint(gram, alpha, weights, pull, noise)


def posterior_covariance(prior: Real[ArrayLike, "T T"], precision: Real[ArrayLike, " tasks"]) -> Float[Array, "T T"]:
    """Covariance of the T teachers' weights at one coordinate, after each was seen with a precision.

    C = (S^{-1} + diag p)^{-1} = (1 + S diag p)^{-1} S.

    Arguments:
        prior: covariance S, symmetric, positive semi-definite, (T, T); precision: p >= 0, (T,).
    Returns: C, (T, T).
    Holds when: always; S may be singular.
    Source: Gaussian conditioning.
    """
    prior = matrix("prior", prior, rows=jnp.shape(prior)[-1] if jnp.ndim(prior) else None)
    return _posterior(prior, _per_task("precision", non_negative, precision, prior))


def bayes_errors(
    gram: Real[ArrayLike, "T T"], alpha: Real[ArrayLike, " tasks"], noise: Real[ArrayLike, ""]
) -> Float[Array, " T"]:
    """Lowest errors that any student can reach who knows how the tasks are related: exact Bayes.

    D = diag C,   C = (R^{-1} + diag p)^{-1},   p_a = alpha_a / (noise + D_a).

    Arguments:
        gram: overlaps R of the teachers, as for `sequential_errors`, (T, T).
        alpha: samples per dimension of each task, >= 0, (T,): zero for tasks that are still to come.
        noise: variance of the label noise, > 0.
    Returns:
        D, (T,). The order of the tasks does not matter, and every sample of any task lowers all errors.
    Holds when: N -> infinity, teachers Gaussian with covariance R at each coordinate.
    Source: derived in derivations/lazy_rich/continual_regression.py.
    """
    gram, noise = correlation_matrix("gram", gram), positive("noise", noise)
    alpha = _per_task("alpha", non_negative, alpha, gram)
    return _bayes(gram, alpha, noise)


def correlation_matrix(name: str, value: Real[ArrayLike, "T T"]) -> Float[Array, "T T"]:
    """`value` as a matrix of correlations; refused unless symmetric, of unit diagonal and positive semi-definite.

    Arguments: name: of the argument, for the sentence; value: shape (T, T).
    Returns: the matrix.
    """
    size = jnp.shape(value)[-1] if jnp.ndim(value) else None
    gram, slack = matrix(name, value, rows=size), 1e-6
    gram = require(name, gram, jnp.all(jnp.abs(gram - gram.T) <= slack), "must be symmetric")
    gram = require(name, gram, jnp.all(jnp.abs(jnp.diagonal(gram) - 1) <= slack), "must have a diagonal of ones")
    return require(name, gram, jnp.linalg.eigvalsh(gram)[0] >= -slack, "must be positive semi-definite")


def _after(errors, distances, old, learned: Filter, noise):
    return learned.kept * errors + (1 - learned.kept) * distances - learned.spread * old + _noisy(noise, learned)


def _noisy(noise, learned: Filter):
    """No noise stays none where its factor is infinite."""
    return noise * jnp.where(noise > 0, learned.noise, 0.0)


@jax.jit
def _sequence(gram, learned: Filter, noise):
    def task(errors, now):
        row, i, averages = now
        errors = _after(errors, 2 * (1 - row), errors[i], averages, noise)
        return errors, errors

    start = jnp.ones(gram.shape[0], gram.dtype)
    _, later = jax.lax.scan(task, start, (gram, jnp.arange(gram.shape[0]), learned))
    return jnp.concatenate([start[None], later])


def _averages(change, alpha, inputs) -> Filter:
    """Averages of k = 1 + change(x) over the bulk and the directions without data, where k = 1."""
    spectrum = bulk(alpha, inputs)
    d = change(spectrum.rates)
    positive_rates = jnp.where(spectrum.rates > 0, spectrum.rates, 1.0)
    return Filter(
        spectrum.frozen + spectrum.sum(1 + d), -spectrum.sum((1 + d) * d), spectrum.sum(d**2 / positive_rates)
    )


@jax.jit
def _joint(gram, alpha, weights, pull, noise):
    total = pull + jnp.sum(weights * alpha)

    def excess(scaled, _):
        m = scaled / total
        return m * (pull + jnp.sum(weights * alpha / (1 + weights * m))) - 1

    # Increasing and concave: Newton's steps from the left climb to the root.
    root = optx.root_find(excess, optx.Newton(1e-14, 1e-14), jnp.ones_like(total), max_steps=200, throw=False)
    m = root.value / total
    c = m * weights * alpha / (1 + weights * m)
    k = c**2 / alpha
    missing = c - jnp.eye(len(alpha), dtype=c.dtype)
    bias = jnp.einsum("sa,ab,sb->s", missing, gram, missing)
    return bias + jnp.sum(k * (bias + noise)) / (1 - jnp.sum(k))


@jax.jit
def _bayes(gram, alpha, noise):
    def excess(errors, _):
        return errors - jnp.diagonal(_posterior(gram, alpha / (noise + errors)))

    # The right-hand side rises and is concave in D: Newton's steps from the prior descend to the root.
    start = jnp.ones_like(alpha)
    return optx.root_find(excess, optx.Newton(1e-14, 1e-14), start, max_steps=200, throw=False).value


def _posterior(prior, precision):
    c = jnp.linalg.solve(jnp.eye(len(precision), dtype=prior.dtype) + prior * precision, prior)
    return (c + c.T) / 2


def _pair(correlation, first, second, noise):
    """Correlation, and (a, V) of both tasks."""
    noise = non_negative("noise", noise)
    filters = (flow_filter(positive(name, alpha)) for name, alpha in (("first", first), ("second", second)))
    shares = [(1 - f.kept, _noisy(noise, f)) for f in filters]
    return within("correlation", correlation, -1.0, 1.0), *shares


def _per_task(name, check, value, gram):
    x = check(name, real(name, value))
    if x.shape != gram.shape[:1]:
        raise ValueError(f"{name} must hold one number for each of {gram.shape[0]} tasks, got shape {x.shape}")
    return x
