"""Recognising a task from its labels: means over random tables, by counting all tables and by generating functions."""

import itertools
from fractions import Fraction

import sympy as sp

from derivations.formula import Formula, Interval

n, labels, tasks, q, z = sp.symbols("n C M q z", positive=True)
HERE = "derived here"
AGREE = labels**-n
DOMAIN = {n: Interval(0, 6), labels: Interval(2, 12)}


def _left(function, others, chance):
    """E function(1 + J) for J ~ Binomial(others, chance)."""
    return sum(
        sp.binomial(others, j) * chance**j * (1 - chance) ** (others - j) * function(1 + j) for j in range(others + 1)
    )


def _tables(many, shown, kinds):
    """All tables of so many tasks, each with its true task first: votes of those that agree on the shown classes."""
    rows = list(itertools.product(range(kinds), repeat=shown + 1))
    for table in itertools.product(rows, repeat=many):
        agree = [row[shown] for row in table if row[:shown] == table[0][:shown]]
        yield table[0][shown], [agree.count(label) for label in range(kinds)]


def _mean_over_tables(measure, many, shown, kinds):
    values = [measure(truth, votes) for truth, votes in _tables(many, shown, kinds)]
    return sp.Add(*values) / len(values)


def _sampled(truth, votes):
    return sp.Rational(votes[truth], sum(votes))


def _voted(truth, votes):
    best = max(votes)
    return sp.Rational(int(votes[truth] == best), votes.count(best))


_alone = (1 - (1 - AGREE) ** tasks) / (tasks * AGREE)
_sampling = 1 / labels + (1 - 1 / labels) * _alone

sampling = Formula(
    title="Chance that a task of the posterior has the right label for a new class",
    backs="theory.induction.task_identification.sampling_accuracy",
    symbol=sp.Symbol("a"),
    arguments=(n, labels, tasks),
    domain=DOMAIN | {tasks: Interval(1, 1e4, log=True)},
    expression=_sampling,
    proofs={
        "mean over the number of tasks left": lambda: sp.Matrix(
            [_left(lambda t: sp.Rational(1, t), m - 1, q) - (1 - (1 - q) ** m) / (m * q) for m in range(1, 6)]
        ),
        "all tables": lambda: (
            _mean_over_tables(_sampled, 3, 1, 2) - _sampling.subs({n: 1, labels: 2, tasks: 3}, simultaneous=True)
        ),
        "nothing shown": lambda: _sampling.subs(n, 0) - (1 / labels + (1 - 1 / labels) / tasks),
    },
    source="Kirsch, Harrison, Sohl-Dickstein & Metz 2022 (arXiv:2212.04458) for the setting; " + HERE,
)

# Of three tasks and two labels: all right, half a tie of two, two or three of three.
_vote = (1 - AGREE) ** 2 + sp.Rational(3, 2) * AGREE * (1 - AGREE) + sp.Rational(3, 4) * AGREE**2


def _largest_count():
    """E max_c V_c / (M q) from the multinomial distribution itself."""
    total = 0
    for cells in itertools.product(range(3), repeat=3):
        counts = [cells.count(cell) for cell in range(2)]
        total += max(counts) * sp.Mul(*[q / 2 if cell < 2 else 1 - q for cell in cells])
    return total / (3 * q) - _vote.subs(AGREE, q)


def _contour():
    """The coefficient of z^2 of the series that the theory function integrates."""
    w = [(q * z / 2) ** v / sp.factorial(v) for v in range(4)]
    upto = [sum(w[: v + 1]) for v in range(4)]
    rest = sum(((1 - q) * z) ** k / sp.factorial(k) for k in range(3))
    total = sum(w[v - 1] * (upto[v] + upto[v - 1]) for v in range(1, 4)) / 2 * rest
    return 2 * sp.expand(total).coeff(z, 2) - _vote.subs(AGREE, q)


voting = Formula(
    title="Best accuracy on a new class, three tasks of two labels",
    backs="theory.induction.task_identification.voting_accuracy",
    symbol=sp.Symbol("a"),
    arguments=(n,),
    domain={n: Interval(0, 6)},
    expression=_vote.subs(labels, 2),
    proofs={
        "all tables": lambda: _mean_over_tables(_voted, 3, 1, 2) - _vote.subs({n: 1, labels: 2}, simultaneous=True),
        "largest count": lambda: sp.expand(_largest_count()),
        "coefficient of the series": lambda: sp.expand(_contour()),
    },
    call=lambda n: (n, 2, 3),
    source=HERE,
)

_entropy = _left(sp.log, 3, AGREE)


def _surprise(truth, votes):
    return -sp.log(sp.Rational(votes[truth], sum(votes)))


def _uncertainty(_, votes):
    """Entropy of a uniform posterior over the tasks that are left."""
    return sp.log(sum(votes))


entropy = Formula(
    title="Entropy of the posterior over four tasks",
    backs="theory.induction.task_identification.task_entropy",
    symbol=sp.Function("h")(n),
    arguments=(n, labels),
    domain=DOMAIN,
    expression=_entropy,
    proofs={
        "all tables": lambda: sp.expand_log(
            _mean_over_tables(_uncertainty, 4, 1, 2) - _entropy.subs({n: 1, labels: 2}, simultaneous=True)
        ),
        "nothing shown": lambda: _entropy.subs(n, 0) - sp.log(4),
    },
    call=lambda n, labels: (n, labels, 4),
    source=HERE,
)

