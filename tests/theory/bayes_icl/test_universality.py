"""Universality: sequences one by one, both inequalities for random mixtures, weights, what is impossible, refusals."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.universality import (
    coin_divergences,
    coin_regret,
    hypothesis_log_weight,
    mixture_regret_bound,
    resolvability,
)

COINS = 6
chances = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**16)
regret = jax.jit(coin_regret, static_argnums=2)


def mixture(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.01, 0.99, COINS), np.log(rng.dirichlet(np.full(COINS, 0.5)) + 1e-12)


@given(chances, seeds)
def test_all_sequences(truth, seed):
    coins, log_prior = mixture(seed)
    prior, found = np.exp(log_prior) / np.exp(log_prior).sum(), 0.0
    for s in itertools.product((0, 1), repeat=5):
        own = np.prod([truth if one else 1 - truth for one in s])
        mixed = prior @ np.prod([coins if one else 1 - coins for one in s], axis=0)
        found += own * np.log(own / mixed)
    np.testing.assert_allclose(regret(truth, coins, 5, log_prior), found, atol=1e-11)


@pytest.mark.slow
@given(chances, seeds)
def test_both_inequalities(truth, seed):
    coins, log_prior = mixture(seed)
    k = coin_divergences(truth, coins)
    n = np.array([0.0, 1.0, 7.0, 60.0])
    first, second = mixture_regret_bound(k, n, log_prior), resolvability(k, n, log_prior)
    exact = np.array([regret(truth, coins, int(m), log_prior) for m in n])
    assert (exact >= -1e-12).all()
    assert (exact <= first + 1e-11).all()
    assert (first <= second + 1e-11).all()
    # Any radius bounds it, none better than the best.
    for radius in (0.01, 0.3, 5.0):
        assert (second <= n * radius - hypothesis_log_weight(k, radius, log_prior) + 1e-11).all()
    # A truth that is among the coins is paid for once.
    member = np.asarray(log_prior - np.logaddexp.reduce(log_prior))
    for m in (1, 60):
        assert regret(coins[0], coins, m, log_prior) <= -member[0] + 1e-11


def test_known_values():
    grid = np.arange(1, 1000) / 1000
    for truth, wanted in ((0.5, (1.927, 2.426, 3.135)), (0.9, (2.441, 2.934, 3.641))):
        k = coin_divergences(truth, grid)
        found = coin_regret(truth, grid, 200), mixture_regret_bound(k, 200.0), resolvability(k, 200.0)
        np.testing.assert_allclose(found, wanted, atol=6e-4)


def test_divergences():
    np.testing.assert_allclose(
        coin_divergences(0.25, np.array([0.5])), [np.log(2) + 0.25 * np.log(0.25) + 0.75 * np.log(0.75)]
    )
    found = coin_divergences(0.0, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(found, [0, np.log(2), np.inf])
    assert (coin_divergences(0.3, 0.3 + np.linspace(-1e-9, 1e-9, 21)) >= 0).all()


def test_weights():
    k, log_prior = np.array([0.1, 0.0, 2.0]), np.log([0.5, 0.2, 0.3])
    found = np.exp(hypothesis_log_weight(k, np.array([0.0, 0.1, 1.0, 2.0]), log_prior))
    np.testing.assert_allclose(found, [0.2, 0.7, 0.7, 1.0], rtol=1e-12)
    assert hypothesis_log_weight(k[:1], 0.01) == -np.inf
    np.testing.assert_allclose(
        resolvability(k, np.array([0.0, 1.0, 1e6]), log_prior), [0, 0.1 - np.log(0.7), -np.log(0.2)], atol=1e-12
    )
    np.testing.assert_allclose(mixture_regret_bound(k, 1e6, log_prior), -np.log(0.2), rtol=1e-12)


def test_what_is_impossible():
    k = np.array([np.inf, 0.2])
    np.testing.assert_allclose(mixture_regret_bound(k, np.array([0.0, 10.0])), [0, 2 + np.log(2)], atol=1e-14)
    np.testing.assert_allclose(resolvability(k, np.array([10.0])), [2 + np.log(2)])
    assert mixture_regret_bound(k[:1], 1.0) == np.inf and resolvability(k[:1], 1.0) == np.inf
    assert regret(0.5, np.array([0.0, 1.0]), 2) == np.inf
    np.testing.assert_allclose(regret(0.0, np.array([0.0, 1.0]), 9), np.log(2), rtol=1e-12)
    np.testing.assert_allclose(regret(0.4, np.array([0.4, 0.1]), 0), 0, atol=1e-15)
    slope = jax.jit(jax.grad(lambda n: mixture_regret_bound(k, n)))(3.0)
    np.testing.assert_allclose(slope, 0.2, rtol=1e-12)
    assert np.isfinite(jax.jit(jax.grad(lambda t: coin_regret(t, np.array([0.2, 0.7]), 20)))(0.5))


TWO = np.array([0.1, 0.2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coin_divergences(1.2, TWO), "truth must lie between 0 and 1, got 1.2"),
        (lambda: coin_divergences(0.5, -TWO), "coins must lie between 0 and 1"),
        (lambda: mixture_regret_bound(-TWO, 1.0), "divergences must not be negative or NaN"),
        (lambda: mixture_regret_bound(TWO, -1.0), "n must be non-negative"),
        (lambda: mixture_regret_bound(np.zeros(0), 1.0), "divergences must hold a number for each hypothesis"),
        (lambda: resolvability(TWO, 1.0, np.zeros(3)), r"log_prior must have shape \(2,\)"),
        (lambda: resolvability(TWO, 1.0, np.full(2, -np.inf)), "log_prior must leave one hypothesis"),
        (lambda: hypothesis_log_weight(TWO, -0.1), "radius must be non-negative"),
        (lambda: coin_regret(0.5, TWO, -1), "n must be a whole number of at least 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
