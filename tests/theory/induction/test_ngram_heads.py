"""Hard-wired heads and entropies of automata: by loops, relabelling, nesting, all strings of a small automaton."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.markov_chains import bigram_prediction
from theory.induction.ngram_heads import (
    empirical_conditional,
    ngram_attention,
    state_probabilities,
    symbol_entropies,
)

seeds = st.integers(0, 2**32 - 1)
LENGTH = 9


def drawn(seed):
    return np.random.default_rng(seed).integers(0, 3, size=(2, LENGTH))


def by_loops(x, order, inclusive):
    found = np.zeros((len(x), LENGTH, LENGTH))
    for n, t, s in itertools.product(range(len(x)), range(LENGTH), range(LENGTH)):
        behind = s - 1
        if s < t + inclusive and behind - order + 1 >= 0:
            found[n, t, s] = all(x[n, t - i] == x[n, behind - i] for i in range(order))
    return found / np.maximum(found.sum(axis=2, keepdims=True), 1)


@given(seeds, st.sampled_from([1, 2, 3]), st.booleans())
def test_attention(seed, order, inclusive):
    x = drawn(seed)
    found = np.asarray(ngram_attention(x, order, inclusive))
    np.testing.assert_allclose(found, by_loops(x, order, inclusive), rtol=1e-12)
    total = found.sum(axis=2)
    assert np.all(np.isclose(total, 1, rtol=1e-12) | (total == 0))
    np.testing.assert_array_equal(ngram_attention(np.array([7, 2, 5])[x], order, inclusive), found)
    more = np.asarray(ngram_attention(x, order % 3 + 1, inclusive))
    low, high = (found, more) if order < 3 else (more, found)
    assert not ((high > 0) & (low == 0)).any()


@given(seeds)
def test_an_inclusive_head_reads_all_pairs(seed):
    x = drawn(seed)
    shares = np.asarray(empirical_conditional(x, 3, 1, inclusive=True))
    # (n_y + 1) / (n + 3) from shares n_y / n.
    before = np.array([[np.sum(row[:t] == row[t]) for t in range(LENGTH)] for row in x])[..., None]
    np.testing.assert_allclose((before * shares + 1) / (before + 3), bigram_prediction(x, 3), rtol=1e-12)
    # The published head misses the pair that ends at t, and no other.
    missed = np.asarray(empirical_conditional(x, 3, 1))
    repeats = np.zeros((2, LENGTH), bool)
    repeats[:, 1:] = x[:, 1:] == x[:, :-1]
    np.testing.assert_allclose(missed[~repeats], shares[~repeats], atol=1e-12)
    lost = np.where(repeats[..., None], before * shares - np.eye(3)[x], 0)
    np.testing.assert_allclose(missed[repeats] * (before - 1)[repeats], lost[repeats], atol=1e-12)


def test_a_repeated_sequence_is_copied():
    x = np.array([[0, 1, 2, 0, 1, 2, 0, 1, 2]])
    found = np.asarray(empirical_conditional(x, 3, 2))
    np.testing.assert_array_equal(found[0, 4:].argmax(axis=1), [2, 0, 1, 2, 0])
    np.testing.assert_array_equal(found[0, :4], 0)
    assert not np.asarray(ngram_attention(x, 20)).any()


def automaton(seed):
    """Three states, three symbols, no edge for some."""
    rng = np.random.default_rng(seed)
    emission = rng.dirichlet(np.ones(3), size=3)
    emission[1, 0] = 0
    emission /= emission.sum(axis=1, keepdims=True)
    successor = np.stack([rng.permutation(3) for _ in range(3)])
    successor[1, 0] = -1
    return emission, successor


@given(seeds)
def test_entropies_of_all_strings(seed):
    emission, successor = automaton(seed)
    states, whole = np.zeros((4, 3)), 0.0
    for string in itertools.product(range(3), repeat=3):
        state, chance = 0, 1.0
        visited = [0]
        for symbol in string:
            chance *= emission[state, symbol]
            state = successor[state, symbol]
            visited.append(state)
        if chance > 0:
            whole -= chance * np.log(chance)
            for t, state in enumerate(visited):
                states[t, state] += chance
    np.testing.assert_allclose(state_probabilities(emission, successor, 4), states, atol=1e-12)
    np.testing.assert_allclose(np.sum(symbol_entropies(emission, successor, 3)), whole, rtol=1e-10)


def test_equal_edges_give_the_logarithm_of_their_number():
    emission = np.array([[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
    successor = np.array([[1, 1, -1], [0, 0, 0]])
    expected = np.log([2, 3, 2, 3])
    np.testing.assert_allclose(symbol_entropies(emission, successor, 4), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ngram_attention(np.zeros((1, 3)), 0), "order must be a whole number"),
        (lambda: empirical_conditional(np.array([[0, 4]]), 3, 1), "sequences must hold symbols from 0 to 2, got 4"),
        (lambda: symbol_entropies(np.ones((2, 2)), np.zeros((2, 2), int), 3), "emission must have rows of sum 1"),
        (
            lambda: symbol_entropies(np.ones((2, 2)) / 2, np.full((2, 2), 2), 3),
            "successor must hold states from 0 to 1",
        ),
        (lambda: state_probabilities(np.ones((2, 2)) / 2, np.zeros((2, 3), int), 3), "emission and successor must"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
