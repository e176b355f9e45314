"""Mean field of deep linear networks: the equations, one hidden layer, limits, symmetries, causality."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.mean_field import linear_descent, linear_output, whole_batches
from theory.lazy_rich.mean_field_linear import (
    equal_times,
    linear_mean_field,
    residual,
    tangent_kernel,
)

seeds = st.integers(0, 2**32 - 1)
depths = st.integers(1, 3)
gammas = st.floats(0, 2)
P, D, STEPS, LR = 3, 4, 7, 0.05


def drawn(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(P, D)), rng.normal(size=P), rng.normal(size=(2, D))


@given(seeds, depths, gammas)
def test_the_self_consistent_equations_hold(seed, depth, gamma):
    x, y, new = drawn(seed)
    field = linear_mean_field(STEPS, x, y, gamma, LR, depth, new)
    assert residual(field, x, y, gamma, LR, new) < 1e-12
    bent = field._replace(features=field.features.at[0, 3, 1, 3, 1].multiply(1.01))
    assert residual(bent, x, y, gamma, LR, new) > 1e-4


@given(seeds, gammas)
def test_one_hidden_layer_closes_on_second_moments(seed, gamma):
    x, y, new = drawn(seed)
    moments = linear_descent(whole_batches(STEPS, P), x, y[:, None], gamma, LR)
    expected = linear_output(moments, np.concatenate([x, new]))[..., 0]
    found = linear_mean_field(STEPS, x, y, gamma, LR, 1, new)
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(jnp.diagonal(found.gradients[0]), moments.readout[:, 0, 0], rtol=1e-10)
    features, _ = equal_times(found)
    points = np.concatenate([x, new]) / np.sqrt(D)
    np.testing.assert_allclose(features[0], points @ moments.inputs @ points.T, rtol=1e-9, atol=1e-12)


@given(seeds, depths)
def test_without_richness_it_is_the_kernel_machine_of_its_start(seed, depth):
    x, y, new = drawn(seed)
    kernel = (depth + 1) * np.concatenate([x, new]) @ x.T / D
    f = [np.zeros(P + 2)]
    for _ in range(STEPS):
        f.append(f[-1] + LR / P * kernel @ (y - f[-1][:P]))
    found = linear_mean_field(STEPS, x, y, 0.0, LR, depth, new)
    np.testing.assert_allclose(found.outputs, f, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.gradients, 1, rtol=1e-12)


@given(seeds, depths, st.floats(0.02, 0.05))
def test_the_lazy_limit_is_left_as_the_square_of_the_richness(seed, depth, gamma):
    x, y, _ = drawn(seed)
    lazy, *rich = (linear_mean_field(STEPS, x, y, g, LR, depth).outputs for g in (0.0, gamma, 2 * gamma))
    first, second = (np.asarray(f - lazy) for f in rich)
    # The next order is another gamma^2 with factors of the order of (depth |x| y)^2.
    np.testing.assert_allclose(second, 4 * first, atol=0.2 * np.abs(second).max())


@given(seeds, depths, gammas)
def test_what_comes_later_changes_nothing(seed, depth, gamma):
    x, y, _ = drawn(seed)
    short, long = (linear_mean_field(steps, x, y, gamma, LR, depth) for steps in (4, STEPS))
    np.testing.assert_allclose(short.outputs, long.outputs[:5], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(short.features, long.features[:, :5, :, :5], rtol=1e-10, atol=1e-13)


@given(seeds, depths, gammas)
def test_symmetries(seed, depth, gamma):
    x, y, new = drawn(seed)
    rng = np.random.default_rng(seed + 1)
    turn, order = np.linalg.qr(rng.normal(size=(D, D)))[0], rng.permutation(P)
    plain = linear_mean_field(STEPS, x, y, gamma, LR, depth, new)
    turned = linear_mean_field(STEPS, x[order] @ turn, -y[order], gamma, LR, depth, new @ turn)
    points = np.concatenate([order, [P, P + 1]])
    np.testing.assert_allclose(turned.outputs, -plain.outputs[:, points], rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(
        turned.features, plain.features[:, :, points][..., points], rtol=1e-8, atol=1e-10 * np.abs(plain.features).max()
    )


@given(seeds, depths, gammas)
def test_kernels_are_covariances(seed, depth, gamma):
    x, y, new = drawn(seed)
    found = linear_mean_field(STEPS, x, y, gamma, LR, depth, new)
    size = (STEPS + 1) * (P + 2)
    for kernel in [*found.features.reshape(depth, size, size), *found.gradients]:
        np.testing.assert_allclose(kernel, kernel.T, rtol=1e-9, atol=1e-9 * np.abs(kernel).max())
        values = np.linalg.eigvalsh(kernel)
        assert values[0] > -1e-9 * values[-1]


@given(seeds, depths)
def test_a_point_that_is_a_sample_is_treated_as_one(seed, depth):
    x, y, _ = drawn(seed)
    found = linear_mean_field(STEPS, x, y, 1.0, LR, depth, x[:1])
    np.testing.assert_allclose(found.outputs[:, P], found.outputs[:, 0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_tangent_kernel_drives_small_steps(depth):
    x, y, new = drawn(depth)
    wrong = []
    for lr, steps in ((0.02, 8), (0.01, 16)):
        found = linear_mean_field(steps, x, y, 1.5, lr, depth, new)
        kernel = tangent_kernel(*equal_times(found), np.concatenate([x, new]))
        expected = kernel[-2, :, :P] @ (y - found.outputs[-2, :P]) / P
        wrong.append(np.abs((found.outputs[-1] - found.outputs[-2]) / lr - expected).max())
    # Of first order in the step, at the same time up to one step in eight.
    np.testing.assert_allclose(wrong[1] / wrong[0], 0.5, atol=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(steps=-1), "steps must be a whole number"),
        (dict(depth=0), "depth must be a whole number"),
        (dict(gamma=-1.0), "gamma must be non-negative"),
        (dict(lr=0.0), "lr must be positive"),
        (dict(y=np.ones(2)), "y must hold a label for each of 3 samples"),
        (dict(x=np.full((3, 2), np.nan)), "x must be finite"),
        (dict(points=np.ones((1, 5))), "points must be a matrix"),
    ],
)
def test_refusals(change, message):
    given = dict(steps=2, x=np.ones((3, 2)), y=np.ones(3), gamma=1.0, lr=0.1, depth=1) | change
    with pytest.raises(ValueError, match=message):
        linear_mean_field(**given)


def test_shapes_are_refused():
    x, y, _ = drawn(0)
    field = linear_mean_field(2, x, y, 1.0, LR, 1)
    with pytest.raises(ValueError, match="field must hold outputs at 5 points"):
        residual(field, x, y, 1.0, LR, x[:2])
    features, gradients = equal_times(field)
    with pytest.raises(ValueError, match="gradients must be of shape"):
        tangent_kernel(features, gradients[:, :2], x)
