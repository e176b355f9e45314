"""Finite groups: representations from their relations, convolution on the quaternion group from quaternions."""

import numpy as np
import sympy as sp
from sympy.algebras import Quaternion

from derivations.formula import Formula, Interval

n = sp.Symbol("n", positive=True)
ORDERS = {n: Interval(3, 12.9)}


def rotation(angle):
    return sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])


def zero(matrix):
    """A matrix of exact numbers, simplified entry by entry."""
    return matrix.applyfunc(lambda entry: sp.nsimplify(sp.simplify(sp.expand_complex(entry))))


def _characters():
    """sum_g chi_j conj chi_k = M delta_jk for Z_5, and multiplication becomes addition."""
    root = sp.exp(2 * sp.pi * sp.I / 5)
    sums = [sum((root**j) ** g * sp.conjugate((root**k) ** g) for g in range(5)) for j, k in ((1, 1), (1, 2), (2, 4))]
    return zero(sp.Matrix([sums[0] - 5, sums[1], sums[2], root**3 * root**4 - root**2]))


def _parseval():
    """|f|^2 is the sum over k of |f^_k|^2 / M, for Z_3."""
    f = sp.symbols("f_0:3", real=True)
    root = sp.exp(2 * sp.pi * sp.I / 3)
    modes = [sum(x * root ** (k * g) for g, x in enumerate(f)) for k in range(3)]
    return sp.expand(sp.expand_complex(sum(z * sp.conjugate(z) for z in modes) / 3) - sum(x**2 for x in f))


cyclic_irrep = Formula(
    title="Representation of a cyclic group",
    backs="theory.lazy_rich.groups.cyclic",
    symbol=sp.Symbol("rho_1"),
    arguments=(n,),
    domain=ORDERS,
    expression=2 + sp.cos(2 * sp.pi / sp.floor(n)) + 3 * sp.sin(2 * sp.pi / sp.floor(n)),
    proofs={"characters are orthogonal": _characters, "Parseval": _parseval},
    call=lambda n: (int(n),),
    read=lambda group: 2 + group.irreps[1].matrices[1, 0, 0].real + 3 * group.irreps[1].matrices[1, 0, 0].imag,
    source="standard",
)


def _dihedral_relations():
    """r^5 = 1, s^2 = 1, s r s = 1/r, and sum |chi|^2 = 10: irreducible."""
    r, s = rotation(2 * sp.pi / 5), sp.diag(1, -1)
    elements = [r**k * flip for k in range(5) for flip in (sp.eye(2), s)]
    size = sum(element.trace() ** 2 for element in elements)
    return sp.Matrix(
        [*zero(r**5 - sp.eye(2)), *(s * s - sp.eye(2)), *zero(s * r * s * r - sp.eye(2)), zero_of(size - 10)]
    )


def zero_of(number):
    return sp.nsimplify(sp.simplify(number.rewrite(sp.cos)), [sp.sqrt(5)])


dihedral_irrep = Formula(
    title="Rotation in a dihedral group",
    backs="theory.lazy_rich.groups.dihedral",
    symbol=sp.Symbol("rho(r)"),
    arguments=(n,),
    domain=ORDERS,
    # Trace of the matrix of r s and 1, s, r in turn: 2 cos comes from r alone, the others have trace 0.
    expression=2 + 2 * sp.cos(2 * sp.pi / sp.floor(n)) + 3 * sp.sin(2 * sp.pi / sp.floor(n)),
    proofs={"relations, irreducible": _dihedral_relations},
    call=lambda n: (int(n),),
    read=lambda group: 2 + np.trace(first_planar(group)[1]).real + 3 * first_planar(group)[1][1, 0].real,
    source="Serre, Linear Representations of Finite Groups, 5.3",
)


def first_planar(group):
    """Matrices of the first irrep of dimension two."""
    return next(irrep.matrices for irrep in group.irreps if irrep.dimension == 2)


def _dicyclic_relations():
    """a^6 = 1, x^2 = a^3, x a = x / a, and sum over g of chi(g^2) = -12: quaternionic."""
    e = sp.exp(sp.I * sp.pi / 3)
    a, x = sp.diag(e, 1 / e), sp.Matrix([[0, -1], [1, 0]])
    elements = [a**k * flip for k in range(6) for flip in (sp.eye(2), x)]
    indicator = sum((element * element).trace() for element in elements)
    relations = [a**6 - sp.eye(2), x * x - a**3, x * a - a.inv() * x]
    return sp.Matrix(
        [*(entry for relation in relations for entry in zero(relation)), sp.expand_complex(indicator + 12)]
    )


dicyclic_irrep = Formula(
    title="Quaternionic representation of a dicyclic group",
    backs="theory.lazy_rich.groups.dicyclic",
    symbol=sp.Symbol("rho(a)"),
    arguments=(n,),
    domain=ORDERS,
    expression=2 + sp.cos(sp.pi / sp.floor(n)) + 3 * sp.sin(sp.pi / sp.floor(n)),
    proofs={"relations, type": _dicyclic_relations},
    call=lambda n: (int(n),),
    read=lambda group: 2 + first_planar(group)[1][0, 0].real + 3 * first_planar(group)[1][0, 0].imag,
    source="standard",
)

_f, _h = sp.symbols("f_0:4", real=True), sp.symbols("h_0:4", real=True)
# The eight units +-1, +-i, +-j, +-k as quaternions.
UNITS = [sign * unit for unit in (Quaternion(*row) for row in np.eye(4, dtype=int).tolist()) for sign in (1, -1)]
QUATERNIONS = np.array([[UNITS.index(p * q) for q in UNITS] for p in UNITS])


def _real_part():
    """Functions f on 1, i, j, k are quaternions, and (f * h)(1) - (f * h)(-1) is the real part of their product."""
    product = Quaternion(*_f) * Quaternion(*_h)
    by_hand = sum(
        _f[i] * _h[j] * (1 if QUATERNIONS[2 * i, 2 * j] == 0 else -1)
        for i in range(4)
        for j in range(4)
        if QUATERNIONS[2 * i, 2 * j] in (0, 1)
    )
    return sp.expand(product.a - by_hand)


quaternion_convolution = Formula(
    title="Convolution on the quaternion group",
    backs="theory.lazy_rich.groups.convolution",
    symbol=sp.Symbol("f*h"),
    arguments=(*_f, *_h),
    domain=dict.fromkeys((*_f, *_h), Interval(-1, 1)),
    expression=10
    + _f[0] * _h[0]
    - _f[1] * _h[1]
    - _f[2] * _h[2]
    - _f[3] * _h[3]
    + 3 * (_f[0] * _h[3] + _f[3] * _h[0] + _f[1] * _h[2] - _f[2] * _h[1]),
    proofs={
        "the product of quaternions": _real_part,
        "its part along k": sp.expand(
            (Quaternion(*_f) * Quaternion(*_h)).d - _f[0] * _h[3] - _f[3] * _h[0] - _f[1] * _h[2] + _f[2] * _h[1]
        ),
    },
    call=lambda *x: (*(np.stack([part, np.zeros(4)], 1).ravel() for part in (x[:4], x[4:])), QUATERNIONS),
    read=lambda c: 10 + c[0] - c[1] + 3 * (c[6] - c[7]),
    source="a definition",
)
