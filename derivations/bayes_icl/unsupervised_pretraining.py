"""Scores tell all that inputs tell, and least squares pays for the number of what it fits."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

b0, b1, theta = sp.symbols("b_0 b_1 theta", real=True)
s, s2, risk = sp.symbols("s sigma^2 R_0", positive=True)
p, n, r, d = sp.symbols("p n r d", positive=True)

RISK = s2 + theta**2 / (1 + (b0**2 + b1**2) / s)


def _from_inputs():
    """Two inputs, one factor: the residual variance of y given x, from covariances."""
    loadings = sp.Matrix([b0, b1])
    covariance = loadings * loadings.T + s * sp.eye(2)
    cross = theta * loadings
    return sp.simplify(theta**2 + s2 - (cross.T * covariance.inv() * cross)[0] - RISK)


def _from_scores():
    """The same from the score B^T x alone."""
    size = b0**2 + b1**2
    score_variance, cross = size**2 + s * size, theta * size
    return sp.simplify(theta**2 + s2 - cross**2 / score_variance - RISK)


least = Formula(
    title="Least risk of two inputs with one factor",
    backs="theory.bayes_icl.unsupervised_pretraining.factor_risk",
    symbol=sp.Symbol("R_0"),
    arguments=(b0, b1, s, theta, s2),
    domain={
        b0: Interval(-2, 2),
        b1: Interval(-2, 2),
        s: Interval(0.1, 2),
        theta: Interval(0.2, 2),
        s2: Interval(0.1, 2),
    },
    expression=RISK,
    proofs={"from all inputs": _from_inputs, "from the score": _from_scores},
    call=lambda b0, b1, s, theta, s2: (np.array([[b0], [b1]]), s, np.array([theta]), s2),
    source="textbook factor analysis",
)


def _inverse_chi():
    """One input: the mean of R_0 / sum x^2, chi squared of n degrees of freedom, n = 7."""
    t, degrees = sp.Symbol("t", positive=True), 7
    density = (
        t ** (sp.Rational(degrees, 2) - 1)
        * sp.exp(-t / 2)
        / (2 ** sp.Rational(degrees, 2) * sp.gamma(sp.Rational(degrees, 2)))
    )
    return sp.simplify(sp.integrate(density / t, (t, 0, sp.oo)) - 1 / sp.Integer(degrees - 2))


EXCESS = risk * p / (n - p - 1)

excess = Formula(
    title="Excess risk of least squares",
    backs="theory.bayes_icl.unsupervised_pretraining.regression_excess",
    symbol=sp.Symbol("excess"),
    arguments=(risk, p, n),
    domain={risk: Interval(0.1, 3), p: Interval(1, 40), n: Interval(45, 500)},
    expression=EXCESS,
    proofs={
        "one input": _inverse_chi,
        "one input, by the formula": lambda: sp.simplify(EXCESS.subs({p: 1, n: 7, risk: 1}) - sp.Rational(1, 5)),
    },
    source="mean of an inverse Wishart matrix",
)

EVEN = d + 1 + d / r * (n - r - 1)

even = Formula(
    title="Labels that plain regression needs for the same",
    backs="theory.bayes_icl.unsupervised_pretraining.break_even_labels",
    symbol=sp.Symbol("n'"),
    arguments=(d, r, n),
    domain={d: Interval(10, 100), r: Interval(1, 9), n: Interval(12, 300)},
    expression=EVEN,
    proofs={"equal excess": lambda: sp.simplify(EXCESS.subs({p: d, n: EVEN}) - EXCESS.subs(p, r))},
    source="from the excess",
)
