"""The smallest network with an induction head: two attention logits and a linear classifier, on sequences of labels."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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


def untrained_head(labels: int, kind=MinimalHead):
    """No attention and no classifier; `kind` may be TokenHead."""
    return kind(jnp.zeros(()), jnp.zeros(()), jnp.zeros((labels, labels)))


def copying(classifier: Float[Array, "L L"]) -> Float[Array, ""]:
    """The logit of copying: the mean diagonal entry of a classifier less the mean of the others."""
    labels, on = len(classifier), jnp.trace(classifier)
    return on / labels - (jnp.sum(classifier) - on) / (labels * (labels - 1))


def label_sequences(key, batch: int, context: int, labels: int) -> tuple[Int[Array, "P N"], Int[Array, " P"]]:
    """Different labels in each sequence, and which of its items the target is."""
    order, which = jax.random.split(key)
    drawn = _first_of_an_order(order, batch, context, labels)
    return drawn, jax.random.randint(which, (batch,), 0, context)


def _first_of_an_order(key, batch, context, labels):
    """The first of a random order of all labels, (P, N), without the cost of sorting the rest."""
    return jax.lax.top_k(-jax.random.uniform(key, (batch, labels)), context)[1]


def negative_log_likelihood(model: MinimalHead, sequences) -> Float[Array, ""]:
    """Mean over sequences of -ln p of the right label."""
    labels, target = sequences
    right = jnp.take_along_axis(labels, target[:, None], axis=1)
    return -jnp.mean(jnp.take_along_axis(model(labels, target), right, axis=1))


class TokenHead(eqx.Module):
    """A minimal head on vectors: what a label holds of items is a weighted mean of all tokens that it can see.

    The first layer adds beta_1 to the score of the token before and attends to all up to itself; the target's score for
    a label is beta_2 times its overlap with what that label holds, and the classifier is given the attended labels as
    indicators.
    """

    match: Float[Array, ""]
    previous: Float[Array, ""]
    classifier: Float[Array, "L L"]

    def __call__(self, tokens: Float[Array, "P T D"], labels: Int[Array, "P N"]) -> Float[Array, "P L"]:
        """Log-probabilities of the target's label; `tokens` are items and labels in turn, the target last."""
        place = jnp.arange(tokens.shape[1] - 1)
        scores = jnp.where(place[:, None] == place + 1, self.previous, 0.0)
        pattern = jax.nn.softmax(jnp.where(place <= place[:, None], scores, -jnp.inf)[1::2], axis=1)
        overlaps = jnp.einsum("ptd,pd->pt", tokens[:, :-1], tokens[:, -1])
        attention = jax.nn.softmax(self.match * overlaps @ pattern.T, axis=1)
        seen = jnp.einsum("pn,pnl->pl", attention, jax.nn.one_hot(labels, len(self.classifier), dtype=tokens.dtype))
        return jax.nn.log_softmax(seen @ self.classifier.T)


class Encounter(NamedTuple):
    """Labels of the context (P, N), which of its items are of the target's class, that class and its label (P,)."""

    labels: Int[Array, "P N"]
    matched: Bool[Array, "P N"]
    classes: Int[Array, " P"]
    answer: Int[Array, " P"]


class RacingHead(eqx.Module):
    """A minimal head whose classifier is one logit, beside a memory of every class: their outputs add."""

    copy: Float[Array, ""]
    match: Float[Array, ""]
    previous: Float[Array, ""]
    memory: Float[Array, "K L"]

    def __call__(self, seen: Encounter) -> Float[Array, "P L"]:
        """Log-probabilities of the target's label."""
        n = seen.labels.shape[1]
        own = jnp.exp(self.previous) / (jnp.exp(self.previous) + 2 * jnp.arange(1, n + 1) - 1)
        attention = jax.nn.softmax(jnp.where(seen.matched, self.match * own, 0.0), axis=1)
        looked_up = jnp.einsum("pn,pnl->pl", attention, jax.nn.one_hot(seen.labels, self.memory.shape[1]))
        return jax.nn.log_softmax(self.copy * looked_up + self.memory[seen.classes])


def untrained_race(classes: int, labels: int) -> RacingHead:
    """Nothing is known and nothing looked up."""
    return RacingHead(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), jnp.zeros((classes, labels)))


def encounters(key, batch: int, context: int, labels: int, cumulative: Float[Array, " K"], bursty) -> Encounter:
    """Targets with the frequencies whose partial sums are given; a bursty context holds the target's class once.

    The label of class k is k mod L. Labels of a context differ, the others than the matched one whatever the target.
    """
    of_class, order, place, chance = jax.random.split(key, 4)
    share = jax.random.uniform(of_class, (batch,))
    classes = jnp.minimum(jnp.searchsorted(cumulative, share, side="right"), len(cumulative) - 1)
    answer = classes % labels
    drawn = _first_of_an_order(order, batch, context, labels)
    is_bursty = (jax.random.uniform(chance, (batch,)) < bursty)[:, None]
    # The right label changes places with the one that is drawn where it is to stand, if it is in the context at all.
    where = jax.random.randint(place, (batch, 1), 0, context)
    there = jnp.take_along_axis(drawn, where, axis=1)
    swapped = jnp.where(drawn == answer[:, None], there, drawn)
    swapped = jnp.where(jnp.arange(context) == where, answer[:, None], swapped)
    return Encounter(jnp.where(is_bursty, swapped, drawn), is_bursty & (jnp.arange(context) == where), classes, answer)


def race_loss(model: RacingHead, seen: Encounter) -> Float[Array, ""]:
    """Mean over sequences of -ln p of the right label."""
    log_p = model(seen)
    # The gradient of an indexed sum is a loop over the batch, that of a product is not.
    return -jnp.mean(jnp.sum(log_p * jax.nn.one_hot(seen.answer, log_p.shape[1], dtype=log_p.dtype), axis=1))
