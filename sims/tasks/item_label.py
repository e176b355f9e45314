"""Sequences of items and their labels, with a last item whose label is asked for: to be known, or to be looked up.

    item_1 label_1 ... item_N label_N target -> ?

An item is a noisy exemplar of a class, a class has a label. What decides between learning in weights and in context is
how often a class occurs (`exponent`, `classes`), how often it recurs within a sequence (`bursty`, `burst`), how alike
its exemplars are (`variation`), and whether its label can be relied upon (`novel`, `multiplicity`, `relabelled`).
Everything is drawn on the device, within the compiled step of training.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class ItemLabel(eqx.Module):
    """The statistics of the sequences.

    `labels`        L; the label of class k is k mod L (of L / multiplicity groups where a class has several).
    `context`       N items with labels before the target.
    `burst`         B: in a bursty sequence N / B classes occur B times each, the target's among them.
    `bursty`        fraction of sequences that are; in the others all N + 1 classes are independent.
    `classes`       K, a multiple of L, at most the rows of the table of means.
    `exponent`      alpha of the frequencies p_k ~ k^-alpha, k = 1..K.
    `variation`     epsilon: exemplars are (mean + epsilon noise) / sqrt(1 + epsilon^2), of unit norm on average.
    `novel`         fraction of sequences whose classes have never been seen, and are bursty.
    `repeats`       bursty classes are drawn from p_k, with replacement; else labels differ, whatever p_k: the label is
                    uniform, and the class is among those that have it.
    `template`      "burst", or "few-shot": three of the target's class, three of a second one, the rest independent,
                    all of them drawn from p_k with replacement, so that the second class can be the first again.
    `multiplicity`  labels of a class, of which each sequence, or each occurrence (`consistent` or not), has one.
    `relabelled`    fraction of sequences whose labels are permuted at random.
    `swap`          added to all labels, modulo L: a test whose answer is in the context alone.
    `longest`       N_max: sequences are shifted by up to 2 (N_max - N) places.
    """

    labels: int = eqx.field(static=True)
    context: int = eqx.field(static=True)
    classes: int | Int[Array, ""]
    burst: int = eqx.field(static=True, default=1)
    bursty: float | Float[Array, ""] = 1.0
    exponent: float | Float[Array, ""] = 0.0
    variation: float | Float[Array, ""] = 0.1
    novel: float | Float[Array, ""] = 0.0
    relabelled: float | Float[Array, ""] = 0.0
    swap: int | Int[Array, ""] = 0
    repeats: bool = eqx.field(static=True, default=False)
    template: str = eqx.field(static=True, default="burst")
    multiplicity: int = eqx.field(static=True, default=1)
    consistent: bool = eqx.field(static=True, default=True)
    longest: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        n, b, many = self.context, self.burst, self.labels
        for name in ("labels", "context", "burst", "multiplicity"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if n % b:
            raise ValueError(f"burst must divide the context of {n}, got {b}")
        if self.template not in ("burst", "few-shot"):
            raise ValueError(f"template must be 'burst' or 'few-shot', got {self.template!r}")
        if self.template == "few-shot" and n < 6:
            raise ValueError(f"context must be at least 6 for the few-shot template, got {n}")
        if many % self.multiplicity:
            raise ValueError(f"multiplicity must divide the {many} labels, got {self.multiplicity}")
        if self.template == "burst" and not self.repeats and n // b > self.groups:
            needed = n // b * self.multiplicity
            raise ValueError(f"labels must be at least {needed} for a context without repeats, got {many}")
        if self.longest is not None and self.longest < n:
            raise ValueError(f"longest must be at least the context of {n}, got {self.longest}")
        for name, most in dict(bursty=1, novel=1, relabelled=1, exponent=math.inf, variation=math.inf).items():
            value = getattr(self, name)
            if isinstance(value, int | float | np.number) and not (0 <= value <= most and math.isfinite(value)):
                allowed = "lie between 0 and 1" if most == 1 else "be non-negative and finite"
                raise ValueError(f"{name} must {allowed}, got {value}")
        if isinstance(self.classes, int | np.integer) and (self.classes < many or self.classes % many):
            raise ValueError(f"classes must be a multiple of the {many} labels, got {self.classes}")

    @property
    def groups(self) -> int:
        """Labels that tell classes apart: classes that are alike modulo this number have the same ones."""
        return self.labels // self.multiplicity

    @property
    def places(self) -> int:
        """Positions that tokens may have: 2 N_max + 1."""
        return 2 * (self.longest or self.context) + 1


class World(NamedTuple):
    """What is drawn once: class means (K, D), label vectors (L, D), partial sums of the class frequencies (K,)."""

    means: Float[Array, "K D"]
    vectors: Float[Array, "L D"]
    cumulative: Float[Array, " K"]


class Sequences(NamedTuple):
    """A batch of P sequences; the target stands last, at N.

    `classes` (P, N + 1), `labels` (P, N + 1), `items` (P, N + 1, D), `shift` (P,), `novel` (P,).
    """

    classes: Int[Array, "P n"]
    labels: Int[Array, "P n"]
    items: Float[Array, "P n D"]
    shift: Int[Array, " P"]
    novel: Bool[Array, " P"]

    @property
    def answer(self) -> Int[Array, " P"]:
        return self.labels[:, -1]

    @property
    def match(self) -> Bool[Array, "P N"]:
        """Which items of the context are of the target's class."""
        return self.classes[:, :-1] == self.classes[:, -1:]


