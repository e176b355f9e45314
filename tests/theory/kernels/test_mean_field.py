"""Linear mean-field networks: explicit networks, conservation, lazy limit, aligned targets, symmetries, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.mean_field import (
    Moments,
    aligned_output,
    initial_moments,
    linear_descent,
    linear_flow,
    linear_output,
    whole_batches,
)
from theory.kernels.particles import neuron_moments, sampled_neurons

seeds = st.integers(0, 2**32 - 1)
richness = st.floats(-2, 1).map(lambda e: 10.0**e)
T = jnp.linspace(0, 3, 7)
START = initial_moments(3, 2)


def flow_at(x, y, gamma):
    return linear_flow(T, x, y, gamma, START)


def data(seed, samples=4, inputs=3, outputs=2):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(samples, inputs))), jnp.asarray(rng.normal(size=(samples, outputs)))


@jax.jit
def explicit(start, batches, x, y, gamma, lr):
    """Outputs after each step of a linear network of finite width, by automatic differentiation of its loss."""
    width = start[0].shape[0]

    def output(weights, x):
        w, a = weights
        return x @ w.T @ a / (gamma * width * jnp.sqrt(x.shape[1]))

    def step(weights, batch):
        loss = lambda v: 0.5 * jnp.sum((y[batch] - output(v, x[batch])) ** 2) / len(batch)  # noqa: E731
        moved = jax.tree.map(lambda w, g: w - gamma**2 * width * lr * g, weights, jax.grad(loss)(weights))
        return moved, output(moved, x)

    return jax.lax.scan(step, start, batches)[1]


@given(seeds, richness)
def test_moments_follow_an_explicit_network_under_sgd(seed, gamma):
    x, y = data(seed)
    network = sampled_neurons(jax.random.key(seed % 1000), 5, 3, 2)
    batches = np.random.default_rng(seed).integers(0, 4, (6, 2))
    lr = 0.1 / (1 + gamma)
    moments = linear_descent(batches, x, y, gamma, lr, neuron_moments(network, gamma))
    found = linear_output(moments, x)[1:]
    expected = explicit(network[:2], batches, x, y, gamma, lr)
    # Rounding in a few products, which the small gamma of the output's denominator enlarges.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13 * (1 + 1 / gamma))


@given(seeds, richness)
def test_the_flow_conserves_the_balance_and_lowers_the_loss(seed, gamma):
    x, y = data(seed)
    moments = flow_at(x, y, gamma)
    inputs, readout = (jnp.trace(m, axis1=1, axis2=2) for m in (moments.inputs, moments.readout))
    # The integrator's relative 1e-10 per step, over some tens of steps.
    np.testing.assert_allclose(readout - inputs, 2 - 3, atol=1e-8 * float(inputs.max()))
    loss = jnp.sum((y - linear_output(moments, x)) ** 2, axis=(1, 2))
    assert (np.diff(loss) <= 1e-9).all()


@given(seeds)
def test_without_richness_it_is_the_tangent_kernel(seed):
    x, y = data(seed)
    moments = flow_at(x, y, 0.0)
    kernel = 2 * x @ x.T / 3 / 4
    values, vectors = np.linalg.eigh(kernel)
    decay = np.exp(-T[:, None] * np.maximum(values, 0))
    lazy = y - np.einsum("ij,tj,kj,kc->tic", vectors, decay, vectors, y)
    np.testing.assert_allclose(linear_output(moments, x), lazy, atol=1e-8)
    np.testing.assert_array_equal(moments.inputs, jnp.broadcast_to(jnp.eye(3), (7, 3, 3)))
    # Features move as gamma^2.
    near, nearer = (flow_at(x, y, g).inputs - jnp.eye(3) for g in (0.02, 0.01))
    np.testing.assert_allclose(near[-1], 4 * nearer[-1], rtol=0.01, atol=1e-6)


@given(seeds, richness)
def test_rotated_inputs_relabelled_outputs_and_shuffled_samples(seed, gamma):
    x, y = data(seed)
    rng = np.random.default_rng(seed)
    turn, mix = (np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (3, 2))
    order = rng.permutation(4)
    plain = linear_output(flow_at(x, y, gamma), x)
    turned = linear_output(flow_at((x @ turn)[order], (y @ mix)[order], gamma), x @ turn)
    np.testing.assert_allclose(turned, plain @ mix, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_descent_follows_the_flow_to_first_order(gamma):
    x, y = data(5)
    end = flow_at(x, y, gamma).map[-1]
    errors = [
        jnp.abs(linear_descent(whole_batches(steps, 4), x, y, gamma, 3 / steps).map[-1] - end).max()
        for steps in (300, 600)
    ]
    # The next order is some per cent.
    np.testing.assert_allclose(errors[0] / errors[1], 2.0, rtol=0.05)


@given(st.floats(-3, 3), richness, st.floats(0.05, 2))
def test_an_aligned_target_has_the_closed_form(target, gamma, lam):
    """Inputs with x x^T / (d P) = diag(lam, 1/2, ...) and a target on the first axis."""
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    x = np.sqrt(3 * 4 * np.array([lam, 0.5, 0.3, 0.0]))[:, None] * np.vstack([frame, np.zeros(3)])
    # The second output has nothing to learn.
    y = np.sqrt(4) * target * np.eye(4)[:, :1] * np.array([1.0, 0.0])
    outputs = linear_output(flow_at(jnp.asarray(x), jnp.asarray(y), gamma), x)
    f = aligned_output(T, target, gamma, lam)
    np.testing.assert_allclose(outputs[:, 0, 0] / 2, f, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(outputs[:, 1:], 0, atol=1e-12)
    np.testing.assert_array_equal(outputs[..., 1], 0)
    assert (np.diff(np.abs(f)) >= -1e-12).all() and (np.abs(f) <= abs(target) * (1 + 1e-12)).all()


def test_aligned_output_is_finite_and_differentiable_everywhere():
    hard = np.meshgrid((0.0, 1e-8, 1.0, 1e6), (-1e3, -1.0, 0.0, 1e-9, 1.0), (0.0, 1e-9, 1.0, 1e4), (1e-3, 1.0))
    drawn = [jnp.asarray(v.ravel()) for v in hard]
    gradients = jax.vmap(jax.grad(aligned_output, argnums=(0, 1, 2, 3)))(*drawn)
    assert all(np.isfinite(g).all() for g in (aligned_output(*drawn), *gradients))
    np.testing.assert_allclose(aligned_output(0.7, 2.0, 0.0, 0.4), 2 * (1 - np.exp(-0.56)), rtol=1e-15)
    # A rich network waits: the time to half the target, in units of 1 / rate, grows with the logarithm of c.
    assert aligned_output(0.05, 1.0, 0.0) > 2 * aligned_output(0.05 / 50, 1.0, 100.0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x, y: linear_flow(np.array([0.0, 1.0]), np.full((4, 3), np.nan), y, 1.0), "^x must be finite"),
        (lambda x, y: linear_flow(np.array([0.0, 1.0]), x, y, -1.0), "^gamma must be non-negative"),
        (lambda x, y: linear_flow(np.array([1.0, 0.5]), x, y, 1.0), "^t must increase"),
        (
            lambda x, y: linear_descent(np.array([[0, 4]]), x, y, 1.0, 0.1),
            "^batches must be indices of the 4 samples, got 4",
        ),
        (lambda x, y: linear_descent(np.array([[0, 1]]), x, y, 1.0, 0.0), "^lr must be positive"),
        (lambda x, y: linear_flow(np.array([0.0]), x, y, 1.0, initial_moments(2, 2)), "^start.inputs must be"),
        (lambda x, y: aligned_output(1.0, 1.0, 1.0, 0.0), "^lam must be positive"),
        (lambda x, y: initial_moments(0), "^inputs must be"),
    ],
)
def test_refusals_name_the_argument(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(*(np.asarray(z) for z in data(0)))


def test_moments_are_a_record_of_the_right_shapes():
    x, y = data(1)
    moments = linear_descent(whole_batches(3, 4), x, y, 1.0, 0.1)
    assert isinstance(moments, Moments)
    assert [m.shape for m in moments] == [(4, 3, 3), (4, 3, 2), (4, 2, 2)]
