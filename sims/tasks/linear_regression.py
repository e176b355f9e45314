"""Noisy linear teachers in high dimension, and students that descend on all samples at once.

Inputs have independent entries of variance 1/N; the loss is the SUM over samples, 1/2 sum (y - W x)^2, as in Advani &
Saxe (2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.engine import Hyper, Simulation
from sims.networks.deep_linear import DeepLinear


class Planted(eqx.Module):
    """Inputs in columns, their noisy labels, the teacher's weights behind them, and how many samples are not blank."""

    x: Float[Array, "N P"]
    y: Float[Array, "1 P"]
    teacher: Float[Array, "1 N"]
    samples: Float[Array, ""]


class Lesson(eqx.Module):
    """The state of a run: the student and the samples that it descends on."""

    student: DeepLinear
    data: Planted
    hyper: Any


def gaussian_inputs(key, inputs: int, samples: int) -> Float[Array, "N P"]:
    """`samples` columns of `inputs` independent Gaussian entries of variance 1/N."""
    return jax.random.normal(key, (inputs, samples)) / inputs**0.5


def planted(key, x: Float[Array, "N P"], signal, noise, samples=None) -> Planted:
    """A teacher with weights of variance `signal`, and its labels on `x` with noise of variance `noise`.

    Only the first `samples` (all, if None) are used; the others are blanked, input and label zero, and have no part in
    the loss, so that runs with different numbers of samples share one shape.
    """
    teacher_key, noise_key = jax.random.split(key)
    teacher = jnp.sqrt(signal) * jax.random.normal(teacher_key, (1, x.shape[0]))
    y = teacher @ x + jnp.sqrt(noise) * jax.random.normal(noise_key, (1, x.shape[1]))
    samples = jnp.asarray(x.shape[1] if samples is None else samples, x.dtype)
    used = jnp.arange(x.shape[1]) < samples
    return Planted(jnp.where(used, x, 0), jnp.where(used, y, 0), teacher, samples)


def squared_loss(student: DeepLinear, data: Planted) -> Float[Array, ""]:
    """1/2 sum over samples of (y - W x)^2."""
    return 0.5 * jnp.sum((data.y - student(data.x)) ** 2)


def ridge_loss(student: DeepLinear, data: Planted, ridge) -> Float[Array, ""]:
    """`squared_loss` and the penalty 1/2 ridge |W|^2 on the network map."""
    return squared_loss(student, data) + 0.5 * ridge * jnp.sum(student.product() ** 2)


def teacher_error(student: DeepLinear, data: Planted, noise) -> Float[Array, ""]:
    """Mean squared error on new samples, exactly: |W - teacher|^2 / N + noise."""
    return jnp.sum((student.product() - data.teacher) ** 2) / data.x.shape[0] + noise


def sample_error(student: DeepLinear, data: Planted) -> Float[Array, ""]:
    """Mean squared error on the training samples."""
    return jnp.sum((data.y - student(data.x)) ** 2) / data.samples


def lessons(
    data: Callable[[jax.Array, Hyper], Planted],
    student: Callable[[jax.Array, Hyper], DeepLinear],
    lr: float | str,
    record: Callable[[DeepLinear, Planted, Hyper], Any],
    loss: Callable[[DeepLinear, Planted, Hyper], jax.Array] = lambda student, data, _: squared_loss(student, data),
) -> Simulation:
    """Each run draws its data once, and its student takes steps of `lr` (or of that hyperparameter) on all samples."""

    def init(key, hyper):
        data_key, student_key = jax.random.split(key)
        return Lesson(student(student_key, hyper), data(data_key, hyper), hyper)

    def step(state):
        gradient = jax.grad(loss)(state.student, state.data, state.hyper)
        rate = state.hyper[lr] if isinstance(lr, str) else lr
        moved = jax.tree.map(lambda w, g: w - rate * g, state.student, gradient)
        return Lesson(moved, state.data, state.hyper)

    return Simulation(init, step, lambda state: record(state.student, state.data, state.hyper))
