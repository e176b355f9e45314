"""Networks of one hidden ReLU layer of which only the readout is trained. Samples are rows."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


class RandomFeatures(eqx.Module):
    """f(x) = relu(x W) readout / sqrt(k): frozen Gaussian weights W of k features, trained readout."""

    weights: Float[Array, "d k"]
    readout: Float[Array, " k"]

    def features(self, x: Float[Array, "P d"]) -> Float[Array, "P k"]:
        return jax.nn.relu(x @ self.weights) / jnp.sqrt(self.weights.shape[1])

    def __call__(self, x: Float[Array, "P d"]) -> Float[Array, " P"]:
        return self.features(x) @ self.readout


def fitted(
    key, features: int, x: Float[Array, "P d"], y: Float[Array, " P"], ridge: Float[ArrayLike, ""]
) -> RandomFeatures:
    """A network whose readout minimises sum |y - f|^2 + ridge |readout|^2; without a ridge, the shortest that fits."""
    weights = jax.random.normal(key, (x.shape[1], features))
    network = RandomFeatures(weights, jnp.zeros(features))
    h = network.features(x)
    if features < len(x):
        gram = h.T @ h + ridge * jnp.eye(features)
        readout = jnp.linalg.solve(gram, h.T @ y)
    else:
        readout = h.T @ jnp.linalg.solve(h @ h.T + ridge * jnp.eye(len(x)), y)
    return RandomFeatures(weights, readout)
