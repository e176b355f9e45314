"""Pathways of gated deep linear networks and the routing task, textbook forms."""

import itertools

import mpmath
import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, s, b0, f, M, K, e, y, c1, c2, c3 = sp.symbols("t s b_0 f M K e y c_1 c_2 c_3", positive=True)
b1, b2, b3, b = sp.symbols("b_1 b_2 b_3 b", positive=True)
w1, w2, w3, gamma = sp.symbols("w_1 w_2 w_3 gamma", real=True)


# The routing task in one mode: M inputs a_i, the shared layer b, M outputs c_o, trained pairs on a ring.
def _routing_loss(domains, partners):
    a, c = sp.symbols(f"a:{domains}"), sp.symbols(f"c:{domains}")
    pairs = [(i, (i + k) % domains) for i in range(domains) for k in range(partners)]
    loss = sum((s - c[o] * b * a[i]) ** 2 for i, o in pairs) / 2 / domains**2
    return loss, a, c


def _routing_residual():
    """The gradient of the loss at equal domains, less the reduced equations, for several M and K."""
    left = []
    for domains, partners in itertools.product((2, 3), (1, 2)):
        loss, a, c = _routing_loss(domains, partners)
        equal = {x: b1 for x in a} | {x: b3 for x in c} | {b: b2}
        error = s - b1 * b2 * b3
        outer, inner = sp.Rational(partners, domains**2), sp.Rational(partners, domains)
        left += [
            -sp.diff(loss, a[0]).subs(equal) - outer * b2 * b3 * error,
            -sp.diff(loss, b).subs(equal) - inner * b1 * b3 * error,
            -sp.diff(loss, c[0]).subs(equal) - outer * b1 * b2 * error,
        ]
    return sp.Matrix([sp.expand(x) for x in left])


rates = Formula(
    title="Rate of the shared layer of the routing network",
    backs="theory.deep_linear.gated.routing_rates",
    symbol=sp.Symbol("c_2"),
    arguments=(M, K),
    domain={M: Interval(3, 100), K: Interval(1, 3)},
    expression=K / M,
    proofs={"the gradient of the loss over trained pairs": _routing_residual},
    read=lambda result: result[1],
    source="Saxe, Sodhani & Lewallen 2022, routing task",
)

# Equal starts: b1^2 = b3^2 = (b2^2 + (M-1) b0^2) / M. Arguments: the shared layer ends at b0 + e, the pair at f s.
_outer_squared = (b**2 + (M - 1) * b0**2) / M
_ode = K / M * _outer_squared * (s - b * _outer_squared)
_reached = ((b0 + e) * _outer_squared.subs(b, b0 + e)) / f
_time = sp.Integral(1 / _ode.subs(s, _reached), (b, b0, b0 + e))
_ROUTE = {
    f: Interval(0.05, 0.95),
    b0: Interval(0.02, 0.5, log=True),
    e: Interval(0.02, 3.0, log=True),
    M: Interval(1, 30),
    K: Interval(1, 1),
}
_conserved = {b1: sp.sqrt(_outer_squared), b2: b, b3: sp.sqrt(_outer_squared)}


def _reduced(symbol, rate, others):
    """Whether b_l(b2) follows its own equation: db_l/db2 db2/dt = rate (others) (s - u)."""
    value = _conserved[symbol]
    product = sp.prod([_conserved[o] for o in others])
    return sp.simplify(sp.diff(value, b) * _ode - rate * product * (s - b * _outer_squared))


_reductions = {
    "b_2' = (K/M) b_1 b_3 (s - u)": lambda: _reduced(b2, K / M, (b1, b3)),
    "b_1' = (K/M^2) b_2 b_3 (s - u)": lambda: _reduced(b1, K / M**2, (b2, b3)),
    "b_3' = (K/M^2) b_1 b_2 (s - u)": lambda: _reduced(b3, K / M**2, (b1, b2)),
    "all start at b_0": _conserved[b1].subs(b, b0) - b0,
}


