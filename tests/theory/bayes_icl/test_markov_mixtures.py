"""Mixtures of Markov chains: all strings by enumeration, names of symbols, one chain, stationary laws, projections."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from theory.bayes_icl.dirichlet_ngrams import expected_loss, urn_entropy
from theory.bayes_icl.markov_mixtures import (
    bigram_inference,
    bigram_retrieval,
    convex_weights,
    stationary_inference,
    stationary_law,
    transition_divergence,
    unigram_inference,
    unigram_retrieval,
)

seeds = st.integers(0, 2**32 - 1)
K, N = 3, 4
ALL = np.array(list(itertools.product(range(K), repeat=N)))
RNG = np.random.default_rng(0)
CHAINS = RNG.dirichlet(np.ones(K), (2, K))
LOG_PRIOR = np.log([0.3, 0.7])


def powers(chain):
    """The stationary law by letting time pass."""
    return np.linalg.matrix_power(chain, 4000)[0]


@given(seeds)
def test_stationary_law(seed):
    chain = np.random.default_rng(seed).dirichlet(np.ones(5), 5)
    found = np.asarray(stationary_law(chain))
    np.testing.assert_allclose(found, powers(chain), rtol=1e-9)
    np.testing.assert_allclose(found @ chain, found, rtol=1e-13)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-14)


def test_stationary_law_of_rare_states():
    """Two states that are left and entered with tiny probabilities: their ratio, to full precision."""
    for up, down in ((1e-200, 1e-3), (1e-150, 1e-160), (0.3, 1e-18)):
        found = stationary_law(np.array([[1 - up, up], [down, 1 - down]]))
        np.testing.assert_allclose(found, np.array([down, up]) / (up + down), rtol=1e-13)
    slope = jax.grad(lambda t: stationary_law(t)[1])(np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert np.isfinite(slope).all()


def test_probabilities_of_all_strings():
    laws = np.array([powers(chain) for chain in CHAINS])
    walks = laws[:, ALL[:, 0]] * np.prod(CHAINS[:, ALL[:, :-1], ALL[:, 1:]], axis=2)
    prior = np.exp(LOG_PRIOR)
    found = jax.vmap(lambda x: bigram_retrieval(x, CHAINS, LOG_PRIOR))(ALL)
    np.testing.assert_allclose(np.exp(found.log_evidence[:, -1]), prior @ walks, rtol=1e-9)
    np.testing.assert_allclose(np.exp(found.log_law).sum(axis=-1), 1, rtol=1e-12)
    # After the whole string: rows of the last symbol, by posterior weights that know all of it.
    posterior = prior[:, None] * walks / (prior @ walks)
    rows = np.einsum("cs,csj->sj", posterior, CHAINS[:, ALL[:, -1]])
    np.testing.assert_allclose(np.exp(found.log_law[:, -1]), rows, rtol=1e-9)
    single = jax.vmap(lambda x: unigram_retrieval(x, CHAINS, LOG_PRIOR))(ALL)
    counted = np.prod(laws[:, ALL], axis=2)
    np.testing.assert_allclose(np.exp(single.log_evidence[:, -1]), prior @ counted, rtol=1e-9)
    after = np.einsum("cs,cj->sj", prior[:, None] * counted / (prior @ counted), laws)
    np.testing.assert_allclose(np.exp(single.log_law[:, -1]), after, rtol=1e-9)
    # Bayes loses least, averaged over strings of the mixture.
    weights, loss = prior @ walks, lambda p: -p.log_evidence[:, -1]
    counts = [jax.vmap(lambda x, f=f: f(x, K))(ALL) for f in (bigram_inference, unigram_inference)]
    best = weights @ loss(found)
    assert all(weights @ loss(p) > best for p in (single, *counts))
    for p in counts:
        np.testing.assert_allclose(np.exp(p.log_evidence[:, -1]).sum(), 1, rtol=1e-12)


@given(seeds)
def test_inference_by_hand(seed):
    rng = np.random.default_rng(seed)
    x, prior = rng.integers(0, K, 8), np.array([0.5, 1.0, 2.0])
    found = [f(x, K, prior).log_law for f in (bigram_inference, unigram_inference, stationary_inference)]
    pairs = np.tile(prior, (K, 1))
    np.add.at(pairs, (x[:-1], x[1:]), 1)
    believed = pairs / pairs.sum(axis=1, keepdims=True)
    single = prior + np.bincount(x, minlength=K)
    expected = believed[x[-1]], single / single.sum(), powers(believed)
    for law, last in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.exp(law[-1]), last, rtol=1e-9)
        np.testing.assert_allclose(np.exp(law[0]), prior / prior.sum(), rtol=1e-9)
    # Before the first pair the stationary law is that of the prior; then it is that of one pair.
    np.testing.assert_allclose(np.exp(found[2][1]), prior / prior.sum(), rtol=1e-9)
    first = np.tile(prior, (K, 1))
    first[x[0], x[1]] += 1
    np.testing.assert_allclose(np.exp(found[2][2]), powers(first / first.sum(axis=1, keepdims=True)), rtol=1e-9)


@given(seeds)
def test_names_of_symbols_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    x, names = rng.integers(0, K, 8), rng.permutation(K)
    back = np.argsort(names)
    renamed = CHAINS[:, back][:, :, back]
    for f in (bigram_retrieval, unigram_retrieval):
        np.testing.assert_allclose(f(names[x], renamed).log_law[:, names], f(x, CHAINS).log_law, rtol=1e-9)
    for f in (bigram_inference, unigram_inference, stationary_inference):
        np.testing.assert_allclose(f(names[x], K).log_law[:, names], f(x, K).log_law, rtol=1e-9)


@pytest.mark.slow
def test_pools():
    x = np.array([0, 2, 1, 1, 0])
    one = bigram_retrieval(x, CHAINS[:1])
    np.testing.assert_allclose(np.exp(one.log_law[1:]), CHAINS[0, x], rtol=1e-12)
    np.testing.assert_allclose(np.exp(one.log_law[0]), powers(CHAINS[0]), rtol=1e-10)
    for f in map(jax.jit, (bigram_retrieval, unigram_retrieval)):
        twice = f(x, np.concatenate([CHAINS, CHAINS])).log_law
        np.testing.assert_allclose(twice, f(x, CHAINS).log_law, rtol=1e-12)
        np.testing.assert_allclose(f(x, CHAINS, np.array([-np.inf, 0.0])).log_law, f(x, CHAINS[1:]).log_law, rtol=1e-12)
    # A chain that forbids a step is out once it is taken.
    forbids = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    found = bigram_retrieval(x, np.stack([CHAINS[0], forbids])).log_law
    np.testing.assert_allclose(np.exp(found[2:]), CHAINS[0, x[1:]], rtol=1e-12)
    assert found[1, 2] < np.log(CHAINS[0, 0, 2])
    assert np.isfinite(jax.grad(lambda t: bigram_retrieval(x[2:], t).log_density.sum())(CHAINS)).all()


@given(seeds)
def test_divergence(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(4), (2, 4))
    rows = np.sum(p * np.log(p / q), axis=1)
    np.testing.assert_allclose(transition_divergence(p, q), powers(p) @ rows, rtol=1e-9)
    np.testing.assert_allclose(transition_divergence(p, q, "second"), powers(q) @ rows, rtol=1e-9)
    np.testing.assert_allclose(transition_divergence(p, p), 0, atol=1e-15)


def test_divergence_of_what_never_happens():
    p, q = np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(transition_divergence(p, q), np.log(2) / 3, rtol=1e-12)
    assert transition_divergence(q, p) == np.inf
    # What counts do not know yet of a row of four after n visits, (k - 1) / (2 n) at late times.
    found = np.asarray(expected_loss(np.ones(4), 161) - urn_entropy(np.ones(4)))
    np.testing.assert_allclose(found[[10, 40, 160]], [0.0971, 0.0326, 0.0091], atol=2e-4)


@given(seeds, st.sampled_from([2, 4]))
def test_projections(seed, count):
    rng = np.random.default_rng(seed)
    target, x = rng.normal(size=(2, 3)), rng.normal(size=(count, 2, 3))
    w = np.asarray(convex_weights(target, x))
    assert (w >= 0).all() and abs(w.sum() - 1) < 1e-12
    # No other corner lies closer to the target as seen from the solution.
    rest = target - np.tensordot(w, x, 1)
    pull = np.einsum("pij,ij->p", x - np.tensordot(w, x, 1), rest)
    assert (pull <= 1e-10).all()
    mixed = rng.dirichlet(np.ones(count))
    if count < 4:
        np.testing.assert_allclose(convex_weights(np.tensordot(mixed, x, 1), x), mixed, atol=1e-7)


def test_projection_on_the_same_predictor_twice():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    w = np.asarray(convex_weights(np.array([0.3, 5.0]), x))
    np.testing.assert_allclose([w[0], w[1:].sum()], [0.7, 0.3], rtol=1e-10)
    found = minimize(
        lambda w: np.sum((w @ x - [0.3, 5.0]) ** 2),
        np.ones(3) / 3,
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    np.testing.assert_allclose(found.x[0], w[0], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stationary_law(np.array([[0.5, 0.6], [0.5, 0.5]])), "transition must have rows of sum 1"),
        (lambda: stationary_law(np.eye(2)), "transition must be irreducible"),
        (lambda: stationary_law(np.ones((2, 3))), "transition must be one matrix"),
        (lambda: bigram_retrieval(np.array([0, 1]), CHAINS[0]), "transition must be C matrices"),
        (lambda: bigram_retrieval(np.array([0, 7]), CHAINS), "sequence must hold symbols 0 to 2, got 7"),
        (lambda: bigram_retrieval(np.array([0, 0]), np.array([[[0.0, 1.0], [0.5, 0.5]]])), "impossible"),
        (lambda: stationary_inference(np.array([0, 1]), 2, 0.0), "prior must be positive"),
        (lambda: bigram_inference(np.array([0, 1]), 1), "symbols must be a whole number of at least 2"),
        (lambda: transition_divergence(CHAINS[0], CHAINS[1], "third"), "weighted_by must be"),
        (lambda: transition_divergence(CHAINS[0], np.eye(2)), "of one shape"),
        (lambda: convex_weights(np.ones(3), np.ones((2, 4))), "predictors must be 1 to 10 arrays like target"),
        (lambda: convex_weights(np.array([np.nan]), np.ones((2, 1))), "target must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
