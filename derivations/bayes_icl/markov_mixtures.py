"""Mixtures of Markov chains: stationary laws as sums over trees, Bayes' rule along strings, rates, projections."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a, b, c, d, e, f = sp.symbols("a b c d e f", positive=True)
x, y = sp.symbols("x y", real=True)
SOURCE = "Park et al. 2024 (arXiv:2412.01003)"
HALF = Interval(0.01, 0.49)
OPEN = Interval(0.01, 0.99)
PATH = (0, 1, 1, 0)


def three_states():
    """A chain of three states with free transitions."""
    return sp.Matrix([[1 - a - b, a, b], [c, 1 - c - d, d], [e, f, 1 - e - f]])


def trees():
    """Weights of the states: all trees of transitions that lead to them (Kirchhoff)."""
    t = three_states()
    weights = []
    for root in range(3):
        others = [i for i in range(3) if i != root]
        total = 0
        for targets in itertools.product(range(3), repeat=2):
            way = dict(zip(others, targets, strict=True))
            if all(_arrives(i, way, root) for i in others):
                total += sp.prod([t[i, j] for i, j in way.items()])
        weights.append(total)
    return weights


def _arrives(i, way, root):
    for _ in range(3):
        i = way.get(i, root)
    return i == root


STATIONARY = [w / sum(trees()) for w in trees()]


def _is_kept():
    pi = sp.Matrix([trees()])
    return (pi * three_states() - pi).applyfunc(sp.expand)


def two_states(up, down):
    """Transitions and stationary law."""
    return sp.Matrix([[1 - up, up], [down, 1 - down]]), sp.Matrix([[down, up]]) / (up + down)


def chance(string, up, down):
    """Of a string of a chain in its stationary law."""
    t, pi = two_states(up, down)
    return pi[string[0]] * sp.prod([t[i, j] for i, j in itertools.pairwise(string)])


CHAINS = ((a, b), (c, d))
SEEN = sum(chance(PATH, *chain) for chain in CHAINS)
RETRIEVED = sum(chance((*PATH, 1), *chain) for chain in CHAINS) / SEEN


def _weighed():
    """The same by posterior weights of the chains and their rows."""
    weights = [chance(PATH, *chain) / SEEN for chain in CHAINS]
    return sp.simplify(sum(w * chain[0] for w, chain in zip(weights, CHAINS, strict=True)) - RETRIEVED)


def _counted(string, up, down):
    pi = two_states(up, down)[1]
    return sp.prod([pi[i] for i in string])


UNIGRAM = sum(_counted((*PATH, 1), *chain) for chain in CHAINS) / sum(_counted(PATH, *chain) for chain in CHAINS)


def divergence(first, second, weigher):
    """Relative entropy for a step, rows weighed by a stationary law."""
    (p, _), (q, _), pi = two_states(*first), two_states(*second), two_states(*weigher)[1]
    return sum(pi[i] * p[i, j] * (sp.log(p[i, j]) - sp.log(q[i, j])) for i in range(2) for j in range(2))


def _rate():
    """Relative entropies of strings of four and of three symbols differ by the rate, rows weighed by the first."""
    first, second = (sp.Rational(1, 3), sp.Rational(1, 5)), (sp.Rational(2, 7), sp.Rational(3, 4))

    def strings(length):
        pairs = [(chance(s, *first), chance(s, *second)) for s in itertools.product((0, 1), repeat=length)]
        return sum(p * sp.log(p / q) for p, q in pairs)

    left = strings(4) - strings(3) - divergence(first, second, first)
    return sp.nsimplify(left.evalf(40), tolerance=1e-30)


# Two states of a target (x, y), predictors (0, 0), (1, 0) and (0, 2): weights from barycentric coordinates.
POINTS = sp.Matrix([[0, 0], [1, 0], [0, 2]])
INSIDE = sp.Matrix([1 - x - y / 2, x, y / 2])
OUTSIDE = (x - 2 * y + 4) / 5
share = sp.Symbol("s", real=True)


def _reaches():
    return sp.Matrix([(POINTS.T * INSIDE - sp.Matrix([x, y])).applyfunc(sp.expand), sp.Matrix([sum(INSIDE) - 1])])


def _foot():
    """On the edge from (0, 2) to (1, 0) the rest of the target stands at right angles."""
    place = sp.Matrix([0, 2]) * (1 - share) + sp.Matrix([1, 0]) * share
    return sp.solve((place - sp.Matrix([x, y])).dot(sp.Matrix([1, -2])), share)[0] - OUTSIDE


kept = Formula(
    title="Stationary law of three states",
    backs="theory.bayes_icl.markov_mixtures.stationary_law",
    symbol=sp.Symbol("pi_2"),
    arguments=(a, b, c, d, e, f),
    domain={z: HALF for z in (a, b, c, d, e, f)},
    expression=STATIONARY[2],
    proofs={"pi T = pi": _is_kept, "sum one": lambda: sp.simplify(sum(STATIONARY) - 1)},
    call=lambda *z: (np.array(sp.lambdify((a, b, c, d, e, f), three_states(), "numpy")(*z)),),
    read=lambda found: found[2],
    source="Kirchhoff's theorem on trees",
)


def _pair(*z):
    return np.array([[[1 - z[0], z[0]], [z[1], 1 - z[1]]], [[1 - z[2], z[2]], [z[3], 1 - z[3]]]])


bigram = Formula(
    title="Next symbol of one of two chains, by transitions",
    backs="theory.bayes_icl.markov_mixtures.bigram_retrieval",
    symbol=sp.Symbol("p"),
    arguments=(a, b, c, d),
    domain={z: OPEN for z in (a, b, c, d)},
    expression=RETRIEVED,
    proofs={"posterior weights": _weighed, "one chain": lambda: sp.simplify(RETRIEVED.subs({c: a, d: b}) - a)},
    call=lambda *z: (np.array(PATH), _pair(*z)),
    read=lambda found: np.exp(found.log_law[-1, 1]),
    source=SOURCE,
)

unigram = Formula(
    title="Next symbol of one of two chains, by symbols",
    backs="theory.bayes_icl.markov_mixtures.unigram_retrieval",
    symbol=sp.Symbol("p"),
    arguments=(a, b, c, d),
    domain={z: OPEN for z in (a, b, c, d)},
    expression=UNIGRAM,
    proofs={"one chain": lambda: sp.simplify(UNIGRAM.subs({c: a, d: b}) - a / (a + b))},
    call=lambda *z: (np.array(PATH), _pair(*z)),
    read=lambda found: np.exp(found.log_law[-1, 1]),
    source=SOURCE,
)

rate = Formula(
    title="Relative entropy of two chains for a step",
    backs="theory.bayes_icl.markov_mixtures.transition_divergence",
    symbol=sp.Symbol("KL"),
    arguments=(a, b, c, d),
    # Away from its zero.
    domain={a: HALF, b: HALF, c: Interval(0.51, 0.99), d: Interval(0.51, 0.99)},
    expression=divergence((a, b), (c, d), (a, b)),
    proofs={"strings": _rate},
    call=lambda *z: tuple(_pair(*z)),
    source="textbook",
)

other_rate = Formula(
    title="The same with rows weighed by the second chain",
    backs="theory.bayes_icl.markov_mixtures.transition_divergence",
    symbol=sp.Symbol("KL"),
    arguments=(a, b, c, d),
    domain={a: HALF, b: HALF, c: Interval(0.51, 0.99), d: Interval(0.51, 0.99)},
    expression=divergence((a, b), (c, d), (c, d)),
    proofs={
        "equal laws": lambda: sp.simplify(
            divergence((a, b), (2 * a, 2 * b), (a, b)) - divergence((a, b), (2 * a, 2 * b), (2 * a, 2 * b))
        )
    },
    call=lambda *z: tuple(_pair(*z)),
    keywords={"weighted_by": "second"},
    source=SOURCE,
)

interior = Formula(
    title="Weight of a predictor, target within",
    backs="theory.bayes_icl.markov_mixtures.convex_weights",
    symbol=sp.Symbol("w_2"),
    arguments=(x, y),
    domain={x: Interval(0.05, 0.4), y: Interval(0.05, 1)},
    expression=INSIDE[2],
    proofs={"the mixture is the target": _reaches},
    call=lambda x, y: (np.array([x, y]), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])),
    read=lambda found: found[2],
    source="textbook",
)

edge = Formula(
    title="Weight of a predictor, target beyond an edge",
    backs="theory.bayes_icl.markov_mixtures.convex_weights",
    symbol=sp.Symbol("w_1"),
    arguments=(x, y),
    domain={x: Interval(0.8, 1.5), y: Interval(1.5, 2.0)},
    expression=OUTSIDE,
    proofs={"right angle": _foot},
    call=lambda x, y: (np.array([x, y]), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])),
    read=lambda found: found[1],
    source="textbook",
)
