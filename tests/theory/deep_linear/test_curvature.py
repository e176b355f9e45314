"""Hessians of deep linear networks: against the Hessian of explicit weights, limits, gradients, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.curvature import (
    largest_stable_step,
    minimum_sharpness,
    minimum_spectrum,
    trajectory_spectrum,
    two_layer_spectrum,
    unbalanced_sharpness,
)

strengths = st.floats(0.05, 5.0)
hessian = jax.jit(
    lambda flat, target, lam, shapes: jax.hessian(lambda v: loss(v, target, lam, shapes))(flat), static_argnums=3
)


def loss(flat, target, lam, shapes):
    """Half the squared error of the product of the weights in `flat`, W_1 first, over inputs of variances lam."""
    w, start = None, 0
    for rows, columns in shapes:
        layer = flat[start : start + rows * columns].reshape(rows, columns)
        w, start = layer if w is None else layer @ w, start + rows * columns
    return 0.5 * jnp.sum(lam * (w - target) ** 2)


@pytest.mark.parametrize(
    ("widths", "s"),
    [((3, 4, 2), (2.0, 0.7)), ((2, 3, 3, 4), (1.3, 0.0)), ((3, 2), (1.5, 0.4)), ((2, 2, 2, 2, 2), (0.8, 0.8))],
)
def test_spectrum_is_that_of_explicit_weights(widths, s):
    depth, n_in, n_out = len(widths) - 1, widths[0], widths[-1]
    lam = np.linspace(0.5, 2.0, n_in)
    layers = []
    for columns, rows in itertools.pairwise(widths):
        w = np.zeros((rows, columns))
        w[[0, 1], [0, 1]] = np.array(s) ** (1 / depth)
        layers.append(w)
    target = np.zeros((n_out, n_in))
    target[[0, 1], [0, 1]] = s
    flat = jnp.concatenate([w.ravel() for w in layers])
    found = np.linalg.eigvalsh(hessian(flat, target, lam, tuple(w.shape for w in layers)))
    pairs = np.asarray(minimum_spectrum(np.array(s), depth, n_out, n_in, lam)).ravel()
    expected = np.sort(np.concatenate([np.zeros(found.size - pairs.size), pairs]))
    # Eigenvalues are exact to the unit roundoff times the largest.
    np.testing.assert_allclose(found, expected, atol=1e-13 * expected[-1])


@given(strengths, st.integers(1, 12))
def test_sharpness_is_the_top_pair(s, depth):
    pairs = minimum_spectrum(np.array([0.3 * s, s]), depth, 2, 3)
    np.testing.assert_allclose(minimum_sharpness(s, depth), jnp.max(pairs), rtol=1e-13)
    np.testing.assert_allclose(largest_stable_step(s, depth) * minimum_sharpness(s, depth), 2, rtol=1e-13)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_gradient_descent_leaves_the_minimum_beyond_the_edge(depth):
    s, sizes = 1.7, []
    for factor in (0.98, 1.02):
        a, lr = np.full(depth, s ** (1 / depth)) + 1e-6, factor * float(largest_stable_step(s, depth))
        for _ in range(200):
            a = a + lr * (s - a.prod()) * a.prod() / a
        sizes.append(abs(s - a.prod()))
    # 0.96^200 and 1.04^200 of an error of about 1e-6.
    assert sizes[0] < 1e-8 < 1e-4 < sizes[1]


@given(strengths, st.floats(0.0, 1.0), st.sampled_from([1, 2, 3, 5]))
def test_trajectory_against_explicit_layers(s, fraction, depth):
    u = fraction * s
    a = jnp.full(depth, u ** (1 / depth))
    found = np.linalg.eigvalsh(hessian(a, s * np.eye(1), np.ones(1), ((1, 1),) * depth))
    spectrum = trajectory_spectrum(u, s, depth)
    expected = np.sort([float(spectrum.along), *[float(spectrum.across)] * (depth - 1)])
    np.testing.assert_allclose(found, expected, atol=1e-12 * (1 + s**2))


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_two_layers_against_explicit_weights(a, b, s):
    found = np.linalg.eigvalsh(hessian(jnp.array([a, b]), s * np.eye(1), np.ones(1), ((1, 1), (1, 1))))
    np.testing.assert_allclose(two_layer_spectrum(a, b, s), found, atol=1e-13 * (10 + s**2))


@given(strengths, st.floats(-4, 4))
def test_unbalanced_minimum(s, imbalance):
    b = np.sqrt((np.hypot(imbalance, 2 * s) + imbalance) / 2)
    sharp = unbalanced_sharpness(s, imbalance)
    np.testing.assert_allclose(sharp, two_layer_spectrum(s / b, b, s)[1], rtol=1e-11)
    assert sharp >= 2 * s * (1 - 1e-15)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_gradients_are_finite_at_zero(depth):
    assert np.isfinite(jax.jacobian(lambda s: minimum_spectrum(s, depth, 2, 3))(jnp.array([1.0, 0.0]))).all()
    assert np.isfinite(jax.grad(minimum_sharpness)(0.0, float(depth)))
    assert np.isfinite(jax.jacobian(lambda u: jnp.stack(trajectory_spectrum(u, 1.0, depth)))(0.0)).all()
    assert np.isfinite(jax.grad(unbalanced_sharpness, (0, 1))(0.0, 0.0)).all()
    assert np.isfinite(jax.jacobian(two_layer_spectrum, (0, 1, 2))(0.0, 0.0, 0.0)).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: minimum_spectrum(np.array([1.0, -1.0]), 2, 2, 2), "s"),
        (lambda: minimum_spectrum(np.ones(3), 2, 2, 2), "s"),
        (lambda: minimum_spectrum(np.ones(1), 0, 2, 2), "depth"),
        (lambda: minimum_spectrum(np.ones(1), 2, 2, 2, np.ones(3)), "lam"),
        (lambda: minimum_sharpness(1.0, 0.5), "depth"),
        (lambda: largest_stable_step(0.0, 2), "s"),
        (lambda: trajectory_spectrum(-0.1, 1.0, 2), "u"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
