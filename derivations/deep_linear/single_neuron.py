"""One hidden neuron, textbook forms: beta along the first input, a second input that is not needed."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, beta, c = sp.symbols("t beta c", positive=True)
w1, w2, a = sp.symbols("w_1 w_2 a", real=True)

lam = c * (a**2 - w1**2 - w2**2)
_kappa = sp.sqrt(beta**2 + lam**2 / 4)
_F = sp.Matrix([[-lam / 2, beta], [beta, lam / 2]])
_k = sp.Symbol("kappa", positive=True)
# The plane of beta and the readout, where F^2 = kappa^2, and the rest of the inputs, where F = -lam/2.
_growth = sp.cosh(_k * t) * sp.eye(2) + sp.sinh(_k * t) / _k * _F
_integral = sp.sinh(2 * _k * t) / (2 * _k) * sp.eye(2) + sp.sinh(_k * t) ** 2 / _k**2 * _F
_start = sp.sqrt(c) * sp.Matrix([w1, a])
_linear = _growth * _start
_rest = sp.Piecewise((t, sp.Eq(lam, 0)), ((1 - sp.exp(-lam * t)) / lam, True))
_inner = 1 + (_start.T * _integral * _start)[0] + c * w2**2 * _rest
_q = [x / sp.sqrt(c * _inner) for x in (*_linear, sp.sqrt(c) * w2 * sp.exp(-lam * t / 2))]
_W1, _A, _W2 = (x.subs(_k, _kappa) for x in _q)


def _residual(of, velocity, numbers):
    """The equation of motion at a rational point, to 60 digits: the symbols do not simplify in seconds."""
    point = dict(zip((t, beta, c, w1, w2, a), map(sp.Rational, numbers), strict=True))
    left = (sp.diff(of, t) - velocity).subs(point)
    return sp.Integer(0) if abs(left.evalf(60)) < sp.Float("1e-50") else left


_error = [beta - c * _A * _W1, -c * _A * _W2]
_POINTS = (("1/3", "3/2", "2", "1/5", "1/4", "2/7"), ("2", "1/2", "1/3", "-3/4", "1", "1/9"))


def _motion(of, velocity):
    return {
        f"the equation of motion, point {i}": lambda numbers=numbers: _residual(of, velocity, numbers)
        for i, numbers in enumerate(_POINTS)
    }


_DOMAIN = {
    t: Interval(0, 8),
    w1: Interval(0.01, 1.5),
    w2: Interval(-1, 1),
    a: Interval(0.01, 1.5),
    beta: Interval(0.05, 3, log=True),
    c: Interval(0.2, 3),
}


def _call(t, w1, w2, a, beta, c):
    return t, np.array([w1, w2]), a, np.array([beta, 0.0]), c


readout = Formula(
    title="Readout weight of a single neuron",
    backs="theory.deep_linear.single_neuron.single_neuron",
    symbol=sp.Function("a")(t),
    arguments=(t, w1, w2, a, beta, c),
    domain=_DOMAIN,
    expression=_A,
    proofs={
        "F^2 = kappa^2": _F**2 - (beta**2 + lam**2 / 4) * sp.eye(2),
        "e^{Ft} solves X' = F X": lambda: (sp.diff(_growth, t) - _F * _growth).subs(_k, _kappa),
        "J' = e^{2Ft}, as F^2 = kappa^2": sp.diff(_integral, t)
        - (sp.cosh(_k * t) ** 2 + sp.sinh(_k * t) ** 2) * sp.eye(2)
        - 2 * sp.sinh(_k * t) * sp.cosh(_k * t) / _k * _F,
        **_motion(_A, _error[0] * _W1 + _error[1] * _W2),
    },
    call=_call,
    read=lambda neuron: neuron.a,
    source="Kunin et al. 2024 (arXiv:2406.06158), single-neuron model",
)

first_input = Formula(
    title="Weight of a single neuron along the signal",
    backs="theory.deep_linear.single_neuron.single_neuron",
    symbol=sp.Function("w_1")(t),
    arguments=readout.arguments,
    domain=_DOMAIN,
    expression=_W1,
    proofs=_motion(_W1, _A * _error[0]),
    call=_call,
    read=lambda neuron: neuron.w[0],
    source=readout.source,
)

_lever = _kappa + lam / 2
_o = sp.Matrix([beta, _lever])

basin = Formula(
    title="Basin of a single neuron",
    backs="theory.deep_linear.single_neuron.readout_sign",
    symbol=sp.Symbol("sign a"),
    arguments=(w1, w2, a, beta, c),
    domain={k: v for k, v in _DOMAIN.items() if k != t} | {a: Interval(-1.5, 1.5)},
    expression=sp.sign(beta * w1 + _lever * a),
    proofs={"o = (beta; kappa + lam/2) is the eigenvector of kappa": lambda: _F * _o - _kappa * _o},
    call=lambda w1, w2, a, beta, c: (np.array([w1, w2]), a, np.array([beta, 0.0]), c),
    source="the top eigenvector of the generator",
)
