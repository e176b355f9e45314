"""Weights of rank one: a grid over both entries, symmetries, sampling, many angles, refusals."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from theory.bayes_icl.low_rank import cut_gaussian, rank_one_predictions
from theory.bayes_icl.posterior_sampling import judged, low_rank_model, sampled_predictions
from validation.strategies import seeds

NOISE = 1.0
found = jax.jit(functools.partial(rank_one_predictions, angles=256))


def drawn(seed, n, noise=NOISE):
    rng = np.random.default_rng(seed)
    z, x = rng.normal(size=2), rng.normal(size=(n, 4))
    return x, x @ np.outer(z, z).ravel() + noise**0.5 * rng.normal(size=n)


@given(seeds)
def test_a_grid_over_both_entries(seed):
    x, y = drawn(seed, 4)
    side = np.linspace(-7, 7, 401)
    z = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = x @ (z[:, :, None] * z[:, None, :]).reshape(-1, 4).T
    log = -np.sum(z**2, axis=1) / 2 - np.log(2 * np.pi) + 2 * np.log(side[1] - side[0])
    predictions, evidence = found(x, y, NOISE), 0.0
    for t in range(4):
        weight = np.exp(log)
        now = weight.sum()
        mean = weight @ values[t] / now
        np.testing.assert_allclose(predictions.mean[t], mean, rtol=1e-7, atol=1e-7)
        square = weight @ values[t] ** 2 / now
        np.testing.assert_allclose(predictions.variance[t], square - mean**2 + NOISE, rtol=1e-6)
        log = log + stats.norm.logpdf(y[t], values[t], NOISE**0.5)
        evidence = np.log(np.exp(log).sum() / now)
        np.testing.assert_allclose(predictions.log_density[t], evidence, rtol=1e-7, atol=1e-7)


@given(seeds)
def test_symmetries(seed):
    """z may be turned; a weight is symmetric; the order of the past does not matter; Z and y share a unit."""
    x, y = drawn(seed, 5)
    plain = found(x, y, NOISE)
    turn = stats.ortho_group.rvs(2, random_state=seed)
    turned = (turn @ x.reshape(5, 2, 2) @ turn.T).reshape(5, 4)
    for other in (turned, x[:, [0, 2, 1, 3]]):
        for one, two in zip(plain, found(other, y, NOISE), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-8)
    order = [2, 0, 3, 1, 4]
    np.testing.assert_allclose(found(x[order], y[order], NOISE).mean[-1], plain.mean[-1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found(3 * x, 3 * y, 9 * NOISE).mean, 3 * plain.mean, rtol=1e-9, atol=1e-9)


def test_standardised_risk_is_that_of_the_prior():
    """Over tasks of the prior: the mean squared error is the variance that was stated, and nothing beats it."""
    prompts = [drawn(seed, 6, 2.0) for seed in range(1000)]
    x, y = (np.stack(part) for part in zip(*prompts, strict=True))
    rule = jax.jit(jax.vmap(rank_one_predictions, in_axes=(0, 0, None)))
    right = rule(x, y, 2.0)
    left = (y - right.mean) ** 2 - right.variance
    assert np.all(np.abs(left.mean(axis=0)) < 5 * left.std(axis=0) / 1000**0.5)
    for wrong in (0.5, 8.0):
        worse = np.mean((y - rule(x, y, wrong).mean) ** 2 - (y - right.mean) ** 2, axis=1)
        assert worse.mean() > 3 * worse.std() / 1000**0.5


def test_more_angles_change_nothing():
    x, y = drawn(3, 8, 4.0)
    for one, two in zip(rank_one_predictions(x, y, 4.0), found(x, y, 4.0), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9)


def test_cut_gaussian_far_out():
    """Cut far above its mean it is exponential; far below it is a Gaussian; both ways meet in the middle."""
    far = cut_gaussian(np.array([1e8, 1e200]))
    np.testing.assert_allclose(far.mean, [1e-8, 1e-200], rtol=1e-12)
    np.testing.assert_allclose(far.log_total, [-np.log(1e8), -200 * np.log(10)], rtol=1e-14)
    near = cut_gaussian(np.array(-1e3))
    np.testing.assert_allclose([near.mean, near.square], [1e3, 1e6 + 1], rtol=1e-14)
    for one, two in zip(cut_gaussian(np.array(3 - 1e-15)), cut_gaussian(np.array(3.0)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)


@pytest.mark.slow
def test_sampling_agrees():
    x, y = drawn(5, 6)
    exact = found(x, y, NOISE).mean[-1]
    settings = {"noise": NOISE, "rank": 1}
    key = jax.random.key(1)
    other = judged(sampled_predictions(low_rank_model, key, x[:-1], y[:-1], x[-1:], settings=settings))
    assert abs(other.mean[0] - exact) < 5 * other.error[0]


def test_refusals():
    with pytest.raises(ValueError, match="y must hold a label for each of the 2 inputs, got shape"):
        rank_one_predictions(np.ones((2, 4)), np.ones(3), 1.0)
    with pytest.raises(ValueError, match="x must be a matrix of shape"):
        rank_one_predictions(np.ones((2, 3)), np.ones(2), 1.0)
    with pytest.raises(ValueError, match="angles must be a whole number of at least 1, got 0"):
        rank_one_predictions(np.ones((2, 4)), np.ones(2), 1.0, 0)
    with pytest.raises(ValueError, match="noise must be positive and finite, got 0"):
        rank_one_predictions(np.ones((2, 4)), np.ones(2), 0.0)
