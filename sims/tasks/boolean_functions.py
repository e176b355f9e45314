"""Conjunctions to be learned in context: hidden literals, inputs that are sometimes made to satisfy them, labels."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Examples(NamedTuple):
    """P sequences of N inputs, +1 and -1, (P, N, d), labels 0 and 1, (P, N), and the literals behind them, (P, d)."""

    x: Float[Array, "P N d"]
    y: Float[Array, "P N"]
    literals: Int[Array, "P d"]


def conjunctions(key, batch: int, examples: int, dimension: int, absent: float, forced: float) -> Examples:
    """Every literal absent, or of either sign; an input keeps the signs asked for with probability `forced`."""
    of_literal, of_sign, of_input, of_force = jax.random.split(key, 4)
    present = ~jax.random.bernoulli(of_literal, absent, (batch, dimension))
    w = present * jax.random.rademacher(of_sign, (batch, dimension), jnp.int32)
    x = jax.random.rademacher(of_input, (batch, examples, dimension), jnp.int32)
    force = jax.random.bernoulli(of_force, forced, (batch, examples))
    x = jnp.where(force[..., None] & present[:, None], w[:, None], x)
    y = jnp.all(~present[:, None] | (x == w[:, None]), axis=-1)
    return Examples(x.astype(float), y.astype(float), w)
