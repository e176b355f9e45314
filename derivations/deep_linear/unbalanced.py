"""Unbalanced modes of two-layer networks, textbook forms."""

import sympy as sp

from derivations.formula import Formula, Interval

t, s, lam = sp.symbols("t s lambda", positive=True)
a0, b0, u, u0 = sp.symbols("a_0 b_0 u u_0", real=True)
cosh, sinh, half = sp.symbols("C S eta", positive=True)

_SOURCE = "Saxe, McClelland & Ganguli 2013, appendix on hyperbolic dynamics; Kunin et al. 2024"


# kappa^2; the solution is a = A / sqrt(K), b = B / sqrt(K) in C = cosh(kappa t) and S = sinh(kappa t) / kappa.
_square = s**2 + lam**2 * (b0**2 - a0**2) ** 2 / 4
_top = a0 * cosh + (s * b0 - lam * (b0**2 - a0**2) * a0 / 2) * sinh
_bottom = b0 * cosh + (s * a0 + lam * (b0**2 - a0**2) * b0 / 2) * sinh
_k = (cosh + (s + lam * (a0 - b0) ** 2 / 2) * sinh) * (cosh - (s - lam * (a0 + b0) ** 2 / 2) * sinh)


def _in_time(expression):
    """`expression` with C and S as functions of time."""
    kappa = sp.sqrt(_square)
    return expression.subs({cosh: sp.cosh(kappa * t), sinh: sp.sinh(kappa * t) / kappa})


def _rate(expression):
    """Its time derivative: dC/dt = kappa^2 S, dS/dt = C."""
    return sp.diff(expression, cosh) * _square * sinh + sp.diff(expression, sinh) * cosh


_kappa = sp.sqrt(_square)
_first, _second = _in_time(_top / sp.sqrt(_k)), _in_time(_bottom / sp.sqrt(_k))
# Identities between polynomials in C and S: with a = A / sqrt(K), da/dt = b (s - lam a b) is
# A' K - A K' / 2 = B (s K - lam A B).
_pull = s * _k - lam * _top * _bottom
_ode_first = _rate(_top) * _k - _top * _rate(_k) / 2 - _bottom * _pull
_ode_second = _rate(_bottom) * _k - _bottom * _rate(_k) / 2 - _top * _pull
_ode_product = _rate(_top * _bottom) * _k - _top * _bottom * _rate(_k) - (_top**2 + _bottom**2) * _pull
_conserved = _bottom**2 - _top**2 - (b0**2 - a0**2) * _k

_WEAK, _STRONG = Interval(-1, 1), Interval(1.25, 4)
_TIMES, _RATES, _INPUTS = Interval(0, 200), Interval(1e-6, 10, log=True), Interval(0.05, 10, log=True)

first_layer = Formula(
    title="Strength of the first layer of an unbalanced mode, the second layer the stronger",
    backs="theory.deep_linear.unbalanced.two_layer_strengths",
    symbol=sp.Function("a")(t),
    arguments=(t, a0, b0, s, lam),
    domain={t: _TIMES, a0: Interval(0, 1), b0: _STRONG, s: _RATES, lam: _INPUTS},
    expression=_first,
    proofs={
        "da/dt = b (s - lam a b)": _ode_first,
        "b^2 - a^2 is conserved": _conserved,
        "a(0) = a_0": _first.subs(t, 0) - a0,
    },
    read=lambda layers: layers.a,
    source=_SOURCE,
)

second_layer = Formula(
    title="Strength of the second layer of an unbalanced mode, the first of any sign",
    backs="theory.deep_linear.unbalanced.two_layer_strengths",
    symbol=sp.Function("b")(t),
    arguments=(t, a0, b0, s, lam),
    domain={t: _TIMES, a0: _WEAK, b0: _STRONG, s: _RATES, lam: _INPUTS},
    expression=_second,
    proofs={"db/dt = a (s - lam a b)": _ode_second, "b(0) = b_0": _second.subs(t, 0) - b0},
    read=lambda layers: layers.b,
    source=_SOURCE,
)

