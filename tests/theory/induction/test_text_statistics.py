"""Statistics of texts: small texts in all their orders, samples of a power law, limits, and refusals."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.associative_memory import power_law
from theory.induction.data_statistics import distinct, recurrence
from theory.induction.text_statistics import (
    equivalent_bursty,
    heaps_growth,
    observed_recurrence,
    shuffled_recurrence,
    shuffled_types,
    zipf_fit,
)

seeds = st.integers(0, 2**32 - 1)
T = 7


@given(seeds)
def test_recurrence_word_by_word(seed):
    words = np.random.default_rng(seed).integers(0, 5, (2, 40))
    windows = np.array([1, 4, 9])
    found = observed_recurrence(words, windows)
    for piece, shares in zip(words, found, strict=True):
        hits = [[piece[t] in piece[t - n : t] for t in range(9, 40)] for n in windows]
        np.testing.assert_allclose(shares, np.mean(hits, axis=1), rtol=1e-13)


@given(seeds)
def test_all_orders_of_a_small_text(seed):
    text = np.random.default_rng(seed).integers(0, 4, T)
    orders = np.array(list(itertools.permutations(text)))
    counts = np.bincount(text, minlength=5)
    windows = np.array([1, 3, T - 1])
    seen = np.mean(orders[:, [T - 1]] == orders[:, : T - 1], axis=0)
    assert seen.shape == (T - 1,)
    recurs = [np.mean((orders[:, T - 1 - n : T - 1] == orders[:, [T - 1]]).any(axis=1)) for n in windows]
    np.testing.assert_allclose(shuffled_recurrence(counts, windows), recurs, rtol=1e-12, atol=1e-14)
    types = [np.mean([len(set(order[:n])) for order in orders[::7]]) for n in (0, 2, T)]
    exact = [float(shuffled_types(counts, n)) for n in (0, 2, T)]
    # Every seventh of all orders: not all of them, but all first and last words.
    np.testing.assert_allclose([exact[0], exact[2]], [types[0], types[2]], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(exact[1], 2 - float(shuffled_recurrence(counts, 1)), rtol=1e-12)


def test_long_texts_are_independent_draws():
    p = np.asarray(power_law(1.0, 50))
    gaps = []
    for size in (1e3, 1e4):
        counts = np.round(p * size)
        p_of_counts = counts / counts.sum()
        windows = np.array([1.0, 8.0, 64.0])
        gaps.append(recurrence(p_of_counts, windows) - shuffled_recurrence(counts, windows))
        # Independent draws recur more often, by up to the share of the window.
        assert (gaps[-1] > 0).all() and (gaps[-1] < 1.1 * windows / size).all()
    np.testing.assert_allclose(gaps[0] / gaps[1], 10, rtol=0.15)
    np.testing.assert_allclose(shuffled_types(counts, 100.0), distinct(p_of_counts, 100.0), rtol=100 / counts.sum())
    assert shuffled_recurrence(np.ones(9), 4.0) == 0
    np.testing.assert_allclose(shuffled_types(counts, counts.sum()), 50)


def test_the_exponent_is_recovered_with_its_error():
    rng, runs = np.random.default_rng(0), 12
    p = np.asarray(power_law(0.9, 200))
    pieces = rng.multinomial(500, p, size=(runs, 20))
    whole = [zipf_fit(one.sum(axis=0)) for one in pieces]
    z = np.array([(fit.exponent - 0.9) / fit.standard_error for fit in whole])
    # Mean and mean square of a normal variable, within four of their errors.
    assert abs(z.mean()) < 4 / np.sqrt(runs) and abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / runs)
    parted = zipf_fit(pieces[0])
    np.testing.assert_allclose(parted.exponent, whole[0].exponent, rtol=1e-10)
    # The jackknife over pieces, alike to the next order in one over their number.
    left = [float(zipf_fit(np.delete(pieces[0], i, axis=0)).exponent) for i in range(20)]
    np.testing.assert_allclose(parted.standard_error, np.sqrt(19 * np.var(left)), rtol=1 / 20)


def test_fits_of_exact_counts():
    counts = 1e9 * np.asarray(power_law(1.3, 200))
    fit, more = zipf_fit(counts), zipf_fit(4 * counts)
    np.testing.assert_allclose([fit.exponent, more.exponent], 1.3, rtol=1e-10)
    np.testing.assert_allclose(fit.standard_error / more.standard_error, 2, rtol=1e-10)
    spread = np.cov(np.log(np.arange(1, 201)), aweights=counts, ddof=0)
    np.testing.assert_allclose(fit.standard_error, 1 / np.sqrt(1e9 * spread), rtol=1e-8)
    np.testing.assert_allclose(zipf_fit(np.stack([counts] * 20)).standard_error, 0, atol=1e-9)
    np.testing.assert_allclose(zipf_fit(np.full(200, 3)).exponent, 0, atol=1e-9)
    # Words twice as bursty: each drawn word counts twice, and pieces know it.
    rng = np.random.default_rng(1)
    pieces = 4 * rng.multinomial(125, np.asarray(power_law(0.9, 200)), size=20)
    bursts = zipf_fit(pieces).standard_error / zipf_fit(pieces.sum(axis=0)).standard_error
    np.testing.assert_allclose(bursts, 2, rtol=4 / np.sqrt(38))


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.0])
def test_heaps_law_is_the_growth_of_a_long_list(alpha):
    sizes = np.array([1e3, 1e4])
    exact = distinct(power_law(alpha, 1_000_000), sizes)
    # The sum over words and its integral differ by a half; the list ends, which costs its tail.
    tail = sizes * 1e6 ** (1 - alpha) / (alpha - 1)
    assert (np.abs(heaps_growth(sizes, alpha) - exact) < 1 + tail).all()


def test_bursts_that_recur_as_often():
    alone = np.array([0.0, 0.2, 0.9])
    np.testing.assert_allclose(equivalent_bursty(0.3 + 0.7 * alone, alone), 0.3, rtol=1e-12)
    np.testing.assert_allclose(equivalent_bursty(alone, alone), 0, atol=1e-15)
    assert equivalent_bursty(0.1, 0.2) < 0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: zipf_fit(np.array([3.0])), "counts must be of shape"),
        (lambda: zipf_fit(np.array([3.0, 0.0])), "counts must hold words of more than the first rank"),
        (lambda: zipf_fit(np.array([1.0, 2.0])), "counts must fall with rank"),
        (lambda: zipf_fit(np.array([1.0, np.nan])), "counts must be non-negative and finite, got nan"),
        (
            lambda: observed_recurrence(np.arange(4), np.array(np.array([4]))),
            "windows must lie between 1 and 3, got 4",
        ),
        (
            lambda: observed_recurrence(np.arange(4), np.array(np.array([0]))),
            "windows must lie between 1 and 3, got 0",
        ),
        (lambda: shuffled_recurrence(np.array([2.5, 1.0]), 1), "counts must be whole numbers, got 2.5"),
        (lambda: shuffled_recurrence(np.array([2.0, 1.0]), 3), "windows must be below the number of words, got 3"),
        (lambda: shuffled_types(np.array([2.0, 1.0]), 4), "tokens must be those at hand, got 4"),
        (lambda: shuffled_types(np.array([1.0, 0.0]), 1), "counts must be of two words or more"),
        (lambda: equivalent_bursty(0.5, 1.0), "independent must be below 1, got 1"),
        (lambda: equivalent_bursty(1.5, 0.5), "observed must lie between 0 and 1, got 1.5"),
        (lambda: heaps_growth(10.0, 1.0), "exponent must be above 1, got 1"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
