"""Averaged predictor: how late the average of all checkpoints of a two-layer linear network learns a mode.

The network's predictions are averaged over training so far, as an ensemble of its checkpoints. Its last checkpoint
rises abruptly at the time ln(s / u0) / (2 s); the average is half-way only at twice that time, and rises slowly.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive


def averaged_strength(
    t: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."], u0: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Strength of one mode in the predictions of a two-layer network, averaged from the start to time t.

    ln(1 + u0 / s (exp(2 s t) - 1)) / (2 t).

    Arguments, which broadcast:
        t: time, in units of 1 / learning rate, >= 0.
        s: singular value of the mode, its final strength, > 0.
        u0: its strength at the start, > 0.
    Returns:
        the strength in the average, between u0 and s, of the broadcast shape; u0 at t = 0.
    Holds when: two layers, white inputs, an aligned and balanced start, gradient flow; every moment weighs the same.
    Source: the time average of the logistic mode of Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120).
    """
    t, s, u0 = non_negative("t", t), positive("s", s), positive("u0", u0)
    x, share = 2 * s * t, u0 / s
    # Where the formula is 0 / 0: to first order, the next is below rounding.
    starting = x * jnp.maximum(share, 1.0) < 1e-8
    started, x = jnp.where(starting, 1.0, t), jnp.where(starting, 1.0, x)
    early = jnp.log1p(share * jnp.expm1(jnp.minimum(x, 50.0)))
    # exp(x) overflows long before its logarithm does.
    late = x + jnp.log(share + (1 - share) * jnp.exp(-jnp.maximum(x, 50.0)))
    return jnp.where(starting, u0 + t * u0 * (s - u0), jnp.where(x < 50, early, late) / (2 * started))
