"""Recurrent networks on numbers: the recurrence by hand, causal, blind to the label asked for; how all are trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.engine import Runs, simulate
from sims.networks.recurrent_regression import recurrent_regression
from sims.networks.regression_transformer import regression_transformer, shifted_tokens
from sims.regression_training import regression_training

KINDS = [(kind, layers) for kind in ("gru", "lstm") for layers in (1, 2)]
X, Y = jax.random.normal(jax.random.key(1), (3, 5, 2)), jax.random.normal(jax.random.key(2), (3, 5))


def network(kind, layers):
    return recurrent_regression(jax.random.key(0), 2, 5, kind=kind, width=6, layers=layers)


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_outputs_by_hand(kind, layers):
    model = network(kind, layers)
    assert len(model.cells) == layers
    for sequence, outputs in zip(shifted_tokens(X, Y), model(X, Y), strict=True):
        states = [jnp.zeros(6) if kind == "gru" else (jnp.zeros(6), jnp.zeros(6))] * layers
        for token, output in zip(sequence, outputs, strict=True):
            shown = token
            for i, cell in enumerate(model.cells):
                states[i] = cell(shown, states[i])
                shown = states[i] if kind == "gru" else states[i][0]
            np.testing.assert_allclose(output, model.readout @ shown, rtol=1e-10)


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_causal_and_blind_to_the_label(kind, layers):
    """The slope of an output in labels and inputs: none in its own label or in anything later."""
    model = network(kind, layers)
    by_y = np.asarray(jax.jacobian(lambda y: model(X, y)[0])(Y))[:, 0]
    assert (np.triu(by_y) == 0).all()
    assert (np.abs(by_y[np.tril_indices(5, -1)]) > 0).all()
    by_x = np.asarray(jax.jacobian(lambda x: model(x, Y)[0])(X))[:, 0].sum(axis=-1)
    assert (np.triu(by_x, 1) == 0).all()
    assert (np.abs(by_x[np.tril_indices(5)]) > 0).all()


def test_cells_differ_and_prompts_do_not_mix():
    model = network("gru", 2)
    assert not jnp.array_equal(model.cells[0].weight_hh, model.cells[1].weight_hh)
    np.testing.assert_allclose(model(X[1:2], Y[1:2])[0], model(X, Y)[1], rtol=1e-10)


def test_any_length():
    model = network("lstm", 1)
    twice = jnp.concatenate([X, X], axis=1), jnp.concatenate([Y, Y], axis=1)
    np.testing.assert_allclose(model(*twice)[:, :5], model(X, Y), rtol=1e-10)


def test_refusals():
    with pytest.raises(ValueError, match="kind must be 'gru' or 'lstm', got 'elman'"):
        network("elman", 1)
    with pytest.raises(ValueError, match="layers must be at least 1, got 0"):
        network("gru", 0)


def drawn(key, hyper):
    of_x, of_w = jax.random.split(key)
    x = jax.random.normal(of_x, (32, 5, 2))
    return x, jnp.einsum("pnd,pd->pn", x, jax.random.normal(of_w, (32, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"network": functools.partial(regression_transformer, tokens="interleaved", positions=False)},
        {"network": functools.partial(recurrent_regression, kind="gru")},
        {"network": functools.partial(recurrent_regression, kind="lstm")},
    ],
    ids=["default", "interleaved", "gru", "lstm"],
)
def test_any_network_can_be_trained(switches):
    """Records before training are those of the network drawn by hand; afterwards the loss is smaller."""
    x, y = drawn(jax.random.key(9), None)
    hyper = {"x": np.asarray(x, np.float32)[None], "y": np.asarray(y, np.float32)[None]}
    program = regression_training(drawn, 2, 5, steps=60, lr=1e-2, width=8, layers=2, **switches)
    records = simulate(program, Runs(np.array([3]), hyper, (1,)), [0, 60], batching="map").records[0]
    assert records.shape == (2, 32, 5)
    assert records.dtype == np.float32
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 3))[0]
    untrained = switches.get("network", regression_transformer)(key, 2, 5, width=8, layers=2)
    np.testing.assert_allclose(records[0], untrained(x, y), rtol=1e-3, atol=1e-4)
    before, after = np.mean((records - y) ** 2, axis=(1, 2))
    assert after < before
