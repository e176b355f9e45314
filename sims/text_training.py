"""A small transformer trained on pieces of a text that are read anew at every step, under names or classes of letters.

Letters in eight classes of which nobody can know anything beforehand:

    program = text_training(lambda key, x, _: thrown(key, x, 8), 8, 40, width=32, batch=32, lr=1e-2, steps=600)
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from sims.engine import Hyper, Simulation
from sims.networks.transformer import transformer
from sims.probes.by_position import losses
from sims.tasks.renamed_text import random_pieces
from sims.training import training


def text_training(
    read: Callable[[jax.Array, Int[Array, "P T"], Hyper], Int[Array, "P T"]],
    symbols: int,
    length: int,
    *,
    memory: int = 1,
    width: int,
    batch: int,
    lr: float,
    steps: int,
) -> Simulation:
    """One layer, by Adam with a cosine decay over `steps`; what is recorded are log laws before each symbol.

    `read(key, pieces, hyper)` gives the strings of K symbols for pieces of the text. Hyperparameters are `text`,
    (B, block), the blocks that pieces are taken from, and `tests`, (P, T), strings to record the laws on. Tokens hold
    `memory` symbols, the latest and those before it: with two or more, one layer can count what follows what.
    """
    sizes = dict(width=width, layers=1, hidden=2 * width, outputs=symbols)

    def untrained(key, _):
        drawn = transformer(key, (symbols + 1) ** memory, length, **sizes)
        return jax.tree.map(lambda x: x.astype(jnp.float32), drawn)

    def log_p(model, x):
        # One more symbol stands for what is before the string.
        begun = jnp.concatenate([jnp.full((len(x), memory), symbols, x.dtype), x[:, :-1]], axis=1)
        code = sum(begun[:, i : i + length] * (symbols + 1) ** i for i in range(memory))
        return jax.nn.log_softmax(model(code))

    def fresh(key, hyper):
        of_pieces, of_names = jax.random.split(key)
        return read(of_names, random_pieces(of_pieces, hyper["text"], batch, length), hyper)

    return training(
        untrained,
        lambda model, x: jnp.mean(losses(log_p(model, x), x)),
        lambda _: optax.adam(optax.cosine_decay_schedule(lr, steps)),
        fresh,
        lambda model, hyper: log_p(model, hyper["tests"]),
    )
