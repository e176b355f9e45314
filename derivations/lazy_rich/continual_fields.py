"""Field-space training: one sample and one weight at the minimum of the free energy, and what they do to each other."""

import sympy as sp

from derivations.formula import Formula, Interval

s, omega, theta, drive, c, m, h = sp.symbols("s omega theta drive c m h", real=True)
push, V, N = sp.symbols("X V N", positive=True)


def Phi(x):
    return sp.erfc(-x / sp.sqrt(2)) / 2


def kappa(u):
    return sp.exp(-(u**2) / 2) / sp.sqrt(2 * sp.pi) / Phi(u)


_loss = -sp.log(Phi(s / sp.sqrt(V)))
_g = kappa(s / sp.sqrt(V)) / sp.sqrt(V)
_u = s / sp.sqrt(V)
_slope = -kappa(_u) * (kappa(_u) + _u) / V


def _response():
    """dg/d omega along s = omega + X g(s) is g' / (1 - X g')."""
    along = sp.diff(s - push * _g, s)
    return sp.simplify(sp.diff(_g, s) / along - _slope / (1 - push * _slope))


def _own_mark():
    """Two weights, one sample: the variance V = 1 - |m|^2 / N adds 2 Lambda m_1 to the slope in m_1."""
    m1, m2, x1, x2 = sp.symbols("m_1 m_2 x_1 x_2", real=True)
    margin, variance = x1 * m1 + x2 * m2, 1 - (m1**2 + m2**2) / N
    loss = _loss.subs({s: margin, V: variance}, simultaneous=True)
    at = {s: margin, V: variance}
    direct = -_g.subs(at, simultaneous=True) * x1
    # kappa(u) u / (2 V) is d loss / dV; the weight's share of V is -m_1^2 / N.
    through = -2 * m1 / N * (kappa(_u) * _u / (2 * V)).subs(at, simultaneous=True)
    return sp.simplify(sp.diff(loss, m1) - direct - through)


settled_margin = Formula(
    title="Margin of a sample that was learned",
    backs="theory.lazy_rich.continual_fields.settled_margin",
    symbol=s,
    arguments=(omega, push, V),
    domain={omega: Interval(-3, 3), push: Interval(0.02, 1), V: Interval(0.1, 1)},
    # The root is compared 10 above, away from zero.
    law=(s - 10) - omega - push * _g.subs(s, s - 10),
    proofs={
        "minimum of -ln Phi + (s - omega)^2 / (2 X)": lambda: sp.simplify(
            push * sp.diff(_loss + (s - omega) ** 2 / (2 * push), s) - (s - omega - push * _g)
        ),
        "slope of the force": lambda: sp.simplify(sp.diff(_g, s) - _slope),
        "response": _response,
        "through the variance": _own_mark,
    },
    read=lambda margin: margin + 10,
    source="derived here",
)

_cost = (1 + m) / 2 * sp.log(1 + m) + (1 - m) / 2 * sp.log(1 - m) - drive * m + c * m**2 / 2

settled_field = Formula(
    title="Field of a weight that pulls back on itself",
    backs="theory.lazy_rich.continual_fields.settled_field",
    symbol=theta,
    arguments=(drive, c),
    domain={drive: Interval(0.1, 4), c: Interval(-0.5, 3)},
    law=theta + c * sp.tanh(theta) - drive,
    proofs={
        "minimum of the price of m, less its drive, and (c/2) m^2": lambda: sp.simplify(
            sp.diff(_cost, m) - (sp.atanh(m).rewrite(sp.log) + c * m - drive)
        ),
        "the price is theta m - ln cosh theta": lambda: sp.simplify(
            sp.expand_log(
                ((_cost + drive * m - c * m**2 / 2) - (sp.atanh(m) * m).rewrite(sp.log) - sp.log(1 - m**2) / 2).subs(
                    m, sp.Rational(1, 3)
                ),
                force=True,
            )
        ),
        "susceptibility dm / ddrive": lambda: sp.simplify(
            (1 - m**2) / (1 + c * (1 - m**2)) - 1 / sp.diff(sp.atanh(m) + c * m, m)
        ),
    },
    source="derived here",
)
