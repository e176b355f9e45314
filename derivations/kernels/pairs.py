"""Gaussian pairs by half their angle: sums, and the lens that a rectifier cuts off, without cancellation."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a1, a2, b1, b2 = sp.symbols("a_1 a_2 b_1 b_2", positive=True)
h, k = sp.symbols("h k", positive=True)
_root = sp.sqrt

# cos(theta) = 1 - 2 h for each of two independent pairs; the sum's from its covariance and variances.
_size = _root((a1 + b1) * (a2 + b2))
_covariance = _root(a1 * a2) * (1 - 2 * h) + _root(b1 * b2) * (1 - 2 * k)
_excess = (_root(a1 * b2) - _root(a2 * b1)) ** 2 / (_size + _root(a1 * a2) + _root(b1 * b2))
_half = (_excess + 2 * _root(a1 * a2) * h + 2 * _root(b1 * b2) * k) / (2 * _size)


def _pair(q1, q2, h):
    return tuple(map(np.asarray, (q1, q2, 1 - 2 * h, h, 1 - h)))


addition = Formula(
    title="Half angle of the sum of two independent Gaussian pairs",
    backs="theory.kernels.pairs.add",
    symbol=sp.Symbol("h_sum"),
    arguments=(a1, a2, b1, b2, h, k),
    domain={x: Interval(1e-3, 1e3, log=True) for x in (a1, a2, b1, b2)}
    | {x: Interval(1e-12, 1, log=True) for x in (h, k)},
    expression=(1 - _covariance / _size) / 2,
    proofs={
        "sqrt((a1+b1)(a2+b2)) - sqrt(a1 a2) - sqrt(b1 b2) is a square over a sum": sp.expand(
            (a1 + b1) * (a2 + b2)
            - (_root(a1 * a2) + _root(b1 * b2)) ** 2
            - sp.expand((_root(a1 * b2) - _root(a2 * b1)) ** 2)
        ),
        "the positive form is the textbook form": lambda: sp.expand(
            sp.radsimp((2 * _size * _half - _size + _covariance) * (_size + _root(a1 * a2) + _root(b1 * b2)))
        ),
    },
    call=lambda a1, a2, b1, b2, h, k: (_pair(a1, a2, h), _pair(b1, b2, k)),
    read=lambda pair: pair.h,
    source="Covariances of independent Gaussians add",
)

_a = 2 * sp.asin(_root(h))
_x = sp.Symbol("x", positive=True)
lens = Formula(
    title="What a rectifier cuts off between nearly parallel inputs",
    backs="theory.kernels.pairs.arc",
    symbol=sp.Symbol("lens"),
    arguments=(h,),
    domain={h: Interval(1e-20, 0.5, log=True)},
    expression=sp.sin(_a) - _a * sp.cos(_a),
    proofs={
        "d/dx (sin x - x cos x) = x sin x": sp.diff(sp.sin(_x) - _x * sp.cos(_x), _x) - _x * sp.sin(_x),
        "cos a = 1 - 2 h": sp.cos(_a) - (1 - 2 * h),
    },
    call=lambda h: (np.float64(h), np.float64(1)),
    read=lambda arc: arc.lens,
    source="Cho & Saul 2009, eq. 6",
)

angle = Formula(
    title="Angle from half its sine",
    backs="theory.kernels.pairs.angle",
    symbol=sp.Symbol("theta"),
    arguments=(h,),
    domain={h: Interval(1e-20, 0.999, log=True)},
    expression=_a,
    proofs={"sin^2(theta/2) = h": sp.sin(_a / 2) ** 2 - h},
    call=lambda h: (np.float64(h), np.float64(1 - h)),
    source="Definition",
)
