"""A small causal transformer that reads numbers: prompts of in-context regression, one token for each pair.

Tokens are shifted: the one at position t holds x_t and the pair before it, x_{t-1} and y_{t-1}, so that a single layer
need not first bind inputs to labels. It is asked for y_t, which it has not seen.
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
    positions: Float[Array, "N D"]
    blocks: tuple[Block, ...]
    readout: Float[Array, " D"]

    def __call__(self, x: Float[Array, "P N d"], y: Float[Array, "P N"]) -> Float[Array, "P N"]:
        """What it says of every label, from its input and the pairs before it."""
        h = shifted_tokens(x, y) @ self.embedding + self.positions[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return layer_norm(h) @ self.readout


def shifted_tokens(x: Float[Array, "P N d"], y: Float[Array, "P N"]) -> Float[Array, "P N I"]:
    """x_t, x_{t-1}, y_{t-1}, and whether there is a pair before, I = 2 d + 2."""
    before = jnp.concatenate([x, y[..., None], jnp.ones_like(y)[..., None]], axis=2)[:, :-1]
    return jnp.concatenate([x, jnp.pad(before, ((0, 0), (1, 0), (0, 0)))], axis=2)


def regression_transformer(
    key, dimension: int, context: int, *, width: int = 32, heads: int = 2, layers: int = 3
) -> RegressionTransformer:
    """Gaussian weights of variance 1 / fan-in, as those of `transformer`."""
    of_blocks, of_embedding, of_readout = jax.random.split(key, 3)
    like = transformer(of_blocks, 1, context, width=width, heads=heads, layers=layers, outputs=1)
    inputs = 2 * dimension + 2
    embedding = jax.random.normal(of_embedding, (inputs, width)) / inputs**0.5
    readout = jax.random.normal(of_readout, (width,)) / width**0.5
    return RegressionTransformer(embedding, like.positions, like.blocks, readout)
