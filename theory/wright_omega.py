"""Wright's omega function: where an exponential and a line meet, as in the time that a logit needs to grow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import real


def wright_omega(y: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The positive w with w + ln w = y.

    omega(y) -> e^y for y -> -inf, omega(1) = 1, omega(y) -> y - ln y for y -> inf. Lambert's W of a positive number is
    W(x) = omega(ln x), so that W(e^y) = omega(y) never overflows.

    Arguments:
        y: any real number, any shape.
    Returns:
        omega(y), of the shape of y, to a few roundings (a relative rounding of y itself where y is large).
    Source: Corless & Jeffrey 2002, real argument.
    """
    return _omega(real("y", y))


@jax.custom_jvp
@jax.jit
def _omega(y):
    """Newton's method on w + ln w - y in ln w, which is convex there and converges from any start."""
    small, large = y < -2, y > 1
    z = jnp.where(small, y, jnp.where(large, jnp.log(jnp.where(large, y, 2.0)), 0.6 * y - 0.5671))

    def step(_, z):
        # For y far below zero e^z is lost beside z = ln w, as it should be.
        w = jnp.exp(z)
        return z - (w + z - y) / (1 + w)

    z = jax.lax.fori_loop(0, 8, step, z)
    # One step on w itself: exponentiating ln w would cost the digits of ln w where it is large.
    w = jnp.exp(z)
    return w * ((1 + y - z) / (1 + w))


@_omega.defjvp
def _derivative(primals, tangents):
    (y,), (tangent,) = primals, tangents
    w = _omega(y)
    # w / (1 + w), in the form whose own derivative does not cancel.
    return w, tangent * jnp.where(w < 1, w / (1 + w), 1 - 1 / (1 + w))
