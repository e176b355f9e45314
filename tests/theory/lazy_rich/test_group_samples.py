"""Samples of a group: expectations against random draws, limits, persistence of maxima, energies that cross."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.feature_emergence import energy_maximiser, feature_energy
from theory.lazy_rich.group_samples import (
    crossing_fraction,
    memorising_energy,
    sample_threshold,
    sampled_ascent,
    unseen_elements,
)
from theory.lazy_rich.groups import cyclic, dihedral, irrep_power


def pairs(order):
    x = np.concatenate([np.repeat(np.eye(order), order, axis=0), np.tile(np.eye(order), (order, 1))], axis=1)
    return x, np.eye(order)[np.add.outer(np.arange(order), np.arange(order)).ravel() % order]


@given(st.sampled_from([2, 3, 6]), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_expectations_are_means_over_draws(order, fraction, seed):
    x, y = pairs(order)
    n, rng = max(1, round(fraction * order**2)), np.random.default_rng(seed)
    node = np.eye(2 * order)[0]
    unseen, energies = [], []
    for _ in range(400):
        some = rng.permutation(order**2)[:n]
        forces = (y[some] - y[some].mean(axis=0)).T @ (x[some] @ node) ** 2
        energies.append(np.sum(forces**2) / 2)
        unseen.append(np.sum(x[some, :order].sum(axis=0) == 0))
    for found, draws in ((unseen_elements(order, n), unseen), (memorising_energy(order, n), energies)):
        # A mean that no draw leaves has no error; rounding has, and a rare event is missed by 400 draws.
        error = np.std(draws) / 20 + 1e-10 + 3 * order / 400 * (np.std(draws) == 0)
        assert abs(np.mean(draws) - found) < 5.5 * error


def test_limits():
    np.testing.assert_allclose(unseen_elements(5, np.array([0.0, 20, 21, 25])), [5, 5 / 53130, 0, 0], rtol=1e-9)
    m = 2001
    # One element, up to the order (ln M)^2 / (2 M).
    np.testing.assert_allclose(unseen_elements(m, float(sample_threshold(m, 1.0))), 1.0, rtol=0.02)
    assert memorising_energy(6, 36) < 1e-10
    large = [float(memorising_energy(m, round(0.3 * m**2))) / m for m in (50, 100)]
    # p (1 - p) / 2, up to 1 / M.
    assert abs(large[1] - 0.105) < 0.6 * abs(large[0] - 0.105) < 0.01
    np.testing.assert_allclose(sample_threshold(np.array([11.0, 23.0])), [72.49, 198.19], atol=0.01)


def test_memorising_is_any_groups():
    """The same for a dihedral group and an element of the second slot."""
    group, rng, n = dihedral(3), np.random.default_rng(0), 15
    x, _ = pairs(6)
    y, node, energies = np.eye(6)[np.asarray(group.table).ravel()], np.eye(12)[9], []
    for _ in range(3000):
        some = rng.permutation(36)[:n]
        forces = (y[some] - y[some].mean(axis=0)).T @ (x[some] @ node) ** 2
        energies.append(np.sum(forces**2) / 2)
    assert abs(np.mean(energies) - memorising_energy(6, n)) < 5 * np.std(energies) / np.sqrt(3000)


def test_energies_cross_at_two_thirds():
    np.testing.assert_allclose(crossing_fraction(cyclic(7)), 2 / 3)
    np.testing.assert_allclose(crossing_fraction(cyclic(4)), [2 / 3, 1 / 2])
    np.testing.assert_allclose(crossing_fraction(dihedral(3)), [1 / 2, 2 / 3])
    order, rng = 31, np.random.default_rng(1)
    x, y = pairs(order)
    knowing = np.asarray(energy_maximiser(cyclic(order), 5, *rng.normal(size=(3, 1, 2))))
    for fraction, higher in ((0.6, "memorising"), (0.73, "knowing")):
        some = rng.permutation(order**2)[: round(fraction * order**2)]
        energies = {
            "knowing": float(feature_energy(knowing, x[some], y[some])),
            "memorising": np.mean(feature_energy(np.eye(2 * order), x[some], y[some])),
        }
        assert max(energies, key=energies.get) == higher


def test_maxima_persist_on_most_pairs_and_not_on_few():
    order, rng = 11, np.random.default_rng(2)
    group, (x, y) = cyclic(order), pairs(order)
    start = np.array([energy_maximiser(group, k, *rng.normal(size=(3, 1, 2))) for k in (1, 2, 3, 4, 5)])

    def power(fraction):
        some = rng.permutation(order**2)[: round(fraction * order**2)]
        end = sampled_ascent(start, x[some], y[some])
        assert np.isfinite(end.energy).all()
        return [float(irrep_power(np.asarray(w[:order]), group)[k] * 2) for k, w in enumerate(end.weights, start=1)]

    np.testing.assert_allclose(power(1.0), 1, rtol=1e-9)
    assert np.mean(power(0.85)) > 0.7 > 0.5 > np.mean(power(0.3))


def test_shapes_and_jit():
    np.testing.assert_allclose(jax.jit(lambda n: unseen_elements(7, n))(20.0), unseen_elements(7, 20), rtol=1e-12)
    assert memorising_energy(7, 1) >= 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_threshold(1.0), "order must be above 1, got 1"),
        (lambda: sample_threshold(7.0, 0.0), "constant must be positive"),
        (lambda: unseen_elements(5, 26), "samples must lie between 0 and 25, got 26"),
        (lambda: memorising_energy(1, 1), "order must be a whole number of at least 2"),
        (lambda: memorising_energy(5, 0), "samples must lie between 1 and 25"),
        (lambda: sampled_ascent(np.ones(3), np.ones((5, 4)), np.ones((5, 2))), "start must have 4 entries"),
        (lambda: sampled_ascent(np.ones(4), np.ones((5, 4)), np.ones((6, 2))), "labels must be a matrix"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
