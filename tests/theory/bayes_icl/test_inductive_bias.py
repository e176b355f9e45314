"""Inductive bias: SciPy's law, tails that it cannot reach, Gaussian volumes, slopes, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from theory.bayes_icl.inductive_bias import linear_inductive_bias, log_noncentral_chi2, null_energy

cdf = jax.jit(log_noncentral_chi2)
slopes = jax.jit(jax.grad(log_noncentral_chi2, (0, 2)))


@given(st.floats(0.1, 60), st.floats(0.5, 40), st.floats(0, 50))
def test_another_program(x, k, shift):
    expected = stats.ncx2.cdf(x, k, shift) if shift else stats.chi2.cdf(x, k)
    if expected > 1e-8:
        np.testing.assert_allclose(np.exp(cdf(x, k, shift)), expected, rtol=1e-9)


def test_limits():
    # Next to the centre of a ball of k dimensions: its volume times the density there.
    for k, shift, x in ((4.0, 30.0, 1e-8), (100.0, 9.0, 1e-12)):
        volume = k / 2 * np.log(x / 2) - special.gammaln(k / 2 + 1)
        np.testing.assert_allclose(cdf(x, k, shift), volume - shift / 2, rtol=1e-7)
    # Two degrees of freedom, central.
    np.testing.assert_allclose(cdf(3.0, 2.0, 0.0), np.log1p(-np.exp(-1.5)), rtol=1e-12)
    # Everything, at the ends of the domain, and monotone in all three.
    np.testing.assert_allclose(cdf(6000.0, 10.0, 100.0), 0.0, atol=1e-9)
    assert -6000 < cdf(1.0, 1.0, 6000.0) < -2000
    found = np.array([cdf(x, 5.0, 3.0) for x in (0.1, 1.0, 4.0, 20.0)])
    assert (np.diff(found) > 0).all()
    assert cdf(4.0, 6.0, 3.0) < cdf(4.0, 5.0, 3.0) and cdf(4.0, 5.0, 3.1) < cdf(4.0, 5.0, 3.0)


@given(st.floats(0.5, 20), st.floats(1, 12), st.sampled_from([0.0, 1e-6, 2.0]))
def test_slopes(x, k, shift):
    """dF/dLambda = (F_{k+2} - F_k) / 2, also at Lambda = 0; dF/dx is the density."""
    by_x, by_shift = slopes(x, k, shift)
    here = np.exp(cdf(x, k, shift))
    np.testing.assert_allclose(by_shift * here, (np.exp(cdf(x, k + 2, shift)) - here) / 2, rtol=1e-8, atol=1e-11)
    density = stats.ncx2.pdf(x, k, shift) if shift else stats.chi2.pdf(x, k)
    np.testing.assert_allclose(by_x * here, density, rtol=1e-7)


def test_null_energy():
    rng = np.random.default_rng(0)
    x, theta = rng.normal(size=(3, 7)), rng.normal(size=7)
    outside = theta - np.linalg.pinv(x) @ x @ theta
    np.testing.assert_allclose(null_energy(x, theta), outside @ outside, rtol=1e-12)
    np.testing.assert_allclose(null_energy(rng.normal(size=(7, 7)), theta), 0, atol=1e-20)
    np.testing.assert_allclose(null_energy(np.zeros((0, 7)), theta), theta @ theta, rtol=1e-14)


def test_bits_by_drawing_from_the_prior():
    """Hypotheses of the prior, moved onto the data, that are near enough to the target."""
    rng = np.random.default_rng(1)
    d, n, tau2, eps = 6, 2, 1.7, 5.0
    x, theta = rng.normal(size=(n, d)), rng.normal(size=d)
    free = np.eye(d) - np.linalg.pinv(x) @ x
    errors = np.sum(((np.sqrt(tau2) * rng.normal(size=(40_000, d)) - theta) @ free) ** 2, axis=1)
    share = np.mean(errors <= eps)
    expected = 2.0 ** -linear_inductive_bias(eps, d, n, null_energy(x, theta), tau2)
    np.testing.assert_allclose(share, expected, atol=5 * np.sqrt(share / 40_000))


def test_units_and_ends():
    np.testing.assert_allclose(
        linear_inductive_bias(0.5, 9, 4, 3.0, 1.0), linear_inductive_bias(1.5, 9, 4, 9.0, 3.0), rtol=1e-12
    )
    assert linear_inductive_bias(0.1, 4, 4, 0.0) == 0 and linear_inductive_bias(0.1, 4, 9, 0.0) == 0
    many = linear_inductive_bias(1e-3, 500, 0, 500.0)
    # A small ball in 500 dimensions, its centre 500 away from the prior's, in nats.
    ball = 250 * np.log(5e-4) - special.gammaln(251.0) - 250
    np.testing.assert_allclose(many * np.log(2), -ball, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda e: linear_inductive_bias(e, 3, 3, 0.0))(1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_noncentral_chi2(0.0, 1.0, 1.0), "x must be positive and finite, got 0.0"),
        (lambda: log_noncentral_chi2(6001.0, 1.0, 1.0), "x must be at most 6000"),
        (lambda: log_noncentral_chi2(1.0, 0.0, 1.0), "freedom must be positive"),
        (lambda: log_noncentral_chi2(1.0, 1.0, -1.0), "noncentrality must be non-negative"),
        (lambda: log_noncentral_chi2(1.0, 1.0, 1e4), "noncentrality must be at most 6000"),
        (lambda: null_energy(np.ones((1, 3)), np.ones(2)), "inputs must be at most as many"),
        (lambda: linear_inductive_bias(-1.0, 3, 1, 1.0), "error must be positive"),
        (lambda: linear_inductive_bias(1.0, 0, 0, 1.0), "d must be a whole number"),
        (lambda: linear_inductive_bias(1.0, 3, 1, 1.0, 0.0), "variance must be positive"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
