"""Fluctuations at finite width: sampled units, known cases, scalings, a step in both parametrisations, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf as scipy_erf

from theory.kernels.finite_width import kernel_variances, relu_norm_moment, standard_rates

variances = st.floats(0.1, 4.0)
cosines = st.floats(-1.0, 1.0)

SAMPLED = {
    "relu": (lambda u: np.maximum(u, 0), lambda u: (u > 0).astype(float)),
    "erf": (scipy_erf, lambda u: 2 / np.sqrt(np.pi) * np.exp(-(u**2))),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_variances_are_those_of_sampled_units(name):
    phi, slope = SAMPLED[name]
    rng = np.random.default_rng(0)
    q1, q2, c, s = 1.3, 0.7, 0.4, 1.8
    u, v = rng.multivariate_normal([0, 0], [[q1, c], [c, q2]], 400_000).T
    a, b = rng.normal(size=(2, u.size))
    units = [
        s * phi(u) * phi(v),
        s * (phi(u) * phi(v) + a**2 * c * slope(u) * slope(v)),
        s * a * b * c * slope(u) * slope(v),
    ]
    for unit, variance in zip(units, kernel_variances(q1, q2, c, width=1, phi=name, weight_variance=s), strict=True):
        squares = (unit - unit.mean()) ** 2
        assert abs(squares.mean() - variance) < 5 * squares.std() / np.sqrt(squares.size)


@given(variances, variances, cosines)
def test_a_linear_network_has_the_moments_of_a_gaussian_pair(q1, q2, rho):
    c = rho * np.sqrt(q1 * q2)
    nngp, ntk, between = kernel_variances(q1, q2, c, width=3, phi="identity", weight_variance=1.0)
    # Quadrature to 1e-14 of the moment, of which a difference is taken.
    np.testing.assert_allclose(3 * nngp, q1 * q2 + c**2, rtol=1e-12)
    np.testing.assert_allclose(3 * ntk, q1 * q2 + 3 * c**2, rtol=1e-12)
    np.testing.assert_allclose(3 * between, c**2, rtol=1e-12, atol=1e-15)


@given(variances, st.floats(0.3, 3.0), st.integers(1, 1000))
def test_one_input_of_a_relu_network(q, s, width):
    found = kernel_variances(q, q, q, width=width, weight_variance=s)
    expected = np.array([5 / 4, 3, 1 / 2]) * s**2 * q**2 / width
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # The norm of one hidden layer is its NNGP kernel, with mean s q / 2.
    np.testing.assert_allclose(1 + found.nngp / (s * q / 2) ** 2, relu_norm_moment([width]), rtol=1e-12)


@given(variances, variances, cosines, st.floats(0.1, 10), st.floats(0.3, 3.0))
def test_scalings_symmetry_and_signs(q1, q2, rho, scale, s):
    c = rho * np.sqrt(q1 * q2)
    base = np.array(kernel_variances(q1, q2, c, width=7, weight_variance=1.0))
    np.testing.assert_allclose(
        kernel_variances(scale * q1, scale * q2, scale * c, width=14, weight_variance=s),
        base * (scale * s) ** 2 / 2,
        rtol=1e-9,
        atol=1e-13 * q1 * q2 * (scale * s) ** 2,
    )
    np.testing.assert_allclose(kernel_variances(q2, q1, c, width=7, weight_variance=1.0), base, rtol=1e-9, atol=1e-13)
    assert (base >= -1e-14 * q1 * q2).all()
    # At c >= 0 the two parts of the tangent kernel rise together.
    assert rho < 0 or base[1] >= base[0] * (1 - 1e-12)


def test_deep_norms_by_sampling():
    rng = np.random.default_rng(1)
    widths, runs = (6, 9, 8), 100_000
    q = np.ones(runs)
    for n in widths:
        # A layer sees of the one below its norm alone.
        q = q * 2 * np.mean(np.maximum(rng.normal(size=(runs, n)), 0) ** 2, axis=1)
    assert abs(q.mean() - 1) < 5 * q.std() / np.sqrt(runs)
    assert abs((q**2).mean() - relu_norm_moment(widths)) < 5 * (q**2).std() / np.sqrt(runs)


@pytest.mark.parametrize("widths", [(3, 5, 4, 2), (2, 1)])
def test_standard_networks_step_like_ntk_networks(widths):
    s_w, s_b = 1.7, 0.3
    rates = standard_rates(widths, s_w, s_b)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, widths[0])), rng.normal(size=(6, widths[-1]))
    layers = list(zip(widths[1:], widths[:-1], strict=True))
    normal = [(jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=shape[0]))) for shape in layers]

    def loss(layers):
        h = x
        for i, (w, b) in enumerate(layers):
            h = (jnp.tanh(h) if i else h) @ w.T + b
        return jnp.mean((h - y) ** 2)

    def standard(layers):
        return [(jnp.sqrt(s_w / w.shape[1]) * w, jnp.sqrt(s_b) * b) for w, b in layers]

    scaled = jax.grad(lambda layers: loss(standard(layers)))(normal)
    one = standard([(w - 0.1 * dw, b - 0.1 * db) for (w, b), (dw, db) in zip(normal, scaled, strict=True)])
    raw = jax.grad(loss)(standard(normal))
    for i, ((w, b), (dw, db)) in enumerate(zip(standard(normal), raw, strict=True)):
        np.testing.assert_allclose(one[i][0], w - 0.1 * rates.weights[i] * dw, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(one[i][1], b - 0.1 * rates.biases[i] * db, rtol=1e-12, atol=1e-14)


def test_arguments_broadcast():
    q, c = np.array([0.5, 1.0, 2.0]), 0.3
    table = kernel_variances(q[:, None], q, c, width=5)
    assert all(part.shape == (3, 3) for part in table)
    np.testing.assert_allclose(np.array(table)[:, 0, 2], kernel_variances(0.5, 2.0, c, width=5), rtol=1e-12)


def test_derivatives_obey_the_scaling_law():
    q, s = (1.0, 2.0, 0.3), 1.3
    value, slope = jax.jvp(lambda *q: kernel_variances(*q, width=5, weight_variance=s), q, q)
    np.testing.assert_allclose(slope, 2 * np.array(value), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel_variances(1.0, 1.0, 0.5, width=0), "width must be a whole number"),
        (lambda: kernel_variances(1.0, 1.0, 0.5, width=8, weight_variance=0.0), "weight_variance must be positive"),
        (lambda: kernel_variances(-1.0, 1.0, 0.5, width=8), "q1 must be non-negative"),
        (lambda: kernel_variances(1.0, 1.0, 1.5, width=8), "c must be"),
        (lambda: kernel_variances(1.0, 1.0, 0.5, width=8, phi="sign"), "phi must be continuous"),
        (lambda: relu_norm_moment([]), "widths must hold"),
        (lambda: relu_norm_moment([4, 0]), "widths must be a whole number"),
        (lambda: standard_rates([3]), "widths must hold"),
        (lambda: standard_rates([3, 2], bias_variance=-1.0), "bias_variance must be non-negative"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