def _numbers(f, b0, e, m):
    """(end of the shared layer, strength to learn) in the arguments' own precision."""
    end = b0 + e
    return end, end * (end**2 + (m - 1) * b0**2) / m / f


learning_time = Formula(
    title="When the routing network has learned a fraction of a mode",
    backs="theory.deep_linear.gated.pathway_time",
    symbol=sp.Symbol("t_f"),
    arguments=(f, b0, e, M),
    domain=_ROUTE,
    expression=_time.subs(K, 1),
    proofs=_reductions,
    call=lambda f, b0, e, m: (
        f,
        _numbers(f, b0, e, m)[1],
        np.full(3, b0),
        np.array([1 / m**2, 1 / m, 1 / m**2]),
    ),
    source="Saxe, Sodhani & Lewallen 2022, routing task",
)


def _arrival(f, b0, e, m):
    """The time at which the shared layer is at b0 + e, and the other arguments of `routing_strengths`."""
    with mpmath.workdps(30):
        exact = [mpmath.mpf(x) for x in (f, b0, e, m)]
        end, s = _numbers(*exact)

        def pace(b):
            outer = (b**2 + (exact[3] - 1) * exact[1] ** 2) / exact[3]
            return exact[3] / (outer * (s - b * outer))

        time = mpmath.quad(pace, [exact[1], end])
    return float(time), float(s), b0, m, 1.0


strengths = Formula(
    title="Strength of the shared layer of the routing network",
    backs="theory.deep_linear.gated.routing_strengths",
    symbol=sp.Function("b_2")(sp.Symbol("t")),
    arguments=(f, b0, e, M),
    domain=_ROUTE,
    expression=b0 + e,
    proofs=_reductions,
    call=_arrival,
    read=lambda result: result[1],
    source="Saxe, Sodhani & Lewallen 2022, routing task",
)

# Two layers of different rates: with g = sqrt(c1 c2), beta = b / sqrt(c) is an unbalanced mode of strength s / g in
# time g^2 t, whose square-root form has hyperbolic functions.
_g, _x1, _x2 = sp.sqrt(c1 * c2), b1 / sp.sqrt(c1), b2 / sp.sqrt(c2)
_imbalance = _x2**2 - _x1**2
_kappa = sp.sqrt((s / _g) ** 2 + _imbalance**2 / 4)
_cosh, _sinh = sp.cosh(_kappa * _g**2 * t), sp.sinh(_kappa * _g**2 * t) / _kappa
_up = _x1 * _cosh + (s / _g * _x2 - _imbalance * _x1 / 2) * _sinh
_down = _x2 * _cosh + (s / _g * _x1 + _imbalance * _x2 / 2) * _sinh
# 1/2 d/dt of (1 + int (up^2 + down^2)) closes the equations: up' = -Lam/2 up + s down, K' = up^2 + down^2.
_norm = (
    1
    + (_x1**2 + _x2**2) * (sp.sinh(2 * _kappa * _g**2 * t) / (2 * _kappa))
    + (_imbalance**2 / 2 + 2 * s / _g * _x1 * _x2) * _sinh**2
)
_two = sp.sqrt(c1) * _up / sp.sqrt(_norm)


def _linear_residual():
    q = sp.symbols("q", positive=True)
    plain = {_g: q}
    up, down = _up.subs(plain), _down.subs(plain)
    return sp.expand(sp.simplify(sp.diff(_up, t) / _g**2 - (-_imbalance / 2 * _up + s / _g * _down)) + 0 * (up + down))


def _norm_residual():
    """K' = up^2 + down^2, so that up / sqrt K solves a' = -Lam/2 a + s b - a (a^2 + b^2) / 2 = b (s - a b)."""
    z = sp.Symbol("z", positive=True)
    left = (sp.diff(_norm, t) / _g**2 - _up**2 - _down**2).rewrite(sp.exp)
    return sp.simplify(sp.expand(left.subs(t, z / (_kappa * _g**2))))


