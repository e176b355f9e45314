"""Mode connectivity where the path's loss is explicit: a quadratic valley, two minima of a scalar network."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, q, s = sp.symbols("t q s", real=True)
a, b, m = sp.symbols("a b m", real=True, nonzero=True)
H = sp.Matrix([[sp.Symbol("h_11", real=True), sp.Symbol("h_12", real=True)], sp.symbols("h_12 h_22", real=True)])
FIRST = sp.Matrix(sp.symbols("u_1 u_2", real=True))
SECOND = sp.Matrix(sp.symbols("v_1 v_2", real=True))
bend = sp.Symbol("q", positive=True)


def valley(w):
    return (w.T * H * w)[0] / 2


def deviation(loss):
    """Mean of the ends less the loss on the path."""
    return (loss.subs(t, 0) + loss.subs(t, 1)) / 2 - loss


def _parabola():
    """The loss on the path of a quadratic is the parabola with these two numbers."""
    apart = SECOND - FIRST
    curvature, tilt = (apart.T * H * apart)[0], valley(SECOND) - valley(FIRST)
    loss = valley((1 - t) * FIRST + t * SECOND)
    return sp.expand(loss - valley(FIRST) - tilt * t + curvature * t * (1 - t) / 2)


# A parabola with L(1) - L(0) = s and L'' = q, and the point where it differs most from the mean of its ends.
_loss = s * t - bend * t * (1 - t) / 2
_at = sp.Rational(1, 2) - s / bend
_inside = bend / 8 + s**2 / (2 * bend)

parabola = Formula(
    title="Connectivity of a parabolic path",
    backs="theory.lazy_rich.landscape.parabola_connectivity",
    symbol=sp.Symbol("C"),
    arguments=(q, s),
    domain={q: Interval(0.1, 3), s: Interval(-2, 2)},
    expression=sp.Piecewise((q / 8 + s**2 / (2 * q), sp.Abs(s) <= sp.Abs(q) / 2), (sp.Abs(s) / 2, True)),
    proofs={
        "a quadratic loss is a parabola on the path": _parabola,
        "the deviation is stationary inside": sp.diff(deviation(_loss), t).subs(t, _at),
        "and takes this value there": deviation(_loss).subs(t, _at) - _inside,
        "which is more than that of the ends, by a square": _inside - s / 2 - (s - bend / 2) ** 2 / (2 * bend),
        "the stationary point reaches the end at |s| = q/2": _at.subs(s, bend / 2),
        "the two cases meet there": (_inside - s / 2).subs(s, bend / 2),
    },
    source="derived here; mode connectivity of Yang et al. 2021 (arXiv:2107.11228)",
)

_points = {sp.Symbol(name): Interval(-2, 2) for name in ("x_1", "x_2")}
_x = tuple(_points)
_level = sp.Symbol("R", positive=True)

level_set = Formula(
    title="Connectivity of two points of equal loss in a quadratic valley",
    backs="theory.lazy_rich.landscape.quadratic_connectivity",
    symbol=sp.Symbol("C"),
    arguments=(*_x, _level),
    domain={**_points, _level: Interval(0.2, 3)},
    # H = diag(1, R), and the reflection (x_1, x_2) -> (-x_1, x_2), which keeps the loss.
    expression=_x[0] ** 2 / 2,
    proofs={
        "d^T H d / 8 half-way": lambda: sp.expand(
            sum(valley(w) / 2 for w in (FIRST, SECOND))
            - valley((FIRST + SECOND) / 2)
            - ((SECOND - FIRST).T * H * (SECOND - FIRST))[0] / 8
        ),
        "of the reflected point": lambda: ((2 * _x[0]) ** 2 * H[0, 0] / 8).subs(H[0, 0], 1) - _x[0] ** 2 / 2,
    },
    call=lambda x, y, r: (np.diag([1.0, r]), np.array([x, y]), np.array([-x, y])),
    source="derived here",
)


def _network(first, second):
    """Loss of the scalar linear network on the path between two minima."""
    w1 = (1 - t) * first + t * second
    w2 = (1 - t) * m / first + t * m / second
    return (m - w1 * w2) ** 2 / 2


_height = -(m**2) * (a - b) ** 4 / (32 * a**2 * b**2)

scalar_network = Formula(
    title="Connectivity of two minima of a scalar linear network",
    backs="theory.lazy_rich.landscape.scalar_network_connectivity",
    symbol=sp.Symbol("C"),
    arguments=(a, b, m),
    domain={a: Interval(0.3, 3), b: Interval(-3, -0.3), m: Interval(-2, 2)},
    expression=_height,
    proofs={
        "the ends are minima of zero loss": lambda: _network(a, b).subs(t, 0) + _network(a, b).subs(t, 1),
        "the loss half-way": lambda: _network(a, b).subs(t, sp.Rational(1, 2)) + _height,
        # (4 t (1 - t))^2 <= 1: nowhere on the path is the loss higher.
        "the loss on the path is (4 t (1-t))^2 times that": lambda: _network(a, b) + (4 * t * (1 - t)) ** 2 * _height,
        "of a sign flip it is m^2/2, whatever the scale": _height.subs(b, -a) + m**2 / 2,
    },
    source="derived here",
)
