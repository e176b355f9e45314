"""Unbalanced modes of deeper networks: the conserved imbalances, the quadrature, and where it is elementary."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, s, lam, x, c1, c2, start, end = sp.symbols("t s lambda x c_1 c_2 x_0 x_1", positive=True)
a1, a2, a3 = sp.symbols("a_1 a_2 a_3", real=True)

_SOURCE = "Saxe, McClelland & Ganguli 2013, section on deeper networks"


def _rates():
    """da_l/dt of three layers."""
    layers = (a1, a2, a3)
    u = sp.prod(layers)
    return [sp.prod(a for a in layers if a != b) * (s - lam * u) for b in layers]


def _reduction():
    """a_2 = sqrt(x^2 + c_1) moves as its own equation says, if the weakest layer x does."""
    others = sp.sqrt(x**2 + c1), sp.sqrt(x**2 + c2)
    pull = s - lam * x * sp.prod(others)
    return sp.simplify(sp.diff(others[0], x) * sp.prod(others) * pull - x * others[1] * pull)


_q = sp.sqrt((x**2 + c1) * (x**2 + c2))
_integrand = 1 / (_q * (s - lam * x * _q))


def _strength(x, c1, c2):
    return x * np.sqrt((x**2 + c1) * (x**2 + c2))


three_layers = Formula(
    title="Time at which an unbalanced three-layer mode passes a strength",
    backs="theory.deep_linear.unbalanced_depth.learning_time",
    symbol=t,
    arguments=(start, end, c1, c2, s),
    # `end` is how much the weakest layer has grown; the strength stays below its final value throughout.
    domain={
        start: Interval(0.05, 0.3),
        end: Interval(0.01, 0.3),
        c1: Interval(1e-2, 0.5, log=True),
        c2: Interval(0.01, 0.5, log=True),
        s: Interval(1, 5),
    },
    expression=sp.Integral(_integrand.subs(lam, 1), (x, start, start + end)),
    proofs={
        "a_2^2 - a_1^2 is conserved": lambda: sp.expand(2 * a2 * _rates()[1] - 2 * a1 * _rates()[0]),
        "a_3^2 - a_1^2 is conserved": lambda: sp.expand(2 * a3 * _rates()[2] - 2 * a1 * _rates()[0]),
        "one layer moves all": _reduction,
        "dt/dx is the inverse of dx/dt": sp.simplify(_integrand * _q * (s - lam * x * _q)) - 1,
    },
    call=lambda start, end, c1, c2, s: (
        _strength(start + end, c1, c2),
        np.array([np.sqrt(start**2 + c1), start, np.sqrt(start**2 + c2)]),
        s,
    ),
    source=_SOURCE,
)

# Four equal layers: elementary in y = sqrt(u), by partial fractions of dt = dy / (2 y^2 (s - y^2)).
y, y0 = sp.symbols("y y_0", positive=True)


def _elementary(y):
    return (sp.log((sp.sqrt(s) + y) / (sp.sqrt(s) - y)) / (2 * sp.sqrt(s)) - 1 / y) / (2 * s)


four_equal_layers = Formula(
    title="Square of the layers of a balanced four-layer mode",
    backs="theory.deep_linear.unbalanced_depth.layer_strengths",
    symbol=y,
    arguments=(t, s, y0),
    domain={t: Interval(0, 10), s: Interval(0.5, 3), y0: Interval(0.1, 0.6)},
    # ln[(sqrt(s) + y) / (sqrt(s) - y)] solved for what stays finite as y -> sqrt(s).
    law=sp.sqrt(s) - y - (sp.sqrt(s) + y) * sp.exp(-2 * sp.sqrt(s) * (2 * s * (t + _elementary(y0)) + 1 / y)),
    proofs={
        "dy/dt = 2 y^2 (s - y^2)": sp.simplify(sp.diff(_elementary(y), y) - 1 / (2 * y**2 * (s - y**2))),
        "the law, from t = f(y) - f(y_0)": sp.simplify(
            2 * sp.sqrt(s) * (2 * s * _elementary(y) + 1 / y) - sp.log((sp.sqrt(s) + y) / (sp.sqrt(s) - y))
        ),
        "y is the square of each layer": sp.expand(2 * x * x**3 * (s - x**4) - (2 * y**2 * (s - y**2)).subs(y, x**2)),
    },
    call=lambda t, s, y0: (t, np.full(4, np.sqrt(y0)), s),
    read=lambda layers: layers[0] ** 2,
    source=_SOURCE,
)

_sinking = start / (1 + 4 * lam * start**4 * t) ** sp.Rational(1, 4)

three_equal_layers = Formula(
    title="Layers of a balanced three-layer mode that is to be unlearned, s = 0",
    backs="theory.deep_linear.unbalanced_depth.layer_strengths",
    symbol=sp.Function("a")(t),
    arguments=(t, start, lam),
    domain={t: Interval(0, 1e5), start: Interval(0.05, 3, log=True), lam: Interval(0.1, 10, log=True)},
    expression=_sinking,
    proofs={
        "da/dt = -lam a^5": sp.diff(_sinking, t) + lam * _sinking**5,
        "a(0) = x_0": _sinking.subs(t, 0) - start,
    },
    call=lambda t, start, lam: (t, np.full(3, start), 0.0, lam),
    read=lambda layers: layers[1],
    source=_SOURCE,
)
