"""The spectrum of random inputs, textbook forms."""

import sympy as sp

from derivations.formula import Formula, Interval

alpha, g, x = sp.symbols("alpha g x", positive=True)
lam = sp.Symbol("lambda", positive=True)
more = sp.Symbol("beta", positive=True)
few = sp.Symbol("phi", positive=True)

lower = (1 - sp.sqrt(alpha)) ** 2
upper = (1 + sp.sqrt(alpha)) ** 2
rho = sp.sqrt((upper - lam) * (lam - lower)) / (2 * sp.pi * lam)
m = (sp.sqrt((g + alpha - 1) ** 2 + 4 * g) - (g + alpha - 1)) / (2 * g)

ALPHA = Interval(0.05, 20, log=True)
RIDGE = Interval(1e-6, 1e4, log=True)


def _moment_from_resolvent(order: int):
    """Coefficient of the expansion m(g) = sum_k (-1)^k m_k / g^{k+1}."""
    z = sp.Symbol("z", positive=True)
    series = sp.series(m.subs(g, 1 / z), z, 0, order + 2).removeO()
    return (-1) ** order * series.coeff(z, order + 1)


resolvent = Formula(
    title="Resolvent of the Marchenko-Pastur law",
    backs="theory.deep_linear.marchenko_pastur.resolvent",
    symbol=sp.Function("m")(g),
    arguments=(g, alpha),
    domain={g: RIDGE, alpha: ALPHA},
    expression=m,
    proofs={
        "m = 1 / (g + alpha / (1 + m))": m * (g + alpha / (1 + m)) - 1,
        "g m -> 1: all directions count": sp.limit(g * m, g, sp.oo) - 1,
        "g m -> 1 - alpha at g = 0: the zero modes, alpha < 1": sp.limit((g * m).subs(alpha, 1 / (1 + few)), g, 0, "+")
        - (1 - 1 / (1 + few)),
        "m -> 1 / (alpha - 1) at g = 0, alpha > 1": sp.limit(m.subs(alpha, 1 + more), g, 0, "+") - 1 / more,
    },
    source="Marchenko & Pastur 1967",
)

density = Formula(
    title="Density of the Marchenko-Pastur bulk",
    backs="theory.deep_linear.marchenko_pastur.density",
    symbol=sp.Function("rho")(lam),
    arguments=(x, alpha),
    domain={x: Interval(0.001, 0.999), alpha: ALPHA},
    expression=rho.subs(lam, lower + x * (upper - lower)),
    call=lambda x, a: ((1 - a**0.5) ** 2 + 4 * x * a**0.5, a),
    proofs={
        # The square root in m(-lam) is i sqrt((upper - lam)(lam - lower)); its imaginary part over pi is the density.
        "rho = Im m(-lam) / pi": (alpha - 1 - lam) ** 2 - 4 * lam + (upper - lam) * (lam - lower),
        "lam = 1 + alpha - 2 sqrt(alpha) cos(theta) gives 2 alpha sin^2(theta) / (pi lam) dtheta": lambda: (
            _over_angle() - 2 * alpha * sp.sin(_ANGLE) ** 2 / (sp.pi * _lam_at_angle)
        ),
    },
    source="Marchenko & Pastur 1967",
)

_ANGLE = sp.Symbol("theta", positive=True)
_lam_at_angle = 1 + alpha - 2 * sp.sqrt(alpha) * sp.cos(_ANGLE)


def _over_angle():
    """rho dlam / dtheta; on (0, pi) the root of sin^2 is the sine itself."""
    square = sp.simplify(((upper - lam) * (lam - lower)).subs(lam, _lam_at_angle) / sp.sin(_ANGLE) ** 2)
    return sp.sqrt(square) * sp.sin(_ANGLE) / (2 * sp.pi * _lam_at_angle) * sp.diff(_lam_at_angle, _ANGLE)


upper_edge = Formula(
    title="Largest eigenvalue of random inputs",
    backs="theory.deep_linear.marchenko_pastur.bulk_edges",
    symbol=sp.Symbol("lambda_+"),
    arguments=(alpha,),
    domain={alpha: ALPHA},
    expression=upper,
    read=lambda edges: edges[1],
    proofs={"the square root of the resolvent vanishes": (alpha - 1 - upper) ** 2 - 4 * upper},
    source="Marchenko & Pastur 1967",
)

lower_edge = Formula(
    title="Smallest non-zero eigenvalue of random inputs",
    backs="theory.deep_linear.marchenko_pastur.bulk_edges",
    symbol=sp.Symbol("lambda_-"),
    arguments=(alpha,),
    domain={alpha: ALPHA},
    expression=lower,
    read=lambda edges: edges[0],
    proofs={"the square root of the resolvent vanishes": sp.expand((alpha - 1 - lower) ** 2 - 4 * lower)},
    source="Marchenko & Pastur 1967",
)

fourth_moment = Formula(
    title="Fourth moment of the eigenvalues",
    backs="theory.deep_linear.marchenko_pastur.moment",
    symbol=sp.Symbol("m_4"),
    arguments=(alpha,),
    domain={alpha: ALPHA},
    expression=alpha + 6 * alpha**2 + 6 * alpha**3 + alpha**4,
    keywords={"k": 4},
    proofs={
        "the expansion of the resolvent": lambda: (
            _moment_from_resolvent(4) - (alpha + 6 * alpha**2 + 6 * alpha**3 + alpha**4)
        ),
        "the second is alpha + alpha^2": lambda: _moment_from_resolvent(2) - (alpha + alpha**2),
    },
    source="Marchenko & Pastur 1967; Narayana numbers",
)

average = Formula(
    title="Average of 1 / (lam + g) by quadrature",
    backs="theory.deep_linear.marchenko_pastur.average",
    symbol=sp.Symbol("m"),
    arguments=(g, alpha),
    domain={g: RIDGE, alpha: ALPHA},
    expression=m,
    call=lambda g, a: (lambda lam: 1 / (lam + g), a),
    proofs=resolvent.proofs,
    source="Marchenko & Pastur 1967",
)

_N = 50
_shift = (1 / (lower + g) + 1 / (upper + g)) / 4 - 1 / sp.sqrt((lower + g) * (upper + g)) / 2
finite_size = Formula(
    title="The same at finite size, to order 1/N",
    backs="theory.deep_linear.marchenko_pastur.average",
    symbol=sp.Symbol("m_N"),
    arguments=(g, alpha),
    domain={g: Interval(0.1, 100, log=True), alpha: ALPHA},
    expression=m + _shift / _N,
    keywords={"inputs": _N},
    call=lambda g, a: (lambda lam: 1 / (lam + g), a),
    proofs={
        # The mean of an inverse Wishart matrix: N / (P - N - 1) = 1 / (alpha - 1) + (1/N) / (alpha - 1)^2 + ...
        "inverse Wishart at g = 0, alpha > 1": lambda: (
            sp.limit(_shift.subs(alpha, (1 + more) ** 2), g, 0, "+") - 1 / ((1 + more) ** 2 - 1) ** 2
        ),
        "inverse Wishart at g = 0, alpha < 1": lambda: (
            sp.limit(_shift.subs(alpha, 1 / (1 + few) ** 2), g, 0, "+") - (1 + few) ** -2 / (1 - (1 + few) ** -2) ** 2
        ),
        # E tr (X^T X)^2 / N = alpha + alpha^2 + alpha / N.
        "second moment": lambda: sp.limit(g**3 * _shift, g, sp.oo) - alpha,
    },
    source="Bai & Silverstein 2004",
)
