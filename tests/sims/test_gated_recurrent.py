"""Recurrent networks: the recurrence by hand, the order of tokens matters, a step of training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.gated_recurrent import gated_recurrent


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_outputs_by_hand(kind):
    model = gated_recurrent(jax.random.key(0), 5, 9, 4, kind=kind, width=6)
    tokens = jax.random.normal(jax.random.key(1), (2, 3, 5))
    for sequence, logits in zip(tokens, model(tokens, jnp.zeros(2, int)).logits, strict=True):
        state = jnp.zeros(6) if kind == "gru" else (jnp.zeros(6), jnp.zeros(6))
        for token in sequence:
            state = model.cell(token, state)
        np.testing.assert_allclose(logits, model.readout @ (state if kind == "gru" else state[0]), rtol=1e-12)
    turned = model(tokens[:, ::-1]).logits
    assert float(jnp.abs(turned - model(tokens).logits).max()) > 1e-3


def test_single_precision_stays_single():
    model = gated_recurrent(jax.random.key(0), 5, 9, 4, dtype=jnp.float32)
    assert {x.dtype for x in jax.tree.leaves(eqx.filter(model, eqx.is_array))} == {jnp.dtype("float32")}
    assert model(jnp.ones((1, 2, 5), jnp.float32)).logits.dtype == jnp.float32


def test_refuses_an_unknown_cell():
    with pytest.raises(ValueError, match="kind must be 'gru' or 'lstm', got 'elman'"):
        gated_recurrent(jax.random.key(0), 5, 9, 4, kind="elman")
