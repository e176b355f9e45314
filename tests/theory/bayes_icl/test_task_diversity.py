"""Pool or law: both predictors on batches, their distances, and published risks."""

import numpy as np
import pytest
from hypothesis import given

from theory.bayes_icl.discrete_tasks import pool_predictions
from theory.bayes_icl.prequential import linear_predictions
from theory.bayes_icl.task_diversity import bayes_excess, deltas, task_predictors
from validation.strategies import log_uniform, seeds


def prompts(seed, count, n, d, noise, pool=None):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(count, d)) if pool is None else pool[rng.integers(len(pool), size=count)]
    x = rng.normal(size=(count, n, d))
    return x, np.einsum("pnd,pd->pn", x, w) + noise**0.5 * rng.normal(size=(count, n)), w


def test_batches_are_prompts():
    pool = np.random.default_rng(1).normal(size=(5, 3))
    x, y, _ = prompts(0, 4, 6, 3, 0.3)
    of_pool, of_law = task_predictors(pool, x, y, 0.3, 2.0)
    for i in range(4):
        np.testing.assert_allclose(of_pool[i], pool_predictions(pool, x[i], y[i], 0.3).mean, rtol=1e-10)
        np.testing.assert_allclose(of_law[i], linear_predictions(x[i], y[i], 0.3, 0.0, 2.0).mean, rtol=1e-9)


@given(seeds)
def test_deltas(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 3, 4))
    for share in (0.0, 0.3, 1.0):
        found = deltas(share * a + (1 - share) * b, a, b, 5)
        np.testing.assert_allclose(found.memorising, share, atol=1e-12)
        np.testing.assert_allclose(found.between, np.mean((a - b) ** 2) / 5, rtol=1e-12)
        np.testing.assert_allclose(found.to_pool, (1 - share) ** 2 * found.between, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(found.to_ridge, share**2 * found.between, rtol=1e-9, atol=1e-15)


@given(seeds, log_uniform(1e-2, 2), log_uniform(0.2, 3))
def test_excess_is_the_posterior_variance(seed, noise, prior):
    x = np.random.default_rng(seed).normal(size=(6, 3))
    found = bayes_excess(x, noise, prior)
    for t in range(6):
        covariance = np.linalg.inv(np.eye(3) / prior + x[:t].T @ x[:t] / noise)
        np.testing.assert_allclose(found[t], x[t] @ covariance @ x[t], rtol=1e-8, atol=1e-11)


def test_risk_of_ridge_as_published():
    """d = 8, noise 1/4: excess per dimension at 0, 1, 2, 4, 8, 12, 15 pairs."""
    wanted = np.array([1, 0.8800, 0.7615, 0.5337, 0.1820, 0.0629, 0.0377])
    x = np.random.default_rng(2).normal(size=(1500, 16, 8))
    found = np.array([bayes_excess(one, 0.25) for one in x[:300]])[:, [0, 1, 2, 4, 8, 12, 15]] / 8
    error = found.std(axis=0) / 300**0.5
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - wanted), 5 * np.hypot(error, 0.002))


def test_each_is_best_on_its_own_tasks():
    """d = 8, n = 16, noise 1/4, 32 tasks: risks per dimension near those of Raventos et al.'s setting."""
    pool = np.random.default_rng(3).normal(size=(32, 8))
    risks = {}
    for name, tasks in (("pool", pool), ("law", None)):
        x, y, w = prompts(4, 200, 16, 8, 0.25, tasks)
        truth = np.einsum("pnd,pd->pn", x, w)
        risks[name] = [np.mean((np.asarray(f) - truth) ** 2, axis=1) / 8 for f in task_predictors(pool, x, y, 0.25)]
    for name, wanted in (("pool", (0.126, 0.311)), ("law", (0.940, 0.351))):
        for risk, mean in zip(risks[name], wanted, strict=True):
            # Pools of 32 tasks differ by their mean square, a part in ten or so.
            assert abs(risk.mean() - mean) < 5 * risk.std() / 200**0.5 + 0.15 * mean
    assert risks["pool"][0].mean() < risks["pool"][1].mean()
    assert risks["law"][1].mean() < risks["law"][0].mean()


def test_refusals():
    with pytest.raises(ValueError, match="of_pool must differ from of_law somewhere"):
        deltas(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), 2)
    with pytest.raises(ValueError, match="must have one shape"):
        deltas.__wrapped__(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 3)), 2)
    with pytest.raises(ValueError, match=r"x must be \(P, n, d\) and y \(P, n\)"):
        task_predictors.__wrapped__(np.ones((2, 3)), np.ones((4, 3)), np.ones(4), 0.1)
    with pytest.raises(ValueError, match=r"noise must be positive and finite, got -1\.0"):
        bayes_excess(np.ones((4, 3)), -1.0)
