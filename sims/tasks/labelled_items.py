"""Prompts of labelled items seen through noise: the last view is of an item of the context, its label is asked for."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Items(NamedTuple):
    """Items in rows and their labels, +1 or -1; with a leading axis, one set for each prompt."""

    means: Float[Array, "*P M d"]
    labels: Float[Array, "*P M"]


class ItemPrompts(NamedTuple):
    """`views` (P, n + 1, d), of which the last is asked for, and all their `labels` (P, n + 1)."""

    views: Float[Array, "P N d"]
    labels: Float[Array, "P N"]


def random_items(key, shape: tuple[int, ...], dimension: int) -> Items:
    """Means N(0, I / d) and fair labels, of leading axes `shape`."""
    of_means, of_labels = jax.random.split(key)
    means = jax.random.normal(of_means, (*shape, dimension)) / dimension**0.5
    return Items(means, jax.random.rademacher(of_labels, shape, means.dtype))


def pooled_items(key, pool: Items, shape: tuple[int, ...], known=None) -> Items:
    """Items of a pool, uniform and with replacement: of its first `known` ones, which may be traced, or of all."""
    which = jax.random.randint(key, shape, 0, len(pool.means) if known is None else known)
    return Items(pool.means[which], pool.labels[which])


def item_prompts(key, shown: Items, noise) -> ItemPrompts:
    """A view of each item that is shown in a prompt, (P, n, d), then a further one of one of them."""
    of_choice, of_noise = jax.random.split(key)
    prompts, n = shown.labels.shape
    again = jax.random.randint(of_choice, (prompts, 1), 0, n)
    means = jnp.concatenate([shown.means, jnp.take_along_axis(shown.means, again[..., None], axis=1)], axis=1)
    labels = jnp.concatenate([shown.labels, jnp.take_along_axis(shown.labels, again, axis=1)], axis=1)
    spread = jnp.sqrt(noise / means.shape[-1]).astype(means.dtype)
    views = means + spread * jax.random.normal(of_noise, means.shape, means.dtype)
    return ItemPrompts(views / jnp.sqrt(1 + noise).astype(means.dtype), labels)
