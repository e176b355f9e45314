"""Random products: sampled matrices, exact moments, limits of wide layers, refusals."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sims.probes.products import carried, log_singular_values
from theory.deep_linear.random_products import (
    critical_gain,
    log_volume_moments,
    lyapunov_exponents,
    lyapunov_variances,
    orthogonal_strength,
    squared_norm_moments,
)

widths = st.integers(1, 60)
gains = st.floats(0.3, 3)


def test_known_values():
    with mpmath.workdps(30):
        exponents = [(mpmath.digamma(mpmath.mpf(k) / 2) + mpmath.log(mpmath.mpf(2) / 6)) / 2 for k in range(6, 0, -1)]
        variances = [mpmath.psi(1, mpmath.mpf(k) / 2) / 4 for k in range(6, 0, -1)]
    np.testing.assert_allclose(lyapunov_exponents(6), np.array(exponents, float), rtol=1e-14)
    np.testing.assert_allclose(lyapunov_variances(6), np.array(variances, float), rtol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_sampled_layer(n):
    # One layer is enough: the carried frame's lengths are independent from layer to layer.
    layers = 1.3 / np.sqrt(n) * np.random.default_rng(n).standard_normal((40_000, n, n))
    logs = np.log(np.abs(np.diagonal(np.linalg.qr(layers)[1], axis1=1, axis2=2)))
    error = np.sqrt(lyapunov_variances(n) / len(logs))
    assert (np.abs(logs.mean(axis=0) - lyapunov_exponents(n, 1.3)) < 5 * error).all()
    square = (logs - lyapunov_exponents(n, 1.3)) ** 2
    assert (np.abs(square.mean(axis=0) - lyapunov_variances(n)) < 5 * square.std(axis=0) / 200).all()
    volume, spread = log_volume_moments(1, n, n, 1.3)
    dets = np.log(np.abs(np.linalg.det(layers)))
    assert abs(dets.mean() - volume) < 5 * np.sqrt(spread / len(dets))
    lengths = np.sum(layers[:, :, 0] ** 2, axis=1)
    mean, variance = squared_norm_moments(1, n, 1.3)
    assert abs(lengths.mean() - mean) < 5 * np.sqrt(variance / len(lengths))
    assert abs(lengths.var() - variance) < 5 * ((lengths - mean) ** 2).std() / 200


@given(widths, gains, st.integers(1, 300))
def test_volumes_add_up(n, gain, depth):
    exponents, variances = lyapunov_exponents(n, gain), lyapunov_variances(n)
    for k in {1, n}:
        mean, variance = log_volume_moments(depth, n, k, gain)
        # Rounding: 1e-15 of each of the n terms.
        np.testing.assert_allclose(mean, depth * exponents[:k].sum(), atol=1e-14 * depth * n)
        np.testing.assert_allclose(variance, depth * variances[:k].sum(), rtol=1e-12)


@given(widths, gains)
def test_the_gain_multiplies_every_layer(n, gain):
    shifted = lyapunov_exponents(n) + np.log(gain)
    np.testing.assert_allclose(lyapunov_exponents(n, gain), shifted, atol=1e-15)
    assert (np.diff(shifted) < 0).all()
    np.testing.assert_allclose(lyapunov_exponents(n, critical_gain(n))[0], 0, atol=1e-15)


def test_limits_of_wide_layers():
    for n in (1000, 10_000):
        exponents = lyapunov_exponents(n)
        # The next terms are 1/(6 n^2), and 1/(2 (n - i)) away from the edge.
        np.testing.assert_allclose(exponents[0], -1 / (2 * n) - 1 / (6 * n**2), rtol=1 / n**2)
        np.testing.assert_allclose(exponents[n // 2], np.log(0.5) / 2, atol=1.1 / n)
        np.testing.assert_allclose(exponents[-1], -(np.euler_gamma + np.log(2 * n)) / 2, rtol=1e-14)
        np.testing.assert_allclose(lyapunov_variances(n)[0], 1 / (2 * n), rtol=1.1 / n)


@given(st.integers(0, 60), st.integers(1, 100), gains)
def test_the_mean_norm_is_kept_and_the_typical_one_dies(depth, n, gain):
    mean, variance = squared_norm_moments(depth, n, 1.0)
    assert mean == 1
    typical, _ = log_volume_moments(depth, n)
    assert typical <= 0
    scaled = squared_norm_moments(depth, n, gain)
    np.testing.assert_allclose(scaled.mean, orthogonal_strength(depth, gain) ** 2, rtol=1e-12)
    np.testing.assert_allclose(scaled.variance, variance * scaled.mean**2, rtol=1e-12)


def test_log_singular_values_of_a_product():
    keys = jax.random.split(jax.random.key(0), 5)
    # Separated singular values: orthogonal iteration needs them to converge.
    scales = jnp.array([3.0, 1.0, 0.2])
    layers = jax.vmap(lambda k: jax.random.orthogonal(k, 3) * scales)(keys)
    product = jnp.linalg.multi_dot(list(layers[::-1]))
    found = log_singular_values(lambda k: layers[k], jnp.array(5), 3, sweeps=40)
    np.testing.assert_allclose(found, np.log(np.linalg.svd(product, compute_uv=False)), atol=1e-8)
    frame, grown = carried(layers[0], jnp.eye(3))
    np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(grown.sum(), np.log(np.abs(np.linalg.det(layers[0]))), atol=1e-14)


def test_gradients_are_finite():
    assert np.isfinite(jax.jacrev(lambda g: lyapunov_exponents(4, g))(1.0)).all()
    for part in jax.jacrev(lambda d, g: squared_norm_moments(d, 3, g), argnums=(0, 1))(0.0, 1.0):
        assert np.isfinite(np.stack(part)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lyapunov_exponents(0), "n must be a whole number of at least 1, got 0"),
        (lambda: lyapunov_exponents(3, -1.0), "gain must be positive"),
        (lambda: log_volume_moments(3, 2, 3), "k must be at most the width n = 2, got 3"),
        (lambda: squared_norm_moments(-1, 2), "depth must be non-negative"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
