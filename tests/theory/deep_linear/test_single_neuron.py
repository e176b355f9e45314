"""A single hidden neuron: raw weights, semigroup, sign changes, basins, symmetries, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.single_neuron import readout_sign, single_neuron

seeds = st.integers(0, 2**32 - 1)
times = st.floats(0, 6)
neuron_at = jax.jit(single_neuron)
sign_of = jax.jit(readout_sign)


def problem(seed):
    """(w, a, beta, c) of three inputs; the scale, the sign of the readout and the balance all vary."""
    rng = np.random.default_rng(seed)
    w, beta = rng.normal(size=(2, 3))
    w *= 10 ** rng.uniform(-2, 0.3)
    a = rng.choice([-1, 1]) * rng.choice([np.linalg.norm(w), 10 ** rng.uniform(-2, 0.5)])
    return w, a, beta * rng.choice([0.0, 0.3, 1.0]), rng.uniform(0.3, 2)


def raw(t, w, a, beta, c):
    def field(_, q):
        error = beta - c * q[-1] * q[:-1]
        return np.append(q[-1] * error, q[:-1] @ error)

    return solve_ivp(field, (0, t), np.append(w, a), "DOP853", rtol=1e-12, atol=1e-14).y[:, -1]


def amplification(w, a, beta, c, t):
    """How much a rounding of the start can grow: as the two growing modes part from each other."""
    return np.exp(2 * np.hypot(np.linalg.norm(beta), c * (a**2 - w @ w) / 2) * t)


@given(seeds, times)
def test_the_raw_weights(seed, t):
    w, a, beta, c = problem(seed)
    found = neuron_at(t, w, a, beta, c)
    # Local errors of 1e-12, amplified where the way passes the saddle; never so much for the times above.
    slack = 1e-10 + 1e-14 * min(amplification(w, a, beta, c, t), 1e5)
    np.testing.assert_allclose(np.append(found.w, found.a), raw(t, w, a, beta, c), rtol=0, atol=slack * 3)


@given(seeds, times, times)
def test_semigroup(seed, t1, t2):
    w, a, beta, c = problem(seed)
    once = neuron_at(t1 + t2, w, a, beta, c)
    twice = neuron_at(t2, *neuron_at(t1, w, a, beta, c), beta, c)
    slack = 1e-14 * min(amplification(w, a, beta, c, t1 + t2), 1e6)
    np.testing.assert_allclose(np.append(*twice), np.append(*once), rtol=0, atol=1e-12 + slack)


@given(seeds, times, st.floats(0.2, 5))
def test_symmetries_and_conservation(seed, t, k):
    w, a, beta, c = problem(seed)
    q = neuron_at(t, w, a, beta, c)
    close = dict(rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(q.a**2 - np.sum(q.w**2), a**2 - w @ w, atol=1e-13 * (1 + q.a**2 + np.sum(q.w**2)))
    np.testing.assert_allclose(np.append(*neuron_at(t, -w, -a, beta, c)), -np.append(*q), **close)
    mirrored = neuron_at(t, -w, a, -beta, c)
    np.testing.assert_allclose(np.append(-mirrored.w, mirrored.a), np.append(*q), **close)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    turned = neuron_at(t, turn @ w, a, turn @ beta, c)
    np.testing.assert_allclose(np.append(turn.T @ turned.w, turned.a), np.append(*q), **close)
    # c is a unit of strength, k one of time.
    root = np.sqrt(c)
    np.testing.assert_allclose(np.append(*neuron_at(t, root * w, root * a, beta)), root * np.append(*q), **close)
    np.testing.assert_allclose(np.append(*neuron_at(t / k, w, a, k * beta, k * c)), np.append(*q), **close)


@given(seeds)
def test_the_end_and_its_basin(seed):
    w, a, beta, c = problem(seed)
    if not beta.any():
        beta = np.ones(3)
    q = neuron_at(400 / np.linalg.norm(beta) ** 2, w, a, beta, c)
    np.testing.assert_allclose(q.a * q.w, beta / c, atol=1e-9)
    assert np.sign(q.a) == sign_of(w, a, beta, c)


def test_a_readout_of_the_wrong_sign_turns_round():
    # beta . w > 0 wins over a < 0 if the lower layer is larger, and loses otherwise.
    beta = np.array([1.0, 0.0])
    for a, sign in ((-0.1, 1), (-0.4, -1)):
        assert sign_of(0.2 * beta, a, beta) == sign
        assert np.sign(neuron_at(30.0, 0.2 * beta, a, beta).a) == sign


@pytest.mark.parametrize("w", [np.array([0.2, 0.9]), np.array([0.8, 0.0])])
def test_the_basins_meet_where_the_flow_says(w):
    beta, low, high = np.array([1.0, 0.0]), -2.0, 0.0
    for _ in range(30):
        a = (low + high) / 2
        low, high = (low, a) if neuron_at(60.0, w, a, beta, 0.7).a > 0 else (a, high)
    # Thirty bisections leave 2e-9.
    assert sign_of(w, a + 1e-8, beta, 0.7) == 1 and sign_of(w, a - 1e-8, beta, 0.7) == -1


def test_the_boundary_of_the_basins_leads_into_the_saddle():
    beta = np.array([0.6, 0.8])
    assert sign_of(-0.5 * beta, 0.5, beta) == 0
    q = neuron_at(5.0, -0.5 * beta, 0.5, beta)
    # a' = -a (1 + a^2) for w = -a beta: relative accuracy on the way in.
    expected = 0.5 * np.exp(-5) / np.sqrt(1 + 0.25 * (1 - np.exp(-10)))
    np.testing.assert_allclose(q.a, expected, rtol=1e-12)
    np.testing.assert_allclose(q.w, -expected * beta, rtol=1e-12)


@given(seeds)
def test_times_in_steps(seed):
    w, a, beta, c = problem(seed)
    many = neuron_at(np.array([0.0, 0.5, 2.0, 30.0]), w, a, beta, c)
    for i, t in enumerate((0.0, 0.5, 2.0, 30.0)):
        slack = 1e-12 + 1e-14 * min(amplification(w, a, beta, c, t), 1e6)
        alone = neuron_at(t, w, a, beta, c)
        np.testing.assert_allclose(np.append(many.w[i], many.a[i]), np.append(*alone), rtol=0, atol=slack)


slope_at = jax.jit(jax.jacrev(lambda *x: jnp.append(*single_neuron(*x)), argnums=(0, 1, 2, 3, 4)))
HARD = [
    (0.0, np.array([0.3, 0.1]), 0.4, np.array([1.0, 0.0]), 1.0),
    (2.0, np.array([0.3, 0.1]), 0.0, np.array([1.0, 0.0]), 1.0),
    (2.0, np.array([0.3, 0.0]), 0.3, np.array([1.0, 0.0]), 0.7),
    (2.0, np.array([0.3, 0.4]), -0.5, np.array([0.0, 0.0]), 1.0),
    (1.0, np.array([1.0, 0.2]), 1.0, np.array([0.0, 0.5]), 2.0),
]


@pytest.mark.parametrize("point", HARD)
def test_gradients_at_the_hard_points(point):
    found = slope_at(*point)
    beta, c, q = point[3], point[4], np.append(*neuron_at(*point))
    error = beta - c * q[-1] * q[:-1]
    np.testing.assert_allclose(found[0], np.append(q[-1] * error, q[:-1] @ error), rtol=1e-12, atol=1e-13)
    along = np.array([1.0, 2.0])
    for i, direction in ((1, along), (2, 1.0), (3, along), (4, 1.0)):
        slope = np.asarray(found[i]) @ direction if i in (1, 3) else found[i]
        np.testing.assert_allclose(slope, difference(point, i, direction), rtol=1e-8, atol=1e-8)


def difference(point, i, direction):
    """Central differences of the i-th argument, to h^4 of the fifth derivative."""

    def at(h):
        return np.append(*neuron_at(*point[:i], point[i] + h * direction, *point[i + 1 :]))

    return (4 * (at(1e-3) - at(-1e-3)) / 2e-3 - (at(2e-3) - at(-2e-3)) / 4e-3) / 3


@pytest.mark.parametrize("point", HARD)
@pytest.mark.parametrize("t", [50.0, 1e6])
def test_gradients_stay_finite(point, t):
    assert all(np.isfinite(x).all() for x in slope_at(t, *point[1:]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((-1.0, np.ones(2), 0.1, np.ones(2)), "t must be non-negative"),
        ((1.0, np.ones(2), np.nan, np.ones(2)), "a must be finite"),
        ((1.0, np.array([np.inf, 0]), 0.1, np.ones(2)), "w must be finite"),
        ((1.0, np.ones(2), 0.1, np.ones(2), 0.0), "c must be positive"),
    ],
)
def test_refusals_name_the_argument(arguments, sentence):
    with pytest.raises(ValueError, match=rf"^{sentence}"):
        single_neuron(*arguments)
