"""A layer of linear attention fitted to pretraining prompts by ridge regression, and its errors by exact moments.

It predicts <Gamma, x q^T> for a query x, where q holds what its context of l pairs says:
(d / l) sum_i y_i x_i and (1 / l) sum_i y_i^2. Inputs are N(0, I / d), tasks lie on the sphere |w|^2 = d.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Sample(NamedTuple):
    """Pretraining prompts: `queries` x (n, d), `summaries` q (n, d + 1), `labels` y (n,)."""

    queries: Float[Array, "n d"]
    summaries: Float[Array, "n e"]
    labels: Float[Array, " n"]


def sphere_tasks(key, count: int, d: int) -> Float[Array, "k d"]:
    """Tasks uniform on the sphere |w|^2 = d."""
    w = jax.random.normal(key, (count, d))
    return w * (d / jnp.sum(w**2, axis=1, keepdims=True)) ** 0.5


def pretraining_sample(key, tasks: Float[Array, "k d"], n: int, context: int, noise) -> Sample:
    """Prompts of `context` pairs and a query, each for one of the tasks, uniformly.

    Of a context its labels y are drawn, N(0, 1 + noise), and of its inputs only sum y x: given the labels each input is
    normal, about y w / ((1 + noise) d), with less variance along w.
    """
    of_task, of_query, of_label, of_squares, of_inputs = jax.random.split(key, 5)
    d = tasks.shape[1]
    w = tasks[jax.random.randint(of_task, (n,), 0, len(tasks))]
    x = jax.random.normal(of_query, (n, d)) / d**0.5
    y = jnp.sum(w * x, axis=1) + noise**0.5 * jax.random.normal(of_label, (n,))
    squares = (1 + noise) * jnp.sum(jax.random.normal(of_squares, (n, context)) ** 2, axis=1, keepdims=True)
    around = jax.random.normal(of_inputs, (n, d))
    along = w * jnp.sum(w * around, axis=1, keepdims=True) / d
    around = around - (1 - (noise / (1 + noise)) ** 0.5) * along
    read = squares * w / ((1 + noise) * d) + (squares / d) ** 0.5 * around
    return Sample(x, jnp.concatenate([d * read, squares], axis=1) / context, y)


def fitted_layer(sample: Sample, ridge) -> Float[Array, "d e"]:
    """Gamma of the least sum (y - <Gamma, x q^T>)^2 + (n / d) ridge |Gamma|^2; without a ridge the shortest."""
    (n, d), e = sample.queries.shape, sample.summaries.shape[1]
    h = jnp.einsum("nd,ne->nde", sample.queries, sample.summaries).reshape(n, d * e)
    penalty = n / d * ridge
    if n < d * e:
        gamma = h.T @ jnp.linalg.solve(h @ h.T + penalty * jnp.eye(n), sample.labels)
    else:
        gamma = jnp.linalg.solve(h.T @ h + penalty * jnp.eye(d * e), h.T @ sample.labels)
    return gamma.reshape(d, e)


def layer_error(
    gamma: Float[Array, "d e"], mean: Float[Array, " d"], second: Float[Array, "d d"], context: int, noise
) -> Float[Array, ""]:
    """Mean square error, noise included, on tasks of the sphere with the given mean and second moment."""
    moments, cross = _moments(mean, second, context, noise)
    return 1 + noise - 2 / len(gamma) * jnp.sum(gamma * cross) + jnp.sum((gamma @ moments) * gamma) / len(gamma)


def pretrained_layer_errors(key, d: int, tasks: int, n: int, context: int, noise, ridge) -> Float[Array, " 2"]:
    """Errors on fresh and on its own tasks of a layer that is fitted to n prompts of so many drawn tasks."""
    of_tasks, of_sample = jax.random.split(key)
    w = sphere_tasks(of_tasks, tasks, d)
    gamma = fitted_layer(pretraining_sample(of_sample, w, n, context, noise), ridge)
    fresh = layer_error(gamma, jnp.zeros(d), jnp.eye(d), context, noise)
    return jnp.stack([fresh, layer_error(gamma, jnp.mean(w, axis=0), w.T @ w / tasks, context, noise)])


def best_layer(mean: Float[Array, " d"], second: Float[Array, "d d"], context: int, noise) -> Float[Array, "d e"]:
    """Gamma of the least error on those tasks: what endlessly many prompts of them would fit."""
    moments, cross = _moments(mean, second, context, noise)
    return jnp.linalg.solve(moments, cross.T).T


def _moments(mean, second, context, noise):
    """E q q^T, (e, e), and d E y x q^T, (d, e), over the tasks' prompts."""
    d, scale = len(mean), 1 + noise
    read = (1 + 1 / context) * second + scale * d / context * jnp.eye(d)
    beside = scale * (1 + 2 / context) * mean[:, None]
    corner = jnp.full((1, 1), scale**2 * (1 + 2 / context))
    moments = jnp.block([[read, beside], [beside.T, corner]])
    return moments, jnp.concatenate([second, scale * mean[:, None]], axis=1)
