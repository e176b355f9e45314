"""Labelled items: the laws of items and views, whose view comes last, labels that belong to their items, pools."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.tasks.labelled_items import Items, item_prompts, pooled_items, random_items

KEY = jax.random.key(0)
MANY = 20_000


def near(found, wanted, variance):
    """Within five standard errors of a mean over all draws."""
    np.testing.assert_allclose(found, wanted, atol=5 * np.sqrt(variance / MANY))


def test_items_and_their_views_have_one_law():
    """Variance 1 / d of an item and of a view alike; two views of an item share 1 / (1 + sigma^2) of it."""
    shown = random_items(KEY, (MANY, 2), 2)
    views, labels = item_prompts(jax.random.key(1), shown, 0.5)
    assert views.shape == (MANY, 3, 2) and labels.shape == (MANY, 3)
    near(np.mean(np.square(shown.means), axis=(0, 1)), 1 / 2, 1 / 4)
    near(np.mean(np.square(views), axis=0), 1 / 2, 1 / 2)
    near(np.mean(labels == 1, axis=0), 1 / 2, 1 / 4)
    # The last is of either item half of the time.
    for i in range(2):
        near(np.mean(views[:, i] * views[:, 2], axis=0), 1 / (2 * 1.5) / 2, 1 / 2)


def test_without_noise_the_last_view_is_one_of_the_context_with_its_label():
    shown = random_items(KEY, (1000, 4), 3)
    views, labels = (np.asarray(part) for part in item_prompts(jax.random.key(1), shown, 0.0))
    np.testing.assert_allclose(views[:, :4], shown.means, rtol=1e-12)
    np.testing.assert_array_equal(labels[:, :4], shown.labels)
    same = np.all(views[:, :4] == views[:, 4:], axis=2)
    np.testing.assert_array_equal(same.sum(axis=1), 1)
    np.testing.assert_array_equal(labels[:, :4][same], labels[:, 4])
    counts = same.mean(axis=0)
    np.testing.assert_allclose(counts, 1 / 4, atol=5 * np.sqrt(3 / 16 / 1000))


def test_pools():
    pool = Items(jnp.arange(5.0)[:, None], jnp.array([1.0, -1.0, 1.0, 1.0, -1.0]))
    found = pooled_items(KEY, pool, (MANY, 1), 3)
    which = np.asarray(found.means)[:, 0, 0]
    near([np.mean(which == j) for j in range(5)], [1 / 3, 1 / 3, 1 / 3, 0, 0], 2 / 9)
    np.testing.assert_array_equal(found.labels[:, 0], np.asarray(pool.labels)[which.astype(int)])
    near(np.mean(pooled_items(KEY, pool, (MANY, 1)).means == 4), 1 / 5, 4 / 25)
