"""Samples near a boundary: their density, labels, and the loss that counts them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.tasks.noisy_boundary import Perceptron, boundary_samples, hinge


@pytest.mark.parametrize("chi", [0.0, 1.0])
def test_density_of_distances(chi):
    x, y = boundary_samples(jax.random.key(0), 40_000, 3, chi)
    np.testing.assert_array_equal(np.sign(x[:, 0]), y)
    # A chi distribution of 1 + chi degrees of freedom: mean square 1 + chi, and P(z < s) ~ s^{1 + chi}.
    squares = np.asarray(x[:, 0] ** 2)
    assert abs(squares.mean() - (1 + chi)) < 5 * squares.std() / 200
    few, more = ((np.abs(x[:, 0]) < s).mean() for s in (0.1, 0.2))
    np.testing.assert_allclose(np.log2(more / few), 1 + chi, atol=0.25)
    np.testing.assert_allclose(np.cov(x[:, 1:].T), np.eye(2), atol=5 / 200 * np.sqrt(2))
    assert abs(np.mean(y)) < 5 / 200


def test_hinge_and_perceptron():
    model = Perceptron(jnp.array([3.0, 4.0, 0.0, 0.0]))
    np.testing.assert_allclose(model(jnp.array([[1.0, 1.0, 5.0, 5.0]])), [3.5])
    np.testing.assert_allclose(hinge(jnp.array([2.0, 0.5, -1.0]), jnp.array([1.0, 1.0, 1.0])), (0 + 0.5 + 2) / 3)
    gradient = jax.grad(hinge)(jnp.array([2.0, 0.5, -1.0]), jnp.ones(3))
    np.testing.assert_allclose(gradient, [0, -1 / 3, -1 / 3])
