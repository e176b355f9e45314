"""Rules: each against a library or a loop, at every prefix, and the distances between them."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from theory.bayes_icl.algorithms import (
    averaging,
    gradient_descent,
    implicit_weights,
    least_squares,
    nearest_neighbours,
    one_pass_sgd,
    prefix_predictions,
    ridge,
    spectral_rule,
    squared_difference,
)
from theory.bayes_icl.prequential import linear_predictions
from validation.strategies import log_uniform, seeds

SHAPES = st.sampled_from([(7, 3), (3, 6)])


def context(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=d)


@given(seeds, SHAPES, log_uniform(1e-3, 10))
def test_ridge(seed, shape, penalty):
    x, y, query = context(seed, *shape)
    wanted = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(x, y).predict(query[None])[0]
    np.testing.assert_allclose(ridge(x, y, query, penalty=penalty), wanted, rtol=1e-9, atol=1e-10)


@given(seeds, log_uniform(1e-2, 3), log_uniform(0.2, 4))
def test_ridge_of_noise_over_prior_is_bayes(seed, noise, prior):
    """sigma^2 / tau^2, of the sum of squares: at every prefix."""
    x, y, _ = context(seed, 7, 3)
    found = prefix_predictions(functools.partial(ridge, penalty=noise / prior), x, y)
    np.testing.assert_allclose(found, linear_predictions(x, y, noise, 0.0, prior).mean, rtol=1e-8, atol=1e-9)


@given(seeds, SHAPES)
def test_least_squares(seed, shape):
    x, y, query = context(seed, *shape)
    wanted = query @ np.linalg.pinv(x) @ y
    np.testing.assert_allclose(least_squares(x, y, query), wanted, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ridge(x, y, query, penalty=0.0), wanted, rtol=1e-8, atol=1e-9)
    # A repeated input lowers the rank and makes no infinity.
    assert np.isfinite(least_squares(np.vstack([x[:1]] * len(x)), y, query))


@given(seeds, SHAPES, st.integers(0, 5))
def test_gradient_descent(seed, shape, steps):
    x, y, query = context(seed, *shape)
    rate, w = 0.5 / np.linalg.norm(x, 2) ** 2, np.zeros(shape[1])
    for _ in range(steps):
        w = w - rate * x.T @ (x @ w - y)
    found = gradient_descent(x, y, query, rate=rate, steps=steps)
    np.testing.assert_allclose(found, query @ w, rtol=1e-9, atol=1e-10)


def test_gradient_descent_ends_at_least_squares():
    x, y, query = context(1, 7, 3)
    found = gradient_descent(x, y, query, rate=1 / np.linalg.norm(x, 2) ** 2, steps=3000)
    np.testing.assert_allclose(found, least_squares(x, y, query), rtol=1e-9)


@given(seeds)
def test_one_pass_and_averaging(seed):
    x, y, query = context(seed, 6, 3)
    w = np.zeros(3)
    for row, label in zip(x, y, strict=True):
        w = w + 0.1 * (label - row @ w) * row
    np.testing.assert_allclose(one_pass_sgd(x, y, query, rate=0.1), query @ w, rtol=1e-10)
    np.testing.assert_allclose(averaging(x, y, query), query @ (x.T @ y) / 6, rtol=1e-10, atol=1e-12)


@given(seeds, st.integers(1, 6))
def test_nearest_neighbours(seed, neighbours):
    x, y, query = context(seed, 6, 2)
    wanted = KNeighborsRegressor(neighbours).fit(x, y).predict(query[None])[0]
    np.testing.assert_allclose(nearest_neighbours(x, y, query, neighbours=neighbours), wanted, rtol=1e-10)


RULES = {
    "ridge": functools.partial(ridge, penalty=0.3),
    "least squares": least_squares,
    "gradient descent": functools.partial(gradient_descent, rate=0.05, steps=3),
    "one pass": functools.partial(one_pass_sgd, rate=0.05),
    "averaging": averaging,
    "neighbours": functools.partial(nearest_neighbours, neighbours=2),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_prefix_is_a_shorter_context(rule):
    x, y, _ = context(2, 6, 3)
    found = prefix_predictions(RULES[rule], x, y)
    assert found[0] == 0.0
    for t in range(1, 6):
        np.testing.assert_allclose(found[t], RULES[rule](x[:t], y[:t], x[t]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rule", ["ridge", "least squares", "gradient descent", "averaging", "neighbours"])
def test_order_does_not_matter(rule):
    x, y, query = context(3, 6, 3)
    order = np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(RULES[rule](x[order], y[order], query), RULES[rule](x, y, query), rtol=1e-9)


def test_distances_agree_for_linear_rules_and_white_queries():
    """SPD is the mean of |w_f - w_g|^2: over queries, for one context, within five standard errors."""
    x, y, _ = context(4, 6, 3)
    queries = np.random.default_rng(1).normal(size=(4000, 3))
    f, g = (np.asarray(jax.vmap(lambda q, r=r: RULES[r](x, y, q))(queries)) for r in ("ridge", "averaging"))
    one, other = implicit_weights(queries, f), implicit_weights(queries, g)
    np.testing.assert_allclose([one.r2, other.r2], 1.0, rtol=1e-12)
    difference = np.sum((np.asarray(one.w) - np.asarray(other.w)) ** 2)
    assert abs(squared_difference(f, g) - difference) < 5 * np.std((f - g) ** 2) / 4000**0.5
    assert implicit_weights(queries, np.sin(5 * queries[:, 0])).r2 < 0.9


def test_noise_decides_which_rule_is_nearest_to_bayes():
    """d = n = 8, medians, since the mean of least squares is infinite there: least squares, ridge, one step."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(300, 9, 8)), rng.normal(size=(300, 8))
    nearest = []
    for noise in (1e-6, 0.25, 30.0):
        y = np.einsum("pnd,pd->pn", x, w) + noise**0.5 * rng.normal(size=(300, 9))
        bayes = jax.vmap(lambda a, b, s=noise: ridge(a[:8], b[:8], a[8], penalty=s))(x, y)
        rules = {
            "least squares": least_squares,
            "ridge 1/2": functools.partial(ridge, penalty=0.5),
            "one step": functools.partial(gradient_descent, rate=1 / (8 + 8 + 1 + noise)),
        }
        far = {
            name: np.median((jax.vmap(lambda a, b, rule=rule: rule(a[:8], b[:8], a[8]))(x, y) - bayes) ** 2)
            for name, rule in rules.items()
        }
        nearest.append(min(far, key=far.get))
    assert nearest == ["least squares", "ridge 1/2", "one step"]


