"""Transience: the balance to rounding, its bounds and limits, flows with and without decay, the law of fading."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.acquisition import in_context_loss as joint_loss
from theory.induction.acquisition import random_contexts
from theory.induction.transience import (
    in_context_loss,
    in_weights_loss,
    learning_flow,
    lifetime,
    resting_weight,
    weight_bounds,
    withdrawal_rate,
    withdrawn_weight,
)

margins = st.lists(st.floats(-30, 60), min_size=4, max_size=4).map(np.array)
decays = st.floats(-18, 2).map(np.exp)
shares = st.floats(0.2, 1)


def drive(phi, w, a):
    """a <sigma(-phi - a w)> by logarithms of each part."""
    return a * np.mean(np.exp(-np.logaddexp(0, phi + a * w)))


@given(margins, decays, shares)
def test_balance_to_rounding(phi, decay, a):
    w = float(resting_weight(phi, decay, a))
    # The balance is known as well as its terms are: rounding of w and of the largest exponent.
    np.testing.assert_allclose(drive(phi, w, a), decay * w, rtol=1e-13 * (10 + np.abs(phi).max() + w))
    low, high = weight_bounds(phi, decay, a)
    assert low * (1 - 1e-12) <= w <= high * (1 + 1e-12)


@given(margins, decays, shares)
def test_derivative_is_that_of_the_balance(phi, decay, a):
    w = resting_weight(phi, decay, a)
    slope = jax.grad(lambda decay: resting_weight(phi, decay, a))(jnp.asarray(decay))
    np.testing.assert_allclose(slope, -w / withdrawal_rate(phi, w, decay, a), rtol=1e-8)
    by_margin = jax.grad(lambda phi: resting_weight(phi, decay, a))(phi)
    assert (by_margin <= 0).all()


def test_values_and_limits():
    phi = np.array([[0.0], [2.0], [5.0]])
    # By hand from tables of Lambert's function.
    np.testing.assert_allclose(resting_weight(phi, 1e-3), [5.2452, 3.6182, 1.5005], atol=5e-5)
    np.testing.assert_allclose(weight_bounds(phi, 1e-3).high, [5.2496, 3.6210, 1.5014], atol=5e-5)
    # As items are memorised the weight goes to nothing, and the bounds meet.
    late = np.array([[30.0], [200.0], [600.0]])
    low, high = weight_bounds(late, 1e-3)
    np.testing.assert_allclose(low, high, rtol=1e-10)
    np.testing.assert_allclose(resting_weight(late, 1e-3), 1e3 * np.exp(-late[:, 0]), rtol=1e-8)
    # Half of the items known: the others hold the weight up.
    half = resting_weight(np.array([0.0, 500.0]), 1e-3)
    np.testing.assert_allclose(half, resting_weight(np.zeros(1), 2e-3), rtol=1e-12)
    assert np.isfinite(resting_weight(np.array([-700.0, 700.0]), 1e-12))
    # Attention on two copies: u = a w rests where the decay is lambda / a^2.
    np.testing.assert_allclose(resting_weight(phi, 1e-3, 0.5), 2 * resting_weight(phi, 4e-3), rtol=1e-13)


def test_losses_trade_off():
    """Where both are small, their product is lambda w*."""
    phi, decay = np.array([[6.0], [9.0]]), 1e-7
    w = resting_weight(phi, decay)
    np.testing.assert_allclose(in_context_loss(w) * in_weights_loss(phi), decay * w, rtol=5e-3)
    np.testing.assert_allclose(in_context_loss(0.0), np.log(2))
    np.testing.assert_allclose(in_weights_loss(np.array([0.3, -2.0])), np.log1p(np.exp([-0.3, 2.0])).mean(), rtol=1e-12)
    assert in_context_loss(1e4) == 0


CONTEXTS = random_contexts(8)
T = np.linspace(0, 4000, 41)


def test_with_and_without_decay():
    kept, lost = (learning_flow(T, CONTEXTS, 16.0, decay, (0.0, 1.0, 0.0)) for decay in (0.0, 0.005))
    assert (np.diff(kept.weight) > 0).all()
    peak = int(np.argmax(lost.weight))
    assert 0 < peak < 20
    assert (np.diff(lost.weight[peak:]) < 0).all()
    assert lost.weight[-1] < 0.3 * lost.weight[peak] < 0.5 * kept.weight[-1]
    # What the circuit gives up, the memoriser takes over.
    assert lost.margin[-1] > 2 * kept.margin[-1]
    assert (np.diff(kept.margin) > 0).all()
    # All of it is descent of one loss.
    for found, decay in ((kept, 0.0), (lost, 0.005)):
        loss = (
            joint_loss((found.weight, found.sharpness), CONTEXTS, found.margin[:, None]) + decay * found.weight**2 / 2
        )
        assert (np.diff(loss) < 1e-10).all()


def test_the_flow_is_the_slope_of_the_loss():
    """A short step from anywhere, with a logit for each of K items."""
    start, k, decay, dt = np.array([1.3, 0.4, -0.2]), 16.0, 0.005, 1e-6

    def loss(state):
        w, beta, phi = state
        return joint_loss((w, beta), CONTEXTS, phi[None]) + decay * w**2 / 2

    slopes = np.array(jax.grad(loss)(jnp.asarray(start))) * np.array([1, 1, 1 / k])
    found = learning_flow(T * dt / T[-1], CONTEXTS, k, decay, tuple(start))
    np.testing.assert_allclose((np.array(found)[:, -1] - start) / dt, -slopes, rtol=1e-4)


def test_the_law_of_fading():
    """Far from the start of the attention, and slowly: the closed law, to the order r = 1 / (a^2 K) of its lag."""
    k, decay, a = 400.0, 0.02, 0.5
    first = float(resting_weight(np.array([6.0]), decay, a))
    t = np.linspace(0, 4e5, 41)
    found = learning_flow(t, CONTEXTS, k, decay, (first, 40.0, 6.0))
    w = withdrawn_weight(t, k, decay, first, a)
    np.testing.assert_allclose(found.weight, w, rtol=0.02)
    np.testing.assert_allclose(found.weight, resting_weight(found.margin[:, None], decay, a), rtol=0.02)
    np.testing.assert_allclose(lifetime(k, decay, first, w, a), t, rtol=1e-9, atol=1e-6)
    # In the end as one over time.
    late = withdrawn_weight(np.array([1e9, 2e9]), k, decay, first, a)
    np.testing.assert_allclose(late[0] / late[1], 2, rtol=1e-3)
    np.testing.assert_allclose(withdrawn_weight(3e3, 2 * k, decay, 1.0), withdrawn_weight(3e3, k, decay / 2, 1.0))
    np.testing.assert_allclose(withdrawn_weight(3e3, k, 0.0, first, a), first, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resting_weight(np.zeros(0), 0.1), "margins must hold one item"),
        (lambda: resting_weight(np.zeros(2), 0.0), "decay must be positive"),
        (lambda: resting_weight(np.zeros(2), 0.1, 1.5), "attended must lie between 0 and 1, got 1.5"),
        (lambda: weight_bounds(np.array([np.nan]), 0.1), "margins must be finite"),
        (lambda: withdrawal_rate(np.zeros((3, 2)), np.zeros(2), 0.1), "weight must be of shape"),
        (lambda: learning_flow(T, CONTEXTS, 0.0), "items must be positive"),
        (lambda: learning_flow(T, CONTEXTS, 4.0, -1.0), "decay must be non-negative"),
        (lambda: learning_flow(T, CONTEXTS, 4.0, start=(0.0, np.zeros(2), 0.0)), "start must hold three numbers"),
        (lambda: withdrawn_weight(1.0, 4.0, 0.1, -1.0), "start must be positive"),
        (lambda: lifetime(4.0, 0.1, 1.0, 2.0), "end must not be above the start"),
        (lambda: in_context_loss(np.nan), "weight must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
