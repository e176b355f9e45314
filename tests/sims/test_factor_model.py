"""Factor models: covariances of what is drawn, risks by brute force, least squares."""

import numpy as np

from sims.tasks.factor_model import factor_samples, least_squares, linear_risk, random_factor_model

MANY = 200_000


def model():
    return random_factor_model(np.random.default_rng(0), 5, [2.0, 0.5], 0.3, 0.2)


def test_loadings_are_orthogonal():
    found = model()
    np.testing.assert_allclose(found.loadings.T @ found.loadings, np.diag([4, 0.25]), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found.theta), 1, rtol=1e-12)


def test_covariances():
    given = model()
    x, y = factor_samples(np.random.default_rng(1), given, (MANY,))
    wanted = given.loadings @ given.loadings.T + 0.3 * np.eye(5)
    # Products of Gaussian variables of variance below 5 scatter by at most so much.
    error = 5 * np.sqrt(2) * 5 / MANY**0.5
    np.testing.assert_allclose(x.T @ x / MANY, wanted, atol=error)
    np.testing.assert_allclose(x.T @ y / MANY, given.loadings @ given.theta, atol=error)
    np.testing.assert_allclose(np.mean(y**2), 1.2, atol=error)
    assert factor_samples(np.random.default_rng(1), given, (3, 4))[1].shape == (3, 4)


def test_risk_is_that_of_new_samples():
    given = model()
    weights = np.random.default_rng(2).normal(size=(3, 5)) / 3
    x, y = factor_samples(np.random.default_rng(3), given, (MANY,))
    squares = (y - weights @ x.T) ** 2
    error = squares.std(axis=1) / MANY**0.5
    assert np.all(np.abs(squares.mean(axis=1) - linear_risk(given, weights)) < 5 * error)


def test_least_squares():
    x, y = factor_samples(np.random.default_rng(4), model(), (2, 7))
    found = least_squares(x, y)
    for i in range(2):
        np.testing.assert_allclose(found[i], np.linalg.lstsq(x[i], y[i], rcond=None)[0], rtol=1e-9)
    np.testing.assert_allclose(least_squares(x, x @ np.arange(5.0)), np.tile(np.arange(5.0), (2, 1)), atol=1e-9)
