"""Data correlations: samples against correlations, when modes are shared, symmetries, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.correlations import (
    correlations,
    input_output_modes,
    noncommutation,
    projected_strengths,
    training_loss,
)

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(4, 3), (3, 4)])


def data(seed, n_in=4, n_out=3, samples=9):
    random = np.random.default_rng(seed)
    return random.normal(size=(n_in, samples)) + 0.3, random.normal(size=(n_out, samples))


def turned(seed, n):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


@given(seeds, shapes)
def test_loss_is_that_of_the_samples(seed, shape):
    x, y = data(seed, *shape)
    w = np.random.default_rng(seed + 1).normal(size=shape[::-1])
    c = correlations(x, y)
    exact = 0.5 * np.mean(np.sum((y - w @ x) ** 2, axis=0))
    np.testing.assert_allclose(training_loss(w, c.sxx, c.syx, c.syy), exact, rtol=1e-12)
    slope = jax.grad(training_loss)(w, c.sxx, c.syx, c.syy)
    np.testing.assert_allclose(slope, -(y - w @ x) @ x.T / x.shape[1], rtol=0, atol=1e-12 * (1 + np.abs(slope).max()))


@given(seeds, shapes)
def test_modes_rebuild_the_correlation(seed, shape):
    c = correlations(*data(seed, *shape))
    modes = input_output_modes(c.sxx, c.syx)
    np.testing.assert_allclose((modes.left * modes.s) @ modes.right.T, c.syx, rtol=0, atol=1e-13)
    assert (np.diff(modes.s) <= 0).all()
    np.testing.assert_allclose(projected_strengths(c.syx, modes.left, modes.right), modes.s, rtol=0, atol=1e-13)
    for i, v in enumerate(np.asarray(modes.right).T):
        image = np.asarray(c.sxx) @ v
        cosine = v @ image / np.linalg.norm(image)
        np.testing.assert_allclose(modes.lam[i], v @ image, rtol=1e-12)
        np.testing.assert_allclose(modes.mixing[i] ** 2 + cosine**2, 1, rtol=1e-12)


@given(seeds, shapes, st.floats(0.1, 10))
def test_noncommutation_does_not_depend_on_axes_or_units(seed, shape, unit):
    c = correlations(*data(seed, *shape))
    into, out = turned(seed, shape[0]), turned(seed + 1, shape[1])
    base = noncommutation(c.sxx, c.syx)
    found = noncommutation(unit**2 * into @ c.sxx @ into.T, unit * out @ c.syx @ into.T)
    np.testing.assert_allclose(found, base, rtol=1e-10)
    assert base > 0


@given(seeds, st.booleans())
def test_shared_vectors_are_seen(seed, repeated):
    left, right = turned(seed, 3), turned(seed + 1, 4)
    s = np.array([2.0, 1.0, 1.0]) if repeated else np.array([2.0, 1.0, 0.5])
    sxx = right @ np.diag([0.5, 3.0, 3.0 if repeated else 1.0, 0.1]) @ right.T
    syx = left @ np.diag(s) @ right[:, :3].T
    assert noncommutation(sxx, syx) < 1e-14
    np.testing.assert_allclose(input_output_modes(sxx, syx).mixing, 0, atol=1e-13)


def test_projectors_at_half_a_right_angle():
    np.testing.assert_allclose(noncommutation(np.diag([1.0, 0.0]), np.array([[1.0, 1.0]])), 1 / np.sqrt(2), rtol=1e-15)


@pytest.mark.parametrize("syx", [np.diag([2.0, 1.0]), np.zeros((2, 2)), np.eye(2)])
def test_derivatives_are_finite_on_white_data(syx):
    assert np.isfinite(jax.grad(noncommutation, (0, 1))(jnp.eye(2), jnp.asarray(syx))).all()
    slope = jax.grad(lambda sxx: input_output_modes(sxx, syx).mixing.sum())(jnp.eye(2))
    assert np.isfinite(slope).all()
    assert np.isfinite(jax.grad(noncommutation, (0, 1))(jnp.zeros((2, 2)), jnp.asarray(syx))).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: correlations(np.full((2, 3), np.nan), np.ones((2, 3))), "x must be finite"),
        (lambda: correlations(np.ones((2, 0)), np.ones((2, 0))), "y must have one column"),
        (lambda: input_output_modes(np.full((2, 2), np.inf), np.ones((2, 2))), "sxx must be finite"),
        (lambda: training_loss(np.full((1, 2), np.nan), np.eye(2), np.ones((1, 2)), np.eye(1)), "w must be finite"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
