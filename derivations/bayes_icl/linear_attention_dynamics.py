"""Learning of linear attention: slopes of the best layer's risk by heads, a logistic drop, and a staircase."""

import numpy as np
import sympy as sp

from derivations.bayes_icl.linear_attention import A, S, W, n, noise, q, r, risk, t1, t2, v1, v2
from derivations.formula import Formula, Interval

t, p0, s, w, x, u0, u = sp.symbols("t p_0 s tau^2 x u_0 u", positive=True)
va, vb = sp.symbols("v_a v_b", real=True)
SOURCE = "Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265)"

# Inputs and tasks with their principal directions in common.
ALONG = {r: 0, q: 0}
WHITE = {v1: s, v2: s, t1: w, t2: w, **ALONG}
_p, _v = sp.symbols("p v", positive=True)

RATE = 4 * sp.sqrt(2) * s**2 * w
END = sp.sqrt(2) / (s * (1 + (3 + noise / (s * w)) / n))
DROP = END / (1 + (END / p0 - 1) * sp.exp(-RATE * t))


def _logistic():
    """A balanced head U = u I / sqrt 2, v = u, moves down the slope of the risk: p = v u."""
    loss = risk(_v * u / sp.sqrt(2) * sp.eye(2), n).subs(WHITE)
    speed = (-sp.diff(loss, _v) * u - sp.diff(loss, u) * _v).subs({_v: sp.sqrt(_p), u: sp.sqrt(_p)})
    pace = sp.diff(DROP, t) - speed.subs(_p, DROP)
    return sp.Matrix([sp.simplify(pace), sp.simplify(DROP.subs(t, 0) - p0)])


def _keeps_its_direction():
    """The slope by the whole matrix U, at U ~ I, is along I."""
    slope = risk(_v * A, n).diff(A).subs(WHITE).subs([(A[0, 0], u), (A[1, 1], u), (A[0, 1], 0), (A[1, 0], 0)])
    return sp.Matrix([slope[0, 1], slope[1, 0], sp.expand(slope[0, 0] - slope[1, 1])])


_white_domain = {
    p0: Interval(1e-6, 0.1, log=True),
    s: Interval(0.1, 3),
    n: Interval(1, 100),
    w: Interval(0.3, 3),
    noise: Interval(0, 3),
}

drop = Formula(
    title="Abrupt drop for white inputs of dimension two",
    backs="theory.bayes_icl.linear_attention_dynamics.white_drop",
    symbol=sp.Symbol("p"),
    arguments=(t, p0, s, n, w, noise),
    domain={t: Interval(0, 20), **_white_domain},
    expression=DROP,
    proofs={"gradient flow of a balanced head": _logistic, "direction": _keeps_its_direction},
    call=lambda t, p0, s, n, w, noise: (t, p0, 2, s, n, w, noise),
    source=SOURCE,
)

half = Formula(
    title="Moment of the abrupt drop",
    backs="theory.bayes_icl.linear_attention_dynamics.white_half_time",
    symbol=t,
    arguments=(p0, s, n, w, noise),
    domain=_white_domain | {p0: Interval(1e-6, 0.02, log=True)},
    expression=sp.log(END / p0 - 1) / RATE,
    proofs={
        "half of the way": lambda: sp.simplify(DROP.subs(t, sp.log(END / p0 - 1) / RATE) / END - sp.Rational(1, 2))
    },
    call=lambda p0, s, n, w, noise: (p0, 2, s, n, w, noise),
    source=SOURCE,
)

C = S * W * S
_size = sp.sqrt(sum(one**2 for one in C))
_along = (C[0, 0] * A[0, 0] + C[0, 1] * A[0, 1] + C[1, 0] * A[1, 0] + C[1, 1] * A[1, 1]) / _size


def _saddle():
    """Near zero weights -dR/dv = 2 |C| u and -du/dt's slope is 2 |C| v along C: v + u grows at 2 |C|."""
    loss = risk(_v * A.T, n)
    of_value = sp.expand(-sp.diff(loss, _v).subs(_v, 0) - 2 * _size * _along)
    slope = (-loss.diff(A)).applyfunc(lambda one: sp.expand(one).coeff(_v, 1))
    of_scores = (slope - 2 * C).applyfunc(sp.expand)
    return sp.Matrix([sp.simplify(of_value), *of_scores])


grows = Formula(
    title="What grows of one small merged head",
    backs="theory.bayes_icl.linear_attention_dynamics.growing_start",
    symbol=p0,
    arguments=(va, *A, v1, v2, t1, t2),
    domain={va: Interval(0.01, 0.1)}
    | dict.fromkeys((v1, v2, t1, t2), Interval(0.5, 2))
    | dict.fromkeys(A, Interval(0, 0.1)),
    expression=((va + _along) ** 2 / 4).subs(ALONG),
    proofs={"slopes at the saddle": _saddle},
    call=lambda v, a, b, c, d, v1, v2, t1, t2: (
        (np.array([v]), np.array([[[a, b], [c, d]]])),
        (np.array([v1, v2]), np.array([t1, t2]), 0.1),
    ),
    source="derived for the model of " + SOURCE,
)

