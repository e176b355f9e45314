"""Continual learning with binary weights: what is remembered, forgotten and passed on between two related tasks.

A student with weights w = +-1 knows of each weight a field theta, of mean tanh theta. Task a has a teacher w^a of +-1,
alpha_a N Gaussian inputs and their labels sign(w^a . x); w^1_i = w^2_i with probability (1 + correlation) / 2. The
student is Bayesian and has its fields by message passing. It keeps them, not the data: the fields after the first
task are the prior of the second. So it loses the correlations between weights, and, if it passes its fields on as they
are, it takes for certain of the second task what it knows of the first. A gate on the fields is the remedy.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, real, within
from theory.lazy_rich.continual_perceptron import NODES, WEIGHTS, bayes_channel, kappa, mismatched_channel

# Coarser steps serve averages over two normal variables.
COARSE = np.arange(-8.4, 8.4001, 0.15)
COARSE_WEIGHTS = np.exp(-(COARSE**2) / 2)
COARSE_WEIGHTS /= COARSE_WEIGHTS.sum()
# 1 - q is held above this, so that fields stay finite where the teacher is found.
LEAST = 1e-12
# Share of the new in an iteration of several overlaps.
MIXED = 0.8


class Overlaps(NamedTuple):
    """Averages over weights of the student's means m after two tasks.

    `first`, `second`  overlaps with the teachers, w^a . m / N.
    `own`              |m|^2 / N.
    `stability`        below one where small differences between students shrink: the solution is locally stable.
    `residual`         what the last iteration still changed.
    """

    first: Float[Array, ""]
    second: Float[Array, ""]
    own: Float[Array, ""]
    stability: Float[Array, ""]
    residual: Float[Array, ""]


def field_overlap(precision: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Overlap of the mean tanh h with its teacher, and with itself, for a field h ~ w N(precision, precision).

    E tanh(q_hat + sqrt(q_hat) z) = E tanh^2(q_hat + sqrt(q_hat) z).

    Arguments:
        precision: q_hat, in [0, 100].
    Returns:
        the overlap, of the shape of q_hat, in [0, 1].
    Holds when: always.
    Source: Gyorgyi 1990; derivations/lazy_rich/continual_binary.py.
    """
    return 1 - _missing(within("precision", precision, 0.0, 100.0))


