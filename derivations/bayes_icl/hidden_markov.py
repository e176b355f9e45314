"""The forward filter from a sum over paths, and two concepts by Bayes' rule."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

p, a, d, b, c = sp.symbols("p a d b c", positive=True)
START = (p, 1 - p)
MOVE = ((a, 1 - a), (1 - d, d))
SHOW = ((b, 1 - b), (1 - c, c))
UNIT = {name: Interval(0.1, 0.9) for name in (p, a, d, b, c)}


def chance(string, show=SHOW):
    """Of a string, from all paths of hidden states."""
    total = sp.Integer(0)
    for path in itertools.product((0, 1), repeat=len(string)):
        term = START[path[0]]
        for before, after in itertools.pairwise(path):
            term *= MOVE[before][after]
        for state, symbol in zip(path, string, strict=True):
            term *= show[state][symbol]
        total += term
    return total


# The filter by hand: hidden state after the symbol 0, one move on, then the chance of 1.
SEEN = p * b + (1 - p) * (1 - c)
FIRST = (p * b * a + (1 - p) * (1 - c) * (1 - d)) / SEEN
NEXT = FIRST * (1 - b) + (1 - FIRST) * c

second = Formula(
    title="Log probability of the symbol 1 after a 0",
    backs="theory.bayes_icl.hidden_markov.filter_predictions",
    symbol=sp.Symbol("ln p(1 | 0)"),
    arguments=(p, a, d, b, c),
    domain=UNIT,
    expression=sp.log(NEXT),
    proofs={
        "sum over paths": lambda: sp.simplify(NEXT - chance((0, 1)) / chance((0,))),
        "laws sum to one": lambda: sp.simplify(chance((0, 1)) + chance((0, 0)) - chance((0,))),
    },
    call=lambda p, a, d, b, c: (np.array([0, 1]), *_model(p, a, d, b, c)),
    read=lambda found: found.log_law[1, 1],
    source="Baum & Petrie 1966",
)


def _model(p, a, d, b, c):
    return np.array([p, 1 - p]), np.array([[a, 1 - a], [1 - d, d]]), np.array([[b, 1 - b], [1 - c, c]])


OTHER = ((1 - b, b), (c, 1 - c))
WEIGHT = SEEN / (SEEN + p * (1 - b) + (1 - p) * c)
# With both symbols exchanged the second concept is as likely to show the one as the first is the other.
MIXED = WEIGHT * NEXT + (1 - WEIGHT) * (chance((0, 1), OTHER) / chance((0,), OTHER))


def _both(p, a, d, b, c):
    one = _model(p, a, d, b, c)
    turned = (*one[:2], one[2][:, ::-1])
    return (np.array([0, 1]), *(np.stack(parts) for parts in zip(one, turned, strict=True)))


mixed = Formula(
    title="Log probability of the symbol 1 after a 0, of two concepts",
    backs="theory.bayes_icl.hidden_markov.concept_predictions",
    symbol=sp.Symbol("ln p(1 | 0)"),
    arguments=(p, a, d, b, c),
    domain=UNIT,
    expression=sp.log(MIXED),
    proofs={
        "sum over paths and concepts": lambda: sp.simplify(
            MIXED - (chance((0, 1)) + chance((0, 1), OTHER)) / (chance((0,)) + chance((0,), OTHER))
        )
    },
    call=_both,
    read=lambda found: found.log_law[1, 1],
    source="Xie et al. 2022 (arXiv:2111.02080)",
)

posterior = Formula(
    title="Log probability of the first of two concepts after a 0",
    backs="theory.bayes_icl.hidden_markov.concept_posterior",
    symbol=sp.Symbol("ln P"),
    arguments=(p, a, d, b, c),
    domain=UNIT,
    expression=sp.log(WEIGHT),
    proofs={
        "both symbols, both concepts": lambda: sp.simplify(WEIGHT - chance((0,)) / (chance((0,)) + chance((0,), OTHER)))
    },
    call=_both,
    read=lambda found: found[0, 1],
    source="Xie et al. 2022 (arXiv:2111.02080)",
)
