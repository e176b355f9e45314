"""The long-tailed mixture: frequencies, noise, padding, labels of subpopulations, and the counting of mistakes."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.tasks.long_tail import LongTail, cross_entropy, long_tail, mistakes

FREQUENCIES = np.array([0.5, 0.3, 0.15, 0.05])


def test_statistics():
    draw = jax.jit(lambda key, n: long_tail(key, jnp.asarray(FREQUENCIES), n, 4000, 20, 3, 0.5))
    data = draw(jax.random.key(0), 3000)
    assert data.present.sum() == 3000 and data.present[:3000].all()
    np.testing.assert_array_equal(np.bincount(data.which[:3000], minlength=4), data.counts)
    scale = np.sqrt(FREQUENCIES * (1 - FREQUENCIES) / 3000)
    assert (np.abs(data.counts / 3000 - FREQUENCIES) < 5 * scale).all()
    np.testing.assert_array_equal(data.y, np.asarray(data.labels)[data.which])
    # Overlaps of exemplars over d: rho = 1 / (1 + variation^2) within a subpopulation, none between two.
    x, which = np.asarray(data.x), np.asarray(data.which)
    means = np.stack([x[which == k].mean(axis=0) for k in range(4)])
    overlaps = means @ means.T / 20
    np.testing.assert_allclose(np.diag(overlaps), 0.8, atol=5 * 0.8 * np.sqrt(2 / 20))
    np.testing.assert_allclose(overlaps[~np.eye(4, dtype=bool)], 0, atol=5 * 0.8 / np.sqrt(20))
    np.testing.assert_allclose((x - means[which]).var(), 0.2, rtol=0.03)
    fresh = np.asarray(data.fresh)
    assert fresh.shape == (4, 2, 20)
    np.testing.assert_allclose((fresh - means[:, None]).var(), 0.2, rtol=5 * np.sqrt(2 / 160))


def test_labels_are_independent_of_frequency():
    keys = jax.random.split(jax.random.key(1), 600)
    labels = jax.jit(jax.vmap(lambda key: long_tail(key, jnp.asarray(FREQUENCIES), 1, 1, 2, 3, 0.1).labels))(keys)
    shares = np.stack([(np.asarray(labels) == c).mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(shares, 1 / 3, atol=5 * np.sqrt(2 / 9 / 600))


def test_mistakes_and_loss():
    """A network that reads its logits from the inputs; the padding is all wrong and counts for nothing."""
    data = LongTail(
        x=jnp.array([[3.0, 0.0], [0.0, 1.0], [2.0, 0.0], [9.0, 0.0]]),
        y=jnp.array([0, 0, 1, 1]),
        which=jnp.array([0, 0, 1, 1]),
        present=jnp.array([True, True, True, False]),
        counts=jnp.array([2, 1, 0]),
        labels=jnp.array([0, 1, 1]),
        fresh=jnp.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [2.0, 0.0]]]),
    )
    found = mistakes(lambda x: x, data)
    np.testing.assert_allclose(found.examples, [0.5, 1, 0])
    np.testing.assert_allclose(found.fresh, [0, 0.5, 1])
    expected = np.mean([np.log1p(np.exp(-3)), np.log1p(np.exp(1)), np.log1p(np.exp(2))])
    np.testing.assert_allclose(cross_entropy(lambda x: x, data), expected)
