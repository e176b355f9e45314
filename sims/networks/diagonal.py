"""Diagonal linear networks: each coefficient is a difference of powers of two weights of its own."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Diagonal(eqx.Module):
    """`u` and `v` (d,); the coefficient of feature i is u_i^depth - v_i^depth."""

    u: Float[Array, " d"]
    v: Float[Array, " d"]
    depth: int = eqx.field(static=True, default=2)

    def coefficients(self) -> Float[Array, " d"]:
        """What multiplies the features."""
        return self.u**self.depth - self.v**self.depth

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """Outputs for samples in rows."""
        return x @ self.coefficients()


def constant(scale, features: int, depth: int = 2) -> Diagonal:
    """Every weight at `scale`: all coefficients start at zero."""
    weights = jnp.full(features, scale)
    return Diagonal(weights, weights, depth)


def mean_squared_error(network: Diagonal, x: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, ""]:
    """The base loss (1/2n) sum over samples of (y - network(x))^2."""
    return 0.5 * jnp.mean((y - network(x)) ** 2)
