"""Initial rank: means over targets by sampling, limits, exceptions, any scale against the network itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.initial_rank import (
    alignment_deviation,
    expected_alignment,
    kernel_map,
    learned_kernel_map,
    small_start_alignment,
    two_layer_alignment,
)
from theory.lazy_rich.laziness import alignment, effective_rank

seeds = st.integers(0, 2**32 - 1)
D, H, P = 5, 7, 9


def low_rank(rng, rank, d=D):
    return rng.normal(size=(H, rank)) @ rng.normal(size=(rank, d))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_mean_and_spread_over_targets(rank):
    rng = np.random.default_rng(rank)
    start = kernel_map(low_rank(rng, rank), np.zeros(H))
    targets = rng.normal(size=(4000, D))
    found = np.asarray(jax.vmap(lambda beta: small_start_alignment(start, beta))(targets))
    ratio = effective_rank(start)
    spread = alignment_deviation(ratio, D)
    np.testing.assert_allclose(found.mean(), expected_alignment(ratio, D), atol=5 * spread / np.sqrt(4000))
    # A variance of 4000 numbers with light tails is known to sqrt(2/4000) or so.
    np.testing.assert_allclose(found.std(), spread, rtol=0.1)


def test_rank_one_full_rank_and_the_aligned_exception():
    beta = np.arange(1.0, D + 1)
    unit = beta / np.linalg.norm(beta)
    aligned = kernel_map(np.outer(np.ones(H), unit), np.zeros(H))
    np.testing.assert_allclose(small_start_alignment(aligned, beta), 2 / np.sqrt(D + 3), rtol=1e-12)
    balanced = kernel_map(np.outer(np.ones(H), unit), np.ones(H))
    np.testing.assert_allclose(small_start_alignment(balanced, beta), 1, rtol=1e-12)
    np.testing.assert_allclose(small_start_alignment(np.eye(D), beta), expected_alignment(D, D), rtol=1e-12)
    assert alignment_deviation(float(D), D) == 0
    ranks = np.linspace(1, D, 9)
    assert (np.diff(expected_alignment(ranks, D)) > 0).all() and (np.diff(alignment_deviation(ranks, D)) < 0).all()


@given(seeds, st.floats(1e-3, 1e3))
def test_scale_and_rotation_do_not_count(seed, scale):
    rng = np.random.default_rng(seed)
    start, beta, x = kernel_map(low_rank(rng, 2), rng.normal(size=H)), rng.normal(size=D), rng.normal(size=(P, D))
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    found = small_start_alignment(start, beta, x)
    np.testing.assert_allclose(small_start_alignment(scale * start, scale * beta, x), found, rtol=1e-10)
    np.testing.assert_allclose(small_start_alignment(turn.T @ start @ turn, beta @ turn, x @ turn), found, rtol=1e-9)
    white = np.linalg.qr(rng.normal(size=(P, D)))[0]
    np.testing.assert_allclose(small_start_alignment(start, beta, white), small_start_alignment(start, beta), rtol=1e-9)


@pytest.mark.slow
@given(seeds, st.floats(0.1, 2))
def test_any_scale_is_that_of_the_network(seed, scale):
    rng = np.random.default_rng(seed)
    w1, w2 = scale * low_rank(rng, 2) / 4, scale * rng.normal(size=H) / 4
    x, y = rng.normal(size=(P, D)), rng.normal(size=P)
    t = np.array([0.0, 0.3, 1.0])
    found = two_layer_alignment(t, x, y, w1, w2)
    np.testing.assert_allclose(found[0], 1, rtol=1e-12)
    loss = lambda w: jnp.mean((x @ w[0].T @ w[1] - y) ** 2) / 2  # noqa: E731

    def kernel(w):
        return x @ kernel_map(*w) @ x.T

    def at(time, steps):
        step = lambda _, w: jax.tree.map(lambda v, g: v - time / steps * g, w, jax.grad(loss)(w))  # noqa: E731
        end = jax.lax.fori_loop(0, steps, step, (jnp.asarray(w1), jnp.asarray(w2)))
        return alignment(kernel(end), kernel((jnp.asarray(w1), jnp.asarray(w2))))

    coarse, fine = at(1.0, 500), at(1.0, 1000)
    # Richardson's extrapolation of the step's leading error; what is left is of its second order.
    np.testing.assert_allclose(2 * fine - coarse, found[2], atol=5 * abs(fine - coarse) * 0.05 + 1e-6)


def test_a_small_start_ends_where_the_formula_says():
    rng = np.random.default_rng(4)
    x, beta = np.linalg.qr(rng.normal(size=(P, D)))[0] * np.sqrt(P), rng.normal(size=D)
    gaps = []
    for size in (1e-2, 1e-3):
        w1 = size * low_rank(rng, 2) / H
        end = two_layer_alignment(np.array([60.0]), x, x @ beta, w1, np.zeros(H))[0]
        gaps.append(abs(end - small_start_alignment(kernel_map(w1, np.zeros(H)), beta)))
    # Corrections are of the order of the start's squared norm.
    assert gaps[0] < 1e-4 and gaps[1] < 2e-6


def test_a_large_start_of_rank_one_stays_at_its_saddle():
    """A moment equation leaves it far too early: its rounding acts as neurons that are not there."""
    rng = np.random.default_rng(0)
    x, beta = np.linalg.qr(rng.normal(size=(P, D)))[0] * np.sqrt(P), rng.normal(size=D)
    beta /= np.linalg.norm(beta)
    w1 = low_rank(rng, 1)
    w1 *= 4 / np.linalg.norm(w1)
    found = two_layer_alignment(np.array([10.0, 20.0]), x, x @ beta, w1, np.zeros(H))
    loss = lambda w: jnp.mean((x @ (w[0].T @ w[1] - beta)) ** 2) / 2  # noqa: E731
    step = lambda _, w: jax.tree.map(lambda v, g: v - 2e-3 * g, w, jax.grad(loss)(w))  # noqa: E731
    end = jax.lax.fori_loop(0, 5000, step, (jnp.asarray(w1), jnp.zeros(H)))
    expected = alignment(x @ kernel_map(*end) @ x.T, x @ kernel_map(w1, np.zeros(H)) @ x.T)
    np.testing.assert_allclose(found[0], expected, rtol=2e-2)


def test_the_learned_map_by_hand():
    np.testing.assert_allclose(learned_kernel_map(np.array([3.0, 4.0])), [[6.8, 2.4], [2.4, 8.2]], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_alignment(0.5, 3), "rank must lie between"),
        (lambda: expected_alignment(2.0, 0), "inputs must be a whole number"),
        (lambda: learned_kernel_map(np.zeros(3)), "beta must not be zero"),
        (lambda: small_start_alignment(np.eye(3), np.ones(2)), "beta must be a vector of length 3"),
        (lambda: kernel_map(np.ones((2, 3)), np.array([1.0, np.nan])), "w2 must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
