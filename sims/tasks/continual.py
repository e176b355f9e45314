"""Tasks that are learned one after the other: related teachers, their data, and a course through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sims.engine import Hyper, Simulation


class Task(NamedTuple):
    """Samples in rows, blank ones (input and label zero) at the end, and their labels. A leading axis: many tasks."""

    x: Float[Array, "*tasks P N"]
    y: Float[Array, "*tasks P"]


def related_teachers(key, correlation, inputs: int) -> Float[Array, "2 N"]:
    """Two vectors of squared norm N and of exactly this overlap, in random directions."""
    basis = jnp.linalg.qr(jax.random.normal(key, (inputs, 2)))[0].T * inputs**0.5
    return jnp.stack([basis[0], correlation * basis[0] + jnp.sqrt(1 - correlation**2) * basis[1]])


def related_signs(key, correlation, inputs: int) -> Float[Array, "2 N"]:
    """Two vectors of +-1 whose entries agree with probability (1 + correlation) / 2."""
    first, same = jax.random.split(key)
    w = jax.random.rademacher(first, (inputs,), float)
    return jnp.stack([w, jnp.where(jax.random.uniform(same, (inputs,)) < (1 + correlation) / 2, w, -w)])


def teacher_tasks(
    key,
    teachers: Float[Array, "T N"],
    samples: tuple[int, ...],
    label: Callable[[jax.Array, Float[Array, " P"]], Float[Array, " P"]],
) -> Task:
    """`samples[t]` Gaussian inputs of variance 1/N for teacher t, labelled by `label(key, teacher's outputs)`."""
    most, inputs = max(samples), teachers.shape[1]

    def one(key, teacher, number):
        x_key, label_key = jax.random.split(key)
        x = jax.random.normal(x_key, (most, inputs)) / inputs**0.5
        used = jnp.arange(most) < number
        return Task(jnp.where(used[:, None], x, 0), jnp.where(used, label(label_key, x @ teacher), 0))

    return jax.vmap(one)(jax.random.split(key, len(samples)), teachers, jnp.array(samples))


def elastic_solution(task: Task, old: Float[Array, " N"], pull: Float[ArrayLike, "..."]) -> Float[Array, " N"]:
    """Minimum of (1/2) |y - X w|^2 + (1/2) (w - old)^T pull (w - old); `pull` is a number, a diagonal or a matrix."""
    pull = jnp.asarray(pull)
    matrix = pull if pull.ndim == 2 else jnp.diag(jnp.broadcast_to(pull, old.shape))
    return old + jnp.linalg.solve(task.x.T @ task.x + matrix, task.x.T @ (task.y - task.x @ old))


class Course(eqx.Module):
    """The state of a run: the learner, all tasks, what was drawn with them, and the steps taken."""

    learner: Any
    tasks: tuple[Task, ...]
    truth: Any
    hyper: Any
    count: jax.Array


def course(
    draw: Callable[[jax.Array, Hyper], tuple[Task, Any]],
    start: Callable[[Task], Any],
    begin: Callable[[Any, Hyper], Any],
    advance: Callable[[Any, Task, Hyper], Any],
    steps: int,
    record: Callable[[Any, Any, Hyper], Any],
) -> Simulation:
    """A learner goes through its tasks, `steps` steps on each.

    `draw(key, hyper)` gives (tasks, truth), `start(tasks)` the learner before all, `begin(learner, hyper)` the learner
    at the start of each task, `advance(learner, task, hyper)` one step, `record(learner, truth, hyper)` what is kept.
    """

    def init(key, hyper):
        tasks, truth = draw(key, hyper)
        # One by one: to take a task out of an array at every step would cost more than most steps.
        each = tuple(Task(x, y) for x, y in zip(tasks.x, tasks.y, strict=True))
        return Course(start(tasks), each, truth, hyper, jnp.zeros((), jnp.int32))

    def step(state):
        begun = begin(state.learner, state.hyper)
        fresh = state.count % steps == 0
        learner = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), begun, state.learner)
        lessons = [lambda learner, task=task: advance(learner, task, state.hyper) for task in state.tasks]
        learner = jax.lax.switch(jnp.minimum(state.count // steps, len(lessons) - 1), lessons, learner)
        return Course(learner, state.tasks, state.truth, state.hyper, state.count + 1)

    return Simulation(init, step, lambda state: record(state.learner, state.truth, state.hyper))
