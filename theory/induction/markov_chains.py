"""Next symbols of a Markov chain that is only known from its context: guesses, single symbols, pairs, exact Bayes.

Each sequence has a chain of its own, x_1 from its stationary distribution pi, x_{t+1} from row x_t of its transition
matrix P. Rows of P are independent and uniform on the simplex, Dirichlet(1, ..., 1). A network may know nothing, count
symbols (unigrams), or count what has followed the present symbol (bigrams); the last alone sees that it is a chain.
In an infinite context they cost

    uniform  ln k,    unigram  E H(pi),    bigram  E sum_i pi_i H(P_i).

Two symbols have closed forms, and exact Bayes for them is a quadrature: counting pairs is not quite Bayes, for the
first symbol is drawn from pi and so says something about P. Losses are in nats.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, xlogy
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import non_negative, positive, real, require, whole

# Gauss-Legendre nodes on the unit interval for the bigram loss of two symbols, in a variable that makes it smooth.
NODES, WEIGHTS = (0.5 * np.polynomial.legendre.leggauss(60)[i] + 0.5 * (i == 0) for i in range(2))
PRIORS = ("rows", "doubly_stochastic")


class Losses(NamedTuple):
    """Cross-entropy of the three strategies in an infinite context, in nats."""

    uniform: Float[Array, "..."]
    unigram: Float[Array, "..."]
    bigram: Float[Array, "..."]


def unigram_prediction(sequences: Int[ArrayLike, "N T"], symbols: int) -> Float[Array, "N T k"]:
    """Next symbol from how often each has occurred.

    p_t(y) = (n_y + 1) / (t + k),   n_y = number of s <= t with x_s = y.

    Arguments:
        sequences: symbols 0, ..., k - 1, (N, T); symbols: their number k, a Python int > 1.
    Returns:
        probabilities of x_{t+1} given x_1, ..., x_t, (N, T, k); rows sum to one.
    Holds when: it is exact Bayes for independent symbols with a Dirichlet(1, ..., 1) prior.
    Source: Edelman, Edelman, Goel, Malach & Tsilivis 2024 (arXiv:2402.11004); Laplace's rule of succession.
    """
    x = jax.nn.one_hot(_checked_symbols(sequences, symbols), symbols)
    counts = jnp.cumsum(x, axis=1)
    return (counts + 1) / (jnp.sum(counts, axis=-1, keepdims=True) + symbols)


def bigram_prediction(sequences: Int[ArrayLike, "N T"], symbols: int) -> Float[Array, "N T k"]:
    """Next symbol from what has followed the present one.

    p_t(y) = (n_{x_t y} + 1) / (n_{x_t} + k),   n_{xy} = number of s < t with x_s = x, x_{s+1} = y,   n_x = sum_y n_xy.

    Arguments, Returns: as for `unigram_prediction`.
    Holds when: it is exact Bayes for Dirichlet(1, ..., 1) rows and a first symbol that says nothing about them.
    Source: Edelman et al. 2024 (arXiv:2402.11004).
    """
    x = jax.nn.one_hot(_checked_symbols(sequences, symbols), symbols)
    followed = jnp.einsum("nti,ntj->ntij", x[:, :-1], x[:, 1:])
    pairs = jnp.pad(jnp.cumsum(followed, axis=1), ((0, 0), (1, 0), (0, 0), (0, 0)))
    counts = jnp.einsum("nti,ntij->ntj", x, pairs)
    return (counts + 1) / (jnp.sum(counts, axis=-1, keepdims=True) + symbols)


def two_symbol_probability(sequences: Int[ArrayLike, "N T"], prior: str = "rows") -> Float[Array, " N"]:
    """Probability of a sequence of two symbols, the chain unknown.

    "rows": int_0^1 int_0^1 pi_{x_1} (1-a)^{n_00} a^{n_01} b^{n_10} (1-b)^{n_11} da db,   pi = (b, a) / (a + b).
    "doubly_stochastic": B(s + 1, d + 1) / 2, for s symbols that repeat the last one and d that do not.

    Arguments:
        sequences: symbols 0 and 1, (N, T).
        prior: of P. Two independent uniform rows; or a = b uniform, for which pi is uniform.
    Returns:
        probabilities, (N,); those of all 2^T sequences sum to one.
    Holds when: always; the quadrature is exact to rounding (polynomials of degree T beside a factor 1 / (1 + u)).
    Source: derived in derivations/induction/markov_chains.py.
    """
    x = _checked_symbols(sequences, 2)
    return _probability(x[:, 0], _pair_counts(x)[:, -1], x.shape[1], _checked_prior(prior))


def two_symbol_bayes(sequences: Int[ArrayLike, "N T"], prior: str = "rows") -> Float[Array, "N T 2"]:
    """Exact Bayesian prediction of the next of two symbols: the ratio of two probabilities of sequences.

    p_t(y) = Pr(x_1, ..., x_t, y) / Pr(x_1, ..., x_t).

    Arguments: as for `two_symbol_probability`.
    Returns:
        probabilities, (N, T, 2). The bigram prediction differs at the first symbols, where the stationary start counts.
    Holds when: the prior is right; no other prediction has a smaller loss.
    Source: derived in derivations/induction/markov_chains.py.
    """
    x, prior = _checked_symbols(sequences, 2), _checked_prior(prior)
    counts = _pair_counts(x)
    first = jnp.broadcast_to(x[:, :1], x.shape)
    # One more pair, from x_t to y: entry 2 x_t + y of the four counts.
    more = jax.nn.one_hot(2 * x[..., None] + jnp.arange(2), 4)
    longer = _probability(first[..., None], counts[..., None, :] + more, x.shape[1] + 1, prior)
    return longer / jnp.sum(longer, axis=-1, keepdims=True)


def stationary_distribution(transition: Real[ArrayLike, "... k k_to"]) -> Float[Array, "... k"]:
    """The distribution pi = pi P that a chain keeps.

    Arguments:
        transition: rows P_i of transition probabilities, (..., k, k), with one recurrent class.
    Returns:
        pi, (..., k), from the linear system pi (I - P + 1 1^T) = 1^T.
    Holds when: the chain has one recurrent class, as it has almost surely for random rows.
    Source: textbook.
    """
    p = _checked_transition(transition)
    k = p.shape[-1]
    system = jnp.eye(k, dtype=p.dtype) - p + 1
    return jnp.linalg.solve(jnp.swapaxes(system, -1, -2), jnp.ones((*p.shape[:-1], 1), p.dtype))[..., 0]


def chain_losses(transition: Real[ArrayLike, "... k k_to"]) -> Losses:
    """Losses of the three strategies on given chains, in an infinite context.

    ln k,   H(pi),   sum_i pi_i H(P_i).

    Arguments:
        transition: as for `stationary_distribution`.
    Returns:
        `Losses` of shape (...): uniform >= unigram >= bigram, equal where the chain is uniform and independent.
    Holds when: counts have converged, t -> infinity. The bigram loss is the entropy rate: nothing does better.
    Source: Edelman et al. 2024 (arXiv:2402.11004).
    """
    p = _checked_transition(transition)
    pi = stationary_distribution(p)
    # Rounding of the linear solve may leave -1e-17 for a symbol that never occurs.
    unigram = -jnp.sum(xlogy(pi, jnp.maximum(pi, jnp.finfo(p.dtype).tiny)), axis=-1)
    rows = -jnp.sum(xlogy(p, p), axis=-1)
    return Losses(jnp.full_like(unigram, np.log(p.shape[-1])), unigram, jnp.sum(pi * rows, axis=-1))


def two_symbol_losses() -> Losses:
    """Losses of the three strategies on two symbols, averaged over chains with independent uniform rows.

    ln 2,   2 ln 2 - pi^2 / 12 = 0.563827,   1 - 2 int_0^1 a H(a) ln((1 + a) / a) da = 0.480889.

    Returns:
        `Losses` of scalars; H(a) = -a ln a - (1 - a) ln(1 - a).
    Holds when: infinite context.
    Source: derived in derivations/induction/markov_chains.py.
    """
    # a = u^4 / 2 below one half and 1 - u^4 / 2 above it: logarithms at both ends are then mild.
    small, weight = NODES**4 / 2, 2 * NODES**3 * WEIGHTS
    rate = lambda a, rest: -a * (a * np.log(a) + rest * np.log(rest)) * np.log((1 + a) / a)  # noqa: E731
    total = np.sum(weight * (rate(small, 1 - small) + rate(1 - small, small)))
    return Losses(*map(jnp.asarray, (np.log(2), 2 * np.log(2) - np.pi**2 / 12, 1 - 2 * total)))


def mean_losses(symbols: int, chains: int = 20_000, seed: int = 0) -> tuple[Losses, Losses]:
    """Losses for any number of symbols, as averages over random chains.

    Arguments:
        symbols: k > 1; chains: how many are drawn, > 1; seed: of the draw; Python ints.
    Returns:
        (means, standard errors), `Losses` of scalars each. Three symbols: 0.979 and 0.819.
    Holds when: infinite context, Dirichlet(1, ..., 1) rows.
    Source: a Monte Carlo average of `chain_losses`.
    """
    k, chains = whole("symbols", symbols, 2), whole("chains", chains, 2)
    # Exponentials over their sum are uniform on the simplex.
    draws = jax.random.exponential(jax.random.key(whole("seed", seed, 0)), (chains, k, k))
    each = chain_losses(draws / jnp.sum(draws, axis=-1, keepdims=True))
    return Losses(*map(jnp.mean, each)), Losses(*(jnp.std(loss, ddof=1) / np.sqrt(chains) for loss in each))


def row_entropy(symbols: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Mean entropy of a row drawn from Dirichlet(1, ..., 1), each row counting alike.

    E H = psi(k + 1) - psi(2) = 1/2 + 1/3 + ... + 1/k.

    Arguments: symbols: k >= 1.
    Returns:
        E H, nats. Larger than the bigram loss, in which rows count by pi: chains stay where rows are surest.
    Holds when: always.
    Source: textbook; derived in derivations/induction/markov_chains.py.
    """
    k = positive("symbols", symbols)
    k = require("symbols", k, k >= 1, "must be at least 1")
    return digamma(k + 1) - digamma(jnp.asarray(2.0, k.dtype))


