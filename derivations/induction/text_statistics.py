"""Statistics of texts: likelihood of a power law, small texts in all their orders, Heaps' law from its integral."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

alpha, n, k = sp.symbols("alpha n k", positive=True)
COUNTS = sp.symbols("n_1 n_2 n_3", positive=True)
n1, n2, n3 = COUNTS
RANKS = (1, 2, 3)
SKEWED = {n1: Interval(50, 100), n2: Interval(20, 45), n3: Interval(5, 18)}

_total = sum(RANKS[i] ** -alpha for i in range(3))
_p = [r**-alpha / _total for r in RANKS]
_mean = sum(p * sp.log(r) for p, r in zip(_p, RANKS, strict=True))
_variance = sum(p * sp.log(r) ** 2 for p, r in zip(_p, RANKS, strict=True)) - _mean**2
_log_likelihood = sum(c * sp.log(p) for c, p in zip(COUNTS, _p, strict=True))
_score = sum(c * sp.log(r) for c, r in zip(COUNTS, RANKS, strict=True)) / sum(COUNTS) - _mean

exponent = Formula(
    title="Exponent of a power law of three ranks",
    backs="theory.induction.text_statistics.zipf_fit",
    symbol=alpha,
    arguments=COUNTS,
    domain=SKEWED,
    law=_score,
    proofs={
        "the likelihood is stationary": lambda: sp.simplify(
            sp.diff(_log_likelihood, alpha) + sum(COUNTS) * _score,
        ),
        "its curvature is the variance": lambda: sp.simplify(
            sp.diff(_log_likelihood, alpha, 2) + sum(COUNTS) * _variance,
        ),
    },
    call=lambda *counts: (np.array(counts),),
    read=lambda fit: fit.exponent,
    source="maximum likelihood",
)

_two = sp.log(n1 / n2) / sp.log(2)

error = Formula(
    title="Standard error of the exponent of two ranks",
    backs="theory.induction.text_statistics.zipf_fit",
    symbol=sp.Symbol("s"),
    arguments=(n1, n2),
    domain=SKEWED,
    expression=sp.sqrt((n1 + n2) / (n1 * n2)) / sp.log(2),
    proofs={
        # The spread of the exponent log_2(n_1 / n_2) itself, from that of binomial counts.
        "binomial counts": lambda: sp.simplify(
            sum(sp.diff(_two, x) ** 2 for x in (n1, n2)) * n1 * n2 / (n1 + n2)
            - 2 * sp.diff(_two, n1) * sp.diff(_two, n2) * n1 * n2 / (n1 + n2)
            - (n1 + n2) / (n1 * n2 * sp.log(2) ** 2)
        ),
    },
    call=lambda *counts: (np.array(counts),),
    read=lambda fit: fit.standard_error,
    source="maximum likelihood",
)

# A text of words that occur three times, twice and once.
TEXT = "aaabbc"


def recurs(counts, window):
    """One place of the window after the other holds none of the word: n_k - 1 are left for n - 1 places."""
    total = sum(counts)
    missed = [sp.prod([(total - m - j) / sp.sympify(total - 1 - j) for j in range(window)]) for m in counts]
    return sum(m * (1 - miss) for m, miss in zip(counts, missed, strict=True)) / sp.sympify(total)


def types(counts, tokens):
    total = sum(counts)
    return sum(1 - sp.prod([(total - m - j) / sp.sympify(total - j) for j in range(tokens)]) for m in counts)


def _orders(statistic):
    every = list(itertools.permutations(TEXT))
    return sp.Rational(sum(statistic(order) for order in every), len(every))


shuffled = Formula(
    title="Recurrence within two words of a shuffled text",
    backs="theory.induction.text_statistics.shuffled_recurrence",
    symbol=sp.Symbol("R"),
    arguments=(n,),
    domain={n: Interval(2, 200)},
    expression=recurs((3, 2, 1, 2 * sp.floor(n)), 2),
    proofs={
        "all orders, two": lambda: _orders(lambda w: w[2] in w[:2]) - recurs((3, 2, 1), 2),
        "all orders, three, a later place": lambda: _orders(lambda w: w[5] in w[2:5]) - recurs((3, 2, 1), 3),
        "independent draws, in a long text": lambda: (
            sp.limit(recurs((3 * n, 2 * n, n), 2), n, sp.oo)
            - sum(sp.Rational(m, 6) * (1 - (1 - sp.Rational(m, 6)) ** 2) for m in (3, 2, 1))
        ),
    },
    call=lambda n: (np.array([3, 2, 1, 2 * np.floor(n)]), 2),
    source="derived here",
)

rarefied = Formula(
    title="Different words among the first three of a shuffled text",
    backs="theory.induction.text_statistics.shuffled_types",
    symbol=sp.Symbol("V"),
    arguments=(n,),
    domain={n: Interval(2, 200)},
    expression=types((3, 2, 1, 2 * sp.floor(n)), 3),
    proofs={
        "all orders": lambda: _orders(lambda w: len(set(w[:3]))) - types((3, 2, 1), 3),
        "what is new adds to what is different": lambda: (
            types((3, 2, 1), 4) - types((3, 2, 1), 3) - (1 - recurs((3, 2, 1), 3))
        ),
    },
    call=lambda n: (np.array([3, 2, 1, 2 * np.floor(n)]), 3),
    source="Hurlbert 1971, Ecology 52, 577",
)

_r, _alone, _b = sp.symbols("R R_0 b", positive=True)

bursty = Formula(
    title="Bursty fraction that makes classes recur as often",
    backs="theory.induction.text_statistics.equivalent_bursty",
    symbol=_b,
    arguments=(_r, _alone),
    domain={_r: Interval(0.5, 1), _alone: Interval(0, 0.4)},
    expression=(_r - _alone) / (1 - _alone),
    proofs={"the mixture recurs as observed": (_b + (1 - _b) * _alone - _r).subs(_b, (_r - _alone) / (1 - _alone))},
    source="a definition",
)

_u = sp.Symbol("u", positive=True)
_heaps = sp.gamma(1 - 1 / alpha) * (n / sp.zeta(alpha)) ** (1 / alpha)


def _integral():
    """int_0^oo [1 - exp(-n p(k))] dk by parts, u = n p(k) = (n / zeta) k^-alpha, at alpha = 3/2 and 2 and 3."""
    left = []
    for value in (sp.Rational(3, 2), 2, 3):
        # k = (n / zeta)^{1/alpha} u^{-1/alpha}, d(1 - e^{-u}) = e^{-u} du.
        found = sp.integrate(_u ** (-1 / sp.sympify(value)) * sp.exp(-_u), (_u, 0, sp.oo))
        left.append(found * (n / sp.zeta(value)) ** (1 / sp.sympify(value)) - _heaps.subs(alpha, value))
    return sp.Matrix(left)


heaps = Formula(
    title="Growth of different words under a power law",
    backs="theory.induction.text_statistics.heaps_growth",
    symbol=sp.Symbol("V"),
    arguments=(n, alpha),
    domain={n: Interval(1, 1e9, log=True), alpha: Interval(1.05, 4)},
    expression=_heaps,
    proofs={"the sum over words as an integral": _integral},
    source="Karlin 1967, J. Math. Mech. 17, 373",
)
