"""Strings of symbols from urns: a fresh urn for each string, or one of a fixed pool."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def random_urns(key, count: int, symbols: int, concentration: float = 1.0) -> Float[Array, "P K"]:
    """Urns from a symmetric Dirichlet law; concentration 1 is uniform on the simplex."""
    shape = (count, symbols)
    # Exponentials are gamma variables of shape 1, without rejections.
    draws = jax.random.exponential(key, shape) if concentration == 1 else jax.random.gamma(key, concentration, shape)
    return draws / jnp.sum(draws, axis=1, keepdims=True)


def pooled_urns(key, pool: Float[Array, "M K"], batch: int, known=None) -> Float[Array, "P K"]:
    """Urns of a pool, uniform and with replacement: of its first `known` ones, which may be traced, or of all."""
    return pool[jax.random.randint(key, (batch,), 0, len(pool) if known is None else known)]


def urn_strings(key, urns: Float[Array, "P K"], length: int) -> Int[Array, "P T"]:
    """One string from each urn, drawn with replacement."""
    chance = jax.random.uniform(key, (len(urns), length))
    # The symbol at which the cumulative probability passes the chance; the last takes what rounding leaves.
    edges = jnp.cumsum(urns, axis=1)[:, :-1]
    return jnp.sum(chance[:, :, None] >= edges[:, None, :], axis=-1)
