"""Families of functions that a network may be asked to learn in context, and the Bayes predictor of each.

Each family is a feature map and a prior over weights; a family of families is a mixture. Dense weights are
`prequential.linear_predictions`, sign vectors `discrete_tasks.pool_predictions`; here are sparse weights, exact by
their supports, Gaussian mixtures, Fourier series up to an unknown frequency, Haar wavelets and monomials.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.bayes_icl.prequential import (
    Predictions,
    linear_predictions,
    mixture_predictions,
    process_predictions,
)
from theory.checks import matrix, positive, real, whole

MOST_SUBSETS = 200_000


def subsets(items: int, size: int) -> Int[np.ndarray, "C k"]:
    """All choices of so many of the items.

    C = C(items, size).

    Arguments:
        items: how many there are; size: k <= items, how many are chosen. Python ints.
    Returns:
        each choice in rising order, (C, k), in lexicographic order.
    Holds when: C is at most 200 000; beyond, a predictor needs a sample of them or an approximation.
    Source: a definition.
    """
    n, k = whole("items", items), whole("size", size)
    if k > n:
        raise ValueError(f"size must be at most the {n} items, got {k}")
    if math.comb(n, k) > MOST_SUBSETS:
        raise ValueError(f"size {k} of {n} items gives {math.comb(n, k)} subsets, more than {MOST_SUBSETS}")
    return np.array(list(itertools.combinations(range(n), k)), int).reshape(-1, k)


def subset_predictions(
    features: Real[ArrayLike, "n p"],
    chosen: Int[ArrayLike, "C k"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    prior_covariance: Real[ArrayLike, "..."] = 1.0,
    log_prior: Real[ArrayLike, " C"] | None = None,
) -> Predictions:
    """Every label from those before it, when one of several subsets of features is in use.

    p(w) = sum_c P(c) N(w_c; 0, Sigma) delta(all other weights).

    Arguments:
        features: Phi, (n, p); y: labels, (n,); noise: sigma^2 > 0, () or (n,).
        chosen: the features of each subset, (C, k), from 0 to p - 1.
        prior_covariance: Sigma of the weights in use, (), (k,) or (k, k).
        log_prior: of the subsets, up to a constant, (C,); uniform by default.
    Returns:
        `Predictions`, (n,) each.
    Holds when: sigma^2 > 0; costs C (n^2 k + n^3 / 3).
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891), for sparse, multi-set Fourier and monomial families.
    """
    phi, members = matrix("features", features), np.asarray(chosen)
    if members.ndim != 2 or not members.size or members.min() < 0 or members.max() >= phi.shape[1]:
        raise ValueError(f"chosen must be a matrix of numbers from 0 to {phi.shape[1] - 1}, got {chosen}")
    parts = jax.vmap(lambda own: linear_predictions(phi[:, own], y, noise, 0.0, prior_covariance))(members)
    return mixture_predictions(parts, log_prior)


def sparse_predictions(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    support: int,
    prior_variance: Real[ArrayLike, ""] = 1.0,
) -> Predictions:
    """Every label from those before it, for weights with a known number of entries that are not zero.

    w = tau (1 if i in S else 0) N(0, 1),   S uniform among all C(d, k) supports.

    Arguments:
        x: inputs, (n, d); y: labels, (n,); noise: sigma^2 > 0, () or (n,).
        support: k, a Python int from 1 to d; prior_variance: tau^2 >= 0 of an entry.
    Returns:
        `Predictions`, (n,) each: exact, by all supports; not linear in y.
    Holds when: C(d, k) <= 200 000. Without noise and with exact arithmetic a support is known after k + 1 pairs: no
        network of finite precision comes near that, so compare at a noise that it can see.
    Source: Garg et al. 2022 (arXiv:2208.01066); Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    inputs = matrix("x", x)
    return subset_predictions(inputs, subsets(inputs.shape[1], support), y, noise, prior_variance)


