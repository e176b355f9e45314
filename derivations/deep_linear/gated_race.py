"""The race of parallel pathways for one mode, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, s, p, q, c, d = sp.symbols("t s p q c d", positive=True)
u = sp.Symbol("u", positive=True)

_RACE = {
    s: Interval(0.5, 5),
    p: Interval(1e-8, 0.1, log=True),
    q: Interval(1e-8, 0.1, log=True),
    c: Interval(0.1, 1, log=True),
    d: Interval(0.1, 1, log=True),
}


def _growth(start, rate, depth, theta):
    """Strength of a pathway when all have seen the error `theta`."""
    if depth == 2:
        return start * sp.exp(2 * rate * theta)
    power = sp.Rational(2 - depth, depth)
    return (start**power - (depth - 2) * rate * theta) ** (1 / power)


def _residual(depth):
    """du/dtheta = N c u^{2-2/N}, and u = start at theta = 0."""
    theta = sp.Symbol("theta", positive=True)
    if depth == 2:
        v = _growth(p, c, depth, theta)
        return sp.Matrix([sp.diff(v, theta) - 2 * c * v, v.subs(theta, 0) - p])
    # In terms of the base z > 0 of the power.
    z = sp.Symbol("z", positive=True)
    power = sp.Rational(2 - depth, depth)
    slope = sp.diff(z ** (1 / power), z) * (-(depth - 2) * c)
    v = z ** (1 / power)
    return sp.Matrix(
        [sp.powsimp(slope - depth * c * v ** (2 - sp.Rational(2, depth))), sp.simplify((p**power) ** (1 / power) - p)]
    )


def _share(depth, title):
    """The first of two pathways ends at u: theta follows from it, and with it where the second is."""
    if depth == 2:
        theta = sp.log(u / p) / (2 * c)
    else:
        power = sp.Rational(2 - depth, depth)
        theta = (p**power - u**power) / ((depth - 2) * c)
    # In logarithms the law is gentle enough for a secant.
    law = sp.log(u + _growth(q, d, depth, theta)) - sp.log(s)
    return Formula(
        title=title,
        backs="theory.deep_linear.gated_race.race_shares",
        symbol=u,
        arguments=(s, p, q, c, d),
        domain=_RACE
        | (
            {}
            if depth == 2
            else {p: Interval(0.01, 0.1, log=True), q: Interval(1e-4, 0.005, log=True), d: Interval(0.05, 0.1)}
        ),
        law=law,
        proofs={
            "du/dtheta = N c u^(2 - 2/N)": lambda: _residual(depth),
            "the first is at u": lambda: (
                sp.simplify(sp.expand_log(sp.log(_growth(p, c, depth, theta)), force=True) - sp.log(u))
                if depth == 2
                else sp.powdenest(sp.simplify(_growth(p, c, depth, theta)), force=True) - u
            ),
        },
        call=lambda s, p, q, c, d: (s, np.array([p, q]), np.array([c, d]), depth),
        read=lambda result: result[0],
        source="derived from Saxe, Sodhani & Lewallen 2022",
    )


two_layers = _share(2, "Final strength of one of two pathways of two layers")
four_layers = _share(4, "Final strength of one of two pathways of four layers")

_total = p + q
_together = s * _total / (_total + (s - _total) * sp.exp(-2 * c * s * t))
_equal = p / _total * _together

equal_rates = Formula(
    title="Strength of one of two pathways that learn at the same rate",
    backs="theory.deep_linear.gated_race.race_strengths",
    symbol=sp.Function("u_1")(sp.Symbol("t")),
    arguments=(t, s, p, q, c),
    domain={t: Interval(0, 100)} | {k: v for k, v in _RACE.items() if k != d},
    expression=_equal,
    proofs={
        "du/dt = 2 c u (s - sum u)": lambda: sp.simplify(sp.diff(_equal, t) - 2 * c * _equal * (s - _together)),
        "u(0) = p": _equal.subs(t, 0) - p,
    },
    call=lambda t, s, p, q, c: (t, s, np.array([p, q]), np.array([c, c])),
    read=lambda result: result[0],
    source="derived from Saxe, Sodhani & Lewallen 2022",
)
