"""Undoing a permutation in context: impossible for causal attention of any depth, possible with scratch rows.

A sequence holds n rows of a permutation pi, row j with its one in column pi(j), and then n numbers y_{pi(1)}, ...,
y_{pi(n)}. Row n + i is to say y_i, which stands in row n + sigma(i), sigma the inverse of pi. A causal network sees of
the numbers those up to i, and so can only answer where sigma(i) <= i: no depth, width or training helps. Behind n more
rows that hold nothing, two layers of attention are enough. Rows are counted from 1 here, from 0 in arrays.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from theory.checks import non_negative, real, require, whole


class Scratch(NamedTuple):
    """Attention in the second layer of the construction.

    `numbers`  of scratch row i on number j, (n, n): close to the inverse of the permutation.
    `outside`  of scratch row i on all other rows, which hold no number, (n,).
    """

    numbers: Float[Array, "n n"]
    outside: Float[Array, " n"]


def answerable(permutation: Int[ArrayLike, " n"]) -> Bool[Array, " n"]:
    """Rows that a causal network without scratch rows can answer: sigma(i) <= i, sigma = pi^-1.

    Arguments:
        permutation: pi, places from 0 to n - 1, each once, (n,).
    Returns:
        true or false, (n,); the last row always can, all can for the identity alone.
    Holds when: row n + i sees the rows before it and itself, at any depth; numbers know nothing of each other.
    Source: the impossibility of Alur, Hays, Raghavan & Shah 2025 (arXiv:2509.24125), row by row; derived here.
    """
    pi = _checked_permutation(permutation)
    return jnp.argsort(pi) <= jnp.arange(len(pi))


def unanswerable_distribution(n: int) -> Float[Array, " n"]:
    """Chance that k rows of a uniformly drawn permutation cannot be answered: Eulerian numbers over n!.

    p_n(k) = A(n, k) / n!,   n p_n(k) = (k + 1) p_{n-1}(k) + (n - k) p_{n-1}(k - 1).

    Arguments:
        n: rows, a Python int >= 1.
    Returns:
        p, (n,), for k = 0 ... n - 1; p(0) = 1 / n!, mean (n - 1) / 2, variance (n + 1) / 12 for n > 1.
    Holds when: permutations are uniform.
    Source: rows with sigma(i) > i are excedances (MacMahon 1915, Euler's numbers); derivations.
    """
    return _eulerian(whole("n", n))


@partial(jax.jit, static_argnums=0)
def _eulerian(n):
    p = jnp.zeros(n).at[0].set(1.0)
    k = jnp.arange(n)

    def longer(size, p):
        # p(k - 1), of which the first is zero.
        before = jnp.where(k > 0, jnp.roll(p, 1), 0.0)
        return ((k + 1) * p + (size - k) * before) / size

    return jax.lax.fori_loop(2, n + 1, longer, p)


def causal_row_error(n: int, variance: Real[ArrayLike, ""] = 1.0) -> Float[Array, " n"]:
    """Least mean squared error of a causal network without scratch rows, row by row.

    E_i = variance (1 - i / n),   mean variance (n - 1) / (2 n).

    Arguments:
        n: rows, a Python int >= 1; variance: of the numbers, >= 0.
    Returns:
        E, (n,), first row first.
    Holds when: permutations are uniform, numbers independent; a lower bound at any depth, reached by the best function.
    Source: derived in derivations/induction/inverse_permutation.py.
    """
    n = whole("n", n)
    return non_negative("variance", variance) * (1 - jnp.arange(1, n + 1) / n)


def causal_row_accuracy(n: int, symbols: Real[ArrayLike, ""]) -> Float[Array, " n"]:
    """Best accuracy of a causal network without scratch rows, for numbers that are symbols, row by row.

    i / n + (1 - i / n) / V,   mean (1 + 1/n) / 2 + (1 - 1/n) / (2 V).

    Arguments:
        n: rows, a Python int >= 1; symbols: V >= 1, equally frequent and independent.
    Returns:
        accuracies, (n,), first row first.
    Holds when: permutations are uniform; an upper bound at any depth.
    Source: derived in derivations/induction/inverse_permutation.py.
    """
    n = whole("n", n)
    share = jnp.arange(1, n + 1) / n
    return share + (1 - share) / _checked_symbols(symbols)


def causal_recall(n: int, symbols: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """Best chance that a causal network without scratch rows answers every row: sum_k p_n(k) V^-k.

    Arguments:
        n: rows, a Python int >= 1; symbols: V >= 1, equally frequent and independent.
    Returns:
        the chance, a scalar; 1 / n! for V -> infinity.
    Holds when: permutations are uniform; an upper bound at any depth.
    Source: derived in derivations/induction/inverse_permutation.py.
    """
    p = unanswerable_distribution(n)
    return jnp.sum(p * _checked_symbols(symbols) ** -jnp.arange(len(p), dtype=p.dtype))


def scratch_attention(
    permutation: Int[ArrayLike, " n"],
    first: Real[ArrayLike, ""],
    second: Real[ArrayLike, ""],
    penalty: Real[ArrayLike, ""],
) -> Scratch:
    """Attention of two hand-set layers that undo a permutation in n scratch rows behind the numbers.

    Layer 1: number j looks at row j of the permutation with score `first`, and copies from it
        c_ij = r_j + (s_j - r_j) [pi(j) = i],   s_j = e^first / Z_j,  r_j = 1 / Z_j,  Z_j = e^first + n + j - 1.
    Layer 2: scratch row i looks at number j with score second c_ij, at other rows with the same less `penalty`.

    Arguments:
        permutation: pi, places from 0 to n - 1, (n,).
        first, second: scores, any real numbers; penalty: any real number, above `second` to be of use.
    Returns:
        the `Scratch`: what row i says is sum_j numbers_ij y_{pi(j)}.
    Holds when: the network is the construction, causal; all other scores are zero.
    Source: a construction after Alur, Hays, Raghavan & Shah 2025 (arXiv:2509.24125), with numbers and permutation in
        separate columns, so that numbers of any size do no harm; derived in
        derivations/induction/inverse_permutation.py.
    """
    pi = _checked_permutation(permutation)
    first, second, penalty = real("first", first), real("second", second), real("penalty", penalty)
    return _scratch(pi, first, second, penalty)


def scratch_miss(
    n: int, first: Real[ArrayLike, "..."], second: Real[ArrayLike, "..."], penalty: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Most attention that the construction gives to anything but the right number, whatever the permutation.

    m / (1 + m),   m = (n - 1) e^{-second (s - r)} + 2 n e^{-penalty + second (1 - s)},
    s = e^first / (e^first + 2 n - 1),   r = 1 / (e^first + n).

    Arguments:
        n: rows, a Python int >= 1; first, second, penalty: of `scratch_attention`, second >= 0; they broadcast.
    Returns:
        the bound, between 0 and 1. An answer is wrong by at most twice the largest |y| times it.
    Holds when: always.
    Source: derived in derivations/induction/inverse_permutation.py.
    """
    n, second = whole("n", n), non_negative("second", second)
    first, penalty = real("first", first), real("penalty", penalty)
    missed = jax.nn.sigmoid(jnp.log(2.0 * n - 1) - first)
    hit, rest = jax.nn.sigmoid(first - jnp.log(2.0 * n - 1)), jax.nn.sigmoid(-first + jnp.log(1.0 * n)) / n
    others = jnp.log(n - 1.0) - second * (hit - rest) if n > 1 else -jnp.inf
    outside = jnp.log(2.0 * n) - penalty + second * missed
    return jax.nn.sigmoid(jnp.logaddexp(others, outside))


@jax.jit
def _scratch(pi, first, second, penalty) -> Scratch:
    n = len(pi)
    row = jnp.arange(1, n + 1)
    # Over e^first, which may be large.
    rest = jnp.exp(-jax.nn.softplus(first - jnp.log(n + row - 1.0))) / (n + row - 1)
    hit = jax.nn.sigmoid(first - jnp.log(n + row - 1.0))
    inverse = jnp.argsort(pi)
    copied = jnp.where(jnp.arange(n) == inverse[:, None], hit, rest)
    # Rows of the permutation average those up to them, scratch rows all that they see.
    earlier = (inverse[:, None] < row) / row
    scratch = jnp.broadcast_to(1 / (2 * n + row), (n, n))
    seen = row <= row[:, None]
    scores = second * jnp.concatenate([copied, earlier, scratch], axis=1)
    scores = scores - penalty * (jnp.arange(3 * n) >= n)
    everything = jnp.ones((n, 2 * n), bool)
    q = jax.nn.softmax(jnp.where(jnp.concatenate([everything, seen], axis=1), scores, -jnp.inf), axis=1)
    return Scratch(q[:, :n], jnp.sum(q[:, n:], axis=1))


def _checked_symbols(symbols):
    v = real("symbols", symbols)
    return require("symbols", v, v >= 1, "must be at least 1")


def _checked_permutation(permutation):
    pi = jnp.asarray(permutation)
    if pi.ndim != 1 or not len(pi) or not jnp.issubdtype(pi.dtype, jnp.integer):
        raise ValueError(f"permutation must be a row of places, got {pi.dtype} of shape {pi.shape}")
    own = jnp.sort(pi) == jnp.arange(len(pi))
    require("permutation", pi.astype(float), jnp.all(own), f"must hold each place from 0 to {len(pi) - 1} once")
    return pi
