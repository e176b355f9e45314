"""Two-layer networks of any widths: raw weights, 60-digit values, symmetries, conservation, limits, gradients."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.matrix import (
    delayed_rich_map,
    exact_solution,
    excess_loss,
    final_solution,
    lazy_map,
    relative_scale,
    wide_solution,
)

seeds = st.integers(0, 2**32 - 1)
# (n_in, hidden, n_out): a bottleneck; a funnel; more hidden units than anything, which only lam = 0 allows.
BOTTLENECK, FUNNEL, WIDE = (3, 2, 4), (4, 3, 3), (2, 5, 2)
shapes = st.sampled_from([BOTTLENECK, FUNNEL, WIDE])
TIMES = np.array([0.0, 0.4, 1.5, 3.0])
# Local error 1e-12, over some hundred steps, amplified by exp(mu t) < 1e3 on the way out of the plateau.
CARRIED = 1e-8

solution_at = jax.jit(exact_solution)
end_of = jax.jit(final_solution)


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def start(rng, shape, lam, size):
    """Balanced weights from their singular values, spelled out."""
    n_in, hidden, n_out = shape
    s = np.zeros(hidden)
    s[: min(shape)] = size * rng.uniform(0.3, 1, min(shape))
    root = np.sqrt(lam**2 + 4 * s**2)
    a, b = (np.sqrt(np.maximum(root + sign * lam, 0) / 2) for sign in (-1, 1))
    inner, right, left = (rotation(rng, n) for n in (hidden, n_in, n_out))
    w1, w2 = np.zeros((hidden, n_in)), np.zeros((n_out, hidden))
    np.fill_diagonal(w1, a)
    np.fill_diagonal(w2, b)
    return inner @ w1 @ right.T, left @ w2 @ inner.T


def target(rng, shape, kind):
    """An input-output correlation that is generic, has equal singular values, has rank one, or vanishes."""
    left, right, k = rotation(rng, shape[2]), rotation(rng, shape[0]), min(shape[0], shape[2])
    s = {
        "generic": rng.uniform(0.2, 2, k),
        "repeated": np.full(k, 1.3),
        "rank one": 2 * np.eye(k)[0],
        "none": 0 * np.eye(k)[0],
    }
    return left[:, :k] * s[kind] @ right[:, :k].T


def problem(seed, shape):
    """(w1, w2, syx, c), lam."""
    rng = np.random.default_rng(seed)
    lam = 0.0 if shape == WIDE else rng.choice([0.0, 1e-6, 0.8, 5.0]) * rng.choice([-1, 1])
    kind = rng.choice(["generic", "repeated", "rank one", "none"])
    w1, w2 = start(rng, shape, lam, 10 ** rng.uniform(-3, 0.3))
    return (w1, w2, target(rng, shape, kind), rng.uniform(0.3, 2)), lam


def raw(t, w1, w2, syx, c):
    """Every weight by brute force."""
    cut = w1.size

    def field(_, z):
        lower, upper = z[:cut].reshape(w1.shape), z[cut:].reshape(w2.shape)
        error = syx - c * upper @ lower
        return np.concatenate([(upper.T @ error).ravel(), (error @ lower.T).ravel()])

    found = solve_ivp(field, (0, t[-1]), np.concatenate([w1.ravel(), w2.ravel()]), "DOP853", t, rtol=1e-12, atol=1e-15)
    return [(z[:cut].reshape(w1.shape), z[cut:].reshape(w2.shape)) for z in found.y.T]


def largest(solution):
    """The scale of the error: the largest entry of Q^T Q at each time."""
    return max(np.max(np.abs(block)) for block in solution)


def joined(solution):
    """Q^T Q from its blocks."""
    w, a, b = (np.asarray(x) for x in solution)
    return np.block([[a, w.T], [w, b]])


def assert_close(found, expected, tolerance):
    scale = largest(expected)
    for block, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(block, wanted, rtol=0, atol=tolerance * scale)


@settings(max_examples=15)
@given(shapes, seeds)
def test_the_raw_weights(shape, seed):
    arguments, _ = problem(seed, shape)
    found = solution_at(TIMES, *arguments)
    for i, (w1, w2) in enumerate(raw(TIMES, *arguments)):
        assert_close([block[i] for block in found], (w2 @ w1, w1.T @ w1, w2 @ w2.T), CARRIED)


@settings(max_examples=12)
@given(shapes, seeds)
def test_one_time_and_times_in_steps_short_and_long_agree(shape, seed):
    arguments, _ = problem(seed, shape)
    for times in (TIMES, np.array([0.0, 0.1, 60.0, 60.5])):
        many = solution_at(times, *arguments)
        for i, t in enumerate(times):
            assert_close([block[i] for block in many], solution_at(t, *arguments), 1e-12)


def textbook(t, w1, w2, syx):
    """Fukumizu's form at 80 digits, which carry what it cancels."""
    with mpmath.workdps(80):
        q0 = mpmath.matrix(np.concatenate([w1, w2.T], axis=1).tolist())
        n_in, n = w1.shape[1], w1.shape[1] + w2.shape[0]
        lam = sum((w2**2).ravel().tolist()) - sum((w1**2).ravel().tolist())
        lam = mpmath.mpf(lam) / w1.shape[0]
        f = mpmath.zeros(n)
        for i in range(n):
            f[i, i] = -lam / 2 if i < n_in else lam / 2
        for o in range(n - n_in):
            for i in range(n_in):
                f[n_in + o, i] = f[i, n_in + o] = mpmath.mpf(float(syx[o, i]))
        mu, frame = mpmath.eigsy(f)
        growth, integral = mpmath.zeros(n), mpmath.zeros(n)
        for i in range(n):
            growth[i, i] = mpmath.exp(mu[i] * t)
            integral[i, i] = mpmath.expm1(2 * mu[i] * t) / (2 * mu[i]) if abs(mu[i]) > 1e-60 else t
        g = q0 * frame
        inner = mpmath.eye(w1.shape[0]) + g * integral * g.T
        p = frame * growth * g.T * mpmath.inverse(inner) * g * growth * frame.T
        p = np.array(p.tolist(), float)
        return p[n_in:, :n_in], p[:n_in, :n_in], p[n_in:, n_in:]


