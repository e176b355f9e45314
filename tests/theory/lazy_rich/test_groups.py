"""Groups: axioms of the tables, representations that multiply, are orthogonal, complete and of the stated type."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.groups import (
    convolution,
    cyclic,
    dicyclic,
    dihedral,
    direct_product,
    division,
    fourier,
    group_table,
    irrep_power,
)

GROUPS = {
    "Z_1": cyclic(1),
    "Z_7": cyclic(7),
    "Z_8": cyclic(8),
    "S_3": dihedral(3),
    "D_4": dihedral(4),
    "Q_8": dicyclic(2),
    "Dic_3": dicyclic(3),
    "Dic_4": dicyclic(4),
    "Z_3 x Z_3": direct_product(cyclic(3), cyclic(3)),
    "Q_8 x Z_3": direct_product(dicyclic(2), cyclic(3)),
    "S_3 x Q_8": direct_product(dihedral(3), dicyclic(2)),
}
INDICATOR = {"real": 1, "complex": 0, "quaternionic": -1}
seeds = st.integers(0, 2**32 - 1)
every_group = pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS.keys())


@every_group
def test_tables_are_those_of_groups(group):
    t = np.asarray(group_table(group.table))
    elements = np.arange(len(t))
    np.testing.assert_array_equal(t[0], elements)
    np.testing.assert_array_equal(t[:, 0], elements)
    np.testing.assert_array_equal(t[t[:, :, None], elements], t[elements[:, None, None], t])
    np.testing.assert_array_equal(
        np.take_along_axis(t, np.asarray(division(t)), axis=1), np.tile(elements, (len(t), 1))
    )


@every_group
def test_representations(group):
    """They multiply as the elements do, are unitary, irreducible, different, of the stated type, and all there are."""
    t, characters = np.asarray(group.table), []
    for irrep in group.irreps:
        rho = np.asarray(irrep.matrices)
        np.testing.assert_allclose(np.einsum("gij,hjk->ghik", rho, rho), rho[t], atol=1e-12)
        np.testing.assert_allclose(
            rho @ rho.conj().swapaxes(1, 2), np.tile(np.eye(irrep.dimension), (len(t), 1, 1)), atol=1e-12
        )
        character = np.trace(rho, axis1=1, axis2=2)
        # Frobenius and Schur.
        np.testing.assert_allclose(np.mean(character[np.diag(t)]), INDICATOR[irrep.kind], atol=1e-12)
        assert irrep.kind != "real" or not rho.imag.any()
        characters += [character] if irrep.copies == 1 else [character, character.conj()]
    gram = np.array(characters) @ np.array(characters).conj().T / len(t)
    np.testing.assert_allclose(gram, np.eye(len(characters)), atol=1e-12)
    assert sum(irrep.copies * irrep.dimension**2 for irrep in group.irreps) == len(t)
    assert np.all(np.asarray(group.irreps[0].matrices) == 1)


def test_the_named_groups():
    assert sorted(irrep.dimension for irrep in GROUPS["S_3"].irreps) == [1, 1, 2]
    # Reflections have order two; in the quaternion group only -1 has.
    for name, involutions in (("S_3", 3), ("D_4", 5), ("Q_8", 1)):
        assert np.sum(np.diag(np.asarray(GROUPS[name].table)) == 0) == involutions + 1
    assert not (np.asarray(GROUPS["S_3"].table) == np.asarray(GROUPS["S_3"].table).T).all()
    assert GROUPS["Z_7"].order == 7


@pytest.mark.parametrize("name", ["Z_8", "S_3", "Dic_3"])
@given(seed=seeds)
def test_the_transform_of_a_convolution_is_the_product(name, seed):
    group = GROUPS[name]
    f, h = np.random.default_rng(seed).normal(size=(2, 3, group.order))
    product = np.asarray(convolution(f, h, group.table))
    t = np.asarray(group.table)
    by_hand = np.zeros((3, group.order))
    for g in range(group.order):
        by_hand[:, t[g]] += f[:, [g]] * h
    np.testing.assert_allclose(product, by_hand, atol=1e-12)
    for irrep in group.irreps:
        expected = np.asarray(fourier(f, irrep)) @ np.asarray(fourier(h, irrep))
        np.testing.assert_allclose(fourier(product, irrep), expected, atol=1e-10)
    np.testing.assert_allclose(irrep_power(f, group).sum(-1), np.sum(f**2, axis=-1), rtol=1e-12)


def test_cyclic_transforms_are_fast_fourier_transforms():
    f = np.random.default_rng(0).normal(size=8)
    found = [complex(fourier(f, irrep)[0, 0]) for irrep in GROUPS["Z_8"].irreps]
    np.testing.assert_allclose(np.conj(found), np.fft.rfft(f), atol=1e-12)


def test_groups_pass_through_jit():
    f = np.random.default_rng(0).normal(size=6)
    np.testing.assert_allclose(jax.jit(irrep_power)(f, GROUPS["S_3"]), irrep_power(f, GROUPS["S_3"]), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cyclic(0), "order must be a whole number"),
        (lambda: dihedral(2), "sides must be a whole number of at least 3"),
        (lambda: dicyclic(1), "half must be"),
        (lambda: direct_product(dicyclic(2), dicyclic(2)), "must not both have quaternionic"),
        (lambda: group_table(np.zeros((2, 3), int)), "table must be a square matrix"),
        (lambda: group_table(np.zeros((2, 2), int)), "table must hold every element once"),
        (lambda: convolution(np.ones(3), np.ones(4), cyclic(3).table), "h must have 3 entries"),
        (lambda: fourier(np.ones(4), cyclic(3).irreps[0]), "f must have 3 entries"),
        (lambda: irrep_power(np.array([1.0, np.nan, 0.0]), cyclic(3)), "f must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
