"""Field-space training of binary weights: what gradient descent on a variational free energy finds, exactly.

Weights w = +-1 are independent, with fields theta and means m = tanh theta. Training lowers

    F(theta) = - sum_mu ln Phi(y_mu x_mu . m / sqrt(sum_i (1 - m_i^2))) + KL(theta | phi):

the probability of each label when w . x is Gaussian, and the divergence from the fields phi that were there before.
Unlike message passing it does not correct a sample's margin for what that very sample has done to the weights. It
therefore ends at other fields, less certain and less right; an average over data gives its overlaps all the same.

The settings and names are those of `theory.lazy_rich.continual_binary`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import positive, real, require, within
from theory.lazy_rich.continual_binary import (
    COARSE,
    COARSE_WEIGHTS,
    LEAST,
    MIXED,
    Overlaps,
    forget_gate,
    settled,
    two_tasks,
)
from theory.lazy_rich.continual_perceptron import NODES, WEIGHTS, kappa

# Newton's method for two equations of one unknown, from a side from which it cannot overshoot.
NEWTON_STEPS = 7


class Reaction(NamedTuple):
    """What the samples do to a field: theta = phi + signal w + sqrt(noise) z - pull tanh theta.

    `signal`, `noise`  of the cavity, R_hat and q_hat.
    `pull`             of the weight's own mark on the samples, and on the variance of all margins.
    `slope`            E (dg / d margin)^2 times alpha, for the stability.
    """

    signal: Float[Array, ""]
    noise: Float[Array, ""]
    pull: Float[Array, ""]
    slope: Float[Array, ""]


def settled_margin(
    margin: Real[ArrayLike, "..."], push: Real[ArrayLike, "..."], variance: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Margin of a sample after it was learned: the s that minimises -ln Phi(s / sqrt V) + (s - margin)^2 / (2 push).

    s = margin + push kappa(s / sqrt V) / sqrt V.

    Arguments, which broadcast:
        margin: of the sample before, any.
        push: susceptibility of the weights, sum_i dm_i / dh_i over N, >= 0.
        variance: V = 1 - |m|^2 / N, in (0, 1].
    Returns:
        s >= margin, of the broadcast shape.
    Holds when: always.
    Source: derived in derivations/lazy_rich/continual_fields.py.
    """
    push = require("push", real("push", push), jnp.asarray(push) >= 0, "must be non-negative")
    return _margin(*jnp.broadcast_arrays(real("margin", margin), push, positive("variance", variance)))


