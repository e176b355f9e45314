"""Rank-one tensors: full tensors under training as the oracle, clamps, signs, what is kept, modes, emergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import elliprf

from theory.deep_linear.modes import mode_strength
from theory.induction.subcircuits import (
    Factors,
    carlson,
    emergence_time,
    equivalent_mode,
    factor_descent,
    factor_flow,
    factor_pair,
    lone_factor_loss,
    misalignment,
    overlap_growth,
    plane_coordinates,
    subcircuit_loss,
    tensor_loss,
)

seeds = st.integers(0, 2**32 - 1)
DIMS = (3, 4, 5)
D = 60
STEPS = 60


def drawn(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=d) for d in DIMS], [scale * rng.normal(size=d) for d in DIMS]


def outer(vectors):
    return jnp.einsum("i,j,k->ijk", *vectors)


@jax.jit
def trained(truths, vectors, lr, free):
    """Vectors at every step of gradient descent on the whole tensor, by automatic differentiation."""
    loss = lambda v: jnp.mean((outer(truths) - outer(v)) ** 2) / 2  # noqa: E731

    def step(v, _):
        moved = [x - lr * on * g for x, on, g in zip(v, free, jax.grad(loss)(v), strict=True)]
        return moved, (loss(v), v)

    return jax.lax.scan(step, list(vectors), None, length=STEPS + 1)[1]


@given(seeds, st.sampled_from([(), (2,), (1, 2)]))
def test_descent_is_that_of_the_whole_tensor(seed, clamped):
    truths, vectors = drawn(seed)
    start, lengths = plane_coordinates(vectors, truths)
    vectors = [b if i in clamped else a for i, (a, b) in enumerate(zip(vectors, truths, strict=True))]
    losses, path = trained(truths, vectors, 0.3, np.array([i not in clamped for i in range(3)], float))
    found = factor_descent(STEPS, start, lengths, D, 0.3, clamped)
    np.testing.assert_allclose(tensor_loss(found, lengths, D), losses, rtol=1e-9, atol=1e-15)
    at = [np.asarray(x)[-1] for x in path]
    end, _ = plane_coordinates(at, truths)
    np.testing.assert_allclose(found.along[-1], end.along, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.across[-1], end.across, rtol=1e-8, atol=1e-10)
    # Progress of each factor: the loss with the others replaced by the truth, at the better sign.
    alone = [
        min(
            float(jnp.mean((outer(truths) - outer([s * at[j] if j == i else truths[j] for j in range(3)])) ** 2) / 2)
            for s in (1, -1)
        )
        for i in range(3)
    ]
    np.testing.assert_allclose(
        subcircuit_loss(Factors(found.along[-1], found.across[-1]), lengths, D), alone, rtol=1e-8, atol=1e-12
    )


def test_loss_is_right_where_little_is_missing():
    s, small = np.array([1.3, 0.7, 2.0]), 1e-9
    found = tensor_loss((s, np.array([small, 0, 0])), s, 1.0)
    np.testing.assert_allclose(found, small**2 * (0.7 * 2.0) ** 2 / 2, rtol=1e-12)
    assert tensor_loss((s, np.zeros(3)), s, 1.0) < 1e-30
    np.testing.assert_allclose(tensor_loss((np.zeros(3), np.zeros(3)), s, 1.0), np.prod(s**2) / 2, rtol=1e-14)


def test_records_are_those_of_every_step():
    start, lengths = plane_coordinates(*reversed(drawn(0)))
    dense, sparse = (factor_descent(12, start, lengths, D, 0.3, every=k) for k in (1, 4))
    np.testing.assert_allclose(sparse.along, dense.along[::4], rtol=1e-13)
    assert factor_descent(0, start, lengths, D, 0.3).across.shape == (1, 3)


T = np.array([0.0, 1, 5, 20, 100, 400])


@given(seeds)
def test_flow(seed):
    start, lengths = plane_coordinates(*reversed(drawn(seed)))
    found = factor_flow(T, start, lengths, D)
    assert (np.diff(tensor_loss(found, lengths, D)) <= 1e-9).all()
    square = np.asarray(found.along) ** 2 + np.asarray(found.across) ** 2
    np.testing.assert_allclose(np.diff(square, axis=1), np.diff(square[:1], axis=1) * np.ones((6, 1)), atol=1e-7)
    assert (np.diff(found.across, axis=0) <= 1e-9).all()
    # A product of overlaps that is positive stays so; while it is negative all lengths fall.
    sign = np.prod(np.asarray(found.along), axis=1)
    assert (np.diff((sign > 0).astype(int)) >= 0).all()
    # The limit of small steps: what is left after extrapolation is of second order in the step.
    coarse, fine = (factor_descent(n, start, lengths, D, 1.0 / n).along[-1] for n in (40, 80))
    error = np.abs(2 * fine - coarse - found.along[1]).max()
    assert error < 0.2 * np.abs(fine - found.along[1]).max() + 1e-7


@given(seeds)
def test_signs_of_pairs_are_a_symmetry(seed):
    start, lengths = plane_coordinates(*reversed(drawn(seed)))
    flip = np.array([-1.0, -1.0, 1.0])
    plain = factor_flow(T, start, lengths, D)
    other = factor_flow(T, (start.along * flip, -start.across), lengths, D)
    np.testing.assert_allclose(other.along, plain.along * flip, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(subcircuit_loss(other, lengths, D), subcircuit_loss(plain, lengths, D), atol=1e-7)
    np.testing.assert_allclose(misalignment(other), misalignment(plain), atol=1e-7)


@jax.jit
def slopes(p, q, s):
    """Minus the gradient of the loss written out, and the rate of the product of overlaps along it."""
    loss = lambda p, q: (jnp.prod(s**2) - 2 * jnp.prod(p * s) + jnp.prod(p**2 + q**2)) / (2 * D)  # noqa: E731
    moves = [-g for g in jax.grad(loss, (0, 1))(p, q)]
    return moves, jax.jvp(lambda p: jnp.prod(p * s), (p,), (moves[0],))[1]


@given(seeds)
def test_a_wrong_sign_is_unlearned_first(seed):
    (p, q), s = plane_coordinates(*reversed(drawn(seed)))
    p = jnp.abs(p) * jnp.array([-1.0, 1, 1])
    moves, rate = slopes(p, q, s)
    np.testing.assert_allclose(overlap_growth((p, q), s, D), rate, rtol=1e-9)
    assert rate > 0
    np.testing.assert_array_less(p * moves[0] + q * moves[1], 0)
    # The same from the other side: as long as signs agree, the product can fall, but not where it is zero.
    at_zero = overlap_growth((p.at[0].set(0.0), q), s, D)
    np.testing.assert_allclose(at_zero, jnp.prod((p * s)[1:]) ** 2 * s[0] ** 2 / D, rtol=1e-9)


@given(seeds)
def test_two_clamps_leave_a_straight_line(seed):
    start, s = plane_coordinates(*reversed(drawn(seed)))
    rate, lr = s[1] ** 2 * s[2] ** 2 / D, 0.3
    found = tensor_loss(factor_descent(STEPS, start, s, D, lr, (1, 2)), s, D)
    k = np.arange(STEPS + 1)
    expected = lone_factor_loss(k, start.along[0], start.across[0], s[0], rate, lr)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-28)


@given(seeds, st.sampled_from([0.01, 0.3, 1.0]))
def test_one_clamp_leaves_a_pair(seed, scale):
    start, s = plane_coordinates(*reversed(drawn(seed, scale)))
    found = factor_flow(T, start, s, D, (2,))
    pair = factor_pair(T, (start.along[:2], start.across[:2]), s[:2], s[2] ** 2 / D)
    for one, other in zip(found, pair, strict=True):
        np.testing.assert_allclose(one[:, :2], other, rtol=1e-6, atol=1e-8)
    # It stays finite and right however late.
    late = factor_pair(np.array([1e9]), (start.along[:2], start.across[:2]), s[:2], 1.0)
    np.testing.assert_allclose(np.prod(late.along), s[0] * s[1], rtol=1e-9)
    np.testing.assert_allclose(late.across, 0, atol=1e-12)


@pytest.mark.parametrize("clamped", [(), (2,), (0, 2)])
def test_balanced_factors_are_a_mode(clamped):
    s, p0, t = np.array([1.5, 0.8, 1.2]), 0.1, np.array([0.0, 3, 10, 30, 100, 400, 600])
    mode = equivalent_mode(s, D, clamped)
    assert mode.depth == 3 - len(clamped)
    found = factor_flow(t, (np.full(3, p0), np.zeros(3)), s, D, clamped)
    free = [i for i in range(3) if i not in clamped]
    expected = mode_strength(t, mode.s, p0**mode.depth, mode.lam, mode.depth)
    np.testing.assert_allclose(np.prod(np.asarray(found.along)[:, free], axis=1), expected, rtol=1e-7)


@given(st.tuples(*(st.floats(0, 10),) * 2), st.floats(0.01, 1e4))
def test_carlson(few, last):
    if sum(few) < 1e-6:
        return
    squares = np.array([*few, last])
    np.testing.assert_allclose(carlson(jnp.asarray(squares)), elliprf(*squares), rtol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_emergence_from_small_starts(sign):
    s, p, q = np.array([1.5, 0.8, 2.2]), np.array([sign * 0.5, 1.0, 1.7]), np.array([1.0, 0.4, 0.7])
    errors = []
    for size in (0.1, 0.05):
        expected = float(emergence_time(size * p, s, D))
        # Where the flow stands then: the product is at the stated share, up to what a slope makes of a late start.
        around = np.linspace(0.8, 1.2, 81) * expected
        product = np.prod(np.asarray(factor_flow(around, (size * p, size * q), s, D).along), axis=1) / np.prod(s)
        errors.append(abs(np.interp(1 - 0.5**0.5, product, around) / expected - 1))
    assert errors[0] < 0.05
    # Corrections fall as the third power of the size.
    assert errors[1] < errors[0] / 4


def test_emergence_is_late_for_small_and_later_for_wrong_starts():
    s, p = np.array([1.5, 0.8, 2.2]), np.array([1e-4, 2e-4, 3e-4])
    right, wrong = (float(emergence_time(np.array([sign, 1, 1]) * p, s, D)) for sign in (1, -1))
    np.testing.assert_allclose(emergence_time(p / 100, s, D) / right, 100, rtol=1e-2)
    assert wrong > 1.5 * right
    assert emergence_time(np.array([-1e-4, 1e-4, 1e-4]), s, D) == np.inf
    # Balanced: the time of the mode.
    mode, t = equivalent_mode(s, D), emergence_time(np.full(3, 1e-2), s, D, 0.4)
    np.testing.assert_allclose(mode_strength(t, mode.s, 1e-6, mode.lam, 3), 0.4 * np.prod(s), rtol=1e-3)


THREE = (np.ones(3), np.ones(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plane_coordinates([np.ones(2)], [np.ones(3)]), "vectors must have the shapes"),
        (lambda: plane_coordinates([np.ones(2)], [np.zeros(2)]), "length of a true factor must be positive"),
        (lambda: tensor_loss(THREE, np.ones(2), 1.0), "truth must hold a length for each of 3"),
        (lambda: tensor_loss((np.ones(3), np.ones(2)), np.ones(3), 1.0), "along and across must be of one shape"),
        (lambda: tensor_loss(THREE, -np.ones(3), 1.0), "truth must be positive"),
        (lambda: misalignment((np.zeros(3), np.zeros(3))), "factors must not vanish"),
        (lambda: factor_flow(T, THREE, np.ones(3), 0.0), "entries must be positive"),
        (lambda: factor_flow(T, THREE, np.ones(3), 1.0, (3,)), "clamped must hold different places from 0 to 2"),
        (lambda: factor_flow(T, (np.ones((2, 3)),) * 2, np.ones(3), 1.0), "start must hold one run"),
        (lambda: factor_descent(5, THREE, np.ones(3), 1.0, 0.1, every=2), "every must divide the 5 steps"),
        (lambda: factor_descent(4, THREE, np.ones(3), 1.0, -0.1), "lr must be positive"),
        (lambda: lone_factor_loss(-1, 1.0, 1.0, 1.0, 1.0, 0.1), "steps must be non-negative"),
        (lambda: factor_pair(T, THREE, np.ones(3), 1.0), "start and truth must hold two factors"),
        (lambda: emergence_time(np.array([0.0, 1, 1]), np.ones(3), 1.0), "along must not be zero"),
        (lambda: emergence_time(np.ones(3), np.ones(3), 1.0, 1.0), r"share must lie in \(0, 1\), got 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
