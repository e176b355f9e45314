"""Sequences of maps: what holds in each of them, exact chances, tokens and what they show; measures by position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.probes.by_position import divergence, hits, losses, shown
from sims.tasks.in_context_maps import (
    factor_sequences,
    fresh_task_sequences,
    item_numbers,
    query_tokens,
    task_sequences,
    task_table,
    token_features,
    tokens,
)
from theory.induction.task_identification import distinct_classes

KEY, P, N, K, C = jax.random.key(5), 4000, 6, 5, 3


def z_of(sample, expected):
    """Standard errors of the mean; fives are allowed."""
    sample = np.asarray(sample, float)
    return np.max(np.abs(sample.mean(axis=0) - expected) / (sample.std(axis=0) / len(sample) ** 0.5 + 1e-12))


def test_sequences_follow_a_known_task():
    table = task_table(KEY, 7, K, C)
    found = jax.jit(task_sequences, static_argnums=(3, 4))(KEY, table, 4, P, N)
    agree = (np.asarray(table)[:, found.classes] == np.asarray(found.labels)).all(axis=-1)
    assert agree[:4].any(axis=0).all() and not agree[4:].any(axis=0).all()
    # By chance, too, other tasks may agree: each of the four has at least its quarter.
    assert (agree[:4].mean(axis=1) > 0.25 - 5 / P**0.5).all()
    assert z_of(np.asarray(found.classes)[:, :1] == np.arange(K), 1 / K) < 5
    kinds = np.array([len(set(row[:-1])) for row in np.asarray(found.classes)])
    assert z_of(kinds[:, None] == np.arange(K + 1), distinct_classes(N, K)[-1]) < 5


def test_fresh_tasks_are_uniform():
    found = fresh_task_sequences(KEY, P, N, K, C)
    classes, labels = np.asarray(found.classes), np.asarray(found.labels)
    same = classes[:, :, None] == classes[:, None, :]
    alike = labels[:, :, None] == labels[:, None, :]
    assert alike[same].all()
    assert abs(alike[~same].mean() - 1 / C) < 5 * (2 / 9 / P) ** 0.5
    assert z_of(labels[:, :1] == np.arange(C), 1 / C) < 5
    assert z_of(task_table(KEY, P, K, C)[:, :1] == np.arange(C), 1 / C) < 5


def test_one_factor_counts():
    found = factor_sequences(KEY, P, N, 2, 3, C)
    values, labels = np.asarray(found.values), np.asarray(found.labels)
    assert z_of(found.factor, 0.5) < 5 and z_of(values[:, 0] == 2, 1 / 3) < 5
    same = values[:, :, None] == values[:, None, :]
    alike = labels[:, :, None] == labels[:, None, :]
    true = np.take_along_axis(same, np.asarray(found.factor)[:, None, None, None], axis=-1)[..., 0]
    other = np.take_along_axis(same, 1 - np.asarray(found.factor)[:, None, None, None], axis=-1)[..., 0]
    assert alike[true].all()
    assert abs(alike[other & ~true].mean() - 1 / C) < 0.02


def test_tokens():
    items, labels = jnp.array([[4, 0, 2]]), jnp.array([[1, 0, 2]])
    assert tokens(items, labels, 5).tolist() == [[4, 6, 0, 5, 2]]
    assert query_tokens(items, labels, 5, 3).tolist() == [[4, 5 + 13, 0, 5, 2]]
    assert item_numbers(jnp.array([[[1, 2, 0], [0, 0, 2]]]), 3).tolist() == [[15, 2]]


def test_features_show_values_label_and_query():
    found = np.asarray(token_features(3, 2, 2, (0, 1)))
    assert found.shape == (9 + 18, 6 + 3)
    # Item (1, 2) alone; item (2, 0) with label 1.
    assert found[1 * 3 + 2].tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 1]
    assert found[9 + 6 * 2 + 1].tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 0]
    poor = np.asarray(token_features(3, 2, 2, (1,)))
    assert (poor[:, :3] == 0).all() and (poor[:, 3:] == found[:, 3:]).all()
    # What is not shown makes no difference.
    assert len(np.unique(found, axis=0)) == 27 and len(np.unique(poor, axis=0)) == 9


def test_measures_by_position():
    p = jnp.array([[[0.5, 0.25, 0.25], [0.4, 0.4, 0.2], [1.0, 0.0, 0.0]]])
    answers = jnp.array([[0, 1, 0]])
    np.testing.assert_allclose(losses(jnp.log(p), answers), [[np.log(2), -np.log(0.4), 0]], atol=1e-12)
    np.testing.assert_allclose(hits(jnp.log(p), answers), [[1, 0.5, 1]])
    np.testing.assert_allclose(hits(jnp.log(p), answers + 1), [[0, 0, 0]])
    np.testing.assert_allclose(shown(jnp.array([[3, 1, 3, 1, 0]])), [[0, 0, 1, 1, 0]])
    uniform = jnp.full((1, 3, 3), 1 / 3)
    entropy = 1.5 * np.log(2)
    np.testing.assert_allclose(divergence(jnp.log(p), jnp.log(uniform))[0, [0, 2]], [np.log(3) - entropy, np.log(3)])
    np.testing.assert_allclose(divergence(jnp.log(p), jnp.log(p)), 0, atol=1e-15)


def test_refusals():
    with pytest.raises(ValueError, match="tasks must be at least 1, got 0"):
        task_table(KEY, 0, K, C)
    with pytest.raises(ValueError, match="labels must be at least 1, got 0"):
        fresh_task_sequences(KEY, 2, N, K, 0)
    with pytest.raises(ValueError, match="values must be at least 1, got 0"):
        factor_sequences(KEY, 2, N, 2, 0, C)
