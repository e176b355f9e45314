"""Modes from unprepared weights: against the raw hidden vectors, limits, symmetries, derivatives, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.end_to_end import weight_flow
from theory.deep_linear.modes import mode_strength
from theory.deep_linear.random_start import growing_and_decaying, random_start_strength

seeds = st.integers(0, 2**32 - 1)
strengths = st.floats(0.05, 5)
parts = st.floats(-9, 0.5).map(lambda e: 10.0**e)
times = st.floats(0, 20)

strength = jax.jit(random_start_strength)


@given(seeds, strengths, st.floats(0.1, 3), st.sampled_from([0.001, 0.1, 1.0]))
def test_hidden_vectors_in_full(seed, s, lam, scale):
    a, b = scale * np.random.default_rng(seed).normal(size=(2, 3))
    t = np.linspace(0, 5, 6)

    def field(_, z):
        a, b = z.reshape(2, 3)
        return np.concatenate([b, a]) * (s - lam * a @ b)

    found = solve_ivp(field, (0, 5), np.concatenate([a, b]), "DOP853", t, rtol=1e-12, atol=1e-15)
    exact = np.sum(found.y[:3] * found.y[3:], axis=0)
    p, q = growing_and_decaying(a[:, None], b[None], np.eye(1), np.eye(1))
    # Local error 1e-12 over some hundred steps.
    np.testing.assert_allclose(strength(t, s, p[0], q[0], lam), exact, rtol=0, atol=1e-9 * np.abs(exact).max())


def test_modes_with_orthogonal_hidden_vectors_do_not_meet():
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(n, n)))[0][:, :2] for n in (3, 4))
    hidden = np.linalg.qr(random.normal(size=(5, 4)))[0].T.reshape(2, 2, 5)
    a, b = (np.einsum("kr,krh->hk", random.normal(size=(2, 2)) / 20, hidden) for _ in range(2))
    s, t = np.array([1.5, 0.8]), np.array([0.0, 1.0, 3.0, 8.0])
    w1, w2 = a @ right.T, left @ b.T
    lower, upper = weight_flow(t, (w1, w2), np.eye(4), (left * s) @ right.T)
    exact = np.einsum("ok,toh,thi,ik->tk", left, upper, lower, right)
    p, q = growing_and_decaying(w1, w2, left, right)
    np.testing.assert_allclose(p - q, exact[0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(random_start_strength(t[:, None], s, p, q), exact, rtol=0, atol=1e-9)


@given(strengths, parts, times, st.floats(0.1, 3))
def test_a_balanced_aligned_start_is_the_logistic(s, p, t, lam):
    np.testing.assert_allclose(strength(t, s, p, 0.0, lam), mode_strength(t, s, p, lam), rtol=1e-13)


@given(strengths, parts, parts, st.floats(0, 8), st.floats(0, 8))
def test_semigroup(s, p, q, t1, t2):
    u = strength(t1, s, p, q)
    # p q is conserved. Of two numbers that differ much, the small one is had from the product.
    root = np.hypot(u, 2 * np.sqrt(p * q))
    grown = (u + root) / 2 if u > 0 else 2 * p * q / (root - u)
    once, twice = strength(t1 + t2, s, p, q), strength(t2, s, grown, p * q / grown)
    np.testing.assert_allclose(twice, once, rtol=1e-10, atol=1e-10 * (np.sqrt(p * q) + q))


@given(strengths, parts, parts, times, st.floats(0.1, 10))
def test_scaling(s, p, q, t, c):
    u = strength(t, s, p, q)
    np.testing.assert_allclose(strength(t / c, c * s, c * p, c * q), c * u, rtol=1e-11, atol=1e-12 * c * q)
    np.testing.assert_allclose(strength(t, s, p / c, q / c, c), u / c, rtol=1e-11, atol=1e-12 * q / c)


def test_limits():
    np.testing.assert_allclose(strength(0.0, 1.0, 0.2, 0.5), -0.3, rtol=1e-15)
    np.testing.assert_allclose(strength(1e6, 1.5, 1e-9, 3.0, 0.5), 3.0, rtol=1e-15)
    # Without a growing part the mode decays to the saddle and stays there.
    assert -1e-150 < strength(1e4, 1.0, 0.0, 0.5) <= 0
    np.testing.assert_allclose(strength(2.0, 1.0, 0.0, 0.5), -0.5 / (0.5 * (np.exp(4) - 1) + np.exp(4)), rtol=1e-13)
    # Without a signal, u' = -2 u sqrt(u^2 + 4 p q).
    assert 0 < strength(10.0, 0.0, 0.2, 0.1) < 0.1 * np.exp(-10 * 4 * np.sqrt(0.02)) * 10


gradient = jax.jit(jax.grad(random_start_strength, argnums=(0, 1, 2, 3, 4)))


@pytest.mark.parametrize("s", [0.0, 1e-14, 1e-6, 1.0, 20.0])
@pytest.mark.parametrize("q", [0.0, 1e-12, 1.0])
def test_gradients_are_finite_everywhere(s, q):
    for t in (0.0, 1e-9, 1.0, 1e4, 1e12):
        for p in (0.0, 1e-12, 1.0):
            assert np.isfinite(gradient(t, s, p, q, 1.0)).all(), (t, p)


@pytest.mark.parametrize(("t", "s", "p", "q"), [(0.2, 1.0, 0.3, 0.2), (3.0, 1.0, 1e-3, 2e-3), (0.49, 1.0, 0.1, 0.01)])
def test_gradients_are_those_of_differences(t, s, p, q):
    for i, slope in enumerate(gradient(t, s, p, q, 1.0)):
        moved = [np.array([t, s, p, q, 1.0]) for _ in range(2)]
        step = 1e-5 * moved[0][i]
        moved[0][i] += step
        moved[1][i] -= step
        # Central differences: relative 1e-10 from the third derivative, 1e-11 from rounding; leave room for both.
        np.testing.assert_allclose(slope, (strength(*moved[0]) - strength(*moved[1])) / (2 * step), rtol=1e-7)


def test_single_precision():
    arguments = [jnp.float32(x) for x in (4.0, 1.0, 1e-3, 2e-4)]
    found = random_start_strength(*arguments, jnp.float32(1.0))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, strength(4.0, 1.0, 1e-3, 2e-4), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1.0, 1.0, 0.1, 0.1), "t"),
        ((1.0, -1.0, 0.1, 0.1), "s"),
        ((1.0, 1.0, -0.1, 0.1), "p"),
        ((1.0, 1.0, 0.1, -0.1), "q"),
    ],
)
def test_refusals_name_the_argument(arguments, named):
    with pytest.raises(ValueError, match=rf"^{named} must be non-negative"):
        random_start_strength(*arguments)
