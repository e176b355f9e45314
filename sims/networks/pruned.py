"""Networks with weights taken out: the smallest ones by magnitude, and training with what is left."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Pruned(eqx.Module):
    """A network of which only the weights where `masks` is one take part; the others are zero and stay so.

    `masks` has the network's structure. It is no weight: its gradient is zero, and so is that of a pruned weight.
    Optimisers that decay weights would shrink it: leave it out of them.
    """

    network: Any
    masks: Any

    def __call__(self, x):
        return masked(self.network, jax.lax.stop_gradient(self.masks))(x)


def magnitude_masks(network: Any, density, scope: str = "global") -> Any:
    """One where a weight is among the largest by magnitude, of the network's structure; its dtype is the weights'.

    Of all entries of matrices the share `density`, rounded to a whole number, is kept; ranks run over all matrices
    together ("global") or in each ("layer"). Biases are all kept. `density` may be traced.
    """
    if scope not in ("global", "layer"):
        raise ValueError(f"scope must be 'global' or 'layer', got {scope!r}")
    leaves, structure = jax.tree.flatten(network)
    prunable = [leaf for leaf in leaves if leaf.ndim > 1]
    if scope == "global":
        flat = _largest(jnp.concatenate([jnp.ravel(leaf) for leaf in prunable]), density)
        ends = [sum(leaf.size for leaf in prunable[: i + 1]) for i in range(len(prunable))]
        parts = jnp.split(flat, ends[:-1])
    else:
        parts = [_largest(jnp.ravel(leaf), density) for leaf in prunable]
    kept = iter(parts)
    masks = [
        next(kept).reshape(leaf.shape).astype(leaf.dtype) if leaf.ndim > 1 else jnp.ones_like(leaf) for leaf in leaves
    ]
    return jax.tree.unflatten(structure, masks)


def pruned(network: Any, density, scope: str = "global") -> Pruned:
    """`network` with the smallest weights at zero, ready to be trained further: see `magnitude_masks`."""
    masks = magnitude_masks(network, density, scope)
    return Pruned(masked(network, masks), masks)


def masked(network: Any, masks: Any) -> Any:
    """`network` with its weights times `masks`."""
    return jax.tree.map(jnp.multiply, network, masks)


def _largest(values, density):
    """One at the largest magnitudes; among equal ones the first win, so that the number is exact."""
    order = jnp.argsort(-jnp.abs(values), stable=True)
    rank = jnp.zeros(values.size, int).at[order].set(jnp.arange(values.size))
    return rank < jnp.round(density * values.size)
