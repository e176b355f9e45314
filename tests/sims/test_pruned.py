"""Pruned networks and their landscape: exact counts, weights that stay out, paths and curvatures by brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sims.networks.mlp import mlp, squared_error
from sims.networks.pruned import magnitude_masks, pruned
from sims.probes.landscape import between, hessian_trace, path_curvature, path_losses
from sims.probes.sharpness import hessian_spectrum


def network(seed):
    return mlp(jax.random.key(seed), (5, 7, 3), activation=jnp.tanh, bias_variance=1.0)


def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(9, 5))), jnp.asarray(rng.normal(size=(9, 3)))


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_largest_weights_are_kept(scope):
    net = network(0)
    masks = magnitude_masks(net, 0.25, scope)
    groups = [[0, 1]] if scope == "global" else [[0], [1]]
    for group in groups:
        w = np.concatenate([np.abs(net.weights[i]).ravel() for i in group])
        kept = np.concatenate([np.asarray(masks.weights[i]).ravel() for i in group]) > 0
        assert kept.sum() == round(0.25 * w.size)
        assert w[kept].min() > w[~kept].max()
    assert all((np.asarray(b) == 1).all() for b in masks.biases)


def test_ends_of_density_and_ties():
    net = jax.tree.map(jnp.ones_like, network(0))
    for density, count in ((0.0, 0), (0.5, 28), (1.0, 56)):
        assert sum(float(m.sum()) for m in magnitude_masks(net, density).weights) == count
    x, _ = data()
    np.testing.assert_array_equal(pruned(network(0), 1.0)(x), network(0)(x))
    with pytest.raises(ValueError, match="scope must be 'global' or 'layer', got 'row'"):
        magnitude_masks(net, 0.5, "row")


def test_training_leaves_what_is_pruned():
    (x, y), start = data(), pruned(network(1), 0.8)
    optimiser = optax.sgd(0.1, momentum=0.9)
    model, state = start, optimiser.init(start)
    slope = jax.jit(jax.grad(lambda one: squared_error(one, x, y)))
    for _ in range(5):
        updates, state = optimiser.update(slope(model), state)
        model = optax.apply_updates(model, updates)
    for before, after, mask in zip(start.network.weights, model.network.weights, start.masks.weights, strict=True):
        assert (np.asarray(after)[np.asarray(mask) == 0] == 0).all()
        assert (np.asarray(after) != np.asarray(before))[np.asarray(mask) == 1].all()
    assert all((a == b).all() for a, b in zip(start.masks.weights, model.masks.weights, strict=True))


@pytest.mark.slow
def test_path_and_curvature():
    (x, y), first, second = data(), network(0), network(1)

    def loss(model):
        return squared_error(model, x, y)

    losses = path_losses(loss, first, second, 5)
    np.testing.assert_allclose(losses[0], loss(first), rtol=1e-12)
    np.testing.assert_allclose(losses[-1], loss(second), rtol=1e-12)
    np.testing.assert_allclose(losses[1], loss(between(first, second, 0.25)), rtol=1e-12)
    straight = jax.grad(jax.grad(lambda t: loss(between(first, second, t))))(0.5)
    np.testing.assert_allclose(path_curvature(loss, first, second), straight, rtol=1e-10)
    with pytest.raises(ValueError, match="points must be at least 3, got 2"):
        path_losses(loss, first, second, 2)


@pytest.mark.slow
def test_trace():
    (x, y), net = data(), network(0)
    samples = np.asarray(hessian_trace(lambda m: squared_error(m, x, y), net, jax.random.key(3), 400))
    exact = float(hessian_spectrum(lambda m: squared_error(m, x, y), net).sum())
    assert abs(samples.mean() - exact) < 5 * samples.std(ddof=1) / 20
    # No scatter where the Hessian is diagonal.
    bowl = hessian_trace(lambda v: jnp.sum(jnp.arange(4.0) * v**2), jnp.ones(4), jax.random.key(0), 3)
    np.testing.assert_allclose(bowl, 12, rtol=1e-12)
