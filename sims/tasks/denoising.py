"""Denoising score matching: noised samples x = a x_0 + s z in rows, with the labels that a target gives them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Denoising(NamedTuple):
    """Noised inputs and labels in rows, and how many of the rows are used: the others are blank."""

    x: Float[Array, "P d"]
    y: Float[Array, "P d"]
    samples: Float[Array, ""]


def denoising(key, x0: Float[Array, "P d"], a, s, target: str = "score", samples=None) -> Denoising:
    """Each row of x0 noised once; only the first `samples` rows (all, if None) are used, so that runs share a shape."""
    z = jax.random.normal(key, x0.shape)
    labels = {"score": -z / s, "noise": z, "data": x0}
    used = (jnp.arange(len(x0)) < (len(x0) if samples is None else samples))[:, None]
    count = jnp.asarray(len(x0) if samples is None else samples, x0.dtype)
    return Denoising(jnp.where(used, a * x0 + s * z, 0), jnp.where(used, labels[target], 0), count)


def denoising_loss(network, data: Denoising) -> Float[Array, ""]:
    """(1/2P) sum |y - f(x)|^2, for a network that maps zero to zero or data without blank rows."""
    return 0.5 * jnp.sum((data.y - network(data.x)) ** 2) / data.samples


def score_of(outputs: Float[Array, "P d"], x: Float[Array, "P d"], a, s, target: str) -> Float[Array, "P d"]:
    """The score that outputs of a network stand for (Tweedie's formula)."""
    return {"score": outputs, "noise": -outputs / s, "data": (a * outputs - x) / s**2}[target]
