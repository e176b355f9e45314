"""Networks in any width scaling: exponents, the gauge symmetry of the scalings, rates of layers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sims.networks.abc import abc, layerwise, scaled, sign_of_gradient
from sims.networks.centred import centred
from sims.networks.mlp import mlp, squared_error

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 3))
Y = jax.random.normal(jax.random.key(2), (5, 1))


def descended(network, optimiser, steps=5):
    state = optimiser.init(network)
    for _ in range(steps):
        updates, state = optimiser.update(eqx.filter_grad(squared_error)(network, X, Y), state)
        network = eqx.apply_updates(network, updates)
    return network


def test_the_formula_by_hand():
    network = scaled(KEY, (3, 4, 4, 1), (0.5, 2.0, 3.0), (1.0, 1.0, 1.0))
    first, second, readout = (np.asarray(w) for w in network.weights)
    h = 0.5 * np.asarray(X) @ first.T
    f = 3 * np.tanh(2 * np.tanh(h) @ second.T) @ readout.T
    np.testing.assert_allclose(network.layers(X)[0], h, rtol=1e-12)
    np.testing.assert_allclose(network(X), f, rtol=1e-12)


def test_exponents():
    n, a, b = 400, (0.0, 0.5, 1.0), (0.5, 0.25, 0.0)
    network = abc(KEY, 50, n, a, b)
    np.testing.assert_allclose(network.multipliers, n ** -np.array(a), rtol=1e-12)
    for w, power in zip(network.weights, b, strict=True):
        assert abs(jnp.mean(w**2) * n ** (2 * power) - 1) < 5 * np.sqrt(2 / w.size)


def test_ntk_parametrisation_is_an_abc_one():
    network = abc(KEY, 8, 8, (0.5, 0.5, 0.5), (0.0, 0.0, 0.0), jax.nn.relu, outputs=2)
    x = jax.random.normal(KEY, (4, 8))
    twin = eqx.tree_at(lambda t: t.weights, mlp(KEY, (8, 8, 8, 2), 1.0), network.weights)
    np.testing.assert_allclose(network(x), twin(x), rtol=1e-12)


def test_the_gauge_symmetry():
    """(a, b, c) -> (a + theta, b - theta, c - 2 theta): the same trained functions."""
    n, theta = 8, 0.3

    def trained(a, b, c):
        return descended(abc(KEY, 3, n, a, b), layerwise(np.full(3, 0.3 * n**-c)))(X)

    a, b = np.array([0.0, 0.5, 0.5]), np.zeros(3)
    np.testing.assert_allclose(trained(a, b, 0.0), trained(a + theta, b - theta, -2 * theta), rtol=1e-11)
    assert np.abs(trained(a, b, 0.0) - trained(a, b, 0.1)).max() > 1e-3


def test_each_layer_has_its_rate_and_multipliers_stay():
    network, rates = abc(KEY, 3, 8, (0.0, 0.5), (0.5, 0.0)), (0.1, 0.7)
    gradient = eqx.filter_grad(squared_error)(network, X, Y)
    moved = descended(network, layerwise(rates), steps=1)
    for rate, before, slope, after in zip(rates, network.weights, gradient.weights, moved.weights, strict=True):
        np.testing.assert_allclose(after, before - rate * slope, rtol=1e-12)
    np.testing.assert_array_equal(moved.multipliers, network.multipliers)
    signs = descended(network, layerwise(rates, sign_of_gradient()), steps=1)
    np.testing.assert_allclose(signs.weights[1], network.weights[1] - 0.7 * np.sign(gradient.weights[1]), rtol=1e-12)
    # Adam's first step is the sign of the gradient, but for its epsilon.
    adam = descended(network, layerwise(rates, optax.scale_by_adam()), steps=1)
    np.testing.assert_allclose(adam.weights[1], signs.weights[1], rtol=1e-4)


def test_a_centred_network_trains_with_the_same_optimiser():
    network = centred(abc(KEY, 3, 8, (0.0, 0.5), (0.5, 0.0)))
    moved = descended(network, layerwise((0.1, 0.7)), steps=1)
    np.testing.assert_array_equal(network(X), 0)
    assert moved.network.weights[0].shape == (8, 3) and not np.array_equal(moved(X), network(X))
    for before, after in zip(jax.tree.leaves(network.start), jax.tree.leaves(moved.start), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(
        moved.moved(),
        sum(np.sum((v - w) ** 2) for v, w in zip(moved.network.weights, network.network.weights, strict=True)),
        rtol=1e-12,
    )


def test_refusals():
    with pytest.raises(ValueError, match="a and b must hold"):
        abc(KEY, 3, 8, (0.0, 0.5), (0.5, 0.0, 0.0))
