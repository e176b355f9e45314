"""Memorise the pool or learn the rule: a network in training as a Bayesian who weighs two strategies.

A strategy Q predicts; it costs L(Q) on the training data and K(Q) bits to write down. After N steps of training its
log posterior is

    ln P(Q | N) = -ln 2 K(Q)^beta - gamma N^{1 - alpha} L(Q) + const,

a simplicity prior against evidence that grows more slowly than the data. What the network says is the mixture of what
the strategies say. A predictor that holds a table of M tasks loses less and costs more bits than one that holds only
their prior: the network generalises first and memorises from a step N* on, the later the larger the table.

`beta` discounts complexity, `alpha` and `gamma` say how fast and how steeply a network takes its losses to heart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.scipy.special import xlogy
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, within

# Where searches for the three parameters begin: all combinations.
STARTS = {"alpha": (0.2, 0.5, 0.8), "beta": (0.1, 0.4, 0.8)}


class Strategy(NamedTuple):
    """What a way to predict costs: mean `loss` in training, nats, and `bits` to write it down; both broadcast."""

    loss: Real[ArrayLike, "..."]
    bits: Real[ArrayLike, "..."]


class Learner(NamedTuple):
    """The three parameters of a network in training: 0 <= `alpha` < 1, `beta` > 0, `gamma` > 0."""

    alpha: Real[ArrayLike, ""]
    beta: Real[ArrayLike, ""]
    gamma: Real[ArrayLike, ""]


class Fit(NamedTuple):
    """A learner, and the root mean square of what it leaves of the weights that it was fitted to."""

    learner: Learner
    residual: Float[Array, ""]


def strategy_log_posterior(
    steps: Real[ArrayLike, "..."], loss: Real[ArrayLike, "..."], bits: Real[ArrayLike, "..."], learner: Learner | tuple
) -> Float[Array, "... Q"]:
    """How much a network believes in each of Q strategies.

    ln P(Q | N) = -ln 2 K_Q^beta - gamma N^{1 - alpha} L_Q - ln sum over Q of the same.

    Arguments:
        steps: N >= 0, of training, (...).
        loss: L, nats, any number: what all strategies share drops out, (Q,).
        bits: K >= 0, (Q,).
        learner: alpha, beta, gamma.
    Returns:
        log probabilities, (..., Q); at N = 0 the prior 2^{-K^beta}, for N -> infinity all on the smallest loss.
    Holds when: the strategies are all that the network can become.
    Source: Wurgaft et al. 2025 (arXiv:2506.17859).
    """
    n, alpha, beta, gamma = _learning(steps, learner)
    lost, k = real("loss", loss), non_negative("bits", bits)
    if lost.ndim != 1 or k.shape != lost.shape:
        raise ValueError(f"loss and bits must be two vectors of one length, got shapes {lost.shape} and {k.shape}")
    k = require("bits", k, jnp.isfinite(k**beta), "must be finite to the power beta")
    return _log_posterior(n, lost, k, alpha, beta, gamma)


def log_odds(
    steps: Real[ArrayLike, "..."],
    memorising: Strategy | tuple,
    generalising: Strategy | tuple,
    learner: Learner | tuple,
) -> Float[Array, "..."]:
    """ln of how much more a network believes in memorising than in generalising.

    eta = -ln 2 (K_M^beta - K_G^beta) - gamma N^{1 - alpha} (L_M - L_G).

    Arguments, which broadcast:
        steps: N >= 0, of training.
        memorising, generalising: (loss, bits) each.
        learner: alpha, beta, gamma, one of each.
    Returns:
        eta, of the broadcast shape; swapping the strategies changes its sign.
    Holds when: as `strategy_log_posterior`.
    Source: Wurgaft et al. 2025 (arXiv:2506.17859).
    """
    n, alpha, beta, gamma = _learning(steps, learner)
    (lm, km), (lg, kg) = _strategy(memorising), _strategy(generalising)
    beta = require("beta", beta, jnp.isfinite(jnp.maximum(km, kg) ** beta), "must leave bits^beta finite")
    return _log_odds(n, km, kg, lg - lm, alpha, beta, gamma)


def memoriser_weight(
    steps: Real[ArrayLike, "..."],
    memorising: Strategy | tuple,
    generalising: Strategy | tuple,
    learner: Learner | tuple,
) -> Float[Array, "..."]:
    """Share of the memorising strategy in what a network says.

    w = sigma(eta) = 1 / (1 + e^{-eta}).

    Arguments: as for `log_odds`.
    Returns:
        w in [0, 1], of the broadcast shape: rising in N where memorising loses less, falling in its bits.
    Holds when: as `strategy_log_posterior`.
    Source: Wurgaft et al. 2025 (arXiv:2506.17859).
    """
    return jax.nn.sigmoid(log_odds(steps, memorising, generalising, learner))


def crossing_step(
    memorising: Strategy | tuple, generalising: Strategy | tuple, learner: Learner | tuple
) -> Float[Array, "..."]:
    """Step of training at which memorising takes over from generalising.

    N* = [ln 2 (K_M^beta - K_G^beta) / (gamma (L_G - L_M))]^{1 / (1 - alpha)}.

    Arguments: as for `log_odds`.
    Returns:
        N*, of the broadcast shape; 0 where memorising is believed from the start and loses no more, infinity where it
        costs more bits and does not lose less.
    Holds when: memorising loses less; where it loses more and is believed at first, N* is when it is given up.
    Source: Wurgaft et al. 2025 (arXiv:2506.17859).
    """
    _, alpha, beta, gamma = _learning(1.0, learner)
    return _crossing(*_strategy(memorising), *_strategy(generalising), alpha, beta, gamma)


def relative_distance(
    to_memorising: Real[ArrayLike, "..."], to_generalising: Real[ArrayLike, "..."], between: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Where a network stands between its two strategies, from distances alone: 1 memorises, -1 generalises.

    r = clip((d_G - d_M) / d_MG, -1, 1),   w = (r + 1) / 2.

    Arguments, which broadcast:
        to_memorising, to_generalising: d_M and d_G >= 0, of the network; between: d_MG > 0, of the two strategies.
    Returns:
        r in [-1, 1], of the broadcast shape.
    Holds when: the network lies between both. For squared distances (r + 1) / 2 is the weight of a mixture exactly; for
        relative entropies of strategies that differ little it is so to leading order.
    Source: Wurgaft et al. 2025 (arXiv:2506.17859).
    """
    m, g = non_negative("to_memorising", to_memorising), non_negative("to_generalising", to_generalising)
    return jnp.clip((g - m) / positive("between", between), -1.0, 1.0)


