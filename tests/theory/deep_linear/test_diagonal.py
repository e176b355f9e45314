"""Diagonal networks: raw weights, raw steps of descent, symmetries, closed forms and limits, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.diagonal import (
    DiagonalRegression,
    coefficient,
    coefficients,
    descent_shift,
    dual_variable,
    orthogonal_coefficient,
    start,
)

SAMPLES, FEATURES, EPS = 3, 5, 2e-16
seeds = st.integers(0, 2**32 - 1)
depths = st.sampled_from([2, 3])


orthogonal_at = jax.jit(orthogonal_coefficient)
coefficient_at = jax.jit(coefficient, static_argnums=3)
dual_at = jax.jit(dual_variable, static_argnums=3)


def flow_at(t, x, y, log_alpha, c, depth):
    return np.asarray(coefficients(jnp.asarray(t, float), (x, y, log_alpha, c, depth)))


def problem(seed, low=-2.0):
    """Data, and a start of its own for every coefficient."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(SAMPLES, FEATURES)), rng.normal(size=SAMPLES)
    return x, y, rng.uniform(low, 0.2, FEATURES), rng.uniform(-0.8, 0.8, FEATURES)


def weights(log_alpha, c):
    return np.exp(log_alpha + c / 2), np.exp(log_alpha - c / 2)


def raw(t, x, y, log_alpha, c, depth):
    """The coefficients by brute force: every u and v integrated."""

    def field(_, w):
        u, v = np.split(w, 2)
        g = -x.T @ (y - x @ (u**depth - v**depth)) / len(y)
        return np.concatenate([-depth * u ** (depth - 1) * g, depth * v ** (depth - 1) * g])

    begin = np.concatenate(weights(log_alpha, c))
    u, v = np.split(solve_ivp(field, (0, t[-1]), begin, "DOP853", t, rtol=1e-12, atol=1e-15).y, 2)
    return (u**depth - v**depth).T


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_raw_weights(depth, seed):
    data, t = problem(seed), np.array([0.0, 0.2, 3.0])
    # The integrator's 1e-12 per step, over the growth from small starts.
    np.testing.assert_allclose(flow_at(t, *data, depth), raw(t, *data, depth), rtol=1e-8, atol=1e-10)


@settings(max_examples=10)
@given(depths, seeds, st.floats(0.5, 2))
def test_symmetries(depth, seed, k):
    x, y, log_alpha, c = problem(seed)
    rng, t = np.random.default_rng(seed), np.array([0.1, 0.5, 2.0])
    beta = flow_at(t, x, y, log_alpha, c, depth)
    close = dict(rtol=1e-9, atol=1e-11)
    sign, order = rng.choice([-1, 1], FEATURES), rng.permutation(FEATURES)
    rotation = np.linalg.qr(rng.normal(size=(SAMPLES, SAMPLES)))[0]
    np.testing.assert_allclose(flow_at(t, x * sign, y, log_alpha, c * sign, depth), beta * sign, **close)
    np.testing.assert_allclose(flow_at(t, x[:, order], y, log_alpha[order], c[order], depth), beta[:, order], **close)
    np.testing.assert_allclose(flow_at(t, rotation @ x, rotation @ y, log_alpha, c, depth), beta, **close)
    # Weights in units of k.
    scaled = flow_at(t * k ** (2 - 2 * depth), x, k**depth * y, log_alpha + np.log(k), c, depth)
    np.testing.assert_allclose(scaled, k**depth * beta, **close)


@settings(max_examples=10)
@given(depths, seeds)
def test_the_dual_variable_moves_in_the_row_space_and_the_loss_falls(depth, seed):
    x, y, log_alpha, c = problem(seed, low=-1.0)
    t = np.array([0.05, 0.3, 2.0])
    beta = flow_at(t, x, y, log_alpha, c, depth)
    eta = np.asarray(dual_at(beta, log_alpha, c, depth))
    outside = eta - eta @ np.linalg.pinv(x) @ x
    np.testing.assert_allclose(outside, 0, atol=1e-10 * np.abs(eta).max())
    loss = np.sum((y - beta @ x.T) ** 2, axis=1)
    assert (np.diff(loss) < 0).all()


