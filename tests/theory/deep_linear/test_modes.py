"""Modes of any depth: known values, the mode equation, limits, symmetries, raw weights, gradients, refusals."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.modes import excess_loss, infinite_depth_strength, least_loss, mode_strength

strengths = st.floats(0.05, 5.0)
starts = st.floats(-6, 0.7).map(lambda e: 10.0**e)
variances = st.floats(0.2, 3.0)
times = st.floats(0.0, 20.0)
depths = st.sampled_from([1, 2, 3, 4, 7, 30])

# How fast a relative error of t grows in u: t |du/dt| / u, at most this many for the starts and times above.
ROUNDING = 1e-16


def many(seed):
    """128 modes at once, (t, s, u0, lam): starts on both sides of s/lam, times from the start to the end."""
    rng = np.random.default_rng(seed)
    s, lam = 10 ** rng.uniform(-1.3, 0.7, 128), 10 ** rng.uniform(-0.7, 0.5, 128)
    return rng.uniform(0, 20, 128), s, 10 ** rng.uniform(-6, 0.7, 128), lam


def gradient(depth, t, s, u0, lam):
    """Of each of 128 modes; the law inside is compiled once for all depths."""
    each = jax.vmap(jax.grad(lambda *x: mode_strength(*x, depth), argnums=(0, 1, 2, 3)))
    return each(*(jnp.resize(jnp.asarray(x), 128) for x in (t, s, u0, lam)))


def velocity(u, s, lam, depth):
    return depth * u ** (2 - 2 / depth) * (s - lam * u)


def tolerance(t, u, s, lam, depth):
    """Rounding of t and of the exponents 2/N, amplified as the docstring says; a few operations."""
    return 50 * ROUNDING * (1 + t * depth * u ** (1 - 2 / depth) * (s + lam * u))


@pytest.mark.parametrize(
    ("u", "u0", "s", "lam", "depth", "t"),
    [
        # References: dt = du / (N u^{2-2/N} (s - lam u)) integrated at 30 digits.
        (0.9, 1e-3, 1.3, 0.6, 1, 0.893899108610089717),
        (0.9, 1e-3, 1.3, 0.6, 2, 2.82259008788090945),
        (0.9, 1e-3, 1.3, 0.6, 3, 7.09714649281478449),
        (2.1, 1e-6, 1.3, 0.6, 3, 77.1569769274850918),
        (1.5, 1e-4, 1.7, 1.0, 4, 29.5606749868861819),
        (2.8, 1e-3, 1.7, 0.6, 5, 12.6637619268994371),
        (0.6, 5.0, 0.5, 2.0, 3, 0.316302644051558928),
        (1.1, 3.0, 0.5, 0.5, 10, 0.301970244653179686),
    ],
)
def test_known_values(u, u0, s, lam, depth, t):
    # The worst-conditioned of them amplifies the rounding of t by 150.
    np.testing.assert_allclose(mode_strength(t, s, u0, lam, depth), u, rtol=1e-13)


@given(depths, st.integers(0, 2**32 - 1))
def test_the_mode_equation_holds(depth, seed):
    t, s, u0, lam = many(seed)
    u, rate = mode_strength(t, s, u0, lam, depth), gradient(depth, t, s, u0, lam)[0]
    # Near the end the velocity is the difference of these two, whose rounding a power multiplies.
    scale = depth * u ** (2 - 2 / depth) * (s + lam * u)
    np.testing.assert_array_less(np.abs(rate - velocity(u, s, lam, depth)), 1e-13 * scale)
    np.testing.assert_allclose(mode_strength(0 * t, s, u0, lam, depth), u0, rtol=1e-15)


@given(depths, strengths, starts, variances, times, times)
def test_semigroup(depth, s, u0, lam, t1, t2):
    once = mode_strength(t1 + t2, s, u0, lam, depth)
    twice = mode_strength(t2, s, mode_strength(t1, s, u0, lam, depth), lam, depth)
    np.testing.assert_allclose(twice, once, rtol=tolerance(t1 + t2, once, s, lam, depth))


@given(depths, strengths, starts, variances, times, st.floats(0.1, 10), st.floats(0.1, 10))
def test_scaling(depth, s, u0, lam, t, c, d):
    """u scales by c d where s scales by c, lam by 1/d and time by c^{-1} (c d)^{-(1 - 2/N)}."""
    u = mode_strength(t, s, u0, lam, depth)
    scaled = mode_strength(t / (c * (c * d) ** (1 - 2 / depth)), c * s, c * d * u0, lam / d, depth)
    np.testing.assert_allclose(scaled, c * d * u, rtol=tolerance(t, u, s, lam, depth))


@given(depths, strengths, starts, variances, times)
def test_the_strength_stays_between_start_and_end_and_moves_one_way(depth, s, u0, lam, t):
    u = mode_strength(t, s, u0, lam, depth)
    later = mode_strength(1.1 * t, s, u0, lam, depth)
    low, high = sorted([u0, s / lam])
    assert low * (1 - 1e-13) <= u <= high * (1 + 1e-13)
    assert (later - u) * np.sign(s / lam - u0) >= -1e-13 * u


@given(depths, strengths, starts, variances)
def test_the_end_is_s_over_lam(depth, s, u0, lam):
    # After 40 relaxation times and as many plateaus as it takes.
    long = 100 / velocity(min(u0, s / lam), s, 0.0, depth) + 40 / (depth * s * (s / lam) ** (1 - 2 / depth)) + 40 / lam
    np.testing.assert_allclose(mode_strength(long, s, u0, lam, depth), s / lam, rtol=1e-13)
    np.testing.assert_allclose(mode_strength(1e300, s, u0, lam, depth), s / lam, rtol=1e-15)


@given(st.sampled_from([2, 3, 4, 7, 30]), starts, variances, st.floats(0, 1e6))
def test_without_target_the_strength_decays_as_a_power(depth, u0, lam, t):
    power = 2 - 2 / depth
    expected = (u0**-power + 2 * (depth - 1) * lam * t) ** (-1 / power)
    np.testing.assert_allclose(mode_strength(t, 0.0, u0, lam, depth), expected, rtol=1e-13)


@given(depths, strengths, variances, times)
def test_fixed_points_stay(depth, s, lam, t):
    np.testing.assert_allclose(mode_strength(t, s, s / lam, lam, depth), s / lam, rtol=1e-15)
    if depth > 1:
        assert mode_strength(t, s, 0.0, lam, depth) == 0


@given(strengths, st.floats(0.01, 3), variances, st.floats(0.0, 10.0))
def test_infinite_depth_is_the_limit_at_order_one_over_depth(s, u0, lam, t):
    limit = infinite_depth_strength(t, s, u0, lam)
    far, further = (mode_strength(t / n, s, u0, lam, n) - limit for n in (100_000, 400_000))
    # The next order in 1/N, times up to a hundred time constants of plateau.
    np.testing.assert_allclose(far, 4 * further, rtol=1e-2, atol=1e-10)


@given(st.sampled_from([3, 5]), st.floats(0.3, 2), st.floats(0.05, 3), variances)
def test_second_derivative_is_right(depth, s, u0, lam):
    rate = jax.jacfwd(lambda t: mode_strength(t, s, u0, lam, depth))
    u, second = mode_strength(0.7, s, u0, lam, depth), jax.jacfwd(rate)(0.7)
    slope = jax.grad(velocity)(u, s, lam, depth)
    np.testing.assert_allclose(second, slope * velocity(u, s, lam, depth), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_raw_weights_follow_the_modes(depth, seed):
    """All weights of an aligned network with rotated modes and coloured inputs, integrated by brute force."""
    rng = np.random.default_rng(seed)
    widths = [4, *[5] * (depth - 1), 3] if depth > 1 else [4, 3]
    s, lam, u0 = np.array([2.0, 1.1]), np.array([0.7, 1.6, 1.0, 1.0]), np.array([0.05, 1.5])
    frames = [np.linalg.qr(rng.normal(size=(n, n)))[0] for n in widths]
    sxx = (frames[0] * lam) @ frames[0].T
    syx = frames[-1][:, :2] * s @ frames[0][:, :2].T
    weights = [b[:, :2] * u0 ** (1 / depth) @ a[:, :2].T for a, b in pairwise(frames)]
    shapes = [w.shape for w in weights]
    cuts = np.cumsum([w.size for w in weights])[:-1]

    def field(_, flat):
        ws = [w.reshape(shape) for w, shape in zip(np.split(flat, cuts), shapes, strict=True)]
        below, above = [np.eye(widths[0])], [np.eye(widths[-1])]
        for lower, upper in zip(ws, ws[::-1], strict=True):
            below.append(lower @ below[-1])
            above.append(above[-1] @ upper)
        error = syx - below[-1] @ sxx
        return np.concatenate([(above[depth - 1 - i].T @ error @ below[i].T).ravel() for i in range(depth)])

    t = np.array([0.5, 2.0, 6.0])
    flow = solve_ivp(field, (0, 6), np.concatenate([w.ravel() for w in weights]), "DOP853", t, rtol=1e-12, atol=1e-14)
    for time, flat in zip(t, flow.y.T, strict=True):
        product = np.eye(widths[0])
        for w, shape in zip(np.split(flat, cuts), shapes, strict=True):
            product = w.reshape(shape) @ product
        strength = np.einsum("oi,ok,ik->k", product, frames[-1][:, :2], frames[0][:, :2])
        # The integrator's 1e-12 per step over some hundred steps, and the growth of what it lets through.
        np.testing.assert_allclose(mode_strength(time, s, u0, lam[:2], depth), strength, rtol=1e-9)
        excess = 0.5 * np.trace((product @ sxx - syx) @ np.linalg.solve(sxx, (product @ sxx - syx).T))
        np.testing.assert_allclose(excess_loss(strength, s, lam[:2]), excess, rtol=1e-9, atol=1e-14)


@given(st.integers(0, 2**32 - 1))
def test_loss_is_the_least_loss_and_the_excess(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(3, 20)), rng.normal(size=(2, 20))
    values, right = np.linalg.eigh(x @ x.T / 20)
    # Rotating the outputs and choosing them by mode gives Syx the same right vectors as Sxx.
    left = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    noise = y - y @ np.linalg.pinv(x) @ x
    u, best = rng.normal(size=(5, 2)), rng.uniform(0.1, 2, 2)
    y = left * best @ right[:, :2].T @ x + noise
    maps = np.einsum("ok,tk,ik->toi", left, u, right[:, :2])
    loss = 0.5 * np.mean(np.sum((y - maps @ x) ** 2, axis=1), axis=1)
    s, lam = best * values[:2], values[:2]
    np.testing.assert_allclose(least_loss(np.sum(y**2) / 20, s, lam) + excess_loss(u, s, lam), loss, rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 7])
def test_gradients_are_finite_everywhere(depth):
    """Also at s = 0, at the fixed points, and where the plateau's law hands over to the relaxation's, at 2 u0 = s."""
    hard = np.meshgrid((0.0, 1.0, 1e4, 1e100), (0.0, 1e-300, 1e-14, 1e-6, 0.3, 0.6, 1.0, 20.0), (0.0, 1e-12, 0.3, 1.0))
    assert np.isfinite(gradient(depth, *(x.ravel() for x in hard), 1.0)).all()


@given(st.sampled_from([2, 3, 7]), st.integers(0, 2**32 - 1))
def test_gradients_obey_the_scaling_laws(depth, seed):
    """s u_s + u0 u_u0 = u + (2 - 2/N) t u_t   and   u0 u_u0 - lam u_lam = u + (1 - 2/N) t u_t."""
    t, s, u0, lam = many(seed)
    u = mode_strength(t, s, u0, lam, depth)
    in_t, in_s, in_u0, in_lam = gradient(depth, t, s, u0, lam)
    # Near s/lam the velocity is a difference, whose rounding is multiplied by t.
    near = 1e-13 * (u + u0 * in_u0) * (1 + t * depth * u ** (1 - 2 / depth) * (s + lam * u))
    np.testing.assert_array_less(np.abs(s * in_s + u0 * in_u0 - u - (2 - 2 / depth) * t * in_t), near)
    np.testing.assert_array_less(np.abs(u0 * in_u0 - lam * in_lam - u - (1 - 2 / depth) * t * in_t), near)
    # Neighbouring starts separate as the velocity grows.
    ahead, behind = velocity(u, s, lam, depth), velocity(u0, s, lam, depth)
    scale = depth * (u ** (2 - 2 / depth) * (s + lam * u) + in_u0 * u0 ** (2 - 2 / depth) * (s + lam * u0))
    np.testing.assert_array_less(np.abs(in_u0 * behind - ahead), scale * near / u)


def test_gradients_where_the_two_laws_meet():
    t = np.array([0.0, 0.4])
    in_t, _, in_u0, _ = (x[:2] for x in gradient(3, t, 1.0, 0.5, 1.0))
    u = mode_strength(t, 1.0, 0.5, depth=3)
    np.testing.assert_allclose(in_t, velocity(u, 1.0, 1.0, 3), rtol=1e-12)
    np.testing.assert_allclose(in_u0, velocity(u, 1.0, 1.0, 3) / velocity(0.5, 1.0, 1.0, 3), rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_arguments_broadcast(depth):
    t, s = jnp.linspace(0, 5, 4)[:, None], jnp.array([0.5, 1.0, 2.0])
    table = mode_strength(t, s, 0.1, 0.7, depth)
    assert table.shape == (4, 3)
    alone = jax.jit(lambda t: mode_strength(t, 2.0, 0.1, 0.7, depth))(t[1, 0])
    np.testing.assert_allclose(table[1, 2], alone, rtol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 3, 10])
def test_float32_runs(depth):
    for t in (0.0, 10.0, 30.0):
        single = mode_strength(*map(jnp.float32, (t, 1.3, 0.01, 0.8)), depth)
        assert single.dtype == jnp.float32
        # Rounding 6e-8 of t, amplified by up to some hundred at the transition.
        np.testing.assert_allclose(single, mode_strength(t, 1.3, 0.01, 0.8, depth), rtol=1e-4)


@pytest.mark.parametrize("depth", [3, 30])
def test_a_plateau_beyond_the_precision_of_time_gives_numbers(depth):
    t = np.array([0.5, 1.0, 2.0]) * 1e-40 ** -(1 - 2 / depth) / (depth - 2)
    u = mode_strength(t, 1.0, 1e-40, depth=depth)
    assert (u >= 1e-40).all() and (u <= 1).all() and u[0] < 1e-39
    assert np.isfinite(gradient(depth, t, 1.0, 1e-40, 1.0)).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1.0, 1.0, 0.1), "t"),
        ((1.0, -2.0, 0.1), "s"),
        ((1.0, 1.0, -0.1), "u0"),
        ((1.0, 1.0, 0.1, 0.0), "lam"),
        ((1.0, float("nan"), 0.1), "s"),
        ((1.0, 1.0, 0.1, 1.0, 0), "depth"),
    ],
)
def test_refusals_name_the_argument(arguments, named):
    with pytest.raises(ValueError, match=rf"^{named} must be"):
        mode_strength(*arguments)


def test_refusal_inside_jit():
    with pytest.raises(Exception, match="u0 must be non-negative"):
        jax.jit(mode_strength)(1.0, 1.0, -0.5).block_until_ready()
