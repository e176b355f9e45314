"""Filters: enumeration of paths, hidden states that are seen, strings that a concept cannot give, refusals."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given

from theory.bayes_icl.dirichlet_ngrams import urn_predictions
from theory.bayes_icl.hidden_markov import (
    concept_posterior,
    concept_predictions,
    filter_predictions,
    smoothed_rows,
)
from theory.bayes_icl.markov_mixtures import stationary_law
from validation.strategies import seeds


def models(seed, concepts=3, states=2, symbols=3):
    rng = np.random.default_rng(seed)
    return (
        rng.dirichlet(np.ones(states), size=concepts),
        rng.dirichlet(np.ones(states), size=(concepts, states)),
        rng.dirichlet(np.ones(symbols), size=(concepts, states)),
    )


def of_paths(string, pi, a, b):
    """Probability of a string, from all paths of hidden states."""
    total = 0.0
    for path in itertools.product(range(len(pi)), repeat=len(string)):
        moves = np.prod([a[h, g] for h, g in itertools.pairwise(path)])
        total += pi[path[0]] * moves * np.prod([b[h, x] for h, x in zip(path, string, strict=True)])
    return total


@given(seeds)
def test_sum_over_paths(seed):
    pi, a, b = (part[0] for part in models(seed))
    x = np.random.default_rng(seed).integers(3, size=5)
    found = filter_predictions(x, pi, a, b)
    np.testing.assert_allclose(np.exp(found.log_evidence[-1]), of_paths(x, pi, a, b), rtol=1e-12)
    np.testing.assert_allclose(np.exp(found.log_law).sum(axis=1), 1.0, rtol=1e-12)
    wanted = [of_paths((*x, o), pi, a, b) / of_paths(x, pi, a, b) for o in range(3)]
    np.testing.assert_allclose(np.exp(found.log_law[-1]), wanted, rtol=1e-11)


@given(seeds)
def test_mixture_of_concepts(seed):
    concepts = models(seed)
    prior = np.random.default_rng(seed).dirichlet(np.ones(3))
    x = np.random.default_rng(seed + 1).integers(3, size=4)
    each = np.array([of_paths(x, *(part[c] for part in concepts)) for c in range(3)])
    found = concept_predictions(x, *concepts, np.log(prior))
    np.testing.assert_allclose(np.exp(found.log_evidence[-1]), prior @ each, rtol=1e-11)
    belief = np.exp(concept_posterior(x, *concepts, np.log(prior)))
    np.testing.assert_allclose(belief[:, -1], prior * each / (prior @ each), rtol=1e-11)
    np.testing.assert_allclose(belief[:, 0], prior, rtol=1e-12)
    # Before the first symbol the law is that of the prior, and knows nothing of the string.
    first = prior @ np.einsum("ch,cho->co", *concepts[::2])
    np.testing.assert_allclose(np.exp(found.log_law[0]), first, rtol=1e-12)


def test_states_that_are_seen_are_a_markov_chain():
    _, (a, *_), _ = models(0, states=3)
    x = np.array([0, 2, 2, 1, 0])
    found = filter_predictions(x, stationary_law(a), a, np.eye(3))
    np.testing.assert_allclose(np.exp(found.log_law[1:]), a[x], rtol=1e-12)


def test_one_state_is_an_urn():
    urns = np.random.default_rng(1).dirichlet(np.ones(4), size=3)
    x = np.array([3, 0, 0, 2, 1])
    found = concept_predictions(x, np.ones((3, 1)), np.ones((3, 1, 1)), urns[:, None])
    wanted = urn_predictions(x, urns)
    np.testing.assert_allclose(found.log_law, wanted.log_law, rtol=1e-11)


def test_one_concept_and_twice_the_same_are_that_concept():
    concepts = models(2, concepts=1)
    x = np.array([0, 1, 1, 2])
    alone = filter_predictions(x, *(part[0] for part in concepts))
    for copies in (1, 2):
        found = concept_predictions(x, *(np.repeat(part, copies, axis=0) for part in concepts))
        np.testing.assert_allclose(found.log_law, alone.log_law, rtol=1e-12)


@pytest.mark.slow
def test_a_concept_that_cannot_give_the_string_is_out():
    """The first concept shows 0 for ever; a 1 rules it out for good, without NaN in values or slopes."""
    start, move = np.ones((2, 1)), np.ones((2, 1, 1))
    show = np.array([[[1.0, 0.0]], [[0.5, 0.5]]])
    x = np.array([0, 1, 0, 0])
    belief = np.exp(concept_posterior(x, start, move, show))
    np.testing.assert_allclose(belief[0], [0.5, 2 / 3, 0.0, 0.0, 0.0], rtol=1e-12)
    found = concept_predictions(x, start, move, show)
    np.testing.assert_allclose(np.exp(found.log_law[:, 1]), [0.25, 1 / 6, 0.5, 0.5, 0.5], rtol=1e-12)
    slope = jax.grad(lambda show: concept_predictions(x, start, move, show).log_evidence[-1])(show)
    assert np.isfinite(slope).all()
    with pytest.raises(ValueError, match="log_density is impossible under every model"):
        concept_predictions(x, start[:1], move[:1], show[:1])
    # Smoothed, every string has a chance.
    assert np.isfinite(concept_predictions(x, start[:1], move[:1], smoothed_rows(show[:1], 1e-3)).log_density).all()


def test_nothing_seen_and_smoothing():
    pi, a, b = (part[0] for part in models(3))
    np.testing.assert_allclose(
        np.exp(filter_predictions(np.zeros(0, int), pi, a, b).log_law), (pi @ b)[None], rtol=1e-12
    )
    np.testing.assert_allclose(smoothed_rows(np.eye(2), 0.2), [[0.9, 0.1], [0.1, 0.9]], rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sequence": np.array([0, 3])}, "sequence must hold symbols 0 to 2"),
        ({"start": np.array([0.5, 0.6])}, "start must have rows of sum 1"),
        ({"transition": np.array([[0.5, -0.5], [0.0, 1.0]])}, r"transition must be non-negative and finite, got -0\.5"),
        ({"emission": np.ones((3, 3)) / 3}, "start, transition and emission must fit each other"),
    ],
)
def test_refusals(change, sentence):
    pi, a, b = (part[0] for part in models(4))
    arguments = {"sequence": np.array([0, 1]), "start": pi, "transition": a, "emission": b} | change
    with pytest.raises(ValueError, match=sentence):
        filter_predictions.__wrapped__(**arguments)
    with pytest.raises(ValueError, match="share must be at most 1"):
        smoothed_rows(np.eye(2), 1.5)
