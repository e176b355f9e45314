"""The attention-only network against one written with loops, its clamps, its probes, and a training with resets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.engine import grid, simulate
from sims.item_label_training import training_of
from sims.networks.attention_only import attention_only, turned, without_head
from sims.networks.mlp import layer_norm
from sims.probes.induction import among, copied, negative_log_likelihood, previous_token, progress, to_match
from sims.tasks.item_label import ItemLabel, sequences, tokens, world

TASK = ItemLabel(labels=4, context=3, classes=8, longest=4)
WORLD = world(jax.random.key(0), TASK, 6)
BATCH = sequences(jax.random.key(1), TASK, WORLD, 5)
SWITCHES = [
    dict(),
    dict(heads=3, layers=3, classifier=3),
    dict(positions="rotary", heads=3, mlp=True),
    dict(positions="learned", normalise=True),
    dict(positions="none", classifier=0),
]


def made(**switches):
    return attention_only(jax.random.key(2), 6, TASK.places, 4, **switches)


def by_hand(model, seen, shift):
    """Logits of one sequence, every token of every layer, one head and one pair of tokens at a time."""
    at = shift + np.arange(len(seen))
    stream = seen
    if model.positions == "one-hot":
        stream = jnp.concatenate([jnp.eye(model.places)[at], seen], axis=1)
    if model.positions == "learned":
        stream = seen + model.place[at]
    for layer in model.layers:
        read = layer_norm(stream) if model.normalise else stream
        new = []
        for i in range(len(seen)):
            total = stream[i]
            for q, k, v in zip(layer.query, layer.key, layer.value, strict=True):
                scores = []
                for j in range(i + 1):
                    query, key = q @ read[i], k @ read[j]
                    if model.positions == "rotary":
                        query, key = (turned(x[None], jnp.array([p]))[0] for x, p in ((query, at[i]), (key, at[j])))
                    scores.append(query @ key)
                weights = jax.nn.softmax(jnp.stack(scores))
                total = total + sum(w * (v @ read[j]) for j, w in enumerate(weights))
            new.append(total)
        stream = jnp.stack(new)
        if layer.up is not None:
            inner = layer_norm(stream) if model.normalise else stream
            stream = stream + jax.nn.gelu(inner @ layer.up.T) @ layer.down.T
    h = stream[-1]
    for dense in model.classifier:
        h = jax.nn.relu(dense.weight @ h + dense.bias)
    return model.readout @ h


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_outputs_by_hand(switches):
    model, seen = made(**switches), tokens(BATCH, WORLD.vectors)
    found = model(seen, BATCH.shift)
    np.testing.assert_allclose(found.logits[1], by_hand(model, seen[1], int(BATCH.shift[1])), rtol=1e-10, atol=1e-10)
    for pattern in found.attention:
        np.testing.assert_allclose(pattern.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_array_equal(jnp.triu(found.attention[0], 1), 0)


def test_both_orders_of_the_scores_agree():
    """Few tokens or many for the width: keys' and queries' weights are contracted first, or not."""
    model, seen = made(), tokens(BATCH, WORLD.vectors)
    np.testing.assert_allclose(model(seen, BATCH.shift).logits[:1], model(seen[:1], BATCH.shift[:1]).logits, rtol=1e-12)


def test_clamps_and_ablation():
    model, seen = made(heads=3), tokens(BATCH, WORLD.vectors)
    length = seen.shape[1]
    free = model(seen, BATCH.shift)
    half = model(seen, BATCH.shift, {0: (previous_token(length), 0.5)})
    np.testing.assert_allclose(half.attention[0], (free.attention[0] + previous_token(length)) / 2, rtol=1e-12)
    both = {0: (previous_token(length), 1.0), 1: (to_match(BATCH), 1.0)}
    seen_all = progress(model(seen, BATCH.shift, both), BATCH)
    np.testing.assert_allclose([seen_all.association, seen_all.labels, seen_all.attention], 1, rtol=1e-12)
    silent = without_head(without_head(without_head(model, 1, 0), 1, 1), 1, 2)
    h = jnp.concatenate([jax.nn.one_hot(BATCH.shift + length - 1, TASK.places), seen[:, -1]], axis=1)
    first = without_head(without_head(without_head(silent, 0, 0), 0, 1), 0, 2)
    expected = jax.nn.relu(h @ model.classifier[0].weight.T) @ model.readout.T
    np.testing.assert_allclose(first(seen, BATCH.shift).logits, expected, rtol=1e-10)


def test_a_perfect_match_is_a_perfect_copy():
    model, seen = made(), tokens(BATCH, WORLD.vectors)
    found = copied(model(seen, BATCH.shift, {1: (to_match(BATCH), 1.0)}), BATCH, 4)
    assert float(negative_log_likelihood(found, BATCH)) < 1e-12
    assert float(progress(found, BATCH).accuracy) == 1 and float(among(found, BATCH)) == 1
    # Uniform attention to the three labels of the context: chance among them.
    uniform = copied(model(seen, BATCH.shift, {1: (jnp.ones((1, 1, 1, 7)) / 7, 1.0)}), BATCH, 4)
    np.testing.assert_allclose(negative_log_likelihood(uniform, BATCH), np.log(3), rtol=1e-12)


def test_progress_by_hand():
    model, seen = made(), tokens(BATCH, WORLD.vectors)
    reading = model(seen, BATCH.shift)
    found, first, last = progress(reading, BATCH), reading.attention[0][:, 0], reading.attention[1][:, 0]
    np.testing.assert_allclose(found.association, np.mean([first[:, i, i - 1] for i in (1, 3, 5)]), rtol=1e-12)
    np.testing.assert_allclose(found.previous, np.mean([first[:, i, i - 1] for i in range(1, 7)]), rtol=1e-12)
    np.testing.assert_allclose(found.labels, np.mean(last[:, 1] + last[:, 3] + last[:, 5]), rtol=1e-12)
    right = [sum(row[1 + 2 * n] for n in range(3) if m[n]) for row, m in zip(last, BATCH.match, strict=True)]
    np.testing.assert_allclose(found.attention, np.mean(right), rtol=1e-12)
    p = jax.nn.softmax(reading.logits)
    mass = np.mean(
        [sum(row[label] for label in set(labels)) for row, labels in zip(p, BATCH.labels[:, :3].tolist(), strict=True)]
    )
    np.testing.assert_allclose(found.contextual, mass, rtol=1e-12)


@pytest.mark.slow
def test_training_forgets_class_vectors_when_told_to():
    """A reset at step 3 but not at 9: the table is new there, and drifts otherwise."""
    simulation = training_of(TASK, 6, trained_table=True, clamped=True, batch=4, tests=8, dtype=jnp.float64)
    runs = grid(1, forget=[3], forget_until=[9], lr=[0.01])
    tables = []
    for steps in (2, 3, 8, 9):
        last = simulate(simulation, runs, [steps])
        tables.append(last.state.model.table)
    moved = [float(jnp.linalg.norm(b - a) / jnp.linalg.norm(a)) for a, b in zip(tables[::2], tables[1::2], strict=True)]
    assert moved[0] > 0.5 and moved[1] < 0.1
    records = last.records
    assert set(records) == {"progress", "novel", "swapped", "weights"}
    assert np.isfinite(records["progress"].loss).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: made(positions="sine"), "positions must be 'one-hot', 'learned', 'rotary' or 'none', got 'sine'"),
        (lambda: made(heads=4), "heads must divide the width of 15"),
        (lambda: made(positions="rotary", heads=2), "into even parts for rotary positions"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
