"""Log-linear gains: steps one by one, a library's line, saturation, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from theory.bayes_icl.log_linear_gains import doubling_gain, solved_share, task_gain


def test_steps_one_by_one():
    """A million tasks in the middle of equal shares of the logarithm."""
    difficulties = np.exp((np.arange(1_000_000) + 0.5) / 1_000_000 * np.log(500 / 2)) * 2
    n = np.array([1.0, 2.0, 10.0, 33.0, 400.0, 500.0, 900.0])
    solved = (difficulties <= n[:, None]).mean(axis=1)
    np.testing.assert_allclose(solved_share(n, 2.0, 500.0), solved, atol=2e-6)
    np.testing.assert_allclose(solved_share(n, 2.0, 500.0, 0.25), 0.25 + 0.75 * solved, atol=2e-6)


@given(st.floats(0.1, 3), st.floats(10, 1e6), st.floats(0, 0.99), st.floats(0, 1))
def test_each_doubling(easiest, hardest, chance, place):
    n = easiest * (hardest / easiest / 2) ** place
    more = solved_share(2 * n, easiest, hardest, chance) - solved_share(n, easiest, hardest, chance)
    np.testing.assert_allclose(more, doubling_gain(easiest, hardest, chance), rtol=1e-9, atol=1e-14)


def test_ends():
    np.testing.assert_allclose(solved_share(np.array([1e-300, 1.0, 1e300]), 1.0, 8.0, 0.1), [0.1, 0.1, 1.0], rtol=1e-14)
    np.testing.assert_allclose(doubling_gain(1.0, 8.0), 1 / 3, rtol=1e-14)
    assert np.isfinite(jax.grad(solved_share)(0.5, 1.0, 8.0))


@given(st.integers(0, 2**32 - 1))
def test_the_line_of_a_library(seed):
    rng = np.random.default_rng(seed)
    n, y = 2.0 ** rng.uniform(0, 10, 7), rng.uniform(size=7)
    found, expected = task_gain(n, y), linregress(np.log2(n), y)
    np.testing.assert_allclose(found, (expected.intercept, expected.slope, expected.stderr), rtol=1e-8)


def test_a_line_is_found_without_error():
    n = 2.0 ** np.arange(6)
    found = task_gain(n, solved_share(n, 1.0, 64.0, 0.2))
    np.testing.assert_allclose(found, (0.2, doubling_gain(1.0, 64.0, 0.2), 0), atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solved_share(0.0, 1.0, 2.0), "shots must be positive"),
        (lambda: solved_share(1.0, 3.0, 2.0), "hardest must be above the easiest, got 2.0"),
        (lambda: solved_share(1.0, 1.0, 2.0, 1.2), "chance must lie between 0 and 1"),
        (lambda: doubling_gain(1.0, 1.0), "hardest must be above the easiest"),
        (lambda: task_gain(np.ones(2), np.ones(2)), "shots and accuracy must be vectors"),
        (lambda: task_gain(np.ones(3), np.ones(3)), "shots must not all be the same"),
        (lambda: task_gain(np.arange(1.0, 4.0), np.array([0.0, np.nan, 1.0])), "accuracy must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