def symmetric_divergence(log_p: Real[ArrayLike, "..."], log_q: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Relative entropy both ways, halved: the distance of two predictors of symbols.

    sum_j (p_j - q_j) (ln p_j - ln q_j) / 2.

    Arguments: log_p, log_q: log probabilities on the last axis, -inf at most where both are, (..., K), which broadcast.
    Returns: nats, (...), >= 0.
    Holds when: both give chance to the same symbols (infinite otherwise).
    Source: Jeffreys 1946.
    """
    p, q = (jnp.asarray(x, jnp.result_type(float)) for x in (log_p, log_q))
    p, q = (require(name, x, x < jnp.inf, "must not be NaN or +inf") for name, x in (("log_p", p), ("log_q", q)))
    apart = jnp.where(p == q, 0.0, p - jnp.where(p == q, 0.0, q))
    return jnp.sum(jnp.where(p == q, 0.0, (jnp.exp(p) - jnp.exp(q)) * apart), axis=-1) / 2


def fitted_learner(
    steps: Real[ArrayLike, "..."],
    memorising: Strategy | tuple,
    generalising: Strategy | tuple,
    weights: Real[ArrayLike, "..."],
) -> Fit:
    """The learner whose weights of the memorising strategy come nearest to measured ones.

    min over alpha, beta, gamma of mean (w(N) - measured)^2, by Levenberg and Marquardt from nine starts.

    Arguments, which broadcast:
        steps, memorising, generalising: as for `log_odds`.
        weights: measured w in [0, 1], such as (r + 1) / 2.
    Returns:
        `Fit`. With one pool of tasks alone beta is not determined, at one step neither alpha nor gamma.
    Holds when: pools of two sizes or more, at several steps, some of them between both strategies.
    Source: the fit of Wurgaft et al. 2025 (arXiv:2506.17859), with a squared error in place of a divergence.
    """
    n, w = non_negative("steps", steps), within("weights", weights, 0.0, 1.0)
    (lm, km), (lg, kg) = _strategy(memorising), _strategy(generalising)
    given = [jnp.ravel(x) for x in jnp.broadcast_arrays(n, km, kg, lg - lm, w)]
    if len(given[0]) < 3:
        raise ValueError(f"weights must be three or more to fit three parameters, got {len(given[0])}")
    return _fit(*given)


@jax.jit
def _log_posterior(n, lost, k, alpha, beta, gamma):
    # Differences to the first strategy alone matter: large common parts would cost digits.
    prior = -np.log(2) * (_power(k, beta) - _power(k[0], beta))
    return jax.nn.log_softmax(prior - gamma * _power(n, 1 - alpha)[..., None] * (lost - lost[0]), axis=-1)


@jax.jit
def _crossing(lm, km, lg, kg, alpha, beta, gamma):
    debt, gain = np.log(2) * (_power(km, beta) - _power(kg, beta)), gamma * (lg - lm)
    debt, gain = jnp.broadcast_arrays(debt, gain)
    meets = debt * gain > 0
    ratio = jnp.where(meets, debt, 1.0) / jnp.where(meets, gain, 1.0)
    return jnp.where(meets, jnp.exp(jnp.log(ratio) / (1 - alpha)), jnp.where((debt > 0) | (gain < 0), jnp.inf, 0.0))


@jax.jit
def _fit(n, km, kg, gain, w) -> Fit:
    def residuals(theta, _):
        alpha, beta, gamma = _unconstrained(theta)
        return (jax.nn.sigmoid(_log_odds(n, km, kg, gain, alpha, beta, gamma)) - w) / jnp.sqrt(len(w))

    # The steepness at which evidence and prior balance half-way through training.
    middle, gap = jnp.max(n) / 2, jnp.maximum(jnp.mean(jnp.abs(gain)), jnp.finfo(w.dtype).tiny)

    def start(alpha, beta):
        debt = jnp.mean(jnp.abs(_power(km, beta) - _power(kg, beta))) + 1e-3
        return jnp.stack(
            [jnp.log(alpha / (1 - alpha)), jnp.log(beta), jnp.log(debt / gap) - (1 - alpha) * jnp.log(middle)]
        )

    def solve(theta):
        solver = optx.LevenbergMarquardt(rtol=1e-9, atol=1e-12)
        found = optx.least_squares(residuals, solver, theta, max_steps=300, throw=False).value
        return found, jnp.sum(residuals(found, None) ** 2)

    grid = [start(a, b) for a in STARTS["alpha"] for b in STARTS["beta"]]
    found, errors = jax.vmap(solve)(jnp.stack(grid))
    best = jnp.argmin(jnp.where(jnp.isfinite(errors), errors, jnp.inf))
    return Fit(_unconstrained(found[best]), jnp.sqrt(errors[best]))


def _unconstrained(theta) -> Learner:
    return Learner(jax.nn.sigmoid(theta[0]), jnp.exp(theta[1]), jnp.exp(theta[2]))


@jax.jit
def _log_odds(n, km, kg, gain, alpha, beta, gamma):
    return gamma * _power(n, 1 - alpha) * gain - np.log(2) * (_power(km, beta) - _power(kg, beta))


def _power(x, exponent):
    """x^exponent with 0^exponent = 0, and finite derivatives there."""
    return jnp.where(x > 0, jnp.exp(xlogy(exponent, jnp.where(x > 0, x, 1.0))), 0.0)


def _strategy(strategy):
    loss, bits = strategy
    return real("loss", loss), non_negative("bits", bits)


def _learning(steps, learner):
    alpha, beta, gamma = learner
    alpha = within("alpha", alpha, 0.0, 1.0)
    alpha = require("alpha", alpha, alpha < 1, "must be below 1, or evidence would not grow")
    return non_negative("steps", steps), alpha, positive("beta", beta), positive("gamma", gamma)
