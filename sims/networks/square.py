"""Two-layer networks with the activation z^2 and without biases, and their readout by ridge regression."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class SquareNetwork(eqx.Module):
    """f(x) = V (W x)^2: `hidden` W is (K, D), `readout` V is (M, K)."""

    hidden: Float[Array, "K D"]
    readout: Float[Array, "M K"]

    def __call__(self, x: Float[Array, "P D"]) -> Float[Array, "P M"]:
        """Outputs for inputs in rows."""
        return square_features(self.hidden, x) @ self.readout.T


def square_network(key, inputs: int, nodes: int, outputs: int) -> SquareNetwork:
    """Entries uniform between -1 and 1 over the square root of the width below."""
    first, second = jax.random.split(key)
    hidden = jax.random.uniform(first, (nodes, inputs), minval=-1, maxval=1) / inputs**0.5
    readout = jax.random.uniform(second, (outputs, nodes), minval=-1, maxval=1) / nodes**0.5
    return SquareNetwork(hidden, readout)


def square_features(hidden: Float[Array, "K D"], x: Float[Array, "P D"]) -> Float[Array, "P K"]:
    """Outputs of the hidden nodes."""
    return (x @ hidden.T) ** 2


def centred(values: Float[Array, "P K"]) -> Float[Array, "P K"]:
    """Less the mean over samples."""
    return values - jnp.mean(values, axis=0)


def ridge_readout(features: Float[Array, "P K"], y: Float[Array, "P M"], decay) -> Float[Array, "M K"]:
    """The readout that makes |Y - F V^T|^2 / 2 + decay |V|^2 / 2 least, a sum over samples."""
    gram = features.T @ features + decay * jnp.eye(features.shape[1])
    return jnp.linalg.solve(gram, features.T @ y).T


def ridge_loss(hidden: Float[Array, "K D"], x: Float[Array, "P D"], y: Float[Array, "P M"], decay) -> Float[Array, ""]:
    """The loss of hidden nodes whose readout is that one, features and labels centred over samples.

    The readout is held while the gradient is taken: at its minimum this changes nothing.
    """
    features, y = centred(square_features(hidden, x)), centred(y)
    readout = jax.lax.stop_gradient(ridge_readout(features, y, decay))
    return 0.5 * jnp.sum((y - features @ readout.T) ** 2) + 0.5 * decay * jnp.sum(readout**2)
