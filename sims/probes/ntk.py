"""The empirical neural tangent kernel of a network, from its Jacobian, and how far it has moved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def empirical_ntk(network, x: Float[Array, "n_in P"]) -> Float[Array, "M M"]:
    """J J^T, J the Jacobian of all outputs with respect to all weights; row o P + p is output o on sample p.

    `network` is a pytree of arrays that maps inputs in columns to outputs in columns.
    """
    leaves, form = jax.tree.flatten(network)

    def outputs(leaves):
        return jax.tree.unflatten(form, leaves)(x).reshape(-1)

    jacobians = jax.jacrev(outputs)(leaves)
    flat = jnp.concatenate([j.reshape(j.shape[0], -1) for j in jacobians], axis=1)
    return flat @ flat.T


def kernel_distance(before: Float[Array, "M M"], after: Float[Array, "M M"]) -> Float[Array, ""]:
    """1 - the cosine of the angle between two kernels, as half the squared distance of their unit vectors."""
    before, after = before / jnp.linalg.norm(before), after / jnp.linalg.norm(after)
    return 0.5 * jnp.sum((before - after) ** 2)
