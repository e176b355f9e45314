"""The Bayes predictor of a Gaussian model at every prefix of a context, in one pass, and mixtures of such models.

A prompt holds pairs (x_0, y_0), (x_1, y_1), ...; position t asks for y_t from x_t and the pairs before it. For any
model that is Gaussian, y ~ N(mu, K) with K = Phi Sigma Phi^T + sigma^2 I, one Cholesky factor K = L L^T answers at all
positions: with z = L^{-1} (y - mu),

    y_t | past ~ N(mu_t + sum_{u < t} L_tu z_u, L_tt^2),
    log p(y_0 .. y_t) = -sum_{u <= t} [z_u^2 / 2 + log L_uu + log(2 pi) / 2].

Noise is a variance throughout, never a standard deviation.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import floating, matrix, positive, real, require, whole


class Predictions(NamedTuple):
    """Mean and variance of each y_t before it is seen, noise included, and then its log density; each (..., n).

    Under the model the standardised errors (y - mean) / sqrt(variance) are independent N(0, 1).
    """

    mean: Float[Array, "... n"]
    variance: Float[Array, "... n"]
    log_density: Float[Array, "... n"]

    @property
    def log_evidence(self) -> Float[Array, "... n"]:
        """log p(y_0 .. y_t), of all labels up to t."""
        return jnp.cumsum(self.log_density, axis=-1)


class Posterior(NamedTuple):
    """Of the weights after 0, 1, ..., n pairs: mean (n + 1, p) and covariance (n + 1, p, p); the prior comes first."""

    mean: Float[Array, "m p"]
    covariance: Float[Array, "m p p"]


def process_predictions(
    kernel: Real[ArrayLike, "n n"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    mean: Real[ArrayLike, "..."] = 0.0,
) -> Predictions:
    """Every label from those before it, for a Gaussian process with noise.

    y_t | y_0 .. y_{t-1} ~ N(mu_t + sum_{u < t} L_tu z_u, L_tt^2),   L L^T = K + sigma^2 I,   z = L^{-1} (y - mu).

    Arguments:
        kernel: K, covariance of the noiseless values, symmetric positive semidefinite, (n, n).
        y: labels, (n,).
        noise: sigma^2 > 0, one variance or one for each label, () or (n,).
        mean: mu, prior mean of the values, () or (n,).
    Returns:
        `Predictions`, (n,) each, in the order of the labels.
    Holds when: the noise is above the rounding of the kernel, n eps max K_tt (refused below), near which variances are
        known to one digit; they are good to about that rounding. Float32 carries noise down to about 1e-3.
    Source: standard Gaussian conditioning; Dawid 1984 (J. R. Stat. Soc. A 147) for the prequential reading.
    """
    k = matrix("kernel", kernel)
    targets = real("y", y)
    if k.shape[0] != k.shape[1] or targets.shape != (k.shape[0],):
        raise ValueError(f"kernel must be square with a row for each label of y, got {k.shape} and {targets.shape}")
    n = k.shape[0]
    spread = _visible(_noise(noise, n), jnp.max(jnp.diagonal(k), initial=0.0), n)
    factor = jnp.linalg.cholesky(k + jnp.diag(jnp.broadcast_to(spread, (n,))))
    scale = require(
        "kernel", jnp.diagonal(factor), jnp.isfinite(jnp.diagonal(factor)), "must be positive semidefinite: its pivot"
    )
    centre = real("mean", mean)
    z = jax.scipy.linalg.solve_triangular(factor, targets - centre, lower=True)
    # Not y_t - L_tt z_t, which is the same but for the rounding of y_t.
    return Predictions(centre + jnp.tril(factor, -1) @ z, scale**2, _log_normal(z) - jnp.log(scale))


def linear_predictions(
    features: Real[ArrayLike, "n p"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    prior_mean: Real[ArrayLike, "..."] = 0.0,
    prior_covariance: Real[ArrayLike, "..."] = 1.0,
) -> Predictions:
    """Every label from those before it, for y = Phi w + noise and Gaussian weights.

    K = Phi Sigma Phi^T,   mu = Phi m.

    Arguments:
        features: Phi, (n, p).
        y: labels, (n,).
        noise: sigma^2 > 0, () or (n,).
        prior_mean: m, of the weights, () or (p,).
        prior_covariance: Sigma, a variance (), variances (p,), or symmetric positive semidefinite (p, p).
    Returns:
        `Predictions`, (n,) each: the posterior mean of w, times the features, at every prefix; ridge regression with
        ridge sigma^2 / tau^2 for Sigma = tau^2 I and m = 0.
    Holds when: as `process_predictions`. From two pairs for each feature on this is `streaming_predictions`, which is
        then faster and no less exact, and costs n p^2; else one factor of the kernel, n^2 p + n^3 / 3. A gradient
        remembers n p^2 or n^2 numbers.
    Source: standard Gaussian conditioning.
    """
    phi, m, covariance = _model(features, prior_mean, prior_covariance)
    n, p = phi.shape
    if n < 2 * p:
        carried = phi @ covariance if covariance.ndim == 2 else phi * covariance
        return process_predictions(carried @ phi.T, y, noise, phi @ m)
    spread = _noise(noise, n)
    mean, variance, density = _stream(phi, y, spread, m, covariance)[0]
    must = "must be positive semidefinite: a variance that it leaves"
    variance = require("prior_covariance", variance, variance > 0, must)
    spread = _visible(spread, jnp.max(variance, initial=0.0), n)
    # Asked for the mean alone, a compiled program would leave the refusals out.
    return Predictions(jnp.where((variance > 0) & (spread > 0), mean, jnp.nan), variance, density)


def streaming_predictions(
    features: Real[ArrayLike, "n p"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    prior_mean: Real[ArrayLike, "..."] = 0.0,
    prior_covariance: Real[ArrayLike, "..."] = 1.0,
) -> Predictions:
    """The same as `linear_predictions`, one pair at a time: recursive least squares.

    f = phi^T C phi + sigma^2,   k = C phi / f,   w <- w + k (y - phi^T w),   C <- C - k k^T f.

    Arguments:
        features, y, noise, prior_mean, prior_covariance: as for `linear_predictions`.
    Returns:
        `Predictions`, (n,) each.
    Holds when: sigma^2 > 0. Costs n p^2 and memory p^2; with little noise nearer the truth than a factor of the kernel
        (3 to 100 times at noise 1e-3 to 1e-12 in float64), since C shrinks with the pairs and its rounding with it:
        variances are good to some eps max_t phi^T Sigma phi, however many the pairs.
    Source: Kalman 1960; Plackett 1950.
    """
    phi, m, covariance = _model(features, prior_mean, prior_covariance)
    return _stream(phi, y, _noise(noise, len(phi)), m, covariance)[0]


def weight_posteriors(
    features: Real[ArrayLike, "n p"],
    y: Real[ArrayLike, " n"],
    noise: Real[ArrayLike, "..."],
    prior_mean: Real[ArrayLike, "..."] = 0.0,
    prior_covariance: Real[ArrayLike, "..."] = 1.0,
) -> Posterior:
    """Mean and covariance of the weights after every prefix, the empty one included.

    C_t = (Sigma^{-1} + Phi_t^T Phi_t / sigma^2)^{-1},   w_t = C_t (Sigma^{-1} m + Phi_t^T y_t / sigma^2).

    Arguments:
        features, y, noise, prior_mean, prior_covariance: as for `linear_predictions`.
    Returns:
        `Posterior` of n + 1 rows; row t has seen the pairs 0 .. t - 1.
    Holds when: sigma^2 > 0.
    Source: standard Gaussian conditioning.
    """
    phi, m, covariance = _model(features, prior_mean, prior_covariance)
    return _stream(phi, y, _noise(noise, len(phi)), m, covariance, every=True)[1]


def normalised_log_prior(log_prior: Real[ArrayLike, " C"] | None, models: int) -> Float[Array, " C"]:
    """A prior over so many models, normalised.

    log P(c) - log sum_c P(c).

    Arguments:
        log_prior: up to a constant, -inf for a model that is left out, (C,), or None: uniform; models: C, a Python int.
    Returns:
        log probabilities, (C,).
    Source: a definition.
    """
    count = whole("models", models)
    if log_prior is None:
        return jnp.full(count, -jnp.log(float(count)))
    prior = floating("log_prior", log_prior)
    if prior.shape != (count,):
        raise ValueError(f"log_prior must have shape ({count},), got {prior.shape}")
    prior = require("log_prior", prior, prior < jnp.inf, "must not be NaN or +inf")
    total = jax.scipy.special.logsumexp(prior)
    return prior - require("log_prior", total, total > -jnp.inf, "must leave one model possible: the log of its sum")


def log_posterior(
    log_density: Real[ArrayLike, "C n"], log_prior: Real[ArrayLike, " C"] | None = None
) -> Float[Array, "C m"]:
    """Which of C models it is, before each observation and after the last.

    log P(c | y_0 .. y_{t-1}) = log P(c) + sum_{u < t} log p_c(y_u | past) - log sum over c of the same.

    Arguments:
        log_density: log p_c(y_t | past), -inf where c rules y_t out, (C, n).
        log_prior: up to a constant, -inf for a model that is left out, (C,); uniform by default.
    Returns:
        log probabilities, (C, n + 1): column t knows y_0 .. y_{t-1}, never y_t.
    Holds when: the models cannot all rule out the same observations (refused: nothing is left to believe).
    Source: Bayes' rule.
    """
    density = jnp.asarray(log_density)
    if density.ndim != 2:
        raise ValueError(f"log_density must have shape (C, n), got {density.shape}")
    density = require("log_density", density, density < jnp.inf, "must not be NaN or +inf")
    prior = normalised_log_prior(log_prior, len(density)).astype(density.dtype)
    before = jnp.pad(jnp.cumsum(density, axis=1), ((0, 0), (1, 0)))
    joint = prior[:, None] + before
    total = jax.scipy.special.logsumexp(joint, axis=0)
    possible = require("log_density", total, total > -jnp.inf, "is impossible under every model: its log evidence")
    return joint - possible


def mixture_predictions(parts: Predictions | tuple, log_prior: Real[ArrayLike, " C"] | None = None) -> Predictions:
    """The Bayes predictor when one of C models holds, from the predictions of each.

    m_t = sum_c P(c | past) m_{c,t},   v_t = sum_c P(c | past) (v_{c,t} + m_{c,t}^2) - m_t^2.

    Arguments:
        parts: `Predictions` of all models on the same labels, (C, n) each.
        log_prior: up to a constant, (C,); uniform by default.
    Returns:
        `Predictions`, (n,) each. The mixture is no longer Gaussian: its log density is that of the mixture.
    Holds when: as `log_posterior`.
    Source: Bayes' rule; in this use Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891).
    """
    # A model may hold what has come to be impossible: a log density of -infinity.
    means, variances, densities = parts
    means, variances, densities = real("parts.mean", means), real("parts.variance", variances), jnp.asarray(densities)
    if not means.shape == variances.shape == densities.shape or means.ndim != 2:
        raise ValueError(f"parts must be arrays of one shape (C, n), got {[jnp.shape(part) for part in parts]}")
    belief = log_posterior(densities, log_prior)[:, :-1]
    weight = jnp.exp(belief)
    mean = jnp.sum(weight * means, axis=0)
    # Spread about the common mean: a difference of squares would cancel.
    variance = jnp.sum(weight * (variances + (means - mean) ** 2), axis=0)
    return Predictions(mean, variance, jax.scipy.special.logsumexp(belief + densities, axis=0))


def _stream(phi, y, spread, m, covariance, every=False):
    """Predictions and, with `every`, posteriors after each pair, of checked arguments."""
    targets = real("y", y)
    n, p = phi.shape
    if targets.shape != (n,):
        raise ValueError(f"features must have a row for each label of y, got {phi.shape} and {targets.shape}")
    full = covariance if covariance.ndim == 2 else jnp.diag(jnp.broadcast_to(covariance, (p,)))
    parts = phi, targets, jnp.broadcast_to(spread, (n,)), m, full
    dtype = jnp.result_type(*parts)
    # A wide covariance costs the way to memory and back: three pairs share it. A narrow one is cheaper alone.
    together = 1 if every or p <= 16 else 3
    mean, variance, *beliefs = _recursion(*(part.astype(dtype) for part in parts), together, every)
    z = (targets - mean) / jnp.sqrt(variance)
    found = Predictions(mean, variance, _log_normal(z) - jnp.log(variance) / 2)
    return found, Posterior(*beliefs) if every else None


@partial(jax.jit, static_argnames=("together", "every"))
def _recursion(phi, targets, spread, m, covariance, together, every):
    """Recursive least squares: means and variances before each label, and beliefs if asked for."""
    n, blocks = len(phi), -(-len(phi) // together)

    def grouped(x, filler):
        """Blocks of so many pairs. What fills the last has no features, and teaches nothing."""
        padded = jnp.pad(x, ((0, blocks * together - n),) + ((0, 0),) * (x.ndim - 1), constant_values=filler)
        return padded.reshape(blocks, together, *x.shape[1:])

    def step(belief, block):
        w, c = belief
        rows, labels, noise = block
        seen, found = [], []
        for row, target, variance, gain, mean in zip(rows, labels, noise, rows @ c, rows @ w, strict=True):
            # C and w as they would be after the pairs of the same block.
            for other, total, error in seen:
                share = other @ row / total
                gain, mean = gain - share * other, mean + share * error
            total = row @ gain + variance
            seen.append((gain, total, target - mean))
            found.append((mean, total))
        for gain, total, error in seen:
            w, c = w + gain * (error / total), c - jnp.outer(gain, gain) / total
        mean, total = (jnp.stack(part) for part in zip(*found, strict=True))
        return (w, c), (mean, total, *((w, c) if every else ()))

    first = m, covariance
    _, (mean, total, *after) = jax.lax.scan(step, first, (grouped(phi, 0), grouped(targets, 0), grouped(spread, 1)))
    beliefs = (jnp.concatenate([start[None], later]) for start, later in zip(first, after, strict=False))
    return mean.reshape(-1)[:n], total.reshape(-1)[:n], *beliefs


def _model(features, prior_mean, prior_covariance):
    """Features, mean (p,) and covariance of the weights, checked; the covariance in the shape that it came in."""
    phi = matrix("features", features)
    p = phi.shape[1]
    m, covariance = real("prior_mean", prior_mean), real("prior_covariance", prior_covariance)
    if m.shape not in ((), (p,)):
        raise ValueError(f"prior_mean must have shape () or ({p},), got {m.shape}")
    if covariance.shape not in ((), (p,), (p, p)):
        raise ValueError(f"prior_covariance must have shape (), ({p},) or ({p}, {p}), got {covariance.shape}")
    diagonal = jnp.diagonal(covariance) if covariance.ndim == 2 else covariance
    diagonal = require("prior_covariance", diagonal, diagonal >= 0, "must have non-negative variances")
    return phi, jnp.broadcast_to(m, (p,)), covariance if covariance.ndim == 2 else diagonal


def _noise(noise, n):
    variance = positive("noise", noise)
    if variance.shape not in ((), (n,)):
        raise ValueError(f"noise must be one variance or one for each of the {n} labels, got shape {variance.shape}")
    return variance


def _visible(variance, largest, n):
    """The noise, if the rounding of n numbers up to the largest leaves it visible."""
    rounding = n * jnp.finfo(jnp.result_type(variance, largest)).eps * largest
    return require("noise", variance, variance >= rounding, "must be above the rounding of the kernel, n eps max K")


def _log_normal(z):
    return -(z**2 + jnp.log(2 * jnp.pi)) / 2
