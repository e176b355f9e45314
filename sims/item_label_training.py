"""Attention-only networks trained on items and labels: one compiled program for all statistics of the data.

What changes shapes is an argument of `training_of`, what does not a hyperparameter: `classes`, `bursty`, `exponent`,
`variation`, `novel`, `lr`, the clamps `previous`, `match`, `copy` (0 or 1), `forget` (steps between resets) and
`forget_until`. Those that are absent are the task's, or have the values below: numbers that are known make for a
smaller program than hyperparameters do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sims.engine import Simulation
from sims.networks.attention_only import AttentionOnly, Reading, attention_only
from sims.probes import induction
from sims.tasks.item_label import ItemLabel, Sequences, World, sequences, tokens, world
from sims.training import training

DEFAULTS = dict(
    lr=0.3,
    previous=0.0,
    match=0.0,
    copy=0.0,
    forget=0,
    forget_until=0,
)

# What is tested in the course of training.
TESTS = ("novel", "swapped", "weights")


class Learner(eqx.Module):
    """A network, and the table of class vectors where that is learned, too."""

    network: AttentionOnly
    table: Float[Array, "K D"] | None = None


def training_of(
    task: ItemLabel,
    dimension: int,
    *,
    rows: int | None = None,
    trained_table: bool = False,
    clamped: bool = False,
    batch: int = 128,
    tests: int = 400,
    tested: tuple[str, ...] = TESTS,
    measured: bool = True,
    dtype=jnp.float32,
    network: Callable[..., Any] = attention_only,
    adam: bool = False,
    **switches,
) -> Simulation:
    """Stochastic gradient descent (or Adam) on fresh sequences, with `rows` class vectors, task.classes by default.

    `network` is called as `attention_only` is, with the `switches`.

    Records: `progress` on novel classes (measures of `sims.probes.induction`) unless `measured` is false; `novel`,
    `swapped`, `weights`: accuracy on novel classes, on trained classes with changed labels, and on trained classes that
    need not be in the context; of these those that are `tested`, "novel" first.
    """
    if tested[:1] != TESTS[:1] or not set(tested) <= set(TESTS):
        raise ValueError(f"tested must be some of {TESTS}, the first of them first, got {tested!r}")
    # A number of classes that is traced is refused by `world`.
    size: Any = task.classes if rows is None else rows

    def prepare(key, hyper):
        # A stream of its own: what is drawn anew must not be what was drawn at first.
        forget_key = jax.random.fold_in(key, 2**31 - 1)
        seen = world(key, _task(task, hyper), dimension, size, dtype)
        # A program that draws them at every record takes longer to compile, and to run.
        once = {} if trained_table else {"tests": _tests(seen, task, hyper, tests, tested)}
        return hyper | {"world": seen, "forget_key": forget_key} | once

    def untrained(key, settings):
        made = network(key, dimension, task.places, task.labels, dtype=dtype, **switches)
        return Learner(made, settings["world"].means if trained_table else None)

    def loss(model, key_and_settings):
        key, settings = key_and_settings
        seen = _world(model, settings)
        drawn = sequences(key, _task(task, settings), seen, batch)
        reading = read(model.network, drawn, seen, settings if clamped else None)
        return induction.negative_log_likelihood(reading, drawn)

    def record(model, settings):
        seen = _world(model, settings)
        drawn = settings["tests"] if "tests" in settings else _tests(seen, task, settings, tests, tested)
        reading = read(model.network, drawn, seen, settings if clamped else None)
        right = jnp.argmax(reading.logits, axis=1) == drawn.answer
        found = {name: jnp.mean(right[i * tests : (i + 1) * tests]) for i, name in enumerate(tested)}
        # Progress is that on the first kind.
        first = jax.tree.map(lambda x: x[:tests], (reading, drawn))
        return found | ({"progress": induction.progress(*first)} if measured else {})

    def optimiser(settings):
        settings = DEFAULTS | settings
        descent = optax.adam(settings["lr"]) if adam else optax.sgd(settings["lr"])
        return optax.chain(descent, forgetting(settings)) if trained_table else descent

    return training(untrained, loss, optimiser, lambda key, settings: (key, settings), record, prepare)


def read(network, drawn: Sequences, seen: World, settings=None) -> Reading:
    """What a network makes of sequences; parts of it clamped to their ideals where `settings` say so."""
    clamps = None
    if settings is not None:
        settings = DEFAULTS | settings
        dtype = seen.vectors.dtype
        length = 2 * drawn.match.shape[1] + 1
        clamps = {
            0: (induction.previous_token(length, dtype), jnp.asarray(settings["previous"], dtype)),
            len(network.layers) - 1: (induction.to_match(drawn, dtype), jnp.asarray(settings["match"], dtype)),
        }
    reading = network(tokens(drawn, seen.vectors), drawn.shift, clamps)
    if settings is None:
        return reading
    copied = induction.copied(reading, drawn, reading.logits.shape[1])
    return reading._replace(logits=jnp.where(settings["copy"] > 0, copied.logits, reading.logits))


def forgetting(settings) -> optax.GradientTransformation:
    """Class vectors drawn anew every `forget` steps, while step < `forget_until`: active or temporary forgetting."""

    def update(updates, count, params):
        count = count + 1
        due = (settings["forget"] > 0) & (count % jnp.maximum(settings["forget"], 1) == 0)
        due = due & (count < settings["forget_until"])
        table = params.table
        key = jax.random.fold_in(settings["forget_key"], count)
        fresh = jax.random.normal(key, table.shape, table.dtype) / table.shape[1] ** 0.5
        new = jnp.where(due, fresh - table, updates.table)
        return eqx.tree_at(lambda u: u.table, updates, new), count

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def _task(task, settings, **changes):
    names = ("classes", "bursty", "exponent", "variation", "novel")
    given = {name: settings[name] for name in names if name in settings}
    return dataclasses.replace(task, **(given | changes))


def _world(model, settings):
    drawn = settings["world"]
    return drawn if model.table is None else drawn._replace(means=model.table)


def _tests(seen, task, settings, tests, tested) -> Sequences:
    """The sequences of all tests, `tests` of each kind: the same at every step, other than any of training."""
    kinds = dict(
        novel=_task(task, settings, bursty=1.0, novel=1.0),
        swapped=_task(task, settings, bursty=1.0, novel=0.0, swap=1),
        weights=_task(task, settings, bursty=0.0, novel=0.0),
    )
    keys = dict(zip(kinds, jax.random.split(jax.random.key(2**31 - 1), len(kinds)), strict=True))
    drawn = [sequences(keys[name], kinds[name], seen, tests) for name in tested]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *drawn)
