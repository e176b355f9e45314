"""Ridge regression: actual data matrices, the resolvent, limits, the best ridge, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.generalization import Regression, early_stopped_error, final_generalization_error
from theory.deep_linear.marchenko_pastur import bulk, resolvent, sample_spectrum
from theory.deep_linear.ridge import (
    optimal_ridge,
    optimal_ridge_error,
    ridge_generalization_error,
    ridge_training_error,
)

error_at, training_at = jax.jit(ridge_generalization_error), jax.jit(ridge_training_error)
lowest_error, stopped_error = jax.jit(optimal_ridge_error), jax.jit(early_stopped_error)
resolved, resolvent_slope = jax.jit(resolvent), jax.jit(jax.grad(resolvent))
slopes_of_lowest = jax.jit(jax.grad(lambda *r: optimal_ridge_error(r), argnums=(0, 1, 2)))
slope = jax.jit(jax.grad(ridge_generalization_error))
slopes = jax.jit(
    jax.jacrev(lambda g, *r: jnp.stack([ridge_generalization_error(g, r), ridge_training_error(g, r)]), (0, 1, 2, 3))
)

ratios = st.floats(-1.3, 1.3).map(lambda e: 10.0**e)
variances = st.floats(1e-2, 1e2)
ridges = st.floats(-4, 4).map(lambda e: 10.0**e)
seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(5, 8), (8, 5)])


@given(seeds, shapes, ridges, variances, variances)
def test_given_inputs_by_solving(seed, shape, g, signal, noise):
    p, n = shape
    x = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(n)
    # w - wbar = (solved X - 1) wbar + solved eps, averaged by traces.
    solved = np.linalg.solve(x.T @ x + g * np.eye(n), x.T)
    bias, left = np.eye(n) - solved @ x, np.eye(p) - x @ solved
    test = noise + (signal * np.sum(bias**2) + noise * np.sum(solved**2)) / n
    train = (signal * np.sum((x @ bias) ** 2) + noise * np.sum(left**2)) / p
    spectrum = sample_spectrum(np.linalg.eigvalsh(x.T @ x), p)
    r = Regression(p / n, signal, noise, 0.7)
    # The condition of X^T X + g is at most 10 / g.
    np.testing.assert_allclose(error_at(g, r, spectrum), test, rtol=1e-12 + 1e-14 / g)
    np.testing.assert_allclose(training_at(g, r, spectrum), train, rtol=1e-12 + 1e-14 / g)


@given(ratios, ridges, variances, variances)
def test_closed_forms_by_the_resolvent(alpha, g, signal, noise):
    r = Regression(alpha, signal, noise)
    m, dm = float(resolved(g, alpha)), float(resolvent_slope(g, alpha))
    test = noise + signal * g**2 * -dm + noise * (m + g * dm)
    train = noise * (1 - 1 / alpha) + g**2 / alpha * (signal * (m + g * dm) - noise * dm)
    # These cancel: the zero modes' share for weak ridges, the bulk's width for strong ones.
    np.testing.assert_allclose(error_at(g, r), test, rtol=1e-11, atol=1e-14 * noise * m)
    atol = 1e-14 * (noise / alpha + g * m / alpha * (signal * g + noise))
    np.testing.assert_allclose(training_at(g, r), train, rtol=1e-11, atol=100 * atol)


@given(ratios.filter(lambda a: abs(np.log(a)) > 0.05), variances, variances)
def test_limits_of_weak_and_strong_ridges(alpha, signal, noise):
    r = Regression(alpha, signal, noise)
    lower = (1 - alpha**0.5) ** 2
    # To relative order g / lower, squared for the signal.
    np.testing.assert_allclose(error_at(1e-12 * lower, r), final_generalization_error(r), rtol=1e-11)
    np.testing.assert_allclose(training_at(1e-12 * lower, r), max(0, 1 - 1 / alpha) * noise, rtol=1e-11, atol=1e-12)
    # To relative order upper / g.
    np.testing.assert_allclose(error_at(1e14, r), signal + noise, rtol=1e-11)
    np.testing.assert_allclose(training_at(1e14, r), signal + noise, rtol=1e-11)


@given(ratios, ridges, variances, variances, st.floats(0.1, 10))
def test_scale_and_start(alpha, g, signal, noise, c):
    r = Regression(alpha, signal, noise)
    for error in (error_at, training_at):
        np.testing.assert_allclose(error(g, (alpha, c * signal, c * noise, 0.0)), c * error(g, r), rtol=1e-13)
        assert error(g, Regression(alpha, signal, noise, 0.4)) == error(g, Regression(alpha, signal, noise, 4.0))


@given(ratios, variances, variances)
def test_best_ridge_is_the_minimum(alpha, signal, noise):
    r = Regression(alpha, signal, noise)
    g = float(optimal_ridge(r))
    np.testing.assert_allclose(g, noise / signal, rtol=1e-15)
    lowest = float(error_at(g, r))
    np.testing.assert_allclose(lowest_error(r), lowest, rtol=1e-12)
    everywhere = np.asarray(error_at(g * np.geomspace(1e-3, 1e3, 101), r))
    assert everywhere.min() >= lowest * (1 - 1e-13)
    # d/dg is int rho 2 lam (g signal - noise) / (lam + g)^3: zero as a difference of two such parts.
    spectrum = bulk(alpha)
    part = float(spectrum.sum(2 * spectrum.rates * noise / (spectrum.rates + g) ** 3))
    assert abs(slope(g, r)) < 1e-12 * (part + signal / g)
    np.testing.assert_allclose(slope(2 * g, r) > 0, True)
    np.testing.assert_allclose(slope(g / 2, r) < 0, True)


@given(seeds, shapes, variances, variances)
def test_best_ridge_for_given_inputs(seed, shape, signal, noise):
    p, n = shape
    x = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(n)
    spectrum = sample_spectrum(np.linalg.eigvalsh(x.T @ x), p)
    r = Regression(p / n, signal, noise)
    g = float(optimal_ridge(r))
    lowest = float(error_at(g, r, spectrum))
    for factor in (0.1, 0.9, 1.1, 10.0):
        assert error_at(factor * g, r, spectrum) >= lowest * (1 - 1e-14)
    # Bayes: the posterior variance of the weights, (X^T X / noise + 1 / signal)^{-1}.
    posterior = np.trace(np.linalg.inv(x.T @ x / noise + np.eye(n) / signal)) / n
    np.testing.assert_allclose(lowest, noise + posterior, rtol=1e-11)


@given(ratios, variances, variances)
def test_no_stopping_time_beats_the_best_ridge(alpha, signal, noise):
    r = Regression(alpha, signal, noise)
    assert stopped_error(r) >= lowest_error(r) * (1 - 1e-12)
    assert lowest_error(r) <= signal + noise


@pytest.mark.parametrize(
    ("alpha", "error"),
    # noise + noise m(0.3) at 20 digits, signal 1, noise 0.3.
    [(0.3, 0.3 + 0.3 * 2.61031729828177), (1.0, 0.3 + 0.3 * 1.3929694486001), (2.5, 0.3 + 0.3 * 0.511884584284246)],
)
def test_known_values(alpha, error):
    np.testing.assert_allclose(optimal_ridge_error(Regression(alpha, 1.0, 0.3)), error, rtol=1e-13)


def test_the_peak_is_gone():
    alpha = np.geomspace(0.05, 20, 400)
    assert (np.diff(lowest_error(Regression(alpha, 1.0, 0.05))) < 0).all()
    # Without noise: what no sample touches, also exactly at the ratio one.
    np.testing.assert_allclose(optimal_ridge_error(Regression(np.array([0.4, 1.0, 3.0]), 2.0, 0.0)), [1.2, 0, 0])
    # Few samples teach nothing, many teach all.
    np.testing.assert_allclose(optimal_ridge_error(Regression(1e-13, 1.0, 0.3)), 1.3, rtol=1e-12)
    np.testing.assert_allclose(optimal_ridge_error(Regression(1e13, 1.0, 0.3)), 0.3, rtol=1e-12)


@pytest.mark.parametrize("point", [(1.0, 1.0, 0.3), (0.7, 1.0, 0.3), (3.0, 1.0, 1e-9), (1.0, 1.0, 1e-9)])
def test_gradients_of_the_lowest_error(point):
    found = slopes_of_lowest(*point)
    alpha, signal, noise = point
    # E = noise (1 + m(g, alpha)) with 1 = m (g + alpha / (1 + m)), g = noise / signal.
    g = noise / signal
    m = float(resolvent(g, alpha))
    curve = g + alpha / (1 + m) ** 2
    dg, dalpha = -m / curve, -m / (1 + m) / curve
    np.testing.assert_allclose(found, (noise * dalpha, -g * g * dg, 1 + m + g * dg), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_gradients_without_noise_are_finite(alpha):
    found = slopes_of_lowest(alpha, 1.0, 0.0)
    assert np.isfinite(found).all()
    for g in (1e-8, 1.0):
        assert np.isfinite(np.stack(slopes(g, alpha, 1.0, 0.0))).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: ridge_generalization_error(0.0, Regression(1.0)), "g"),
        (lambda: ridge_training_error(-1.0, Regression(1.0)), "g"),
        (lambda: ridge_generalization_error(1.0, Regression(-1.0)), "alpha"),
        (lambda: optimal_ridge(Regression(1.0, 0.0, 1.0)), "signal"),
        (lambda: optimal_ridge_error(Regression(1.0, 1.0, -1.0)), "noise"),
        (lambda: ridge_training_error(1.0, Regression(0.7), bulk(0.5)), "alpha"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
