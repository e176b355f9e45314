"""Tangent kernels: against the Jacobian of the outputs, and how far they turn, down to the smallest angles."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.matrix import Solution
from theory.deep_linear.tangent_kernel import kernel_movement, tangent_kernel, two_layer_kernel

seeds = st.integers(0, 2**32 - 1)


kernel_of = jax.jit(tangent_kernel)
movement = jax.jit(kernel_movement)


def layers(rng, widths):
    return [rng.normal(size=(above, below)) for below, above in pairwise(widths)]


def outputs(weights, x):
    for w in weights:
        x = w @ x
    return x.reshape(-1)


@jax.jit
def jacobian_kernel(weights, x, other):
    """Products of gradients of the outputs with respect to every weight."""

    def rows(x):
        jacobians = jax.jacrev(outputs)(weights, x)
        return jnp.concatenate([j.reshape(len(j), -1) for j in jacobians], axis=1)

    return rows(x) @ rows(other).T


@given(st.sampled_from([(4, 2), (3, 5, 2), (2, 3, 1, 3)]), seeds)
def test_the_jacobian(widths, seed):
    rng = np.random.default_rng(seed)
    weights, x, other = layers(rng, widths), rng.normal(size=(widths[0], 3)), rng.normal(size=(widths[0], 2))
    kernel = kernel_of(weights, x)
    size = np.abs(kernel).max()
    np.testing.assert_allclose(kernel, jacobian_kernel(weights, x, x), atol=1e-13 * size)
    np.testing.assert_allclose(kernel_of(weights, x, other), jacobian_kernel(weights, x, other), atol=1e-13 * size)
    if len(widths) == 3:
        np.testing.assert_allclose(two_layer_kernel(seen(*weights), x), kernel, atol=1e-13 * size)


def seen(w1, w2):
    return Solution(w2 @ w1, w1.T @ w1, w2 @ w2.T)


@given(seeds)
def test_movement_is_the_angle_between_kernels(seed):
    rng = np.random.default_rng(seed)
    before, after = layers(rng, (3, 4, 2)), layers(rng, (3, 4, 2))
    # Five samples whose X X^T is 5 I.
    x = np.sqrt(5) * np.linalg.qr(rng.normal(size=(5, 3)))[0].T
    first, second = kernel_of(before, x), kernel_of(after, x)
    expected = 1 - np.sum(first * second) / (np.linalg.norm(first) * np.linalg.norm(second))
    found = movement(seen(*before), seen(*after))
    np.testing.assert_allclose(found, expected, atol=1e-14)
    np.testing.assert_allclose(movement(seen(*after), seen(*before)), found, rtol=1e-14)
    # A kernel that only grows does not turn.
    assert movement(seen(*before), Solution(*(3.7 * block for block in seen(*before)))) < 1e-30


def test_small_movements_keep_their_digits():
    rng = np.random.default_rng(0)
    w1, w2 = layers(rng, (2, 2, 2))
    a, b, turn = w1.T @ w1, w2 @ w2.T, np.array([[0.0, 1.0], [1.0, 0.0]])
    found = kernel_movement((w2 @ w1, a, b), (w2 @ w1, a + 1e-7 * turn, b))
    with mpmath.workdps(50):
        first = np.array([[mpmath.mpf(x) for x in row] for row in np.kron(np.eye(2), a) + np.kron(b, np.eye(2))])
        second = first + 1e-7 * np.kron(np.eye(2), turn)
        cosine = (first * second).sum() / mpmath.sqrt((first**2).sum() * (second**2).sum())
        expected = float(1 - cosine)
    # Rounding 1e-16 of the kernel, against a turn of 1e-7.
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert 0 < expected < 1e-14


def test_movement_over_times():
    rng = np.random.default_rng(1)
    paths = [seen(*layers(rng, (3, 2, 2))) for _ in range(4)]
    stacked = Solution(*(np.stack(blocks) for blocks in zip(*paths, strict=True)))
    found = movement(paths[0], stacked)
    assert found.shape == (4,) and found[0] < 1e-30
    np.testing.assert_allclose(found[2], movement(paths[0], paths[2]), rtol=1e-14)


def test_refusals_name_the_argument():
    with pytest.raises(ValueError, match=r"^weights must hold one layer or more"):
        tangent_kernel([], np.eye(2))
    with pytest.raises(ValueError, match=r"^weights\[1\] must be a matrix of shape \(any, 3\)"):
        tangent_kernel([np.ones((3, 2)), np.ones((2, 2))], np.eye(2))
    with pytest.raises(ValueError, match=r"^x must be a matrix of shape"):
        two_layer_kernel(seen(np.eye(2), np.eye(2)), np.ones((3, 4)))
