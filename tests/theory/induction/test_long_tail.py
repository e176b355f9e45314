"""The value of a single example: drawn mixtures, sums over all counts, its bound under random priors, power laws."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theory.induction.associative_memory import power_law
from theory.induction.long_tail import (
    excess_error,
    expected_mass,
    expected_number,
    memorisation_value,
    power_law_ratio,
    power_law_value,
    private_wrong,
    singleton_bound,
    threshold_error,
    unseen_error,
)

# Few shapes: subpopulations, and numbers of copies.
K, MOST = 6, 13
weights = st.lists(st.floats(1e-3, 1), min_size=K, max_size=K).map(np.array)
counts = st.integers(3, 200)


def normalised(w):
    return w / w.sum()


@given(weights, st.integers(1, 12))
def test_sums_over_all_counts(w, n):
    p = normalised(w)
    # One shape for all: what was not seen so often counts for nothing.
    seen = np.minimum(np.arange(MOST), n)
    once = np.arange(MOST) <= n
    number, mass = (np.asarray(of(p, n, seen)) * once for of in (expected_number, expected_mass))
    np.testing.assert_allclose([number.sum(), number @ seen, mass.sum()], [K, n, 1], rtol=1e-12)
    expected = stats.binom.pmf(seen[:, None], n, p) * once[:, None]
    np.testing.assert_allclose(number, expected.sum(axis=1), rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(mass, expected @ p, rtol=1e-10, atol=1e-300)
    value = np.asarray(memorisation_value(p, n, seen))
    np.testing.assert_allclose(value * number, mass, rtol=1e-10, atol=1e-300)
    # A count is good news: the likelihood ratio of two frequencies is monotone in it.
    assert (np.diff(value) >= -1e-12).all()
    assert p.min() * (1 - 1e-12) <= value.min() and value.max() <= p.max() * (1 + 1e-12)
    # Good and Turing, with one example more.
    more = np.asarray(expected_number(p, n + 1, seen + 1))
    np.testing.assert_allclose(mass, once * (seen + 1) / (n + 1) * more, rtol=1e-10, atol=1e-300)


def test_drawn_mixtures():
    """A learner that is wrong by chance, with a probability for each count: its error and the best one."""
    rng, runs, labels = np.random.default_rng(0), 20_000, 4
    p, wrong = normalised(np.arange(1, K + 1) ** -1.5), 0.9 ** np.arange(1, MOST + 1)
    seen = rng.multinomial(MOST, p, size=runs)
    missed = rng.random(seen.shape) < np.concatenate([[1 - 1 / labels], wrong])[seen]
    best, extra = ((missed & which) @ p for which in (seen == 0, seen > 0))
    for samples, expected in ((best, unseen_error(p, MOST, labels)), (extra, excess_error(p, MOST, wrong))):
        assert abs(samples.mean() - expected) < 5 * samples.std() / np.sqrt(runs)
    # The sum of values over what is wrong says the same for each count.
    value = np.asarray(memorisation_value(p, MOST, np.arange(1, MOST + 1)))
    paired = np.sum(np.where(missed & (seen > 0), value[seen - 1] - p, 0.0), axis=1)
    assert abs(paired.mean()) < 5 * paired.std() / np.sqrt(runs)


def test_numbers_are_subpopulations():
    p, m = np.array([0.4, 0.2, 0.1, 0.3, 0.0, 0.7]), np.array([1.0, 2.0, 2.0, 0.0, 1.0, 0.0])
    each, seen = np.repeat(p, m.astype(int)), np.arange(MOST)
    for of in (memorisation_value, expected_mass, expected_number):
        np.testing.assert_allclose(of(p, MOST, seen, m), of(each, MOST, seen), rtol=1e-12)
    # One of them has no frequency: it is there, and never seen.
    np.testing.assert_allclose(expected_number(p, MOST, seen, m), stats.binom.pmf(seen[:, None], MOST, p) @ m)
    wrong = np.linspace(0.1, 0.9, MOST)
    np.testing.assert_allclose(excess_error(p, MOST, wrong, m), excess_error(each, MOST, wrong), rtol=1e-12)
    for of in (unseen_error, lambda *a: threshold_error(*a[:2], MOST + 1, *a[2:])):
        np.testing.assert_allclose(of(p, MOST, 3.0, m), of(each, MOST, 3.0), rtol=1e-12)
    np.testing.assert_allclose(singleton_bound(p, 9, m), 0.6 / 45, rtol=1e-12)


def test_thresholds():
    p, n = normalised(np.arange(1, K + 1) ** -1.0), MOST
    singletons = n * np.sum(p**2 * (1 - p) ** (n - 1))
    np.testing.assert_allclose(excess_error(p, n, np.ones(1)), singletons, rtol=1e-12)
    np.testing.assert_allclose(threshold_error(p, n, 2, 4), 0.75 * singletons, rtol=1e-12)
    assert threshold_error(p, n, 1, 4) == 0
    # Nothing is ever known: a guess.
    np.testing.assert_allclose(threshold_error(p, n, n + 1, 4) + unseen_error(p, n, 4), 0.75, rtol=1e-12)
    np.testing.assert_allclose(memorisation_value(np.full(K, 1 / K), 30, np.arange(MOST)), 1 / K, rtol=1e-10)


@given(weights, counts, st.floats(0, 1))
def test_bound_on_singletons(w, n, mixed):
    # A prior: a mixture of some frequencies and of one close to one with many small ones.
    p = np.concatenate([normalised(w[:-2]), [1 - 1e-9, 1e-12]])
    m = np.concatenate([np.full(K - 2, mixed), (1 - mixed) * np.array([1.0, 1e3])])
    bound = singleton_bound(p, n, m)
    assert memorisation_value(p, n, 1, m) >= bound * (1 - 1e-9)
    assert bound <= 1 / (5 * n) * (1 + 1e-9)


def test_bound_is_not_idle():
    # Frequencies at the ends of the interval count, and next to them do not.
    for size, there in ((24.9, False), (25, True), (26, True), (149, True), (150, True), (150.1, False)):
        bound = singleton_bound(np.full(K, 1 / size), 50, np.full(K, size / K))
        np.testing.assert_allclose(bound, there / 250, rtol=1e-12)
    # Why n = 2 is refused: almost always one subpopulation, rarely very many.
    p, m = np.array([1 - 1e-12, 1e-5, 0, 0, 0, 0]), np.array([0.99, 1e3, 0, 0, 0, 0])
    assert memorisation_value(p, 2, 1, m) < 0.99 / 10


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_power_laws(alpha):
    """Deviations are those of the missing end of the law, (n p_N)^{l - 1/alpha}, and no others in 1/n."""
    n, size, seen = 1000, 200_000, np.arange(1, 4)
    p = np.asarray(power_law(alpha, size))
    end = (n * p[-1]) ** (seen - 1 / alpha)
    found = np.asarray(memorisation_value(p, n, seen)) / power_law_value(alpha, n, seen)
    # A term in 1/n, or 1/n^2 in the second, would be seen.
    assert (np.abs(found - 1) < 2 * end + 1e-7).all() and end[0] < 0.02
    best = unseen_error(p, n, 2.0)
    ratios = np.array([1 + threshold_error(p, n, m, 2.0) / best for m in (2, 4)])
    assert (np.abs(ratios / power_law_ratio(alpha, np.array([2, 4])) - 1) < 2 * end[0]).all()


def test_power_law_limits():
    np.testing.assert_allclose(1e8 * power_law_value(np.array([1.01, 2, 50]), 1e8, 1), 1 - 1 / np.array([1.01, 2, 50]))
    np.testing.assert_allclose(power_law_ratio(2.0, np.array([1, 2, 3])), [1, 1.5, 1.875], rtol=1e-12)
    # A short tail is worth its count, and each copy needed costs as much as the unseen.
    np.testing.assert_allclose(power_law_ratio(1e9, np.arange(1, 6)), np.arange(1, 6), rtol=1e-7)


def least_wrong(epsilon, delta, labels, seen):
    """The best symmetric learner by a search over all probabilities of the right label."""
    q = np.linspace(0, 1, 200_001)
    other = (1 - q) / (labels - 1)
    reach = other
    for _ in range(seen):
        reach = np.exp(epsilon) * reach + delta
    return 1 - q[q <= reach + 1e-12].max()


@pytest.mark.parametrize(
    ("epsilon", "delta", "labels", "seen"),
    list(itertools.product([0.0, 0.5, 2.0], [0.0, 0.05], [2, 10], [0, 1, 3])),
)
def test_private_learners(epsilon, delta, labels, seen):
    found = private_wrong(seen, epsilon, labels, delta)
    np.testing.assert_allclose(found, least_wrong(epsilon, delta, labels, seen), atol=1e-5)


def test_private_limits():
    assert private_wrong(10.0, 500.0, 4.0) == 0 and private_wrong(1e6, 1.0, 4.0, 1e-9) == 0
    np.testing.assert_allclose(private_wrong(3.0, 0.0, 4.0, 0.1), 0.75 * 0.7, rtol=1e-12)
    np.testing.assert_allclose(private_wrong(3.0, 1e-9, 4.0, 0.1), 0.75 * 0.7, rtol=1e-7)
    np.testing.assert_allclose(private_wrong(1.0, 0.0, 1.0), 0.0)


def test_derivatives_are_finite():
    p = np.array([0.5, 0.3, 0.2, 0.0, 0.0, 0.0])
    slope = jax.jit(jax.grad(lambda p: memorisation_value(p, 7, 1)))(p)
    step = 1e-6 * np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    change = (memorisation_value(p + step, 7, 1) - memorisation_value(p - step, 7, 1)) / 2e-6
    np.testing.assert_allclose(slope[0] - slope[1], change, rtol=1e-6)
    assert np.isfinite(slope).all()


THIRDS = np.full(3, 1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: memorisation_value(0.9 * THIRDS, 3, 1), "frequencies times numbers must sum to one"),
        (lambda: memorisation_value(np.ones(1), 3, 1), "frequencies must lie between 0 and below 1, got 1.0"),
        (lambda: memorisation_value(np.ones(0), 3, 1), "frequencies must be a vector of one or more"),
        (lambda: memorisation_value(THIRDS, 0, 0), "examples must be at least 1, got 0.0"),
        (lambda: memorisation_value(THIRDS, 3, 4), "seen must lie between 0 and examples, got 4.0"),
        (lambda: expected_mass(THIRDS, 3, 1, np.ones(2)), "numbers must be one for each of 3 frequencies"),
        (lambda: expected_number(THIRDS, 3, 1, np.array([1.0, 3.0, -1.0])), "numbers must be non-negative"),
        (lambda: expected_number(THIRDS, np.nan, 1), "examples must be finite"),
        (lambda: excess_error(THIRDS, 3, np.array([1.2])), "wrong must lie between 0 and 1, got 1.2"),
        (lambda: excess_error(THIRDS, 3, np.ones(4)), "seen must lie between 0 and examples, got 4.0"),
        (lambda: unseen_error(THIRDS, 3, 0.5), "labels must be at least 1, got 0.5"),
        (lambda: threshold_error(THIRDS, 3, 0, 2), "copies must be a whole number of at least 1, got 0"),
        (lambda: threshold_error(THIRDS, 3, 2, 0.0), "labels must be at least 1"),
        (lambda: singleton_bound(THIRDS, 2), "examples must be at least 3, got 2.0"),
        (lambda: power_law_value(1.0, 10, 1), "exponent must be above 1, got 1.0"),
        (lambda: power_law_value(2.0, 10, 0), "seen must lie between 1 and examples"),
        (lambda: power_law_ratio(2.0, 0.5), "copies must be at least 1, got 0.5"),
        (lambda: private_wrong(1, -1.0, 2), "epsilon must be non-negative"),
        (lambda: private_wrong(1, 1.0, 2, 2.0), "delta must lie between 0 and 1, got 2.0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
