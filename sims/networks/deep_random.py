"""Very deep networks at the start: what two inputs become from layer to layer, and training relative to the start."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def preactivation_moments(
    key,
    x: Float[Array, "P d"],
    depth: int,
    width: int,
    activation: Callable,
    weight_variance,
    bias_variance,
) -> Float[Array, "depth P P"]:
    """Second moments of the preactivations of each layer, over its units, in one random network.

    h^1 = sigma_w W x / sqrt(d) + sigma_b b,   h^{l+1} = sigma_w W phi(h^l) / sqrt(n) + sigma_b b,   all N(0, 1).
    Layers are drawn as they are passed: a network of any depth takes the memory of one layer.
    """

    def layer(key, inputs):
        weights, biases = jax.random.split(key)
        w = jax.random.normal(weights, (inputs.shape[1], width), x.dtype)
        b = jax.random.normal(biases, (width,), x.dtype)
        return jnp.sqrt(weight_variance / inputs.shape[1]) * inputs @ w + jnp.sqrt(bias_variance) * b

    def step(h, key):
        return layer(key, activation(h)), h @ h.T / width

    first, *_ = keys = jax.random.split(key, depth + 1)
    return jax.lax.scan(step, layer(first, x), keys[1:])[1]


class SinceStart(eqx.Module):
    """A network minus its own output at the start on its training inputs: it begins at zero, and learns as before."""

    network: eqx.Module
    start: Float[Array, "P C"]

    def __call__(self, x: Float[Array, "P d"]) -> Float[Array, "P C"]:
        """Outputs on the training inputs."""
        return self.network(x) - jax.lax.stop_gradient(self.start)
