"""Measures of a landscape: symmetries, signs, and the two landscapes on which they are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich import landscape
from theory.lazy_rich.landscape import REGIMES, barrier, mode_connectivity, quadratic_connectivity, regime

seeds = st.integers(0, 2**32 - 1)
t = np.linspace(0, 1, 101)


@given(seeds, st.floats(-3, 3))
def test_connectivity_is_the_largest_deviation_from_the_mean_of_the_ends(seed, shift):
    losses = np.random.default_rng(seed).normal(size=(3, 11))
    deviation = (losses[:, :1] + losses[:, -1:]) / 2 - losses
    expected = deviation[np.arange(3), np.abs(deviation).argmax(axis=1)]
    inner = np.abs(deviation).argmax(axis=1) % 10 != 0
    found = mode_connectivity(losses)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-12)
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-12)
    np.testing.assert_array_equal(mode_connectivity(losses[:, ::-1]), found)
    np.testing.assert_allclose(mode_connectivity(losses + shift), found, atol=1e-13)
    np.testing.assert_allclose(barrier(losses[:, ::-1]), barrier(losses), atol=1e-14)


def test_signs_and_paths_without_a_bump():
    bump = np.sin(np.pi * t)
    np.testing.assert_allclose([mode_connectivity(bump), barrier(bump)], [-1, 1], rtol=1e-15)
    np.testing.assert_allclose([mode_connectivity(-bump), barrier(-bump)], [1, 0], rtol=1e-15)
    assert mode_connectivity(np.full(5, 0.7)) == 0 == barrier(np.full(5, 0.7))
    # A slope is no barrier; of equal deviations the positive one counts.
    assert mode_connectivity(3 * t) == 1.5 == mode_connectivity(3 * t[::-1])
    np.testing.assert_allclose(barrier(3 * t), 0, atol=1e-14)
    np.testing.assert_allclose(barrier(3 * t + bump), 1, rtol=1e-12)


@given(seeds, st.booleans())
def test_quadratic_landscape(seed, convex):
    rng = np.random.default_rng(seed)
    factor, first, second = rng.normal(size=(3, 3)), *rng.normal(size=(2, 3))
    hessian = factor @ factor.T if convex else factor + factor.T
    points = (1 - t[:, None]) * first + t[:, None] * second
    losses = 0.5 * np.einsum("ti,ij,tj->t", points, hessian, points)
    found, sampled = quadratic_connectivity(hessian, first, second), mode_connectivity(losses)
    curvature = (second - first) @ hessian @ (second - first)
    # Off the grid by half a cell at most, where the deviation is flat.
    np.testing.assert_allclose(sampled, found, rtol=1e-12, atol=abs(curvature) / 8 * 0.01**2 + 1e-13)
    assert not convex or found >= 0
    np.testing.assert_allclose(quadratic_connectivity(hessian, second, first), found, rtol=1e-9, atol=1e-13)
    assert quadratic_connectivity(hessian, first, first) == 0
    # Mirror images through the minimum have one loss: d^T H d / 8 exactly.
    mirrored = quadratic_connectivity(hessian, first, -first)
    np.testing.assert_allclose(mirrored, first @ hessian @ first / 2, rtol=1e-12)
    convex_barrier = barrier(losses)
    np.testing.assert_allclose(convex_barrier, max(0.0, -curvature / 8), rtol=1e-3, atol=1e-12)


def test_a_flat_path_has_finite_gradients():
    slopes = jax.grad(landscape.parabola_connectivity, argnums=(0, 1))
    assert np.isfinite(np.asarray([slopes(0.0, 0.0), slopes(0.0, 1.0), slopes(2.0, 1.0), slopes(-1e-9, 0.0)])).all()


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.booleans(), st.floats(-2, 2))
def test_scalar_network(a, b, flip, m):
    b = -b if flip else b
    w1, w2 = (1 - t) * a + t * b, (1 - t) * m / a + t * m / b
    found = landscape.scalar_network_connectivity(a, b, m)
    np.testing.assert_allclose(mode_connectivity((m - w1 * w2) ** 2 / 2), found, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(landscape.scalar_network_connectivity(a, -a, m), -(m**2) / 2, rtol=1e-12)
    np.testing.assert_allclose(landscape.scalar_network_connectivity(3 * a, 3 * b, m), found, rtol=1e-10, atol=1e-14)
    assert landscape.scalar_network_connectivity(a, a, m) == 0 and found <= 0


@given(seeds)
def test_similarity_does_not_see_shift_rotation_and_scale(seed):
    rng = np.random.default_rng(seed)
    f, g = rng.normal(size=(2, 6, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found = landscape.output_similarity(f, g)
    np.testing.assert_allclose(landscape.output_similarity(2 * f @ turn + rng.normal(size=3), g), found, rtol=1e-9)
    np.testing.assert_allclose(landscape.output_similarity(g, f), found, rtol=1e-12)
    np.testing.assert_allclose(landscape.output_similarity(f, f @ turn), 1, rtol=1e-12)
    # The linear CKA by cross-covariances.
    f, g = f - f.mean(axis=0), g - g.mean(axis=0)
    expected = np.sum((f.T @ g) ** 2) / np.linalg.norm(f.T @ f) / np.linalg.norm(g.T @ g)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_regimes():
    found = regime(np.array([-0.5, -0.5, 0.0, 0.0, 0.3]), np.array([0.99, 0.2, 0.2, 0.99, 0.95]))
    assert [REGIMES[i] for i in found] == [REGIMES[0], REGIMES[0], REGIMES[1], REGIMES[2], REGIMES[2]]
    assert regime(-0.05, 0.9) == 1 and regime(-0.051, 0.9) == 0
    assert regime(-0.5, 0.9, least_connectivity=-1.0, least_similarity=0.8) == 2
    assert jax.jit(regime)(jnp.zeros(2), jnp.ones(2)).shape == (2,)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mode_connectivity(np.ones(2)), "losses must hold three points"),
        (lambda: barrier(np.array([1.0, np.nan, 2.0])), "losses must be finite, got nan"),
        (lambda: landscape.output_similarity(np.ones((3, 2)), np.ones((4, 2))), "other must have as many samples"),
        (lambda: regime(0.0, 1.2), "similarity must lie between 0 and 1"),
        (lambda: regime(0.0, 0.5, least_connectivity=0.1), "minus least_connectivity must be non-negative"),
        (lambda: quadratic_connectivity(np.eye(2), np.ones(3), np.ones(2)), r"first must have shape \(2,\)"),
        (lambda: quadratic_connectivity(np.triu(np.ones((2, 2))), np.ones(2), np.ones(2)), "hessian must be symmetric"),
        (lambda: landscape.scalar_network_connectivity(0.0, 1.0), "first must not be zero, got 0.0"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
