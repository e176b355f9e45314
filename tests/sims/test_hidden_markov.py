"""Documents and prompts of hidden concepts: shapes of the chains, and frequencies against sums over paths."""

import itertools

import jax
import numpy as np
import pytest

from sims.tasks.hidden_markov import (
    DELIMITER,
    Concepts,
    documents,
    mixed_permutations,
    prompts,
    random_concepts,
    smoothed,
)

KEY = jax.random.key(0)
MANY = 20_000
ENTITIES, PROPERTIES, VOCABULARY = 2, 3, 5


def concepts(count=2, share=0.1):
    """Few states, and start laws that are far from uniform: that of a concept has to be seen."""
    drawn = random_concepts(np.random.default_rng(3), count, ENTITIES, PROPERTIES, VOCABULARY, start_temperature=0.3)
    return smoothed(drawn, share)


def near(found, wanted):
    """Frequencies of many draws within five standard errors, one draw more or less."""
    wanted = np.asarray(wanted)
    assert np.all(np.abs(found - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / MANY) + 1 / MANY)


def frequencies(strings, length):
    """Of all strings of so many tokens, in the order of `of_paths`."""
    code = np.asarray(strings) @ VOCABULARY ** np.arange(length)[::-1]
    return np.bincount(code, minlength=VOCABULARY**length) / len(code)


def of_paths(start, transition, tokens, length):
    """Chances of all strings from all paths of hidden states."""
    found = np.zeros((VOCABULARY,) * length)
    for path in itertools.product(range(len(start)), repeat=length):
        moves = np.prod([transition[h, g] for h, g in itertools.pairwise(path)])
        found[tuple(tokens.ravel()[list(path)])] += start[path[0]] * moves
    return found.ravel()


def test_mixed_permutations():
    rng = np.random.default_rng(0)
    found = np.array([mixed_permutations(rng, 5, 0.1) for _ in range(20)])
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-12)
    assert np.all(found >= 0)
    # Hot mixtures weigh all permutations the same; cold ones are nearly one of them.
    assert np.all(np.abs(mixed_permutations(rng, 4, 1e6) * 4 % 1 - 0.5) > 0.499)
    assert np.sort(mixed_permutations(rng, 4, 1e-3), axis=1)[:, -1].min() > 0.99


def test_concepts_share_entities_and_tokens():
    start, transition, tokens = random_concepts(np.random.default_rng(1), 3, 4, 6, 9, stay=0.8)
    np.testing.assert_allclose(start.sum(axis=1), 1, rtol=1e-12)
    assert np.ptp(start, axis=0).max() > 1e-4
    np.testing.assert_array_equal(tokens[:, 0], DELIMITER)
    assert tokens[:, 1:].min() > DELIMITER
    assert tokens.max() < 9
    blocks = transition.reshape(3, 4, 6, 4, 6)
    moves = blocks.sum(axis=4)[:, :, 0]
    np.testing.assert_allclose(moves, np.broadcast_to(moves[:1], moves.shape), rtol=1e-12)
    assert np.diagonal(moves[0]).min() >= 0.8
    chains = blocks[:, 0].sum(axis=2)
    np.testing.assert_allclose(blocks, np.einsum("ef,cst->cesft", moves[0], chains), atol=1e-12)
    assert min(np.abs(chains[a] - chains[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.05


def test_smoothing():
    sharp, smooth = concepts(share=0.0), concepts(share=0.3)
    assert sharp.transition.min() == 0
    np.testing.assert_allclose(smooth.transition, 0.7 * sharp.transition + 0.05, rtol=1e-12)
    np.testing.assert_array_equal(smooth.start, sharp.start)


def test_documents_against_sums_over_paths():
    start, transition, tokens = model = concepts()
    strings, concept = jax.jit(documents, static_argnums=(2, 3))(KEY, model, MANY, 3)
    each = [of_paths(start[c], transition[c], tokens, 3) for c in range(2)]
    assert np.abs(each[0] - each[1]).max() > 0.05
    near(frequencies(strings, 3), np.mean(each, axis=0))
    near(np.mean(np.asarray(concept) == 0), 0.5)
    for c in range(2):
        # Of a concept there are about half as many strings.
        chosen = np.asarray(strings)[np.asarray(concept) == c]
        error = np.sqrt(each[c] * (1 - each[c]) / len(chosen)) + 1 / len(chosen)
        assert np.all(np.abs(frequencies(chosen, 3) - each[c]) <= 5 * error)


def test_prompts_against_sums_over_paths():
    """Two examples of two tokens: of one property, with entities and paths of their own."""
    _, transition, tokens = model = concepts()
    strings, concept = (np.asarray(x) for x in jax.jit(prompts, static_argnums=(2, 3, 4))(KEY, model, MANY, 1, 2))
    assert strings.shape == (MANY, 5)
    np.testing.assert_array_equal(strings[:, 2], DELIMITER)
    wanted = np.zeros((VOCABULARY**2, VOCABULARY**2))
    for c in range(2):
        for shared in range(1, PROPERTIES):
            start = np.zeros((ENTITIES, PROPERTIES))
            start[:, shared] = 1 / ENTITIES
            one = of_paths(start.ravel(), transition[c], tokens, 2)
            wanted += np.outer(one, one) / 2 / (PROPERTIES - 1)
    near(frequencies(np.delete(strings, 2, axis=1), 4), wanted.ravel())
    near(np.mean(concept == 0), 0.5)
    assert not np.any(strings[:, [0, 3]] == DELIMITER)


def test_examples_are_one_more_than_delimiters():
    strings = np.asarray(prompts(KEY, concepts(share=0.0), 7, 3, 4).tokens)
    assert strings.shape == (7, 19)
    np.testing.assert_array_equal(strings[:, [4, 9, 14]], DELIMITER)
    assert prompts(KEY, concepts(), 2, 0, 3).tokens.shape == (2, 3)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_draws_follow_the_kind_of_the_laws(kind):
    """A certain path is drawn with certainty: chances never pass the last edge."""
    cycle = np.roll(np.eye(3), 1, axis=1)[None].astype(kind)
    model = Concepts(np.array([[0, 0, 1]], kind), cycle, np.array([[0, 1, 2]]))
    np.testing.assert_array_equal(documents(KEY, model, 4, 5).tokens, np.tile([2, 0, 1, 2, 0], (4, 1)))
