"""Statistics of a text as a sequence of classes: how skewed its words are, how bursty, how fast new ones appear.

A text lies between two limits. Shuffled, it has the same words equally often and no order: a word recurs by chance
(`shuffled_recurrence`, exact; `data_statistics.recurrence` for independent draws). As it was written, words come in
bursts and recur sooner. The fraction of bursty sequences that would do the same is `equivalent_bursty`; with the
exponent of `zipf_fit` it says where a text stands among the data sets that decide between learning in context and in
weights (`race`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.scipy.special import gammaln, zeta
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import non_negative, positive, real, require, within

# n counts with one in 2^64 of them not of the first rank: more than any text holds.
_STEEPEST = 64.0


class ZipfFit(NamedTuple):
    """`exponent` alpha of greatest likelihood and its `standard_error`."""

    exponent: Float[Array, ""]
    standard_error: Float[Array, ""]


def zipf_fit(counts: Real[ArrayLike, "*pieces R"]) -> ZipfFit:
    """Exponent of a power law of ranks, p_r ~ r^-alpha for r = 1..R, by maximum likelihood.

    <ln r>_alpha = <ln r>_counts,   <.>_alpha = sum_r r^-alpha (.) / sum_r r^-alpha.
    standard error: 1 / sqrt(n Var_alpha ln r); of B pieces sqrt(B / (B - 1) sum_b s_b^2) / (n Var_alpha ln r) with
    s_b = sum_r n_br (ln r - <ln r>_alpha).

    Arguments:
        counts: n_r >= 0, how often the word of rank r occurs, (R,), R >= 2; or of pieces of a text that are
            independent of each other, within which words need not be, (B, R).
    Returns:
        `ZipfFit`. That of counts in one row is for independent words; pieces make it honest for a text.
    Holds when: ranks are known. Sorted by the same counts they are biased, as what chance left out has no rank: take
        them from another part of the text. Whether it is a power law at all the fit does not say.
    Source: maximum likelihood; derived in derivations/induction/text_statistics.py. Ranks from another part:
        Piantadosi 2014, Psychonomic Bulletin & Review 21, 1112.
    """
    n = non_negative("counts", counts)
    if n.ndim not in (1, 2) or n.shape[-1] < 2 or not n.size:
        raise ValueError(f"counts must be of shape (ranks,) or (pieces, ranks), two ranks or more, got {n.shape}")
    total = jnp.sum(jnp.atleast_2d(n), axis=0)
    later = jnp.sum(total[1:])
    require("counts", total, later > 0, "must hold words of more than the first rank")
    log_r = jnp.log(jnp.arange(1, total.size + 1, dtype=total.dtype))
    falling = jnp.sum(total * (log_r - jnp.mean(log_r))) <= 1e-6 * jnp.sum(total)
    require("counts", total, falling, "must fall with rank, in the mean of ln r")
    return _zipf_fit(jnp.atleast_2d(n), log_r)


def observed_recurrence(
    words: Int[ArrayLike, "*pieces T"], windows: Real[ArrayLike, " W"]
) -> Float[Array, "*pieces W"]:
    """Fraction of the words of a text that occurred within the N words before them.

    R(N) = mean over t >= max N of [t - (last time of the same word) <= N].

    Arguments:
        words: numbers of the words in their order, (T,), or pieces of a text, (..., T).
        windows: N >= 1, (W,), all below T. The first max N words only serve as what came before.
    Returns:
        R, (..., W), increasing with N.
    Holds when: always.
    Source: a definition.
    """
    words = jnp.asarray(words)
    length = words.shape[-1]
    windows = within("windows", windows, 1.0, float(length - 1))
    if windows.ndim != 1 or not windows.size:
        raise ValueError(f"windows must be a vector of one or more, got shape {windows.shape}")
    return _observed(words.reshape(-1, length), windows).reshape(*words.shape[:-1], len(windows))


def shuffled_recurrence(counts: Real[ArrayLike, " K"], windows: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Probability that a word occurred within the N words before it, in a shuffled text.

    R = sum_k (n_k / n) [1 - prod_{j=0}^{n_k - 2} (1 - N / (n - 1 - j))].

    Arguments:
        counts: n_k >= 0, whole, how often each word occurs, (K,), n = sum_k n_k >= 2.
        windows: N, from 0 to n - 1, of any shape.
    Returns:
        R, from 0 to n^-1 sum_{n_k > 1} n_k: words that occur once never recur. `recurrence` with p_k = n_k / n is
        larger, by about N / n of what does not recur.
    Holds when: all orders of the words are equally likely; exact for any length.
    Source: derived in derivations/induction/text_statistics.py.
    """
    counts, total = _checked_counts(counts)
    windows = non_negative("windows", windows)
    windows = require("windows", windows, windows <= total - 1, "must be below the number of words")
    return _expected_found(counts / total, jnp.maximum(counts - 1, 0.0), total - 1, windows)


