"""Feature learning at infinite width, exactly: linear networks of one hidden layer in the mean-field limit.

A network of N neurons has the outputs f(x) = (1 / (gamma N)) sum_i a_i (w_i . x) / sqrt(d) and is trained at the rate
gamma^2 N lr. As N grows its neurons become independent, each driven only by the errors of the whole; a linear network
closes on their second moments (`theory.kernels.particles` has the other activations). The richness gamma says how far
features move while the data are learned: gamma -> 0 is the tangent-kernel (lazy) limit. A network of finite width
obeys the same equations, with moments over its own neurons.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import matrix, non_negative, positive, real, require, whole
from theory.flow import flow, times


class Moments(NamedTuple):
    """Second moments of the neurons of a linear network, averages over neurons.

    `inputs`   M = <w w^T>, (d, d).
    `map`      beta = <w a^T> / gamma, (d, C): the network is f(x) = beta^T x / sqrt(d).
    `readout`  s = <a a^T>, (C, C).
    """

    inputs: Float[Array, "*times d d"]
    map: Float[Array, "*times d C"]
    readout: Float[Array, "*times C C"]


def initial_moments(inputs: int, outputs: int = 1) -> Moments:
    """Moments of standard normal weights at infinite width: M = 1, beta = 0, s = 1.

    Arguments:
        inputs, outputs: dimensions d and C, Python ints.
    Returns:
        the `Moments`.
    """
    d, c = whole("inputs", inputs), whole("outputs", outputs)
    return Moments(jnp.eye(d), jnp.zeros((d, c)), jnp.eye(c))


def linear_output(moments: Moments, x: Real[ArrayLike, "R d"]) -> Float[Array, "*times R C"]:
    """Outputs of a linear network: f = x beta / sqrt(d).

    Arguments:
        moments: with or without a leading axis of times.
        x: points in rows, (R, d).
    Returns:
        f, (..., R, C).
    """
    x, beta = matrix("x", x, columns=moments.map.shape[-2]), real("moments.map", moments.map)
    return x @ beta / jnp.sqrt(x.shape[1])


def linear_flow(
    t: Real[ArrayLike, " T"],
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, "P C"],
    gamma: Real[ArrayLike, ""],
    start: Moments | None = None,
) -> Moments:
    """Feature learning of a one-hidden-layer linear network: the closed flow of its second moments.

    dbeta/dt = M v + v s,   dM/dt = gamma^2 (beta v^T + v beta^T),   ds/dt = gamma^2 (v^T beta + beta^T v),
    v = x^T (y - f) / (P sqrt(d)).   tr s - tr M is conserved.

    Arguments:
        t: times, increasing, >= 0, in units of 1 / learning rate (of the loss (1/2P) sum |y - f|^2), shape (T,).
        x, y: inputs (P, d) and targets (P, C).
        gamma: richness, >= 0; at 0 it is the tangent-kernel flow, df/dt = -(2/P) (x x^T / d) (f - y).
        start: moments at t = 0; those of infinite width, `initial_moments`, if not given.
    Returns:
        `Moments` with a leading axis of T.
    Holds when: full-batch gradient flow; exact at any width from that network's own moments, and at infinite width
        from the default. To train f - f(0), add f(0) to y. Moments of low rank stay so only up to the integrator's
        error, which a saddle amplifies: there integrate the weights (`theory.lazy_rich.initial_rank`).
    Source: Bordelon & Pehlevan 2022 (arXiv:2205.09653), the linear case with one hidden layer.
    """
    x, y, gamma, start = _linear_problem(x, y, gamma, start)

    return _flow(times("t", t), x, y, gamma, start)


def linear_descent(
    batches: Int[ArrayLike, "steps B"],
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, "P C"],
    gamma: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    start: Moments | None = None,
) -> Moments:
    """The same network under (stochastic) gradient descent with finite steps: an exact recursion of its moments.

    [M, gamma beta; gamma beta^T, s] -> (1 + B) [...] (1 + B),   B = lr gamma [0, v; v^T, 0],
    with v from the batch of the step.

    Arguments:
        batches: for each step the samples of its batch, indices into x, (steps, B): `whole_batches(steps, P)` for
            gradient descent. Given the order there is nothing random.
        x, y, gamma, start: as for `linear_flow`.
        lr: learning rate of the flow's units, > 0: the network's is gamma^2 N lr.
    Returns:
        `Moments` with a leading axis of steps + 1; step 0 is the start.
    Holds when: as for `linear_flow`, at every step size; here tr s - tr M drifts by order lr^2 per step.
    Source: the discrete form of Bordelon & Pehlevan 2022 (arXiv:2205.09653); Yang & Hu 2021 (arXiv:2011.14522),
        the linear one-hidden-layer case.
    """
    x, y, gamma, start = _linear_problem(x, y, gamma, start)
    batches, lr = checked_batches(batches, x.shape[0]), positive("lr", lr)

    return _descent(batches, x, y, gamma, lr, start)


def aligned_output(
    t: Real[ArrayLike, "..."],
    target: Real[ArrayLike, "..."],
    gamma: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Output of the infinitely wide linear network when the target is an eigenvector of the inputs' kernel.

    df/dt = 2 lam sqrt(1 + (g f)^2) (target - f),   f(0) = 0,   g = gamma / sqrt(lam):
    f = 2 q / (g (1 - q^2)),   q = r (1 - E) / (1 + r^2 E),   E = exp(-2 lam t sqrt(1 + c^2)),
    c = g target,   r = c / (1 + sqrt(1 + c^2)).

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate (of the loss (1/2P) sum (y - f)^2).
        target: root mean square of y, with the sign of the chosen eigenvector.
        gamma: richness, >= 0.
        lam: eigenvalue of x x^T / (d P) on y, > 0; 1/P for whitened inputs, x x^T = d.
    Returns:
        f in the unit of the target: the outputs are (f / target) y. At gamma = 0 target (1 - exp(-2 lam t)).
    Holds when: one output, infinite width, standard normal weights, x x^T y = lam d P y.
    Source: the one-hidden-layer linear network of Bordelon & Pehlevan 2022 (arXiv:2205.09653), solved here.
    """
    t, gamma, lam = non_negative("t", t), non_negative("gamma", gamma), positive("lam", lam)
    target = real("target", target)
    g = gamma / jnp.sqrt(lam)
    root = jnp.hypot(1.0, g * target)
    gap = jnp.expm1(-2 * lam * root * t)
    # q / g, and r / g, which stay finite at g = 0.
    slope = target / (1 + root)
    q = -slope * gap / (1 + (g * slope) ** 2 * (1 + gap))
    return 2 * q / (1 - (g * q) ** 2)


