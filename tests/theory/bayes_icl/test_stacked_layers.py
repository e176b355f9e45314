"""Best steps and layers: brute force over rates, what more steps and layers are worth, units, refusals."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from theory.bayes_icl.gradient_descent_layers import shrinking_descent, shrinking_shares
from theory.bayes_icl.stacked_layers import best_descent, best_layers, filter_risk
from validation.strategies import seeds


def spectra(seed, prompts=50, pairs=12, d=3):
    x = np.random.default_rng(seed).normal(size=(prompts, pairs, d))
    return np.linalg.eigvalsh(np.swapaxes(x, 1, 2) @ x)


def descent(lam, rates):
    return 1 - np.prod([1 - rate * lam for rate in rates], axis=0)


@given(seeds, st.sampled_from([0.0, 0.5]), st.floats(0.3, 3))
def test_one_step_in_closed_form(seed, noise, tau2):
    lam = spectra(seed)
    rate = tau2 * lam.sum() / (tau2 * (lam**2).sum() + noise * lam.sum())
    found = best_descent(lam, 1, noise, tau2)
    np.testing.assert_allclose(found.shares, rate * lam, rtol=1e-9)
    np.testing.assert_allclose(found.risk, filter_risk(lam, rate * lam, noise, tau2), rtol=1e-12)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_two_steps_by_search(noise):
    """Roots of the best polynomial can be complex in pairs: searched by coefficients."""
    lam = spectra(3) / 12
    searched = minimize(
        lambda c: float(filter_risk(lam, lam * (c[0] + c[1] * lam), noise)), [1.0, 0.0], method="BFGS", tol=1e-10
    )
    np.testing.assert_allclose(best_descent(lam, 2, noise).risk, searched.fun, rtol=1e-7)


@given(seeds)
def test_as_many_steps_as_eigenvalues_leave_nothing(seed):
    lam = np.sort(np.random.default_rng(seed).uniform(0.2, 1, 4)) + np.arange(4)
    assert float(best_descent(lam[None], 4).risk) < 1e-18
    assert float(best_descent(lam[None], 3).risk) > 1e-8


@given(seeds, st.sampled_from([0.0, 1.0]))
def test_more_steps_are_never_worse(seed, noise):
    lam = spectra(seed)
    risks = [float(best_descent(lam, k, noise).risk) for k in range(1, 9)]
    assert np.all(np.diff(risks) <= 1e-12)
    # With noise ridge regression is the end: no filter does better.
    bayes = float(filter_risk(lam, lam / (lam + noise), noise))
    assert risks[-1] >= bayes - 1e-12


def test_layers_by_search():
    """From the optimum no small change helps, and no start of another search ends lower."""
    lam = spectra(1)
    found = best_layers(lam, 2)

    def risk(theta):
        first, second, shrink = theta / 12
        left = (1 - first * lam) * (1 - second * lam * (1 - shrink * lam) ** 2)
        return np.sum(left**2) / len(lam)

    least = 12 * np.array([*found.rates, found.shrinking[0]])
    np.testing.assert_allclose(risk(least), found.risk, rtol=1e-10)
    for start in (least, [0.3, 1.0, 0.1], [0.8, 2.5, 0.25]):
        assert minimize(risk, start, method="Nelder-Mead", options={"maxiter": 300}).fun > found.risk - 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_layers_lie_between_steps_of_their_number_and_of_their_degree(noise):
    """k layers are a polynomial of degree (3^k - 1) / 2, of which k steps are one."""
    lam = spectra(2)
    for k in (1, 2, 3):
        risk = float(best_layers(lam, k, noise).risk)
        assert float(best_descent(lam, (3**k - 1) // 2, noise).risk) <= risk * (1 + 1e-9)
        assert risk <= float(best_descent(lam, k, noise).risk) * (1 + 1e-9)


def test_units():
    lam = spectra(4)
    one, other = best_layers(lam, 2, 0.7, 1.3), best_layers(4 * lam, 2, 4 * 0.7, 1.3)
    np.testing.assert_allclose(other.risk, one.risk, rtol=1e-9)
    np.testing.assert_allclose(other.rates, one.rates / 4, rtol=1e-5)
    np.testing.assert_allclose(
        best_descent(4 * lam, 3, 2.8, 2 * 1.3).risk, 2 * best_descent(lam, 3, 0.35, 1.3).risk, rtol=1e-9
    )


def test_the_risk_is_that_of_the_rule():
    """Mean over tasks and noise, drawn."""
    rng = np.random.default_rng(0)
    x, noise, many = rng.normal(size=(6, 2)), 0.5, 20_000
    rule = functools.partial(shrinking_descent, rates=np.array([0.1, 0.2]), shrinking=np.array([0.03, 0.0]))
    w = rng.normal(size=(many, 2))
    y = w @ x.T + noise**0.5 * rng.normal(size=(many, 6))
    found = np.stack([jax.vmap(lambda y, q=q: rule(x, y, q))(y) for q in np.eye(2)], axis=1)
    lost = np.sum((found - w) ** 2, axis=1)
    lam = np.linalg.eigvalsh(x.T @ x)
    shares = shrinking_shares(lam, np.array([0.1, 0.2]), np.array([0.03, 0.0]))
    expected = float(filter_risk(lam[None], shares[None], noise))
    assert abs(lost.mean() - expected) < 5 * lost.std() / many**0.5


def test_directions_without_inputs_are_not_learned():
    np.testing.assert_allclose(filter_risk(np.array([[0.0, 2.0]]), np.array([[0.3, 1.0]]), 0.5, 2.0), 2.0 + 0.25)
    assert np.isfinite(float(best_descent(np.array([[0.0, 2.0]]), 2, 0.5).risk))
    np.testing.assert_allclose(best_layers(np.array([[0.0, 2.0]]), 1).risk, 1.0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: best_descent(spectra(0), 0), "steps must be a whole number of at least 1, got 0"),
        (lambda: best_layers(spectra(0), 5), "layers must be at most 4, got 5"),
        (lambda: best_layers(-spectra(0), 1), "eigenvalues must be non-negative and finite"),
        (lambda: filter_risk(spectra(0), np.ones((50, 3)), -1.0), r"noise must be non-negative and finite, got -1\.0"),
        (lambda: best_descent(spectra(0), 1, 0.1, 0.0), r"task_variance must be positive and finite, got 0\.0"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
