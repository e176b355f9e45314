"""The fitted layer: its normal equations, exact errors against fresh prompts, tasks on their sphere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.fitted_linear_attention import (
    best_layer,
    fitted_layer,
    layer_error,
    pretraining_sample,
    sphere_tasks,
)

D, L, NOISE = 3, 4, 0.3
TASKS = sphere_tasks(jax.random.key(0), 5, D)


def test_tasks_on_their_sphere():
    np.testing.assert_allclose(jnp.sum(TASKS**2, axis=1), D, rtol=1e-12)


@pytest.mark.parametrize(("n", "ridge"), [(40, 0.2), (7, 0.2), (7, 1e-9)])
def test_minimum(n, ridge):
    sample = pretraining_sample(jax.random.key(1), TASKS, n, L, NOISE)
    gamma = fitted_layer(sample, ridge)

    def objective(gamma):
        error = sample.labels - jnp.einsum("nd,de,ne->n", sample.queries, gamma, sample.summaries)
        return jnp.sum(error**2) + n / D * ridge * jnp.sum(gamma**2)

    np.testing.assert_allclose(jax.grad(objective)(gamma), 0, atol=1e-7)


def test_exact_errors():
    """On the tasks of the sample and on fresh ones, five standard errors."""
    gamma = fitted_layer(pretraining_sample(jax.random.key(1), TASKS, 40, L, NOISE), 0.1)
    size = 100_000
    fresh = sphere_tasks(jax.random.key(2), size, D)
    for tasks, mean, second in (
        (TASKS, jnp.mean(TASKS, axis=0), TASKS.T @ TASKS / len(TASKS)),
        (fresh, jnp.zeros(D), jnp.eye(D)),
    ):
        new = pretraining_sample(jax.random.key(3), tasks, size, L, NOISE)
        errors = np.asarray((new.labels - jnp.einsum("nd,de,ne->n", new.queries, gamma, new.summaries)) ** 2)
        expected = layer_error(gamma, mean, second, L, NOISE)
        assert abs(errors.mean() - expected) < 5 * errors.std() / size**0.5


def test_summaries_have_the_law_of_those_of_drawn_pairs():
    """All first and second moments of (q, label), and the mean cube of q, against pairs drawn one by one."""
    size, w = 200_000, TASKS[0]
    new = pretraining_sample(jax.random.key(6), TASKS[:1], size, L, NOISE)
    of_inputs, of_noise = jax.random.split(jax.random.key(7))
    x = jax.random.normal(of_inputs, (size, L, D)) / D**0.5
    y = x @ w + NOISE**0.5 * jax.random.normal(of_noise, (size, L))
    by_hand = jnp.concatenate([D * jnp.einsum("nl,nld->nd", y, x), jnp.sum(y**2, axis=1, keepdims=True)], axis=1) / L

    def moments(q):
        pairs = (q[:, :, None] * q[:, None, :]).reshape(len(q), -1)
        return np.concatenate([q, pairs, q**3], axis=1)

    ours, theirs = moments(new.summaries), moments(by_hand)
    error = np.hypot(ours.std(axis=0), theirs.std(axis=0)) / size**0.5
    assert np.max(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / error) < 5


def test_the_best_layer_is_what_endless_prompts_fit():
    mean, second = jnp.mean(TASKS, axis=0), TASKS.T @ TASKS / len(TASKS)
    best = best_layer(mean, second, L, NOISE)
    slope = jax.grad(lambda gamma: layer_error(gamma, mean, second, L, NOISE))(best)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    least = layer_error(best, mean, second, L, NOISE)
    excess = [
        float(
            layer_error(fitted_layer(pretraining_sample(key, TASKS, n, L, NOISE), 1e-9), mean, second, L, NOISE) - least
        )
        for n in (2000, 32_000)
        for key in jax.random.split(jax.random.key(5), 2)
    ]
    # It shrinks as 1 / n: sixteenfold, here with the scatter of 12 parameters.
    assert min(excess) > 0
    assert max(excess[2:]) < min(excess[:2]) / 4


def test_summaries_by_hand():
    """Endless contexts say the task and the size of its labels."""
    new = pretraining_sample(jax.random.key(4), TASKS[:1], 2, 200_000, NOISE)
    expected = np.array([*np.asarray(TASKS[0]), 1 + NOISE])
    np.testing.assert_allclose(new.summaries, np.tile(expected, (2, 1)), atol=0.05)
