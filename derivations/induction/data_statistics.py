"""Statistics of sequences of items and labels: small worlds summed over all their sequences, Gaussian moments."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a, b, N, B = sp.symbols("a b N B", positive=True)
bursty = sp.Symbol("beta", nonnegative=True)
epsilon, D = sp.symbols("epsilon D", positive=True)

THREE = (a / (a + b + 1), b / (a + b + 1), 1 / (a + b + 1))
FOUR = (a / (a + b + 3), b / (a + b + 3), 1 / (a + b + 3), 2 / (a + b + 3))
SIZES = {a: Interval(1e-3, 1e3, log=True), b: Interval(1e-3, 1e3, log=True)}
SOURCE = "derived for the generator of Reddy 2024 (arXiv:2312.03002) and Chan et al. 2022 (arXiv:2205.05055)"


def mean(p, draws, statistic):
    """Of a statistic of so many independent draws from p: the sum over all of them."""
    every = itertools.product(range(len(p)), repeat=draws)
    return sum(sp.prod([p[k] for k in drawn]) * statistic(drawn) for drawn in every)


def recurs(p, n):
    return sum(q * (1 - (1 - q) ** n) for q in p)


def differ(p, n):
    return sum(1 - (1 - q) ** n for q in p)


recurrence = Formula(
    title="Probability that the class of the target is in its context",
    backs="theory.induction.data_statistics.recurrence",
    symbol=sp.Symbol("R"),
    arguments=(a, b, N, bursty),
    domain={**SIZES, N: Interval(1, 1000, log=True), bursty: Interval(0, 1)},
    expression=bursty + (1 - bursty) * recurs(THREE, N),
    proofs={
        "all contexts of three": lambda: sp.together(
            mean(THREE, 4, lambda drawn: int(drawn[-1] in drawn[:-1])) - recurs(THREE, 3)
        ),
        "what is new adds to what is distinct": lambda: (
            sp.expand(differ((a, b), 4) - differ((a, b), 3) - a - b) + sp.expand(recurs((a, b), 3))
        ),
    },
    call=lambda a, b, n, beta: (np.array([a, b, 1]) / (a + b + 1), n, beta),
    source=SOURCE,
)

distinct = Formula(
    title="Expected number of distinct classes",
    backs="theory.induction.data_statistics.distinct",
    symbol=sp.Symbol("V"),
    arguments=(a, b, N),
    domain={**SIZES, N: Interval(1, 1000, log=True)},
    expression=differ(THREE, N),
    proofs={
        "all contexts of three": lambda: sp.together(mean(THREE, 3, lambda drawn: len(set(drawn))) - differ(THREE, 3)),
    },
    call=lambda a, b, n: (np.array([a, b, 1]) / (a + b + 1), n),
    source=SOURCE,
)


def _matches():
    """Two classes, twice each, the target's that of a random item; and the few-shot 3 + 3 + 1 with one more draw."""
    alike = sum(p**2 for p in THREE)
    twice = mean(THREE, 2, lambda drawn: sum(drawn[i // 2] == drawn[j // 2] for i in range(4) for j in range(4)))
    few = mean(THREE, 3, lambda drawn: 3 + 3 * (drawn[1] == drawn[0]) + (drawn[2] == drawn[0]))
    return sp.Matrix([sp.together(twice / 4 - (2 + 2 * alike)), sp.together(few - (3 + 4 * alike))])


matches = Formula(
    title="Expected number of items of the target's class",
    backs="theory.induction.data_statistics.matches",
    symbol=sp.Symbol("M"),
    arguments=(a, b, N, B),
    domain={**SIZES, N: Interval(8, 100), B: Interval(0, 8)},
    expression=B + (N - B) * sum(p**2 for p in THREE),
    proofs={"all sequences of two templates": _matches},
    call=lambda a, b, n, copies: (np.array([a, b, 1]) / (a + b + 1), n, copies),
    source=SOURCE,
)


def _copied(p, n):
    """Four classes, two labels: a matching item's label, or that of a random item of the context."""
    total = recurs(p, n)
    for k, q in enumerate(p):
        total += q * (1 - q) ** (n - 1) * (p[k % 2] + p[k % 2 + 2] - q)
    return total


def _right(drawn):
    *context, target = drawn
    return int(target in context) or sp.Rational(sum(k % 2 == target % 2 for k in context), len(context))


in_context = Formula(
    title="Accuracy on independent sequences of who looks labels up",
    backs="theory.induction.data_statistics.in_context_accuracy",
    symbol=sp.Symbol("A_iid"),
    arguments=(a, b),
    domain=SIZES,
    expression=_copied(FOUR, 3),
    proofs={"all contexts of three": lambda: sp.together(mean(FOUR, 4, _right) - _copied(FOUR, 3))},
    call=lambda a, b: (np.array([a, b, 1, 2]) / (a + b + 3), 2, 3, True),
    read=lambda accuracy: accuracy.iid,
    source=SOURCE,
)


def _gaussian_mean(polynomial, scales):
    """E of a polynomial of independent N(0, scale^2): odd moments vanish, even ones are (k - 1)!! scale^k."""
    total = 0
    for powers, coefficient in sp.Poly(sp.expand(polynomial), *scales).terms():
        moments = [sp.factorial2(k - 1) * scales[g] ** k if k % 2 == 0 else 0 for g, k in zip(scales, powers, strict=1)]
        total += coefficient * sp.prod(moments)
    return total


rho = 1 / (1 + epsilon**2)
_m, _w, _g, _h = sp.symbols("m w g h", real=True)


def _overlap(other, moment):
    """Of one exemplar with another about the same mean or not, from one of D independent coordinates."""
    scales = dict.fromkeys((_m, _w, _g, _h), 1 / sp.sqrt(D))
    product = (_m + epsilon * _g) * (other + epsilon * _h) * rho
    first = _gaussian_mean(product, scales)
    return D * first if moment == 1 else D * (_gaussian_mean(product**2, scales) - first**2)


overlap = Formula(
    title="Variance of the overlap of two exemplars of a class",
    backs="theory.induction.data_statistics.exemplar_overlap",
    symbol=sp.Symbol("var"),
    arguments=(epsilon, D),
    domain={epsilon: Interval(1e-3, 1e3, log=True), D: Interval(1, 1e4, log=True)},
    expression=(1 + rho**2) / D,
    proofs={
        "mean, same class": lambda: sp.simplify(_overlap(_m, 1) - rho),
        "variance, same class": lambda: sp.simplify(_overlap(_m, 2) - (1 + rho**2) / D),
        "mean, two classes": lambda: _overlap(_w, 1),
        "variance, two classes": lambda: sp.simplify(_overlap(_w, 2) - 1 / D),
    },
    read=lambda found: found[0].variance,
    source="derived for the exemplars of Reddy 2024 (arXiv:2312.03002)",
)

_r, _c, _x = sp.symbols("r c x", positive=True)


def _slope():
    """Target of length r / sqrt D: its overlap with a class mate leads by c r standard deviations, c = rho / sqrt(2 -
    rho^2). P = E Phi(-c r), r a chi variable: dP/dc = -E r phi(c r), and so is that of half the beta function."""
    chi = _r ** (D - 1) * sp.exp(-(_r**2) / 2) / (2 ** (D / 2 - 1) * sp.gamma(D / 2))
    by_chi = -sp.integrate(_r * chi * sp.exp(-(_c**2) * _r**2 / 2) / sp.sqrt(2 * sp.pi), (_r, 0, sp.oo))
    inner = 1 / (1 + _c**2)
    weight = sp.gamma((D + 1) / 2) / (sp.gamma(D / 2) * sp.sqrt(sp.pi))
    by_beta = weight / 2 * inner ** (D / 2 - 1) * (1 - inner) ** sp.Rational(-1, 2) * sp.diff(inner, _c)
    return sp.powsimp(sp.simplify(by_chi / by_beta)) - 1


def _lead():
    """Given the target, a class mate is rho target + sqrt(1 - rho^2) noise: the lead has variance 2 - rho^2."""
    lead, variance = rho, 1 + (1 - rho**2)
    return sp.simplify(1 / (1 + lead**2 / variance) - (1 - rho**2 / 2))


def _whole(d):
    """The integral behind I_x(D/2, 1/2) over all x = 1 - u^2 is the beta function, for even D."""
    return sp.integrate(2 * (1 - _x**2) ** (d // 2 - 1), (_x, 0, 1)) - sp.beta(d // 2, sp.Rational(1, 2)).rewrite(
        sp.gamma
    )


# Not betainc_regularized: SymPy hands that to mpmath without its normalisation.
_pair = sp.betainc(D / 2, sp.Rational(1, 2), 0, 1 - rho**2 / 2) / sp.beta(D / 2, sp.Rational(1, 2)) / 2

mismatch = Formula(
    title="Probability that an item of another class is more alike",
    backs="theory.induction.data_statistics.mismatch_bound",
    symbol=sp.Symbol("P_1"),
    arguments=(epsilon, D),
    domain={epsilon: Interval(0.01, 10, log=True), D: Interval(1, 300, log=True)},
    expression=_pair,
    proofs={
        "slope in the lead": _slope,
        "without a lead, a half": lambda: sp.Matrix([_whole(d) for d in (2, 4, 8)]),
        "the lead of a class mate": _lead,
    },
    call=lambda epsilon, d: (epsilon, d, 1.0),
    source="derived here: Student's t of D degrees of freedom",
)

matched = Formula(
    title="Probability that a class mate is more alike than one other item",
    backs="theory.induction.data_statistics.best_match",
    symbol=sp.Symbol("P"),
    arguments=(epsilon, D),
    domain={epsilon: Interval(0.01, 10, log=True), D: Interval(1, 1000, log=True)},
    expression=1 - _pair,
    proofs={
        "in two dimensions": lambda: (
            sp.integrate(_r * sp.exp(-(_r**2) / 2) * sp.erfc(_c * _r / sp.sqrt(2)) / 2, (_r, 0, sp.oo))
            - (1 - _c / sp.sqrt(1 + _c**2)) / 2
        ),
    },
    call=lambda epsilon, d: (epsilon, d, 1.0),
    source="derived here",
)