def world(key, task: ItemLabel, dimension: int, rows: int | None = None, dtype=None) -> World:
    """Means and label vectors with entries of variance 1 / D; a table of `rows` serves any number of classes below.

    In single precision classes of a frequency below 1e-7 are never drawn.
    """
    size = task.classes if rows is None else rows
    if isinstance(size, jax.Array):
        raise ValueError("rows must be given where the number of classes is an array, got None")
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension}")
    if not isinstance(task.classes, jax.Array) and size < task.classes:
        raise ValueError(f"rows must be at least the {task.classes} classes, got {size}")
    of_classes, of_labels = jax.random.split(key)
    k = jnp.arange(1, size + 1)
    weight = jnp.where(k <= task.classes, jnp.exp(-task.exponent * jnp.log(k)), 0.0)
    cumulative = jnp.cumsum(weight)
    return World(
        jax.random.normal(of_classes, (size, dimension), dtype) / dimension**0.5,
        jax.random.normal(of_labels, (task.labels, dimension), dtype) / dimension**0.5,
        # The last one is one to the last digit, or a row beyond the classes could be drawn.
        (cumulative / cumulative[-1]).astype(dtype),
    )


def sequences(key, task: ItemLabel, drawn: World, batch: int, fresh: int = 128) -> Sequences:
    """A batch; classes of novel sequences are among `fresh` ones, of which no later batch sees any."""
    if fresh < task.labels:
        raise ValueError(f"fresh must be at least the {task.labels} labels, got {fresh}")
    if len(drawn.vectors) != task.labels:
        raise ValueError(f"drawn must have a vector for each of {task.labels} labels, got {len(drawn.vectors)}")
    of_classes, of_labels, of_items, of_means, of_shift = jax.random.split(key, 5)
    classes, novel = _classes(of_classes, task, drawn.cumulative, batch, fresh - fresh % task.labels)
    labels = _labels(of_labels, task, classes)
    new = jax.random.normal(of_means, (fresh, drawn.means.shape[1]), drawn.means.dtype) / drawn.means.shape[1] ** 0.5
    if _is(task.novel, 1):
        means = new[classes % fresh]
    elif _is(task.novel, 0):
        means = drawn.means[classes]
    else:
        means = jnp.where(novel[:, None, None], new[classes % fresh], drawn.means[classes])
    shift = jnp.zeros(batch, int)
    if task.places > 2 * task.context + 1:
        shift = jax.random.randint(of_shift, (batch,), 0, task.places - 2 * task.context)
    return Sequences(classes, labels, exemplars(of_items, means, task.variation), shift, novel)


