"""Newton against gradient descent: the iteration itself, limits, matched steps as measured, refusals."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.algorithms import least_squares, prefix_predictions
from theory.bayes_icl.iterative_newton import matched_descent_steps, newton, newton_share, newton_steps
from validation.strategies import seeds


def context(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=d)


@given(seeds, st.integers(0, 6), st.sampled_from([(8, 3), (3, 5)]))
def test_the_iteration_itself(seed, steps, shape):
    x, y, query = context(seed, *shape)
    s = x.T @ x
    m = s / np.linalg.norm(s @ s.T)
    for _ in range(steps):
        m = 2 * m - m @ s @ m
    np.testing.assert_allclose(newton(x, y, query, steps=steps), query @ m @ x.T @ y, rtol=1e-8, atol=1e-9)


def test_at_every_prefix():
    x, y, _ = context(1, 6, 3)
    found = prefix_predictions(functools.partial(newton, steps=4), x, y)
    assert found[0] == 0.0
    for t in range(1, 6):
        np.testing.assert_allclose(found[t], newton(x[:t], y[:t], x[t], steps=4), rtol=1e-8, atol=1e-10)


def test_many_steps_are_least_squares():
    x, y, query = context(2, 8, 3)
    np.testing.assert_allclose(newton(x, y, query, steps=40), least_squares(x, y, query), rtol=1e-10)


@given(st.floats(1e-3, 1), st.floats(0.05, 1), st.integers(0, 30))
def test_shares(lam, scale, steps):
    share = float(newton_share(lam, scale, steps))
    assert 0 <= share <= 1
    np.testing.assert_allclose(1 - newton_share(lam, scale, steps + 1), (1 - share) ** 2, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(newton_share(lam, scale, 0), scale * lam**2, rtol=1e-12)


def iterations(lam, error):
    """Steps of both, counted, until the slowest direction is as near as that; the best rate of gradient descent."""
    scale, rate = 1 / np.sqrt(np.sum(lam**4)), 2 / (lam.min() + lam.max())
    k = next(k for k in range(100) if (1 - newton_share(lam, scale, k)).max() < error)
    t = next(t for t in range(100_000) if np.max(np.abs(1 - rate * lam) ** t) < error)
    return k, t, scale, rate


def test_steps_grow_with_the_condition_number():
    """Newton's by two for twice the condition number, gradient descent's in proportion to it."""
    newtons, descents = [], []
    for condition in (16.0, 64.0, 256.0, 1024.0):
        k, t, scale, rate = iterations(np.geomspace(1 / condition, 1.0, 20), 1e-3)
        assert k == int(np.ceil(newton_steps(1 / condition, scale, 1e-3)))
        newtons.append(k)
        descents.append(t)
        # Rounded up to a whole step, Newton's k are as good as these.
        slowest = np.log1p(-rate / condition)
        assert matched_descent_steps(1 / condition, scale, rate, k) >= np.log(1e-3) / slowest
    # Each rounded up to a whole step.
    assert np.abs(np.diff(newtons) - 4).max() <= 1
    assert abs(newtons[-1] - newtons[0] - 12) <= 1
    np.testing.assert_allclose(np.array(descents[1:]) / descents[:-1], 4, rtol=0.1)


def test_one_more_step_is_worth_twice_as_many():
    one, two = (matched_descent_steps(0.01, 0.5, 0.7, k) for k in (8, 9))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: newton_share(2.0, 0.5, 3), "scale times a squared eigenvalue must be at most one"),
        (lambda: newton_share(-1.0, 0.5, 3), r"eigenvalues must be non-negative and finite, got -1\.0"),
        (lambda: newton_steps(0.1, 0.5, 1.5), "error must be below 1"),
        (lambda: matched_descent_steps(0.5, 0.5, 3.0, 2), "rate times the slowest eigenvalue must be below one"),
        (lambda: newton(*context(0, 4, 2), steps=-1), "steps must be a whole number of at least 0, got -1"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
