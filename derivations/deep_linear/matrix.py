"""Exact two-layer solutions and their limits, textbook forms on the smallest networks that show each of them."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, s, a, b, c, gamma = sp.symbols("t s a b c gamma", positive=True)
w, lam = sp.symbols("w lambda", real=True)
_kappa = sp.Symbol("kappa", positive=True)


def _one(x):
    return np.full((1, 1), x)


# A chain of one unit a layer, of any relative scale, on inputs of variance c.
_scale = c * (b**2 - a**2)
_of_kappa = {_kappa: sp.sqrt(s**2 + _scale**2 / 4)}
_F = sp.Matrix([[-_scale / 2, s], [s, _scale / 2]])
_growth = sp.cosh(_kappa * t) * sp.eye(2) + sp.sinh(_kappa * t) / _kappa * _F
_integral = sp.sinh(2 * _kappa * t) / (2 * _kappa) * sp.eye(2) + sp.sinh(_kappa * t) ** 2 / _kappa**2 * _F
_q0 = sp.sqrt(c) * sp.Matrix([a, b])
_q = _growth * _q0
_inner = 1 + (_q0.T * _integral * _q0)[0]
_P = ((_q * _q.T) / (c * _inner)).subs(_of_kappa)
_CHAIN = {
    "F^2 = kappa^2": (_F**2 - _kappa**2 * sp.eye(2)).subs(_of_kappa),
    "dq/dt = F q": lambda: (sp.diff(_q, t) - _F * _q).subs(_of_kappa).expand(),
    "d(1 + q0 J q0)/dt = |q|^2": lambda: (sp.diff(_inner, t) - (_q.T * _q)[0]).subs(_of_kappa).rewrite(sp.exp),
    # With P = q q^T / K these two give dP/dt = F P + P F - c P^2, which is gradient flow:
    "F - c P / 2 is minus the gradient": lambda: (
        _F * sp.Matrix([a, b])
        - c * sp.Matrix([a, b]) * (a**2 + b**2) / 2
        - sp.Matrix([b * (s - c * a * b), a * (s - c * a * b)])
    ),
}
_RANGES = {
    t: Interval(0, 10),
    a: Interval(0.02, 2, log=True),
    b: Interval(0.02, 2, log=True),
    s: Interval(0.05, 3, log=True),
    c: Interval(0.2, 3),
}


def _block(title, symbol, entry, read):
    return Formula(
        title=title,
        backs="theory.deep_linear.matrix.exact_solution",
        symbol=sp.Function(symbol)(t),
        arguments=(t, a, b, s, c),
        domain=_RANGES,
        expression=_P[entry],
        proofs=_CHAIN,
        call=lambda t, a, b, s, c: (t, _one(a), _one(b), _one(s), c),
        read=read,
        source="Fukumizu 1998; Dominé et al. 2024, exact solution of a two-layer network",
    )


network_map = _block("Network map of a chain of any relative scale", "W", (1, 0), lambda x: x.network_map[0, 0])
hidden_similarity = _block(
    "Hidden similarity of a chain of any relative scale", "A", (0, 0), lambda x: x.hidden_similarity[0, 0]
)
output_gram = _block("Output Gram matrix of a chain of any relative scale", "B", (1, 1), lambda x: x.output_gram[0, 0])

# Two modes whose start is turned against the task by an angle, so that they do not decouple (lam = 0).
s2, u0, angle = sp.symbols("s_2 u_0 theta", positive=True)
_R = sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])
_cosh, _sinh = (sp.diag(f(s * t), f(s2 * t)) for f in (sp.cosh, sp.sinh))
_lower, _upper = sp.sqrt(u0) * (_cosh + _sinh * _R), sp.sqrt(u0) * (_sinh + _cosh * _R)
_even = sp.diag(sp.sinh(2 * s * t) / (2 * s), sp.sinh(2 * s2 * t) / (2 * s2))
_odd = sp.diag(sp.sinh(s * t) ** 2 / s, sp.sinh(s2 * t) ** 2 / s2)
_K = sp.eye(2) + u0 * (_even + _R.T * _even * _R + _odd * _R + _R.T * _odd)
# The closed form of the inverse: SymPy's own would be expanded with the entries.
_inverse = sp.Matrix([[_K[1, 1], -_K[0, 1]], [-_K[1, 0], _K[0, 0]]]) / (_K[0, 0] * _K[1, 1] - _K[0, 1] * _K[1, 0])
_W, _A, _B = _upper * _inverse * _lower.T, _lower * _inverse * _lower.T, _upper * _inverse * _upper.T
_S = sp.diag(s, s2)


def _turned(t, s, s2, u0, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return t, np.sqrt(u0) * np.eye(2), np.sqrt(u0) * turn, np.diag([s, s2])


def _entries(w, a, b):
    """Diagonal and off-diagonal entries in one number that cannot cancel: |W_ij| <= (A_jj + B_ii) / 2."""
    return a[0, 0] + a[1, 1] + b[0, 0] + b[1, 1] + w[0, 1] + w[1, 0] / 2


turned = Formula(
    title="Two modes from a start that is turned against the task",
    backs="theory.deep_linear.matrix.exact_solution",
    symbol=sp.Function("P")(t),
    arguments=(t, s, s2, u0, angle),
    domain={
        t: Interval(0, 8),
        s: Interval(0.1, 3),
        s2: Interval(0.1, 3),
        u0: Interval(1e-4, 1, log=True),
        angle: Interval(0, 1.5),
    },
    expression=_entries(_W, _A, _B),
    proofs={
        "dX1/dt = S X2": lambda: sp.diff(_lower, t) - _S * _upper,
        "dX2/dt = S X1": lambda: sp.diff(_upper, t) - _S * _lower,
        "dK/dt = X1^T X1 + X2^T X2": lambda: (sp.diff(_K, t) - _lower.T * _lower - _upper.T * _upper).applyfunc(
            lambda entry: entry.rewrite(sp.exp).expand()
        ),
        "K(0) = I": _K.subs(t, 0) - sp.eye(2),
    },
    call=_turned,
    read=lambda x: _entries(x.network_map, x.hidden_similarity, x.output_gram),
    source="Braun, Dominé, Fitzgerald & Saxe 2022, exact solution from balanced starts",
)

_final = (sp.sqrt(_scale**2 + 4 * s**2) - _scale) / (2 * c)
_end = sp.Matrix([sp.sqrt(_final), s / c / sp.sqrt(_final)])

final_similarity = Formula(
    title="Hidden similarity of a chain at the end of learning",
    backs="theory.deep_linear.matrix.final_solution",
    symbol=sp.Symbol("A_infinity"),
    arguments=(a, b, s, c),
    domain={k: v for k, v in _RANGES.items() if k != t},
    expression=_final,
    proofs={
        "the relative scale is kept": lambda: sp.radsimp(_end[1] ** 2 - _end[0] ** 2 - (b**2 - a**2)),
        "the map is s / c": lambda: _end[0] * _end[1] - s / c,
    },
    call=lambda a, b, s, c: (_one(a), _one(b), _one(s), c),
    read=lambda x: x.hidden_similarity[0, 0],
    source="the conserved relative scale at W = Syx / c",
)

scale = Formula(
    title="Relative scale of a chain",
    backs="theory.deep_linear.matrix.relative_scale",
    symbol=lam,
    arguments=(a, b),
    domain={a: Interval(0.1, 1), b: Interval(1.5, 3)},
    expression=b**2 - a**2,
    proofs={"gradient flow conserves it": 2 * b * a * (s - a * b) - 2 * a * b * (s - a * b)},
    call=lambda a, b: (_one(a), _one(b)),
    source="Dominé et al. 2024, definition of lambda-balanced weights",
)


def _loss(w):
    return -w * s + c * w**2 / 2


excess = Formula(
    title="Loss above its minimum",
    backs="theory.deep_linear.matrix.excess_loss",
    symbol=sp.Symbol("L - min L"),
    arguments=(w, s, c),
    domain={w: Interval(-3, -0.1), s: _RANGES[s], c: _RANGES[c]},
    expression=c / 2 * (w - s / c) ** 2,
    proofs={"L(w) - L(s/c)": sp.expand(_loss(w) - _loss(s / c) - c / 2 * (w - s / c) ** 2)},
    call=lambda w, s, c: (_one(w), _one(s), c),
    source="completing the square",
)

_positive = sp.Symbol("lambda", positive=True)
_lazy = s / c + (w - s / c) * sp.exp(-c * _positive * t)

lazy = Formula(
    title="Lazy limit of the network map",
    backs="theory.deep_linear.matrix.lazy_map",
    symbol=sp.Function("W")(t),
    arguments=(t, w, s, _positive, c),
    domain={
        t: Interval(0, 10),
        w: Interval(0.01, 0.05),
        s: Interval(0.3, 3),
        _positive: Interval(0, 50),
        c: _RANGES[c],
    },
    expression=_lazy,
    proofs={
        "dW/dt = lam (s - c W)": sp.diff(_lazy, t) - _positive * (s - c * _lazy),
        "W(0) = w": _lazy.subs(t, 0) - w,
    },
    call=lambda t, w, s, lam, c: (t, _one(w), _one(s), lam, c),
    read=lambda x: x[0, 0],
    source="Dominé et al. 2024, lazy regime",
)

_lift = sp.exp(2 * s**2 * t / (c * _positive))
_share = a**2 * _lift / (a**2 * _lift + b**2)

delayed = Formula(
    title="Delayed-rich limit of the network map: two outputs, of which one is asked for",
    backs="theory.deep_linear.matrix.delayed_rich_map",
    symbol=sp.Function("W")(t),
    arguments=(t, a, b, s, _positive, c),
    domain=_RANGES | {_positive: Interval(0.5, 100, log=True)},
    expression=s / c * _share,
    proofs={
        "the span turns as d Pi/dt = (I - Pi) M Pi + Pi M (I - Pi)": (
            sp.diff(_share, t) - 2 * s**2 / (c * _positive) * _share * (1 - _share)
        ),
        "Pi(0) is the span of W2(0)": _share.subs(t, 0) - a**2 / (a**2 + b**2),
    },
    call=lambda t, a, b, s, lam, c: (t, np.array([[a], [b]]), np.array([[s], [0.0]]), lam, c),
    read=lambda x: x[0, 0],
    source="the slow manifold of the exact solution",
)

# The mixed dynamics of one mode are those of one unbalanced pair of layers that starts at a = 0, b = sqrt(2 gamma).
_pair = {a: 0, b: sp.sqrt(2 * gamma)}
_mixed = ((_q[0] * _q[1]) / (c * _inner)).subs(_of_kappa).subs(_pair)
_u, _v = sp.symbols("a_1 b_1", positive=True)

wide = Formula(
    title="Mixed dynamics of one mode in a very wide network",
    backs="theory.deep_linear.matrix.wide_solution",
    symbol=sp.Function("W")(t),
    arguments=(t, s, gamma, c),
    domain={t: Interval(0.1, 4), s: Interval(0.3, 3), gamma: Interval(0.05, 1), c: _RANGES[c]},
    expression=_mixed,
    proofs=_CHAIN
    | {
        # du/dt = (a^2 + b^2)(s - c u) with u = a b, and a^2 + b^2 = 2 sqrt(u^2 + gamma^2) where b^2 - a^2 = 2 gamma:
        "a^2 + b^2 = 2 sqrt(u^2 + gamma^2)": sp.expand(
            (_u**2 + _v**2) ** 2 - 4 * (_u * _v) ** 2 - (_v**2 - _u**2) ** 2
        ),
    },
    call=lambda t, s, gamma, c: (np.array([t]), _one(s), gamma, c),
    read=lambda x: x.network_map[0, 0, 0],
    source="Tu, Aranguri & Jacot 2024, mixed dynamics, for one mode",
)
