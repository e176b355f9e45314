"""Dynamical mean-field theory of deep linear networks: feature learning at infinite width, any depth and richness.

A network of L hidden layers of width N, h^1 = W x / sqrt(d), h^{l+1} = W h^l / sqrt(N), f = w . h^L / (gamma N), all
weights N(0, 1), is trained at the rate gamma^2 N lr. As N grows its neurons become independent draws of two Gaussian
processes in each layer, the features h and the backward signals g,

    h_mu(t) = u_mu(t) + gamma sum_{s<t} C_mu(t, s) g(s),    g(t) = r(t) + gamma sum_{s<t, a} D_a(t, s) h_a(s),

which meet their neighbours only through covariances: u has the covariance of the features below, r that of the
signals above, and C, D hold those covariances, the errors, and how the layer next door responds. Time is discrete:
these are the equations of gradient descent with a finite step, not of its flow. Row t asks only for rows before it,
so that one pass through time solves them, without any iteration (and to rounding: `residual` says how well).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, whole


class MeanField(NamedTuple):
    """An infinitely wide network through training: T records, Q = P + R points (samples first), L hidden layers.

    `outputs`    f, (T, Q).
    `features`   H^l(t, s) = <h_mu(t) h_nu(s)>, at (l, t, mu, s, nu), (L, T, Q, T, Q).
    `gradients`  G^l(t, s) = <g(t) g(s)>, (L, T, T).
    `forward`    <dh_mu(t) / dr(s)> / gamma, (L, T, Q, T); `backward`  <dg(t) / du_mu(s)> / gamma, (L, T, T, Q).
    """

    outputs: Float[Array, "T Q"]
    features: Float[Array, "L T Q T Q"]
    gradients: Float[Array, "L T T"]
    forward: Float[Array, "L T Q T"]
    backward: Float[Array, "L T T Q"]


def linear_mean_field(
    steps: int,
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, " labels"],
    gamma: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    depth: int,
    points: Real[ArrayLike, "R inputs"] | None = None,
) -> MeanField:
    """Deep linear network of infinite width under gradient descent: outputs, features and signals at every step.

    C^l = forward^{l-1} + lr sum_a Delta_a H^{l-1},   D^l = backward^{l+1} + lr Delta G^{l+1},
    f_mu(t) = sum_{s<t} C^{L+1}_mu(t, s),   Delta = (y - f) / P,   H^0 = x x^T / d,   G^{L+1} = 1.

    Arguments:
        steps: steps of gradient descent, a Python int >= 0; depth: number L of hidden layers, a Python int >= 1.
        x, y: samples in rows (P, d) and labels (P,).
        gamma: richness, >= 0; at 0 the network is the kernel machine of (L + 1) x x^T / d.
        lr: step, > 0, of the loss (1/2P) sum (y - f)^2: the network's own rate is gamma^2 N lr, time is lr times steps.
        points: further inputs in rows (R, d), on which the network is not trained.
    Returns:
        the `MeanField` at steps 0 ... `steps`, T = steps + 1. f(0) = 0. Costs O(L (T Q)^3) operations and a few
        (T Q)^2 numbers per layer. Halve the step to see how far from gradient flow it is.
    Holds when: width is infinite, and one output. Networks of width N scatter by N^{-1/2} about it and are biased by
        1/N, when trained on f - f(0). Exact at any step at which gradient descent is stable.
    Source: Bordelon & Pehlevan 2022 (arXiv:2205.09653), the deep linear case; in discrete time and solved forwards,
        derived in derivations/lazy_rich/mean_field_linear.py.
    """
    inputs, y, gamma, lr = checked_training(x, y, gamma, lr, points)
    steps, depth = whole("steps", steps, at_least=0), whole("depth", depth)
    return _sweep(inputs @ inputs.T / inputs.shape[1], y, gamma, lr, steps, depth)


def tangent_kernel(
    features: Float[ArrayLike, "L T Q Q"], gradients: Float[ArrayLike, "..."], x: Real[ArrayLike, "inputs d"]
) -> Float[Array, "T Q Q"]:
    """Tangent kernel through training, in the time of lr times steps: K(t) = sum_{l=0}^L H^l(t, t) G^{l+1}(t, t).

    Arguments:
        features: at equal times, (L, T, Q, Q): `equal_times`. For networks that are not linear <phi(h) phi(h)>.
        gradients: at equal times, (L, T), or (L, T, Q, Q) where signals differ from point to point.
        x: the same Q points in rows, (Q, d).
    Returns:
        K, (T, Q, Q); df/dt = -(1/P) K (f - y) on samples under gradient flow.
    Holds when: infinite width.
    Source: Bordelon & Pehlevan 2022 (arXiv:2205.09653).
    """
    features, gradients = real("features", features), real("gradients", gradients)
    layers, t, q = features.shape[:3]
    x = matrix("x", x, rows=q)
    if gradients.shape[:2] != (layers, t):
        raise ValueError(f"gradients must be of shape ({layers}, {t}, ...) as features are, got {gradients.shape}")
    if gradients.ndim == 2:
        gradients = gradients[:, :, None, None]
    below = jnp.concatenate([jnp.broadcast_to(x @ x.T / x.shape[1], (1, t, q, q)), features])
    above = jnp.concatenate([jnp.broadcast_to(gradients, features.shape), jnp.ones((1, t, q, q))])
    return jnp.sum(below * above, axis=0)


def equal_times(field: tuple) -> tuple[Float[Array, "L T Q Q"], Float[Array, "..."]]:
    """Features and gradients at equal times, H^l(t, t) and G^l(t, t).

    Arguments:
        field: a `MeanField`, or a `SampledMeanField`, whose signals differ from point to point.
    Returns:
        (features, gradients), of shapes (L, T, Q, Q) and (L, T) or (L, T, Q, Q), as `tangent_kernel` takes them.
    Holds when: always.
    Source: a definition.
    """
    features, gradients = real("features", field[1]), real("gradients", field[2])
    subscripts = "ltt->lt" if gradients.ndim == 3 else "ltmtn->ltmn"
    return jnp.einsum("ltmtn->ltmn", features), jnp.einsum(subscripts, gradients)


def residual(
    field: MeanField | tuple,
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, " labels"],
    gamma: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    points: Real[ArrayLike, "R inputs"] | None = None,
) -> Float[Array, ""]:
    """By how much a solution misses the self-consistent equations, written with inverse matrices.

    H^l = R [H^{l-1} + gamma^2 C G^{l+1} C^T] R^T,   G^l = S [G^{l+1} + gamma^2 D H^{l-1} D^T] S^T,
    R = (1 - gamma^2 C D)^{-1},   S = (1 - gamma^2 D C)^{-1},   forward^l = R C,   backward^l = S D.

    Arguments:
        field: a `MeanField`, of any origin; the others as for `linear_mean_field`.
    Returns:
        the largest deviation of any entry of outputs, kernels and responses, over the largest entry of that kind.
    Holds when: always; zero for a solution.
    Source: Bordelon & Pehlevan 2022 (arXiv:2205.09653), the deep linear case.
    """
    inputs, y, gamma, lr = checked_training(x, y, gamma, lr, points)
    field = MeanField(*(real(name, value) for name, value in zip(MeanField._fields, field, strict=True)))
    if field.outputs.shape[1:] != inputs.shape[:1]:
        raise ValueError(f"field must hold outputs at {len(inputs)} points, got shape {field.outputs.shape}")
    return _residual(field, inputs @ inputs.T / inputs.shape[1], y, gamma, lr)


def checked_training(x, y, gamma, lr, points) -> tuple[Array, Array, Array, Array]:
    """Training data and settings of a mean field, or a sentence that says what is wrong with them.

    Arguments: as for `linear_mean_field`.
    Returns: all inputs (samples, then further points), labels, richness and step.
    """
    x, y = matrix("x", x), real("y", y)
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must hold a label for each of {x.shape[0]} samples, got shape {y.shape}")
    if points is not None:
        x = jnp.concatenate([x, matrix("points", points, columns=x.shape[1])])
    return x, y, non_negative("gamma", gamma), positive("lr", lr)


class _Layer(NamedTuple):
    """One layer's operators, filled row by row in time; points within a time are neighbours.

    h = hu u + gamma a r,   g = gr r + gamma b u,   H = <h h>, G = <g g>, X = <g h> / gamma.
    """

    hu: Array
    a: Array
    h: Array
    gr: Array
    b: Array
    g: Array
    x: Array


@partial(jax.jit, static_argnames=("steps", "depth"))
def _sweep(kernel, y, gamma, lr, steps: int, depth: int) -> MeanField:
    q, p, times, square = len(kernel), len(y), steps + 1, gamma**2
    n = times * q
    zeros = partial(jnp.zeros, dtype=kernel.dtype)
    bottom, top = jnp.tile(kernel, (times, times)), jnp.ones((times, times), kernel.dtype)
    sizes = ((n, n), (n, times), (n, n), (times, times), (times, n), (times, times), (times, n))
    layers = [_Layer(*(zeros(size) for size in sizes)) for _ in range(depth)]

    def at(t, state):
        layers, outputs, errors = state
        first, layers = t * q, list(layers)

        def coupling(below: _Layer | None):
            """C(t, s < t) of a layer; `errors` are still zero from t on."""
            rows = jax.lax.dynamic_slice(bottom if below is None else below.h, (first, 0), (q, n))
            driven = lr * jnp.einsum("qsm,sm->qs", rows.reshape(q, times, q), errors)
            return driven if below is None else driven + jax.lax.dynamic_slice(below.a, (first, 0), (q, times))

        def put(array, rows, column=0, row=first):
            return jax.lax.dynamic_update_slice(array, rows, (row, column))

        for i, layer in enumerate(layers):
            c = coupling(layers[i - 1] if i else None)
            under = layers[i - 1].h if i else bottom
            under = jax.lax.dynamic_slice(under, (first, 0), (q, n))
            hu = put(layer.hu, put(square * c @ layer.b, jnp.eye(q, dtype=kernel.dtype), first, 0))
            a = put(layer.a, c @ layer.gr)
            x = put(layer.x, layer.b @ under.T + (c @ layer.g).T, first, 0)
            rows = under @ hu.T + square * c @ x
            h = put(put(layer.h, rows), rows.T, first, 0)
            layers[i] = layer._replace(hu=hu, a=a, x=x, h=h)
        f = jnp.sum(coupling(layers[-1]), axis=1)
        outputs = outputs.at[t].set(f)
        for i in reversed(range(depth)):
            layer = layers[i]
            over = top if i == depth - 1 else layers[i + 1].g
            d = (lr * over[t][:, None] * errors).reshape(n)
            d = d if i == depth - 1 else d + layers[i + 1].b[t]
            # Signals above may have reached t, this layer's must not look further.
            over = jnp.where(jnp.arange(times) <= t, over[t], 0.0)
            gr = layer.gr.at[t].set((square * d @ layer.a).at[t].add(1.0))
            b = layer.b.at[t].set(d @ layer.hu)
            x = layer.x.at[t].set(layer.a @ over + d @ layer.h)
            row = gr @ over + square * x @ d
            layers[i] = layer._replace(gr=gr, b=b, x=x, g=layer.g.at[t].set(row).at[:, t].set(row))
        errors = errors.at[t, :p].set((y - f[:p]) / p)
        return tuple(layers), outputs, errors

    start = tuple(layers), zeros((times, q)), zeros((times, q))
    layers, outputs, _ = jax.lax.fori_loop(0, times, at, start)
    h, g, a, b = (jnp.stack([getattr(layer, name) for layer in layers]) for name in ("h", "g", "a", "b"))
    split = depth, times, q, times
    return MeanField(outputs, h.reshape(*split, q), g, a.reshape(split), b.reshape(depth, times, times, q))


@jax.jit
def _residual(field: MeanField, kernel, y, gamma, lr) -> Float[Array, ""]:
    layers, times, q = field.features.shape[:3]
    p, n, square = len(y), times * q, gamma**2
    errors = jnp.zeros((times, q)).at[:, :p].set((y - field.outputs[:, :p]) / p)
    earlier = jnp.tril(jnp.ones((times, times)), -1)
    h = [jnp.tile(kernel, (times, times)), *field.features.reshape(layers, n, n)]
    g = [*field.gradients, jnp.ones((times, times))]
    a = [jnp.zeros((n, times)), *field.forward.reshape(layers, n, times)]
    b = [*field.backward.reshape(layers, times, n), jnp.zeros((times, n))]

    def coupling(i):
        driven = lr * jnp.einsum("nsm,sm->ns", h[i].reshape(n, times, q), errors)
        return jnp.repeat(earlier, q, axis=0) * (a[i] + driven)

    found, given = [], []
    for i in range(layers):
        c, wide = coupling(i), jnp.repeat(earlier, q, axis=1)
        d = wide * (b[i + 1] + lr * (g[i + 1][:, :, None] * errors).reshape(times, n))
        around = jnp.linalg.inv(jnp.eye(n) - square * c @ d)
        back = jnp.linalg.inv(jnp.eye(times) - square * d @ c)
        found += [around @ (h[i] + square * c @ g[i + 1] @ c.T) @ around.T, around @ c]
        found += [back @ (g[i + 1] + square * d @ h[i] @ d.T) @ back.T, back @ d]
        given += [h[i + 1], a[i + 1], g[i], b[i]]
    found.append(jnp.sum(coupling(layers), axis=1))
    given.append(field.outputs.reshape(n))
    tiny = jnp.finfo(kernel.dtype).tiny
    return jnp.stack(
        [jnp.max(jnp.abs(u - v)) / jnp.maximum(jnp.max(jnp.abs(v)), tiny) for u, v in zip(found, given, strict=True)]
    ).max()
