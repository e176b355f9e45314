"""Feature emergence: energies by definition, maxima and their Hessians, the lazy gradient, its rate at large width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.feature_emergence import (
    ascended,
    energy_maxima,
    energy_maximiser,
    feature_energy,
    group_energy,
    group_energy_gradient,
    lazy_gradient,
    lazy_rate,
    sphere_ascent,
)
from theory.lazy_rich.groups import convolution, cyclic, dicyclic, dihedral, irrep_power

GROUPS = {
    "Z_8": cyclic(8),
    "S_3": dihedral(3),
    "Q_8": dicyclic(2),
}
seeds = st.integers(0, 2**32 - 1)
every_group = pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS.keys())


def pairs(group):
    """One-hot inputs and labels of all pairs."""
    m = group.order
    x = np.concatenate([np.repeat(np.eye(m), m, axis=0), np.tile(np.eye(m), (m, 1))], axis=1)
    return x, np.eye(m)[np.asarray(group.table).ravel()]


@pytest.mark.parametrize("name", ["Z_8", "S_3"])
@given(seed=seeds)
def test_energy_is_the_definition_and_the_fourier_sum(name, seed):
    group = GROUPS[name]
    x, y = pairs(group)
    w = np.random.default_rng(seed).normal(size=(4, 2 * group.order))
    found = np.asarray(group_energy(w, group.table))
    np.testing.assert_allclose(found, feature_energy(w, x, y), rtol=1e-10)
    forces = np.einsum("na,ni->ai", y - y.mean(axis=0), (x @ w.T) ** 2)
    np.testing.assert_allclose(found, np.sum(forces**2, axis=0) / 2, rtol=1e-10)
    u, v = np.split(w, 2, axis=1)
    product = convolution(u, v, group.table)
    np.testing.assert_allclose(found, 2 * np.sum(irrep_power(product, group)[:, 1:], axis=1), rtol=1e-10)


@pytest.mark.parametrize("name", ["Z_8", "S_3"])
@given(seed=seeds)
def test_gradient(name, seed):
    group = GROUPS[name]
    w = np.random.default_rng(seed).normal(size=2 * group.order)
    found = group_energy_gradient(w, group.table)
    np.testing.assert_allclose(found, SLOPE(w, group.table), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found @ w, 4 * group_energy(w, group.table), rtol=1e-10)


SLOPE = jax.jit(jax.grad(group_energy))


def hessian(w, table):
    """Second derivatives along the sphere; those of the constraint are 4 E."""
    along = np.eye(len(w)) - np.outer(w, w)
    curvature = np.asarray(HESSIAN(w, table)) - 4 * float(group_energy(w, table)) * np.eye(len(w))
    return np.linalg.eigvalsh(along @ curvature @ along)


HESSIAN = jax.jit(jax.hessian(group_energy))


@every_group
def test_maximisers_have_the_energy_and_no_way_up(group):
    rng = np.random.default_rng(0)
    for place, energy in enumerate(np.asarray(energy_maxima(group)), start=1):
        w = np.asarray(energy_maximiser(group, place, *rng.normal(size=(3, group.irreps[place].dimension, 2))))
        np.testing.assert_allclose(np.linalg.norm(w), 1, rtol=1e-12)
        np.testing.assert_allclose(group_energy(w, group.table), energy, rtol=1e-12)
        np.testing.assert_allclose(group_energy_gradient(w, group.table), 4 * energy * w, atol=1e-10)
        assert hessian(w, group.table).max() < 1e-10
        u, v = np.split(w, 2)
        for part in (u, v):
            np.testing.assert_allclose(irrep_power(part, group)[place], 0.5, rtol=1e-12)


@every_group
def test_ascents_end_at_these_maxima(group):
    start = np.random.default_rng(1).normal(size=(24, 2 * group.order))
    end = ascended(start, group.table)
    assert np.max(end.residual) < 1e-10
    power = sum(np.asarray(irrep_power(part, group)) for part in np.split(np.asarray(end.weights), 2, axis=1))
    np.testing.assert_allclose(power.max(axis=1), 1, rtol=1e-10)
    expected = np.asarray(energy_maxima(group))[power.argmax(axis=1) - 1]
    np.testing.assert_allclose(end.energy, expected, rtol=1e-10)
    assert np.max(end.energy) <= np.max(energy_maxima(group)) * (1 + 1e-12)


def test_values():
    """1.75 for Z_7; 2 and 4 for Z_8; 3 and 3/2 for S_3; 4 and 1 for the quaternion group."""
    np.testing.assert_allclose(energy_maxima(cyclic(7)), [1.75] * 3)
    np.testing.assert_allclose(energy_maxima(GROUPS["Z_8"]), [2, 2, 2, 4])
    np.testing.assert_allclose(energy_maxima(GROUPS["S_3"]), [3, 1.5])
    np.testing.assert_allclose(energy_maxima(GROUPS["Q_8"]), [4, 4, 4, 1])


def test_cyclic_maximisers_are_cosines_whose_phases_add():
    g, a, b, c = 2 * np.pi * 2 * np.arange(7) / 7, 0.3, 1.1, -0.4
    vectors = [np.array([[np.cos(phase), np.sin(phase)]]) for phase in (a, b, c)]
    w = np.asarray(energy_maximiser(cyclic(7), 2, *vectors))
    np.testing.assert_allclose(w, np.concatenate([np.cos(g + b - a), np.cos(g + c - b)]) / np.sqrt(7), atol=1e-12)
    product = np.asarray(convolution(w[:7], w[7:], cyclic(7).table))
    np.testing.assert_allclose(product, np.cos(g + c - a) / 2, atol=1e-12)


@given(seeds, st.floats(1e-3, 1e3))
def test_lazy_gradient_is_the_identity_and_the_slope_of_the_loss(seed, decay):
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(9, 4)) + 2, rng.normal(size=(9, 3)) - 1
    f, y = features - features.mean(axis=0), labels - labels.mean(axis=0)
    q = np.linalg.inv(f @ f.T + decay * np.eye(9))
    found = lazy_gradient(features, labels, decay)
    np.testing.assert_allclose(found, decay * q @ y @ y.T @ q @ f, rtol=1e-6, atol=1e-9)
    readout = np.linalg.solve(f.T @ f + decay * np.eye(4), f.T @ y)
    slope = jax.grad(lambda f: jnp.sum((y - f @ readout) ** 2) / 2)(jnp.asarray(f))
    np.testing.assert_allclose(found, -slope, rtol=1e-8, atol=1e-9)


def test_without_decay_the_gradient_is_zero_only_if_the_features_fit():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(9, 3))
    rich, poor = rng.normal(size=(9, 20)), rng.normal(size=(9, 4))
    assert np.abs(lazy_gradient(rich, labels, 0.0)).max() < 1e-12
    at_zero = np.asarray(lazy_gradient(poor, labels, 0.0))
    assert np.abs(at_zero).max() > 0.01
    # Continuous, at the rate of the decay.
    np.testing.assert_allclose(lazy_gradient(poor, labels, 1e-9), at_zero, atol=1e-7)
    small = np.asarray(lazy_gradient(rich, labels, 1e-5))
    np.testing.assert_allclose(lazy_gradient(rich, labels, 2e-5), 2 * small, rtol=1e-4, atol=1e-12)
    y, f = labels - labels.mean(axis=0), rich - rich.mean(axis=0)
    np.testing.assert_allclose(1e8 * lazy_gradient(rich, labels, 1e8), y @ y.T @ f, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decay", [0.3, 5.0])
def test_rate_of_wide_networks(decay):
    """Relative deviations fall as 1 / sqrt(K) and are of the order M / sqrt(K)."""
    group, variance, rng = cyclic(5), 0.1, np.random.default_rng(0)
    x, y = pairs(group)
    errors = []
    for width in (1000, 16_000):
        features = (x @ rng.uniform(-1, 1, size=(10, width)) * np.sqrt(3 * variance)) ** 2
        eta = decay * 4 * width * variance**2
        found = np.asarray(lazy_gradient(features, y, eta))
        centred = y - y.mean(axis=0)
        expected = float(lazy_rate(width, eta, variance)) * centred @ centred.T @ (features - features.mean(axis=0))
        errors.append(np.linalg.norm(found - expected) / np.linalg.norm(expected) * np.sqrt(width) / 5)
    assert max(errors) < 3
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.3)


def test_the_rate_is_largest_at_one_decay():
    decays = np.geomspace(1e-3, 1e3, 2001) * 4 * 50 * 0.2**2
    rates = np.asarray(lazy_rate(50, decays, 0.2))
    np.testing.assert_allclose(decays[rates.argmax()], 8.0, rtol=1e-2)
    np.testing.assert_allclose(rates.max(), 1 / 32, rtol=1e-5)
    assert lazy_rate(50, 0.0, 0.2) == 0


def test_sphere_ascent_finds_the_leading_eigenvector():
    a = np.random.default_rng(2).normal(size=(5, 5))
    a = jnp.asarray(a @ a.T)
    end = sphere_ascent(lambda w: w @ a @ w, jnp.ones(5))
    np.testing.assert_allclose(end.energy, np.linalg.eigvalsh(a)[-1], rtol=1e-10)
    assert end.residual < 1e-10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lazy_gradient(np.ones((3, 2)), np.ones((4, 2)), 1.0), "labels must be a matrix of shape"),
        (lambda: lazy_gradient(np.ones((3, 2)), np.ones((3, 2)), -1.0), "decay must be non-negative"),
        (lambda: lazy_rate(0, 1.0, 1.0), "width must be positive"),
        (lambda: feature_energy(np.ones(3), np.ones((5, 4)), np.ones((5, 2))), "w must have 4 entries"),
        (lambda: group_energy(np.ones(7), cyclic(3).table), "w must have 6 entries"),
        (lambda: group_energy_gradient(np.ones(6), np.zeros((3, 3), int)), "table must hold every element"),
        (lambda: ascended(np.full(6, np.inf), cyclic(3).table), "w must be finite"),
        (lambda: energy_maximiser(cyclic(3), 0, *np.ones((3, 1, 2))), "place must be from 1 to 1, got 0"),
        (lambda: energy_maximiser(cyclic(3), 1, *np.ones((3, 2, 2))), "left must be a matrix of shape"),
        (lambda: energy_maximiser(cyclic(3), 1, *np.zeros((3, 1, 2))), "left and middle must not be zero"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
