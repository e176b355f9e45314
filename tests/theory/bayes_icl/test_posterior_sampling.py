"""Sampled posteriors: quadrature, the prior, ranks of the truth, and the gates that refuse them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats

from theory.bayes_icl.posterior_sampling import (
    Sampled,
    calibration_ranks,
    distance_to_bayes,
    failed_gates,
    judged,
    logistic_model,
    low_rank_model,
    network_model,
    prediction_draws,
    sampled_predictions,
    student_model,
)

FINE = Sampled(*(np.array(part) for part in ([0.1], [0.01], [1.001], [900.0], 0)))


@pytest.mark.slow
def test_logistic_regression_by_quadrature():
    """Two weights, every prefix of one context in a single program, the empty one included."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2)), (rng.random(5) < 0.5).astype(float)
    seen, queries = np.tri(6, 5, -1, dtype=bool), rng.normal(size=(3, 2))
    stacked = (np.broadcast_to(part, (6, *part.shape)) for part in (x, y, queries))
    found = judged(sampled_predictions(logistic_model, jax.random.key(1), *stacked, seen, warmup=300, samples=800))
    w = np.linspace(-6, 6, 241)
    grid = np.stack(np.meshgrid(w, w), axis=-1).reshape(-1, 2)
    prior = -np.sum(grid**2, axis=1) / 2
    each = -np.logaddexp(0, -(2 * y - 1) * (grid @ x.T))
    for t in range(6):
        weight = np.exp(prior + each[:, :t].sum(axis=1))
        wanted = weight @ (1 / (1 + np.exp(-grid @ queries.T))) / weight.sum()
        np.testing.assert_array_less(np.abs(found.mean[t] - wanted), 5 * np.asarray(found.error[t]))


def test_joint_densities():
    """What each model says of weights and labels together, written out with SciPy's densities."""
    rng = np.random.default_rng(1)
    x, y, seen, queries = (
        rng.normal(size=(4, 4)),
        rng.normal(size=4),
        np.array([1, 1, 1, 0], bool),
        rng.normal(size=(2, 4)),
    )
    w, z = rng.normal(size=4), rng.normal(size=(2, 2))
    inner = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=3), "v": rng.normal(size=3)}
    values = np.tanh(x @ inner["w"].T + inner["b"]) @ inner["v"] / 3**0.5
    white = stats.norm(0, 1).logpdf
    low_rank = stats.norm(x @ (z.T @ z).ravel(), 0.3**0.5).logpdf(y)
    cases = (
        (
            logistic_model,
            y > 0,
            {"w": w},
            {"scale": 2.0},
            stats.norm(0, 2).logpdf(w),
            -np.logaddexp(0, -np.sign(y) * (x @ w)),
        ),
        (
            student_model,
            y,
            {"w": w},
            {"scale": 2.0, "width": 0.7, "degrees": 4.0},
            stats.norm(0, 2).logpdf(w),
            stats.t(4, x @ w, 0.7).logpdf(y),
        ),
        (low_rank_model, y, {"z": z}, {"noise": 0.3, "rank": 2}, white(z), low_rank),
        (
            network_model,
            y,
            inner,
            {"noise": 0.3, "hidden": 3},
            np.concatenate([white(part).ravel() for part in inner.values()]),
            stats.norm(values, 0.3**0.5).logpdf(y),
        ),
    )
    for model, labels, weights, settings, prior, likelihood in cases:
        found, _ = log_density(
            model, [jnp.asarray(part) for part in (x, labels.astype(float), seen, queries)], settings, weights
        )
        assert float(found) == pytest.approx(np.sum(prior) + np.sum(likelihood[seen]), rel=1e-12), model.__name__


@pytest.mark.slow
def test_other_models_by_quadrature_over_one_weight():
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(4, 1)), np.linspace(-8, 8, 4001)
    y, queries = x[:, 0] + 0.3 * rng.standard_t(3, size=4), np.array([[1.0], [-0.5]])
    few = dict(warmup=300, samples=800)
    found = judged(sampled_predictions(student_model, jax.random.key(3), x, y, queries, **few))
    log = -(w**2) / 2 - 2 * np.log1p(((y[:, None] - x * w) / 0.5) ** 2 / 3).sum(axis=0)
    weight = np.exp(log - log.max())
    mean = weight @ w / weight.sum()
    np.testing.assert_array_less(np.abs(found.mean - queries[:, 0] * mean), 5 * np.asarray(found.error))
    # Of one entry, a weight of rank one is a square.
    y = 1.5 * x[:, 0]
    found = judged(
        sampled_predictions(low_rank_model, jax.random.key(4), x, y, queries, settings={"noise": 0.2, "rank": 1}, **few)
    )
    log = -(w**2) / 2 - np.sum((y[:, None] - x * w**2) ** 2, axis=0) / 0.4
    weight = np.exp(log - log.max())
    wanted = queries[:, 0] * (weight @ w**2 / weight.sum())
    np.testing.assert_array_less(np.abs(found.mean - wanted), 5 * np.asarray(found.error))


