"""Where diagonal networks end: the raw weights, optimality, both limits, symmetries, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import linprog

from theory.deep_linear.diagonal import dual_variable
from theory.deep_linear.implicit_bias import (
    bias_potential,
    bregman_divergence,
    interpolator,
    kernel_deviation,
    kernel_interpolator,
)

SAMPLES, FEATURES = 3, 6
seeds = st.integers(0, 2**32 - 1)
depths = st.sampled_from([2, 3])


dual_at = jax.jit(dual_variable, static_argnums=3)


def data(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(SAMPLES, FEATURES)), rng.normal(size=SAMPLES)


def starts(seed, low, high):
    """ln alpha and c of every coefficient."""
    rng = np.random.default_rng(seed + 1)
    return rng.uniform(low, high, FEATURES), rng.uniform(-0.8, 0.8, FEATURES)


def end(x, y, log_alpha, c=0.0, depth=2):
    """The interpolator, compiled once per depth."""
    log_alpha, c = (np.broadcast_to(np.asarray(a, float), (FEATURES,)) for a in (log_alpha, c))
    return np.asarray(interpolator((x, y, log_alpha, c, depth)).beta)


divergence_of = jax.jit(bregman_divergence, static_argnums=3)


def least_l1(x, y):
    """By linear programming, whose vertex is then solved for exactly."""
    split = linprog(np.ones(2 * FEATURES), A_eq=np.hstack([x, -x]), b_eq=y).x
    support = np.argsort(-np.abs(split[:FEATURES] - split[FEATURES:]))[:SAMPLES]
    beta = np.zeros(FEATURES)
    beta[support] = np.linalg.solve(x[:, support], y)
    return beta


@settings(max_examples=4)
@given(depths, seeds)
def test_the_raw_weights_end_there(depth, seed):
    x, y = data(seed)
    log_alpha, c = starts(seed, -0.5, 0.2)

    def field(_, w):
        u, v = np.split(w, 2)
        g = -x.T @ (y - x @ (u**depth - v**depth)) / SAMPLES
        return np.concatenate([-depth * u ** (depth - 1) * g, depth * v ** (depth - 1) * g])

    begin = np.exp(np.concatenate([log_alpha + c / 2, log_alpha - c / 2]))
    # No coefficient is slower than at its least weights, u = v = a; thirty times that.
    least = 2 * depth**2 * np.exp((2 * depth - 2) * (log_alpha - 0.4))
    slowest = np.linalg.eigvalsh((x * least) @ x.T / SAMPLES).min()
    w = solve_ivp(field, (0, 30 / slowest), begin, "LSODA", [30 / slowest], rtol=1e-11, atol=1e-13).y[:, 0]
    expected = w[:FEATURES] ** depth - w[FEATURES:] ** depth
    # The multistep method keeps some hundred times its tolerance.
    np.testing.assert_allclose(end(x, y, log_alpha, c, depth), expected, rtol=1e-8, atol=1e-8)


@given(depths, seeds)
def test_it_interpolates_with_its_dual_in_the_row_space(depth, seed):
    x, y = data(seed)
    log_alpha, c = starts(seed, -4, 2)
    found = interpolator((x, y, log_alpha, c, depth))
    scale = np.abs(x) @ np.abs(found.beta) + np.abs(y)
    assert (np.abs(x @ found.beta - y) < 1e-13 * scale.max()).all()
    assert found.gap < 1e-13
    eta = np.asarray(dual_at(found.beta, log_alpha, c, depth))
    # A rounding of beta of 1e-15 of the largest moves eta by that over dbeta/deta, at least 2 D^2 a^(2D-2).
    least = 2 * depth**2 * np.exp((2 * depth - 2) * (log_alpha - 0.4))
    slack = 1e-12 * np.abs(eta).max() + 1e-13 * np.max(np.abs(found.beta) / least)
    np.testing.assert_allclose(eta - np.linalg.pinv(x) @ (x @ eta), 0, atol=slack * np.linalg.cond(x))


@given(depths, seeds, st.floats(1e-3, 1))
def test_no_other_interpolator_diverges_less(depth, seed, distance):
    x, y = data(seed)
    log_alpha, c = starts(seed, -3, 0.5)
    beta = end(x, y, log_alpha, c, depth)
    away = np.random.default_rng(seed + 2).normal(size=FEATURES)
    away = distance * (away - np.linalg.pinv(x) @ (x @ away))
    here, there = (np.sum(divergence_of(b, log_alpha, c, depth)) for b in (beta, beta + away))
    assert here < there


@given(depths, seeds, st.floats(0.3, 3))
def test_symmetries(depth, seed, k):
    x, y = data(seed)
    log_alpha, c = starts(seed, -3, 1)
    rng = np.random.default_rng(seed)
    beta = end(x, y, log_alpha, c, depth)
    close = dict(rtol=1e-9, atol=1e-10 * np.abs(beta).max())
    sign, order = rng.choice([-1, 1], FEATURES), rng.permutation(FEATURES)
    np.testing.assert_allclose(end(x * sign, y, log_alpha, c * sign, depth), sign * beta, **close)
    np.testing.assert_allclose(end(x[:, order], y, log_alpha[order], c[order], depth), beta[order], **close)
    mixed = rng.normal(size=(SAMPLES, SAMPLES)) + 3 * np.eye(SAMPLES)
    np.testing.assert_allclose(end(mixed @ x, mixed @ y, log_alpha, c, depth), beta, **close)
    np.testing.assert_allclose(
        end(x, k**depth * y, log_alpha + np.log(k), c, depth), k**depth * beta, **(close | {"atol": close["atol"] * 30})
    )


@settings(max_examples=10)
@given(depths, seeds)
def test_the_kernel_limit_and_its_rate(depth, seed):
    x, y = data(seed)
    least_squares = np.linalg.pinv(x) @ y
    np.testing.assert_allclose(end(x, y, 12.0, 0.0, depth), least_squares, rtol=1e-9, atol=1e-10)
    regression = (x, y, 0.3, 0.0, depth)
    np.testing.assert_allclose(kernel_interpolator(regression), least_squares, rtol=1e-11, atol=1e-12)
    # A start at which the largest coefficient is a tenth of alpha^D: the next term is a hundredth of the leading one.
    log_alpha = np.log(10 * np.abs(least_squares).max()) / depth
    leading = kernel_deviation((x, y, log_alpha, 0.0, depth))
    np.testing.assert_allclose(
        end(x, y, log_alpha, 0.0, depth) - least_squares, leading, atol=0.03 * np.abs(leading).max()
    )


@settings(max_examples=10)
@given(depths, seeds)
def test_the_kernel_limit_of_other_starts(depth, seed):
    """Tangent features W of a start u0 != v0: their regression on the rest y - X beta(0)."""
    x, y = data(seed)
    log_alpha, c = starts(seed, 2.9, 3.1)
    u0, v0 = np.exp(log_alpha + c / 2), np.exp(log_alpha - c / 2)
    # A target near X beta(0), at a distance of order one where alpha^D is above 400.
    y = y + x @ (u0**depth - v0**depth)
    root = np.sqrt(u0 ** (2 * depth - 2) + v0 ** (2 * depth - 2))
    expected = (u0**depth - v0**depth) + root * (np.linalg.pinv(x * root) @ (y - x @ (u0**depth - v0**depth)))
    found = kernel_interpolator((x, y, log_alpha, c, depth))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11 * np.abs(u0**depth).max())


@settings(max_examples=8)
@given(depths, seeds)
def test_the_rich_limit(depth, seed):
    x, y = data(seed)
    expected = least_l1(x, y)
    # At depth 2 all but exp(-2000 (1 - |s|)) is gone, at depth 3 the start is below rounding: s = eta / eta_max.
    found = end(x, y, {2: -1000.0, 3: -40.0}[depth], 0.0, depth)
    np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())
    norms = [np.abs(end(x, y, a, 0.0, depth)).sum() for a in (-3.0, -1.0, 1.0)]
    assert np.abs(expected).sum() <= norms[0] * (1 + 1e-12)
    assert (np.diff(norms) > -1e-9 * norms[0]).all()


def many(depth, seed):
    """64 coefficients, from far below alpha^D to far above, and their starts."""
    rng = np.random.default_rng(seed)
    z, log_alpha, c = 10 ** rng.uniform(-8, 8, 64), rng.uniform(-5, 3, 64), rng.uniform(-1, 1, 64)
    return z, rng.choice([-1, 1], 64) * np.minimum(z, 1e3) * np.exp(depth * log_alpha), log_alpha, c


def each(function):
    """Of 64 coefficients at once, compiled once per depth."""
    return jax.jit(jax.vmap(function, (0, 0, 0, None)), static_argnums=3)


divergence = each(bregman_divergence)
divergence_slope = each(jax.grad(bregman_divergence))
potential = jax.jit(bias_potential, static_argnums=1)


@settings(max_examples=10)
@given(st.sampled_from([2, 4]), seeds)
def test_potential_and_divergence(depth, seed):
    z, _, log_alpha, _ = many(depth, seed)
    q = np.asarray(potential(z, depth))
    np.testing.assert_allclose(potential(-z, depth), q, rtol=1e-13)
    unit = np.exp(2 * log_alpha) / (4 if depth == 2 else depth * (depth - 2))
    found = divergence(z * np.exp(depth * log_alpha), log_alpha, 0 * z, depth)
    # Rounding of D ln alpha, and twice that of chi.
    np.testing.assert_allclose(found, unit * q, rtol=1e-12)
    small, large = z < 1e-4, z > 1e6
    # The next term is smaller by z^2 / 10.
    factor = 1 / 4 if depth == 2 else (depth - 2) / (4 * depth)
    np.testing.assert_allclose(q[small], factor * z[small] ** 2, rtol=1e-8)
    # z arcsinh(z/2) - z, and z for D > 2 up to its power -(D-2)/D.
    z = z[large]
    expected = z * (np.log(z) - 1) + 2 if depth == 2 else z
    rest = 1e-12 if depth == 2 else depth * z ** (-(depth - 2) / depth)
    np.testing.assert_array_less(np.abs(q[large] - expected), rest * expected)


@settings(max_examples=10)
@given(st.sampled_from([2, 4]), seeds)
def test_the_divergence_is_the_integral_of_the_dual_variable(depth, seed):
    _, beta, log_alpha, c = many(depth, seed)
    eta = dual_at(beta, log_alpha, c, depth)
    # Where beta is near beta(0), eta cancels: in units of v0^(2-D) and u0^(2-D).
    slack = 1e-10 * np.abs(eta) + 1e-13 * np.exp((2 - depth) * (log_alpha - 0.5))
    np.testing.assert_array_less(np.abs(divergence_slope(beta, log_alpha, c, depth) - eta), slack)
    assert (np.asarray(divergence(beta, log_alpha, c, depth)) >= 0).all()
    u0, v0 = np.exp(log_alpha + c / 2), np.exp(log_alpha - c / 2)
    # The square of a rounding of beta(0), over dbeta/deta.
    begun = divergence(u0**depth - v0**depth, log_alpha, c, depth)
    np.testing.assert_array_less(np.abs(begun), 1e-25 * np.maximum(u0, v0) ** 2)


HARD = [
    (0.0, -1.0, 0.0),
    (0.0, -300.0, 0.0),
    (1e-300, 0.0, 0.0),
    (1.0, -40.0, 0.0),
    (-1.0, 20.0, 0.5),
    (1e9, -1.0, -1.0),
]


in_start = jax.jit(jax.grad(bregman_divergence, argnums=(0, 1, 2)), static_argnums=3)
in_z = jax.jit(jax.grad(bias_potential), static_argnums=1)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("point", HARD)
def test_gradients_of_the_divergence_stay_finite(point, depth):
    # At depth 3 alpha^(2-D) must be a number.
    log_alpha = point[1] if depth == 2 else max(point[1], -100.0)
    assert np.isfinite(in_start(point[0], log_alpha, point[2], depth)).all()
    assert np.isfinite(in_z(point[0], depth))


reverse = jax.jit(jax.jacrev(lambda *p: interpolator((*p, 3)).beta, argnums=(0, 1, 2, 3)))


def test_gradients_of_the_interpolator():
    x, y = data(4)
    point = (x, y, *starts(4, -2, 0))
    found = reverse(*point)
    rng = np.random.default_rng(0)
    for i, slope in enumerate(found):
        step = 1e-5 * rng.normal(size=np.shape(point[i]))
        ahead, behind = (end(*(p + s * step if i == j else p for j, p in enumerate(point)), depth=3) for s in (1, -1))
        change = np.tensordot(slope, step, step.ndim)
        # Central differences leave the third derivative, 1e-10 of the first, and rounding over 1e-5.
        np.testing.assert_allclose(change, (ahead - behind) / 2, atol=1e-7 * np.abs(change).max() + 1e-14)
    np.testing.assert_allclose(x @ found[1], np.eye(SAMPLES), atol=1e-12)


def test_hard_data_has_finite_gradients():
    x, y = data(4)
    x[:, 2] = 0
    log_alpha = np.full(FEATURES, -2.0)
    for target in (y, 0 * y):
        for slope in reverse(x, target, log_alpha, np.zeros(FEATURES)):
            assert np.isfinite(slope).all()
    c = np.full(FEATURES, 0.5)
    np.testing.assert_allclose(end(x, y, log_alpha, c, 3)[2], 2 * np.exp(-6) * np.sinh(0.75), rtol=1e-13)
    np.testing.assert_array_equal(end(x, 0 * y, log_alpha, 0.0, 3), 0)


def test_refusals():
    x, y = data(0)
    with pytest.raises(ValueError, match=r"^x must have at most as many samples as coefficients"):
        interpolator((x.T, np.ones(FEATURES), 0.0))
    with pytest.raises(ValueError, match=r"^x must have at most as many samples as coefficients"):
        kernel_interpolator((x.T, np.ones(FEATURES), 0.0))
    with pytest.raises(ValueError, match=r"^y must be finite"):
        end(x, np.nan * y, 0.0)
    with pytest.raises(ValueError, match=r"^depth must be a whole number of at least 2"):
        bias_potential(1.0, 1)
    with pytest.raises(Exception, match="the interpolator was not found in 2000 Newton steps: the rows of x must be"):
        end(x * [[1], [1], [0]], y, 0.0)
    kept = interpolator((x * [[1], [1], [0]], y, jnp.zeros(FEATURES), jnp.zeros(FEATURES)), throw=False)
    assert not kept.gap < 1e-3
