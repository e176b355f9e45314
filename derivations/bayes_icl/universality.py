"""Two coins and two tosses, prediction by prediction; and Jensen's inequality as the best of all mixtures of bounds."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

theta, q1, q2, w, r, k1, k2, n = sp.symbols("theta theta_1 theta_2 w r K_1 K_2 n", positive=True)
UNIT = Interval(0.02, 0.98)


def chance(p, sequence):
    """Of one sequence of tosses."""
    return sp.prod([p if one else 1 - p for one in sequence])


def mixture(sequence):
    return w * chance(q1, sequence) + (1 - w) * chance(q2, sequence)


TOSSES = list(itertools.product((0, 1), repeat=2))
_regret = sum(chance(theta, s) * sp.log(chance(theta, s) / mixture(s)) for s in TOSSES)


def _predicted(sequence):
    """Probability of a sequence from predictions with posterior weights, toss by toss, less that of the mixture."""
    weights, found = [w, 1 - w], sp.Integer(1)
    for one in sequence:
        likelihood = [chance(q, (one,)) for q in (q1, q2)]
        now = sum(a * b for a, b in zip(weights, likelihood, strict=True))
        found *= now
        weights = [a * b / now for a, b in zip(weights, likelihood, strict=True)]
    return sp.simplify(found - mixture(sequence))


regret = Formula(
    title="Regret of a mixture of two coins in two tosses",
    backs="theory.bayes_icl.universality.coin_regret",
    symbol=sp.Symbol("R_2"),
    arguments=(theta, q1, q2, w),
    domain={theta: UNIT, q1: UNIT, q2: UNIT, w: Interval(0.05, 0.95)},
    # Away from its zero.
    expression=1 + _regret,
    proofs={
        "predictions multiply to the mixture": lambda: sp.Matrix([_predicted(s) for s in TOSSES]),
        "the truth alone pays nothing": lambda: sp.simplify(_regret.subs({q1: theta, q2: theta})),
    },
    call=lambda t, a, b, w: (t, np.array([a, b]), 2, np.log([w, 1 - w])),
    read=lambda found: 1 + found,
    source="a definition",
)

_bound = -sp.log(w * sp.exp(-n * k1) + (1 - w) * sp.exp(-n * k2))
# Weights of the two, and what a fixed posterior (r, 1 - r) pays: E_r n K + KL(r || w) bounds the regret for any r.
first, second = sp.symbols("w_1 w_2", positive=True)


def _paid(r, rest):
    return n * (r * k1 + rest * k2) + r * sp.log(r / first) + rest * sp.log(rest / second)


def _least():
    """The bound is the least of them: its value at the posterior that is stationary, and convex."""
    total = first * sp.exp(-n * k1) + second * sp.exp(-n * k2)
    best, rest = first * sp.exp(-n * k1) / total, second * sp.exp(-n * k2) / total
    slope = sp.diff(_paid(r, 1 - r), r)
    at_best = sp.log(best / first) - sp.log(rest / second) + n * (k1 - k2)
    stated = _bound.subs(w, first).subs(1 - first, second)
    return sp.Matrix(
        [
            sp.simplify(sp.expand_log(slope - (sp.log(r / first) - sp.log((1 - r) / second) + n * (k1 - k2)))),
            sp.simplify(sp.expand_log(sp.simplify(at_best), force=True)),
            sp.simplify(sp.expand_log(sp.simplify(_paid(best, rest)) - stated, force=True)),
            sp.simplify(sp.diff(slope, r) - 1 / r - 1 / (1 - r)),
        ]
    )


bound = Formula(
    title="Bound on the regret of a mixture of two",
    backs="theory.bayes_icl.universality.mixture_regret_bound",
    symbol=sp.Symbol("B"),
    arguments=(k1, k2, n, w),
    domain={
        k1: Interval(1e-3, 2, log=True),
        k2: Interval(1e-3, 2, log=True),
        n: Interval(0.1, 500, log=True),
        w: Interval(0.01, 0.99),
    },
    expression=_bound,
    proofs={"least of all posteriors' bounds": _least, "nothing seen": sp.simplify(_bound.subs(n, 0))},
    call=lambda a, b, n, w: (np.array([a, b]), n, np.log([w, 1 - w])),
    source="Jensen's inequality; Donsker & Varadhan 1975",
)
