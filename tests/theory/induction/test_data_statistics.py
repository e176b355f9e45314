"""Chance statistics: all sequences of a small world, bounds and limits at any size, samples of exemplars, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.associative_memory import power_law
from theory.induction.data_statistics import (
    best_match,
    distinct,
    distribution,
    exemplar_overlap,
    in_context_accuracy,
    in_weights_accuracy,
    label_frequencies,
    matches,
    mismatch_bound,
    plateaus,
    recurrence,
)

seeds = st.integers(0, 2**32 - 1)
K, L, N = 4, 2, 3


def drawn(seed):
    weight = np.random.default_rng(seed).exponential(size=K) ** 3
    return weight / weight.sum()


def expected(p, draws, statistic):
    """The sum over all sequences."""
    every = itertools.product(range(len(p)), repeat=draws)
    return sum(np.prod(p[list(classes)]) * statistic(classes) for classes in every)


@given(seeds)
def test_all_sequences_of_a_small_world(seed):
    p = drawn(seed)
    alike = lambda f: lambda classes: f([k % L for k in classes])  # noqa: E731
    found = lambda classes: classes[-1] in classes[:-1]  # noqa: E731
    np.testing.assert_allclose(recurrence(p, N), expected(p, N + 1, found), rtol=1e-10)
    labels = label_frequencies(p, L)
    np.testing.assert_allclose(recurrence(labels, N), expected(p, N + 1, alike(found)), rtol=1e-10)
    many = expected(p, N, alike(lambda classes: len(set(classes))))
    np.testing.assert_allclose(distinct(labels, N), many, rtol=1e-10)
    count = expected(p, N + 1, lambda classes: classes[:-1].count(classes[-1]))
    np.testing.assert_allclose(matches(p, N, 0), count, rtol=1e-10)
    # Without a match: any label, or that of a random item.
    for contextual in (False, True):

        def right(classes, contextual=contextual):
            *context, target = classes
            hits = np.mean([k % L == target % L for k in context]) if contextual else 1 / L
            return 1 if target in context else hits

        accuracy = in_context_accuracy(p, L, N, contextual).iid
        np.testing.assert_allclose(accuracy, expected(p, N + 1, right), rtol=1e-10)


@given(seeds)
def test_bounds_order_and_names(seed):
    p, draws = drawn(seed), np.arange(8.0)
    r, v = np.asarray(recurrence(p, draws)), np.asarray(distinct(p, draws))
    np.testing.assert_allclose(np.diff(v), 1 - r[:-1], rtol=1e-12, atol=1e-14)
    assert (np.diff(r) > 0).all() and (r <= draws * np.sum(p**2) + 1e-15).all()
    assert (v <= np.minimum(draws, K) + 1e-12).all()
    order = np.random.default_rng(seed).permutation(K)
    np.testing.assert_allclose(recurrence(p[order], draws), r, rtol=1e-13)
    # Labels recur more often than their classes do.
    assert (recurrence(label_frequencies(p, L), draws) >= r - 1e-15).all()
    np.testing.assert_allclose(recurrence(p, draws, 0.3), 0.3 + 0.7 * r, rtol=1e-13)


def test_growth_with_the_exponent_and_published_values():
    found = [float(recurrence(power_law(alpha, 1600), 8)) for alpha in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(found, [0.00499, 0.15407, 0.76826], rtol=1e-3)
    steep = [float(recurrence(power_law(alpha, 64), 8)) for alpha in (0.0, 0.5, 1.5, 3.0)]
    assert (np.diff(steep) > 0).all()
    np.testing.assert_allclose(label_frequencies(power_law(0.0, 12), 4), 1 / 4, rtol=1e-13)


def test_finite_everywhere():
    p = power_law(1.0, 1_000_000)
    found = recurrence(p, np.array([1.0, 1e300]))
    np.testing.assert_allclose(found, [jnp.sum(p**2), 1], rtol=1e-10)
    rare = np.array([1.0, 1e-300])
    np.testing.assert_allclose(distinct(rare, np.array([0, 1, 5, 1e299])), [0, 1, 1, 1 - np.expm1(-0.1)])
    np.testing.assert_allclose(recurrence(rare, np.array([0, 1])), [0, 1])
    for contextual in (False, True):
        assert in_context_accuracy(np.array([1.0, 0.0]), 2, 1, contextual).iid == 1
    slope = jax.grad(lambda x: recurrence(jnp.array([x, 1 - x]), 3.0))
    np.testing.assert_allclose([slope(0.5), slope(1e-300)], [0, -1], atol=1e-12)


def test_templates_chance_and_tests():
    p = power_law(1.0, 8)
    np.testing.assert_allclose(matches(p, 8, np.array([0, 8])), [8 * jnp.sum(p**2), 8], rtol=1e-13)
    levels = plateaus(16.0, np.array([4.0, 16.0]))
    np.testing.assert_allclose(levels.contextual_loss, np.log([4, 16]))
    np.testing.assert_allclose(levels.accuracy, 1 / 16)
    np.testing.assert_allclose(jnp.exp(-levels.loss), levels.accuracy)
    np.testing.assert_allclose(levels.contextual_accuracy, [1 / 4, 1 / 16])
    assert in_weights_accuracy(16) == (1 / 16, 0, 1)
    np.testing.assert_allclose(in_weights_accuracy(16, 0.0), 1 / 16)
    # Uniform classes with a label each: only a match is right, or a lucky guess among all labels.
    found = in_context_accuracy(np.full(16, 1 / 16), 16, 4)
    hit = 1 - (15 / 16) ** 4
    np.testing.assert_allclose(found, [1, 1, hit + (1 - hit) / 16], rtol=1e-12)
    np.testing.assert_allclose(in_context_accuracy(np.full(16, 1 / 16), 16, 4, True).iid, hit, rtol=1e-12)


@pytest.mark.parametrize(("epsilon", "dimension", "others"), [(0.5, 8, 7), (1.0, 3, 3), (0.0, 4, 15)])
def test_exemplars_by_sampling(epsilon, dimension, others):
    rng, runs = np.random.default_rng(dimension), 40_000
    normal = lambda *shape: rng.normal(size=(*shape, dimension)) / np.sqrt(dimension)  # noqa: E731
    means = normal(others + 1, runs)
    items = (means + epsilon * normal(others + 1, runs)) / np.sqrt(1 + epsilon**2)
    target = (means[0] + epsilon * normal(runs)) / np.sqrt(1 + epsilon**2)
    overlaps = np.sum(items * target, axis=2)
    for sample, exact in zip((overlaps[0], overlaps[1]), exemplar_overlap(epsilon, dimension), strict=True):
        z = [(sample.mean() - exact.mean) / sample.std() * np.sqrt(runs)]
        squares = (sample - exact.mean) ** 2
        z.append((squares.mean() - exact.variance) / squares.std() * np.sqrt(runs))
        assert np.abs(z).max() < 5
    right = np.mean(overlaps.argmax(axis=0) == 0)
    found = best_match(epsilon, dimension, others)
    assert abs(right - found) < 5 * np.sqrt(found * (1 - found) / runs)
    assert 1 - found <= mismatch_bound(epsilon, dimension, others)


def test_best_match_in_its_limits():
    epsilon, d = np.array([0.0, 0.3, 2.0])[:, None], np.array([1.0, 2.0, 3000.0])
    np.testing.assert_allclose(1 - best_match(epsilon, d, 1.0), mismatch_bound(epsilon, d, 1.0), atol=1e-13)
    np.testing.assert_allclose(best_match(epsilon, d, 0.0), 1, atol=1e-13)
    np.testing.assert_allclose(best_match(1e8, d, 7.0), 1 / 8, atol=1e-8)
    np.testing.assert_allclose(best_match(0.1, 1e5, 1e3), 1, atol=1e-10)
    # Identical exemplars on a line: rho = 1, and the target's length is the lead.
    np.testing.assert_allclose(mismatch_bound(0.0, 1.0, 1.0), 0.25, rtol=1e-12)
    found = np.asarray(best_match(0.3, 8.0, np.arange(9.0)))
    assert (np.diff(found) < 0).all() and (np.diff(found, 2) > 0).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: recurrence(np.array([0.5, 0.6]), 3), "frequencies must sum to one"),
        (lambda: recurrence(np.array([1.5, -0.5]), 3), "frequencies must be non-negative and finite, got -0.5"),
        (lambda: distribution(np.ones((2, 2))), "frequencies must be a vector of one or more"),
        (lambda: recurrence(np.array([1.0]), -1), "draws must be non-negative and finite, got -1"),
        (lambda: recurrence(np.array([1.0]), 1, 1.2), "bursty must lie between 0 and 1, got 1.2"),
        (lambda: distinct(np.array([1.0]), np.nan), "draws must be non-negative and finite, got nan"),
        (lambda: label_frequencies(np.array([0.2] * 5), 2), "labels must divide the 5 classes, got 2"),
        (lambda: matches(np.array([1.0]), 4, 5), "copies must be at most the number of items in the context, got 5"),
        (lambda: plateaus(4, 5), "contextual must lie between 1 and the number of labels, got 5"),
        (lambda: in_weights_accuracy(1), "labels must be a whole number of at least 2, got 1"),
        (lambda: in_weights_accuracy(4, 2.0), "known must lie between 0 and 1, got 2"),
        (lambda: in_context_accuracy(np.array([1.0]), 1, 0), "context must be a whole number of at least 1, got 0"),
        (lambda: exemplar_overlap(-1.0, 3), "variation must be non-negative and finite, got -1"),
        (lambda: best_match(0.1, 0.5, 3), "dimension must be at least 1, got 0.5"),
        (lambda: mismatch_bound(0.1, 8, -1), "others must be non-negative and finite, got -1"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
