"""Group arithmetic: tables, pairs, errors; networks that square, their ridge readout; what their nodes have learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.square import centred, ridge_loss, ridge_readout, square_features, square_network
from sims.probes.group_features import frequency_power, irrep_shares, strongest_modes
from sims.tasks.group_arithmetic import accuracy, addition_table, centred_error, group_pairs
from theory.lazy_rich.feature_emergence import lazy_gradient
from theory.lazy_rich.groups import cyclic, dicyclic, dihedral, direct_product, irrep_power

KEY = jax.random.key(0)


def test_tables_are_those_of_cyclic_groups_and_their_products():
    np.testing.assert_array_equal(addition_table(7), cyclic(7).table)
    np.testing.assert_array_equal(addition_table(2, 4), direct_product(cyclic(2), cyclic(4)).table)
    with pytest.raises(ValueError, match="moduli must be whole numbers"):
        addition_table(0)


def test_pairs_and_their_products():
    table = np.asarray(dihedral(3).table)
    x, y = (np.asarray(part) for part in group_pairs(table))
    first, second = x[:, :6].argmax(axis=1), x[:, 6:].argmax(axis=1)
    np.testing.assert_array_equal(y.argmax(axis=1), table[first, second])
    np.testing.assert_array_equal((first * 6 + second), np.arange(36))
    assert (x.sum(axis=1) == 2).all() and (y.sum(axis=1) == 1).all()


def test_errors_do_not_see_constants_or_hidden_pairs():
    _, y = group_pairs(addition_table(5))
    outputs = jax.random.normal(KEY, y.shape)
    seen = jnp.arange(25) < 9
    error = centred_error(outputs, y, seen)
    np.testing.assert_allclose(centred_error(outputs + jnp.arange(25.0)[:, None], y, seen), error, rtol=1e-12)
    np.testing.assert_allclose(centred_error(outputs + 7.0 * ~seen[:, None] * y, y, seen), error, rtol=1e-12)
    wrong = np.asarray(outputs - y)[:9]
    wrong = wrong - wrong.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(error, np.sum(wrong**2) / 18, rtol=1e-12)
    assert accuracy(y, y, seen) == 1 and accuracy(-y, y, seen) == 0 and accuracy(y, y, seen & ~seen) == 0
    half = jnp.where(jnp.arange(25)[:, None] < 3, y, -y)
    np.testing.assert_allclose(accuracy(half, y, seen), 3 / 9)


def test_the_network_by_hand():
    network = square_network(KEY, 10, 6, 5)
    x = jax.random.normal(KEY, (4, 10))
    expected = [
        [sum(v * (w @ p) ** 2 for v, w in zip(row, network.hidden, strict=True)) for row in network.readout] for p in x
    ]
    np.testing.assert_allclose(network(x), expected, rtol=1e-10)
    wide = square_network(KEY, 10, 5000, 5)
    np.testing.assert_allclose(10 * np.var(wide.hidden), 1 / 3, rtol=0.03)
    assert np.abs(wide.readout).max() <= 5000**-0.5


def test_the_readout_is_at_the_minimum_and_the_gradient_that_of_the_lazy_stage():
    x, y = group_pairs(addition_table(3))
    hidden, decay = square_network(KEY, 6, 5, 3).hidden, 0.3
    features, labels = centred(square_features(hidden, x)), centred(y)

    def loss(readout):
        return 0.5 * jnp.sum((labels - features @ readout.T) ** 2) + 0.5 * decay * jnp.sum(readout**2)

    best = ridge_readout(features, labels, decay)
    np.testing.assert_allclose(jax.grad(loss)(best), 0, atol=1e-12)
    np.testing.assert_allclose(ridge_loss(hidden, x, y, decay), loss(best), rtol=1e-12)
    whole = jax.grad(lambda h: loss_of(h, x, labels, decay))(hidden)
    found = jax.grad(ridge_loss)(hidden, x, y, decay)
    np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-12)
    _, pull = jax.vjp(lambda h: square_features(h, x), hidden)
    np.testing.assert_allclose(found, -pull(lazy_gradient(features, labels, decay))[0], rtol=1e-9, atol=1e-12)


def loss_of(hidden, x, labels, decay):
    """The same with the readout differentiated through."""
    features = centred(square_features(hidden, x))
    readout = ridge_readout(features, labels, decay)
    return 0.5 * jnp.sum((labels - features @ readout.T) ** 2) + 0.5 * decay * jnp.sum(readout**2)


@pytest.mark.parametrize("group", [cyclic(6), dihedral(4), dicyclic(3)], ids=["Z_6", "D_4", "Dic_3"])
def test_shares_are_powers_by_the_fourier_transform(group):
    w = jax.random.normal(KEY, (4, group.order))
    shares = irrep_shares(w, [irrep.matrices for irrep in group.irreps])
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(shares, irrep_power(w, group) / np.sum(w**2, axis=1)[:, None], atol=1e-12)


@pytest.mark.parametrize("order", [7, 8])
def test_modes_are_read_back(order):
    g, k, phase = 2 * np.pi * np.arange(order) / order, np.array([1, 3, 2]), np.array([0.3, -1.2, 2.5])
    w = jnp.asarray(np.cos(k[:, None] * g + phase[:, None]) + 0.1 * np.cos(2 * g))
    modes = strongest_modes(w[:2])
    np.testing.assert_array_equal(modes.frequency, k[:2])
    np.testing.assert_allclose(modes.phase, phase[:2], atol=1e-12)
    np.testing.assert_allclose(modes.share, 1 / 1.01, rtol=1e-12)
    # By another's frequencies: there is none of frequency 1 in the third.
    other = strongest_modes(w[2:], frequency_power(w[:1]))
    np.testing.assert_allclose(other.share, 0, atol=1e-12)
    mean = np.mean(w, axis=1) ** 2 * order
    np.testing.assert_allclose(np.sum(frequency_power(w), axis=1) + mean, np.sum(w**2, axis=1), rtol=1e-12)
    if order == 8:
        np.testing.assert_allclose(frequency_power(jnp.asarray([(-1.0) ** np.arange(8)])), [[0, 0, 0, 8]], atol=1e-12)
    assert np.isfinite(strongest_modes(jnp.zeros((2, order))).share).all()
