"""Mode equations of deep linear networks, textbook forms."""

import sympy as sp

from derivations.formula import Formula, Interval

t, s, u0, lam = sp.symbols("t s u_0 lambda", positive=True)
u = sp.Function("u")(t)

_logistic = s * u0 * sp.exp(2 * s * t) / (s + lam * u0 * (sp.exp(2 * s * t) - 1))

two_layer = Formula(
    title="Strength of one mode of a two-layer network",
    backs="theory.deep_linear.modes.mode_strength",
    symbol=u,
    arguments=(t, s, u0, lam),
    domain={
        t: Interval(0, 1e3),
        s: Interval(1e-8, 20, log=True),
        u0: Interval(1e-12, 50, log=True),
        lam: Interval(1e-2, 10, log=True),
    },
    expression=_logistic,
    proofs={
        "du/dt = 2 u (s - lam u)": sp.diff(_logistic, t) - 2 * _logistic * (s - lam * _logistic),
        "u(0) = u_0": _logistic.subs(t, 0) - u0,
        "u -> s/lam": sp.limit(_logistic, t, sp.oo) - s / lam,
    },
    source="Saxe, McClelland & Ganguli 2013, eq. 12",
)
