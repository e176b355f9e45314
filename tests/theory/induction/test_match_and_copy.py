"""Match and copy: all factors, maps and hidden values enumerated; readings drawn; limits; what must never happen."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.match_and_copy import (
    factor_prediction,
    known_factor,
    noisy_copying_accuracy,
    one_example,
    reading_agreement,
    single_factor_prediction,
)

seeds = st.integers(0, 10_000)


def drawn(seed, sequences, context, factors, size, labels):
    """Values (P, N, F), labels (P, N) and the factor that counts (P,)."""
    rng = np.random.default_rng(seed)
    values, factor = rng.integers(0, size, (sequences, context, factors)), rng.integers(0, factors, sequences)
    table = rng.integers(0, labels, (sequences, size))
    given = np.take_along_axis(values, factor[:, None, None], axis=2)[..., 0]
    return values, np.take_along_axis(table, given, axis=1), factor


def by_hand(values, answers, size, labels, hidden):
    """Labels and factors of one sequence, exactly: all causes are counted, hidden values summed over."""
    n, factors = values.shape
    maps = list(itertools.product(range(labels), repeat=size))
    found = np.zeros((n, labels)), np.zeros((n, factors + 1))
    for at in range(n):
        label, factor = [Fraction(0)] * labels, [Fraction(0)] * (factors + 1)
        for f, m in itertools.product(range(factors), maps):
            if all(m[values[s, f]] == answers[s] for s in range(at)):
                label[m[values[at, f]]] += 1
                factor[f] += 1
        for m in maps:
            chance = Fraction(hidden)
            for s in range(at):
                chance *= Fraction(m.count(answers[s]), size)
            factor[-1] += chance
            label = [p + chance * Fraction(m.count(c), size) for c, p in enumerate(label)]
        found[0][at], found[1][at] = ([float(x / sum(part)) for x in part] for part in (label, factor))
    return found


@given(seeds, st.sampled_from([0, 2]))
def test_all_causes(seed, hidden):
    values, answers, _ = drawn(seed, 3, 4, 2, 3, 2)
    found = factor_prediction(values, answers, 3, 2, float(hidden))
    for i in range(3):
        labels, factors = by_hand(values[i], answers[i], 3, 2, hidden)
        np.testing.assert_allclose(found.labels[i], labels, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(found.factors[i], factors, rtol=1e-12, atol=1e-14)


def nats(p, answers):
    return -np.log(np.take_along_axis(np.asarray(p), answers[..., None], axis=-1)[..., 0])


def test_chances_of_all_sequences_add_up():
    """The product of predictions is the chance of the labels: of one map and factor, of so many."""
    items = np.array([[0, 0], [0, 1], [1, 1]])
    every = np.array(list(itertools.product(range(2), repeat=3)))
    values = np.broadcast_to(items, (8, 3, 2)).copy()
    said = np.asarray(factor_prediction(values, every, 2, 2).labels)
    chance = np.take_along_axis(said, every[..., None], axis=-1)[..., 0].prod(axis=1)
    expected = [
        np.mean([[[m[v[f]] for v in items] == list(y) for m in itertools.product(range(2), repeat=2)] for f in (0, 1)])
        for y in every
    ]
    # Labels of no map are impossible at the last of them.
    np.testing.assert_allclose(chance, expected, atol=1e-15)
    np.testing.assert_allclose(chance.sum(), 1, rtol=1e-12)


@given(seeds)
def test_symmetries(seed):
    values, answers, _ = drawn(seed, 3, 4, 2, 3, 2)
    rng = np.random.default_rng(seed)
    found = factor_prediction(values, answers, 3, 2)
    swapped = factor_prediction(values[..., ::-1].copy(), 1 - answers, 3, 2)
    np.testing.assert_allclose(np.asarray(swapped.labels)[..., ::-1], found.labels, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(np.asarray(swapped.factors)[..., [1, 0, 2]], found.factors, rtol=1e-12, atol=1e-15)
    # Names of values, of each factor, and the order of what has been shown.
    names = rng.permutation(3)
    renamed = np.stack([names[values[..., 0]], values[..., 1]], axis=-1)
    np.testing.assert_allclose(factor_prediction(renamed, answers, 3, 2).labels, found.labels, rtol=1e-12, atol=1e-15)
    order = [*rng.permutation(3), 3]
    again = factor_prediction(values[:, order], answers[:, order], 3, 2)
    np.testing.assert_allclose(again.labels[:, 3], found.labels[:, 3], rtol=1e-12, atol=1e-15)


def hits(p, answers):
    p = np.asarray(p)
    best = np.isclose(p, p.max(axis=-1, keepdims=True), rtol=1e-9)
    return np.take_along_axis(best, answers[..., None], axis=-1)[..., 0] / best.sum(axis=-1)


def z_of(samples, expected):
    return np.max(np.abs(samples.mean(axis=0) - expected) / (samples.std(axis=0) / len(samples) ** 0.5 + 1e-12))


def test_curves_of_random_sequences():
    """The known factor, one example, and what never happens: to do better than exact Bayes."""
    values, answers, factor = drawn(0, 4000, 6, 2, 3, 2)
    true = np.take_along_axis(values, factor[:, None, None], axis=2)[..., 0]
    single, n = single_factor_prediction(true, answers, 3, 2), np.arange(6)
    known = known_factor(n, 3.0, 2.0)
    assert z_of(hits(single, answers), known.accuracy) < 5
    assert z_of(nats(single, answers), known.loss) < 5
    # With one factor and nothing hidden match and copy is exact Bayes.
    alone = factor_prediction(true[..., None], answers, 3, 2)
    np.testing.assert_allclose(alone.labels, single, atol=1e-13)
    bayes = factor_prediction(values, answers, 3, 2)
    assert z_of(hits(bayes.labels, answers)[:, 1], one_example(2, 3.0, 2.0).accuracy) < 5
    assert z_of(nats(bayes.labels, answers)[:, 1], one_example(2, 3.0, 2.0).loss) < 5
    worse = factor_prediction(values[..., :1], answers, 3, 2, 1.0)
    losses = [nats(p.labels, answers) for p in (bayes, worse)]
    for better, other in ((np.asarray(nats(single, answers)), losses[0]), (losses[0], losses[1])):
        gain = other - better
        assert (gain.mean(axis=0)[1:] > 5 * gain.std(axis=0)[1:] / 4000**0.5).all()
    # A posterior is right as often as it says.
    right = np.take_along_axis(np.asarray(bayes.factors), factor[:, None, None], axis=2)[:, -1, 0]
    claimed = np.sum(np.asarray(bayes.factors)[:, -1] ** 2, axis=-1)
    assert abs((right - claimed).mean()) < 5 * (right - claimed).std() / 4000**0.5


@pytest.mark.parametrize("right", [0.3, 0.8])
def test_misread_values(right):
    size, labels, shown, many = 4, 3, 3, 20_000
    rng = np.random.default_rng(1)
    values, table = rng.integers(0, size, (many, shown + 1)), rng.integers(0, labels, (many, size))
    answers = np.take_along_axis(table, values, axis=1)
    wrong = (values + rng.integers(1, size, values.shape)) % size
    reads = np.where(rng.random(values.shape) < right, values, wrong)
    # Of the matches one is drawn, as the largest of random numbers.
    score = np.where(reads[:, :-1] == reads[:, -1:], rng.random((many, shown)), -1.0)
    copied = np.take_along_axis(answers, score.argmax(axis=1)[:, None], axis=1)[:, 0]
    said = np.where(score.max(axis=1) < 0, rng.integers(0, labels, many), copied)
    assert z_of(said == answers[:, -1], noisy_copying_accuracy(shown, size, labels, right)) < 5
    same = values[:, 0] == values[:, 1]
    assert z_of((reads[:, 0] == reads[:, 1])[same], reading_agreement(right, size)) < 5
    assert z_of(same[reads[:, 0] == reads[:, 1]], reading_agreement(right, size)) < 5


def test_limits():
    n = np.arange(4.0)
    np.testing.assert_allclose(known_factor(n, 1.0, 3.0).accuracy, [1 / 3, 1, 1, 1])
    np.testing.assert_allclose(noisy_copying_accuracy(n, 5.0, 3.0, 1.0), known_factor(n, 5.0, 3.0).accuracy)
    np.testing.assert_allclose(one_example(3, 4.0, 5.0).accuracy, known_factor(1.0, 4.0, 5.0).accuracy, rtol=1e-12)
    np.testing.assert_allclose(one_example(1, 4.0, 5.0).loss, known_factor(1.0, 4.0, 5.0).loss, rtol=1e-12)
    np.testing.assert_allclose(one_example(2, 1.0, 5.0).loss, 0, atol=1e-12)
    # Many hidden factors: labels are as frequent as they have been; labels of no map: nothing is known.
    values, answers = np.zeros((1, 3, 1), int), np.array([[0, 0, 1]])
    crowd = factor_prediction(values, answers, 2, 2, 1e9)
    np.testing.assert_allclose(crowd.labels[0, :, 0], [0.5, 0.75, 5 / 6], rtol=1e-6)
    answers = np.array([[0, 1, 0]])
    np.testing.assert_allclose(factor_prediction(values, answers, 2, 2).labels[0, 2], 0.5)
    np.testing.assert_allclose(factor_prediction(values, answers, 2, 2).factors[0].sum(axis=-1), 1)


VALUES, ANSWERS = np.zeros((2, 3, 2), int), np.zeros((2, 3), int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: factor_prediction(VALUES + 2, ANSWERS, 2, 2), "values must lie between 0 and 1, got 2"),
        (lambda: factor_prediction(VALUES, ANSWERS - 1, 2, 2), "answers must lie between 0 and 1, got -1"),
        (lambda: factor_prediction(VALUES, ANSWERS[:, :2], 2, 2), "answers must hold a label for each item"),
        (
            lambda: factor_prediction(VALUES[:, :0], ANSWERS[:, :0], 2, 2),
            "values must be whole numbers in 3 dimensions",
        ),
        (lambda: factor_prediction(VALUES, ANSWERS, 2, 2, -1.0), "hidden must be non-negative and finite, got -1"),
        (lambda: factor_prediction(VALUES, ANSWERS, 0, 2), "size must be a whole number of at least 1, got 0"),
        (lambda: single_factor_prediction(ANSWERS, ANSWERS[:, :2], 2, 2), "answers must hold a label for each item"),
        (lambda: known_factor(-1.0, 2.0, 2.0), "shown must be non-negative"),
        (lambda: known_factor(1.0, 0.5, 2.0), "size must be at least 1, got 0.5"),
        (lambda: reading_agreement(1.2, 4.0), "right must lie between 0 and 1, got 1.2"),
        (lambda: reading_agreement(0.5, 1.0), "size must be at least 2, got 1"),
        (lambda: noisy_copying_accuracy(1.0, 3.0, 0.5, 0.5), "labels must be at least 1, got 0.5"),
        (lambda: one_example(0, 3.0, 2.0), "factors must be a whole number of at least 1, got 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
