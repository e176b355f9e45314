"""End-to-end flow: against raw weights, fractional powers and closed forms; symmetries, derivatives, refusals."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from theory.deep_linear.correlations import correlations, input_output_modes, projected_strengths, training_loss
from theory.deep_linear.end_to_end import (
    balanced_weights,
    conserved_matrices,
    end_to_end_flow,
    end_to_end_velocity,
    map_and_descent_error,
    modewise_strengths,
    single_output_velocity,
    strength_curves,
    weight_flow,
    weight_velocity,
)
from theory.deep_linear.modes import mode_strength

seeds = st.integers(0, 2**32 - 1)
depths = st.sampled_from([1, 2, 5])
shapes = st.sampled_from([(3, 4), (4, 3), (1, 4)])
TIMES = np.array([0.0, 1.0, 3.0, 10.0])
# Local error 1e-11, added up over some hundred steps and amplified on the way out of the plateau.
CARRIED = 1e-9


def task(seed, n_in=4, n_out=3, samples=12):
    """Correlations that share no vectors."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n_in, samples)), random.normal(size=(n_out, samples))
    return correlations(x + 0.5 * x[:1], y + x[:1])


def layers(seed, widths, scale):
    random = np.random.default_rng(seed)
    return [scale * random.normal(size=(above, below)) for below, above in pairwise(widths)]


def chain(weights):
    return np.linalg.multi_dot(weights[::-1]) if len(weights) > 1 else weights[0]


