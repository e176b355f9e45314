"""Random automata: their edges, and strings that follow them as often as they say."""

import numpy as np

from sims.tasks.automata import ALPHABET, automaton_strings, random_automaton


def test_edges():
    sizes, degrees = [], []
    for seed in range(60):
        emission, successor = random_automaton(np.random.default_rng(seed))
        sizes.append(len(emission))
        assert emission.shape == successor.shape == (sizes[-1], ALPHABET)
        np.testing.assert_allclose(emission.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_array_equal(emission > 0, successor >= 0)
        for state, row in enumerate(successor):
            reached = row[row >= 0]
            degrees.append(len(reached))
            # Different states, none of them itself; symbols equally likely.
            assert len(set(reached)) == len(reached)
            assert state not in reached
            np.testing.assert_allclose(emission[state][row >= 0], 1 / len(reached))
    assert set(sizes) == set(range(4, 13))
    assert set(degrees) == {1, 2, 3}


def test_strings():
    rng = np.random.default_rng(0)
    automaton = random_automaton(rng, states=(5, 5), symbols=(4, 4), edges=(2, 3))
    strings = automaton_strings(rng, automaton, 4000, 6)
    state = np.zeros(4000, int)
    for t in range(6):
        assert (automaton.emission[state, strings[:, t]] > 0).all()
        if t == 1:
            for q in np.unique(state):
                here = strings[state == q, t]
                shares = np.bincount(here, minlength=ALPHABET) / len(here)
                np.testing.assert_allclose(shares, automaton.emission[q], atol=5 * 0.5 / np.sqrt(len(here)))
        state = automaton.successor[state, strings[:, t]]
