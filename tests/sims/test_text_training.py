"""Training on a text that is read anew: networks see the past only, and learn what a text under names tells."""

import jax
import numpy as np
import pytest

from sims.engine import Runs, simulate
from sims.text_training import text_training


def program(memory, length, steps=1):
    """On 0 1 2 0 1 2 ..., under names that are moved on together."""

    def read(key, pieces, hyper):
        return (pieces + hyper["moved"] * jax.random.randint(key, (len(pieces), 1), 0, 3)) % 3

    return text_training(read, 3, length, memory=memory, steps=steps, width=8, batch=16, lr=1e-2)


@pytest.mark.parametrize("memory", [1, 2])
def test_laws_are_laws_and_know_the_past_only(memory):
    tests = np.array([[0, 1, 2, 0, 1], [0, 1, 2, 1, 0], [0, 1, 0, 0, 1]])
    training = program(memory, 5)
    found = np.asarray(training.record(training.init(jax.random.key(0), dict(tests=tests))))
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1, rtol=1e-5)
    for other, place in ((1, 4), (2, 3)):
        np.testing.assert_allclose(found[other, :place], found[0, :place], rtol=1e-5)
        assert np.abs(found[other, place] - found[0, place]).max() > 1e-3


def test_what_is_read_is_learned():
    """The first symbol is any of three, each later one follows from that before it."""
    # One block, from which pieces begin with a zero only.
    hyper = dict(text=np.array([[[0, 1, 2, 0]]]), tests=np.array([[[1, 2, 0, 1]]]), moved=np.array([1]))
    runs = Runs(np.array([0]), hyper, (1,))
    found = np.exp(np.asarray(simulate(program(1, 4, 300), runs, [300]).records))[0, 0, 0]
    np.testing.assert_allclose(found[0], 1 / 3, atol=0.1)
    np.testing.assert_allclose(found[np.arange(1, 4), [2, 0, 1]], 1, atol=0.1)
