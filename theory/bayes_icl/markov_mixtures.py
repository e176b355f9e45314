"""Strings from one of many Markov chains: four ways to predict them, how far apart, and which mixture a network is.

The next symbol may come from single symbols (unigram) or from the symbol before it (bigram), and what is known of the
chain from a pool that is remembered (retrieval) or from what has been seen alone (inference):

                retrieval: sum_c P(c | past) ...      inference: counts plus a
    bigram      ... T_c[x, .],  P by transitions      (n_xj + a_j) / (n_x + A)
    unigram     ... pi_c,       P by symbols          (n_j + a_j) / (n + A)

Bigram retrieval is exact Bayes for its pool of chains that start in their stationary laws pi_c. Bigram inference is
Bayes for Dirichlet rows and a first symbol that tells nothing about them.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.bayes_icl.dirichlet_ngrams import (
    SymbolPredictions,
    checked_symbols,
    mixture,
    ngram_predictions,
    predictions,
    safe_log,
)
from theory.bayes_icl.prequential import log_posterior
from theory.checks import matrix, non_negative, positive, real, require, whole

# Mixtures are fitted on all faces of a simplex: 2^P of them.
MOST_PREDICTORS = 10


def stationary_law(transition: Real[ArrayLike, "..."]) -> Float[Array, " k"]:
    """The law that a chain keeps, pi = pi T, every entry to full relative precision.

    Last state out: T_ij <- T_ij + T_in T_nj / sum_{l < n} T_nl;   then pi_n = sum_{i < n} pi_i T_in / sum_{l < n} T_nl.

    Arguments:
        transition: T, rows of probabilities, irreducible, (k, k).
    Returns:
        pi, (k,), sums to one. Nothing is subtracted, so that states of probability 1e-200 are right, too.
    Holds when: every state can be left towards those before it, as in an irreducible chain (refused otherwise).
    Source: Grassmann, Taksar & Heyman 1985.
    """
    return _stationary(_chains(transition, 2))


def bigram_retrieval(
    sequence: Int[ArrayLike, " n"], chains: Real[ArrayLike, "..."], log_prior: Real[ArrayLike, " C"] | None = None
) -> SymbolPredictions:
    """Every symbol from those before it, for a string from one of C known chains: exact Bayes.

    p(j | past) = sum_c P(c | past) T_c[x_{t-1}, j],   P(c | past) prop. to P(c) pi_c[x_0] prod_u T_c[x_u, x_{u+1}].

    Arguments:
        sequence: symbols 0 .. k - 1, (n,).
        chains: T_c, rows of probabilities, irreducible, (C, k, k).
        log_prior: up to a constant, -inf for a chain that is left out, (C,); uniform by default.
    Returns:
        `SymbolPredictions`; the first symbol from sum_c P(c) pi_c.
    Holds when: strings start in the stationary law of their chain. A string that no chain can give is refused.
    Source: Park et al. 2024 (arXiv:2412.01003); Bayes' rule.
    """
    t = _chains(chains, 3)
    x, (first, rows) = checked_symbols(sequence, t.shape[-1]), _logs(t)
    # Log laws of each chain before each symbol, (C, n + 1, k).
    laws = jnp.concatenate([first[:, None], rows[:, x]], axis=1)
    return _retrieved(laws, x, log_prior)


def unigram_retrieval(
    sequence: Int[ArrayLike, " n"], chains: Real[ArrayLike, "..."], log_prior: Real[ArrayLike, " C"] | None = None
) -> SymbolPredictions:
    """The same by someone who sees how often symbols occur and not how they follow each other.

    p(j | past) = sum_c P(c | past) pi_c[j],   P(c | past) proportional to P(c) prod_u pi_c[x_u].

    Arguments: as for `bigram_retrieval`.
    Returns:
        `SymbolPredictions`.
    Holds when: it is Bayes for independent symbols of the chains' stationary laws.
    Source: Park et al. 2024 (arXiv:2412.01003).
    """
    t = _chains(chains, 3)
    x, (first, _) = checked_symbols(sequence, t.shape[-1]), _logs(t)
    laws = jnp.broadcast_to(first[:, None], (len(t), len(x) + 1, t.shape[-1]))
    return _retrieved(laws, x, log_prior)


def bigram_inference(
    sequence: Int[ArrayLike, " n"], symbols: int, prior: Real[ArrayLike, "..."] = 1.0
) -> SymbolPredictions:
    """Every symbol from what has followed the one before it in this string.

    p(j | past) = (n_xj + a_j) / (n_x + A),   x = x_{t-1}.

    Arguments:
        sequence: symbols 0 .. k - 1, (n,); symbols: k >= 2, a Python int; prior: a > 0, () or (k,).
    Returns:
        `SymbolPredictions`; the first symbol from a / A.
    Holds when: it is Bayes for independent Dirichlet(a) rows and a first symbol drawn from a / A. Strings that start in
        the stationary law of their chain tell a little more by their first symbol.
    Source: Park et al. 2024 (arXiv:2412.01003).
    """
    return ngram_predictions(sequence, symbols, 1, prior)


def unigram_inference(
    sequence: Int[ArrayLike, " n"], symbols: int, prior: Real[ArrayLike, "..."] = 1.0
) -> SymbolPredictions:
    """Every symbol from how often each has occurred in this string.

    p(j | past) = (n_j + a_j) / (n + A).

    Arguments: as for `bigram_inference`.
    Returns:
        `SymbolPredictions`.
    Holds when: it is Bayes for independent symbols with a Dirichlet(a) prior.
    Source: Park et al. 2024 (arXiv:2412.01003).
    """
    return ngram_predictions(sequence, symbols, 0, prior)


def stationary_inference(
    sequence: Int[ArrayLike, " n"], symbols: int, prior: Real[ArrayLike, "..."] = 1.0
) -> SymbolPredictions:
    """Another unigram inference: the stationary law of the transitions that bigram inference believes in.

    p(. | past) = pi,   pi = pi M,   M_ij = (n_ij + a_j) / (n_i + A).

    Arguments: as for `bigram_inference`.
    Returns:
        `SymbolPredictions`. It differs from `unigram_inference` by what the ends of the string and the prior weigh.
    Holds when: a definition.
    Source: the measurements of Park et al. 2024 (arXiv:2412.01003).
    """
    k = whole("symbols", symbols, 2)
    x, a = checked_symbols(sequence, k), positive("prior", prior)
    if a.shape not in ((), (k,)):
        raise ValueError(f"prior must have shape () or ({k},), got {a.shape}")
    pairs = jax.nn.one_hot(x[:-1], k)[:, :, None] * jax.nn.one_hot(x[1:], k)[:, None, :]
    # Nothing and one symbol make no pair yet.
    seen = jnp.concatenate([jnp.zeros((min(len(x), 1) + 1, k, k)), jnp.cumsum(pairs, axis=0)])
    believed = seen + a
    believed = believed / jnp.sum(believed, axis=-1, keepdims=True)
    return predictions(jnp.log(_stationary(believed)), x)


def transition_divergence(
    first: Real[ArrayLike, "..."], second: Real[ArrayLike, "..."], weighted_by: str = "first"
) -> Float[Array, ""]:
    """Relative entropy of two transition matrices, row by row, for one step.

    KL = sum_i pi_i sum_j T1_ij ln(T1_ij / T2_ij),   pi stationary for T1 ("first") or T2 ("second").

    Arguments:
        first, second: T1 and T2, rows of probabilities, irreducible, (k, k).
        weighted_by: whose stationary law weighs the rows.
    Returns:
        nats, >= 0; infinite where T2 excludes what T1 does. By "first" it is the rate at which strings of T1 give
        themselves away; by "second" the distance that Park et al. plot.
    Holds when: always.
    Source: textbook; Park et al. 2024 (arXiv:2412.01003).
    """
    if weighted_by not in ("first", "second"):
        raise ValueError(f"weighted_by must be 'first' or 'second', got {weighted_by!r}")
    p, q = _chains(first, 2, "first"), _chains(second, 2, "second")
    if p.shape != q.shape:
        raise ValueError(f"first and second must be of one shape, got {p.shape} and {q.shape}")
    each = jnp.where(p > 0, xlogy(p, p) - jnp.where(p > 0, p, 1.0) * jnp.where(p > 0, safe_log(q), 0.0), 0.0)
    weight = _stationary(p if weighted_by == "first" else q)
    return jnp.sum(weight * jnp.sum(each, axis=1))


def convex_weights(target: Real[ArrayLike, "..."], predictors: Real[ArrayLike, "..."]) -> Float[Array, " P"]:
    """The mixture of predictors that comes nearest to a target: weights of at least zero that sum to one.

    argmin over w of |target - sum_p w_p X_p|^2,   w_p >= 0,   sum_p w_p = 1.

    Arguments:
        target: such as the transition matrix that a network acts by, any shape.
        predictors: X, 1 to 10 of them, of the target's shape each, (P, ...).
    Returns:
        w, (P,), exact: the best of the solutions on all faces of the simplex.
    Holds when: always; not unique where predictors are mixtures of each other.
    Source: quadratic programming; in this use Park et al. 2024 (arXiv:2412.01003).
    """
    y, x = real("target", target), real("predictors", predictors)
    if x.ndim != y.ndim + 1 or x.shape[1:] != y.shape or not 1 <= len(x) <= MOST_PREDICTORS:
        raise ValueError(f"predictors must be 1 to {MOST_PREDICTORS} arrays like target, got {x.shape} and {y.shape}")
    return _convex(y.ravel(), x.reshape(len(x), -1))


def _retrieved(laws, x, log_prior) -> SymbolPredictions:
    density = jnp.take_along_axis(laws[:, :-1], x[None, :, None], axis=2)[:, :, 0]
    return mixture(log_posterior(density, log_prior), laws, x)


def _logs(chains):
    """Logarithms of stationary laws (C, k) and of rows (C, k, k)."""
    return safe_log(_stationary(chains)), safe_log(chains)


def _stationary(transition) -> Float[Array, "*C k"]:
    pi = _without_last_states(transition)
    return require("transition", pi, jnp.isfinite(pi), "must be irreducible: its stationary law")


@jax.jit
@partial(jnp.vectorize, signature="(k,k)->(k)")
def _without_last_states(transition):
    k = len(transition)
    index = jnp.arange(k)

    def eliminate(step, p):
        last = k - 1 - step
        below = index < last
        out = jnp.sum(jnp.where(below, p[last], 0.0))
        inflow = jnp.where(below, p[:, last] / out, 0.0)
        rest = jnp.where(below[:, None] & below[None, :], p + inflow[:, None] * p[last], p)
        # The place of the state that is out keeps what flowed into it.
        return rest.at[:, last].set(inflow)

    flows = jax.lax.fori_loop(0, k - 1, eliminate, transition)

    def back(last, pi):
        return pi.at[last].set(jnp.sum(jnp.where(index < last, pi * flows[:, last], 0.0)))

    pi = jax.lax.fori_loop(1, k, back, jnp.zeros(k, transition.dtype).at[0].set(1.0))
    return pi / jnp.sum(pi)


@jax.jit
def _convex(y, x):
    # On the simplex the target may be moved: w . X - y = w . (X - y).
    gram = (x - y) @ (x - y).T
    gram = gram / jnp.maximum(jnp.max(gram), jnp.finfo(gram.dtype).tiny)
    p = len(x)
    faces = jnp.asarray(list(itertools.product((False, True), repeat=p))[1:])

    def solve(face):
        both = face[:, None] & face[None, :]
        rim = face.astype(gram.dtype)
        system = jnp.block([[jnp.where(both, gram, jnp.eye(p)), rim[:, None]], [rim[None], jnp.zeros((1, 1))]])
        return jnp.linalg.solve(system, jnp.zeros(p + 1).at[p].set(1.0))[:p]

    found = jax.vmap(solve)(faces)
    found = jnp.where(jnp.all(jnp.isfinite(found), axis=1, keepdims=True), jnp.maximum(found, 0.0), 0.0)
    total = jnp.sum(found, axis=1, keepdims=True)
    # Faces without a solution of their own fall back on all alike.
    found = jnp.where(total > 0, found / jnp.where(total > 0, total, 1.0), 1 / p)
    return found[jnp.argmin(jnp.einsum("fp,pq,fq->f", found, gram, found))]


def _chains(transition, axes: int, name: str = "transition") -> Float[Array, "..."]:
    t = matrix(name, transition) if axes == 2 else real(name, transition)
    t = non_negative(name, t)
    if t.ndim != axes or t.shape[-1] != t.shape[-2] or t.shape[-1] < 2:
        raise ValueError(f"{name} must be {'C matrices' if axes == 3 else 'one matrix'} (k, k), k > 1, got {t.shape}")
    return require(name, t, jnp.abs(jnp.sum(t, axis=-1, keepdims=True) - 1) < 1e-6, "must have rows of sum 1")
