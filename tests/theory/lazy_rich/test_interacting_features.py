"""Interacting features: energies in a field against the loss, against sums over all pairs, repulsion and boost."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.feature_emergence import group_energy, lazy_gradient
from theory.lazy_rich.groups import cyclic, irrep_power
from theory.lazy_rich.interacting_features import (
    completed_ascent,
    completed_energy,
    feature_overlap,
    field_energy,
    lone_energy,
    ridge_loss,
    twin_energy_ratio,
)

seeds = st.integers(0, 2**32 - 1)
phases = st.floats(-np.pi, np.pi)
decays = st.floats(0.02, 20)
M = 7
X = np.concatenate([np.repeat(np.eye(M), M, axis=0), np.tile(np.eye(M), (M, 1))], axis=1)
Y = np.eye(M)[np.add.outer(np.arange(M), np.arange(M)).ravel() % M]


def node(frequency, first, second, order=M):
    angles = 2 * np.pi * frequency * np.arange(order) / order
    return np.concatenate([np.cos(angles + first), np.cos(angles + second)]) / np.sqrt(order)


def outputs(w):
    return (X @ np.asarray(w).T) ** 2


@given(seeds, decays)
def test_energies_are_drops_of_the_loss_and_their_slopes_its_gradient(seed, decay):
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(8, 4)) + 1, rng.normal(size=(8, 3)) - 2
    drop = ridge_loss(features[:, 1:], labels, decay) - ridge_loss(features, labels, decay)
    found = field_energy(features[:, 0], features[:, 1:], labels, decay)
    np.testing.assert_allclose(found, drop, rtol=1e-9, atol=1e-11)
    column = FIELD_SLOPE(features[:, 0], features[:, 1:], labels, decay)
    gradient = lazy_gradient(features, labels, decay)
    np.testing.assert_allclose(column, gradient[:, 0], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(LOSS_SLOPE(features, labels, decay), -gradient, rtol=1e-7, atol=1e-9)


FIELD_SLOPE, LOSS_SLOPE = jax.jit(jax.grad(field_energy)), jax.jit(jax.grad(ridge_loss))


@given(seeds, decays)
def test_the_loss_is_the_minimum(seed, decay):
    rng = np.random.default_rng(seed)
    f, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    f, y = f - f.mean(axis=0), y - y.mean(axis=0)
    readout = np.linalg.solve(f.T @ f + decay * np.eye(4), f.T @ y)
    least = np.sum((y - f @ readout) ** 2) / 2 + decay * np.sum(readout**2) / 2
    np.testing.assert_allclose(ridge_loss(f, y, decay), least, rtol=1e-10)


def test_large_decay_leaves_nodes_independent():
    rng = np.random.default_rng(0)
    w, others = rng.normal(size=2 * M) / 4, rng.normal(size=(5, 2 * M)) / 4
    found = 1e9 * field_energy(outputs(w), outputs(others), Y, 1e9)
    np.testing.assert_allclose(found, group_energy(w, cyclic(M).table), rtol=1e-6)


@given(phases, phases, decays, st.floats(0.3, 2), st.integers(1, 3))
def test_one_learned_node(first, second, decay, size, frequency):
    """The closed forms against explicit nodes: the same frequency, and another one, which does not notice."""
    learned = size**2 * node(frequency, 0.4, -0.9)
    fresh = node(frequency, 0.4 + first, second - 0.9)
    alone = float(lone_energy(M, decay))
    found = field_energy(outputs(fresh), outputs(learned)[:, None], Y, decay) / alone
    expected = twin_energy_ratio(first, second, decay, 1.25 * size**8)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    stranger = node(frequency % 3 + 1, first, second)
    found = field_energy(outputs(stranger), outputs(learned)[:, None], Y, decay)
    np.testing.assert_allclose(found, alone, rtol=1e-9)
    f, g = (outputs(w) - outputs(w).mean() for w in (learned, fresh))
    np.testing.assert_allclose(f @ g / np.sqrt(f @ f * (g @ g)), feature_overlap(first, second), atol=1e-10)


def test_duplicates_are_repelled_and_other_phases_favoured():
    np.testing.assert_allclose(
        twin_energy_ratio(0.0, 0.0, np.array([0.01, 0.1, 1.0])), [0.00398, 0.03846, 0.28571], atol=5e-6
    )
    angles = np.linspace(-np.pi, np.pi, 121)
    best = [np.max(twin_energy_ratio(angles[:, None], angles, decay)) for decay in (0.01, 0.1, 1.0, 10.0)]
    np.testing.assert_allclose(best, [1.546, 1.481, 1.254, 1.045], atol=2e-3)


@given(seeds, decays, st.floats(0.3, 2))
def test_completed_frequencies(seed, decay, size):
    """Against all 50 nodes of two frequencies, phases on a grid of five by five."""
    grid = 2 * np.pi * np.arange(5) / 5 + 0.2
    learned = np.array([size * node(k, a, b) for k in (1, 3) for a in grid for b in grid])
    w = np.random.default_rng(seed).normal(size=2 * M)
    strengths = np.array([25 * size**4, 0.0, 25 * size**4])
    found = completed_energy(w, strengths, decay)
    np.testing.assert_allclose(found, field_energy(outputs(w), outputs(learned), Y, decay), rtol=1e-8)


def test_a_completed_frequency_is_left_to_others():
    start = np.random.default_rng(1).normal(size=(40, 2 * M))

    def frequencies(*strengths):
        end = completed_ascent(start, np.array(strengths), 1.0)
        power = np.asarray(irrep_power(np.asarray(end.weights)[:, :M], cyclic(M)))[:, 1:]
        return np.bincount(power.argmax(axis=1), minlength=3)

    assert frequencies(0.0, 0.0, 0.0).min() > 5
    assert frequencies(25.0, 0.0, 0.0)[0] == 0
    np.testing.assert_array_equal(frequencies(25.0, 25.0, 0.0), [0, 0, 40])


def test_lost_weight_and_boost():
    """A learned frequency keeps s^2 of its signal; the others gain through what no longer counts in the denominator."""
    w, alone = node(1, 0.3, 0.8), float(lone_energy(M, 0.1))
    s, square = 0.1 / (0.1 + 25 / 4), 0.1 / (0.1 + 25 / 16)
    expected = M / 4 * s**2 / (0.1 + s + square / 4)
    np.testing.assert_allclose(completed_energy(w, np.array([25.0, 0, 0]), 0.1), expected, rtol=1e-10)
    mixed = (node(1, 0, 0) + node(2, 0.1, 0.2)) / np.sqrt(2)
    none, one = (completed_energy(mixed, np.array([k, 0, 0.0]), 0.1) for k in (0.0, 25.0))
    assert np.isfinite(alone) and one != none
    np.testing.assert_allclose(completed_energy(node(2, 0, 0), np.array([25.0, 0, 0]), 0.1), alone, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ridge_loss(np.ones((3, 2)), np.ones((4, 2)), 1.0), "labels must be a matrix"),
        (lambda: ridge_loss(np.ones((3, 2)), np.ones((3, 2)), 0.0), "decay must be positive"),
        (lambda: field_energy(np.ones(4), np.ones((3, 2)), np.ones((3, 2)), 1.0), "feature must hold 3 samples"),
        (lambda: twin_energy_ratio(0.0, np.nan, 1.0), "second_shift must be finite"),
        (lambda: twin_energy_ratio(0.0, 0.0, 1.0, -1.0), "learned must be positive"),
        (lambda: lone_energy(-3, 1.0), "order must be positive"),
        (lambda: completed_energy(np.ones(12), np.ones(3), 1.0), "w must have 2 M entries"),
        (lambda: completed_ascent(np.ones(14), -np.ones(3), 1.0), "strengths must be non-negative"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
