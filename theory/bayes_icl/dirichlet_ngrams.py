"""Symbols from unknown urns: the Dirichlet predictor, n-grams of it, a known pool of urns, and what each costs.

A string x_0 x_1 ... of K symbols is drawn from an urn theta, or from an urn for each context of r symbols. Whoever
believes that urns come from Dirichlet(a) predicts by counts, p(j | past) = (a_j + c_j) / (A + n) with A = sum_j a_j;
whoever knows that there are only M urns weighs them by their posterior. The first generalises to any urn, the second
remembers its pool; both are exact Bayes for their own prior. What they cost at each position is a finite sum, in nats.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, logsumexp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.bayes_icl.prequential import log_posterior
from theory.checks import non_negative, positive, real, require, whole

# Tables of more entries than this would not fit beside anything else.
LARGEST_TABLE = 2**27
# From here on Stirling's series to x^-9 is exact to rounding.
LARGE = 16.0
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)


class SymbolPredictions(NamedTuple):
    """Of strings of n symbols: `log_law` (..., n + 1, K), row t after t symbols; `log_density` (..., n) of each symbol.

    Row t knows x_0 .. x_{t-1}: row 0 nothing, row n the whole string. `log_density` t is that of x_t, not yet seen.
    """

    log_law: Float[Array, "... m K"]
    log_density: Float[Array, "... n"]

    @property
    def log_evidence(self) -> Float[Array, "... n"]:
        """log p(x_0 .. x_t)."""
        return jnp.cumsum(self.log_density, axis=-1)


def log_evidence(
    counts: Real[ArrayLike, "*strings K"], prior: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "*strings"]:
    """Log probability of a string in its order, from its counts, the urn unknown.

    ln Gamma(A) / Gamma(A + n) + sum_j ln Gamma(a_j + c_j) / Gamma(a_j),   A = sum_j a_j,   n = sum_j c_j.

    Arguments:
        counts: c >= 0, how often each of the K >= 2 symbols occurs, (..., K).
        prior: a > 0, of the Dirichlet law of urns, () or (K,); 1: all urns alike; 1/2: Krichevsky and Trofimov.
    Returns:
        ln p <= 0, (...). Counts in disjoint contexts add up their evidences.
    Holds when: symbols are exchangeable. The probability of a multiset has a multinomial coefficient more.
    Source: textbook; Krichevsky & Trofimov 1981 for a = 1/2.
    """
    c = non_negative("counts", counts)
    if not c.ndim or c.shape[-1] < 2:
        raise ValueError(f"counts must hold two symbols or more on the last axis, got shape {c.shape}")
    return _log_evidence(c, _prior(prior, c.shape[-1]))


def ngram_predictions(
    sequence: Int[ArrayLike, " n"], symbols: int, order: int = 0, prior: Real[ArrayLike, "..."] = 1.0
) -> SymbolPredictions:
    """Every symbol from what has followed the same r symbols before.

    p(j | past) = (a_j + c_j) / (A + sum_i c_i),   c_j: how often j has followed x_{t-r} .. x_{t-1}.

    Arguments:
        sequence: symbols 0 .. K - 1, (n,).
        symbols: K >= 2; order: r >= 0, of the n-grams, r = 0: one urn; Python ints, K (K + 1)^r below 1e8.
        prior: a > 0, of the law of urns in each context, () or (K,).
    Returns:
        `SymbolPredictions`. The first r symbols stand in contexts of their own: they are predicted by a / A.
    Holds when: it is exact Bayes for a chain of order r with independent Dirichlet(a) rows and a first r symbols that
        tell nothing about them and are drawn from a / A.
    Source: textbook.
    """
    k, r = whole("symbols", symbols, 2), whole("order", order, 0)
    if k * (k + 1) ** r > LARGEST_TABLE:
        raise ValueError(f"order must leave a table of at most {LARGEST_TABLE} counts, got {r} of {k} symbols")
    return _ngrams(checked_symbols(sequence, k), _prior(prior, k), k, r)


def urn_predictions(
    sequence: Int[ArrayLike, " n"], urns: Real[ArrayLike, "M K"], log_prior: Real[ArrayLike, " M"] | None = None
) -> SymbolPredictions:
    """Every symbol from those before it, for a string from one of M known urns: the predictor that memorises.

    p(j | past) = sum_m P(m | past) theta_mj,   P(m | past) proportional to P(m) prod_i theta_mi^{c_i}.

    Arguments:
        sequence: symbols 0 .. K - 1, (n,).
        urns: theta, rows of probabilities, zero allowed, (M, K).
        log_prior: up to a constant, -inf for an urn that is left out, (M,); uniform by default.
    Returns:
        `SymbolPredictions`.
    Holds when: it is exact Bayes for that pool. A string that no urn of the pool can give is refused.
    Source: Bayes' rule; the memorising predictor of Wurgaft et al. 2025 (arXiv:2506.17859).
    """
    theta = _urns(urns)
    x, logs = checked_symbols(sequence, theta.shape[1]), safe_log(theta)
    belief = log_posterior(logs[:, x], log_prior)
    return mixture(belief, logs[:, None], x)


def expected_loss(prior: Real[ArrayLike, " K"], length: int) -> Float[Array, " n"]:
    """Mean loss of the Dirichlet predictor on fresh urns of its own prior, by position.

    E[-ln p(x_n | past)] = sum_j sum_c P(c_j = c) (a_j + c) / (A + n) ln((A + n) / (a_j + c)),   c_j beta-binomial.

    Arguments:
        prior: a > 0, (K,).
        length: positions n = 0 .. length - 1, a Python int >= 1.
    Returns:
        the loss by position, (length,), decreasing to `urn_entropy` as (K - 1) / (2 n).
    Holds when: urns are drawn from Dirichlet(a), a fresh one for each string. No predictor has a smaller mean loss.
    Source: derived in derivations/bayes_icl/dirichlet_ngrams.py.
    """
    a, n = positive("prior", prior), whole("length", length)
    if a.ndim != 1 or len(a) < 2:
        raise ValueError(f"prior must hold a number for each of two symbols or more, got shape {a.shape}")
    return _expected_loss(a, n)


def urn_entropy(prior: Real[ArrayLike, " K"]) -> Float[Array, ""]:
    """Mean entropy of an urn: the loss of whoever knows it.

    E H(theta) = psi(A + 1) - sum_j (a_j / A) psi(a_j + 1).

    Arguments: prior: a > 0, (K,).
    Returns: nats, between 0 (a -> 0) and ln K (a -> infinity).
    Holds when: urns are drawn from Dirichlet(a).
    Source: textbook; derived in derivations/bayes_icl/dirichlet_ngrams.py.
    """
    a = positive("prior", prior)
    return digamma(jnp.sum(a) + 1) - jnp.sum(a / jnp.sum(a) * digamma(a + 1))


def urn_loss(urns: Real[ArrayLike, "M K"], length: int, prior: Real[ArrayLike, "..."] = 1.0) -> Float[Array, "M n"]:
    """Mean loss of the Dirichlet predictor on given urns, by position.

    -sum_j theta_j E ln((a_j + c_j) / (A + n)),   c_j binomial of n and theta_j.

    Arguments:
        urns: theta, (M, K); length: positions n = 0 .. length - 1, a Python int >= 1.
        prior: a > 0 of the predictor, () or (K,).
    Returns:
        the loss on each urn by position, (M, length). Its mean over a pool is what the predictor that generalises costs
        on that pool; its mean over Dirichlet(a) is `expected_loss`.
    Holds when: always.
    Source: derived in derivations/bayes_icl/dirichlet_ngrams.py.
    """
    theta, n = _urns(urns), whole("length", length)
    return _urn_loss(theta, _prior(prior, theta.shape[1]), n)


def pool_loss(
    urns: Real[ArrayLike, "M K"], length: int, log_prior: Real[ArrayLike, " M"] | None = None
) -> Float[Array, " n"]:
    """Mean loss of the predictor that memorises, on strings from its own pool, by position.

    H(x_0 .. x_n) - H(x_0 .. x_{n-1}),   H = -sum_c n! / prod_j c_j! pbar(c) ln pbar(c),
    pbar(c) = sum_m P(m) prod_j theta_mj^{c_j}: a sum over all counts of n symbols.

    Arguments:
        urns: theta, (M, K); length: positions n = 0 .. length - 1, a Python int >= 1.
        log_prior: as for `urn_predictions`.
    Returns:
        the loss by position, (length,), non-increasing. No predictor has a smaller mean loss on the pool.
    Holds when: always; the sum has binom(length + K, K) terms for each urn, which must be below 1e8.
    Source: derived in derivations/bayes_icl/dirichlet_ngrams.py.
    """
    theta, n = _urns(urns), whole("length", length)
    m, k = theta.shape
    terms = int(np.round(np.exp(np.sum(np.log1p(n / np.arange(1, k + 1)))))) * m
    if terms > LARGEST_TABLE:
        raise ValueError(f"length must leave at most {LARGEST_TABLE} terms, got {n} with {terms} of them")
    prior = jnp.zeros(m, theta.dtype) if log_prior is None else jnp.asarray(log_prior, theta.dtype)
    return _pool_loss(theta, log_posterior(jnp.zeros((m, 1)), prior)[:, 0], _all_counts(n, k), n)


@jax.jit
def _log_evidence(c, a):
    return jnp.sum(_log_rising(a, c), axis=-1) - _log_rising(jnp.sum(a), jnp.sum(c, axis=-1))


@partial(jax.jit, static_argnums=(2, 3))
def _ngrams(x, a, k: int, r: int) -> SymbolPredictions:
    # One more symbol stands for what is before the start.
    past = jnp.concatenate([jnp.full(r, k, x.dtype), x])
    n = len(x)
    context = sum((past[r - 1 - i : r + n - i] * (k + 1) ** i for i in range(r)), jnp.zeros(n + 1, x.dtype))

    def step(counts, now):
        place, symbol = now
        return counts.at[place, symbol].add(1.0), counts[place]

    table = jnp.zeros(((k + 1) ** r, k), a.dtype)
    table, rows = jax.lax.scan(step, table, (context[:-1], x))
    c = jnp.concatenate([rows, table[context[-1:]]])
    law = jnp.log(a + c) - jnp.log(jnp.sum(a) + jnp.sum(c, axis=-1, keepdims=True))
    return predictions(law, x)


@jax.jit
def mixture(belief, log_laws, x) -> SymbolPredictions:
    """Log beliefs (C, n + 1) and log laws (C, n + 1 or 1, K) of the parts, any of them -inf, and the symbols (n,)."""
    joint = belief[:, :, None] + log_laws
    # What no part gives a chance has no slope either.
    possible = jnp.any(joint > -jnp.inf, axis=0)
    law = jnp.where(possible, logsumexp(jnp.where(possible, joint, 0.0), axis=0), -jnp.inf)
    return predictions(law, x)


@partial(jax.jit, static_argnums=1)
def _expected_loss(a, length: int):
    n = jnp.arange(length, dtype=a.dtype)[:, None, None]
    c = jnp.arange(length, dtype=a.dtype)[None, :, None]
    total = jnp.sum(a)
    # The weight of all other symbols, without subtracting.
    rest = jnp.array([jnp.sum(jnp.delete(a, j)) for j in range(len(a))])
    left = jnp.maximum(n - c, 0)
    chance = _log_choose(n, c, left) + _log_rising(a, c) + _log_rising(rest, left) - _log_rising(total, n)
    share = (a + c) / (total + n)
    return jnp.sum(jnp.where(c <= n, jnp.exp(chance) * -share * jnp.log(share), 0.0), axis=(1, 2))


@partial(jax.jit, static_argnums=2)
def _urn_loss(theta, a, length: int):
    n, c = jnp.arange(length, dtype=theta.dtype)[:, None, None], jnp.arange(length, dtype=theta.dtype)[None, :, None]
    left = jnp.maximum(n - c, 0)

    def one(theta):
        chance = _log_choose(n, c, left) + jax.scipy.special.xlogy(c, theta)
        chance += jax.scipy.special.xlog1py(left, -jnp.minimum(theta, 1.0))
        share = jnp.log(a + c) - jnp.log(jnp.sum(a) + n)
        return -jnp.sum(jnp.where(c <= n, jnp.exp(chance) * theta * share, 0.0), axis=(1, 2))

    return jax.lax.map(one, theta)


@partial(jax.jit, static_argnums=3)
def _pool_loss(theta, log_prior, counts, length: int):
    c = counts.astype(theta.dtype)
    totals = jnp.sum(counts, axis=1)
    # Zero times minus infinity, where a symbol that an urn lacks does not occur, is zero.
    logs = c @ jnp.where(theta > 0, safe_log(theta), 0.0).T
    logs = jnp.where(c @ (theta == 0).astype(c.dtype).T > 0, -jnp.inf, logs)
    mixed = logsumexp(log_prior + logs, axis=1)
    chance = jnp.exp(gammaln(totals + 1.0) - jnp.sum(gammaln(c + 1), axis=1) + mixed)
    terms = jnp.where(mixed > -jnp.inf, -chance * jnp.where(mixed > -jnp.inf, mixed, 0.0), 0.0)
    return jnp.diff(jax.ops.segment_sum(terms, totals, length + 1))


def _all_counts(most: int, symbols: int) -> np.ndarray:
    """All counts of `symbols` kinds of at most `most` symbols in all, one in each row."""
    rows = np.zeros((1, 0), int)
    for _ in range(symbols):
        room = most - rows.sum(axis=1)
        grown = np.repeat(rows, room + 1, axis=0)
        more = np.concatenate([np.arange(one + 1) for one in room])
        rows = np.column_stack([grown, more])
    return rows


def predictions(log_law, x) -> SymbolPredictions:
    """Log law (n + 1, K) and the symbols (n,) that came."""
    return SymbolPredictions(log_law, jnp.take_along_axis(log_law[:-1], x[:, None], axis=1)[:, 0])


def checked_symbols(sequence, symbols: int) -> Int[Array, " n"]:
    """Symbols 0 .. K - 1, (n,)."""
    x = real("sequence", sequence)
    if x.ndim != 1:
        raise ValueError(f"sequence must be one string of symbols, (n,), got shape {x.shape}")
    x = require("sequence", x, (x >= 0) & (x < symbols) & (x == jnp.floor(x)), f"must hold symbols 0 to {symbols - 1}")
    return x.astype(int)


def safe_log(p) -> Float[Array, "..."]:
    """ln p, -inf at zero, with a derivative that is finite there."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1.0)), -jnp.inf)


