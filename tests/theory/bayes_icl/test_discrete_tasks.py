"""The discrete estimator: a mixture of known tasks, in chunks of any size, exact in every limit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.discrete_tasks import pool_predictions, sign_vectors, task_posterior
from theory.bayes_icl.prequential import linear_predictions
from validation.predictor_laws import LAWS, SYMMETRIC, calibration, contexts
from validation.strategies import log_uniform, seeds

POOL = np.random.default_rng(0).normal(size=(11, 3))


def drawn(seed, noise, pool=POOL, n=6):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, pool.shape[1]))
    return x, x @ pool[rng.integers(len(pool))] + noise**0.5 * rng.normal(size=n)


def brute(pool, prior, x, y, noise):
    """Task by task, prefix by prefix."""
    means, variances, evidences = [], [], []
    for t in range(len(y)):
        logs = np.log(prior) - ((y[:t] - pool @ x[:t].T) ** 2).sum(axis=1) / (2 * noise)
        weight = np.exp(logs - logs.max())
        weight /= weight.sum()
        values = pool @ x[t]
        means.append(weight @ values)
        variances.append(weight @ (values - means[-1]) ** 2 + noise)
        density = np.exp(-((y[t] - values) ** 2) / (2 * noise)) / np.sqrt(2 * np.pi * noise)
        evidences.append(np.log(weight @ density))
    return means, variances, evidences


@given(seeds, log_uniform(0.05, 2), st.sampled_from([1, 4, 11, 64]))
def test_brute_force(seed, noise, chunk):
    x, y = drawn(seed, noise)
    prior = np.random.default_rng(seed).dirichlet(np.ones(len(POOL)))
    found = pool_predictions(POOL, x, y, noise, np.log(prior), chunk=chunk)
    for one, other in zip(found, brute(POOL, prior, x, y, noise), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


of_three = jax.jit(
    lambda x, y, noise: pool_predictions(jnp.array([[1.0, 0.5], [-0.5, 2.0], [0.3, -1.0]]), x, y, noise, chunk=2)
)
of_signs = jax.jit(lambda x, y, noise: pool_predictions(sign_vectors(x.shape[1]), x, y, noise))


@pytest.mark.parametrize("law", LAWS)
@given(contexts(shapes=((6, 2),)))
def test_laws(law, context):
    assert LAWS[law](of_three, context) < 1e-9


@given(contexts(shapes=((6, 2), (4, 6))))
def test_sign_vectors_are_even(context):
    assert SYMMETRIC["odd"](of_signs, context) < 1e-9


def test_sign_vectors():
    assert {tuple(row) for row in np.asarray(sign_vectors(4))} == set(itertools.product((-1.0, 1.0), repeat=4))


def test_errors_are_as_large_as_it_says():
    prompts = [drawn(seed, 0.3) for seed in range(1500)]
    x, y = (np.array(part) for part in zip(*prompts, strict=True))
    predictor = jax.jit(lambda x, y, noise: pool_predictions(POOL, x, y, noise))
    assert calibration(predictor, x, y, 0.3) < 5
    assert calibration(lambda x, y, noise: predictor(x, y, noise**0.5), x, y, 0.3) > 5


def test_many_prompts_at_once():
    """And nothing seen: the shape is empty."""
    x, y = (np.array(part) for part in zip(*(drawn(seed, 0.3) for seed in range(5)), strict=True))
    for chunk in (4, 11):
        alone = [pool_predictions(POOL, a, b, 0.3, chunk=chunk) for a, b in zip(x, y, strict=True)]
        one = jax.vmap(lambda a, b, chunk=chunk: pool_predictions(POOL, a, b, 0.3, chunk=chunk))
        some = jax.jit(lambda x, y, one=one: jax.lax.map(lambda prompt: one(*prompt), (x[None], y[None])))
        for together, *each in zip(one(x, y), *alone, strict=True):
            np.testing.assert_allclose(together, np.stack(each), rtol=1e-11, atol=1e-12)
        for together, mapped in zip(one(x, y), some(x, y), strict=True):
            np.testing.assert_allclose(together, mapped[0], rtol=1e-11, atol=1e-12)
        assert all(part.shape == (0,) for part in pool_predictions(POOL, x[0, :0], y[0, :0], 0.3, chunk=chunk))


def test_memory_knows_the_chunk_and_not_the_pairs():
    tasks, n = 2**13, 64
    program = jax.jit(lambda pool, x, y: pool_predictions(pool, x, y, 0.3, chunk=2**9))
    compiled = program.lower(np.ones((tasks, 2)), np.ones((n, 2)), np.ones(n)).compile()
    # A table of all tasks at all positions would be 4 MiB; the pool itself is 128 KiB.
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * tasks * n / 4


def test_float32_stays():
    x, y = (np.float32(part) for part in drawn(9, 0.3))
    exact = pool_predictions(POOL, np.float64(x), np.float64(y), 0.3)
    for chunk in (4, 11):
        for one, other in zip(
            pool_predictions(np.float32(POOL), x, y, np.float32(0.3), chunk=chunk), exact, strict=True
        ):
            assert one.dtype == jnp.float32
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_derivatives_do_not_know_the_chunk():
    x, y = drawn(7, 0.4)

    def total(pool, x, y, noise, chunk):
        found = pool_predictions(pool, x, y, noise, chunk=chunk)
        return jnp.sum(found.mean**2) + jnp.sum(found.variance) + found.log_evidence[-1]

    slopes = [jax.grad(total, (0, 1, 2, 3))(POOL, x, y, 0.4, chunk) for chunk in (3, 11)]
    for one, other in zip(*slopes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)
    step = 1e-5 * np.random.default_rng(1).normal(size=POOL.shape)
    change = (total(POOL + step, x, y, 0.4, 11) - total(POOL - step, x, y, 0.4, 11)) / 2
    np.testing.assert_allclose(np.sum(slopes[0][0] * step), change, rtol=1e-6)


def test_one_task_is_known():
    x, y = drawn(1, 0.2)
    found = pool_predictions(POOL[:1], x, y, 0.2)
    np.testing.assert_allclose(found.mean, x @ POOL[0], rtol=1e-12)
    np.testing.assert_allclose(found.variance, 0.2, rtol=1e-12)


def test_a_pool_twice_is_that_pool():
    x, y = drawn(2, 0.2)
    once, twice = pool_predictions(POOL, x, y, 0.2), pool_predictions(np.concatenate([POOL, POOL]), x, y, 0.2)
    for one, other in zip(once, twice, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_large_pool_is_near_its_law():
    """Many tasks in one dimension: ridge regression, within the scatter of the pool."""
    pool = np.random.default_rng(3).normal(size=(40_000, 1))
    x, y = drawn(4, 0.5, pool)
    found, wanted = pool_predictions(pool, x, y, 0.5), linear_predictions(x, y, 0.5)
    spread = np.abs(x[:, 0]) * np.sqrt(40 / len(pool))
    np.testing.assert_array_less(np.abs(found.mean - wanted.mean), 5 * spread)


def test_little_noise_leaves_the_nearest_task():
    x, _ = drawn(5, 0.1)
    found = pool_predictions(POOL, x, x @ POOL[4], 1e-12, chunk=3)
    np.testing.assert_allclose(found.mean[1:], (x @ POOL[4])[1:], rtol=1e-9)
    np.testing.assert_allclose(found.mean[0], x[0] @ POOL.mean(axis=0), rtol=1e-12)
    # Also where no task comes near the labels, and all weights are exponentials of large negative numbers.
    y = x @ POOL[4] + 1.0
    nearest = [np.argmin(np.sum((y[:t] - POOL @ x[:t].T) ** 2, axis=1)) for t in range(1, len(y))]
    for chunk in (3, 11):
        found = pool_predictions(POOL, x, y, 1e-6, chunk=chunk)
        np.testing.assert_allclose(found.mean[1:], [x[t + 1] @ POOL[m] for t, m in enumerate(nearest)], rtol=1e-9)
    gradient = jax.grad(lambda pool: pool_predictions(pool, x, x @ POOL[4], 1e-12, chunk=3).mean.sum())(POOL)
    assert np.isfinite(gradient).all()


def test_a_chunk_of_impossible_tasks():
    x, y = drawn(8, 0.3)
    prior = np.where(np.arange(len(POOL)) < 8, -np.inf, 0.0)
    found = pool_predictions(POOL, x, y, 0.3, prior, chunk=4)
    for one, other in zip(found, pool_predictions(POOL[8:], x, y, 0.3), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    gradient = jax.grad(lambda pool: pool_predictions(pool, x, y, 0.3, prior, chunk=4).log_evidence[-1])(POOL)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:8], 0.0)


def test_posterior_over_tasks():
    x, y = drawn(6, 0.4)
    belief = np.exp(task_posterior(POOL, x, y, 0.4))
    assert belief.shape == (len(POOL), len(y) + 1)
    np.testing.assert_allclose(belief.sum(axis=0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(belief[:, 0], 1 / len(POOL), rtol=1e-12)
    mean = np.einsum("mt,mt->t", belief[:, :-1], POOL @ x.T)
    np.testing.assert_allclose(pool_predictions(POOL, x, y, 0.4).mean, mean, rtol=1e-10)


def test_derivative_in_the_noise():
    x, y = drawn(7, 0.4)

    def evidence(noise):
        return pool_predictions(POOL, x, y, noise, chunk=4).log_evidence[-1]

    slope = (evidence(0.4 + 1e-5) - evidence(0.4 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(evidence))(0.4), slope, rtol=1e-6)
    assert jnp.isfinite(pool_predictions(POOL, x, y, 1e-300).mean).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"noise": -0.5}, "noise must be positive and finite, got -0.5"),
        ({"pool": np.ones((0, 3))}, "pool must hold at least one task, got none"),
        ({"pool": np.ones((2, 4))}, r"must fit together, got shapes \(2, 4\), \(6, 3\) and \(6,\)"),
        ({"log_prior": np.full(11, -np.inf)}, "log_prior must leave one model possible"),
        ({"chunk": 0}, "chunk must be a whole number of at least 1, got 0"),
    ],
)
def test_refusals(change, sentence):
    x, y = drawn(0, 0.1)
    with pytest.raises(ValueError, match=sentence):
        pool_predictions.__wrapped__(**({"pool": POOL, "features": x, "y": y, "noise": 0.1} | change))
    with pytest.raises(ValueError, match="dimension must be at most 24"):
        sign_vectors(25)
