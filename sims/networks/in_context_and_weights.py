"""Two ways to label an item: by its copy in the context, or by a memoriser's weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int


class InContextAndWeights(eqx.Module):
    """Logit of the label +1: z = phi(x) + w sum_j softmax_j(beta x.x_j) l_j.

    The sum is over the items x_j of a context with their labels l_j, and over the item asked for itself, which has no
    label. w is `weight`, beta `sharpness`; `memoriser` is phi, a network on items in rows with one output, or None.
    """

    weight: Float[Array, ""]
    sharpness: Float[Array, ""]
    memoriser: Any = None

    def __call__(self, batch: Contexts) -> Float[Array, " P"]:
        """Logits, each from its own context."""
        return self.memory(batch.x) + self.in_context(batch)

    def memory(self, x: Float[Array, "P d"]) -> Float[Array, " P"]:
        """phi alone."""
        return jnp.zeros(len(x)) if self.memoriser is None else self.memoriser(x)[:, 0]

    def in_context(self, batch: Contexts) -> Float[Array, " P"]:
        """What the context says, alone."""
        present = jnp.isfinite(batch.overlaps)
        scores = self.sharpness * jnp.where(present, batch.overlaps, 0.0)
        attention = jax.nn.softmax(scores, axis=1, where=present)
        return self.weight * jnp.sum(attention[:, :-1] * batch.labels, axis=1)


class Table(eqx.Module):
    """A memoriser with a logit of its own for each of K items, one-hot in the first K coordinates."""

    logits: Float[Array, " K"]

    def __call__(self, x: Float[Array, "P d"]) -> Float[Array, "P 1"]:
        return (x[:, : len(self.logits)] @ self.logits)[:, None]


class Pool(NamedTuple):
    """Items in rows, and all their overlaps."""

    items: Float[Array, "R d"]
    overlaps: Float[Array, "R R"]


class Contexts(NamedTuple):
    """Items `x`, their `overlaps` with the items of their contexts and with themselves, `labels` there, and `answers`.

    The first item of a context is the copy. Where an overlap is minus infinity there is no item.
    """

    x: Float[Array, "P d"]
    overlaps: Float[Array, "P N+1"]
    labels: Float[Array, "P N"]
    answers: Float[Array, " P"]


def gaussian_pool(key, size: int, dimension: int) -> Pool:
    """Items with entries N(0, 1/d), which are nearly orthogonal and of nearly unit length."""
    items = jax.random.normal(key, (size, dimension)) / dimension**0.5
    return Pool(items, items @ items.T)


def labelled_pools(seeds, size: int, dimension: int) -> dict[str, np.ndarray]:
    """A pool, `items` and `overlaps`, and fair `labels` +1 and -1 for each of several runs."""
    keys = [jax.random.split(jax.random.key(seed)) for seed in seeds]
    pools = [gaussian_pool(items, size, dimension) for items, _ in keys]
    labels = [jax.random.rademacher(labels, (size,), float) for _, labels in keys]
    drawn = {"items": [p.items for p in pools], "overlaps": [p.overlaps for p in pools], "labels": labels}
    return {name: np.stack(value) for name, value in drawn.items()}


def contexts(key, pool: Pool, asked: Int[Array, " P"], answers: Float[Array, " P"], size, most: int) -> Contexts:
    """Contexts of `size` labelled items, at most `most`, for the items of these places in the pool, with these answers.

    The other items are any but the one asked for, with labels drawn anew: only the copy and a memoriser know the
    answer, and how many items there are to memorise is another number than how many are seen. `size` may be traced.
    """
    # One word of random bits for each other item: its lowest is the label, the rest is the item.
    bits = jax.random.bits(key, (len(asked), most - 1), jnp.uint32)
    total = jnp.uint32(len(pool.items))
    others = (asked[:, None].astype(jnp.uint32) + 1 + (bits >> 1) % (total - 1)) % total
    signs = 2 * (bits & 1).astype(answers.dtype) - 1
    seen = jnp.concatenate([asked[:, None], others.astype(asked.dtype), asked[:, None]], axis=1)
    labels = jnp.concatenate([answers[:, None], signs], axis=1)
    place = jnp.arange(most + 1)
    present = (place < size) | (place == most)
    overlaps = jnp.where(present, pool.overlaps[asked[:, None], seen], -jnp.inf)
    return Contexts(pool.items[asked], overlaps, labels, answers)


def cross_entropy(model: InContextAndWeights, batch: Contexts) -> Float[Array, ""]:
    """Mean over a batch of softplus(-z y)."""
    return jnp.mean(jax.nn.softplus(-batch.answers * model(batch)))


def withdrawing_descent(lr, decay) -> optax.GradientTransformation:
    """Stochastic gradient descent with L2 decay of the weight w alone: (decay / 2) w^2 is added to the loss."""

    def weight_alone(model):
        return eqx.tree_at(lambda m: m.weight, jax.tree.map(lambda _: False, model), True)

    return optax.chain(optax.masked(optax.add_decayed_weights(decay), weight_alone), optax.sgd(lr))
