"""Learning times: the inverse of the mode strength, known values, what depth costs, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.learning_time import (
    half_time,
    infinite_depth_time,
    learning_time,
    plateau_time,
    transition_time,
)
from theory.deep_linear.modes import mode_strength

depths = st.sampled_from([1, 2, 3, 4, 7, 30])
seeds = st.integers(0, 2**32 - 1)


def many(seed):
    """128 modes (u, s, u0, lam), half of them below s/lam and half above, u and u0 in either order."""
    rng = np.random.default_rng(seed)
    s, lam = 10 ** rng.uniform(-1.3, 0.7, 128), 10 ** rng.uniform(-0.7, 0.5, 128)
    fractions = 0.98 * 10 ** rng.uniform(-5, 0, (2, 128))
    fractions[:, 64:] = 1 / fractions[:, 64:]
    u, u0 = fractions * s / lam
    return u, s, u0, lam


def pace(u, s, lam, depth):
    """|du/dt| / u."""
    return depth * u ** (1 - 2 / depth) * np.abs(s - lam * u)


@pytest.mark.parametrize(
    ("u", "u0", "s", "lam", "depth", "t"),
    [
        # References: dt = du / (N u^{2-2/N} (s - lam u)) integrated at 30 digits.
        (0.9, 1e-3, 1.3, 0.6, 1, 0.893899108610089717),
        (0.9, 1e-3, 1.3, 0.6, 2, 2.82259008788090945),
        (2.1, 1e-6, 1.3, 0.6, 3, 77.1569769274850918),
        (1.5, 1e-4, 1.7, 1.0, 4, 29.5606749868861819),
        (2.8, 1e-3, 1.7, 0.6, 5, 12.6637619268994371),
        (0.6, 5.0, 0.5, 2.0, 3, 0.316302644051558928),
        (1.1, 3.0, 0.5, 0.5, 10, 0.301970244653179686),
    ],
)
def test_known_values(u, u0, s, lam, depth, t):
    np.testing.assert_allclose(learning_time(u, s, u0, lam, depth), t, rtol=1e-13)


@given(depths, seeds)
def test_it_inverts_the_mode_strength_and_runs_backward_too(depth, seed):
    u, s, u0, lam = many(seed)
    t = learning_time(u, s, u0, lam, depth)
    np.testing.assert_allclose(learning_time(u0, s, u, lam, depth), -t, rtol=1e-14)
    start, end = np.where(t > 0, u0, u), np.where(t > 0, u, u0)
    # A rounding of t moves u by t |du/dt|; near s/lam one of u moves t by the inverse of it.
    tolerance = 1e-14 * (1 + np.abs(t) * pace(end, s, lam, depth) + s / np.abs(s - lam * start))
    found = mode_strength(np.abs(t), s, start, lam, depth)
    np.testing.assert_array_less(np.abs(found / end - 1), tolerance)


@given(depths, seeds)
def test_times_add_up(depth, seed):
    u, s, u0, lam = many(seed)
    between = u0 * (u / u0) ** 0.3
    first, second = learning_time(between, s, u0, lam, depth), learning_time(u, s, between, lam, depth)
    whole = learning_time(u, s, u0, lam, depth)
    # s - lam u is at least 2 % of s or of lam u: its rounding counts 50 times.
    scale = np.abs(whole) + 50 / pace(u, s, lam, depth) + 50 / pace(u0, s, lam, depth)
    np.testing.assert_array_less(np.abs(first + second - whole), 1e-14 * scale)


@given(depths, seeds)
def test_gradients_are_the_inverse_velocities(depth, seed):
    u, s, u0, lam = many(seed)
    each = jax.vmap(jax.grad(lambda *x: learning_time(*x, depth), argnums=(0, 1, 2, 3)))
    in_u, in_s, in_u0, in_lam = each(*map(jnp.asarray, (u, s, u0, lam)))
    # A partial derivative far from the end that decides the time is the rest of a cancellation.
    largest = np.abs(u * in_u) + np.abs(u0 * in_u0) + np.abs(learning_time(u, s, u0, lam, depth))
    sign = np.sign(s - lam * u)
    np.testing.assert_array_less(np.abs(u * in_u - sign / pace(u, s, lam, depth)), 1e-12 * largest)
    np.testing.assert_array_less(np.abs(u0 * in_u0 + sign / pace(u0, s, lam, depth)), 1e-12 * largest)
    assert np.isfinite(in_s).all() and np.isfinite(in_lam).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradients_are_finite_at_the_hard_points(depth):
    """At s = 0, no time at all, where the two laws meet, and where the end is never reached."""
    # Two arrays of 128 so that the law compiled above serves.
    u, s, u0 = (x.ravel() for x in np.meshgrid((0.15, 0.3, 0.5, 1.0), (0.0, 1e-14, 0.3, 0.6, 1.0), (0.3, 0.5, 0.9)))
    u, s, u0 = (jnp.resize(x, 128) for x in (u, s, u0))
    each = jax.vmap(jax.grad(lambda *x: learning_time(*x, depth), argnums=(0, 1, 2, 3)))
    assert np.isfinite(each(u, s, u0, jnp.ones(128))).all()


def test_depth_costs_nothing_from_a_fixed_start():
    times = [n * learning_time(0.95, 1.0, 0.5, depth=n) for n in (1, 2, 3, 5, 10, 30, 100, 1000)]
    # Four decimals are given.
    np.testing.assert_allclose(times, [2.3026, 2.9444, 3.2188, 3.4662, 3.6702, 3.8158, 3.8688, 3.8895], atol=6e-5)
    limit = infinite_depth_time(0.95, 1.0, 0.5)
    shortfall = limit - np.array([n * learning_time(0.95, 1.0, 0.5, depth=n) for n in (1000, 2000)])
    # First order in 1/N, with a second order of 1/1000 of it.
    np.testing.assert_allclose(shortfall[0] / shortfall[1], 2, rtol=2e-3)


def test_depth_explodes_from_a_fixed_scale_of_the_layers():
    times = [n * learning_time(0.95, 1.0, 0.5**n, depth=n) for n in (2, 3, 5, 8)]
    np.testing.assert_allclose(times, [4.04, 6.27, 15.93, 89.55], atol=6e-3)


@given(seeds)
def test_closed_forms_at_depth_one_and_two(seed):
    u, s, u0, lam = many(seed)
    gap = (s - lam * u0) / (s - lam * u)
    # The gaps are at least 2 % and round by 50 times 1e-16; the logarithms are of order one or near zero.
    np.testing.assert_allclose(learning_time(u, s, u0, lam, 1), np.log(gap) / lam, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(learning_time(u, s, u0, lam), np.log(gap * u / u0) / (2 * s), rtol=1e-11, atol=1e-12)


@given(seeds)
def test_half_and_transition_times(seed):
    _, s, _, lam = many(seed)
    u0 = 1e-3 * s / lam
    # Two logarithms of numbers of order one.
    np.testing.assert_allclose(half_time(s, u0, lam), np.log(s / (lam * u0) - 1) / (2 * s), rtol=1e-12)
    np.testing.assert_allclose(transition_time(s, lam, eps=0.2), np.log(4) / s, rtol=1e-12)
    for depth in (3, 7):
        at = mode_strength(half_time(s, u0, lam, depth), s, u0, lam, depth)
        # Time constants of plateau, some thousand at most, times the rounding.
        np.testing.assert_allclose(at, s / (2 * lam), rtol=1e-11)
        unit = transition_time(1.0, 1.0, depth) * lam ** (1 - 2 / depth) * s ** (2 / depth - 2)
        np.testing.assert_allclose(transition_time(s, lam, depth), unit, rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 5, 10])
def test_the_plateau_is_the_learning_time_of_small_starts_but_for_a_constant(depth):
    starts = np.array([1e-8, 1e-10, 1e-12])
    rest = half_time(1.3, starts, 0.8, depth) - plateau_time(1.3, starts, 0.8, depth)
    # The constant is approached as u0^{2/N}, or u0 at depth 2; rounding of the plateau itself is 1e-15 of it.
    small = 2 * starts[0] ** (2 / depth) + 1e-14 * np.asarray(plateau_time(1.3, starts, 0.8, depth))
    assert (np.abs(rest - rest[-1]) <= small).all() and (np.abs(rest) < 2).all()


def test_what_is_never_reached_takes_for_ever():
    for depth in (1, 2, 5):
        assert learning_time(1.0, 1.0, 0.5, depth=depth) == np.inf
        assert learning_time(1.2, 1.0, 0.5, depth=depth) == np.inf
        assert learning_time(0.9, 1.0, 1.5, depth=depth) == np.inf
        assert learning_time(0.5, 1.0, 0.5, depth=depth) == 0
    assert half_time(1.0, 0.7) < 0


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (learning_time, (0.0, 1.0, 0.1), "u"),
        (learning_time, (0.5, -1.0, 0.1), "s"),
        (learning_time, (0.5, 1.0, 0.0), "u0"),
        (learning_time, (0.5, 1.0, 0.1, 1.0, 0), "depth"),
        (half_time, (0.0, 0.1), "s"),
        (transition_time, (1.0, 1.0, 2, 0.5), "eps"),
        (plateau_time, (1.0, 0.1, 1.0, 1), "depth"),
    ],
)
def test_refusals_name_the_argument(function, arguments, named):
    with pytest.raises(ValueError, match=rf"^{named} must be"):
        function(*arguments)