strength = Formula(
    title="Strength of an unbalanced mode, the first layer the stronger",
    backs="theory.deep_linear.unbalanced.unbalanced_mode_strength",
    symbol=sp.Function("u")(t),
    arguments=(t, b0, a0, s, lam),
    domain={t: _TIMES, a0: _STRONG, b0: Interval(0, 1), s: _RATES, lam: _INPUTS},
    expression=_first * _second,
    proofs={
        "du/dt = (a^2 + b^2) (s - lam u)": _ode_product,
    },
    call=lambda t, b0, a0, s, lam: (t, a0, b0, s, lam),
    source=_SOURCE,
)

_saddle = a0 * sp.exp(-s * t) / sp.sqrt(1 + lam * a0**2 * (1 - sp.exp(-2 * s * t)) / s)

saddle = Formula(
    title="The antisymmetric start, which flows into the saddle",
    backs="theory.deep_linear.unbalanced.two_layer_strengths",
    symbol=sp.Function("a")(t),
    arguments=(t, a0, s, lam),
    domain={t: Interval(0, 20), a0: Interval(1e-3, 4, log=True), s: _RATES, lam: _INPUTS},
    expression=_saddle,
    proofs={
        "da/dt = -a (s + lam a^2)": sp.diff(_saddle, t) + _saddle * (s + lam * _saddle**2),
        "a(0) = a_0": _saddle.subs(t, 0) - a0,
    },
    call=lambda t, a0, s, lam: (t, a0, -a0, s, lam),
    read=lambda layers: layers.a,
    source="Bernoulli equation of a = -b",
)

_unlearning = a0 / sp.sqrt(1 + 2 * lam * a0**2 * t)

unlearning = Formula(
    title="A balanced mode that is to be unlearned, s = 0",
    backs="theory.deep_linear.unbalanced.two_layer_strengths",
    symbol=sp.Function("a")(t),
    arguments=(t, a0, lam),
    domain={t: Interval(0, 1e6), a0: Interval(1e-3, 4, log=True), lam: _INPUTS},
    expression=_unlearning,
    proofs={
        "da/dt = -lam a^3": sp.diff(_unlearning, t) + lam * _unlearning**3,
        "a(0) = a_0": _unlearning.subs(t, 0) - a0,
    },
    call=lambda t, a0, lam: (t, a0, a0, 0.0, lam),
    read=lambda layers: layers.a,
    source="da/dt = -lam a b^2 with a = b",
)

_spread = b0**2 - a0**2
_final = sp.sqrt((sp.sqrt(_spread**2 + 4 * s**2 / lam**2) + _spread) / 2)

final_second = Formula(
    title="Final strength of the second layer of an unbalanced mode",
    backs="theory.deep_linear.unbalanced.final_strengths",
    symbol=sp.Symbol("b_oo"),
    arguments=(a0, b0, s, lam),
    domain={a0: _WEAK, b0: _STRONG, s: _RATES, lam: _INPUTS},
    expression=_final,
    proofs={"a b = s / lam with a^2 = b^2 - Lam": sp.expand(_final**2 * (_final**2 - _spread)) - s**2 / lam**2},
    read=lambda layers: layers.b,
    source="stationarity, with b^2 - a^2 conserved",
)

_imbalance = b0**2 - a0**2

imbalance = Formula(
    title="Imbalance of a two-layer mode",
    backs="theory.deep_linear.unbalanced.imbalance",
    symbol=sp.Symbol("Lambda"),
    arguments=(a0, b0),
    domain={a0: _WEAK, b0: _STRONG},
    expression=_imbalance,
    proofs={"its rate vanishes": sp.expand(2 * b0 * a0 * (s - lam * a0 * b0) - 2 * a0 * b0 * (s - lam * a0 * b0))},
    source=_SOURCE,
)

# Time by separation of du / (sqrt(Lam^2 + 4 u^2) (s - lam u)), in x = lam (sqrt(Lam^2 + 4 u^2) + 2 u).
_x = lam * (sp.sqrt(_spread**2 + 4 * u**2) + 2 * u)
_x0 = lam * (a0 + b0) ** 2
_low, _high = 2 * s - 2 * _kappa, 2 * s + 2 * _kappa
_time = sp.log((_x0 - _high) * (_x - _low) / ((_x0 - _low) * (_x - _high))) / (2 * _kappa)