def settled_field(drive: Real[ArrayLike, "..."], pull: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Field of a weight that pulls back on itself: theta + pull tanh theta = drive.

    Arguments, which broadcast:
        drive: prior field and what the samples say, any.
        pull: > -1.
    Returns:
        theta, of the broadcast shape, with the sign of the drive.
    Holds when: always.
    Source: derived in derivations/lazy_rich/continual_fields.py.
    """
    pull = require("pull", real("pull", pull), jnp.asarray(pull) > -1, "must be above -1")
    return _field(*jnp.broadcast_arrays(real("drive", drive), pull))


def trained_overlaps(
    correlation: Real[ArrayLike, ""],
    first: Real[ArrayLike, ""],
    second: Real[ArrayLike, ""],
    gate: Real[ArrayLike, ""] = 1.0,
) -> Overlaps:
    """What field-space training knows of both tasks after the second; with second = 0, of the first alone.

    theta_a = phi_a + R_hat w^a + sqrt(q_hat) z - c tanh theta_a,   phi_1 = 0,   phi_2 = artanh(gate tanh theta_1),
    R = E w^a m,  q = E m^2,  X = E 1 / (1 / (1 - m^2) + c),  V = 1 - q,  g = kappa(u) / sqrt V,
    u = s / sqrt V,  s = `settled_margin`(sqrt(q) z, X, V):
    R_hat = 2 alpha E phi(a) g / sqrt(1 - R^2 / q),   q_hat = 2 alpha E Phi(a) g^2,   a = R z / sqrt(q - R^2),
    c = 2 alpha E Phi(a) [-g' / (1 - X g') - kappa(u) u / V],   g' = -kappa(u) (kappa(u) + u) / V.

    Arguments:
        correlation: mean of w^1 w^2, in [-1, 1].
        first, second: alpha_1, alpha_2, samples per weight, in [0, 1.4].
        gate: in [-1, 1]; 1 passes the fields on as they are, `correlation` gates them.
    Returns:
        the `Overlaps`. `posterior_mean_error` turns them into errors; here R differs from q even for one task.
    Holds when: N -> infinity, a stability below one (one minimum), training to convergence.
    Source: derived in derivations/lazy_rich/continual_fields.py, for the free energy of Li, Huang, Zou & Huang 2022
        (arXiv:2212.02846) with the Gaussian approximation of the margin.
    """
    rho = within("correlation", correlation, -1.0, 1.0)
    first, second = within("first", first, 0.0, 1.4), within("second", second, 0.0, 1.4)
    return _trained(rho, first, second, within("gate", gate, -1.0, 1.0))


@jax.jit
def _margin(margin, push, variance):
    def step(s, _):
        g, slope = _force(s, variance)
        return s - (s - margin - push * g) / (1 - push * slope), None

    return jax.lax.scan(step, margin, None, length=NEWTON_STEPS)[0]


def _force(s, variance):
    """g = -d/ds of -ln Phi(s / sqrt V), and dg/ds."""
    u = s / jnp.sqrt(variance)
    k = kappa(u)
    return k / jnp.sqrt(variance), -k * (k + u) / variance


@jax.jit
def _field(drive, pull):
    def step(theta, _):
        m = jnp.tanh(theta)
        return theta - (theta + pull * m - drive) / (1 + pull * (1 - m**2)), None

    return jax.lax.scan(step, drive / (1 + pull), None, length=NEWTON_STEPS)[0]


def _reaction(teacher, missing, push, alpha) -> Reaction:
    """The cavity of a sample, averaged; a label and its margin are turned so that the label is one."""
    q, variance = jnp.maximum(1 - missing, 0.0), jnp.maximum(missing, LEAST)
    rest = jnp.maximum(q - teacher**2, LEAST)
    a = teacher / jnp.sqrt(rest) * NODES
    s = _margin(jnp.sqrt(q) * NODES, jnp.broadcast_to(push, NODES.shape), jnp.broadcast_to(variance, NODES.shape))
    g, slope = _force(s, variance)
    shares = 2 * alpha * ndtr(a) * WEIGHTS
    response = slope / (1 - push * slope)
    density = jnp.exp(-(a**2) / 2) / jnp.sqrt(2 * jnp.pi) * WEIGHTS
    signal = 2 * alpha * jnp.sqrt(jnp.where(q > LEAST, q / rest, 1.0)) * jnp.sum(density * g)
    pull = -jnp.sum(shares * (response + g * s / variance))
    return Reaction(signal, jnp.sum(shares * g**2), pull, jnp.sum(shares * response**2))


def _task(prior, weights, alpha):
    """One task, its teacher's weights called one: means at the nodes, reaction, overlap R, stability and residual.

    `prior`: fields that were there before, and `weights` of the nodes; their last axis is the new noise.
    """

    def means(state):
        reaction = _reaction(*state, alpha)
        drive = prior + reaction.signal + jnp.sqrt(reaction.noise) * COARSE
        return jnp.tanh(_field(drive, jnp.broadcast_to(reaction.pull, drive.shape))), reaction

    def averages(m, pull):
        left = 1 - m**2
        return jnp.stack([jnp.sum(weights * values) for values in (m, left, left / (1 + pull * left))])

    def change(state):
        m, reaction = means(state)
        return MIXED * averages(m, reaction.pull) + (1 - MIXED) * state

    state, residual = settled(change, averages(jnp.tanh(prior), 0.0), 1000)
    m, reaction = means(state)
    left = 1 - m**2
    stability = reaction.slope * jnp.sum(weights * (left / (1 + reaction.pull * left)) ** 2)
    return m, reaction, state[0], stability, residual


@jax.jit
def _trained(rho, first, second, gate) -> Overlaps:
    w, weights = two_tasks(rho)
    _, old, _, steady, left_over = _task(jnp.zeros(()), COARSE_WEIGHTS, first)
    drive = old.signal * w + jnp.sqrt(old.noise) * COARSE[:, None]
    prior = forget_gate(_field(drive, jnp.broadcast_to(old.pull, drive.shape)), gate)
    m, _, teacher, stability, residual = _task(prior, weights, second)
    worst, residual = jnp.maximum(stability, steady), jnp.maximum(residual, left_over)
    return Overlaps(jnp.sum(weights * w * m), teacher, jnp.sum(weights * m**2), worst, residual)