@pytest.mark.parametrize("size", [1e-9, 0.4])
@pytest.mark.parametrize(("shape", "lam"), [(BOTTLENECK, 0.0), (FUNNEL, 1.0), (FUNNEL, -1.0), (WIDE, 0.0)])
def test_sixty_digit_values_where_the_textbook_form_fails(shape, lam, size):
    # At 2 mu t = 20 to 200 that form has lost all digits in float64, in the middle of learning.
    rng = np.random.default_rng(5)
    w1, w2 = start(rng, shape, lam, size)
    syx = target(rng, shape, "generic")
    for t in (8.0, 15.0, 50.0):
        # lam is rounded when it is read off the weights: 1e-16 of it, amplified by t.
        assert_close(solution_at(t, w1, w2, syx), textbook(t, w1, w2, syx), 1e-12)


def test_known_values():
    # Reference: the raw equations integrated at rtol 1e-13.
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    found = exact_solution(2.0, 0.3 * np.eye(2), 0.5 * turn, np.array([[1.5, 0.4], [-0.2, 0.8]]))
    wanted = [[1.468402515769, 0.383901953298], [-0.15548357063, 0.668938176431]]
    np.testing.assert_allclose(found.network_map, wanted, rtol=1e-11)
    wanted = [[1.384088084629, 0.207911446293], [0.207911446293, 0.667015277041]]
    np.testing.assert_allclose(found.hidden_similarity, wanted, rtol=1e-11)


