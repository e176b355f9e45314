"""Undoing a permutation in context: counting over all permutations, and the construction from explicit matrices."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

variance, symbols = sp.symbols("v V", positive=True)
first, second, penalty = sp.symbols("a b pi", positive=True)
HERE = "derived here"


def _misses(n):
    """For every permutation, which rows have sigma(i) > i, from 1."""
    for sigma in itertools.permutations(range(1, n + 1)):
        yield [place > i for i, place in enumerate(sigma, start=1)]


def _share(n, i):
    """Share of permutations in which row i of n cannot be answered."""
    rows = [missed[i - 1] for missed in _misses(n)]
    return sp.Rational(sum(rows), len(rows))


_euler = (1 + 11 / symbols + 11 / symbols**2 + 1 / symbols**3) / 24


def _enumerated():
    total = sum(symbols ** -sum(missed) for missed in _misses(4))
    return sp.simplify(total / 24 - _euler)


def _recursion():
    """A(n, k) = (k + 1) A(n - 1, k) + (n - k) A(n - 1, k - 1), for all n up to 6."""
    counts = {n: [0] * (n + 1) for n in range(1, 7)}
    for n in counts:
        for missed in _misses(n):
            counts[n][sum(missed)] += 1
    return sp.Matrix(
        [
            counts[n][k] - (k + 1) * counts[n - 1][k] - (n - k) * (counts[n - 1][k - 1] if k else 0)
            for n in range(2, 7)
            for k in range(n)
        ]
    )


recall = Formula(
    title="Best chance of a causal network to answer every one of four rows",
    backs="theory.induction.inverse_permutation.causal_recall",
    symbol=sp.Symbol("P"),
    arguments=(symbols,),
    domain={symbols: Interval(1, 100, log=True)},
    expression=_euler,
    proofs={"all permutations": _enumerated, "Eulerian numbers": _recursion},
    call=lambda symbols: (4, symbols),
    source=HERE,
)

row_error = Formula(
    title="Least error of a causal network in row 2 of 5",
    backs="theory.induction.inverse_permutation.causal_row_error",
    symbol=sp.Symbol("E_2"),
    arguments=(variance,),
    domain={variance: Interval(0.1, 10, log=True)},
    expression=variance * (1 - sp.Rational(2, 5)),
    proofs={
        "share of permutations": lambda: sp.Matrix([_share(5, i) - (1 - sp.Rational(i, 5)) for i in range(1, 6)]),
        "mean over rows": lambda: sum(_share(5, i) for i in range(1, 6)) / 5 - sp.Rational(4, 10),
    },
    call=lambda variance: (5, variance),
    read=lambda found: found[1],
    source=HERE,
)

row_accuracy = Formula(
    title="Best accuracy of a causal network in row 3 of 4",
    backs="theory.induction.inverse_permutation.causal_row_accuracy",
    symbol=sp.Symbol("p_3"),
    arguments=(symbols,),
    domain={symbols: Interval(1, 100, log=True)},
    expression=sp.Rational(3, 4) + 1 / (4 * symbols),
    proofs={
        "an unseen symbol is guessed": lambda: sp.simplify(
            (1 - _share(4, 3)) + _share(4, 3) / symbols - (sp.Rational(3, 4) + 1 / (4 * symbols))
        )
    },
    call=lambda symbols: (4, symbols),
    read=lambda found: found[2],
    source=HERE,
)


def _softmax(scores):
    """Rows of scores, of which None is not visible."""
    weights = [[0 if x is None else sp.exp(x) for x in row] for row in scores]
    return sp.Matrix([[x / sum(row) for x in row] for row in weights])


def _network():
    """Attention of the scratch rows from explicit matrices: n = 2, the permutation that swaps."""
    n, size = 2, 6
    content = sp.zeros(size, n)
    content[0, 1] = content[1, 0] = 1
    scores = [[0 if s <= r else None for s in range(size)] for r in range(size)]
    for j in range(n):
        scores[n + j][j] = first
    copied = _softmax(scores) * content
    scores = [[None if s > r else 0 for s in range(size)] for r in range(size)]
    for i in range(n):
        for s in range(2 * n + i + 1):
            scores[2 * n + i][s] = second * copied[s, i] - (0 if n <= s < 2 * n else penalty)
    return _softmax(scores)[2 * n :, :]


_z1, _z2 = sp.exp(first) + 2, sp.exp(first) + 3
# Scratch row 1: number 2 is right; row 2 of the permutation has its one, the scratch row averages five rows.
_right = sp.exp(second * sp.exp(first) / _z2)
_all = _right + sp.exp(second / _z1) + sp.exp(-penalty) * (1 + sp.exp(second / 2) + sp.exp(second / 5))

attention = Formula(
    title="Attention of a scratch row on the right number",
    backs="theory.induction.inverse_permutation.scratch_attention",
    symbol=sp.Symbol("q_12"),
    arguments=(first, second, penalty),
    domain={first: Interval(0, 30), second: Interval(0, 30), penalty: Interval(0, 60)},
    expression=_right / _all,
    proofs={"explicit matrices": lambda: sp.simplify(_network()[0, 3] - _right / _all)},
    call=lambda first, second, penalty: (np.array([1, 0]), first, second, penalty),
    read=lambda found: found.numbers[0, 1],
    source="a construction after Alur et al. 2025 (arXiv:2509.24125)",
)

_missed = sp.exp(-second * (sp.exp(first) / _z2 - 1 / _z1)) + 4 * sp.exp(-penalty + second * 3 / _z2)


def _extremes():
    """The last number is right and the first is not: odds of numbers, and of four rows with a score of at most b."""
    at = {first: sp.log(5)}
    q = _network().subs(at)
    between = q[0, 2] / q[0, 3] - sp.exp(-second * (sp.exp(first) / _z2 - 1 / _z1)).subs(at)
    outside = 4 * sp.exp(second - penalty) / _right.subs(at) - (4 * sp.exp(-penalty + second * 3 / _z2)).subs(at)
    return sp.Matrix([sp.simplify(sp.powsimp(sp.expand(x))) for x in (between, outside)])


miss = Formula(
    title="Most attention on anything but the right number",
    backs="theory.induction.inverse_permutation.scratch_miss",
    symbol=sp.Symbol("mu"),
    arguments=(first, second, penalty),
    domain={first: Interval(0, 30), second: Interval(0, 30), penalty: Interval(0, 60)},
    expression=_missed / (1 + _missed),
    proofs={"two rows": _extremes},
    call=lambda first, second, penalty: (2, first, second, penalty),
    source=HERE,
)
