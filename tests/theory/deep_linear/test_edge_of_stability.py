"""Beyond the edge of stability: against gradient descent on the three weights, the integrated spike, and limits."""

import jax
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.edge_of_stability import (
    arrival_step,
    dilogarithm,
    end_sharpness,
    oscillation_gain,
    overshoot,
    peak_outlier,
    plateau_growth,
    spike,
    spike_height,
)
from theory.deep_linear.outliers import Outliers


def descent(b, kappa, lr, u0, w0, steps):
    """c^2 and |w_o| along gradient descent on (c w_s - b)^2 / 2 + kappa c^2 w_o^2 / 2."""
    c = w = np.sqrt(u0)
    o, found = w0, np.empty((steps, 2))
    for k in range(steps):
        found[k] = c**2, abs(o)
        e = c * w - b
        c, w, o = c - lr * (e * w + kappa * c * o**2), w - lr * e * c, o * (1 - lr * kappa * c**2)
    return found.T


@given(st.floats(-100, 100))
def test_dilogarithm_against_high_precision(x):
    with mpmath.workdps(30):
        expected = float(mpmath.polylog(2, mpmath.mpf(x)).real)
    np.testing.assert_allclose(dilogarithm(x), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("x", [-2.0, -1.0, 0.0, 1e-9, 0.5, 0.999, 1.001, 2.0, 30.0])
def test_dilogarithm_slope(x):
    expected = 1.0 if x == 0 else -np.log1p(-x) / x if x < 1 else -np.log(x - 1) / x
    np.testing.assert_allclose(jax.grad(dilogarithm)(x), expected, rtol=1e-13)


@pytest.mark.parametrize(("top", "end"), [(2.25, 0.2), (2.25, 0.9), (1.5, 0.8), (3.0, 0.7)])
def test_gain_is_the_integral(top, end):
    setting = Outliers(1.3, top / (1.3 * 0.05), 0.05, 0.013)
    low, high = 0.01 * top, end * top
    breaks = [low, 1.0, high] if low < 1 < high else [low, high]
    with mpmath.workdps(25):
        expected = mpmath.quad(lambda x: mpmath.log(abs(x - 1)) * (1 / x + 1 / (top - x)), breaks) / (2 * 1.3 * 0.05)
    np.testing.assert_allclose(oscillation_gain(end * 1.3, setting), float(expected), rtol=1e-11)


@pytest.mark.parametrize(
    ("top", "kappa", "u0"), [(2.25, 20.0, 0.001), (2.25, 5.0, 0.001), (2.1, 50.0, 0.001), (2.4, 40.0, 0.01)]
)
def test_arrival_of_gradient_descent(top, kappa, u0):
    lr, size, w0 = top / kappa, 1e-4, 1e-6
    setting = Outliers(1.0, kappa, lr, u0)
    u, o = descent(1.0, kappa, lr, u0, w0, int(arrival_step(size, setting, w0)) + 50)
    log = np.log(o)
    k = int(np.argmax((o > size) & (u > 0.9)))
    step = k - 1 + (np.log(size) - log[k - 1]) / (log[k] - log[k - 1])
    growth = float(plateau_growth(setting))
    np.testing.assert_allclose(log[k] - log[k - 1], growth, rtol=1e-4)
    # Of order lr / growth steps; next to a whole step lr pi / tan(pi n_1) of it: 0.9 lr at worst here.
    np.testing.assert_allclose(arrival_step(size, setting, w0), step, atol=1.5 * lr / growth)
    assert arrival_step(size, setting, -w0) == arrival_step(size, setting, w0)


@pytest.mark.parametrize("theta", [0.3, 1.0, 4.0])
def test_end_and_peak_of_gradient_descent(theta):
    ends, peaks, heights = [], [], (0.05, 0.1, 0.2)
    for s in heights:
        lr = s / theta
        kappa = (2 + s) / lr
        u, o = descent(1.0, kappa, lr, 1.0 - 1e-9, 1e-5 * s, int(60 / s + 20 / lr))
        setting = Outliers(1.0, kappa, lr, 0.5)
        ends.append(lr * (kappa * u[-1] - float(end_sharpness(setting))) / s)
        peaks.append(o.max() / float(peak_outlier(setting)) - 1)
    # Both are exact to first order in s, with a second order of at most s^2 / 2.
    assert np.all(np.abs(ends) < 0.5 * np.array(heights))
    assert np.all(np.abs(peaks) < 0.5 * np.array(heights))


integrated = jax.jit(spike)


@given(st.floats(-2, 1).map(lambda e: 10.0**e))
def test_final_size_and_height_of_the_integrated_spike(theta):
    tau = np.linspace(0, 60 + 20 * theta, 4001)
    path = integrated(tau, theta, 1e-9)
    # The start at nu0 moves the law by as much; the maximum on a grid by (dtau)^2.
    np.testing.assert_allclose(1 + 2 * path.m[-1], overshoot(theta), atol=1e-7)
    np.testing.assert_allclose(path.nu.max(), spike_height(theta), rtol=2 * (tau[1] - tau[0]) ** 2)


def test_known_values():
    # Reference: the final-size law and the first integral at 30 digits.
    theta = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 16.0])
    expected = [-0.937476, -0.748435, -0.593624, -0.410720, -0.241279, -0.062500]
    np.testing.assert_allclose(overshoot(theta), expected, atol=5e-7)
    heights = [0.235040, 0.197754, 0.175184, 0.155599, 0.142074, 0.129655]
    np.testing.assert_allclose(spike_height(theta), heights, atol=5e-7)


def test_limits():
    small, large = 1e-6, 1e6
    np.testing.assert_allclose(overshoot(0.0), -1, rtol=1e-15)
    np.testing.assert_allclose(overshoot(small) + 1, 2 * small / 3, rtol=1e-5)
    np.testing.assert_allclose(overshoot(large), -1 / large, rtol=1e-12)
    np.testing.assert_allclose([spike_height(0.0), spike_height(1e9)], [0.25, 0.125], rtol=1e-7)
    below = Outliers(1.0, 10.0, 0.19, 0.1)
    assert end_sharpness(below) == 10.0 and peak_outlier(below) == 0


@pytest.mark.parametrize("theta", [0.0, 1e-8, 0.999, 1.0, 1.001, 50.0, 1e8])
def test_gradients(theta):
    for law in (overshoot, spike_height):
        gradient = float(jax.grad(law)(theta))
        assert np.isfinite(gradient)
        if 0.1 < theta < 100:
            h = 1e-5
            np.testing.assert_allclose(gradient, (law(theta + h) - law(theta - h)) / (2 * h), rtol=1e-6)


def test_gradients_of_the_setting():
    def all_of_it(b, kappa, lr, u0):
        setting = Outliers(b, kappa, lr, u0)
        return arrival_step(1e-3, setting, 1e-6) + end_sharpness(setting) + peak_outlier(setting)

    assert np.isfinite(jax.grad(all_of_it, argnums=(0, 1, 2, 3))(1.0, 21.0, 0.1, 0.01)).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plateau_growth(Outliers(1.0, 5.0, 0.1, 0.1)), "lr"),
        (lambda: arrival_step(1e-3, Outliers(1.0, 25.0, 0.1, 0.5), 1e-6), "u0"),
        (lambda: arrival_step(1e-3, Outliers(1.0, 25.0, 0.1, 0.1), 0.0), "w0"),
        (lambda: oscillation_gain(1.0, Outliers(1.0, 25.0, 0.1, 0.1)), "u"),
        (lambda: overshoot(-1.0), "theta"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} "):
        call()
