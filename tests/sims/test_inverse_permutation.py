"""Undoing a permutation: rows by hand, masks, the hand-set network at work, uniform permutations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.inverse_permutation import constructed, row_errors, sequences, tasks, untrained

N = 4


def drawn():
    return tasks(jax.random.key(0), 50, N)


def test_rows():
    rows = np.asarray(sequences(jnp.array([2, 0, 1]), jnp.array([5.0, 6.0, 7.0])))
    assert rows.shape == (9, 13)
    np.testing.assert_array_equal(rows[:3, :4], [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(rows[3:6, :4], [[0, 0, 0, 7], [0, 0, 0, 5], [0, 0, 0, 6]])
    assert not rows[6:, :4].any()
    np.testing.assert_array_equal(rows[:, 4:], np.eye(9))


def test_masks():
    permutations, y = drawn()
    rows = sequences(permutations[:3], y[:3])
    for causal in (1.0, 0.0):
        model = untrained(jax.random.key(1), N, causal=causal)
        patterns = model.attention(rows)
        for pattern in patterns:
            np.testing.assert_allclose(pattern.sum(axis=-1), 1, rtol=1e-12)
            assert (np.asarray(jnp.triu(pattern, 1)) > 0).any() == (causal == 0.0)
        # Each layer appends what it attended to.
        h = rows
        for pattern in patterns:
            h = jnp.concatenate([h, jnp.einsum("pts,psd->ptd", pattern, h)], axis=-1)
        np.testing.assert_allclose(model(rows), h @ model.readout, rtol=1e-12)
        slope = jax.grad(lambda m: jnp.sum(row_errors(m, permutations, y, 0.0)))(model)
        assert slope.causal == 0 and jnp.abs(slope.scores[0]).max() > 0


def test_a_hand_set_network_undoes_any_permutation():
    permutations, y = drawn()
    errors = row_errors(constructed(N, 30.0, 30.0, 60.0), permutations, y, 1.0)
    assert errors.max() < 1e-15
    # Rows of the numbers themselves answer nothing.
    assert row_errors(constructed(N, 30.0, 30.0, 60.0), permutations, y, 0.0).mean() > 0.5


def test_permutations_are_uniform():
    permutations, _ = tasks(jax.random.key(3), 6000, 3)
    counts = [int(np.all(np.asarray(permutations) == pi, axis=1).sum()) for pi in itertools.permutations(range(3))]
    assert sum(counts) == 6000
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(1000))
