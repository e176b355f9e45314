"""Gradient descent in discrete time: against steps taken one by one, and against the flow."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.discrete import balance_drift, balance_factor, descent_factor

WIDTHS = [(2, 3, 2), (3, 2, 4, 2), (1, 1, 1, 1)]


@given(st.integers(0, 300), st.floats(0.0, 1.0), st.floats(-1.0, 2.5))
def test_descent_factor_is_the_power(k, lr, lam):
    # The rounding of 1 - lr lam is amplified k times.
    np.testing.assert_allclose(descent_factor(k, lr, lam), (1 - lr * lam) ** k, rtol=1e-12, atol=1e-300)


def test_small_steps_follow_the_flow():
    t, lam = 2.0, 0.7
    errors = [abs(float(descent_factor(round(t / lr), lr, lam)) - np.exp(-lam * t)) for lr in (0.1, 0.01, 0.001)]
    np.testing.assert_allclose(np.log10(np.array(errors[:-1]) / errors[1:]), 1, atol=0.05)


@given(st.sampled_from(WIDTHS), st.integers(0, 2**32 - 1), st.floats(0.01, 0.5))
def test_balance_drift_is_that_of_one_step(widths, seed, lr):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=shape) for shape in zip(widths[1:], widths[:-1], strict=True)]
    x = rng.normal(size=(widths[0], 9))
    sxx, syx = x @ x.T / 9, rng.normal(size=(widths[-1], widths[0]))

    def loss(weights):
        w = weights[0]
        for upper in weights[1:]:
            w = upper @ w
        return 0.5 * ((w @ sxx) * w).sum() - (w * syx).sum()

    new = [w - lr * g for w, g in zip(weights, jax.grad(loss)(weights), strict=True)]
    for drift, (a, b), (c, d) in zip(
        balance_drift(weights, lr, sxx, syx), itertools.pairwise(weights), itertools.pairwise(new), strict=True
    ):
        found = (d.T @ d - c @ c.T) - (b.T @ b - a @ a.T)
        # Rounding of the new layers' squares.
        np.testing.assert_allclose(drift, found, atol=1e-12 * (1 + max(np.abs(w).max() for w in new) ** 2))


@given(st.integers(2, 5), st.integers(0, 2**32 - 1), st.floats(0.01, 0.5))
def test_balance_factor_is_that_of_one_step(depth, seed, lr):
    rng = np.random.default_rng(seed)
    a, s = rng.normal(size=depth), rng.normal()
    new = a + lr * (s - a.prod()) * a.prod() / a
    before, after = (v[:, None] ** 2 - v**2 for v in (a, new))
    np.testing.assert_allclose(balance_factor(a, s, lr) * before, after, atol=1e-12 * (1 + np.max(new**2)))


def test_balance_factor_with_a_dead_layer():
    # Two layers: nothing is left out of the product but the pair itself.
    np.testing.assert_allclose(balance_factor(np.array([0.0, 2.0]), 1.5, 0.1)[0, 1], 1 - (0.1 * 1.5) ** 2, rtol=1e-15)


@pytest.mark.parametrize("lr_lam", [0.0, 1e-12, 1.0, 2.0, 2.5])
@pytest.mark.parametrize("k", [0, 1, 7, 10**6])
def test_gradients_are_finite(k, lr_lam):
    if lr_lam <= 2 or k < 100:
        assert np.isfinite(jax.grad(descent_factor, (1, 2))(k, lr_lam, 1.0)).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: descent_factor(1.5, 0.1, 1.0), "k"),
        (lambda: descent_factor(-1, 0.1, 1.0), "k"),
        (lambda: descent_factor(1, -0.1, 1.0), "lr"),
        (lambda: balance_drift([np.ones((2, 3)), np.ones((2, 3))], 0.1, np.eye(3), np.ones((2, 3))), r"weights\[1\]"),
        (lambda: balance_drift([np.ones((2, 3))], 0.1, np.eye(2), np.ones((2, 3))), "sxx"),
        (lambda: balance_drift([], 0.1, np.eye(2), np.ones((2, 3))), "weights"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
