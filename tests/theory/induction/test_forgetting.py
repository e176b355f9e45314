"""Resets: against a race cut by hand, their limits, and the error that they leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.induction.forgetting import race_with_resets, remaining_error
from theory.induction.nested_logits import Logits
from theory.induction.race import Statistics, race

DATA = Statistics(2, 6.0, np.full(4, 1 / 24), np.full(4, 6.0), 0.7)
RATES = dict(copy_rate=1.5, memory_rate=3.0)


# Of one compiled shape for all tests: a compilation takes longer than any of them.
RESETS, AFTER = 120, np.array([0.0, 60.0])


@pytest.mark.slow
def test_against_a_race_that_is_cut_by_hand():
    interval, head = 0.5, Logits(*jnp.zeros(3))
    when, found = race_with_resets(interval, RESETS, AFTER, DATA, **RATES)
    np.testing.assert_allclose(when, [*(interval * np.arange(1, RESETS + 1)), 60, 120], rtol=1e-12)
    between = jax.jit(lambda head: race(np.array([0.0, interval]), DATA, start=head, **RATES))
    for j in range(RESETS):
        cut = between(head)
        head = Logits(*(part[-1] for part in cut.logits))
        for name in ("in_context", "in_weights", "loss", "memory"):
            np.testing.assert_allclose(getattr(found, name)[j], getattr(cut, name)[-1], rtol=1e-6)
        np.testing.assert_allclose([part[j] for part in found.logits], head, rtol=1e-6)
    cut = race(AFTER, DATA, start=head, **RATES)
    np.testing.assert_allclose(found.memory[-1], cut.memory[-1], rtol=1e-6)
    # Right after a reset nothing is known, and the head is as it was.
    np.testing.assert_array_equal(found.memory[RESETS], 0)
    for part in found.logits:
        np.testing.assert_allclose(part[RESETS], part[RESETS - 1], rtol=1e-12)


@pytest.mark.slow
def test_forgetting_lets_the_head_form_and_the_memory_come_back():
    """A memory that wins the race loses it where it is reset, and comes back afterwards while the head stays."""
    rates = dict(copy_rate=1.5, memory_rate=60.0)
    without = race(AFTER, DATA, **rates)
    assert without.in_context[-1] < 0.4 < 0.9 < without.in_weights[-1]
    _, found = race_with_resets(0.5, RESETS, AFTER, DATA, **rates)
    assert found.in_context[RESETS - 1] > 0.8 and found.in_weights[RESETS] < 0.4
    assert found.in_context[-1] > 0.7 and found.in_weights[-1] > 0.9


def test_remaining_error():
    """Against the race of a memory alone, and both limits."""
    lone = Statistics(2, 6.0, np.full(4, 1 / 24), np.full(4, 6.0), 0.0)
    # Copying is so slow that the output is the memory's.
    found = race(np.array([0.0, 40.0]), lone, copy_rate=1e-12)
    mean = found.memory[-1, 0] * 5 / 6 / (40 / 24)
    np.testing.assert_allclose(remaining_error(40.0, 1 / 24, 6.0), mean, rtol=1e-7)
    np.testing.assert_allclose(remaining_error(1e-9, 0.1, 6.0), 5 / 6, rtol=1e-8)
    # Long intervals: the margin is ln(L p Delta), less the line's part.
    late = remaining_error(jnp.array([1e8, 1e12]), 0.1, 6.0) * 6 / 5 * 0.1 * jnp.array([1e8, 1e12])
    np.testing.assert_allclose(late, np.log(6 * 0.1 * np.array([1e8, 1e12])), rtol=1e-5)
    assert (jnp.diff(remaining_error(jnp.logspace(-3, 8, 50), 0.1, 6.0)) < 0).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: remaining_error(-1.0, 0.1, 4.0), "interval must be positive and finite, got -1"),
        (lambda: remaining_error(1.0, 0.0, 4.0), "frequency must be positive and finite, got 0"),
        (lambda: remaining_error(1.0, 0.1, 1.0), "labels must be above 1, got 1"),
        (lambda: race_with_resets(0.0, 2, np.ones(1), DATA), "interval must be positive and finite, got 0"),
        (lambda: race_with_resets(1.0, 0, np.ones(1), DATA), "resets must be"),
        (lambda: race_with_resets(1.0, 2, np.ones(1), DATA._replace(bursty=2.0)), "bursty must lie between 0 and 1"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
