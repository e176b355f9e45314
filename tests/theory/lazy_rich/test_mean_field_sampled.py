"""Mean field by sampling: linear and one-layer networks as oracles, exact symmetries, causality, convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.kernels.mean_field import whole_batches
from theory.kernels.particles import mean_field_descent, quadrature_neurons
from theory.lazy_rich.mean_field_linear import equal_times, linear_mean_field, tangent_kernel
from theory.lazy_rich.mean_field_sampled import sampled_mean_field, single_neuron_noise

RNG = np.random.default_rng(5)
X, Y, NEW = RNG.normal(size=(2, 3)), np.array([1.0, -0.7]), RNG.normal(size=(1, 3))
STEPS, LR, GAMMA = 6, 0.2, 1.5


def identity(h):
    return h


def sets(depth, activation, number=8, samples=500, gamma=GAMMA, **options):
    """Solutions on independent noise."""
    keys = jax.random.split(jax.random.key(depth), number)
    found = [
        sampled_mean_field(
            single_neuron_noise(k, samples, STEPS, 3, depth), X, Y, gamma, LR, activation, NEW, **options
        )
        for k in keys
    ]
    return [
        np.stack([np.asarray(getattr(one, name)) for one in found]) for name in ("outputs", "features", "gradients")
    ]


def z(samples, expected):
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return np.max(np.abs(samples.mean(axis=0) - expected) / (error + 1e-3))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_linear_networks_are_those_of_the_exact_solution(depth):
    outputs, features, gradients = sets(depth, identity)
    exact = linear_mean_field(STEPS, X, Y, GAMMA, LR, depth, NEW)
    # Standard errors from eight sets, hundreds of entries: Student's t reaches 7; 1e-3 for the bias of 1/samples.
    assert z(outputs, exact.outputs) < 7
    assert z(features, exact.features) < 7
    signals = np.broadcast_to(exact.gradients[:, :, None, :, None], gradients.shape[1:])
    assert z(gradients, signals) < 7


def test_one_hidden_layer_is_a_population_of_neurons():
    outputs, features, _ = sets(1, jnp.tanh)
    start = quadrature_neurons(np.concatenate([X, NEW]), 16, readout_order=12)
    course = mean_field_descent(
        whole_batches(STEPS, 2), start, X, Y[:, None], GAMMA, LR, jnp.tanh, np.concatenate([X, NEW])
    )
    assert z(outputs, np.asarray(course.outputs)[..., 0]) < 7
    assert z(np.einsum("stmtn->stmn", features[:, 0]), np.asarray(course.features)) < 7


def test_opposite_labels_give_opposite_outputs():
    noise = single_neuron_noise(jax.random.key(0), 40, STEPS, 3, 2)
    plain, turned = (sampled_mean_field(noise, X, y, GAMMA, LR, jnp.tanh, NEW) for y in (Y, -Y))
    # Directions of relative variance 1e-12 carry rounding of relative 1e-4, an amplitude of 1e-10.
    np.testing.assert_allclose(turned.outputs, -plain.outputs, atol=1e-8)
    np.testing.assert_allclose(turned.features, plain.features, atol=1e-8)


def test_what_comes_later_changes_nothing():
    noise = single_neuron_noise(jax.random.key(1), 40, STEPS, 2, 2)
    long = sampled_mean_field(noise, X, Y, GAMMA, LR, jnp.tanh)
    short = sampled_mean_field(noise[..., :4, :], X, Y, GAMMA, LR, jnp.tanh)
    np.testing.assert_allclose(short.outputs, long.outputs[:4], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(short.gradients, long.gradients[:, :4, :, :4], rtol=1e-9, atol=1e-10)


def test_the_tangent_kernel_drives_the_first_step():
    """In the mean over sets of neurons; outputs come from responses, the kernel from covariances."""
    noises = [single_neuron_noise(key, 500, 1, 3, 2) for key in jax.random.split(jax.random.key(3), 8)]
    fields = [sampled_mean_field(noise, X, Y, 1.0, 1e-4, jnp.tanh, NEW) for noise in noises]
    points = np.concatenate([X, NEW])
    rates = np.array([np.asarray(f.outputs[1]) / 1e-4 for f in fields])
    kernels = np.array([tangent_kernel(*equal_times(f), points)[0] for f in fields])
    assert z(rates - kernels[:, :, :2] @ Y / 2, 0.0) < 7


def test_without_richness_features_stay():
    noise = single_neuron_noise(jax.random.key(2), 40, STEPS, 2, 2)
    found = sampled_mean_field(noise, X, Y, 0.0, LR, jnp.tanh)
    for t in range(STEPS + 1):
        np.testing.assert_allclose(found.features[:, t, :, t], found.features[:, 0, :, 0], rtol=1e-5)
    assert np.abs(found.outputs[-1]).min() > 0.01


def test_sampling_errors_fall_as_the_root_of_the_number():
    few, many = (sets(2, jnp.tanh, number=24, samples=s)[0][:, -1] for s in (50, 450))
    ratio = few.std(axis=0).mean() / many.std(axis=0).mean()
    # Each spread is known to 1/sqrt(2 . 24 . 3) or so, 8 %.
    np.testing.assert_allclose(ratio, 3, rtol=0.5)


def test_responses_count():
    with_them, without = (sets(2, jnp.tanh, responses=r)[0][:, -1].mean(axis=0) for r in (True, False))
    assert np.abs(with_them - without).max() > 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(noise=np.ones((2, 2, 4, 3, 5))), r"noise must be of shape \(L, 2, S, T, 2\)"),
        (dict(activation=jax.nn.relu), "activation must be twice differentiable"),
        (dict(gamma=-1.0), "gamma must be non-negative"),
        (dict(y=np.ones(3)), "y must hold a label"),
    ],
)
def test_refusals(change, message):
    noise = single_neuron_noise(jax.random.key(0), 4, 2, 2, 2)
    given = dict(noise=noise, x=X, y=Y, gamma=1.0, lr=0.1, activation=jnp.tanh) | change
    with pytest.raises(ValueError, match=message):
        sampled_mean_field(**given)


def test_noise_comes_in_pairs():
    noise = single_neuron_noise(jax.random.key(0), 6, 2, 3, 2)
    assert noise.shape == (2, 2, 6, 3, 3)
    np.testing.assert_array_equal(noise[:, 0, :3], noise[:, 0, 3:])
    np.testing.assert_array_equal(noise[:, 1, :3], -noise[:, 1, 3:])
    with pytest.raises(ValueError, match="samples must be even, got 5"):
        single_neuron_noise(jax.random.key(0), 5, 2, 3, 2)
