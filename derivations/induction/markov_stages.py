"""The minimal reader of Markov chains from its whole matrix: symmetry, first motion, what slow lags leave behind."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a, b = sp.symbols("a b", positive=True)
w, m, v0, v1 = sp.symbols("w m v_0 v_1", real=True)
W = sp.Matrix(2, 2, sp.symbols("W_00 W_01 W_10 W_11", real=True))
EDELMAN = "Edelman, Edelman, Goel, Malach & Tsilivis 2024 (arXiv:2402.11004)"
SYMMETRIC = w * sp.ones(2, 2) + m * (sp.eye(2) - sp.ones(2, 2) / 2)


def attended(sequence):
    """l_s of each position: a softmax over the positions that it sees, by their distance; further lags are zero."""
    lags, found = [v0, v1], []
    for s in range(len(sequence)):
        weights = [sp.exp(lags[s - j]) if s - j < 2 else sp.Integer(1) for j in range(s + 1)]
        shares = [weight / sum(weights) for weight in weights]
        found.append(sp.Matrix([sum(x for x, y in zip(shares, sequence, strict=False) if y == i) for i in range(2)]))
    return found


def outputs(matrix, sequence):
    """Logits after the whole sequence, position by position."""
    read, now = attended(sequence), matrix[sequence[-1], :]
    logits = [sp.Integer(0)] * 2
    for s, symbol in enumerate(sequence):
        logits[symbol] += (now * read[s])[0]
    return logits


def chances(length, chain):
    """Every sequence and its probability under a chain and its mirror image, which are equally likely."""
    leave = {0: chain[0], 1: chain[1]}
    for x in itertools.product((0, 1), repeat=length):
        total = 0
        for flip in (0, 1):
            y = [s ^ flip for s in x]
            chance = leave[1 - y[0]] / (leave[0] + leave[1])
            for i, j in itertools.pairwise(y):
                chance *= leave[i] if i != j else 1 - leave[i]
            total += chance / 2
        yield x, sp.cancel(total)


def gain(matrix, length, chain=(a, b)):
    """Minus the loss, the mean over positions."""
    total = 0
    for x, chance in chances(length + 1, chain):
        for t in range(1, length + 1):
            logits = outputs(matrix, x[:t])
            total += chance * (logits[x[t]] - sp.log(sum(sp.exp(z) for z in logits))) / length
    return total


ORIGIN = {v0: 0, v1: 0, **{entry: 0 for entry in W}}
NUMBERS = (sp.Rational(1, 3), sp.Rational(3, 4))


def _symmetry():
    """At a symmetric matrix the whole gradient is symmetric, and moves w and m at 1/k^2 and 1/(k - 1) of theirs."""
    here = {v0: sp.Rational(1, 3), v1: 1, w: sp.Rational(1, 5), m: sp.Rational(2, 5)}
    whole, part = gain(W, 2, NUMBERS), gain(SYMMETRIC, 2, NUMBERS)
    point = {v0: here[v0], v1: here[v1], **dict(zip(W, SYMMETRIC.subs(here), strict=True))}
    slopes = [sp.diff(whole, entry).subs(point) for entry in W]
    # w = mean entry, m = (sum of diagonal - sum of the rest) / 2 for two symbols.
    moved = [sum(slopes) / 4, (slopes[0] + slopes[3] - slopes[1] - slopes[2]) / 2]
    expected = [sp.diff(part, w).subs(here) / 4, sp.diff(part, m).subs(here)]
    residues = [slopes[0] - slopes[3], slopes[1] - slopes[2]]
    residues += [found - wanted for found, wanted in zip(moved, expected, strict=True)]
    # Sums of exponentials of rationals: zero to a hundred digits is zero.
    return sp.Matrix([0 if abs(sp.N(z, 100)) < sp.Float("1e-80") else z for z in residues])


def _shift():
    """A softmax does not see a shift of all lags."""
    shift = sp.Symbol("c", real=True)
    loss = gain(SYMMETRIC, 2, NUMBERS)
    moved = loss.subs({v0: v0 + shift, v1: v1 + shift}, simultaneous=True)
    here = {w: sp.Rational(1, 5), m: sp.Rational(2, 5), v0: sp.Rational(1, 3), v1: 1}
    slope = sp.diff(moved, shift).subs(shift, 0).subs(here)
    return 0 if abs(sp.N(slope, 100)) < sp.Float("1e-80") else slope


# Repetition after one and two steps: 1 - 2 a b / (a + b), and two steps of the eigenvalue 1 - a - b.
C1 = 1 - 2 * a * b / (a + b)
C2 = 1 - 2 * a * b * (1 - (1 - a - b) ** 2) / (a + b) ** 2
_common = (2 * (C1 - sp.Rational(1, 2)) + C2 - sp.Rational(1, 2)) / 8


def _slopes():
    """Gradient in the whole matrix at the origin, for two positions."""
    loss = gain(W, 2)
    return [sp.cancel(sp.diff(loss, entry).subs(ORIGIN)) for entry in W]


def _first_common():
    return sp.simplify(sum(_slopes()) / 4 - _common)


DOMAIN = {a: Interval(0.05, 0.95), b: Interval(0.05, 0.95)}


def _chains(a, b):
    return np.array([[[1 - a, a], [b, 1 - b]], [[1 - b, b], [a, 1 - a]]]), 2


set_out_common = Formula(
    title="First motion of the weight that counts symbols",
    backs="theory.induction.markov_stages.first_drive",
    symbol=sp.Symbol("w'"),
    arguments=(a, b),
    domain=DOMAIN,
    # Away from a zero.
    expression=_common + 1,
    proofs={"gradient of the whole matrix, all sequences": _first_common},
    call=_chains,
    read=lambda drive: drive.common + 1,
    source="derived here",
)

_match = sp.Rational(3, 8) + a * b / 4 - 7 * a * b / (4 * (a + b))


def _first_match():
    slopes = _slopes()
    return sp.simplify((slopes[0] + slopes[3] - slopes[1] - slopes[2]) / 2 - _match)


set_out_match = Formula(
    title="First motion of the weight that counts what was attended to",
    backs="theory.induction.markov_stages.first_drive",
    symbol=sp.Symbol("m'"),
    arguments=(a, b),
    domain=DOMAIN,
    expression=_match + 1,
    proofs={
        "gradient of the whole matrix, all sequences": _first_match,
        "its two diagonal entries are equal": lambda: sp.simplify(_slopes()[0] - _slopes()[3]),
    },
    call=_chains,
    read=lambda drive: drive.match + 1,
    source="derived here",
)

_look_back = a * b * (a + b - 1) / (8 * (a + b))


def _first_lags():
    """Without W the lags have no gradient; with a little m they have this one, and w does nothing for them."""
    loss = gain(SYMMETRIC, 2)
    origin = {v0: 0, v1: 0, w: 0, m: 0}
    none = [sp.diff(loss, v).subs(origin) for v in (v0, v1)]
    mixed = [sp.diff(loss, weight, v).subs(origin) for weight in (w, m) for v in (v0, v1)]
    expected = (0, 0, -_look_back, _look_back)
    return sp.Matrix([*none, *(sp.simplify(x - y) for x, y in zip(mixed, expected, strict=True))])


set_out_lags = Formula(
    title="First motion of the look one step back",
    backs="theory.induction.markov_stages.first_drive",
    symbol=sp.Symbol("v_1''"),
    arguments=(a, b),
    domain=DOMAIN,
    expression=_match * _look_back + 1,
    proofs={"mixed derivatives, all sequences": _first_lags},
    call=_chains,
    read=lambda drive: drive.lags[1] + 1,
    source="derived here",
)

SEQUENCE = (0, 1, 0)


def _pairs():
    """Looking one step back alone, logits are counts of pairs beside counts of symbols."""
    logits = [sp.limit(z.subs(v0, 0), v1, sp.oo) for z in outputs(SYMMETRIC, (0, 1, 1, 0, 1, 0))]
    # Symbols: three each. Followed 0: 1 twice. The first symbol counts as preceded by itself.
    wanted = [3 * (w - m / 2) + m, 3 * (w - m / 2) + 2 * m]
    return sp.Matrix([sp.expand(z - y) for z, y in zip(logits, wanted, strict=True)])


logits = Formula(
    title="Logits of a minimal reader",
    backs="theory.induction.markov_stages.reader_logits",
    symbol=sp.Symbol("z"),
    arguments=(w, m, v0, v1),
    domain={w: Interval(0.5, 2), m: Interval(0, 1), v0: Interval(-2, 2), v1: Interval(-2, 4)},
    expression=outputs(SYMMETRIC, SEQUENCE)[1],
    proofs={
        "symmetric matrices stay symmetric": _symmetry,
        "the sum of the lags stays": _shift,
        "one step back, counts of pairs": _pairs,
    },
    call=lambda w, m, v0, v1: ((w, m, np.array([v0, v1, 0.0])), np.array([SEQUENCE]), 2),
    read=lambda found: found[0, -1, 1],
    source=EDELMAN,
)


def _slaved():
    """dW/dv along the minimum of a loss with curvature H and mixed derivatives: H dW + L_{Wv} dv = 0, on an example."""
    x, y, h, c = sp.symbols("x y h c", positive=True)
    lowered = h * (x - c * y) ** 2 / 2 + y**4
    best = sp.solve(sp.diff(lowered, x), x)[0]
    tangent = -sp.diff(lowered, x, y) / sp.diff(lowered, x, 2)
    envelope = sp.diff(lowered.subs(x, best), y) - sp.diff(lowered, y).subs(x, best)
    return sp.Matrix([sp.diff(best, y) - tangent, sp.simplify(envelope)])


one_position = Formula(
    title="Loss of a reader of one symbol",
    backs="theory.induction.markov_stages.stage",
    symbol=sp.Symbol("L"),
    arguments=(w, m, a),
    domain={w: Interval(-1, 2), m: Interval(-1, 2), a: DOMAIN[a]},
    # One symbol attends to itself: its own logit is w + m / 2, the other one's zero.
    expression=sp.log(1 + sp.exp(w + m / 2)) - (1 - a) * (w + m / 2),
    proofs={
        "from the whole matrix": lambda: sp.simplify(
            sp.log(sum(sp.exp(z) for z in outputs(SYMMETRIC, (0,))))
            - (1 - a) * outputs(SYMMETRIC, (0,))[0]
            - sp.log(1 + sp.exp(w + m / 2))
            + (1 - a) * (w + m / 2)
        ),
        "a second layer at its best follows the first": _slaved,
    },
    call=lambda w, m, a: ((w, m, np.zeros(1)), (np.array([[0]]), np.array([[[1 - a, a]]]), np.ones(1))),
    read=lambda found: found.loss,
    source="derived here",
)
