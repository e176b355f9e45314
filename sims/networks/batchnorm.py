"""Networks with BatchNorm before every activation, of which nothing but BatchNorm is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class NormedMLP(eqx.Module):
    """h^{l+1} = W^{l+1} phi(gamma u + beta) / sqrt(n), u = (h - mean) / deviation, on samples in rows.

    Scales gamma and shifts beta are trained. Weights and statistics are what they were at the start: BatchNorm with
    frozen running statistics.
    """

    scales: tuple[Float[Array, " _"], ...]
    shifts: tuple[Float[Array, " _"], ...]
    weights: tuple[Float[Array, "_ _"], ...]
    means: tuple[Float[Array, " _"], ...]
    deviations: tuple[Float[Array, " _"], ...]
    activation: Callable = eqx.field(static=True, default=jax.nn.relu)

    def __call__(self, x: Float[Array, "P d"]) -> Float[Array, "P C"]:
        """Outputs, without an activation on them."""
        weights, means, deviations = jax.lax.stop_gradient((self.weights, self.means, self.deviations))
        h = x
        for i, w in enumerate(weights):
            h = _spread(w, h)
            if i < len(means):
                h = self.activation(self.scales[i] * (h - means[i]) / deviations[i] + self.shifts[i])
        return h


def normed_mlp(
    key, widths: Sequence[int], population: Float[Array, "P d"], activation: Callable = jax.nn.relu
) -> NormedMLP:
    """Weights N(0, 1), scales 1, shifts 0; each unit is normalised by its own statistics over the `population`."""
    shapes = zip(widths[1:], widths[:-1], strict=True)
    keys = jax.random.split(key, len(widths) - 1)
    weights = tuple(jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))
    h, means, deviations = population, [], []
    for w in weights[:-1]:
        h = _spread(w, h)
        means.append(jnp.mean(h, axis=0))
        deviations.append(jnp.std(h, axis=0))
        h = activation((h - means[-1]) / deviations[-1])
    ones = tuple(jnp.ones(n) for n in widths[1:-1])
    zeros = tuple(jnp.zeros(n) for n in widths[1:-1])
    return NormedMLP(ones, zeros, weights, tuple(means), tuple(deviations), activation)


def norm_kernel(network: NormedMLP, x: Float[Array, "P d"]) -> Float[Array, "P P"]:
    """Empirical tangent kernel J J^T of the scales and shifts alone; one output."""

    def outputs(norms):
        scales, shifts = norms
        moved = NormedMLP(scales, shifts, network.weights, network.means, network.deviations, network.activation)
        return moved(x)[:, 0]

    jacobians = jax.jacrev(outputs)((network.scales, network.shifts))
    return sum(j @ j.T for j in jax.tree.leaves(jacobians))


def _spread(w: Float[Array, "n_out n_in"], h: Float[Array, "P n_in"]) -> Float[Array, "P n_out"]:
    return h @ w.T / w.shape[1] ** 0.5
