"""A known text under unknown names: what can be said of each symbol, what the names cost, and classes at random.

A text is known by how often its blocks of N symbols occur, p(x_1 .. x_N). It is read under names that are drawn anew
for each string, so that at first only the pattern tells anything: which places hold the same symbol. Names are drawn in
one of two ways.

    renaming: the K symbols deal out their names, all pi alike:      pbar(x) = (1 / K!) sum_pi p(pi^-1 x)
    classes:  each letter is thrown into one of K classes, shares Dirichlet(b): pbar(x) = sum_rho q(rho) E[...],
              q(rho): how often blocks of letters have the pattern rho, a partition of places

Bayes is pbar(x_1 .. x_n) / pbar(x_1 .. x_{n-1}). What renaming costs beyond the loss of whoever knows the names is what
a string tells about them, at most ln K! in all, however long it is: no counting from scratch is as cheap. Of classes a
string tells which places may hold the same letter, and no more. Where letters are words, which come back soon or not at
all, it matters how far apart these places are.

Losses are in nats.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.bayes_icl.dirichlet_ngrams import SymbolPredictions, checked_symbols, mixture, predictions, safe_log
from theory.bayes_icl.prequential import log_posterior
from theory.checks import non_negative, positive, real, require, whole, within

# All blocks, all names and all patterns are held in memory: K^N, K! and the Bell number of N.
MOST_BLOCKS, MOST_SYMBOLS, LONGEST_PATTERN = 2**24, 7, 9


def block_loss(blocks: Real[ArrayLike, "..."]) -> Float[Array, " N"]:
    """Mean loss by position of whoever knows how often blocks occur.

    F_n = H(x_1 .. x_n) - H(x_1 .. x_{n-1}) = -sum p(x_1 .. x_n) ln p(x_n | x_1 .. x_{n-1}).

    Arguments:
        blocks: p >= 0, counts or probabilities, (K,) * N: axis i is the i-th symbol.
    Returns:
        F_1 .. F_N, nats, (N,), non-increasing for blocks from anywhere in a text. No predictor has a smaller mean loss.
    Holds when: always; of B counted blocks F_N is too small by about as many blocks as occur over 2 B.
    Source: Shannon 1951 (Bell System Technical Journal 30, 50), the N-gram entropies of English.
    """
    return _block_loss(_blocks(blocks))


def renamed_blocks(blocks: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """How often blocks occur when names are unknown: a mean over all renamings.

    pbar(x) = (1 / K!) sum_pi p(pi^-1 x).

    Arguments: blocks: as for `block_loss`, K at most 7.
    Returns:
        probabilities, of the same shape, alike for blocks of one pattern and equal to its probability over
        K! / (K - g)!, g the number of different symbols in it.
    Holds when: all names are alike before the string is seen. `block_loss` of it is the exact loss of Bayes.
    Source: derived in derivations/bayes_icl/unknown_names.py; patterns: Orlitsky, Santhanam & Zhang 2004 (IEEE Trans.
        Inf. Theory 50).
    """
    p = _blocks(blocks)
    return _renamed(p, _names(p.shape[0]))


def price_of_names(blocks: Real[ArrayLike, "..."]) -> Float[Array, " N"]:
    """What strings tell about the names, which is what it costs in all not to know them.

    I_n = sum p(x_1 .. x_n) ln(p(x_1 .. x_n) / pbar(x_1 .. x_n)) = sum_{m <= n} [F_m(pbar) - F_m(p)].

    Arguments: blocks: as for `renamed_blocks`.
    Returns:
        I_1 .. I_N, nats, (N,), non-decreasing, at most ln K!; below that for ever where some renamings leave the text
        as it is.
    Holds when: as for `renamed_blocks`.
    Source: chain rule of mutual information; derived in derivations/bayes_icl/unknown_names.py.
    """
    p = _blocks(blocks)
    return _price(p, _renamed(p, _names(p.shape[0])))


def class_blocks(
    windows: Int[ArrayLike, "B N"], symbols: int, shares: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "..."]:
    """How often blocks of classes occur when every letter is thrown into a class at random.

    pbar(x) = sum_rho q(rho) 1[x is constant on rho] prod_j b_j^(d_j) / B^(g),   y^(d) = y (y + 1) .. (y + d - 1),
    g: the number of different letters in rho, d_j: how many of them x puts into class j, B = sum_j b_j.

    Arguments:
        windows: blocks of a text, any whole numbers for letters, (B, N), N at most 9.
        symbols: K >= 2, a Python int, of the classes.
        shares: b > 0, of their Dirichlet law, () or (K,); 1: uniform on the simplex.
    Returns:
        probabilities, (K,) * N. `block_loss` of it is the exact loss of Bayes.
    Holds when: letters are thrown independently, with shares that are drawn once for each string. Nothing else is
        assumed of the text.
    Source: derived in derivations/bayes_icl/unknown_names.py.
    """
    w, k = real("windows", windows), whole("symbols", symbols, 2)
    if w.ndim != 2 or not w.size or w.shape[1] > LONGEST_PATTERN:
        raise ValueError(f"windows must be of shape (B, N) with N from 1 to {LONGEST_PATTERN}, got {w.shape}")
    if k ** w.shape[1] > MOST_BLOCKS:
        raise ValueError(f"symbols must leave at most {MOST_BLOCKS} blocks, got {k} for {w.shape[1]} places")
    patterns, b = _patterns(w.shape[1]), _shares(shares, k)
    if np.ndim(shares):
        every = np.indices((k,) * w.shape[1]).reshape(w.shape[1], -1).T
        return _class_blocks(w, patterns, b, every).reshape((k,) * w.shape[1])
    # Where classes are alike, strings of one pattern are: far fewer than all strings.
    few = patterns[[len(set(row)) <= k for row in patterns]]
    one_each = np.array([np.unique(row, return_inverse=True)[1] for row in few])
    return _class_blocks(w, patterns, b, one_each)[_of_all_strings(few, k)]


def block_predictions(sequence: Int[ArrayLike, " n"], blocks: Real[ArrayLike, "..."]) -> SymbolPredictions:
    """Every symbol from the N - 1 before it, for a text whose blocks and names are known.

    p(j | past) = p(x_{t-N+1} .. x_{t-1} j) / p(x_{t-N+1} .. x_{t-1}), at the start with fewer symbols.

    Arguments:
        sequence: symbols 0 .. K - 1, (n,); blocks: as for `block_loss`.
    Returns:
        `SymbolPredictions`; after a past that does not occur all symbols are alike. With `renamed_blocks` or
        `class_blocks` it is Bayes for unknown names, for n up to N.
    Holds when: it is exact for a chain of order N - 1 that starts as its blocks do.
    Source: textbook.
    """
    p = _blocks(blocks)
    x = checked_symbols(sequence, p.shape[0])
    return predictions(_laws(_table(p), x), x)


def renamed_predictions(sequence: Int[ArrayLike, " n"], blocks: Real[ArrayLike, "..."]) -> SymbolPredictions:
    """Every symbol from all before it, for a known text under unknown names: exact Bayes.

    p(j | past) = sum_pi P(pi | past) p(pi^-1 j | pi^-1 past),   P(pi | past) proportional to p(pi^-1 past).

    Arguments: sequence: as for `block_predictions`; blocks: as for `renamed_blocks`.
    Returns:
        `SymbolPredictions`, the same under all names: those of a string with other names have its columns dealt out
        anew. For n up to N it is `block_predictions` of `renamed_blocks`.
    Holds when: it is exact for a chain of order N - 1 that starts as its blocks do. A string that no renaming makes
        possible is refused.
    Source: Bayes' rule; derived in derivations/bayes_icl/unknown_names.py.
    """
    p = _blocks(blocks)
    x, table = checked_symbols(sequence, p.shape[0]), _table(p)

    def under(kind):
        return _laws(table, kind[x])[:, kind]

    laws = jax.vmap(under)(jnp.asarray(_names(p.shape[0])))
    density = jnp.take_along_axis(laws[:, :-1], x[None, :, None], axis=2)[..., 0]
    return mixture(log_posterior(density), laws, x)


def class_prior(frequencies: Real[ArrayLike, " L"], shares: Real[ArrayLike, " K"]) -> Float[Array, " K"]:
    """The Dirichlet law of urns that has the means and covariances of the frequencies of random classes.

    a = (b / B) A,   A = B (1 - S) / (1 + B S),   S = sum_l f_l^2, the chance that two letters are the same.

    Arguments:
        frequencies: f >= 0 of the letters, counts or probabilities, two of them or more above zero, (L,).
        shares: b > 0, of the Dirichlet law that the shares of classes are drawn from, (K,), B = sum_j b_j.
    Returns:
        a, (K,). A is below B, and below 1 / S - 1, which it reaches where shares are the same for all strings.
    Holds when: letters are thrown independently. Two moments are all that is matched: for letters drawn at random two
        symbols are then predicted exactly. In a text a letter seldom follows itself, so that short strings tell less.
    Source: derived in derivations/bayes_icl/unknown_names.py; S is the index of coincidence of Friedman 1922.
    """
    f, b = non_negative("frequencies", frequencies), positive("shares", shares)
    if f.ndim != 1 or b.ndim != 1 or len(b) < 2:
        raise ValueError(
            f"frequencies and shares must be two vectors, of two shares or more, got shapes {f.shape} and {b.shape}"
        )
    f = require("frequencies", f, jnp.sum(f > 0) > 1, "must be of two letters or more")
    return _class_prior(f / jnp.sum(f), b)


def distance_predictions(
    sequence: Int[ArrayLike, " n"],
    symbols: int,
    repeats: Real[ArrayLike, " D"],
    shares: Real[ArrayLike, "..."] = 1.0,
) -> SymbolPredictions:
    """Every class from those before it, weighed by how often letters come back after so many places.

    p(j | past) = b_j / B + sum_m w_m (1[x_m = j] - b_j / B),   sum_m s_|l-m| w_m = s_(t-l) for all l < t,
    s_0 = 1,   s_d = (1 + B r_d) / (1 + B): the correlation of classes at distance d.

    Arguments:
        sequence: classes 0 .. K - 1, (n,); symbols: K >= 2, a Python int; shares: b, as for `class_blocks`.
        repeats: r in [0, 1], how often places at distance d = 1 .. D hold the same letter, (D,), D >= n.
    Returns:
        `SymbolPredictions`. Where r is S at all distances these are Dirichlet counts, as strong as by `class_prior`.
    Holds when: letters are thrown independently, and r is the same everywhere in a string. Of all laws that are linear
        in which class stands where, none has a smaller mean square error. It is Bayes for two symbols; beyond that it
        leaves out that letters come back together, and that one that has come back comes again. Refused where a class
        has no chance left, as by rates that no text has.
    Source: derived in derivations/bayes_icl/unknown_names.py; the normal equations of linear prediction of Wiener 1949.
    """
    k = whole("symbols", symbols, 2)
    x, r, b = checked_symbols(sequence, k), within("repeats", repeats, 0.0, 1.0), _shares(shares, k)
    if r.ndim != 1 or len(r) < len(x):
        raise ValueError(f"repeats must hold a rate for each of {len(x)} distances, got shape {r.shape}")
    law = _distance_law(x, _distance_weights(r[: len(x)], jnp.sum(b)), b / jnp.sum(b))
    return predictions(jnp.log(require("repeats", law, law > 0, "must leave every class a chance")), x)


@jax.jit
def _class_prior(f, b):
    same, total = jnp.sum(f**2), jnp.sum(b)
    # One less the chance of the same letter, without subtracting.
    other = jnp.sum(f * (jnp.sum(f) - f))
    return b * other / (1 + total * same)


@jax.jit
def _distance_weights(r, total):
    """Weights of places m before each place t and the one after the last, (n + 1, n + 1), zero from t on."""
    s = jnp.concatenate([jnp.ones(1, r.dtype), (1 + total * r) / (1 + total)])
    place = jnp.arange(len(s))
    lower = jnp.linalg.cholesky(s[jnp.abs(place[:, None] - place)])
    # Innovations are what is left of each place after its prediction: all places from them, and they from all places.
    innovations = jax.scipy.linalg.solve_triangular(lower / jnp.diag(lower), jnp.eye(len(s)), lower=True)
    return jnp.eye(len(s)) - innovations


@jax.jit
def _distance_law(x, weights, share):
    held = (x[:, None] == jnp.arange(len(share))) - share
    return share + weights[:, :-1] @ held


@jax.jit
def _block_loss(p):
    return jnp.stack([_conditional(jnp.sum(p, axis=tuple(range(n, p.ndim)))) for n in range(1, p.ndim + 1)])


def _conditional(p):
    """Entropy of the last symbol of blocks given all before it."""
    law = p / jnp.where(p > 0, jnp.sum(p, axis=-1, keepdims=True), 1.0)
    return -jnp.sum(p * jnp.where(p > 0, safe_log(law), 0.0))


@jax.jit
def _renamed(p, names):
    places = jnp.indices(p.shape)

    def add(total, kind):
        return total + p[tuple(kind[places])], None

    return jax.lax.scan(add, jnp.zeros_like(p), jnp.asarray(names))[0] / len(names)


@jax.jit
def _price(p, mean):
    def one(n):
        later = tuple(range(n, p.ndim))
        own, mixed = jnp.sum(p, axis=later), jnp.sum(mean, axis=later)
        return jnp.sum(own * jnp.where(own > 0, safe_log(own) - jnp.where(own > 0, safe_log(mixed), 0.0), 0.0))

    return jnp.stack([one(n) for n in range(1, p.ndim + 1)])


@jax.jit
def _class_blocks(windows, patterns, b, strings):
    """Probabilities of strings of classes, (S, N)."""
    length, k = windows.shape[1], len(b)
    first = jnp.argmax(windows[:, :, None] == windows[:, None, :], axis=2)
    found = _which(_numbers(first.T), patterns)
    share = jax.ops.segment_sum(jnp.full(len(windows), 1 / len(windows)), found, len(patterns))
    rising = lambda x: jnp.pad(jnp.cumsum(jnp.log(x[..., None] + jnp.arange(length)), axis=-1), ((0, 0), (1, 0)))  # noqa: E731
    each, every = rising(b), rising(jnp.sum(b)[None])[0]

    def add(total, now):
        first, share = now
        own = first == jnp.arange(length)
        constant = jnp.all(strings == strings[:, first], axis=1)
        counts = jnp.sum((strings[:, :, None] == jnp.arange(k)) & own[:, None], axis=1)
        log_chance = jnp.sum(each[jnp.arange(k), counts], axis=1) - every[jnp.sum(own)]
        return total + share * jnp.where(constant, jnp.exp(log_chance), 0.0), None

    return jax.lax.scan(add, jnp.zeros(len(strings), b.dtype), (jnp.asarray(patterns), share))[0]


@partial(jax.jit, static_argnums=1)
def _of_all_strings(patterns, k: int):
    """Which pattern each string of K symbols has, (K,) * N."""
    # The symbol at each place, along an axis of its own: no more than one number is held for each string.
    symbol = jnp.ix_(*[jnp.arange(k)] * patterns.shape[1])
    first = []
    for place, here in enumerate(symbol):
        found = place
        for i in reversed(range(place)):
            found = jnp.where(symbol[i] == here, i, found)
        first.append(found)
    return _which(_numbers(first), patterns)


def _numbers(first):
    """Patterns as numbers, from the places at which their letters stand for the first time."""
    return sum(place * len(first) ** i for i, place in enumerate(first))


def _which(numbers, patterns):
    """Rows of the patterns that have these numbers."""
    known = _numbers(patterns.T)
    order = jnp.argsort(known)
    return order[jnp.searchsorted(known[order], numbers)]


def _table(p):
    """Log laws after all pasts, (K + 1,) * (N - 1) + (K,); the last number of each place stands for what is before."""
    k, r = p.shape[0], p.ndim - 1
    table = jnp.full((k + 1,) * r + (k,), -np.log(k), p.dtype)
    for d in range(r + 1):
        joint = jnp.sum(p, axis=tuple(range(d + 1, r + 1)))
        past = jnp.sum(joint, axis=-1, keepdims=True)
        law = jnp.where(past > 0, joint / jnp.where(past > 0, past, 1.0), 1 / k)
        table = table.at[(k,) * (r - d) + (slice(0, k),) * d].set(safe_log(law))
    return table


def _laws(table, x):
    """Log laws before each symbol and after the last, (n + 1, K)."""
    k, r = table.shape[-1], table.ndim - 1
    past = jnp.concatenate([jnp.full(r, k, x.dtype), x])
    found = table[tuple(past[i : i + len(x) + 1] for i in range(r))]
    return jnp.broadcast_to(found, (len(x) + 1, k))


def _names(symbols: int) -> np.ndarray:
    """All renamings: which kind of symbol each name stands for, (K!, K)."""
    if symbols > MOST_SYMBOLS:
        raise ValueError(f"blocks must be of at most {MOST_SYMBOLS} symbols to be renamed, got {symbols}")
    return np.array(list(itertools.permutations(range(symbols))))


def _patterns(length: int) -> np.ndarray:
    """All patterns: for each place the first place of the same letter, (Bell(N), N)."""
    rows = [[0]]
    for place in range(1, length):
        rows = [[*row, first] for row in rows for first in {*row, place}]
    return np.array(rows)


def _blocks(blocks) -> Float[Array, "..."]:
    p = non_negative("blocks", blocks)
    if not p.ndim or len(set(p.shape)) > 1 or p.shape[0] < 2 or p.size > MOST_BLOCKS:
        raise ValueError(
            f"blocks must have the same two symbols or more on every axis, {MOST_BLOCKS} entries at most, "
            f"got shape {p.shape}"
        )
    total = jnp.sum(p)
    return p / require("blocks", total, total > 0, "must hold something")


def _shares(shares, symbols: int) -> Float[Array, " K"]:
    b = positive("shares", shares)
    if b.shape not in ((), (symbols,)):
        raise ValueError(f"shares must have shape () or ({symbols},), got {b.shape}")
    return jnp.broadcast_to(b, (symbols,))
