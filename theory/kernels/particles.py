"""Feature learning at infinite width for any activation: neurons as the particles of a mean field.

A network of one hidden layer of N neurons, f(x) = (1 / (gamma N)) sum_i a_i phi(h_i), h_i = w_i . x / sqrt(d), is
trained at the rate gamma^2 N lr. As N grows the average over neurons becomes one over a population p, in which each
neuron moves on its own, driven by the errors of the whole: with Delta_mu = y_mu - f_mu and P samples

    da/dt = gamma (1/P) sum_mu Delta_mu phi(h_mu),
    dw/dt = gamma (1/P) sum_mu (a . Delta_mu) phi'(h_mu) x_mu / sqrt(d).

A population is a list of neurons with masses: a random sample (which is a network of that width), or quadrature nodes
(which are the limit). How networks of finite width differ from the limit follows from derivatives by the masses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import matrix, non_negative, positive, require, whole
from theory.flow import flow, times
from theory.kernels.mean_field import Moments, checked_batches


class Neurons(NamedTuple):
    """A population: input weights (N, d), readout weights (N, C), and the share of each neuron, (N,), of sum one."""

    inputs: Float[Array, "*times N d"]
    readout: Float[Array, "*times N C"]
    mass: Float[Array, "*times N"]


class Course(NamedTuple):
    """What training did.

    `outputs`   f - f(0) at the points, (T, R, C).
    `features`  <phi(h) phi(h')> between the points, (T, R, R).
    `neurons`   the population at the end.
    """

    outputs: Float[Array, "T R C"]
    features: Float[Array, "T R R"]
    neurons: Neurons


# Any triple of such arrays may stand for a population.
Population = Neurons | tuple[Real[ArrayLike, "N d"], Real[ArrayLike, "N C"], Real[ArrayLike, " N"]]


def neuron_moments(neurons: Population, gamma: Real[ArrayLike, ""]) -> Moments:
    """The second moments of a finite population.

    Arguments:
        neurons: a population; of a network of width N, all of mass 1/N.
        gamma: richness, > 0.
    Returns:
        the `Moments`, from which `linear_flow` and `linear_descent` follow this very population.
    """
    w, a, mass = _population(neurons)
    weighed = mass[:, None] * a
    return Moments((mass[:, None] * w).T @ w, w.T @ weighed / positive("gamma", gamma), a.T @ weighed)


def sampled_neurons(key: Array, number: int, inputs: int, outputs: int = 1) -> Neurons:
    """Standard normal neurons: a network of that width, or particles for the limit.

    Arguments:
        key: a JAX random key; number: N; inputs, outputs: dimensions d and C; Python ints.
    Returns:
        `Neurons` of equal mass; averages over them miss those of infinite width by order N^{-1/2}.
    """
    number = whole("number", number)
    first, second = jax.random.split(key)
    w = jax.random.normal(first, (number, whole("inputs", inputs)))
    return Neurons(w, jax.random.normal(second, (number, whole("outputs", outputs))), jnp.full(number, 1 / number))


def quadrature_neurons(
    x: Real[ArrayLike, "R d"], order: int, outputs: int = 1, readout_order: int | None = None
) -> Neurons:
    """Infinite width on few data by Gauss-Hermite quadrature over the initial weights.

    Arguments:
        x: all points that will be asked for, training and test, in rows (R, d): only what they span is integrated.
        order: nodes per dimension, a Python int; there are order^(min(R, d)) readout_order^C neurons in all.
        outputs: dimension C.
        readout_order: nodes per dimension of the readout weights, as many as `order` if not given; 8 are often enough.
    Returns:
        `Neurons` with the nodes' masses; polynomials of the start of degree below 2 order are averaged exactly.
    Holds when: the result no longer changes with the order. That takes few nodes while pre-activations are of order
        one or less and the activation is smooth; steep activations, |x|^2 far above d, and kinks need so many that a
        large sample is better. Variances need more nodes than means.
    """
    x = matrix("x", x)
    span = jnp.linalg.svd(x, full_matrices=False)[2]
    order = whole("order", order)
    readout_order = order if readout_order is None else whole("readout_order", readout_order)
    dimensions = [order] * span.shape[0] + [readout_order] * whole("outputs", outputs)
    rules = [np.polynomial.hermite_e.hermegauss(k) for k in dimensions]
    nodes = _product([node for node, _ in rules])
    mass = np.prod(_product([weight / weight.sum() for _, weight in rules]), axis=-1)
    split = span.shape[0]
    return Neurons(jnp.asarray(nodes[:, :split]) @ span, jnp.asarray(nodes[:, split:]), jnp.asarray(mass))


def mean_field_flow(
    t: Real[ArrayLike, " T"],
    start: Population,
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, "P C"],
    gamma: Real[ArrayLike, ""],
    activation: Callable[[Array], Array],
    points: Real[ArrayLike, "R d"] | None = None,
) -> Course:
    """Feature learning of a one-hidden-layer network of any activation, under gradient flow.

    The equations at the top of this file, with the centred output f - f(0).

    Arguments:
        t, x, y: as for `linear_flow`.
        start: the population at t = 0, of any masses: a sample, quadrature nodes, or a trained network's own neurons.
        gamma: richness, > 0.
        activation: phi, an elementwise differentiable function: jnp.tanh, jax.nn.relu.
        points: where outputs and features are given, (R, d); the training inputs if not given.
    Returns:
        the `Course` at the times t.
    Holds when: exact for a network whose neurons are the start, trained on its centred output; for infinite width
        up to order N^{-1/2} from a sample of N and up to the quadrature's error from its nodes.
    Source: Mei, Montanari & Nguyen 2018 (arXiv:1804.06561); Bordelon & Pehlevan 2022 (arXiv:2205.09653), L = 1.
    """
    start, x, y, gamma, points = _particle_problem(start, x, y, gamma, points)
    return _flow(times("t", t), start, x, y, gamma, points, activation)


def mean_field_descent(
    batches: Int[ArrayLike, "steps B"],
    start: Population,
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, "P C"],
    gamma: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    activation: Callable[[Array], Array],
    points: Real[ArrayLike, "R d"] | None = None,
) -> Course:
    """The same under (stochastic) gradient descent with finite steps and a given order of batches.

    Arguments:
        batches, lr: as for `linear_descent`.
        start, x, y, gamma, activation, points: as for `mean_field_flow`.
    Returns:
        the `Course`, with a leading axis of steps + 1; step 0 is the start.
    Holds when: as for `mean_field_flow`, at every step size.
    Source: Yang & Hu 2021 (arXiv:2011.14522), the one-hidden-layer limit; Mei, Montanari & Nguyen 2018
        (arXiv:1804.06561) for small steps.
    """
    start, x, y, gamma, points = _particle_problem(start, x, y, gamma, points)
    batches, lr = checked_batches(batches, x.shape[0]), positive("lr", lr)

    return _descent(batches, start, x, y, gamma, lr, points, activation)


def width_variance(
    mass: Float[ArrayLike, " N"], quantity: Callable[[Array], Float[Array, "*shape"]]
) -> Float[Array, "*shape"]:
    """How much networks of finite width scatter about the limit: N times the variance of a trained quantity.

    N Var F -> sum_i p_i psi_i^2 - (sum_i p_i psi_i)^2,   psi_i = dF / dp_i: what one more neuron at node i changes.

    Arguments:
        mass: the masses p of the limit's initial population (`quadrature_neurons`, or a large sample), (N,).
        quantity: F, a differentiable function of these masses: outputs after training, say,
            `lambda mass: mean_field_descent(batches, start._replace(mass=mass), ...).outputs`.
    Returns:
        the variance over networks of N independent neurons, times N, of the quantity's shape.
    Holds when: N is large; corrections are of relative order 1/N. One reverse pass per entry of the quantity.
    Source: the central limit theorem of mean-field networks (Sirignano & Spiliopoulos 2020, arXiv:1808.09372), by
        the delta method.
    """
    mass = _shares(mass)
    influence = jax.jacrev(quantity)(mass)
    return influence**2 @ mass - (influence @ mass) ** 2


def width_shift(
    mass: Float[ArrayLike, " N"], quantity: Callable[[Array], Float[Array, "*shape"]]
) -> Float[Array, "*shape"]:
    """How the mean over networks of finite width differs from the limit: N times the mean deviation.

    N (E F - F_limit) -> (1/2) sum_i p_i D^2 F[e_i - p, e_i - p], with e_i all mass on neuron i.

    Arguments: as for `width_variance`.
    Returns:
        the mean deviation times N, of the quantity's shape.
    Holds when: N is large; corrections are of relative order 1/N. One second derivative per node.
    Source: the second order of the delta method, for the empirical measure of independent neurons.
    """
    mass = _shares(mass)

    def second(node):
        direction = jnp.zeros_like(mass).at[node].set(1.0) - mass

        def first(mass):
            return jax.jvp(quantity, (mass,), (direction,))[1]

        return jax.jvp(first, (mass,), (direction,))[1]

    curvature = jax.lax.map(second, jnp.arange(len(mass)), batch_size=64)
    return jnp.tensordot(mass, curvature, 1) / 2


def _product(axes: list[np.ndarray]) -> np.ndarray:
    """All combinations of one entry of each axis, in rows."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def _population(start: Population) -> Neurons:
    """`start` as checked arrays."""
    w, a, mass = start
    w = matrix("start.inputs", w)
    return Neurons(w, matrix("start.readout", a, rows=w.shape[0]), _shares(mass, w.shape[0]))


def _shares(mass, number: int | None = None) -> Float[Array, " N"]:
    """`mass` as a vector of non-negative shares of sum one."""
    mass = non_negative("mass", mass)
    if mass.ndim != 1 or number not in (None, len(mass)):
        raise ValueError(f"mass must be a vector with one entry per neuron, got shape {mass.shape}")
    # As near to one as single precision adds up.
    return require("mass", mass, jnp.abs(jnp.sum(mass) - 1) < 1e-3, "must sum to one")


def _particle_problem(start: Population, x, y, gamma, points):
    """The checked population and data."""
    start = _population(start)
    x = matrix("x", x, columns=start.inputs.shape[1])
    y = matrix("y", y, rows=x.shape[0], columns=start.readout.shape[1])
    points = x if points is None else matrix("points", points, columns=x.shape[1])
    return start, x, y, positive("gamma", gamma), points


def _centred_output(start: Neurons, gamma, activation):
    """f - f(0) as a function of (weights, points)."""
    w, a, mass = start

    def raw(state, x):
        w, a = state
        return activation(x @ w.T / jnp.sqrt(x.shape[1])) @ (mass[:, None] * a) / gamma

    return lambda state, x: raw(state, x) - raw((w, a), x)


@functools.partial(jax.jit, static_argnames="activation")
def _flow(t, start: Neurons, x, y, gamma, points, activation) -> Course:
    """The course at the times t."""
    output = _centred_output(start, gamma, activation)
    states = flow(lambda state: _push(state, x, y, gamma, activation, output), t, start[:2], rtol=1e-8, atol=1e-10)
    outputs, features = jax.vmap(lambda *state: _seen(state, start, points, activation, output))(*states)
    return Course(outputs, features, Neurons(states[0][-1], states[1][-1], start.mass))


@functools.partial(jax.jit, static_argnames="activation")
def _descent(batches, start: Neurons, x, y, gamma, lr, points, activation) -> Course:
    """The course over all batches."""
    output = _centred_output(start, gamma, activation)

    def step(state, batch):
        push = _push(state, x[batch], y[batch], gamma, activation, output)
        moved = jax.tree.map(lambda w, p: w + lr * p, state, push)
        return moved, _seen(moved, start, points, activation, output)

    begin = _seen(start[:2], start, points, activation, output)
    last, seen = jax.lax.scan(step, start[:2], batches)
    outputs, features = (jnp.concatenate([first[None], rest]) for first, rest in zip(begin, seen, strict=True))
    return Course(outputs, features, Neurons(*last, start.mass))


def _push(state, x, y, gamma, activation, output):
    """Velocities (dw/dt, da/dt) of all neurons under the errors on x, y."""
    w, a = state
    scaled = x / jnp.sqrt(x.shape[1])
    features, backward = jax.vjp(activation, scaled @ w.T)
    error = (y - output(state, x)) / x.shape[0]
    (back,) = backward(error @ a.T)
    return gamma * back.T @ scaled, gamma * features.T @ error


def _seen(state, start: Neurons, points, activation, output):
    features = activation(points @ state[0].T / jnp.sqrt(points.shape[1]))
    return output(state, points), (features * start.mass) @ features.T
