"""The smallest network with an induction head: two attention logits and a linear classifier, on sequences of labels."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class MinimalHead(eqx.Module):
    """Labels look at the item before them, the target at labels of its own class, a classifier copies.

    The attention of the n-th label to its own item is s = e^{beta_1} / (e^{beta_1} + 2 n - 1), the target's logit for
    the label of its class beta_2 s, zero for the others, and the classifier is given the attended label vectors, which
    are orthogonal, as those of different items are.
    """

    match: Float[Array, ""]
    previous: Float[Array, ""]
    classifier: Float[Array, "L L"]

    def __call__(self, labels: Int[Array, "P N"], target: Int[Array, " P"]) -> Float[Array, "P L"]:
        """Log-probabilities of the target's label, for sequences in rows; `target` is its item's place, from 0."""
        n = labels.shape[1]
        own = jnp.exp(self.previous) / (jnp.exp(self.previous) + 2 * jnp.arange(1, n + 1) - 1)
        logits = jnp.where(jnp.arange(n) == target[:, None], self.match * own, 0.0)
        attention = jax.nn.softmax(logits, axis=1)
        seen = jnp.einsum("pn,pnl->pl", attention, jax.nn.one_hot(labels, len(self.classifier)))
        return jax.nn.log_softmax(seen @ self.classifier.T)


def untrained_head(labels: int) -> MinimalHead:
    """No attention and no classifier."""
    return MinimalHead(jnp.zeros(()), jnp.zeros(()), jnp.zeros((labels, labels)))


def label_sequences(key, batch: int, context: int, labels: int) -> tuple[Int[Array, "P N"], Int[Array, " P"]]:
    """Different labels in each sequence, and which of its items the target is."""
    order, which = jax.random.split(key)
    drawn = jax.random.uniform(order, (batch, labels))
    return jnp.argsort(drawn, axis=1)[:, :context], jax.random.randint(which, (batch,), 0, context)


def negative_log_likelihood(model: MinimalHead, sequences) -> Float[Array, ""]:
    """Mean over sequences of -ln p of the right label."""
    labels, target = sequences
    right = jnp.take_along_axis(labels, target[:, None], axis=1)
    return -jnp.mean(jnp.take_along_axis(model(labels, target), right, axis=1))