def exemplars(key, means: Float[Array, "*shape D"], variation) -> Float[Array, "*shape D"]:
    """One exemplar about each mean, the noise fresh for every occurrence."""
    noise = jax.random.normal(key, means.shape, means.dtype) / means.shape[-1] ** 0.5
    scale = jnp.asarray(variation, means.dtype)
    return (means + scale * noise) / jnp.sqrt(1 + scale**2)


def tokens(batch: Sequences, vectors: Float[Array, "L D"]) -> Float[Array, "P T D"]:
    """Items and vectors of labels in turn, the target last: T = 2 N + 1."""
    pairs = jnp.stack([batch.items, vectors[batch.labels]], axis=2)
    size, n, _, width = pairs.shape
    return pairs.reshape(size, 2 * n, width)[:, :-1]


def _classes(key, task, cumulative, batch, fresh):
    """Classes (P, N + 1), and which sequences are novel: the classes of these are numbered among the fresh ones."""
    of_ways, of_order, of_target, of_others, chance, fate, of_rest = jax.random.split(key, 7)
    known = _is(task.novel, 0) or _is(task.novel, 1)
    novel = jnp.full(batch, bool(task.novel)) if known else jax.random.uniform(fate, (batch,)) < task.novel
    bursty = (jax.random.uniform(chance, (batch,)) < task.bursty) | novel

    def drawn(key, count):
        share = jax.random.uniform(key, (batch, count), cumulative.dtype)
        known = jnp.minimum(jnp.searchsorted(cumulative, share, side="right"), len(cumulative) - 1)
        return jnp.where(novel[:, None], jnp.floor(share * fresh).astype(known.dtype), known)

    ways = _ways(of_ways, task, drawn, novel, fresh)
    if task.template == "few-shot":
        ways = jnp.concatenate([jnp.repeat(ways, 3, axis=1), drawn(of_rest, task.context - 6)], axis=1)
        context, target = _shuffled(of_order, ways), ways[:, :1]
    else:
        context = _shuffled(of_order, jnp.repeat(ways, task.burst, axis=1)) if task.burst > 1 else ways
        target = jnp.take_along_axis(context, jax.random.randint(of_target, (batch, 1), 0, task.context), axis=1)
    together = jnp.concatenate([context, target], axis=1)
    if _is(task.bursty, 1):
        return together, novel
    return jnp.where(bursty[:, None], together, drawn(of_others, task.context + 1)), novel


def _ways(key, task, drawn, novel, fresh):
    """The classes that recur within a bursty sequence."""
    if task.template == "few-shot":
        return drawn(key, 2)
    kinds = task.context // task.burst
    if task.repeats:
        return drawn(key, kinds)
    of_labels, of_classes = jax.random.split(key)
    # The first of a random order; a whole sort costs more than all else that is drawn.
    order = jax.lax.top_k(-jax.random.uniform(of_labels, (len(novel), task.groups)), kinds)[1]
    members = jnp.where(novel, fresh, task.classes)[:, None] // task.groups
    return order + task.groups * jnp.floor(jax.random.uniform(of_classes, order.shape) * members).astype(order.dtype)


def _is(share, number) -> bool:
    """Whether a share is known to be this number: what does not depend on it need not be drawn."""
    return isinstance(share, int | float) and share == number


def _shuffled(key, rows):
    return jnp.take_along_axis(rows, jnp.argsort(jax.random.uniform(key, rows.shape), axis=1), axis=1)


def _labels(key, task, classes):
    many, size = task.labels, len(classes)
    which, permutation, chance = jax.random.split(key, 3)
    labels = classes % task.groups
    if task.multiplicity > 1:
        if task.consistent:
            # One draw for every group of labels of a sequence.
            table = jax.random.randint(which, (size, task.groups), 0, task.multiplicity)
            extra = jnp.take_along_axis(table, labels, axis=1)
        else:
            extra = jax.random.randint(which, classes.shape, 0, task.multiplicity)
        labels = labels * task.multiplicity + extra
    if not _is(task.relabelled, 0):
        order = jnp.argsort(jax.random.uniform(permutation, (size, many)), axis=1)
        changed = jax.random.uniform(chance, (size, 1)) < task.relabelled
        labels = jnp.where(changed, jnp.take_along_axis(order, labels, axis=1), labels)
    return (labels + task.swap) % many