def gaussian_mixture_predictions(
    features: Real[ArrayLike, "n p"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    means: Real[ArrayLike, "C p"],
    covariances: Real[ArrayLike, "..."] = 1.0,
    log_prior: Real[ArrayLike, " C"] | None = None,
) -> Predictions:
    """Every label from those before it, for weights from a mixture of Gaussians.

    p(w) = sum_c P(c) N(w; m_c, Sigma_c).

    Arguments:
        features: Phi, (n, p); y: labels, (n,); noise: sigma^2 > 0, () or (n,).
        means: m_c, (C, p); covariances: of all components, (), (p,) or (p, p), or one for each, (C, p, p).
        log_prior: of the components, up to a constant, (C,); uniform by default.
    Returns:
        `Predictions`, (n,) each.
    Holds when: as `linear_predictions`; covariances may be singular.
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    centres, spread = matrix("means", means), real("covariances", covariances)
    if spread.ndim == 3 and spread.shape[0] != len(centres):
        raise ValueError(f"covariances must be one for each of the {len(centres)} components, got {spread.shape[0]}")
    of_each = jax.vmap(
        lambda mean, covariance: linear_predictions(features, y, noise, mean, covariance),
        in_axes=(0, 0 if spread.ndim == 3 else None),
    )
    return mixture_predictions(of_each(centres, spread), log_prior)


def fourier_features(
    x: Real[ArrayLike, " n"], highest: int, half_period: Real[ArrayLike, ""] = 1.0, intercept: bool = True
) -> Float[Array, "n p"]:
    """Cosines and sines up to a frequency.

    [1,] cos(pi k x / L), sin(pi k x / L),   k = 1 .. F.

    Arguments:
        x: inputs, (n,), any numbers; highest: F, a Python int >= 1; half_period: L > 0; intercept: whether the constant
        stands first.
    Returns:
        (n, 2 F) or (n, 2 F + 1), not normalised: cosine and sine of a frequency are neighbours.
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    phase = _vector(x)[:, None] * jnp.arange(1, whole("highest", highest) + 1) * jnp.pi
    phase = phase / positive("half_period", half_period)
    waves = jnp.stack([jnp.cos(phase), jnp.sin(phase)], axis=2).reshape(len(phase), -1)
    return jnp.concatenate([jnp.ones((len(phase), 1)), waves], axis=1) if intercept else waves


def fourier_mixture_predictions(
    x: Real[ArrayLike, " n"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    highest: int,
    half_period: Real[ArrayLike, ""] = 1.0,
    log_prior: Real[ArrayLike, " F"] | None = None,
) -> Predictions:
    """Every label from those before it, for Fourier series whose highest frequency is unknown.

    f(x) = sum_{k <= F} [a_k cos(pi k x / L) + b_k sin(pi k x / L)] / sqrt(F),   F from 1 to `highest`.

    Arguments:
        x: inputs, (n,); y: labels, (n,); noise: sigma^2 > 0, () or (n,); highest: a Python int >= 1;
        half_period: L > 0; log_prior: of F = 1, 2, .., up to a constant; uniform by default.
    Returns:
        `Predictions`, (n,) each.
    Holds when: a_k, b_k ~ N(0, 1); every F has the same prior variance, k_F(x, x) = 1.
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    waves = fourier_features(x, highest, half_period, intercept=False)
    pairs = waves.reshape(len(waves), highest, 2)
    of_frequency = jnp.einsum("nfi,mfi->fnm", pairs, pairs)
    kernels = jnp.cumsum(of_frequency, axis=0) / jnp.arange(1, highest + 1)[:, None, None]
    return mixture_predictions(jax.vmap(lambda k: process_predictions(k, y, noise))(kernels), log_prior)


def haar_features(x: Real[ArrayLike, " n"], levels: int, first: str = "constant") -> Float[Array, "n p"]:
    """Haar wavelets on [0, 1), with one more function before them.

    psi_{n,k}(x) = 2^{n/2} psi(2^n x - k),   psi = 1 on [0, 1/2), -1 on [1/2, 1),   n = 0 .. levels, k = 0 .. 2^n - 1.

    Arguments:
        x: inputs, (n,), in [0, 1); levels: the finest n, a Python int >= 0.
        first: "constant" for the function 1, which completes the basis, or "identity" for x, as in published code.
    Returns:
        (n, 2^{levels + 1}).
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    if first not in ("constant", "identity"):
        raise ValueError(f"first must be 'constant' or 'identity', got {first!r}")
    at = _vector(x)
    columns = [jnp.ones_like(at) if first == "constant" else at]
    for level in range(whole("levels", levels, at_least=0) + 1):
        place = at[:, None] * 2**level - jnp.arange(2**level)
        inside = (place >= 0) & (place < 1)
        columns += list((jnp.where(inside, jnp.where(place < 0.5, 1.0, -1.0), 0.0) * 2 ** (level / 2)).T)
    return jnp.stack(columns, axis=1)


def monomials(x: Real[ArrayLike, "n d"], factors: Int[ArrayLike, "p q"]) -> Float[Array, "n p"]:
    """Products of coordinates.

    phi_s(x) = prod_{i in s} x_i.

    Arguments:
        x: inputs, (n, d); factors: the coordinates of each product, (p, q), from 0 to d - 1; a coordinate may recur.
    Returns:
        (n, p), not normalised.
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    inputs, of_each = matrix("x", x), np.asarray(factors)
    if of_each.ndim != 2 or not of_each.size or of_each.min() < 0 or of_each.max() >= inputs.shape[1]:
        raise ValueError(f"factors must be a matrix of numbers from 0 to {inputs.shape[1] - 1}, got {factors}")
    return jnp.prod(inputs[:, of_each], axis=2)


def component_log_odds(
    features: Real[ArrayLike, "n p"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, ""],
    mean: Real[ArrayLike, " p"],
    covariance: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, ""]:
    """Which of two opposite Gaussians the weights are from, after the whole context.

    ln P(+ | y) / P(- | y) = 2 (Phi m)^T K^{-1} y,   K = Phi Sigma Phi^T + sigma^2 I.

    Arguments:
        features, y, noise: as for `gaussian_mixture_predictions`; mean: m, of the component +, (p,); the other's is -m.
        covariance: Sigma of both, (), (p,) or (p, p).
    Returns:
        log odds, from equal prior odds, ().
    Holds when: both covariances are equal: otherwise the evidences do not cancel.
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891), with the full evidence.
    """
    plus = linear_predictions(features, y, noise, mean, covariance)
    minus = linear_predictions(features, y, noise, -real("mean", mean), covariance)
    return jnp.sum(plus.log_density - minus.log_density)


def _vector(x):
    found = real("x", x)
    if found.ndim != 1:
        raise ValueError(f"x must be a vector of inputs, got shape {found.shape}")
    return found
