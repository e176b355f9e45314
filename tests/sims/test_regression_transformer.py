"""A transformer on numbers: causal, blind to the label that it is asked for, and different inputs for each position."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.regression_transformer import regression_transformer, shifted_tokens

NETWORK = regression_transformer(jax.random.key(0), 2, 5, width=8, layers=2)
X, Y = jax.random.normal(jax.random.key(1), (3, 5, 2)), jax.random.normal(jax.random.key(2), (3, 5))


def test_tokens_are_shifted():
    tokens = np.asarray(shifted_tokens(X, Y))
    assert tokens.shape == (3, 5, 6)
    np.testing.assert_array_equal(tokens[:, :, :2], X)
    np.testing.assert_array_equal(tokens[:, 0, 2:], 0.0)
    np.testing.assert_array_equal(tokens[:, 1:, 2:4], X[:, :-1])
    np.testing.assert_array_equal(tokens[:, 1:, 4], Y[:, :-1])
    np.testing.assert_array_equal(tokens[:, 1:, 5], 1.0)


def test_causal_and_blind_to_the_label():
    """The slope of an output in labels and inputs: none in its own label or in anything later."""
    by_y = np.asarray(jax.jacobian(lambda y: NETWORK(X, y)[0])(Y))[:, 0]
    assert (np.triu(by_y) == 0).all()
    assert (np.abs(by_y[np.tril_indices(5, -1)]) > 0).all()
    by_x = np.asarray(jax.jacobian(lambda x: NETWORK(x, Y)[0])(X))[:, 0].sum(axis=-1)
    assert (np.triu(by_x, 1) == 0).all()
    assert (np.abs(by_x[np.tril_indices(5)]) > 0).all()


def test_shorter_contexts():
    np.testing.assert_allclose(NETWORK(X[:, :3], Y[:, :3]), NETWORK(X, Y)[:, :3], rtol=1e-5, atol=1e-6)
    assert jnp.isfinite(NETWORK(X, Y)).all()
