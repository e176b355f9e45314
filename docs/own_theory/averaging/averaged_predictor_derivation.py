"""Averaged predictor, textbook form."""

import sympy as sp

from derivations.formula import Formula, Interval

t, s, u0 = sp.symbols("t s u_0", positive=True)

_last = s * u0 * sp.exp(2 * s * t) / (s + u0 * (sp.exp(2 * s * t) - 1))
_average = sp.log(1 + u0 / s * (sp.exp(2 * s * t) - 1)) / (2 * t)

mean_strength = Formula(
    title="Strength of one mode in the average of all checkpoints of a two-layer network",
    backs="averaging.averaged_predictor_theory.averaged_strength",
    symbol=sp.Function("v")(t),
    arguments=(t, s, u0),
    # To times at which exp(2 s t) has left the range of floating-point numbers.
    domain={t: Interval(1e-6, 400, log=True), s: Interval(0.5, 3), u0: Interval(1e-8, 5, log=True)},
    expression=_average,
    proofs={
        "du/dt = 2 u (s - u) of the last checkpoint": sp.diff(_last, t) - 2 * _last * (s - _last),
        "d(t v)/dt = u": sp.diff(t * _average, t) - _last,
        "v(0) = u_0": lambda: sp.limit(_average, t, 0) - u0,
    },
    source="the time average of the logistic mode of Saxe, McClelland & Ganguli 2013",
)
