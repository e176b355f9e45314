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
