"""A tensor of rank one learned factor by factor: closure from explicit vectors, closed forms for clamped factors."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

P = sp.symbols("p_1:4", real=True)
Q = sp.symbols("q_1:4", real=True)
S = sp.symbols("S_1:4", positive=True)
d, lr, t, k, rate, w = sp.symbols("D eta t k r w", positive=True)
N = [p**2 + q**2 for p, q in zip(P, Q, strict=True)]


def others(values, i):
    return sp.prod(value for j, value in enumerate(values) if j != i)


LOSS = (sp.prod(s**2 for s in S) - 2 * sp.prod(p * s for p, s in zip(P, S, strict=True)) + sp.prod(N)) / (2 * d)
OVERLAPS = [p * s for p, s in zip(P, S, strict=True)]
ALONG = [(S[i] * others(OVERLAPS, i) - P[i] * others(N, i)) / d for i in range(3)]
ACROSS = [-Q[i] * others(N, i) / d for i in range(3)]
SOURCE = "the toy model of Singh et al. 2024 (arXiv:2404.07129)"


# Explicit vectors of dimensions 2, 2 and 3, in no special position.
_A = [
    sp.Matrix(v)
    for v in ((3, 4), sp.symbols("B_1 B_2", real=True), (sp.Rational(1, 2), sp.Symbol("C_2", real=True), 1))
]
_a = [sp.Matrix(sp.symbols(f"{name}_1:{size + 1}", real=True)) for name, size in (("a", 2), ("b", 2), ("c", 3))]


def entries(vectors):
    return [x * y * z for x in vectors[0] for y in vectors[1] for z in vectors[2]]


MEAN = sum((x - y) ** 2 for x, y in zip(entries(_A), entries(_a), strict=True)) / (2 * 12)


def _explicit_loss():
    """Half the mean squared entry, in overlaps and squared lengths."""
    dot, squares, lengths = ([x.dot(y) for x, y in zip(u, v, strict=True)] for u, v in ((_A, _a), (_a, _a), (_A, _A)))
    return sp.expand(MEAN - (sp.prod(lengths) - 2 * sp.prod(dot) + sp.prod(squares)) / 24)


def _explicit_slope():
    """Minus the derivative in a is A times the other overlaps less a times the other squared lengths, over D."""
    dot, squares = ([x.dot(y) for x, y in zip(u, v, strict=True)] for u, v in ((_A, _a), (_a, _a)))
    found = []
    for i in range(3):
        slope = sp.Matrix([sp.diff(MEAN, x) for x in _a[i]])
        found += list(slope + (_A[i] * others(dot, i) - _a[i] * others(squares, i)) / 12)
    return sp.Matrix([sp.expand(x) for x in found])


def _in_the_plane():
    """In coordinates p along A / |A| and q across, that vector is the stated pair."""
    unit, normal = sp.Matrix([1, 0]), sp.Matrix([0, 1])
    move = (S[0] * unit * others(OVERLAPS, 0) - (P[0] * unit + Q[0] * normal) * others(N, 0)) / d
    return sp.expand(move - sp.Matrix([ALONG[0], ACROSS[0]]))


def _slopes():
    """They are minus the derivatives of the reduced loss."""
    return sp.Matrix(
        [sp.expand(ALONG[i] + sp.diff(LOSS, P[i])) for i in range(3)]
        + [sp.expand(ACROSS[i] + sp.diff(LOSS, Q[i])) for i in range(3)]
    )


ALL = (*P, *Q, *S, d)
POSITIVE = {**{p: Interval(0.1, 2) for p in P}, **{q: Interval(0.1, 2) for q in Q}, **{s: Interval(0.5, 3) for s in S}}
SIGNED = {**POSITIVE, P[0]: Interval(-2, 2), d: Interval(1, 30)}


def _factors(*numbers):
    return (np.array(numbers[:3]), np.array(numbers[3:6])), np.array(numbers[6:9]), numbers[9]


loss = Formula(
    title="Half the mean squared entry of what is missing",
    backs="theory.induction.subcircuits.tensor_loss",
    symbol=sp.Symbol("L"),
    arguments=ALL,
    domain=SIGNED,
    expression=LOSS,
    proofs={"explicit tensors": _explicit_loss},
    call=_factors,
    source=SOURCE,
)

descended = Formula(
    title="Length along the truth after a step of gradient descent",
    backs="theory.induction.subcircuits.factor_descent",
    symbol=sp.Symbol("p_1'"),
    arguments=(*ALL, lr),
    domain={**SIGNED, P[0]: Interval(0.1, 2), lr: Interval(1e-3, 1, log=True)},
    # Away from a cancellation by the step.
    expression=P[0] + lr * ALONG[0] + 1000,
    proofs={"explicit vectors": _explicit_slope, "in the plane": _in_the_plane, "of the reduced loss": _slopes},
    call=lambda *numbers: (1, *_factors(*numbers[:-1]), numbers[-1]),
    read=lambda found: found.along[1, 0] + 1000,
    source=SOURCE,
)


def _lengths():
    """Under the flow every squared length changes at the rate 2 (O - prod n) / D."""
    speed = 2 * (sp.prod(OVERLAPS) - sp.prod(N)) / d
    return sp.Matrix([sp.expand(2 * P[i] * ALONG[i] + 2 * Q[i] * ACROSS[i] - speed) for i in range(3)])


descended_across = Formula(
    title="Length across after a step of gradient descent",
    backs="theory.induction.subcircuits.factor_descent",
    symbol=sp.Symbol("q_1'"),
    arguments=(*ALL, lr),
    domain=descended.domain,
    expression=Q[0] + lr * ACROSS[0] + 1000,
    proofs={"differences of squared lengths are kept": _lengths},
    call=descended.call,
    read=lambda found: found.across[1, 0] + 1000,
    source=SOURCE,
)

_growth = sum(others(OVERLAPS, i) ** 2 * S[i] ** 2 - sp.prod(OVERLAPS) * others(N, i) for i in range(3)) / d


def _sign_rule():
    """Where one overlap is zero the product grows, as a square."""
    at_zero = _growth.subs(P[0], 0)
    return sp.expand(at_zero - (S[0] * P[1] * S[1] * P[2] * S[2]) ** 2 / d)


growth = Formula(
    title="Rate of the product of overlaps",
    backs="theory.induction.subcircuits.overlap_growth",
    symbol=sp.Symbol("O'"),
    arguments=ALL,
    # A negative product, whose rate is a sum of positive terms.
    domain={**SIGNED, P[0]: Interval(-2, -0.1)},
    expression=_growth,
    proofs={
        "chain rule": lambda: sp.expand(sum(sp.diff(sp.prod(OVERLAPS), P[i]) * ALONG[i] for i in range(3)) - _growth),
        "zero is crossed upwards": _sign_rule,
    },
    call=_factors,
    source="derived here",
)


def _lone_recursion():
    """Factors 2 and 3 at the truth: one step multiplies the distance of factor 1, and so the loss."""
    true = {P[1]: S[1], Q[1]: 0, P[2]: S[2], Q[2]: 0}
    keep = 1 - lr * S[1] ** 2 * S[2] ** 2 / d
    step = {P[0]: P[0] + lr * ALONG[0].subs(true), Q[0]: Q[0] + lr * ACROSS[0].subs(true)}
    distance = sp.Matrix([step[P[0]] - S[0] - keep * (P[0] - S[0]), step[Q[0]] - keep * Q[0]])
    before = LOSS.subs(true)
    after = before.subs(step, simultaneous=True)
    start = before - S[1] ** 2 * S[2] ** 2 / (2 * d) * ((P[0] - S[0]) ** 2 + Q[0] ** 2)
    return sp.Matrix([*distance, after - keep**2 * before, start]).applyfunc(sp.expand)


lone = Formula(
    title="Loss of a factor among clamped ones",
    backs="theory.induction.subcircuits.lone_factor_loss",
    symbol=sp.Symbol("L_k"),
    arguments=(k, P[0], Q[0], S[0], rate, lr),
    domain={k: Interval(0, 60), **POSITIVE, rate: Interval(0.1, 1), lr: Interval(0.01, 0.9)},
    expression=rate / 2 * ((P[0] - S[0]) ** 2 + Q[0] ** 2) * (1 - lr * rate) ** (2 * k),
    proofs={"one step": _lone_recursion},
    source="derived here",
)

# Two factors, in time rate * t: y = e^{G t} (p_1, p_2, q_1, q_2).
delta, omega, sigma = sp.symbols("delta omega sigma", positive=True)
_G = sp.Matrix([[delta / 2, sigma, 0, 0], [sigma, -delta / 2, 0, 0], [0, 0, delta / 2, 0], [0, 0, 0, -delta / 2]])


def _bernoulli():
    """y / sqrt(1 + int |y|^2) solves the flow of a pair: dy/dt = G y, delta the difference of squared lengths."""
    y = sp.Matrix(sp.symbols("y_1:5", real=True))
    size = sp.Symbol("M", positive=True)
    x = y / sp.sqrt(size)
    # d/dt: y moves by G y, M = 1 + int |y|^2 by |y|^2.
    moved = x.jacobian(y) * (_G * y) + x.diff(size) * y.dot(y)
    first, second = x[0] ** 2 + x[2] ** 2, x[1] ** 2 + x[3] ** 2
    wanted = sp.Matrix(
        [
            sigma * x[1] - second * x[0],
            sigma * x[0] - first * x[1],
            -second * x[2],
            -first * x[3],
        ]
    )
    on = {delta: (y[0] ** 2 + y[2] ** 2 - y[1] ** 2 - y[3] ** 2) / size}
    return sp.simplify((moved - wanted).subs(on))


def _pair_of_three():
    """With factor 3 clamped the flow of three is that of a pair at the rate S_3^2 / D."""
    true = {P[2]: S[2], Q[2]: 0}
    wanted = (S[0] * S[1] * P[1] - N[1] * P[0], S[0] * S[1] * P[0] - N[0] * P[1], -N[1] * Q[0], -N[0] * Q[1])
    moves = (*ALONG[:2], *ACROSS[:2])
    return sp.Matrix([sp.expand(m.subs(true) - S[2] ** 2 / d * x) for m, x in zip(moves, wanted, strict=True)])


_c, _s = sp.cosh(omega * t), sp.sinh(omega * t) / omega
_y1 = _c * P[0] + _s * (delta / 2 * P[0] + sigma * P[1])
_y2 = _c * P[1] + _s * (sigma * P[0] - delta / 2 * P[1])
# int |y|^2 by eigenvectors: of +-omega the parts (p.p +- p.G p / omega) / 2 of the length, of +-delta/2 the two q.
_whole = P[0] ** 2 + P[1] ** 2
_form = (delta / 2 * (P[0] ** 2 - P[1] ** 2) + 2 * sigma * P[0] * P[1]) / omega
_spent = (_whole + _form) * (sp.exp(2 * omega * t) - 1) / (4 * omega)
_spent += (_whole - _form) * (1 - sp.exp(-2 * omega * t)) / (4 * omega)
_spent += Q[0] ** 2 * (sp.exp(delta * t) - 1) / delta + Q[1] ** 2 * (1 - sp.exp(-delta * t)) / delta
_kept = {sigma: sp.sqrt(omega**2 - delta**2 / 4)}


def _exponential():
    """y obeys dy/dt = G y from p, with omega^2 = sigma^2 + delta^2 / 4; those of q are exponentials."""
    y = sp.Matrix([_y1, _y2])
    left = (sp.diff(y, t) - _G[:2, :2] * y).subs(_kept)
    return sp.Matrix([*left.applyfunc(sp.expand), *(y.subs(t, 0) - sp.Matrix(P[:2]))])


def _length():
    """The integral's derivative is |y|^2, and it starts at zero."""
    squares = _y1**2 + _y2**2 + Q[0] ** 2 * sp.exp(delta * t) + Q[1] ** 2 * sp.exp(-delta * t)
    left = (sp.diff(_spent, t) - squares).rewrite(sp.exp).subs(_kept)
    return sp.Matrix([sp.expand(left), _spent.subs(t, 0)])


