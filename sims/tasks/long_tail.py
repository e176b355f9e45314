"""A mixture of many subpopulations, most of them rare, each with a random label: what is a single example worth?"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from sims.tasks.item_label import exemplars


class LongTail(NamedTuple):
    """Examples and new exemplars of one mixture, inputs in rows.

    `x`, `y` of the examples, each of the subpopulation `which`; where not `present` they are padding.
    `counts` of examples, and the `labels` of all N subpopulations; `fresh` inputs of each that no one has seen.
    """

    x: Float[Array, "P d"]
    y: Int[Array, " P"]
    which: Int[Array, " P"]
    present: Bool[Array, " P"]
    counts: Int[Array, " N"]
    labels: Int[Array, " N"]
    fresh: Float[Array, "N R d"]


class Mistakes(NamedTuple):
    """Shares that are wrong in each subpopulation: of its examples (0 if there are none), and of fresh exemplars."""

    examples: Float[Array, " N"]
    fresh: Float[Array, " N"]


def long_tail(
    key, frequencies: Float[Array, " N"], examples, most: int, dimension: int, labels: int, variation, fresh: int = 2
) -> LongTail:
    """A mixture drawn anew, and examples of it, at most `most`; `examples` and `frequencies` may be traced.

    Exemplars are (mean + variation noise) / sqrt(1 + variation^2) sqrt(d), with entries of variance one: means of many
    dimensions are nearly orthogonal. Labels are uniform and independent, one for each subpopulation.
    """
    size = len(frequencies)
    mean_key, label_key, draw_key, seen_key, fresh_key = jax.random.split(key, 5)
    means = jax.random.normal(mean_key, (size, dimension)) / dimension**0.5
    label = jax.random.randint(label_key, (size,), 0, labels)
    which = jax.random.choice(draw_key, size, (most,), p=frequencies)
    present = jnp.arange(most) < examples
    counts = jnp.zeros(size, jnp.int32).at[which].add(present)
    x = dimension**0.5 * exemplars(seen_key, means[which], variation)
    several = jnp.broadcast_to(means[:, None], (size, fresh, dimension))
    new = dimension**0.5 * exemplars(fresh_key, several, variation)
    return LongTail(x, label[which], which, present, counts, label, new)


def cross_entropy(network, data: LongTail) -> Float[Array, ""]:
    """Mean over the examples that are there, in nats."""
    each = optax.softmax_cross_entropy_with_integer_labels(network(data.x), data.y)
    return jnp.sum(jnp.where(data.present, each, 0.0)) / jnp.sum(data.present)


def mistakes(network, data: LongTail) -> Mistakes:
    """What a network of one logit for each label has wrong."""
    wrong = (jnp.argmax(network(data.x), axis=-1) != data.y) & data.present
    total = jnp.zeros(len(data.counts)).at[data.which].add(wrong)
    fresh = jnp.argmax(network(data.fresh), axis=-1) != data.labels[:, None]
    return Mistakes(total / jnp.maximum(data.counts, 1), jnp.mean(fresh, axis=-1))
