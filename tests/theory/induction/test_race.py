"""The race against all sequences of a small world, its limits, and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.minimal_head import Encounter, RacingHead, race_loss
from theory.induction.nested_logits import Logits, averaged_flow
from theory.induction.race import Statistics, expected_loss, outcome, power_law_groups, race

CONTEXT, LABELS = 2, 4
FREQUENCIES = np.array([0.5, 0.3, 0.15, 0.05])
BURSTY = 0.7
# One length of all arrays, so that the flow is compiled once: groups without members change nothing.
GROUPS = 32
DATA = Statistics(CONTEXT, float(LABELS), np.pad(FREQUENCIES, (0, GROUPS - 4)), 1.0 * (np.arange(GROUPS) < 4), BURSTY)
STEPS = np.arange(8.0)
HEAD = Logits(1.3, 0.8, 0.6)
MEMORY = np.pad(np.array([0.7, 0.2, -0.1, 0.4]), (0, GROUPS - 4))


def every_sequence():
    """All sequences of four classes with a label each, and the probability of each."""
    rows, weights = [], []
    for target, p in enumerate(FREQUENCIES):
        for labels in itertools.permutations(range(LABELS), CONTEXT):
            if target in labels:
                rows.append((labels, [label == target for label in labels], target))
                weights.append(p * BURSTY / (CONTEXT * (LABELS - 1)))
            rows.append((labels, [False] * CONTEXT, target))
            weights.append(p * (1 - BURSTY) / (LABELS * (LABELS - 1)))
    labels, matched, target = (jnp.asarray(column) for column in zip(*rows, strict=True))
    return Encounter(labels, matched, target, target), jnp.asarray(weights)


def network(head=HEAD, memory=MEMORY):
    table = jnp.eye(LABELS) * jnp.asarray(memory)[:LABELS, None]
    return RacingHead(*(jnp.asarray(x, float) for x in head), table)


def network_loss(model):
    seen, weights = every_sequence()
    log_p = jnp.take_along_axis(model(seen), seen.answer[:, None], axis=1)[:, 0]
    return -jnp.sum(weights * log_p)


def test_loss_is_the_mean_over_all_sequences():
    np.testing.assert_allclose(sum(every_sequence()[1]), 1, rtol=1e-13)
    np.testing.assert_allclose(expected_loss(HEAD, MEMORY, DATA), network_loss(network()), rtol=1e-12)
    seen, _ = every_sequence()
    one = jax.tree.map(lambda x: x[:1], seen)
    np.testing.assert_allclose(race_loss(network(), one), -network()(one)[0, one.answer[0]], rtol=1e-12)


@pytest.mark.slow
def test_the_flow_starts_as_the_network_learns():
    """Velocities from the gradient of the network on all sequences, from a start of equal memories."""
    memory, step = 0.3, 1e-5
    slope = jax.grad(network_loss)(network(memory=np.full(4, memory)))
    own = jnp.diagonal(slope.memory)
    speed = -own + (jnp.sum(slope.memory, axis=1) - own) / (LABELS - 1)
    found = race(step * STEPS, DATA, start=HEAD, memory=memory)
    np.testing.assert_allclose((found.memory[1, :LABELS] - memory) / step, speed, rtol=1e-4)
    for name, moved in zip(("copy", "match", "previous"), found.logits, strict=True):
        np.testing.assert_allclose((moved[1] - getattr(HEAD, name)) / step, -getattr(slope, name), rtol=1e-4)


def test_rates_and_decay():
    t, quick = 1e-5 * STEPS, dict(start=HEAD, memory=0.3)
    plain = race(t, DATA, **quick)
    other = race(t, DATA, copy_rate=2.0, memory_rate=3.0, decay=0.5, **quick)
    moved = lambda run: [x[1] - x[0] for x in (*run.logits, run.memory)]  # noqa: E731
    expected = [
        rate * x - 1e-5 * decay * value
        for rate, x, decay, value in zip((2, 1, 1, 3), moved(plain), (0.5, 0.5, 0.5, 0), (*HEAD, 0), strict=True)
    ]
    for got, wanted in zip(moved(other), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_without_a_memory_it_is_the_minimal_head():
    t = 8 * STEPS
    # Every class a little: the memory has no time.
    data = Statistics(2, 6.0, np.full(GROUPS, 1e-9 / GROUPS), np.full(GROUPS, 1e9), 1.0)
    found, alone = race(t, data), averaged_flow(t, 2, 6, copy_rate=1.0)
    for got, expected in zip(found.logits, alone, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_it_learns_without_end_and_loses_nothing():
    """The loss falls, and the memory of a frequent class is never behind that of a rarer one."""
    p, members = power_law_groups(64, 1.0, 32)
    found = race(60 * STEPS, Statistics(CONTEXT, 16.0, p, members, 0.8))
    assert (jnp.diff(found.loss) < 0).all()
    known = np.asarray(members) > 0
    assert (jnp.diff(found.memory[1:, known], axis=1) < 0).all()
    np.testing.assert_allclose(found.loss[0], np.log(16), rtol=1e-10)
    np.testing.assert_allclose([found.in_context[0], found.in_weights[0]], 1 / 16, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e3, 1e6])
def test_saturated(size):
    sure = outcome(Logits(size, size, size), np.full(GROUPS, size), DATA)
    np.testing.assert_allclose([sure.in_context, sure.loss], [1, 0], atol=1e-12)
    # Labels of the context are believed: right only where the right one is among them, and then by half.
    wrong = outcome(Logits(size, size, size), np.zeros(GROUPS), DATA)
    np.testing.assert_allclose(wrong.in_weights, CONTEXT / LABELS / CONTEXT, rtol=1e-9)
    slope = jax.grad(lambda x: expected_loss((x, x, x), x * jnp.ones(GROUPS), DATA))(size)
    assert jnp.isfinite(slope)


@pytest.mark.slow
def test_groups_of_classes():
    p, members = power_law_groups(20, 1.5, GROUPS)
    k = np.arange(1, 21.0)
    np.testing.assert_allclose(p[:20], k**-1.5 / np.sum(k**-1.5), rtol=1e-12)
    np.testing.assert_array_equal(members, np.arange(GROUPS) < 20)
    p, members = power_law_groups(5000, 1.0, GROUPS)
    np.testing.assert_allclose([jnp.sum(members), jnp.sum(p * members)], [5000, 1], rtol=1e-12)
    # Four times as many change the race by little: members of a group are alike.
    t = 300 * STEPS
    coarse, fine = (
        race(t, Statistics(CONTEXT, 16.0, *power_law_groups(1024, 1.0, groups), 0.5)) for groups in (GROUPS, 128)
    )
    for name in ("in_context", "in_weights"):
        np.testing.assert_allclose(getattr(coarse, name), getattr(fine, name), atol=2e-3)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (dict(context=1), "context must be an integer of at least 2, got 1"),
        (dict(labels=2.0), "labels must be above the number of labels in the context, got 2"),
        (dict(bursty=1.2), "bursty must lie between 0 and 1, got 1.2"),
        (dict(frequencies=DATA.frequencies * 2), "frequencies must sum to one over the members of all groups"),
        (dict(frequencies=np.linspace(-0.5, 1, GROUPS)), "frequencies must be non-negative and finite, got -0.5"),
        (dict(members=np.ones(3)), "frequencies and members must be vectors of equal length"),
    ],
)
def test_refusals(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        race(np.array([0.0, 1.0]), DATA._replace(**changed))


def test_refuses_classes_and_rates():
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        power_law_groups(0, 1.0)
    with pytest.raises(ValueError, match="groups must be at least 2, got 1"):
        power_law_groups(8, 1.0, 1)
    with pytest.raises(ValueError, match="decay must be non-negative and finite, got -1"):
        race(np.array([0.0, 1.0]), DATA, decay=-1.0)
