"""Counts of symbols: integrals over all urns, the rule of succession, and losses as sums over all strings."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a1, a2, a3 = sp.symbols("a_1 a_2 a_3", positive=True)
p, q, s = sp.symbols("p q s", positive=True)
PRIOR = {a: Interval(0.05, 40, log=True) for a in (a1, a2, a3)}
COUNTS = (3, 0, 4)
LENGTH = 3


def rising(a, c):
    """a (a + 1) ... (a + c - 1)."""
    return sp.prod([a + i for i in range(c)])


def probability(prior, counts):
    """Of a string of these counts, symbol by symbol: ratios of rising factorials."""
    each = sp.prod([rising(a, c) for a, c in zip(prior, counts, strict=True)])
    return each / rising(sum(prior), sum(counts))


def _integral():
    """The probability of a string, averaged over all urns of two and of three symbols."""
    x, y = sp.symbols("x y", positive=True)
    two = sp.integrate(x ** (2 - 1 + 3) * (1 - x) ** (3 - 1 + 2), (x, 0, 1)) * 12
    density = sp.factorial(5) / (sp.factorial(1) * sp.factorial(2))
    inner = sp.integrate(sp.expand(x**2 * y ** (1 + 1) * (1 - x - y) ** (2 + 1)), (y, 0, 1 - x))
    three = density * sp.integrate(sp.expand(inner), (x, 0, 1))
    return sp.Matrix([two - probability((2, 3), (3, 2)), three - probability((1, 2, 3), (2, 1, 1))])


def _succession():
    """One symbol more multiplies the probability by the prediction."""
    prior = (a1, a2, a3)
    more = [tuple(c + (i == j) for i, c in enumerate(COUNTS)) for j in range(3)]
    ratios = [probability(prior, c) / probability(prior, COUNTS) for c in more]
    n = sum(COUNTS)
    return sp.Matrix([sp.cancel(r - (a + c) / (sum(prior) + n)) for r, a, c in zip(ratios, prior, COUNTS, strict=True)])


def strings(symbols, length):
    """All strings, one in each row."""
    return list(itertools.product(range(symbols), repeat=length))


def tally(string, symbols):
    return tuple(string.count(j) for j in range(symbols))


def _expected(prior, n):
    """Loss at position n, from the law of each symbol's count alone."""
    total = sum(prior)
    terms = []
    for a in prior:
        for c in range(n + 1):
            chance = sp.binomial(n, c) * rising(a, c) * rising(total - a, n - c) / rising(total, n)
            share = (a + c) / (total + n)
            terms.append(-chance * share * sp.log(share))
    return sum(terms)


def _all_strings():
    """The law of one symbol's count is that over all strings of n symbols."""
    prior, n, left = (a1, a2, a3), 2, []
    for c in range(n + 1):
        enumerated = sum(probability(prior, tally(past, 3)) for past in strings(3, n) if past.count(0) == c)
        chance = sp.binomial(n, c) * rising(a1, c) * rising(a2 + a3, n - c) / rising(a1 + a2 + a3, n)
        left.append(sp.cancel(enumerated - chance))
    return sp.Matrix(left)


def _known_urn(theta, n):
    """Loss of counts from one on an urn, by the binomial law of each count."""
    k = len(theta)
    terms = [
        sp.binomial(n, c) * t**c * (1 - t) ** (n - c) * t * sp.log(sp.Rational(1 + c, k + n))
        for t in theta
        for c in range(n + 1)
    ]
    return -sum(terms)


def _known_urn_strings():
    theta, n = (p, q, 1 - p - q), 2
    total = 0
    for string in strings(3, n + 1):
        chance = sp.prod([theta[j] for j in string])
        total -= chance * sp.log(sp.Rational(1 + string[:n].count(string[n]), 3 + n))
    return sp.simplify(sp.expand(sp.expand_log(total - _known_urn(theta, n), force=True)))


def _pool(urns, n):
    """Loss at position n of whoever weighs the urns of a pool, from entropies of counts."""

    def entropy(length):
        total = 0
        for c in range(length + 1):
            mixed = sum(t**c * (1 - t) ** (length - c) for t in urns) / len(urns)
            total -= sp.binomial(length, c) * mixed * sp.log(mixed)
        return total

    return entropy(n + 1) - entropy(n)


def _pool_strings():
    """The same from Bayes' rule along all strings."""
    urns, n, total = (p, q), 1, 0
    for string in strings(2, n + 1):
        chances = [sp.prod([t if x else 1 - t for x in string]) for t in urns]
        before = [sp.prod([t if x else 1 - t for x in string[:n]]) for t in urns]
        # Sums of logarithms of the same products, whose order SymPy need not see through.
        total -= sum(chances) / 2 * (sp.log(sum(chances) / 2) - sp.log(sum(before) / 2))
    points = [(sp.Rational(1, 3), sp.Rational(1, 7)), (sp.Rational(2, 5), sp.Rational(9, 10))]
    return sp.Matrix([_exactly((total - _pool(urns, n)).subs({p: x, q: y})) for x, y in points])


