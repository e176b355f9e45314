"""Mean-field particles: explicit networks, masses, the linear case, the lazy limit, quadrature, finite width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.mean_field import initial_moments, linear_descent, linear_output, whole_batches
from theory.kernels.particles import (
    Neurons,
    mean_field_descent,
    mean_field_flow,
    neuron_moments,
    quadrature_neurons,
    sampled_neurons,
    width_shift,
    width_variance,
)

seeds = st.integers(0, 2**32 - 1)
richness = st.floats(-1, 0.7).map(lambda e: 10.0**e)
# Pre-activations below one, on which few quadrature nodes do.
X = 0.7 * jnp.array([[1.0, 0.3], [-0.4, 0.8], [0.6, -0.7]])
Y = jnp.array([[0.8], [-0.5], [0.3]])


def identity(h):
    return h


@jax.jit
def explicit(start, batches, x, y, gamma, lr):
    """f - f(0) after each step of a tanh network of finite width, by automatic differentiation of its loss."""
    width = start[0].shape[0]

    def output(weights, x):
        w, a = weights
        return jnp.tanh(x @ w.T / jnp.sqrt(x.shape[1])) @ a / (gamma * width)

    def centred(weights, x):
        return output(weights, x) - output(start, x)

    def step(weights, batch):
        loss = lambda v: 0.5 * jnp.sum((y[batch] - centred(v, x[batch])) ** 2) / len(batch)  # noqa: E731
        moved = jax.tree.map(lambda w, g: w - gamma**2 * width * lr * g, weights, jax.grad(loss)(weights))
        return moved, centred(moved, x)

    return jax.lax.scan(step, start, batches)


@given(seeds, richness)
def test_particles_are_an_explicit_network_under_sgd(seed, gamma):
    rng = np.random.default_rng(seed)
    x, y = jnp.asarray(rng.normal(size=(4, 3))), jnp.asarray(rng.normal(size=(4, 2)))
    network = sampled_neurons(jax.random.key(seed % 1000), 5, 3, 2)
    batches = rng.integers(0, 4, (6, 2))
    last, expected = explicit(network[:2], batches, x, y, gamma, 0.1)
    course = mean_field_descent(batches, network, x, y, gamma, 0.1, jnp.tanh)
    np.testing.assert_allclose(course.outputs[1:], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(course.outputs[0], 0)
    np.testing.assert_allclose(course.neurons.inputs, last[0], rtol=1e-9, atol=1e-12)
    features = np.tanh(x @ last[0].T / np.sqrt(3))
    np.testing.assert_allclose(course.features[-1], features @ features.T / 5, rtol=1e-9, atol=1e-12)


def test_a_neuron_of_double_mass_is_two_neurons():
    w, a = jnp.array([[0.3, -1.0], [0.8, 0.5]]), jnp.array([[1.0], [-0.6]])
    two = Neurons(w, a, jnp.array([2 / 3, 1 / 3]))
    three = Neurons(w[jnp.array([0, 0, 1])], a[jnp.array([0, 0, 1])], jnp.full(3, 1 / 3))
    batches = whole_batches(4, 3)
    one, other = (mean_field_descent(batches, start, X, Y, 1.3, 0.2, jnp.tanh).outputs for start in (two, three))
    np.testing.assert_allclose(one, other, rtol=1e-13)


@given(seeds, richness)
def test_linear_particles_close_on_their_moments(seed, gamma):
    network = sampled_neurons(jax.random.key(seed % 1000), 5, 2)
    batches = np.random.default_rng(seed).integers(0, 3, (6, 2))
    moments = linear_descent(batches, X, Y + linear_output(neuron_moments(network, gamma), X), gamma, 0.1,
                             neuron_moments(network, gamma))  # fmt: skip
    f = linear_output(moments, X)
    course = mean_field_descent(batches, network, X, Y, gamma, 0.1, identity)
    np.testing.assert_allclose(course.outputs, f - f[0], rtol=1e-10, atol=1e-12)


def test_quadrature_of_order_three_is_the_linear_limit():
    """The neurons' equation is linear in the neuron, so that only second moments of the start matter."""
    start, batches = quadrature_neurons(X, 3), whole_batches(6, 3)
    for moment, expected in zip(neuron_moments(start, 1.0), initial_moments(2), strict=True):
        np.testing.assert_allclose(moment, expected, atol=1e-14)
    course = mean_field_descent(batches, start, X, Y, 1.5, 0.3, identity)
    np.testing.assert_allclose(course.outputs, linear_output(linear_descent(batches, X, Y, 1.5, 0.3), X), atol=1e-13)


