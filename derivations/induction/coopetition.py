"""Two mechanisms with shared factors: closure from explicit vectors, what competition gives away, who replaces whom."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

P = sp.symbols("p_a p_d p_b p_c", real=True)
Q = sp.symbols("q_a q_d q_b q_c", real=True)
S = sp.symbols("S_a S_d S_b S_c", positive=True)
D1, D2, E, alpha, mu1, mu2, lr, kappa, z = sp.symbols("D_1 D_2 E alpha mu_1 mu_2 eta kappa z", positive=True)
N = [p**2 + q**2 for p, q in zip(P, Q, strict=True)]
FIRST, SECOND = (0, 2, 3), (1, 2, 3)
SOURCE = "the toy model of Singh et al. 2025 (arXiv:2503.05631)"


def product(values, places):
    return sp.prod(values[i] for i in places)


def part(places, size):
    """Half the mean squared entry of what one mechanism misses."""
    overlap = product([p * s for p, s in zip(P, S, strict=True)], places)
    return (product(S, places) ** 2 - 2 * overlap + product(N, places)) / (2 * size)


ONE, TWO = part(FIRST, D1), part(SECOND, D2)
TOTAL = (ONE + mu1) * (TWO + mu2) + alpha * N[0] * N[1] / (2 * E)

# Explicit vectors: dimensions 2 for a and b, 3 for d, 1 for c.
_A, _D, _B, _C = (sp.Matrix(v) for v in ((3, 4), (2, -1, 2), (-4, 3), (3,)))
_a, _d, _b, _c = (
    sp.Matrix(sp.symbols(f"{n}_1:{k + 1}", real=True)) for n, k in (("a", 2), ("d", 3), ("b", 2), ("c", 1))
)


def missing(truths, vectors):
    pairs = [
        (x * y * z, u * v * w)
        for (x, u) in zip(truths[0], vectors[0], strict=True)
        for (y, v) in zip(truths[1], vectors[1], strict=True)
        for (z, w) in zip(truths[2], vectors[2], strict=True)
    ]
    return sum((one - other) ** 2 for one, other in pairs) / (2 * len(pairs))


def _explicit():
    """The slope of each vector, by differentiation of the loss over tensors, is the reduced one in its plane."""
    one, two = missing((_A, _B, _C), (_a, _b, _c)), missing((_D, _B, _C), (_d, _b, _c))
    fight = sum(x**2 * y**2 for x in _a for y in _d) / (2 * 6)
    full = (one + mu1) * (two + mu2) + alpha * fight
    vectors, truths = (_a, _d, _b, _c), (_A, _D, _B, _C)
    lengths = [sp.sqrt(v.dot(v)) for v in truths]
    along = [v.dot(u) / s for v, u, s in zip(vectors, truths, lengths, strict=True)]
    square = [v.dot(v) for v in vectors]
    here = {E: 6, D1: 4, D2: 6, **dict(zip(S, lengths, strict=True))}
    # In the plane dL/dv = (dL/dp) A / |A| + (dL/dq) (v - p A / |A|) / q, where dL/dq / q is a function of q^2.
    numbers = dict(zip([*_a, *_d, *_b, *_c], (2, -1, 1, 3, -2, sp.Rational(1, 3), 2, sp.Rational(-3, 2)), strict=True))
    found = []
    for i, (v, u) in enumerate(zip(vectors, truths, strict=True)):
        slope = sp.Matrix([sp.diff(full, x) for x in v]).subs(numbers)
        across = [sp.sqrt(n - p**2) for n, p in zip(square, along, strict=True)]
        state = dict(zip((*P, *Q), (*along, *across), strict=True))
        value = lambda x, state=state: x.subs(here).subs(state).subs(numbers)  # noqa: E731
        unit = u / lengths[i]
        by_q = sp.cancel(sp.diff(TOTAL, Q[i]) / Q[i])
        moved = value(sp.diff(TOTAL, P[i])) * unit + value(by_q) * (v - along[i] * unit).subs(numbers)
        found += list(slope - moved)
    return sp.Matrix(found).applyfunc(sp.expand)


ALL = (*P, *Q, *S, D1, D2, E, mu1, mu2, alpha)
DOMAIN = {
    **{p: Interval(0.1, 2) for p in P},
    **{q: Interval(0.1, 2) for q in Q},
    **{s: Interval(0.5, 3) for s in S},
    **{d: Interval(2, 30) for d in (D1, D2, E)},
    **{m: Interval(0, 1) for m in (mu1, mu2, alpha)},
}


def _call(*x):
    factors = np.array(x[:4]), np.array(x[4:8])
    return factors, (np.array(x[8:12]), np.array(x[12:15]), np.array(x[15:17]), x[17])


total = Formula(
    title="Loss of two mechanisms that share factors",
    backs="theory.induction.coopetition.mechanism_losses",
    symbol=sp.Symbol("L"),
    arguments=ALL,
    domain=DOMAIN,
    expression=TOTAL,
    proofs={"explicit vectors": _explicit},
    call=_call,
    read=lambda found: found.total,
    source=SOURCE,
)


def step(i, q=False):
    """One step of a factor, away from a cancellation by the step."""
    symbol = (Q if q else P)[i]
    move = sp.diff(TOTAL, symbol)
    return Formula(
        title=f"Length {'across' if q else 'along'} of factor {i} after a step",
        backs="theory.induction.coopetition.coopetition_descent",
        symbol=sp.Symbol(f"{symbol}'"),
        arguments=(*ALL, lr),
        domain={**DOMAIN, lr: Interval(1e-3, 1, log=True)},
        expression=symbol - lr * move + 1000,
        proofs={"the private part": lambda: sp.expand(move - _chain(symbol))},
        call=lambda *x: (1, *_call(*x[:-1]), x[-1]),
        read=lambda found: found[int(q)][1, i] + 1000,
        source=SOURCE,
    )


def _chain(symbol):
    """Each mechanism pulls with the loss that the other one has left."""
    fight = alpha / (2 * E) * sp.diff(N[0] * N[1], symbol)
    return sp.diff(ONE, symbol) * (TWO + mu2) + sp.diff(TWO, symbol) * (ONE + mu1) + fight


own_step = step(1)
shared_step = step(2)
shared_across = step(3, q=True)


def _given_away():
    """d(|b|^2 - |a|^2 - |d|^2)/dt by the flow of all p and q; |c|^2 in place of |b|^2 gives the same."""
    speed = [-2 * (P[i] * sp.diff(TOTAL, P[i]) + Q[i] * sp.diff(TOTAL, Q[i])) for i in range(4)]
    rate = 4 * alpha * N[0] * N[1] / E
    return sp.Matrix([sp.expand(speed[i] - speed[0] - speed[1] - rate) for i in (2, 3)])


shared_growth = Formula(
    title="What competition leaves to the shared factors",
    backs="theory.induction.coopetition.shared_growth",
    symbol=sp.Symbol("G"),
    arguments=ALL,
    domain=DOMAIN,
    expression=4 * alpha * N[0] * N[1] / E,
    proofs={"along the flow": _given_away},
    call=_call,
    source="derived here",
)

TAU1, TAU2 = (product(S, places) ** 2 / (2 * size) for places, size in ((FIRST, D1), (SECOND, D2)))
PERFECT = {P[0]: S[0], P[2]: S[2], P[3]: S[3], P[1]: 0, **dict.fromkeys(Q, 0)}


def _driven():
    """Mechanism 1 alone is stationary in a, b and c, and drives d at the rate mu_1 tau_2 / S_d^2 times 2 S_d."""
    slopes = [sp.diff(TOTAL, P[i]).subs(PERFECT) for i in range(4)]
    return sp.Matrix([slopes[0], slopes[1] + 2 * mu1 * TAU2 / S[1], slopes[2], slopes[3]]).applyfunc(sp.simplify)


CONTEST = (*S, D1, D2, E, mu1, mu2, alpha)

settled = Formula(
    title="Loss of mechanism 1 alone",
    backs="theory.induction.coopetition.settled_losses",
    symbol=sp.Symbol("L_1"),
    arguments=CONTEST,
    domain={x: DOMAIN[x] for x in CONTEST},
    expression=mu1 * (TAU2 + mu2),
    proofs={"perfect": lambda: sp.simplify(TOTAL.subs(PERFECT) - mu1 * (TAU2 + mu2)), "not stationary": _driven},
    call=lambda *x: (_call(*(0.0,) * 8, *x)[1],),
    read=lambda found: found[0],
    source="derived here",
)

x, y, r, m = sp.symbols("x y r m", positive=True)
_scaled = ((1 - x) ** 2 + m) * (1 - y) ** 2 + kappa**2 * x**2 * y**2


def _landscape():
    """With b = B, c = C, mu_2 = 0, nothing across, the loss is a function of x = p_a / S_a and y = p_d / S_d."""
    here = {**PERFECT, P[0]: x * S[0], P[1]: y * S[1], mu2: 0}
    given = {kappa: sp.sqrt(alpha * S[0] ** 2 * S[1] ** 2 / (2 * E) / (TAU1 * TAU2)), m: mu1 / TAU1}
    return sp.expand(TOTAL.subs(here) - TAU1 * TAU2 * _scaled.subs(given))


def _stationary():
    """Where both derivatives vanish, at y / (1 - y) = s / kappa, the floor m is the stated function of s."""
    s = sp.Symbol("s", positive=True)
    at_y = s / (s + kappa)
    at_x = 1 / (1 + s**2)
    floor = (kappa * s - s**4) / (1 + s**2) ** 2
    return sp.Matrix([sp.cancel(sp.diff(_scaled, z).subs({x: at_x, y: at_y, m: floor})) for z in (x, y)])


def _largest():
    """That function is largest at s = 1/z, where it is the stated one, z^3 - 3 z = 4 / kappa."""
    s = 1 / z
    strength = 4 / (z**3 - 3 * z)
    t = sp.Symbol("t", positive=True)
    value = (strength * t - t**4) / (1 + t**2) ** 2
    top = 3 * strength * z / (4 * (z**2 + 1))
    return sp.Matrix([sp.simplify(sp.diff(value, t).subs(t, s)), sp.simplify(value.subs(t, s) - top)])


_angle = sp.acosh(2 / kappa) / 3
_z = 2 * sp.cosh(_angle)

replacement = Formula(
    title="Floor above which mechanism 2 replaces mechanism 1",
    backs="theory.induction.coopetition.replacement_floor",
    symbol=sp.Symbol("m"),
    arguments=(kappa,),
    domain={kappa: Interval(1e-3, 1.99, log=True)},
    expression=3 * kappa * _z / (4 * (_z**2 + 1)),
    proofs={
        "two numbers": _landscape,
        "stationary points": _stationary,
        "the largest floor": _largest,
        "the root of the cubic": lambda: sp.expand_trig(sp.cosh(3 * r)) * 2 - ((2 * sp.cosh(r)) ** 3 - 6 * sp.cosh(r)),
    },
    source="derived here",
)

strong_replacement = Formula(
    title="The same where competition is strong",
    backs="theory.induction.coopetition.replacement_floor",
    symbol=sp.Symbol("m"),
    arguments=(kappa,),
    domain={kappa: Interval(2.01, 1e3, log=True)},
    expression=(3 * kappa * r / (4 * (r**2 + 1))).subs(r, 2 * sp.cos(sp.acos(2 / kappa) / 3)),
    proofs={
        "the root of the cubic": lambda: sp.expand_trig(sp.cos(3 * r)) * 2 - ((2 * sp.cos(r)) ** 3 - 6 * sp.cos(r))
    },
    source="derived here",
)
