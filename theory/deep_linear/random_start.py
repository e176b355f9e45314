"""Two-layer modes from small random weights, which are neither balanced nor aligned in the hidden layer.

Along each input-output mode the two layers' hidden vectors have a part that grows and a part that decays, and these
two numbers are all that matters (after Saxe, McClelland & Ganguli 2013).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive


def growing_and_decaying(
    w1: Real[ArrayLike, "hidden n_in"],
    w2: Real[ArrayLike, "n_out hidden"],
    left: Real[ArrayLike, "n_out k"],
    right: Real[ArrayLike, "n_in k"],
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """The parts of two layers' weights that will grow along each mode, and those that will decay.

    p_i = |W1 v_i + W2^T u_i|^2 / 4,   q_i = |W1 v_i - W2^T u_i|^2 / 4,   with p_i - q_i = u_i . W2 W1 v_i.

    Arguments:
        w1, w2: weights at t = 0; left, right: the modes' vectors u_i, v_i in columns.
    Returns:
        (p, q), each (k,): `random_start_strength` takes them. Balanced and aligned: p_i = u0_i, q_i = 0.
    Holds when: always.
    Source: the linearised flow of Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.
    """
    w1, w2 = matrix("w1", w1), matrix("w2", w2, columns=jnp.shape(w1)[0])
    left, right = matrix("left", left, rows=w2.shape[0]), matrix("right", right, rows=w1.shape[1])
    a, b = (w1 @ right).T, (w2.T @ left).T
    return jnp.sum((a + b) ** 2, axis=1) / 4, jnp.sum((a - b) ** 2, axis=1) / 4


def random_start_strength(
    t: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    p: Real[ArrayLike, "..."],
    q: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Strength of one mode of a two-layer network from any start: neither balanced nor aligned in the hidden layer.

    u = p y - q / y,   dy/dt = 2 lam q + 2 s y - 2 lam p y^2, y(0) = 1;   du/dt = 2 sqrt(u^2 + 4 p q) (s - lam u).

    Arguments, which broadcast:
        t: time, >= 0; s: singular value of Syx, >= 0; lam: input variance of the mode, > 0;
        p, q: the mode's growing and decaying parts, >= 0, from `growing_and_decaying`.
    Returns:
        u(t), of the broadcast shape: p - q at t = 0, s/lam as t -> infinity unless p = 0; `mode_strength` at q = 0.
    Holds when: exact for one mode alone. With several, where the data are white, the hidden vectors of different modes
        must be orthogonal; random ones overlap by 1/sqrt(width), and the error is of order 1/width.
    Source: vector form of Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.1.
    """
    t, s, lam = non_negative("t", t), non_negative("s", s), positive("lam", lam)
    p, q = non_negative("p", p), non_negative("q", q)
    # y = n/d with n' = s n + 2 lam q d, d' = 2 lam p n - s d: exponentials of +-D, D^2 = s^2 + 4 lam^2 p q.
    square = s**2 + 4 * lam**2 * p * q
    small = square * t**2 < 0.25
    z = jnp.where(small, square * t**2, 0.0)
    even = 1 + z / 2 * (1 + z / 12 * (1 + z / 30 * (1 + z / 56 * (1 + z / 90 * (1 + z / 132)))))
    odd = 1 + z / 6 * (1 + z / 20 * (1 + z / 42 * (1 + z / 72 * (1 + z / 110 * (1 + z / 156)))))
    rate = jnp.sqrt(jnp.where(small, 1.0, square))
    # For long times both are divided by exp(D t), and D - s = 4 lam^2 p q / (D + s) is not left to cancellation.
    e = jnp.where(small, 1.0, jnp.exp(-2 * rate * t))
    c = jnp.where(small, even, (1 + e) / 2)
    h = jnp.where(small, t * odd, -jnp.expm1(-2 * rate * t) / (2 * rate))
    shrinking = jnp.where(small, c - s * h, e + 4 * lam**2 * p * q / (rate + s) * h)
    n = c + (s + 2 * lam * q) * h
    d = shrinking + 2 * lam * p * h
    # p n^2 - q d^2, with c^2 - (D h)^2 = e: only (p - q) e can be negative.
    rest = 2 * s * h * (p * (c + s * h) + q * shrinking + 4 * lam * p * q * h)
    return ((p - q) * e + rest) / jnp.maximum(d, 10 * jnp.sqrt(jnp.finfo(d.dtype).tiny)) / n
