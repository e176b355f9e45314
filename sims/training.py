"""Loss, optimiser and sampler put together into a `Simulation` that trains a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from sims.engine import Hyper, Simulation

Model = Any
Batch = Any


class Training(eqx.Module):
    """The state of a training run: what is learned, and what the next step needs."""

    model: Model
    optimiser: Any
    hyper: Hyper
    key: jax.Array
    count: jax.Array


def training(
    network: Callable[[jax.Array, Hyper], Model],
    loss: Callable[[Model, Batch], jax.Array],
    optimiser: Callable[[Hyper], optax.GradientTransformation],
    batch: Callable[[jax.Array, Hyper], Batch],
    record: Callable[[Model, Hyper], Any],
    prepare: Callable[[jax.Array, Hyper], Hyper] | None = None,
) -> Simulation:
    """A `Simulation` that trains `network(key, hyper)` on `loss(model, batch)`.

    `batch(key, hyper)` draws the data of one step on the device from `fold_in(key, step)`, so that any step can be
    drawn again by anyone; full-batch training ignores the key and returns the data. `record(model, hyper)` is
    evaluated at the recorded steps. A network is a pytree of arrays (what is static is an `eqx.field(static=True)`).
    `prepare(key, hyper)` draws, once for each run, what the data are made of (class means, a teacher): the others are
    given its result in place of the hyperparameters, the network as well.
    """

    def init(key, hyper):
        network_key, batch_key = jax.random.split(key)
        if prepare is not None:
            batch_key, once = jax.random.split(batch_key)
            hyper = prepare(once, hyper)
        model = network(network_key, hyper)
        return Training(model, optimiser(hyper).init(model), hyper, batch_key, jnp.zeros((), jnp.int32))

    def step(state):
        now = batch(jax.random.fold_in(state.key, state.count), state.hyper)
        gradient = jax.grad(loss)(state.model, now)
        updates, optimiser_state = optimiser(state.hyper).update(gradient, state.optimiser, state.model)
        model = optax.apply_updates(state.model, updates)
        return Training(model, optimiser_state, state.hyper, state.key, state.count + 1)

    return Simulation(init, step, lambda state: record(state.model, state.hyper))


def gradient_descent(
    network: Callable[[jax.Array, Hyper], Model],
    loss: Callable[[Model], jax.Array],
    lr: float | str,
    record: Callable[[Model, Hyper], Any],
) -> Simulation:
    """Full-batch gradient descent on `loss(model)` with step `lr`: a number, or the hyperparameter of that name."""
    return training(
        network,
        lambda model, _: loss(model),
        lambda hyper: optax.sgd(hyper[lr] if isinstance(lr, str) else lr),
        lambda _, __: None,
        record,
    )
