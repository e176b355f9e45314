"""Context-tree weighting: all trees of depth two, their prior, and what a tree source costs at most."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

b, a, n = sp.symbols("beta a n", positive=True)
SOURCE = "Willems, Shtarkov & Tjalkens 1995 (IEEE Trans. Inf. Theory 41)"
PAST = (0, 1)
STRING = (1, 0, 0, 1, 1, 0)
# The leaves of all trees of two symbols and depth two, the latest symbol first.
TREES = (
    ((),),
    ((0,), (1,)),
    ((0, 0), (0, 1), (1,)),
    ((0,), (1, 0), (1, 1)),
    ((0, 0), (0, 1), (1, 0), (1, 1)),
)


def prior(tree):
    """Each node above depth two ends with probability beta; a node within goes on."""
    early = sum(len(leaf) < 2 for leaf in tree)
    return b**early * (1 - b) ** (len(tree) - 1)


def followers(node, string):
    """How often 0 and 1 follow a past that ends in this node."""
    both, counts = PAST + string, [0, 0]
    for t in range(2, len(both)):
        if all(both[t - 1 - i] == symbol for i, symbol in enumerate(node)):
            counts[both[t]] += 1
    return counts


def urn(counts):
    """Dirichlet probability of a string of these counts."""
    rising = lambda start, c: sp.prod([start + i for i in range(c)])  # noqa: E731
    return rising(a, counts[0]) * rising(a, counts[1]) / rising(2 * a, sum(counts))


def over_trees(string):
    """Probability of a string: all trees, all urns."""
    return sum(prior(tree) * sp.prod([urn(followers(leaf, string)) for leaf in tree]) for tree in TREES)


def weighted(node, string):
    """The same by the recursion over nodes."""
    alone = urn(followers(node, string))
    if len(node) == 2:
        return alone
    return b * alone + (1 - b) * weighted((*node, 0), string) * weighted((*node, 1), string)


def _recursion():
    return _halves(over_trees(STRING) - weighted((), STRING))


def _all_go_on():
    return _halves(sum(over_trees((*STRING, j)) for j in (0, 1)) - over_trees(STRING))


def _halves(expression):
    """At a = 1/2 and a = 2/3, for every beta."""
    return sp.Matrix([sp.cancel(expression.subs(a, value)) for value in (sp.Rational(1, 2), sp.Rational(2, 3))])


def mixed(node, string, symbol):
    """Prediction from the deepest node of the past up: the urn here, and what is below, by their odds."""
    both = PAST + string
    zeros, ones = followers(node, string)
    here = (a + (ones if symbol else zeros)) / (2 * a + zeros + ones)
    if len(node) == 2:
        return here
    share = b * urn((zeros, ones)) / weighted(node, string)
    return share * here + (1 - share) * mixed((*node, both[-1 - len(node)]), string, symbol)


def _along_the_past():
    return _halves(mixed((), STRING, 1) - over_trees((*STRING, 1)) / over_trees(STRING))


string = Formula(
    title="Probability of the next symbol, all trees of depth two",
    backs="theory.bayes_icl.context_tree.context_tree_predictions",
    symbol=sp.Symbol("p"),
    arguments=(b, a),
    domain={b: Interval(0.01, 0.99), a: Interval(0.05, 20, log=True)},
    expression=over_trees((*STRING, 1)) / over_trees(STRING),
    proofs={
        "recursion over nodes": _recursion,
        "both symbols": _all_go_on,
        "odds along the past": _along_the_past,
        "one urn": lambda: _halves(over_trees(STRING).subs(b, 1) - urn([3, 3])),
    },
    call=lambda beta, a: (np.array(STRING), np.array(PAST), 2, beta, a),
    read=lambda found: np.exp(found.log_law[-1, 1]),
    source=SOURCE,
)

known = Formula(
    title="Probability of the next symbol, the tree known",
    backs="theory.bayes_icl.context_tree.tree_predictions",
    symbol=sp.Symbol("p"),
    arguments=(a,),
    domain={a: Interval(0.05, 20, log=True)},
    # The past ends in 0 1: the leaf (0, 1) of the third tree.
    expression=(a + followers((0, 1), STRING)[1]) / (2 * a + sum(followers((0, 1), STRING))),
    proofs={
        "ratio of evidences": lambda: sp.cancel(
            urn(followers((0, 1), (*STRING, 1))) / urn(followers((0, 1), STRING))
            - (a + followers((0, 1), STRING)[1]) / (2 * a + sum(followers((0, 1), STRING)))
        )
    },
    call=lambda a: (np.array(STRING), np.array(PAST), 2, np.array([[0, 0], [0, 1], [1, -1]]), a),
    read=lambda found: np.exp(found.log_law[-1, 1]),
    source="textbook",
)

tree = Formula(
    title="Prior of a tree",
    backs="theory.bayes_icl.context_tree.tree_log_prior",
    symbol=sp.Symbol("ln P"),
    arguments=(b,),
    domain={b: Interval(0.01, 0.99)},
    expression=sp.log(prior(TREES[2])),
    proofs={"all trees": lambda: sp.expand(sum(prior(one) for one in TREES) - 1)},
    call=lambda beta: (np.array([[0, 0], [0, 1], [1, -1]]), 2, beta),
    source=SOURCE,
)


def _best_urn(zeros, ones):
    """ln of how much more the best urn gives a string than the mean over urns at a = 1/2."""
    total = zeros + ones
    best = sp.prod([sp.Rational(c, total) ** c for c in (zeros, ones) if c])
    return sp.log(best / urn((zeros, ones)).subs(a, sp.Rational(1, 2)))


def _covers():
    """No string of up to twelve symbols costs more than ln(n) / 2 + ln 2: the excess above it is zero."""
    excess = [
        sp.Max(0, (_best_urn(zeros, total - zeros) - sp.log(total) / 2 - sp.log(2)).evalf(30) - sp.Float("1e-25"))
        for total in range(1, 13)
        for zeros in range(total + 1)
    ]
    return sum(excess)


bound = Formula(
    title="What a tree source of three leaves costs at most",
    backs="theory.bayes_icl.context_tree.redundancy_bound",
    symbol=sp.Symbol("R"),
    arguments=(n, b),
    domain={n: Interval(3, 1e6, log=True), b: Interval(0.01, 0.99)},
    expression=3 * (sp.log(n / 3) / 2 + sp.log(2)) - sp.log(prior(TREES[2])),
    proofs={
        "one urn": _covers,
        "it is reached": lambda: sp.simplify(_best_urn(1, 0) - sp.log(2)),
        "equal shares cost most": lambda: sp.Max(0, sp.sign(sp.diff(sp.log(n) / 2, n, 2))),
    },
    call=lambda n, beta: (np.array([[0, 0], [0, 1], [1, -1]]), n, beta),
    source=SOURCE,
)