def raw_flow(weights, sxx, syx, times):
    """Every entry of every layer, with the gradient spelled out, by another integrator."""
    sizes = np.cumsum([0] + [w.size for w in weights])

    def unpacked(z):
        return [z[a:b].reshape(w.shape) for (a, b), w in zip(pairwise(sizes), weights, strict=True)]

    def field(_, z):
        now = unpacked(z)
        error, moved = syx - chain(now) @ sxx, []
        for i in range(len(now)):
            above = chain([np.eye(len(now[i])), *now[i + 1 :]])
            below = chain([np.eye(sxx.shape[0]), *now[:i]])
            moved.append((above.T @ error @ below.T).ravel())
        return np.concatenate(moved)

    start = np.concatenate([np.ravel(w) for w in weights])
    found = solve_ivp(field, (0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-16)
    return [unpacked(z) for z in found.y.T]


def power(square, exponent):
    """A fractional power of a positive semi-definite matrix by its eigenvectors; the zeroth is the identity."""
    if exponent == 0:
        return np.eye(len(square))
    values, vectors = np.linalg.eigh(square)
    values = np.where(values > 1e-12 * values.max(initial=1e-300), values, 0)
    return (vectors * values**exponent) @ vectors.T


def low_rank(seed, shape, rank):
    random = np.random.default_rng(seed)
    return random.normal(size=(shape[0], rank)) @ random.normal(size=(rank, shape[1]))


@pytest.mark.parametrize(("widths", "scale"), [((4, 5, 3), 1e-3), ((4, 2, 3, 3), 0.5)])
def test_weight_flow_is_that_of_the_raw_weights(widths, scale):
    data, start = task(0), layers(1, widths, scale)
    exact = raw_flow(start, np.asarray(data.sxx), np.asarray(data.syx), TIMES)
    found = weight_flow(TIMES, start, data.sxx, data.syx)
    before = conserved_matrices(start)
    for i, weights in enumerate(exact):
        for w, ours in zip(weights, found, strict=True):
            np.testing.assert_allclose(ours[i], w, rtol=0, atol=CARRIED * np.abs(w).max())
        for was, now in zip(before, conserved_matrices([w[i] for w in found]), strict=True):
            np.testing.assert_allclose(now, was, rtol=0, atol=CARRIED)


@given(seeds, st.sampled_from([(4, 3), (4, 2, 3), (4, 5, 2, 3)]))
def test_velocity_is_downhill_and_conserves(seed, widths):
    data, weights = task(seed), [jnp.asarray(w) for w in layers(seed, widths, 1.0)]
    velocity = weight_velocity(weights, data.sxx, data.syx)

    def loss(weights):
        w = weights[0]
        for upper in weights[1:]:
            w = upper @ w
        return training_loss(w, data.sxx, data.syx, data.syy)

    for v, g in zip(velocity, jax.grad(loss)(weights), strict=True):
        np.testing.assert_allclose(v, -g, rtol=1e-10, atol=1e-10 * np.abs(g).max())
    _, drift = jax.jvp(conserved_matrices, (weights,), (list(velocity),))
    size = max(float(jnp.abs(v).max() * jnp.abs(w).max()) for v, w in zip(velocity, weights, strict=True))
    for d in drift:
        np.testing.assert_allclose(d, 0, atol=1e-12 * size)


@given(seeds, shapes, depths, st.integers(0, 3))
def test_velocity_of_the_map_by_fractional_powers(seed, shape, depth, rank):
    w, g = low_rank(seed, shape, min(rank, *shape)), low_rank(seed + 1, shape, 3)
    exact = -sum(power(w @ w.T, (depth - j) / depth) @ g @ power(w.T @ w, (j - 1) / depth) for j in range(1, depth + 1))
    # Eigenvectors of w w^T, cut at 1e-12, know small singular values to 1e-6 only; draws are rarely that small.
    np.testing.assert_allclose(end_to_end_velocity(w, g, depth), exact, rtol=0, atol=1e-9 * (1 + np.abs(exact).max()))


@given(seeds, shapes, depths, st.integers(0, 3))
def test_velocity_of_the_map_by_its_layers(seed, shape, depth, rank):
    w = low_rank(seed, shape, min(rank, *shape))
    data = task(seed, shape[1], shape[0])
    split = balanced_weights(w, depth)
    assert len(split) == depth
    scale = max(1, np.abs(w).max())
    np.testing.assert_allclose(chain([np.asarray(s) for s in split]), w, rtol=0, atol=1e-13 * scale)
    for c in conserved_matrices(split):
        np.testing.assert_allclose(c, 0, atol=1e-13 * scale)
    moved = weight_velocity(split, data.sxx, data.syx)
    total = sum(chain([np.asarray(m if i == j else s) for j, s in enumerate(split)]) for i, m in enumerate(moved))
    found = end_to_end_velocity(w, w @ data.sxx - data.syx, depth)
    np.testing.assert_allclose(found, total, rtol=0, atol=1e-11 * (1 + np.abs(total).max()))


def test_zeroth_powers_are_the_identity():
    # W = diag(1, 0): the first term is sqrt(W W^T) G with the identity on the right, the last its mirror image.
    g = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(end_to_end_velocity(np.diag([1.0, 0.0]), g, 2), [[-2, -2], [-3, 0]], atol=1e-15)
    np.testing.assert_allclose(end_to_end_velocity(np.zeros((2, 2)), g, 1), -g)
    for depth in (2, 3, 9):
        np.testing.assert_array_equal(end_to_end_velocity(np.zeros((2, 3)), np.ones((2, 3)), depth), np.zeros((2, 3)))
        np.testing.assert_array_equal(single_output_velocity(np.zeros(3), np.ones(3), depth), np.zeros(3))


@given(seeds, depths)
def test_single_output(seed, depth):
    w, g = low_rank(seed, (1, 4), 1), low_rank(seed + 1, (1, 4), 1)
    exact = end_to_end_velocity(w, g, depth)[0]
    np.testing.assert_allclose(
        single_output_velocity(w[0], g[0], depth), exact, rtol=0, atol=1e-12 * (1 + abs(exact).max())
    )


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("sigma", [(0.7, 0.7, 0.7), (2.0, 0.7, 0.7 * (1 + 1e-9)), (3.0, 1.0, 0.2)])
def test_derivative_of_the_velocity(depth, sigma):
    random = np.random.default_rng(5)
    w = np.diag(sigma) @ np.eye(3, 4)
    g, direction = random.normal(size=(2, 3, 4))

    def measure(w):
        return jnp.sum(jnp.sin(end_to_end_velocity(w, g, depth)))

    step = 1e-5
    slope = (measure(w + step * direction) - measure(w - step * direction)) / (2 * step)
    # Central differences: step^2 times a third derivative of about 1e3, and rounding / step.
    np.testing.assert_allclose(jnp.sum(jax.grad(measure)(w) * direction), slope, atol=1e-6)


@partial(jax.jit, static_argnums=1)
def slopes(w, depth):
    """Derivatives of everything that holds a fractional power."""
    g = jnp.ones_like(w)
    return (
        jax.grad(lambda w: jnp.sum(end_to_end_velocity(w, g, depth)))(w),
        jax.grad(lambda w: sum(jnp.sum(x) for x in balanced_weights(w, depth)))(w),
        jax.grad(lambda w: jnp.sum(single_output_velocity(w, g[0], depth)))(w[0]),
    )


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("shape", [(3, 4), (4, 3)])
def test_derivatives_are_finite_where_rank_is_lost(depth, shape):
    for rank in (0, 1, 2, 3):
        assert all(np.isfinite(slope).all() for slope in slopes(low_rank(1, shape, rank), depth))


@pytest.mark.parametrize("depth", [2, 3])
def test_flow_of_the_map_is_that_of_balanced_raw_weights(depth):
    data, w0 = task(3), low_rank(4, (3, 4), 2) / 50
    # Wider than needed, and turned at random inside: the map does not see it.
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(5, 5)))[0][:, :3]
    wide = [np.asarray(w) for w in balanced_weights(w0, depth)]
    wide = [turn @ w if i == 0 else w @ turn.T if i == depth - 1 else turn @ w @ turn.T for i, w in enumerate(wide)]
    exact = [chain(w) for w in raw_flow(wide, np.asarray(data.sxx), np.asarray(data.syx), TIMES)]
    found = end_to_end_flow(TIMES, w0, data.sxx, data.syx, depth)
    np.testing.assert_allclose(found, exact, rtol=0, atol=CARRIED)
    # Rank is never gained, losses never rise.
    assert (np.linalg.svd(found)[1][:, 2] < 1e-12).all()
    losses = jax.vmap(lambda w: training_loss(w, data.sxx, data.syx, data.syy))(found)
    assert (np.diff(losses) < 0).all()
    # And one part of the way, then the rest, is the whole way.
    rest = end_to_end_flow(TIMES, found[1], data.sxx, data.syx, depth)
    later = end_to_end_flow(TIMES + 1, w0, data.sxx, data.syx, depth)
    np.testing.assert_allclose(rest, later, rtol=0, atol=CARRIED)


