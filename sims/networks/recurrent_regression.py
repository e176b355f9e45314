"""Recurrent networks that read prompts of in-context regression: GRU and LSTM, from equinox.

They read the shifted tokens of `regression_transformer` and answer at every one of them, as it does. What they know of
the pairs before must fit into a state of fixed size. Normal equations would: X^T X and X^T y are sums.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.networks.gated_recurrent import gated_recurrent
from sims.networks.regression_transformer import shifted_tokens


class RecurrentRegression(eqx.Module):
    """Cells, each of which reads the states of the one below, and a linear readout of the last one's; no positions."""

    cells: tuple[eqx.nn.GRUCell | eqx.nn.LSTMCell, ...]
    readout: Float[Array, " H"]

    def __call__(self, x: Float[Array, "P N d"], y: Float[Array, "P N"]) -> Float[Array, "P N"]:
        """What it says of every label, from its input and the pairs before it."""
        h = shifted_tokens(x, y).swapaxes(0, 1)
        for cell in self.cells:
            h = _states(cell, h)
        return (h @ self.readout).T


def _states(cell: eqx.nn.GRUCell | eqx.nn.LSTMCell, tokens: Float[Array, "N P I"]) -> Float[Array, "N P H"]:
    """What a cell shows after each token; an LSTM keeps another state to itself."""
    is_lstm = isinstance(cell, eqx.nn.LSTMCell)
    start = jnp.zeros((tokens.shape[1], cell.hidden_size), tokens.dtype)

    def step(state, token):
        state = jax.vmap(cell)(token, state)
        return state, state[0] if is_lstm else state

    return jax.lax.scan(step, (start, start) if is_lstm else start, tokens)[1]


def recurrent_regression(
    key, dimension: int, context: int, *, kind: str = "gru", width: int = 48, layers: int = 1
) -> RecurrentRegression:
    """Weights as those of `gated_recurrent`; `context` is there for the sake of networks that need its length."""
    if layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    widths = (2 * dimension + 2, *[width] * layers)
    keys = jax.random.split(key, layers)
    like = [gated_recurrent(k, n, context, 1, kind=kind, width=width) for k, n in zip(keys, widths[:-1], strict=True)]
    return RecurrentRegression(tuple(one.cell for one in like), like[-1].readout[0])
