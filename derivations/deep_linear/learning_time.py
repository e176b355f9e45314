"""Learning times of deep linear modes, textbook forms."""

import sympy as sp

from derivations.formula import Formula, Interval

s, lam, u, u0, eps = sp.symbols("s lambda u u_0 epsilon", positive=True)
# Strengths as fractions of s/lam, at the end and at the start.
r, r0 = sp.symbols("r r_0", positive=True)

SCALES = {s: Interval(1e-3, 20, log=True), lam: Interval(1e-2, 10, log=True)}
GROWING = {r: Interval(0.35, 0.999), r0: Interval(1e-9, 0.3, log=True), **SCALES}
SHRINKING = {r: Interval(1.001, 3), r0: Interval(4, 1e4, log=True), **SCALES}
SOURCE = "Saxe, McClelland & Ganguli 2013, section on learning times"
time = sp.Symbol("t")


def _rate_of_change(n):
    """du/dt at depth n; per unit of N t at infinite depth."""
    if n is sp.oo:
        return u**2 * (s - lam * u)
    return n * u ** (2 - sp.Rational(2, n)) * (s - lam * u)


def _between(title, n, antiderivative, domain, **more):
    """A time given as antiderivative(u) - antiderivative(u_0)."""
    end, start = (antiderivative.subs(u, fraction * s / lam) for fraction in (r, r0))
    return Formula(
        title=title,
        symbol=time,
        arguments=(r, r0, s, lam),
        domain=domain,
        expression=end - start,
        call=lambda r, r0, s, lam: (r * s / lam, s, r0 * s / lam, lam),
        source=SOURCE,
        **{
            "backs": "theory.deep_linear.learning_time.learning_time",
            "keywords": {"depth": n},
            "proofs": {"dt/du = 1 / (du/dt)": sp.diff(antiderivative, u) * _rate_of_change(n) - 1},
        }
        | more,
    )


# Logarithms of squares: real on both sides of s/lam.
_one = -sp.log((s - lam * u) ** 2) / (2 * lam)
_two = sp.log(u**2 / (s - lam * u) ** 2) / (4 * s)
_x = (lam * u / s) ** sp.Rational(1, 3)
_three = (
    (s / lam) ** sp.Rational(-1, 3)
    / s
    * (-1 / _x + sp.log((_x**2 + _x + 1) / (1 - _x) ** 2) / 6 - sp.atan((2 * _x + 1) / sp.sqrt(3)) / sp.sqrt(3))
)
_y = sp.sqrt(lam * u / s)
_four = sp.sqrt(lam / s) / s * (-1 / (2 * _y) + sp.log((1 + _y) ** 2 / (1 - _y) ** 2) / 8)
_infinite = lam / (2 * s**2) * sp.log(u**2 / (s - lam * u) ** 2) - 1 / (s * u)

one_layer = _between("Learning time without hidden layer", 1, _one, GROWING)
two_layer = _between("Learning time at depth 2", 2, _two, GROWING)
two_layer_shrinking = _between("Time to shrink at depth 2", 2, _two, SHRINKING)
three_layer = _between("Learning time at depth 3", 3, _three, GROWING)
three_layer_shrinking = _between("Time to shrink at depth 3", 3, _three, SHRINKING)
four_layer = _between("Learning time at depth 4", 4, _four, GROWING)
infinite_depth = _between(
    "N times the learning time at infinite depth",
    sp.oo,
    _infinite,
    GROWING,
    backs="theory.deep_linear.learning_time.infinite_depth_time",
    keywords={},
)

# Any depth, with a = 2/N: int r^{c-1} / (1 - r) dr = (r^c / c) 2F1(1, c; 1 + c; r), c = a - 1 below s/lam (its first
# term split off, because it is the plateau), and c = 2 - a in 1/r above.
a, c, k = sp.symbols("a c k", positive=True)
_series = {
    "2F1(1, c; 1 + c; r) = sum_k r^k c / (c + k)": lambda: sp.combsimp(
        sp.rf(1, k) * sp.rf(c, k) / (sp.rf(1 + c, k) * sp.factorial(k)) - c / (c + k)
    ),
    "so that d/dr (r^c / c) 2F1 = r^{c-1} sum_k r^k": sp.diff(r ** (c + k) / (c + k), r) - r ** (c - 1) * r**k,
    "the plateau is split off": sp.diff(r ** (a - 1) / (a - 1), r) + r ** (a - 1) / (1 - r) - r ** (a - 2) / (1 - r),
    "below, r = lam u / s": (
        sp.diff(lam * u / s, u) * (lam * u / s) ** (a - 2) / (1 - lam * u / s) / (s * (s / lam) ** (1 - a))
        - 1 / (u ** (2 - a) * (s - lam * u))
    ),
    "above, r = s / (lam u)": (
        sp.diff(s / (lam * u), u) * (s / (lam * u)) ** (1 - a) / (1 - s / (lam * u)) / (s * (s / lam) ** (1 - a))
        - 1 / (u ** (2 - a) * (s - lam * u))
    ),
}