def test_a_feature_of_zeros_keeps_its_start():
    x, y, log_alpha, c = problem(3)
    x[:, 1] = 0
    u, v = weights(log_alpha, c)
    for depth in (2, 3):
        beta = flow_at([0.0, 1.0, 5.0], x, y, log_alpha, c, depth)
        np.testing.assert_allclose(beta[:, 1], (u**depth - v**depth)[1], rtol=1e-14)
    np.testing.assert_array_equal(flow_at([0.0, 1.0, 5.0], x, 0 * y, log_alpha, 0 * c, 3), 0)


@settings(max_examples=15)
@given(st.sampled_from([2, 3, 7]), seeds)
def test_coefficient_and_dual_variable_are_inverses(depth, seed):
    rng = np.random.default_rng(seed)
    log_alpha, c = rng.uniform(-30, 5, 64), rng.uniform(-1, 1, 64)
    ratio = rng.choice([-1, 1], 64) * 10 ** rng.uniform(-6, 6, 64)
    beta = ratio * np.exp(depth * log_alpha)
    back = coefficient_at(dual_at(beta, log_alpha, c, depth), log_alpha, c, depth)
    # Rounding of D ln alpha. Far out eta saturates: d ln beta / d ln eta grows as the power (D-2)/D of the ratio.
    rounding = 10 * EPS * depth * (10 + depth * np.abs(log_alpha))
    slack = rounding * (1 + np.abs(ratio) ** ((depth - 2) / depth)) * np.abs(beta)
    # Near zero c cancels.
    np.testing.assert_array_less(np.abs(back - beta), slack + rounding * np.exp(depth * (log_alpha + 0.5)))


@settings(max_examples=15)
@given(st.sampled_from([2, 3, 7]), seeds)
def test_duals_add_up_along_a_path(depth, seed):
    """From u0, v0 by eta1 + eta2, and from the weights that are reached at eta1 by eta2."""
    rng = np.random.default_rng(seed)
    u0, v0 = np.exp(rng.uniform(-2, 1, (2, 32)))
    low, high = -(v0 ** (2 - depth)), u0 ** (2 - depth)
    k = depth * (depth - 2) if depth > 2 else 1
    first, both = (low + (high - low) * rng.uniform(0.05, 0.95, (2, 32))) / k
    if depth == 2:
        u1, v1 = u0 * np.exp(2 * first), v0 * np.exp(-2 * first)
    else:
        u1, v1 = (high - k * first) ** (-1 / (depth - 2)), (k * first - low) ** (-1 / (depth - 2))
    once = coefficient_at(both, *start(u0, v0), depth)
    np.testing.assert_allclose(
        coefficient_at(first, *start(u0, v0), depth), u1**depth - v1**depth, rtol=1e-9, atol=1e-9
    )
    # 0.05 of the range, to the power -D/(D-2) >= -3, amplifies rounding.
    np.testing.assert_allclose(coefficient_at(both - first, *start(u1, v1), depth), once, rtol=1e-10, atol=1e-9)


