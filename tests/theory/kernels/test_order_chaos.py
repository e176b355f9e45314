"""Order and chaos: known values, fixed points by brute iteration, convexity, limits of depth, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf, roots_hermitenorm

from theory.kernels.activations import abrelu, gaussian, polynomial
from theory.kernels.order_chaos import (
    correlation_map,
    critical_curvature,
    critical_gap,
    critical_line,
    critical_variance,
    depth_scales,
    fixed_point,
    fixed_variance,
    phase,
    tangent_kernel,
    variance_map,
)

NODES, WEIGHTS = roots_hermitenorm(120)
WEIGHTS = WEIGHTS / np.sqrt(2 * np.pi)
weights, biases = st.floats(0.2, 8.0), st.sampled_from([0.0, 1e-3, 0.05, 0.5, 3.0])


def mean(function, q, rho):
    """E[function(u) function(v)] of a smooth function by the product rule."""
    u = np.sqrt(q) * NODES[:, None]
    v = rho * u + np.sqrt(q * (1 - rho**2)) * NODES
    return WEIGHTS @ (function(u) * function(v)) @ WEIGHTS


def iterated(q, weight, bias, layers=400):
    """Variance after so many erf layers, in plain NumPy."""
    for _ in range(layers):
        q = weight * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)) + bias
    return q


@pytest.mark.parametrize(
    ("q", "weight", "bias"),
    [
        # References: the Gaussian integrals at 25 digits.
        (0.1, 0.9292956392318425590, 0.00093638038095330209),
        (0.5, 1.3603495231756633879, 0.046550158941445537),
        (1.0, 1.7562036827601815983, 0.18413967780745275),
        (2.0, 2.3561944901923449288, 0.60905717299758165),
    ],
)
def test_known_critical_line(q, weight, bias):
    found = critical_line(q, "erf")
    np.testing.assert_allclose(found, (weight, bias), rtol=1e-13)
    # Rounding of sigma_b^2, a difference of numbers of size q, over its slope in q.
    np.testing.assert_allclose(critical_variance(bias, "erf"), q, rtol=1e-12)


def test_relu_is_critical_at_two_and_nowhere_with_biases():
    np.testing.assert_allclose(critical_line(np.array([0.1, 1.0, 30.0]), "relu")[0], 2.0, rtol=1e-15)
    np.testing.assert_allclose(critical_line(np.array([0.1, 1.0, 30.0]), "relu")[1], 0.0, atol=1e-14)
    assert critical_variance(0.1, "relu") == np.inf


def test_maps_are_their_integrals():
    q, rho, weight, bias = 1.3, -0.4, 1.9, 0.3
    variance = weight * mean(erf, q, 1.0) + bias
    np.testing.assert_allclose(variance_map(q, "erf", weight, bias), variance, rtol=1e-10)
    correlation = (weight * mean(erf, q, rho) + bias) / variance
    np.testing.assert_allclose(correlation_map(rho, q, "erf", weight, bias), correlation, rtol=1e-10)


@given(weights, st.sampled_from([1e-3, 0.05, 0.5, 3.0]), st.sampled_from([0.01, 1.0, 50.0]))
def test_depth_leads_to_the_fixed_point_of_the_variance(weight, bias, start):
    # With biases the slope at q* is at most 0.93 here: 400 layers forget all but the rounding.
    q = fixed_variance("erf", weight, bias, start)
    np.testing.assert_allclose(iterated(start, weight, bias), q, rtol=1e-12)


def test_a_search_that_steps_onto_the_fixed_point_finds_it():
    """Starts that are whole eighths of decades away, the steps of the search, to either side."""
    weight, bias = jnp.linspace(0.5, 3, 40)[:, None], 0.05
    q = fixed_variance("erf", weight, bias)
    start = q * 10 ** (jnp.arange(-16, 17) / 8)
    np.testing.assert_allclose(fixed_variance("erf", weight, bias, start), jnp.broadcast_to(q, start.shape), rtol=1e-12)


@given(weights, biases, st.floats(-0.9, 0.9))
def test_depth_leads_to_the_fixed_point_of_the_covariance(weight, bias, rho):
    point = fixed_point("erf", weight, bias)
    if not point.variance or abs(point.chi_1 - 1) < 0.02:
        return
    q, c = float(point.variance), rho * float(point.variance)
    for _ in range(3000):
        c = weight * 2 / np.pi * np.arcsin(2 * c / (1 + 2 * q)) + bias
    # The rounding of a layer, over the distance of the slope from one.
    np.testing.assert_allclose(c, point.covariance, rtol=1e-12, atol=1e-12 * q)
    assert (point.covariance < q) == (phase(point.chi_1) > 0) and point.chi_c <= 1


@pytest.mark.parametrize("excess", [1e-2, 1e-4, 1e-6, 1e-9])
def test_near_the_edge_the_gap_opens_linearly(excess):
    """1 - rho* = 2 (chi_1 - 1)/C''(1) to first order, below where an iteration would converge."""
    weight, bias = critical_line(1.0, "erf")
    # Keep q* = 1 and take the weights above the line.
    weight, bias = weight * (1 + excess), 1 - weight * (1 + excess) * (1 - bias) / weight
    point = fixed_point("erf", weight, bias)
    gap = 1 - point.covariance / point.variance
    np.testing.assert_allclose(point.chi_1, 1 + excess, rtol=1e-14)
    # The next order is a few times the gap; chi_1 - 1 itself carries a rounding of a few 1e-16.
    np.testing.assert_allclose(gap, 2 * excess / critical_curvature(1.0, "erf"), rtol=10 * excess + 5e-15 / excess)


@given(st.floats(0.3, 3), weights, biases)
def test_the_correlation_map_is_convex(q, weight, bias):
    rho = np.linspace(0, 1, 21)
    c = np.asarray(correlation_map(rho, q, "gelu", weight, bias))
    assert (np.diff(c) >= -1e-14).all() and (np.diff(c, 2) >= -1e-13).all()
    np.testing.assert_allclose(c[-1], 1, rtol=1e-14)


def test_none_and_several_fixed_points():
    """x + x^3/10 with sigma_w^2 = 0.8: zero is stable, the next one repels, and beyond it the variance explodes."""
    phi = polynomial(0.0, 1.0, 0.0, 0.1)
    # V(q)/q = 0.8 (1 + 0.6 q + 0.15 q^2) = 1.
    repelling = (-0.6 + np.sqrt(0.36 + 0.15)) / 0.3
    found = fixed_variance(phi, 0.8, 0.0, np.array([0.9, 1.1]) * repelling)
    np.testing.assert_array_equal(found, [0, np.inf])
    # A little bias moves the stable one from zero: q = 0.8 q + b + O(q^2).
    np.testing.assert_allclose(fixed_variance(phi, 0.8, 1e-6, 0.1), 5e-6, rtol=1e-4)
    point = fixed_point(phi, 0.8, 0.1, 50.0)
    assert point.variance == np.inf and np.isnan(point.chi_1)


def test_relu_keeps_every_variance_or_none():
    found = fixed_variance("relu", np.array([2.0, 2.1, 1.9, 1.0]), np.array([0.0, 0.0, 0.0, 0.3]), 3.7)
    np.testing.assert_allclose(found, [3.7, np.inf, 0.0, 0.6], rtol=1e-14)


def test_a_falling_variance_map_may_not_settle():
    """A Gaussian bump with strong weights: the fixed point exists, and |chi_q| says whether depth reaches it."""
    point = fixed_point(gaussian(), np.array([0.5, 30.0]))
    np.testing.assert_allclose(
        variance_map(point.variance, gaussian(), np.array([0.5, 30.0])), point.variance, rtol=1e-13
    )
    assert (point.chi_q < 0).all()


@given(st.floats(0.5, 6), st.sampled_from([0.05, 0.5]))
def test_tangent_kernel_by_recursion(weight, bias):
    point = fixed_point("erf", weight, bias)
    layers = np.arange(30)
    diagonal, off = tangent_kernel(layers, point)
    np.testing.assert_allclose(diagonal[1:], point.variance + point.chi_1 * diagonal[:-1], rtol=1e-12)
    np.testing.assert_allclose(off[1:], point.covariance + point.chi_c * off[:-1], rtol=1e-12)
    limit = tangent_kernel(np.inf, point)
    if phase(point.chi_1) > 0:
        assert limit[0] == np.inf and np.isfinite(limit[1])
    else:
        np.testing.assert_allclose(limit, [point.variance / (1 - point.chi_1)] * 2, rtol=1e-12)


def plain_depths(rho, layers, correlation, slope):
    """1 - rho and the tangent kernel's ratio after so many critical layers, in plain Python."""
    off = rho
    for _ in range(layers):
        rho, off = correlation(rho), correlation(rho) + slope(rho) * off
    return 1 - rho, off / (layers + 1)


