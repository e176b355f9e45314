"""Linear attention in many dimensions: other programs' numbers, large random matrices, limits, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from theory.bayes_icl.linear_attention_asymptotics import (
    Pretraining,
    bayes_error,
    effective_ridge,
    endless_errors,
    pretrained_errors,
    resolvent,
)

logs = st.floats(-1.5, 2).map(lambda x: 10.0**x)
noises = st.floats(0, 2)
settings = st.tuples(logs, logs, logs, noises, logs).map(lambda numbers: Pretraining(*numbers))


def textbook_ridgeless(tau, alpha, kappa, rho):
    """Error on fresh tasks without a ridge, in the closed form of the authors' code."""
    x = (1 + rho) / alpha
    m = float(resolvent(x, kappa))
    if tau < 1:
        mu = x * float(resolvent(x, kappa / tau))
        return tau * (1 + x) / (1 - tau) * (1 - tau * (1 - mu) ** 2 - mu * (x - rho) / x) - 2 * tau * (1 - mu) + 1 + rho
    k = 1 / (1 - kappa * (m / (kappa + m)) ** 2)
    first = (k - 1 / (tau - 1)) * (1 + x) * (x * m) ** 2 + (3 - 2 * tau) / (tau - 1) * m * x**2
    return first + ((1 + rho) * m / (tau - 1) + 1) * x + rho * m / (tau - 1) + rho


@given(logs, logs, logs, st.floats(0.01, 2))
def test_ridgeless_closed_form(tau, alpha, kappa, rho):
    if abs(tau - 1) > 1e-3:
        found = pretrained_errors((tau, alpha, kappa, rho))
        np.testing.assert_allclose(found.in_context, textbook_ridgeless(tau, alpha, kappa, rho), rtol=1e-7)
        x = (1 + rho) / alpha
        if tau > 1:
            residual = rho + x * (1 - x * resolvent(x, kappa))
            np.testing.assert_allclose(found.in_distribution, tau / (tau - 1) * residual, rtol=1e-9)
        else:
            xi = (1 - tau) / (tau * resolvent(x, kappa / tau))
            np.testing.assert_allclose(effective_ridge((tau, alpha, kappa, rho)), xi, rtol=1e-10)


def test_numbers_of_other_programs():
    tau = np.array([0.2, 0.5, 0.85, 1.15, 1.5, 2])
    found = pretrained_errors(Pretraining(tau, 1.0, 0.5, 0.01))
    np.testing.assert_allclose(found.in_context, [1.0385, 1.2611, 3.1790, 3.6679, 1.6635, 1.2340], atol=1e-4)
    np.testing.assert_allclose(found.in_distribution, [0.8012, 0.8018, 2.1165, 2.3367, 0.9143, 0.6096], atol=1e-4)
    ridged = pretrained_errors(Pretraining(1.0, 2.0, 0.5, 0.01, np.array([0.1, 0.3, 1.0, 3.0])))
    np.testing.assert_allclose(ridged.in_context, [1.0442, 0.8739, 0.8132, 0.8337], atol=1e-4)
    np.testing.assert_allclose(ridged.in_distribution, [0.4300, 0.3494, 0.3607, 0.4729], atol=1e-4)
    np.testing.assert_allclose(pretrained_errors((3, 2, 0.5, 0.01, 0.3)), (0.7662, 0.2446), atol=1e-4)


def test_resolvent_of_a_large_matrix():
    d = 600
    for kappa in (0.4, 1.0, 2.5):
        w = np.random.default_rng(0).normal(size=(int(kappa * d), d))
        eigenvalues = np.linalg.eigvalsh(w.T @ w / len(w))
        z = np.array([0.05, 0.5, 5.0])
        np.testing.assert_allclose(resolvent(z, kappa), np.mean(1 / (eigenvalues + z[:, None]), axis=1), rtol=0.01)


@given(logs, logs)
def test_resolvent_solves_its_equation(z, kappa):
    m = resolvent(z, kappa)
    np.testing.assert_allclose(1 / m, z + kappa / (kappa + m), rtol=1e-10)


def test_ridge_regression_of_random_features():
    """Rows with covariance R + x*, labels of the best layer and its residual: the errors as traces over eigenvalues."""
    d, kappa, tau, alpha, rho, ridge = 400, 0.6, 1.7, 1.3, 0.1, 0.2
    w = np.random.default_rng(1).normal(size=(int(kappa * d), d))
    r = np.clip(np.linalg.eigvalsh(w.T @ w / len(w)), 0, None)
    x = (1 + rho) / alpha
    xi = brentq(lambda xi: xi - xi * np.mean((r + x) / (r + x + xi)) / tau - ridge, 1e-9, 100)
    np.testing.assert_allclose(effective_ridge((tau, alpha, kappa, rho, ridge)), xi, rtol=0.01)
    z = x + xi
    bias = np.mean(xi**2 * r**2 / ((r + x) * (r + z) ** 2))
    known = (rho + np.mean(x * r / (r + x)) + bias) / (1 - np.mean((r + x) ** 2 / (r + z) ** 2) / tau)
    fresh = rho + np.mean(z**2 / (r + z) ** 2) + x * np.mean(r**2 / (r + z) ** 2)
    fresh += known * (1 + x) * np.mean((r + x) / (r + z) ** 2) / tau
    np.testing.assert_allclose(pretrained_errors((tau, alpha, kappa, rho, ridge)), (fresh, known), rtol=0.01)


