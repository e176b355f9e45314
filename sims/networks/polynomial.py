"""Networks of one hidden layer with a fixed readout and a quadratic activation."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


class Polynomial(eqx.Module):
    """f(x) = (scale / N) sum_i phi(w_i . x), phi(h) = h + (curvature / 2) h^2: only the weights are trained."""

    weights: Float[Array, "N D"]
    scale: Float[ArrayLike, ""]
    curvature: Float[ArrayLike, ""]

    def __call__(self, x: Float[Array, "P D"]) -> Float[Array, " P"]:
        """Outputs for inputs in rows."""
        scale, curvature = jax.lax.stop_gradient((jnp.asarray(self.scale), jnp.asarray(self.curvature)))
        h = x @ self.weights.T
        return scale * jnp.mean(h + curvature / 2 * h**2, axis=1)


def polynomial(key, neurons: int, inputs: int, scale, curvature) -> Polynomial:
    """Standard normal weights."""
    weights = jax.random.normal(key, (neurons, inputs))
    return Polynomial(weights, jnp.asarray(scale, weights.dtype), jnp.asarray(curvature, weights.dtype))