@given(shapes, seeds)
def test_the_relative_scale_is_conserved(shape, seed):
    arguments, lam = problem(seed, shape)
    w, a, b = (np.asarray(x) for x in solution_at(TIMES, *arguments))
    size = largest((w, a, b))
    # What W2^T W2 - W1 W1^T = lam I means for what the data see.
    np.testing.assert_allclose(w @ w.swapaxes(1, 2), b @ b - lam * b, atol=1e-12 * size**2)
    np.testing.assert_allclose(w.swapaxes(1, 2) @ w, a @ a + lam * a, atol=1e-12 * size**2)
    np.testing.assert_allclose(
        np.trace(b, axis1=1, axis2=2) - np.trace(a, axis1=1, axis2=2), lam * shape[1], atol=1e-12 * size
    )


@settings(max_examples=12)
@given(st.sampled_from([FUNNEL, WIDE]), seeds)
def test_symmetries(shape, seed):
    (w1, w2, syx, c), _ = problem(seed, shape)
    plain = solution_at(TIMES, w1, w2, syx, c)
    rng = np.random.default_rng(seed)
    right, inner, left = (rotation(rng, n) for n in shape)
    turned = solution_at(TIMES, inner @ w1 @ right.T, left @ w2 @ inner.T, left @ syx @ right.T, c)
    expected = left @ plain[0] @ right.T, right @ plain[1] @ right.T, left @ plain[2] @ left.T
    assert_close(turned, expected, 1e-12)
    # Strengths scale by k where Syx does and time by 1/k; c is a unit of strength.
    k = rng.uniform(0.2, 5)
    scaled = solution_at(TIMES / k, np.sqrt(k) * w1, np.sqrt(k) * w2, k * syx, c)
    assert_close(scaled, [k * block for block in plain], 1e-12)
    white = solution_at(TIMES, np.sqrt(c) * w1, np.sqrt(c) * w2, syx)
    assert_close([block / c for block in white], plain, 1e-12)


@given(seeds)
def test_transposition_swaps_the_layers(seed):
    (w1, w2, syx, c), _ = problem(seed, (3, 3, 3))
    w, a, b = solution_at(TIMES, w1, w2, syx, c)
    assert_close(solution_at(TIMES, w2.T, w1.T, syx.T, c), (np.swapaxes(w, 1, 2), b, a), 1e-12)


@settings(max_examples=12)
@given(shapes, seeds)
def test_the_end(shape, seed):
    (w1, w2, syx, c), lam = problem(seed, shape)
    end = end_of(w1, w2, syx, c)
    f = np.block([[-c * lam / 2 * np.eye(shape[0]), syx.T], [syx, c * lam / 2 * np.eye(shape[2])]])
    mu, modes = np.linalg.eigh(f)
    if shape[1] >= np.sum(mu > 1e-9):
        # All that is to be learned finds room; otherwise equal eigenvalues leave the choice to the start.
        p = (modes * 2 * np.maximum(mu, 0)) @ modes.T / c
        np.testing.assert_allclose(joined(end), p, rtol=0, atol=1e-11)
    # Where nothing is asked for, weights decay as a power of time, to 1 / (c t). Rounding tells equal eigenvalues
    # apart after 1e16 time constants, which counts where only some of them find room.
    late = 1e4 if np.ptp(np.linalg.svd(syx)[1]) < 1e-9 < np.abs(syx).max() else 1e12
    np.testing.assert_allclose(joined(solution_at(late, w1, w2, syx, c)), joined(end), rtol=0, atol=1e-10)


@given(seeds)
def test_a_bottleneck_ends_at_the_truncated_map(seed):
    rng = np.random.default_rng(seed)
    w1, w2 = start(rng, BOTTLENECK, 0.0, 0.3)
    syx = target(rng, BOTTLENECK, "generic")
    u, s, vt = np.linalg.svd(syx, full_matrices=False)
    expected = (u[:, :2] * s[:2]) @ vt[:2]
    np.testing.assert_allclose(end_of(w1, w2, syx).network_map, expected, atol=1e-12)
    np.testing.assert_allclose(excess_loss(expected, syx), s[2] ** 2 / 2, rtol=1e-12)


