"""The Bayes predictor when the task is one of finitely many weight vectors: the discrete MMSE estimator.

    w_t = sum_m P(m | past) W_m,   P(m | past) ~ P(m) exp(-sum_{u < t} (y_u - W_m . x_u)^2 / (2 sigma^2)).

A network that is trained on M tasks should become this one, and with it know the pool by heart; for M without end it
should become ridge regression. Sign vectors are such a pool, of 2^d tasks. The sum over the past leaves y_t out.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.prequential import Predictions, log_posterior, normalised_log_prior
from theory.checks import matrix, positive, real, whole


def sign_vectors(dimension: int) -> Float[Array, "M d"]:
    """All weight vectors of entries +1 and -1.

    M = 2^d.

    Arguments:
        dimension: d, a Python int from 1 to 24.
    Returns:
        one vector in each row, (2^d, d); the first has entries -1, the last +1.
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891), sign-vector regression.
    """
    d = whole("dimension", dimension)
    if d > 24:
        raise ValueError(f"dimension must be at most 24: 2^{d} vectors do not fit")
    return 2.0 * (jnp.arange(2**d)[:, None] >> jnp.arange(d)[::-1] & 1) - 1.0


def pool_predictions(
    pool: Real[ArrayLike, "M d"],
    features: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, ""],
    log_prior: Real[ArrayLike, " M"] | None = None,
    chunk: int = 16384,
) -> Predictions:
    """Every label from those before it, when the task is a row of a pool.

    m_t = sum_m P(m | y_0 .. y_{t-1}) W_m . x_t,   v_t = sigma^2 + Var(W_m . x_t).

    Arguments:
        pool: W, one task in each row, (M, d).
        features: of each pair, (n, d); y: labels, (n,); noise: sigma^2 > 0, a variance.
        log_prior: of the tasks, up to a constant, (M,); uniform by default.
        chunk: how many tasks are looked at at once, a Python int >= 1: memory is n times that, whatever M.
    Returns:
        `Predictions`, (n,) each.
    Holds when: sigma^2 > 0, however small: the posterior is summed in logarithms.
    Source: Raventos et al. 2023 (arXiv:2306.15063), the discrete MMSE estimator.
    """
    w, x, targets, spread, prior = _checked(pool, features, y, noise, log_prior)
    size = min(whole("chunk", chunk), len(w))
    blocks = -(-len(w) // size)
    padded = jnp.pad(w, ((0, blocks * size - len(w)), (0, 0))).reshape(blocks, size, -1)
    priors = jnp.pad(prior, (0, blocks * size - len(w)), constant_values=-jnp.inf).reshape(blocks, size)

    # A block may be recomputed for a gradient: what it holds would be as large as the pool.
    @jax.checkpoint
    def add(seen, block):
        return _merge(seen, _summary(*block, x, targets, spread)), None

    zero = jnp.zeros(targets.shape, jnp.result_type(w, x, targets, spread))
    if blocks == 1:
        # What is not asked for need not be computed: a scan would.
        found = _summary(w, prior, x, targets, spread)
    else:
        found, _ = jax.lax.scan(add, _Summary(zero - jnp.inf, zero - jnp.inf, zero, zero), (padded, priors))
    return Predictions(found.mean, spread + found.variance, found.log_after - found.log_before)


def task_posterior(
    pool: Real[ArrayLike, "M d"],
    features: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, ""],
    log_prior: Real[ArrayLike, " M"] | None = None,
) -> Float[Array, "M m"]:
    """Which task of a pool it is, before each label and after the last.

    log P(m | y_0 .. y_{t-1}).

    Arguments:
        pool, features, y, noise, log_prior: as for `pool_predictions`.
    Returns:
        log probabilities, (M, n + 1): column t has not seen y_t.
    Holds when: sigma^2 > 0. Memory M n.
    Source: Bayes' rule.
    """
    w, x, targets, spread, prior = _checked(pool, features, y, noise, log_prior)
    return log_posterior(_log_likelihood(w @ x.T, targets, spread), prior)


class _Summary(NamedTuple):
    """Of some tasks, at every position: log weight before and after y_t, posterior mean and variance of W_m . x_t."""

    log_before: Float[Array, " n"]
    log_after: Float[Array, " n"]
    mean: Float[Array, " n"]
    variance: Float[Array, " n"]


def _summary(w, prior, x, targets, spread):
    values = w @ x.T
    density = _log_likelihood(values, targets, spread)
    # Added up without y_t, never subtracted: with little noise the difference would lose the prior. By a product with
    # ones, since a running sum is slow.
    past = density @ jnp.triu(jnp.ones((len(targets), len(targets)), density.dtype), 1)
    before = prior[:, None] + past
    total, share = _normalised(before)
    mean = jnp.sum(share * values, axis=0)
    variance = jnp.sum(share * (values - mean) ** 2, axis=0)
    return _Summary(total, _normalised(before + density)[0], mean, variance)


def _normalised(logs):
    """Log of the sum of exponentials over tasks, and the share of each: -inf and zero where no task is possible."""
    top = jax.lax.stop_gradient(jnp.max(logs, axis=0))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    weight = jnp.exp(logs - top)
    total = jnp.sum(weight, axis=0)
    safe = jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, top + jnp.log(safe), -jnp.inf), weight / safe


def _merge(one, other):
    """Two sets of tasks as one: weights add, and means and variances with them."""
    total = jnp.logaddexp(one.log_before, other.log_before)
    finite = jnp.where(jnp.isfinite(total), total, 0.0)
    a, b = jnp.exp(one.log_before - finite), jnp.exp(other.log_before - finite)
    mean = a * one.mean + b * other.mean
    variance = a * one.variance + b * other.variance + a * b * (one.mean - other.mean) ** 2
    return _Summary(total, jnp.logaddexp(one.log_after, other.log_after), mean, variance)


def _log_likelihood(values, targets, spread):
    return -((targets - values) ** 2) / (2 * spread) - jnp.log(2 * jnp.pi * spread) / 2


def _checked(pool, features, y, noise, log_prior):
    w, x = matrix("pool", pool), matrix("features", features)
    targets, spread = real("y", y), positive("noise", noise)
    if w.shape[1] != x.shape[1] or targets.shape != x.shape[:1]:
        shapes = f"{w.shape}, {x.shape} and {targets.shape}"
        raise ValueError(f"pool (M, d), features (n, d) and y (n,) must fit together, got shapes {shapes}")
    if not len(w):
        raise ValueError("pool must hold at least one task, got none")
    if spread.shape:
        raise ValueError(f"noise must be one variance, got shape {spread.shape}")
    return w, x, targets, spread, normalised_log_prior(log_prior, len(w)).astype(w.dtype)
