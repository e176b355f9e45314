"""Item-property maps of deep and shallow networks, textbook forms on the table [[a, b], [b, a]]."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, a, b, u0, lam, w0 = sp.symbols("t a b u_0 lambda w_0", positive=True)
T = sp.Symbol("T")


def _u(s):
    """Strength of a mode."""
    return s * u0 / (u0 + (s - u0) * sp.exp(-2 * lam * s * t))


# Sums and differences of the two items are the modes: s = a + b and s = a - b.
_sum, _difference = _u(a + b), _u(a - b)
_same, _other = (_sum + _difference) / 2, (_sum - _difference) / 2
_table = sp.Matrix([[a, b], [b, a]])
_map = sp.Matrix([[_same, _other], [_other, _same]])


def _square_table(a, b):
    return np.array([[a, b], [b, a]])


_DOMAIN = {
    t: Interval(0, 1e2),
    a: Interval(1.0, 3.0),
    b: Interval(0.01, 0.9),
    u0: Interval(1e-9, 1e-2, log=True),
    lam: Interval(0.1, 1.0),
}

deep = Formula(
    title="Entries of the map of a two-layer network",
    backs="theory.deep_linear.illusory_correlations.item_property_map",
    symbol=2 * sp.Symbol("Yhat_11") + sp.Symbol("Yhat_12"),
    arguments=(t, a, b, u0, lam),
    domain=_DOMAIN,
    expression=2 * _same + _other,
    proofs={
        "dW/dt = lam [(W W^T)^(1/2) (Y - W) + (Y - W) (W^T W)^(1/2)], W symmetric": lambda: (
            sp.diff(_map, t) - lam * (_map * (_table - _map) + (_table - _map) * _map)
        ).applyfunc(sp.simplify),
        "W(0) = u_0 I": (_map.subs(t, 0) - u0 * sp.eye(2)).applyfunc(sp.simplify),
        "each strength ends at its singular value": sp.limit(_u(w0), t, sp.oo) - w0,
    },
    call=lambda t, a, b, u0, lam: (t, _square_table(a, b), u0, lam),
    read=lambda result: 2 * result[0, 0] + result[0, 1],
    source="Saxe, McClelland & Ganguli 2013, eq. 12",
)

hidden = Formula(
    title="Similarities S = W_1^T W_1 of the hidden representations of two items",
    backs="theory.deep_linear.illusory_correlations.item_similarity",
    symbol=2 * sp.Symbol("S_11") + sp.Symbol("S_12"),
    arguments=(t, a, b, u0, lam),
    domain=_DOMAIN,
    expression=2 * _same + _other,
    proofs={
        "balanced layers: (W_1^T W_1)^2 = W^T W": (_map * _map - _map.T * _map).applyfunc(sp.simplify),
        "d(W_1^T W_1)/dt = lam [W^T (Y - W) + (Y - W)^T W]": lambda: (
            sp.diff(_map, t) - lam * (_map.T * (_table - _map) + (_table - _map).T * _map)
        ).applyfunc(sp.simplify),
    },
    call=lambda t, a, b, u0, lam: (t, _square_table(a, b), u0, lam),
    read=lambda result: 2 * result[0, 0] + result[0, 1],
    source="Saxe, McClelland & Ganguli 2019",
)

_shallow = b + (w0 - b) * sp.exp(-lam * t)

shallow = Formula(
    title="An entry of the map of a network without hidden layer",
    backs="theory.deep_linear.illusory_correlations.shallow_map",
    symbol=sp.Symbol("Yhat_12"),
    arguments=(t, a, b, w0, lam),
    domain={**{k: v for k, v in _DOMAIN.items() if k != u0}, w0: Interval(-1, 1)},
    expression=_shallow,
    proofs={
        "dW/dt = lam (Y - W)": sp.diff(_shallow, t) - lam * (b - _shallow),
        "W(0) = w_0": _shallow.subs(t, 0) - w0,
    },
    call=lambda t, a, b, w0, lam: (t, _square_table(a, b), w0, lam),
    read=lambda result: result[0, 1],
    source="Saxe, McClelland & Ganguli 2013",
)

_velocity = _sum * (a + b - _sum) - _difference * (a - b - _difference)

peak_time = Formula(
    title="When an illusory correlation is strongest",
    backs="theory.deep_linear.illusory_correlations.illusory_peaks",
    symbol=T,
    arguments=(a, b, u0, lam),
    domain={k: v for k, v in _DOMAIN.items() if k != t},
    law=_velocity.subs(t, T),
    proofs={"the entry stands still": lambda: sp.simplify(sp.diff(_other, t) - lam * _velocity)},
    call=lambda a, b, u0, lam: (_square_table(a, b), u0, lam),
    read=lambda result: result.time[0, 1],
    source="Saxe, McClelland & Ganguli 2019",
)