def _time_residual():
    """dt/dx = 2 / ((high - x) (x - low)), as x' = 2 x (s - lam u) = (high - x) (x - low) / 2."""
    x, x0, low, high = sp.symbols("x x_0 low high", positive=True)
    time = sp.log((x0 - high) * (x - low) / ((x0 - low) * (x - high))) * 2 / (high - low)
    return sp.simplify(sp.diff(time, x) - 2 / ((high - x) * (x - low)))


def _riccati_residual():
    """x' of x = (a + b)^2 lam against (high - x) (x - low) / 2."""
    x = lam * (a0 + b0) ** 2
    return sp.expand(2 * x * (s - lam * a0 * b0) - (4 * s * x - x**2 + lam**2 * _spread**2) / 2)


learning_time = Formula(
    title="Time at which an unbalanced mode passes a strength",
    backs="theory.deep_linear.unbalanced.learning_time",
    symbol=t,
    arguments=(u, a0, b0, s, lam),
    # The strength is given as a share of the way from the start to s / lam.
    domain={
        u: Interval(0.01, 0.99),
        a0: Interval(-0.5, 0.2),
        b0: Interval(0.6, 3),
        s: Interval(0.8, 10),
        lam: Interval(0.05, 1),
    },
    expression=_time.subs(u, a0 * b0 + u * (s / lam - a0 * b0)),
    proofs={
        "dt/dx": _time_residual,
        "x' = 2 s x - x^2/2 + lam^2 Lam^2/2": _riccati_residual,
        "the roots of x'": sp.expand(_low * _high + lam**2 * _spread**2),
    },
    call=lambda u, a0, b0, s, lam: (a0 * b0 + u * (s / lam - a0 * b0), a0, b0, s, lam),
    source="separation of du/dt = sqrt(Lam^2 + 4 u^2) (s - lam u)",
)

half_time = Formula(
    title="Half time of an unbalanced mode",
    backs="theory.deep_linear.unbalanced.half_time",
    symbol=sp.Symbol("t_half"),
    arguments=(a0, b0, s, lam),
    domain={
        a0: Interval(-0.5, 0.1),
        b0: Interval(0.6, 2),
        s: Interval(0.8, 10),
        lam: Interval(0.05, 1),
    },
    expression=_time.subs(u, s / (2 * lam)),
    proofs={"dt/dx": _time_residual},
    source="separation of du/dt = sqrt(Lam^2 + 4 u^2) (s - lam u)",
)

theta = sp.Symbol("theta", real=True)

angle = Formula(
    title="Hyperbolic angle of an unbalanced mode",
    backs="theory.deep_linear.unbalanced.hyperbolic_angle",
    symbol=theta,
    arguments=(t, a0, b0, s, lam),
    domain={t: Interval(0, 20), a0: Interval(0.05, 1), b0: _STRONG, s: _RATES, lam: _INPUTS},
    expression=sp.asinh(2 * _first * _second / _spread),
    proofs={
        "u = Lam/2 sinh(theta) solves du/dt with dtheta/dt = 2 s - lam Lam sinh(theta)": sp.simplify(
            half * sp.cosh(theta) * (2 * s - 2 * lam * half * sp.sinh(theta))
            - 2 * half * sp.cosh(theta) * (s - lam * half * sp.sinh(theta))
        ),
    },
    source=_SOURCE,
)

_lazy = s / lam + (u0 - s / lam) * sp.exp(-lam * half * t)

lazy = Formula(
    title="Strength of a mode in the lazy limit",
    backs="theory.deep_linear.unbalanced.lazy_mode_strength",
    symbol=sp.Function("u")(t),
    arguments=(t, u0, s, half, lam),
    domain={t: _TIMES, u0: Interval(1e-12, 2), s: _RATES, half: Interval(0, 100), lam: _INPUTS},
    expression=_lazy,
    proofs={
        "du/dt = |Lam| (s - lam u)": sp.diff(_lazy, t) - half * (s - lam * _lazy),
        "u(0) = u_0": _lazy.subs(t, 0) - u0,
    },
    source="limit of du/dt = sqrt(Lam^2 + 4 u^2) (s - lam u)",
)
