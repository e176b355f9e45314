"""How linear attention learns regression in context: one abrupt drop, or one stage for every direction of the inputs.

A layer reads its pairs through g = (1/n) sum_i y_i x_i and predicts x^T A g. What is trained are factors of A:

    merged heads,           A = sum_h v_h U_h^T,      U_h one matrix of keys and queries: two linear layers,
    separate rank-one keys, A = sum_h v_h q_h k_h^T:  three linear layers, of rank one.

The loss is quadratic in A, with a saddle at A = 0. Merged heads leave it along one direction, C = S W S, at rate
4 |C| of their product, whatever the start: the loss drops once, after a time that grows with ln(1 / start). Separate
heads of small weights each wait a time 1 / start for a direction of their own: the loss falls in stages, and on the
plateau m the layer uses m principal components.

Flows are on the mean square error without a factor 1/2; time is learning rate times steps.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.linear_attention import Prompts, checked_length, checked_prompts, scatter
from theory.checks import non_negative, positive, real, require, whole
from theory.flow import flow, times


class MergedHeads(NamedTuple):
    """Heads with one matrix each: `values` v_h (H,), `scores` U_h (H, d, d); f = sum_h v_h g^T U_h x."""

    values: Float[Array, "... H"]
    scores: Float[Array, "... H d d"]

    @property
    def layer(self) -> Float[Array, "... d d"]:
        """A = sum_h v_h U_h^T."""
        return jnp.einsum("...h,...hab->...ba", self.values, self.scores)


class SeparateHeads(NamedTuple):
    """Heads of rank one: `values` v_h (H,), `keys` k_h and `queries` q_h (H, d); f = sum_h v_h (k_h.g) (q_h.x)."""

    values: Float[Array, "... H"]
    keys: Float[Array, "... H d"]
    queries: Float[Array, "... H d"]

    @property
    def layer(self) -> Float[Array, "... d d"]:
        """A = sum_h v_h q_h k_h^T."""
        return jnp.einsum("...h,...ha,...hb->...ba", self.values, self.keys, self.queries)


def heads_flow(
    t: Real[ArrayLike, " T"],
    start: MergedHeads | SeparateHeads,
    prompts: Prompts | tuple,
    context: Real[ArrayLike, ""],
) -> MergedHeads | SeparateHeads:
    """Gradient flow of all heads from their start.

    d theta / dt = -dR/d theta,   dR/dA = 2 S (A (S W S + V) - W S).

    Arguments:
        t: times, increasing, >= 0, (T,).
        start: `MergedHeads` or `SeparateHeads` at t = 0.
        prompts: moments of inputs, tasks and noise.
        context: n >= 1, pairs of a prompt.
    Returns:
        the heads at the times, each array with a leading axis of T.
    Holds when: small steps on large batches of fresh prompts, on the mean square error.
    Source: Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265).
    """
    t, n = times("t", t), checked_length(context)
    s, w, *rest = checked_prompts(prompts)
    heads = _heads(start, len(s))
    return _flow(t, heads, s, s @ w, s @ w @ s + scatter(s, w, *rest, n))


def growing_start(heads: MergedHeads | tuple, prompts: Prompts | tuple) -> Float[Array, ""]:
    """p_0, the part of small merged heads that grows: all that their drop depends on.

    p_0 = (1/4) sum_h (v_h + <U_h, C> / |C|)^2,   C = S W S.

    Arguments:
        heads: `MergedHeads` at the start, small.
        prompts: moments of inputs and tasks.
    Returns:
        p_0 >= 0; A then grows as p_0 e^{4 |C| t} C / |C|.
    Holds when: weights are far below those of the best layer, and t is beyond 1 / (4 |C|).
    Source: derived in derivations/bayes_icl/linear_attention_dynamics.py.
    """
    s, w, *_ = checked_prompts(prompts)
    v, u = _heads(MergedHeads(*heads), len(s))
    return _growing(v, u, s @ w @ s)


def abrupt_drop(
    t: Real[ArrayLike, " T"], start: Real[ArrayLike, ""], prompts: Prompts | tuple, context: Real[ArrayLike, ""]
) -> Float[Array, "T d d"]:
    """The layer through its abrupt drop, from merged heads that are balanced and aligned.

    dU/dt = -v (dR/dA)^T,   v = |U|,   A = v U^T,   v U = p_0 C / |C| at t = 0.

    Arguments:
        t: times, increasing, >= 0, (T,).
        start: p_0 > 0, of `growing_start` for any small heads.
        prompts: moments of inputs, tasks and noise.
        context: n >= 1, pairs of a prompt.
    Returns:
        A at the times, (T, d, d), from p_0 C / |C| to the best layer.
    Holds when: p_0 is far below the best layer's size: then heads of any number and small start follow this path.
    Source: Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265).
    """
    t, n, p = times("t", t), checked_length(context), positive("start", start)
    s, w, *rest = checked_prompts(prompts)
    c = s @ w @ s
    unit = c / jnp.linalg.norm(c)
    heads = MergedHeads(jnp.sqrt(p)[None], jnp.sqrt(p) * unit[None])
    return _flow(t, heads, s, s @ w, c + scatter(s, w, *rest, n)).layer


def white_drop(
    t: Real[ArrayLike, "..."],
    start: Real[ArrayLike, "..."],
    dimension: int,
    variance: Real[ArrayLike, "..."],
    context: Real[ArrayLike, "..."],
    tasks: Real[ArrayLike, "..."] = 1.0,
    noise: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """The same for white inputs and tasks, in closed form: A = p I / sqrt(d).

    p = p_inf / (1 + (p_inf / p_0 - 1) e^{-4 sqrt(d) s^2 tau^2 t}),
    p_inf = sqrt(d) / (s [1 + (1 + d + sigma^2 / (s tau^2)) / n]).

    Arguments, which broadcast:
        t: times >= 0.
        start: p_0 > 0, of `growing_start`.
        dimension: d, a Python int >= 1.
        variance: s > 0, of every input; context: n >= 1.
        tasks: tau^2 > 0, variance of every weight of the task; noise: sigma^2 >= 0.
    Returns:
        p.
    Holds when: as `abrupt_drop`, with S = s I and W = tau^2 I.
    Source: Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265), white inputs.
    """
    t, p0 = non_negative("t", t), positive("start", start)
    rate, end = _white(dimension, variance, context, tasks, noise)
    # 1 / p is linear: a weighted mean of its start and its end.
    left = jnp.exp(-rate * t)
    return 1 / (left / p0 - jnp.expm1(-rate * t) / end)


def white_half_time(
    start: Real[ArrayLike, "..."],
    dimension: int,
    variance: Real[ArrayLike, "..."],
    context: Real[ArrayLike, "..."],
    tasks: Real[ArrayLike, "..."] = 1.0,
    noise: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """When the white layer has come half of its way: the moment of the drop.

    t = ln(p_inf / p_0 - 1) / (4 sqrt(d) s^2 tau^2).

    Arguments: as for `white_drop`, with p_0 < p_inf.
    Returns:
        t, negative if it starts beyond half of its way.
    Holds when: as `white_drop`.
    Source: Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265), white inputs.
    """
    p0 = positive("start", start)
    rate, end = _white(dimension, variance, context, tasks, noise)
    p0 = require("start", p0, p0 < end, "must be below the best layer's p")
    return jnp.log(end / p0 - 1) / rate


def plateau_losses(
    variances: Real[ArrayLike, " d"],
    context: Real[ArrayLike, ""],
    tasks: Real[ArrayLike, "..."] = 1.0,
    noise: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, " m"]:
    """Losses of a layer that uses 0, 1, ..., d principal components of its inputs.

    L_m = sigma^2 + sum_a s_a w_a - sum_{a <= m} (s_a w_a)^2 / [(1 + 1/n) s_a w_a + (sum_b s_b w_b + sigma^2) / n].

    Arguments:
        variances: s_a > 0 of the inputs along their principal directions, in the order in which they are learned, (d,):
            falling for heads of equal start.
        context: n >= 1, pairs of a prompt.
        tasks: w_a > 0, variance of the task along the same directions, () or (d,); noise: sigma^2 >= 0.
    Returns:
        L_0 .. L_d, (d + 1,): the last is the best layer's risk.
    Holds when: inputs and tasks have their principal directions in common.
    Source: Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265).
    """
    signal, shrunk, _, sigma = _directions(variances, context, tasks, noise)
    gains = jnp.concatenate([jnp.zeros(1, signal.dtype), jnp.cumsum(signal**2 / shrunk)])
    return sigma + jnp.sum(signal) - gains


def head_time(
    share: Real[ArrayLike, "..."],
    start: Real[ArrayLike, "..."],
    variances: Real[ArrayLike, " d"],
    context: Real[ArrayLike, ""],
    tasks: Real[ArrayLike, "..."] = 1.0,
    noise: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """When a head on a principal direction has come to a share x of its final strength, v = |k| = |q| = x u_inf.

    du/dt = 2 u^2 s_a (s_a w_a - e_a u^3),   e_a = s_a [(1 + 1/n) s_a w_a + c],   u_inf^3 = s_a w_a / e_a,
    t = [F(x) - F(u_0 / u_inf)] / (2 s_a^2 w_a u_inf),
    F(x) = -1/x - ln(1 - x) / 3 + ln(1 + x + x^2) / 6 - atan((1 + 2 x) / sqrt 3) / sqrt 3.

    Arguments:
        share: x in (0, 1), () or with d on the last axis: one for each direction.
        start: u_0 > 0, as `share`; below x u_inf.
        variances, context, tasks, noise: as for `plateau_losses`; c = (sum_b s_b w_b + sigma^2) / n.
    Returns:
        t, (..., d): about 1 / (2 s_a^2 w_a u_0) for small starts, at any x.
    Holds when: each head has one principal direction for key and query, no two the same, and is balanced; then
        heads do not notice each other.
    Source: derived for the model of Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265).
    """
    x, u0 = real("share", share), positive("start", start)
    x = require("share", x, (x > 0) & (x < 1), "must lie between 0 and 1")
    signal, shrunk, s, _ = _directions(variances, context, tasks, noise)
    end = jnp.cbrt(signal / (s * shrunk))
    x0 = u0 / end
    x0 = require("start", x0, x0 < x, "must be below the share that is asked for: its own share")
    # The poles at 0 apart: what is left of F is smooth there.
    return ((x - x0) / (x * x0) + _smooth(x) - _smooth(x0)) / (2 * s * signal * end)


def _smooth(x):
    turn = jnp.arctan((1 + 2 * x) / jnp.sqrt(3.0)) / jnp.sqrt(3.0)
    return -jnp.log1p(-x) / 3 + jnp.log1p(x * (1 + x)) / 6 - turn


def _growing(v, u, c):
    along = jnp.einsum("hab,ab->h", u, c) / jnp.linalg.norm(c)
    return jnp.sum((v + along) ** 2) / 4


@jax.jit
def _flow(t, heads, s, cross, second):
    def field(heads):
        pull = -2 * s @ (heads.layer @ second - cross.T)
        return jax.vjp(lambda heads: heads.layer, heads)[1](pull)[0]

    return flow(field, t, heads)


def _white(dimension, variance, context, tasks, noise):
    d = whole("dimension", dimension)
    s, n, w = positive("variance", variance), real("context", context), positive("tasks", tasks)
    n = require("context", n, n >= 1, "must be at least 1")
    root = jnp.sqrt(float(d))
    end = root / (s * (1 + (1 + d + non_negative("noise", noise) / (s * w)) / n))
    return 4 * root * s**2 * w, end


def _directions(variances, context, tasks, noise):
    """s_a w_a, (1 + 1/n) s_a w_a + c, s_a, and sigma^2."""
    s, w, n = positive("variances", variances), positive("tasks", tasks), checked_length(context)
    if s.ndim != 1 or w.shape not in ((), s.shape):
        raise ValueError(f"variances and tasks must have shapes (d,) and () or (d,), got {s.shape} and {w.shape}")
    sigma = non_negative("noise", noise)
    signal = s * w
    return signal, (1 + 1 / n) * signal + (jnp.sum(signal) + sigma) / n, s, sigma


def _heads(start, d):
    """Heads of one width for inputs of dimension d, all finite."""
    heads = type(start)(*(real(name, part) for name, part in zip(start._fields, start, strict=True)))
    count = heads.values.shape
    wanted = {"values": count, "scores": (*count, d, d), "keys": (*count, d), "queries": (*count, d)}
    for name, part in zip(heads._fields, heads, strict=True):
        if len(count) != 1 or part.shape != wanted[name]:
            raise ValueError(f"{name} must have shape {wanted[name] if len(count) == 1 else '(H,)'}, got {part.shape}")
    kind = jnp.result_type(*heads)
    return type(start)(*(part.astype(kind) for part in heads))