def _beta(fraction, c):
    """int_0^fraction v^{c-1} / (1 - v) dv."""
    return fraction**c / c * sp.hyper([1, c], [1 + c], fraction)


def _any_depth(n, above):
    a = sp.Rational(2, n)
    if above:
        past = _beta(1 / r, 2 - a) - _beta(1 / r0, 2 - a)
    else:
        past = (r0 ** (a - 1) - r ** (a - 1)) / (1 - a) + _beta(r, a) - _beta(r0, a)
    return Formula(
        title=f"{'Time to shrink' if above else 'Learning time'} at depth {n}",
        backs="theory.deep_linear.learning_time.learning_time",
        symbol=time,
        arguments=(r, r0, s, lam),
        domain=SHRINKING if above else GROWING,
        expression=past / (n * s * (s / lam) ** (1 - a)),
        proofs=_series,
        call=lambda r, r0, s, lam: (r * s / lam, s, r0 * s / lam, lam),
        keywords={"depth": n},
        source=SOURCE,
    )


depth_seven, depth_seven_shrinking, depth_hundred = _any_depth(7, False), _any_depth(7, True), _any_depth(100, False)

_half = sp.log(s / (lam * u0) - 1) / (2 * s)

half_time = Formula(
    title="Half time at depth 2",
    backs="theory.deep_linear.learning_time.half_time",
    symbol=sp.Symbol("t_{1/2}"),
    arguments=(s, u0, lam),
    domain={s: Interval(0.1, 20, log=True), u0: Interval(1e-12, 1e-3, log=True), lam: Interval(0.1, 10, log=True)},
    expression=_half,
    proofs={
        "u there is s / 2 lam": (
            sp.simplify((s * u0 / (lam * u0 * (1 - u) + s * u)).subs(u, sp.exp(-2 * s * _half))) - s / (2 * lam)
        ),
    },
    source=SOURCE,
)


_width = sp.log((1 - eps) / eps) / s

transition_of_two = Formula(
    title="Width of the transition at depth 2",
    backs="theory.deep_linear.learning_time.transition_time",
    symbol=sp.Symbol("t_{1-eps} - t_eps"),
    arguments=(s, lam, eps),
    domain={**SCALES, eps: Interval(1e-6, 0.45, log=True)},
    expression=_width,
    proofs={
        "u = (s/lam) / (1 + exp(-2 s t)) is (1 - eps) s/lam half a width after t = 0": (
            1 / (1 + sp.exp(-2 * s * _width / 2)) - (1 - eps)
        ),
        "and eps s/lam half a width before": 1 / (1 + sp.exp(2 * s * _width / 2)) - eps,
    },
    call=lambda s, lam, eps: (s, lam, 2, eps),
    source=SOURCE,
)

transition_of_three = Formula(
    title="Width of the transition at depth 3",
    backs="theory.deep_linear.learning_time.transition_time",
    symbol=sp.Symbol("t_{1-eps} - t_eps"),
    arguments=(s, lam, eps),
    domain={**SCALES, eps: Interval(1e-6, 0.45, log=True)},
    expression=_three.subs(u, (1 - eps) * s / lam) - _three.subs(u, eps * s / lam),
    proofs={"dt/du = 1 / (du/dt)": sp.diff(_three, u) * _rate_of_change(3) - 1},
    call=lambda s, lam, eps: (s, lam, 3, eps),
    source=SOURCE,
)


def _plateau(n, expression, proofs):
    return Formula(
        title=f"Leading learning time from a small start at depth {n}",
        backs="theory.deep_linear.learning_time.plateau_time",
        symbol=sp.Symbol("t_plateau"),
        arguments=(s, u0, lam),
        domain={s: Interval(0.1, 20, log=True), u0: Interval(1e-12, 5e-3, log=True), lam: Interval(0.1, 10, log=True)},
        expression=expression,
        proofs=proofs,
        keywords={"depth": n},
        source=SOURCE,
    )


plateau_of_two = _plateau(
    2,
    sp.log(s / (lam * u0)) / (2 * s),
    {"t_{1/2} - t_plateau -> 0 as u_0 -> 0": sp.limit(sp.log((s / (lam * u0) - 1) / (s / (lam * u0))), u0, 0)},
)
plateau_of_five = _plateau(
    5,
    u0 ** -sp.Rational(3, 5) / (3 * s),
    {
        "du/dt = 5 u^{8/5} s while lam u << s": sp.diff(u0 ** -sp.Rational(3, 5) / (3 * s), u0)
        * 5
        * u0 ** sp.Rational(8, 5)
        * s
        + 1
    },
)
