"""Prompts of in-context regression, y_t = w . x_t + noise: each with a task of its own, which no network is told.

Tasks are fresh, of any law, or rows of a fixed pool. Everything is drawn on the device, inside the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Prompts(NamedTuple):
    """A batch of P prompts of N pairs: inputs (P, N, d), noisy labels (P, N), and the tasks behind them (P, d)."""

    x: Float[Array, "P N d"]
    y: Float[Array, "P N"]
    w: Float[Array, "P d"]


def prompts(key, w: Float[Array, "P d"], context: int, noise, root=1.0, entries=jax.random.normal) -> Prompts:
    """One prompt of `context` pairs for each task, with Gaussian inputs and noise of variance `noise`.

    Inputs are `root` times white ones: a number, a factor for each coordinate (d,), or a matrix (d, d), whose
    covariance is root root^T. `entries(key, shape, dtype)` draws the white ones, where they are not Gaussian.
    """
    of_inputs, of_noise = jax.random.split(key)
    batch, dimension = w.shape
    white = entries(of_inputs, (batch, context, dimension), w.dtype)
    root = jnp.asarray(root, w.dtype)
    x = white @ root.T if root.ndim == 2 else white * root
    error = jnp.sqrt(jnp.asarray(noise, w.dtype)) * jax.random.normal(of_noise, (batch, context), w.dtype)
    return Prompts(x, jnp.einsum("pnd,pd->pn", x, w) + error, w)


def gaussian_tasks(key, batch: int, dimension: int, root=1.0, dtype=None) -> Float[Array, "P d"]:
    """Fresh tasks, `root` times white ones, as the inputs of `prompts`; prompts have the precision of their tasks."""
    white, root = jax.random.normal(key, (batch, dimension), dtype), jnp.asarray(root, dtype)
    return white @ root.T if root.ndim == 2 else white * root


def pooled_tasks(key, pool: Float[Array, "M d"], batch: int, known=None) -> Float[Array, "P d"]:
    """Rows of a fixed pool, uniform and with replacement; only the first `known` of them, which may be traced."""
    return pool[jax.random.randint(key, (batch,), 0, len(pool) if known is None else known)]


def sparse_tasks(key, batch: int, dimension: int, support: int) -> Float[Array, "P d"]:
    """`support` coordinates, uniform among all choices, with N(0, 1) entries; the others are zero."""
    if not 1 <= support <= dimension:
        raise ValueError(f"support must be from 1 to the dimension {dimension}, got {support}")
    of_place, of_value = jax.random.split(key)
    order = jnp.argsort(jax.random.uniform(of_place, (batch, dimension)), axis=1)
    rank = jnp.argsort(order, axis=1)
    return jnp.where(rank < support, jax.random.normal(of_value, (batch, dimension)), 0.0)


def sign_tasks(key, batch: int, dimension: int) -> Float[Array, "P d"]:
    """Entries +1 or -1, each with probability one half."""
    return jax.random.rademacher(key, (batch, dimension), float)


def rank_one_tasks(key, batch: int, side: int, dtype=None) -> Float[Array, "P d"]:
    """Matrices z z^T row by row, d = side^2, with entries N(0, 1) of z: symmetric and of rank one."""
    z = jax.random.normal(key, (batch, side), dtype)
    return (z[:, :, None] * z[:, None, :]).reshape(batch, side**2)


def waves(key, frequency: Int[Array, " P"], points: int, dtype=None) -> Float[Array, "P N"]:
    """R cos(2 pi k x / N + phi) at the points x = 0 .. N - 1 of a circle, each of its own frequency k.

    R^2 / 2 is exponential and phi uniform, so that values are N(0, 1).
    """
    of_size, of_phase = jax.random.split(key)
    size = jnp.sqrt(2 * jax.random.exponential(of_size, frequency.shape, dtype))
    phase = 2 * jnp.pi * jax.random.uniform(of_phase, frequency.shape, size.dtype)
    turns = frequency[:, None] * jnp.arange(points, dtype=size.dtype) / points
    return size[:, None] * jnp.cos(2 * jnp.pi * turns + phase[:, None])


def of_one_kind(key, kinds: tuple[Callable[[jax.Array], Float[Array, "P d"]], ...]) -> Float[Array, "P d"]:
    """Each task from one of several samplers, uniformly and for itself: never a whole batch of one kind."""
    of_kind, *keys = jax.random.split(key, len(kinds) + 1)
    drawn = jnp.stack([kind(one) for kind, one in zip(kinds, keys, strict=True)])
    which = jax.random.randint(of_kind, (drawn.shape[1],), 0, len(kinds))
    return jnp.take_along_axis(drawn, which[None, :, None], axis=0)[0]
