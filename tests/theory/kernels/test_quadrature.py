"""Duals by quadrature: the closed forms that they must find again, and the error that they state."""

import jax.numpy as jnp
import numpy as np
import pytest

from theory.kernels.activations import activation, dual, dual_derivative
from theory.kernels.infinite import kernels
from theory.kernels.quadrature import quadrature, quadrature_dual, quadrature_error

Q1, Q2, RHO = (
    np.array(x) for x in ([1.3, 0.5, 0.01, 1.0, 2.0], [0.7, 0.5, 1.5, 1.0, 0.0], [0.4, -0.95, 0.999, 1.0, 0.0])
)
C = RHO * np.sqrt(Q1 * Q2)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "rectified_power", "erf", "gelu", "sine"])
def test_closed_forms_come_out_again(name):
    """A kink at zero costs nothing: the arcs end there. erf at variance 2 converges to about 1e-12 at 64 radii."""
    phi = activation(name)
    found = quadrature(phi.function)
    np.testing.assert_allclose(dual(found, Q1, Q2, C), dual(phi, Q1, Q2, C), atol=1e-12, rtol=1e-12)
    # The slope of a rectifier at a variance of zero is its slope at zero: any value between its two.
    some = slice(0, 4)
    expected = dual_derivative(phi, Q1[some], Q2[some], C[some])
    np.testing.assert_allclose(dual_derivative(found, Q1[some], Q2[some], C[some]), expected, atol=1e-11, rtol=1e-11)


def test_anchors_of_tanh():
    """E[tanh(u) tanh(v)] by a trapezoidal rule on a wide grid, whose error is exponentially small in its step."""
    z, h = np.linspace(-10, 10, 2001, retstep=True)
    weight = np.exp(-z * z / 2) * h / np.sqrt(2 * np.pi)
    for q, c in ((0.5, 0.5), (1.3, 0.5), (1.3, -1.1)):
        u, v = np.sqrt(q) * z, (c / np.sqrt(q)) * z[:, None] + np.sqrt(max(q - c * c / q, 0)) * z[None, :]
        expected = weight @ (np.tanh(u)[:, None] * np.tanh(v)) @ weight
        np.testing.assert_allclose(quadrature_dual(jnp.tanh, q, q, c), expected, rtol=1e-11)


@pytest.mark.slow
def test_the_stated_error_is_of_the_size_of_the_error():
    for function, name in ((activation("erf").function, "erf"), (activation("gelu").function, "gelu")):
        coarse = dict(radial=16, angular=6)
        rough = quadrature(function, **coarse)
        stated, stated_slope = quadrature_error(rough, 1.3, 0.7, 0.4, **coarse)
        error = abs(dual(rough, 1.3, 0.7, 0.4) - dual(name, 1.3, 0.7, 0.4))
        error_slope = abs(dual_derivative(rough, 1.3, 0.7, 0.4) - dual_derivative(name, 1.3, 0.7, 0.4))
        # Half again as many nodes are better by orders of magnitude: the difference is the error.
        assert 0.8 < stated / error < 1.25 and 0.8 < stated_slope / error_slope < 1.25 and error > 1e-12


def clipped(x):
    return jnp.clip(x, -1, 1)


def test_a_kink_elsewhere_is_confessed():
    stated, stated_slope = quadrature_error(quadrature(clipped), 1.3, 1.3, 0.5)
    assert 1e-8 < stated < 1e-2 and 1e-6 < stated_slope < 1e-1


def test_it_serves_a_whole_network():
    x = np.random.default_rng(0).normal(size=(4, 3))
    phi = activation("erf")
    ours, exact = (kernels(x, depth=2, activation=a, bias_variance=0.1) for a in (quadrature(phi.function), phi))
    np.testing.assert_allclose(ours.nngp, exact.nngp, rtol=1e-10)
    np.testing.assert_allclose(ours.ntk, exact.ntk, rtol=1e-10)


def test_refusals_name_the_argument():
    with pytest.raises(ValueError, match=r"^radial must be a whole number of at least 1, got 0"):
        quadrature(jnp.tanh, radial=0)
    with pytest.raises(ValueError, match=r"^q1 must be non-negative"):
        quadrature_dual(jnp.tanh, -1.0, 1.0, 0.0)
