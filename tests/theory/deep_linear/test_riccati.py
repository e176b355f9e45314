"""The matrix Riccati flow: its equation, semigroup, saddles, hidden frame, limit, and tangents at repeated modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.deep_linear.riccati import Generator, audible, graded, merged, riccati_factor, riccati_limit

seeds = st.integers(0, 2**32 - 1)
# Any symmetric matrix: the tangents are told from F, never from its eigenvectors.
ANY = Generator(lambda f: f, jnp.linalg.eigh)
SIZE, HIDDEN = 4, 3

factor_at = jax.jit(lambda f, t, q: riccati_factor(ANY, f, t, q))
limit_of = jax.jit(lambda f, q: riccati_limit(ANY, f, q))


def flow(f, t, q):
    z = riccati_factor(ANY, f, t, q)[0]
    return z.T @ z


def end(f, q):
    z = riccati_limit(ANY, f, q)
    return z.T @ z


flow_at = jax.jit(flow)
slope_at = jax.jit(lambda p, dp: jax.jvp(flow, p, dp)[1])
end_at = jax.jit(end)
end_slope = jax.jit(lambda p, dp: jax.jvp(end, p, dp)[1])


def spectrum(rng):
    """Eigenvalues of both signs: apart, equal, equal but for rounding, or nearly so."""
    mu = rng.normal(size=SIZE)
    mu[1] = mu[0] + rng.choice([0.0, 1e-15, 1e-9, 1e-4, 0.3])
    mu[3] = rng.choice([mu[3], 0.0, mu[2]])
    return mu


def problem(seed):
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    q = 10 ** rng.uniform(-4, 0.3) * rng.normal(size=(HIDDEN, SIZE))
    return (frame * spectrum(rng)) @ frame.T, q


def slope_scale(f, p):
    return np.abs(f).max() * np.abs(p).max() + np.abs(p).max() ** 2


@given(seeds, st.floats(0, 8))
def test_the_riccati_equation(seed, t):
    f, q = problem(seed)
    p = np.asarray(flow_at(f, t, q))
    slope = slope_at((f, t, q), (0 * f, 1.0, 0 * q))
    np.testing.assert_allclose(slope, f @ p + p @ f - p @ p, rtol=0, atol=1e-12 * slope_scale(f, p))
    np.testing.assert_allclose(flow_at(f, 0.0, q), q.T @ q, rtol=0, atol=1e-14 * np.abs(q).max() ** 2)


@given(seeds, st.floats(0, 8), st.floats(0, 8))
def test_semigroup(seed, t1, t2):
    f, q = problem(seed)
    once = np.asarray(flow_at(f, t1 + t2, q))
    twice = flow_at(f, t2, factor_at(f, t1, q)[0])
    # What rounding in between adds is amplified by how much the modes still differ in growth.
    slack = 1e-14 * np.exp(np.ptp(np.linalg.eigvalsh(f)) * t2)
    np.testing.assert_allclose(twice, once, rtol=0, atol=min(1e-8, 100 * slack) * np.abs(once).max())


@given(seeds, st.floats(0, 8))
def test_hidden_directions(seed, t):
    f, q = problem(seed)
    z, hidden = factor_at(f, t, q)
    np.testing.assert_allclose(hidden.T @ hidden, np.eye(HIDDEN), atol=1e-13)
    z, hidden = factor_at(f, 0.0, q)
    np.testing.assert_allclose(hidden @ z, q, atol=1e-13 * np.abs(q).max())


@given(seeds)
def test_a_mode_that_is_absent_stays_absent(seed):
    rng = np.random.default_rng(seed)
    f, q = np.diag([2.0, 1.0, 0.5, -1.0]), rng.normal(size=(HIDDEN, SIZE))
    q[:, 0] = 0
    for t in (1.0, 30.0, 1e4):
        p = flow_at(f, t, q)
        assert np.all(p[0] == 0)
    np.testing.assert_allclose(end_at(f, q), np.diag([0, 2.0, 1.0, 0]), atol=1e-13)


@given(seeds)
def test_the_limit_is_the_largest_positive_modes(seed):
    f, q = problem(seed)
    p = np.asarray(end_at(f, q))
    np.testing.assert_allclose(p @ p, f @ p + p @ f, atol=1e-10 * slope_scale(f, p))
    mu = np.sort(np.linalg.eigvalsh(f))[::-1][:HIDDEN]
    np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(p))[::-1][:HIDDEN], np.maximum(2 * mu, 0), atol=1e-8)


def test_the_start_decides_which_part_of_a_repeated_mode_is_held():
    q = np.array([[0.3, 0.4, 0.0, 0.1]])
    p = end_at(np.diag([1.0, 1.0, 0.5, -1.0]), np.concatenate([q, 0 * q, 0 * q]))
    np.testing.assert_allclose(p[:2, :2], 2 * np.outer([0.6, 0.8], [0.6, 0.8]), atol=1e-14)


HARD = [
    (1.0, 1.0, 0.3, -0.5),
    (1.0, 1.0 - 1e-10, 0.0, 0.0),
    (1.0, 0.999, -0.3, -0.3),
    (0.0, 0.0, 0.0, 0.0),
    (1.0, 0.5, -0.2, -1.0),
]


@pytest.mark.parametrize("mu", HARD)
@pytest.mark.parametrize("t", [0.0, 0.3, 4.0, 12.0])
def test_tangents_at_repeated_modes(mu, t):
    rng = np.random.default_rng(2)
    frame = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    f, q = (frame * np.array(mu)) @ frame.T, 0.2 * rng.normal(size=(HIDDEN, SIZE))
    turn, shift = rng.normal(size=(SIZE, SIZE)), 0.2 * rng.normal(size=(HIDDEN, SIZE))
    turn = turn + turn.T
    found = slope_at((f, t, q), (turn, 0.3 * (t > 0), shift))

    def at(h):
        return flow_at(f + h * turn, t + 0.3 * (t > 0) * h, q + h * shift)

    def centred(h):
        return (at(h) - at(-h)) / (2 * h)

    # Richardson: h^4 times the fifth derivative, which grows as t^5, and rounding 1e-15 / h.
    h = 1e-3 / (1 + t)
    expected = (4 * centred(h) - centred(2 * h)) / 3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("mu", HARD)
def test_tangents_stay_finite(mu):
    q, one = 1e-6 * np.random.default_rng(3).normal(size=(HIDDEN, SIZE)), np.ones((SIZE, SIZE))
    for t in (0.0, 50.0, 1e4, 1e12):
        assert np.isfinite(slope_at((np.diag(mu), t, q), (one, 1.0, q))).all()
        assert np.isfinite(slope_at((np.diag(mu), t, 0 * q), (one, 1.0, q))).all()
    assert np.isfinite(end_slope((np.diag(mu), q), (one, q))).all()


def test_tangent_of_the_limit():
    rng = np.random.default_rng(4)
    f, q = np.diag([1.5, 0.7, 0.2, -1.0]), rng.normal(size=(HIDDEN, SIZE))
    turn = np.ones((SIZE, SIZE)) + np.diag([1.0, 2, 3, 4])
    found, h = end_slope((f, q), (turn, q)), 1e-4
    centred = [(end_at(f + x * turn, q + x * q) - end_at(f - x * turn, q - x * q)) / (2 * x) for x in (h, 2 * h)]
    np.testing.assert_allclose(found, (4 * centred[0] - centred[1]) / 3, atol=1e-9)


@settings(max_examples=10)
@given(seeds)
def test_times_in_steps(seed):
    f, q = problem(seed)
    times = np.array([0.5, 0.7, 40.0, 41.0])
    many = factor_at(f, times, q)[0]
    for z, t in zip(many, times, strict=True):
        alone = np.asarray(flow_at(f, t, q))
        np.testing.assert_allclose(z.T @ z, alone, rtol=0, atol=1e-9 * np.abs(alone).max())


def test_gram_schmidt_takes_the_loudest_first_and_leaves_out_rounding():
    q = np.array([[1.0, 2.0, 1e-17], [0.0, 1.0, 1.0]])
    upper, pivots, _, hidden = graded(jnp.asarray(q), jnp.array([0.0, 5.0, 1.0]))
    assert list(pivots) == [1, 2]
    np.testing.assert_allclose(hidden @ upper, q, atol=1e-15)
    np.testing.assert_allclose(np.abs(upper[1, 1]), 0, atol=0)
    assert np.all(audible(jnp.array([[1.0, 1e-17, 0.1]])) == jnp.array([[1.0, 0.0, 0.1]]))
    np.testing.assert_array_equal(merged(jnp.array([1.0, 0.5, 1.0 + 2e-16, -1.0]))[jnp.array([0, 2])], [1.0, 1.0])