@pytest.mark.slow
def test_a_bayesian_network_by_importance():
    """Four hidden units and three pairs: weights from the prior, weighed by their likelihood."""
    rng = np.random.default_rng(5)
    x, y, query = np.array([[-1.0], [0.2], [1.0]]), np.array([-0.5, 0.3, 0.6]), np.array([[0.6]])
    settings = {"noise": 0.1, "hidden": 4}
    found = sampled_predictions(network_model, jax.random.key(6), x, y, query, warmup=400, settings=settings)
    w, b, v = rng.normal(size=(3, 400_000, 4))

    def function(points):
        return np.sum(v[:, None] * np.tanh(points * w[:, None] + b[:, None]), axis=-1) / 2

    log = -np.sum((y - function(x)) ** 2, axis=1) / 0.2
    weight = np.exp(log - log.max())
    values = function(query)[:, 0]
    wanted = weight @ values / weight.sum()
    error = np.sqrt(np.sum(weight**2 * (values - wanted) ** 2)) / weight.sum()
    assert not failed_gates(found._replace(divergences=np.array(0)))
    assert abs(found.mean[0] - wanted) < 5 * np.hypot(error, found.error[0])


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform():
    """Simulation-based calibration of one logistic weight: 120 tasks, ten bins, five standard errors each."""
    rng, count = np.random.default_rng(7), 120
    w = rng.normal(size=(count, 1))
    x = rng.normal(size=(count, 6, 1))
    y = (rng.random((count, 6)) < 1 / (1 + np.exp(-x[..., 0] * w))).astype(float)
    queries = np.ones((count, 1, 1))
    few = dict(chains=2, warmup=150, samples=245)
    draws, _ = prediction_draws(logistic_model, jax.random.key(8), x, y, queries, **few)
    thinned = np.asarray(draws)[:, :, ::5, 0].reshape(count, -1)
    ranks = calibration_ranks(thinned, 1 / (1 + np.exp(-w[:, 0])))
    counts = np.bincount(np.minimum(np.asarray(ranks) * 10 // (thinned.shape[1] + 1), 9), minlength=10)
    assert np.sum((counts - count / 10) ** 2) / (count / 10) < 9 + 5 * 18**0.5
    # Draws of the prior in place of the posterior: the truth is drawn with them, and stays uniform; a narrow one shows.
    narrow = calibration_ranks(0.5 + (thinned - 0.5) / 8, 1 / (1 + np.exp(-w[:, 0])))
    counts = np.bincount(np.minimum(np.asarray(narrow) * 10 // (thinned.shape[1] + 1), 9), minlength=10)
    assert np.sum((counts - count / 10) ** 2) / (count / 10) > 9 + 5 * 18**0.5


def test_ranks():
    np.testing.assert_array_equal(
        calibration_ranks(np.array([[1.0, 2.0, 3.0]] * 3), np.array([0.0, 2.5, 4.0])), [0, 2, 3]
    )


def test_distance_is_without_bias():
    rng = np.random.default_rng(9)
    g, bayes, error = np.full(20_000, 0.5), np.full(20_000, 0.2), np.full(20_000, 0.4)
    reference = bayes + error * rng.normal(size=20_000)
    found = distance_to_bayes(g, reference, error)
    assert abs(found - 0.09) < 5 * np.std((g - reference) ** 2) / 20_000**0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"r_hat": np.array([1.2])}, "R-hat must be below 1.01, got 1.2"),
        ({"r_hat": np.array([np.nan])}, "R-hat must be below 1.01, got nan"),
        ({"divergences": np.array(3)}, "divergences must be none, got 3"),
        ({"ess": np.array([50.0])}, "effective samples must be more than 400, got 50"),
        ({"error": np.array([0.3])}, "squared Monte Carlo error must be below a fifth of the distance 0.01, got 0.09"),
    ],
)
def test_gates_refuse(change, sentence):
    judged(FINE, 0.01)
    with pytest.raises(ValueError, match=sentence):
        judged(FINE._replace(**change), 0.01)


@pytest.mark.slow
def test_unknown_frequency_is_refused():
    """Many modes: chains stay in their own, and the gates say so."""
    import numpyro
    import numpyro.distributions as dist

    def frequency(x, y, seen, queries):
        turn = numpyro.sample("turn", dist.Uniform(0.2, 6.0))
        a, b = (numpyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab")

        def wave(points):
            return a * jnp.cos(turn * points[:, 0]) + b * jnp.sin(turn * points[:, 0])

        with numpyro.handlers.mask(mask=seen):
            numpyro.sample("y", dist.Normal(wave(x), 0.1), obs=y)
        numpyro.deterministic("prediction", wave(queries))

    rng = np.random.default_rng(10)
    x = rng.uniform(-3, 3, size=(12, 1))
    y = np.cos(3.3 * x[:, 0]) - 0.5 * np.sin(3.3 * x[:, 0]) + 0.1 * rng.normal(size=12)
    found = sampled_predictions(frequency, jax.random.key(0), x, y, np.array([[0.4]]), warmup=200, samples=200)
    with pytest.raises(ValueError, match="found must not be used as a Bayes reference: R-hat"):
        judged(found)


def test_refusals():
    x, y, queries = np.ones((3, 2)), np.ones(3), np.ones((1, 2))
    with pytest.raises(ValueError, match="x, y and queries must fit"):
        prediction_draws.__wrapped__(logistic_model, jax.random.key(0), x, y, np.ones((1, 3)))
    with pytest.raises(ValueError, match="seen must have an entry for each label"):
        prediction_draws.__wrapped__(logistic_model, jax.random.key(0), x, y, queries, np.ones(2, bool))
    with pytest.raises(ValueError, match="chains must be a whole number of at least 2, got 1"):
        sampled_predictions(logistic_model, jax.random.key(0), x, y, queries, chains=1)
    with pytest.raises(ValueError, match="distance must be positive and finite, got 0"):
        failed_gates(FINE, 0.0)
