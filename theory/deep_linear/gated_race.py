"""The race of parallel pathways: all see the same error, and the one that is ahead takes the mode.

Pathways that are open together and share no layer compete for the same modes; a pathway that is shared between M
contexts sees M times the data of one that serves a single context, and wins (the neural race reduction: Saxe,
Sodhani & Lewallen 2022, arXiv:2207.10430).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, whole
from theory.clock import SETTLED, differentiable, when


def race_shares(
    s: Real[ArrayLike, ""], u0: Real[ArrayLike, " p"], rates: Real[ArrayLike, " p"], depth: int = 2
) -> Float[Array, " p"]:
    """How much of one mode each of several parallel pathways has learned when the race is over.

    All pathways see the same error, so that with theta = int (s - sum u) dt each grows on its own:
    u_p = u0_p exp(2 c_p theta) for two layers, u_p^{(2-N)/N} = u0_p^{(2-N)/N} - (N-2) c_p theta for more; sum u_p = s.

    Arguments:
        s: strength to learn, > 0.
        u0: strength of each pathway at t = 0, > 0, shape (p,).
        rates: c_p > 0, shape (p,): how much of the data a pathway sees, times the eigenvalue of Sxx.
        depth: layers N of each pathway, static, >= 2.
    Returns:
        shape (p,), of sum s.
    Holds when: the pathways share no layer, are open together, and each starts balanced and aligned.
    Source: derived from the pathway gradient of Saxe, Sodhani & Lewallen 2022.
    """
    return jnp.exp(_finish(*_pathways(s, u0, rates), whole("depth", depth, 2))[0])


def race_strengths(
    t: Real[ArrayLike, "*time"],
    s: Real[ArrayLike, ""],
    u0: Real[ArrayLike, " p"],
    rates: Real[ArrayLike, " p"],
    depth: int = 2,
) -> Float[Array, "*time p"]:
    """Strengths of several parallel pathways that learn one mode together.

    du_p/dt = N c_p u_p^{2 - 2/N} (s - sum_q u_q).

    Arguments:
        t: times, >= 0, of any shape.
        s, u0, rates, depth: as for `race_shares`.
    Returns:
        shape (*time, p); `race_shares` as t -> infinity.
    Holds when: as for `race_shares`, with sum u0 below s or not far above.
    Source: as for `race_shares`.
    """
    t, depth = non_negative("t", t), whole("depth", depth, 2)
    s, u0, rates = _pathways(s, u0, rates)
    return _strengths_at(jnp.ravel(t), s, u0, rates, depth).reshape(t.shape + u0.shape)


@partial(jax.jit, static_argnums=4)
def _strengths_at(t, s, u0, c, depth):
    logs, theta = _finish(s, u0, c, depth)
    slopes = depth * c * jnp.exp(logs * (depth - 2) / depth)

    def passed(rest):
        """ln u_p - ln u_p(inf) with theta still `rest` short of its end."""
        if depth == 2:
            return -slopes * rest
        return -depth / (depth - 2) * jnp.log1p((depth - 2) / depth * slopes * rest)

    def density(w):
        """dt/dw, theta = theta(inf) (1 - exp(-w))."""
        rest = theta * jnp.exp(-w)[..., None]
        rest = jnp.where(jnp.abs(rest) < 1e-30, 1e-30, rest)
        return rest[..., 0] / jnp.sum(-jnp.expm1(passed(rest)) * jnp.exp(logs), axis=-1)

    end = SETTLED + jnp.log1p(jnp.max(slopes) * jnp.abs(theta))
    w = when(density, jnp.zeros_like(theta), end, t)
    return jnp.exp(logs + passed(theta * jnp.exp(-w)[:, None]))


@partial(jax.jit, static_argnums=3)
def _finish(s, u0, c, depth):
    """ln u_p at the end, and theta there."""
    k = (depth - 2) / depth

    def theta_of(log_u):
        """theta when each pathway stands at log_u; a smooth limit at two layers."""
        if depth == 2:
            return (log_u - jnp.log(u0)) / (2 * c)
        return (jnp.exp(-k * jnp.log(u0)) - jnp.exp(-k * log_u)) / ((depth - 2) * c)

    first = jnp.argmin(theta_of(jnp.log(s)))

    def all_logs(log_first):
        """ln u of every pathway when the first stands at log_first."""
        theta = theta_of(log_first)[first]
        if depth == 2:
            return jnp.log(u0) + 2 * c * theta
        rest = jnp.exp(-k * jnp.log(u0)) - (depth - 2) * c * theta
        return (-jnp.log(rest) / k).at[first].set(log_first)

    def step(log_first):
        value, slope = jax.jvp(
            lambda x: jax.nn.logsumexp(all_logs(x)) - jnp.log(s), (log_first,), (jnp.ones_like(log_first),)
        )
        return log_first - value / slope

    log_first = jax.lax.fori_loop(0, 60, lambda _, x: step(x), jnp.log(s))
    log_first = differentiable(step, log_first)
    return all_logs(log_first), theta_of(log_first)[first]


def _pathways(s, u0, rates):
    s, u0, c = positive("s", s), positive("u0", u0), positive("rates", rates)
    if u0.ndim != 1 or u0.shape != c.shape:
        raise ValueError(f"u0 and rates must be of one shape (p,), got {u0.shape} and {c.shape}")
    return s, u0, c
