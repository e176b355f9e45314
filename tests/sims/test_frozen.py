"""Networks of which a part is trained: a random subspace, BatchNorm alone, a readout; and machines without networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.batchnorm import norm_kernel, normed_mlp
from sims.networks.deep_random import SinceStart, preactivation_moments
from sims.networks.kernel_machine import dual_weights, on_sphere, relu_tangent_kernel
from sims.networks.mlp import mlp, squared_error
from sims.networks.random_features import fitted
from sims.networks.subspace import Quadratic, subspace
from sims.probes.ntk import empirical_ntk
from theory.kernels.infinite import kernels

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, 3))
Y = jax.random.normal(jax.random.key(2), (6, 1))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_only_the_first_directions_of_a_subspace_can_move():
    start = mlp(KEY, (3, 5, 1), 2.0, 0.1)
    network = subspace(jax.random.key(3), start, most=4, dimension=2)
    np.testing.assert_array_equal(network(X), start(X))
    vectors = np.stack([flat(jax.tree.map(lambda g, j=j: g[j], network.directions)) for j in range(4)])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 0], rtol=1e-12)
    gradient = eqx.filter_grad(squared_error)(network, X, Y)
    slope = flat(jax.grad(squared_error)(start, X, Y))
    np.testing.assert_allclose(gradient.coordinates, vectors @ slope, rtol=1e-10)
    assert not np.any(flat((gradient.start, gradient.directions)))
    moved = eqx.tree_at(lambda s: s.coordinates, network, jnp.array([0.3, -1.0, 5.0, 5.0]))
    np.testing.assert_allclose(flat(moved.network()) - flat(start), 0.3 * vectors[0] - vectors[1], atol=1e-12)


def test_the_quadratic_by_hand():
    quadratic = Quadratic(jnp.array([1.0, 2.0, 7.0]))
    assert quadratic.loss(jnp.array([2.0, 4.0]), jnp.array([0.0, 1.0])) == 0.5 * (2 * 1 + 4 * 1)


@pytest.mark.slow
def test_batchnorm_alone():
    population = jax.random.normal(jax.random.key(4), (400, 3))
    network = normed_mlp(KEY, (3, 6, 5, 1), population)
    # By hand: units normalised over the population, the readout's branch without an activation on it.
    h = population
    for w, mean, deviation in zip(network.weights, network.means, network.deviations, strict=False):
        z = h @ w.T / w.shape[1] ** 0.5
        np.testing.assert_allclose((mean, deviation), (z.mean(axis=0), z.std(axis=0)), rtol=1e-10)
        h = jax.nn.relu((z - mean) / deviation)
    np.testing.assert_allclose(network(population), h @ network.weights[-1].T / 5**0.5, rtol=1e-10)
    gradient = eqx.filter_grad(squared_error)(network, X, Y)
    assert np.abs(flat((gradient.scales, gradient.shifts))).min() > 0
    assert not np.any(flat((gradient.weights, gradient.means, gradient.deviations)))
    np.testing.assert_allclose(norm_kernel(network, X), empirical_ntk(network, X)[:, 0, :, 0], rtol=1e-10)


def test_a_fitted_readout_is_stationary_and_the_shortest():
    ridge = 0.3
    for features in (4, 6, 9):
        network = fitted(KEY, features, X, Y[:, 0], ridge)
        slope = jax.grad(lambda r, n=network: jnp.sum((Y[:, 0] - n.features(X) @ r) ** 2) + ridge * jnp.sum(r**2))
        np.testing.assert_allclose(slope(network.readout), 0, atol=1e-10)
    short = fitted(KEY, 40, X, Y[:, 0], 0.0)
    np.testing.assert_allclose(short(X), Y[:, 0], atol=1e-9)
    np.testing.assert_allclose(short.readout, np.linalg.pinv(short.features(X)) @ Y[:, 0], atol=1e-9)


def test_a_kernel_machine_and_the_sphere():
    kernel = relu_tangent_kernel(X, X[:4], 2, 1.7, 0.2)
    expected = kernels(X, X[:4], depth=2, weight_variance=1.7, bias_variance=0.2).ntk
    # An inverse cosine of a rounded cosine of one is off by sqrt(2 eps).
    np.testing.assert_allclose(kernel, expected, rtol=1e-7)
    whole = relu_tangent_kernel(X, X, 2, 1.7, 0.2)
    alpha = dual_weights(whole, Y, 0.1)
    np.testing.assert_allclose(whole @ alpha + 0.1 * alpha, Y, rtol=1e-8)
    np.testing.assert_allclose(jnp.linalg.norm(on_sphere(X), axis=1), 1, rtol=1e-12)


def test_deep_random_networks_follow_the_recursion():
    depth, width = 3, 1000
    found = preactivation_moments(KEY, X, depth, width, jax.nn.relu, 1.7, 0.2)
    for layer in range(depth):
        nngp = kernels(X, depth=layer, weight_variance=1.7, bias_variance=0.2).nngp
        q = np.sqrt(np.diag(nngp))
        # Each layer adds fluctuations of order 1/sqrt(width), of which 5 at once are rare.
        assert np.abs(np.asarray(found[layer]) - nngp).max() < 5 * np.sqrt(2 * (layer + 1) / width) * np.max(q) ** 2
    network = mlp(KEY, (3, 5, 1))
    since = SinceStart(network, network(X))
    np.testing.assert_array_equal(since(X), 0)
    gradient = eqx.filter_grad(squared_error)(since, X, Y)
    assert not np.any(gradient.start) and np.any(flat(gradient.network))
