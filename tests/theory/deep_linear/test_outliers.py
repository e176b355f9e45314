"""Opposing outliers: the signal's flow against integrated weights, its spectrum, and the crossing of the edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.modes import mode_strength
from theory.deep_linear.outliers import (
    Outliers,
    crossing_step,
    crossing_time,
    final_outlier_curvature,
    signal_path,
    signal_spectrum,
)

weights = st.floats(-2, 2)


@pytest.mark.parametrize(("c0", "w0", "b"), [(0.1, 1.5, 2.0), (1.2, 0.1, 1.0), (0.5, -0.3, 1.0), (-0.4, -0.2, 0.7)])
def test_flow_against_integrated_weights(c0, w0, b):
    for t in (0.3, 2.0, 8.0):
        flow = solve_ivp(
            lambda _, x: [x[1] * (b - x[0] * x[1]), x[0] * (b - x[0] * x[1])],
            (0, t), [c0, w0], rtol=1e-12, atol=1e-14, method="DOP853",
        )  # fmt: skip
        path = signal_path(t, b, c0, w0)
        np.testing.assert_allclose([path.c, path.w], flow.y[:, -1], rtol=1e-10)


@given(weights, weights, st.floats(0, 5), st.floats(0, 5))
def test_semigroup_and_conservation(c0, w0, t1, t2):
    once, first = signal_path(t1 + t2, 1.0, c0, w0), signal_path(t1, 1.0, c0, w0)
    twice = signal_path(t2, 1.0, first.c, first.w)
    np.testing.assert_allclose(once.c**2 - once.w**2, c0**2 - w0**2, atol=1e-13)
    # Next to the antisymmetric start rounding grows by e^t; elsewhere the two agree to rounding.
    np.testing.assert_allclose([twice.c, twice.w], [once.c, once.w], atol=1e-15 * np.exp(10) + 1e-13)


@given(st.floats(1e-6, 0.5), st.floats(0.2, 3), st.floats(0, 20))
def test_balanced_is_the_logistic_mode(u0, b, t):
    path = signal_path(t, b, np.sqrt(u0), np.sqrt(u0))
    np.testing.assert_allclose(path.c**2, mode_strength(t, b, u0), rtol=1e-12)


@given(weights, weights, st.floats(0.1, 3), st.floats(0.1, 50))
def test_spectrum_against_explicit_weights(c, w, b, kappa):
    def loss(x):
        return (x[0] * x[1] - b) ** 2 / 2 + kappa * x[0] ** 2 * x[2] ** 2 / 2

    found = np.linalg.eigvalsh(jax.hessian(loss)(jnp.array([c, w, 0.0])))
    np.testing.assert_allclose(np.sort(signal_spectrum(c, w, b, kappa)), found, atol=1e-13 * (20 + kappa * c**2))


@given(st.floats(0.05, 0.9), st.floats(0.0, 0.9), st.floats(0.5, 40), st.floats(0.05, 0.95))
def test_crossing_time_is_when_the_flow_crosses(c0, w0, kappa, fraction):
    end = float(final_outlier_curvature(1.0, kappa, c0**2 - w0**2))
    start = kappa * c0**2
    level = start + fraction * (end - start)
    t = crossing_time(level, 1.0, kappa, c0, w0)
    np.testing.assert_allclose(kappa * signal_path(t, 1.0, c0, w0).c ** 2, level, rtol=1e-11)
    np.testing.assert_allclose(kappa * signal_path(60.0, 1.0, c0, w0).c ** 2, end, rtol=1e-9)
    assert np.isinf(crossing_time(1.001 * end, 1.0, kappa, c0, w0))
    assert crossing_time(0.5 * start, 1.0, kappa, c0, w0) == 0


@pytest.mark.parametrize("lr", [0.01, 0.05, 0.1])
def test_crossing_step_of_gradient_descent(lr):
    setting = Outliers(1.0, 2 / (0.8 * lr), lr, 1e-3)
    c, u = np.sqrt(1e-3), []
    while not u or u[-1] < 0.8:
        u.append(c**2)
        c = c + lr * c * (1 - c**2)
    # Interpolated in the logit, in which the flow is linear.
    x = np.log(np.array(u[-2:]) / (1 - np.array(u[-2:])))
    step = len(u) - 2 + (np.log(0.8 / 0.2) - x[0]) / (x[1] - x[0])
    # The terms left out are of order lr; the half logarithm is -0.86.
    np.testing.assert_allclose(crossing_step(setting), step, atol=0.3 * lr)
    assert np.isinf(crossing_step(setting, 1.01 * setting.kappa))


@pytest.mark.parametrize(("c0", "w0"), [(0.0, 0.0), (0.5, -0.5), (0.3, 0.3), (2.0, 0.0)])
def test_gradients_are_finite(c0, w0):
    for t in (0.0, 1.0, 100.0):
        assert all(np.isfinite(g) for g in jax.tree.leaves(jax.jacobian(signal_path, (0, 1, 2, 3))(t, 1.0, c0, w0)))


def test_the_antisymmetric_start_dies_out():
    path = signal_path(1e6, 1.0, 0.5, -0.5)
    assert path.c == 0 and path.w == 0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: signal_path(1.0, 0.0, 0.1, 0.1), "b"),
        (lambda: Outliers(1.0, 2.0, 0.1, 1.5), "u0"),
        (lambda: crossing_time(1.0, 1.0, 5.0, 0.5, -0.3), "c0"),
        (lambda: crossing_step(Outliers(1.0, 5.0, 0.1, 0.5), 1.0), "sharpness"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} "):
        call()
