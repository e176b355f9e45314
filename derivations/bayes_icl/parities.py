"""Ranks over the field of two elements: the number of matrices of each rank, row by row, and what they span."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

n, d = sp.symbols("n d", positive=True)
rows, columns = sp.symbols("2^n 2^d", positive=True)
MOST = 9


def matrices(rank, rows, columns):
    """How many matrices of that rank there are, with rows = 2^n and columns = 2^d."""
    parts = [(rows - 2**i) * (columns - 2**i) / sp.Integer(2**rank - 2**i) for i in range(rank)]
    return sp.prod(parts)


def _one_more_row():
    """A row is in the span (2^k choices) or is not (2^d - 2^k choices)."""
    return sp.Matrix(
        [
            sp.expand(
                matrices(k, 2 * rows, columns)
                - 2**k * matrices(k, rows, columns)
                - (columns - 2 ** (k - 1)) * (matrices(k - 1, rows, columns) if k else 0)
            )
            for k in range(5)
        ]
    )


def _rank(vectors):
    """By the number of different sums."""
    sums = {(0,) * len(vectors[0])}
    for v in vectors:
        sums |= {tuple((a + b) % 2 for a, b in zip(s, v, strict=True)) for s in sums}
    return len(sums).bit_length() - 1


def _counted():
    """All matrices of two rows of three bits."""
    cube = list(itertools.product((0, 1), repeat=3))
    found = [_rank(pair) for pair in itertools.product(cube, repeat=2)]
    return sp.Matrix([matrices(k, 4, 8) - found.count(k) for k in range(4)])


def _spanned():
    """E 2^{rank - d} is the chance that a third row is in the span of two."""
    cube = list(itertools.product((0, 1), repeat=3))
    inside = [_rank(three) == _rank(three[:2]) for three in itertools.product(cube, repeat=3)]
    return _chance(sp.Integer(2), sp.Integer(3)) - sp.Rational(sum(inside), len(inside))


def _law(k, n, d):
    return matrices(k, 2**n, 2**d) / 2 ** (n * d)


def _chance(n, d):
    return sum(_law(k, n, d) * 2 ** (k - d) for k in range(MOST + 1))


_whole = {n: sp.floor(n), d: sp.floor(d)}

rank = Formula(
    title="Chance that so many rows of bits have rank two",
    backs="theory.bayes_icl.parities.rank_law",
    symbol=sp.Symbol("p_2"),
    arguments=(n, d),
    domain={n: Interval(2, 14.9), d: Interval(2, 8.9)},
    expression=_law(2, n, d).subs(_whole, simultaneous=True),
    proofs={"one more row": _one_more_row, "two rows of three bits": _counted},
    call=lambda n, d: (int(n), int(d)),
    read=lambda found: found[-1, 2],
    source="derived here",
)

determined = Formula(
    title="Chance that a parity is determined",
    backs="theory.bayes_icl.parities.determined_probability",
    symbol=sp.Symbol("P"),
    arguments=(n, d),
    domain={n: Interval(0, 14.9), d: Interval(1, 8.9)},
    expression=_chance(n, d).subs(_whole, simultaneous=True),
    proofs={"three rows of three bits": _spanned},
    call=lambda n, d: (int(n), int(d)),
    read=lambda found: np.asarray(found)[-1],
    source="derived here",
)
