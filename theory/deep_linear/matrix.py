"""Exact solutions of two-layer linear networks from lambda-balanced starts, and their lazy and rich limits.

`W2^T W2 - W1 W1^T = lam I` is conserved by gradient flow. With white inputs it closes the equations of motion, for
any widths (Fukumizu 1998; Braun et al. 2022; Dominé et al. 2024), and lam, the relative scale of the layers,
sets whether features are learned: not for large |lam| in a square network, late but fully in a funnel.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require
from theory.deep_linear.riccati import Generator, riccati_factor, riccati_limit
from theory.flow import flow, times


class Solution(NamedTuple):
    """What of a two-layer network the data see. Its weights are these up to a rotation of the hidden units.

    `network_map`        W2 W1, shape (*T, n_out, n_in).
    `hidden_similarity`  W1^T W1, shape (*T, n_in, n_in): X^T W1^T W1 X compares the hidden vectors of samples.
    `output_gram`        W2 W2^T, shape (*T, n_out, n_out).
    """

    network_map: Float[Array, "*T n_out n_in"]
    hidden_similarity: Float[Array, "*T n_in n_in"]
    output_gram: Float[Array, "*T n_out n_out"]


def exact_solution(
    t: Real[ArrayLike, "*T"],
    w1: Real[ArrayLike, "h n_in"],
    w2: Real[ArrayLike, "n_out h"],
    syx: Real[ArrayLike, "n_out n_in"],
    c: Real[ArrayLike, ""] = 1.0,
) -> Solution:
    """The two-layer network at time t, from a lambda-balanced start.

    For c = 1, with Q = [W1, W2^T] and F = [[-lam/2 I, Syx^T], [Syx, lam/2 I]]:
    Q^T Q(t) = e^{Ft} Q0^T [I + Q0 J Q0^T]^{-1} Q0 e^{Ft},   J = int_0^t e^{2Fr} dr.

    Arguments:
        t: time in units of 1 / learning rate, >= 0; one time, or increasing times, shape (T,).
        w1, w2: weights at t = 0, any widths, with W2^T W2 - W1 W1^T = lam I; lam is read off them.
        syx: input-output correlation.
        c: input variance, Sxx = c I, > 0.
    Returns:
        W2 W1, W1^T W1 and W2 W2^T, each with the leading shape of t; the error, relative to the largest entry of
        Q^T Q, is of order 1e-15 in float64 at any time. (Only where a repeated singular value finds room in part
        does it grow, as 1e-16 s t: rounding tells its copies apart.)
    Holds when: Sxx = c I and the start is balanced (an unbalanced one is refused). Gradients with respect to the
        weights are those of directions that keep the balance.
    Source: Fukumizu 1998; Braun, Dominé, Fitzgerald & Saxe 2022; Dominé et al. 2024 (arXiv:2409.14623).
    """
    w1, w2, syx, c = network(w1, w2, syx, c)
    return _grams(moments(t, w1.dtype), w1, w2, syx, c, relative_scale(w1, w2))


@jax.jit
def _grams(t, w1, w2, syx, c, lam):
    # White inputs of variance c are white inputs of variance 1 for the weights sqrt(c) W.
    root = jnp.sqrt(c)
    z, _ = riccati_factor(BALANCED, (syx, c * lam), t, root * jnp.concatenate([w1, w2.T], axis=1))
    return grams(z / root, w1.shape[1])


def grams(q: Float[Array, "*T r n"], n_in: int) -> Solution:
    """What the data see of the weights Q = [W1, W2^T]."""
    w1, upper = q[..., :n_in], q[..., n_in:]
    w1_t, w2 = jnp.swapaxes(w1, -1, -2), jnp.swapaxes(upper, -1, -2)
    return Solution(w2 @ w1, w1_t @ w1, w2 @ upper)


def relative_scale(w1: Real[ArrayLike, "h n_in"], w2: Real[ArrayLike, "n_out h"]) -> Float[Array, ""]:
    """The lam of a lambda-balanced network: W2^T W2 - W1 W1^T = lam I; > 0 where the upper layer is larger.

    Arguments:
        w1, w2: weights of the lower and of the upper layer.
    Returns:
        lam, the mean of the diagonal.
    Holds when: the network is balanced to the square root of the precision; otherwise it is refused.
    Source: Dominé et al. 2024 (arXiv:2409.14623), definition of lambda-balanced weights.
    """
    w1 = matrix("w1", w1)
    w2 = matrix("w2", w2, columns=w1.shape[0])
    below, above = w1 @ w1.T, w2.T @ w2
    lam = jnp.mean(jnp.diagonal(above - below))
    size = jnp.max(jnp.diagonal(above + below))
    deviation = jnp.max(jnp.abs(above - below - lam * jnp.eye(len(below), dtype=below.dtype)))
    deviation = jax.lax.stop_gradient(deviation / jnp.where(size > 0, size, 1))
    balanced = deviation <= jnp.sqrt(jnp.finfo(lam.dtype).eps)
    must = (
        "must be balanced, W2^T W2 - W1 W1^T = lam I up to rounding; the largest deviation, over the weights squared,"
    )
    deviation = require("w1 and w2", deviation, balanced, must + " must vanish")
    # Inside jit the refusal has to hang on a value that is used.
    return jnp.where(deviation <= 1, lam, jnp.nan)


def excess_loss(
    network_map: Float[ArrayLike, "*T n_out n_in"], syx: Real[ArrayLike, "n_out n_in"], c: Real[ArrayLike, ""] = 1.0
) -> Float[Array, "*T"]:
    """Loss above the least loss of any linear map: c/2 |W - Syx/c|^2.

    L = tr Syy / 2 - tr(W Syx^T) + c/2 tr(W W^T), and its least value is (tr Syy - |Syx|^2 / c) / 2.

    Arguments:
        network_map: W, shape (*T, n_out, n_in).
        syx: input-output correlation.
        c: input variance, Sxx = c I, > 0.
    Returns:
        L - min L, of the leading shape of W. A bottleneck keeps it above zero.
    Holds when: Sxx = c I; the loss is half the squared error, averaged over samples.
    Source: completing the square.
    """
    w, syx, c = real("network_map", network_map), matrix("syx", syx), positive("c", c)
    return 0.5 * c * jnp.sum((w - syx / c) ** 2, axis=(-2, -1))


def final_solution(
    w1: Real[ArrayLike, "h n_in"],
    w2: Real[ArrayLike, "n_out h"],
    syx: Real[ArrayLike, "n_out n_in"],
    c: Real[ArrayLike, ""] = 1.0,
) -> Solution:
    """Where a lambda-balanced start ends: Q^T Q = sum of 2 mu o o^T over eigenpairs (mu, o) of F.

    The sum is over the min(hidden, number of mu > 0) largest eigenvalues of F (see `exact_solution`; c = 1), unless
    the start lacks one of them. For lam = 0 the map is Syx truncated to rank `hidden`.

    Arguments: as for `exact_solution`.
    Returns:
        The limit of t -> infinity. Of a repeated eigenvalue that finds room only in part, the start decides which.
    Holds when: as for `exact_solution`. In a funnel of large |lam| the approach takes a time of c |lam| / s^2.
    Source: the limit of `exact_solution`.
    """
    w1, w2, syx, c = network(w1, w2, syx, c)
    root = jnp.sqrt(c)
    start = root * jnp.concatenate([w1, w2.T], axis=1)
    return grams(riccati_limit(BALANCED, (syx, c * relative_scale(w1, w2)), start) / root, w1.shape[1])


def lazy_map(
    t: Real[ArrayLike, "*T"],
    w0: Real[ArrayLike, "n_out n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
    lam: Real[ArrayLike, ""],
    c: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*T n_out n_in"]:
    """The lazy limit |lam| -> infinity: every mode relaxes alike, W(t) = Syx/c + (W0 - Syx/c) exp(-c |lam| t).

    Arguments:
        t: time, >= 0.
        w0: network map at t = 0.
        syx: input-output correlation.
        lam: relative scale of the layers.
        c: input variance, Sxx = c I, > 0.
    Returns:
        W(t), with the leading shape of t; the error is of order (s/lam)^2.
    Holds when: the large layer is square (hidden = n_out for lam > 0, hidden = n_in for lam < 0), so that its Gram
        matrix is |lam| I. Otherwise see `delayed_rich_map`.
    Source: Dominé et al. 2024 (arXiv:2409.14623), the lazy regime.
    """
    w0 = matrix("w0", w0)
    syx = matrix("syx", syx, *w0.shape)
    t, lam, c = non_negative("t", t), real("lam", lam), positive("c", c)
    left = jnp.exp(-c * jnp.abs(lam) * t)[..., None, None]
    return syx / c + (w0 - syx / c) * left


def delayed_rich_map(
    t: Real[ArrayLike, "*T"],
    w2: Real[ArrayLike, "n_out h"],
    syx: Real[ArrayLike, "n_out n_in"],
    lam: Real[ArrayLike, ""],
    c: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*T n_out n_in"]:
    """The delayed-rich limit lam -> +infinity of a network that widens upwards: W(t) = Pi(t) Syx / c.

    Pi(t) projects onto the span of exp(Syx Syx^T t / (c lam)) W2(0): the lower layer follows at once (in a time
    1/(c lam)), the upper one turns its span towards the strong modes, in a time c lam / s^2.

    Arguments:
        t: time, >= 0; one time, or increasing times, shape (T,).
        w2: upper weights at t = 0, of full rank, hidden <= n_out.
        syx: input-output correlation.
        lam: relative scale of the layers, > 0.
        c: input variance, Sxx = c I, > 0.
    Returns:
        W(t), with the leading shape of t; the error is of order (s/lam)^2 once t >> 1/(c lam).
    Holds when: lam >> s. For lam << -s and a network that narrows, transpose: W1(0)^T, Syx^T, -lam give W^T.
    Source: the slow manifold of `exact_solution`; the regime is that of Dominé et al. 2024 (arXiv:2409.14623).
    """
    syx = matrix("syx", syx)
    w2 = matrix("w2", w2, rows=syx.shape[0])
    t, lam, c = moments(t, syx.dtype), positive("lam", lam), positive("c", c)
    if w2.shape[1] > w2.shape[0]:
        raise ValueError(f"w2 must have no more columns than rows, got shape {w2.shape}")
    # The Riccati flow turns the span of its factor as the linear flow does, and keeps it from overflow.
    z = jnp.swapaxes(riccati_factor(GRAM, syx / jnp.sqrt(c * lam), t, w2.T)[0], -1, -2)
    frame = jnp.linalg.qr(z / jnp.linalg.norm(z, axis=-2, keepdims=True))[0]
    return frame @ (jnp.swapaxes(frame, -1, -2) @ syx) / c


def wide_solution(
    t: Real[ArrayLike, " T"],
    syx: Real[ArrayLike, "n_out n_in"],
    gamma: Real[ArrayLike, ""],
    c: Real[ArrayLike, ""] = 1.0,
) -> Solution:
    """A very wide network from small random weights: half lazy, half rich ("mixed"), and not lambda-balanced.

    dA/dt = B E + E C,   dB/dt = E A^T + A E^T,   dC/dt = E^T A + A^T E,   E = Syx - c A,
    for A = W2 W1, B = W2 W2^T, C = W1^T W1; from A = 0, B = C = gamma I, which keeps B = sqrt(A A^T + gamma^2).

    Arguments:
        t: increasing times, >= 0, shape (T,).
        syx: input-output correlation.
        gamma: variance of the initial weights times the number of hidden units, >= 0.
        c: input variance, Sxx = c I, > 0.
    Returns:
        A, C, B as the `Solution` at times t, to the accuracy of the integrator (about 1e-11 in float64).
    Holds when: hidden -> infinity at fixed gamma; corrections are of order hidden^{-1/2}.
    Source: Tu, Aranguri & Jacot 2024, "Mixed dynamics in linear networks".
    """
    syx = matrix("syx", syx)
    gamma, c = non_negative("gamma", gamma).astype(syx.dtype), positive("c", c).astype(syx.dtype)
    return _wide(times("t", t), syx, gamma, c)


@jax.jit
def _wide(t, syx, gamma, c):
    def velocity(grams):
        a, below, above = grams
        error = syx - c * a
        turn, lift = error.T @ a, error @ a.T
        return above @ error + error @ below, turn + turn.T, lift + lift.T

    n_out, n_in = syx.shape
    start = jnp.zeros_like(syx), gamma * jnp.eye(n_in, dtype=syx.dtype), gamma * jnp.eye(n_out, dtype=syx.dtype)
    eps = float(jnp.finfo(syx.dtype).eps)
    return Solution(*flow(velocity, t, start, rtol=1e4 * eps, atol=1e2 * eps))


def network(w1, w2, syx, c) -> tuple[Array, ...]:
    """The arguments of a two-layer problem, of fitting shapes and one precision."""
    syx, c = matrix("syx", syx), positive("c", c)
    w1 = matrix("w1", w1, columns=syx.shape[1])
    w2 = matrix("w2", w2, rows=syx.shape[0], columns=w1.shape[0])
    kind = jnp.result_type(w1, w2, syx)
    return w1.astype(kind), w2.astype(kind), syx.astype(kind), c.astype(kind)


def moments(t, kind) -> Float[Array, "*T"]:
    """One time, or increasing times."""
    t = non_negative("t", t).astype(kind)
    return times("t", t) if t.ndim else t


def _balanced_matrix(parameters):
    syx, lam = parameters
    n_out, n_in = syx.shape
    below, above = jnp.eye(n_in, dtype=syx.dtype), jnp.eye(n_out, dtype=syx.dtype)
    return jnp.block([[-0.5 * lam * below, syx.T], [syx, 0.5 * lam * above]])


def _balanced_spectrum(parameters):
    """From the singular vectors of Syx: each pair of them spans a plane that F turns by an angle, whatever lam."""
    syx, lam = parameters
    (n_out, n_in), k = syx.shape, min(syx.shape)
    u, s, vt = jnp.linalg.svd(syx, full_matrices=n_out != n_in)
    v = vt.T
    kappa = jnp.hypot(s, 0.5 * lam)
    angle = 0.5 * jnp.arctan2(s, -0.5 * lam)
    c, d = jnp.cos(angle), jnp.sin(angle)
    none = jnp.zeros((n_in, n_out - k), s.dtype), jnp.zeros((n_out, n_in - k), s.dtype)
    lower = jnp.concatenate([c * v[:, :k], -d * v[:, :k], v[:, k:], none[0]], axis=1)
    upper = jnp.concatenate([d * u[:, :k], c * u[:, :k], none[1], u[:, k:]], axis=1)
    mu = jnp.concatenate([kappa, -kappa, jnp.full(n_in - k, -0.5 * lam), jnp.full(n_out - k, 0.5 * lam)])
    return mu, jnp.concatenate([lower, upper])


def _gram_spectrum(a):
    u, s, _ = jnp.linalg.svd(a, full_matrices=True)
    return jnp.append(s**2, jnp.zeros(len(u) - len(s), s.dtype)), u


# (Syx, lam) -> [[-lam/2 I, Syx^T], [Syx, lam/2 I]], of a lambda-balanced network.
BALANCED = Generator(_balanced_matrix, _balanced_spectrum)
# A -> A A^T.
GRAM = Generator(lambda a: a @ a.T, _gram_spectrum)
