"""Strings of a probabilistic automaton: the chain rule of entropy on all strings of a small one."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

p, q = sp.symbols("p q", positive=True)

# Two states: 0 writes 0 and stays or writes 1 and leaves, 1 writes 0 and comes back or writes 1 and stays.
EMISSION = sp.Matrix([[1 - p, p], [q, 1 - q]])
SUCCESSOR = ((0, 1), (0, 1))
LENGTH = 3
DOMAIN = {p: Interval(0.05, 0.95), q: Interval(0.05, 0.95)}


def entropy(x):
    return -x * sp.log(x) - (1 - x) * sp.log(1 - x)


def strings():
    """Probability and last state of every string."""
    for string in itertools.product((0, 1), repeat=LENGTH):
        state, chance = 0, sp.Integer(1)
        for symbol in string:
            chance *= EMISSION[state, symbol]
            state = SUCCESSOR[state][symbol]
        yield chance, state


def state(t):
    """Probability of state 0 after t symbols: the geometric approach to q / (p + q)."""
    return q / (p + q) + p / (p + q) * (1 - p - q) ** t


def _call(p, q):
    return np.array([[1 - p, p], [q, 1 - q]]), np.array(SUCCESSOR), LENGTH + 1


def _entropy_of_strings():
    """- sum Pr ln Pr over all strings is the sum of the entropies of their symbols."""
    whole = sum(-chance * sp.expand_log(sp.log(chance), force=True) for chance, _ in strings())
    parts = sum(state(t) * entropy(p) + (1 - state(t)) * entropy(q) for t in range(LENGTH))
    return sp.simplify(sp.expand(whole - sp.cancel(parts)))


visited = Formula(
    title="State of an automaton after some symbols",
    backs="theory.induction.ngram_heads.state_probabilities",
    symbol=sp.Symbol("p_t"),
    arguments=(p, q),
    domain=DOMAIN,
    expression=state(LENGTH),
    proofs={"all strings": sp.simplify(sum(chance for chance, last in strings() if last == 0) - state(LENGTH))},
    call=_call,
    read=lambda states: states[-1, 0],
    source="textbook",
)

bound = Formula(
    title="Entropy of a symbol, the automaton known",
    backs="theory.induction.ngram_heads.symbol_entropies",
    symbol=sp.Symbol("H_t"),
    arguments=(p, q),
    domain=DOMAIN,
    expression=state(LENGTH) * entropy(p) + (1 - state(LENGTH)) * entropy(q),
    proofs={"entropy of whole strings": _entropy_of_strings},
    call=_call,
    read=lambda entropies: entropies[-1],
    source="chain rule of entropy",
)