_loss = _entropy - _entropy.subs(n, n + 1)

loss = Formula(
    title="Loss on a new class, four tasks",
    backs="theory.induction.task_identification.identification_loss",
    symbol=sp.Symbol("L"),
    arguments=(n, labels),
    domain=DOMAIN,
    expression=_loss,
    proofs={
        "all tables": lambda: sp.expand_log(
            _mean_over_tables(_surprise, 4, 1, 2) - _loss.subs({n: 1, labels: 2}, simultaneous=True), force=True
        ),
        "all tables, nothing shown": lambda: sp.expand_log(
            _mean_over_tables(_surprise, 4, 0, 3) - _loss.subs({n: 0, labels: 3}, simultaneous=True), force=True
        ),
    },
    call=lambda n, labels: (n, labels, 4),
    source=HERE,
)

_injective = sp.gamma(labels - n + 1) / sp.gamma(labels + 1)

permutations = Formula(
    title="Chance that another task of different labels agrees",
    backs="theory.induction.task_identification.agreement",
    symbol=sp.Symbol("q_n"),
    arguments=(n, labels),
    domain={n: Interval(0, 4), labels: Interval(4, 12)},
    expression=_injective,
    proofs={
        "all permutations of four": lambda: sp.Matrix(
            [
                sp.Rational(sum(order[:shown] == tuple(range(shown)) for order in itertools.permutations(range(4))), 24)
                - _injective.subs({n: shown, labels: 4}, simultaneous=True)
                for shown in range(5)
            ]
        ),
        "one more class": lambda: sp.gammasimp(_injective.subs(n, n + 1) * (labels - n) / _injective - 1),
    },
    call=lambda n, labels: (n, labels, True),
    source=HERE,
)

context = Formula(
    title="Classes that identify the task",
    backs="theory.induction.task_identification.identifying_context",
    symbol=sp.Symbol("n"),
    arguments=(tasks, labels),
    domain={tasks: Interval(1, 1e4, log=True), labels: Interval(2, 12)},
    expression=sp.log(tasks) / sp.log(labels),
    proofs={
        "as many tasks agree by chance as there are": lambda: sp.simplify(
            sp.log(tasks) + sp.expand_log(sp.log(labels ** (-sp.log(tasks) / sp.log(labels))), force=True)
        ),
        "many tasks": lambda: sp.limit(1 - (1 - 1 / tasks) ** tasks, tasks, sp.oo) - (1 - sp.exp(-1)),
    },
    source=HERE,
)

# Three classes and two draws: one or two of them are then known.
_copied = sp.Rational(5, 9) + sp.Rational(4, 9) / labels


def _draws(kinds, many):
    """(distinct classes shown, whether the next is among them), over all draws."""
    for draw in itertools.product(range(kinds), repeat=many + 1):
        yield len(set(draw[:many])), draw[many] in draw[:many]


copier = Formula(
    title="Accuracy of copying after two of three classes",
    backs="theory.induction.task_identification.copier_curve",
    symbol=sp.Symbol("a_2"),
    arguments=(labels,),
    domain={labels: Interval(2, 12)},
    expression=_copied,
    proofs={
        "all draws": lambda: sum(1 if seen else 1 / labels for _, seen in _draws(3, 2)) / 27 - _copied,
        "chance of no draw": lambda: 1 - sp.Rational(2, 3) ** 2 * (1 - 1 / labels) - _copied,
    },
    call=lambda labels: (3, 3, labels),
    read=lambda found: found.accuracy[2],
    source=HERE,
)


def _fits(distinct):
    return 1 - (1 - labels**-distinct) ** tasks


# Two classes: after two draws one is known with chance 1/2, and then the next is it with chance 1/2.
_unseen = 1 / labels + sp.Rational(1, 4) * _fits(1) * (1 - 1 / labels) + sp.Rational(1, 2) * _fits(2) * (1 - 1 / labels)


def _strangers():
    """All tables of two tasks, all true tasks, all draws, of two classes and two labels."""
    maps, total, count = list(itertools.product(range(2), repeat=2)), Fraction(0), 0
    for truth, *table in itertools.product(maps, repeat=3):
        for draw in itertools.product(range(2), repeat=3):
            left = [task for task in table if all(task[k] == truth[k] for k in draw[:2])]
            votes = [sum(task[draw[2]] == label for task in left) for label in range(2)]
            best = max(votes)
            total += Fraction(int(votes[truth[draw[2]]] == best), votes.count(best))
            count += 1
    return sp.Rational(total.numerator, total.denominator * count)


unseen = Formula(
    title="Accuracy on an unknown task after two draws of two classes",
    backs="theory.induction.task_identification.unseen_task_accuracy",
    symbol=sp.Symbol("a_2"),
    arguments=(labels, tasks),
    domain={labels: Interval(2, 12), tasks: Interval(1, 1e4, log=True)},
    expression=_unseen,
    proofs={"all tables and tasks": lambda: _strangers() - _unseen.subs({labels: 2, tasks: 2}, simultaneous=True)},
    call=lambda labels, tasks: (3, 2, labels, tasks),
    read=lambda found: found[2],
    source=HERE,
)
