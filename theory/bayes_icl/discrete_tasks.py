"""The Bayes predictor when the task is one of finitely many weight vectors: the discrete MMSE estimator.

    w_t = sum_m P(m | past) W_m,   P(m | past) ~ P(m) exp(-sum_{u < t} (y_u - W_m . x_u)^2 / (2 sigma^2)).

A network that is trained on M tasks should become this one, and with it know the pool by heart; for M without end it
should become ridge regression. Sign vectors are such a pool, of 2^d tasks. The sum over the past leaves y_t out.
"""

from __future__ import annotations

from functools import partial
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
        chunk: how many tasks are looked at at once, a Python int >= 1: memory is that, whatever M and n.
    Returns:
        `Predictions`, (n,) each.
    Holds when: sigma^2 > 0, however small: the posterior is summed in logarithms. Costs M n d; a gradient remembers
        n times the chunk. Many prompts go fastest some at a time, by `jax.lax.map` with a batch size of about 16.
    Source: Raventos et al. 2023 (arXiv:2306.15063), the discrete MMSE estimator.
    """
    w, x, targets, spread, prior = _checked(pool, features, y, noise, log_prior)
    found = _in_blocks(w, prior, x, targets, spread, min(whole("chunk", chunk), len(w)))
    density = jnp.diff(found.log_weight) - jnp.log(2 * jnp.pi * spread) / 2
    return Predictions(found.mean, spread + found.variance, density)


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
    # The densities without their common factor.
    return log_posterior(-((targets - w @ x.T) ** 2) / (2 * spread), prior)


class _Summary(NamedTuple):
    """Of some tasks: log of their joint weight before each label and after the last, and of W_m . x_t before each label
    mean and variance."""

    log_weight: Float[Array, " m"]
    mean: Float[Array, " n"]
    variance: Float[Array, " n"]


@partial(jax.jit, static_argnames="size")
def _in_blocks(w, prior, x, targets, spread, size):
    """The whole pool, so many tasks at a time."""
    if size == len(w):
        # What is not asked for need not be computed: a scan would.
        return _summary(w, prior, x, targets, spread)
    blocks = -(-len(w) // size)
    filler = blocks * size - len(w)
    padded = jnp.pad(w, ((0, filler), (0, 0))).reshape(blocks, size, -1)
    priors = jnp.pad(prior, (0, filler), constant_values=-jnp.inf).reshape(blocks, size)

    # A block may be recomputed for a gradient: what it holds would be as large as the pool.
    @jax.checkpoint
    def add(seen, block):
        return _merge(seen, _summary(*block, x, targets, spread)), None

    none = jnp.zeros(targets.shape, jnp.result_type(w, x, targets, spread))
    empty = _Summary(jnp.full(len(targets) + 1, -jnp.inf, none.dtype), none, none)
    return jax.lax.scan(add, empty, (padded, priors))[0]


def _summary(w, prior, x, targets, spread):
    dtype = jnp.result_type(w, x, targets, spread)
    columns = w.T

    def step(log_weight, pair):
        row, target = pair
        values = row @ columns
        total, weight, whole = _normalised(log_weight)
        mean = weight @ values / whole
        variance = weight @ (values - mean) ** 2 / whole
        # The densities without their common factor.
        return log_weight - (target - values) ** 2 / (2 * spread), (total, mean, variance)

    last, (totals, means, variances) = jax.lax.scan(step, prior.astype(dtype), (x, targets))
    return _Summary(jnp.append(totals, _normalised(last)[0]), means, variances)


def _normalised(logs):
    """Log of the sum over tasks of exponentials, these, and what to divide them by; all finite or no task possible."""
    top = jax.lax.stop_gradient(jnp.max(logs))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    weight = jnp.exp(logs - top)
    total = jnp.sum(weight)
    safe = jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, top + jnp.log(safe), -jnp.inf), weight, safe


def _merge(one, other):
    """Two sets of tasks as one: weights add, and means and variances with them."""
    total = jnp.logaddexp(one.log_weight, other.log_weight)
    before = jnp.where(jnp.isfinite(total), total, 0.0)[:-1]
    a, b = jnp.exp(one.log_weight[:-1] - before), jnp.exp(other.log_weight[:-1] - before)
    mean = a * one.mean + b * other.mean
    variance = a * one.variance + b * other.variance + a * b * (one.mean - other.mean) ** 2
    return _Summary(total, mean, variance)


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