def _prior(prior, symbols: int) -> Float[Array, " K"]:
    a = positive("prior", prior)
    if a.shape not in ((), (symbols,)):
        raise ValueError(f"prior must have shape () or ({symbols},), got {a.shape}")
    return jnp.broadcast_to(a, (symbols,))


def _urns(urns) -> Float[Array, "M K"]:
    theta = non_negative("urns", urns)
    if theta.ndim != 2 or theta.shape[1] < 2 or not len(theta):
        raise ValueError(f"urns must be of shape (M, K) with one urn and two symbols or more, got {theta.shape}")
    return require("urns", theta, jnp.abs(jnp.sum(theta, axis=1, keepdims=True) - 1) < 1e-6, "must have rows of sum 1")


def _log_choose(n, c, left):
    return gammaln(n + 1) - gammaln(c + 1) - gammaln(left + 1)


def _log_rising(a, c):
    """ln Gamma(a + c) - ln Gamma(a), which cancel where a is large."""
    big = jnp.maximum(a, LARGE)
    series = _stirling(big + c) - _stirling(big)
    stirling = (big - 0.5) * jnp.log1p(c / big) + c * (jnp.log(big + c) - 1) + series
    return jnp.where(a < LARGE, gammaln(a + c) - gammaln(a), stirling)


def _stirling(x):
    return jnp.polyval(jnp.asarray(STIRLING[::-1], x.dtype), 1 / x**2) / x
