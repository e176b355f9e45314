"""Sparse linear regression: few of many features matter, and there are fewer samples than features."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class SparseRegression(NamedTuple):
    """Inputs (n, d), targets (n,), and the coefficients (d,) behind them."""

    x: Float[Array, "n d"]
    y: Float[Array, " n"]
    beta: Float[Array, " d"]


def sparse_regression(key, samples: int, features: int, values, noise=0.0) -> SparseRegression:
    """Gaussian inputs; the given `values` sit on features drawn at random, noise of that deviation on the targets."""
    key_x, key_place, key_noise = jax.random.split(key, 3)
    values = jnp.asarray(values, float)
    x = jax.random.normal(key_x, (samples, features))
    places = jax.random.choice(key_place, features, values.shape, replace=False)
    beta = jnp.zeros(features).at[places].set(values)
    return SparseRegression(x, x @ beta + noise * jax.random.normal(key_noise, (samples,)), beta)
