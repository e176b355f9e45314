"""Data correlations and their input-output modes: small cases in textbook form."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

SECTION = "Saxe, McClelland & Ganguli 2013, section 1"

# Two samples of two inputs and one output.
_x = sp.Matrix(2, 2, lambda i, m: sp.Symbol(f"x_{i + 1}{m + 1}", real=True))
_y = sp.Matrix(1, 2, lambda _, m: sp.Symbol(f"y_{m + 1}", real=True))
_w = sp.Matrix(1, 2, lambda _, i: sp.Symbol(f"w_{i + 1}", real=True))
_sxx, _syx, _syy = _x * _x.T / 2, _y * _x.T / 2, _y * _y.T / 2
_numbers = (*_x, *_y)
_ANY = Interval(-5, 5)


def _data(x11, x12, x21, x22, y1, y2):
    return np.array([[x11, x12], [x21, x22]]), np.array([[y1, y2]])


input_output = Formula(
    title="Input-output correlation of two samples",
    backs="theory.deep_linear.correlations.correlations",
    symbol=sp.Symbol("Syx_12"),
    arguments=_numbers,
    domain={n: Interval(0.1, 5) for n in _numbers},
    expression=_syx[0, 1],
    call=_data,
    read=lambda c: c.syx[0, 1],
    proofs={"the mean of y x": _syx[0, 1] - (_y[0] * _x[1, 0] + _y[1] * _x[1, 1]) / 2},
    source=SECTION,
)

_loss = (_syy / 2 - _w * _syx.T + _w * _sxx * _w.T / 2)[0, 0]


def _map_and_correlations(*numbers):
    x, y = _data(*numbers[2:])
    return np.array([numbers[:2]]), x @ x.T / 2, y @ x.T / 2, y @ y.T / 2


loss = Formula(
    title="Training loss from the correlations",
    backs="theory.deep_linear.correlations.training_loss",
    symbol=sp.Symbol("L"),
    arguments=(*_w, *_numbers),
    # Targets beyond the reach of the outputs: a loss near zero is a difference of large numbers.
    domain={**{n: _ANY for n in (*_w, *_x)}, **{n: Interval(200, 300) for n in _y}},
    expression=_loss,
    call=_map_and_correlations,
    proofs={"half the mean squared error": _loss - ((_y - _w * _x) * (_y - _w * _x).T)[0, 0] / 4},
    source=SECTION,
)

# Two inputs; the modes are the axes, and c is what the inputs share.
_l1, _l2, _s1, _s2 = sp.symbols("lambda_1 lambda_2 s_1 s_2", positive=True)
_c = sp.Symbol("c", positive=True)
_inputs, _modes = sp.Matrix([[_l1, _c], [_c, _l2]]), sp.diag(_s1, _s2)
_domain = {
    _l1: Interval(0.1, 5),
    _l2: Interval(0.1, 5),
    _c: Interval(1e-3, 0.1, log=True),
    _s1: Interval(2.1, 5),
    _s2: Interval(0.1, 2),
}


def _two(l1, l2, c, s1, s2):
    return np.array([[l1, c], [c, l2]]), np.diag([s1, s2])


_mixing = _c / sp.sqrt(_l1**2 + _c**2)
mixing = Formula(
    title="Mixing of the first of two modes",
    backs="theory.deep_linear.correlations.input_output_modes",
    symbol=sp.Symbol("sin"),
    arguments=(_l1, _l2, _c, _s1, _s2),
    domain=_domain,
    expression=_mixing,
    call=_two,
    read=lambda modes: modes.mixing[0],
    proofs={
        "sine of the angle between Sxx v and v": (
            _mixing**2 - 1 + (_inputs[0, 0]) ** 2 / (_inputs[:, 0].T * _inputs[:, 0])[0, 0]
        )
    },
    source=SECTION,
)

variance = Formula(
    title="Input variance along the second of two modes",
    backs="theory.deep_linear.correlations.input_output_modes",
    symbol=sp.Symbol("lambda_2"),
    arguments=(_l1, _l2, _c, _s1, _s2),
    domain=_domain,
    expression=_l2,
    call=_two,
    read=lambda modes: modes.lam[1],
    proofs={"v . Sxx v": _l2 - (sp.Matrix([[0, 1]]) * _inputs * sp.Matrix([0, 1]))[0, 0]},
    source=SECTION,
)

_square = _modes.T * _modes
_bracket = _inputs * _square - _square * _inputs
_noncommutation = (
    sp.sqrt(2) * _c * (_s1**2 - _s2**2) / (sp.sqrt(_l1**2 + _l2**2 + 2 * _c**2) * sp.sqrt(_s1**4 + _s2**4))
)
noncommutation = Formula(
    title="How far two inputs are from sharing vectors with their modes",
    backs="theory.deep_linear.correlations.noncommutation",
    symbol=sp.Symbol("kappa"),
    arguments=(_l1, _l2, _c, _s1, _s2),
    domain=_domain,
    expression=_noncommutation,
    call=_two,
    proofs={
        "the commutator's norm over the norms": (
            _noncommutation**2
            - (_bracket * _bracket.T).trace() / (_inputs * _inputs.T).trace() / (_square * _square.T).trace()
        ),
        "zero where nothing is shared": _noncommutation.subs(_c, 0),
    },
    source=SECTION,
)

_angle, _strength = sp.symbols("theta u", positive=True)
_turned = _strength * sp.Matrix([[sp.cos(_angle)], [sp.sin(_angle)]]) * sp.Matrix([[1, 0]])
projected = Formula(
    title="Strength of a mode in a map turned away from it",
    backs="theory.deep_linear.correlations.projected_strengths",
    symbol=sp.Symbol("u_1"),
    arguments=(_strength, _angle),
    domain={_strength: Interval(0.01, 5), _angle: Interval(0, 1.5)},
    expression=_strength * sp.cos(_angle),
    call=lambda u, a: (u * np.outer([np.cos(a), np.sin(a)], [1.0, 0.0]), np.eye(2), np.eye(2)),
    read=lambda u: u[0],
    proofs={"left . W right": _strength * sp.cos(_angle) - _turned[0, 0]},
    source=SECTION,
)
