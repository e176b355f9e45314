"""Sequences of items and labels, in which a map that is drawn for the sequence gives each item its label.

    item_1 label_1 ... item_N label_N

Of tasks: items are classes, a task is a random map of classes to labels, one of a fixed number or a new one each time.
Of factors: an item has several factors with a value each; one of them, which it is differs between sequences, has a
random map of its values to labels. Everything is drawn on the device, within the compiled step of training.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Sequences(NamedTuple):
    """A batch of P sequences: classes (P, N) and their labels (P, N)."""

    classes: Int[Array, "P N"]
    labels: Int[Array, "P N"]


class FactorSequences(NamedTuple):
    """A batch of P sequences: values of all factors (P, N, F), labels (P, N), and the factor that counts (P,)."""

    values: Int[Array, "P N F"]
    labels: Int[Array, "P N"]
    factor: Int[Array, " P"]


def task_table(key, tasks: int, classes: int, labels: int) -> Int[Array, "M K"]:
    """Tasks in rows, the label of each class independent and uniform."""
    for name, value in dict(tasks=tasks, classes=classes, labels=labels).items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return jax.random.randint(key, (tasks, classes), 0, labels)


def task_sequences(key, table: Int[Array, "M K"], known, batch: int, context: int) -> Sequences:
    """Each sequence of one of the first `known` tasks of the table, which may be traced; classes with replacement."""
    of_tasks, of_classes = jax.random.split(key)
    task = table[jax.random.randint(of_tasks, (batch,), 0, known)]
    classes = jax.random.randint(of_classes, (batch, context), 0, table.shape[1])
    return Sequences(classes, jnp.take_along_axis(task, classes, axis=1))


def fresh_task_sequences(key, batch: int, context: int, classes: int, labels: int) -> Sequences:
    """Each sequence of a task that is drawn for it."""
    of_tasks, of_classes = jax.random.split(key)
    task = task_table(of_tasks, batch, classes, labels)
    seen = jax.random.randint(of_classes, (batch, context), 0, classes)
    return Sequences(seen, jnp.take_along_axis(task, seen, axis=1))


def factor_sequences(key, batch: int, context: int, factors: int, values: int, labels: int) -> FactorSequences:
    """Values independent and uniform; a uniform factor and a uniform map of its values to labels for each sequence."""
    for name, value in dict(context=context, factors=factors, values=values, labels=labels).items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    of_values, of_factor, of_map = jax.random.split(key, 3)
    items = jax.random.randint(of_values, (batch, context, factors), 0, values)
    factor = jax.random.randint(of_factor, (batch,), 0, factors)
    given = jnp.take_along_axis(items, factor[:, None, None], axis=2)[..., 0]
    table = task_table(of_map, batch, values, labels)
    return FactorSequences(items, jnp.take_along_axis(table, given, axis=1), factor)


def item_numbers(values: Int[Array, "P N F"], size: int) -> Int[Array, "P N"]:
    """Items numbered by their values, `size` of each factor: from 0 to size^F - 1."""
    number = jnp.zeros(values.shape[:2], values.dtype)
    for factor in range(values.shape[2]):
        number = number * size + values[..., factor]
    return number


def tokens(items: Int[Array, "P N"], labels: Int[Array, "P N"], kinds: int) -> Int[Array, "P T"]:
    """Items and labels in turn, T = 2 N - 1: labels are numbered after the `kinds` of items, the last one is left out.

    A causal network is asked for the labels at every other token, from the first.
    """
    return _in_turn(items, labels + kinds)


def query_tokens(items: Int[Array, "P N"], labels: Int[Array, "P N"], kinds: int, outputs: int) -> Int[Array, "P T"]:
    """Items, each followed by itself with its label, T = 2 N - 1: one token for item and label, the last one left out.

    Numbered by item, of so many `kinds`, and then by item and label, of which there are `outputs`.
    """
    return _in_turn(items, kinds + items * outputs + labels)


def token_features(size: int, factors: int, outputs: int, visible: tuple[int, ...]) -> Float[Array, "T D"]:
    """What the tokens of `query_tokens` show: a feature for each value of each visible factor, label, and query.

    An embedding of tokens as a sum over their features is this matrix times one row for each of them.
    """
    number = jnp.arange(size**factors)
    digits = jnp.stack([number // size ** (factors - 1 - f) % size for f in range(factors)], axis=1)
    shown = jnp.zeros(factors).at[jnp.array(visible, int)].set(1.0)
    values = (jax.nn.one_hot(digits, size) * shown[:, None]).reshape(len(number), -1)
    labels = jnp.pad(jnp.eye(outputs), ((0, 0), (0, 1)))
    query = jnp.zeros((len(number), outputs + 1)).at[:, -1].set(1.0)
    pairs = jnp.concatenate([jnp.repeat(values, outputs, axis=0), jnp.tile(labels, (len(number), 1))], axis=1)
    return jnp.concatenate([jnp.concatenate([values, query], axis=1), pairs])


def _in_turn(first, second):
    return jnp.stack([first, second], axis=2).reshape(len(first), -1)[:, :-1]
