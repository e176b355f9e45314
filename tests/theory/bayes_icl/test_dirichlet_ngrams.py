"""Counts of symbols: all strings by enumeration, exchangeability, loops by hand, limits, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln

from theory.bayes_icl.dirichlet_ngrams import (
    expected_loss,
    log_evidence,
    ngram_predictions,
    pool_loss,
    urn_entropy,
    urn_loss,
    urn_predictions,
)

seeds = st.integers(0, 2**32 - 1)
K, N = 3, 4
ALL = np.array(list(itertools.product(range(K), repeat=N)))
PRIOR = np.array([0.5, 1.0, 2.5])


def counted(x, t, order, prior):
    """The prediction of x_t by a loop over the past."""
    c = np.array(prior)
    for s in range(order, t):
        c[x[s]] += t >= order and list(x[s - order : s]) == list(x[t - order : t])
    return c / c.sum()


@given(seeds, st.integers(0, 2))
def test_ngrams_by_hand(seed, order):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, K, 12)
    found = ngram_predictions(x, K, order, PRIOR)
    for t in range(13):
        np.testing.assert_allclose(np.exp(found.log_law[t]), counted(x, t, order, PRIOR), rtol=1e-12)
    np.testing.assert_allclose(found.log_density, np.asarray(found.log_law)[np.arange(12), x], rtol=1e-14)
    # Names of symbols do not matter.
    names = rng.permutation(K)
    renamed = ngram_predictions(names[x], K, order, PRIOR[np.argsort(names)])
    np.testing.assert_allclose(np.asarray(renamed.log_law)[:, names], found.log_law, rtol=1e-12)


@given(seeds)
def test_evidence_is_the_product_of_predictions_in_any_order(seed):
    rng = np.random.default_rng(seed)
    x, prior = rng.integers(0, K, 9), rng.gamma(1.0, 2.0, K) + 0.01
    found = ngram_predictions(x, K, 0, prior).log_evidence
    counts = np.array([np.bincount(x[: t + 1], minlength=K) for t in range(9)])
    np.testing.assert_allclose(log_evidence(counts, prior), found, rtol=1e-11)
    np.testing.assert_allclose(ngram_predictions(rng.permutation(x), K, 0, prior).log_evidence[-1], found[-1])
    # Of order one: each context is an urn of its own, the first symbol is drawn from a / A.
    pairs = np.zeros((K, K))
    np.add.at(pairs, (x[:-1], x[1:]), 1)
    chain = ngram_predictions(x, K, 1, prior).log_evidence[-1]
    np.testing.assert_allclose(
        chain, np.log(prior[x[0]] / prior.sum()) + np.sum(log_evidence(pairs, prior)), rtol=1e-11
    )


def test_probabilities_of_all_strings():
    urns = np.array([[0.2, 0.3, 0.5], [0.0, 0.9, 0.1], [0.6, 0.2, 0.2]])
    weights = np.log([0.2, 0.5, 0.3])
    many = jax.vmap(lambda x: ngram_predictions(x, K, 1, PRIOR))(ALL)
    np.testing.assert_allclose(np.exp(many.log_evidence[:, -1]).sum(), 1, rtol=1e-12)
    pool = jax.vmap(lambda x: urn_predictions(x, urns, weights))(ALL)
    np.testing.assert_allclose(np.exp(pool.log_law).sum(axis=-1), 1, rtol=1e-12)
    chances = np.exp(weights) @ np.prod(urns[:, ALL], axis=2)
    np.testing.assert_allclose(np.exp(pool.log_evidence[:, -1]), chances, rtol=1e-12)
    # Mean losses by position, from all strings.
    exact = -chances @ np.asarray(pool.log_density)
    np.testing.assert_allclose(pool_loss(urns, N, weights), exact, rtol=1e-11)
    counts = jax.vmap(lambda x: ngram_predictions(x, K, 0, PRIOR))(ALL)
    fresh = np.exp(counts.log_evidence[:, -1])
    np.testing.assert_allclose(expected_loss(PRIOR, N), -fresh @ np.asarray(counts.log_density), rtol=1e-11)
    on_urns = -np.prod(urns[:, ALL], axis=2) @ np.asarray(counts.log_density)
    np.testing.assert_allclose(urn_loss(urns, N, PRIOR), on_urns, rtol=1e-11)


@pytest.mark.slow
def test_who_knows_more_loses_less():
    rng = np.random.default_rng(0)
    urns = rng.dirichlet(PRIOR, 5)
    memory, counts = np.asarray(pool_loss(urns, 8)), np.asarray(urn_loss(urns, 8, PRIOR)).mean(axis=0)
    entropies = -np.sum(urns * np.log(urns), axis=1).mean()
    assert (memory < counts).all() and (memory > entropies).all()
    assert (np.diff(memory) < 0).all()
    # An urn twice in the pool is no other urn; one that is left out is none.
    np.testing.assert_allclose(pool_loss(np.concatenate([urns, urns]), 8), memory, rtol=1e-11)
    left_out = np.where(np.arange(5) < 4, 0.0, -np.inf)
    np.testing.assert_allclose(pool_loss(urns, 8, left_out), pool_loss(urns[:4], 8), rtol=1e-11)
    x = rng.integers(0, K, 6)
    same = urn_predictions(x, urns, left_out).log_law
    np.testing.assert_allclose(same, urn_predictions(x, urns[:4]).log_law, rtol=1e-11)
    # One urn: its own law, whatever has been drawn.
    np.testing.assert_allclose(np.exp(urn_predictions(x, urns[:1]).log_law), np.tile(urns[0], (7, 1)), rtol=1e-12)


def test_limits():
    loss, floor = np.asarray(expected_loss(np.ones(4), 400)), float(urn_entropy(np.ones(4)))
    np.testing.assert_allclose(floor, 1 / 2 + 1 / 3 + 1 / 4, rtol=1e-12)
    np.testing.assert_allclose(loss[0], np.log(4), rtol=1e-12)
    assert (np.diff(loss) < 0).all()
    # (K - 1) / (2 n) at late positions, with a correction of its own order squared.
    np.testing.assert_allclose((loss[399] - floor) * 2 * 399 / 3, 1, atol=0.02)
    # Concentrated priors learn nothing and have nothing to learn; the entropy of their urns is that of a / A.
    share = PRIOR / PRIOR.sum()
    flat = -np.sum(share * np.log(share))
    np.testing.assert_allclose(expected_loss(1e9 * PRIOR, 5), flat, rtol=1e-8)
    np.testing.assert_allclose(urn_entropy(1e9 * PRIOR), flat, rtol=1e-8)
    assert urn_entropy(1e-9 * PRIOR) < 1e-8
    # Large parameters, few counts: independent symbols.
    np.testing.assert_allclose(log_evidence(np.array([3, 2]), 1e14), -5 * np.log(2), rtol=1e-12)
    np.testing.assert_allclose(log_evidence(np.zeros(3), PRIOR), 0, atol=1e-13)
    # Where Stirling's series takes over.
    some, c = np.array([16.0, 40.0, 300.0]), np.array([3.0, 7.0, 20.0])
    by_gamma = np.sum(gammaln(some + c) - gammaln(some)) - gammaln(386.0) + gammaln(356.0)
    np.testing.assert_allclose(log_evidence(c, some), by_gamma, rtol=1e-11)
    big = log_evidence(np.array([1e6, 3.0]), 0.5)
    np.testing.assert_allclose(big, gammaln([1e6 + 0.5, 3.5]).sum() - 2 * gammaln(0.5) - gammaln(1e6 + 4), rtol=1e-10)


@pytest.mark.slow
def test_sure_urns_and_finite_derivatives():
    sure = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    np.testing.assert_allclose(urn_loss(sure, 5)[0], np.log((3 + np.arange(5)) / (1 + np.arange(5))), rtol=1e-12)
    # After one symbol the urn is known: ln 2 / 2 is what the fair one still costs.
    np.testing.assert_allclose(pool_loss(sure, 3)[1:], np.log(2) / 2, rtol=1e-12)
    slope = jax.grad(lambda theta: jnp.sum(urn_predictions(np.array([1, 2, 1]), theta).log_density))(jnp.asarray(sure))
    assert np.isfinite(slope).all()
    steep = jax.grad(lambda a: log_evidence(np.array([2.0, 0.0, 5.0]), a))(jnp.asarray([1e-8, 3.0, 1e9]))
    assert np.isfinite(steep).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_evidence(np.array([1.0, -1.0])), "counts must be non-negative"),
        (lambda: log_evidence(np.ones(3), np.ones(2)), "prior must have shape"),
        (lambda: log_evidence(np.ones(1)), "counts must hold two symbols"),
        (lambda: log_evidence(np.ones(2), 0.0), "prior must be positive and finite, got 0.0"),
        (lambda: ngram_predictions(np.array([0, 3]), 3), "sequence must hold symbols 0 to 2, got 3"),
        (lambda: ngram_predictions(np.zeros((2, 2), int)[0:1].ravel().reshape(1, 2)[0], 1), "symbols must be a whole"),
        (lambda: ngram_predictions(np.array([0, 1]), 3, -1), "order must be a whole number of at least 0"),
        (lambda: ngram_predictions(np.array([0, 1]), 100, 9), "order must leave a table"),
        (lambda: urn_predictions(np.array([0]), np.array([[0.5, 0.6]])), "urns must have rows of sum 1"),
        (lambda: urn_predictions(np.array([0, 1]), np.array([[1.0, 0.0]])), "log_density is impossible"),
        (lambda: urn_loss(np.array([[1.2, -0.2]]), 3), "urns must be non-negative and finite, got -0.2"),
        (lambda: pool_loss(np.full((2, 50), 0.02), 50), "length must leave at most"),
        (lambda: expected_loss(np.ones(3), 0), "length must be a whole number"),
        (lambda: expected_loss(np.ones(1), 3), "prior must hold a number for each"),
        (lambda: urn_entropy(np.array([1.0, np.nan])), "prior must be positive and finite, got nan"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