def shuffled_types(counts: Real[ArrayLike, " K"], tokens: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Expected number of different words among the first m of a shuffled text: rarefaction.

    V = sum_k [1 - prod_{j=0}^{n_k - 1} (1 - m / (n - j))].

    Arguments:
        counts: n_k >= 0, whole, how often each word occurs, (K,), n = sum_k n_k >= 2.
        tokens: m, from 0 to n, of any shape.
    Returns:
        V, up to K at m = n. V(m + 1) - V(m) = 1 - `shuffled_recurrence`(m). `distinct` is that of independent draws.
    Holds when: all orders of the words are equally likely; exact for any length.
    Source: Hurlbert 1971, Ecology 52, 577; derived in derivations/induction/text_statistics.py.
    """
    counts, total = _checked_counts(counts)
    tokens = require("tokens", non_negative("tokens", tokens), jnp.asarray(tokens) <= total, "must be those at hand")
    return _expected_found(jnp.ones_like(counts), counts, total, tokens)


def equivalent_bursty(
    observed: Real[ArrayLike, "*#observed"], independent: Real[ArrayLike, "*#independent"]
) -> Float[Array, "..."]:
    """Fraction of bursty sequences that would make classes recur as often as observed.

    b = (R - R_0) / (1 - R_0),   from R = b + (1 - b) R_0.

    Arguments, which broadcast:
        observed: R, 0..1, such as `observed_recurrence`.
        independent: R_0, 0..1, below 1, that of independent draws: `recurrence` or `shuffled_recurrence`.
    Returns:
        b, at most 1; 0 for a shuffled text, below it where a word keeps the next ones from being the same.
    Holds when: a bursty sequence holds the target's class in its context for sure, another one by chance.
    Source: derived in derivations/induction/text_statistics.py.
    """
    r, alone = within("observed", observed, 0.0, 1.0), within("independent", independent, 0.0, 1.0)
    alone = require("independent", alone, alone < 1, "must be below 1")
    return (r - alone) / (1 - alone)


def heaps_growth(tokens: Real[ArrayLike, "*#tokens"], exponent: Real[ArrayLike, "*#exponents"]) -> Float[Array, "..."]:
    """Different words among n independent ones of a power law without end: Heaps' law.

    V = Gamma(1 - 1/alpha) (n / zeta(alpha))^{1/alpha}.

    Arguments, which broadcast: tokens: n > 0; exponent: alpha > 1.
    Returns:
        V; n^{1/alpha} is slower than n. `distinct` is exact, also for a finite vocabulary.
    Holds when: p_k = k^-alpha / zeta(alpha), k = 1, 2, ...; V much above 1: the next term is of order one.
    Source: Karlin 1967, J. Math. Mech. 17, 373; derived in derivations/induction/text_statistics.py.
    """
    n, alpha = positive("tokens", tokens), real("exponent", exponent)
    alpha = require("exponent", alpha, alpha > 1, "must be above 1")
    return jnp.exp(gammaln(1 - 1 / alpha) + (jnp.log(n) - jnp.log(zeta(alpha, 1.0))) / alpha)


@jax.jit
def _zipf_fit(counts, log_r) -> ZipfFit:
    pieces, total = len(counts), jnp.sum(counts)
    wanted = jnp.sum(counts @ log_r) / total

    def moments(alpha):
        p = jax.nn.softmax(-alpha * log_r)
        mean = p @ log_r
        return mean, p @ (log_r - mean) ** 2

    # At alpha = 0 rounding may leave the wrong sign: there the root is zero.
    excess = lambda alpha, _: jnp.minimum(wanted, moments(0.0)[0]) - moments(alpha)[0]  # noqa: E731
    solver = optx.Bisection(rtol=1e-13, atol=1e-13, flip=False)
    ends = dict(lower=jnp.zeros_like(wanted), upper=jnp.full_like(wanted, _STEEPEST))
    alpha = optx.root_find(excess, solver, jnp.ones_like(wanted), options=ends, max_steps=256).value
    mean, variance = moments(alpha)
    scores = counts @ (log_r - mean)
    independent = 1 / jnp.sqrt(total * variance)
    clustered = jnp.sqrt(pieces / max(pieces - 1, 1) * jnp.sum(scores**2)) / (total * variance)
    return ZipfFit(alpha, clustered if pieces > 1 else independent)


@jax.jit
def _observed(pieces, windows):
    late = jnp.arange(pieces.shape[1]) >= jnp.max(windows)
    share = late / jnp.sum(late)
    return jax.vmap(lambda words: (_gaps(words) <= windows[:, None]) @ share)(pieces)


def _gaps(words):
    """How long ago each word occurred, infinite where it is new."""
    order = jnp.argsort(words, stable=True)
    same = words[order][1:] == words[order][:-1]
    gap = jnp.where(same, jnp.diff(order), jnp.inf)
    return jnp.full(words.shape, jnp.inf).at[order[1:]].set(gap)


@jax.jit
def _expected_found(weights, copies, places, windows):
    """Sum of weights of the words that have a copy in a window, for each of several windows; so many places in all."""

    def of_window(window):
        def one_more(j, log_missed):
            share = jnp.minimum(window / jnp.maximum(places - j, 1.0), 1.0)
            return log_missed + jnp.where(j < copies, jnp.log1p(-share), 0.0)

        log_missed = jax.lax.fori_loop(0, jnp.max(copies).astype(int), one_more, jnp.zeros_like(copies))
        return jnp.sum(weights * -jnp.expm1(log_missed))

    return jax.lax.map(of_window, windows.ravel()).reshape(windows.shape)


def _checked_counts(counts):
    n = non_negative("counts", counts)
    if n.ndim != 1:
        raise ValueError(f"counts must be a vector, got shape {n.shape}")
    n = require("counts", n, n == jnp.round(n), "must be whole numbers")
    total = jnp.sum(n)
    return require("counts", n, total >= 2, "must be of two words or more"), total
