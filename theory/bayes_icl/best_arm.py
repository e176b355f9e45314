"""Which arm of a bandit is best, given all that was seen: the answer of a network pretrained on optimal actions.

A network that is trained to name the best arm a* of fresh bandits from histories D comes, at the optimum of its
cross-entropy, to P(a* = a | D); to draw arms from that law is Thompson sampling. For independent posteriors of
densities f_a and distributions F_a,

    P(a best | D) = int f_a(x) prod_{b != a} F_b(x) dx,   E max | D = sum_a int x f_a(x) prod_{b != a} F_b(x) dx.

The integrals are taken panel by panel with Gauss's rule; the panels end at fixed deviations of every arm, so that one
may be a thousand times better known than another. Where F_b has no closed form, the same panels integrate f_b.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, logsumexp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.low_rank import cut_gaussian
from theory.checks import matrix, non_negative, positive, real, require

# Panels end at these standard deviations from the mean of every arm.
_LADDER = np.linspace(-9.0, 9.0, 13)
# Shares of a bounded interval, crowding at both of its ends, where panels end as well.
_CROWDED = 0.5 ** np.arange(1, 25)
# Angles that no panel goes across.
_EVEN = np.linspace(-np.pi, np.pi, 13)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class BestArm(NamedTuple):
    """The `probability` that each of K arms is the best, (K,), and the mean `value` of the best one, ()."""

    probability: Float[Array, " K"]
    value: Float[Array, ""]


def gaussian_best_arm(mean: Real[ArrayLike, " K"], variance: Real[ArrayLike, "..."]) -> BestArm:
    """The best of K arms with independent Gaussian posteriors N(m_a, s_a^2).

    P(a best) = int phi(z) prod_{b != a} Phi((m_a + s_a z - m_b) / s_b) dz.

    Arguments:
        mean: m, of the arms' mean rewards, (K,).
        variance: s^2 > 0, of the same, (K,): what is not known of the mean, not the noise of a reward.
    Returns:
        `BestArm`, of absolute error 1e-14, at any ratio of the variances. Probabilities sum to one.
    Holds when: posteriors are independent.
    Source: Thompson 1933; as the optimum of pretraining Lee et al. 2023 (arXiv:2306.14892).
    """
    m, s = real("mean", mean), jnp.sqrt(positive("variance", variance))
    _same("mean", m, "variance", s)
    return _gaussian(m, s)


@jax.jit
def _gaussian(m, s):
    x, weights = _panels(jnp.sort((m[:, None] + s[:, None] * _LADDER).ravel()))
    z = (x - m[:, None, None]) / s[:, None, None]
    below = log_ndtr(z)
    density = -(z**2) / 2 - jnp.log(s * jnp.sqrt(2 * jnp.pi))[:, None, None]
    # All the others' distributions, as a difference: none of them is zero.
    first = jnp.exp(density + jnp.sum(below, axis=0) - below) * weights
    return BestArm(jnp.sum(first, axis=(1, 2)), jnp.sum(first * x))


def uniform_best_arm(
    mean: Real[ArrayLike, " K"],
    precision: Real[ArrayLike, "..."],
    low: Real[ArrayLike, ""] = 0.0,
    high: Real[ArrayLike, ""] = 1.0,
) -> BestArm:
    """The best of K arms with Gaussian rewards whose means are, a priori, uniform on [low, high].

    f_a(x) = exp(-kappa_a (x - ybar_a)^2 / 2) / Z_a on [low, high]: a truncated Gaussian.

    Arguments:
        mean: ybar, mean reward seen of each arm, any number where none was seen, (K,).
        precision: kappa = n / sigma^2 >= 0, of n rewards with noise of variance sigma^2, (K,).
        low, high: where the prior ends, low < high.
    Returns:
        `BestArm`, of absolute error 1e-13. N(ybar, 1 / kappa) without the truncation is off by some 0.02.
    Holds when: the noise is Gaussian; seen means are at most about 1e6 of their deviations away from the interval.
    Source: Bayes' rule.
    """
    m, kappa = real("mean", mean), non_negative("precision", precision)
    _same("mean", m, "precision", kappa)
    low, high = real("low", low), real("high", high)
    return _uniform(m, kappa, low, require("high", high, high > low, "must be above low"))


@jax.jit
def _uniform(m, kappa, low, high):
    spread = 1 / jnp.sqrt(jnp.where(kappa > 0, kappa, 1.0))
    ladder = (m[:, None] + spread[:, None] * _LADDER).ravel()
    x, weights = _panels(_bounded(ladder, low, high))
    m, kappa = m[:, None, None], kappa[:, None, None]
    # (x - m)^2 - (nearest - m)^2, of two factors that do not cancel.
    nearest = jnp.clip(m, low, high)
    return _best(-kappa / 2 * (x - nearest) * (x + nearest - 2 * m), x, weights)


def beta_best_arm(alpha: Real[ArrayLike, " K"], beta: Real[ArrayLike, "..."]) -> BestArm:
    """The best of K arms with independent Beta posteriors: rewards are 0 or 1.

    f_a(p) = p^{alpha - 1} (1 - p)^{beta - 1} / B(alpha, beta).

    Arguments:
        alpha: successes seen, and those of the prior, >= 1/2, (K,); 1 + successes for a uniform prior.
        beta: failures, likewise, (K,).
    Returns:
        `BestArm`, of absolute error 1e-13.
    Holds when: posteriors are independent.
    Source: Thompson 1933.
    """
    a, b = positive("alpha", alpha), positive("beta", beta)
    a = require("alpha", a, a >= 0.5, "must be at least 1/2")
    b = require("beta", b, b >= 0.5, "must be at least 1/2")
    _same("alpha", a, "beta", b)
    return _beta(a, b)


@jax.jit
def _beta(a, b):
    # p = sin^2 of an angle whose posterior is as wide everywhere, 1 / (2 sqrt(alpha + beta)), and bounded.
    middle, spread = jnp.arctan2(jnp.sqrt(a), jnp.sqrt(b)), 0.5 / jnp.sqrt(a + b)
    ladder = (middle[:, None] + spread[:, None] * _LADDER).ravel()
    angle, weights = _panels(_bounded(ladder, 0.0, jnp.pi / 2))
    # Panels of no width lie at the very ends.
    eps = jnp.finfo(angle.dtype).eps
    angle = jnp.clip(angle, eps, jnp.pi / 2 - 2 * eps)
    a, b = a[:, None, None], b[:, None, None]
    top = jnp.arctan2(jnp.sqrt(a), jnp.sqrt(b))

    def log_density(angle):
        return (2 * a - 1) * jnp.log(jnp.sin(angle)) + (2 * b - 1) * jnp.log(jnp.cos(angle))

    return _best(log_density(angle) - log_density(top), jnp.sin(angle) ** 2, weights)


def hypotheses_best_arm(log_belief: Real[ArrayLike, " C"], means: Real[ArrayLike, "..."]) -> BestArm:
    """The best of K arms when one of C bandits is the true one: arms may tell about each other.

    P(a best) = sum_c P(c | D) 1[a = argmax_b mu_cb].

    Arguments:
        log_belief: log P(c | D) up to a constant, -inf where ruled out, (C,), from `prequential.log_posterior`.
        means: mu, mean reward of each arm in each bandit, (C, K).
    Returns:
        `BestArm`; arms that tie share.
    Holds when: the C bandits are all there are.
    Source: Bayes' rule.
    """
    belief, mu = jnp.asarray(log_belief), real("means", means)
    if mu.ndim != 2 or belief.shape != mu.shape[:1] or not mu.size:
        raise ValueError(f"means must hold a row for each of the beliefs, got {mu.shape} and {belief.shape}")
    belief = require("log_belief", belief, belief < jnp.inf, "must not be NaN or +inf")
    total = logsumexp(belief)
    weight = jnp.exp(belief - require("log_belief", total, total > -jnp.inf, "must leave one bandit possible: its sum"))
    best = mu == jnp.max(mu, axis=1, keepdims=True)
    share = best / jnp.sum(best, axis=1, keepdims=True)
    return BestArm(weight @ share, weight @ jnp.max(mu, axis=1))


def linear_best_arm(
    arms: Real[ArrayLike, "..."], mean: Real[ArrayLike, "..."], covariance: Real[ArrayLike, "..."]
) -> BestArm:
    """The best of K arms in the plane with mean rewards x_a . theta, theta ~ N(m, C): arms share what is known.

    P(a best) = int over the angles where x_a leads of int_0^inf r N(r (cos phi, sin phi); m, C) dr dphi.

    Arguments:
        arms: x_a, features, (K, 2).
        mean, covariance: m, (2,), and C, (2, 2), positive definite, as from `prequential.weight_posteriors`.
    Returns:
        `BestArm`, of absolute error 1e-13 + 1e-16 m^T C^{-1} m; arms of the same features share.
    Holds when: rewards are linear and the posterior of the weights is Gaussian.
    Source: Thompson 1933, for linear rewards Agrawal & Goyal 2013 (arXiv:1209.3352); derived in
        derivations/bayes_icl/best_arm.py.
    """
    x, m = matrix("arms", arms, columns=2), real("mean", mean)
    spread = matrix("covariance", covariance, 2, 2)
    if m.shape != (2,):
        raise ValueError(f"mean must be that of two weights, got shape {m.shape}")
    least = jnp.minimum(spread[0, 0], jnp.linalg.det(spread))
    least = require("covariance", least, least > 0, "must be positive definite: a minor")
    return _linear(x, m, jnp.where(least > 0, spread, jnp.nan))


@jax.jit
def _linear(x, m, covariance):
    # In coordinates where the posterior is round.
    root = jnp.linalg.cholesky(covariance)
    x, m = x @ root, jax.scipy.linalg.solve_triangular(root, m, lower=True)
    # Which arm leads depends on the angle alone, and changes where two of them tie.
    apart = (x[:, None] - x).reshape(-1, 2)
    ties = jnp.arctan2(apart[:, 0], -apart[:, 1])
    # Angles from that of the mean on, near which panels are as narrow as the posterior.
    fixed = jax.lax.stop_gradient(m)
    towards = jnp.arctan2(fixed[1], fixed[0])
    turned = (ties - towards + jnp.pi) % (2 * jnp.pi) - jnp.pi
    edges = jnp.concatenate([turned, _LADDER / jnp.sqrt(1 + fixed @ fixed), _EVEN])
    angle, weights = _panels(jnp.sort(jnp.clip(edges, -jnp.pi, jnp.pi)))
    u = jnp.stack([jnp.cos(angle + towards), jnp.sin(angle + towards)], axis=-1)
    # r exp(-|r u - m|^2 / 2) / (2 pi) over r > 0, at the angle of each node.
    cut = cut_gaussian(-u @ m)
    density = jnp.exp(cut.log_total - m @ m / 2) / (2 * jnp.pi) * weights
    worth = u @ x.T
    middle = worth[:, worth.shape[1] // 2]
    best = middle >= jnp.max(middle, axis=1, keepdims=True)
    share = best / jnp.sum(best, axis=1, keepdims=True)
    value = jnp.sum(density * cut.square * jnp.max(worth, axis=2))
    return BestArm(jnp.sum(density * cut.mean, axis=1) @ share, value)


def _panels(edges):
    """Nodes and weights of Gauss's rule on every panel between neighbouring edges, (panels, 16)."""
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return middle[:, None] + half[:, None] * _NODES, half[:, None] * _WEIGHTS


