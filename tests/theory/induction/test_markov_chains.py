"""Unknown chains: counts by hand, exact probabilities, no prediction beats Bayes, closed forms against averages."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.markov_chains import (
    PRIORS,
    bigram_prediction,
    chain_losses,
    mean_losses,
    repetition,
    row_entropy,
    stationary_distribution,
    two_symbol_bayes,
    two_symbol_losses,
    two_symbol_probability,
    unigram_prediction,
)

seeds = st.integers(0, 2**32 - 1)
ALL = np.array(list(itertools.product((0, 1), repeat=6)))


def counted(x, k):
    """Both predictions after the last symbol, by loops."""
    single, pairs = np.ones(k), np.ones(k)
    for s, symbol in enumerate(x):
        single[symbol] += 1
        if s and x[s - 1] == x[-1]:
            pairs[symbol] += 1
    return single / single.sum(), pairs / pairs.sum()


@given(seeds)
def test_predictions_by_hand(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, size=(2, 7))
    found = [np.asarray(predict(x, 3)) for predict in (unigram_prediction, bigram_prediction)]
    for n, t in itertools.product(range(2), range(7)):
        for strategy, expected in zip(found, counted(x[n, : t + 1], 3), strict=True):
            np.testing.assert_allclose(strategy[n, t], expected, rtol=1e-12)
    # Names of symbols do not matter.
    names = rng.permutation(3)
    for strategy, predict in zip(found, (unigram_prediction, bigram_prediction), strict=True):
        np.testing.assert_allclose(np.asarray(predict(names[x], 3))[..., names], strategy, rtol=1e-12)


@pytest.mark.parametrize("prior", PRIORS)
def test_probabilities_of_sequences(prior):
    found = np.asarray(two_symbol_probability(ALL, prior))
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(found, found[::-1], rtol=1e-12)
    # Both ways of going on are all there are; and a stationary chain does not mind where it is looked at first.
    pairs = found.reshape(2, 2, 2, 2, 2, 2)
    np.testing.assert_allclose(pairs.sum(axis=0), pairs.sum(axis=5), rtol=1e-11)
    np.testing.assert_allclose(pairs.sum(axis=5).ravel(), two_symbol_probability(ALL[::2, :5], prior), rtol=1e-12)
    # By sampling: errors of a share.
    rng = np.random.default_rng(0)
    a = rng.random(100_000)
    b = a if prior == "doubly_stochastic" else rng.random(100_000)
    x = (0, 0, 1, 0, 0, 1)
    samples = b / (a + b) * (1 - a) ** 2 * a**2 * b
    assert abs(samples.mean() - found[int("".join(map(str, x)), 2)]) < 5 * samples.std() / np.sqrt(a.size)


@pytest.mark.parametrize("prior", PRIORS)
def test_nothing_beats_bayes(prior):
    weight = np.asarray(two_symbol_probability(ALL, prior))
    bayes = np.asarray(two_symbol_bayes(ALL, prior))
    np.testing.assert_allclose(bayes.sum(axis=2), 1, rtol=1e-12)
    # Of a sequence's own continuation, for all but the last symbol.
    share = np.take_along_axis(bayes[:, :-1], ALL[:, 1:, None], axis=2)[..., 0]
    np.testing.assert_allclose(np.prod(share, axis=1) / 2, weight, rtol=1e-11)
    for predict in (unigram_prediction, bigram_prediction):
        away = weight @ np.sum(bayes * np.log(bayes / np.asarray(predict(ALL, 2))), axis=2)
        assert (away > -1e-12).all()
    if prior == "rows":
        # How much the stationary start is worth: the first symbol, and the sixth.
        np.testing.assert_allclose(away[[0, 5]], [0.0166, 0.0059], atol=5e-5)
    else:
        same = np.cumsum(ALL[:, 1:] == ALL[:, :-1], axis=1)
        expected = (same + 1) / (np.arange(1, 6) + 2)
        found = np.take_along_axis(bayes[:, 1:], ALL[:, 1:, None], axis=2)[..., 0]
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_losses_of_two_symbols():
    found = two_symbol_losses()
    np.testing.assert_allclose(found, [np.log(2), 0.563827, 0.480889], atol=1e-6)
    means, errors = mean_losses(2)
    for exact, mean, error in list(zip(found, means, errors, strict=True))[1:]:
        assert abs(exact - mean) < 5 * error
    # Chains stay longest where rows are surest.
    assert found.bigram < row_entropy(2)


@given(seeds)
def test_losses_of_given_chains(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(3), size=(4, 3))
    pi = np.asarray(stationary_distribution(p))
    np.testing.assert_allclose(np.einsum("ci,cij->cj", pi, p), pi, atol=1e-12)
    np.testing.assert_allclose(pi.sum(axis=1), 1, rtol=1e-12)
    loss = chain_losses(p)
    assert (loss.bigram <= loss.unigram + 1e-12).all()
    assert (loss.unigram <= loss.uniform + 1e-12).all()
    names = rng.permutation(3)
    np.testing.assert_allclose(chain_losses(p[:, names][:, :, names]), loss, rtol=1e-9)
    # Rows that are all alike: symbols are independent. Columns of sum one: all symbols are equally frequent.
    alike = chain_losses(np.repeat(p[:, :1], 3, axis=1))
    np.testing.assert_allclose(alike.bigram, alike.unigram, rtol=1e-10)
    first, second, third = p[:, 0, :, None, None].swapaxes(0, 1)
    turn = np.roll(np.eye(3), 1, axis=1)
    np.testing.assert_allclose(chain_losses(first * np.eye(3) + second * turn + third * turn.T).unigram, np.log(3))


def test_deterministic_chains_are_finite():
    loss = chain_losses(np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(loss, [np.log(2), np.log(2), 0], atol=1e-12)
    absorbed = chain_losses(np.array([[1.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(absorbed, [np.log(2), 0, 0], atol=1e-12)


def test_repetition():
    # By all sequences: how often the first symbol comes back.
    weight = np.asarray(two_symbol_probability(ALL))
    for lag in range(6):
        np.testing.assert_allclose(repetition(lag), weight @ (ALL[:, lag] == ALL[:, 0]), rtol=1e-11)
    np.testing.assert_allclose(repetition(400), 2 - 2 * np.log(2), atol=1e-4)


def test_entropy_of_rows():
    np.testing.assert_allclose(row_entropy(np.array([1.0, 2.0, 3.0, 5.0])), [0, 1 / 2, 5 / 6, 77 / 60], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unigram_prediction(np.array([[0, 3]]), 3), "sequences must hold symbols from 0 to 2, got 3"),
        (lambda: bigram_prediction(np.array([[0, 1]]), 1), "symbols must be a whole number"),
        (lambda: two_symbol_probability(np.array([[0, 1]]), "uniform"), "prior must be one of rows"),
        (lambda: chain_losses(np.ones((2, 2))), "transition must have rows of sum 1"),
        (lambda: stationary_distribution(np.array([[1.5, -0.5], [0.5, 0.5]])), "transition must be non-negative"),
        (lambda: chain_losses(np.ones((2, 3)) / 3), "transition must be of shape"),
        (lambda: row_entropy(0.5), "symbols must be at least 1"),
        (lambda: repetition(-1), "lag must be a whole number"),
        (lambda: mean_losses(3, chains=1), "chains must be a whole number"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
