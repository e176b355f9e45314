"""Prompts: labels are those of their tasks, variances are variances, and every prompt has a task of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.tasks.in_context_regression import (
    gaussian_tasks,
    of_one_kind,
    pooled_tasks,
    prompts,
    rank_one_tasks,
    sign_tasks,
    sparse_tasks,
    waves,
)

KEY = jax.random.key(0)
MANY = 20_000


def near(found, wanted, variance):
    """Within five standard errors of a mean over all draws."""
    np.testing.assert_allclose(found, wanted, atol=5 * np.sqrt(variance / MANY))


def test_labels_without_noise_are_those_of_the_task():
    tasks = gaussian_tasks(KEY, 4, 3)
    drawn = prompts(jax.random.key(1), tasks, 6, 0.0)
    np.testing.assert_allclose(drawn.y, jnp.einsum("pnd,pd->pn", drawn.x, tasks), rtol=1e-6)
    np.testing.assert_array_equal(drawn.w, tasks)


def test_noise_is_a_variance_and_inputs_have_the_covariance_asked_for():
    root = np.array([[1.0, 0.0], [0.5, 0.3]])
    drawn = prompts(KEY, jnp.zeros((MANY, 2)), 1, 0.25, root)
    near(np.var(drawn.y), 0.25, 2 * 0.25**2)
    second = np.einsum("pni,pnj->ij", drawn.x, drawn.x) / MANY
    near(second, root @ root.T, 2.0)


def test_entries_of_another_law():
    def signs(key, shape, dtype):
        return jax.random.rademacher(key, shape, dtype)

    drawn = prompts(KEY, jnp.ones((5, 2)), 3, 0.0, 2.0, signs)
    assert set(np.unique(drawn.x)) == {-2.0, 2.0}


def test_tasks():
    near(np.var(gaussian_tasks(KEY, MANY, 1, 2.0)), 4.0, 2 * 16)
    sparse = np.asarray(sparse_tasks(KEY, MANY, 4, 2))
    assert (np.count_nonzero(sparse, axis=1) == 2).all()
    near((sparse != 0).mean(axis=0), 0.5, 0.25)
    near((sparse**2).mean(axis=0), 0.5, 1.25)
    ranked = np.asarray(rank_one_tasks(KEY, MANY, 2)).reshape(MANY, 2, 2)
    assert np.abs(np.linalg.det(ranked)).max() < 1e-12
    near(ranked.mean(axis=0), np.eye(2), 2.0)
    near((ranked[:, 0, 0] ** 2).mean(), 3.0, 96.0)
    near((ranked[:, 0, 1] ** 2).mean(), 1.0, 8.0)
    signs = np.asarray(sign_tasks(KEY, MANY, 3))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    near(signs.mean(axis=0), 0.0, 1.0)
    pool = jnp.arange(6.0).reshape(3, 2)
    found = np.asarray(pooled_tasks(KEY, pool, MANY))
    near([(found == row).all(axis=1).mean() for row in np.asarray(pool)], 1 / 3, 2 / 9)


def test_kinds_differ_within_a_batch():
    kinds = (lambda key: sign_tasks(key, MANY, 2), lambda key: jnp.full((MANY, 2), 7.0))
    found = np.asarray(of_one_kind(KEY, kinds))
    near((found == 7.0).all(axis=1).mean(), 0.5, 0.25)
    assert set(np.unique(found)) == {-1.0, 1.0, 7.0}


def test_refusals():
    with pytest.raises(ValueError, match="support must be from 1 to the dimension 3, got 4"):
        sparse_tasks(KEY, 2, 3, 4)


@pytest.mark.parametrize("frequency", [0, 1, 2, 3])
def test_waves_are_gaussian_with_the_covariance_of_their_frequency(frequency):
    drawn = np.asarray(waves(KEY, jnp.full(MANY, frequency), 6))
    apart = np.arange(6) - np.arange(6)[:, None]
    near(drawn.T @ drawn / MANY, np.cos(2 * np.pi * frequency * apart / 6), 2.0)
    near(np.mean(drawn[:, 1] ** 4), 3.0, 96.0)
    # Each has one frequency: a wave of N / 2 alternates.
    if frequency == 3:
        np.testing.assert_allclose(drawn[:, 1:], -drawn[:, :-1], atol=1e-5)
