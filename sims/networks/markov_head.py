"""The smallest attention network that can count pairs: relative positions in layer 1, one matrix in layer 2."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class MarkovHead(eqx.Module):
    """Layer 1 attends by relative position alone, layer 2 is linear and causal; no residual stream, no value matrices.

    Position s gathers u_s = sum_{j <= s} softmax_j(lags_{s-j}) e_{x_j}; position t then adds up the symbols before it
    with the weights e_{x_t}^T matrix u_s, which are its logits.
    """

    matrix: Float[Array, "k k"]
    lags: Float[Array, " T"]

    def __call__(self, sequences: Int[Array, "P T"]) -> Float[Array, "P T k"]:
        """Log-probabilities of the next symbol at every position."""
        length = len(self.lags)
        steps = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]
        scores = jnp.where(steps >= 0, self.lags[jnp.clip(steps, 0)], -jnp.inf)
        attention = jax.nn.softmax(scores, axis=-1)
        symbols = jax.nn.one_hot(sequences, len(self.matrix))
        gathered = jnp.einsum("sj,pjk->psk", attention, symbols)
        weights = jnp.einsum("pti,ij,psj->pts", symbols, self.matrix, gathered)
        logits = jnp.einsum("pts,psk->ptk", jnp.where(steps >= 0, weights, 0.0), symbols)
        return jax.nn.log_softmax(logits)


def untrained_markov_head(symbols: int, length: int) -> MarkovHead:
    """Nothing is counted, attention is uniform."""
    return MarkovHead(jnp.zeros((symbols, symbols)), jnp.zeros(length))


def next_symbol_loss(model: MarkovHead, sequences: Int[Array, "P after"]) -> Float[Array, ""]:
    """Mean of -ln p of each symbol but the first, nats: sequences of T + 1 symbols, of which T are read."""
    log_p = model(sequences[:, :-1])
    return -jnp.mean(jnp.take_along_axis(log_p, sequences[:, 1:, None], axis=-1))
