"""One hidden neuron, yhat = a w.x: the smallest network that learns features, solved with its weights.

One neuron is always balanced, so that the two-layer solution holds from any start and, in the absence of other
hidden directions to rotate into, gives the weights themselves (Kunin et al. 2024).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import positive, real
from theory.deep_linear.matrix import BALANCED, moments
from theory.deep_linear.riccati import riccati_factor


class Neuron(NamedTuple):
    """The weights of a single hidden neuron: `w` into it, shape (*T, d), and `a` out of it, shape (*T,)."""

    w: Float[Array, "*T d"]
    a: Float[Array, "*T"]


def single_neuron(
    t: Real[ArrayLike, "*T"],
    w: Real[ArrayLike, " d"],
    a: Real[ArrayLike, ""],
    beta: Real[ArrayLike, " d"],
    c: Real[ArrayLike, ""] = 1.0,
) -> Neuron:
    """The weights of yhat = a w.x at time t, from any start, sign changes included.

    q(t) = e^{Ft} q0 / sqrt(1 + q0^T J q0) for q = (w; a), F as in `exact_solution` with lam = a^2 - |w|^2 (c = 1).

    Arguments:
        t: time, >= 0; one time, or increasing times, shape (T,).
        w, a: weights at t = 0, any real numbers: one neuron is always balanced.
        beta: input-output correlation <y x>, shape (d,).
        c: input variance, Sxx = c I, > 0.
    Returns:
        w(t) and a(t), with the leading shape of t.
    Holds when: Sxx = c I.
    Source: Kunin et al. 2024 (arXiv:2406.06158), the single-neuron model; the closed form is Fukumizu's (1998).
    """
    w, a, beta, c = real("w", w), real("a", a), real("beta", beta), positive("c", c)
    if w.ndim != 1 or beta.shape != w.shape:
        raise ValueError(f"beta must be a vector of the shape of w, {w.shape}, got shape {beta.shape}")
    t = moments(t, w.dtype)
    root, lam = jnp.sqrt(c), a**2 - jnp.sum(w**2)
    start = root * jnp.append(w, a)[None]
    z, sign = riccati_factor(BALANCED, (beta[None], c * lam), t, start)
    q = sign[0, 0] * z[..., 0, :] / root
    return Neuron(q[..., :-1], q[..., -1])


def readout_sign(
    w: Real[ArrayLike, " d"], a: Real[ArrayLike, ""], beta: Real[ArrayLike, " d"], c: Real[ArrayLike, ""] = 1.0
) -> Float[Array, ""]:
    """The basin of a single neuron: the sign of a at t -> infinity.

    sign[ beta.w + (kappa + c lam/2) a ],   kappa = sqrt(|beta|^2 + (c lam/2)^2),   lam = a^2 - |w|^2.

    Arguments: as for `single_neuron`.
    Returns:
        1 or -1; 0 on the boundary, from where the neuron falls into the saddle and learns nothing.
    Holds when: Sxx = c I.
    Source: the top eigenvector of F in `single_neuron`.
    """
    w, a, beta, c = real("w", w), real("a", a), real("beta", beta), positive("c", c)
    half = 0.5 * c * (a**2 - jnp.sum(w**2))
    power = jnp.sum(beta**2)
    kappa = jnp.sqrt(power + half**2)
    # kappa + half without cancellation where the lower layer is larger.
    lever = jnp.where(half >= 0, kappa + half, power / jnp.where(half >= 0, 1, kappa - half))
    return jnp.sign(jnp.dot(beta, w) + lever * a)
