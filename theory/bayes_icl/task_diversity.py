"""Few tasks or many: is a network the Bayes predictor of its pool of tasks, or of the law that the pool was drawn from?

On the pool's own tasks the discrete estimator is best, on new tasks ridge regression; which of the two a network is
near, on either kind of task, are four numbers.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.discrete_tasks import pool_predictions
from theory.bayes_icl.prequential import linear_predictions
from theory.checks import matrix, positive, real, require, whole


class Deltas(NamedTuple):
    """Mean squared distances per dimension: to the pool's predictor, to ridge, and between the two; each ().

    `memorising` is the weight of the pool's predictor in the mixture of both that comes nearest to the network.
    """

    to_pool: Float[Array, ""]
    to_ridge: Float[Array, ""]
    between: Float[Array, ""]
    memorising: Float[Array, ""]


def task_predictors(
    pool: Real[ArrayLike, "M d"],
    x: Real[ArrayLike, "P n d"],
    y: Real[ArrayLike, "P n"],
    noise: Real[ArrayLike, ""],
    prior_variance: Real[ArrayLike, ""] = 1.0,
    chunk: int = 16384,
) -> tuple[Float[Array, "P n"], Float[Array, "P n"]]:
    """What the two Bayes predictors say on a batch of prompts, at every prefix.

    (dMMSE, ridge): w_t = sum_m P(m | past) W_m, and w_t = (X^T X + sigma^2 / tau^2 I)^{-1} X^T y.

    Arguments:
        pool: W, (M, d); x: inputs, (P, n, d); y: labels, (P, n); noise: sigma^2 > 0, a variance.
        prior_variance: tau^2 > 0 of an entry of a task; chunk: as for `discrete_tasks.pool_predictions`.
    Returns:
        predictions of the mean label, (P, n) each; the first ones are those without data.
    Holds when: tasks of the law have independent N(0, tau^2) entries.
    Source: Raventos et al. 2023 (arXiv:2306.15063).
    """
    w, s2, variance = matrix("pool", pool), positive("noise", noise), positive("prior_variance", prior_variance)
    prompts = _prompts(x, y)
    of_law = jax.vmap(lambda *prompt: linear_predictions(*prompt, s2, 0.0, variance).mean)(*prompts)
    return _of_pool(w, prompts, s2, whole("chunk", chunk)), of_law


@partial(jax.jit, static_argnums=3)
def _of_pool(pool, prompts, noise, chunk):
    return jax.lax.map(lambda prompt: pool_predictions(pool, *prompt, noise, chunk=chunk).mean, prompts)


def deltas(
    outputs: Real[ArrayLike, "P n"],
    of_pool: Real[ArrayLike, "P n"],
    of_law: Real[ArrayLike, "P n"],
    dimension: int | Real[ArrayLike, ""],
) -> Deltas:
    """How far a network is from both predictors, on the prompts of one law of tasks.

    Delta(f, g) = 1 / (n d) sum_t E (f_t - g_t)^2.

    Arguments:
        outputs: of the network, (P, n); of_pool, of_law: of `task_predictors` on the same prompts; dimension: d.
    Returns:
        `Deltas`; the first position, without data, counts.
    Holds when: the two predictors differ (refused otherwise: nothing lies between them).
    Source: Raventos et al. 2023 (arXiv:2306.15063).
    """
    f, a, b = real("outputs", outputs), real("of_pool", of_pool), real("of_law", of_law)
    if not f.shape == a.shape == b.shape:
        raise ValueError(f"outputs, of_pool and of_law must have one shape, got {f.shape}, {a.shape} and {b.shape}")
    d = positive("dimension", dimension)
    apart = jnp.mean((a - b) ** 2)
    apart = require("of_pool", apart, apart > 0, "must differ from of_law somewhere: their mean squared difference")
    share = jnp.mean((f - b) * (a - b)) / apart
    return Deltas(jnp.mean((f - a) ** 2) / d, jnp.mean((f - b) ** 2) / d, apart / d, share)


def bayes_excess(
    x: Real[ArrayLike, "n d"], noise: Real[ArrayLike, ""], prior_variance: Real[ArrayLike, ""] = 1.0
) -> Float[Array, " n"]:
    """Excess risk of ridge regression at every prefix, for given inputs, under the law of tasks.

    E (f_t - w . x_t)^2 = x_t^T (I / tau^2 + X^T X / sigma^2)^{-1} x_t.

    Arguments:
        x: inputs, (n, d); noise: sigma^2 > 0; prior_variance: tau^2 > 0.
    Returns:
        (n,), no labels needed; add sigma^2 for the risk on noisy labels.
    Holds when: tasks have independent N(0, tau^2) entries, and the ridge is sigma^2 / tau^2.
    Source: standard Gaussian conditioning.
    """
    variance = positive("prior_variance", prior_variance)
    inputs = real("x", x)
    found = linear_predictions(inputs, jnp.zeros(inputs.shape[0], inputs.dtype), noise, 0.0, variance)
    return found.variance - positive("noise", noise)


def _prompts(x, y):
    inputs, targets = real("x", x), real("y", y)
    if inputs.ndim != 3 or targets.shape != inputs.shape[:2]:
        raise ValueError(f"x must be (P, n, d) and y (P, n), got shapes {inputs.shape} and {targets.shape}")
    return inputs, targets
