"""Layers that descend: step by step against gradient descent, the filter of GD++ against layers, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.algorithms import gradient_descent, least_squares
from theory.bayes_icl.gradient_descent_layers import (
    LayerWeights,
    attention_steps,
    gradient_step_weights,
    shrinking_descent,
    shrinking_shares,
)
from validation.strategies import seeds


def context(seed, n=6, d=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=d)


def prompt(x, y, query):
    return np.vstack([np.column_stack([x, y]), np.append(query, 0.0)])


@given(seeds, st.integers(0, 4))
def test_layers_are_steps(seed, steps):
    """Labels of the context are residuals, that of the query minus its prediction; inputs stay."""
    x, y, query = context(seed)
    found = attention_steps(prompt(x, y, query), gradient_step_weights(3, 6, 0.3), steps)
    w = np.zeros(3)
    for _ in range(steps):
        w = w - 0.3 / 6 * x.T @ (x @ w - y)
    np.testing.assert_allclose(found[:-1, 3], y - x @ w, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(found[-1, 3], -w @ query, rtol=1e-10, atol=1e-11)
    np.testing.assert_array_equal(found[:, :3], np.vstack([x, query]))
    rule = gradient_descent(x, y, query, rate=0.3 / 6, steps=steps)
    np.testing.assert_allclose(-found[-1, 3], rule, rtol=1e-9, atol=1e-10)


@given(seeds)
def test_a_start_of_its_own(seed):
    x, y, query = context(seed)
    w = np.random.default_rng(seed + 1).normal(size=3)
    found = attention_steps(prompt(x, y, query), gradient_step_weights(3, 6, 0.3, w))
    step = -0.3 / 6 * x.T @ (x @ w - y)
    np.testing.assert_allclose(found[:-1, 3], y - x @ step, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(found[-1, 3], -step @ query, rtol=1e-10, atol=1e-11)


def test_the_query_is_not_in_the_context():
    x, y, query = context(0)
    weights = gradient_step_weights(3, 6, 0.3)
    near = attention_steps(prompt(x, y, query), weights)
    far = attention_steps(prompt(x, y, 5 * query), weights)
    np.testing.assert_array_equal(near[:-1], far[:-1])
    np.testing.assert_allclose(far[-1, 3], 5 * near[-1, 3], rtol=1e-12)


def by_layers(x, y, query, rates, shrinking):
    """GD++ on the tokens themselves, both parts from the values before; the implied prediction."""
    label = 0.0
    for rate, gamma in zip(rates, shrinking, strict=True):
        s, b = x.T @ x, x.T @ y
        label = label + rate * query @ b
        x, y, query = x - gamma * x @ s, y - rate * x @ b, query - gamma * s @ query
    return label


@given(seeds, st.integers(0, 3))
def test_filter_of_shrinking_layers(seed, layers):
    x, y, query = context(seed)
    rng = np.random.default_rng(seed)
    top = np.linalg.norm(x, 2) ** 2
    rates, shrinking = rng.uniform(0.1, 1, layers) / top, rng.uniform(0, 0.4, layers) / top
    found = shrinking_descent(x, y, query, rates=rates, shrinking=shrinking)
    np.testing.assert_allclose(found, by_layers(x, y, query, rates, shrinking), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_shrinking_helps_where_directions_differ():
    """Eight layers, the best of a grid of rates and shrinkings, against gradient descent with its best rate."""
    lam = np.array([1.0, 0.02])
    rates = np.linspace(0.2, 2, 19)
    shares = jax.vmap(lambda rate, gamma: shrinking_shares(lam, jnp.full(8, rate), jnp.full(8, gamma)))
    grid = np.meshgrid(rates, np.linspace(0, 0.9, 10))
    left = np.abs(1 - shares(*map(np.ravel, grid))).max(axis=1).reshape(grid[0].shape)
    assert left.min() < left[0].min()


def test_many_layers_end_at_least_squares():
    x, y, query = context(3)
    top = np.linalg.norm(x, 2) ** 2
    found = shrinking_descent(x, y, query, rates=np.full(4000, 1 / top), shrinking=np.zeros(4000))
    np.testing.assert_allclose(found, least_squares(x, y, query), rtol=1e-8)
    slope = jax.grad(lambda rate: shrinking_descent(x, y, query, rates=rate * np.ones(3), shrinking=np.zeros(3)))(0.01)
    assert np.isfinite(slope)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: gradient_step_weights(0, 4, 0.1), "dimension must be a whole number of at least 1, got 0"),
        (lambda: gradient_step_weights(2, 4, -0.1), r"rate must be positive and finite, got -0\.1"),
        (lambda: gradient_step_weights(2, 0, 0.1), "pairs must be positive and finite, got 0"),
        (lambda: gradient_step_weights(2, 4, 0.1, np.ones(3)), r"start must have shape \(\) or \(2,\), got \(3,\)"),
        (
            lambda: attention_steps(np.ones((3, 4)), LayerWeights(*[np.eye(3)] * 4)),
            r"key must be a matrix of shape \(4, 4\), got shape \(3, 3\)",
        ),
        (
            lambda: shrinking_shares.__wrapped__(np.ones(2), np.ones(3), np.ones(2)),
            "rates and shrinking must be vectors of one length",
        ),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