_own = {delta: N[0] - N[1], sigma: S[0] * S[1]}
_speed = sp.sqrt((S[0] * S[1]) ** 2 + (N[0] - N[1]) ** 2 / 4)

pair = Formula(
    title="One of two factors that learn together",
    backs="theory.induction.subcircuits.factor_pair",
    symbol=sp.Symbol("p_1(t)"),
    arguments=(t, *P[:2], *Q[:2], *S[:2]),
    # Away from delta = 0, where this form is 0/0.
    domain={
        t: Interval(0.01, 3),
        **{x: POSITIVE[x] for x in S[:2]},
        P[0]: Interval(1.5, 2.5),
        P[1]: Interval(-0.8, 0.8),
        Q[0]: Interval(0.1, 2),
        Q[1]: Interval(0.1, 1),
    },
    expression=(_y1 / sp.sqrt(1 + _spent)).subs(omega, _speed).subs(_own) + 10,
    proofs={
        "Bernoulli's equation": _bernoulli,
        "of three": _pair_of_three,
        "exponential": _exponential,
        "length": _length,
    },
    call=lambda t, *x: (np.array([t]), (np.array(x[:2]), np.array(x[2:4])), np.array(x[4:]), 1.0),
    read=lambda found: found.along[0, 0] + 10,
    source="derived here; Tarmoun et al. 2021 (ICML)",
)


