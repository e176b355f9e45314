"""Races of parallel pathways: integration, shares, limits, gradients, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.gated_race import race_shares, race_strengths
from theory.deep_linear.modes import mode_strength

strengths, shares = jax.jit(race_strengths, static_argnums=4), jax.jit(race_shares, static_argnums=3)
depths = st.sampled_from([2, 4])
seeds = st.integers(0, 10**6)


def race(seed, pathways=3):
    rng = np.random.default_rng(seed)
    s = np.exp(rng.uniform(-1, 1.5))
    return s, s * np.exp(rng.uniform(-8, -1.2, pathways)), np.exp(rng.uniform(-2, 1, pathways))


@given(seeds, depths)
def test_against_integration(seed, depth):
    s, u0, rates = race(seed)

    def velocity(_, u):
        return depth * rates * u ** (2 - 2 / depth) * (s - u.sum())

    t = np.linspace(0, 15, 8)
    u = solve_ivp(velocity, (0, 15), u0, method="DOP853", rtol=1e-13, atol=1e-18, t_eval=t).y.T
    np.testing.assert_allclose(strengths(t, s, u0, rates, depth), u, rtol=1e-9)


@given(seeds, depths)
def test_shares(seed, depth):
    s, u0, rates = race(seed)
    found = shares(s, u0, rates, depth)
    np.testing.assert_allclose(found.sum(), s, rtol=1e-13)
    np.testing.assert_allclose(strengths(1e300, s, u0, rates, depth), found, rtol=1e-12)
    np.testing.assert_allclose(strengths(0.0, s, u0, rates, depth), u0, rtol=1e-11)
    # Order of the pathways does not matter.
    np.testing.assert_allclose(shares(s, u0[::-1], rates[::-1], depth), found[::-1], rtol=1e-11)


@given(seeds, st.floats(0, 20))
def test_two_layers_conserve_the_ratio_of_logarithms(seed, t):
    s, u0, rates = race(seed)
    growth = np.log(strengths(t, s, u0, rates, 2) / u0) / rates
    np.testing.assert_allclose(growth, growth[0], rtol=1e-10, atol=1e-12)


@given(st.floats(0, 30), st.floats(0.3, 3), st.floats(-8, -1))
def test_one_pathway_is_a_mode(t, s, exponent):
    u0 = 10.0**exponent
    found = strengths(t, s, np.array([u0]), np.array([0.7]), 2)
    np.testing.assert_allclose(found[0], mode_strength(0.7 * t, s, u0), rtol=1e-10)


def test_the_pathway_of_many_contexts_wins():
    # Own pathways see 1/M of the data: u_own / u0 = (u_shared / u0)^(1/M).
    for contexts in (2, 4, 16):
        shared, own = shares(1.5, np.full(2, 1e-3), np.array([1.0, 1 / contexts]), 2)
        np.testing.assert_allclose(own / 1e-3, (shared / 1e-3) ** (1 / contexts), rtol=1e-11)
        assert own < shared


slopes = jax.jit(jax.jacfwd(race_strengths, argnums=(0, 1, 2, 3)), static_argnums=4)


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize(("t", "u0"), [(0.0, 0.01), (2.0, 0.01), (2.0, 0.5), (1e9, 0.01), (1.0, 0.7)])
def test_gradients(t, u0, depth):
    u0, rates, h = np.array([u0, u0]), np.array([1.0, 0.4]), 1e-4
    found = slopes(t, 1.0, u0, rates, depth)
    assert all(np.isfinite(g).all() for g in found)
    expected = (strengths(t, 1 + h, u0, rates, depth) - strengths(t, 1 - h, u0, rates, depth)) / (2 * h)
    # Second-order differences.
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: race_shares(0.0, np.ones(2), np.ones(2)), "s must be positive"),
        (lambda: race_shares(1.0, np.zeros(2), np.ones(2)), "u0 must be positive"),
        (lambda: race_shares(1.0, np.ones(2), np.ones(2), 1), "depth must be a whole number of at least 2"),
        (lambda: race_strengths(-1.0, 1.0, np.ones(2), np.ones(2)), "t must be non-negative"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