def repetition(lag: int) -> Float[Array, ""]:
    """Probability that two symbols of a chain on two, `lag` steps apart, are the same, averaged over chains.

    E sum_i pi_i (P^lag)_ii = 1 - 2 E[a b / (a + b)^2] + 2 E[a b (1 - a - b)^lag / (a + b)^2].

    Arguments:
        lag: >= 0, a Python int.
    Returns:
        a number from 1 (lag 0) to 2 - 2 ln 2 (lag -> infinity): what makes counting symbols worth while.
    Holds when: independent uniform rows, stationary start.
    Source: derived in derivations/induction/markov_chains.py.
    """
    lag = whole("lag", lag, 0)
    u, b, weight = _triangle(lag)
    # In the triangle a = u b < b; the other one is its mirror image.
    product = u / (1 + u) ** 2
    return 2 - 2 * np.log(2) + 4 * jnp.sum(weight * product * (1 - b * (1 + u)) ** lag)


def _triangle(degree: int):
    """Nodes (u, b) and weights, with the Jacobian b, of the integral over a = u b, 0 < u < 1, 0 < b < 1.

    Exact for polynomials of this degree in a and b; with a factor 1 / (1 + u), to rounding.
    """
    (u, u_weight), (b, b_weight) = (np.polynomial.legendre.leggauss(degree // 2 + more) for more in (16, 2))
    u, b = (axis.ravel() for axis in np.meshgrid(u / 2 + 0.5, b / 2 + 0.5, indexing="ij"))
    return jnp.asarray(u), jnp.asarray(b), jnp.asarray(np.outer(u_weight, b_weight).ravel() / 4 * b)


def _pair_counts(x: Int[Array, "N T"]) -> Float[Array, "N T 4"]:
    """How often each pair 00, 01, 10, 11 has occurred up to t."""
    pairs = jax.nn.one_hot(2 * x[:, :-1] + x[:, 1:], 4)
    return jnp.pad(jnp.cumsum(pairs, axis=1), ((0, 0), (1, 0), (0, 0)))


@partial(jax.jit, static_argnames=("longest", "prior"))
def _probability(first, counts, longest: int, prior: str):
    """From the first symbol (...) and the counts of pairs (..., 4) of sequences of at most that length."""
    if prior == "doubly_stochastic":
        same, different = counts[..., 0] + counts[..., 3] + 1, counts[..., 1] + counts[..., 2] + 1
        return jnp.exp(gammaln(same) + gammaln(different) - gammaln(same + different)) / 2
    u, b, weight = _triangle(longest)
    logs = jnp.stack([jnp.log1p(-u * b), jnp.log(u * b), jnp.log(b), jnp.log1p(-b)])

    def half(first, counts):
        start = jnp.where(first[..., None] == 0, 1.0, u) / (1 + u)
        return jnp.sum(weight * start * jnp.exp(counts @ logs), axis=-1)

    # Where a > b the symbols change their parts.
    return half(first, counts) + half(1 - first, counts[..., ::-1])


def _checked_symbols(sequences, symbols: int) -> Int[Array, "N T"]:
    x, k = real("sequences", sequences), whole("symbols", symbols, 2)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"sequences must be of shape (N, T), got shape {x.shape}")
    x = require("sequences", x, (x >= 0) & (x < k) & (x == jnp.floor(x)), f"must hold symbols from 0 to {k - 1}")
    return x.astype(int)


def _checked_prior(prior: str) -> str:
    if prior not in PRIORS:
        raise ValueError(f"prior must be one of {', '.join(PRIORS)}, got {prior!r}")
    return prior


def _checked_transition(transition) -> Float[Array, "... k k"]:
    p = non_negative("transition", transition)
    if p.ndim < 2 or p.shape[-1] != p.shape[-2]:
        raise ValueError(f"transition must be of shape (..., k, k), got {p.shape}")
    return require("transition", p, jnp.abs(jnp.sum(p, axis=-1, keepdims=True) - 1) < 1e-6, "must have rows of sum 1")
