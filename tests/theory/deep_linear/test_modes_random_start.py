"""Effective starts of small random weights: symmetries, the balanced case, raw weights, the mean, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.modes import effective_start, mean_effective_start, mode_strength, separate_start

seeds = st.integers(0, 2**32 - 1)


def network(seed, hidden=6, n_in=5, n_out=4, k=3):
    rng = np.random.default_rng(seed)
    right, left = (np.linalg.qr(rng.normal(size=(n, k)))[0] for n in (n_in, n_out))
    return rng.normal(size=(hidden, n_in)), rng.normal(size=(n_out, hidden)), left, right


@given(seeds)
def test_a_hidden_rotation_changes_nothing_and_scale_counts_twice(seed):
    w1, w2, left, right = network(seed)
    turn = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(6, 6)))[0]
    for start in (effective_start, separate_start):
        u0 = start(w1, w2, left, right)
        np.testing.assert_allclose(start(turn @ w1, w2 @ turn.T, left, right), u0, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(start(3 * w1, 3 * w2, left, right), 9 * u0, rtol=1e-12)
        np.testing.assert_allclose(start(w2.T, w1.T, right, left), u0, rtol=1e-12)


@given(seeds)
def test_a_balanced_aligned_network_has_its_own_start(seed):
    _, _, left, right = network(seed)
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 3)))[0]
    u0 = np.array([0.3, 0.02, 1.1])
    w1, w2 = (frame * np.sqrt(u0)) @ right.T, (left * np.sqrt(u0)) @ frame.T
    np.testing.assert_allclose(effective_start(w1, w2, left, right), u0, rtol=1e-12)
    np.testing.assert_allclose(separate_start(w1, w2, left, right), u0, rtol=1e-12)


@given(seeds)
def test_stronger_modes_only_take_away(seed):
    effective, separate = (start(*network(seed)) for start in (effective_start, separate_start))
    np.testing.assert_allclose(separate[0], effective[0], rtol=1e-12)
    assert (separate <= effective * (1 + 1e-12)).all()


def raw_strengths(w1, w2, left, right, s, t):
    """Mode strengths of all weights under gradient flow on white inputs."""
    syx, shape1, shape2 = (left * s) @ right.T, w1.shape, w2.shape

    def field(_, flat):
        a, b = flat[: w1.size].reshape(shape1), flat[w1.size :].reshape(shape2)
        error = syx - b @ a
        return np.concatenate([(b.T @ error).ravel(), (error @ a.T).ravel()])

    start = np.concatenate([w1.ravel(), w2.ravel()])
    flow = solve_ivp(field, (0, t[-1]), start, "DOP853", t, rtol=1e-11, atol=1e-14)
    a, b = np.split(flow.y.T, [w1.size], axis=1)
    a, b = a.reshape(-1, *shape1), b.reshape(-1, *shape2)
    return np.einsum("ok,toh,thi,ik->tk", left, b, a, right)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_raw_weights_follow_the_modes_from_the_separate_start(seed):
    w1, w2, left, right = (x * c for x, c in zip(network(seed, hidden=7, k=2), (1e-6, 1e-6, 1, 1), strict=True))
    s, t = np.array([3.0, 1.2]), np.linspace(0, 16, 81)
    raw = raw_strengths(w1, w2, left, right, s, t)
    separate = mode_strength(t[:, None], s, separate_start(w1, w2, left, right))
    # Neither the initial imbalance, u0 ~ 1e-11, nor the slower mode when the faster is learned,
    # (u0/s)^{1 - s_2/s_1} ~ 1e-7, moves u by more; the integrator's 1e-11 grows to 1e-9.
    np.testing.assert_allclose(raw, separate, atol=1e-5)
    # The effective start neglects cosines that are not small at 7 hidden units.
    effective = mode_strength(t[:, None], s, effective_start(w1, w2, left, right))
    p = w1 @ right + w2.T @ left
    cosine = p[:, 0] @ p[:, 1] / np.linalg.norm(p[:, 0]) / np.linalg.norm(p[:, 1])
    delay = -np.log1p(-(cosine**2))
    # A delay of ln u0 moves the logistic u / s = sigmoid(2 s t + ln u0 / s) by at most tanh(delay / 4), of
    # which a grid of step 0.2 misses up to (0.2 s)^2 / 4, that is 1.4 %.
    error = np.abs(raw - effective).max(axis=0)
    assert error[0] < 1e-5
    np.testing.assert_allclose(error[1], np.tanh(delay / 4) * s[1], rtol=0.02, atol=1e-5)


def test_the_mean_over_gaussian_weights():
    rng = np.random.default_rng(0)
    _, _, left, right = network(0, k=1)
    draws = [
        effective_start(0.3 * rng.normal(size=(50, 5)), 0.7 * rng.normal(size=(4, 50)), left, right)[0]
        for _ in range(200)
    ]
    mean = mean_effective_start(50, 0.3, 0.7)
    # Five standard errors of a chi-squared variable with 50 degrees of freedom over 50, in 200 draws.
    np.testing.assert_allclose(np.mean(draws), mean, rtol=5 * np.sqrt(2 / 50 / 200))
    np.testing.assert_allclose(np.std(draws) / mean, np.sqrt(2 / 50), rtol=0.3)
    np.testing.assert_allclose(mean_effective_start(50, 0.3, 0.3), 50 * 0.3**2 / 2, rtol=1e-14)


@pytest.mark.parametrize(("place", "named"), [(0, "w1"), (1, "w2"), (2, "left"), (3, "right")])
def test_refusals_name_the_argument(place, named):
    arguments = list(network(0))
    arguments[place] = arguments[place] * np.nan
    with pytest.raises(ValueError, match=rf"^{named} must be finite"):
        effective_start(*arguments)
