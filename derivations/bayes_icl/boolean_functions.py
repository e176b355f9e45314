"""Conjunctions counted literal by literal: before any example, and after a negative one and a positive one."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

p0, rho = sp.symbols("p_0 rho", positive=True)
p1 = (1 - p0) / 2
SOURCE = "derived for the generators of Bhattamishra et al. 2023 (arXiv:2310.03016)"
DOMAIN = {p0: Interval(0.05, 0.95), rho: Interval(0, 0.9)}

D = 3
QUERY = (1, 1, 1)
NEGATIVE = (1, -1, -1)
POSITIVE = (1, 1, -1)


def holds(w, x):
    return all(a in (0, b) for a, b in zip(w, x, strict=True))


def density(w, x):
    """2^d times the density of an input: uniform, or uniform among those that satisfy w."""
    k = sum(a != 0 for a in w)
    satisfying = [z for z in itertools.product((-1, 1), repeat=D) if holds(w, z)]
    assert len(satisfying) == 2 ** (D - k)
    return 1 - rho + (rho * sp.Integer(2) ** D / len(satisfying) if x in satisfying else 0)


def chance(query, examples):
    """P(y = 1) by enumeration of all 3^d conjunctions."""
    totals = {True: 0, False: 0}
    for w in itertools.product((0, 1, -1), repeat=D):
        if all(holds(w, x) == y for x, y in examples):
            weight = sp.prod([p0 if a == 0 else p1 for a in w])
            weight *= sp.prod([density(w, x) for x in (*[x for x, _ in examples], query)])
            totals[holds(w, query)] += weight
    return totals[True] / (totals[True] + totals[False])


_first = rho + (1 - rho) * ((1 + p0) / 2) ** D

first = Formula(
    title="Chance that an input satisfies a conjunction of which nothing is known",
    backs="theory.bayes_icl.boolean_functions.conjunction_predictions",
    symbol=sp.Symbol("P"),
    arguments=(p0, rho),
    domain=DOMAIN,
    expression=_first,
    proofs={"enumeration": lambda: sp.simplify(chance(QUERY, ()) - _first)},
    call=lambda p, r: (np.array([QUERY], float), np.zeros(1), p, r),
    read=lambda found: found[0],
    source=SOURCE,
)


def _sums(agreed, positives, negatives):
    """sum_k C(a, k) p_1^k p_0^{d-k} f(k)."""
    return sum(
        sp.binomial(agreed, k) * p1**k * p0 ** (D - k) * (1 - rho + rho * 2**k) ** positives * (1 - rho) ** negatives
        for k in range(agreed + 1)
    )


# The positive example agrees with the query on two coordinates, with the negative one on two, all three on one.
_true = _sums(2, 2, 1) - _sums(1, 2, 1)
_false = _sums(3, 1, 2) - _sums(2, 1, 2) - _sums(2, 1, 2) + _sums(1, 1, 2)

later = Formula(
    title="The same after a positive and a negative example",
    backs="theory.bayes_icl.boolean_functions.conjunction_chance",
    symbol=sp.Symbol("P"),
    arguments=(p0, rho),
    domain=DOMAIN,
    expression=_true / (_true + _false),
    proofs={
        "inclusion and exclusion is enumeration": lambda: sp.factor(
            chance(QUERY, ((POSITIVE, True), (NEGATIVE, False))) - _true / (_true + _false)
        )
    },
    call=lambda p, r: (np.array(QUERY, float), np.array([POSITIVE], float), np.array([NEGATIVE], float), p, r),
    source=SOURCE,
)

beta = sp.Symbol("beta", nonnegative=True)
# Of the query one earlier input differs in one coordinate of three, the other in two: cosines 1/3 and -1/3.
_read = 1 / (1 + sp.exp(-sp.Rational(2, 3) * beta))


def _cosine(x, z):
    return sp.Rational(sum(a * b for a, b in zip(x, z, strict=True)), len(x))


def _softmax():
    near, far = (sp.exp(beta * _cosine(QUERY, z)) for z in (POSITIVE, NEGATIVE))
    return sp.simplify(near / (near + far) - _read)


neighbour = Formula(
    title="What a head of attention reads of the nearer of two examples",
    backs="theory.bayes_icl.boolean_functions.neighbour_head",
    symbol=sp.Symbol("P"),
    arguments=(beta,),
    domain={beta: Interval(0, 40)},
    expression=_read,
    proofs={
        "softmax of cosines": _softmax,
        "the nearest in the limit": lambda: sp.limit(_read, beta, sp.oo) - 1,
    },
    call=lambda b: (np.array([POSITIVE, NEGATIVE, QUERY], float), np.array([1.0, 0.0, 0.0]), b),
    read=lambda found: found[2],
    source="Bhattamishra et al. 2023 (arXiv:2310.03016)",
)
