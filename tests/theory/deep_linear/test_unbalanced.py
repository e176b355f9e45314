"""Unbalanced two-layer modes: the raw equations, limits, symmetries, conservation, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.modes import mode_strength
from theory.deep_linear.unbalanced import (
    final_strengths,
    half_time,
    hyperbolic_angle,
    imbalance,
    lazy_mode_strength,
    learning_time,
    two_layer_strengths,
    unbalanced_mode_strength,
)

layers_at = jax.jit(two_layer_strengths)
strength_at = jax.jit(unbalanced_mode_strength)
time_of = jax.jit(learning_time)

signed = st.floats(-3, 3).filter(lambda a: abs(a) > 1e-3)
pulls = st.floats(-3, 3)
inputs = st.floats(0.1, 5)
times = st.floats(0, 10)


def raw(t, a0, b0, s, lam):
    """Both layers by brute force."""

    def field(_, x):
        pull = s - lam * x[0] * x[1]
        return x[1] * pull, x[0] * pull

    return solve_ivp(field, (0, t), (a0, b0), method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


def test_known_values():
    # Reference: the two equations integrated at 30 digits.
    a, b = layers_at(jnp.array([2.0, 9.0]), 0.1, 0.4, 1.5)
    np.testing.assert_allclose(a, [1.1608485371675, 1.1945182416044], rtol=2e-13)
    np.testing.assert_allclose(b, [1.2237521506596, 1.2557363694366], rtol=2e-13)


@given(times, signed, signed, pulls, inputs)
def test_the_raw_weights(t, a0, b0, s, lam):
    assume(abs(abs(a0) - abs(b0)) > 1e-3)  # the integrator amplifies its own rounding along the saddle
    np.testing.assert_allclose(layers_at(t, a0, b0, s, lam), raw(t, a0, b0, s, lam), rtol=1e-9, atol=1e-11)


@given(times, times, signed, signed, pulls, inputs)
def test_semigroup(t1, t2, a0, b0, s, lam):
    assume(abs(abs(a0) - abs(b0)) > 1e-3)
    once = layers_at(t1 + t2, a0, b0, s, lam)
    twice = layers_at(t2, *layers_at(t1, a0, b0, s, lam), s, lam)
    # Rounding in between is amplified where the way passes the saddle, by at most |a0| / ||a0| - |b0||.
    np.testing.assert_allclose(twice, once, rtol=1e-11, atol=1e-11)


@given(times, signed, signed, pulls, inputs)
def test_the_imbalance_is_conserved(t, a0, b0, s, lam):
    a, b = layers_at(t, a0, b0, s, lam)
    np.testing.assert_allclose(imbalance(a, b), imbalance(a0, b0), atol=1e-14 * float(a * a + b * b) + 1e-15)


@given(times, signed, signed, pulls, inputs, st.floats(0.1, 10))
def test_symmetries(t, a0, b0, s, lam, c):
    a, b = layers_at(t, a0, b0, s, lam)
    close = dict(rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(layers_at(t, b0, a0, s, lam), (b, a), **close)
    np.testing.assert_allclose(layers_at(t, -a0, -b0, s, lam), (-a, -b), **close)
    np.testing.assert_allclose(layers_at(t, -a0, b0, -s, lam), (-a, b), **close)
    # lam is only a unit of strength, c one of time.
    root = np.sqrt(lam)
    np.testing.assert_allclose(layers_at(t, root * a0, root * b0, s, 1.0), (root * a, root * b), **close)
    np.testing.assert_allclose(layers_at(t / c, a0, b0, c * s, c * lam), (a, b), **close)


@given(times, st.floats(1e-3, 3), st.floats(0, 3), inputs)
def test_balanced_modes_are_logistic(t, a0, s, lam):
    np.testing.assert_allclose(strength_at(t, a0, a0, s, lam), mode_strength(t, s, a0**2, lam), rtol=1e-13)


@given(st.floats(0, 300), st.floats(1e-3, 3), st.floats(0.01, 2))
def test_antisymmetric_starts_flow_into_the_saddle(t, a0, s):
    # a = -b solves da/dt = -a (s + a^2); relative accuracy all the way down.
    expected = a0 * np.exp(-s * t) / np.sqrt(1 - a0**2 * np.expm1(-2 * s * t) / s)
    assume(expected > 1e-150)
    np.testing.assert_allclose(layers_at(t, a0, -a0, s), (expected, -expected), rtol=1e-12)
    np.testing.assert_allclose(layers_at(t, a0, a0, -s), (expected, expected), rtol=1e-12)
    assert final_strengths(a0, -a0, s) == (0, 0)


@pytest.mark.parametrize("strong", [1e3, 1e6])
def test_one_layer_tiny_beside_the_other(strong):
    # The stronger layer hardly moves: a relaxes to s / (lam b) at the rate lam b^2, to relative order s / b^2.
    a = layers_at(1.0, 1e-9, strong, 2.0).a
    np.testing.assert_allclose(a, 2.0 / strong, rtol=2 * 4 / strong**2 + 1e-14)
    np.testing.assert_allclose(layers_at(1.0, 0.5, strong, 0.0).a, 0.0, atol=1e-300)


def test_zero_starts_and_zero_time():
    assert layers_at(3.0, 0.0, 0.0, 1.0) == (0, 0)
    assert layers_at(0.0, 0.3, -0.7, 1.0) == (0.3, -0.7)
    np.testing.assert_allclose(layers_at(1e6, 0.0, 0.0, 0.0), (0, 0))
    np.testing.assert_allclose(layers_at(2.0, 0.5, 0.5, 0.0), 2 * (0.5 / np.sqrt(2.0),), rtol=1e-15)


@given(signed, signed, pulls, inputs)
def test_limit_of_long_times(a0, b0, s, lam):
    # 60 / rate: the slowest rate is kappa = |lam Lam| / 2 or |s|; the start must not be on the saddle's way in.
    assume(abs(abs(a0) - abs(b0)) > 1e-3)
    kappa = np.hypot(s, lam * (b0**2 - a0**2) / 2)
    late = layers_at(60 / kappa, a0, b0, s, lam)
    np.testing.assert_allclose(late, final_strengths(a0, b0, s, lam), rtol=1e-11, atol=1e-13)


@given(times, st.floats(-1, 1), st.floats(-1, 1))
def test_lazy_limit(t, u0, s):
    spread = 100.0
    b0 = np.sqrt((np.hypot(spread, 2 * u0) + spread) / 2)
    u = strength_at(t / spread, u0 / b0, b0, s)
    # The rate is sqrt(Lam^2 + 4 u^2) instead of Lam: a share 2 u^2 / Lam^2 of the way, at most 2.
    np.testing.assert_allclose(u, lazy_mode_strength(t / spread, u0, s, spread), atol=2 * 2 / spread**2)


@given(times, st.floats(0.05, 2), st.floats(-2, -0.05), st.floats(0.1, 2), inputs)
def test_hyperbolic_angle(t, a0, b0, s, lam):
    assume(abs(a0 + b0) > 1e-2)
    theta = hyperbolic_angle(t, a0, b0, s, lam)
    a, b = layers_at(t, a0, b0, s, lam)
    spread = abs(imbalance(a0, b0))
    np.testing.assert_allclose(spread * np.cosh(theta), a**2 + b**2, rtol=1e-11)
    np.testing.assert_allclose(spread * np.sinh(theta), 2 * a * b, rtol=1e-11, atol=1e-14)


@given(st.floats(1e-3, 5), signed, signed, pulls, inputs)
def test_learning_time_inverts_the_mode(share, a0, b0, s, lam):
    kappa = np.hypot(s, lam * (b0**2 - a0**2) / 2)
    t = share / kappa
    u = float(strength_at(t, a0, b0, s, lam))
    # A rounding of u moves the time by it over du/dt.
    speeds = [abs(s - lam * v) * np.hypot(b0**2 - a0**2, 2 * v) / max(abs(v), 1e-300) for v in (u, a0 * b0)]
    assume(min(speeds) > 1e-6)
    slack = 1e-14 * (t + sum(1 / v for v in speeds)) * (1 + abs(a0 * b0) / max(abs(abs(a0) - abs(b0)), 1e-9))
    assert abs(time_of(u, a0, b0, s, lam) - t) < slack
    assert abs(time_of(a0 * b0, *layers_at(t, a0, b0, s, lam), s, lam) + t) < 100 * slack


def test_half_time():
    # Balanced: ln(s/u0 - 1) / (2 s).  Lazy: ln 2 / |Lam|.  Above s/lam and in the saddle: never.
    np.testing.assert_allclose(half_time(0.1, 0.1, 2.0), np.log(199) / 4, rtol=1e-14)
    np.testing.assert_allclose(half_time(0.0, 100.0, 1.0), np.log(2) / 1e4, rtol=1e-7)
    assert half_time(2.0, 2.0, 1.0) == np.inf
    assert half_time(0.3, -0.3, 1.0) == np.inf
    assert time_of(0.5, 0.5, 1.0, 2.0) == 0


HARD = [
    (0.0, 0.3, 0.5, 1.0),
    (2.0, 0.3, 0.3, 0.0),
    (2.0, 0.3, -0.3, 0.0),
    (2.0, 0.0, 0.0, 0.0),
    (2.0, 0.0, 0.0, 1.0),
    (3.0, 0.3, -0.3, 1.0),
    (3.0, 0.3, -0.3, -1.0),
    (2.0, 0.3, 0.0, 1.0),
    (5.0, 0.3, 0.3, 1e-9),
    (5.0, 1.0, 1.0, 1.0),
]
gradient = jax.jit(jax.jacrev(lambda *x: jnp.stack(two_layer_strengths(*x)), argnums=(0, 1, 2, 3, 4)))


@pytest.mark.parametrize("point", HARD)
def test_gradients_at_the_hard_points(point):
    t, a0, b0, s = point
    found = np.stack(gradient(t, a0, b0, s, 1.3), axis=1)

    # The equations and their linearisation, integrated together, one argument at a time.
    def field(_, y):
        a, b, da, db = y[0], y[1], y[2:6], y[6:10]
        pull, dpull = s - 1.3 * a * b, np.array([0, 0, 1, -a * b]) - 1.3 * (da * b + a * db)
        return np.concatenate([[b * pull, a * pull], db * pull + b * dpull, da * pull + a * dpull])

    start = np.concatenate([[a0, b0], [1, 0, 0, 0], [0, 1, 0, 0]])
    y = solve_ivp(field, (0, max(t, 1e-9)), start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    np.testing.assert_allclose(found[:, 1:], y[2:].reshape(2, 4), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found[:, 0], field(0, y)[:2], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("point", [(1e4, *p[1:]) for p in HARD] + [(1e8, *p[1:]) for p in HARD])
def test_gradients_stay_finite(point):
    assert np.isfinite(np.stack(gradient(*point, 1.0))).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1.0, 1.0, 0.1, 1.0), "t"),
        ((1.0, float("nan"), 0.1, 1.0), "a0"),
        ((1.0, 1.0, float("inf"), 1.0), "b0"),
        ((1.0, 1.0, 0.1, 1.0, 0.0), "lam"),
    ],
)
def test_refusals_name_the_argument(arguments, named):
    with pytest.raises(ValueError, match=rf"^{named} must be"):
        two_layer_strengths(*arguments)


def test_the_angle_needs_an_imbalance():
    with pytest.raises(ValueError, match=r"^imbalance b0\^2 - a0\^2 must not be zero"):
        hyperbolic_angle(1.0, 0.5, -0.5, 1.0)
