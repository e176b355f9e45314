"""A transformer on numbers: causal, blind to the label that it is asked for, and different inputs for each position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.mlp import layer_norm
from sims.networks.regression_transformer import interleaved_tokens, regression_transformer, shifted_tokens

NETWORK = regression_transformer(jax.random.key(0), 2, 5, width=8, layers=2)
X, Y = jax.random.normal(jax.random.key(1), (3, 5, 2)), jax.random.normal(jax.random.key(2), (3, 5))
KINDS = [(tokens, positions) for tokens in ("shifted", "interleaved") for positions in (True, False)]
# Of the tokens before the last one, which stays.
ORDER = np.array([2, 0, 3, 1, 4])


def network(tokens, positions, layers=2):
    return regression_transformer(jax.random.key(0), 2, 5, width=8, layers=layers, tokens=tokens, positions=positions)


def test_tokens_are_shifted():
    tokens = np.asarray(shifted_tokens(X, Y))
    assert tokens.shape == (3, 5, 6)
    np.testing.assert_array_equal(tokens[:, :, :2], X)
    np.testing.assert_array_equal(tokens[:, 0, 2:], 0.0)
    np.testing.assert_array_equal(tokens[:, 1:, 2:4], X[:, :-1])
    np.testing.assert_array_equal(tokens[:, 1:, 4], Y[:, :-1])
    np.testing.assert_array_equal(tokens[:, 1:, 5], 1.0)


def test_tokens_are_interleaved():
    tokens = np.asarray(interleaved_tokens(X, Y))
    assert tokens.shape == (3, 9, 4)
    np.testing.assert_array_equal(tokens[:, ::2, :2], X)
    np.testing.assert_array_equal(tokens[:, ::2, 2], 0.0)
    np.testing.assert_array_equal(tokens[:, ::2, 3], -1.0)
    np.testing.assert_array_equal(tokens[:, 1::2, :2], 0.0)
    np.testing.assert_array_equal(tokens[:, 1::2, 2], Y[:, :-1])
    np.testing.assert_array_equal(tokens[:, 1::2, 3], 1.0)


def test_by_default_shifted_with_positions():
    """To the last bit, as other studies have it."""
    h = shifted_tokens(X, Y) @ NETWORK.embedding + NETWORK.positions
    for block in NETWORK.blocks:
        h = block(h)
    np.testing.assert_array_equal(NETWORK(X, Y), layer_norm(h) @ NETWORK.readout)
    assert jax.tree.all(jax.tree.map(lambda a, b: jnp.array_equal(a, b), NETWORK, network("shifted", True)))


@pytest.mark.parametrize(("tokens", "positions"), KINDS)
def test_switches_change_nothing_else(tokens, positions):
    other = network(tokens, positions)
    assert (other.positions is None) != positions
    for mine, theirs in ((NETWORK.blocks, other.blocks), (NETWORK.readout, other.readout)):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, mine, theirs))
    assert jnp.array_equal(NETWORK.embedding, other.embedding) == (tokens == "shifted")


@pytest.mark.parametrize(("tokens", "positions"), KINDS)
def test_causal_and_blind_to_the_label(tokens, positions):
    """The slope of an output in labels and inputs: none in its own label or in anything later."""
    model = network(tokens, positions)
    by_y = np.asarray(jax.jacobian(lambda y: model(X, y)[0])(Y))[:, 0]
    assert (np.triu(by_y) == 0).all()
    assert (np.abs(by_y[np.tril_indices(5, -1)]) > 0).all()
    by_x = np.asarray(jax.jacobian(lambda x: model(x, Y)[0])(X))[:, 0].sum(axis=-1)
    assert (np.triu(by_x, 1) == 0).all()
    assert (np.abs(by_x[np.tril_indices(5)]) > 0).all()


@pytest.mark.parametrize(("tokens", "positions"), KINDS)
def test_shorter_contexts(tokens, positions):
    model = network(tokens, positions)
    np.testing.assert_allclose(model(X[:, :3], Y[:, :3]), model(X, Y)[:, :3], rtol=1e-5, atol=1e-6)
    assert jnp.isfinite(model(X, Y)).all()


def test_interleaved_labels_stand_where_they_belong():
    """y_t is asked for at the token of x_t, before which stands that of y_{t-1}."""
    model, tokens = network("interleaved", True), interleaved_tokens(X, Y)
    for t in range(5):
        cut = tokens[:, : 2 * t + 1]
        np.testing.assert_array_equal(cut[:, -1, :2], X[:, t])
        if t:
            np.testing.assert_array_equal(cut[:, -2, 2], Y[:, t - 1])
        np.testing.assert_allclose(model.read(cut)[:, -1], model(X, Y)[:, t], rtol=1e-10)


def test_one_layer_without_positions_reads_a_set_of_tokens():
    """The last output is the same for any order of the whole tokens before it; no other network has it so."""
    tokens = shifted_tokens(X, Y)

    def moved(model):
        return float(jnp.abs(model.read(tokens[:, ORDER]) - model.read(tokens))[:, -1].max())

    assert moved(network("shifted", False, layers=1)) < 1e-12
    # Two layers know order from causality: what an earlier token reads depends on what stands before it.
    assert moved(network("shifted", False, layers=2)) > 1e-3
    assert moved(network("shifted", True, layers=1)) > 1e-3
    # Another order of pairs is another set of tokens, since a token holds the next input beside its pair.
    model = network("shifted", False, layers=1)
    assert float(jnp.abs(model(X[:, ORDER], Y[:, ORDER]) - model(X, Y))[:, -1].max()) > 1e-3


def test_one_layer_without_positions_cannot_bind_interleaved_labels():
    def moved(model):
        return float(jnp.abs(model(X, Y[:, ORDER]) - model(X, Y))[:, -1].max())

    assert moved(network("interleaved", False, layers=1)) < 1e-12
    assert moved(network("interleaved", False, layers=2)) > 1e-3
    assert moved(network("interleaved", True, layers=1)) > 1e-3


def test_the_length_of_an_input_is_seen():
    for tokens in ("shifted", "interleaved"):
        model = network(tokens, False)
        read = shifted_tokens if tokens == "shifted" else interleaved_tokens
        one, twice = (layer_norm(read(scale * X, Y) @ model.embedding)[:, -1] for scale in (1, 2))
        assert float(jnp.abs(one - twice).max()) > 0.1


def test_refuses_unknown_tokens():
    with pytest.raises(ValueError, match="tokens must be 'shifted' or 'interleaved', got 'stacked'"):
        regression_transformer(jax.random.key(0), 2, 5, tokens="stacked")
