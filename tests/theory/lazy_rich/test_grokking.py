"""Grokking model: closure against explicit neurons, symmetries, what is kept, the lazy limit, times to fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.grokking import (
    Quadratic,
    first_time_below,
    infinite_width,
    mean_squared_error,
    network_start,
    quadratic_descent,
    quadratic_flow,
    quadratic_output,
    quadratic_tangent_kernel,
)

seeds = st.integers(0, 2**32 - 1)
scales = st.floats(0.3, 4)
curvatures = st.floats(0.01, 1)
D, P, N = 4, 7, 9


def drawn(seed, neurons=N):
    """Samples, labels of one feature, weights."""
    rng = np.random.default_rng(seed)
    x, beta = rng.normal(size=(P, D)), rng.normal(size=D)
    return x, (x @ beta) ** 2 / 2, rng.normal(size=(neurons, D))


def explicit(w, x, scale, curvature):
    h = x @ w.T
    return scale * jnp.mean(h + curvature / 2 * h**2, axis=1)


def trained(w, x, y, scale, curvature, lr, steps):
    """Outputs of the network itself, from automatic derivatives of its loss."""
    loss = lambda w: jnp.mean((explicit(w, x, scale, curvature) - y) ** 2) / 2  # noqa: E731

    def step(w, _):
        return w - lr * len(w) / scale**2 * jax.grad(loss)(w), explicit(w, x, scale, curvature)

    return jax.jit(lambda w: jax.lax.scan(step, w, None, length=steps + 1)[1])(w)


@given(seeds, scales, curvatures)
def test_descent_is_that_of_the_neurons(seed, scale, curvature):
    x, y, w = drawn(seed)
    lr, steps = 0.05, 40
    found = quadratic_descent(steps, x, y, network_start(w, scale, curvature), curvature / scale, lr)
    expected = trained(w, x, y, scale, curvature, lr, steps)
    np.testing.assert_allclose(quadratic_output(found, x), expected, rtol=1e-9, atol=1e-9)


def test_records_are_those_of_every_step():
    x, y, w = drawn(0)
    start = network_start(w, 1.0, 0.3)
    dense, sparse = (quadratic_descent(12, x, y, start, 0.3, 0.05, every=k) for k in (1, 4))
    np.testing.assert_allclose(sparse.form, dense.form[::4], rtol=1e-13)
    assert quadratic_descent(0, x, y, start, 0.3, 0.05).linear.shape == (1, D)


@given(seeds, scales, curvatures)
def test_the_flow_is_the_limit_of_descent(seed, scale, curvature):
    x, y, w = drawn(seed)
    start, r = network_start(w, scale, curvature), curvature / scale
    # A fraction of the fastest time: of the kernel, and of what errors do to the weights.
    rate = np.linalg.eigvalsh(quadratic_tangent_kernel(start, x, x, r))[-1] / P
    errors = np.abs(y - np.asarray(quadratic_output(start, x)))
    t = float(0.3 / (rate + 2 * r * np.mean(errors * np.sum(x**2, axis=1))))
    end = quadratic_flow(np.array([t]), x, y, start, r)
    steps = 64
    coarse, fine = (
        quadratic_descent(k * steps, x, y, start, curvature / scale, t / (k * steps)).form[-1] for k in (1, 2)
    )
    # Richardson: the two errors are lr e + O(lr^2).
    first, second = (np.abs(np.asarray(form) - end.form[0]).max() for form in (coarse, fine))
    extrapolated = np.abs(2 * np.asarray(fine) - coarse - end.form[0]).max()
    assert second < 0.6 * first or first < 1e-9
    assert extrapolated < 0.3 * second + 1e-9


@given(seeds, scales, curvatures)
def test_the_flow_descends_and_keeps_rank_and_signs(seed, scale, curvature):
    x, y, w = drawn(seed, neurons=2)
    r = curvature / scale
    found = quadratic_flow(np.linspace(0, 3, 7), x, y, network_start(w, scale, curvature), r)
    error = np.mean((np.asarray(quadratic_output(found, x)) - y) ** 2, axis=1)
    assert (np.diff(error) <= 1e-9 * error[0]).all()
    rest = np.asarray(found.form) - r * np.einsum("ti,tj->tij", found.linear, found.linear)
    values = np.linalg.eigvalsh(rest)
    # Two neurons less their mean are one direction: a covariance of rank one.
    top = values[:, -1]
    assert (np.abs(values[:, :-1]) <= 1e-8 * np.maximum(top, values[0, -1])[:, None]).all()
    assert (top > 0).all()


@given(seeds, scales, curvatures)
def test_rotations_and_the_order_of_samples(seed, scale, curvature):
    x, y, w = drawn(seed)
    rng = np.random.default_rng(seed + 1)
    turn, order = np.linalg.qr(rng.normal(size=(D, D)))[0], rng.permutation(P)
    r, t = curvature / scale, np.array([0.5, 2.0])
    plain = quadratic_flow(t, x, y, network_start(w, scale, curvature), r)
    turned = quadratic_flow(t, x[order] @ turn, y[order], network_start(w @ turn, scale, curvature), r)
    np.testing.assert_allclose(turned.linear, plain.linear @ turn, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(turned.form, turn.T @ plain.form @ turn, rtol=1e-7, atol=1e-8)


@given(seeds, scales, curvatures)
def test_the_tangent_kernel_drives_the_outputs(seed, scale, curvature):
    x, y, w = drawn(seed)
    r, start = curvature / scale, network_start(w, scale, curvature)
    kernel = quadratic_tangent_kernel(start, x, x, r)
    jacobian = jax.jacrev(lambda w: explicit(w, x, scale, curvature))(w).reshape(P, -1)
    np.testing.assert_allclose(kernel, N / scale**2 * jacobian @ jacobian.T, rtol=1e-9, atol=1e-9)
    moved = quadratic_descent(1, x, y, start, r, 1e-7)
    rate = np.diff(np.asarray(quadratic_output(moved, x)), axis=0)[0] / 1e-7
    expected = -kernel @ (quadratic_output(start, x) - y) / P
    np.testing.assert_allclose(rate, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_large_scale_is_the_kernel_machine_of_the_start():
    """Centred, the end is ridgeless regression with K = x.x' + epsilon^2 (x.x')^2, up to the order 1/alpha."""
    rng, curvature, d = np.random.default_rng(3), 0.5, 5
    x, new, beta = rng.normal(size=(9, d)), rng.normal(size=(20, d)), rng.normal(size=d)
    y = (x @ beta) ** 2 / 2
    kernel = lambda a, b: (a @ b.T) + curvature**2 * (a @ b.T) ** 2  # noqa: E731
    expected = kernel(new, x) @ np.linalg.solve(kernel(x, x), y)
    errors = []
    for scale in (200.0, 400.0):
        start = infinite_width(d, scale, curvature)
        shift = np.asarray(quadratic_output(start, x))
        lr = 0.5 * 9 / np.linalg.eigvalsh(kernel(x, x))[-1]
        end = quadratic_descent(200_000, x, y + shift, start, curvature / scale, lr, every=200_000)
        found = quadratic_output(end, new)[-1] - quadratic_output(start, new)
        errors.append(np.abs(found - expected).max() / np.abs(expected).max())
    assert errors[1] < 0.05
    np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.1)


@given(seeds)
def test_error_by_sampling(seed):
    rng = np.random.default_rng(seed)
    variance, offset = 0.7, 0.4
    linear, forms = rng.normal(size=(2, D)), rng.normal(size=(2, D, D))
    forms = forms + np.swapaxes(forms, 1, 2)
    network, target = (Quadratic(b, a) for b, a in zip(linear, forms, strict=True))
    x = np.sqrt(variance) * rng.normal(size=(100_000, D))
    wrong = (np.asarray(quadratic_output(network, x)) - np.asarray(quadratic_output(target, x)) - offset) ** 2
    expected = mean_squared_error(network, target, variance, offset)
    assert abs(wrong.mean() - expected) < 6 * wrong.std() / np.sqrt(len(wrong))
    assert mean_squared_error(network, network, variance) == 0


def test_the_start_of_infinite_width_is_the_mean_of_networks():
    w = np.random.default_rng(4).normal(size=(20_000, D)) * np.sqrt(0.5)
    found, expected = network_start(w, 2.0, 0.3), infinite_width(D, 2.0, 0.3, 0.5)
    np.testing.assert_allclose(found.linear, expected.linear, atol=5 * 2 * np.sqrt(0.5 / 20_000))
    np.testing.assert_allclose(found.form, expected.form, atol=5 * 0.6 * 0.5 * np.sqrt(2 / 20_000))


def test_first_times():
    t = np.array([0.0, 1.0, 2.0, 3.0])
    falling = np.array([[1.0, 0.1, 0.01, 0.001], [1.0, 2.0, 1.5, 1.2], [0.01, 0.02, 0.5, 0.1]])
    np.testing.assert_allclose(first_time_below(t, falling, np.sqrt(1e-3)), [1.5, np.inf, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: infinite_width(3, 0.0, 0.1), "scale must be positive"),
        (lambda: infinite_width(3, 1.0, -0.1), "curvature must be non-negative"),
        (lambda: quadratic_output(Quadratic(np.zeros(3), np.eye(2)), np.ones((2, 3))), "form must be of shape"),
        (lambda: quadratic_descent(3, np.ones((2, 3)), np.ones(3), infinite_width(3, 1, 1), 1, 0.1), "y must hold"),
        (lambda: quadratic_descent(3, np.ones((2, 3)), np.ones(2), infinite_width(3, 1, 1), 1, 0.1, every=2), "every"),
        (
            lambda: quadratic_flow(
                np.ones(1),
                np.ones((2, 3)),
                np.ones(2),
                Quadratic(np.zeros(3), np.ones((3, 3)) + np.triu(np.ones((3, 3)))),
                1.0,
            ),
            "form must be symmetric",
        ),
        (
            lambda: mean_squared_error(infinite_width(3, 1, 1), infinite_width(3, 1, 1), -1.0),
            "variance must be positive",
        ),
        (lambda: first_time_below(np.arange(3.0), np.ones(3), 0.0), "threshold must be positive"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
