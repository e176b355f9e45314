"""Measures of laziness: ranges, invariances, what they see and what they do not, against trained networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich import laziness

seeds = st.integers(0, 2**32 - 1)
P = 5


def kernels(seed, count=2):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(count, P, P + 1))
    return factors @ np.swapaxes(factors, -1, -2)


@given(seeds, st.floats(1e-150, 1e150))
def test_alignment_is_a_cosine_of_kernels(seed, scale):
    first, second = kernels(seed)
    found = laziness.alignment(first, second)
    assert 0 < found < 1
    np.testing.assert_allclose(laziness.alignment(scale * first, second), found, rtol=1e-12)
    np.testing.assert_allclose(laziness.alignment(second, first), found, rtol=1e-12)
    np.testing.assert_allclose(laziness.misalignment(first, second), 1 - found, rtol=1e-10)
    np.testing.assert_allclose(laziness.alignment(first, scale * first), 1, rtol=1e-12)
    order = np.random.default_rng(seed).permutation(P)
    shuffled = (k[order][:, order] for k in (first, second))
    np.testing.assert_allclose(laziness.alignment(*shuffled), found, rtol=1e-12)


@given(seeds, st.floats(1e-9, 1e-3))
def test_a_small_turn_keeps_its_digits(seed, size):
    first, second = kernels(seed)
    found = laziness.misalignment(first, first + size * second)
    # Second order: half the squared part of the change across the kernel, over the kernel's own square.
    across = second - first * np.sum(first * second) / np.sum(first**2)
    expected = 0.5 * size**2 * np.sum(across**2) / np.sum(first**2)
    np.testing.assert_allclose(found, expected, rtol=20 * size + 1e-6)


@given(seeds)
def test_centred_alignment_does_not_see_shifts_and_rotations(seed):
    rng = np.random.default_rng(seed)
    h, g = rng.normal(size=(2, P, 3))
    found = laziness.centred_alignment(laziness.gram(h), laziness.gram(g))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = laziness.gram(h @ turn + rng.normal(size=3))
    np.testing.assert_allclose(laziness.centred_alignment(moved, laziness.gram(g)), found, rtol=1e-9)
    assert 0 <= found <= 1
    assert abs(laziness.alignment(moved, laziness.gram(g)) - laziness.alignment(laziness.gram(h), laziness.gram(g))) > 0


@given(seeds)
def test_target_alignment(seed):
    (kernel,), y = kernels(seed, 1), np.random.default_rng(seed + 1).normal(size=P)
    expected = y @ kernel @ y / np.sqrt(np.sum(kernel**2)) / (y @ y)
    np.testing.assert_allclose(laziness.target_alignment(kernel, y), expected, rtol=1e-12)
    np.testing.assert_allclose(laziness.target_alignment(kernel, y[:, None]), expected, rtol=1e-12)
    np.testing.assert_allclose(laziness.target_alignment(np.outer(y, y), y), 1, rtol=1e-12)


def test_leading_axes_are_times_and_runs():
    many = kernels(0, 6).reshape(2, 3, P, P)
    found = laziness.alignment(many, many[:, :1])
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[1, 2], laziness.alignment(many[1, 2], many[1, 0]), rtol=1e-12)
    assert laziness.effective_rank(many).shape == (2, 3)


@given(seeds, st.integers(1, P))
def test_effective_rank_counts_equal_eigenvalues(seed, rank):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(P, P)))[0][:, :rank]
    np.testing.assert_allclose(laziness.effective_rank(3 * q @ q.T), rank, rtol=1e-11)
    (kernel,) = kernels(seed, 1)
    assert 1 <= laziness.effective_rank(kernel) <= P


def test_changes_of_weights_signs_and_outputs():
    before, after = {"w": np.ones((2, 2)), "b": np.zeros(2)}, {"w": np.ones((2, 2)), "b": np.array([3.0, 4.0])}
    np.testing.assert_allclose(laziness.relative_change(after, before), 2.5)
    assert laziness.sign_agreement(np.array([1.0, -2.0, 3.0, -4.0]), np.array([5.0, 6.0, 0.1, -1.0])) == 0.75
    f0 = np.array([1.0, -2.0, 0.5, 0.0])
    tangent = f0 + np.array([3.0, 4.0, 0.0, 0.0])
    np.testing.assert_allclose(laziness.linearisation_error(tangent + 0.5, tangent, f0), 0.2)


def test_a_scaled_network_is_lazy_as_the_scale_grows():
    """F = scale (f - f_0), lr / scale^2: movement falls as 1/scale, misalignment as its square (Chizat et al.)."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=8)
    start = (rng.normal(size=(40, 3)), rng.normal(size=40) / np.sqrt(40))
    f = lambda w: jnp.tanh(x @ w[0].T) @ w[1]  # noqa: E731
    f0 = f(start)

    def kernel(w):
        jacobian = jnp.concatenate([j.reshape(8, -1) for j in jax.tree.leaves(jax.jacrev(f)(w))], axis=1)
        return jacobian @ jacobian.T

    @jax.jit
    def trained(scale):
        loss = lambda w: 0.5 * jnp.mean((scale * (f(w) - f0) - y) ** 2)  # noqa: E731
        step = lambda _, w: jax.tree.map(lambda v, g: v - 0.1 / scale**2 * g, w, jax.grad(loss)(w))  # noqa: E731
        return jax.lax.fori_loop(0, 2000, step, tuple(jnp.asarray(w) for w in start))

    scales = np.array([200.0, 400.0, 800.0])
    ends = [trained(scale) for scale in scales]
    first = kernel(start)
    rows = [
        (
            laziness.relative_change(end, start),
            laziness.relative_change(kernel(end), first),
            laziness.misalignment(kernel(end), first),
        )
        for end in ends
    ]
    slopes = np.diff(np.log(np.array(rows)), axis=0) / np.log(2)
    # The next order is 1/scale of a movement of order one.
    np.testing.assert_allclose(slopes, [[-1, -1, -2]] * 2, atol=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: laziness.alignment(np.ones((2, 3)), np.eye(2)), "kernel must be square"),
        (lambda: laziness.alignment(np.eye(2), np.zeros((2, 2))), "other must not be zero"),
        (lambda: laziness.effective_rank(np.full((2, 2), np.nan)), "kernel must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