@pytest.mark.parametrize("depth", [2, 3])
def test_symmetries(depth):
    data, w0, c = task(7), low_rank(8, (3, 4), 3) / 20, 1.7
    base = end_to_end_flow(TIMES, w0, data.sxx, data.syx, depth)
    scaled = end_to_end_flow(TIMES / c ** (2 - 2 / depth), c * w0, data.sxx, c * data.syx, depth)
    np.testing.assert_allclose(scaled, c * base, rtol=0, atol=CARRIED)
    out, into = (np.linalg.qr(np.random.default_rng(9).normal(size=(n, n)))[0] for n in (3, 4))
    turned = end_to_end_flow(TIMES, out @ w0 @ into.T, into @ data.sxx @ into.T, out @ data.syx @ into.T, depth)
    np.testing.assert_allclose(turned, out @ base @ into.T, rtol=0, atol=CARRIED)


def test_one_layer_relaxes_exponentially():
    data, w0 = task(10), low_rank(11, (3, 4), 3)
    best = np.asarray(data.syx) @ np.linalg.inv(data.sxx)
    exact = [best + (w0 - best) @ expm(-np.asarray(data.sxx) * t) for t in TIMES]
    np.testing.assert_allclose(end_to_end_flow(TIMES, w0, data.sxx, data.syx, 1), exact, rtol=0, atol=CARRIED)


def shared(off_diagonal):
    """Three modes whose inputs share `off_diagonal` of their variance, turned at random."""
    random = np.random.default_rng(12)
    left, right = (np.linalg.qr(random.normal(size=(n, n)))[0] for n in (3, 4))
    mixed = np.diag([1.2, 0.8, 0.5, 0.3]) + off_diagonal * (np.ones((4, 4)) - np.eye(4))
    return right @ mixed @ right.T, left @ np.diag([1.5, 1.0, 0.6]) @ right[:, :3].T


def test_modes_decouple_where_vectors_are_shared():
    sxx, syx = shared(0.0)
    u0 = np.array([1e-3, 2e-3, 0.5])
    found = strength_curves(TIMES, sxx, syx, u0, 2)
    exact = mode_strength(TIMES[:, None], np.array([1.5, 1.0, 0.6]), u0, np.array([1.2, 0.8, 0.5]))
    np.testing.assert_allclose(found, exact, rtol=0, atol=CARRIED)
    np.testing.assert_allclose(modewise_strengths(TIMES, sxx, syx, u0), exact, rtol=1e-11)


def test_mixing_moves_strengths_in_second_order():
    sizes = np.array([0.04, 0.02, 0.01])
    times = np.array([1.0, 2.0, 4.0, 8.0])
    curves = [(strength_curves(times, *shared(c), 0.01, 2), modewise_strengths(times, *shared(c), 0.01)) for c in sizes]
    errors = [np.abs(exact - alone).max() for exact, alone in curves]
    # The next order of a symmetric perturbation is relative c / lam, at most 0.1.
    assert abs(np.polyfit(np.log(sizes), np.log(errors), 1)[0] - 2) < 0.2