_trace = v1 * t1 + v2 * t2
_c = (_trace + noise) / n
# Risk of a layer that is diagonal in the common directions.
DIAGONAL = risk(sp.diag(A[0, 0], A[1, 1]), n).subs(ALONG)
PLATEAU = noise + _trace - (v1 * t1) ** 2 / ((1 + 1 / n) * v1 * t1 + _c)


def _plateau():
    """The least risk with the second direction unused; and what is gained by it adds."""
    first, second = (v * w / (v * ((1 + 1 / n) * v * w + _c)) for v, w in ((v1, t1), (v2, t2)))
    one = DIAGONAL.subs([(A[0, 0], first), (A[1, 1], 0)])
    both = DIAGONAL.subs([(A[0, 0], first), (A[1, 1], second)])
    gained = (v2 * t2) ** 2 / ((1 + 1 / n) * v2 * t2 + _c)
    return sp.Matrix(
        [
            sp.simplify(one - PLATEAU),
            sp.simplify(both - PLATEAU + gained),
            sp.simplify(sp.diff(DIAGONAL, A[0, 0]).subs(A[0, 0], first)),
            sp.diff(DIAGONAL, A[0, 0], A[1, 1]),
        ]
    )


def _saddles():
    """Without a head on the second direction nothing pulls at the layer's other entries."""
    slope = risk(A, n).diff(A).subs(ALONG).subs([(A[0, 1], 0), (A[1, 0], 0)])
    return sp.Matrix([sp.expand(slope[0, 1]), sp.expand(slope[1, 0])])


_two = {v1: Interval(0.3, 3), v2: Interval(0.3, 3), n: Interval(1, 100), t1: Interval(0.3, 3), t2: Interval(0.3, 3)}

plateau = Formula(
    title="Plateau after the first of two principal components",
    backs="theory.bayes_icl.linear_attention_dynamics.plateau_losses",
    symbol=sp.Symbol("L_1"),
    arguments=(v1, v2, n, t1, t2, noise),
    domain={**_two, noise: Interval(0.01, 3)},
    expression=PLATEAU,
    proofs={"least risk on one direction": _plateau, "a saddle": _saddles},
    call=lambda v1, v2, n, t1, t2, noise: (np.array([v1, v2]), n, np.array([t1, t2]), noise),
    read=lambda found: found[1],
    source=SOURCE,
)

_drive, _brake = v1**2 * t1, v1 * ((1 + 1 / n) * v1 * t1 + _c)
_end = (v1 * t1 / _brake) ** sp.Rational(1, 3)


def rest(x):
    """The integral of 1 / (x^2 (1 - x^3))."""
    turn = sp.atan((1 + 2 * x) / sp.sqrt(3)) / sp.sqrt(3)
    return -1 / x - sp.log(1 - x) / 3 + sp.log(1 + x + x**2) / 6 - turn


TIME = (rest(x) - rest(u0 / _end)) / (2 * _drive * _end)


def _head():
    """v = k = q = u on the first direction: each factor moves down the slope of the risk by it."""
    a, b, c = sp.symbols("a b c", positive=True)
    loss = risk(sp.diag(a * b * c, A[1, 1]), n).subs(ALONG)
    speed = (-sp.diff(loss, a)).subs({a: u, b: u, c: u})
    stated = 2 * u**2 * (_drive - v1 * _brake * u**3)
    return sp.Matrix([sp.expand(speed - stated), sp.simplify(sp.diff(rest(x), x) * x**2 * (1 - x**3) - 1)])


def _time():
    """dx/dt = 2 s^2 w u_inf x^2 (1 - x^3), where s e u_inf^3 is the drive s^2 w."""
    k = sp.Symbol("k", positive=True)
    stated = 2 * u**2 * (_drive - v1 * _brake * u**3)
    unit = stated.subs(u, k * x) / k
    return sp.simplify(unit.subs(k, _end) - 2 * _drive * _end * x**2 * (1 - x**3))


head = Formula(
    title="Time of a head on its principal direction",
    backs="theory.bayes_icl.linear_attention_dynamics.head_time",
    symbol=t,
    arguments=(x, u0, v1, v2, n, t1, t2, noise),
    domain={**_two, x: Interval(0.3, 0.99), u0: Interval(1e-4, 0.05, log=True), noise: Interval(0, 3)},
    expression=TIME,
    proofs={
        "slopes by the factors": _head,
        "units": _time,
        "small starts": lambda: (
            sp.limit(u0 * TIME.subs({v1: 2, t1: 1, v2: 1, t2: 1, n: 7, noise: 1}), u0, 0) - sp.Rational(1, 8)
        ),
    },
    call=lambda x, u0, v1, v2, n, t1, t2, noise: (x, u0, np.array([v1, v2]), n, np.array([t1, t2]), noise),
    read=lambda found: found[0],
    source="derived for the model of " + SOURCE,
)
