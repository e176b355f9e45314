"""Parities learned in context: whoever knows only that y is the parity of some bits knows y surely, or not at all.

y is the exclusive or of the bits in a set S of the d coordinates, all 2^d sets being as probable. Examples are linear
equations for S over the field of two elements: after them, y(x) is determined if x is a sum of inputs seen, and else a
fair coin. With uniform inputs the rank of the equations is a Markov chain, so that the Bayes accuracy is a number. Bits
and labels are 0 and 1.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.boolean_functions import class_predictions
from theory.checks import matrix, real, require, whole


def rank_law(examples: int, d: int) -> Float[Array, "m k"]:
    """P(rank = k) of 0, 1, ..., n uniform rows of d bits.

    p_{t+1}(k) = p_t(k) 2^{k-d} + p_t(k-1) (1 - 2^{k-1-d}).

    Arguments:
        examples: n, a Python int >= 0.
        d: bits, a Python int >= 1.
    Returns:
        probabilities, (n + 1, d + 1): row t after t rows, column k for rank k.
    Holds when: bits are independent and fair. Zero rows count.
    Source: Kovalenko 1972; derived in derivations/bayes_icl/parities.py.
    """
    return _ranks(whole("examples", examples, at_least=0), whole("d", d))


@partial(jax.jit, static_argnums=(0, 1))
def _ranks(n, d):
    old = jnp.exp2(jnp.arange(d + 1.0) - d)

    def step(p, _):
        after = p * old + jnp.concatenate([jnp.zeros(1), (p * (1 - old))[:-1]])
        return after, after

    start = jnp.zeros(d + 1).at[0].set(1.0)
    return jnp.concatenate([start[None], jax.lax.scan(step, start, length=n)[1]])


def determined_probability(examples: int, d: int) -> Float[Array, " m"]:
    """Chance that the parity of a new input follows from those of 0, 1, ..., n inputs.

    P(x in span) = E 2^{rank - d}.

    Arguments: as for `rank_law`.
    Returns:
        probabilities, (n + 1,); 2^-d for t = 0 (the input of zeros), 1 - 2^{d - t - 1} or more for t > d.
    Holds when: as `rank_law`.
    Source: derived in derivations/bayes_icl/parities.py.
    """
    return rank_law(examples, d) @ jnp.exp2(jnp.arange(d + 1.0) - d)


def parity_accuracy(examples: int, d: int) -> Float[Array, " m"]:
    """How often the Bayes predictor names the parity of a new input after 0, 1, ..., n examples.

    (1 + P(x in span)) / 2.

    Arguments: as for `rank_law`.
    Returns:
        accuracies, (n + 1,). The mean log loss is ln 2 (1 - P).
    Holds when: as `rank_law`, all sets of bits being as probable.
    Source: Bayes' rule.
    """
    return (1 + determined_probability(examples, d)) / 2


def parity_predictions(bits: Real[ArrayLike, "n d"], y: Real[ArrayLike, "..."]) -> Float[Array, " n"]:
    """P(y_t = 1) from the pairs before and from x_t, when y is the parity of some unknown set of bits.

    The parity of the labels of those inputs whose sum is x_t, if there are such; else 1/2.

    Arguments:
        bits: x, 0 and 1, (n, d).
        y: labels, 0 and 1, (n,).
    Returns:
        0, 1/2 or 1, (n,).
    Holds when: all sets are as probable, the empty one included, and labels are those of one (refused otherwise).
        By elimination: n d^2 operations for any d. It is a step function: its derivatives are zero.
    Source: linear algebra over the field of two elements.
    """
    x, labels = _bits("bits", matrix("bits", bits)), _bits("y", real("y", y))
    if labels.shape != x.shape[:1]:
        raise ValueError(f"bits must have a row for each label of y, got {x.shape} and {labels.shape}")
    found, told = _eliminated(x.astype(jnp.int32), labels.astype(jnp.int32))
    return require(
        "y", found, (found == 0.5) | (found == told), "must be the parities of one set of bits: a prediction"
    )


def sparse_parity_predictions(bits: Real[ArrayLike, "n d"], y: Real[ArrayLike, "..."], size: int) -> Float[Array, " n"]:
    """P(y_t = 1) when y is the parity of k unknown bits: all C(d, k) sets.

    P(S | past) prop. to prod_{u < t} 1[y_u = sum_{i in S} x_ui mod 2].

    Arguments:
        bits: x, 0 and 1, (n, d).
        y: labels, 0 and 1, (n,).
        size: k, a Python int from 1 to d.
    Returns:
        probabilities, (n,).
    Holds when: all sets of k bits are as probable; some of them agrees with all labels (refused otherwise).
    Source: Bayes' rule.
    """
    x = _bits("bits", matrix("bits", bits))
    d, k = x.shape[1], whole("size", size)
    if k > d:
        raise ValueError(f"size must be at most the {d} bits, got {k}")
    sets = np.array([np.isin(np.arange(d), chosen) for chosen in itertools.combinations(range(d), k)], float)
    return class_predictions(jnp.asarray(sets) @ x.T % 2 == 1, y)


@jax.jit
def _eliminated(x, labels):
    """Predictions at every prefix, 1/2 where open, and the labels themselves."""
    d = x.shape[1]

    def reduced(basis, parities, row):
        """What is left of a row, and the parity of what was taken off: row i of the basis leads with bit i, or is 0."""

        def step(i, state):
            left, parity = state
            taken = left[i] * basis[i, i]
            return (left + taken * basis[i]) % 2, (parity + taken * parities[i]) % 2

        return jax.lax.fori_loop(0, d, step, (row, jnp.zeros((), row.dtype)))

    def one(state, pair):
        basis, parities = state
        row, label = pair
        left, parity = reduced(basis, parities, row)
        new, place = jnp.any(left), jnp.argmax(left)
        basis = jnp.where(new, basis.at[place].set(left), basis)
        parities = jnp.where(new, parities.at[place].set((label + parity) % 2), parities)
        return (basis, parities), (jnp.where(new, 0.5, parity), label.astype(float))

    start = jnp.zeros((d, d), x.dtype), jnp.zeros(d, x.dtype)
    return jax.lax.scan(one, start, (x, labels))[1]


def _bits(name, value):
    return require(name, value, (value == 0) | (value == 1), "must be 0 or 1")
