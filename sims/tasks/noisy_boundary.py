"""Labels y = sign(x_1) with few or many samples near the boundary, and the perceptron that learns them."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Perceptron(eqx.Module):
    """f(x) = w . x / sqrt(d)."""

    weights: Float[Array, " d"]

    def __call__(self, x: Float[Array, "*P d"]) -> Float[Array, "*P"]:
        """Outputs for inputs in rows."""
        return x @ self.weights / jnp.sqrt(self.weights.size)


def boundary_samples(key, samples: int, inputs: int, chi) -> tuple[Float[Array, "P d"], Float[Array, " P"]]:
    """Inputs in rows and labels: |x_1| of density ~ z^chi e^{-z^2/2}, a fair sign, all else standard normal."""
    near, sign, rest = jax.random.split(key, 3)
    x = jax.random.normal(rest, (samples, inputs))
    distance = jnp.sqrt(2 * jax.random.gamma(near, (1 + chi) / 2, (samples,)))
    y = jnp.where(jax.random.bernoulli(sign, shape=(samples,)), 1.0, -1.0).astype(x.dtype)
    return x.at[:, 0].set(y * distance), y


def hinge(output: Float[Array, "*P"], y: Float[Array, "*P"], margin: float = 1.0) -> Float[Array, ""]:
    """Mean of max(0, margin - y f)."""
    return jnp.mean(jnp.maximum(0.0, margin - y * output))
