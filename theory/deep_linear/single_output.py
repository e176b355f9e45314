"""Deep linear networks with one output on finite data: what they learn where the data say nothing.

From a balanced start every layer has rank one and the same singular value a, so that the N layers act as one vector
theta, |theta| = a, the row of the first layer: w = |theta|^{N-1} theta (Arora, Cohen & Hazan 2018). Directions outside
the inputs' span are frozen in theta, but not in w: they grow with the layers above (Advani & Saxe 2017).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, real, require, whole
from theory.flow import flow, times


def first_layer(w: Real[ArrayLike, " d"], depth: int) -> Float[Array, " d"]:
    """The row theta = |w|^{1/N - 1} w that the balanced layers behind the map w share.

    W_1 = h_1 theta^T, W_l = |theta| h_l h_{l-1}^T, W_N = |theta| h_{N-1}^T, with unit vectors h_l.

    Arguments: w: the network map, not zero, shape (d,); depth: N, number of layers, >= 1.
    Returns: theta, shape (d,).
    Holds when: the start is balanced, W_{l+1}^T W_{l+1} = W_l W_l^T.
    Source: Arora, Cohen & Hazan 2018 (arXiv:1802.06509).
    """
    w, depth = _start("w", w), whole("depth", depth)
    return w * jnp.linalg.norm(w) ** (1 / depth - 1)


def network_map(theta: Real[ArrayLike, "*times d"], depth: int) -> Float[Array, "*times d"]:
    """The map w = |theta|^{N-1} theta of the balanced layers that share the row theta.

    Arguments: theta: shape (..., d); depth: N, number of layers, >= 1.
    Returns: w, of theta's shape.
    Holds when, source: as for `first_layer`.
    """
    theta, depth = real("theta", theta), whole("depth", depth)
    # sqrt has no derivative at 0, where odd powers of the norm need none.
    square = jnp.sum(theta**2, axis=-1, keepdims=True)
    zero = square == 0
    size = jnp.where(zero, 0.0 if depth > 1 else 1.0, jnp.where(zero, 1.0, square) ** ((depth - 1) / 2))
    return size * theta


def single_output_flow(
    t: Real[ArrayLike, " T"],
    w0: Real[ArrayLike, " d"],
    sxx: Real[ArrayLike, "d d"],
    syx: Real[ArrayLike, " d"],
    depth: int,
) -> Float[Array, "T d"]:
    """The map w(t) of a balanced network with one output: exact on any data, an equation in d numbers.

    dw/dt = |w|^{2-2/N} [g + (N-1) w (w . g) / |w|^2],   equivalently   dtheta/dt = |theta|^{N-1} g,   g = syx - sxx w.

    Arguments:
        t: increasing times, >= 0, shape (T,), in units of 1 / learning rate.
        w0: the map at t = 0, not zero, shape (d,).
        sxx, syx: X X^T / P and X y / P, inputs in columns; with X X^T and X y instead, time is that of the SUM loss.
        depth: N, number of layers, >= 1.
    Returns:
        w(t), shape (T, d).
    Holds when: the start is balanced; widths do not matter. t times the largest curvature below about 1e5 (the
        integrator is explicit). float32 gives 1e-4.
    Source: Arora, Cohen & Hazan 2018 (arXiv:1802.06509), for one output.
    """
    t, w0, depth = times("t", t), _start("w0", w0), whole("depth", depth)
    sxx, syx = matrix("sxx", sxx, w0.size, w0.size), real("syx", syx)
    return network_map(_integral(t, first_layer(w0, depth), sxx, syx, depth), depth)


def interpolator(
    w0: Real[ArrayLike, " d"], x: Real[ArrayLike, "d P"], y: Real[ArrayLike, " P"], depth: int
) -> Float[Array, " d"]:
    """The interpolating map that gradient flow ends at: the least-norm one plus a frozen part, rescaled.

    w = w_mn + r^{1-1/N} (1 - Pi) theta(0),   r^2 = |w_mn|^2 + r^{2-2/N} |(1 - Pi) theta(0)|^2,   r = |w|,
    w_mn = X (X^T X)^{-1} y, Pi the projector on the inputs' span.

    Arguments:
        w0: the map at t = 0, not zero, shape (d,).
        x: inputs in columns, of full rank, shape (d, P) with P <= d.
        y: labels, shape (P,).
        depth: N, number of layers, >= 1.
    Returns:
        w(infinity), shape (d,); for N = 1 the frozen part of w0 is as it was.
    Holds when: the start is balanced and flow interpolates in the end (any generic start).
    Source: (1 - Pi) theta is conserved, since dtheta/dt = |theta|^{N-1} X (y - X^T w); Advani & Saxe 2017
        (arXiv:1710.03667) for the frozen subspace, Azulay et al. 2021 (arXiv:2102.09769) for the warped mirror flow.
    """
    w0, depth = _start("w0", w0), whole("depth", depth)
    x, y = matrix("x", x, w0.size), real("y", y)
    if x.shape[1] > x.shape[0]:
        raise ValueError(f"x must hold at most {x.shape[0]} samples, as many as there are dimensions, got {x.shape[1]}")
    gram = jax.scipy.linalg.cho_factor(x.T @ x)

    def along(values):
        return x @ jax.scipy.linalg.cho_solve(gram, values)

    least_norm = along(y)
    theta = first_layer(w0, depth)
    frozen = theta - along(x.T @ theta)
    square = _layer_square(jnp.sum(least_norm**2), jnp.sum(frozen**2), depth)
    return least_norm + square ** ((depth - 1) / 2) * frozen


def _start(name, w):
    w = real(name, w)
    if w.ndim != 1:
        raise ValueError(f"{name} must be a vector, got shape {w.shape}")
    return require(name, w, jnp.any(w != 0), "must not be zero, where a deep network never learns")


@partial(jax.jit, static_argnames="depth")
def _integral(t, theta, sxx, syx, depth: int):
    def field(theta):
        size = jnp.sum(theta**2) ** ((depth - 1) / 2)
        return size * (syx - sxx @ (size * theta))

    tolerances = {"rtol": 1e-12, "atol": 1e-15} if t.dtype == jnp.float64 else {"rtol": 1e-5, "atol": 1e-8}
    return flow(field, t, theta, **tolerances)


@partial(jax.jit, static_argnums=2)
def _layer_square(m2, q2, depth: int):
    """The root y > 0 of y = q2 + m2 y^{1-N}: y = a^2, the layers' singular value squared; differentiable."""

    def law(y):
        return y - q2 - m2 * y ** (1 - depth)

    # The right-hand side falls with y, so that the root lies between max and sum of its value for q2 = 0 or m2 = 0.
    alone = jnp.where(m2 > 0, jnp.where(m2 > 0, m2, 1.0) ** (1 / depth), 0.0)
    ends = jax.lax.stop_gradient((jnp.maximum(q2, alone), q2 + alone))

    def halved(law, _):
        def halve(_, ends):
            middle = sum(ends) / 2
            below = law(middle) < 0
            return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

        return sum(jax.lax.fori_loop(0, 60, halve, ends)) / 2

    return jax.lax.custom_root(law, ends[1], halved, lambda linear, y: y / linear(jnp.ones_like(y)))
