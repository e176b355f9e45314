"""Errors of linear rules, and of rules from estimated means in many dimensions."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

w, b, m0, m1, s2 = sp.symbols("w b mu_0 mu_1 s^2", real=True)
delta, d, m, eps, fail, share = sp.symbols("Delta d m epsilon delta share", positive=True)
x = sp.Symbol("x", real=True)


def phi(z):
    return (1 + sp.erf(z / sp.sqrt(2))) / 2


ERROR = (phi(-(w * m1 + b) / (w * sp.sqrt(s2))) + phi((w * m0 + b) / (w * sp.sqrt(s2)))) / 2


def _by_integral():
    """Mass of each class on the wrong side of x = -b / w."""
    numbers = {w: 2, b: -1, m0: sp.Rational(-1, 2), m1: sp.Rational(3, 2), s2: sp.Rational(9, 4)}
    cut = (-b / w).subs(numbers)

    def density(mean):
        return (sp.exp(-((x - mean) ** 2) / (2 * s2)) / sp.sqrt(2 * sp.pi * s2)).subs(numbers)

    low = sp.integrate(density(m1), (x, -sp.oo, cut))
    high = sp.integrate(density(m0), (x, cut, sp.oo))
    return sp.simplify((low + high) / 2 - ERROR.subs(numbers))


rule = Formula(
    title="Error of a linear rule of one feature",
    backs="theory.bayes_icl.generative_discriminative.linear_rule_error",
    symbol=sp.Symbol("P"),
    arguments=(w, b, m0, m1, s2),
    domain={
        w: Interval(0.2, 2),
        b: Interval(-1, 1),
        m0: Interval(-2, 0),
        m1: Interval(0, 2),
        s2: Interval(0.2, 3),
    },
    expression=ERROR,
    proofs={"mass on the wrong sides": _by_integral},
    call=lambda w, b, m0, m1, s2: (np.array([w]), b, np.array([[m0], [m1]]), s2),
    source="Fisher 1936",
)

z = sp.Symbol("z", positive=True)

samples = Formula(
    title="Samples for all means",
    backs="theory.bayes_icl.generative_discriminative.mean_samples",
    symbol=z,
    arguments=(d, eps, fail),
    domain={d: Interval(1, 1e4, log=True), eps: Interval(0.05, 1), fail: Interval(0.01, 0.5)},
    # All of d independent means, each off by N(0, 1/m), lie within eps.
    law=sp.erf(eps * sp.sqrt(z) / sp.sqrt(2)) - (1 - fail) ** (1 / d),
    proofs={
        "chance of one mean": lambda: sp.simplify(
            sp.integrate(sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi), (x, -eps, eps)) - sp.erf(eps / sp.sqrt(2))
        )
    },
    source="exact for Gaussian features; Ng & Jordan 2001 for the logarithm",
)

ESTIMATED = phi(-(delta**2) / 2 / sp.sqrt(delta**2 + 2 * d / m))


def _moments():
    """Of the rule's value at the mean of class 1, for one feature: means off by e_1 and e_0 of variance 1/m."""
    e0, e1 = sp.symbols("e_0 e_1", real=True)
    value = ((delta - e0) ** 2 - e1**2) / 2
    # Odd powers vanish, squares have mean 1/m: the mean is that of exact means.
    mean = sp.expand(value).subs({e0**2: 1 / m, e1**2: 1 / m}).subs({e0: 0, e1: 0})
    slope = sp.expand((delta + e1 - e0) ** 2)
    size = slope.subs({e0 * e1: 0}).subs({e0**2: 1 / m, e1**2: 1 / m}).subs({e0: 0, e1: 0})
    return sp.Abs(sp.simplify(mean - delta**2 / 2)) + sp.Abs(sp.simplify(size - delta**2 - 2 / m))


estimated = Formula(
    title="Error with estimated means",
    backs="theory.bayes_icl.generative_discriminative.estimated_means_error",
    symbol=sp.Symbol("P"),
    arguments=(delta, d, m),
    domain={delta: Interval(0.3, 4), d: Interval(1, 500), m: Interval(1, 500)},
    expression=ESTIMATED,
    proofs={
        "moments of the rule": _moments,
        "the best there is": lambda: sp.simplify(sp.limit(ESTIMATED, m, sp.oo) - phi(-delta / 2)),
    },
    source="Raudys 1967",
)

needed = Formula(
    title="Samples for a share of the distance",
    backs="theory.bayes_icl.generative_discriminative.samples_for_excess",
    symbol=sp.Symbol("m"),
    arguments=(delta, d, share),
    domain={delta: Interval(0.3, 4), d: Interval(1, 500), share: Interval(0.01, 0.9)},
    expression=2 * d / (delta**2 * ((1 - share) ** -2 - 1)),
    proofs={
        "the same error": lambda: sp.simplify(
            (delta**2 / 2 / sp.sqrt(delta**2 + delta**2 * ((1 - share) ** -2 - 1))) ** 2
            - ((1 - share) * delta / 2) ** 2
        )
    },
    source="inverted from the error",
)
