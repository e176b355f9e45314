"""A small causal transformer on integer tokens, every part in sight."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sims.networks.mlp import layer_norm


class Block(eqx.Module):
    """Attention, then a two-layer network, each added to the residual stream of the tokens.

    Weights map from their axis before last, or from the heads and that: H heads of size E, width D, M hidden units.
    """

    query: Float[Array, "H D E"]
    key: Float[Array, "H D E"]
    value: Float[Array, "H D E"]
    out: Float[Array, "H E D"]
    up: Float[Array, "D M"]
    down: Float[Array, "M D"]

    def __call__(self, h: Float[Array, "*P T D"]) -> Float[Array, "*P T D"]:
        h = h + self.attention(layer_norm(h))
        return h + jax.nn.gelu(layer_norm(h) @ self.up) @ self.down

    def attention(self, h: Float[Array, "*P T D"]) -> Float[Array, "*P T D"]:
        """What each token reads from itself and from those before it."""
        query, key, value = (jnp.einsum("...td,hde->...hte", h, w) for w in (self.query, self.key, self.value))
        scores = jnp.einsum("...hte,...hse->...hts", query, key) / self.query.shape[-1] ** 0.5
        past = jnp.tril(jnp.ones((h.shape[-2], h.shape[-2]), bool))
        pattern = jax.nn.softmax(jnp.where(past, scores, -jnp.inf), axis=-1)
        return jnp.einsum("...hts,...hse,hed->...td", pattern, value, self.out)


class Transformer(eqx.Module):
    """Tokens in, logits out, at every position: embedding, positions, blocks, LayerNorm, readout.

    `embedding` (vocabulary, width), `positions` (length, width), `readout` (outputs, width), or None if tied: then the
    embedding is the readout, too. LayerNorms have no gains.
    """

    embedding: Float[Array, "V D"]
    positions: Float[Array, "L D"]
    blocks: tuple[Block, ...]
    readout: Float[Array, "C D"] | None = None

    def __call__(self, tokens: Int[Array, "*P T"]) -> Float[Array, "*P T C"]:
        h = self.embedding[tokens] + self.positions[: tokens.shape[-1]]
        for block in self.blocks:
            h = block(h)
        return layer_norm(h) @ (self.embedding if self.readout is None else self.readout).T


def transformer(
    key,
    vocabulary: int,
    length: int,
    *,
    width: int = 32,
    heads: int = 2,
    layers: int = 2,
    hidden: int | None = None,
    outputs: int | None = None,
) -> Transformer:
    """Gaussian weights of variance 1 / fan-in, embeddings of variance 1 / width.

    `hidden` is the width within a block's network, 4 `width` by default; without `outputs` embedding and readout are
    tied and there is one output for each token of the vocabulary.
    """
    if width % heads:
        raise ValueError(f"width must be a multiple of the {heads} heads, got {width}")
    hidden = 4 * width if hidden is None else hidden
    head = width // heads
    keys = iter(jax.random.split(key, 3 + 6 * layers))

    def drawn(*shape, fan_in):
        return jax.random.normal(next(keys), shape) / fan_in**0.5

    def block():
        inward = (drawn(heads, width, head, fan_in=width) for _ in range(3))
        out = drawn(heads, head, width, fan_in=width)
        return Block(*inward, out, drawn(width, hidden, fan_in=width), drawn(hidden, width, fan_in=hidden))

    return Transformer(
        drawn(vocabulary, width, fan_in=width),
        drawn(length, width, fan_in=width),
        tuple(block() for _ in range(layers)),
        None if outputs is None else drawn(outputs, width, fan_in=width),
    )
