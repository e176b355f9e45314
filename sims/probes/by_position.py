"""How well labels are predicted at each position, by a network or by anything that gives probabilities."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int


def losses(log_p: Float[ArrayLike, "... C"], answers: Int[ArrayLike, "..."]) -> Float[Array, "..."]:
    """-ln p of the right label, in nats: one number for each sequence and position. Answers broadcast against laws."""
    return -_of_answers(jnp.asarray(log_p), answers)


def hits(log_p: Float[ArrayLike, "... C"], answers: Int[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Chance that the likeliest label is the right one: 0 or 1, shared where several are likeliest to a millionth."""
    log_p = jnp.asarray(log_p)
    near = log_p >= jnp.max(log_p, axis=-1, keepdims=True) - 1e-6
    return _of_answers(near, answers) / jnp.sum(near, axis=-1)


def _of_answers(each, answers):
    return jnp.take_along_axis(each, jnp.broadcast_to(answers, each.shape[:-1])[..., None], axis=-1)[..., 0]


def shown(items: Int[Array, "P N"]) -> Float[Array, "P N"]:
    """Whether an item stands already before its position: 1 or 0."""
    same = items[:, :, None] == items[:, None, :]
    return jnp.any(jnp.tril(same, -1), axis=-1).astype(float)


def divergence(log_p: Float[ArrayLike, "... C"], log_q: Float[ArrayLike, "... C"]) -> Float[Array, "..."]:
    """Relative entropy sum_c p ln(p / q), in nats: how far q is from p, zero only where they agree. Both broadcast."""
    log_p, log_q = jnp.asarray(log_p), jnp.asarray(log_q)
    p = jnp.exp(log_p)
    return jnp.sum(jnp.where(p > 0, p * (log_p - log_q), 0.0), axis=-1)
