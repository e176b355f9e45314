"""Times by quadrature against flows with a closed form, and their inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.clock import SETTLED, elapsed, when


def slowing(a):
    """dt/dr with a plateau of height a about r = 0, integral r + a tanh(r)."""
    return lambda r: 1 + a / jnp.cosh(r) ** 2


@pytest.mark.parametrize("a", [0.0, 1.0, 1e3])
@pytest.mark.parametrize(("start", "end"), [(-3.0, 3.0), (-20.0, SETTLED), (0.0, 0.5)])
def test_elapsed_is_the_integral(a, start, end):
    exact = end - start + a * (np.tanh(end) - np.tanh(start))
    np.testing.assert_allclose(elapsed(slowing(a), jnp.array(start), jnp.array(end)), exact, rtol=1e-12)


@pytest.mark.parametrize("a", [0.0, 1.0, 1e3])
def test_when_inverts_it(a):
    start, end = jnp.array(-20.0), jnp.array(SETTLED)
    r = jnp.linspace(-19, 30, 23)
    t = r - start + a * (jnp.tanh(r) - jnp.tanh(start))
    # A rounding of t, and of the plateau within it, moves r by it over the density.
    slack = 4e-15 * (t + a) / slowing(a)(r) + 1e-13
    assert (jnp.abs(when(slowing(a), start, end, t) - r) <= slack).all()
    ends = when(slowing(a), start, end, jnp.array([0.0, 1e9]))
    np.testing.assert_allclose(ends, [start, end], rtol=1e-12)


def test_derivative_is_the_speed():
    """dr/dt = 1 / density, and its derivative, through the inversion."""
    place = lambda t: when(slowing(2.0), jnp.array(-5.0), jnp.array(SETTLED), t[None])[0]  # noqa: E731
    t = jnp.array(5.5)
    r = place(t)
    density = 1 + 2 / jnp.cosh(r) ** 2
    np.testing.assert_allclose(jax.jit(jax.grad(place))(t), 1 / density, rtol=1e-10)
    slope = -4 * jnp.tanh(r) / jnp.cosh(r) ** 2
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(place)))(t), -slope / density**3, rtol=1e-8)