@pytest.mark.parametrize("kink", ["relu", "abs"])
def test_deep_kinked_networks_at_the_edge(kink):
    """1 - rho ~ 9 pi^2/(2 kappa^2 L^2) and the ratio -> 1/4, both with corrections of order ln(L)/L."""
    a, b = (0.0, 1.0) if kink == "relu" else (-1.0, 1.0)
    kappa, layers = (a - b) ** 2 / (a * a + b * b), 4000

    def correlation(rho):
        t = np.arccos(rho)
        return rho + kappa / np.pi * (np.sin(t) - t * np.cos(t))

    gap, ratio = plain_depths(0.3, layers, correlation, lambda rho: 1 - kappa / np.pi * np.arccos(rho))
    error = 3 * np.log(layers) / layers
    np.testing.assert_allclose(gap, critical_gap(layers, kink=kappa), rtol=2 * error)
    np.testing.assert_allclose(ratio, 0.25, rtol=4 * error)
    np.testing.assert_allclose(
        correlation_map(0.3, 1.0, abrelu(a, b), 2 / (a * a + b * b)), correlation(0.3), rtol=1e-14
    )


def test_deep_smooth_networks_at_the_edge():
    q, layers = 1.0, 20_000
    weight, bias = (float(x) for x in critical_line(q, "erf"))

    def correlation(rho):
        return weight * 2 / np.pi * np.arcsin(2 * q * rho / (1 + 2 * q)) + bias

    def slope(rho):
        return weight * 4 / np.pi / np.sqrt((1 + 2 * q) ** 2 - (2 * q * rho) ** 2)

    gap, ratio = plain_depths(0.3, layers, correlation, slope)
    error = np.log(layers) / layers
    np.testing.assert_allclose(gap, critical_gap(layers, critical_curvature(q, "erf")), rtol=10 * error)
    np.testing.assert_allclose(ratio, 1 / 3, rtol=10 * error)


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_correlations_relax_over_the_correlation_length(weight):
    point = fixed_point("erf", weight, 0.1)
    q, target = float(point.variance), float(point.covariance)
    c, distances = 0.9 * q if weight > 1 else 0.5 * q, []
    for _ in range(25):
        c = weight * 2 / np.pi * np.arcsin(2 * c / (1 + 2 * q)) + 0.1
        distances.append(abs(c - target))
    measured = -1 / np.log(distances[-1] / distances[-2])
    # Deviations from the exponential law are of the order of the remaining distance.
    np.testing.assert_allclose(measured, depth_scales(point).correlation, rtol=20 * distances[-2] + 1e-6)


