"""Zonal kernels: known spectra, orthogonality, another quadrature, sampled kernels, decay, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as special
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.sphere import (
    chord_eigenvalues,
    decay_exponent,
    legendre,
    multiplicities,
    zonal_eigenvalues,
    zonal_harmonic,
    zonal_kernel,
    zonal_spectrum,
)

DEGREES = 12
dimensions = st.sampled_from([2, 3, 4, 8, 25])


def rectifier_kernel(t):
    """The first-layer kernel of ReLU, unit at t = 1."""
    return (jnp.sqrt(jnp.maximum(1 - t**2, 0)) + t * (jnp.pi - jnp.arccos(t))) / jnp.pi


KERNELS = [lambda t: jnp.exp(1.5 * t), rectifier_kernel, lambda t: jnp.exp(-jnp.sqrt(2 - 2 * t)), lambda t: t**3 + t]


@pytest.mark.parametrize("d", [3, 4, 8, 25])
def test_polynomials_are_gegenbauers(d):
    t = np.linspace(-1, 1, 41)
    half = (d - 2) / 2
    values = [special.eval_gegenbauer(k, half, t) / special.eval_gegenbauer(k, half, 1.0) for k in range(DEGREES + 1)]
    np.testing.assert_allclose(legendre(t, DEGREES, d), np.transpose(values), atol=1e-13)
    np.testing.assert_allclose(legendre(np.cos(t), 5, 2), np.cos(t[:, None] * np.arange(6)), atol=1e-13)


@pytest.mark.parametrize("d", [2, 3, 4, 8, 25])
def test_multiplicities_count_harmonic_polynomials(d):
    k = np.arange(DEGREES + 1)
    homogeneous = special.comb(k + d - 1, d - 1, exact=False)
    expected = homogeneous - np.where(k > 1, special.comb(k + d - 3, d - 1), 0)
    np.testing.assert_allclose(multiplicities(DEGREES, d), expected, rtol=1e-13)


@pytest.mark.parametrize("d", [3, 8, 25])
@pytest.mark.parametrize("kernel", KERNELS)
def test_eigenvalues_by_the_classical_quadrature(kernel, d):
    """Gauss-Jacobi in the cosine: exact for smooth kernels, and to some m^{-3} of a cusp."""
    x, w = special.roots_jacobi(600, (d - 3) / 2, (d - 3) / 2)
    expected = (w / w.sum() * np.asarray(kernel(jnp.asarray(x)))) @ np.asarray(legendre(x, DEGREES, d))
    np.testing.assert_allclose(zonal_eigenvalues(kernel, DEGREES, d), expected, atol=600.0**-3)


@given(dimensions, st.floats(0.1, 4))
def test_exponential_kernels_have_bessel_spectra(d, c):
    order = np.arange(DEGREES + 1) + d / 2 - 1
    expected = np.exp(special.gammaln(d / 2) - (d / 2 - 1) * np.log(c / 2)) * special.iv(order, c)
    found = zonal_eigenvalues(lambda t: jnp.exp(c * t), DEGREES, d)
    np.testing.assert_allclose(found, expected, atol=3e-15 * np.exp(c) * DEGREES)


@pytest.mark.parametrize("d", [3, 30, 120])
def test_what_rounding_hides_is_in_the_tail(d):
    """Degrees whose multiplicities exceed 10^16 would make a trace out of rounding."""
    degrees, c = 30, 2.0
    order = np.arange(degrees + 1) + d / 2 - 1
    expected = np.exp(special.gammaln(d / 2) - (d / 2 - 1) * np.log(c / 2)) * special.iv(order, c)
    lam, m, tail = zonal_spectrum(lambda t: jnp.exp(c * t), degrees, d)
    kept = np.asarray(lam) > 0
    assert kept[:3].all() and not kept[-1] and (np.diff(kept.astype(int)) <= 0).all()
    # A kept eigenvalue is 10^4 roundings or more, and off by some ten of them.
    np.testing.assert_allclose(lam[kept], expected[kept], rtol=3e-3)
    np.testing.assert_allclose(lam @ m + tail, np.exp(c), rtol=1e-14)
    left_out = (expected * np.asarray(m))[~kept].sum()
    np.testing.assert_allclose(tail, left_out, atol=3e-3 * (expected * np.asarray(m))[kept][-1] + 1e-14)


@given(dimensions, st.floats(0.1, 3))
def test_chord_powers_in_closed_form(d, power):
    # The integrand is the power 2 p of an angle: smooth only where that is whole.
    power = np.round(2 * power) / 2 or 0.5
    found = zonal_eigenvalues(lambda t: ((1 - t) / 2) ** power, DEGREES, d)
    np.testing.assert_allclose(found, chord_eigenvalues(power, DEGREES, d), atol=2e-14)


def test_rectifiers_have_no_odd_harmonics_beyond_the_first():
    lam = zonal_eigenvalues(rectifier_kernel, DEGREES, 5)
    np.testing.assert_allclose(lam[3::2], 0, atol=1e-15)
    assert (lam[np.array([0, 1, *range(2, DEGREES + 1, 2)])] > 1e-8).all()


@given(st.sampled_from([3, 8]), st.integers(0, 3))
def test_the_eigenvalues_rebuild_the_kernel(d, which):
    t = np.linspace(-1, 1, 21)
    lam = zonal_eigenvalues(KERNELS[which], 200, d)
    left = 1.1 * abs(float(KERNELS[which](jnp.ones(1))[0] - zonal_kernel(1.0, lam, d))) + 1e-12
    # No term exceeds its part of the trace; rounding is amplified by the number of harmonics.
    rounding = 1e-15 * float(multiplicities(200, d).sum()) if d == 3 else 1e-2
    np.testing.assert_allclose(zonal_kernel(t, lam, d), KERNELS[which](jnp.asarray(t)), atol=left + rounding)


@pytest.mark.parametrize("d", [3, 6])
def test_eigenvalues_of_a_sampled_kernel_matrix(d):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    t = np.clip(x @ x.T, -1, 1)
    found = np.linalg.eigvalsh(np.asarray(rectifier_kernel(jnp.asarray(t))))[::-1] / 600
    lam, m = zonal_eigenvalues(rectifier_kernel, 2, d), multiplicities(2, d)
    np.testing.assert_allclose(found[0], lam[0], rtol=0.02)
    # A level of m modes from P points is off by sqrt(m / P), at most 10 %.
    np.testing.assert_allclose(np.mean(found[1 : 1 + int(m[1])]), lam[1], rtol=0.1)


@pytest.mark.parametrize("d", [3, 6])
def test_harmonics_are_orthonormal_and_eigenfunctions(d):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40000, d))
    pole = rng.normal(size=d)
    values = np.stack([zonal_harmonic(x, pole, k) for k in range(4)])
    # Fourth moments of harmonics are below ten: five standard errors of 40000 samples.
    np.testing.assert_allclose(values @ values.T / 40000, np.eye(4), atol=5 * np.sqrt(10 / 40000))
    np.testing.assert_allclose(zonal_harmonic(7 * pole[None], pole, 3), np.sqrt(multiplicities(3, d)[3]), rtol=1e-12)


@pytest.mark.parametrize(("power", "d"), [(0.5, 3), (0.5, 6), (1.5, 4)])
def test_cusps_set_the_decay(power, d):
    lam, m = np.abs(chord_eigenvalues(power, 4000, d)), multiplicities(4000, d)
    expected = (d - 1 + 2 * power) / (d - 1)
    # The next order is d / k.
    np.testing.assert_allclose(decay_exponent(lam[2:], m[2:])[-1], expected, rtol=d / 1000)


def test_the_laplace_kernel_decays_like_its_cusp():
    d = 4
    lam = zonal_eigenvalues(lambda t: jnp.exp(-jnp.sqrt(2 - 2 * t)), 60, d, nodes=2000)
    # exp(-|x - x'|) = 1 - 2 ((1 - t)/2)^{1/2} + ..., next a whole power, then (1 - t)^{3/2}: relative order k^{-2}.
    np.testing.assert_allclose(lam[60] / (-2 * chord_eigenvalues(0.5, 60, d)[60]), 1, rtol=20 / 60**2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: legendre(1.1, 2, 3), "t must lie between -1 and 1"),
        (lambda: legendre(0.1, 2, 1), "d must be a whole number of at least 2"),
        (lambda: multiplicities(-1, 3), "degrees must be a whole number of at least 0"),
        (lambda: zonal_eigenvalues(lambda t: 1.0, 2, 3), "kernel must be elementwise"),
        (lambda: zonal_harmonic(np.zeros((2, 3)), np.ones(3), 1), "length of x must be positive"),
        (lambda: chord_eigenvalues(0.0, 2, 3), "power must be positive"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
