"""Initial weights with structure, as circuits have: low rank plus noise, cell types, Dale's law; and their rank.

How rich a network with small weights trains is decided by the effective rank of its start, the participation ratio of
W^T W (`theory.lazy_rich.initial_rank`). For weights drawn independently with any means and variances, entry by entry,
it follows from the first four cumulants: means of the same sign, as Dale's law has them, are an outlier of rank one
that makes a start richer than its size says; noise makes it lazier.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import matrix, non_negative, positive, real, require, whole


class Connectivity(NamedTuple):
    """Independent weights W (to, from), by cumulants of each entry: mean, variance, third and fourth, all (H, d)."""

    mean: Float[Array, "H d"]
    variance: Float[Array, "H d"]
    third: Float[Array, "H d"]
    fourth: Float[Array, "H d"]


def low_rank_plus_noise(low_rank: Real[ArrayLike, "H d"], deviation: Real[ArrayLike, ""]) -> Connectivity:
    """A given matrix, say of low rank, plus Gaussian noise.

    Arguments:
        low_rank: the means, (H, d).
        deviation: standard deviation of the noise of every entry, >= 0.
    Returns:
        the `Connectivity`.
    Holds when: always.
    Source: the ensembles of Mastrogiuseppe & Ostojic 2018 (arXiv:1711.09672).
    """
    mean = matrix("low_rank", low_rank)
    return _gaussian(mean, non_negative("deviation", deviation) ** 2)


def cell_type_blocks(
    to: Int[ArrayLike, " H"],
    source: Int[ArrayLike, " d"],
    means: Real[ArrayLike, "k l"],
    deviations: Real[ArrayLike, "rows columns"],
) -> Connectivity:
    """Gaussian weights whose mean and deviation depend on the types of the two cells.

    Arguments:
        to, source: type of each receiving unit, 0 ... k - 1, (H,), and of each sending one, 0 ... l - 1, (d,).
        means, deviations: for each pair of types, (k, l); deviations >= 0.
    Returns:
        the `Connectivity`.
    Holds when: always.
    Source: the block ensembles of Aljadeff, Stern & Sharpee 2015 (arXiv:1407.2297).
    """
    means = matrix("means", means)
    deviations = matrix("deviations", non_negative("deviations", deviations), *means.shape)
    to, source = (
        _types(name, types, size) for name, types, size in zip(("to", "source"), (to, source), means.shape, strict=True)
    )
    here = jnp.ix_(to, source)
    return _gaussian(means[here], deviations[here] ** 2)


def dale_weights(signs: Real[ArrayLike, " d"], scales: Real[ArrayLike, " sources"], units: int) -> Connectivity:
    """Dale's law: all weights from a unit have its sign, W_ij = sign_j |z_ij|, z_ij ~ N(0, scale_j^2).

    Arguments:
        signs: 1 for excitatory and -1 for inhibitory sending units, (d,).
        scales: size of the weights from each, > 0, (d,).
        units: number H of receiving units, a Python int.
    Returns:
        the `Connectivity`: means sqrt(2/pi) scale_j sign_j in every row, an outlier of rank one.
    Holds when: always.
    Source: cumulants of the half-normal distribution.
    """
    signs, scales = real("signs", signs), positive("scales", scales)
    if signs.ndim != 1 or scales.shape != signs.shape:
        raise ValueError(f"signs and scales must be vectors of the same length, got {signs.shape} and {scales.shape}")
    require("signs", signs, jnp.abs(signs) == 1, "must be 1 or -1")
    ones, root = jnp.ones((whole("units", units), 1)), math.sqrt(2 / math.pi)
    mean, variance = root * scales * signs, (1 - 2 / math.pi) * scales**2
    third, fourth = root * (4 / math.pi - 1) * scales**3 * signs, 8 * (math.pi - 3) / math.pi**2 * scales**4
    return Connectivity(*(ones * part for part in (mean, variance, third, fourth)))


def expected_square_norms(weights: Connectivity | tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """E Tr W^T W and E Tr (W^T W)^2.

    E Tr W^T W = |A|^2 + sum V,
    E Tr (W^T W)^2 = Tr (A^T A)^2 + sum_j c_j^2 + sum_i r_i^2 + sum V^2 + 2 sum_j c_j |A_j|^2 + 2 sum_i r_i |A_i|^2
                     + 2 sum A^2 V + 4 sum A K_3 + sum K_4,
    with means A, variances V, row sums r and column sums c of V, cumulants K_3 and K_4.

    Arguments:
        weights: a `Connectivity`.
    Returns:
        the two means.
    Holds when: entries are independent, at any size.
    Source: derived in derivations/lazy_rich/structured_weights.py.
    """
    a, v, third, fourth = (matrix(n, part) for n, part in zip(Connectivity._fields, weights, strict=True))
    if not a.shape == v.shape == third.shape == fourth.shape:
        raise ValueError(f"weights must hold four matrices of one shape, got {[part.shape for part in weights]}")
    rows, columns = jnp.sum(v, axis=1), jnp.sum(v, axis=0)
    square = a**2
    still = jnp.sum((a.T @ a) ** 2)
    random = jnp.sum(columns**2) + jnp.sum(rows**2) + jnp.sum(v**2) + jnp.sum(fourth)
    both = 2 * (square.sum(axis=0) @ columns + square.sum(axis=1) @ rows + jnp.sum(square * v) + 2 * jnp.sum(a * third))
    return jnp.sum(square) + jnp.sum(v), still + random + both


def expected_effective_rank(weights: Connectivity | tuple) -> Float[Array, ""]:
    """Effective rank of structured weights: (E Tr W^T W)^2 / E Tr (W^T W)^2.

    Arguments:
        weights: a `Connectivity`, not all of them zero.
    Returns:
        the participation ratio, between 1 and min(H, d): H d / (H + d + 1) for equal Gaussian weights. Its scale does
        not count. `theory.lazy_rich.initial_rank.expected_alignment` takes it.
    Holds when: the ratio of means is the mean of the ratio, up to a relative 1 / min(H, d).
    Source: as for `expected_square_norms`.
    """
    norm, fourth = expected_square_norms(weights)
    return require("weights", norm, norm > 0, "must not all be zero") ** 2 / fourth


def _gaussian(mean, variance) -> Connectivity:
    zero = jnp.zeros_like(mean)
    return Connectivity(mean, jnp.broadcast_to(variance, mean.shape), zero, zero)


def _types(name: str, types, number: int):
    types = jnp.asarray(types)
    if types.ndim != 1 or not jnp.issubdtype(types.dtype, jnp.integer):
        raise ValueError(f"{name} must be a vector of whole numbers, got {types.dtype} of shape {types.shape}")
    real_types = types.astype(float)
    require(name, real_types, (types >= 0) & (types < number), f"must be types from 0 to {number - 1}")
    return types