@given(st.floats(0.0, 3), st.floats(-3, 3), st.floats(-5, 1), st.floats(-2, 2))
def test_orthogonal_designs(t, target, log_alpha, c):
    found = orthogonal_at(t, target, log_alpha, c)
    expected = raw(np.array([t, t + 1e-9]), np.eye(1), np.array([target]), np.array([log_alpha]), np.array([c]), 2)[
        0, 0
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    # Again from where it has arrived, with the product of the weights that it keeps.
    later = orthogonal_at(t + 0.7, target, log_alpha, c)
    moved = np.arcsinh(found * np.exp(-2 * log_alpha) / 2)
    np.testing.assert_allclose(orthogonal_at(0.7, target, log_alpha, moved), later, rtol=1e-10, atol=1e-12)


@given(st.floats(0.2, 3), st.floats(-300, -40), st.floats(0.5, 2))
def test_small_starts_grow_as_a_logistic(target, log_alpha, share):
    # dbeta/dt = 4 beta (b - beta) from the growing half alpha^2 of the start; the other half is gone by exp(-80).
    t = share * -log_alpha / (2 * target)
    expected = 1 / (1 / target + np.exp(-2 * log_alpha - 4 * target * t))
    found = [orthogonal_at(t, sign * target, log_alpha) for sign in (1, -1)]
    np.testing.assert_allclose(found, [expected, -expected], rtol=1e-12)


def test_orthogonal_limits():
    np.testing.assert_allclose(orthogonal_at(1e6, 0.7, -300.0), 0.7, rtol=1e-15)
    np.testing.assert_allclose(orthogonal_at(0.0, 0.7, -1.0, 0.6), 2 * np.exp(-2) * np.sinh(0.6), rtol=1e-14)
    # At large alpha the kernel is constant: the rate is 8 alpha^2, up to (b / 2 alpha^2)^2.
    t = 0.3 / np.exp(20)
    np.testing.assert_allclose(orthogonal_at(t, 0.7, 10.0), -0.7 * np.expm1(-8 * 0.3), rtol=1e-14)
    # Without target beta' = -4 beta sqrt(beta^2 + 4 alpha^4).
    np.testing.assert_allclose(orthogonal_at(1e3, 0.0, 0.0, 1.0), 0.0, atol=1e-300)


HARD = [(0.0, 0.5, -1.0, 0.0), (2.0, 0.0, -1.0, 0.0), (2.0, 0.0, -300.0, 0.0), (1e8, 1.0, -300.0, 0.0)]
HARD += [(1e8, -1.0, 0.0, 1.0), (0.0, 0.0, -800.0, 0.0), (1.0, 1.0, 50.0, 0.0), (3.0, 1e-200, -5.0, -2.0)]


orthogonal_slope = jax.jit(jax.grad(orthogonal_coefficient, argnums=(0, 1, 2, 3)))


@pytest.mark.parametrize("point", HARD)
def test_gradients_of_the_closed_forms_stay_finite(point):
    assert np.isfinite(orthogonal_slope(*point)).all()


@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_of_the_dual_variable(depth):
    slope = jax.jit(jax.vmap(jax.grad(lambda *p: dual_variable(*p, depth), argnums=(0, 1, 2)), (0, None, None)))
    beta = np.array([0.0, 1e-12, -1e-3, 1.0, -50.0])
    found = np.asarray(slope(beta, -0.5, 0.3)[0])
    # The inverse of dbeta/deta = D^2 (u^(2D-2) + v^(2D-2)), with the weights from beta by bisection on u^D.
    u0, v0 = weights(-0.5, 0.3)
    for b, s in zip(beta, found, strict=True):
        low, high = -60.0, 60.0
        for _ in range(200):
            chi = (low + high) / 2
            if depth == 2:
                u, v = np.sqrt(u0 * v0) * np.exp([chi / 2, -chi / 2])
            else:
                both = 1 / u0 + 1 / v0
                u, v = (1 + np.exp(chi)) / both, (1 + np.exp(-chi)) / both
            low, high = (chi, high) if u**depth - v**depth < b else (low, chi)
        np.testing.assert_allclose(s, 1 / (depth**2 * (u ** (2 * depth - 2) + v ** (2 * depth - 2))), rtol=1e-11)
    assert np.isfinite(np.stack(slope(beta, -30.0, 0.0))).all()


@pytest.mark.slow
def test_gradients_of_the_flow():
    x, y, log_alpha, c = problem(1)
    t = np.array([0.0, 0.4, 1.0])
    gain = np.random.default_rng(0).normal(size=(3, FEATURES))

    def pulled(y, log_alpha, c):
        return jnp.sum(gain * coefficients(t, (x, y, log_alpha, c, 3)))

    slopes = jax.jit(jax.grad(pulled, argnums=(0, 1, 2)))
    found = slopes(y, log_alpha, c)
    for i, part in enumerate(found):
        step = [np.zeros_like(a) for a in (y, log_alpha, c)]
        step[i][1] = 1e-5
        ahead, behind = (pulled(*(a + s * b for a, b in zip((y, log_alpha, c), step, strict=True))) for s in (1, -1))
        # Central differences: (1e-5)^2 of the third derivative, and 1e-14 / 1e-5 of the integrator.
        np.testing.assert_allclose(part[1], (ahead - behind) / 2e-5, rtol=1e-7, atol=1e-7)
    for part in slopes(0 * y, log_alpha - 3, 0 * c):
        assert np.isfinite(part).all()


def descended(lr, t, x, y, log_alpha, c, depth):
    """(ln alpha, c) of the start whose curves gradient descent has reached at t, less those of its start, over lr."""
    u, v = weights(log_alpha, c)
    eta, k = np.zeros_like(u), depth * (depth - 2)
    for _ in range(round(t / lr)):
        g = -x.T @ (y - x @ (u**depth - v**depth)) / len(y)
        u, v = u - lr * depth * u ** (depth - 1) * g, v + lr * depth * v ** (depth - 1) * g
        eta -= lr * g
    log_u, log_v = (np.log(w ** (2 - depth) + s * k * eta) / (2 - depth) for w, s in ((u, 1), (v, -1)))
    return np.stack([(log_u + log_v) / 2 - log_alpha, log_u - log_v - c]) / lr


@settings(max_examples=6)
@given(seeds)
def test_the_steps_of_descent_shift_the_start(seed):
    # The closed form of depth 2 is proved and compared with the other formulas.
    data, depth = problem(seed, low=-1.0), 3
    shift = np.stack(descent_shift(np.array([0.4, 1.0]), (*data, depth)))[:, 1]
    coarse, fine = (descended(lr, 1.0, *data, depth) for lr in (1 / 2000, 1 / 4000))
    # The shift is exact up to O(lr), which the two steps tell; of that a share lr x fastest rate is left, about 0.1.
    assert np.abs(2 * fine - coarse - shift).max() < 0.3 * np.abs(fine - coarse).max()
    assert np.abs(fine - shift).max() < 0.1 * np.abs(shift).max()


@pytest.mark.parametrize("log_alpha", [-1.0, 1.5, 3.0])
def test_the_shift_comes_to_an_end(log_alpha):
    """Also where the first trial step goes far beyond the coefficients: large starts, at late times."""
    x, y, *_ = problem(5)
    late = np.array([1e3, 2e3]) / (18 * np.exp(4 * log_alpha))
    shift = np.stack(descent_shift(late, (x, y, np.full(FEATURES, log_alpha), np.zeros(FEATURES), 3)))
    assert (shift[0] < 0).all()
    np.testing.assert_allclose(shift[:, 1], shift[:, 0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x, y: coefficients(np.array([-1.0]), (x, y, 0.0)), "t must be"),
        (lambda x, y: coefficients(np.array([1.0]), (x, y, np.zeros(2))), "log_alpha must be a scalar or of shape"),
        (lambda x, y: coefficients(np.array([1.0]), (x, y, 0.0, np.nan)), "c must be finite"),
        (lambda x, y: descent_shift(np.array([1.0]), DiagonalRegression(x, y, 0.0, depth=1)), "depth must be"),
        (lambda x, y: coefficient(2.0, 0.0, 0.0, 3), "eta must lie between"),
        (lambda x, y: start(0.0, 1.0), "u0 must be positive"),
        (lambda x, y: orthogonal_coefficient(-1.0, 1.0, 0.0), "t must be"),
    ],
)
def test_refusals_name_the_argument(call, sentence):
    x, y, *_ = problem(0)
    with pytest.raises(ValueError, match=rf"^{sentence}"):
        call(x, y)
