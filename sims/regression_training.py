"""A network trained on prompts of regression, whose outputs on fixed test prompts are recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sims.engine import Hyper, Simulation
from sims.networks.regression_transformer import regression_transformer
from sims.training import training

Drawn = tuple[Float[Array, "P N d"], Float[Array, "P N"]]


def regression_training(
    drawn: Callable[[jax.Array, Hyper], Drawn],
    dimension: int,
    context: int,
    *,
    steps: int,
    lr: float = 3e-3,
    width: int = 32,
    layers: int = 3,
    network: Callable[..., Any] = regression_transformer,
) -> Simulation:
    """Squared error at all positions, by Adam with clipped gradients, a short warm-up and a cosine decay over `steps`.

    `drawn(key, hyper)` gives inputs and labels of one step; hyperparameters `x` and `y` are the test prompts, on which
    outputs are recorded. Everything is float32. `network(key, dimension, context, width=, layers=)` gives an untrained
    model, which is called as model(x, y).
    """
    rate = optax.warmup_cosine_decay_schedule(0.0, lr, max(steps // 20, 1), steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def untrained(key, _):
        return jax.tree.map(jnp.float32, network(key, dimension, context, width=width, layers=layers))

    def loss(model, seen):
        x, y = seen
        return jnp.mean((model(x, y) - y) ** 2)

    def batch(key, hyper):
        return tuple(part.astype(jnp.float32) for part in drawn(key, hyper))

    return training(untrained, loss, lambda _: optimiser, batch, lambda model, hyper: model(hyper["x"], hyper["y"]))
