"""Urns and tree sources: frequencies, laws that only look as far back as their leaf, pools."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.tasks.tree_sources import random_tree_sources, tree_strings
from sims.tasks.urns import pooled_urns, random_urns, urn_strings

KEY = jax.random.key(0)
MANY = 20_000


def near(found, wanted, variance, count=MANY):
    """Within five standard errors of a mean over all draws."""
    np.testing.assert_allclose(found, wanted, atol=5 * np.sqrt(variance / count))


def test_urns():
    uniform = np.asarray(random_urns(KEY, MANY, 3))
    np.testing.assert_allclose(uniform.sum(axis=1), 1, rtol=1e-6)
    near(uniform.mean(axis=0), 1 / 3, 1 / 18)
    # E p^2 = (a + 1) / (K (K a + 1)).
    near((uniform**2).mean(axis=0), 1 / 6, 1 / 15)
    near((np.asarray(random_urns(KEY, MANY, 2, 0.5)) ** 2).mean(axis=0), 3 / 8, 0.2)
    one = jnp.tile(jnp.array([[0.2, 0.0, 0.5, 0.3]]), (MANY, 1))
    drawn = np.asarray(urn_strings(KEY, one, 2))
    near([(drawn == j).mean(axis=0) for j in range(4)], np.outer([0.2, 0.0, 0.5, 0.3], [1, 1]), 0.25)
    near((drawn[:, 0] == drawn[:, 1]).mean(), 0.04 + 0.25 + 0.09, 0.25)


def test_pools():
    pool = jnp.eye(4)
    found = np.asarray(pooled_urns(KEY, pool, MANY, 3)).mean(axis=0)
    near(found, [1 / 3, 1 / 3, 1 / 3, 0], 2 / 9)
    near(np.asarray(pooled_urns(KEY, pool, MANY)).mean(axis=0), 1 / 4, 3 / 16)


def test_tree_sources():
    laws = np.asarray(random_tree_sources(KEY, MANY, 2, 2))
    np.testing.assert_allclose(laws.sum(axis=-1), 1, rtol=1e-6)
    near(laws[..., 1].mean(axis=0), 0.5, 0.125)
    near((laws[..., 1] ** 2).mean(axis=0), 3 / 8, 0.1)
    # Pasts 0 and 2 end in the same symbol: they share a leaf if the root or the node of that symbol is one.
    near((laws[:, 0] == laws[:, 2]).all(axis=1).mean(), 0.75, 0.1875)
    near((laws[:, 0] == laws[:, 1]).all(axis=1).mean(), 0.5, 0.25)
    flat = np.asarray(random_tree_sources(KEY, 5, 3, 2, stop=1.0))
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:, :1], flat.shape))


def test_tree_strings():
    """A source that repeats the symbol before the last one, and one that says what came two before at random."""
    copies = jnp.tile(jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), (2, 1, 1))
    found = np.asarray(tree_strings(KEY, copies, jnp.array([[0, 1], [1, 0]]), 4))
    np.testing.assert_array_equal(found, [[0, 1, 0, 1], [1, 0, 1, 0]])
    last = jnp.tile(jnp.array([[0.9, 0.1], [0.3, 0.7], [0.9, 0.1], [0.3, 0.7]]), (MANY, 1, 1))
    one = np.asarray(tree_strings(KEY, last, jnp.tile(jnp.array([[0, 1]]), (MANY, 1)), 1))
    near(one.mean(), 0.7, 0.21)
