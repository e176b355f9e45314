"""Languages in context: a random probabilistic automaton for each instance, and strings that it writes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ALPHABET = 18


class Automaton(NamedTuple):
    """Symbols are equally likely in each state. `emission` (states, 18), `successor` (states, 18), -1 where no edge."""

    emission: np.ndarray
    successor: np.ndarray


def random_automaton(rng: np.random.Generator, states=(4, 12), symbols=(4, ALPHABET), edges=(1, 3)) -> Automaton:
    """A deterministic automaton with start 0: sizes uniform between both bounds, which count.

    Each state has its own number of edges, with different symbols to different states, none of them itself. States
    that cannot be reached or told apart are kept: they change no string's probability.
    """
    size = rng.integers(states[0], states[1] + 1)
    alphabet = rng.permutation(ALPHABET)[: rng.integers(symbols[0], symbols[1] + 1)]
    emission, successor = np.zeros((size, ALPHABET)), np.full((size, ALPHABET), -1)
    for state in range(size):
        degree = rng.integers(edges[0], edges[1] + 1)
        written = rng.choice(alphabet, degree, replace=False)
        emission[state, written] = 1 / degree
        successor[state, written] = rng.choice(np.delete(np.arange(size), state), degree, replace=False)
    return Automaton(emission, successor)


def automaton_strings(rng: np.random.Generator, automaton: Automaton, count: int, length: int) -> np.ndarray:
    """Strings from the start state, (count, length)."""
    state, strings = np.zeros(count, int), np.empty((count, length), int)
    cumulative = np.cumsum(automaton.emission, axis=1)
    # The last symbol of a row takes what rounding leaves.
    cumulative /= cumulative[:, -1:]
    for t in range(length):
        strings[:, t] = (rng.random((count, 1)) >= cumulative[state]).sum(axis=1)
        state = automaton.successor[state, strings[:, t]]
    return strings
