"""Item-property maps: raw weights, repeated singular values, derivatives, illusions, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sims.tasks.hierarchy import LIVING_THINGS
from theory.deep_linear.illusory_correlations import (
    illusory_peaks,
    item_property_map,
    item_similarity,
    shallow_map,
)

TABLE = LIVING_THINGS.values
value_map, similarity = jax.jit(item_property_map), jax.jit(item_similarity)
SHAPES = [(7, 4), (4, 7), (3, 3)]


def table(seed, shape=(7, 4)):
    return np.random.default_rng(seed).normal(size=shape)


def raw_weights(t, y, u0, lam, hidden=9):
    """W_1 and W_2 of gradient flow on the base loss with Sxx = lam I, from an aligned balanced start."""
    left, s, right = np.linalg.svd(y, full_matrices=False)
    frame = np.linalg.qr(np.random.default_rng(1).normal(size=(hidden, len(s))))[0]
    w1, w2 = np.sqrt(u0) * frame @ right, np.sqrt(u0) * left @ frame.T

    def velocity(_, w):
        w1, w2 = w[: hidden * y.shape[1]].reshape(hidden, -1), w[hidden * y.shape[1] :].reshape(-1, hidden)
        error = lam * (y - w2 @ w1)
        return np.concatenate([(w2.T @ error).ravel(), (error @ w1.T).ravel()])

    start = np.concatenate([w1.ravel(), w2.ravel()])
    w = solve_ivp(velocity, (0, t), start, method="DOP853", rtol=1e-12, atol=1e-15).y[:, -1]
    return w[: w1.size].reshape(w1.shape), w[w1.size :].reshape(w2.shape)


@pytest.mark.parametrize(
    "y", [TABLE, TABLE.T, np.eye(4) + 0.0, table(0, (4, 7))], ids=["7x4", "4x7", "equal", "random"]
)
def test_against_raw_weights(y):
    w1, w2 = raw_weights(4.0, y, 0.01, 0.7)
    # The integrator's own error, amplified by the growth from the start, about (s/u0) 1e-12.
    np.testing.assert_allclose(value_map(4.0, y, 0.01, 0.7), w2 @ w1, atol=1e-9)
    np.testing.assert_allclose(similarity(4.0, y, 0.01, 0.7), w1.T @ w1, atol=1e-9)


@given(st.integers(0, 10**6), st.sampled_from(SHAPES), st.floats(0.1, 10))
def test_ends(seed, shape, lam):
    y = table(seed, shape)
    left, _, right = np.linalg.svd(y, full_matrices=False)
    np.testing.assert_allclose(value_map(0.0, y, 0.01, lam), 0.01 * left @ right, atol=1e-14)
    np.testing.assert_allclose(value_map(1e12, y, 0.01, lam), y, atol=1e-13)
    np.testing.assert_allclose(similarity(1e12, y, 0.01, lam) @ similarity(1e12, y, 0.01, lam), y.T @ y, atol=1e-12)


@given(st.integers(0, 10**6), st.floats(0.0, 5.0))
def test_averaging_over_items_only_slows_the_clock(seed, t):
    y = table(seed)
    np.testing.assert_allclose(value_map(4 * t, y, 0.01, 0.25), value_map(t, y, 0.01, 1.0), rtol=1e-12, atol=1e-14)


@given(st.integers(0, 10**6), st.floats(0.0, 3.0))
def test_rotations_of_the_properties_rotate_the_map(seed, t):
    y, q = table(seed), np.linalg.qr(table(seed + 1, (7, 7)))[0]
    np.testing.assert_allclose(value_map(t, q @ y, 0.01, 1.0), q @ value_map(t, y, 0.01, 1.0), atol=1e-12)
    np.testing.assert_allclose(similarity(t, q @ y, 0.01, 1.0), similarity(t, y, 0.01, 1.0), atol=1e-12)


@given(st.integers(0, 10**6), st.floats(0.0, 5.0), st.floats(0.1, 10))
def test_shallow_map_is_the_matrix_exponential_of_its_flow(seed, t, lam):
    y, w0 = table(seed), table(seed + 1)
    np.testing.assert_allclose(shallow_map(t, y, w0, lam), y + (w0 - y) * np.exp(-lam * t), atol=1e-13)
    path = shallow_map(np.linspace(0, t + 0.1, 9), y, w0, lam)
    # Monotone: each entry keeps the sign of its velocity.
    assert (np.diff(path, axis=0) * np.sign(y - w0) >= 0).all()


weights = np.random.default_rng(5).normal(size=(7, 4))
weights_p = np.random.default_rng(5).normal(size=(4, 4))


def functional(y, t=2.0, u0=1e-2, lam=0.5):
    return jnp.sum(weights * item_property_map(t, y, u0, lam)) + jnp.sum(weights_p * item_similarity(t, y, u0, lam))


gradient = jax.jit(jax.grad(functional, argnums=(0, 1, 2, 3)))


@pytest.mark.parametrize("y", [TABLE, table(3)], ids=["repeated", "random"])
def test_derivatives_against_differences(y):
    found, direction, h = gradient(y, 2.0, 1e-2, 0.5), table(9), 1e-3
    # Fourth-order differences: an error of h^4.
    stencil = ((1, 8), (-1, -8), (2, -1), (-2, 1))
    values = sum(c * functional(y + k * h * direction) for k, c in stencil) / (12 * h)
    np.testing.assert_allclose(np.sum(found[0] * direction), values, atol=1e-9)
    for i, at in enumerate((2.0, 1e-2, 0.5)):
        step = at * h
        values = [functional(y, *(x + k * step * (i == j) for j, x in enumerate((2.0, 1e-2, 0.5)))) for k, _ in stencil]
        slope = sum(c * v for (_, c), v in zip(stencil, values, strict=True)) / (12 * step)
        np.testing.assert_allclose(found[1 + i], slope, rtol=1e-8)


@pytest.mark.parametrize("y", [TABLE, np.zeros((7, 4)), np.ones((7, 4)), 1e-9 * TABLE], ids=["full", "0", "1", "tiny"])
@pytest.mark.parametrize("t", [0.0, 1.0, 1e8])
def test_gradients_are_finite(y, t):
    assert all(np.isfinite(g).all() for g in gradient(y, t, 1e-2, 0.5))


def test_zero_modes_stay_at_zero():
    np.testing.assert_allclose(value_map(1.0, np.ones((3, 2)), 0.1, 1.0).std(), 0.0, atol=1e-15)
    assert not value_map(1.0, np.zeros((3, 2)), 0.1, 1.0).any()


def test_swimming_canary():
    found = illusory_peaks(TABLE, 1e-3)
    swim = LIVING_THINGS.entry("canary", "swim")
    t = np.linspace(0, 20, 200_001)
    left, s, right = np.linalg.svd(TABLE, full_matrices=False)
    u = s / (1 + (s / 1e-3 - 1) * np.exp(-2 * s * t[:, None]))
    path = np.einsum("k,tk,k->t", left[swim[0]], u, right[:, swim[1]])
    # A parabola sampled every 1e-4 hides its top by 1e-9 at most.
    np.testing.assert_allclose(found.peak[swim], path.max(), atol=1e-8)
    np.testing.assert_allclose(found.time[swim], t[path.argmax()], atol=1e-4)
    assert int((found.departure > 1e-2).sum()) == 16
    assert np.isinf(found.time[0]).all() and (found.peak[0] == 1).all()


@given(st.integers(0, 10**6))
def test_peaks_bound_the_path(seed):
    y = table(seed)
    found, path = illusory_peaks(y, 1e-3), value_map(np.geomspace(1e-2, 1e2, 400), y, 1e-3, 1.0)
    start = value_map(0.0, y, 1e-3, 1.0)
    outside = np.maximum(path - np.maximum(start, y), np.minimum(start, y) - path).max(0)
    assert (outside <= found.departure + 1e-11).all()


def test_derivative_of_a_peak():
    swim, direction, h = LIVING_THINGS.entry("canary", "swim"), table(9), 1e-4
    peak = jax.jit(lambda y: illusory_peaks(y, 1e-3).peak[swim])
    difference = (peak(TABLE + h * direction) - peak(TABLE - h * direction)) / (2 * h)
    # Second-order differences: an error of h^2, with a second derivative of order ten.
    np.testing.assert_allclose(np.sum(jax.grad(peak)(TABLE) * direction), difference, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: item_property_map(-1.0, TABLE, 0.1), "t must be non-negative"),
        (lambda: item_property_map(1.0, TABLE, 0.0), "u0 must be positive"),
        (lambda: item_similarity(1.0, TABLE, 0.1, 0.0), "lam must be positive"),
        (lambda: shallow_map(1.0, TABLE, np.zeros((4, 7))), "w0 must be a number or of the shape of y"),
        (lambda: illusory_peaks(TABLE, 1e-3, points=3), "points must be a whole number of at least 16"),
        (lambda: illusory_peaks(np.full((2, 2), np.nan), 1e-3), "y must be finite"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_refusal_inside_jit():
    with pytest.raises(Exception, match="u0 must be positive"):
        jax.jit(item_property_map)(1.0, TABLE, -1.0).block_until_ready()
