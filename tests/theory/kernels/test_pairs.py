"""Gaussian pairs: angles and sums keep their digits where covariances lose them, against 60-digit arithmetic."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.pairs import Pair, add, angle, arc, arctangent, pair, pairs_of_inputs, polar, root

seeds = st.integers(0, 2**32 - 1)
exponents = st.floats(-30, 0)
EPS = np.finfo(float).eps

between = jax.jit(lambda x, y: pairs_of_inputs(polar(x), polar(y)))


def exact(x, y):
    """cos, sin^2 and cos^2 of half the angle between two vectors of floating numbers, at 60 digits."""
    with mpmath.workdps(60):
        x, y = ([mpmath.mpf(float(v)) for v in z] for z in (x, y))
        size = mpmath.sqrt(mpmath.fsum(v * v for v in x) * mpmath.fsum(v * v for v in y))
        cosine = mpmath.fsum(v * w for v, w in zip(x, y, strict=True)) / size
        return cosine, (1 - cosine) / 2, (1 + cosine) / 2


@given(seeds, st.sampled_from([1.0, -1.0]), st.floats(-14, 0), st.sampled_from([1.0, 0.999, 1.3]))
def test_inputs_at_any_distance_keep_their_angle(seed, side, distance, length):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=5)
    y = side * length * (x + 10.0**distance * rng.normal(size=5))
    found = between(x[None], y[None])
    cosine, h, g = exact(x, y)
    # The angle is right to a rounding of the direction of x; from 1e-4 on that is relative precision, too.
    small, value = (h, found.h) if h < g else (g, found.g)
    assert abs(mpmath.sqrt(small) - mpmath.sqrt(mpmath.mpf(float(value[0, 0])))) < 4 * EPS
    assert abs(float(found.rho[0, 0]) - cosine) < 4 * EPS


def test_duplicates_opposites_and_zeros():
    x = np.random.default_rng(0).normal(size=(3, 4))
    found = between(x, np.stack([x[0], -x[1], 0 * x[2]]))
    assert found.h[0, 0] == 0 and found.g[1, 1] == 0
    np.testing.assert_array_equal(found.rho[:, 2], 0)
    np.testing.assert_allclose(np.array([found.rho[0, 0], -found.rho[1, 1]]), 1, rtol=2 * EPS)
    assert np.isfinite(jnp.stack(jnp.broadcast_arrays(*found))).all()


@given(exponents)
def test_small_angles(exponent):
    h = np.asarray([10.0**exponent / 2])
    found = arc(h, 1 - h)
    with mpmath.workdps(120):
        exact_angle = 2 * mpmath.asin(mpmath.sqrt(mpmath.mpf(float(h[0]))))
        exact_lens = mpmath.sin(exact_angle) - exact_angle * mpmath.cos(exact_angle)
        assert abs(float(found.angle[0]) / exact_angle - 1) < 4 * EPS
        assert abs(float(found.lens[0]) / exact_lens - 1) < 6 * EPS
    np.testing.assert_allclose(angle(1 - h, h), np.pi - found.angle, rtol=8 * EPS)


@given(st.floats(-1, 1), st.floats(1e-3, 1e3))
def test_arctangent(cosine, size):
    x, y = cosine * size, np.sqrt(1 - cosine**2) * size
    found = arctangent(*(jnp.asarray(v) for v in (y, x, x * x + y * y)))
    np.testing.assert_allclose(found, np.arctan2(x, y), rtol=8 * EPS)


def test_float32_polynomials():
    h = jnp.logspace(-20, np.log10(0.5), 200, dtype=jnp.float32)
    found = arc(h, jnp.ones_like(h))
    wide = 2 * np.arcsin(np.sqrt(np.asarray(h, float)))
    assert found.angle.dtype == jnp.float32
    np.testing.assert_allclose(found.angle, wide, rtol=3 * np.finfo(np.float32).eps)


@given(seeds, exponents, exponents)
def test_a_sum_of_pairs_is_the_pair_of_sums(seed, first, second):
    q = np.exp(np.random.default_rng(seed).normal(size=4, scale=3))
    with mpmath.workdps(80):
        halves = [mpmath.mpf(10.0**e) / 2 for e in (first, second)]
        a1, a2, b1, b2 = map(mpmath.mpf, q)
        c = mpmath.sqrt(a1 * a2) * (1 - 2 * halves[0]) + mpmath.sqrt(b1 * b2) * (1 - 2 * halves[1])
        expected = (1 - c / mpmath.sqrt((a1 + b1) * (a2 + b2))) / 2
    parts = [
        Pair(*map(jnp.asarray, (q[i], q[i + 1], 1 - 2 * float(h), float(h), 1 - float(h))))
        for i, h in zip((0, 2), halves, strict=True)
    ]
    found = add(*parts)
    # Rounded square roots are subtracted: the angle keeps its digits, as of the inputs.
    assert abs(mpmath.sqrt(float(found.h)) - mpmath.sqrt(expected)) < 8 * EPS
    np.testing.assert_allclose(found.h + found.g, 1, rtol=4 * EPS)
    np.testing.assert_allclose(
        found.covariance, sum(p.covariance for p in parts), rtol=1e-12, atol=4 * EPS * float(found.size)
    )


def test_derivatives_where_the_angle_vanishes():
    def size(h):
        return arc(h, 1 - h).lens

    assert jax.grad(size)(jnp.zeros(())) == 0
    assert jax.grad(lambda q: root(q))(jnp.zeros(())) == 0
    # At a right angle the two branches meet: the derivative is theirs, not their mean.
    np.testing.assert_allclose(jax.grad(lambda c: angle(*pair(1.0, 1.0, c)[3:]))(jnp.zeros(())), -1, rtol=1e-14)


def test_determinant_and_covariance():
    p = pair(*(jnp.asarray(x) for x in (1.3, 0.7, 0.4)))
    np.testing.assert_allclose(p.covariance, 0.4, rtol=4 * EPS)
    np.testing.assert_allclose(p.determinant, 1.3 * 0.7 - 0.16, rtol=8 * EPS)
    assert pair(*(jnp.asarray(x) for x in (0.0, 0.7, 0.0))).covariance == 0


@pytest.mark.parametrize("rows", [1, 5])
def test_a_pair_of_sets_has_rows_and_columns(rows):
    x, y = np.ones((rows, 3)), np.ones((2, 3))
    found = between(x, y)
    assert found.h.shape == (rows, 2) and found.q1.shape == (rows, 1) and found.q2.shape == (1, 2)
