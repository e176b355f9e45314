"""Which frequencies a predictor uses after how many examples: simplicity bias as a spectrum.

A predictor that does not know how many frequencies there are believes in few until it is shown more: it is the volume
of hypotheses, in the evidence, that prefers the smooth ones. The bias is in the prior, and vanishes with data.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.function_families import fourier_features
from theory.bayes_icl.prequential import linear_predictions, log_posterior, weight_posteriors
from theory.checks import real, require, whole


def fourier_energy(values: Real[ArrayLike, "*batch g"], highest: int) -> Float[Array, "*batch F"]:
    """Share of each frequency in a function on an even grid over one period.

    e_k = |DFT_k|^2 / sum_{j = 1 .. F} |DFT_j|^2.

    Arguments:
        values: f on g points, even over a period 2 L, the end left out, (..., g).
        highest: F, a Python int from 1 to below g / 2.
    Returns:
        shares that sum to one, (..., F), from frequency 1 on: the mean is left out.
    Holds when: f has energy in these frequencies (refused otherwise).
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    f = real("values", values)
    count = whole("highest", highest)
    if 2 * count >= f.shape[-1]:
        raise ValueError(f"highest must be below half of the {f.shape[-1]} points, got {count}")
    energy = jnp.abs(jnp.fft.rfft(f, axis=-1)[..., 1 : count + 1]) ** 2
    total = jnp.sum(energy, axis=-1, keepdims=True)
    return energy / require("values", total, total > 0, "must have energy in the frequencies asked for")


def mixture_spectrum(
    x: Real[ArrayLike, " n"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    highest: int,
    half_period: Real[ArrayLike, ""] = 1.0,
    log_prior: Real[ArrayLike, " F"] | None = None,
) -> Float[Array, "n F"]:
    """Spectrum of the Bayes predictor of `fourier_mixture_predictions` after each example.

    e_k ~ (sum_F P(F | D) E[a_k | F, D] / sqrt(F))^2 + the same of b_k.

    Arguments:
        x, y, noise, highest, half_period, log_prior: as for `fourier_mixture_predictions`.
    Returns:
        shares that sum to one, after 1, 2, .., n examples, (n, F). Before the first the predictor is zero.
    Holds when: labels are not all zero.
    Source: Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891), here without a grid.
    """
    waves = fourier_features(x, highest, half_period, intercept=False)
    frequency = jnp.repeat(jnp.arange(1, highest + 1), 2)

    def of_one(last):
        # Waves above the last are there, with features of zero, so that all models have one shape.
        used = waves * jnp.where(frequency <= last, last**-0.5, 0.0)
        evidence = linear_predictions(used, y, noise).log_density
        return weight_posteriors(used, y, noise).mean * last**-0.5, evidence

    means, evidence = jax.vmap(of_one)(jnp.arange(1.0, highest + 1))
    belief = jnp.exp(log_posterior(evidence, log_prior))
    mean = jnp.einsum("fm,fmp->mp", belief, means)[1:]
    energy = jnp.sum(mean.reshape(len(mean), highest, 2) ** 2, axis=2)
    total = jnp.sum(energy, axis=1, keepdims=True)
    return energy / require("y", total, total > 0, "must not be zero from the first label on: the predictor is then")


def first_spectrum(highest: int) -> Float[Array, " F"]:
    """Spectrum of the Bayes predictor after one example, whatever the example.

    e_k ~ (sum_{F = k}^{highest} 1 / F)^2.

    Arguments:
        highest: a Python int >= 1, all F up to it equally likely.
    Returns:
        shares that sum to one, (highest,): falling with frequency.
    Holds when: every F gives f(x) the same variance, so that one label says nothing on F.
    Source: derived in derivations/bayes_icl/simplicity_bias.py.
    """
    each = 1.0 / jnp.arange(1, whole("highest", highest) + 1)
    energy = jnp.cumsum(each[::-1])[::-1] ** 2
    return energy / jnp.sum(energy)
