"""Parities: all sets by enumeration, known values, a law with sum one, refusals."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.boolean_functions import class_predictions
from theory.bayes_icl.parities import (
    determined_probability,
    parity_accuracy,
    parity_predictions,
    rank_law,
    sparse_parity_predictions,
)

D, N = 4, 7
SETS = np.array(list(itertools.product((0, 1), repeat=D)))
seeds = st.integers(0, 2**16)


def example(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size=(N, D)).astype(float)
    return x, x @ rng.integers(0, 2, size=D) % 2


@given(seeds)
def test_all_sets(seed):
    x, y = example(seed)
    np.testing.assert_array_equal(parity_predictions(x, y), np.round(class_predictions(SETS @ x.T % 2 == 1, y), 12))


@given(seeds)
def test_sparse_parities(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size=(N, D)).astype(float)
    chosen = rng.choice(D, size=2, replace=False)
    y = x[:, chosen].sum(axis=1) % 2
    sets = SETS[SETS.sum(axis=1) == 2]
    alive, found = np.ones(len(sets), bool), sparse_parity_predictions(x, y, 2)
    for t in range(N):
        values = sets @ x[t] % 2
        np.testing.assert_allclose(found[t], values[alive].mean(), atol=1e-12)
        alive &= values == y[t]


def test_known_values():
    at = [5, 8, 10, 12, 15]
    np.testing.assert_allclose(
        determined_probability(15, 10)[np.array(at)], [0.0308, 0.2207, 0.6105, 0.8827, 0.9845], atol=5e-5
    )
    np.testing.assert_allclose(determined_probability(3, 6)[0], 2.0**-6, rtol=1e-14)
    np.testing.assert_allclose(parity_accuracy(1, 1), [0.75, 0.875], rtol=1e-14)
    # A square matrix of bits is invertible with a chance of prod (1 - 2^-i).
    np.testing.assert_allclose(rank_law(30, 30)[-1, -1], np.prod(1 - 0.5 ** np.arange(1, 31)), rtol=1e-12)


def test_law():
    law = np.asarray(rank_law(12, 5))
    assert law.shape == (13, 6)
    np.testing.assert_allclose(law.sum(axis=1), 1, rtol=1e-13)
    assert (np.triu(law[:6], 1) == 0).all()
    assert (np.diff(determined_probability(12, 5)) > 0).all()
    # A transposed matrix has the same rank.
    np.testing.assert_allclose(rank_law(7, 5)[5, :4], rank_law(5, 5)[5, :4])
    np.testing.assert_allclose(rank_law(3, 5)[3], np.pad(rank_law(5, 3)[5], (0, 2)), rtol=1e-12)


def test_frequencies():
    """Predictions at chance as often as the law says, over random data."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(2000, N, D)).astype(float)
    y = np.einsum("pnd,pd->pn", x, rng.integers(0, 2, size=(2000, D))) % 2
    sure = np.asarray(jax.vmap(parity_predictions)(x, y)) != 0.5
    wanted = np.asarray(determined_probability(N - 1, D))
    np.testing.assert_allclose(sure.mean(axis=0), wanted, atol=5 * np.sqrt(0.25 / 2000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_law(-1, 3), "examples must be a whole number of at least 0"),
        (lambda: rank_law(2, 0), "d must be a whole number"),
        (lambda: parity_predictions(np.full((1, 2), 2.0), np.ones(1)), "bits must be 0 or 1, got 2.0"),
        (lambda: parity_predictions(np.ones((1, 2)), -np.ones(1)), "y must be 0 or 1, got -1.0"),
        (lambda: parity_predictions(np.ones((1, 2)), np.ones(2)), "bits must have a row for each label"),
        (lambda: parity_predictions(np.zeros((1, 2)), np.ones(1)), "y must be the parities of one set of bits"),
        (lambda: sparse_parity_predictions(np.ones((1, 2)), np.ones(1), 3), "size must be at most the 2 bits"),
        (lambda: sparse_parity_predictions(np.zeros((1, 2)), np.ones(1), 1), "log_density is impossible"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
