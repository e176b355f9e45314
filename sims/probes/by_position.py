"""How well labels are predicted at each position, by a network or by anything that gives probabilities."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def losses(log_p: Float[Array, "P N C"], answers: Int[Array, "P N"]) -> Float[Array, "P N"]:
    """-ln p of the right label, in nats: one number for each sequence and position."""
    return -jnp.take_along_axis(log_p, answers[..., None], axis=-1)[..., 0]


def hits(log_p: Float[Array, "P N C"], answers: Int[Array, "P N"]) -> Float[Array, "P N"]:
    """Chance that the likeliest label is the right one: 0 or 1, shared where several are likeliest to a millionth."""
    near = log_p >= jnp.max(log_p, axis=-1, keepdims=True) - 1e-6
    right = jnp.take_along_axis(near, answers[..., None], axis=-1)[..., 0]
    return right / jnp.sum(near, axis=-1)


def shown(items: Int[Array, "P N"]) -> Float[Array, "P N"]:
    """Whether an item stands already before its position: 1 or 0."""
    same = items[:, :, None] == items[:, None, :]
    return jnp.any(jnp.tril(same, -1), axis=-1).astype(float)


def divergence(log_p: Float[Array, "P N C"], log_q: Float[Array, "P N C"]) -> Float[Array, "P N"]:
    """Relative entropy sum_c p ln(p / q), in nats: how far q is from p, zero only where they agree."""
    p = jnp.exp(log_p)
    return jnp.sum(jnp.where(p > 0, p * (log_p - log_q), 0.0), axis=-1)