def test_a_small_gamma_is_the_tangent_kernel_up_to_its_square():
    start, steps, lr = quadrature_neurons(X, 8), 80, 0.1
    h = X @ start.inputs.T / np.sqrt(2)
    features, slopes = jnp.tanh(h), 1 / jnp.cosh(h) ** 2
    kernel = (features * start.mass) @ features.T + (slopes * start.mass) @ slopes.T * (X @ X.T / 2)
    lazy = Y - np.linalg.matrix_power(np.eye(3) - lr * kernel / 3, steps) @ Y
    batches = whole_batches(steps, 3)
    gaps = [
        np.abs(mean_field_descent(batches, start, X, Y, gamma, lr, jnp.tanh).outputs[-1] - lazy).max()
        for gamma in (0.2, 0.1)
    ]
    assert gaps[1] < 0.1**2 * np.abs(Y).max()
    # gamma^4 is the next order.
    np.testing.assert_allclose(gaps[0] / gaps[1], 4.0, rtol=0.1)


def test_quadrature_converges():
    batches = whole_batches(80, 3)
    coarse, fine, finest = (
        mean_field_descent(batches, quadrature_neurons(X, k), X, Y, 1.0, 0.1, jnp.tanh).outputs[-1] for k in (4, 8, 16)
    )
    assert np.abs(fine - finest).max() < np.abs(coarse - finest).max() / 5 < 1e-2


def test_nodes_of_fewer_points_than_inputs_have_their_moments():
    x = np.array([[1.0, -2.0, 0.5]])
    start = quadrature_neurons(x, order=4, outputs=2, readout_order=3)
    assert start.inputs.shape == (4 * 3**2, 3)
    seen = start.inputs @ x[0]
    for power, moment in ((1, 0.0), (2, 1.0), (4, 3.0), (6, 15.0)):
        assert start.mass @ seen**power == pytest.approx(moment * (x @ x.T).item() ** (power / 2), rel=1e-12, abs=1e-12)
    np.testing.assert_allclose((start.mass * start.readout.T) @ start.readout, np.eye(2), atol=1e-12)


def test_descent_follows_the_flow():
    t, start = np.array([0.0, 8.0]), quadrature_neurons(X, 8)
    end = mean_field_flow(t, start, X, Y, 1.0, jnp.tanh).outputs[-1]
    gaps = [
        np.abs(mean_field_descent(whole_batches(n, 3), start, X, Y, 1.0, 8 / n, jnp.tanh).outputs[-1] - end).max()
        for n in (80, 160)
    ]
    # The next order is some per cent.
    np.testing.assert_allclose(gaps[0] / gaps[1], 2.0, rtol=0.1)


def test_points_outside_the_training_set():
    points = jnp.concatenate([X, jnp.array([[0.4, 2.0]])])
    start = quadrature_neurons(points, 6)
    course = mean_field_descent(whole_batches(3, 3), start, X, Y, 1.0, 0.3, jnp.tanh, points=points)
    plain = mean_field_descent(whole_batches(3, 3), start, X, Y, 1.0, 0.3, jnp.tanh)
    np.testing.assert_allclose(course.outputs[:, :3], plain.outputs, rtol=1e-13)
    assert course.outputs.shape == (4, 4, 1) and course.features.shape == (4, 4, 4)
    # phi is odd, and so is the network in its input.
    mirrored = mean_field_descent(whole_batches(3, 3), start, X, Y, 1.0, 0.3, jnp.tanh, points=-points)
    np.testing.assert_allclose(mirrored.outputs, -course.outputs, rtol=1e-13)


