"""Lambda-balanced starts: balance and product for any widths, the sharing of a mode, Haar rotations, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.balanced_start import balanced_start, layer_strengths, random_rotation
from theory.deep_linear.matrix import relative_scale

seeds = st.integers(0, 2**32 - 1)
# (n_in, hidden, n_out) and the signs of lam that leave room.
SHAPES = [((4, 3, 2), -1), ((2, 5, 3), 0), ((2, 3, 4), 1), ((2, 3, 4), 0)]


start = jax.jit(balanced_start)
shared = jax.jit(layer_strengths)


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


@given(st.sampled_from(SHAPES), seeds, st.floats(0, 50))
def test_balance_and_product(case, seed, scale):
    (n_in, hidden, n_out), sign = case
    rng = np.random.default_rng(seed)
    left, right, inner = (rotation(rng, n) for n in (n_out, n_in, hidden))
    k, lam = min(n_in, hidden, n_out), sign * scale
    s = rng.uniform(0, 3, k) * rng.choice([0, 1], k)
    w1, w2 = (np.asarray(w) for w in start(s, lam, left, right, inner))
    # Rounding of weights that are at most sqrt(|lam| + s).
    slack = 1e-14 * (3 + abs(lam))
    np.testing.assert_allclose(w2.T @ w2 - w1 @ w1.T, lam * np.eye(hidden), atol=slack)
    np.testing.assert_allclose(w2 @ w1, left[:, :k] * s @ right[:, :k].T, atol=slack)
    np.testing.assert_allclose(relative_scale(w1, w2), lam, atol=slack)


@given(st.floats(-300, 2), st.floats(-50, 50))
def test_a_mode_is_shared_without_cancellation(exponent, lam):
    s = 10.0**exponent
    a, b = shared(s, lam)
    np.testing.assert_allclose(a * b, s, rtol=1e-14)
    np.testing.assert_allclose(b**2 - a**2, lam, atol=1e-14 * (abs(lam) + s))
    # The other sign of lam swaps the layers.
    np.testing.assert_allclose(shared(s, -lam)[::-1], (a, b), rtol=1e-15)


def test_sharing_at_the_corners():
    np.testing.assert_array_equal(layer_strengths(0.0, 0.0), (0, 0))
    np.testing.assert_array_equal(layer_strengths(0.0, 4.0), (0, 2))
    np.testing.assert_array_equal(layer_strengths(0.0, -4.0), (2, 0))
    np.testing.assert_array_equal(layer_strengths(9.0, 0.0), (3, 3))
    slope = jax.jacfwd(lambda s, lam: jnp.stack(layer_strengths(s, lam)), argnums=(0, 1))
    for point in ((0.0, 0.0), (0.0, 1.0), (0.0, -1.0), (1.0, 0.0)):
        assert np.isfinite(slope(*point)).all()
    # a = s / sqrt(lam) at small s.
    np.testing.assert_allclose(slope(0.0, 4.0), ([0.5, 0], [0, 0.25]))


def test_rotations_are_drawn_from_the_haar_measure():
    draws, n = 4000, 3
    turns = np.asarray(jax.vmap(lambda key: random_rotation(key, n))(jax.random.split(jax.random.key(0), draws)))
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.tile(np.eye(n), (draws, 1, 1)), atol=1e-13)
    # Moments of an entry: 0, 1/n, 3/(n (n + 2)); five standard errors.
    for power, moment in ((1, 0), (2, 1 / n), (4, 3 / (n * (n + 2)))):
        values = turns**power
        assert np.all(np.abs(values.mean(axis=0) - moment) < 5 * values.std(axis=0) / np.sqrt(draws))
    # Both orientations, alike often.
    assert abs(np.linalg.det(turns).mean()) < 5 / np.sqrt(draws)


ONE = np.eye(2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((np.ones(2), 1.0, 2 * ONE, ONE, ONE), "the deviation of left from an orthogonal matrix must vanish"),
        ((-np.ones(2), 1.0, ONE, ONE, ONE), "s must be non-negative"),
        ((np.ones(1), 1.0, ONE, ONE, ONE), r"s must hold min\(n_in, h, n_out\) = 2 singular values"),
        ((np.ones(2), 1.0, ONE, ONE, np.eye(3)), "lam must not be positive with 3 hidden units and 2 outputs"),
        ((np.ones(2), -1.0, np.eye(3), ONE, np.eye(3)), "lam must not be negative with 3 hidden units and 2 inputs"),
        ((np.ones(2), np.nan, ONE, ONE, ONE), "lam must be finite"),
    ],
)
def test_refusals_name_the_argument(arguments, sentence):
    with pytest.raises(ValueError, match=rf"^{sentence}"):
        balanced_start(*arguments)


def test_refusals_inside_jit():
    with pytest.raises(Exception, match="left must be orthogonal"):
        jax.jit(balanced_start)(np.ones(2), 1.0, 2 * ONE, ONE, ONE).w2.block_until_ready()
    with pytest.raises(ValueError, match="n must be a whole number"):
        random_rotation(jax.random.key(0), 0)
