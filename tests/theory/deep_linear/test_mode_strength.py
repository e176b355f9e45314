"""Two-layer modes: limits, symmetries, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.modes import mode_strength

strengths = st.floats(0.05, 5.0)
starts = st.floats(-6, 0).map(lambda e: 10.0**e)
times = st.floats(0.0, 20.0)


def test_known_values():
    # Reference: the mode equation integrated at 30 digits.
    found = mode_strength(jnp.array([1.0, 3.0, 10.0]), 1.7, 1e-3, 0.6)
    np.testing.assert_allclose(found, [0.02966088795578, 2.56345594076339, 2.83333333331958], rtol=1e-12)


@given(strengths, starts, times, times)
def test_semigroup(s, u0, t1, t2):
    once = mode_strength(t1 + t2, s, u0)
    twice = mode_strength(t2, s, mode_strength(t1, s, u0))
    # Rounding of t1 + t2 moves the argument of the exponential by 2 s t ulp.
    np.testing.assert_allclose(twice, once, rtol=1e-13)


@given(strengths, starts, times, st.floats(0.1, 10))
def test_scaling(s, u0, t, c):
    np.testing.assert_allclose(mode_strength(t / c, c * s, c * u0), c * mode_strength(t, s, u0), rtol=1e-13)


@pytest.mark.parametrize("s", [0.0, 1e-14, 1e-6, 1.0, 20.0])
@pytest.mark.parametrize("t", [0.0, 1.0, 1e4])
def test_gradients_are_finite_everywhere(s, t):
    gradient = jax.grad(mode_strength, argnums=(0, 1, 2, 3))(t, s, 0.3, 1.0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1.0, 1.0, 0.1), "t"),
        ((1.0, -2.0, 0.1), "s"),
        ((1.0, 1.0, 0.0), "u0"),
        ((1.0, float("nan"), 0.1), "s"),
    ],
)
def test_refusals_name_the_argument(arguments, named):
    with pytest.raises(ValueError, match=rf"^{named} must be"):
        mode_strength(*arguments)


def test_refusal_inside_jit():
    with pytest.raises(Exception, match="u0 must be positive"):
        jax.jit(mode_strength)(1.0, 1.0, -0.5).block_until_ready()