def test_descent_error_is_the_leading_one():
    data, start = task(13), layers(14, (4, 5, 3), 0.2)
    times = np.array([1.0, 2.0, 3.0, 4.0])
    w, e = map_and_descent_error(times, start, data.sxx, data.syx)
    left = []
    for lr in (0.02, 0.01):
        weights = [np.array(s) for s in start]
        for _ in range(round(4 / lr)):
            moved = weight_velocity(weights, data.sxx, data.syx)
            weights = [w + lr * np.asarray(m) for w, m in zip(weights, moved, strict=True)]
        left.append((chain(weights) - np.asarray(w[3]), lr * np.asarray(e[3])))
    (coarse, leading), (fine, half) = left
    # What the leading error leaves is of the next order: a quarter at half the step, and small.
    ratio = np.linalg.norm(coarse - leading) / np.linalg.norm(fine - half)
    assert 3.4 < ratio < 4.6
    assert np.linalg.norm(fine - half) < 0.1 * np.linalg.norm(half)
    np.testing.assert_allclose(w, end_to_end_flow_of(start, times, data), rtol=0, atol=CARRIED)


def end_to_end_flow_of(start, times, data):
    first, second = weight_flow(times, start, data.sxx, data.syx)
    return second @ first


@jax.jit
def final(w0, sxx, syx):
    return jnp.sum(jnp.cos(end_to_end_flow(TIMES, w0, sxx, syx, 2)))


slope_of_final = jax.jit(jax.grad(final, (0, 2)))
starts = [np.eye(3, 4) / 10, low_rank(15, (3, 4), 3) / 10, np.diag([0.1, 0, 0, 0])[:3], np.zeros((3, 4))]


@pytest.mark.slow
@pytest.mark.parametrize("w0", starts)
def test_gradient_through_the_flow(w0):
    data, direction = task(16), low_rank(17, (3, 4), 3)
    by_start, by_data = slope_of_final(w0, data.sxx, data.syx)
    assert np.isfinite(by_start).all() and np.isfinite(by_data).all()
    if np.linalg.matrix_rank(w0) == 3:
        ends = [final(w0 + step * direction, data.sxx, data.syx) for step in (1e-5, -1e-5)]
        # Central differences, as above; the flow's own error 1e-11 is divided by the step.
        np.testing.assert_allclose(jnp.sum(by_start * direction), (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-4)


def test_single_precision():
    data = jax.tree.map(lambda x: x.astype(jnp.float32), task(18))
    w0 = jnp.eye(3, 4, dtype=jnp.float32) / 50
    found = end_to_end_flow(jnp.asarray(TIMES, jnp.float32), w0, data.sxx, data.syx, 2)
    assert found.dtype == jnp.float32
    exact = end_to_end_flow(TIMES, w0.astype(float), data.sxx.astype(float), data.syx.astype(float), 2)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-3)


def test_strengths_follow_the_order_of_the_modes():
    data = task(19)
    modes = input_output_modes(data.sxx, data.syx)
    u0 = np.array([0.1, 0.2, 0.3])
    found = strength_curves(TIMES, data.sxx, data.syx, u0, 3)
    np.testing.assert_allclose(found[0], u0, rtol=1e-12)
    w0 = (modes.left * u0) @ modes.right.T
    w = end_to_end_flow(TIMES, w0, data.sxx, data.syx, 3)
    np.testing.assert_allclose(found, projected_strengths(w, modes.left, modes.right), rtol=1e-12)


EYE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: weight_flow(TIMES, [], EYE, EYE), "weights must hold at least one layer"),
        (lambda: weight_velocity([np.ones((3, 2)), np.ones((2, 2))], EYE, EYE), r"weights\[1\] must be a matrix"),
        (lambda: weight_velocity([np.full((2, 2), np.nan)], EYE, EYE), r"weights\[0\] must be finite"),
        (lambda: weight_flow(TIMES[::-1], [EYE], EYE, EYE), "t must increase"),
        (lambda: weight_flow(-TIMES[1:], [EYE], EYE, EYE), "t must be non-negative"),
        (lambda: weight_flow(TIMES, [EYE], EYE, np.full((2, 2), np.inf)), "syx must be finite"),
        (lambda: end_to_end_flow(TIMES, EYE, EYE, EYE, 0), "depth must be a whole number of at least 1, got 0"),
        (lambda: balanced_weights(EYE * np.nan, 2), "w must be finite"),
        (lambda: strength_curves(TIMES, EYE, EYE, -1.0, 2), "u0 must be non-negative"),
        (lambda: modewise_strengths(TIMES, EYE, EYE, 0.0), "u0 must be positive"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
