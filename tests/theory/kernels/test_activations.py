"""Dual activations against a quadrature of their own, and the identities that hold between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels import activations
from theory.kernels.activations import NAMED, activation, dual, dual_derivative

FAMILY = {name: activation(name) for name in NAMED if name not in ("abrelu", "polynomial")} | {
    "abrelu": activation(("abrelu", 0.3, -1.2)),
    "polynomial": activation(("polynomial", 0.3, -1.0, 0.5, 0.2)),
    "wave": activation(("sine", 0.7, 0.4)),
}
SMOOTH = [name for name, phi in FAMILY.items() if phi.derivative is not None]
POINTS = [(1.3, 0.7, 0.4), (0.5, 0.5, -0.8), (0.2, 1.1, 0.95), (0.6, 0.9, 0.0), (2.0, 1e-3, -0.3)]
variances, correlations = st.floats(1e-3, 4), st.floats(-1, 1)


def brute(function, q1, q2, c):
    """E[f(u) f(v)] on a dense grid of rays and radii that ends at every sign change of u or v."""
    theta = np.arctan2(np.sqrt(q1 * q2 - c * c), c)
    edges = np.unique(np.mod([0, np.pi / 2, 3 * np.pi / 2, np.pi / 2 + theta, 3 * np.pi / 2 + theta], 2 * np.pi))
    x, w = np.polynomial.legendre.leggauss(160)
    r, radial = 6 * (x + 1), 6 * w * 6 * (x + 1) * np.exp(-18 * (x + 1) ** 2) / (2 * np.pi)
    x, w = np.polynomial.legendre.leggauss(50)
    total = 0.0
    for low, high in zip(edges, [*edges[1:], 2 * np.pi], strict=True):
        ray = (high - low) / 2 * (x + 1) + low
        u, v = np.sqrt(q1) * np.cos(ray), np.sqrt(q2) * np.cos(ray - theta)
        values = function(jnp.asarray(np.outer(r, u))) * function(jnp.asarray(np.outer(r, v)))
        total += radial @ np.asarray(values) @ ((high - low) / 2 * w)
    return total


def slope(function):
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


@pytest.mark.parametrize("name", FAMILY)
def test_dense_gaussian_integration(name):
    phi = FAMILY[name]
    for q1, q2, rho in POINTS:
        c = rho * np.sqrt(q1 * q2)
        size = np.sqrt(dual(phi, q1, q1, q1) * dual(phi, q2, q2, q2))
        np.testing.assert_allclose(dual(phi, q1, q2, c), brute(phi.function, q1, q2, c), atol=1e-12 * size, rtol=0)
        if phi.derivative is not None:
            scale = 1 + abs(dual_derivative(phi, q1, q1, q1))
            found = dual_derivative(phi, q1, q2, c)
            np.testing.assert_allclose(found, brute(slope(phi.function), q1, q2, c), atol=1e-12 * scale, rtol=0)


@pytest.mark.parametrize("name", SMOOTH)
def test_price(name):
    """dT/dc = T', by automatic differentiation, at a right angle too."""
    phi = FAMILY[name]
    derivative = jax.jit(jax.grad(lambda c, q1, q2: dual(phi, q1, q2, c)))
    for q1, q2, rho in POINTS:
        c = rho * np.sqrt(q1 * q2)
        np.testing.assert_allclose(derivative(c, q1, q2), dual_derivative(phi, q1, q2, c), rtol=1e-11, atol=1e-13)


@given(variances, variances, correlations)
def test_bounds_and_symmetry(q1, q2, rho):
    c = rho * np.sqrt(q1 * q2)
    for name in ("relu", "erf", "gelu", "wave", "sign"):
        phi = FAMILY[name]
        found = dual(phi, q1, q2, c)
        assert abs(found) <= np.sqrt(dual(phi, q1, q1, q1) * dual(phi, q2, q2, q2)) * (1 + 1e-14)
        np.testing.assert_allclose(dual(phi, q2, q1, c), found, rtol=1e-13, atol=1e-16)


@given(variances, variances, correlations)
def test_odd_and_even(q1, q2, rho):
    c = rho * np.sqrt(q1 * q2)
    for name, parity in (
        ("erf", -1),
        ("sine", -1),
        ("sign", -1),
        ("identity", -1),
        ("cosine", 1),
        ("gaussian", 1),
        ("abs", 1),
    ):
        phi = FAMILY[name]
        np.testing.assert_allclose(dual(phi, q1, q2, -c), parity * dual(phi, q1, q2, c), rtol=1e-13, atol=1e-15)


