"""Order parameters of linear networks."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.networks.deep_linear import DeepLinear


def mode_strengths(
    network: DeepLinear, left: Float[Array, "n_out k"], right: Float[Array, "n_in k"]
) -> Float[Array, " k"]:
    """u_i = left_i . W right_i: how much of each mode the network map holds."""
    return jnp.einsum("ok,oi,ik->k", left, network.product(), right)


def imbalance(network: DeepLinear) -> Float[Array, ""]:
    """Largest entry of W_{l+1}^T W_{l+1} - W_l W_l^T over the layers: zero for a balanced network."""
    pairs = zip(network.weights[:-1], network.weights[1:], strict=True)
    return jnp.max(jnp.stack([jnp.max(jnp.abs(b.T @ b - a @ a.T)) for a, b in pairs]))