@given(settings)
def test_bounds_and_order(setting):
    found, least = pretrained_errors(setting), bayes_error(setting.context, setting.noise)
    all_tasks = endless_errors(setting.context, 1e12, setting.noise)
    assert found.in_distribution >= setting.noise
    assert found.in_context >= all_tasks.in_context * (1 - 1e-9) >= least * (1 - 1e-8)
    xi = effective_ridge(setting)
    assert setting.ridge <= xi <= effective_ridge(setting._replace(ridge=2 * setting.ridge))
    # The root solves its equation.
    x = (1 + setting.noise) / setting.context
    back = xi * (1 - (1 - xi * resolvent(x + xi, setting.tasks)) / setting.samples)
    np.testing.assert_allclose(back, setting.ridge, rtol=1e-8, atol=1e-12 * float(xi))


def test_limits():
    kappa = np.array([0.2, 0.5, 0.9, 1.0, 1.1])
    np.testing.assert_allclose(
        endless_errors(1e4, kappa, 0.01).in_context, [0.8101, 0.5101, 0.1101, 0.0151, 0.0101], atol=1e-4
    )
    np.testing.assert_allclose(endless_errors(1e12, kappa, 0.01).in_distribution, 0.01, rtol=1e-9)
    for alpha in (0.5, 4.0):
        x = 1.3 / alpha
        many = endless_errors(alpha, 1e13, 0.3)
        np.testing.assert_allclose(many, 1.3 - 1 / (1 + x), rtol=1e-9)
        far = pretrained_errors((1e13, alpha, 0.7, 0.3, 0.5))
        # The penalty grows with the prompts: a ridge stays, and costs on the tasks that it was fitted to.
        near = pretrained_errors((1e13, alpha, 0.7, 0.3))
        np.testing.assert_allclose(near, endless_errors(alpha, 0.7, 0.3), rtol=1e-9)
        assert far.in_distribution > near.in_distribution
        np.testing.assert_allclose(pretrained_errors((2.0, alpha, 0.7, 0.3, 1e9)), 1.3, rtol=1e-8)
    both = pretrained_errors((2.0, 1.0, 1e13, 0.3, 0.1))
    np.testing.assert_allclose(both.in_context, both.in_distribution, rtol=1e-9)
    np.testing.assert_allclose(bayes_error(np.array([0.4, 3.0]), 0.0), [0.6, 0.0], atol=1e-15)
    np.testing.assert_allclose(bayes_error(1e9, 0.3), 0.3 + 0.3e-9, rtol=1e-12)


def test_double_descent():
    tau = np.array([0.9, 0.99, 1.01, 1.1])
    found = pretrained_errors(Pretraining(tau, 1.0, 0.5, 0.1)).in_context
    np.testing.assert_allclose(found, [5.89, 56.5, 57.2, 6.54], rtol=2e-3)
    assert np.isinf(np.asarray(pretrained_errors((1.0, 1.0, 0.5, 0.1)))).all()
    # With a ridge nothing happens at tau = 1.
    near = pretrained_errors(Pretraining(np.array([1 - 1e-9, 1 + 1e-9]), 1.0, 0.5, 0.1, 0.2)).in_context
    np.testing.assert_allclose(near[0], near[1], rtol=1e-7)


@pytest.mark.parametrize("setting", [(0.6, 1.5, 0.8, 0.2, 0.3), (2.5, 1.5, 0.3, 0.2, 1e-3), (0.5, 1.5, 2.0, 0.1, 0.0)])
def test_derivatives(setting):
    """Implicit slopes against differences; ridgeless, below tau = 1, in all but the ridge."""
    numbers = jnp.asarray(setting)
    slopes = jax.jit(jax.grad(lambda numbers: pretrained_errors(tuple(numbers)).in_context))(numbers)
    assert np.isfinite(slopes).all()
    for i, number in enumerate(setting):
        if number:
            step = 1e-5 * number
            ends = [pretrained_errors(tuple(numbers.at[i].add(sign * step))).in_context for sign in (1, -1)]
            np.testing.assert_allclose(slopes[i], (ends[0] - ends[1]) / (2 * step), rtol=1e-4)


def test_extremes_stay_finite():
    for kappa, alpha, ridge in ((1e-6, 1e6, 0.0), (1e6, 1e-6, 1e-12), (1.0, 1e12, 1e-12), (1e-3, 1.0, 1e12)):
        for tau in (1e-3, 1e6):
            found = np.asarray(pretrained_errors((tau, alpha, kappa, 0.1, ridge)))
            assert np.isfinite(found).all() and (found >= 0.1 * (1 - 1e-9)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resolvent(0.0, 1.0), "z must be positive and finite, got 0"),
        (lambda: resolvent(1.0, -1.0), "tasks must be positive"),
        (lambda: pretrained_errors((0.0, 1.0, 1.0, 0.1)), "samples must be positive"),
        (lambda: pretrained_errors((1.0, np.inf, 1.0, 0.1)), "context must be positive and finite"),
        (lambda: pretrained_errors((1.0, 1.0, 1.0, -0.1)), "noise must be non-negative"),
        (lambda: effective_ridge((1.0, 1.0, 1.0, 0.1, -1.0)), "ridge must be non-negative"),
        (lambda: endless_errors(1.0, 0.0, 0.1), "tasks must be positive"),
        (lambda: bayes_error(0.0, 0.1), "context must be positive"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