def _balanced():
    """Equal p, nothing across: p stays equal, and u = p^m is a mode of depth m, for m = 3, 2, 1."""
    p = sp.Symbol("p", positive=True)
    found = []
    for m in (3, 2, 1):
        here = {**dict.fromkeys(P[:m], p), **dict(zip(P[m:], S[m:], strict=True)), **dict.fromkeys(Q, 0)}
        lam = sp.prod(s**2 for s in S[m:]) / d
        u = p**m
        mode = m * u ** (2 - sp.Rational(2, m)) * (lam * sp.prod(S[:m]) - lam * u)
        found += [m * p ** (m - 1) * ALONG[i].subs(here) - mode for i in range(m)]
    return sp.Matrix([sp.simplify(x) for x in found])


mode = Formula(
    title="Correlation of the equivalent mode, one factor clamped",
    backs="theory.induction.subcircuits.equivalent_mode",
    symbol=sp.Symbol("s"),
    arguments=(*S, d),
    domain={**{s: POSITIVE[s] for s in S}, d: SIGNED[d]},
    expression=S[2] ** 2 / d * S[0] * S[1],
    proofs={"balanced factors": _balanced},
    call=lambda *x: (np.array(x[:3]), x[3], (2,)),
    read=lambda found: found.s,
    source="derived here",
)

