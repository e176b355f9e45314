"""Strings from random tree sources: the next symbol depends on a past of varying length, in a way drawn for each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def random_tree_sources(key, batch: int, symbols: int, depth: int, stop=0.5, prior=0.5) -> Float[Array, "P C m"]:
    """For each source the law of the next symbol after each of the C = m^D pasts of D symbols.

    A node above depth D is a leaf with probability `stop`; each leaf has a law of its own, of a symmetric Dirichlet
    distribution. Pasts are numbered with the latest symbol in the lowest place: x_{t-1} + m x_{t-2} + ...
    """
    of_stops, of_laws = jax.random.split(key)
    pasts = jnp.arange(symbols**depth)
    keys = jax.random.split(of_laws, depth + 1)

    def laws(d):
        shape = (batch, symbols**d, symbols)
        # Squares of normal variables are gamma variables of shape 1/2, without rejections.
        squares = prior == 0.5
        drawn = jax.random.normal(keys[d], shape) ** 2 if squares else jax.random.gamma(keys[d], prior, shape)
        return (drawn / jnp.sum(drawn, axis=-1, keepdims=True))[:, pasts % symbols**d]

    found = laws(depth)
    for d in reversed(range(depth)):
        ends = jax.random.uniform(jax.random.fold_in(of_stops, d), (batch, symbols**d)) < stop
        found = jnp.where(ends[:, pasts % symbols**d, None], laws(d), found)
    return found


def tree_strings(key, sources: Float[Array, "P C m"], past: Int[Array, "P D"], length: int) -> Int[Array, "P T"]:
    """One string of each source, after `past`, whose latest symbol is the last."""
    pasts, symbols = sources.shape[1:]
    places = symbols ** jnp.arange(past.shape[1])
    chance = jax.random.uniform(key, (length, len(sources)))

    def step(code, chance):
        law = jnp.take_along_axis(sources, code[:, None, None], axis=1)[:, 0]
        symbol = jnp.sum(chance[:, None] >= jnp.cumsum(law, axis=1)[:, :-1], axis=1)
        return (symbol + symbols * code) % pasts, symbol

    _, drawn = jax.lax.scan(step, jnp.sum(past[:, ::-1] * places, axis=1) % pasts, chance)
    return drawn.T