def _exactly(number):
    """Zero, if it is zero to thirty digits."""
    return sp.nsimplify(number.evalf(40), tolerance=1e-30)


def _entropy_of_one():
    """E -t ln t = -d/ds E t^s at s = 1 for t of Beta(a, A - a)."""
    moment = sp.gamma(a1 + s) * sp.gamma(a1 + a2) / (sp.gamma(a1) * sp.gamma(a1 + a2 + s))
    slope = -sp.diff(moment, s).subs(s, 1)
    stated = a1 / (a1 + a2) * (sp.digamma(a1 + a2 + 1) - sp.digamma(a1 + 1))
    return sp.gammasimp(sp.expand_func(slope - stated))


prediction = Formula(
    title="Next symbol after counts (3, 0, 4)",
    backs="theory.bayes_icl.dirichlet_ngrams.ngram_predictions",
    symbol=sp.Symbol("p"),
    arguments=(a1, a2, a3),
    domain=PRIOR,
    expression=-sp.log((a2 + 0) / (a1 + a2 + a3 + 7)),
    proofs={"ratio of two probabilities": _succession},
    call=lambda *a: (np.array([0, 2, 2, 0, 2, 0, 2]), 3, 0, np.array(a)),
    read=lambda found: -found.log_law[-1, 1],
    source="Laplace's rule of succession",
)

string = Formula(
    title="Log probability of a string",
    backs="theory.bayes_icl.dirichlet_ngrams.log_evidence",
    symbol=sp.Symbol("ln p"),
    arguments=(a1, a2, a3),
    domain=PRIOR,
    expression=sp.log(probability((a1, a2, a3), COUNTS)),
    proofs={"mean over all urns": _integral, "chain rule": _succession},
    call=lambda *a: (np.array(COUNTS), np.array(a)),
    source="textbook",
)

fresh_loss = Formula(
    title="Loss on fresh urns after two symbols",
    backs="theory.bayes_icl.dirichlet_ngrams.expected_loss",
    symbol=sp.Symbol("L"),
    arguments=(a1, a2, a3),
    domain=PRIOR,
    expression=_expected((a1, a2, a3), 2),
    proofs={"all strings": _all_strings, "uniform at first": lambda: _expected((s, s), 0) - sp.log(2)},
    call=lambda *a: (np.array(a), LENGTH),
    read=lambda found: found[2],
    source="derived here",
)

known_loss = Formula(
    title="Loss of counts on a given urn after two symbols",
    backs="theory.bayes_icl.dirichlet_ngrams.urn_loss",
    symbol=sp.Symbol("L"),
    arguments=(p, q),
    domain={p: Interval(0, 0.5), q: Interval(0, 0.5)},
    expression=_known_urn((p, q, 1 - p - q), 2),
    proofs={"all strings": _known_urn_strings},
    call=lambda x, y: (np.array([[x, y, max(1 - x - y, 0.0)]]), LENGTH),
    read=lambda found: found[0, 2],
    source="derived here",
)

remembered_loss = Formula(
    title="Loss of the predictor that memorises two urns, after one symbol",
    backs="theory.bayes_icl.dirichlet_ngrams.pool_loss",
    symbol=sp.Symbol("L"),
    arguments=(p, q),
    domain={p: Interval(0.05, 0.95), q: Interval(0.05, 0.95)},
    expression=_pool((p, q), 1),
    proofs={
        "all strings": _pool_strings,
        "one urn is known at once": lambda: _exactly((_pool((p, p), 1) - _pool((p,), 0)).subs(p, sp.Rational(2, 7))),
    },
    call=lambda x, y: (np.array([[x, 1 - x], [y, 1 - y]]), 2),
    read=lambda found: found[1],
    source="derived here",
)

entropy = Formula(
    title="Mean entropy of an urn of two symbols",
    backs="theory.bayes_icl.dirichlet_ngrams.urn_entropy",
    symbol=sp.Symbol("H"),
    arguments=(a1, a2),
    domain={a: Interval(0.05, 40, log=True) for a in (a1, a2)},
    expression=sp.digamma(a1 + a2 + 1) - (a1 * sp.digamma(a1 + 1) + a2 * sp.digamma(a2 + 1)) / (a1 + a2),
    proofs={"slope of a moment": _entropy_of_one},
    call=lambda *a: (np.array(a),),
    source="textbook",
)
