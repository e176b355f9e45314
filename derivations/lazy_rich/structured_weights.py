"""Structured initial weights: mean fourth-order norms of independent entries, from their moments."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

mean, other, v, w, k3, k4 = sp.symbols("a b v w kappa_3 kappa_4", real=True)
h, d = sp.symbols("H d", positive=True)


def _moments(entries):
    """E of a polynomial of independent entries, from the cumulants of each: {symbol: (mean, V, K_3, K_4)}."""

    def moment(power, cumulants):
        a, v, k3, k4 = cumulants
        return (1, a, a**2 + v, a**3 + 3 * a * v + k3, a**4 + 6 * a**2 * v + 4 * a * k3 + 3 * v**2 + k4)[power]

    def average(polynomial):
        symbols = list(entries)
        total = 0
        for powers, coefficient in sp.Poly(sp.expand(polynomial), *symbols).terms():
            total += coefficient * sp.prod([moment(p, entries[s]) for p, s in zip(powers, symbols, strict=True)])
        return sp.expand(total)

    return average


def _formula(a, variance, third, fourth):
    rows = [sum(variance[i, :]) for i in range(a.rows)]
    columns = [sum(variance[:, j]) for j in range(a.cols)]
    cells = list(itertools.product(range(a.rows), range(a.cols)))
    still = ((a.T * a) ** 2).trace()
    random = sum(r**2 for r in rows) + sum(c**2 for c in columns) + sum(variance[c] ** 2 + fourth[c] for c in cells)
    both = sum(2 * a[c] ** 2 * (rows[c[0]] + columns[c[1]] + variance[c]) + 4 * a[c] * third[c] for c in cells)
    return still + random + both


def _two_by_two():
    """An explicit 2 x 2 matrix, every entry with its own cumulants."""
    names = ("a", "v", "k", "q")
    a, variance, third, fourth = (sp.Matrix(2, 2, lambda i, j, n=n: sp.Symbol(f"{n}_{i}{j}", real=True)) for n in names)
    x = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"x_{i}{j}", real=True))
    cells = itertools.product(range(2), repeat=2)
    average = _moments({x[c]: (a[c], variance[c], third[c], fourth[c]) for c in cells})
    return sp.expand(average(((x.T * x) ** 2).trace()) - _formula(a, variance, third, fourth))


def _uneven():
    """An explicit 1 x 3 matrix: rows and columns are not the same."""
    a = sp.Matrix([[mean, other, 0]])
    variance, third, fourth = sp.Matrix([[v, w, v]]), sp.Matrix([[k3, 0, k3]]), sp.Matrix([[k4, k4, 0]])
    x = sp.Matrix([sp.symbols("x_1 x_2 x_3", real=True)])
    average = _moments({x[i]: (a[i], variance[i], third[i], fourth[i]) for i in range(3)})
    return sp.expand(average(((x.T * x) ** 2).trace()) - _formula(a, variance, third, fourth))


_a, _v = sp.Matrix([[mean, 0], [0, other], [mean, mean]]), sp.Matrix([[v, w], [w, v], [v, v]])
_third, _fourth = k3 * sp.ones(3, 2), k4 * sp.ones(3, 2)
SIZES = dict.fromkeys((mean, other), Interval(-2, 2)) | dict.fromkeys((v, w), Interval(0.1, 2))

fourth_norm = Formula(
    title="Mean of Tr (W^T W)^2 of independent weights",
    backs="theory.lazy_rich.structured_weights.expected_square_norms",
    symbol=sp.Symbol("E"),
    arguments=(mean, other, v, w, k3, k4),
    domain=SIZES | {k3: Interval(-1, 1), k4: Interval(0, 1)},
    expression=_formula(_a, _v, _third, _fourth),
    proofs={"explicit entries": _two_by_two, "a single row": _uneven},
    call=lambda a, b, v, w, k3, k4: (
        (
            np.array([[a, 0], [0, b], [a, a]]),
            np.array([[v, w], [w, v], [v, v]]),
            np.full((3, 2), k3),
            np.full((3, 2), k4),
        ),
    ),
    read=lambda norms: norms[1],
    source="derived here",
)

_z = sp.Symbol("z", positive=True)
_half_normal = sp.sqrt(2 / sp.pi) * sp.exp(-(_z**2) / 2)


def _half_normal_cumulants():
    m1, m2, m3, m4 = (sp.integrate(_z**n * _half_normal, (_z, 0, sp.oo)) for n in range(1, 5))
    variance = m2 - m1**2
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 - 3 * m2**2 + 12 * m1**2 * m2 - 6 * m1**4
    root = sp.sqrt(2 / sp.pi)
    expected = (root, 1 - 2 / sp.pi, root * (4 / sp.pi - 1), 8 * (sp.pi - 3) / sp.pi**2)
    return sp.Matrix([sp.simplify(x - y) for x, y in zip((m1, variance, third, fourth), expected, strict=True)])


_c1, _c2 = sp.sqrt(2 / sp.pi), 1 - 2 / sp.pi
_dale = _formula(
    sp.Matrix([[_c1 * mean, -_c1 * other]] * 2),
    sp.Matrix([[_c2 * mean**2, _c2 * other**2]] * 2),
    _c1 * (4 / sp.pi - 1) * sp.Matrix([[mean**3, -(other**3)]] * 2),
    8 * (sp.pi - 3) / sp.pi**2 * sp.Matrix([[mean**4, other**4]] * 2),
)

dale_rank = Formula(
    title="Effective rank of four weights under Dale's law",
    backs="theory.lazy_rich.structured_weights.expected_effective_rank",
    symbol=sp.Symbol("PR"),
    arguments=(mean, other),
    domain={mean: Interval(0.2, 2), other: Interval(0.2, 2)},
    expression=(2 * mean**2 + 2 * other**2) ** 2 / _dale,
    proofs={"cumulants of the half-normal distribution": _half_normal_cumulants},
    call=lambda a, b: (_dale_cumulants(a, b),),
    source="derived here",
)


def _dale_cumulants(a, b):
    from_signs = np.array([1.0, -1.0])
    scales, root = np.array([a, b]), np.sqrt(2 / np.pi)
    rows = (
        root * scales * from_signs,
        (1 - 2 / np.pi) * scales**2,
        root * (4 / np.pi - 1) * scales**3 * from_signs,
        8 * (np.pi - 3) / np.pi**2 * scales**4,
    )
    return tuple(np.tile(row, (2, 1)) for row in rows)
