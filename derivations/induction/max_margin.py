"""Weights of largest margin: optimality by certificates, for three tokens and for a symmetric pair of samples."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

p, q = sp.symbols("p q", positive=True)
c, a, b = sp.symbols("c a b", real=True)
HERE = "derived here"
LENGTHS = {p: Interval(1.0, 1.3), q: Interval(1.0, 1.3), c: Interval(-0.8, 0.3)}


def inner(left, right):
    """Sum of products of entries."""
    return (left.T * right).trace()


# One sample of three tokens: differences delta_1, delta_2 of lengths p, q and cosine c, and a query of length 1.
DELTA = (sp.Matrix([p, 0]), sp.Matrix([q * c, q * sp.sqrt(1 - c**2)]))
GRAM = sp.Matrix(2, 2, lambda i, j: sp.simplify(DELTA[i].dot(DELTA[j])))
LAMBDA = GRAM.inv() * sp.ones(2, 1)
W = LAMBDA[0] * DELTA[0] + LAMBDA[1] * DELTA[1]


def _tokens(p, q, c):
    """The selected token at the origin, the others at minus the differences; the query; the selection."""
    delta = np.array([[0.0, 0.0], [p, 0.0], [q * c, q * np.sqrt(1 - c**2)]])
    return -delta[None], np.array([[0.6, -0.8]]), np.array([0])


def _largest_margin():
    """Margins are one and the direction is a positive sum of differences: no shorter W has them."""
    margins = [sp.simplify(W.dot(delta) - 1) for delta in DELTA]
    return sp.Matrix([*margins, sp.simplify(W.dot(W) - sum(LAMBDA)), sp.simplify(_least**2 - W.dot(W))])


def _two_tokens():
    """With one other token W = delta z^T / |delta|^2 |z|^2 has margin one, and no W of that length has more."""
    x, y, u, v = sp.symbols("x y u v", positive=True)
    delta, z = sp.Matrix([x, y]), sp.Matrix([u, v])
    w = delta * z.T / (delta.dot(delta) * z.dot(z))
    phi = delta * z.T
    margin = (delta.T * w * z)[0] - 1
    # Cauchy-Schwarz with equality.
    return sp.Matrix([sp.simplify(margin), sp.simplify(inner(w, w) * inner(phi, phi) - 1)])


_least = sp.sqrt((p**2 + q**2 - 2 * p * q * c) / (p**2 * q**2 * (1 - c**2)))

three_tokens = Formula(
    title="Frobenius norm of the largest margin of one sample of three tokens",
    backs="theory.induction.max_margin.max_margin",
    symbol=sp.Symbol("W_F"),
    arguments=(p, q, c),
    domain=LENGTHS,
    expression=_least,
    proofs={"largest margin": _largest_margin, "two tokens": _two_tokens},
    call=_tokens,
    read=lambda found: found.norm,
    source="Tarzanagh et al. 2023 (arXiv:2308.16898), problem (Att-SVM)",
)

# Two samples of two tokens: unit differences of cosine a, unit queries of cosine b.
_FIRST, _SECOND = (sp.Matrix([sp.sqrt((1 + x) / 2), sp.sqrt((1 - x) / 2)]) for x in (a, b))
_flip = sp.diag(1, -1)
_phi = _FIRST * _SECOND.T, _flip * _FIRST * (_flip * _SECOND).T
_nuclear = 2 / sp.sqrt((1 + a) * (1 + b))


def _certificate():
    """Equal multipliers leave a diagonal A; W is its upper corner alone, of margin one, and sum lambda is its norm."""
    multiplier = 1 / sp.sqrt((1 + a) * (1 + b))
    total = multiplier * (_phi[0] + _phi[1])
    corner = sp.diag(_nuclear, 0)
    numbers = {a: sp.Rational(1, 3), b: sp.Rational(1, 5)}
    margins = [inner(corner, phi) - 1 for phi in _phi]
    left = [total[0, 1], total[1, 0], total[0, 0] - 1, 2 * multiplier - _nuclear, *margins]
    # The lower corner, sqrt((1 - a) (1 - b) / (1 + a) (1 + b)), is below one where a + b > 0.
    lower = total[1, 1] ** 2 - (1 - a) * (1 - b) / ((1 + a) * (1 + b))
    return sp.Matrix([sp.simplify(x.subs(numbers)) for x in (*left, lower)])


pair = Formula(
    title="Nuclear norm of the largest margin of a symmetric pair of samples",
    backs="theory.induction.max_margin.symmetric_pair_norms",
    symbol=sp.Symbol("W_*"),
    arguments=(a, b),
    domain={a: Interval(0, 0.95), b: Interval(0, 0.95)},
    expression=_nuclear,
    proofs={"primal and dual agree": _certificate},
    read=lambda found: found[1],
    source=HERE,
)

pair_frobenius = Formula(
    title="Frobenius norm of the largest margin of a symmetric pair of samples",
    backs="theory.induction.max_margin.symmetric_pair_norms",
    symbol=sp.Symbol("W_F"),
    arguments=(a, b),
    domain={a: Interval(-0.95, 0.95), b: Interval(-0.95, 0.95)},
    expression=sp.sqrt(2 / (1 + a * b)),
    proofs={
        "G lambda = 1": lambda: (
            sp.Matrix(2, 2, lambda i, j: sp.simplify(inner(_phi[i], _phi[j]))) * sp.ones(2, 1) / (1 + a * b)
            - sp.ones(2, 1)
        )
    },
    read=lambda found: found[0],
    source=HERE,
)
