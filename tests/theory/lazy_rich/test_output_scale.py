"""Output scale: the flow of two weights, homogeneous networks, the crossover, and the distance that weights travel."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.flow import flow
from theory.kernels.mean_field import aligned_output
from theory.lazy_rich.output_scale import (
    crossover_scale,
    diagonal_kernel,
    equivalent_start,
    lazy_weight_change,
    two_layer_kernel,
    two_layer_output,
)

seeds = st.integers(0, 2**32 - 1)
targets = st.floats(-3, 3).filter(lambda y: abs(y) > 1e-2)
imbalances = st.floats(0.05, 3)
scales = st.floats(0.1, 50)


@jax.jit
def two_coordinates(t, start, target, scale):
    """u and v of a diagonal network from u = v."""

    def field(weights):
        u, v = weights
        missing = (target - scale * (u**2 - v**2)) / scale
        return 2 * u * missing, -2 * v * missing

    return flow(field, t, (start, start))


@jax.jit
def two_weights(t, start, target, scale):
    """The two weights themselves."""

    def field(weights):
        a, w = weights
        missing = (target - scale * a * w) / scale
        return missing * w, missing * a

    return flow(field, t, start)


@given(targets, imbalances, scales, st.booleans())
def test_the_output_is_that_of_two_weights(target, imbalance, scale, upper):
    t = np.array([0.1, 1.0, 3.0]) / imbalance
    start = (np.sqrt(imbalance), 0.0) if upper else (0.0, np.sqrt(imbalance))
    a, w = two_weights(t, tuple(jnp.asarray(z) for z in start), target, scale)
    found = two_layer_output(t, target, imbalance if upper else -imbalance, scale)
    np.testing.assert_allclose(found, scale * a * w, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(two_layer_kernel(found, imbalance, scale), a**2 + w**2, rtol=1e-7)


@given(st.floats(0, 20), targets, imbalances, scales)
def test_symmetries_and_limits(t, target, imbalance, scale):
    found = two_layer_output(t, target, imbalance, scale)
    np.testing.assert_allclose(two_layer_output(t, -target, -imbalance, scale), -found, rtol=1e-12, atol=1e-300)
    lazy = target * -np.expm1(-imbalance * t)
    assert abs(found) >= abs(lazy) * (1 - 1e-9)
    assert abs(found) <= abs(target) * (1 + 1e-12)
    np.testing.assert_allclose(two_layer_output(t, target, imbalance, 1e9), lazy, rtol=1e-9)
    # The same mode in the units of a wide linear network.
    wide = aligned_output(t, target, 2 / (scale * imbalance) * np.sqrt(imbalance / 2), imbalance / 2)
    np.testing.assert_allclose(found, wide, rtol=1e-9, atol=1e-300)


@given(targets, imbalances, scales)
def test_a_coordinate_of_a_diagonal_network_is_a_mode_at_twice_the_speed(target, imbalance, scale):
    t, product = np.array([0.1, 0.5, 2.0]), imbalance / 4
    u, v = two_coordinates(t, jnp.sqrt(product), target, scale)
    output = two_layer_output(2 * t, target, 4 * product, scale)
    np.testing.assert_allclose(output, scale * (u**2 - v**2), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(diagonal_kernel(output, product, scale), 4 * (u**2 + v**2), rtol=1e-6)
    scale = crossover_scale(target, 4 * product)
    growth = diagonal_kernel(target, product, scale) / diagonal_kernel(0.0, product, scale)
    np.testing.assert_allclose(growth, np.sqrt(2), rtol=1e-9)


@given(targets, imbalances, st.floats(1.001, 10))
def test_the_crossover_is_where_the_kernel_has_grown(target, imbalance, growth):
    scale = crossover_scale(target, imbalance, growth)
    np.testing.assert_allclose(two_layer_kernel(target, imbalance, scale), growth * imbalance, rtol=1e-9)
    lazier = two_layer_kernel(target, imbalance, 2 * scale) / imbalance
    assert lazier < growth


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_homogeneous_network_with_output_scale_is_one_with_a_larger_start(degree):
    rng = np.random.default_rng(degree)
    x, y, scale, steps = rng.normal(size=(6, 3)), rng.normal(size=6), 3.0, 400
    widths = (3, *[5] * (degree - 1), 1)
    start = [jnp.asarray(rng.normal(size=(n, m))) * 0.5 for m, n in itertools.pairwise(widths)]

    def f(weights):
        h = x
        for i, w in enumerate(weights):
            h = (jax.nn.relu(h) if i else h) @ w.T
        return h[:, 0]

    def trained(weights, factor, lr):
        loss = lambda w: jnp.mean((factor * f(w) - y) ** 2) / 2 / factor**2  # noqa: E731
        step = lambda _, w: jax.tree.map(lambda v, g: v - lr * g, w, jax.grad(loss)(w))  # noqa: E731
        return factor * f(jax.lax.fori_loop(0, steps, step, weights))

    weights, time = equivalent_start(scale, float(degree))
    # The same number of steps at rates in the proportion of the two clocks: descent itself is equivalent.
    found = trained([weights * w for w in start], 1.0, 1e-3 * time)
    np.testing.assert_allclose(found, trained(start, scale, 1e-3), rtol=1e-9)
    assert np.abs(found - scale * f(start)).max() > 1e-3


def test_the_weights_of_a_scaled_network_travel_as_far_as_said():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=5)
    start = jnp.asarray(rng.normal(size=(30, 4)))
    f = lambda w: jnp.tanh(x @ w[:, :3].T) @ w[:, 3] / np.sqrt(30)  # noqa: E731
    jacobian = jax.jacrev(f)(start).reshape(5, -1)
    missing = []
    for scale in (100.0, 200.0):
        loss = lambda w, s=scale: jnp.mean((s * (f(w) - f(start)) - y) ** 2) / 2 / s**2  # noqa: E731
        step = lambda _, w, loss=loss: w - 0.05 * jax.grad(loss)(w)  # noqa: E731
        end = jax.lax.fori_loop(0, 200, step, start)
        found = jnp.linalg.norm(end - start)
        expected = lazy_weight_change(np.array([10.0]), jacobian @ jacobian.T, y, scale)[0]
        missing.append(float(abs(found / expected - 1)))
    # One step is 5 % of the fastest rate's clock; what is left falls with the scale.
    assert missing[0] < 0.03 and missing[1] < 0.03


@given(seeds)
def test_the_distance_grows_to_the_norm_of_the_interpolating_change(seed):
    rng = np.random.default_rng(seed)
    jacobian, missing = rng.normal(size=(4, 9)), rng.normal(size=4)
    found = lazy_weight_change(np.array([0.0, 0.3, 2.0, 1e4]), jacobian @ jacobian.T, missing, 2.0)
    assert found[0] == 0 and (np.diff(found) > 0).all()
    np.testing.assert_allclose(found[-1], np.linalg.norm(np.linalg.pinv(jacobian) @ missing) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equivalent_start(-1.0, 2), "scale must be positive"),
        (lambda: crossover_scale(1.0, 0.0), "imbalance must not be zero"),
        (lambda: crossover_scale(1.0, 1.0, 1.0), "growth must be above 1"),
        (lambda: two_layer_output(-1.0, 1.0, 1.0), "t must be non-negative"),
        (lambda: lazy_weight_change(np.ones(1), -np.eye(2), np.ones(2), 1.0), "kernel must be positive semi-definite"),
        (lambda: lazy_weight_change(np.ones(1), np.eye(2), np.ones(3), 1.0), "missing must hold"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