loss_slope = jax.jit(jax.grad(lambda t, w1, w2, syx, c: excess_loss(exact_solution(t, w1, w2, syx, c)[0], syx, c)))


@settings(max_examples=10)
@given(seeds)
def test_the_loss_falls_as_the_squared_gradient(seed):
    (w1, w2, syx, c), _ = problem(seed, FUNNEL)

    w, a, b = solution_at(0.8, w1, w2, syx, c)
    error = syx - c * w
    expected = np.sum((error @ a) * error) + np.sum((b @ error) * error)
    slope = loss_slope(0.8, w1, w2, syx, c)
    size = largest((w, a, b)) * (np.sum(syx**2) + c**2 * np.sum(np.square(w)))
    np.testing.assert_allclose(slope, -expected, rtol=1e-10, atol=1e-13 * size)


def along(x, t, lam, syx, size):
    """Everything moves at once with x, along balanced starts: times, scale, strengths, target and input variance."""
    rng = np.random.default_rng(3)
    left, right, inner = (jnp.asarray(rotation(rng, n)) for n in (3, 4, 3))
    s, lam = size * (jnp.array([1.0, 0.7, 0.2]) + x), lam + x
    a, b = (jnp.sqrt((jnp.sqrt(lam**2 + 4 * s**2) + sign * lam) / 2) for sign in (-1, 1))
    w1, w2 = (inner * a) @ right[:, :3].T, (left * b) @ inner.T
    syx = syx + x * rng.normal(size=(3, 4))
    return jnp.concatenate([block.ravel() for block in exact_solution(t * (1 + x), w1, w2, syx, 0.7 + x)])


slope_at = jax.jit(lambda *p: jax.jvp(lambda x: along(x, *p), (0.0,), (1.0,))[1])
value_at = jax.jit(along)


@pytest.mark.parametrize("kind", ["generic", "repeated", "none"])
@pytest.mark.parametrize(("t", "lam"), [(0.0, 0.5), (0.6, 0.0), (3.0, -0.8), (6.0, 1.0)])
def test_gradients_at_the_hard_points(kind, t, lam):
    syx = target(np.random.default_rng(4), FUNNEL, kind)

    def centred(h):
        return (value_at(h, t, lam, syx, 0.3) - value_at(-h, t, lam, syx, 0.3)) / (2 * h)

    # Richardson: h^4 of the fifth derivative, which grows as t^5; and 1e-15 / h of rounding.
    expected = (4 * centred(5e-4) - centred(1e-3)) / 3
    found = slope_at(t, lam, syx, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["generic", "repeated", "rank one", "none"])
def test_gradients_stay_finite(kind):
    for t, lam in ((0.0, 0.0), (30.0, 1e-8), (1e3, -2.0), (1e6, 0.0), (1e10, 1.0)):
        assert np.isfinite(slope_at(t, lam, target(np.random.default_rng(4), FUNNEL, kind), 1e-3)).all()


def error_of_limit(limit, shape, lam, times):
    """Largest deviation of the solution from a limit at large lam, from a small start."""
    rng = np.random.default_rng(1)
    w1, w2 = start(rng, shape, lam, 0.1)
    syx, c = target(rng, shape, "generic"), 0.7
    return np.abs(solution_at(times, w1, w2, syx, c).network_map - limit(times, w1, w2, syx, lam, c)).max()


@pytest.mark.parametrize(
    ("limit", "shape", "sign", "times"),
    [
        (lambda t, w1, w2, syx, lam, c: lazy_map(t, w2 @ w1, syx, lam, c), FUNNEL, 1, lambda lam: TIMES / lam),
        (
            lambda t, w1, w2, syx, lam, c: delayed_rich_map(t, w2, syx, lam, c),
            BOTTLENECK,
            1,
            lambda lam: lam * np.array([0.2, 0.5, 1.0, 3.0]),
        ),
        (
            lambda t, w1, w2, syx, lam, c: np.swapaxes(delayed_rich_map(t, w1.T, syx.T, -lam, c), 1, 2),
            FUNNEL,
            -1,
            lambda lam: lam * np.array([0.2, 0.5, 1.0, 3.0]),
        ),
    ],
)
def test_limits_of_large_relative_scale_are_reached_at_second_order(limit, shape, sign, times):
    large, larger = (error_of_limit(limit, shape, sign * lam, times(lam)) for lam in (100.0, 400.0))
    # s <= 2: (s / lam)^2 = 4e-4, over two time constants; the next order changes the ratio by 4e-4 or so.
    assert large < 4e-3
    np.testing.assert_allclose(large, 16 * larger, rtol=0.02)


