"""A text under new names: where pieces come from, and laws of the names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.tasks.renamed_text import dealt, new_classes, new_names, random_pieces, renamed, thrown

KEY = jax.random.key(0)
MANY = 20_000


def near(found, wanted, variance):
    """Within five standard errors of a mean over all draws."""
    np.testing.assert_allclose(found, wanted, atol=5 * np.sqrt(variance / MANY))


def test_blocks_are_dealt_out():
    test, train = dealt(np.arange(23), 3, 0)
    assert test.shape == (2, 3)
    assert train.shape == (5, 3)
    both = np.concatenate([test, train])
    np.testing.assert_array_equal(np.sort(both.ravel()), np.arange(21))
    np.testing.assert_array_equal(np.diff(both, axis=1), 1)
    np.testing.assert_array_equal(dealt(np.arange(23), 3, 0)[0], test)
    assert (dealt(np.arange(23), 3, 1)[0] != test).any()
    with pytest.raises(ValueError, match="block must be from 1 to a third of the 8 symbols of the text, got 3"):
        dealt(np.arange(8), 3, 0)


def test_pieces_lie_within_a_block():
    blocks = jnp.arange(12).reshape(3, 4)
    found = np.asarray(random_pieces(KEY, blocks, MANY, 3))
    np.testing.assert_array_equal(np.diff(found, axis=1), 1)
    # Two starts in each of three blocks.
    starts = np.bincount(found[:, 0], minlength=12)
    near(starts[[0, 1, 4, 5, 8, 9]] / MANY, 1 / 6, 5 / 36)
    assert starts.sum() == starts[[0, 1, 4, 5, 8, 9]].sum()


def test_kinds_keep_together_and_all_names_are_alike():
    kinds = jnp.array([0, 2, 2, 1])
    found = np.asarray(new_names(KEY, MANY, kinds, 3))
    np.testing.assert_array_equal(found[:, 1], found[:, 2])
    _, counts = np.unique(found[:, [0, 1, 3]], axis=0, return_counts=True)
    assert len(counts) == 6
    near(counts / MANY, 1 / 6, 5 / 36)


def test_classes_share_their_shares_only():
    found = np.asarray(new_classes(KEY, MANY, 4, 3))
    near([(found == j).mean(axis=0) for j in range(3)], 1 / 3, 2 / 9)
    # Two letters meet with probability E sum p^2 = 2 / (K + 1), whichever they are.
    for i, j in ((0, 1), (1, 3)):
        near((found[:, i] == found[:, j]).mean(), 1 / 2, 1 / 4)


def test_letters_are_thrown_by_themselves():
    found = np.asarray(thrown(KEY, jnp.tile(jnp.array([7, 900, 7, 3]), (MANY, 1)), 4))
    np.testing.assert_array_equal(found[:, 0], found[:, 2])
    # All classes of three different letters are alike, together too.
    _, counts = np.unique(found[:, [0, 1, 3]], axis=0, return_counts=True)
    assert len(counts) == 64
    near(counts / MANY, 1 / 64, 63 / 64**2)


def test_renamed():
    pieces, names = jnp.array([[0, 1, 1], [2, 0, 2]]), jnp.array([[5, 6, 7], [1, 1, 0]])
    np.testing.assert_array_equal(renamed(pieces, names), [[5, 6, 6], [0, 1, 0]])
