"""A small causal transformer that reads numbers: prompts of in-context regression.

Tokens are shifted or interleaved. Shifted, there is one for each pair: the one at position t holds x_t and the pair
before it, x_{t-1} and y_{t-1}, so that a single layer need not first bind inputs to labels. Interleaved, inputs and
labels are tokens of their own, x_0, y_0, x_1, y_1, ... Either way the network is asked for y_t at the token that
brings x_t, and has not seen it. Positions are learned vectors; without them it knows order from causality alone.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.networks.mlp import layer_norm
from sims.networks.transformer import Block, transformer


class RegressionTransformer(eqx.Module):
    """Numbers in, one number out at every position: a linear embedding, positions, blocks, LayerNorm, readout."""

    embedding: Float[Array, "I D"]
    positions: Float[Array, "L D"] | None
    blocks: tuple[Block, ...]
    readout: Float[Array, " D"]
    tokens: str = eqx.field(static=True, default="shifted")

    def __call__(self, x: Float[Array, "P N d"], y: Float[Array, "P N"]) -> Float[Array, "P N"]:
        """What it says of every label, from its input and the pairs before it."""
        if self.tokens == "shifted":
            return self.read(shifted_tokens(x, y))
        # Every other token is an input, which is where its label is asked for.
        return self.read(interleaved_tokens(x, y))[:, ::2]

    def read(self, tokens: Float[Array, "P T I"]) -> Float[Array, "P T"]:
        """Its output at every token."""
        h = tokens @ self.embedding
        if self.positions is not None:
            h = h + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            h = block(h)
        return layer_norm(h) @ self.readout


def shifted_tokens(x: Float[Array, "P N d"], y: Float[Array, "P N"]) -> Float[Array, "P N I"]:
    """x_t, x_{t-1}, y_{t-1}, and whether there is a pair before, I = 2 d + 2."""
    before = jnp.concatenate([x, y[..., None], jnp.ones_like(y)[..., None]], axis=2)[:, :-1]
    return jnp.concatenate([x, jnp.pad(before, ((0, 0), (1, 0), (0, 0)))], axis=2)


def interleaved_tokens(x: Float[Array, "P N d"], y: Float[Array, "P N"]) -> Float[Array, "P T I"]:
    """(x_t, 0, -1) and (0, y_t, 1) in turn, I = d + 2; the last label, which nobody reads, is left out: T = 2 N - 1.

    The last entry says which of the two it is. It is zero for neither: without positions the first attention, which
    reads the LayerNorm of a token, could then not tell x_t from 2 x_t.
    """
    kind = jnp.ones_like(y)[..., None]
    inputs = jnp.concatenate([x, 0 * kind, -kind], axis=2)
    labels = jnp.concatenate([jnp.zeros_like(x), y[..., None], kind], axis=2)
    return jnp.stack([inputs, labels], axis=2).reshape(len(x), -1, x.shape[2] + 2)[:, :-1]


def regression_transformer(
    key,
    dimension: int,
    context: int,
    *,
    width: int = 32,
    heads: int = 2,
    layers: int = 3,
    tokens: str = "shifted",
    positions: bool = True,
) -> RegressionTransformer:
    """Gaussian weights of variance 1 / fan-in, as those of `transformer`; the blocks are the same for all tokens."""
    kinds = {"shifted": (2 * dimension + 2, context), "interleaved": (dimension + 2, 2 * context - 1)}
    if tokens not in kinds:
        raise ValueError(f"tokens must be 'shifted' or 'interleaved', got {tokens!r}")
    inputs, length = kinds[tokens]
    of_blocks, of_embedding, of_readout = jax.random.split(key, 3)
    like = transformer(of_blocks, 1, length, width=width, heads=heads, layers=layers, outputs=1)
    embedding = jax.random.normal(of_embedding, (inputs, width)) / inputs**0.5
    readout = jax.random.normal(of_readout, (width,)) / width**0.5
    return RegressionTransformer(embedding, like.positions if positions else None, like.blocks, readout, tokens)