@settings(max_examples=12)
@given(seeds, st.floats(0.1, 1.5))
def test_very_wide_networks(seed, gamma):
    # Orthonormal columns of Q make the equations of an infinitely wide network exact.
    rng = np.random.default_rng(seed)
    n_in, n_out, c = 2, 3, 0.6
    q = np.sqrt(gamma) * rotation(rng, 7)[:, : n_in + n_out]
    syx = target(rng, (n_in, 1, n_out), "generic")
    found = wide_solution(TIMES, syx, gamma, c)
    for i, (w1, w2) in enumerate(raw(TIMES, q[:, :n_in], q[:, n_in:].T, syx, c)):
        assert_close([block[i] for block in found], (w2 @ w1, w1.T @ w1, w2 @ w2.T), CARRIED)
    w, _, b = (np.asarray(x) for x in found)
    np.testing.assert_allclose(b @ b - w @ w.swapaxes(1, 2), np.tile(gamma**2 * np.eye(3), (4, 1, 1)), atol=1e-8)


@given(seeds)
def test_excess_loss_is_above_the_best_map(seed):
    rng = np.random.default_rng(seed)
    w, syx, c = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.uniform(0.3, 2)

    def loss(w):
        return c / 2 * np.trace(w @ w.T) - np.trace(w @ syx.T)

    np.testing.assert_allclose(excess_loss(w, syx, c), loss(w) - loss(syx / c), rtol=1e-12)
    np.testing.assert_allclose(excess_loss(np.stack([w, 2 * w]), syx, c)[1], excess_loss(2 * w, syx, c), rtol=1e-14)


def test_float32_runs():
    arguments, _ = problem(8, FUNNEL)
    single = solution_at(np.float32(3), *[np.asarray(x, np.float32) for x in arguments])
    assert single.network_map.dtype == np.float32
    # Rounding 6e-8, amplified by exp(mu t) along the way.
    assert_close(single, solution_at(3.0, *arguments), 1e-4)


ONE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: exact_solution(-1.0, ONE, ONE, ONE), "t must be non-negative"),
        (lambda: exact_solution(np.array([1.0, 0.5]), ONE, ONE, ONE), "t must increase"),
        (lambda: exact_solution(1.0, ONE, ONE, ONE, 0.0), "c must be positive"),
        (lambda: exact_solution(1.0, ONE, ONE, ONE * np.nan), "syx must be finite"),
        (lambda: exact_solution(1.0, np.diag([1.0, 2.0]), ONE, ONE), "w1 and w2 must be balanced"),
        (lambda: relative_scale(ONE, np.diag([1.0, 2.0])), "w1 and w2 must be balanced"),
        (lambda: delayed_rich_map(1.0, ONE, ONE, -3.0), "lam must be positive"),
        (lambda: delayed_rich_map(1.0, np.ones((2, 3)), ONE, 3.0), "w2 must have no more columns than rows"),
        (lambda: wide_solution(np.array([0.5, 1.0]), ONE, -1.0), "gamma must be non-negative"),
    ],
)
def test_refusals_name_the_argument(call, sentence):
    with pytest.raises(ValueError, match=rf"^{sentence}"):
        call()


def test_refusal_inside_jit():
    with pytest.raises(Exception, match="must be balanced"):
        solution_at(TIMES, np.diag([1.0, 2.0]), ONE, ONE).network_map.block_until_ready()
