"""What an attention-only network does with sequences of items and labels: progress, and clamps of its parts.

Token 2 n is the n-th item (from 0), token 2 n + 1 its label, the last token the target.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.networks.attention_only import Reading
from sims.tasks.item_label import Sequences


class Progress(NamedTuple):
    """Averages over a batch, heads averaged too.

    `accuracy`     fraction of right answers; `loss` in nats.
    `contextual`   probability on labels that stand in the context.
    `association`  attention of a label to its item, in the first layer; `previous` of any token to the one before it.
    `labels`       attention of the target to labels, in the last layer.
    `attention`    of the target to labels of its own class.
    """

    accuracy: Float[Array, ""]
    loss: Float[Array, ""]
    contextual: Float[Array, ""]
    association: Float[Array, ""]
    previous: Float[Array, ""]
    labels: Float[Array, ""]
    attention: Float[Array, ""]


def progress(reading: Reading, batch: Sequences) -> Progress:
    """Of a network of two layers or more, from what it made of a batch; NaN for attention where it has none."""
    log_p = jax.nn.log_softmax(reading.logits)
    present = jax.nn.one_hot(batch.labels[:, :-1], log_p.shape[1]).max(axis=1)
    size, length = len(log_p), 2 * batch.labels.shape[1] - 1
    if reading.attention:
        first, last = (reading.attention[i].mean(axis=1) for i in (0, -1))
    else:
        first, last = jnp.full((size, length, length), jnp.nan), jnp.full((size, length), jnp.nan)
    before = jnp.diagonal(first, offset=-1, axis1=1, axis2=2)
    return Progress(
        accuracy(reading, batch),
        negative_log_likelihood(reading, batch),
        jnp.mean(jnp.sum(jnp.exp(log_p) * present, axis=1)),
        jnp.mean(before[:, ::2]),
        jnp.mean(before),
        jnp.mean(jnp.sum(last[:, 1::2], axis=1)),
        jnp.mean(jnp.sum(last[:, 1::2] * batch.match, axis=1)),
    )


def negative_log_likelihood(reading: Reading, batch: Sequences) -> Float[Array, ""]:
    """Mean of -ln p of the right label, in nats."""
    log_p = jax.nn.log_softmax(reading.logits)
    # The gradient of an indexed sum is a loop over the batch, that of a product is not.
    return -jnp.mean(jnp.sum(log_p * jax.nn.one_hot(batch.answer, log_p.shape[1], dtype=log_p.dtype), axis=1))


def accuracy(reading: Reading, batch: Sequences) -> Float[Array, ""]:
    """Fraction of sequences whose likeliest label is right."""
    return jnp.mean(jnp.argmax(reading.logits, axis=1) == batch.answer)


def among(reading: Reading, batch: Sequences) -> Float[Array, ""]:
    """Fraction of right answers where only labels of the context may be answered."""
    present = jax.nn.one_hot(batch.labels[:, :-1], reading.logits.shape[1]).max(axis=1)
    return jnp.mean(jnp.argmax(jnp.where(present > 0, reading.logits, -jnp.inf), axis=1) == batch.answer)


def previous_token(length: int, dtype=None) -> Float[Array, "1 1 T T"]:
    """Attention to the token before, of the first to itself: what the first layer of an induction head does."""
    return jnp.eye(length, k=-1, dtype=dtype).at[0, 0].set(1.0)[None, None]


def to_match(batch: Sequences, dtype=None) -> Float[Array, "P 1 1 T"]:
    """Attention of the target to the labels of its class alone, in equal parts; to all tokens where it has none."""
    size, n = batch.match.shape
    wanted = jnp.zeros((size, 2 * n + 1), dtype).at[:, 1::2].set(batch.match)
    wanted = jnp.where(jnp.any(batch.match, axis=1)[:, None], wanted, 1.0)
    return (wanted / jnp.sum(wanted, axis=1, keepdims=True))[:, None, None]


def copied(reading: Reading, batch: Sequences, outputs: int) -> Reading:
    """The reading whose probabilities are the last layer's attention to each label: a perfect copy."""
    attention = reading.attention[-1].mean(axis=1)[:, 1::2]
    mass = jnp.einsum("pn,pnl->pl", attention, jax.nn.one_hot(batch.labels[:, :-1], outputs, dtype=attention.dtype))
    return reading._replace(logits=jnp.log(mass + jnp.finfo(mass.dtype).tiny))
