"""Gaussian classes: moments, samples that do not count, and both rules against what they must be."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from sims.engine import grid, simulate
from sims.tasks.gaussian_classes import (
    LinearRule,
    Samples,
    estimated_means,
    gaussian_classes,
    largest_errors,
    logistic_loss,
    mistakes,
    opposite_means,
    rule_training,
)

KEY = jax.random.key(0)


def test_opposite_means():
    means, used = opposite_means(np.array([2, 4]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(np.linalg.norm(means[:, 1] - means[:, 0], axis=1), [1, 3])
    np.testing.assert_allclose(means[:, 1], -means[:, 0])
    np.testing.assert_array_equal(used, [[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(means[0, :, 2:], 0)
    assert np.unique(np.abs(means[1])).size == 1


def test_moments_of_classes():
    means, spread = jnp.array([[0.0, 1.0, 0.0], [2.0, -1.0, 0.0]]), jnp.array([1.0, 0.5, 0.0])
    many = 20_000
    x, y, counted = gaussian_classes(KEY, means, many, 10, spread)
    for label in (0, 1):
        of_class = np.asarray(x)[np.asarray(y) == label]
        assert len(of_class) == many
        np.testing.assert_allclose(of_class.mean(axis=0), means[label], atol=5 / many**0.5)
        np.testing.assert_allclose(np.cov(of_class.T), np.diag(spread**2), atol=8 / many**0.5)
        assert np.sum(np.asarray(counted)[np.asarray(y) == label]) == 10
    assert gaussian_classes(KEY, means, 3).counted.sum() == 6


def test_only_samples_that_count():
    drawn = gaussian_classes(KEY, jnp.array([[-1.0, 0.5], [1.0, 0.0]]), 6, 4)
    kept = Samples(*(part[:8] for part in drawn))
    rule = LinearRule(jnp.array([0.3, -0.2]), jnp.array(0.1))
    np.testing.assert_allclose(logistic_loss(rule, drawn), logistic_loss(rule, kept), rtol=1e-6)
    one, other = estimated_means(drawn), estimated_means(kept)
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-6)
    np.testing.assert_allclose(one.bias, other.bias, rtol=1e-5)


def test_estimated_means_decide_for_the_nearer_one():
    drawn = gaussian_classes(KEY, jnp.array([[-1.0, 0.5, 3.0], [1.0, 0.0, 2.0]]), 5)
    x, y = np.asarray(drawn.x), np.asarray(drawn.y)
    zero, one = x[y == 0].mean(axis=0), x[y == 1].mean(axis=0)
    at = np.random.default_rng(0).normal(size=(50, 3)) + np.array([0, 0, 2.5])
    nearer = np.sum((at - zero) ** 2, axis=1) > np.sum((at - one) ** 2, axis=1)
    np.testing.assert_array_equal(np.asarray(estimated_means(drawn)(jnp.asarray(at))) > 0, nearer)


def test_loss_and_mistakes():
    samples = Samples(jnp.array([[1.0], [2.0], [-3.0]]), jnp.array([1, 0, 0]), jnp.ones(3))
    rule = LinearRule(jnp.array([1.0]), jnp.array(-0.5))
    wanted = np.mean([np.log1p(np.exp(-0.5)), np.log1p(np.exp(1.5)), np.log1p(np.exp(-3.5))])
    np.testing.assert_allclose(logistic_loss(rule, samples), wanted, rtol=1e-6)
    np.testing.assert_allclose(mistakes(rule, samples), 1 / 3, rtol=1e-6)


def test_descent_comes_to_the_maximum_of_the_likelihood():
    """Where classes overlap: no slope is left, and mistakes are those of the rule on fresh samples."""
    means, used = opposite_means(np.array([2]), np.array([1.5]))
    runs = grid(3, means=means, spread=used, samples=[40])
    found = simulate(rule_training(50, 2000, 0.2), runs, [0, 500])
    for i in range(3):
        samples = jax.tree.map(lambda x, i=i: x[i], found.state.hyper["drawn"])
        rule = jax.tree.map(lambda x, i=i: x[i], found.state.model)
        slope = jax.grad(logistic_loss)(rule, samples)
        assert max(np.abs(slope.weights).max(), abs(float(slope.bias))) < 1e-4
    end = {name: np.asarray(x)[:, 1] for name, x in found.records.items()}
    np.testing.assert_allclose(end["weights"][:, 0], found.state.model.weights)
    # Both rules are near the best one, of error Phi(-1.5 / 2).
    np.testing.assert_allclose(end["mistakes"], norm.cdf(-0.75), atol=0.06)
    start = {name: np.asarray(x)[:, 0] for name, x in found.records.items()}
    np.testing.assert_array_equal(start["weights"][:, 1], end["weights"][:, 1])
    np.testing.assert_array_equal(start["weights"][:, 0], 0)


def test_largest_errors():
    found = largest_errors(np.random.default_rng(0), 4000, 9, 1)
    # One mean of nine samples is off by more than 1/3 of a standard deviation with the chance of one sample of one.
    chance = 2 * norm.cdf(-1)
    np.testing.assert_allclose(np.mean(found > 1 / 3), chance, atol=5 * (chance / 4000) ** 0.5)
    more = largest_errors(np.random.default_rng(0), 1000, 9, 5)
    chance = 1 - (1 - chance) ** 5
    np.testing.assert_allclose(np.mean(more > 1 / 3), chance, atol=5 * (chance * (1 - chance) / 1000) ** 0.5)
