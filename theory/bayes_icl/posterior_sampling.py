"""Bayes predictors without a closed form, by Hamiltonian Monte Carlo, and the gates that they must pass.

Sampling is for continuous posteriors with one mode, or with modes that the prediction does not tell apart: logistic
labels, Student-t noise, low-rank weights, a small network. Discrete or multimodal latents (supports, components,
frequencies, hidden states) are summed exactly elsewhere in this family. A sampled predictor is a reference only where
its chains agree, none diverged, and its own error is small beside the distance to be measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS, init_to_median

from theory.checks import non_negative, positive, real, whole

# Of the split chains; above these a posterior mean is not known to the error that is stated with it.
LARGEST_R_HAT = 1.01
FEWEST_SAMPLES = 400


class Sampled(NamedTuple):
    """Posterior means of some predictions, (..., m), and what is needed to trust them.

    `error` is the Monte Carlo standard error of each mean, `r_hat` of split chains and `ess`, the effective number of
    samples, are those of each prediction; `divergences` is the number of diverged transitions.
    """

    mean: Float[Array, "*batch m"]
    error: Float[Array, "*batch m"]
    r_hat: Float[Array, "*batch m"]
    ess: Float[Array, "*batch m"]
    divergences: Int[Array, "*batch"]


def logistic_model(x: Array, y: Array, seen: Array, queries: Array, scale: Any = 1.0) -> None:
    """P(y = 1 | x) = 1 / (1 + e^{-w . x}), w ~ N(0, scale^2 I); predicts P(y = 1) at the queries.

    Arguments: x (n, d), y of 0 and 1 (n,), seen (n,) bool, queries (m, d), scale > 0.
    Returns: None, a numpyro model whose site `prediction` is (m,).
    """
    w = numpyro.sample("w", dist.Normal(0.0, scale).expand([x.shape[1]]).to_event(1))
    with numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)
    numpyro.deterministic("prediction", jax.nn.sigmoid(queries @ w))


def student_model(
    x: Array, y: Array, seen: Array, queries: Array, scale: Any = 1.0, width: Any = 0.5, degrees: Any = 3.0
) -> None:
    """y = w . x + width t_degrees, w ~ N(0, scale^2 I): noise with heavy tails; predicts w . x at the queries.

    Arguments: x (n, d), y (n,), seen (n,) bool, queries (m, d); scale, width, degrees > 0.
    Returns: None, a numpyro model whose site `prediction` is (m,).
    """
    w = numpyro.sample("w", dist.Normal(0.0, scale).expand([x.shape[1]]).to_event(1))
    with numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.StudentT(degrees, x @ w, width), obs=y)
    numpyro.deterministic("prediction", queries @ w)


def low_rank_model(x: Array, y: Array, seen: Array, queries: Array, noise: Any = 0.1, rank: int = 1) -> None:
    """y = tr(X^T Z^T Z) + noise, Z (rank, m) of N(0, 1): weights of low rank, inputs (n, m, m) flattened to (n, m^2).

    Arguments: x (n, m^2), y (n,), seen (n,) bool, queries (q, m^2), noise a variance, rank a Python int.
    Returns: None, a numpyro model whose site `prediction` is (q,). Z and -Z predict alike, so that one mode is enough.
    """
    side = round(x.shape[1] ** 0.5)
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([rank, side]).to_event(2))
    w = (z.T @ z).reshape(-1)
    with numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(x @ w, jnp.sqrt(noise)), obs=y)
    numpyro.deterministic("prediction", queries @ w)


def network_model(x: Array, y: Array, seen: Array, queries: Array, noise: Any = 0.1, hidden: int = 8) -> None:
    """y = v . tanh(W x + b) / sqrt(hidden) + noise, all of N(0, 1): a small Bayesian network.

    Arguments: x (n, d), y (n,), seen (n,) bool, queries (m, d), noise a variance, hidden a Python int.
    Returns: None, a numpyro model whose site `prediction` is (m,). Only functions are identified, never weights.
    """
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([hidden, x.shape[1]]).to_event(2))
    b, v = (numpyro.sample(name, dist.Normal(0.0, 1.0).expand([hidden]).to_event(1)) for name in ("b", "v"))

    def function(points):
        return jnp.tanh(points @ w.T + b) @ v / hidden**0.5

    with numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(function(x), jnp.sqrt(noise)), obs=y)
    numpyro.deterministic("prediction", function(queries))


def sampled_predictions(
    model: Callable[..., None],
    key: Array,
    x: Real[ArrayLike, "*batch n d"],
    y: Real[ArrayLike, "*batch n"],
    queries: Real[ArrayLike, "*batch m d"],
    seen: Bool[ArrayLike, "*batch n"] | None = None,
    *,
    chains: int = 4,
    warmup: int = 500,
    samples: int = 1000,
    settings: Mapping[str, Any] | None = None,
) -> Sampled:
    """Posterior means of a model's predictions, by the No-U-Turn sampler, with what is needed to judge them.

    E[f(query) | D] ~ mean over samples,   error = sd / sqrt(ESS).

    Arguments:
        model: one of this file or your own, (x, y, seen, queries, **settings) on one context, with a site `prediction`.
        key: of JAX; x: inputs, (..., n, d); y: labels, (..., n); queries: (..., m, d): one context or a batch of them,
        sampled in one program.
        seen: whether a pair is in the context, (..., n); all by default: pad and mask, and one program serves every
        prefix.
        chains, warmup, samples: Python ints; samples of each chain. settings: of the model, numbers or Python ints.
    Returns:
        `Sampled`, (..., m) each.
    Holds when: `judged` lets it pass. Runs on the host: not inside `jit` or `vmap`.
    Source: Hoffman & Gelman 2014 (No-U-Turn); Vehtari et al. 2021 (split R-hat, effective sample size).
    """
    draws, diverged = prediction_draws(
        model, key, x, y, queries, seen, chains=chains, warmup=warmup, samples=samples, settings=settings
    )
    batched = np.moveaxis(np.asarray(draws), (-3, -2), (0, 1))
    ess, r_hat = effective_sample_size(batched), split_gelman_rubin(batched)
    mean, spread = batched.mean(axis=(0, 1)), batched.std(axis=(0, 1))
    parts = (mean, spread / np.sqrt(ess), r_hat, ess, diverged)
    return Sampled(*(jnp.asarray(part) for part in parts))


def prediction_draws(
    model: Callable[..., None],
    key: Array,
    x: Real[ArrayLike, "*batch n d"],
    y: Real[ArrayLike, "*batch n"],
    queries: Real[ArrayLike, "*batch m d"],
    seen: Bool[ArrayLike, "*batch n"] | None = None,
    *,
    chains: int = 4,
    warmup: int = 500,
    samples: int = 1000,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Float[Array, "*batch c s m"], Int[Array, "*batch"]]:
    """The samples behind `sampled_predictions`, and how many transitions diverged.

    f^{(s)}(query), s from the posterior.

    Arguments: as for `sampled_predictions`.
    Returns:
        predictions, (..., chains, samples, m), and divergences, (...).
    Holds when: as `sampled_predictions`.
    Source: Hoffman & Gelman 2014 (J. Mach. Learn. Res. 15).
    """
    inputs, targets, points = real("x", x), real("y", y), real("queries", queries)
    batch = inputs.shape[:-2]
    if targets.shape != inputs.shape[:-1] or points.shape[:-2] != batch or points.shape[-1] != inputs.shape[-1]:
        raise ValueError(f"x, y and queries must fit, got shapes {inputs.shape}, {targets.shape} and {points.shape}")
    given = jnp.ones(targets.shape, bool) if seen is None else jnp.asarray(seen, bool)
    if given.shape != targets.shape:
        raise ValueError(f"seen must have an entry for each label, {targets.shape}, got shape {given.shape}")
    counts = whole("chains", chains, at_least=2), whole("warmup", warmup), whole("samples", samples, at_least=4)
    chosen = settings or {}
    fixed = tuple(sorted((name, value) for name, value in chosen.items() if isinstance(value, int)))
    others = {name: jnp.asarray(value) for name, value in chosen.items() if not isinstance(value, int)}
    flat = (part.reshape(-1, *part.shape[len(batch) :]) for part in (inputs, targets, given, points))
    drawn, diverged = _drawn(model, *counts, fixed, key, *flat, others)
    return drawn.reshape(*batch, *drawn.shape[1:]), diverged.reshape(batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _drawn(model, chains, warmup, samples, fixed, key, x, y, seen, queries, others):
    """Predictions (P, chains, samples, m) and diverged transitions (P,): compiled once for each shape."""

    def chain(one, *context):
        kernel = NUTS(functools.partial(model, **dict(fixed)), init_strategy=init_to_median, max_tree_depth=7)
        sampler = MCMC(kernel, num_warmup=warmup, num_samples=samples, progress_bar=False)
        sampler.run(one, *context, extra_fields=("diverging",), **others)
        return sampler.get_samples()["prediction"], jnp.sum(sampler.get_extra_fields()["diverging"])

    keys = jax.random.split(key, (len(x), chains))
    of_context = jax.vmap(chain, in_axes=(0, None, None, None, None))
    drawn, diverged = jax.vmap(of_context)(keys, x, y, seen, queries)
    return drawn, jnp.sum(diverged, axis=1)


def failed_gates(found: Sampled | tuple, distance: Real[ArrayLike, ""] | None = None) -> tuple[str, ...]:
    """Why a sampled posterior must not serve as a Bayes reference; empty where it may.

    R-hat < 1.01, no divergence, ESS > 400, and the squared Monte Carlo error below a fifth of the distance.

    Arguments:
        found: `Sampled`; distance: the mean squared distance to it that is to be measured, in units of y squared.
    Returns:
        a sentence for each gate that fails.
    Source: Vehtari et al. 2021 (Bayesian Analysis 16).
    """
    sampled = Sampled(*found)
    r_hat, ess = float(jnp.max(sampled.r_hat)), float(jnp.min(sampled.ess))
    variance = float(jnp.mean(sampled.error**2))
    failed = []
    # Written so that a NaN fails.
    if not r_hat < LARGEST_R_HAT:
        failed.append(f"R-hat must be below {LARGEST_R_HAT}, got {r_hat:.4g}")
    if int(jnp.sum(sampled.divergences)):
        failed.append(f"divergences must be none, got {int(jnp.sum(sampled.divergences))}")
    if not ess > FEWEST_SAMPLES:
        failed.append(f"effective samples must be more than {FEWEST_SAMPLES}, got {ess:.4g}")
    if distance is not None and not variance < float(positive("distance", distance)) / 5:
        failed.append(f"squared Monte Carlo error must be below a fifth of the distance {distance}, got {variance:.3g}")
    return tuple(failed)


def judged(found: Sampled | tuple, distance: Real[ArrayLike, ""] | None = None) -> Sampled:
    """The same posterior, or a refusal that says which gates failed.

    Arguments and result: as for `failed_gates`; returns `found` as `Sampled`.
    Holds when: values are known: never inside `jit`.
    Source: as `failed_gates`.
    """
    failed = failed_gates(found, distance)
    if failed:
        raise ValueError("found must not be used as a Bayes reference: " + "; ".join(failed))
    return Sampled(*found)


def distance_to_bayes(
    predictions: Real[ArrayLike, "..."], means: Real[ArrayLike, "..."], errors: Real[ArrayLike, "..."]
) -> Float[Array, ""]:
    """Mean squared distance to a Bayes predictor that is known with an error only.

    E (g - f_B)^2 = E (g - fhat)^2 - E error^2.

    Arguments:
        predictions: g; means, errors: of `Sampled`, fhat and its standard errors; one shape.
    Returns:
        (), unbiased, so that it may be negative where g is the Bayes predictor.
    Holds when: errors are independent of g.
    Source: bias of a square.
    """
    g, reference = real("predictions", predictions), real("means", means)
    return jnp.mean((g - reference) ** 2) - jnp.mean(non_negative("errors", errors) ** 2)


def calibration_ranks(draws: Real[ArrayLike, "*batch L"], truth: Real[ArrayLike, "*batch"]) -> Int[Array, "*batch"]:
    """Rank of the truth among posterior draws: uniform on 0 .. L if the posterior is right.

    rank = #{l: theta_l < theta}.

    Arguments:
        draws: thinned, so that they are near independent, (..., L); truth: drawn from the prior, its data behind the
        draws, (...).
    Returns:
        (...), from 0 to L.
    Source: Talts et al. 2018 (arXiv:1804.06788), simulation-based calibration.
    """
    return jnp.sum(real("draws", draws) < real("truth", truth)[..., None], axis=-1)
