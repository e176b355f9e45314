"""Bandits from the outside and the inside: beliefs, indices, the exact Bayes regret of any policy, and bounds on it.

K arms, T rounds. The Bayes regret of a policy is the mean of sum_t (mu_{a*} - mu_{a_t}) over bandits drawn from the
prior as well as over rewards: what a network pretrained on that prior pays when it acts. For rewards 0 and 1 and Beta
priors the history matters through counts of successes and failures alone; their law under any policy is a forward
recursion, with no sampling,

    P_{t+1}(n) = sum over arms and rewards of P_t(n - e_{a,r}) pi(a | n - e_{a,r}) P(r | n - e_{a,r}),
    r_t = E max_a mu_a - sum_n P_t(n) sum_a pi(a | n) m_a(n).

Thompson sampling draws from P(a best | n) of `theory.bayes_icl.best_arm`. Logarithms are natural: entropies in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri, xlogy
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.best_arm import beta_best_arm
from theory.bayes_icl.prequential import weight_posteriors
from theory.checks import matrix, non_negative, positive, real, require, whole, within

# The prior of a mean reward of which nothing is known: Beta(1, 1).
UNIFORM = np.ones(2)


class GaussianArms(NamedTuple):
    """Independent posteriors of the arms' mean rewards: mean (K,) and variance (K,)."""

    mean: Float[Array, " K"]
    variance: Float[Array, " K"]


class Potential(NamedTuple):
    """Of n chosen actions x_t: `widths` x_t^T V_{t-1}^{-1} x_t, (n,); `log_det` = ln det V_n / lambda^d, ()."""

    widths: Float[Array, " n"]
    log_det: Float[Array, ""]


def gaussian_arms(
    counts: Real[ArrayLike, " K"],
    sums: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, ""],
    prior_mean: Real[ArrayLike, "..."] = 0.0,
    prior_variance: Real[ArrayLike, "..."] = 1.0,
) -> GaussianArms:
    """What is known of arms with Gaussian rewards and Gaussian priors.

    1 / v = 1 / v_0 + n / sigma^2,   m = v (m_0 / v_0 + S / sigma^2).

    Arguments:
        counts: n >= 0, pulls of each arm, (K,).
        sums: S, of the rewards of each arm, (K,).
        noise: sigma^2 > 0, variance of a reward about its mean.
        prior_mean, prior_variance: m_0 and v_0 > 0, () or (K,).
    Returns:
        `GaussianArms`; the prior for n = 0.
    Holds when: arms are independent. For arms that share weights, x_a . theta, see `prequential.weight_posteriors`.
    Source: standard Gaussian conditioning.
    """
    n, s2, v0 = non_negative("counts", counts), positive("noise", noise), positive("prior_variance", prior_variance)
    total = real("sums", sums)
    if n.ndim != 1 or total.shape != n.shape:
        raise ValueError(f"sums must hold a number for each arm, as counts does, got {total.shape} and {n.shape}")
    variance = s2 * v0 / (s2 + n * v0)
    return GaussianArms(variance * (real("prior_mean", prior_mean) / v0 + total / s2), variance)


def ucb_index(
    mean: Real[ArrayLike, "..."],
    counts: Real[ArrayLike, "..."],
    t: Real[ArrayLike, "..."],
    scale: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "..."]:
    """What an arm may be worth with confidence: UCB1.

    ybar + c sqrt(2 ln t / n).

    Arguments, which broadcast:
        mean: ybar, mean reward seen of the arm, any number where there was none.
        counts: n >= 0, its pulls.
        t: rounds so far, >= 1.
        scale: c; 1 for rewards in [0, 1] (with a confidence of 1 - t^-4), the sub-Gaussian deviation sigma for 1 - 1/t.
    Returns:
        the index; infinite for n = 0, so that every arm is pulled once.
    Holds when: always.
    Source: Auer, Cesa-Bianchi & Fischer 2002 (Mach. Learn. 47), fig. 1.
    """
    n, t = non_negative("counts", counts), real("t", t)
    t = require("t", t, t >= 1, "must be at least 1")
    width = non_negative("scale", scale) * jnp.sqrt(2 * jnp.log(t) / jnp.where(n > 0, n, 1.0))
    return jnp.where(n > 0, real("mean", mean) + width, jnp.inf)


