"""A known text under unknown names: renamings weighed by Bayes' rule, all throws of classes, moments, linear laws."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

p, q, r, s = sp.symbols("p q r s", positive=True)
b, c = sp.symbols("b c", positive=True)
f, g = sp.symbols("f g", positive=True)
SHANNON = "Shannon 1951 (Bell System Technical Journal 30, 50)"
HERE = "derived here"
OPEN = Interval(0.02, 0.98)
WIDE = Interval(0.05, 20, log=True)

# A text of two symbols: how often pairs occur, up to a factor.
PAIRS = {(0, 0): p, (0, 1): q, (1, 0): r, (1, 1): s}
TOTAL = p + q + r + s
WEIGHTS = dict.fromkeys((p, q, r, s), Interval(0.05, 5, log=True))
STRING = (0, 1, 1, 0)


def as_blocks(p, q, r, s):
    return np.array([[p, q], [r, s]])


def of_first(i):
    """Probability of the first symbol."""
    return (PAIRS[i, 0] + PAIRS[i, 1]) / TOTAL


def chance(string):
    """Of a string of the chain that starts as its pairs do."""
    rows = sp.prod([PAIRS[i, j] / (PAIRS[i, 0] + PAIRS[i, 1]) for i, j in itertools.pairwise(string)])
    return of_first(string[0]) * rows


def flipped(string):
    return tuple(1 - i for i in string)


def unnamed(string):
    """Its probability under both renamings."""
    return (chance(string) + chance(flipped(string))) / 2


NEXT = unnamed((*STRING, 1)) / unnamed(STRING)


def _by_posterior():
    """Each renaming by what the string says of it, and the row of the chain under it."""
    left = unnamed((*STRING, 1)) / unnamed(STRING)
    ways = [(chance(STRING), PAIRS[0, 1] / (p + q)), (chance(flipped(STRING)), PAIRS[1, 0] / (r + s))]
    evidence = sum(weight for weight, _ in ways)
    return sp.together(sum(weight / evidence * row for weight, row in ways) - left)


def _both_symbols():
    return sp.together(sum(unnamed((*STRING, j)) for j in (0, 1)) - unnamed(STRING))


def _same_for_all():
    """Nothing is learned from a text that is the same under both names."""
    return sp.simplify((NEXT - q / (p + q)).subs({s: p, r: q}))


MIXED = {pair: (PAIRS[pair] + PAIRS[flipped(pair)]) / 2 / TOTAL for pair in PAIRS}


def entropy(law):
    return -sum(x * sp.log(x) for x in law)


SECOND = entropy(w / TOTAL for w in PAIRS.values()) - entropy([of_first(0), of_first(1)])
# The first symbol is either, whatever the text: only its recurrence tells.
SECOND_UNNAMED = entropy(MIXED.values()) - sp.log(2)
PRICE = sum(w / TOTAL * sp.log(w / TOTAL / MIXED[pair]) for pair, w in PAIRS.items())


def _without_logs(expression):
    """Logarithms of products as sums: what is left of them must cancel."""
    return sp.simplify(sp.expand_log(sp.factor(expression, deep=True), force=True))


def _rows():
    """The same as a mean over first symbols of the entropies of what follows."""
    rows = sum(of_first(i) * entropy([PAIRS[i, j] / (PAIRS[i, 0] + PAIRS[i, 1]) for j in (0, 1)]) for i in (0, 1))
    return _without_logs(rows - SECOND)


def _of_both():
    """The same from what strings tell: entropy of the mixture less that of the text."""
    return _without_logs(PRICE - entropy(MIXED.values()) + entropy(w / TOTAL for w in PAIRS.values()))


def _of_losses():
    """The same from what both symbols cost more than if their names were known."""
    first = sp.log(2) - entropy([of_first(0), of_first(1)])
    return _without_logs(first + SECOND_UNNAMED - SECOND - PRICE)


def _of_pattern():
    """Loss of the second symbol: whether it is the first again."""
    return _without_logs(SECOND_UNNAMED - entropy([(p + s) / TOTAL, (q + r) / TOTAL]))


# Blocks of three letters: how often they have each pattern, up to a factor.
t, u, v, w = sp.symbols("t u v w", positive=True)
PATTERNS = {(0, 0, 0): t, (0, 0, 2): u, (0, 1, 0): v, (0, 1, 1): w, (0, 1, 2): p}
ALL = t + u + v + w + p


def thrown(letters, into):
    """Probability that so many letters fall into classes of shares x and 1 - x as said: a Beta integral."""
    second = letters - into
    return sp.rf(b, into) * sp.rf(c, second) / sp.rf(b + c, letters)


def of_classes(string):
    total = 0
    for first, weight in PATTERNS.items():
        if all(string[i] == string[j] for i, j in enumerate(first)):
            own = [string[i] for i, j in enumerate(first) if i == j]
            total += weight * thrown(len(own), own.count(0))
    return total / ALL


def _integral():
    """Shares drawn from a Beta law of whole parameters, by integration."""
    x = sp.Symbol("x", positive=True)
    density = x * (1 - x) ** 2 * sp.gamma(5) / sp.gamma(2) / sp.gamma(3)
    left = sp.integrate(sp.expand(density * x**2 * (1 - x)), (x, 0, 1)) - thrown(3, 2).subs({b: 2, c: 3})
    return sp.simplify(left)


def _all_strings():
    return sp.simplify(sum(of_classes(string) for string in itertools.product((0, 1), repeat=3)) - 1)


def _one_letter_each():
    """Letters that never recur: an urn of which nothing is assumed but its Dirichlet law."""
    urn = sp.rf(b, 2) * c / sp.rf(b + c, 3)
    return sp.simplify(of_classes((0, 1, 0)).subs({t: 0, u: 0, v: 0, w: 0}) - urn)


# Three letters of frequencies f, g and the rest.
FREQUENCIES = (f, g, 1 - f - g)
SAME = sum(x**2 for x in FREQUENCIES)
STRENGTH = (b + c) * (1 - SAME) / (1 + (b + c) * SAME)


def _moments():
    """Mean and mean square of the frequency of the first class, over all throws of three letters."""
    mean = square = 0
    for into in itertools.product((0, 1), repeat=3):
        frequency = sum(x for x, j in zip(FREQUENCIES, into, strict=True) if j == 0)
        weight = thrown(3, into.count(0))
        mean, square = mean + weight * frequency, square + weight * frequency**2
    a = STRENGTH * b / (b + c)
    return sp.Matrix([sp.simplify(mean - a / STRENGTH), sp.simplify(square - a * (a + 1) / STRENGTH / (STRENGTH + 1))])


# Three places of a text: how often neighbours hold the same letter, and the two others.
near, far = sp.symbols("r_1 r_2", positive=True)
S_1, S_2 = ((1 + (b + c) * rate) / (1 + b + c) for rate in (near, far))
# Weights of the place before and of the one before that: the two normal equations, solved.
W_1, W_2 = S_1 * (1 - S_2) / (1 - S_1**2), (S_2 - S_1**2) / (1 - S_1**2)
# Of the second class once more, after the first and the second.
THIRD = c / (b + c) + W_1 * (1 - c / (b + c)) - W_2 * c / (b + c)
# Any text whose neighbours are alike with one rate: how often all three places hold one letter is left open.
OF_RATES = {u: near - t, w: near - t, v: far - t, p: 1 - 2 * near - far + 2 * t}


def _linear(string):
    """Chance of the second class after these two."""
    held = [j - c / (b + c) for j in string]
    return c / (b + c) + W_1 * held[1] + W_2 * held[0]


def _orthogonal():
    """What is left of the third place has nothing to do with the first or the second, nor a mean."""
    left = sp.zeros(3, 1)
    for string in itertools.product((0, 1), repeat=3):
        error = string[2] - _linear(string[:2])
        left += of_classes(string).subs(OF_RATES) * error * sp.Matrix([1, string[0], string[1]])
    return left.applyfunc(sp.factor)


def _as_counted():
    """One rate at both distances: counts that start from the strength of random classes."""
    strength = (b + c) * (1 - near) / (1 + (b + c) * near)
    counted = (strength * c / (b + c) + 1) / (strength + 2)
    return sp.simplify(THIRD.subs(far, near) - counted)


def _of_two():
    """The second symbol alone: a ratio of chances of strings, with no more than the weight s_1."""
    pair = sum(of_classes((1, 1, j)) for j in (0, 1)) / sum(of_classes((1, i, j)) for i in (0, 1) for j in (0, 1))
    return sp.simplify(pair.subs(OF_RATES) - c / (b + c) - S_1 * (1 - c / (b + c)))


second = Formula(
    title="Loss of the second symbol, names known",
    backs="theory.bayes_icl.unknown_names.block_loss",
    symbol=sp.Symbol("F_2"),
    arguments=(p, q, r, s),
    domain=WEIGHTS,
    expression=SECOND,
    proofs={"rows of a chain": _rows},
    call=lambda *weights: (as_blocks(*weights),),
    read=lambda found: found[1],
    source=SHANNON,
)

second_unnamed = Formula(
    title="Loss of the second symbol, names unknown",
    backs="theory.bayes_icl.unknown_names.renamed_blocks",
    symbol=sp.Symbol("p_s"),
    arguments=(p, q, r, s),
    domain=WEIGHTS,
    # A symbol after itself, one of two names.
    expression=(p + s) / (2 * TOTAL),
    proofs={
        "one pattern": MIXED[0, 0] - MIXED[1, 1],
        "share of the pattern": sp.together(MIXED[0, 0] - (p + s) / (2 * TOTAL)),
        "entropy of the pattern": _of_pattern,
    },
    call=lambda *weights: (as_blocks(*weights),),
    read=lambda found: found[1, 1],
    source=HERE,
)

price = Formula(
    title="What two symbols tell about their names",
    backs="theory.bayes_icl.unknown_names.price_of_names",
    symbol=sp.Symbol("I_2"),
    arguments=(p, q, r, s),
    domain=WEIGHTS,
    expression=PRICE,
    proofs={
        "entropies": _of_both,
        "losses": _of_losses,
        "text without names": lambda: sp.simplify(PRICE.subs({s: p, r: q})),
        "text of one symbol": lambda: sp.simplify(sp.limit(PRICE.subs({q: s, r: s}), s, 0) - sp.log(2)),
    },
    call=lambda *weights: (as_blocks(*weights),),
    read=lambda found: found[1],
    source=HERE,
)

renamed = Formula(
    title="Probability of the next symbol, names unknown",
    backs="theory.bayes_icl.unknown_names.renamed_predictions",
    symbol=sp.Symbol("P"),
    arguments=(p, q, r, s),
    domain=WEIGHTS,
    expression=NEXT,
    proofs={"posterior": _by_posterior, "both symbols": _both_symbols, "nothing to learn": _same_for_all},
    call=lambda *weights: (np.array(STRING), as_blocks(*weights)),
    read=lambda found: np.exp(found.log_law[-1, 1]),
    source="Bayes' rule",
)

known = Formula(
    title="Probability of the next symbol, names known",
    backs="theory.bayes_icl.unknown_names.block_predictions",
    symbol=sp.Symbol("P"),
    arguments=(p, q, r, s),
    domain=WEIGHTS,
    expression=p / (p + q) * q / (p + q),
    proofs={"chain": lambda: sp.simplify(chance((1, 0, 0, 1)) / chance((1, 0)) - p / (p + q) * q / (p + q))},
    call=lambda *weights: (np.array([1, 0, 0, 1]), as_blocks(*weights)),
    read=lambda found: np.exp(found.log_density[2] + found.log_density[3]),
    source="textbook",
)

classes = Formula(
    title="Three places of two random classes",
    backs="theory.bayes_icl.unknown_names.class_blocks",
    symbol=sp.Symbol("p_010"),
    arguments=(b, c),
    domain={b: Interval(0.05, 20, log=True), c: Interval(0.05, 20, log=True)},
    # Windows aab, aba, abb, abc and abc once more.
    expression=of_classes((0, 1, 0)).subs({t: 0, u: 1, v: 1, w: 1, p: 2}),
    proofs={"integral over shares": _integral, "all strings": _all_strings, "no letter recurs": _one_letter_each},
    call=lambda b, c: (
        np.array([[0, 0, 1], [3, 1, 3], [0, 2, 2], [0, 1, 2], [5, 4, 3]]),
        2,
        np.array([b, c]),
    ),
    read=lambda found: found[0, 1, 0],
    source=HERE,
)

strength = Formula(
    title="Dirichlet strength of random classes",
    backs="theory.bayes_icl.unknown_names.class_prior",
    symbol=sp.Symbol("A"),
    arguments=(f, g, b, c),
    domain={f: Interval(0.01, 0.49), g: Interval(0.01, 0.49), b: Interval(0.05, 20, log=True), c: OPEN},
    expression=STRENGTH,
    proofs={
        "first two moments": _moments,
        "same shares for all": lambda: sp.limit(STRENGTH, b, sp.oo) - (1 / SAME - 1),
        # Only if their letters do, and are thrown into different classes.
        "two symbols differ": lambda: sp.simplify(STRENGTH / (STRENGTH + 1) - (1 - SAME) * (b + c) / (b + c + 1)),
    },
    call=lambda f, g, b, c: (np.array([f, g, 1 - f - g]), np.array([b, c])),
    read=lambda found: found[0] + found[1],
    source="derived here; S is the index of coincidence of Friedman 1922",
)

by_distance = Formula(
    title="Third class, by how often letters come back",
    backs="theory.bayes_icl.unknown_names.distance_predictions",
    symbol=sp.Symbol("P"),
    arguments=(near, far, b, c),
    domain={near: Interval(0, 0.3), far: Interval(0.3, 0.98), b: WIDE, c: WIDE},
    expression=THIRD,
    proofs={
        "errors have nothing to do with the past": _orthogonal,
        "second symbol": _of_two,
        "one rate: counts": _as_counted,
    },
    call=lambda near, far, b, c: (np.array([0, 1]), 2, np.array([near, far]), np.array([b, c])),
    read=lambda found: np.exp(found.log_law[2, 1]),
    source=HERE,
)
