"""Associative memory: the law of the margin and its derivative, saturation, descent on a matrix, the power law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.associative_memory import (
    attended_margin,
    first_step,
    flow_loss,
    flow_margin,
    loss_exponent,
    margin_recall,
    power_law,
    power_law_loss,
    recall_time,
)

exposures = st.floats(-12, 12).map(lambda e: 10.0**e)
counts = st.floats(1.1, 1e4)

margin_and_speed = jax.jit(jax.value_and_grad(flow_margin))


@given(exposures, counts)
def test_margin_solves_its_law(pt, k):
    m, speed = margin_and_speed(pt, 1.0, k)
    # Relative, also where the margin is tiny: each term of the law is known to a rounding.
    np.testing.assert_allclose(np.expm1(m) + (k - 1) * m, k * pt, rtol=1e-13)
    np.testing.assert_allclose(speed, k / (np.exp(m) + k - 1), rtol=1e-10)
    # Half the chance of being wrong is half the way: p t at first, and never faster.
    assert 0 < m <= pt * (1 + 1e-12)


def test_margin_at_both_ends():
    np.testing.assert_allclose(flow_margin(1e-13, 1.0, 50.0), 1e-13, rtol=1e-12)
    assert flow_margin(0.0, 0.3, 7.0) == 0
    # e^m = x - a m, of which the second term is lost at x = 1e30.
    np.testing.assert_allclose(flow_margin(1e30, 0.1, 10.0), np.log(1e30), rtol=1e-14)


def test_saturation_is_known_to_full_precision():
    m, k = flow_margin(np.array([1e12, 1e300]), 1.0, 100.0), 100.0
    found = margin_recall(m, k)
    # q = 1 - 99 / (e^m + 99), and e^m = K t - 99 m + ...
    np.testing.assert_allclose(found.missing, 99 / (100 * np.array([1e12, 1e300])), rtol=1e-8)
    np.testing.assert_allclose(found.loss, found.missing, rtol=1e-8)
    far = margin_recall(800.0, k)
    assert far.probability == 1 and far.loss == 0 and np.isfinite([float(v) for v in far]).all()
    near = margin_recall(60.0, k)
    np.testing.assert_allclose([near.missing, near.loss], 99 * np.exp(-60), rtol=1e-12)
    chance = margin_recall(0.0, k)
    np.testing.assert_allclose([*chance], [0.01, 0.99, np.log(100)], rtol=1e-12)
    np.testing.assert_allclose(margin_recall(-800.0, k).loss, 800 + np.log(99), rtol=1e-12)


@given(st.floats(1e-6, 1.0), st.floats(2.0, 1e4), st.floats(0, 0.999))
def test_recall_time_is_the_inverse(p, k, share):
    q = 1 / k + (1 - 1 / k) * share
    t = recall_time(p, k, q)
    np.testing.assert_allclose(margin_recall(flow_margin(t, p, k), k).probability, q, rtol=1e-9)
    np.testing.assert_allclose(recall_time(p / 2, k, q), 2 * t, rtol=1e-12)
    np.testing.assert_allclose(recall_time(p, k), (k - 2 + (k - 1) * np.log(k - 1)) / (k * p), rtol=1e-12, atol=1e-14)


def descent(p, steps, lr, keys, values):
    """Gradient descent on W by automatic differentiation."""

    def loss(w):
        logits = keys @ w.T @ values.T
        return -jnp.sum(p * jnp.diagonal(jax.nn.log_softmax(logits)))

    w = jax.lax.fori_loop(0, steps, lambda _, w: w - lr * jax.grad(loss)(w), jnp.zeros((len(p), len(p))))
    return keys @ w.T @ values.T, loss(w)


def test_a_matrix_in_any_basis():
    rng = np.random.default_rng(0)
    p, (keys, values) = power_law(1.3, 6), (np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(2))
    lr, t = 2e-3, 40.0
    logits, loss = jax.jit(descent, static_argnums=1)(p, int(t / lr), lr, keys, values)
    margins = np.diag(logits) - np.sort(logits, axis=1)[:, :-1].mean(axis=1)
    # One step of the flow is late by lr / 2 times ln of how the speed fell, of order lr.
    np.testing.assert_allclose(margins, flow_margin(t, p, 6.0), atol=lr)
    np.testing.assert_allclose(loss, flow_loss(np.array([t]), p)[0], atol=lr)
    assert (np.diff(margins) < 0).all()


def test_loss_falls_from_chance():
    p = power_law(1.0, 20)
    loss = flow_loss(np.array([0.0, 1.0, 1e3, 1e12]), p)
    np.testing.assert_allclose(loss[0], np.log(20), rtol=1e-12)
    assert (np.diff(loss) < 0).all()
    # Every key costs (K - 1) / (K t) in the end.
    np.testing.assert_allclose(loss[-1], 19 / 1e12, rtol=1e-6)
    np.testing.assert_allclose([p.sum(), p[0] / p[9]], [1, 10], rtol=1e-12)
    np.testing.assert_allclose(power_law(0.0, 5), 0.2, rtol=1e-12)


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.0])
def test_power_law(alpha):
    k = 4000
    p = power_law(alpha, k)
    # Between 20 and 80 keys are known.
    t = np.geomspace(20, 80, 12) ** alpha * np.log(k) / p[0]
    exact, law = flow_loss(t, p), power_law_loss(t, alpha, k)
    beyond = np.log(k) * p[0] * (np.sum(np.arange(k + 1, 1e6) ** -alpha) + 1e6 ** (1 - alpha) / (alpha - 1))
    np.testing.assert_allclose(law.leading - law.loss, (1 - 1 / k) / (2 * t) + beyond, rtol=1e-5)
    # What the law leaves out: the next order at either end.
    left_out = np.log(k * p[0] * t) / (p[0] * t**2) + p[-1] * t * beyond
    assert (np.abs(exact - law.loss) < left_out).all()
    assert np.abs(exact / law.loss - 1).max() < 0.003
    slope = np.polyfit(np.log(t), np.log(law.leading), 1)[0]
    np.testing.assert_allclose(slope, -loss_exponent(alpha), rtol=1e-9)


def test_gradient_lemma():
    """Any output vectors, unequal answers, inputs with noise: against the gradient of the sampled loss."""
    rng = np.random.default_rng(1)
    u, x = rng.normal(size=(4, 3)), rng.normal(size=(200, 5))
    y = rng.choice(4, size=200, p=[0.4, 0.3, 0.2, 0.1])
    p = np.bincount(y) / 200
    means = np.stack([x[y == k].mean(axis=0) for k in range(4)])
    gradient = jax.grad(lambda w: -jnp.mean(jax.nn.log_softmax(x @ w.T @ u.T)[np.arange(200), y]))(jnp.zeros((3, 5)))
    np.testing.assert_allclose(first_step(u, means, p, 0.7), -0.7 * gradient, atol=1e-13)
    # A shift of all inputs is noise only where all answers are as frequent.
    even = first_step(u, means, np.full(4, 0.25), 1.0)
    np.testing.assert_allclose(first_step(u, means + 3.0, np.full(4, 0.25), 1.0), even, atol=1e-12)


def test_uniform_attention():
    v, length, surplus = 5, 12, 2.0
    means = (np.ones((v, v)) * (length - surplus) / v + surplus * np.eye(v)) / length
    w = first_step(np.eye(v), means, np.full(v, 1 / v), 0.3)
    np.testing.assert_allclose(w[2, 2] - w[0, 2], attended_margin(0.3, v, length, surplus), rtol=1e-12)
    # On the attended mean itself.
    logits = w @ means[2]
    np.testing.assert_allclose(
        logits[2] - logits[0], attended_margin(0.3, v, length, surplus) * surplus / length, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flow_margin(-1.0, 0.5, 3.0), "t must be non-negative"),
        (lambda: flow_margin(1.0, 0.0, 3.0), "frequency must be positive"),
        (lambda: flow_margin(1.0, 0.5, 1.0), "classes must be above 1, got 1"),
        (lambda: margin_recall(np.nan, 3.0), "margin must be finite"),
        (lambda: recall_time(0.5, 4.0, 0.2), "probability must lie between chance"),
        (lambda: recall_time(0.5, 4.0, 1.0), "probability must lie between chance"),
        (lambda: flow_loss(np.ones(2), np.array([0.5, 0.6])), "frequencies must sum to one"),
        (lambda: flow_loss(np.ones(2), np.array([1.0])), "frequencies must be a vector of two or more"),
        (lambda: loss_exponent(1.0), "alpha must be above 1"),
        (lambda: power_law_loss(1.0, 20.0, 5), "alpha must lie between 1 and 16"),
        (lambda: power_law(-1.0, 5), "alpha must be non-negative"),
        (lambda: power_law(1.0, 1), "classes must be a whole number of at least 2"),
        (lambda: first_step(np.eye(2), np.eye(3), np.full(2, 0.5), 1.0), "means must be a matrix of shape"),
        (lambda: first_step(np.eye(2), np.eye(2), np.full(4, 0.25), 1.0), "frequencies must hold one for each of 2"),
        (lambda: attended_margin(1.0, 4.0, 0.0, 1.0), "length must be positive"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
