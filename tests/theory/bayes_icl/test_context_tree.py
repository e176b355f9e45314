"""Context-tree weighting: the sum over all trees, all continuations, names of symbols, limits, the bound, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.context_tree import (
    all_trees,
    context_tree_predictions,
    redundancy_bound,
    tree_log_prior,
    tree_predictions,
)
from theory.bayes_icl.dirichlet_ngrams import ngram_predictions

seeds = st.integers(0, 2**32 - 1)
FORK = np.array([[0, 0], [0, 1], [1, -1]])


def followed(both, depth, leaf, t, m, prior):
    """Counts at a leaf before position t, by a loop."""
    c = np.full(m, prior)
    for s in range(depth, t):
        c[both[s]] += all(both[s - 1 - i] == symbol for i, symbol in enumerate(leaf) if symbol >= 0)
    return c


@given(seeds)
def test_a_known_tree_by_hand(seed):
    rng = np.random.default_rng(seed)
    x, past = rng.integers(0, 2, 9), rng.integers(0, 2, 2)
    found, both = tree_predictions(x, past, 2, FORK, 0.7), np.concatenate([past, x])
    for t in range(2, 12):
        (leaf,) = [row for row in FORK if all(both[t - 1 - i] == j for i, j in enumerate(row) if j >= 0)]
        c = followed(both, 2, leaf, t, 2, 0.7)
        np.testing.assert_allclose(np.exp(found.log_law[t - 2]), c / c.sum(), rtol=1e-12)


@pytest.mark.parametrize(("m", "depth", "stop", "prior"), [(2, 2, 0.5, 0.5), (3, 1, 0.7, 1.3), (2, 2, 0.2, 4.0)])
def test_the_sum_over_all_trees(m, depth, stop, prior):
    rng = np.random.default_rng(m)
    x, past, trees = rng.integers(0, m, 12), rng.integers(0, m, depth), all_trees(m, depth)
    logs = np.array([tree_log_prior(tree, m, stop) for tree in trees])
    np.testing.assert_allclose(np.exp(logs).sum(), 1, rtol=1e-13)
    each = np.array([tree_predictions(x, past, m, tree, prior).log_evidence for tree in trees])
    found = context_tree_predictions(x, past, m, stop, prior)
    np.testing.assert_allclose(found.log_evidence, np.logaddexp.reduce(logs[:, None] + each), rtol=1e-11)
    np.testing.assert_allclose(np.exp(found.log_law).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(found.log_density, np.asarray(found.log_law)[np.arange(12), x], rtol=1e-14)


def test_numbers_of_trees():
    assert [len(all_trees(2, depth)) for depth in range(5)] == [1, 2, 5, 26, 677]
    assert len(all_trees(3, 2)) == 9


def test_probabilities_of_all_strings():
    every = np.array(list(itertools.product((0, 1), repeat=8)))
    many = jax.vmap(lambda x: context_tree_predictions(x, np.array([1, 0, 1]), 2).log_evidence[-1])(every)
    np.testing.assert_allclose(np.exp(many).sum(), 1, rtol=1e-12)


@given(seeds)
def test_names_of_symbols_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    x, past, names, prior = rng.integers(0, 3, 15), rng.integers(0, 3, 2), rng.permutation(3), np.array([0.3, 1.0, 2.0])
    found = context_tree_predictions(x, past, 3, 0.4, prior).log_law
    renamed = context_tree_predictions(names[x], names[past], 3, 0.4, prior[np.argsort(names)]).log_law
    np.testing.assert_allclose(np.asarray(renamed)[:, names], found, rtol=1e-11)


def test_limits():
    rng = np.random.default_rng(3)
    x, past = rng.integers(0, 3, 30), rng.integers(0, 3, 2)
    both = np.concatenate([past, x])
    # One urn: no tree to speak of, or every node a leaf.
    urn = ngram_predictions(x, 3, 0, 0.5).log_law
    np.testing.assert_allclose(context_tree_predictions(x, np.zeros(0, int), 3).log_law, urn, rtol=1e-12)
    np.testing.assert_allclose(context_tree_predictions(x, past, 3, 1.0).log_law, urn, rtol=1e-12)
    # All leaves at depth D: n-grams, whose first symbols stand in the past.
    grams = np.asarray(ngram_predictions(both, 3, 2, 0.5).log_law)[2:]
    np.testing.assert_allclose(context_tree_predictions(x, past, 3, 0.0).log_law, grams, rtol=1e-12)
    near = context_tree_predictions(x, past, 3, 1e-300).log_law
    np.testing.assert_allclose(near, grams, rtol=1e-12)
    assert tree_log_prior(FORK, 2, 0.0) == -np.inf
    assert tree_log_prior(np.zeros((1, 0), int), 2, 0.3) == 0
    slope = jax.grad(lambda b: context_tree_predictions(x, past, 3, b).log_density.sum())(jnp.asarray(0.5))
    step = [context_tree_predictions(x, past, 3, b).log_density.sum() for b in (0.5 - 1e-5, 0.5 + 1e-5)]
    np.testing.assert_allclose(slope, (step[1] - step[0]) / 2e-5, rtol=1e-6)


def test_a_long_string_of_one_kind_stays_finite():
    found = context_tree_predictions(np.zeros(5000, int), np.zeros(2, int), 3)
    assert np.isfinite(found.log_law).all()
    assert found.log_law[-1, 0] > -1e-3


def test_the_bound():
    """Strings of a fork: never above the bound, and above the entropy of the source."""
    rng = np.random.default_rng(0)
    leaf = {(0, 0): 0.1, (0, 1): 0.7, (1, 0): 0.9, (1, 1): 0.9}
    for n in (300, 300):
        both, sure = [0, 1], []
        for _ in range(n):
            p = leaf[both[-1], both[-2]]
            both.append(int(rng.random() < p))
            sure.append(np.log(p if both[-1] else 1 - p))
        found = context_tree_predictions(np.array(both[2:]), np.array(both[:2]), 2)
        assert 0 < np.sum(sure) - found.log_evidence[-1] < redundancy_bound(FORK, n)
    # A string of one symbol only: the bound of one urn, ln(2) above a sure prediction, is reached.
    np.testing.assert_allclose(redundancy_bound(np.zeros((1, 0), int), 1.0), np.log(2), rtol=1e-12)
    np.testing.assert_allclose(redundancy_bound(FORK, 2.0), 5 * np.log(2), rtol=1e-12)
    np.testing.assert_allclose(
        redundancy_bound(FORK, 3e4), 3 * (np.log(1e4) / 2 + np.log(2)) + 3 * np.log(2), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: context_tree_predictions(np.array([0, 2]), np.array([0]), 2), "must hold symbols 0 to 1, got 2"),
        (lambda: context_tree_predictions(np.array([0, 1]), np.array([0]), 2, 1.2), "stop must lie between 0 and 1"),
        (lambda: context_tree_predictions(np.array([0, 1]), np.array([0]), 2, 0.5, 0.0), "prior must be positive"),
        (lambda: context_tree_predictions(np.array([0]), np.zeros(30, int), 2), "past must leave at most"),
        (lambda: tree_predictions(np.array([0]), np.zeros(2, int), 2, FORK[:2]), "leaves must be those of a complete"),
        (lambda: tree_predictions(np.array([0]), np.zeros(3, int), 2, FORK), "leaves must have the 3 columns"),
        (lambda: tree_log_prior(np.array([[0, 0], [0, 0], [1, -1]]), 2), "leaves must be those of a complete tree"),
        (lambda: tree_log_prior(np.array([[-1, 0], [1, -1]]), 2), "leaves must be those of a complete tree"),
        (lambda: tree_log_prior(np.array([[3]]), 2), "leaves must be rows of symbols"),
        (lambda: redundancy_bound(FORK, -1.0), "length must be at least 0"),
        (lambda: all_trees(2, 6), "depth must leave at most"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
