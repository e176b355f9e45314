"""Recognising a task: Bayes in plain loops, all tables and draws enumerated, limits, conservation of information."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.task_identification import (
    agreement,
    copier_curve,
    copying_prediction,
    distinct_classes,
    identification_loss,
    identifier_curve,
    identifying_context,
    sampling_accuracy,
    table_prediction,
    task_entropy,
    unseen_task_accuracy,
    voting_accuracy,
)

seeds = st.integers(0, 10_000)


def by_hand(classes, answers, tasks, labels, noise):
    """Posterior over tasks as a product of likelihoods, label after label."""
    found = np.zeros((*classes.shape, labels))
    chance = lambda said, label: noise / labels + (1 - noise) * (said == label)  # noqa: E731
    for i, n in np.ndindex(classes.shape):
        weight = [math.prod(chance(t[classes[i, s]], answers[i, s]) for s in range(n)) for t in tasks]
        for c in range(labels):
            votes = sum(w * chance(t[classes[i, n]], c) for w, t in zip(weight, tasks, strict=True))
            found[i, n, c] = votes / sum(weight) if sum(weight) else 1 / labels
    return found


@given(seeds, st.sampled_from([0.0, 1e-3, 0.4, 1.0]))
def test_the_posterior_by_hand(seed, noise):
    rng = np.random.default_rng(seed)
    tasks, classes, answers = rng.integers(0, 3, (4, 5)), rng.integers(0, 5, (6, 4)), rng.integers(0, 3, (6, 4))
    found = np.asarray(table_prediction(classes, answers, tasks, 3, noise))
    np.testing.assert_allclose(found, by_hand(classes, answers, tasks, 3, noise), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-12)
    # Names of labels and the order of tasks do not matter.
    names, order = rng.permutation(3), rng.permutation(4)
    again = table_prediction(classes, names[answers], names[tasks[order]], 3, noise)
    np.testing.assert_allclose(np.asarray(again)[..., names], found, rtol=1e-12, atol=1e-15)


def test_long_sequences_stay_finite():
    classes, tasks = np.zeros((1, 4000), int), np.array([[0], [1]])
    found = np.asarray(table_prediction(classes, classes, tasks, 2, 1e-9))
    np.testing.assert_allclose(found[0, -1], [1 - 5e-10, 5e-10], rtol=1e-9)
    # On a task that is not known: the nearer one with a little noise, nothing without.
    tasks, classes, answers = np.array([[0, 0, 0], [1, 1, 2]]), np.array([[0, 1, 2]]), np.array([[0, 1, 2]])
    answers[0, 0] = 2
    np.testing.assert_allclose(table_prediction(classes, answers, tasks, 3)[0, 1:], 1 / 3)
    np.testing.assert_allclose(table_prediction(classes, answers, tasks, 3, 1e-6)[0, 2], [0, 0, 1], atol=2e-6)


@given(seeds, st.booleans())
def test_copying_is_knowing_all_tasks(seed, distinct):
    rng = np.random.default_rng(seed)
    every = itertools.permutations(range(4), 3) if distinct else itertools.product(range(4), repeat=3)
    tasks = np.array(list(every))
    classes = rng.integers(0, 3, (6, 5))
    answers = np.take_along_axis(tasks[rng.integers(0, len(tasks), 6)], classes, axis=1)
    expected = table_prediction(classes, answers, tasks, 4)
    np.testing.assert_allclose(copying_prediction(classes, answers, 4, distinct), expected, rtol=1e-12, atol=1e-15)


def hits(p, answers):
    """Chance of being right, ties shared."""
    best = np.isclose(p, p.max(axis=-1, keepdims=True), rtol=1e-9)
    return np.take_along_axis(best, answers[..., None], axis=-1)[..., 0] / best.sum(axis=-1)


@pytest.mark.parametrize(("labels", "distinct"), [(2, False), (3, True)])
def test_curves_are_means_over_all_tables_and_draws(labels, distinct):
    maps = list(itertools.permutations(range(labels), 2) if distinct else itertools.product(range(labels), repeat=2))
    draws = np.array(list(itertools.product(range(2), repeat=3)))
    known, loss, sure, strange = [], [], [], []
    # All true tasks are alike but for names of labels: the first stands for them.
    truth = np.array(maps[0])
    answers = truth[draws]
    for other, third in itertools.product(np.array(maps), repeat=2):
        p = np.asarray(table_prediction(draws, answers, np.array([truth, other]), labels))
        known.append(hits(p, answers).mean(axis=0))
        right = np.take_along_axis(p, answers[..., None], -1)[..., 0]
        loss.append(-np.log(right).mean(axis=0))
        sure.append(right.mean(axis=0))
        p = np.asarray(table_prediction(draws, answers, np.array([third, other]), labels))
        strange.append(hits(p, answers).mean(axis=0))
    copied = hits(np.asarray(copying_prediction(draws, answers, labels, distinct)), answers)
    curve, copier = identifier_curve(3, 2, labels, 2, distinct), copier_curve(3, 2, labels, distinct)
    # Known tasks are a help.
    assert (np.asarray(curve.loss) < np.asarray(copier.loss)).all()
    # Before position 2 one class has been shown; the next one is it half the time.
    sampled = [sampling_accuracy(0, labels, 2, distinct), 0.5 + 0.5 * sampling_accuracy(1, labels, 2, distinct)]
    np.testing.assert_allclose(sampled, np.mean(sure, axis=0)[:2], rtol=1e-12)
    np.testing.assert_allclose(curve.accuracy, np.mean(known, axis=0), rtol=1e-12)
    np.testing.assert_allclose(curve.loss, np.mean(loss, axis=0), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(copier.accuracy, copied.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(unseen_task_accuracy(3, 2, labels, 2, distinct), np.mean(strange, axis=0), rtol=1e-12)


def largest_count(tasks, share, kinds):
    """E max_c V_c / (M q) of a multinomial, from powers of truncated exponential series."""
    total, rest = 0.0, [(1 - kinds * share) ** k / math.factorial(k) for k in range(tasks + 1)]
    for most in range(tasks):
        one = [share**v / math.factorial(v) for v in range(most + 1)]
        series = np.array([1.0])
        for _ in range(kinds):
            series = np.convolve(series, one)[: tasks + 1]
        total += 1 - math.factorial(tasks) * np.convolve(series, rest)[tasks]
    return total / (tasks * share * kinds)


@pytest.mark.parametrize(("labels", "distinct"), [(3, False), (5, True)])
def test_votes(labels, distinct):
    n = np.arange(3)
    found, q = voting_accuracy(n, labels, 40, distinct), np.asarray(agreement(n, labels, distinct))
    kinds = labels - n if distinct else np.full(3, labels)
    expected = [largest_count(40, share / r, r) for share, r in zip(q, kinds, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (np.asarray(found) >= np.asarray(sampling_accuracy(n, labels, 40, distinct))).all()


def test_many_tasks():
    """At n = 0 half the difference of two Gaussian counts decides; one task needs no votes."""
    m = 600
    np.testing.assert_allclose(voting_accuracy(0, 2, m), 0.5 + np.sqrt(1 / (2 * np.pi * m)), rtol=1e-3)
    np.testing.assert_allclose(voting_accuracy(np.array([0, 1, 400]), 3, 1), 1, rtol=1e-12)
    np.testing.assert_allclose(identification_loss(0, 4, 30_000), np.log(4), rtol=1e-4)
    late = sampling_accuracy(identifying_context(1e6, 10), 10, 1e6)
    np.testing.assert_allclose(late, 0.1 + 0.9 * (1 - np.exp(-1)), rtol=1e-5)
    np.testing.assert_allclose(sampling_accuracy(np.array([400.0, 900.0]), 10, 1e4), 1, rtol=1e-12)
    # Ten labels, a thousand tasks, as in the paper's setting.
    printed = [0.1009, 0.109, 0.190, 0.669, 0.9565, 0.9955]
    np.testing.assert_allclose(sampling_accuracy(np.arange(6), 10, 1000), printed, atol=5e-4)


@given(st.sampled_from([1, 30]), st.integers(2, 8))
def test_information_is_kept(tasks, labels):
    n = np.arange(9)
    h, each = np.asarray(task_entropy(n, labels, tasks)), np.asarray(identification_loss(n, labels, tasks))
    np.testing.assert_allclose(h[0], np.log(tasks), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(np.cumsum(each)[:-1], h[0] - h[1:], rtol=1e-9, atol=1e-12)
    # Nothing has a smaller loss than what is right as often as not needs; nor a larger one than a guess.
    assert (each > -1e-12).all() and (each <= np.log(labels) + 1e-12).all()
    assert (np.diff(h) < 1e-12).all()


def test_occupancy():
    p = np.asarray(distinct_classes(5, 3))
    for n in range(5):
        counts = [len(set(draw)) for draw in itertools.product(range(3), repeat=n)]
        np.testing.assert_allclose(p[n], np.bincount(counts, minlength=4) / len(counts), rtol=1e-12)
    strange = np.asarray(unseen_task_accuracy(5, 3, 3, 5000))
    np.testing.assert_allclose(strange, copier_curve(5, 3, 3).accuracy, rtol=1e-12)


INTS = np.zeros((2, 3), int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: table_prediction(INTS + 3, INTS, INTS, 2), "classes must lie between 0 and 2, got 3"),
        (lambda: table_prediction(INTS, INTS + 2, INTS, 2), "answers must lie between 0 and 1, got 2"),
        (lambda: table_prediction(INTS, INTS, INTS + 2, 2), "tasks must lie between 0 and 1, got 2"),
        (lambda: table_prediction(INTS, INTS[:, :2], INTS, 2), "answers must hold a label for each class"),
        (lambda: table_prediction(INTS, INTS, INTS[:, :0], 2), "tasks must be whole numbers in 2 dimensions"),
        (lambda: table_prediction(INTS, INTS, INTS, 2, 1.5), "noise must lie between 0 and 1, got 1.5"),
        (lambda: copying_prediction(INTS - 1, INTS, 2), "classes must be non-negative, got -1"),
        (lambda: sampling_accuracy(-1.0, 2, 3), "revealed must be non-negative, got -1"),
        (lambda: sampling_accuracy(3.0, 2, 3, True), "revealed must lie between 0 and the labels"),
        (lambda: sampling_accuracy(1.0, 2, 0.5), "tasks must be at least 1, got 0.5"),
        (lambda: voting_accuracy(1.0, 0, 3), "labels must be a whole number of at least 1, got 0"),
        (lambda: identifying_context(3, 1), "labels must be above 1, got 1"),
        (lambda: copier_curve(3, 4, 3, True), "labels must be at least 4, got 3"),
        (lambda: identifier_curve(3, 4, 3, 0), "tasks must be a whole number of at least 1, got 0"),
        (lambda: distinct_classes(0, 4), "context must be a whole number of at least 1, got 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
