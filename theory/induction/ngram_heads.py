"""Hard-wired n-gram heads, and the languages on which they are trained: strings of a probabilistic automaton.

An n-gram head is induction written down: look back for places where the last n symbols were the present last n, and
copy what came next. Its attention is known without training, and what it reads is an empirical conditional
distribution. A language drawn from a deterministic automaton has a known entropy, below which no loss can fall: with
the automaton known and a deterministic rule of moving, the symbols so far say in which state it is.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import non_negative, real, require, whole


def ngram_attention(sequences: Real[ArrayLike, "N T"], order: int, inclusive: bool = False) -> Float[Array, "N T T"]:
    """Attention of a static n-gram head: uniform over places that follow an earlier occurrence of the last n symbols.

    A_ts = match_{t, s-1} 1[s < t] / sum,   match_{ts} = prod_{i < n} 1[x_{t-i} = x_{s-i}],   0 where nothing matches.

    Arguments:
        sequences: symbols, any whole numbers, (N, T).
        order: n >= 1, a Python int: how many symbols must match.
        inclusive: also let s = t be attended to. The published head leaves it out, and with it the last pair: where
            x_{t-1}, ... matched already, the successor x_t is lost.
    Returns:
        A, (N, T, T); rows t sum to one, or to zero where nothing matches; the support shrinks as n grows.
    Holds when: always.
    Source: Akyurek, Wang, Kim & Andreas 2024 (arXiv:2401.12973), the static n-gram layer.
    """
    x = real("sequences", sequences)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"sequences must be of shape (N, T), got shape {x.shape}")
    return _attention(x, whole("order", order), bool(inclusive))


def empirical_conditional(
    sequences: Real[ArrayLike, "N T"], symbols: int, order: int, inclusive: bool = False
) -> Float[Array, "N T k"]:
    """What an n-gram head reads: how often each symbol has followed the last n, as shares.

    sum_s A_ts e_{x_s} = n_{context y} / n_context.

    Arguments:
        sequences: symbols 0, ..., k - 1, (N, T); symbols: k, a Python int.
        order, inclusive: as for `ngram_attention`.
    Returns:
        shares, (N, T, k), of sum one, or zero where the last n symbols are new. With `inclusive` these are the shares
        of all pairs (n = 1) seen so far, without it of all but the pair that ends at t.
    Holds when: always.
    Source: as for `ngram_attention`.
    """
    x, k = real("sequences", sequences), whole("symbols", symbols)
    x = require("sequences", x, (x >= 0) & (x < k) & (x == jnp.floor(x)), f"must hold symbols from 0 to {k - 1}")
    attention = ngram_attention(x, order, inclusive)
    return attention @ jax.nn.one_hot(x.astype(int), k, dtype=attention.dtype)


def state_probabilities(
    emission: Real[ArrayLike, "states k"], successor: Int[ArrayLike, "states symbols"], length: int
) -> Float[Array, "T states"]:
    """In which state an automaton is before each symbol of its string.

    p_1 = e_0,   p_{t+1}(r) = sum_q p_t(q) sum_a E_qa 1[succ(q, a) = r].

    Arguments:
        emission: probability E_qa of symbol a in state q, rows of sum one, (states, k).
        successor: state after symbol a in state q, (states, k); whatever it is where E_qa = 0.
        length: T >= 1, a Python int.
    Returns:
        probabilities, (T, states), rows of sum one.
    Holds when: strings begin in state 0 and do not end before T.
    Source: Kolmogorov's forward equation.
    """
    emission, successor = _checked_automaton(emission, successor)
    return _states(emission, successor, whole("length", length))


def symbol_entropies(
    emission: Real[ArrayLike, "states k"], successor: Int[ArrayLike, "states symbols"], length: int
) -> Float[Array, " T"]:
    """Entropy of each symbol of a string given those before it and the automaton: a lower bound of any loss.

    H_t = sum_q p_t(q) H(E_q), which for symbols that are equally likely is sum_q p_t(q) ln outdegree(q).

    Arguments:
        emission, successor, length: as for `state_probabilities`.
    Returns:
        H_t in nats, (T,). Their sum is the entropy of strings of that length.
    Holds when: as for `state_probabilities`; a symbol leads to one state, so that the past tells the state.
    Source: chain rule of entropy; derived in derivations/induction/ngram_heads.py.
    """
    emission, successor = _checked_automaton(emission, successor)
    rows = -jnp.sum(xlogy(emission, emission), axis=-1)
    return _states(emission, successor, whole("length", length)) @ rows


@partial(jax.jit, static_argnames=("order", "inclusive"))
def _attention(x, order: int, inclusive: bool) -> Float[Array, "N T T"]:
    length = x.shape[1]
    same = x[:, :, None] == x[:, None, :]
    match = same
    for i in range(1, order):
        # Entry (t, s) of the match i steps earlier; before the beginning nothing matches.
        earlier = jnp.pad(same, ((0, 0), (i, 0), (i, 0)))[:, :length, :length]
        match = match & earlier
    follows = jnp.pad(match, ((0, 0), (0, 0), (1, 0)))[:, :, :length]
    seen = jnp.tril(jnp.ones((length, length), bool), 0 if inclusive else -1)
    chosen = (follows & seen).astype(jnp.result_type(float))
    return chosen / jnp.maximum(jnp.sum(chosen, axis=-1, keepdims=True), 1.0)


@partial(jax.jit, static_argnames="length")
def _states(emission, successor, length: int) -> Float[Array, "T states"]:
    states = emission.shape[0]
    kernel = jnp.einsum("qa,qar->qr", emission, jax.nn.one_hot(successor, states, dtype=emission.dtype))
    start = jnp.zeros(states, emission.dtype).at[0].set(1.0)
    return jax.lax.scan(lambda p, _: (p @ kernel, p), start, None, length=length)[1]


def _checked_automaton(emission, successor):
    emission, successor = non_negative("emission", emission), real("successor", successor)
    if emission.ndim != 2 or successor.shape != emission.shape:
        raise ValueError(
            f"emission and successor must both be of shape (states, k), got {emission.shape} and {successor.shape}"
        )
    states = emission.shape[0]
    emission = require(
        "emission", emission, jnp.abs(jnp.sum(emission, axis=1, keepdims=True) - 1) < 1e-6, "must have rows of sum 1"
    )
    fine = (emission == 0) | ((successor >= 0) & (successor < states) & (successor == jnp.floor(successor)))
    successor = require("successor", successor, fine, f"must hold states from 0 to {states - 1}")
    return emission, successor.astype(int)
