"""Stochastic gradient descent: against the recursion step by step, sampled moments, and the Volterra equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.discrete import descent_factor
from theory.deep_linear.sgd import (
    LeastSquares,
    Stream,
    multipass_limit,
    multipass_loss,
    sgd_largest_stable_step,
    sgd_noise_gain,
    sgd_risk,
    sgd_steady_risk,
)

STEPS = np.array([0, 1, 2, 7, 50, 300])
risk = jax.jit(lambda lam, m0, noise, lr, batch: sgd_risk(STEPS, Stream(lam, m0, noise), lr, batch))
slope = jax.jit(jax.grad(lambda *arguments: risk(*arguments).sum(), argnums=(0, 1, 2, 3, 4)))
loss = jax.jit(lambda t, lam, z2, floor, n, lr: multipass_loss(t, LeastSquares(lam, z2, floor, n), lr))


def spectrum(seed):
    """Five eigenvalues with a repeated one and a zero, and a start."""
    rng = np.random.default_rng(seed)
    lam = rng.uniform(0.05, 1.0, 5)
    lam[1], lam[4] = lam[0], 0.0
    return lam, rng.uniform(0.1, 2.0, 5)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.35), st.floats(1, 50), st.floats(0, 2))
def test_risk_is_the_recursion_step_by_step(seed, lr, batch, noise):
    lam, m0 = spectrum(seed)
    m, expected = m0, []
    for _ in range(STEPS.max() + 1):
        expected.append(0.5 * lam @ m)
        kept = 1 - 2 * lr * lam + lr**2 * (1 + 1 / batch) * lam**2
        m = kept * m + lr**2 / batch * lam * (lam @ m + noise)
    # k lr lam_max unit roundoffs, k = 300.
    np.testing.assert_allclose(risk(lam, m0, noise, lr, batch), np.array(expected)[STEPS], rtol=1e-11)


def test_one_step_against_sampled_moments():
    rng = np.random.default_rng(0)
    lam, delta, noise, lr, batch = np.array([1.0, 0.4, 0.4]), np.array([0.5, -1.0, 2.0]), 0.3, 0.3, 2
    x = rng.normal(size=(400_000, batch, 3)) * np.sqrt(lam)
    residual = x @ delta - np.sqrt(noise) * rng.normal(size=x.shape[:2])
    new = delta - lr * (residual[..., None] * x).mean(axis=1)
    samples = 0.5 * (new**2) @ lam
    error = samples.std() / np.sqrt(len(samples))
    assert abs(samples.mean() - sgd_risk(1, Stream(lam, delta**2, noise), lr, batch)) < 5 * error


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0))
def test_large_batches_are_gradient_descent(seed, lr):
    lam, m0 = spectrum(seed)
    expected = 0.5 * (lam * m0 * np.asarray(descent_factor(STEPS[:, None], lr, lam)) ** 2).sum(axis=1)
    np.testing.assert_allclose(risk(lam, m0, 0.0, lr, 1e15), expected, rtol=1e-9, atol=1e-14)


@given(st.integers(0, 2**32 - 1), st.floats(1, 100), st.floats(0.2, 0.95))
def test_steady_risk_and_threshold(seed, batch, fraction):
    lam, m0 = spectrum(seed)
    edge = float(sgd_largest_stable_step(lam, batch))
    np.testing.assert_allclose(sgd_noise_gain(lam, edge, batch), 1, rtol=1e-9)
    assert edge < 2 / ((1 + 1 / batch) * lam.max())
    late = sgd_risk(10**6, Stream(lam[:4], m0[:4], 0.7), fraction * edge, batch)
    np.testing.assert_allclose(sgd_steady_risk(lam[:4], 0.7, fraction * edge, batch), late, rtol=1e-8)
    # Beside the edge the largest eigenvalue of the recursion's matrix lies beside one.
    for factor in (0.99, 1.01):
        lr = factor * edge
        kept = 1 - 2 * lr * lam + lr**2 * (1 + 1 / batch) * lam**2
        top = np.linalg.eigvalsh(np.diag(kept[:4]) + lr**2 / batch * np.outer(lam[:4], lam[:4]))[-1]
        assert (top > 1) == (factor > 1)
        assert np.isfinite(sgd_steady_risk(lam, 0.7, lr, batch)) == (factor < 1)


def test_white_threshold():
    np.testing.assert_allclose(sgd_largest_stable_step(0.5 * np.ones(20), 3), 2 * 3 / (0.5 * 24), rtol=1e-14)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.5), st.floats(0, 2))
def test_multipass_loss_solves_the_volterra_equation(seed, lr, floor):
    lam, z2 = spectrum(seed)
    n, t = 4.0, np.array([0.0, 0.3, 2.0, 10.0])
    system = np.zeros((6, 6))
    system[:5, :5] = lr**2 / n * lam[:, None] ** 2 - 2 * lr * np.diag(lam)
    system[:5, 5] = lr**2 / n * lam**2
    start = np.append(0.5 * lam * z2, floor)
    expected = [(scipy.linalg.expm(system * now) @ start).sum() for now in t]
    np.testing.assert_allclose(loss(t, lam, z2, floor, n, lr), expected, rtol=1e-11)


def test_multipass_kernel_by_quadrature():
    # f - f_gf - int K f = 0 with Simpson's rule: no exponential of a matrix in it.
    lam, z2 = spectrum(3)
    n, lr, floor, t = 4.0, 0.8, 0.3, np.linspace(0, 5, 2001)
    f = np.asarray(loss(t, lam, z2, floor, n, lr))
    kernel = lr**2 / n * (lam**2 * np.exp(-2 * lr * lam * t[:, None])).sum(axis=1)
    flow = floor + 0.5 * (lam * z2 * np.exp(-2 * lr * lam * t[:, None])).sum(axis=1)
    integral = scipy.integrate.simpson(kernel[::-1] * f, x=t)
    np.testing.assert_allclose(f[-1], flow[-1] + integral, rtol=1e-11)


def test_multipass_limit():
    lam, z2 = spectrum(5)
    problem = LeastSquares(lam[:4], z2[:4], 0.4, 6.0)
    np.testing.assert_allclose(multipass_loss(1e5, problem, 0.9), multipass_limit(problem, 0.9), rtol=1e-10)
    assert np.isinf(multipass_limit(problem, 100.0))
    assert np.isinf(multipass_loss(1e6, problem, 100.0))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 1.2]))
def test_gradients_at_repeated_and_zero_eigenvalues(seed, lr):
    lam, m0 = spectrum(seed)
    gradient = slope(lam, m0, 0.3, lr, 2.0)
    assert all(np.isfinite(g).all() for g in gradient)
    h = 1e-6
    if lr == 0.2:
        for i in (0, 2):
            plus, minus = (np.sum(risk(lam + sign * h * np.eye(5)[i], m0, 0.3, lr, 2.0)) for sign in (1, -1))
            # Central differences: h^2 times a third derivative of up to k^3 lr^3.
            np.testing.assert_allclose(gradient[0][i], (plus - minus) / (2 * h), rtol=1e-5, atol=1e-6)


def test_multipass_gradients_are_finite_and_right():
    lam, z2 = map(jnp.asarray, spectrum(7))
    t = np.array([0.0, 1.0, 1e6])
    gradient = jax.grad(lambda lam, lr: loss(t, lam, z2, 0.2, 5.0, lr).sum(), argnums=(0, 1))(lam, 0.7)
    assert all(np.isfinite(g).all() for g in gradient)
    h = 1e-5
    for i in (0, 2):
        plus, minus = (loss(t, lam + sign * h * np.eye(5)[i], z2, 0.2, 5.0, 0.7).sum() for sign in (1, -1))
        np.testing.assert_allclose(gradient[0][i], (plus - minus) / (2 * h), rtol=1e-7)


def test_record_or_tuple():
    lam, m0 = spectrum(1)
    np.testing.assert_array_equal(
        sgd_risk(STEPS, (lam, m0, 0.1), 0.1, 2), sgd_risk(STEPS, Stream(lam, m0, 0.1), 0.1, 2)
    )


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Stream(np.array([-1.0]), np.ones(1)), "lam"),
        (lambda: sgd_risk(0.5, Stream(np.ones(1), np.ones(1)), 0.1, 1), "k"),
        (lambda: sgd_risk(1, Stream(np.ones(1), np.ones(1)), 0.1, 0.5), "batch"),
        (lambda: sgd_largest_stable_step(np.zeros(2), 1), "lam"),
        (lambda: LeastSquares(np.ones(1), np.ones(1), 0.0, 0), "samples"),
        (lambda: multipass_loss(-1.0, LeastSquares(np.ones(1), np.ones(1), 0.0, 3), 0.1), "t"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
