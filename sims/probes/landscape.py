"""What the loss does between two networks and around one: losses and curvature on a straight path, Hessian trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.probes.sharpness import hessian_vector


def between(first: Any, second: Any, t) -> Any:
    """(1 - t) first + t second, of all arrays of two networks of one structure."""
    return jax.tree.map(lambda a, b: (1 - t) * a + t * b, first, second)


def path_losses(loss: Callable[[Any], jax.Array], first: Any, second: Any, points: int = 11) -> Float[Array, " K"]:
    """`loss` at `points` equally spaced networks on the straight path, both ends among them."""
    if points < 3:
        raise ValueError(f"points must be at least 3, got {points}")
    return jax.vmap(lambda t: loss(between(first, second, t)))(jnp.linspace(0, 1, points))


def path_curvature(loss: Callable[[Any], jax.Array], first: Any, second: Any) -> Float[Array, ""]:
    """Second derivative of `loss` on the path by t from 0 to 1, half-way: d^T H d with d = second - first."""
    apart = jax.tree.map(jnp.subtract, second, first)
    image = hessian_vector(loss, between(first, second, 0.5), apart)
    return sum(jnp.sum(d * h) for d, h in zip(jax.tree.leaves(apart), jax.tree.leaves(image), strict=True))


def hessian_trace(
    loss: Callable[[Any], jax.Array], model: Any, key: jax.Array, probes: int = 20
) -> Float[Array, " probes"]:
    """Trace of the Hessian by each of `probes` random sign vectors v: v^T H v (Hutchinson). Their mean is unbiased.

    All are returned, for their scatter is the error; on a diagonal Hessian there is none.
    """
    leaves, structure = jax.tree.flatten(model)

    def probe(key):
        keys = jax.random.split(key, len(leaves))
        signs = [jax.random.rademacher(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)]
        image = hessian_vector(loss, model, jax.tree.unflatten(structure, signs))
        return sum(jnp.sum(v * h) for v, h in zip(signs, jax.tree.leaves(image), strict=True))

    return jax.lax.map(probe, jax.random.split(key, probes))
