"""Unknown names: renamings and throws by hand, patterns, what names cost, moments, linear laws, limits, refusals."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.dirichlet_ngrams import log_evidence, ngram_predictions
from theory.bayes_icl.unknown_names import (
    block_loss,
    block_predictions,
    class_blocks,
    class_prior,
    distance_predictions,
    price_of_names,
    renamed_blocks,
    renamed_predictions,
)

seeds = st.integers(0, 2**32 - 1)


def drawn(seed, symbols, length):
    """A law of blocks, all of them possible."""
    return np.random.default_rng(seed).dirichlet(np.ones(symbols**length)).reshape((symbols,) * length)


def entropy(p):
    return -np.sum(p * np.log(p))


def under_all_names(blocks):
    """The mean over renamings, by a loop."""
    names = list(itertools.permutations(range(len(blocks))))
    return sum(blocks[np.ix_(*[list(name)] * blocks.ndim)] for name in names) / len(names)


def chain(blocks, string):
    """Probability of a string of the chain, by a loop."""
    found = 1.0
    for t, symbol in enumerate(string):
        d = min(t, blocks.ndim - 1)
        joint = blocks.sum(axis=tuple(range(d + 1, blocks.ndim)))[tuple(string[t - d : t])]
        found *= joint[symbol] / joint.sum()
    return found


@given(seeds)
def test_losses_by_hand(seed):
    p = drawn(seed, 3, 3)
    totals = [0, entropy(p.sum(axis=(1, 2))), entropy(p.sum(axis=2)), entropy(p)]
    np.testing.assert_allclose(block_loss(p), np.diff(totals), rtol=1e-11)
    np.testing.assert_allclose(block_loss(1000 * p), np.diff(totals), rtol=1e-11)


def test_a_text_that_holds_no_surprise():
    """0 1 0 1 ...: the first symbol alone costs anything."""
    blocks = np.zeros((2, 2, 2))
    blocks[0, 1, 0] = blocks[1, 0, 1] = 1
    np.testing.assert_allclose(block_loss(blocks), [np.log(2), 0, 0], atol=1e-15)
    # Nothing is named in it: no renaming changes it.
    np.testing.assert_allclose(price_of_names(blocks), 0, atol=1e-15)
    slopes = jax.grad(lambda p: block_loss(p).sum())(blocks)
    assert np.isfinite(slopes).all()
    # One symbol only: its name is told at once, those of the two others never.
    single = np.zeros((3, 3))
    single[1, 1] = 1
    np.testing.assert_allclose(price_of_names(single), np.log(3), rtol=1e-14)


@given(seeds)
def test_renamed_blocks(seed):
    p = drawn(seed, 3, 3)
    found = np.asarray(renamed_blocks(p))
    np.testing.assert_allclose(found, under_all_names(p), rtol=1e-12)
    # One value for each pattern: its probability among blocks of as many symbols.
    for pattern, ways in (((0, 0, 0), 3), ((0, 1, 0), 6), ((0, 1, 2), 6)):
        alike = [s for s in itertools.product(range(3), repeat=3) if first_places(s) == first_places(pattern)]
        assert len(alike) == ways
        np.testing.assert_allclose([found[s] for s in alike], sum(p[s] for s in alike) / ways, rtol=1e-12)


def first_places(string):
    return [list(string).index(symbol) for symbol in string]


@given(seeds)
def test_the_price_of_names(seed):
    p = drawn(seed, 3, 4)
    price = np.asarray(price_of_names(p))
    mean = under_all_names(p)
    by_entropies = [
        entropy(mean.sum(axis=later)) - entropy(p.sum(axis=later)) for later in ((1, 2, 3), (2, 3), (3,), ())
    ]
    np.testing.assert_allclose(price, by_entropies, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(price, np.cumsum(block_loss(renamed_blocks(p)) - block_loss(p)), rtol=1e-9, atol=1e-12)
    assert (np.diff(price) >= -1e-12).all()
    assert price[-1] < np.log(6)


@pytest.mark.slow
def test_a_long_string_tells_all_names():
    """A chain of three very different symbols: its whole price is ln 6, and no more."""
    blocks = np.array([[3.0, 2, 0.2], [1, 0.2, 3], [3, 0.3, 0.2]])
    rng, excess = np.random.default_rng(0), []
    rows = blocks / blocks.sum(axis=1, keepdims=True)
    for _ in range(60):
        x = [rng.choice(3, p=blocks.sum(axis=1) / blocks.sum())]
        while len(x) < 150:
            x.append(rng.choice(3, p=rows[x[-1]]))
        names, x = rng.permutation(3), np.array(x)
        known = block_predictions(x, blocks).log_evidence[-1]
        excess.append(known - renamed_predictions(names[x], blocks).log_evidence[-1])
    np.testing.assert_allclose(np.mean(excess), np.log(6), rtol=1e-3)
    assert max(excess) <= np.log(6) + 1e-9


@given(seeds)
def test_both_predictors_by_hand(seed):
    blocks = drawn(seed, 3, 3)
    x = np.random.default_rng(seed).integers(0, 3, 7)
    known, unknown = block_predictions(x, blocks), renamed_predictions(x, blocks)
    names = list(itertools.permutations(range(3)))
    for n in range(8):
        own, mixed = [], []
        for j in range(3):
            string = [*x[:n], j]
            own.append(chain(blocks, string))
            mixed.append(np.mean([chain(blocks, [name[i] for i in string]) for name in names]))
        np.testing.assert_allclose(np.exp(known.log_law[n]), np.divide(own, sum(own)), rtol=1e-11)
        np.testing.assert_allclose(np.exp(unknown.log_law[n]), np.divide(mixed, sum(mixed)), rtol=1e-11)
    np.testing.assert_allclose(unknown.log_density, np.asarray(unknown.log_law)[np.arange(7), x], rtol=1e-14)
    short = block_predictions(x[:2], renamed_blocks(blocks))
    np.testing.assert_allclose(short.log_law, np.asarray(unknown.log_law)[:3], rtol=1e-10, atol=1e-14)


@given(seeds)
def test_names_do_not_matter(seed):
    blocks, rng = drawn(seed, 4, 2), np.random.default_rng(seed)
    x, names = rng.integers(0, 4, 9), rng.permutation(4)
    found, other = renamed_predictions(x, blocks).log_law, renamed_predictions(names[x], blocks).log_law
    np.testing.assert_allclose(np.asarray(other)[:, names], found, rtol=1e-10, atol=1e-14)
    # Nor do those of the text.
    blocks = blocks[np.ix_(names, names)]
    np.testing.assert_allclose(renamed_predictions(x, blocks).log_law, found, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
def test_impossible_blocks():
    blocks = np.zeros((2, 2))
    blocks[0, 0], blocks[0, 1], blocks[1, 0] = 3, 1, 1
    # Two ones in turn: they are zeros of the text.
    found = renamed_predictions(np.array([1, 1, 0]), blocks)
    np.testing.assert_allclose(np.exp(found.log_law[-1]), [0, 1], atol=1e-15)
    np.testing.assert_allclose(np.exp(found.log_law[2]), [0.25, 0.75], rtol=1e-12)
    with pytest.raises(ValueError, match="impossible under every model"):
        renamed_predictions(np.array([1, 1, 0, 0]), blocks)
    # After a past that does not occur all symbols are alike.
    np.testing.assert_allclose(np.exp(block_predictions(np.array([1, 1]), blocks).log_law[1:]), [[1, 0], [1, 0]])
    never = np.array([[1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(np.exp(block_predictions(np.array([1]), never).log_law[1]), 0.5)


def test_one_symbol_at_a_time():
    urn = np.array([0.2, 0.5, 0.3])
    found = block_predictions(np.array([2, 0, 1]), urn)
    np.testing.assert_allclose(np.exp(found.log_law), np.tile(urn, (4, 1)), rtol=1e-14)
    np.testing.assert_allclose(block_loss(urn), [entropy(urn)], rtol=1e-14)


def test_classes_over_all_throws():
    """Three letters into two classes: all eight throws, their chances from the moments of the shares."""
    windows, shares = np.array([[0, 0, 1, 2], [1, 0, 1, 0], [2, 2, 2, 1]]), np.array([0.7, 2.2])
    wanted = np.zeros((2,) * 4)
    for into in itertools.product((0, 1), repeat=3):
        counts = np.bincount(into, minlength=2)
        chance = np.exp(log_evidence(counts, shares))
        for window in windows:
            wanted[tuple(np.array(into)[window])] += chance / 3
    np.testing.assert_allclose(class_blocks(windows, 2, shares), wanted, rtol=1e-12)


@given(seeds)
def test_classes(seed):
    rng = np.random.default_rng(seed)
    windows = rng.integers(0, 4, (5, 4))
    found = np.asarray(class_blocks(windows, 3, 0.8))
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=3), class_blocks(windows[:, :3], 3, 0.8), rtol=1e-12)
    # Neither names of letters nor of classes matter.
    np.testing.assert_allclose(class_blocks(7 * rng.permutation(4)[windows] - 3, 3, 0.8), found, rtol=1e-12)
    np.testing.assert_allclose(found, under_all_names(found), rtol=1e-12)
    # Classes that are alike, summed over all strings and over one of each pattern.
    np.testing.assert_allclose(class_blocks(windows, 3, np.full(3, 0.8)), found, rtol=1e-13)


def test_letters_that_never_recur_are_draws_from_an_urn():
    shares = np.array([0.4, 1.5, 3.0])
    found = np.asarray(class_blocks(np.arange(5)[None], 3, shares))
    for string in itertools.product(range(3), repeat=5):
        expected = math.exp(log_evidence(np.bincount(string, minlength=3), shares))
        np.testing.assert_allclose(found[string], expected, rtol=1e-11)
    # Where there is one letter only, all symbols are the same.
    np.testing.assert_allclose(class_blocks(np.zeros((2, 3), int), 2)[0, 0, 0], 0.5, rtol=1e-14)
    # Shares that are the same for all strings: fair coins.
    np.testing.assert_allclose(class_blocks(np.arange(3)[None], 2, 1e12), 1 / 8, rtol=1e-11)


@given(seeds)
def test_two_moments_of_classes(seed):
    rng = np.random.default_rng(seed)
    f, shares = rng.dirichlet(np.ones(4)), rng.uniform(0.2, 3, 3)
    a = np.asarray(class_prior(f, shares))
    assert (a < shares).all()
    first, second = np.zeros(3), np.zeros((3, 3))
    for into in itertools.product(range(3), repeat=4):
        weight = np.exp(log_evidence(np.bincount(into, minlength=3), shares))
        theta = np.bincount(into, f, minlength=3)
        first, second = first + weight * theta, second + weight * np.outer(theta, theta)
    np.testing.assert_allclose(first, a / a.sum(), rtol=1e-12)
    of_urns = (np.outer(a, a) + np.diag(a)) / a.sum() / (a.sum() + 1)
    np.testing.assert_allclose(second, of_urns, rtol=1e-11)
    np.testing.assert_allclose(class_prior(1000 * f, shares), a, rtol=1e-12)
    np.testing.assert_allclose(class_prior(f, 1e13 * shares).sum(), 1 / np.sum(f**2) - 1, rtol=1e-9)


def test_letters_without_number_leave_the_law_of_shares():
    np.testing.assert_allclose(class_prior(np.ones(10**6), jnp.array([1.0, 2.0])), [1, 2], rtol=1e-5)


def around(seed, letters, length):
    """All windows of a string of letters that bites its tail, among others of letters that stand only once.

    Beside them how often places hold the same letter, by their distance.
    """
    ring = np.random.default_rng(seed).integers(0, letters, 9)
    windows = np.array([np.roll(ring, -i)[:length] for i in range(len(ring))])
    once = np.tile(letters + np.arange(length), (2 * len(ring), 1))
    repeats = np.array([np.mean(ring == np.roll(ring, d)) for d in range(1, length + 1)])
    return np.concatenate([windows, once]), repeats / 3


@given(seeds)
def test_errors_have_nothing_to_do_with_the_past(seed):
    """Over all strings and all throws: no linear law has a smaller mean square error, and none is better calibrated."""
    rng = np.random.default_rng(seed)
    (windows, repeats), shares = around(seed, 5, 4), rng.uniform(1.0, 3, 3)
    p = np.asarray(class_blocks(windows, 3, shares)).ravel()
    strings = np.array(list(itertools.product(range(3), repeat=4)))
    laws = np.exp(jax.vmap(lambda x: distance_predictions(x, 3, repeats, shares).log_law)(strings))
    held = np.eye(3)[strings]
    for t in range(4):
        wrong = held[:, t] - laws[:, t]
        np.testing.assert_allclose(p @ wrong, 0, atol=1e-12)
        np.testing.assert_allclose(np.einsum("s,smi,sj->mij", p, held[:, :t], wrong), 0, atol=1e-12)


@given(seeds)
def test_the_second_class_is_exact(seed):
    (windows, repeats), shares = around(seed, 3, 2), np.array([0.4, 2.0, 1.1])
    blocks = class_blocks(windows, 3, shares)
    for first in range(3):
        x = np.array([first, 0])
        exact = block_predictions(x, blocks).log_law[:2]
        np.testing.assert_allclose(distance_predictions(x, 3, repeats, shares).log_law[:2], exact, rtol=1e-11)


@given(seeds)
def test_one_rate_at_all_distances_leaves_counts(seed):
    rng = np.random.default_rng(seed)
    x, f, shares = rng.integers(0, 3, 12), rng.dirichlet(np.ones(6)), rng.uniform(0.2, 3, 3)
    found = distance_predictions(x, 3, np.full(12, np.sum(f**2)), shares)
    counts = ngram_predictions(x, 3, 0, class_prior(f, shares))
    np.testing.assert_allclose(found.log_law, counts.log_law, rtol=1e-10)
    np.testing.assert_allclose(found.log_density, counts.log_density, rtol=1e-10)


def test_places_that_never_agree_tell_nothing():
    x, shares = np.array([0, 2, 2, 1, 0]), np.array([1.0, 2.0, 5.0])
    # With shares that are the same for all strings; a last rate is of the law after the string.
    fair = np.exp(distance_predictions(x, 3, np.array([0, 0, 0, 0, 0.3]), 1e12 * shares).log_law)
    np.testing.assert_allclose(fair[:5], np.tile(shares / 8, (5, 1)), rtol=1e-10)
    np.testing.assert_allclose(fair[5], 0.7 * shares / 8 + 0.3 * np.eye(3)[x[0]], rtol=1e-10)
    names = np.array([2, 0, 1])
    rates = np.array([0.1, 0.3, 0.2, 0.25, 0.1])
    found = distance_predictions(x, 3, rates, shares).log_law
    other = distance_predictions(names[x], 3, rates, shares[np.argsort(names)]).log_law
    np.testing.assert_allclose(np.asarray(other)[:, names], found, rtol=1e-11)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-13)
    # What comes later, and rates of distances that do not occur yet, change nothing.
    np.testing.assert_allclose(distance_predictions(x[:3], 3, rates, shares).log_law, found[:4], rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: block_loss(np.ones((2, 3))), "blocks must have the same two symbols or more on every axis"),
        (lambda: block_loss(np.ones(1)), "blocks must have the same two symbols"),
        (lambda: block_loss(-np.ones((2, 2))), "blocks must be non-negative"),
        (lambda: block_loss(np.zeros((2, 2))), "blocks must hold something"),
        (lambda: renamed_blocks(np.ones((8, 8))), "blocks must be of at most 7 symbols to be renamed, got 8"),
        (lambda: price_of_names(np.ones((8, 8))), "blocks must be of at most 7 symbols"),
        (lambda: renamed_predictions(np.array([0, 2]), np.ones((2, 2))), "sequence must hold symbols 0 to 1, got 2"),
        (lambda: block_predictions(np.array([-1]), np.ones((2, 2))), "sequence must hold symbols 0 to 1"),
        (lambda: class_blocks(np.zeros((2, 10), int), 2), "windows must be of shape"),
        (lambda: class_blocks(np.zeros((2, 9), int), 7), "symbols must leave at most"),
        (lambda: class_blocks(np.zeros((2, 3), int), 2, np.ones(3)), "shares must have shape"),
        (lambda: class_blocks(np.zeros((2, 3), int), 2, 0.0), "shares must be positive"),
        (lambda: class_prior(np.array([1.0, 0.0]), np.ones(2)), "frequencies must be of two letters or more"),
        (lambda: class_prior(np.ones(3), np.ones(1)), "frequencies and shares must be two vectors"),
        (lambda: distance_predictions(np.zeros(3, int), 2, np.ones(2) / 9), "repeats must hold a rate for each of 3"),
        (lambda: distance_predictions(np.zeros(1, int), 2, np.array([1.5])), "repeats must lie between 0 and 1"),
        # Neighbours alike and their neighbours not: nearly what stands two places apart would be of another letter.
        (
            lambda: distance_predictions(np.zeros(2, int), 2, np.array([0.9, 0.1]), 1e9),
            "must leave every class a chance",
        ),
        (lambda: distance_predictions(np.array([2]), 2, np.array([0.1])), "sequence must hold symbols 0 to 1, got 2"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
