"""Sequences of items and labels: exact chances, symmetries, what holds in every single sequence, and refusals."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.tasks.item_label import ItemLabel, Sequences, exemplars, sequences, tokens, world
from theory.induction.data_statistics import distinct, exemplar_overlap, label_frequencies, matches, recurrence

# One shape for all, so that each operation is compiled once.
KEY, D, P = jax.random.key(3), 8, 4000
IID = ItemLabel(labels=4, context=8, classes=24, bursty=0.0, exponent=1.0, repeats=True)


def batch(task, size=P, key=KEY, **options) -> Sequences:
    of_world, of_batch = jax.random.split(key)
    return sequences(of_batch, task, world(of_world, task, D), size, **options)


def frequencies(task):
    weight = np.arange(1.0, task.classes + 1) ** -task.exponent
    return weight / weight.sum()


def z_of(sample, expected):
    """Standard errors of the mean; fives are allowed, three hundred numbers are compared in this file."""
    sample = np.asarray(sample, float)
    return np.abs(sample.mean(axis=0) - expected) / (sample.std(axis=0) / np.sqrt(len(sample)) + 1e-12)


def kinds(rows):
    return np.array([len(set(row)) for row in np.asarray(rows)])


@pytest.mark.parametrize(
    ("changed", "draws", "copies", "present"),
    [
        (dict(), 8, 0, 0),
        (dict(bursty=1.0, burst=1), 8, 1, 1),
        (dict(bursty=1.0, burst=4), 2, 4, 1),
        (dict(bursty=1.0, template="few-shot"), 4, 3, 1),
    ],
)
def test_chances_are_exact(changed, draws, copies, present):
    task = replace(IID, **changed)
    found, p = batch(task), frequencies(task)
    several = np.asarray(found.classes), np.asarray(found.labels)
    for rows, q in zip(several, (p, label_frequencies(p, task.labels)), strict=True):
        assert z_of(rows[:, -1:] == np.arange(len(q)), q).max() < 5
        assert z_of(rows[:, :1] == np.arange(len(q)), q).max() < 5
        assert z_of(kinds(rows[:, :-1]), distinct(q, draws)) < 5
        hits = rows[:, :-1] == rows[:, -1:]
        assert z_of(hits.sum(axis=1), matches(q, task.context, copies)) < 5
        # Every place of the context is as good as any other.
        assert z_of(hits, matches(q, task.context, copies) / task.context).max() < 5
        assert z_of(hits.any(axis=1), recurrence(q, task.context, present)) < 5
    np.testing.assert_array_equal(found.match, several[0][:, :-1] == several[0][:, -1:])
    np.testing.assert_array_equal(found.answer, several[1][:, -1])


def test_mixtures_of_bursty_and_novel_sequences():
    task = replace(IID, exponent=0.0, bursty=0.5, burst=4, novel=0.25)
    found = batch(task)
    assert z_of(found.novel, 0.25) < 5
    present = np.asarray(found.match.any(axis=1))
    assert present[np.asarray(found.novel)].all()
    assert z_of(present, recurrence(frequencies(task), 8, 0.25 + 0.75 * 0.5)) < 5
    # Novel classes are among the multiples of the labels below `fresh`.
    assert int(found.classes[found.novel].max()) < 128
    assert int(batch(replace(task, novel=1.0), fresh=7).classes.max()) == 3


@pytest.mark.parametrize("multiplicity", [1, 2])
def test_without_repeats_labels_differ(multiplicity):
    task = ItemLabel(8, 8, 24, burst=4, exponent=2.0, novel=0.3, multiplicity=multiplicity)
    found = batch(task)
    assert (kinds(found.classes[:, :-1]) == 2).all() and (kinds(found.labels[:, :-1]) == 2).all()
    assert (found.match.sum(axis=1) == 4).all()
    known = np.asarray(found.classes[~found.novel, -1])
    assert z_of(known[:, None] == np.arange(24), 1 / 24).max() < 5
    assert z_of(np.asarray(found.labels)[:, -1:] == np.arange(8), 1 / 8).max() < 5


def test_several_labels_of_a_class():
    task = replace(IID, labels=8, bursty=1.0, burst=4, multiplicity=2)
    found = batch(task)
    assert (found.labels // 2 == found.classes % 4).all()
    alike = found.classes[:, :, None] == found.classes[:, None, :]
    same = found.labels[:, :, None] == found.labels[:, None, :]
    assert (same | ~alike).all()
    loose = batch(replace(task, consistent=False))
    of_target = np.asarray(loose.labels)[:, :-1] == np.asarray(loose.labels)[:, -1:]
    assert z_of(of_target[np.asarray(loose.match)], 0.5) < 5


def test_relabelled_sequences_are_consistent_and_uninformative():
    found, plain = batch(replace(IID, relabelled=0.5)), batch(IID)
    np.testing.assert_array_equal(found.items, plain.items)
    changed = np.asarray((found.labels != plain.labels).any(axis=1))
    same = lambda rows: np.asarray(rows)[:, :, None] == np.asarray(rows)[:, None, :]  # noqa: E731
    np.testing.assert_array_equal(same(found.labels), same(plain.labels))
    # A permutation of four labels leaves few sequences as they were: those with one label, one in four times, ...
    assert 0.4 < changed.mean() < 0.5
    fully = batch(replace(IID, relabelled=1.0))
    assert z_of(np.asarray(fully.labels)[:, -1:] == np.arange(4), 1 / 4).max() < 5


def test_a_swap_changes_labels_alone():
    found, plain = batch(replace(IID, swap=1)), batch(IID)
    np.testing.assert_array_equal(found.labels, (plain.labels + 1) % 4)
    for name in ("classes", "items", "shift", "novel"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_names_of_classes_and_labels_do_not_matter():
    """Permuted tables give the same sequences of other exemplars, and of other label vectors."""
    drawn, other = world(KEY, IID, D), jnp.roll(jnp.arange(24), 5)
    turned = drawn._replace(means=drawn.means[other])
    found, again = (sequences(KEY, replace(IID, variation=0.0), w, P) for w in (drawn, turned))
    np.testing.assert_array_equal(found.classes, again.classes)
    np.testing.assert_allclose(found.items, drawn.means[found.classes], rtol=1e-12)
    np.testing.assert_allclose(again.items, drawn.means[other[found.classes]], rtol=1e-12)
    names = jnp.array([2, 0, 3, 1])
    renamed = found._replace(labels=names[found.labels])
    np.testing.assert_array_equal(tokens(found, drawn.vectors[names]), tokens(renamed, drawn.vectors))
    long = tokens(found, drawn.vectors)
    assert long.shape == (P, 17, D)
    np.testing.assert_array_equal(long[:, 3], drawn.vectors[found.labels[:, 1]])
    np.testing.assert_array_equal(long[:, 16], found.items[:, 8])


def test_exemplars():
    epsilon = 0.7
    means = jax.random.normal(KEY, (P, D)) / D**0.5
    first, second = (exemplars(jax.random.key(i), means, epsilon) for i in (1, 2))
    same, other = exemplar_overlap(epsilon, D)
    assert z_of(jnp.sum(first**2, axis=1), 1.0) < 5
    for overlaps, exact in ((first * second, same), (first * jnp.roll(second, 1, axis=0), other)):
        overlap = jnp.sum(overlaps, axis=1)
        assert z_of(overlap, exact.mean) < 5 and z_of((overlap - exact.mean) ** 2, exact.variance) < 5
    # The target is an exemplar of its own.
    task = replace(IID, bursty=1.0, burst=4)
    assert not (batch(task).items[:, 0] == batch(task).items[:, -1]).any()


def test_shifts():
    assert int(batch(IID).shift.max()) == 0 and IID.places == 17
    task = replace(IID, longest=10)
    assert task.places == 21
    assert z_of(np.asarray(batch(task).shift)[:, None] == np.arange(6), [1 / 5] * 5 + [0]).max() < 5
    np.testing.assert_array_equal(batch(task).items, batch(IID).items)


def test_no_draw_is_used_twice():
    """Independent sequences share nothing with the few-shot ones that the same key gives."""
    task = ItemLabel(4, 8, 40_000, template="few-shot")
    few, alone = (np.asarray(batch(replace(task, bursty=b)).classes) for b in (1.0, 0.0))
    # Each is by chance among the four distinct ones of every other sequence.
    assert z_of(np.isin(alone, few).ravel(), len(np.unique(few)) / 40_000) < 5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_rows_beyond_the_classes_are_never_drawn(dtype):
    for classes, exponent in ((1004, 0.3), (1004, 1.0)):
        task = replace(IID, classes=classes, exponent=exponent)
        drawn = world(KEY, task, D, rows=2000, dtype=dtype)
        assert drawn.cumulative.dtype == dtype and drawn.cumulative[classes - 1] == 1
        assert (jnp.diff(drawn.cumulative) >= 0).all()


def test_statistics_may_be_traced():
    fixed = replace(IID, bursty=0.7, novel=0.2, relabelled=0.3)
    names = ("bursty", "exponent", "variation", "novel", "relabelled")

    @jax.jit
    def traced(values):
        return batch(replace(fixed, **values))

    values = {name: jnp.asarray(getattr(fixed, name)) for name in names}
    for one, other in zip(traced(values), batch(fixed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (dict(context=0), "context must be a whole number of at least 1, got 0"),
        (dict(labels=0), "labels must be a whole number of at least 1, got 0"),
        (dict(burst=3), "burst must divide the context of 8, got 3"),
        (dict(template="other"), "template must be 'burst' or 'few-shot', got 'other'"),
        (dict(template="few-shot", context=5), "context must be at least 6 for the few-shot template, got 5"),
        (dict(repeats=False), "labels must be at least 8 for a context without repeats, got 4"),
        (dict(multiplicity=3), "multiplicity must divide the 4 labels, got 3"),
        (dict(longest=5), "longest must be at least the context of 8, got 5"),
        (dict(bursty=1.5), "bursty must lie between 0 and 1, got 1.5"),
        (dict(novel=-0.1), "novel must lie between 0 and 1, got -0.1"),
        (dict(relabelled=float("nan")), "relabelled must lie between 0 and 1, got nan"),
        (dict(exponent=-1.0), "exponent must be non-negative and finite, got -1"),
        (dict(variation=float("inf")), "variation must be non-negative and finite, got inf"),
        (dict(classes=18), "classes must be a multiple of the 4 labels, got 18"),
    ],
)
def test_refusals(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(IID, **changed)


def test_refuses_tables_that_do_not_fit():
    with pytest.raises(ValueError, match="rows must be at least the 24 classes, got 16"):
        world(KEY, IID, D, rows=16)
    with pytest.raises(ValueError, match="rows must be given where the number of classes is an array"):
        world(KEY, replace(IID, classes=jnp.array(24)), D)
    with pytest.raises(ValueError, match="dimension must be at least 1, got 0"):
        world(KEY, IID, 0)
    with pytest.raises(ValueError, match="fresh must be at least the 4 labels, got 3"):
        batch(IID, fresh=3)
    with pytest.raises(ValueError, match="drawn must have a vector for each of 8 labels, got 4"):
        sequences(KEY, replace(IID, labels=8), world(KEY, IID, D), 3)
