"""Representational geometry: explicit wide networks, solvable neurons, ends of the path, clocks of the losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.laziness import centred_alignment
from theory.lazy_rich.representational_geometry import (
    alike_task,
    geometry_path,
    rectified_alignments,
    saturated_alignments,
    time_on_path,
)

P = 6
TAU = np.array([0.0, 1.0, 2.0, 4.0])


def identity(h):
    return h


def population(rho, size=600, seed=0, readout=1.0):
    rng, task = np.random.default_rng(seed), alike_task(P, rho)
    root = np.linalg.cholesky(np.asarray(task.kernel) + 1e-12 * np.eye(P))
    h, a = rng.normal(size=(size // 2, P)) @ root.T, readout * rng.normal(size=size // 2)
    return np.concatenate([h, h]), np.concatenate([a, -a]), task


@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_one_linear_neuron(rho, seed):
    """y.h and a turn into each other hyperbolically, at the rate sqrt((1 - rho) / P + rho)."""
    rng, task = np.random.default_rng(seed), alike_task(P, rho)
    h, a = rng.normal(size=(1, P)), rng.normal(size=1)
    found = geometry_path(TAU, h, a, task, identity)
    lam = 1 - rho + rho * P
    rate, s = np.sqrt(lam / P), float(h[0] @ np.asarray(task.labels))
    along = s * np.cosh(rate * TAU) + a * np.sqrt(P * lam) * np.sinh(rate * TAU)
    readout = a * np.cosh(rate * TAU) + s / np.sqrt(P * lam) * np.sinh(rate * TAU)
    size = np.abs(along * readout).max() + 1
    np.testing.assert_allclose(found.margin, along * readout / P, atol=1e-3 * size)


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_a_network_goes_down_the_path_by_its_own_clock(activation, loss):
    """Gradient descent on an explicit wide network whose neurons are all images of few under the task's symmetries."""
    rng, task = np.random.default_rng(1), alike_task(2, 0.2)
    root = np.linalg.cholesky(np.asarray(task.kernel))
    w, a = rng.normal(size=(10, 2)), rng.normal(size=10)
    h = w @ root.T
    # Exchanging the samples, together with the sign of the readout.
    h, a = np.concatenate([h, h[:, ::-1]]), np.concatenate([a, -a])
    tau = np.linspace(0, 6, 1200)
    path = geometry_path(tau, h, a, task, activation)
    clock = np.asarray(time_on_path(tau, path.margin, loss))
    kernel, y = np.asarray(task.kernel), np.asarray(task.labels)
    dt, steps = 0.01, 400

    @jax.jit
    def step(state, _):
        h, a = state
        phi, slope = jax.jvp(activation, (h,), (jnp.ones_like(h),))
        m = y * (a @ phi) / len(a)
        error = jax.nn.sigmoid(-m) if loss == "logistic" else 1 - m
        return (h + dt * a[:, None] * (slope * (error * y)) @ kernel / 2, a + dt * phi @ (error * y) / 2), m

    (h, a), margins = jax.lax.scan(step, (jnp.asarray(h), jnp.asarray(a)), None, length=steps + 1)
    found = np.interp(dt * np.arange(steps + 1), clock[np.isfinite(clock)], path.margin[np.isfinite(clock)])
    # Steps of dt at rates of order one or less.
    np.testing.assert_allclose(margins.mean(axis=1), found, atol=2 * dt)
    if loss == "logistic":
        np.testing.assert_allclose(margins[:, 0], margins[:, 1], atol=1e-9)


@pytest.mark.slow
def test_ends_of_the_path():
    h, a, task = population(0.0, 2000)
    both = jnp.outer(task.labels, task.labels), task.kernel
    for activation, train, expected in (
        (jnp.tanh, True, saturated_alignments(P)),
        (jax.nn.relu, False, rectified_alignments(P)),
    ):
        features = geometry_path(np.array([0.0, 3e3]), h, a, task, activation, train_readout=train).features[-1]
        found = [centred_alignment(features, other) for other in both]
        # Which samples are active is sampled 2000 times.
        np.testing.assert_allclose(found, expected, atol=0.03)
    assert expected.with_labels < 1


def test_order_of_samples_and_sign_of_labels():
    h, a, task = population(0.3)
    order = np.array([2, 0, 1, 5, 3, 4])
    plain = geometry_path(TAU, h, a, task, jnp.tanh)
    turned = geometry_path(TAU, h[:, order], a, (task.kernel, task.labels[order]), jnp.tanh)
    np.testing.assert_allclose(turned.margin, plain.margin, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(turned.features, plain.features[:, order][:, :, order], rtol=1e-6, atol=1e-9)
    flipped = geometry_path(TAU, h, -a, (task.kernel, -task.labels), jnp.tanh)
    np.testing.assert_allclose(flipped.features, plain.features, rtol=1e-9)
    assert plain.margin[0] == pytest.approx(0, abs=1e-12)
    assert (np.diff(plain.margin) > 0).all()


def test_clocks():
    tau = np.linspace(0, 2, 4001)
    # A margin that is tau itself: t = tau + e^tau - 1, and -ln(1 - tau).
    np.testing.assert_allclose(time_on_path(tau, tau)[-1], 2 + np.exp(2) - 1, rtol=1e-6)
    squared = np.asarray(time_on_path(tau, tau, "squared"))
    np.testing.assert_allclose(squared[1000], np.log(2), rtol=1e-6)
    assert np.isinf(squared[-1]) and np.isfinite(squared[1999])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alike_task(5, 0.1), "samples must be even, got 5"),
        (lambda: alike_task(4, 1.2), "alignment must lie between 0 and 1, got 1.2"),
        (lambda: rectified_alignments(2), "samples must be a whole number of at least 4"),
        (lambda: saturated_alignments(7), "samples must be even, got 7"),
        (
            lambda: geometry_path(TAU, np.ones((3, 4)), np.ones(2), alike_task(4, 0.0), jnp.tanh),
            "task and readout must",
        ),
        (
            lambda: geometry_path(TAU, np.ones((3, 2)), np.ones(3), (np.eye(2), np.array([1.0, 0.5])), jnp.tanh),
            "labels must be 1 or -1",
        ),
        (lambda: time_on_path(TAU, TAU, "hinge"), "loss must be one of logistic, squared, got 'hinge'"),
        (lambda: time_on_path(TAU, TAU[:2]), "margin must hold a value for each of 4 times"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
