"""The best arm of two: a difference of Gaussians, an arm of which nothing is known, powers of a Beta variable."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

m1, m2, mean, x, z = sp.symbols("m_1 m_2 ybar x z", real=True)
s1, s2, kappa, a, b, c = sp.symbols("s_1 s_2 kappa alpha beta c", positive=True)


def density(x):
    return sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)


def distribution(x):
    return (1 + sp.erf(x / sp.sqrt(2))) / 2


_spread = sp.sqrt(s1**2 + s2**2)
_gap = (m1 - m2) / _spread
GAUSSIANS = (m1, m2, s1, s2)
DOMAIN = {
    m1: Interval(-1, 1),
    m2: Interval(-1, 1),
    s1: Interval(0.01, 10, log=True),
    s2: Interval(0.5, 2),
}


def _slope_of_the_integral():
    """d/dm_1 of int phi(z) Phi((m_1 + s_1 z - m_2) / s_2) dz, against that of the stated form."""
    integrand = density(z) * sp.diff(distribution((m1 + s1 * z - m2) / s2), m1)
    integral = sp.integrate(sp.simplify(integrand), (z, -sp.oo, sp.oo), conds="none")
    return sp.simplify(integral - sp.diff(distribution(_gap), m1))


two = Formula(
    title="The better of two Gaussian arms",
    backs="theory.bayes_icl.best_arm.gaussian_best_arm",
    symbol=sp.Symbol("P"),
    arguments=GAUSSIANS,
    domain=DOMAIN,
    expression=distribution(_gap),
    proofs={
        "slope of the integral": _slope_of_the_integral,
        "a hopeless arm": sp.limit(distribution(x), x, -sp.oo),
    },
    call=lambda m, n, s, t: (np.array([m, n]), np.array([s, t]) ** 2),
    read=lambda found: found.probability[0],
    source="Thompson 1933",
)

_value = m1 * distribution(_gap) + m2 * distribution(-_gap) + _spread * density(_gap)

value = Formula(
    title="Mean reward of the better of two Gaussian arms",
    backs="theory.bayes_icl.best_arm.gaussian_best_arm",
    symbol=sp.Symbol("V"),
    arguments=GAUSSIANS,
    domain=DOMAIN,
    # Away from its zero.
    expression=3 + _value,
    proofs={
        "dV/dm_1 is the probability of being best": lambda: sp.simplify(sp.diff(_value, m1) - distribution(_gap)),
        "V = m_2 beside a hopeless arm": lambda: sp.limit((_value - m2).subs({s1: 1, s2: 1, m2: 0}), m1, -sp.oo),
    },
    call=lambda m, n, s, t: (np.array([m, n]), np.array([s, t]) ** 2),
    read=lambda found: found.value + 3,
    source="Clark 1961 (Oper. Res. 9)",
)

_low, _high = -mean * sp.sqrt(kappa), (1 - mean) * sp.sqrt(kappa)
_truncated = mean + (density(_low) - density(_high)) / sp.sqrt(kappa) / (distribution(_high) - distribution(_low))


def _mean_of_truncated():
    """int x f over int f on [0, 1]: the other arm's distribution is x."""
    seen = sp.exp(-kappa * (x - mean) ** 2 / 2)
    # x = ybar + (x - ybar), and the second is a derivative.
    first = sp.integrate(seen, (x, 0, 1))
    second = -(seen.subs(x, 1) - seen.subs(x, 0)) / kappa
    assert sp.simplify(sp.diff(-seen / kappa, x) - (x - mean) * seen) == 0
    return sp.simplify((mean + second / first - _truncated).rewrite(sp.erf))


unknown = Formula(
    title="An arm that was pulled, beside one of which nothing is known",
    backs="theory.bayes_icl.best_arm.uniform_best_arm",
    symbol=sp.Symbol("P"),
    arguments=(mean, kappa),
    domain={mean: Interval(0.05, 1.5), kappa: Interval(0.1, 200, log=True)},
    expression=_truncated,
    proofs={
        "mean of a truncated Gaussian": _mean_of_truncated,
        "nothing seen": lambda: sp.limit(_truncated.subs(mean, sp.Rational(1, 3)), kappa, 0) - sp.Rational(1, 2),
    },
    call=lambda m, k: (np.array([m, 0.3]), np.array([k, 0.0])),
    read=lambda found: found.probability[0],
    source="Bayes' rule",
)


def _beta_function(p, q):
    return sp.gamma(p) * sp.gamma(q) / sp.gamma(p + q)


_power = _beta_function(a + c, b) / _beta_function(a, b)


def _beta_integral():
    """int x^gamma f: the distribution of Beta(gamma, 1) is x^gamma; for a few exponents, all others at will."""
    residuals = []
    for p, q in ((1, 2), (2, 3), (4, 2)):
        f = x ** (p - 1) * (1 - x) ** (q - 1)
        moment = sp.integrate(sp.expand(f * x**c), (x, 0, 1)) / sp.integrate(sp.expand(f), (x, 0, 1))
        residuals.append(sp.simplify(sp.gammasimp(moment - _power.subs({a: p, b: q}))))
    return sp.Matrix(residuals)


