"""Families of functions: brute force over supports, kernels, orthogonality, and where one family is another."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.function_families import (
    component_log_odds,
    fourier_features,
    fourier_mixture_predictions,
    gaussian_mixture_predictions,
    haar_features,
    monomials,
    sparse_predictions,
    subset_predictions,
    subsets,
)
from theory.bayes_icl.prequential import Predictions, linear_predictions, mixture_predictions
from validation.predictor_laws import LAWS, SYMMETRIC, calibration, contexts
from validation.strategies import log_uniform, seeds


def context(seed, n=6, d=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n)


def equal(found, wanted, **error):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, **({"rtol": 1e-9, "atol": 1e-10} | error))


def test_subsets():
    np.testing.assert_array_equal(subsets(4, 2), list(itertools.combinations(range(4), 2)))
    assert subsets(20, 3).shape == (1140, 3)


@given(seeds, log_uniform(0.01, 2))
def test_sparse_by_supports(seed, noise):
    """Each support as a dense model whose other weights have variance zero, and the mixture by hand."""
    x, y = context(seed)
    parts = []
    for support in itertools.combinations(range(4), 2):
        variance = np.zeros(4)
        variance[list(support)] = 0.7
        parts.append(linear_predictions(x, y, noise, 0.0, variance))
    densities = np.array([part.log_density for part in parts])
    before = np.cumsum(densities, axis=1) - densities
    weight = np.exp(before - before.max(axis=0))
    weight /= weight.sum(axis=0)
    mean = np.sum(weight * np.array([part.mean for part in parts]), axis=0)
    found = sparse_predictions(x, y, noise, 2, 0.7)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.log_density, np.log(np.sum(weight * np.exp(densities), axis=0)), rtol=1e-9)


def test_all_coordinates_in_use_is_dense():
    x, y = context(1)
    equal(sparse_predictions(x, y, 0.3, 4), linear_predictions(x, y, 0.3))


of_one_weight = jax.jit(lambda x, y, noise: sparse_predictions(x, y, noise, 1))


@pytest.mark.parametrize("law", [*LAWS, "odd"])
@given(contexts(shapes=((6, 2),)))
def test_laws_of_sparse_weights(law, context):
    assert SYMMETRIC[law](of_one_weight, context) < 1e-9


def test_sparse_errors_are_as_large_as_it_says():
    rng, noise = np.random.default_rng(3), 0.2
    x = rng.normal(size=(1500, 5, 3))
    w = np.eye(3)[rng.integers(3, size=1500)] * rng.normal(size=(1500, 1))
    y = np.einsum("pnd,pd->pn", x, w) + noise**0.5 * rng.normal(size=(1500, 5))
    assert calibration(of_one_weight, x, y, noise) < 5
    assert calibration(jax.jit(linear_predictions), x, y, noise) > 5


def test_names_of_subsets_do_not_matter():
    x, y = context(4)
    chosen = subsets(4, 2)
    order = np.random.default_rng(0).permutation(len(chosen))
    prior = np.log(np.random.default_rng(1).dirichlet(np.ones(len(chosen))))
    straight = subset_predictions(x, chosen, y, 0.2, 1.0, prior)
    equal(straight, subset_predictions(x, chosen[order][:, ::-1], y, 0.2, 1.0, prior[order]))


@given(seeds, st.booleans())
def test_gaussian_mixture(seed, own):
    x, y = context(seed, d=3)
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(2, 3))
    roots = rng.normal(size=(2, 3, 3))
    covariances = roots @ roots.swapaxes(1, 2) if own else np.array([0.3, 1.0, 0.0])
    each = covariances if own else [covariances] * 2
    parts = [linear_predictions(x, y, 0.4, m, c) for m, c in zip(means, each, strict=True)]
    wanted = mixture_predictions(
        Predictions(*(np.stack(part) for part in zip(*parts, strict=True))), np.log([0.2, 0.8])
    )
    equal(gaussian_mixture_predictions(x, y, 0.4, means, covariances, np.log([0.2, 0.8])), wanted)


@given(seeds, log_uniform(1e-3, 1))
def test_log_odds_in_closed_form(seed, noise):
    x, y = context(seed, n=5, d=3)
    mean, variance = np.array([3.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0])
    k = x * variance @ x.T + noise * np.eye(5)
    wanted = 2 * (x @ mean) @ np.linalg.solve(k, y)
    found = component_log_odds(x, y, noise, mean, variance)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9 / noise)


def test_component_is_found_out():
    """Published setting: d = 10, means +-3 e_1; belief in the true component, within five standard errors of a mean."""
    rng, d, noise, count = np.random.default_rng(0), 10, 1e-6, 400
    wanted = [0.714, 0.833, 0.902, 0.946]
    mean, variance = np.eye(d)[0] * 3, np.append(0.0, np.ones(d - 1))
    odds = jax.jit(jax.vmap(lambda x, y: component_log_odds(x, y, noise, mean, variance)))
    # The published means are good to 0.008.
    for n, belief in enumerate(wanted, start=1):
        x = rng.normal(size=(count, n, d))
        w = mean + rng.normal(size=(count, d)) * np.sqrt(variance)
        right = 1 / (1 + np.exp(-np.asarray(odds(x, np.einsum("pnd,pd->pn", x, w)))))
        assert abs(right.mean() - belief) < 5 * np.hypot(right.std() / count**0.5, 0.008)


def test_fourier_features():
    x = np.linspace(-5, 5, 40, endpoint=False)
    phi = np.asarray(fourier_features(x, 6, 5.0))
    np.testing.assert_allclose(phi[:, 3], np.cos(2 * np.pi * x / 5), atol=1e-12)
    np.testing.assert_allclose(phi[:, 4], np.sin(2 * np.pi * x / 5), atol=1e-12)
    np.testing.assert_allclose(phi.T @ phi, np.diag([40.0] + [20.0] * 12), atol=1e-10)
    np.testing.assert_array_equal(phi[:, 1:], fourier_features(x, 6, 5.0, intercept=False))


@pytest.mark.slow
def test_fourier_mixture_is_that_of_its_series():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-5, 5, 7), rng.normal(size=7)
    parts = [linear_predictions(fourier_features(x, f, 5.0, intercept=False) / f**0.5, y, 0.1) for f in (1, 2, 3)]
    wanted = mixture_predictions(Predictions(*(np.stack(part) for part in zip(*parts, strict=True))))
    equal(fourier_mixture_predictions(x, y, 0.1, 3, 5.0), wanted)
    # A prior that is sure of the number is one series.
    sure = fourier_mixture_predictions(x, y, 0.1, 3, 5.0, np.array([-np.inf, 0.0, -np.inf]))
    equal(sure, parts[1])


def test_haar_is_orthonormal():
    x = (np.arange(32) + 0.5) / 32
    phi = np.asarray(haar_features(x, 3))
    assert phi.shape == (32, 16)
    np.testing.assert_allclose(phi.T @ phi / 32, np.eye(16), atol=1e-12)
    other = np.asarray(haar_features(x, 3, "identity"))
    np.testing.assert_allclose(other[:, 0], x, rtol=1e-12)
    np.testing.assert_array_equal(other[:, 1:], phi[:, 1:])


def test_monomials():
    x, _ = context(5)
    found = monomials(x, np.array([[0, 0], [1, 3]]))
    np.testing.assert_allclose(found, np.stack([x[:, 0] ** 2, x[:, 1] * x[:, 3]], axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: subsets(4, 5), "size must be at most the 4 items, got 5"),
        (lambda: subsets(60, 8), "more than 200000"),
        (lambda: subset_predictions(np.ones((2, 3)), np.array([[0, 3]]), np.ones(2), 0.1), "chosen must be a matrix"),
        (lambda: haar_features(np.ones(2), 1, "linear"), "first must be 'constant' or 'identity', got 'linear'"),
        (lambda: monomials(np.ones((2, 3)), np.array([[4]])), "factors must be a matrix of numbers from 0 to 2"),
        (lambda: fourier_features.__wrapped__(np.ones((2, 2)), 3), r"x must be a vector of inputs, got shape \(2, 2\)"),
        (lambda: fourier_features(np.ones(2), 3, -1.0), "half_period must be positive and finite, got -1.0"),
        (lambda: sparse_predictions(np.ones((2, 3)), np.ones(2), -0.1, 1), "noise must be positive and finite"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
