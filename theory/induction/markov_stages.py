"""How a two-layer attention network learns to read a Markov chain: chance, then single symbols, then pairs.

The smallest such network has relative attention logits v in its first layer and one matrix W in its second, linear one:

    A_sj = softmax_{j <= s}(v_{s-j}),   l_s = sum_j A_sj e_{x_j},   logits_t(y) = sum_{s <= t, x_s = y} e_{x_t}^T W l_s.

No symbol is special, so that the mean gradient keeps W = w 1 1^T + m (I - 1 1^T / k), and the logits are

    w n_y(t) + m sum_{s <= t, x_s = y} (l_s(x_t) - 1 / k):

w counts symbols, whatever the attention is; m counts those s at which the present symbol was attended to, which are
successors of the present symbol only once the first layer looks one step back. From W = 0 both parts of W
grow at once, v only in proportion to m: counting single symbols comes first, and the loss waits near what that gives.

Exact: the reduction to (w, m, v) under the mean gradient, and every mean over all sequences of two symbols. Given
sampled contexts instead, means are theirs. What a trained network adds is the noise of its batches and its finite step.
Time is the learning rate of W times steps.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import non_negative, real, require, whole
from theory.flow import flow, times
from theory.induction.markov_chains import (
    bigram_prediction,
    stationary_distribution,
    two_symbol_bayes,
    two_symbol_probability,
    unigram_prediction,
)


class Reader(NamedTuple):
    """The network: `common` w, `match` m, `lags` v (T,), of which entry d is the logit for d steps back.

    W = w 1 1^T + m (I - 1 1^T / k). A leading axis of times comes first.
    """

    common: Float[Array, "*times"]
    match: Float[Array, "*times"]
    lags: Float[Array, "*times T"]


class Contexts(NamedTuple):
    """What is predicted from: sequences, the true distribution of what follows each prefix, how much each counts.

    `symbols` (N, T), from 0 to k - 1.  `following` (N, T, k), Pr(x_{t+1} | what is known).  `weight` (N,), of sum one.
    """

    symbols: Int[Array, "N T"]
    following: Float[Array, "N T k"]
    weight: Float[Array, " N"]


class Stage(NamedTuple):
    """Where the network is: its loss, its divergence from both ways to count, its look one step back.

    `loss` cross-entropy, nats.  `unigram`, `bigram`: KL(strategy || network), nats.  `previous`: mean of A_{s,s-1}.
    All are means over positions, which count alike.
    """

    loss: Float[Array, "..."]
    unigram: Float[Array, "..."]
    bigram: Float[Array, "..."]
    previous: Float[Array, "..."]


class Drive(NamedTuple):
    """First motion from W = 0, v = 0: w = `common` t, m = `match` t, v = lag_rate `lags` t^2 / 2."""

    common: Float[Array, ""]
    match: Float[Array, ""]
    lags: Float[Array, " T"]


def all_contexts(length: int, prior: str = "rows") -> Contexts:
    """Every sequence of two symbols with its exact probability, and the exact Bayesian distribution of what follows.

    Arguments:
        length: T >= 1, a Python int; there are 2^T of them, of which those that begin with 1 mirror the others.
        prior: of the chain, as in `markov_chains.two_symbol_probability`.
    Returns:
        `Contexts` of the 2^(T-1) sequences that begin with 0, the weights doubled.
    Holds when: both symbols are treated alike, as by a `Reader`; means are then exact.
    Source: enumeration.
    """
    rest = itertools.product((0, 1), repeat=whole("length", length) - 1)
    x = np.array([(0, *tail) for tail in rest])
    return Contexts(jnp.asarray(x), two_symbol_bayes(x, prior), 2 * two_symbol_probability(x, prior))


def reader_logits(reader: Reader | tuple, sequences: Int[ArrayLike, "N T"], symbols: int) -> Float[Array, "N T k"]:
    """Logits of the next symbol at each position.

    w n_y(t) + m sum_{s <= t, x_s = y} (l_s(x_t) - 1 / k).

    Arguments:
        reader: without an axis of times; sequences: symbols (N, T); symbols: k, a Python int.
    Returns:
        logits, (N, T, k). With v_1 -> infinity they are (w - m / k) n_y + m n_{x_t y}, counts of pairs; x_1, which
        nothing precedes, counts as preceded by itself.
    Holds when: always.
    Source: Edelman et al. 2024 (arXiv:2402.11004), the minimal model, on the matrices that symmetry leaves.
    """
    reader, x = _checked_reader(reader), jnp.asarray(sequences)
    if x.ndim != 2 or reader.lags.shape != x.shape[1:]:
        raise ValueError(f"lags must be of shape (T,) for sequences (N, T), got {reader.lags.shape} and {x.shape}")
    return _logits(reader, jax.nn.one_hot(x, whole("symbols", symbols, 2)))


def stage(reader: Reader | tuple, contexts: Contexts | tuple) -> Stage:
    """Loss of the network, and how far it is from counting symbols and from counting pairs.

    Arguments:
        reader: with or without a leading axis of times; contexts: `Contexts`.
    Returns:
        `Stage`, of the shape of the times.
    Holds when: always.
    Source: definitions; the measures of Edelman et al. 2024 (arXiv:2402.11004).
    """
    reader = _checked_reader(reader)
    contexts = _checked_contexts(contexts, reader)
    symbols = contexts.following.shape[-1]
    guesses = [predict(contexts.symbols, symbols) for predict in (unigram_prediction, bigram_prediction)]
    if reader.common.ndim:
        return _stages(reader, contexts, guesses)
    seen = _stages(jax.tree.map(lambda part: part[None], reader), contexts, guesses)
    return jax.tree.map(lambda part: part[0], seen)


def stage_flow(
    t: Real[ArrayLike, " times"],
    contexts: Contexts | tuple,
    lag_rate: Real[ArrayLike, ""],
    start: Reader | tuple | None = None,
) -> Reader:
    """Gradient flow of the network on the mean loss.

    dw/dt = -(1 / k^2) dL/dw,   dm/dt = -(1 / (k - 1)) dL/dm,   dv/dt = -lag_rate dL/dv.

    Arguments:
        t: times, increasing, >= 0, learning rate of W times steps.
        contexts: `Contexts` over which the loss is a mean.
        lag_rate: learning rate of v over that of W, >= 0; 0 keeps the attention uniform.
        start: a `Reader` at t = 0; zeros if not given.
    Returns:
        `Reader` with a leading axis of times. The sum of v stays what it was; only t and lag_rate matter of two
        learning rates.
    Holds when: the contexts treat all symbols alike: all of them, or many samples; small steps and large batches.
    Source: derived in derivations/induction/markov_stages.py.
    """
    length = jnp.asarray(contexts[0]).shape[-1]
    reader = _untrained(length) if start is None else _checked_reader(start)
    return _flow(times("t", t), _checked_contexts(contexts, reader), non_negative("lag_rate", lag_rate), reader)


def plateau(contexts: Contexts | tuple) -> Reader:
    """Where the loss waits: the best that the second layer does while attention is uniform.

    min_{w, m} L(w, m, v = 0).

    Arguments:
        contexts: `Contexts` of length T > 1 in which both numbers matter.
    Returns:
        `Reader` with lags of zero. Its loss is near that of `unigram_prediction`: above it for random rows, as counts
        are not logarithms, below it for doubly stochastic chains, of which m already sees how often symbols stay.
    Holds when: the lags learn slowly beside W. The loss is convex in (w, m); Newton's method, damped, to rounding.
    Source: a definition.
    """
    length = jnp.asarray(contexts[0]).shape[-1]
    start = _untrained(length)
    return _plateau(_checked_contexts(contexts, start), start)


def slow_flow(s: Real[ArrayLike, " times"], contexts: Contexts | tuple) -> Reader:
    """The way from single symbols to pairs if the second layer is always at its best: the duration of the plateau.

    dv/ds = -dL/dv (W*(v), v),   W*(v) = argmin_W L(W, v),   v(0) = 0.

    Arguments:
        s: learning rate of v times steps, increasing, >= 0; contexts: as for `plateau`.
    Returns:
        `Reader` with a leading axis of times: whatever happens at s takes s / lr_v steps, and lr_W does not matter.
    Holds when: lag_rate -> 0; what is left out is of relative order lag_rate, of either sign.
    Source: derived in derivations/induction/markov_stages.py.
    """
    start = plateau(contexts)
    return _slow_flow(times("s", s), _checked_contexts(contexts, start), start)


def first_drive(transition: Real[ArrayLike, "chains k k_to"], length: int) -> Drive:
    """How the network sets out from W = 0 and v = 0, from correlations of the chains alone.

    w = G t / k^2,   m = g t,   v_d = lag_rate g h_d t^2 / 2,   g = (H - G / k) / (k - 1),
    G = (1/T) sum_{s <= t} E [Pr(x_{t+1} = x_s) - 1/k],   H = (1/T) sum_{s <= T} sum_{m < s} F_s(m) / s,
    h_d = (1/T) sum_{s > d} (F_s(d) - mean_{m < s} F_s(m)) / s,   F_s(m) = sum_{n <= T - s} F(m, n),
    F(m, n) = E sum_{iy} pi_i (P^m)_iy (P^n)_yi (P_iy - 1 / k).

    Arguments:
        transition: chains over which E is a mean, (chains, k, k); length: T, a Python int.
    Returns:
        `Drive`. That v moves as t^2 is the order of the stages: it waits for m.
    Holds when: leading order in t; stationary chains.
    Source: derived in derivations/induction/markov_stages.py.
    """
    p, length = real("transition", transition), whole("length", length)
    if p.ndim != 3 or p.shape[1] != p.shape[2]:
        raise ValueError(f"transition must be of shape (chains, k, k), got {p.shape}")
    return _first_drive(p, stationary_distribution(p), length)


def _attention(lags: Float[Array, " T"]) -> Float[Array, "T T"]:
    back = np.arange(len(lags))[:, None] - np.arange(len(lags))
    return jax.nn.softmax(jnp.where(back >= 0, lags[np.maximum(back, 0)], -jnp.inf), axis=1)


def _logits(reader: Reader, x: Float[Array, "N T k"]) -> Float[Array, "N T k"]:
    # x_s and what s attends to, summed up to t, of which the present symbol picks a row.
    attended = _attention(reader.lags) @ x - 1 / x.shape[-1]
    upto = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), x.dtype))
    pairs = jnp.einsum("ts,nsi,nsj->ntij", upto, attended, x)
    return reader.common * (upto @ x) + reader.match * jnp.einsum("nti,ntij->ntj", x, pairs)


def _loss(reader: Reader, contexts: Contexts) -> Float[Array, ""]:
    x = jax.nn.one_hot(contexts.symbols, contexts.following.shape[-1])
    right = jnp.sum(contexts.following * jax.nn.log_softmax(_logits(reader, x)), axis=-1)
    return -contexts.weight @ jnp.mean(right, axis=1)


@jax.jit
def _flow(t, contexts, lag_rate, start) -> Reader:
    k = contexts.following.shape[-1]

    def field(reader):
        down = jax.grad(_loss)(reader, contexts)
        return Reader(-down.common / k**2, -down.match / (k - 1), -lag_rate * down.lags)

    return flow(field, t, start, rtol=1e-7, atol=1e-9)


def _second_layer(contexts: Contexts):
    """The loss as a function of (w, m), then of v."""
    return lambda w, lags: _loss(Reader(w[0], w[1], lags), contexts)


@jax.jit
def _plateau(contexts, start) -> Reader:
    loss = _second_layer(contexts)

    def newton(_, w):
        step = jnp.linalg.solve(jax.hessian(loss)(w, start.lags), jax.grad(loss)(w, start.lags))
        # Logits change by at most T times the step: damped until that is of order one.
        size = len(start.lags) * jnp.max(jnp.abs(step))
        return w - step / jnp.maximum(1.0, size)

    w = jax.lax.fori_loop(0, 40, newton, jnp.stack([start.common, start.match]))
    return Reader(w[0], w[1], start.lags)


@jax.jit
def _slow_flow(s, contexts, start) -> Reader:
    loss = _second_layer(contexts)

    def field(state):
        w, lags = state
        lags_move = -jax.grad(loss, argnums=1)(w, lags)
        # W stays where its gradient vanishes: H dW = -d(grad_W) along the motion of v.
        turned = jax.jvp(lambda v: jax.grad(loss)(w, v), (lags,), (lags_move,))[1]
        return -jnp.linalg.solve(jax.hessian(loss)(w, lags), turned), lags_move

    w, lags = flow(field, s, (jnp.stack([start.common, start.match]), start.lags), rtol=1e-7, atol=1e-9)
    return Reader(w[:, 0], w[:, 1], lags)


@jax.jit
def _stages(readers: Reader, contexts: Contexts, guesses) -> Stage:
    return jax.lax.map(lambda reader: _stage(reader, contexts, guesses), readers)


def _stage(reader: Reader, contexts: Contexts, guesses) -> Stage:
    log_p = jax.nn.log_softmax(_logits(reader, jax.nn.one_hot(contexts.symbols, contexts.following.shape[-1])))

    def mean(values):
        return contexts.weight @ jnp.mean(jnp.sum(values, axis=-1), axis=1)

    away = [mean(q * (jnp.log(q) - log_p)) for q in guesses]
    back = jnp.diagonal(_attention(reader.lags), -1)
    return Stage(-mean(contexts.following * log_p), *away, jnp.mean(back) if back.size else jnp.zeros(()))


@partial(jax.jit, static_argnames="length")
def _first_drive(p, pi, length: int) -> Drive:
    k = p.shape[-1]
    powers = [jnp.broadcast_to(jnp.eye(k, dtype=p.dtype), p.shape)]
    for _ in range(length):
        powers.append(powers[-1] @ p)
    powers = jnp.stack(powers)
    meets = jnp.mean(jnp.einsum("ci,lcii->lc", pi, powers), axis=1)
    near = powers[:length]
    surplus = jnp.mean(jnp.einsum("ci,mciy,ncyi,ciy->mnc", pi, near, near, p - 1 / k), axis=2)
    # Sums over n <= T - s, one row for each s from 1 to T; columns are m < s.
    upto = jnp.cumsum(surplus, axis=1)[:, ::-1].T
    seen = np.tril(np.ones((length, length)))
    upto, s = jnp.where(seen > 0, upto, 0.0), np.arange(1, length + 1)
    lag = np.arange(1, length + 1)
    common = jnp.sum((length - lag + 1) * (meets[1:] - 1 / k)) / length
    mean = jnp.sum(upto, axis=1) / s
    match = jnp.sum(mean) / length
    lags = jnp.sum(seen * (upto - mean[:, None]) / s[:, None], axis=0) / length
    return Drive(common / k**2, (match - common / k) / (k - 1), (match - common / k) / (k - 1) * lags)


def _untrained(length: int) -> Reader:
    return Reader(jnp.zeros(()), jnp.zeros(()), jnp.zeros(length))


def _checked_reader(reader) -> Reader:
    common, match, lags = (real(name, value) for name, value in zip(Reader._fields, reader, strict=True))
    if lags.ndim not in (1, 2) or common.shape != lags.shape[:-1] or match.shape != common.shape:
        raise ValueError(
            "common, match and lags must be of shapes (), (), (T,) or with one axis of times before, "
            f"got {common.shape}, {match.shape}, {lags.shape}"
        )
    return Reader(common, match, lags)


def _checked_contexts(contexts, reader: Reader) -> Contexts:
    x, following, weight = contexts
    following, weight = non_negative("following", following), non_negative("weight", weight)
    x = jnp.asarray(x)
    if following.ndim != 3 or x.shape != following.shape[:2] or weight.shape != x.shape[:1]:
        raise ValueError(
            "symbols, following and weight must be of shapes (N, T), (N, T, k) and (N,), "
            f"got {x.shape}, {following.shape}, {weight.shape}"
        )
    if reader.lags.shape[-1] != x.shape[1]:
        raise ValueError(f"lags must have one entry for each of {x.shape[1]} positions, got {reader.lags.shape[-1]}")
    weight = require("weight", weight, jnp.abs(jnp.sum(weight) - 1) < 1e-6, "must have sum 1")
    return Contexts(x, following, weight)
