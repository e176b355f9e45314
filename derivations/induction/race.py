"""The race of a head against a memory: probabilities, and the pace of a table of class logits."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

xi, beta2, beta1, phi = sp.symbols("xi beta_2 beta_1 phi", real=True)
m, bursty = sp.symbols("m b", positive=True)
N = 3

L = N + 1 + m
PLACES = range(1, N + 1)
DOMAIN = {
    xi: Interval(0.5, 8),
    beta2: Interval(-2, 8),
    beta1: Interval(-2, 6),
    phi: Interval(-1, 5),
    m: Interval(0.5, 30),
    bursty: Interval(0, 1),
}


def attention(place):
    """Of the target to the right label, at one place of the context."""
    own = 1 / (1 + (2 * place - 1) * sp.exp(-beta1))
    return 1 / (1 + (N - 1) * sp.exp(-beta2 * own))


def right(place):
    """Probability of the right label where the target's class stands at a place of the context."""
    s = attention(place)
    up = sp.exp(xi * s + phi)
    return up / (up + (N - 1) * sp.exp(xi * (1 - s) / (N - 1)) + L - N)


INSIDE = sp.exp(xi / N + phi) / (sp.exp(xi / N + phi) + (N - 1) * sp.exp(xi / N) + L - N)
OUTSIDE = sp.exp(phi) / (sp.exp(phi) + N * sp.exp(xi / N) + L - 1 - N)
MATCHED = sum(right(place) for place in PLACES) / N
ALONE = N / L * INSIDE + (1 - N / L) * OUTSIDE
LOSS = -bursty * sum(sp.log(right(place)) for place in PLACES) / N - (1 - bursty) * (
    N / L * sp.log(INSIDE) + (1 - N / L) * sp.log(OUTSIDE)
)

SOURCE = "derived here; the head is a reconstruction of Reddy 2024 (arXiv:2312.03002)"


def _memory_pace():
    """A table of logits, all sequences with two of three labels enumerated: phi moves at L / (L - 1) (1 - p)."""
    size = 3
    up, down, copying = sp.symbols("u v x", real=True)
    table = [sp.Symbol(f"m_{j}", real=True) for j in range(size)]
    here = {table[0]: up, table[1]: down, table[2]: down}
    share = sp.Symbol("s", positive=True)
    total, count, correct = 0, 0, 0
    for other in range(1, size):
        # The right label, 0, and another one in the context; their order changes the share alone.
        seen = {0: share, other: 1 - share}
        logits = [table[j] + copying * seen.get(j, 0) for j in range(size)]
        partition = sum(sp.exp(z) for z in logits)
        total += logits[0] - sp.log(partition)
        correct += (sp.exp(logits[0]) / partition).subs(here)
        count += 1
    slope = [sp.diff(total / count, entry).subs(here) for entry in table]
    pace = slope[0] - (slope[1] + slope[2]) / 2
    return sp.simplify(sp.together(pace - sp.Rational(size, size - 1) * (1 - correct / count)))


def _by_chance():
    """A uniform look at N of the L labels: the right one is among them in N / L of all contexts."""
    size, context = 5, 3
    hits = sum(0 in chosen for chosen in itertools.combinations(range(size), context))
    return sp.Rational(hits, sp.binomial(size, context)) - sp.Rational(context, size)


def _data(m, bursty):
    return N, N + 1 + m, np.ones(1), np.ones(1), bursty


matched = Formula(
    title="Probability of a label that is in the context, of a class that is known by phi",
    backs="theory.induction.race.expected_loss",
    symbol=sp.Symbol("L_bursty"),
    arguments=(xi, beta2, beta1, phi, m, bursty),
    domain=DOMAIN,
    expression=LOSS,
    proofs={
        "chance at the origin": lambda: sp.simplify(
            sp.exp(-LOSS.subs({xi: 0, phi: 0})).subs({beta2: 0, bursty: sp.Rational(1, 2)}) - 1 / L
        ),
        "pace of the memory": _memory_pace,
    },
    call=lambda xi, beta2, beta1, phi, m, bursty: ((xi, beta2, beta1), np.array([phi]), _data(m, bursty)),
    source=SOURCE,
)

unmatched = Formula(
    title="Probability of a label whose class is not in the context",
    backs="theory.induction.race.outcome",
    symbol=sp.Symbol("p_in_weights"),
    arguments=(xi, phi, m),
    domain={xi: DOMAIN[xi], phi: DOMAIN[phi], m: DOMAIN[m]},
    expression=ALONE,
    proofs={
        "probabilities sum to one": lambda: sp.simplify((INSIDE.subs(phi, 0) * N + (1 - INSIDE.subs(phi, 0) * N)) - 1),
        "a label is in the context by chance": _by_chance,
        "chance at the origin": lambda: sp.simplify(ALONE.subs({xi: 0, phi: 0}) - 1 / L),
    },
    call=lambda xi, phi, m: ((xi, 0.0, 0.0), np.array([phi]), _data(m, 1)),
    read=lambda found: found.in_weights,
    source=SOURCE,
)
