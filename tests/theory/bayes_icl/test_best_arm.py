"""The best arm: quadrature by another program, symmetries, arms known far better than others, refusals."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from theory.bayes_icl.best_arm import (
    beta_best_arm,
    gaussian_best_arm,
    hypotheses_best_arm,
    linear_best_arm,
    uniform_best_arm,
)
from theory.bayes_icl.prequential import log_posterior
from validation.strategies import seeds

ARMS = 3
triples = st.tuples(*[st.floats(-2, 2)] * ARMS).map(np.array)
spreads = st.tuples(*[st.floats(-2, 1)] * ARMS).map(lambda e: 10.0 ** np.array(e))
counts = st.tuples(*[st.integers(0, 30)] * ARMS).map(np.array)


def by_quadrature(arms, low, high, points):
    """Probabilities and mean of the best from densities and distributions of SciPy, cut at the given points."""
    cuts = np.unique(np.clip(np.concatenate([[low, high], points]), low, high))

    def integral(f):
        return sum(integrate.fixed_quad(f, *ends, n=30)[0] for ends in itertools.pairwise(cuts))

    def first(a):
        return lambda x: arms[a].pdf(x) * np.prod([b.cdf(x) for i, b in enumerate(arms) if i != a], axis=0)

    chance = [integral(first(a)) for a in range(len(arms))]
    # E max = high - int prod F.
    return chance, high - integral(lambda x: np.prod([b.cdf(x) for b in arms], axis=0))


@given(triples, spreads)
def test_gaussian_arms(mean, spread):
    arms = [stats.norm(m, s) for m, s in zip(mean, spread, strict=True)]
    points = (mean[:, None] + spread[:, None] * np.arange(-10, 11)).ravel()
    expected = by_quadrature(arms, points.min(), points.max(), points)
    found = gaussian_best_arm(mean, spread**2)
    np.testing.assert_allclose(found.probability, expected[0], atol=1e-12)
    np.testing.assert_allclose(found.value, expected[1], atol=1e-11)
    np.testing.assert_allclose(np.sum(found.probability), 1, rtol=1e-13)


@given(counts, counts)
def test_arms_of_zeros_and_ones(won, lost):
    arms = [stats.beta(1 + w, 1 + n) for w, n in zip(won, lost, strict=True)]
    expected = by_quadrature(arms, 0.0, 1.0, np.linspace(0, 1, 30))
    found = beta_best_arm(1 + won, 1 + lost)
    np.testing.assert_allclose(found.probability, expected[0], atol=1e-12)
    np.testing.assert_allclose(found.value, expected[1], atol=1e-12)


def test_thousands_of_rewards():
    """Posteriors that fill a hundredth of the interval."""
    alpha, beta = np.array([2001.0, 2061.0, 1990.0]), np.array([2001.0, 1941.0, 1990.0])
    arms = [stats.beta(a, b) for a, b in zip(alpha, beta, strict=True)]
    expected = by_quadrature(arms, 0.0, 1.0, np.linspace(0.4, 0.6, 300))
    found = beta_best_arm(alpha, beta)
    np.testing.assert_allclose(found.probability, expected[0], atol=1e-11)
    np.testing.assert_allclose(found.value, expected[1], atol=1e-11)


def test_bounded_arms_by_truncated_gaussians():
    mean, precision = np.array([0.7, 0.9, 0.4]), np.array([3, 1, 5]) / 0.09
    scale = 1 / np.sqrt(precision)
    arms = [stats.truncnorm(-m / s, (1 - m) / s, m, s) for m, s in zip(mean, scale, strict=True)]
    expected = by_quadrature(arms, 0.0, 1.0, np.linspace(0, 1, 40))
    found = uniform_best_arm(mean, precision)
    np.testing.assert_allclose(found.probability, expected[0], atol=1e-12)
    np.testing.assert_allclose(found.value, expected[1], atol=1e-12)
    # In other units, from 2 on.
    moved = uniform_best_arm(2 + 10 * mean, precision / 100, 2.0, 12.0)
    np.testing.assert_allclose(moved.probability, found.probability, atol=1e-13)
    np.testing.assert_allclose(moved.value, 2 + 10 * found.value, rtol=1e-13)
    # Without the ends it is another answer.
    assert np.max(np.abs(gaussian_best_arm(mean, scale**2).probability - found.probability)) > 0.05


def test_nothing_known():
    for found in (
        gaussian_best_arm(np.zeros(4), np.ones(4)),
        uniform_best_arm(np.array([9.0, -9.0, 0.0, 0.5]), np.zeros(4)),
        beta_best_arm(np.ones(4), np.ones(4)),
    ):
        np.testing.assert_allclose(found.probability, 0.25, rtol=1e-12)
    np.testing.assert_allclose(found.value, 4 / 5, rtol=1e-12)
    assert gaussian_best_arm(np.zeros(1), np.ones(1)).probability == pytest.approx([1.0], rel=1e-13)


@given(st.floats(-12, 0), st.floats(-3, 3))
def test_an_arm_that_is_known_far_better(power, mean):
    """A step in the integrand: P is the chance that the other one is above it."""
    found = gaussian_best_arm(np.array([mean, 0.0, -60.0]), np.array([1.0, 10.0**power, 1.0]))
    np.testing.assert_allclose(found.probability[0], stats.norm.cdf(mean / np.sqrt(1 + 10.0**power)), rtol=1e-12)


def test_arms_far_beyond_the_ends():
    """A truncated Gaussian far from its interval is an exponential at the end of it."""
    rate = np.array([400.0, 700.0])
    found = uniform_best_arm(1 + rate / 1e-3, np.full(2, 1e-3))
    np.testing.assert_allclose(found.probability, [4 / 11, 7 / 11], rtol=1e-5)
    many = beta_best_arm(np.array([1e6 + 1, 1.0]), np.array([1.0, 1e6]))
    np.testing.assert_allclose(many.probability, [1, 0], atol=1e-13)
    np.testing.assert_allclose(many.value, 1 - 1 / (1e6 + 2), rtol=1e-12)
    even = beta_best_arm(np.full(2, 0.5), np.full(2, 0.5))
    np.testing.assert_allclose(even.probability, 0.5, rtol=1e-12)


@given(counts, st.permutations(range(ARMS)))
def test_the_order_of_arms_is_nothing(won, order):
    lost, order = won[::-1] + 1, list(order)
    found, mixed = beta_best_arm(1 + won, lost), beta_best_arm(1 + won[order], lost[order])
    np.testing.assert_allclose(found.probability[np.array(order)], mixed.probability, atol=1e-13)


def test_slopes():
    """dV/dm_a = P(a best), of every kind of posterior whose mean can be moved; all stay finite."""
    mean, variance = np.array([0.3, -0.2, 0.9]), np.array([0.5, 2.0, 1e-4])
    slope = jax.grad(lambda m: gaussian_best_arm(m, variance).value)(mean)
    np.testing.assert_allclose(slope, gaussian_best_arm(mean, variance).probability, rtol=1e-9)
    for function in (uniform_best_arm, beta_best_arm):
        slopes = jax.grad(lambda m, f=function: f(m, np.ones(3)).value)(np.array([0.5, 4.0, 900.0]))
        assert np.isfinite(slopes).all()
    assert np.isfinite(jax.grad(lambda k: uniform_best_arm(mean, k).value)(np.zeros(3))).all()


def test_hypotheses():
    """A fine grid of two independent arms, and arms that tell about each other."""
    grid = (np.arange(200) + 0.5) / 200
    means = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    won, lost = np.array([4, 1]), np.array([2, 1])
    seen = (won * np.log(means) + lost * np.log(1 - means)).sum(axis=1)
    found = hypotheses_best_arm(log_posterior(seen[:, None])[:, -1], means)
    expected = beta_best_arm(1 + won, 1 + lost)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
    np.testing.assert_allclose(found.value, expected.value, atol=1e-4)
    linked = hypotheses_best_arm(np.array([0.0, np.log(3), -np.inf]), np.array([[1.0, 1, 0], [0, 2, 0], [0, 0, 9]]))
    np.testing.assert_allclose(linked.probability, [1 / 8, 7 / 8, 0])
    np.testing.assert_allclose(linked.value, 7 / 4)


def linear_bandit(seed, arms=5, narrow=0.1):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, 2))
    return rng.normal(size=(arms, 2)), rng.normal(size=2), root @ root.T + narrow * np.eye(2)


@given(seeds)
def test_arms_that_share_weights(seed):
    """d E max / dm is the mean feature of the best arm; turned weights and another order of arms change nothing."""
    x, m, covariance = linear_bandit(seed)
    found = linear_best_arm(x, m, covariance)
    np.testing.assert_allclose(np.sum(found.probability), 1, rtol=1e-12)
    slope = jax.grad(lambda m: linear_best_arm(x, m, covariance).value)(m)
    np.testing.assert_allclose(slope, found.probability @ x, atol=1e-9)
    turn, order = stats.ortho_group.rvs(2, random_state=seed), [3, 0, 4, 1, 2]
    turned = linear_best_arm((x @ turn.T)[order], turn @ m, turn @ covariance @ turn.T)
    np.testing.assert_allclose(turned.probability, found.probability[np.array(order)], atol=1e-12)
    np.testing.assert_allclose(turned.value, found.value, rtol=1e-11)


@given(seeds, st.floats(-2, 0), st.floats(-2, 0))
def test_two_linear_arms_are_two_correlated_ones(seed, size, narrow):
    """At any size of the covariance, stretched up to a hundredfold."""
    x, m, _ = linear_bandit(seed, 2)
    turn = stats.ortho_group.rvs(2, random_state=seed)
    covariance = 10**size * turn @ np.diag([1, 10**narrow]) @ turn.T
    apart, deviation = (x[0] - x[1]) @ m, np.sqrt((x[0] - x[1]) @ covariance @ (x[0] - x[1]))
    found = linear_best_arm(x, m, covariance)
    np.testing.assert_allclose(found.probability[0], stats.norm.cdf(apart / deviation), atol=1e-10)
    value = x[1] @ m + apart * stats.norm.cdf(apart / deviation) + deviation * stats.norm.pdf(apart / deviation)
    np.testing.assert_allclose(found.value, value, atol=1e-10)


def test_linear_arms_by_hypotheses_and_by_themselves():
    x, m, covariance = linear_bandit(1)
    side = np.linspace(-6, 6, 301)
    white = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    expected = hypotheses_best_arm(-np.sum(white**2, axis=1) / 2, (m + white @ np.linalg.cholesky(covariance).T) @ x.T)
    found = linear_best_arm(x, m, covariance)
    np.testing.assert_allclose(found.probability, expected.probability, atol=5e-3)
    np.testing.assert_allclose(found.value, expected.value, atol=1e-3)
    # Arms along the axes that do not share anything.
    apart = linear_best_arm(np.eye(2), m, np.diag([0.5, 2.0]))
    np.testing.assert_allclose(apart.probability, gaussian_best_arm(m, np.array([0.5, 2.0])).probability, atol=1e-12)
    # Twins share; one arm alone is the best.
    twins = linear_best_arm(np.array([[1.0, 0], [1, 0], [-1, 0]]), np.zeros(2), np.eye(2))
    np.testing.assert_allclose(twins.probability, [0.25, 0.25, 0.5], atol=1e-12)
    alone = linear_best_arm(np.array([[1.0, 2.0]]), m, covariance)
    np.testing.assert_allclose([alone.probability[0], alone.value], [1, m @ [1, 2]], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_best_arm(np.eye(2), np.zeros(3), np.eye(2)), "mean must be that of two weights"),
        (lambda: linear_best_arm(np.eye(3), np.zeros(2), np.eye(2)), "arms must be a matrix of shape"),
        (lambda: linear_best_arm(np.eye(2), np.zeros(2), np.ones((2, 2))), "covariance must be positive definite"),
        (lambda: gaussian_best_arm(np.zeros(2), np.array([1.0, 0.0])), "variance must be positive and finite, got 0.0"),
        (lambda: gaussian_best_arm(np.zeros(2), np.ones(3)), "mean must hold a number for each arm"),
        (lambda: gaussian_best_arm(np.array([0.0, np.nan]), np.ones(2)), "mean must be finite, got nan"),
        (lambda: uniform_best_arm(np.zeros(2), np.array([1.0, -1.0])), "precision must be non-negative and finite"),
        (lambda: uniform_best_arm(np.zeros(2), np.ones(2), 1.0, 1.0), "high must be above low, got 1.0"),
        (lambda: beta_best_arm(np.zeros(0), np.zeros(0)), "alpha must hold a number for each arm"),
        (lambda: beta_best_arm(np.array([0.4, 1.0]), np.ones(2)), "alpha must be at least 1/2, got 0.4"),
        (lambda: hypotheses_best_arm(np.zeros(3), np.ones((2, 2))), "means must hold a row for each of the beliefs"),
        (lambda: hypotheses_best_arm(np.full(2, -np.inf), np.ones((2, 2))), "log_belief must leave one bandit"),
        (lambda: hypotheses_best_arm(np.array([0.0, np.nan]), np.ones((2, 2))), "log_belief must not be NaN"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
