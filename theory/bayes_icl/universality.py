"""What a Bayesian mixture pays for not knowing the truth: the weight of the hypotheses around it, and nothing else.

A mixture q = sum_j w_j p_j^n predicts n independent observations of a truth p, which need not be among the p_j. With
K_j = KL(p || p_j) its expected log loss exceeds that of the truth by R_n,

    R_n <= -ln sum_j w_j exp(-n K_j) <= min over eps of n eps - ln w{j: K_j <= eps}.

The second is the description of the truth at resolution eps: hypotheses that a learner gives much weight, for whatever
reason, it learns from few observations. A context is such a sequence, and a network trained on many tasks such a
mixture. Everything is in nats.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp, xlogy
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, require, whole, within


def coin_divergences(truth: Real[ArrayLike, ""], coins: Real[ArrayLike, " C"]) -> Float[Array, " C"]:
    """K_j of coins with chances theta_j of a one, from one with chance theta.

    theta ln theta / theta_j + (1 - theta) ln (1 - theta) / (1 - theta_j).

    Arguments:
        truth: theta, in [0, 1].
        coins: theta_j, in [0, 1], (C,).
    Returns:
        divergences in nats, (C,), infinite where theta_j rules out what happens.
    Holds when: always.
    Source: a definition.
    """
    p, q = within("truth", truth, 0.0, 1.0), within("coins", coins, 0.0, 1.0)
    found = xlogy(p, p) - xlogy(p, q) + xlogy(1 - p, 1 - p) - xlogy(1 - p, 1 - q)
    return jnp.maximum(found, 0.0)


def mixture_regret_bound(
    divergences: Real[ArrayLike, " C"], n: Real[ArrayLike, "..."], log_prior: Real[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """The most that a mixture pays in n observations, from all hypotheses together.

    R_n <= -ln sum_j w_j exp(-n K_j).

    Arguments:
        divergences: K_j = KL(p || p_j) >= 0 of one observation, infinite allowed, (C,).
        n: observations, >= 0, of any shape.
        log_prior: ln w_j up to a constant, -inf for a hypothesis that is left out, (C,); uniform by default.
    Returns:
        the bound, of the shape of n; infinite if every hypothesis with a weight is infinitely far.
    Holds when: observations are independent given the hypothesis, and of the truth.
    Source: Jensen's inequality, derived in derivations/bayes_icl/universality.py; Barron 1998 for such bounds.
    """
    k, weight = _hypotheses(divergences, log_prior)
    n = non_negative("n", n)[..., None]
    # Without observations nothing is paid, however far a hypothesis is.
    paid = jnp.where(n > 0, n * jnp.where(jnp.isfinite(k), k, 0.0), 0.0)
    lost = (n > 0) & ~jnp.isfinite(k)
    return -_log_total(jnp.where(lost, -jnp.inf, weight - paid))


def hypothesis_log_weight(
    divergences: Real[ArrayLike, " C"], radius: Real[ArrayLike, "..."], log_prior: Real[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """The weight of a truth: that of all hypotheses which predict it as well, but for eps nats an observation.

    ln w{j: K_j <= eps}.

    Arguments:
        divergences: K_j >= 0, (C,).
        radius: eps >= 0, of any shape.
        log_prior: as for `mixture_regret_bound`.
    Returns:
        log weights, of the shape of eps; -inf for an empty ball.
    Holds when: always. A step function of eps.
    Source: a definition.
    """
    k, weight = _hypotheses(divergences, log_prior)
    radius = non_negative("radius", radius)[..., None]
    return _log_total(jnp.where(k <= radius, weight, -jnp.inf))


def resolvability(
    divergences: Real[ArrayLike, " C"], n: Real[ArrayLike, "..."], log_prior: Real[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """The most that a mixture pays, from the best single resolution.

    R_n <= min over eps of n eps - ln w{j: K_j <= eps}.

    Arguments: as for `mixture_regret_bound`.
    Returns:
        the bound, of the shape of n, not below `mixture_regret_bound`.
    Holds when: as `mixture_regret_bound`.
    Source: derived in derivations/bayes_icl/universality.py; Barron & Cover 1991 for the name.
    """
    k, weight = _hypotheses(divergences, log_prior)
    order = jnp.argsort(k)
    near, weight = k[order], weight[order]
    # The best radius is one at which a hypothesis comes in.
    total = jnp.logaddexp.accumulate(weight)
    paid = non_negative("n", n)[..., None] * jnp.where(jnp.isfinite(near), near, 0.0) - total
    return jnp.min(jnp.where(jnp.isfinite(near) & (total > -jnp.inf), paid, jnp.inf), axis=-1)


def coin_regret(
    truth: Real[ArrayLike, ""],
    coins: Real[ArrayLike, " C"],
    n: int,
    log_prior: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, ""]:
    """R_n of a mixture of coins, exactly: the mean over the number of ones.

    R_n = sum_k C(n, k) p(k) [ln p(k) - ln sum_j w_j p_j(k)],   p(k) = theta^k (1 - theta)^{n-k}.

    Arguments:
        truth: theta, in [0, 1].
        coins: theta_j, in [0, 1], (C,).
        n: observations, a Python int >= 0.
        log_prior: as for `mixture_regret_bound`.
    Returns:
        the expected regret in nats, (): at least 0, and at most -ln w_j if theta is one of the coins.
    Holds when: tosses are independent. Infinite if something that may happen is impossible under every coin.
    Source: a definition.
    """
    p, q = within("truth", truth, 0.0, 1.0), within("coins", coins, 0.0, 1.0)
    _, weight = _hypotheses(jnp.zeros_like(q), log_prior)
    many = whole("n", n, at_least=0)
    k = jnp.arange(many + 1, dtype=p.dtype)
    own = _log_sequence(k, many, p)
    ways = gammaln(many + 1.0) - gammaln(k + 1) - gammaln(many - k + 1)
    mixed = _log_total(_log_sequence(k[:, None], many, q) + weight)
    happens = own > -jnp.inf
    return jnp.sum(jnp.where(happens, jnp.exp(ways + own) * (jnp.where(happens, own, 0.0) - mixed), 0.0))


def _log_sequence(k, n, p):
    """Log probability of one sequence of k ones among n."""
    return xlogy(k, p) + xlogy(n - k, 1 - p)


def _log_total(x):
    """logsumexp over the last axis."""
    return logsumexp(x, axis=-1)


def _hypotheses(divergences, log_prior):
    """Divergences and normalised log weights, checked."""
    k = jnp.asarray(divergences, dtype=jnp.result_type(float, divergences))
    if k.ndim != 1 or not k.size:
        raise ValueError(f"divergences must hold a number for each hypothesis, got shape {k.shape}")
    k = require("divergences", k, k >= 0, "must not be negative or NaN")
    weight = jnp.zeros_like(k) if log_prior is None else jnp.asarray(log_prior, k.dtype)
    if weight.shape != k.shape:
        raise ValueError(f"log_prior must have shape {k.shape}, got {weight.shape}")
    weight = require("log_prior", weight, weight < jnp.inf, "must not be NaN or +inf")
    total = logsumexp(weight)
    return k, weight - require("log_prior", total, total > -jnp.inf, "must leave one hypothesis possible: its sum")
