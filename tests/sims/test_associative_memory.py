"""The associative memory: its loss by hand, sequences under uniform attention, steps by polar factors."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.associative_memory import (
    Associations,
    AssociativeMemory,
    attended_sequences,
    cross_entropy,
    empty_memory,
    polar_descent,
)


def test_loss_by_hand():
    rng = np.random.default_rng(0)
    w, x, u = rng.normal(size=(3, 4)), rng.normal(size=(2, 4)), rng.normal(size=(5, 3))
    shares = np.zeros((2, 5))
    shares[0, 1], shares[1, 4] = 0.7, 0.3
    expected = 0.0
    for row, answer, share in ((0, 1, 0.7), (1, 4, 0.3)):
        logits = [u[j] @ w @ x[row] for j in range(5)]
        expected -= share * (logits[answer] - np.log(np.exp(logits).sum()))
    data = Associations(*(jnp.asarray(part) for part in (x, u, shares)))
    np.testing.assert_allclose(cross_entropy(AssociativeMemory(jnp.asarray(w)), data), expected, rtol=1e-12)
    np.testing.assert_allclose(cross_entropy(empty_memory(4, 3), data), np.log(5), rtol=1e-12)


def test_sequences():
    eye = jnp.eye(6)
    data = attended_sequences(jax.random.key(0), eye, eye, 4000, 8, 3)
    np.testing.assert_allclose(data.inputs.sum(axis=1), 1, rtol=1e-12)
    answer = np.asarray(data.shares).argmax(axis=1)
    np.testing.assert_allclose(data.shares.sum(), 1, rtol=1e-9)
    own = np.asarray(data.inputs)[np.arange(4000), answer]
    assert own.min() >= 3 / 8
    # Three copies and five draws of one in six: a share known to sqrt(5 p (1 - p) / n) / 8.
    np.testing.assert_allclose(own.mean(), (3 + 5 / 6) / 8, atol=5 * np.sqrt(5 * 5 / 36 / 4000) / 8)


def test_polar_step():
    rng = np.random.default_rng(1)
    gradient = rng.normal(size=(5, 3)) @ rng.normal(size=(3, 5))
    optimiser = polar_descent(0.5)
    update, _ = optimiser.update(jnp.asarray(gradient), optimiser.init(None))
    step = -np.asarray(update) / 0.5
    # A partial isometry of rank three that turns the gradient symmetric and positive.
    np.testing.assert_allclose(np.linalg.svd(step)[1], [1, 1, 1, 0, 0], atol=1e-12)
    product = step.T @ gradient
    np.testing.assert_allclose(product, product.T, atol=1e-12)
    assert np.linalg.eigvalsh(product).min() > -1e-12
