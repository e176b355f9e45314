"""Linearised and centred networks: tangent to their network, and trained as the closed form says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.engine import grid, simulate
from sims.networks.centred import centred
from sims.networks.linearised import interpolating, linearised
from sims.networks.mlp import mlp, squared_error
from sims.probes.ntk import empirical_ntk
from sims.training import gradient_descent
from theory.kernels.linearised_training import Blocks, descent_filter, largest_stable_lr, trained_function

P, R, C = 4, 3, 2
RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(P + R, 3))), jnp.asarray(RNG.normal(size=(P, C)))
NETWORK = mlp(jax.random.key(0), (3, 16, 12, C), 1.5, 0.1, jax.scipy.special.erf)
START = NETWORK(X)


def own_kernel(network):
    return empirical_ntk(network, X, strategy="jacobian").reshape((P + R) * C, -1)


def kernel():
    """The network's own kernel, rows p C + c, as blocks of training and test points."""
    return Blocks.split(own_kernel(NETWORK), P * C)


def trained(network, lr, steps, y=Y):
    """Outputs on all points after gradient descent on the training points."""
    simulation = gradient_descent(
        lambda key, _: network, lambda network: squared_error(network, X[:P], y), lr, lambda network, _: network(X)
    )
    return simulate(simulation, grid(1), steps).records[0]


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.5, 1.7])
def test_trained_by_gradient_descent_it_is_the_closed_form(momentum):
    """With its own kernel, step for step; also where modes oscillate."""
    ntk = kernel()
    # All outputs of a sample share its 1/P: on the flat outputs the loss is (1/2P) sum, with P samples.
    lr = momentum / 2 * float(largest_stable_lr(np.linalg.eigvalsh(ntk.train)[-1], P))
    steps = np.array([0, 1, 10, 300])
    found = trained(linearised(NETWORK), lr, steps)
    start = np.asarray(START)
    for rows, blocks in ((slice(0, P), Blocks.on_training_points(ntk.train)), (slice(P, None), ntk)):
        expected = trained_function(
            lambda lam: descent_filter(steps[:, None], lam, P, lr),
            blocks,
            Y.ravel(),
            start[:P].ravel(),
            start[rows].ravel(),
        )
        np.testing.assert_allclose(found[:, rows].reshape(4, -1), expected, rtol=1e-10, atol=1e-11)


def test_tangent_to_the_network():
    """The difference is second order in the displacement; the start is untouched, and gets no gradient."""
    tangent = linearised(NETWORK)
    np.testing.assert_allclose(tangent(X), START, rtol=1e-14)
    direction = mlp(jax.random.key(1), (3, 16, 12, C), 1.5, 0.1, jax.scipy.special.erf)

    def curvature(size):
        moved = linearised(NETWORK, jax.tree.map(lambda w: size * w, direction))
        return np.abs(moved.network()(X) - moved(X)).max()

    np.testing.assert_allclose(curvature(1e-3) / curvature(5e-4), 4, rtol=1e-2)
    gradient = jax.grad(lambda network: jnp.sum(network(X) ** 2))(tangent)
    assert all((g == 0).all() for g in jax.tree.leaves(gradient.start))
    assert any((g != 0).any() for g in jax.tree.leaves(gradient.displacement))


@pytest.mark.slow
def test_the_smallest_displacement_that_fits():
    ntk = kernel()
    end = interpolating(NETWORK, X[:P], Y)
    np.testing.assert_allclose(end(X[:P]), Y, rtol=1e-9)
    missing = (Y - START[:P]).ravel()
    size = sum(jnp.sum(w**2) for w in jax.tree.leaves(end.displacement))
    np.testing.assert_allclose(size, missing @ np.linalg.solve(ntk.train, missing), rtol=1e-9)
    start = np.asarray(START)
    expected = trained_function(
        lambda lam: descent_filter(np.inf, lam, P, 1e-3), ntk, Y.ravel(), start[:P].ravel(), start[P:].ravel()
    )
    np.testing.assert_allclose(end(X[P:]).ravel(), expected, rtol=1e-8)


def test_a_centred_network_starts_at_zero_and_learns_alike():
    network = centred(NETWORK)
    np.testing.assert_array_equal(network(X), 0)
    np.testing.assert_allclose(own_kernel(network.network), own_kernel(NETWORK))
    found = trained(network, 0.1, np.array([0, 50]))
    # The same as the network itself on targets that are moved by where it starts.
    expected = trained(NETWORK, 0.1, np.array([0, 50]), Y + START[:P])
    np.testing.assert_allclose(found, expected - START, rtol=1e-10, atol=1e-12)
