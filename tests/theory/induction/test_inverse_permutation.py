"""Undoing a permutation: all permutations enumerated, the construction row by row in plain loops, its bound."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.inverse_permutation import (
    answerable,
    causal_recall,
    causal_row_accuracy,
    causal_row_error,
    scratch_attention,
    scratch_miss,
    unanswerable_distribution,
)

scores = st.floats(0, 30)
permutations = st.permutations(range(4))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_all_permutations(n):
    seen = np.array([np.asarray(answerable(np.array(pi))) for pi in itertools.permutations(range(n))])
    counts = np.bincount((~seen).sum(axis=1), minlength=n) / len(seen)
    np.testing.assert_allclose(unanswerable_distribution(n), counts, atol=1e-14)
    np.testing.assert_allclose(causal_row_error(n, 2.0), 2 * (1 - seen.mean(axis=0)), atol=1e-14)
    np.testing.assert_allclose(causal_row_accuracy(n, 4), np.where(seen, 1, 0.25).mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(causal_recall(n, 4), (0.25 ** (~seen).sum(axis=1)).mean(), rtol=1e-12)


@given(permutations)
def test_answerable_by_hand(pi):
    y = np.arange(4)
    shown = y[list(pi)]
    expected = [i in shown[: i + 1] for i in range(4)]
    np.testing.assert_array_equal(answerable(np.array(pi)), expected)


@pytest.mark.parametrize("n", [2, 40, 400])
def test_eulerian_moments(n):
    p, k = np.asarray(unanswerable_distribution(n)), np.arange(n)
    np.testing.assert_allclose([p.sum(), p @ k, p @ k**2 - (p @ k) ** 2], [1, (n - 1) / 2, (n + 1) / 12], rtol=1e-10)
    np.testing.assert_allclose(p, p[::-1], rtol=1e-10, atol=1e-300)
    if n < 100:
        np.testing.assert_allclose(p[0], 1 / math.factorial(n), rtol=1e-10)


def by_hand(pi, first, second, penalty):
    """Two layers of causal attention on 3 n rows, in loops."""
    n = len(pi)
    content = np.zeros((3 * n, n))
    content[np.arange(n), pi] = 1
    copied = np.zeros((3 * n, n))
    for row in range(3 * n):
        weights = np.array([np.exp(first) if n <= row < 2 * n and s == row - n else 1.0 for s in range(row + 1)])
        copied[row] = weights / weights.sum() @ content[: row + 1]
    attention = np.zeros((n, 3 * n))
    for i in range(n):
        for s in range(2 * n + i + 1):
            attention[i, s] = np.exp(second * copied[s, i] - (0 if n <= s < 2 * n else penalty))
    return attention / attention.sum(axis=1, keepdims=True)


@given(permutations, scores, scores, scores)
def test_construction(pi, first, second, penalty):
    pi = np.array(pi)
    expected = by_hand(pi, first, second, penalty)
    found = scratch_attention(pi, first, second, penalty)
    np.testing.assert_allclose(found.numbers, expected[:, 4:8], rtol=1e-9)
    np.testing.assert_allclose(found.outside, expected[:, :4].sum(axis=1) + expected[:, 8:].sum(axis=1), rtol=1e-9)
    right = expected[np.arange(4), 4 + np.argsort(pi)]
    assert (1 - right <= scratch_miss(4, first, second, penalty) * (1 + 1e-9) + 1e-12).all()


def test_sharp_limit():
    pi = np.array([2, 0, 3, 1])
    found = scratch_attention(pi, 800.0, 700.0, 1400.0)
    np.testing.assert_allclose(np.asarray(found.numbers) @ np.arange(4.0)[pi], np.arange(4.0), atol=1e-12)
    beta = np.array([5.0, 10.0, 20.0, 40.0])
    bound = np.asarray(scratch_miss(5, beta, beta, 2 * beta))
    assert (np.diff(bound) < 0).all() and bound[-1] < 1e-15
    # Without other rows to avoid it falls as (n - 1) e^-beta.
    np.testing.assert_allclose(scratch_miss(5, 800.0, 30.0, 800.0), 4 * np.exp(-30), rtol=1e-10)
    np.testing.assert_allclose(scratch_miss(1, 800.0, 30.0, 60.0), 2 * np.exp(-60), rtol=1e-10)
    # No scores: uniform over what is seen.
    blunt = scratch_attention(pi, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(blunt.numbers[:, 0], 1 / (8 + np.arange(1, 5)), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: answerable(np.array([0, 0, 2])), "permutation must hold each place from 0 to 2 once"),
        (lambda: scratch_attention(np.zeros(0, int), 1.0, 1.0, 1.0), "permutation must be a row of places"),
        (lambda: scratch_attention(np.arange(3), np.nan, 1.0, 1.0), "first must be finite"),
        (lambda: scratch_miss(0, 1.0, 1.0, 1.0), "n must be a whole number of at least 1, got 0"),
        (lambda: scratch_miss(3, 1.0, -1.0, 1.0), "second must be non-negative"),
        (lambda: causal_row_error(3, -1.0), "variance must be non-negative"),
        (lambda: causal_row_accuracy(3, 0.5), "symbols must be at least 1, got 0.5"),
        (lambda: causal_recall(2, np.inf), "symbols must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
