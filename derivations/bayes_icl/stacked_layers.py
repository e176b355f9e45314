"""What the best steps and layers leave: least squares in the space of polynomials with value one at zero."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

lam, f, noise, tau2 = sp.symbols("lambda f sigma^2 tau^2", positive=True)
one, two, three = lams = sp.symbols("lambda_1:4", positive=True)
eta = sp.Symbol("eta", real=True)

RISK = tau2 * (1 - f) ** 2 + noise * f**2 / lam


def _one_direction():
    """A share f of w + e / sqrt(lambda): least squares is off by noise of variance sigma^2 / lambda."""
    w, e = sp.symbols("w e", real=True)
    apart = sp.expand((f * (w + e / sp.sqrt(lam)) - w) ** 2)
    moments = {w**2: tau2, e**2: noise}
    mean = sum(
        apart.coeff(w, i).coeff(e, j) * moments.get(w**i * e**j, int(i + j == 0) if (i + j) % 2 == 0 else 0)
        for i in range(3)
        for j in range(3 - i)
    )
    return sp.simplify(mean - RISK)


filter_risk = Formula(
    title="Error of a filter of the spectrum",
    backs="theory.bayes_icl.stacked_layers.filter_risk",
    symbol=sp.Symbol("R"),
    arguments=(lam, f, noise, tau2),
    domain={lam: Interval(0.1, 5), f: Interval(0, 1.2), noise: Interval(0.01, 2), tau2: Interval(0.1, 3)},
    expression=RISK,
    proofs={"noise and what is not learned": _one_direction},
    call=lambda lam, f, noise, tau2: (np.array([[lam]]), np.array([[f]]), noise, tau2),
    source="derived here; the rules are those of Akyurek et al. 2023 (arXiv:2211.15661)",
)


def _one_step_risk(rate):
    """Mean over two prompts of one eigenvalue each."""
    return sum(RISK.subs({f: rate * x, lam: x}, simultaneous=True) for x in (one, two)) / 2


BEST_RATE = tau2 * (one + two) / (tau2 * (one**2 + two**2) + noise * (one + two))
ONE_STEP = sp.together(_one_step_risk(BEST_RATE))
EIGENVALUES = {one: Interval(0.2, 1), two: Interval(1.5, 3), noise: Interval(0.05, 1), tau2: Interval(0.3, 2)}

one_step = Formula(
    title="Error of the best step of gradient descent",
    backs="theory.bayes_icl.stacked_layers.best_descent",
    symbol=sp.Symbol("R_1"),
    arguments=(one, two, noise, tau2),
    domain=EIGENVALUES,
    expression=ONE_STEP,
    proofs={
        "no slope": lambda: sp.simplify(sp.diff(_one_step_risk(eta), eta).subs(eta, BEST_RATE)),
        "the filter of one step": lambda: sp.simplify(
            _one_step_risk(eta)
            - (tau2 * ((1 - eta * one) ** 2 + (1 - eta * two) ** 2) + noise * eta**2 * (one + two)) / 2
        ),
    },
    call=lambda one, two, noise, tau2: (np.array([[one], [two]]), 1, noise, tau2),
    read=lambda found: found.risk,
    source="derived here; for Gaussian inputs its mean is the layer of Ahn et al. 2023 (arXiv:2306.00297)",
)

LAGRANGE = [sp.prod(y / (y - x) for y in lams if y != x) for x in lams]
LEAST = 1 / sum(value**2 for value in LAGRANGE)


def _least_squares():
    """Values v of 1 - f at three eigenvalues with sum v l(0) = 1: the shortest is l(0) / |l(0)|^2."""
    multiplier = sp.Symbol("mu")
    values = [multiplier * value for value in LAGRANGE]
    (mu,) = sp.solve(sum(v * value for v, value in zip(values, LAGRANGE, strict=True)) - 1, multiplier)
    return sp.simplify(sum(v.subs(multiplier, mu) ** 2 for v in values) - LEAST)


def _interpolates():
    """A polynomial of degree two is one at zero if its values at the eigenvalues meet that."""
    a, b = sp.symbols("a b")
    p = 1 + a * lam + b * lam**2
    return sp.simplify(sum(p.subs(lam, x) * value for x, value in zip(lams, LAGRANGE, strict=True)) - 1)


two_steps = Formula(
    title="Error of the best two steps for three eigenvalues, without noise",
    backs="theory.bayes_icl.stacked_layers.best_descent",
    symbol=sp.Symbol("R_2"),
    arguments=lams,
    domain={one: Interval(0.2, 0.6), two: Interval(1, 2), three: Interval(3, 5)},
    expression=LEAST,
    proofs={"shortest values": _least_squares, "their one condition": _interpolates},
    call=lambda one, two, three: (np.array([[one, two, three]]), 2),
    read=lambda found: found.risk,
    source="derived here: Christoffel's function of the eigenvalues at zero",
)

one_layer = Formula(
    title="Rate of the best single layer",
    backs="theory.bayes_icl.stacked_layers.best_layers",
    symbol=sp.Symbol("eta"),
    arguments=(one, two, noise, tau2),
    domain=EIGENVALUES,
    expression=BEST_RATE,
    proofs={
        "no slope": lambda: sp.simplify(sp.diff(_one_step_risk(eta), eta).subs(eta, BEST_RATE)),
        "a least one": lambda: sp.simplify(
            sp.diff(_one_step_risk(eta), eta, 2) - (tau2 * (one**2 + two**2) + noise * (one + two))
        ),
    },
    call=lambda one, two, noise, tau2: (np.array([[one], [two]]), 1, noise, tau2),
    read=lambda found: found.rates[0],
    source="derived here; von Oswald et al. 2023 (arXiv:2212.07677) train it",
)
