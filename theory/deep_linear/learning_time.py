"""How long a mode of a deep linear network takes: plateaus, half times, and what depth costs.

At depth 2 the plateau grows as the logarithm of the start, at depth N >= 3 as its power 1 - 2/N; from a start held
fixed, N times the learning time saturates with depth (Saxe, McClelland & Ganguli 2013).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, require, whole
from theory.deep_linear.modes import plateau_law, relaxation_law


def learning_time(
    u: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
    depth: int = 2,
) -> Float[Array, "..."]:
    """Time in which a mode goes from strength u0 to strength u: the inverse of `mode_strength`.

    t = (1/N) int_{u0}^{u} dv / (v^{2-2/N} (s - lam v)), which is, at
        depth 1:  (1/lam) ln[(s - lam u0) / (s - lam u)],
        depth 2:  (1/2s) ln[u (s - lam u0) / (u0 (s - lam u))].

    Arguments, which broadcast:
        u: the strength to be reached, > 0.
        s: singular value of Syx, >= 0.
        u0: strength at t = 0, > 0.
        lam: eigenvalue of Sxx on the mode's right vector, > 0.
        depth: number N of weight matrices, a Python int >= 1.
    Returns:
        t in units of 1 / learning rate, of the broadcast shape; negative for a strength that lies behind u0 on its
        trajectory; infinite for s/lam and for what lies beyond it.
    Holds when: as for `mode_strength`.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), the section on learning times.
    """
    depth = whole("depth", depth)
    return _time(u, s, u0, lam, 2 / depth) / depth


def infinite_depth_time(
    u: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """What N times the learning time at depth N tends to as N -> infinity, at a start held fixed.

    lim N t = f(u) - f(u0),   f(u) = (lam/s^2) ln(u / |s - lam u|) - 1/(s u).

    Arguments and sign: as for `learning_time`.
    Returns:
        the limit, in units of 1 / learning rate: with a learning rate proportional to 1/N, the number of steps is
        the same at every large depth.
    Holds when: u0 does not change with depth, as for orthogonal layers of scale u0^{1/N}.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), the section on very deep networks.
    """
    return _time(u, s, u0, lam, 0.0)


def half_time(
    s: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
    depth: int = 2,
) -> Float[Array, "..."]:
    """Time at which a mode has half its final strength s/lam; at depth 2 (1/2s) ln(s/(lam u0) - 1).

    Arguments, which broadcast:
        s: singular value of Syx, > 0.
        u0, lam, depth: as for `learning_time`.
    Returns:
        the time, of the broadcast shape, in units of 1 / learning rate; negative if u0 is past the half, infinite if
        u0 is s/lam or more.
    Holds when: as for `mode_strength`.
    """
    s, lam = positive("s", s), positive("lam", lam)
    return learning_time(s / (2 * lam), s, u0, lam, depth)


def transition_time(
    s: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
    depth: int = 2,
    eps: Real[ArrayLike, "..."] = 0.1,
) -> Float[Array, "..."]:
    """How long the rise itself takes: from eps s/lam to (1 - eps) s/lam; at depth 2 (1/s) ln((1 - eps)/eps).

    Arguments, which broadcast:
        s: singular value of Syx, > 0.
        lam, depth: as for `learning_time`.
        eps: fraction left out at either end, 0 < eps < 1/2.
    Returns:
        the time, of the broadcast shape, in units of 1 / learning rate; it does not depend on the start, and at
        depth N it is proportional to lam^{1-2/N} s^{-(2-2/N)}.
    Holds when: as for `mode_strength`, from a start below eps s/lam.
    """
    s, lam, eps = positive("s", s), positive("lam", lam), positive("eps", eps)
    eps = require("eps", eps, eps < 0.5, "must be below 1/2")
    return learning_time((1 - eps) * s / lam, s, eps * s / lam, lam, depth)


def plateau_time(
    s: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
    depth: int = 2,
) -> Float[Array, "..."]:
    """Leading learning time from a small start: how long a mode seems not to learn.

    depth 2:       (1/2s) ln(s / (lam u0)),
    depth N >= 3:  u0^{-(1-2/N)} / ((N-2) s).

    Arguments, which broadcast:
        s: singular value of Syx, > 0.
        u0: strength at t = 0, > 0.
        lam: eigenvalue of Sxx, > 0; without influence at depth 3 and more.
        depth: number N of weight matrices, a Python int >= 2 (one layer has no plateau).
    Returns:
        the time, of the broadcast shape, in units of 1 / learning rate.
    Holds when: lam u0 << s. `learning_time` to any fixed fraction of s/lam differs from it by a time that does not
        depend on u0, of order s^{-(2-2/N)} lam^{1-2/N} (at depth 3 and 4 that is (lam u0/s)^{1-2/N} of the whole).
    """
    depth = whole("depth", depth, at_least=2)
    s, u0, lam = positive("s", s), positive("u0", u0), positive("lam", lam)
    if depth == 2:
        return jnp.log(s / (lam * u0)) / (2 * s)
    return jnp.broadcast_arrays(u0 ** (2 / depth - 1) / ((depth - 2) * s), lam)[0]


def _time(u, s, u0, lam, a: float) -> Float[Array, "..."]:
    """int_{u0}^{u} dv / (v^{2-a} (s - lam v)), 0 <= a <= 2, of the broadcast shape."""
    u, s, u0, lam = positive("u", u), non_negative("s", s), positive("u0", u0), positive("lam", lam)
    dtype = jnp.result_type(u, s, u0, lam)
    return _law(*(jnp.asarray(x, dtype) for x in (u, s, u0, lam, a)))


@jax.jit
@jnp.vectorize
def _law(u, s, u0, lam, a) -> Float[Array, ""]:
    """The two laws of `modes`, plateau and relaxation, one after the other, from whichever of u and u0 is earlier."""
    below = lam * u0 <= s
    c = jnp.where(below, a - 1, 2 - a)
    reached = jnp.where(below, lam * u < s, lam * u > s) & (lam * u0 != s)
    u = jnp.where(reached, u, u0)
    ahead = jnp.where(below, u >= u0, u <= u0)
    first, last = jnp.where(ahead, u0, u), jnp.where(ahead, u, u0)
    v0, v1 = (jnp.where(below, lam * x, s) / jnp.where(below, s, lam * x) for x in (first, last))
    slow = v0 < 0.5
    stays = slow & (v1 <= 0.5)

    change = jnp.abs(last - first)
    growth = jnp.log1p(change / jnp.minimum(first, last))
    full = -jnp.log(2 * jnp.maximum(v0, jnp.finfo(v0.dtype).tiny ** 0.25))
    growth = jnp.where(slow, jnp.where(stays, growth, full), 0.0)
    # Each side in the units of its smaller strength, which decides: otherwise the gradient in the larger one is lost.
    s = jnp.where(stays & ~below, 1.0, s)
    end = jnp.where(stays, last, 2 * s / lam)
    unit = jnp.where(below, s * first ** (1 - a) * jnp.exp(-c * growth), lam * end ** (2 - a))
    plateau = plateau_law(growth, jnp.where(stays, v1, 0.5), c) / unit

    # v1 - v0 without cancellation; what does not relax is given numbers that keep the gradients finite.
    fall = jnp.where(slow, v1 - 0.5, change * v0 / jnp.where(below, first, last))
    w0 = jnp.where(slow, 0.5, jnp.where(reached, 1 - v0, 1.0))
    decay = -jnp.log1p(-jnp.where(stays, 0.0, fall) / w0)
    relaxation = relaxation_law(decay, w0, 1 - c) / (s * (s / lam) ** (1 - a))
    return jnp.where(reached, jnp.where(ahead, 1, -1) * (plateau + relaxation), jnp.inf)
