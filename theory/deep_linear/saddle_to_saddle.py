"""From saddle to saddle: a diagonal network of vanishing start learns one coordinate after the other.

As alpha -> 0 the coefficients of `beta = u^2 - v^2` stand still on plateaus and jump at fixed values of the
accelerated time T = 4 t / ln(1/alpha^2). The plateaus are sparse, coordinates may leave again, and the last one is the
interpolator of least L1 norm. Pesme & Flammarion 2023 (arXiv:2304.00488).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from theory.checks import floating, matrix, non_negative, real, require, whole


class SaddlePath(NamedTuple):
    """The limit path. Rows past the last jump repeat it, at the time infinity.

    times: accelerated times T_k at which the jumps happen, from T_0 = 0, shape (K + 1,).
    beta: plateau from T_k to T_(k+1), shape (K + 1, d); beta[0] = 0, beta[-1] of least L1 norm.
    s: limit of the scaled dual variable 4 eta / ln(1/alpha^2) at T_k, in [-1, 1], shape (K + 1, d).
    """

    times: Float[Array, " K1"]
    beta: Float[Array, "K1 d"]
    s: Float[Array, "K1 d"]


def saddle_path(
    x: Real[ArrayLike, "n d"], y: Real[ArrayLike, " n"], max_jumps: int = 100, *, throw: bool = True
) -> SaddlePath:
    """Jumps and plateaus of gradient flow on a depth-2 diagonal network as the start u0 = v0 = alpha vanishes.

    ds/dT = -g(beta), g = -X^T (y - X beta) / n, from s = 0, beta = 0. When some s_i reaches +-1, beta jumps to
    argmin |y - X beta|^2 over s_i beta_i >= 0 where |s_i| = 1 and beta_i = 0 elsewhere.

    Arguments:
        x: inputs, samples in rows, shape (n, d).
        y: targets, shape (n,).
        max_jumps: K, room for the jumps; static.
        throw: whether to raise when K jumps do not reach the end of the path.
    Returns:
        a `SaddlePath`.
    Holds when: alpha -> 0 with columns of X in general position (every plateau is then unique). The jumps of a network
        approach T_k at the rate 1 / ln(1/alpha^2). float32 mistakes jumps closer than 1e-4.
    Source: Pesme & Flammarion 2023 (arXiv:2304.00488), algorithm 1.
    """
    x, y = matrix("x", x), real("y", y)
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must be a vector of the {x.shape[0]} samples of x, got shape {y.shape}")
    max_jumps = whole("max_jumps", max_jumps)
    path, end = _jumps(x, y, max_jumps)
    if throw:
        times = eqx.error_if(
            path.times,
            jnp.isfinite(end),
            f"max_jumps must leave room for the whole path, got {max_jumps}, after which the loss still falls",
        )
        path = path._replace(times=times)
    return path


def plateau(accelerated: Real[ArrayLike, "..."], path: SaddlePath | tuple) -> Float[Array, "... d"]:
    """Coefficients of the limit path at an accelerated time.

    beta(T) = beta_k for T_k <= T < T_(k+1).

    Arguments:
        accelerated: T >= 0, any shape.
        path: from `saddle_path`, or the tuple (times, beta, s).
    Returns:
        beta(T), of the shape of T with a last axis of d.
    Holds when: alpha -> 0, away from the jumps.
    Source: Pesme & Flammarion 2023 (arXiv:2304.00488).
    """
    accelerated = non_negative("accelerated", accelerated)
    path = SaddlePath(*path)
    # Jumps that never come are at infinity.
    times = floating("path.times", path.times)
    times = require("path.times", times, ~jnp.isnan(times), "must be numbers")
    return real("path.beta", path.beta)[jnp.searchsorted(times, accelerated, side="right") - 1]


def accelerated_time(t: Real[ArrayLike, "..."], log_alpha: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """T = 4 t / ln(1/alpha^2), the time in which the jumps of a vanishing start stay where they are.

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate of the raw weights.
        log_alpha: ln alpha < 0.
    Returns:
        T, of the broadcast shape. (Pesme & Flammarion write t / ln(1/alpha) with other constants in the weights.)
    Source: Pesme & Flammarion 2023 (arXiv:2304.00488); the constant follows from beta = u^2 - v^2.
    """
    t, log_alpha = non_negative("t", t), real("log_alpha", log_alpha)
    log_alpha = require("log_alpha", log_alpha, log_alpha < 0, "must be negative, for alpha < 1")
    return -2 * t / log_alpha


@partial(jax.jit, static_argnums=2)
def _jumps(x, y, max_jumps: int):
    """The path, and the time of the jump after its last."""
    n = x.shape[0]
    eps = jnp.finfo(x.dtype).eps
    small = 1e5 * eps * jnp.max(jnp.abs(x.T @ y / n))

    def jump(state, _):
        time, beta, s = state
        g = -x.T @ (y - x @ beta) / n
        # 1 + s sign(g) is what is left of the way to -sign(g); it is exactly 0 where s has arrived.
        way = 1 + s * jnp.sign(g)
        pushed = jnp.abs(g) > small
        moving = pushed & (way > 0)
        wait = jnp.min(jnp.where(moving, way / jnp.where(moving, jnp.abs(g), 1.0), jnp.inf))
        over = jnp.isinf(wait)
        s_next = s - jnp.where(pushed & ~over, jnp.where(over, 0.0, wait) * g, 0.0)
        s_next = jnp.where(jnp.abs(s_next) > 1 - 1e4 * eps, jnp.sign(s_next), s_next)
        beta_next = _sign_constrained(x, y, s_next, beta, small)
        after = (time + wait, jnp.where(over, beta, beta_next), jnp.where(over, s, s_next))
        return after, after

    begin = (jnp.zeros_like(y[0]), jnp.zeros_like(x[0]), jnp.zeros_like(x[0]))
    _, (times, beta, s) = jax.lax.scan(jump, begin, length=max_jumps + 1)
    after = SaddlePath(times[:-1], beta[:-1], s[:-1])
    path = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), SaddlePath(*begin), after)
    return path, times[-1]


def _sign_constrained(x, y, s, beta, small):
    """argmin |y - X beta|^2 with s_i beta_i >= 0 where |s_i| = 1 and beta_i = 0 elsewhere, from the last plateau."""
    allowed = jnp.abs(s) == 1
    x = x * jnp.where(allowed, s, 0.0)
    support = _support(*jax.lax.stop_gradient((x, y, allowed, jnp.abs(beta), small)))
    return jnp.where(support, s * _least_squares(x, y, support), 0.0)


def _least_squares(x, y, support: Bool[Array, " d"]):
    """Least squares on the columns of a support, with one step of refinement; zero elsewhere."""
    x = jnp.where(support, x, 0.0)
    factor = jax.scipy.linalg.cho_factor(x.T @ x + jnp.diag(jnp.where(support, 0.0, 1.0)))
    w = jax.scipy.linalg.cho_solve(factor, x.T @ y)
    return w + jax.scipy.linalg.cho_solve(factor, x.T @ (y - x @ w))


def _support(x, y, allowed, w, small):
    """The support of argmin |y - X w|^2 over w >= 0 on the allowed columns: Lawson & Hanson's active set, from w."""
    n, d = x.shape

    def body(state):
        w, support, _, count = state
        z = _least_squares(x, y, support)
        bad = support & (z <= 0)
        blocked = jnp.any(bad)
        # Back from an infeasible solution to the first wall, whose coordinate leaves the support ...
        reach = jnp.where(bad, w / jnp.where(bad & (w > z), w - z, 1.0), jnp.inf)
        nearest = jnp.min(reach)
        kept = support & (reach > nearest)
        walled = jnp.where(kept, w + jnp.where(blocked, nearest, 0.0) * (z - w), 0.0)
        # ... or on to the coordinate that lowers the loss fastest.
        pull = jnp.where(allowed & ~support, x.T @ (y - x @ z) / n, -jnp.inf)
        best = jnp.argmax(pull)
        grows = pull[best] > small
        grown = support.at[best].set(support[best] | grows)
        after = (jnp.where(blocked, walled, z), jnp.where(blocked, kept, grown), blocked | grows, count + 1)
        return after

    begin = (w, w > 0, jnp.array(True), 0)
    return jax.lax.while_loop(lambda state: state[2] & (state[3] < 10 * d), body, begin)[1]
