"""The minimal induction head: its outputs by hand, on labels and on vectors, its sequences, chance at the start."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.minimal_head import (
    MinimalHead,
    TokenHead,
    copying,
    label_sequences,
    negative_log_likelihood,
    untrained_head,
)


def test_outputs_by_hand():
    rng = np.random.default_rng(0)
    w, beta2, beta1 = rng.normal(size=(4, 4)), 1.3, 0.7
    labels, target = np.array([[2, 0, 3]]), np.array([1])
    own = np.exp(beta1) / (np.exp(beta1) + np.array([1, 3, 5]))
    logits = np.array([0.0, beta2 * own[1], 0.0])
    attention = np.exp(logits) / np.exp(logits).sum()
    seen = np.zeros(4)
    seen[labels[0]] = attention
    outputs = w @ seen
    model = MinimalHead(jnp.asarray(beta2), jnp.asarray(beta1), jnp.asarray(w))
    expected = outputs - np.log(np.exp(outputs).sum())
    np.testing.assert_allclose(model(jnp.asarray(labels), jnp.asarray(target))[0], expected, rtol=1e-10)
    loss = negative_log_likelihood(model, (jnp.asarray(labels), jnp.asarray(target)))
    np.testing.assert_allclose(loss, -expected[0], rtol=1e-10)


def test_outputs_on_vectors_by_hand():
    """Two items: what each label holds is a mean of the tokens up to it, its own item's weight e^beta_1."""
    rng = np.random.default_rng(1)
    w, beta2, beta1 = rng.normal(size=(3, 3)), 1.3, 0.7
    item, first, other, second, target = tokens = rng.normal(size=(5, 6))
    e = np.exp(beta1)
    holds = (e * item + first) / (e + 1), (item + first + e * other + second) / (e + 3)
    scores = beta2 * np.array([target @ held for held in holds])
    attention = np.exp(scores) / np.exp(scores).sum()
    outputs = w @ np.array([0.0, attention[1], attention[0]])
    model = TokenHead(jnp.asarray(beta2), jnp.asarray(beta1), jnp.asarray(w))
    found = model(jnp.asarray(tokens)[None], jnp.array([[2, 1]]))[0]
    np.testing.assert_allclose(found, outputs - np.log(np.exp(outputs).sum()), rtol=1e-10)
    np.testing.assert_allclose(copying(jnp.asarray(w)), np.trace(w) / 3 - (w.sum() - np.trace(w)) / 6, rtol=1e-12)


def test_sequences_and_chance():
    labels, target = label_sequences(jax.random.key(0), 3000, 3, 5)
    assert all(len(set(row)) == 3 for row in np.asarray(labels).tolist())
    # Every label as often, and the target in every place: shares known to sqrt(p (1 - p) / n).
    for values, size, count in ((np.asarray(labels).ravel(), 5, 9000), (np.asarray(target), 3, 3000)):
        shares = np.bincount(values, minlength=size) / count
        np.testing.assert_allclose(shares, 1 / size, atol=5 * np.sqrt(0.25 / count))
    np.testing.assert_allclose(negative_log_likelihood(untrained_head(5), (labels, target)), np.log(5), rtol=1e-10)