def overlap(alpha: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """Overlap q of the posterior mean with the teacher after one task, as message passing finds it.

    q = E tanh(q_hat + sqrt(q_hat) z),   q_hat = `sign_precision`(q, alpha): the smallest solution.

    Arguments:
        alpha: samples per weight, >= 0.
    Returns:
        q, in [0, 1]; 1 (to 1e-12) beyond alpha = 1.4926, where no other solution is left. From
        `perfect_learning_load` on the posterior itself is the teacher alone, q = 1, and this solution is metastable.
    Holds when: N -> infinity.
    Source: Gyorgyi 1990; Seung, Sompolinsky & Tishby 1992.
    """
    return _overlap(non_negative("alpha", alpha))


def sign_log_likelihood(q: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Mean log-probability of a label given all earlier ones: 2 int Dz Phi(u) ln Phi(u), u = z sqrt(q / (1 - q)).

    Arguments:
        q: overlap, in [0, 0.99].
    Returns:
        Psi, of the shape of q, from -ln 2 to 0; dPsi/dq = q_hat / (2 alpha).
    Holds when: N -> infinity, Bayesian student.
    Source: Gyorgyi & Tishby 1990.
    """
    q = within("q", q, 0.0, 0.99)
    u = jnp.sqrt(q / (1 - q))[..., None] * NODES
    return 2 * (ndtr(u) * log_ndtr(u)) @ WEIGHTS


def free_entropy(q: Real[ArrayLike, "..."], alpha: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Logarithm, per weight, of the share of students that agree with all labels, at overlap q with the teacher.

    F = E ln cosh(q_hat + sqrt(q_hat) z) - q_hat (1 + q) / 2 + alpha Psi(q),   q_hat = `sign_precision`(q, alpha).

    Arguments, which broadcast:
        q: in [0, 0.99]; alpha: samples per weight, >= 0.
    Returns:
        F, of the broadcast shape, stationary in q at `overlap`; -ln 2 at q = 1: only the teacher is left.
    Holds when: N -> infinity.
    Source: Gyorgyi 1990; derivations/lazy_rich/continual_binary.py.
    """
    psi, alpha = sign_log_likelihood(q), non_negative("alpha", alpha)
    q = jnp.asarray(q)
    precision = bayes_channel(q, 1 - q, alpha)
    field = precision[..., None] + jnp.sqrt(precision)[..., None] * NODES
    log_cosh = jnp.logaddexp(field, -field) - jnp.log(2.0)
    return log_cosh @ WEIGHTS - precision * (1 + q) / 2 + alpha * psi


def perfect_learning_load() -> Float[Array, ""]:
    """Samples per weight from which on only the teacher agrees with all labels: 1.2447, a first-order jump to q = 1.

    F(q, alpha) = -ln 2 at the stationary q.

    Returns: alpha.
    Holds when: N -> infinity.
    Source: Gyorgyi 1990; 1.245.
    """
    return _perfect_load()


def forget_gate(field: Real[ArrayLike, "..."], correlation: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Field of a weight of the second teacher, given that of the first: artanh(correlation tanh theta).

    Arguments, which broadcast:
        field: theta, any; correlation: mean of w^1 w^2, in [-1, 1].
    Returns:
        the field, of the broadcast shape; theta at correlation 1, nothing at 0.
    Holds when: always: it is the exact marginal of the prior.
    Source: derived in derivations/lazy_rich/continual_binary.py.
    """
    return _gate(real("field", field), within("correlation", correlation, -1.0, 1.0))


def field_divergence(field: Real[ArrayLike, " N"], prior: Real[ArrayLike, " priors"]) -> Float[Array, ""]:
    """Kullback-Leibler divergence of weights with these fields from weights with those of the prior.

    sum_i (theta_i - phi_i) tanh theta_i - ln cosh theta_i + ln cosh phi_i.

    Arguments: field: theta, (N,); prior: phi, (N,).
    Returns: the divergence, >= 0. Its gradient is (theta - phi) / cosh^2 theta.
    Holds when: weights are independent of one another.
    Source: a definition; the price of a change in Li, Huang, Zou & Huang 2022 (arXiv:2212.02846).
    """
    field, prior = _fields(field, prior)
    log_cosh = lambda h: jnp.logaddexp(h, -h)  # noqa: E731
    return jnp.sum((field - prior) * jnp.tanh(field) - log_cosh(field) + log_cosh(prior))


def elastic_divergence(field: Real[ArrayLike, " N"], prior: Real[ArrayLike, " priors"]) -> Float[Array, ""]:
    """`field_divergence` for small changes: (1/2) sum_i (theta_i - phi_i)^2 / cosh^2 phi_i, an elastic pull.

    Arguments: field: theta, (N,); prior: phi, (N,).
    Returns: the penalty, >= 0.
    Holds when: to second order in theta - phi. Weights that are certain are pulled least: their field says little.
    Source: derived in derivations/lazy_rich/continual_binary.py.
    """
    field, prior = _fields(field, prior)
    return jnp.sum((field - prior) ** 2 * (1 - jnp.tanh(prior) ** 2)) / 2


def second_task_overlaps(
    correlation: Real[ArrayLike, ""],
    first: Real[ArrayLike, ""],
    second: Real[ArrayLike, ""],
    gate: Real[ArrayLike, ""] = 1.0,
) -> Overlaps:
    """What a student knows of both tasks after the second, with the gated fields of the first as its prior.

    R = E w^2 tanh h,   q = E tanh^2 h,   R_1 = E w^1 tanh h,   h = artanh(gate tanh theta) + R_hat w^2 + sqrt(q_hat) z,
    theta = q_hat_1 w^1 + sqrt(q_hat_1) z_1,   (R_hat, q_hat) = `sign_channel`(R, q, alpha_2).

    Arguments:
        correlation: mean of w^1 w^2, in [-1, 1].
        first, second: alpha_1, alpha_2, samples per weight, in [0, 1.4].
        gate: in [-1, 1]; 1 passes the fields on as they are, `correlation` as they ought to be (then R = q).
    Returns:
        the `Overlaps`; `posterior_mean_error`(own, second) is the error on the second task, with `first` on the first.
    Holds when: N -> infinity, message passing; where the stability is above one it need not converge.
    Source: derived in derivations/lazy_rich/continual_binary.py.
    """
    rho, gate = within("correlation", correlation, -1.0, 1.0), within("gate", gate, -1.0, 1.0)
    return _second(rho, within("first", first, 0.0, 1.4), within("second", second, 0.0, 1.4), gate)


def joint_overlaps(
    correlation: Real[ArrayLike, ""], first: Real[ArrayLike, ""], second: Real[ArrayLike, ""]
) -> Float[Array, "2"]:
    """Overlaps (q_1, q_2) of a student that keeps the data of both tasks and knows how they are related.

    q_a = E w^a `related_mean`(h_a, h_b, correlation),   h_a = q_hat_a w^a + sqrt(q_hat_a) z_a,
    q_hat_a = `sign_precision`(q_a, alpha_a).

    Arguments: as for `second_task_overlaps`.
    Returns:
        (q_1, q_2): no student that learns the tasks in sequence has lower errors.
    Holds when: N -> infinity, message passing.
    Source: derived in derivations/lazy_rich/continual_binary.py.
    """
    rho = within("correlation", correlation, -1.0, 1.0)
    return _joint(rho, jnp.stack([within("first", first, 0.0, 1.4), within("second", second, 0.0, 1.4)]))


def related_mean(
    field: Real[ArrayLike, "..."], other: Real[ArrayLike, "..."], correlation: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Mean of a weight given its own field and the field of a related one.

    (t + rho t') / (1 + rho t t') = tanh(theta + `forget_gate`(theta', rho)),   t = tanh theta.

    Arguments, which broadcast: field: theta; other: theta'; correlation: rho, in [-1, 1].
    Returns: the mean, in [-1, 1].
    Holds when: always.
    Source: derived in derivations/lazy_rich/continual_binary.py.
    """
    return jnp.tanh(real("field", field) + forget_gate(other, correlation))


def _gate(field, correlation):
    same, unlike = jnp.log1p(correlation), jnp.log1p(-correlation)
    return (jnp.logaddexp(same + field, unlike - field) - jnp.logaddexp(unlike + field, same - field)) / 2


def _missing(precision):
    """1 - E tanh, without the cancellation."""
    field = precision[..., None] + jnp.sqrt(precision)[..., None] * NODES
    return 2 * jax.nn.sigmoid(-2 * field) @ WEIGHTS


def settled(change, start, steps: int) -> tuple[Array, Array]:
    """Fixed point of `change` by iteration from `start`, and the most that a further iteration changes.

    Arguments: change: state -> state, an array; start; steps: the most iterations, a Python int.
    Returns: (state, residual).
    """
    solver = optx.FixedPointIteration(rtol=1e-12, atol=1e-14)
    found = optx.fixed_point(lambda state, _: change(state), solver, start, max_steps=steps, throw=False).value
    return found, jnp.max(jnp.abs(change(found) - found))


@jax.jit
def _overlap(alpha):
    # Rising from q = 0, slowly where the solution is about to vanish; beyond, what is missing falls to the floor.
    change = lambda missing: jnp.clip(_missing(bayes_channel(1 - missing, missing, alpha)), LEAST, 1.0)  # noqa: E731
    return 1 - settled(change, jnp.ones_like(alpha), 10_000)[0]


@jax.jit
def _perfect_load():
    def load(precision):
        q = 1 - _missing(precision)
        return q, precision / bayes_channel(q, 1 - q, 1.0)

    # Along the solutions, numbered by their precision.
    excess = lambda precision, _: free_entropy(*load(precision)) + jnp.log(2.0)  # noqa: E731
    return load(optx.root_find(excess, optx.Newton(1e-13, 1e-13), jnp.asarray(1.8)).value)[1]


def two_tasks(rho) -> tuple[Array, Array]:
    """w^1 where w^2 = 1, shape (2, 1, 1), and the weights of (w^1, z_1, z) in averages, (2, n, n), n nodes `COARSE`."""
    w = jnp.array([1.0, -1.0])[:, None, None]
    return w, (1 + rho * w) / 2 * COARSE_WEIGHTS[:, None] * COARSE_WEIGHTS


@jax.jit
def _second(rho, first, second, gate) -> Overlaps:
    w, weights = two_tasks(rho)
    q = _overlap(first)
    old = bayes_channel(q, 1 - q, first)
    prior = _gate(old * w + jnp.sqrt(old) * COARSE[:, None], gate)

    def means(state):
        channel = mismatched_channel(state[0], jnp.clip(1 - state[1], 0.0, 1 - LEAST), second)
        return jnp.tanh(prior + channel.signal + jnp.sqrt(channel.precision) * COARSE)

    def change(state):
        m = means(state)
        return jnp.stack([jnp.sum(weights * m), jnp.sum(weights * (1 - m**2))])

    known = jnp.tanh(prior)
    start = jnp.stack([jnp.sum(weights * known), jnp.sum(weights * (1 - known**2))])
    state, residual = settled(lambda state: MIXED * change(state) + (1 - MIXED) * state, start, 1000)
    m, teacher, missing = means(state), state[0], jnp.clip(state[1], LEAST, 1.0)
    a = teacher / jnp.sqrt(jnp.maximum(1 - missing - teacher**2, LEAST)) * NODES
    u = jnp.sqrt((1 - missing) / missing) * NODES
    slope = kappa(u) * (kappa(u) + u) / missing
    stability = 2 * second * ((ndtr(a) * slope**2) @ WEIGHTS) * jnp.sum(weights * (1 - m**2) ** 2)
    return Overlaps(jnp.sum(weights * w * m), teacher, 1 - missing, stability, residual)


@jax.jit
def _joint(rho, alpha):
    w, weights = two_tasks(rho)

    def change(missing):
        one, two = bayes_channel(1 - missing, missing, alpha)
        h1, h2 = one * w + jnp.sqrt(one) * COARSE[:, None], two + jnp.sqrt(two) * COARSE
        pairs = ((w, h1, h2), (1.0, h2, h1))
        found = [jnp.sum(weights * (1 - v * jnp.tanh(h + _gate(other, rho)))) for v, h, other in pairs]
        return jnp.clip(jnp.stack(found), LEAST, 1.0)

    return 1 - settled(change, jnp.ones_like(alpha), 1000)[0]


def _fields(field, prior):
    field, prior = real("field", field), real("prior", prior)
    if field.shape != prior.shape:
        raise ValueError(f"prior must be of the shape of field, {field.shape}, got {prior.shape}")
    return field, prior