@pytest.mark.slow
def test_scatter_and_shift_of_finite_width_in_the_linear_case():
    """By masses of neurons, and by the Wishart statistics of the initial second moments: the same."""
    batches, gamma, lr = whole_batches(4, 3), 1.2, 0.3
    start = quadrature_neurons(X, 3)

    def by_mass(mass):
        return mean_field_descent(batches, start._replace(mass=mass), X, Y, gamma, lr, identity).outputs[-1, :, 0]

    def by_moments(s):
        moments = type(initial_moments(2))(s[:2, :2], s[:2, 2:] / gamma, s[2:, 2:])
        before = linear_output(moments, X)
        return (linear_output(linear_descent(batches, X, Y + before, gamma, lr, moments), X)[-1] - before)[:, 0]

    def derivatives(direction):
        return jax.jvp(lambda s: jax.jvp(by_moments, (s,), (direction,))[1], (jnp.eye(3),), (direction,))

    directions = np.stack(
        [np.maximum(np.outer(i, j), np.outer(j, i)) for n, i in enumerate(np.eye(3)) for j in np.eye(3)[: n + 1]]
    )
    first, second = jax.jit(jax.vmap(derivatives))(directions)
    # Entries of a Wishart matrix are independent, of variance 2/N on the diagonal and 1/N off it.
    of_entry = np.where(np.trace(directions, axis1=1, axis2=2) > 0, 2.0, 1.0)
    variance, shift = of_entry @ first**2, of_entry @ second / 2
    np.testing.assert_allclose(width_variance(start.mass, by_mass), variance, rtol=1e-10)
    np.testing.assert_allclose(width_shift(start.mass, by_mass), shift, rtol=1e-10)


def test_a_random_sample_scatters_as_predicted():
    """Networks of width 200 against the quadrature limit: a chi-squared test of the variance, five deviations wide."""
    batches, start = whole_batches(5, 3), quadrature_neurons(X, 8)

    def trained(neurons):
        return mean_field_descent(batches, neurons, X, Y, 1.0, 0.5, jnp.tanh).outputs[-1, 0, 0]

    predicted = width_variance(start.mass, lambda mass: trained(start._replace(mass=mass)))
    draw = lambda key: trained(sampled_neurons(key, 200, 2))  # noqa: E731
    networks = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 400))
    # Relative deviation sqrt(2 / 400) of a sample variance, and corrections of order 1/200.
    np.testing.assert_allclose(200 * np.var(networks, ddof=1), predicted, rtol=5 * np.sqrt(2 / 400))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda start: mean_field_flow(np.array([0.0]), start._replace(mass=start.mass * 2), X, Y, 1.0, jnp.tanh),
            "^mass must sum",
        ),
        (lambda start: mean_field_flow(np.array([0.0]), start, X, Y, 0.0, jnp.tanh), "^gamma must be positive"),
        (lambda start: mean_field_flow(np.array([0.0]), start, X[:, :1], Y, 1.0, jnp.tanh), "^x must be a matrix"),
        (
            lambda start: mean_field_descent(np.array([[7]]), start, X, Y, 1.0, 0.1, jnp.tanh),
            "^batches must be indices",
        ),
        (lambda start: quadrature_neurons(X, 0), "^order must be"),
        (lambda start: width_variance(-start.mass, jnp.sum), "^mass must be non-negative"),
    ],
)
def test_refusals_name_the_argument(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(sampled_neurons(jax.random.key(0), 4, 2))
