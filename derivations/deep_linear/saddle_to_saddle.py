"""The limit path of two coefficients, textbook forms: two jumps, the larger correlation first."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a1, a2, T = sp.symbols("a_1 a_2 T", positive=True)
t, m, ell = sp.symbols("t m ell", positive=True)
r = sp.Symbol("r", real=True)
P = "Pesme & Flammarion 2023 (arXiv:2304.00488), algorithm 1"

# X^T X / n has ones on its diagonal and r off it; the data are fitted by a = (a_1, a_2), a_1 > a_2.
_c1, _c2 = a1 + r * a2, a2 + r * a1
_first = 1 / _c1
_plateau = sp.Matrix([_c1, 0])
_second = _first + (1 - _c2 / _c1) / (a2 * (1 - r**2))
DOMAIN = {a1: Interval(1, 2), a2: Interval(0.1, 0.5), r: Interval(0, 0.4)}


def _data(a1, a2, r):
    x = np.sqrt(2) * np.array([[1.0, r], [0.0, np.sqrt(1 - r**2)]])
    return x, x @ np.array([a1, a2])


def _gradient(beta):
    """dL/dbeta."""
    return sp.Matrix([[1, r], [r, 1]]) * (beta - sp.Matrix([a1, a2]))


def _s(time):
    """The scaled dual variable, from ds/dT = -g."""
    return -_first * _gradient(sp.zeros(2, 1)) - (time - _first) * _gradient(_plateau)


PROOFS = {
    "the first coordinate arrives at T_1": _s(_first)[0] - 1,
    "the plateau is least squares on it": _gradient(_plateau)[0],
    "the second coordinate arrives at T_2": sp.simplify(_s(_second)[1]) - 1,
    "the end has zero loss": _gradient(sp.Matrix([a1, a2])),
}

first_jump = Formula(
    title="Accelerated time of the first jump, two coefficients",
    backs="theory.deep_linear.saddle_to_saddle.saddle_path",
    symbol=sp.Symbol("T_1"),
    arguments=(a1, a2, r),
    domain=DOMAIN,
    expression=_first,
    proofs=PROOFS,
    call=_data,
    keywords={"max_jumps": 4},
    read=lambda path: path.times[1],
    source=P,
)

second_jump = Formula(
    title="Accelerated time of the second jump, two coefficients",
    backs="theory.deep_linear.saddle_to_saddle.saddle_path",
    symbol=sp.Symbol("T_2"),
    arguments=(a1, a2, r),
    domain=DOMAIN,
    expression=_second,
    proofs=PROOFS,
    call=_data,
    keywords={"max_jumps": 4},
    read=lambda path: path.times[2],
    source=P,
)


# At a jump itself rounding decides: no number that is drawn hits one after this factor.
AWAY = 1 + 2**-20 / 3


def _two_jumps(T, a1, a2, r):
    """T, and the path that the formulas above describe."""
    c1, c2 = a1 + r * a2, a2 + r * a1
    first = 1 / c1
    times = np.array([0.0, first, first + (1 - c2 / c1) / (a2 * (1 - r**2))])
    return T * AWAY * times[2], (times, np.array([[0.0, 0.0], [c1, 0.0], [a1, a2]]), np.zeros((3, 2)))


first_plateau = Formula(
    title="First coefficient on the limit path, at the fraction T of the time of the second jump",
    backs="theory.deep_linear.saddle_to_saddle.plateau",
    symbol=sp.Symbol("beta_1"),
    arguments=(T, a1, a2, r),
    domain={T: Interval(0, 1.5), **DOMAIN},
    expression=sp.Piecewise((a1, T * AWAY >= 1), (_c1, _first / _second <= T * AWAY), (0, True)),
    proofs=PROOFS,
    call=_two_jumps,
    read=lambda beta: beta[0],
    source=P,
)

accelerated_time = Formula(
    title="Accelerated time",
    backs="theory.deep_linear.saddle_to_saddle.accelerated_time",
    symbol=T,
    arguments=(t, ell),
    domain={t: Interval(0, 1e4), ell: Interval(0.1, 2000)},
    expression=4 * t / ell,
    proofs={
        # From zero, beta = alpha^2 (e^(4 m t) - e^(-4 m t)) with alpha^2 = e^(-ell) is of order one when 4 m t = ell.
        "a coordinate driven by m jumps at T = 1/m": (4 * t / ell).subs(t, ell / (4 * m)) - 1 / m,
        "there its growing term is one": sp.exp(-ell + 4 * m * t).subs(t, ell / (4 * m)) - 1,
        "s = 4 eta / ell moves by -g dT": sp.diff(4 * m * t / ell, t) / sp.diff(4 * t / ell, t) - m,
    },
    call=lambda t, ell: (t, -ell / 2),
    source=P,
)