def whole_batches(steps: int, samples: int) -> Int[Array, "steps P"]:
    """Every sample in every step: the batches of gradient descent.

    Arguments:
        steps: number of steps; samples: number P of samples; Python ints.
    Returns:
        indices, (steps, P).
    """
    return jnp.tile(jnp.arange(whole("samples", samples)), (whole("steps", steps), 1))


@jax.jit
def _flow(t, x, y, gamma, start: Moments) -> Moments:
    """The moments at the times t."""

    def field(moments):
        v = _drive(moments, x, y)
        outer, inner = moments.map @ v.T, v.T @ moments.map
        return Moments(
            gamma**2 * (outer + outer.T),
            moments.inputs @ v + v @ moments.readout,
            gamma**2 * (inner + inner.T),
        )

    return flow(field, t, start)


@jax.jit
def _descent(batches, x, y, gamma, lr, start: Moments) -> Moments:
    """The moments after every step."""

    def step(moments, batch):
        m, beta, s = moments
        v = lr * _drive(moments, x[batch], y[batch])
        outer, inner = beta @ v.T, v.T @ beta
        moved = Moments(
            m + gamma**2 * (outer + outer.T + v @ s @ v.T),
            beta + m @ v + v @ s + gamma**2 * v @ beta.T @ v,
            s + gamma**2 * (inner + inner.T + v.T @ m @ v),
        )
        return moved, moved

    course = jax.lax.scan(step, start, batches)[1]
    return Moments(*(jnp.concatenate([first[None], rest]) for first, rest in zip(start, course, strict=True)))


def _linear_problem(x, y, gamma, start):
    """The checked data and the start of a linear network."""
    x = matrix("x", x)
    y = matrix("y", y, rows=x.shape[0])
    start = initial_moments(x.shape[1], y.shape[1]) if start is None else start
    d, c = x.shape[1], y.shape[1]
    checked = Moments(
        matrix("start.inputs", start.inputs, d, d),
        matrix("start.map", start.map, d, c),
        matrix("start.readout", start.readout, c, c),
    )
    return x, y, non_negative("gamma", gamma), checked


def _drive(moments: Moments, x, y) -> Float[Array, "d C"]:
    """v = x^T (y - f) / (P sqrt(d)): minus the gradient of the loss with respect to the network's linear map."""
    error = y - x @ moments.map / jnp.sqrt(x.shape[1])
    return x.T @ error / (x.shape[0] * jnp.sqrt(x.shape[1]))


def checked_batches(batches: Int[ArrayLike, "steps B"], samples: int) -> Int[Array, "steps B"]:
    """`batches` as an array, refused unless it holds indices of samples."""
    indices = jnp.asarray(batches)
    if indices.ndim != 2 or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(f"batches must be whole numbers of shape (steps, B), got {indices.dtype} {indices.shape}")
    inside = (indices >= 0) & (indices < samples)
    # In floating point for the sake of the check, which holds every index exactly.
    require("batches", indices.astype(float), inside, f"must be indices of the {samples} samples")
    return indices
