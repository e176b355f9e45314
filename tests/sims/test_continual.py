"""Tasks in sequence: teachers and blanks as asked for, courses in order, fields at a minimum, messages near exact."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.engine import grid, simulate
from sims.networks.binary_perceptron import Fields, Messages, free_energy, gated, message_step, natural_step
from sims.tasks.continual import Task, course, elastic_solution, related_signs, related_teachers, teacher_tasks


def signs(key, outputs):
    return jnp.sign(outputs)


def test_teachers_are_related_as_asked_for():
    w = related_teachers(jax.random.key(0), -0.3, 50)
    np.testing.assert_allclose(w @ w.T / 50, [[1, -0.3], [-0.3, 1]], atol=1e-12)
    v = np.asarray(related_signs(jax.random.key(1), 0.6, 20_000))
    assert (np.abs(v) == 1).all()
    assert abs(np.mean(v[0] * v[1]) - 0.6) < 5 * 0.8 / np.sqrt(20_000)
    assert (related_signs(jax.random.key(2), 1.0, 50)[0] == related_signs(jax.random.key(2), 1.0, 50)[1]).all()


def test_tasks_have_the_samples_asked_for_and_blanks():
    w = related_teachers(jax.random.key(0), 0.2, 400)
    tasks = teacher_tasks(jax.random.key(1), w, (3, 200), signs)
    assert tasks.x.shape == (2, 200, 400)
    assert (np.abs(tasks.y).sum(axis=1) == [3, 200]).all()
    assert (tasks.x[0, 3:] == 0).all()
    np.testing.assert_array_equal(tasks.y[1], np.sign(tasks.x[1] @ w[1]))
    assert abs(np.var(tasks.x[1]) * 400 - 1) < 5 * np.sqrt(2 / tasks.x[1].size)


@pytest.mark.parametrize("shape", ["number", "diagonal", "matrix"])
def test_the_elastic_solution_is_a_minimum(shape):
    rng = np.random.default_rng(0)
    task = Task(jnp.asarray(rng.normal(size=(4, 6))), jnp.asarray(rng.normal(size=4)))
    old, root = jnp.asarray(rng.normal(size=6)), rng.normal(size=(6, 6))
    pull = {"number": 0.4, "diagonal": np.arange(1.0, 7), "matrix": root @ root.T}[shape]
    whole = pull if np.ndim(pull) == 2 else np.diag(np.broadcast_to(pull, 6))
    cost = lambda w: jnp.sum((task.y - task.x @ w) ** 2) / 2 + (w - old) @ whole @ (w - old) / 2  # noqa: E731
    np.testing.assert_allclose(jax.grad(cost)(elastic_solution(task, old, pull)), 0, atol=1e-10)


def test_a_course_takes_its_steps_in_order():
    """The learner adds up what each step shows it, tenfold at each new task."""
    tasks = Task(jnp.zeros((2, 1, 1)), jnp.array([[1.0], [100.0]]))
    simulation = course(
        lambda key, hyper: (tasks, None),
        lambda tasks: jnp.zeros(()),
        lambda learner, hyper: 10 * learner,
        lambda learner, task, hyper: learner + task.y[0],
        3,
        lambda learner, truth, hyper: learner,
    )
    found = simulate(simulation, grid(1), range(8)).records[0]
    np.testing.assert_array_equal(found, [0, 1, 2, 3, 130, 230, 330, 3400])


def one_task(n, samples, key=0):
    w = related_signs(jax.random.key(key), 1.0, n)[:1]
    tasks = teacher_tasks(jax.random.key(key + 1), w, (samples,), signs)
    return w[0], tasks.x[0], tasks.y[0]


@pytest.mark.slow
def test_field_training_ends_at_a_minimum_and_blanks_do_not_matter():
    _, x, y = one_task(60, 40)
    prior = jax.random.normal(jax.random.key(5), (60,)) / 3
    fields = Fields(prior, prior)
    blank = fields
    step = jax.jit(lambda fields, x, y: natural_step(fields, x, y, 0.5))
    for _ in range(100):
        fields, blank = step(fields, x, y), step(blank, jnp.pad(x, ((0, 3), (0, 0))), jnp.pad(y, (0, 3)))
    np.testing.assert_allclose(jax.grad(free_energy)(fields.field, prior, x, y), 0, atol=1e-9)
    np.testing.assert_allclose(blank.field, fields.field, atol=1e-9)
    energy = free_energy(fields.field, prior, x, y)
    for seed in range(5):
        nudge = 0.05 * jax.random.normal(jax.random.key(seed), (60,))
        assert energy < free_energy(fields.field + nudge, prior, x, y)


def test_messages_are_the_posterior_of_a_small_problem():
    """All 2^11 weights: means with label constraints, on average over data sets, as close as N = 11 allows."""
    n, samples = 11, 6
    states = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    step = jax.jit(lambda messages, x, y: message_step(messages, x, y, 0.3))
    errors = []
    for key in range(0, 40, 2):
        _, x, y = one_task(n, samples, key)
        fits = (np.sign(states @ np.asarray(x).T) == np.asarray(y)).all(axis=1)
        exact = states[fits].mean(axis=0)
        messages = Messages(jnp.zeros(n), jnp.zeros(n), jnp.zeros(samples))
        for _ in range(60):
            messages = step(messages, x, y)
        errors.append(np.mean((np.tanh(messages.field) - exact) ** 2) / np.mean(exact**2))
    # Corrections are of order 1/N.
    assert np.mean(errors) < 1 / n


def test_messages_keep_blanks_and_priors_apart():
    _, x, y = one_task(40, 30)
    prior = jnp.linspace(-1, 1, 40)
    still = Messages(prior, prior, jnp.zeros(3))
    np.testing.assert_allclose(message_step(still, jnp.zeros((3, 40)), jnp.zeros(3), 0.0).field, prior)
    start = Messages(prior, prior, jnp.zeros(30))
    padded = start._replace(force=jnp.zeros(33))
    found = message_step(start, x, y, 0.0)
    blank = message_step(padded, jnp.pad(x, ((0, 3), (0, 0))), jnp.pad(y, (0, 3)), 0.0)
    np.testing.assert_allclose(blank.field, found.field, rtol=1e-12)


def test_gates():
    h = jnp.linspace(-2, 2, 9)
    np.testing.assert_allclose(gated(h, 1.0), h, atol=1e-12)
    np.testing.assert_allclose(gated(h, 0.0), 0 * h, atol=1e-12)
    np.testing.assert_allclose(jnp.tanh(gated(h, 0.4)), 0.4 * jnp.tanh(h), rtol=1e-12)
