"""What hidden nodes have learned of a group: power in each representation, frequencies and their phases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int


class Modes(NamedTuple):
    """The strongest frequency of nodes on a cyclic group, u(g) ~ cos(2 pi k g / M + phase).

    `frequency` k from 1 on, (K,); `share` of the squared norm that is in it, (K,); `phase` (K,).
    """

    frequency: Int[Array, " K"]
    share: Float[Array, " K"]
    phase: Float[Array, " K"]


def irrep_shares(
    weights: Float[Array, "*nodes M"], irreps: Sequence[Complex[Array, "M _ _"]]
) -> Float[Array, "*nodes irreps"]:
    """Fraction of each node's squared norm in the span of the entries of each representation's matrices.

    `irreps` are matrices of all elements, one representation of each pair of conjugates; then fractions sum to one.
    """
    powers = []
    for matrices in irreps:
        entries = matrices.reshape(matrices.shape[0], -1)
        left, s, _ = jnp.linalg.svd(jnp.concatenate([entries.real, entries.imag], axis=1), full_matrices=False)
        basis = left * (s > 1e-6 * s[0])
        powers.append(jnp.sum((weights @ basis) ** 2, axis=-1))
    return jnp.stack(powers, axis=-1) / jnp.sum(weights**2, axis=-1, keepdims=True)


def strongest_modes(weights: Float[Array, "K M"], power: Float[Array, "K F"] | None = None) -> Modes:
    """The strongest frequency of each node, by its own `frequency_power` or by the one given."""
    own = frequency_power(weights)
    place = jnp.argmax(own if power is None else power, axis=1)
    chosen = jnp.take_along_axis(own, place[:, None], axis=1)[:, 0]
    size = jnp.sum(weights**2, axis=1)
    turned = jnp.take_along_axis(jnp.fft.rfft(weights, axis=1)[:, 1:], place[:, None], axis=1)[:, 0]
    return Modes(place + 1, chosen / jnp.where(size > 0, size, 1), jnp.angle(turned))


def frequency_power(weights: Float[Array, "K M"]) -> Float[Array, "K F"]:
    """Squared norm of each node's part of frequency k = 1 .. M/2: with that of the mean they sum to |w|^2."""
    order = weights.shape[1]
    power = jnp.abs(jnp.fft.rfft(weights, axis=1)[:, 1:]) ** 2 / order
    # A frequency stands for itself and its negative, but M/2 is its own.
    double = jnp.arange(1, order // 2 + 1) * 2 != order
    return power * jnp.where(double, 2, 1).astype(power.dtype)