two_layers = Formula(
    title="Strength of the first of two layers that learn at different rates",
    backs="theory.deep_linear.gated.pathway_strengths",
    symbol=sp.Function("b_1")(sp.Symbol("t")),
    arguments=(t, s, b1, b2, c1, c2),
    domain={
        t: Interval(0, 60),
        s: Interval(0.3, 3),
        b1: Interval(0.01, 2, log=True),
        b2: Interval(0.01, 2, log=True),
        c1: Interval(0.05, 1, log=True),
        c2: Interval(0.05, 1, log=True),
    },
    expression=_two,
    proofs={
        "up' = -(Lam/2) up + s down": _linear_residual,
        "K' = up^2 + down^2": _norm_residual,
        "b_1(0)": _two.subs(t, 0) - b1,
    },
    call=lambda t, s, b1, b2, c1, c2: (t, s, np.array([b1, b2]), np.array([c1, c2])),
    read=lambda result: result[0],
    source="Saxe, Sodhani & Lewallen 2022; two layers: Fukumizu 1998",
)

_arc = sp.sqrt(M - 1) * b0
_plateau = M**2 / (K * s * b0) * sp.atan(sp.sqrt(M - 1)) / sp.sqrt(M - 1)

plateau = Formula(
    title="Leading time of the routing network from a small start",
    backs="theory.deep_linear.gated.routing_plateau",
    symbol=sp.Symbol("t"),
    arguments=(s, b0, M, K),
    domain={s: Interval(0.1, 10), b0: Interval(1e-6, 0.1, log=True), M: Interval(1 + 1e-9, 1000), K: Interval(1, 1)},
    expression=_plateau,
    proofs={
        "dt/db_2 = M^2 / (K s (b_2^2 + (M-1) b_0^2))": lambda: sp.simplify(
            sp.diff(M**2 / (K * s * _arc) * sp.atan(b / _arc), b) - M**2 / (K * s * (b**2 + (M - 1) * b0**2))
        ),
        "from b_0 to infinity: tan(pi/2 - arctan(b_0 / arc)) = sqrt(M - 1)": sp.simplify(
            sp.tan(sp.pi / 2 - sp.atan(b0 / _arc)) - sp.sqrt(M - 1)
        ),
        "one domain: b' = K b^2 s": sp.limit(_plateau, M, 1, "+") - 1 / (K * s * b0),
    },
    source="derived from the routing equations of Saxe, Sodhani & Lewallen 2022",
)

# Two pathways that share their first edge: w2 w1 behind one gate, w3 w1 behind the other, open together in a
# fraction gamma of the examples. One input, one output; y = s x, <x^2> = 1; each gate is open in half of them.
_both, _single = gamma, sp.Rational(1, 2) - gamma
_loss = (_single * (s - w2 * w1) ** 2 + _single * (s - w3 * w1) ** 2 + _both * (s - w2 * w1 - w3 * w1) ** 2) / 2
_gradient = w2 * (s / 2 - w2 * w1 / 2 - gamma * w3 * w1) + w3 * (s / 2 - w3 * w1 / 2 - gamma * w2 * w1)

shared_edge = Formula(
    title="Velocity of an edge that two pathways share",
    backs="theory.deep_linear.gated.pathway_velocity",
    symbol=sp.Derivative(sp.Function("w_1")(sp.Symbol("t")), sp.Symbol("t")),
    arguments=(w1, w2, w3, s, gamma),
    domain={
        w1: Interval(0.1, 1),
        w2: Interval(0.1, 0.4),
        w3: Interval(0.1, 0.4),
        s: Interval(2, 3),
        gamma: Interval(0, 0.5),
    },
    expression=_gradient,
    proofs={"minus the gradient of the loss": lambda: sp.expand(-sp.diff(_loss, w1) - _gradient)},
    call=lambda w1, w2, w3, s, gamma: (
        [np.array([[w]]) for w in (w1, w2, w3)],
        [(0, 1), (0, 2)],
        [np.array([[s / 2]])] * 2,
        {(p, q): np.array([[0.5 if p == q else gamma]]) for p in (0, 1) for q in (0, 1)},
    ),
    read=lambda result: result[0][0, 0],
    source="Saxe, Sodhani & Lewallen 2022",
)
