"""Perceptrons with weights of +-1 that are known by their fields: trained in field space, or by message passing.

A weight with the field h is +1 with probability e^h / (2 cosh h). Inputs in rows have entries of variance 1/N.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float


class Fields(NamedTuple):
    """Fields of the weights, and those that were there before the task."""

    field: Float[Array, " N"]
    prior: Float[Array, " N"]


class Messages(NamedTuple):
    """Fields and prior, and what each sample last said, of which the next message must not remind it."""

    field: Float[Array, " N"]
    prior: Float[Array, " N"]
    force: Float[Array, " P"]


def free_energy(field: Float[Array, " N"], prior: Float[Array, " N"], x: Float[Array, "P N"], y: Float[Array, " P"]):
    """- sum ln P(label) for Gaussian margins, + the divergence of the fields from the prior. Blank samples count 0."""
    m, log_cosh = jnp.tanh(field), lambda h: jnp.logaddexp(h, -h)
    margin = y * (x @ m) / jnp.sqrt(1 - jnp.mean(m**2))
    divergence = jnp.sum((field - prior) * m - log_cosh(field) + log_cosh(prior))
    return divergence - jnp.sum(jnp.where(y != 0, log_ndtr(margin), 0.0))


def natural_step(fields: Fields, x: Float[Array, "P N"], y: Float[Array, " P"], lr) -> Fields:
    """One step down the natural gradient of the free energy: its gradient in the means, (1 - m^2)^{-1} d/dfield."""
    slope = jax.grad(free_energy)(fields.field, fields.prior, x, y)
    return Fields(fields.field - lr * slope / (1 - jnp.tanh(fields.field) ** 2), fields.prior)


def message_step(messages: Messages, x: Float[Array, "P N"], y: Float[Array, " P"], damping) -> Messages:
    """One iteration of approximate message passing for labels sign(w . x), with a share `damping` of the old force."""
    m = jnp.tanh(messages.field)
    variance = 1 - jnp.mean(m**2)
    # The margin without the sample's own doing.
    margin = x @ m - variance * messages.force
    u = y * margin / jnp.sqrt(variance)
    kappa = jnp.exp(-(u**2) / 2 - log_ndtr(u)) / jnp.sqrt(2 * jnp.pi)
    used = y != 0
    force = jnp.where(used, y * kappa / jnp.sqrt(variance), 0.0)
    force = (1 - damping) * force + damping * messages.force
    precision = jnp.sum(jnp.where(used, kappa * (kappa + u), 0.0)) / variance / m.size
    return Messages(messages.prior + x.T @ force + precision * m, messages.prior, force)


def gated(field: Float[Array, " N"], gate) -> Float[Array, " N"]:
    """Fields passed on to a related task: artanh(gate tanh h)."""
    return jnp.arctanh(jnp.clip(gate * jnp.tanh(field), -1 + 1e-15, 1 - 1e-15))
