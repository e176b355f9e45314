"""Match and copy with a factor that is not known: means over all maps, values and readings, counted one by one."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

size, labels, right, n, hidden = sp.symbols("V C r n H", positive=True)
HERE = "derived here"
DOMAIN = {size: Interval(2, 12), labels: Interval(2, 12)}
MAPS = list(itertools.product(range(2), repeat=2))


def _mean(values):
    values = list(values)
    return sp.Add(*values) / len(values)


_known = 1 - (1 - 1 / size) ** n * (1 - 1 / labels)


def _copied(table, draw):
    """Chance that the label of the last value is right: copied from a match, or guessed among two."""
    *shown, query = draw
    return 1 if query in shown else sp.Rational(1, 2)


accuracy = Formula(
    title="Accuracy of match and copy with a known factor",
    backs="theory.induction.match_and_copy.known_factor",
    symbol=sp.Symbol("a"),
    arguments=(n, size, labels),
    domain=DOMAIN | {n: Interval(0, 20)},
    expression=_known,
    proofs={
        "two examples, all values": lambda: (
            _mean(_copied(m, d) for m in MAPS for d in itertools.product(range(2), repeat=3))
            - _known.subs({n: 2, size: 2, labels: 2}, simultaneous=True)
        ),
        "no example": lambda: _known.subs(n, 0) - 1 / labels,
    },
    read=lambda found: found.accuracy,
    source="Fu et al. 2023 (arXiv:2309.06054) for the setting; " + HERE,
)

loss = Formula(
    title="Loss of match and copy with a known factor",
    backs="theory.induction.match_and_copy.known_factor",
    symbol=sp.Symbol("L"),
    arguments=(n, size, labels),
    domain=DOMAIN | {n: Interval(0, 20)},
    expression=(1 - 1 / size) ** n * sp.log(labels),
    proofs={
        "two examples, all values": lambda: (
            _mean(0 if d[2] in d[:2] else sp.log(2) for d in itertools.product(range(2), repeat=3)) - sp.log(2) / 4
        ),
    },
    read=lambda found: found.loss,
    source=HERE,
)


def _one_example(k, share):
    """p ln p of all labels of an item that shares k of two factors with the example."""
    same = sp.Rational(k, 2) + (1 - sp.Rational(k, 2)) * share
    other = (1 - sp.Rational(k, 2)) * share
    return -same * sp.log(same) - (1 / share - 1) * (other * sp.log(other) if k < 2 else 0)


_single = sum(
    sp.binomial(2, k) * (1 / size) ** k * (1 - 1 / size) ** (2 - k) * _one_example(k, 1 / labels) for k in range(3)
)


def _surprises():
    """Minus the logarithm of the exact posterior after one example: all items, factors and maps of two values."""
    items = list(itertools.product(range(2), repeat=2))
    causes = [(f, m) for f in range(2) for m in MAPS]
    for example, query in itertools.product(items, repeat=2):
        for f, m in causes:
            agree = [(g, o) for g, o in causes if o[example[g]] == m[example[f]]]
            right = sum(o[query[g]] == m[query[f]] for g, o in agree)
            yield -sp.log(sp.Rational(right, len(agree)))


one_example_loss = Formula(
    title="Loss of exact Bayes after one example, two factors",
    backs="theory.induction.match_and_copy.one_example",
    symbol=sp.Symbol("L_1"),
    arguments=(size, labels),
    domain=DOMAIN,
    expression=_single,
    proofs={
        "all items, factors and maps": lambda: sp.expand_log(
            sp.expand(_mean(_surprises()) - _single.subs({size: 2, labels: 2}, simultaneous=True)), force=True
        ),
        "one factor": lambda: sp.simplify(
            sum(
                sp.binomial(1, k) * (1 / size) ** k * (1 - 1 / size) ** (1 - k) * (0 if k else sp.log(labels))
                for k in range(2)
            )
            - (1 - 1 / size) * sp.log(labels)
        ),
    },
    call=lambda size, labels: (2, size, labels),
    read=lambda found: found.loss,
    source=HERE,
)

_agree = right**2 + (1 - right) ** 2 / (size - 1)


def _reading(value, read, many):
    return right if value == read else (1 - right) / (many - 1)


def _agreement(many):
    """Over all readings of one value of so many."""
    return sum(_reading(0, read, many) ** 2 for read in range(many))


def _same_given_agreement(many):
    """Chance that two values are the same whose readings agree, by Bayes over all values and readings."""
    joint = {True: 0, False: 0}
    for one, other, read in itertools.product(range(many), repeat=3):
        joint[one == other] += _reading(one, read, many) * _reading(other, read, many)
    return joint[True] / (joint[True] + joint[False])


agreement = Formula(
    title="Chance that two readings of a value agree",
    backs="theory.induction.match_and_copy.reading_agreement",
    symbol=sp.Symbol("s"),
    arguments=(right, size),
    domain={right: Interval(0, 1), size: Interval(2, 12)},
    expression=_agree,
    proofs={
        "all readings": lambda: sp.Matrix([_agreement(many) - _agree.subs(size, many) for many in (2, 3, 4)]),
        "same values behind equal readings": lambda: sp.simplify(_same_given_agreement(3) - _agree.subs(size, 3)),
        "nothing is read": lambda: _agree.subs(right, 1 / size) - 1 / size,
    },
    source=HERE,
)

_noisy = 1 / labels + (1 - 1 / labels) * _agree * (1 - (1 - 1 / size) ** n)


def _misread():
    """Two examples, all of two values, readings and maps: a match of readings, any one, is copied."""
    total = 0
    for values in itertools.product(range(2), repeat=3):
        for reads in itertools.product(range(2), repeat=3):
            chance = sp.Mul(*[_reading(v, read, 2) for v, read in zip(values, reads, strict=True)]) / 8
            matches = [i for i in range(2) if reads[i] == reads[2]]
            for table in MAPS:
                hits = [int(table[values[i]] == table[values[2]]) for i in matches]
                total += chance * (sp.Rational(sum(hits), len(hits)) if hits else sp.Rational(1, 2)) / 4
    return total


noisy = Formula(
    title="Accuracy of match and copy with values that are misread",
    backs="theory.induction.match_and_copy.noisy_copying_accuracy",
    symbol=sp.Symbol("a"),
    arguments=(n, size, labels, right),
    domain=DOMAIN | {n: Interval(0, 20), right: Interval(0, 1)},
    expression=_noisy,
    proofs={
        "two examples, all readings": lambda: sp.expand(
            _misread() - _noisy.subs({n: 2, size: 2, labels: 2}, simultaneous=True)
        ),
        "all is read": lambda: sp.simplify(_noisy.subs(right, 1) - _known),
        "nothing is read": lambda: sp.simplify(
            (_noisy.subs(right, 1 / size) - 1 / labels) * size / (1 - 1 / labels) - (1 - (1 - 1 / size) ** n)
        ),
    },
    source=HERE,
)


def _weights():
    """Share of maps of three values that give the labels shown, two of them different: C^-2, whatever the labels."""
    maps = list(itertools.product(range(3), repeat=3))
    return sp.Matrix(
        [
            sp.Rational(sum(m[0] == one and m[2] == other for m in maps), len(maps)) - sp.Rational(1, 9)
            for one, other in itertools.product(range(3), repeat=2)
        ]
    )


def _shares():
    """E (m_0 / V)^2 m_1 / V over all maps of three values to two labels, as a mean over multinomial numbers."""
    maps = list(itertools.product(range(2), repeat=3))
    direct = _mean(sp.Rational(3 - sum(m), 3) ** 2 * sp.Rational(sum(m), 3) for m in maps)
    counted = sum(sp.binomial(3, k) * sp.Rational(k, 3) ** 2 * sp.Rational(3 - k, 3) / 8 for k in range(4))
    return direct - counted


# Items (0, 0) and (0, 1) had label 0 of two: one value of the first factor, two of the second. Asked for is (1, 1).
_square = sum(sp.binomial(3, k) * sp.Rational(k, 3) ** 2 / 8 for k in range(4))
_cube = sum(sp.binomial(3, k) * sp.Rational(k, 3) ** 3 / 8 for k in range(4))
_weight = sp.Rational(1, 2) + sp.Rational(1, 4) + hidden * _square
_posterior = (sp.Rational(1, 2) * sp.Rational(1, 2) + sp.Rational(1, 4) + hidden * _cube) / _weight


def _exact():
    """The same from all causes: two factors in sight and two out of it, whose values are summed over."""
    maps = list(itertools.product(range(2), repeat=3))
    items, shown, asked = [(0, 0), (0, 1)], [0, 0], (1, 1)
    right_ones = all_ones = 0
    for f, m in itertools.product(range(2), maps):
        if [m[item[f]] for item in items] == shown:
            all_ones, right_ones = all_ones + 1, right_ones + (m[asked[f]] == 0)
    for _, m in itertools.product(range(2), maps):
        for values in itertools.product(range(3), repeat=3):
            if [m[value] for value in values[:2]] == shown:
                all_ones += sp.Rational(1, 27)
                right_ones += sp.Rational(int(m[values[2]] == 0), 27)
    return right_ones / all_ones - _posterior.subs(hidden, 2)


def _asked(hidden):
    """Two examples and the item that is asked for; the label of the latter has no effect on what is said of it."""
    return np.array([[[0, 0], [0, 1], [1, 1]]]), np.array([[0, 0, 0]]), 3, 2, hidden


posterior = Formula(
    title="Exact Bayes on an item that one factor has not shown and the other has",
    backs="theory.induction.match_and_copy.factor_prediction",
    symbol=sp.Symbol("p"),
    arguments=(hidden,),
    domain={hidden: Interval(0, 5)},
    expression=_posterior,
    proofs={"all causes": _exact, "weights of maps": _weights, "shares of labels": _shares},
    call=_asked,
    read=lambda found: found.labels[0, 2, 0],
    source=HERE,
)
