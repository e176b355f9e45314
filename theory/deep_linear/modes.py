"""Modes of deep linear networks: plateau, then abrupt rise (Saxe, McClelland & Ganguli 2013).

From aligned weights the singular modes of `Syx = U diag(s) V^T` decouple, and each mode strength `u` (a singular
value of the network map) grows on its own.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive


def mode_strength(
    t: Real[ArrayLike, ...],
    s: Real[ArrayLike, ...],
    u0: Real[ArrayLike, ...],
    lam: Real[ArrayLike, ...] = 1.0,
) -> Float[Array, ...]:
    """Strength of one mode of a two-layer network at time t.

    du/dt = 2 u (s - lam u),   u(t) = s u0 / (lam u0 (1 - E) + s E),   E = exp(-2 s t).

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate.
        s: singular value of the input-output correlation Syx, >= 0.
        u0: strength at t = 0, > 0.
        lam: eigenvalue of the input correlation Sxx on the mode's right vector, > 0.
    Returns:
        u(t), of the broadcast shape; s/lam as t -> infinity; u0 / (1 + 2 lam u0 t) at s = 0.
    Holds when: the start is balanced (both layers sqrt(u0)) and aligned, and Syx and Sxx share right vectors.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), eq. 12.
    """
    t, s = non_negative("t", t), non_negative("s", s)
    u0, lam = positive("u0", u0), positive("lam", lam)
    # Dividing numerator and denominator by s leaves (1 - E)/s = 2 t phi(2 s t), smooth through s = 0.
    growth = decay_integral(2 * s, t)
    return u0 / (lam * u0 * growth * 2 + jnp.exp(-2 * s * t))


def decay_integral(rate: Float[Array, ...], t: Float[Array, ...]) -> Float[Array, ...]:
    """int_0^t exp(-rate r) dr = (1 - exp(-rate t)) / rate, smooth (with its derivatives) through rate = 0."""
    x = rate * t
    small = jnp.abs(x) < 0.02
    # Both branches must be finite for the gradient of `where` to be.
    safe = jnp.where(small, 1.0, x)
    series = 1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6 * (1 - x / 7)))))
    return t * jnp.where(small, series, -jnp.expm1(-safe) / safe)
