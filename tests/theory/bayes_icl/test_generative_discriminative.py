"""Linear rules by sampling and by integrals, samples by order statistics, estimated means by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from theory.bayes_icl.generative_discriminative import (
    estimated_means_error,
    linear_rule_error,
    mean_samples,
    samples_for_excess,
)
from validation.strategies import seeds


@given(seeds)
def test_error_of_a_rule(seed):
    """By the law of w . x in each class, and blind to the scale of the rule."""
    rng = np.random.default_rng(seed)
    w, b, means, root = rng.normal(size=3), rng.normal(), rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    s = root @ root.T + 0.1 * np.eye(3)
    spread = np.sqrt(w @ s @ w)
    wanted = (norm.cdf(0, means[1] @ w + b, spread) + norm.sf(0, means[0] @ w + b, spread)) / 2
    np.testing.assert_allclose(linear_rule_error(w, b, means, s), wanted, rtol=1e-10)
    np.testing.assert_allclose(linear_rule_error(7 * w, 7 * b, means, s), wanted, rtol=1e-10)
    # Classes and sides exchanged.
    np.testing.assert_allclose(linear_rule_error(-w, -b, means[::-1], s), wanted, rtol=1e-10)
    for diagonal in (np.array([0.5, 1.0, 2.0]), 0.7):
        full = np.diag(np.broadcast_to(diagonal, 3))
        np.testing.assert_allclose(
            linear_rule_error(w, b, means, diagonal), linear_rule_error(w, b, means, full), rtol=1e-12
        )


def test_the_best_rule():
    means = np.array([[-1.0, 0.5], [1.0, 0.0]])
    w, b = means[1] - means[0], -(means[1] @ means[1] - means[0] @ means[0]) / 2
    best = linear_rule_error(w, b, means)
    np.testing.assert_allclose(best, norm.cdf(-np.linalg.norm(w) / 2), rtol=1e-12)
    for off in (0.1, -0.1):
        assert linear_rule_error(w, b + off, means) > best
        assert linear_rule_error(w + np.array([0.0, off]), b, means) > best


@pytest.mark.parametrize(("d", "wanted"), [(10, 75), (100, 115), (1000, 165), (10_000, 220)])
def test_samples_for_means_as_measured(d, wanted):
    """Accuracy 0.3, nine times in ten; measured in steps of five, and below the bound."""
    found = float(mean_samples(d, 0.3, 0.1))
    assert abs(found - wanted) <= 6
    assert found < 2 * np.log(2 * d / 0.1) / 0.3**2


@given(st.floats(1, 1e6), st.floats(0.05, 1), st.floats(0.01, 0.5))
def test_samples_for_means(d, accuracy, failure):
    m = float(mean_samples(d, accuracy, failure))
    inside = d * np.log1p(-2 * norm.sf(accuracy * m**0.5))
    np.testing.assert_allclose(inside, np.log1p(-failure), rtol=1e-8)
    assert m < 2 * np.log(2 * d / failure) / accuracy**2


def test_estimated_means_by_simulation():
    """200 features, means from 50 samples of each class: within the stated order of 1 / sqrt(m), and its trend."""
    rng = np.random.default_rng(0)
    d, delta = 200, 2.5
    means = np.zeros((2, d))
    means[1] = delta / d**0.5
    for m in (25, 100, 400):
        errors = []
        for _ in range(300):
            seen = means + rng.normal(size=(2, d)) / m**0.5
            w, b = seen[1] - seen[0], (seen[0] @ seen[0] - seen[1] @ seen[1]) / 2
            errors.append(float(_error(w, b, means)))
        found, wanted = np.mean(errors), float(estimated_means_error(delta, d, m))
        # The rule's value at a mean scatters by sqrt(Delta^2 / m + d / m^2): a second order of the error's slope.
        size = delta**2 + 2 * d / m
        second = (delta**2 / m + d / m**2) / size * norm.pdf(delta**2 / 2 / size**0.5)
        assert abs(found - wanted) < 5 * np.std(errors) / 300**0.5 + second


def _error(w, b, means):
    off = (means @ w + b) / np.linalg.norm(w)
    return (norm.cdf(-off[1]) + norm.cdf(off[0])) / 2


@given(st.floats(0.2, 4), st.floats(1, 1000), st.floats(0.01, 0.9))
def test_samples_for_an_excess(delta, d, share):
    m = samples_for_excess(delta, d, share)
    np.testing.assert_allclose(estimated_means_error(delta, d, m), norm.cdf(-(1 - share) * delta / 2), rtol=1e-9)
    # In proportion to d at a fixed distance, the same for any d where each feature tells as much.
    np.testing.assert_allclose(samples_for_excess(delta, 4 * d, share), 4 * m, rtol=1e-10)
    np.testing.assert_allclose(samples_for_excess(2 * delta, 4 * d, share), m, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: linear_rule_error(np.zeros(2), 0.0, np.ones((2, 2))), "covariance must let w . x vary"),
        (lambda: linear_rule_error.__wrapped__(np.ones(2), 0.0, np.ones((3, 2))), "means"),
        (lambda: linear_rule_error(np.ones(2), 0.0, np.ones((2, 2)), np.ones(3)), "covariance must have shape"),
        (lambda: mean_samples(10, 0.3, 1.2), r"failure must be below 1, got 1\.2"),
        (lambda: estimated_means_error(-1.0, 10, 5), r"separation must be positive and finite, got -1\.0"),
        (lambda: samples_for_excess(1.0, 10, 1.0), "share must lie between 0 and 1"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