def test_a_filter_of_your_own():
    x, y, query = context(5, 6, 3)
    found = spectral_rule(x, y, query, share=lambda lam: lam / (lam + 0.3))
    np.testing.assert_allclose(found, ridge(x, y, query, penalty=0.3), rtol=1e-12)


def test_sensitivity_to_the_query():
    x, y, query = context(6, 6, 3)
    w = np.linalg.solve(x.T @ x + 0.3 * np.eye(3), x.T @ y)
    np.testing.assert_allclose(jax.grad(lambda q: ridge(x, y, q, penalty=0.3))(query), w, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x, y, q: ridge(x, y, q, penalty=-1.0), "penalty must be non-negative and finite, got -1.0"),
        (lambda x, y, q: ridge(x, y[:3], q, penalty=1.0), "x must have a row for each label of y"),
        (lambda x, y, q: least_squares(x, y, q[:2]), r"query must have shape \(3,\), got \(2,\)"),
        (lambda x, y, q: least_squares(x, y, q, np.ones(2)), "seen must have an entry for each of the 6 pairs"),
        (lambda x, y, q: gradient_descent(x, y, q, rate=0.0), "rate must be positive and finite, got 0.0"),
        (lambda x, y, q: nearest_neighbours(x, y, q, neighbours=0), "neighbours must be a whole number"),
        (lambda x, y, q: implicit_weights(x[:2], y[:2]), "queries must be"),
        (lambda x, y, q: implicit_weights(np.ones((6, 3)), y), "queries must have full rank"),
        (lambda x, y, q: squared_difference.__wrapped__(y, y[:2]), "f and g must have one shape"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(*context(0, 6, 3))
