"""Sequences of Markov chains, a fresh chain for each: rows at random, or all symbols equally frequent."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def random_chains(key, batch: int, symbols: int) -> Float[Array, "P k k"]:
    """Transition matrices of independent rows, uniform on the simplex."""
    draws = jax.random.exponential(key, (batch, symbols, symbols))
    return draws / jnp.sum(draws, axis=-1, keepdims=True)


def doubly_stochastic_chains(key, batch: int, symbols: int) -> Float[Array, "P k k"]:
    """Transition matrices whose columns also sum to one: mixtures of all permutations, with uniform random weights.

    Of two symbols: both change with the same probability, which is uniform.
    """
    permutations = np.stack([np.eye(symbols)[list(order)] for order in itertools.permutations(range(symbols))])
    draws = jax.random.exponential(key, (batch, len(permutations)))
    weights = draws / jnp.sum(draws, axis=-1, keepdims=True)
    return jnp.einsum("np,pij->nij", weights, jnp.asarray(permutations))


def stationary_shares(chains: Float[Array, "P k k"]) -> Float[Array, "P k"]:
    """Share of time in each state, by eliminating one state after the other, which subtracts nothing (GTH 1985)."""
    k, p, steps = chains.shape[-1], chains, []
    for last in range(k - 1, 0, -1):
        inflow = p[:, :last, last] / jnp.sum(p[:, last, :last], axis=1, keepdims=True)
        steps.append(inflow)
        p = p[:, :last, :last] + inflow[:, :, None] * p[:, last, None, :last]
    shares = jnp.ones((len(chains), 1))
    for inflow in reversed(steps):
        shares = jnp.concatenate([shares, jnp.sum(shares * inflow, axis=1, keepdims=True)], axis=1)
    return shares / jnp.sum(shares, axis=1, keepdims=True)


def chain_sequences(key, chains: Float[Array, "P k k"], length: int) -> Int[Array, "P T"]:
    """One sequence of each chain, begun in its stationary distribution."""
    chance = jax.random.uniform(key, (length, len(chains)))

    def drawn(probabilities, chance):
        """The symbol at which the cumulative probability passes `chance`."""
        return jnp.sum(chance[:, None] >= jnp.cumsum(probabilities, axis=1)[:, :-1], axis=1)

    def step(symbol, chance):
        rows = jnp.take_along_axis(chains, symbol[:, None, None], axis=1)[:, 0]
        after = drawn(rows, chance)
        return after, after

    first = drawn(stationary_shares(chains), chance[0])
    _, later = jax.lax.scan(step, first, chance[1:])
    return jnp.concatenate([first[None], later]).T