powers = Formula(
    title="The better of two arms with rewards 0 and 1, one of which has only succeeded",
    backs="theory.bayes_icl.best_arm.beta_best_arm",
    symbol=sp.Symbol("P"),
    arguments=(a, b, c),
    domain={a: Interval(0.5, 40), b: Interval(0.5, 20), c: Interval(0.5, 6)},
    expression=_power,
    proofs={
        "integral": _beta_integral,
        "two alike": lambda: sp.simplify(_power.subs({a: c, b: 1})) - sp.Rational(1, 2),
    },
    call=lambda p, q, r: (np.array([p, r]), np.array([q, 1.0])),
    read=lambda found: found.probability[0],
    source="Thompson 1933",
)

# Two arms in the plane, one of them at the origin: x . theta > 0, with theta ~ N((m_1, m_2), C) of correlation rho.
p, q = sp.symbols("p q", positive=True)
rho = sp.Symbol("rho", real=True)
gap, along, own = sp.symbols("g k l", positive=True)
_worth = p * m1 + q * m2
_worth_variance = (p * s1) ** 2 + 2 * p * q * rho * s1 * s2 + (q * s2) ** 2


def _given_the_first_weight():
    """d/dg of int phi(z) Phi((g + k z) / l) dz, the second weight being Gaussian given the first."""
    integrand = sp.simplify(density(z) * sp.diff(distribution((gap + along * z) / own), gap))
    integral = sp.integrate(integrand, (z, -sp.oo, sp.oo), conds="none")
    return sp.simplify(integral - sp.diff(distribution(gap / sp.sqrt(along**2 + own**2)), gap))


def _variance_of_the_gap():
    """k from the first weight and what goes with it, l from the rest of the second."""
    first, rest = p * s1 + q * rho * s2, q * s2 * sp.sqrt(1 - rho**2)
    return sp.expand(first**2 + rest**2 - _worth_variance)


two_linear = Formula(
    title="The better of two arms that share weights",
    backs="theory.bayes_icl.best_arm.linear_best_arm",
    symbol=sp.Symbol("P"),
    arguments=(p, q, m1, m2, s1, s2, rho),
    domain={
        p: Interval(0.1, 2),
        q: Interval(0.1, 2),
        m1: Interval(-1, 1),
        m2: Interval(-1, 1),
        s1: Interval(0.3, 1),
        s2: Interval(0.5, 2),
        rho: Interval(-0.8, 0.8),
    },
    expression=distribution(_worth / sp.sqrt(_worth_variance)),
    proofs={"slope of the integral": _given_the_first_weight, "variance of the gap": _variance_of_the_gap},
    call=lambda p, q, m, n, s, t, r: (
        np.array([[p, q], [0, 0]]),
        np.array([m, n]),
        np.array([[s * s, r * s * t], [r * s * t, t * t]]),
    ),
    read=lambda found: found.probability[0],
    source="Thompson 1933",
)

# Three arms of length one, at the angles 0, alpha and -beta, and theta ~ N(0, diag(1, k^2)).
radius, angle = sp.symbols("r phi", positive=True)
_cone = (sp.atan(sp.tan(a / 2) / along) + sp.atan(sp.tan(b / 2) / along)) / (2 * sp.pi)


def _angular_density():
    """int r N(r u; 0, C) dr, against the slope of the stated share in the angle where it ends."""
    stretched = sp.cos(angle) ** 2 + sp.sin(angle) ** 2 / along**2
    size = sp.Symbol("A", positive=True)
    inside = sp.integrate(radius * sp.exp(-(radius**2) * size / 2), (radius, 0, sp.oo)) / (2 * sp.pi * along)
    end = sp.diff(sp.atan(sp.tan(angle) / along) / (2 * sp.pi), angle)
    return sp.simplify(sp.trigsimp(sp.simplify((inside.subs(size, stretched) - end).rewrite(sp.cos))))


sectors = Formula(
    title="Three arms on a circle, by the angles between them",
    backs="theory.bayes_icl.best_arm.linear_best_arm",
    symbol=sp.Symbol("P"),
    arguments=(a, b, along),
    domain={a: Interval(0.2, 2), b: Interval(0.2, 2), along: Interval(0.3, 3)},
    expression=_cone,
    proofs={
        "angular density": _angular_density,
        "all alike": lambda: _cone.subs({along: 1, a: 2 * sp.pi / 3, b: 2 * sp.pi / 3}) - sp.Rational(1, 3),
    },
    call=lambda a, b, k: (
        np.array([[1, 0], [np.cos(a), np.sin(a)], [np.cos(b), -np.sin(b)]]),
        np.zeros(2),
        np.diag([1, k * k]),
    ),
    read=lambda found: found.probability[0],
    source="projected normal law; derived here",
)
