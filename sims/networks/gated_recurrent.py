"""Recurrent networks that read a sequence token by token into one state: GRU and LSTM, from equinox."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.networks.attention_only import Reading


class GatedRecurrent(eqx.Module):
    """A cell over the tokens, and a linear readout of its last state; it is given no positions, which it counts."""

    cell: eqx.nn.GRUCell | eqx.nn.LSTMCell
    readout: Float[Array, "C H"]

    def __call__(self, tokens: Float[Array, "P T D"], shift=None, clamps=None) -> Reading:
        """Logits after the last token; there is no attention to report."""
        size = self.readout.shape[1]
        start = jnp.zeros((len(tokens), size), tokens.dtype)
        is_lstm = isinstance(self.cell, eqx.nn.LSTMCell)

        def step(state, token):
            return jax.vmap(self.cell)(token, state), None

        state, _ = jax.lax.scan(step, (start, start) if is_lstm else start, tokens.swapaxes(0, 1))
        return Reading((state[0] if is_lstm else state) @ self.readout.T, ())


def gated_recurrent(
    key, content: int, places: int, outputs: int, *, kind: str = "gru", width: int = 48, dtype=None
) -> GatedRecurrent:
    """Cells with the initial weights of equinox, uniform of variance 1 / (3 width); a readout of variance 1 / width.

    `content` is the width of tokens; `places` is there for the sake of networks that need positions.
    """
    cells = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}
    if kind not in cells:
        raise ValueError(f"kind must be 'gru' or 'lstm', got {kind!r}")
    of_cell, of_readout = jax.random.split(key)
    cell = cells[kind](content, width, key=of_cell, dtype=dtype)
    return GatedRecurrent(cell, jax.random.normal(of_readout, (outputs, width), dtype) / width**0.5)
