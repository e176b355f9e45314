"""Memorising against generalising: Bayes by hand, monotone in steps and bits, the crossing, fits that find truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.strategy_choice import (
    Strategy,
    crossing_step,
    fitted_learner,
    log_odds,
    memoriser_weight,
    relative_distance,
    strategy_log_posterior,
    symmetric_divergence,
)

learners = st.tuples(st.floats(0, 0.9), st.floats(0.05, 0.9), st.floats(0.01, 10)).map(lambda x: tuple(map(float, x)))
steps, gains = st.floats(1, 1e5), st.floats(0.01, 2)
bits = st.tuples(st.floats(10, 1e6), st.floats(0, 9))


@given(learners, steps, gains, bits)
def test_posterior_by_hand(learner, n, gain, k):
    alpha, beta, gamma = learner
    logs = np.array([-np.log(2) * x**beta - gamma * n ** (1 - alpha) * y for x, y in zip(k, (0.0, gain), strict=True)])
    found = strategy_log_posterior(n, np.array([0.0, gain]), np.array(k), learner)
    np.testing.assert_allclose(found, logs - np.logaddexp(*logs), rtol=1e-9, atol=1e-9)
    eta = log_odds(n, (0.0, k[0]), (gain, k[1]), learner)
    np.testing.assert_allclose(eta, logs[0] - logs[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_odds(n, (gain, k[1]), (0.0, k[0]), learner), -eta, rtol=1e-12)
    # What both lose, and a third way that nobody would choose, changes nothing.
    np.testing.assert_allclose(log_odds(n, (5.0, k[0]), (5 + gain, k[1]), learner), eta, rtol=1e-9, atol=1e-9)
    more = strategy_log_posterior(n, np.array([0.0, gain, 3.0]), np.array([*k, 1e300]), learner)
    np.testing.assert_allclose(more[:2], found, rtol=1e-9, atol=1e-9)


@given(learners, gains, bits)
def test_the_crossing(learner, gain, k):
    memory, rule = Strategy(0.3, k[0]), Strategy(0.3 + gain, k[1])
    at = crossing_step(memory, rule, learner)
    if 1e-3 < at < 1e200:
        scale = k[0] ** learner[1]
        np.testing.assert_allclose(log_odds(at, memory, rule, learner) / scale, 0, atol=1e-10)
        weights = memoriser_weight(at * np.array([0.0, 0.5, 1.0, 2.0]), memory, rule, learner)
        assert (np.diff(weights) >= 0).all() and weights[1] <= 0.5 <= weights[3]
    # The larger the table and the smaller the gain, the later.
    assert crossing_step((0.3, 2 * k[0]), rule, learner) > at
    assert crossing_step(memory, (0.3 + gain / 2, k[1]), learner) > at


def test_no_crossing():
    learner = (0.4, 0.5, 2.0)
    assert crossing_step((1.0, 100.0), (0.5, 1.0), learner) == np.inf
    assert crossing_step((1.0, 100.0), (1.0, 1.0), learner) == np.inf
    assert crossing_step((1.0, 5.0), (0.5, 5.0), learner) == np.inf
    assert crossing_step((0.5, 1.0), (1.0, 100.0), learner) == 0
    assert crossing_step((0.5, 1.0), (0.5, 1.0), learner) == 0
    # A table that is believed at first and loses more is given up at the step of the mirror image.
    given_up = crossing_step((1.0, 1.0), (0.5, 100.0), learner)
    np.testing.assert_allclose(given_up, crossing_step((0.5, 100.0), (1.0, 1.0), learner), rtol=1e-13)


def test_start_and_end():
    learner = (0.3, 0.5, 1.0)
    start = np.exp(strategy_log_posterior(0.0, np.array([0.0, 9.0]), np.array([16.0, 4.0]), learner))
    np.testing.assert_allclose(start, [0.2, 0.8], rtol=1e-12)
    assert memoriser_weight(1e9, (0.0, 1e4), (0.1, 1.0), learner) == 1
    slope = jax.grad(lambda n: log_odds(n, (0.0, 16.0), (1.0, 0.0), learner))(0.0)
    assert np.isfinite(slope)
    assert np.isfinite(jax.grad(lambda k: log_odds(3.0, (0.0, k), (1.0, 0.0), learner))(0.0))


def test_relative_distance():
    np.testing.assert_allclose(
        relative_distance(np.array([0.0, 2.0, 1.0, 0.0]), np.array([2.0, 0.0, 1.0, 9.0]), 2.0), [1, -1, 0, 1]
    )
    # Laws that differ little: the share of a mixture, for relative entropies.
    rng = np.random.default_rng(0)
    p, q = (np.log(np.array([0.2, 0.3, 0.5]) * (1 + 1e-3 * rng.normal(size=3))) for _ in range(2))
    p, q = (x - np.logaddexp.reduce(x) for x in (p, q))
    for w in (0.1, 0.5, 0.8):
        mixed = np.log(w * np.exp(p) + (1 - w) * np.exp(q))
        d = [symmetric_divergence(x, mixed) for x in (p, q)]
        r = relative_distance(*d, symmetric_divergence(p, q))
        np.testing.assert_allclose((r + 1) / 2, w, atol=2e-3)


def test_symmetric_divergence():
    p, q = np.log([0.5, 0.5]), np.log([0.9, 0.1])
    by_hand = sum((a * np.log(a / b) + b * np.log(b / a)) / 2 for a, b in ((0.5, 0.9), (0.5, 0.1)))
    np.testing.assert_allclose(symmetric_divergence(p, q), by_hand, rtol=1e-12)
    np.testing.assert_allclose(symmetric_divergence(q, p), by_hand, rtol=1e-12)
    sure = np.array([0.0, -np.inf])
    assert symmetric_divergence(sure, sure) == 0
    assert symmetric_divergence(sure, p) == np.inf


def test_a_fit_finds_the_truth():
    n, k = np.array([1.0, 30, 100, 300, 1000, 3000])[:, None], 32.0 * np.array([4, 8, 32])
    gain = np.array([0.1, 0.07, 0.03])
    for truth in ((0.4, 0.35, 2.0), (0.1, 0.6, 9.0)):
        w = memoriser_weight(n, (np.zeros(3), k), (gain, 32.0), truth)
        found = fitted_learner(n, (np.zeros(3), k), (gain, 32.0), w)
        np.testing.assert_allclose(found.learner, truth, rtol=1e-5)
        assert found.residual < 1e-7
    # Noise is what is left.
    noise = 0.01 * np.random.default_rng(0).normal(size=w.shape)
    noisy = fitted_learner(n, (np.zeros(3), k), (gain, 32.0), jnp.clip(w + noise, 0, 1))
    assert 0.001 < noisy.residual < 0.012


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_odds(-1.0, (0.0, 1.0), (1.0, 1.0), (0.5, 0.5, 1.0)), "steps must be non-negative"),
        (lambda: log_odds(1.0, (0.0, -1.0), (1.0, 1.0), (0.5, 0.5, 1.0)), "bits must be non-negative"),
        (lambda: log_odds(1.0, (np.nan, 1.0), (1.0, 1.0), (0.5, 0.5, 1.0)), "loss must be finite"),
        (lambda: log_odds(1.0, (0.0, 1.0), (1.0, 1.0), (1.0, 0.5, 1.0)), "alpha must be below 1"),
        (lambda: log_odds(1.0, (0.0, 1.0), (1.0, 1.0), (1.2, 0.5, 1.0)), "alpha must lie between 0 and 1"),
        (lambda: log_odds(1.0, (0.0, 1.0), (1.0, 1.0), (0.2, 0.0, 1.0)), "beta must be positive"),
        (lambda: log_odds(1.0, (0.0, 1.0), (1.0, 1.0), (0.2, 0.5, -1.0)), "gamma must be positive"),
        (lambda: strategy_log_posterior(1.0, np.ones(2), np.ones(3), (0.2, 0.5, 1.0)), "loss and bits must be two"),
        (lambda: relative_distance(1.0, 1.0, 0.0), "between must be positive"),
        (lambda: symmetric_divergence(np.array([np.nan, 0.0]), np.zeros(2)), "log_p must not be NaN"),
        (lambda: fitted_learner(1.0, (0.0, 1.0), (1.0, 1.0), 0.5), "weights must be three or more"),
        (lambda: fitted_learner(np.ones(3), (0.0, 1.0), (1.0, 1.0), 1.5 * np.ones(3)), "weights must lie between"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