@jax.jit
@jax.value_and_grad
def mixture(weight):
    """Some number that depends on every field of the fixed point."""
    return jnp.dot(jnp.array([1.0, 0.7, -0.3, 0.9, 2.0]), jnp.stack(fixed_point("erf", weight, 0.2)))


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.7, 3.0])
def test_gradients_are_those_of_the_implicit_function(weight):
    step = 1e-5
    above, below = mixture(weight + step)[0], mixture(weight - step)[0]
    # A central difference errs by step^2 and by rounding/step.
    np.testing.assert_allclose(mixture(weight)[1], (above - below) / (2 * step), rtol=1e-7, atol=1e-9)


def test_depth_scales_at_the_edge_are_infinite():
    point = fixed_point("erf", *critical_line(0.5, "erf"))
    assert depth_scales(point).correlation == np.inf and np.isfinite(depth_scales(point).variance)
    assert phase(point.chi_1) == 0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: fixed_variance("erf", -1.0), "weight_variance"),
        (lambda: fixed_variance("erf", 1.0, -0.1), "bias_variance"),
        (lambda: fixed_variance("erf", 1.0, 0.1, 0.0), "start"),
        (lambda: correlation_map(1.5, 1.0, "erf", 1.0), "rho"),
        (lambda: critical_gap(0.0), "depth"),
        (lambda: variance_map(float("nan"), "erf", 1.0), "q"),
        (lambda: fixed_point("sign", 1.0), "phi"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must be|^{named} must lie"):
        call()
