"""Items of a tree: spectrum against the dense matrix, moments against all flips, sampled tables, stages, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sims.tasks.hierarchy import tree_table
from theory.deep_linear.hierarchy import (
    level_learning_time,
    level_power_moments,
    level_singular_values,
    sampled_spectrum,
    stage_ratio,
    tree_contrasts,
    tree_multiplicities,
    tree_similarity,
    tree_spectrum,
)
from theory.deep_linear.modes import mode_strength

TREES = [(2, 2, 2), (3, 1, 4), (1,), (2, 3), (5,), (2, 1, 2, 2)]
flips = st.floats(0.0, 0.5)


def dense(branching, eps):
    """Similarity of leaves written out: (1 - 2 eps) for each edge of the path between them."""
    leaves = list(itertools.product(*map(range, branching)))
    shared = [
        [next((k for k, (i, j) in enumerate(zip(a, b, strict=True)) if i != j), len(a)) for b in leaves] for a in leaves
    ]
    return (1 - 2 * eps) ** (2 * (len(branching) - np.array(shared)))


@pytest.mark.parametrize("branching", TREES)
def test_contrasts_diagonalise_the_similarity(branching):
    c, n = np.asarray(tree_contrasts(branching)), tree_multiplicities(branching)
    assert sum(n) == np.prod(branching)
    np.testing.assert_allclose(c.T @ c, np.eye(len(c)), atol=1e-14)
    for eps in (0.0, 1e-3, 0.1, 0.5):
        sigma, mu = dense(branching, eps), tree_spectrum(branching, eps)
        np.testing.assert_allclose(tree_similarity(branching, eps), sigma, atol=1e-15)
        np.testing.assert_allclose(sigma @ c, c * np.repeat(mu, n), atol=1e-13)
        assert (np.diff(mu) <= 1e-15).all()


def test_known_values():
    # Reference: eigenvalues of the dense matrix.
    np.testing.assert_allclose(tree_spectrum((2, 2, 2), 0.1), [3.507776, 1.410624, 0.8208, 0.36], rtol=1e-14)
    assert tree_multiplicities((2, 2, 2)) == (1, 1, 2, 4)


@given(st.sampled_from(TREES), flips)
def test_trace_is_the_number_of_items(branching, eps):
    trace = np.dot(tree_multiplicities(branching), tree_spectrum(branching, eps))
    np.testing.assert_allclose(trace, np.prod(branching), rtol=1e-13)


def all_flips(branching, eps):
    """(probability, property values) over every pattern of flips."""
    leaves = list(itertools.product(*map(range, branching)))
    edges = sorted({leaf[: k + 1] for leaf in leaves for k in range(len(branching))})
    for pattern in itertools.product((1, -1), repeat=len(edges)):
        flip = dict(zip(edges, pattern, strict=True))
        chance = np.prod([1 - eps if z == 1 else eps for z in pattern])
        yield chance, np.array([np.prod([flip[leaf[: k + 1]] for k in range(len(branching))]) for leaf in leaves])


@pytest.mark.parametrize("branching", [(2, 3), (3, 2), (2, 1, 2), (4,)])
def test_power_moments_against_all_flips(branching):
    c, levels = (
        np.asarray(tree_contrasts(branching)),
        np.repeat(np.arange(len(branching) + 1), tree_multiplicities(branching)),
    )
    expected = 0.0
    for chance, y in all_flips(branching, 0.13):
        power = np.array([np.sum((c[:, levels == k].T @ y) ** 2) for k in range(len(branching) + 1)])
        expected = expected + chance * np.outer(power, power)
    np.testing.assert_allclose(level_power_moments(branching, 0.13), expected, rtol=1e-12, atol=1e-12)


def test_sampled_spectrum_against_sampled_tables():
    branching, eps, properties, tables = (3, 2), 0.1, 100, 4000
    levels = np.repeat(np.arange(3), tree_multiplicities(branching))
    draws = jax.jit(jax.vmap(lambda key: tree_table(key, branching, eps, properties)))
    y = np.asarray(draws(jax.random.split(jax.random.key(3), tables)))
    eigenvalues = np.linalg.eigvalsh(np.swapaxes(y, 1, 2) @ y / properties)[:, ::-1]
    found = np.stack([eigenvalues[:, levels == k].mean(1) for k in range(3)], 1)
    theory = sampled_spectrum(branching, eps, properties)
    mu = tree_spectrum(branching, eps)
    # Five standard errors of the mean, and the next order: the relative scatter, a tenth, of the correction.
    error = 5 * np.asarray(theory.deviation) / np.sqrt(tables) + 0.1 * np.abs(theory.mean - mu)
    assert (np.abs(found.mean(0) - theory.mean) < error).all()
    # Five standard errors, 1 / sqrt(2 tables) each, and a few percent of the next order.
    np.testing.assert_allclose(found.std(0), theory.deviation, rtol=0.08)
    scatter = [np.sqrt(np.mean((eigenvalues[:, levels == k] - mu[k]) ** 2)) for k in range(3)]
    np.testing.assert_allclose(scatter, theory.scatter, rtol=0.08)
    # The correction is there, and is seen.
    assert abs(found.mean(0)[2] - mu[2]) > 2 * error[2]


@given(flips, st.floats(1.0, 1e4))
def test_singular_values_square_to_the_spectrum(eps, properties):
    s = level_singular_values((2, 3), eps, properties)
    np.testing.assert_allclose(s**2 / properties, tree_spectrum((2, 3), eps), rtol=1e-13, atol=1e-300)


@given(st.floats(0.3, 0.99), st.floats(0.5, 50), st.floats(-8, -1), st.floats(0.01, 1))
def test_learning_time_is_where_the_mode_is(fraction, s, exponent, lam):
    t = level_learning_time(fraction, s, 10.0**exponent, lam)
    # The mode runs on the base clock: Syx = lam Y, Sxx = lam I.
    np.testing.assert_allclose(mode_strength(t, lam * s, 10.0**exponent, lam), fraction * s, rtol=1e-11)


def test_learning_time_at_the_edges():
    assert level_learning_time(0.5, 1.0, 0.6) == 0.0
    assert level_learning_time(0.5, 0.0, 0.1) == np.inf
    for s in (0.0, 0.1, 0.2, 3.0):
        assert np.isfinite(jax.grad(level_learning_time, argnums=(0, 1, 2, 3))(0.5, s, 0.1, 1.0)).all()


@given(st.floats(0.5, 50), st.floats(-8, -1), st.floats(0.01, 0.4))
def test_stage_ratio_is_half_time_over_width(s, exponent, edge):
    u0 = min(10.0**exponent, 0.9 * edge * s)
    half, low, high = (level_learning_time(f, s, u0) for f in (0.5, edge, 1 - edge))
    np.testing.assert_allclose(stage_ratio(s, u0, edge), half / (high - low), rtol=1e-10)


@pytest.mark.parametrize("eps", [0.0, 1e-12, 0.25, 0.5])
def test_gradients_are_finite(eps):
    for function in (tree_spectrum, tree_similarity, level_power_moments):
        assert np.isfinite(jax.jacobian(lambda e, f=function: f((2, 2), e))(eps)).all()


def test_float32_runs():
    assert tree_spectrum((2, 2), jnp.float32(0.1)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tree_spectrum((2, 2), 0.6), "eps must lie between 0 and 0.5, got 0.6"),
        (lambda: tree_spectrum((2, 2), float("nan")), "eps must"),
        (lambda: tree_spectrum((), 0.1), "branching must hold at least one level"),
        (lambda: tree_multiplicities((2, 0)), "branching must be a whole number of at least 1, got 0"),
        (lambda: sampled_spectrum((2, 2), 0.5, 10), "eps must lie strictly between"),
        (lambda: level_singular_values((2,), 0.1, 0), "properties must be positive"),
        (lambda: level_learning_time(1.0, 1.0, 0.1), "fraction must be below 1"),
        (lambda: level_learning_time(0.5, -1.0, 0.1), "s must be non-negative"),
        (lambda: stage_ratio(1.0, 0.7), "u0 must be below s / 2"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_refusal_inside_jit():
    with pytest.raises(Exception, match="eps must lie between"):
        jax.jit(lambda e: tree_spectrum((2, 2), e))(0.7).block_until_ready()