def bayes_ucb_index(
    mean: Real[ArrayLike, "..."], variance: Real[ArrayLike, "..."], t: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The quantile 1 - 1/t of a Gaussian posterior.

    m + s Phi^{-1}(1 - 1/t).

    Arguments, which broadcast:
        mean, variance: m and s^2 > 0 of the posterior.
        t: rounds so far, > 1; the posterior mean, greedy, at t = 2.
    Returns:
        the index.
    Holds when: the posterior is Gaussian.
    Source: Kaufmann, Cappe & Garivier 2012 (AISTATS), without the power of ln T.
    """
    t = real("t", t)
    t = require("t", t, t > 1, "must be above 1")
    return real("mean", mean) - jnp.sqrt(positive("variance", variance)) * ndtri(1 / t)


def elliptical_potential(actions: Real[ArrayLike, "n d"], ridge: Real[ArrayLike, ""]) -> Potential:
    """How far each chosen action was from those before it, and all they span together.

    V_t = lambda I + sum_{u <= t} x_u x_u^T,   ln det V_n / lambda^d = sum_t ln(1 + x_t^T V_{t-1}^{-1} x_t).

    Arguments:
        actions: x_t, those that were chosen, in order, (n, d).
        ridge: lambda > 0.
    Returns:
        `Potential`. sum_t min(1, width_t) <= 2 log_det, and log_det <= d ln(1 + n / (d lambda)) for |x| <= 1.
    Holds when: always.
    Source: Abbasi-Yadkori, Pal & Szepesvari 2011 (NeurIPS), lemma 11.
    """
    x, ridge = matrix("actions", actions), positive("ridge", ridge)
    before = weight_posteriors(x, jnp.zeros(len(x), x.dtype), 1.0, 0.0, 1 / ridge).covariance[:-1]
    widths = jnp.einsum("nd,nde,ne->n", x, before, x)
    return Potential(widths, jnp.sum(jnp.log1p(widths)))


def confidence_radius(
    log_det: Real[ArrayLike, "..."],
    ridge: Real[ArrayLike, ""],
    deviation: Real[ArrayLike, ""],
    failure: Real[ArrayLike, ""],
    size: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "..."]:
    """How far ridge regression may be from the truth at all times, but for a chance delta.

    |theta_hat - theta|_V <= beta = sigma sqrt(2 ln(1/delta) + ln det V / lambda^d) + sqrt(lambda) S.

    Arguments:
        log_det: ln det V / lambda^d >= 0, of `elliptical_potential`.
        ridge: lambda > 0.
        deviation: sigma >= 0, of sub-Gaussian noise: a standard deviation.
        failure: delta, in (0, 1].
        size: S >= |theta|.
    Returns:
        beta, of the shape of log_det.
    Holds when: noise is conditionally sigma-sub-Gaussian.
    Source: Abbasi-Yadkori, Pal & Szepesvari 2011 (NeurIPS), theorem 2.
    """
    failure = within("failure", failure, 0.0, 1.0)
    failure = require("failure", failure, failure > 0, "must be positive")
    sigma, norm = non_negative("deviation", deviation), non_negative("size", size)
    spread = jnp.sqrt(2 * jnp.log(1 / failure) + non_negative("log_det", log_det))
    return sigma * spread + jnp.sqrt(positive("ridge", ridge)) * norm


def linucb_index(
    arms: Real[ArrayLike, "K d"],
    actions: Real[ArrayLike, "..."],
    rewards: Real[ArrayLike, " n"],
    ridge: Real[ArrayLike, ""],
    radius: Real[ArrayLike, ""],
) -> Float[Array, " K"]:
    """What an arm with features x may be worth, rewards being linear: LinUCB.

    x . theta_hat + beta sqrt(x^T V^{-1} x),   theta_hat = V^{-1} sum x_u r_u,   V = lambda I + sum x_u x_u^T.

    Arguments:
        arms: x, features of the arms, (K, d).
        actions, rewards: x_u, (n, d), and r_u, (n,), seen so far; n may be 0.
        ridge: lambda > 0.
        radius: beta >= 0, of `confidence_radius`; 0: greedy.
    Returns:
        the indices, (K,).
    Holds when: always.
    Source: Li et al. 2010 (arXiv:1003.0146); Abbasi-Yadkori, Pal & Szepesvari 2011 (NeurIPS).
    """
    x = matrix("arms", arms)
    seen = matrix("actions", actions, columns=x.shape[1])
    ridge, radius = positive("ridge", ridge), non_negative("radius", radius)
    # V^{-1} is the covariance of weights of prior variance 1 / lambda under noise of variance 1.
    belief = weight_posteriors(seen, rewards, 1.0, 0.0, 1 / ridge)
    mean, covariance = belief.mean[-1], belief.covariance[-1]
    return x @ mean + radius * jnp.sqrt(jnp.einsum("kd,de,ke->k", x, covariance, x))


def best_arm_entropy(probability: Real[ArrayLike, "... K"]) -> Float[Array, "..."]:
    """H(a*) in nats, of probabilities (..., K) that each arm is the best.

    - sum_a p_a ln p_a.

    Arguments:
        probability: p, in [0, 1], summing to one.
    Returns:
        the entropy, (...), finite where some p = 0; ln K at most.
    Holds when: always.
    Source: a definition.
    """
    p = within("probability", probability, 0.0, 1.0)
    return -jnp.sum(xlogy(p, jnp.where(p > 0, p, 1.0)), axis=-1)


def thompson_regret_bound(
    entropy: Real[ArrayLike, "..."],
    dimension: Real[ArrayLike, "..."],
    rounds: Real[ArrayLike, "..."],
    proxy: Real[ArrayLike, "..."] = 0.25,
) -> Float[Array, "..."]:
    """What Thompson sampling pays at most.

    Bayes regret <= sqrt(2 sigma^2 K H(a*) T).

    Arguments, which broadcast:
        entropy: H(a*) >= 0 under the prior, in nats.
        dimension: K arms, or the dimension d of linear rewards.
        rounds: T >= 0.
        proxy: sigma^2 > 0: rewards given the history are sigma-sub-Gaussian: 1/4 in [0, 1]; prior variance and noise
            variance together for Gaussian arms.
    Returns:
        the bound on the sum of all regrets, loose by an order of magnitude as a rule.
    Holds when: the prior is the one that bandits are drawn from.
    Source: Russo & Van Roy 2016 (arXiv:1403.5341), propositions 1, 3 and 5.
    """
    factors = non_negative("entropy", entropy) * positive("dimension", dimension) * non_negative("rounds", rounds)
    return jnp.sqrt(2 * positive("proxy", proxy) * factors)


def linucb_regret_bound(
    radius: Real[ArrayLike, "..."], log_det: Real[ArrayLike, "..."], rounds: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """What LinUCB pays at most while its confidence sets hold.

    Regret <= 2 max(beta_T, 1) sqrt(2 T ln det V_T / lambda^d).

    Arguments, which broadcast:
        radius: beta_T >= 0 of the last round, the largest.
        log_det: ln det V_T / lambda^d >= 0.
        rounds: T >= 0.
    Returns:
        the bound.
    Holds when: mean rewards are in [-1, 1]; with probability 1 - delta.
    Source: Abbasi-Yadkori, Pal & Szepesvari 2011 (NeurIPS), theorem 3.
    """
    beta = jnp.maximum(non_negative("radius", radius), 1.0)
    return 2 * beta * jnp.sqrt(2 * non_negative("rounds", rounds) * non_negative("log_det", log_det))


def histories(rounds: int, arms: int) -> np.ndarray:
    """All that K arms can have shown before the last of T rounds: successes and failures of each.

    (s_1, f_1, ..., s_K, f_K) with a sum of at most T - 1.

    Arguments:
        rounds: T, a Python int.
        arms: K, a Python int.
    Returns:
        whole numbers, (states, 2 K): C(T - 1 + 2 K, 2 K) of them.
    Holds when: rewards are 0 or 1.
    Source: a definition.
    """
    rounds, arms = whole("rounds", rounds), whole("arms", arms)
    grid = np.stack(np.meshgrid(*[np.arange(rounds)] * (2 * arms), indexing="ij"), axis=-1).reshape(-1, 2 * arms)
    return grid[grid.sum(axis=1) < rounds]


def thompson_policy(rounds: int, arms: int, prior: Real[ArrayLike, " two"] = UNIFORM) -> Float[Array, "..."]:
    """Thompson sampling of arms with rewards 0 and 1, at every history: P(a best | n).

    Arguments:
        rounds: T, a Python int.
        arms: K, a Python int.
        prior: (alpha, beta) >= 1/2 of every arm; (1, 1): uniform.
    Returns:
        pi(a | n) at [s_1, f_1, ..., s_K, f_K, a], (T, ..., T, K), zero where no T rounds lead.
    Holds when: T^(2 K) numbers fit into memory: two or three arms.
    Source: Thompson 1933.
    """
    states, prior = histories(rounds, arms), _prior(prior)
    counts = jnp.asarray(states.reshape(-1, arms, 2)) + prior
    return jnp.zeros((rounds,) * (2 * arms) + (arms,)).at[tuple(states.T)].set(_chances(counts))


def greedy_policy(rounds: int, arms: int, prior: Real[ArrayLike, " two"] = UNIFORM) -> Float[Array, "..."]:
    """The arm of the largest posterior mean at every history; arms that tie share.

    1[m_a = max_b m_b],   m = (alpha + s) / (alpha + beta + s + f).

    Arguments: as for `thompson_policy`.
    Returns:
        as for `thompson_policy`.
    Holds when: as for `thompson_policy`.
    Source: a definition.
    """
    states, prior = histories(rounds, arms), _prior(prior)
    counts = states.reshape(-1, arms, 2) + prior
    # Ties, exactly, whatever the rounding.
    mean = counts[:, :, 0] / jnp.sum(counts, axis=2)
    best = mean >= jnp.max(mean, axis=1, keepdims=True) * (1 - 64 * jnp.finfo(mean.dtype).eps)
    share = best / jnp.sum(best, axis=1, keepdims=True)
    return jnp.zeros((rounds,) * (2 * arms) + (arms,)).at[tuple(states.T)].set(share)


def bayes_regret(policy: Real[ArrayLike, "..."], prior: Real[ArrayLike, " two"] = UNIFORM) -> Float[Array, " T"]:
    """Mean regret of each round, over bandits of the prior: exactly, for any policy of the counts.

    r_t = E max_a mu_a - sum_n P_t(n) sum_a pi(a | n) (alpha + s_a) / (alpha + beta + s_a + f_a).

    Arguments:
        policy: pi(a | n) at [s_1, f_1, ..., s_K, f_K, a], (T, ..., T, K), as from `thompson_policy`.
        prior: (alpha, beta) >= 1/2 of every arm.
    Returns:
        r_t >= 0, (T,); the Bayes regret is its sum.
    Holds when: rewards are 0 or 1, arms independent.
    Source: derived in derivations/bayes_icl/bandits.py.
    """
    pi, prior = within("policy", policy, 0.0, 1.0), _prior(prior)
    arms, rounds = pi.shape[-1], pi.shape[0]
    if pi.ndim != 2 * arms + 1 or set(pi.shape[:-1]) != {rounds}:
        raise ValueError(f"policy must have two axes of T for each of its K arms and one of K, got shape {pi.shape}")
    return _regret(pi, prior, beta_best_arm(*(jnp.full(arms, x) for x in prior)).value)


@jax.jit
def _regret(pi, prior, best):
    arms, rounds = pi.shape[-1], pi.shape[0]
    seen = jnp.arange(rounds, dtype=pi.dtype)
    mean = (prior[0] + seen[:, None]) / (jnp.sum(prior) + seen[:, None] + seen)
    means = [mean.reshape((1,) * (2 * a) + (rounds,) * 2 + (1,) * (2 * (arms - a - 1))) for a in range(arms)]

    def after(law, _):
        earned, moved = 0.0, jnp.zeros_like(law)
        for a in range(arms):
            won, lost = law * pi[..., a] * means[a], law * pi[..., a] * (1 - means[a])
            earned = earned + jnp.sum(won)
            # Nothing is at the last count before the last round: nothing comes round.
            moved = moved + jnp.roll(won, 1, axis=2 * a) + jnp.roll(lost, 1, axis=2 * a + 1)
        return moved, best - earned

    start = jnp.zeros(pi.shape[:-1], pi.dtype).at[(0,) * (2 * arms)].set(1.0)
    return jax.lax.scan(after, start, length=rounds)[1]


@jax.jit
def _chances(counts):
    """P(a best) at every history; by groups, since the panels of all at once would not fit."""
    return jax.lax.map(lambda n: beta_best_arm(n[:, 0], n[:, 1]).probability, counts, batch_size=64)


def _prior(prior):
    """(alpha, beta) of every arm."""
    prior = positive("prior", prior)
    if prior.shape != (2,):
        raise ValueError(f"prior must be (alpha, beta), got shape {prior.shape}")
    return require("prior", prior, prior >= 0.5, "must be at least 1/2")