def _bounded(ladder, low, high):
    """Edges of panels on [low, high]: those of the ladder that lie there, and ever smaller ones at both ends."""
    size = high - low
    crowd = jnp.concatenate([low + size * _CROWDED, high - size * _CROWDED])
    return jnp.sort(jnp.clip(jnp.concatenate([ladder, crowd, jnp.stack([low, high])]), low, high))


def _running():
    """Integrals from the left end of a panel [-1, 1] to each node, from values at the nodes: exact for polynomials."""
    n = np.arange(len(_NODES))
    legendre = np.polynomial.legendre.legvander(_NODES, len(_NODES))
    # int P_n = (P_{n+1} - P_{n-1}) / (2 n + 1), from the left end on.
    before = np.concatenate([-np.ones((len(_NODES), 1)), legendre[:, : len(n) - 1]], axis=1)
    return (legendre[:, 1:] - before) @ (legendre[:, :-1] * _WEIGHTS[:, None]).T / 2


_RUNNING = _running()


def _best(log_density, x, weights):
    """The best arm from unnormalised densities at the nodes, (K, panels, 16), of a value x that grows with them."""
    density = jnp.exp(log_density)
    panels = jnp.sum(density * weights, axis=2)
    total = jnp.sum(panels, axis=1)[:, None, None]
    before = (jnp.cumsum(panels, axis=1) - panels)[:, :, None]
    half = jnp.sum(weights, axis=1)[:, None] / 2
    below = (before + half * (density @ _RUNNING.T)) / total
    arms = len(below)
    # All the others' distributions, each of which may be zero: no quotients.
    others = jnp.where(np.eye(arms, dtype=bool)[:, :, None, None], 1.0, below)
    first = density / total * jnp.prod(others, axis=1) * weights
    return BestArm(jnp.sum(first, axis=(1, 2)), jnp.sum(first * x))


def _same(name, x, other, y):
    """Both hold one number for each of at least one arm."""
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(f"{name} must hold a number for each arm, as {other} does, got {x.shape} and {y.shape}")
