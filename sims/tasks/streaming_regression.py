"""Online linear regression: a fresh batch of Gaussian inputs with noisy labels at every step; and a fixed data set."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Batch(NamedTuple):
    """Samples in columns, their labels, and the weight of each sample in the mean (zero: not part of the batch)."""

    x: Float[Array, "d P"]
    y: Float[Array, " P"]
    weight: Float[Array, " P"]


class Linear(eqx.Module):
    """The student yhat = theta . x."""

    theta: Float[Array, " d"]

    def __call__(self, x: Float[Array, "d P"]) -> Float[Array, " P"]:
        return self.theta @ x


def fresh_batch(key, deviations: Float[Array, " d"], teacher: Float[Array, " d"], noise, size, most: int) -> Batch:
    """`size` <= `most` samples: independent inputs of the given standard deviations, labels with `noise` variance.

    `size` may be traced: the arrays always hold `most` samples, of which the first `size` count.
    """
    input_key, noise_key = jax.random.split(key)
    x = deviations[:, None] * jax.random.normal(input_key, (len(deviations), most))
    y = teacher @ x + jnp.sqrt(noise) * jax.random.normal(noise_key, (most,))
    return Batch(x, y, (jnp.arange(most) < size) / size)


def one_sample(key, x: Float[Array, "d P"], y: Float[Array, " P"]) -> Batch:
    """One column of a data set, drawn with replacement."""
    i = jax.random.randint(key, (), 0, x.shape[1])
    return Batch(x[:, i][:, None], y[i][None], jnp.ones(1, x.dtype))


def half_squared_error(student: Linear, batch: Batch) -> Float[Array, ""]:
    """Half the squared error, averaged over the batch by its weights."""
    return 0.5 * jnp.sum(batch.weight * (batch.y - student(batch.x)) ** 2)


def excess_risk(student: Linear, deviations: Float[Array, " d"], teacher: Float[Array, " d"]) -> Float[Array, ""]:
    """Half the mean squared error on new noiseless samples."""
    return 0.5 * jnp.sum((deviations * (student.theta - teacher)) ** 2)
