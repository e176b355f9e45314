"""Benign, tempered, catastrophic: the closed forms against sums over long spectra, limits, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.learning_curves import learning_curve, overfitting_coefficient
from theory.kernels.overfitting import (
    exponential_overfitting,
    exponential_ridge,
    overfitting_limit,
    power_law_overfitting,
    power_law_ridge,
    power_law_test_error,
    taxonomy,
)

MODES = 100_000
I = np.arange(1.0, MODES + 1)  # noqa: E741
exponents = st.floats(1.3, 5)
coefficient = jax.jit(overfitting_coefficient)
curve = jax.jit(lambda n, lam, powers, noise, tail, ridge: learning_curve(n, (lam, powers, 1.0, noise, tail), ridge))


@given(exponents, st.integers(20, 200), st.sampled_from([0.0, 0.3, 0.9]))
def test_power_laws_against_their_sums(a, n, rho):
    kappa = float(power_law_ridge(n, a, rho))
    lam, tail = I**-a, MODES ** (1 - a) / (a - 1)
    c = curve(n, lam, np.zeros(MODES), 1.0, tail, rho * n * kappa)
    # The next term of the sum, zeta(-a) kappa, of size kappa; the tail's eigenvalues over kappa; the sum's own end.
    error = 2 * a * kappa + MODES**-a / kappa + tail / MODES / kappa
    np.testing.assert_allclose(kappa, c.effective_ridge, rtol=error + 1e-12)
    np.testing.assert_allclose(power_law_overfitting(n, a, rho), c.overfitting_coefficient, rtol=2 * error + 1e-12)


@given(st.floats(1.5, 4), st.floats(0.2, 0.8), st.sampled_from([0.0, 0.3]))
def test_power_law_test_errors_against_their_sums(a, part, rho):
    b, n = 1 + 2 * a * part, 100
    kappa = float(power_law_ridge(n, a, rho))
    power_tail = MODES ** (1 - b) / (b - 1)
    lam, powers = np.append(I**-a, 0.0), np.append(I**-b, power_tail)
    c = curve(n, lam, powers, 0.1, MODES ** (1 - a) / (a - 1), rho * n * kappa)
    bias = float(power_law_test_error(n, a, b, 0.0, rho)) / float(power_law_overfitting(n, a, rho))
    # The next terms of the docstring, s = 2 part, with factors of order one; the spectrum's own end.
    error = 5 * kappa ** (2 - 2 * part) + 5 * a * kappa + 1e-3
    np.testing.assert_allclose(bias, c.bias, rtol=error)
    np.testing.assert_allclose(power_law_test_error(n, a, b, 0.1, rho), c.test_error, rtol=error)


@given(st.floats(0.2, 6))
def test_exponentials_against_their_sums(rate):
    n = int(40 / rate) + 2
    lam = np.exp(-rate * I[:2000])
    lam = lam * (lam > 1e-250)
    # The first mode is off by e^{-b n}.
    error = 5 * np.exp(-rate * n) / min(rate, 1) + 1e-11 * n
    np.testing.assert_allclose(coefficient(n, lam), exponential_overfitting(n, rate), rtol=error)
    c = curve(n, lam, 0 * lam, 1.0, 0.0, 0.0)
    np.testing.assert_allclose(c.effective_ridge, exponential_ridge(n, rate), rtol=error)


def test_the_two_sums_of_the_exponential_meet():
    left, right = exponential_overfitting(10, np.pi - 1e-9), exponential_overfitting(10, np.pi + 1e-9)
    np.testing.assert_allclose(left, right, rtol=1e-8)
    np.testing.assert_allclose(exponential_overfitting(10, 0.05), 0.5, rtol=1e-12)
    np.testing.assert_allclose(exponential_overfitting(10, 40.0), 5 * np.exp(20), rtol=1e-8)


@given(st.floats(1.01, 50), st.floats(0, 1))
def test_the_limit_is_reached_from_below_and_the_ridge_tempers_it(a, rho):
    finite, limit = power_law_overfitting(1e9, a, rho), overfitting_limit(a, rho)
    np.testing.assert_allclose(finite, limit, rtol=1e-8)
    assert 1 - 1e-12 <= limit <= a * (1 + 1e-12)


def test_a_slow_logarithm_is_benign_and_slowly_so():
    """lam_i = 1 / (i ln^2 i), in levels of a quarter octave: E_0 - 1 falls as 1 / ln n."""
    edges = 20.0 * 2 ** (np.arange(0, 1600) / 4)
    middle, m = np.sqrt(edges[1:] * edges[:-1]), np.diff(edges)
    lam = 1 / (middle * np.log(middle) ** 2)
    n = np.array([1e4, 1e8, 1e16, 1e32])
    excess = coefficient(n, lam, 1 / np.log(edges[-1]), m) - 1
    assert (np.diff(excess) < 0).all()
    # To leading order 1 / ln n; the next is ln ln n / ln n of it.
    np.testing.assert_allclose(excess * np.log(n), 1, atol=2 * np.log(np.log(n[0])) / np.log(n[0]))


@pytest.mark.parametrize(
    ("exponent", "ridge", "word"),
    [(1.0, 0.0, "benign"), (1.5, 0.0, "tempered"), (np.inf, 0.0, "catastrophic"), (np.inf, 0.1, "benign")],
)
def test_taxonomy(exponent, ridge, word):
    assert taxonomy(exponent, ridge) == word


def test_gradients_are_finite():
    for rate in (0.1, 3.1, 3.2, 100.0):
        assert np.isfinite(jax.grad(exponential_overfitting, argnums=1)(10.0, rate))
    assert np.isfinite(jax.grad(power_law_test_error, argnums=(0, 1, 2))(10.0, 2.0, 3.0)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power_law_ridge(10, 1.0), "exponent must be above 1"),
        (lambda: overfitting_limit(0.5), "exponent must be at least 1"),
        (lambda: power_law_test_error(10, 2.0, 5.1), "target_exponent must lie between"),
        (lambda: power_law_overfitting(10, 2.0, 1.5), "ridge_fraction must lie between 0 and 1"),
        (lambda: exponential_overfitting(10, 0.0), "rate must be positive"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