R_F = sp.Function("elliprf")
_g = sp.log(sp.sqrt(1 + w + w**2) / (1 - w)) - sp.sqrt(3) * (sp.atan((2 * w + 1) / sp.sqrt(3)) - sp.pi / 6)
_x, _y, _z = (p**2 for p in P)


def _pure_growth():
    """While small, x = p_1^2 obeys dx/dt = 2 sqrt(x (x + c_2)(x + c_3)) P / D, c constant: Carlson's integrand."""
    small = [S[i] * others(OVERLAPS, i) / d for i in range(3)]
    kept = [sp.expand(P[i] * small[i] - P[0] * small[0]) for i in (1, 2)]
    integrand = 1 / (2 * P[0] * P[1] * P[2])
    return sp.Matrix([*kept, sp.simplify(2 * P[0] * small[0] * integrand - sp.prod(S) / d)])


def _late_rise():
    """g(w) is what the saturation adds to the time of a mode of depth three, 3/w what the end of growth would have."""
    v = w**3
    slope = 3 * w**2 * v ** sp.Rational(-4, 3) * (v / (1 - v))
    return sp.Matrix([sp.simplify(sp.diff(_g, w) - slope), sp.limit(_g, w, 0), sp.diff(3 / w, w) + 3 * w**2 / w**4])


emergence = Formula(
    title="Time at which three factors emerge",
    backs="theory.induction.subcircuits.emergence_time",
    symbol=sp.Symbol("t_w"),
    arguments=(*P, *S, d, w),
    domain={
        **{p: Interval(0.005, 0.02) for p in P},
        **{s: Interval(0.5, 3) for s in S},
        d: SIGNED[d],
        w: Interval(0.3, 0.9),
    },
    expression=d / sp.prod(S) * R_F(_x, _y, _z) - d / (3 * sp.prod(S) ** sp.Rational(4, 3)) * (3 / w - _g),
    proofs={"growth": _pure_growth, "late rise": _late_rise},
    call=lambda *x: (np.array(x[:3]), np.array(x[3:6]), x[6], x[7] ** 3),
    source="derived here",
)
