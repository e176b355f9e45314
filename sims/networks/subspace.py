"""Training in a random subspace: any network, of which only d random directions of its parameters can move."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Subspace(eqx.Module):
    """theta = theta_0 + sum_j phi_j g_j: the coordinates phi are trained, the start and the directions are not.

    `start` is a network, `directions` a network of arrays with a leading axis of directions.
    """

    coordinates: Float[Array, " most"]
    start: Any
    directions: Any

    def network(self) -> Any:
        """The network at the present coordinates."""
        fixed = jax.lax.stop_gradient((self.start, self.directions))
        return jax.tree.map(lambda w, g: w + jnp.tensordot(self.coordinates, g, axes=1), *fixed)

    def __call__(self, x: Float[Array, "*P d"]) -> Float[Array, "*P C"]:
        """The outputs of that network."""
        return self.network()(x)


def subspace(key, start: Any, most: int, dimension=None) -> Subspace:
    """`most` random directions of unit length from `start`; only the first `dimension` (all, if None) can move.

    The others are zero, so that runs of different dimension share one shape.
    """
    leaves, form = jax.tree.flatten(start)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, (most, *w.shape)) for k, w in zip(keys, leaves, strict=True)]
    length = jnp.sqrt(sum(jnp.sum(g.reshape(most, -1) ** 2, axis=1) for g in drawn))
    used = jnp.arange(most) < (most if dimension is None else dimension)
    scale = jnp.where(used, 1 / length, 0.0)
    directions = [g * scale.reshape(-1, *[1] * (g.ndim - 1)) for g in drawn]
    return Subspace(jnp.zeros(most), start, jax.tree.unflatten(form, directions))


class Quadratic(eqx.Module):
    """Parameters of a quadratic loss, the simplest network there is."""

    theta: Float[Array, " D"]

    def loss(self, curvatures: Float[Array, " s"], target: Float[Array, " s"]) -> Float[Array, ""]:
        """1/2 sum_i curvature_i (theta_i - target_i)^2 over the first s parameters; the others are flat."""
        return 0.5 * jnp.sum(curvatures * (self.theta[: len(target)] - target) ** 2)
