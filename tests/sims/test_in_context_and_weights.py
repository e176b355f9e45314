"""Circuit and memoriser: outputs by hand, what contexts hold, absent items, chance."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.in_context_and_weights import (
    Contexts,
    InContextAndWeights,
    Table,
    contexts,
    cross_entropy,
    gaussian_pool,
    labelled_pools,
    withdrawing_descent,
)


def test_outputs_by_hand():
    rng = np.random.default_rng(0)
    items, w, beta, table = rng.normal(size=(4, 5)), 1.3, -0.7, rng.normal(size=3)
    labels = np.array([1.0, -1.0, -1.0])
    scores = np.exp(beta * np.array([items[0] @ items[k] for k in (0, 1, 3, 0)]))
    expected = w * (scores[:3] @ labels) / scores.sum() + items[0, :3] @ table
    overlaps = np.array([[items[0] @ items[k] for k in (0, 1, 3, 0)]])
    batch = Contexts(*(jnp.asarray(x) for x in (items[:1], overlaps, labels[None], np.ones(1))))
    model = InContextAndWeights(jnp.asarray(w), jnp.asarray(beta), Table(jnp.asarray(table)))
    np.testing.assert_allclose(model(batch)[0], expected, rtol=1e-12)
    np.testing.assert_allclose(cross_entropy(model, batch), np.log1p(np.exp(-expected)), rtol=1e-12)


def test_contexts():
    size, most, batch = 5, 8, 4000
    pool = gaussian_pool(jax.random.key(1), 40, 64)
    asked = jnp.arange(batch) % 7
    answers = jnp.where(asked % 2 == 0, 1.0, -1.0)
    drawn = contexts(jax.random.key(0), pool, asked, answers, size, most)
    present = np.isfinite(np.asarray(drawn.overlaps))
    assert (present == np.isin(np.arange(most + 1), [0, 1, 2, 3, 4, most])).all()
    # A copy first, the item itself last, and no other copy in between.
    own = np.sum(np.asarray(drawn.x) ** 2, axis=1)
    np.testing.assert_allclose(drawn.overlaps[:, 0], own, rtol=1e-12)
    np.testing.assert_allclose(drawn.overlaps[:, -1], own, rtol=1e-12)
    assert (np.asarray(drawn.overlaps)[:, 1:size] != np.asarray(drawn.overlaps)[:, :1]).all()
    np.testing.assert_array_equal(drawn.labels[:, 0], drawn.answers)
    # Fair labels, of which the others know nothing of the answer, and every other item as often.
    others = np.asarray(drawn.labels)[:, 1:size]
    assert set(np.unique(others)) == {-1.0, 1.0}
    error = 1 / np.sqrt(others.size)
    assert abs(others.mean()) < 5 * error
    assert abs((others * np.asarray(answers)[:, None]).mean()) < 5 * error
    shown = np.searchsorted(np.sort(pool.overlaps[3]), np.asarray(drawn.overlaps)[np.asarray(asked) == 3, 1:size])
    shares = np.bincount(shown.ravel(), minlength=40) / shown.size
    np.testing.assert_allclose(np.sort(shares)[1:], 1 / 39, atol=5 * np.sqrt(1 / 39 / shown.size))


def test_absent_items_change_nothing():
    pool = gaussian_pool(jax.random.key(2), 20, 8)
    model = InContextAndWeights(jnp.asarray(2.0), jnp.asarray(-1.5))
    drawn = contexts(jax.random.key(0), pool, jnp.arange(6), jnp.ones(6), 3, 7)
    short = drawn._replace(overlaps=drawn.overlaps[:, jnp.array([0, 1, 2, 7])], labels=drawn.labels[:, :3])
    np.testing.assert_allclose(model(drawn), model(short), rtol=1e-12)
    slopes = jax.grad(lambda m: cross_entropy(m, drawn))(model)
    np.testing.assert_allclose(slopes.weight, jax.grad(lambda m: cross_entropy(m, short))(model).weight, rtol=1e-12)
    assert np.isfinite(slopes.sharpness)
    # Without weight and memoriser: chance.
    np.testing.assert_allclose(cross_entropy(InContextAndWeights(jnp.zeros(()), jnp.zeros(())), drawn), np.log(2))


def test_items_are_nearly_orthonormal():
    pool = gaussian_pool(jax.random.key(3), 100, 400)
    overlaps = np.asarray(pool.overlaps)
    np.testing.assert_allclose(overlaps, np.asarray(pool.items) @ np.asarray(pool.items).T, atol=1e-12)
    np.testing.assert_allclose(np.diag(overlaps).mean(), 1, atol=5 * np.sqrt(2 / 400 / 100))
    off = overlaps[~np.eye(100, dtype=bool)]
    np.testing.assert_allclose(np.mean(off**2), 1 / 400, rtol=0.1)


def test_pools_of_runs():
    drawn = labelled_pools([3, 4, 3], 30, 8)
    assert drawn["items"].shape == (3, 30, 8) and drawn["overlaps"].shape == (3, 30, 30)
    assert set(np.unique(drawn["labels"])) == {-1.0, 1.0}
    for value in drawn.values():
        np.testing.assert_array_equal(value[0], value[2])
        assert (value[0] != value[1]).any()


def test_only_the_weight_decays():
    model = InContextAndWeights(jnp.asarray(2.0), jnp.asarray(1.5), Table(jnp.ones(3)))
    descent = withdrawing_descent(0.1, 0.5)
    gradient = jax.tree.map(lambda x: 3.0 * jnp.ones_like(x), model)
    updates, _ = descent.update(gradient, descent.init(model), model)
    np.testing.assert_allclose(updates.weight, -0.1 * (3 + 0.5 * 2), rtol=1e-12)
    np.testing.assert_allclose(updates.sharpness, -0.3, rtol=1e-12)
    np.testing.assert_allclose(updates.memoriser.logits, -0.3, rtol=1e-12)
