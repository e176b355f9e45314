"""Factor models: risk by regression, excess by simulation, with the span of the loadings known and without."""

import numpy as np
import pytest
from hypothesis import given

from theory.bayes_icl.unsupervised_pretraining import break_even_labels, factor_risk, regression_excess
from validation.strategies import seeds


def model(seed, d, r):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(d, r)), rng.normal(size=r)


@given(seeds)
def test_least_risk(seed):
    """From the covariance of inputs and labels, for more and for fewer inputs than factors."""
    for d, r in ((5, 2), (2, 4)):
        loadings, theta = model(seed, d, r)
        covariance, cross = loadings @ loadings.T + 0.4 * np.eye(d), loadings @ theta
        wanted = theta @ theta + 0.3 - cross @ np.linalg.solve(covariance, cross)
        np.testing.assert_allclose(factor_risk(loadings, 0.4, theta, 0.3), wanted, rtol=1e-9)
    # Inputs without factors tell nothing.
    np.testing.assert_allclose(factor_risk(np.zeros((3, 2)), 0.4, theta[:2], 0.3), theta[:2] @ theta[:2] + 0.3)


def test_excess_with_and_without_pretraining():
    """Published setting: 40 inputs, 3 factors, 60 and 240 labels; principal components of many unlabelled inputs."""
    rng = np.random.default_rng(1)
    d, r, noise, specific = 40, 3, 0.25, 1.0
    loadings, theta = model(2, d, r)
    best = float(factor_risk(loadings, specific, theta, noise))
    covariance = loadings @ loadings.T + specific * np.eye(d)
    rule = np.linalg.solve(covariance, loadings @ theta)

    def inputs(count):
        z = rng.normal(size=(count, r))
        return z, z @ loadings.T + specific**0.5 * rng.normal(size=(count, d))

    _, unlabelled = inputs(20_000)
    span = np.linalg.eigh(unlabelled.T @ unlabelled)[1][:, -r:]
    for n in (60, 240):
        plain, scored = [], []
        for _ in range(200):
            z, x = inputs(n)
            y = z @ theta + noise**0.5 * rng.normal(size=n)
            for excesses, basis in ((plain, np.eye(d)), (scored, span)):
                w = basis @ np.linalg.lstsq(x @ basis, y, rcond=None)[0]
                excesses.append((w - rule) @ covariance @ (w - rule))
        for excesses, p in ((plain, d), (scored, r)):
            found, error = np.mean(excesses), np.std(excesses) / 200**0.5
            # A span from 20 000 inputs is off by d r / m of the signal.
            floor = d * r / 20_000 * (theta @ theta) if p == r else 0.0
            assert abs(found - float(regression_excess(best, p, n))) < 5 * error + floor


def test_break_even():
    for n in (10, 60):
        needed = break_even_labels(40, 3, n)
        np.testing.assert_allclose(regression_excess(0.7, 40, needed), regression_excess(0.7, 3, n), rtol=1e-12)
    np.testing.assert_allclose(break_even_labels(5, 5, 20), 20, rtol=1e-12)
    assert np.isinf(regression_excess(1.0, 10, 11))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: factor_risk(np.ones((3, 2)), 0.0, np.ones(2)), r"specific must be positive and finite, got 0\.0"),
        (lambda: factor_risk.__wrapped__(np.ones((3, 2)), 1.0, np.ones(3)), "theta must have an entry for each"),
        (
            lambda: factor_risk(np.ones((3, 2)), 1.0, np.ones(2), -1.0),
            r"noise must be non-negative and finite, got -1\.0",
        ),
        (lambda: break_even_labels(3, 4, 10), "factors must be at most the number of inputs"),
        (lambda: break_even_labels(10, 4, 5), "labels must be more than the factors and one"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