@given(variances, variances, correlations, st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_relu_family_is_homogeneous(q1, q2, rho, x, y):
    c = rho * np.sqrt(q1 * q2)
    for name, degree in (("relu", 1), ("leaky_relu", 1), ("abs", 1), ("rectified_power", 2)):
        phi, size = FAMILY[name], np.sqrt(q1 * q2) ** degree
        found = dual(phi, q1 * x * x, q2 * y * y, c * x * y)
        np.testing.assert_allclose(
            found, (x * y) ** degree * dual(phi, q1, q2, c), atol=1e-14 * (x * y) ** degree * size
        )


@given(variances, variances, correlations)
def test_relations_between_activations(q1, q2, rho):
    c = rho * np.sqrt(q1 * q2)
    size = np.sqrt(q1 * q2)
    relu, absolute, linear = (dual(name, q1, q2, c) for name in ("relu", "abs", "identity"))
    # relu = (x + |x|) / 2, and the odd and the even part do not mix.
    np.testing.assert_allclose(relu, (linear + absolute) / 4, atol=1e-15 * size)
    np.testing.assert_allclose(dual(("abrelu", 1.0, 1.0), q1, q2, c), c, atol=1e-15 * size)
    np.testing.assert_allclose(dual(("abrelu", 0.0, 1.0), q1, q2, c), relu, rtol=0)
    # Phi(x) = (1 + erf(x / sqrt 2)) / 2, and step = (1 + sign) / 2.
    np.testing.assert_allclose(dual("normal_cdf", q1, q2, c), (1 + dual("erf", q1 / 2, q2 / 2, c / 2)) / 4, rtol=1e-13)
    np.testing.assert_allclose(dual("step", q1, q2, c), (1 + dual("sign", q1, q2, c)) / 4, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dual(("polynomial", 0.0, 1.0), q1, q2, c), c, atol=1e-16)
    # A steep GELU is a ReLU: the bend is 1 / b wide.
    b = 1e5
    bend = 4 / b**2 * (np.sqrt(q1 / q2) + np.sqrt(q2 / q1))
    steep = dual("gelu", q1 * b**2, q2 * b**2, c * b**2) / b**2
    np.testing.assert_allclose(steep, relu, rtol=0, atol=bend + 1e-14 * size)
    # cos a cos b + sin a sin b = cos(a - b): a radial kernel.
    radial = np.exp(-(q1 + q2 - 2 * c) / 2)
    np.testing.assert_allclose(dual("sine", q1, q2, c) + dual("cosine", q1, q2, c), radial, rtol=1e-13)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "rectified_power", "step", "sign"])
def test_parallel_and_opposite(name):
    """At an angle of exactly 0 or pi: E[phi(u)^2] and E[phi(u) phi(-u)], without a rounding."""
    phi = FAMILY[name]
    same, opposite = dual(phi, 2.0, 2.0, 2.0), dual(phi, 2.0, 2.0, -2.0)
    a, b = phi.function(jnp.asarray([-1.0, 1.0]))
    power = {"rectified_power": 12.0, "step": 1.0, "sign": 1.0}.get(name, 2.0)
    np.testing.assert_allclose(same, power * (a * a + b * b) / 2, rtol=4e-16)
    np.testing.assert_allclose(opposite, power * a * b, rtol=4e-16, atol=0)


def test_extreme_variances_stay_finite():
    sizes = np.array([0.0, 1e-16, 1.0, 1e16])
    q1, q2 = np.meshgrid(sizes, sizes)
    for name, phi in FAMILY.items():
        if name in ("exponential", "polynomial"):
            continue
        for rho in (-1.0, 0.0, 0.5, 1.0):
            c = rho * np.sqrt(q1 * q2)
            assert np.isfinite(dual(phi, q1, q2, c)).all(), (name, rho)
            if phi.derivative is not None:
                assert np.isfinite(dual_derivative(phi, q1, q2, c)).all(), (name, rho)


def test_refusals_name_the_argument():
    with pytest.raises(ValueError, match=r"^activation must be one of identity, .*got 'swish'"):
        dual("swish", 1.0, 1.0, 0.5)
    with pytest.raises(ValueError, match=r"^q1 must be non-negative and finite, got -1"):
        dual("relu", -1.0, 1.0, 0.5)
    with pytest.raises(ValueError, match=r"^c must be at most sqrt\(q1 q2\) in size, got 1.5"):
        dual("relu", 1.0, 1.0, 1.5)
    with pytest.raises(ValueError, match=r"^phi must be continuous to have a derivative dual, got 'sign'"):
        dual_derivative("sign", 1.0, 1.0, 0.5)
    with pytest.raises(ValueError, match=r"^a and b must be finite and not both zero"):
        activations.abrelu(0.0, 0.0)
    with pytest.raises(ValueError, match=r"^coefficients must be finite"):
        activations.polynomial()
