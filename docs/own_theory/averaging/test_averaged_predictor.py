"""Averaged predictor: limits, symmetries, gradients, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from averaging.averaged_predictor_theory import averaged_strength
from theory.deep_linear.modes import mode_strength
from validation.strategies import log_uniform, modes


@settings(deadline=None)  # the first call compiles
@given(modes())
def test_lies_between_the_start_and_the_last_checkpoint(mode):
    average = averaged_strength(mode.t, mode.s, mode.u0 * mode.lam)
    last = mode_strength(mode.t, mode.s, mode.u0 * mode.lam)
    assert mode.u0 * mode.lam * (1 - 1e-12) <= average <= last * (1 + 1e-12)


@settings(deadline=None)
@given(modes(), log_uniform(1e-2, 1e2))
def test_units_of_strength_and_time(mode, unit):
    """Strengths in other units are learned at times in the inverse ones."""
    scaled = averaged_strength(mode.t / unit, unit * mode.s, unit * mode.u0 * mode.lam)
    np.testing.assert_allclose(scaled, unit * averaged_strength(mode.t, mode.s, mode.u0 * mode.lam), rtol=1e-11)


@settings(deadline=None)
@given(log_uniform(0.1, 10), log_uniform(1e-12, 1e-9))
def test_half_way_at_twice_the_time_of_the_last_checkpoint(s, share):
    twice = np.log(1 / share) / s
    # What is left out is (1 - share) / (1 + ...) of order one in the logarithm of the share.
    np.testing.assert_allclose(averaged_strength(twice, s, share * s), s / 2, rtol=1e-8)


def test_start_and_end():
    assert averaged_strength(0.0, 2.0, 1e-3) == 1e-3
    np.testing.assert_allclose(averaged_strength(1e9, 2.0, 1e-3), 2.0, rtol=1e-8)


def test_gradients_are_finite():
    for t in (0.0, 1.0, 1e6):
        assert np.isfinite(jax.grad(averaged_strength, (0, 1, 2))(t, 2.0, 1e-3)).all(), t
    np.testing.assert_allclose(jax.grad(averaged_strength)(0.0, 2.0, 0.5), 0.5 * (2.0 - 0.5), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: averaged_strength(-1.0, 1.0, 0.1), "t"),
        (lambda: averaged_strength(1.0, 0.0, 0.1), "s"),
        (lambda: averaged_strength(1.0, 1.0, np.nan), "u0"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
