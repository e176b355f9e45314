"""Curvature of deep linear networks: how sharp their minima are, and the largest step that gradient descent can take.

At a balanced global minimum the Hessian is diagonal in pairs (output mode, input mode), so that the sharpest direction
and the largest stable step follow from the largest mode and the depth alone (Mulayoff & Michaeli 2020; Saxe, McClelland
& Ganguli 2013 on learning rates against depth). Away from the minimum: the spectrum while a single mode is learned.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import floating, non_negative, positive, real, require, whole


def minimum_spectrum(
    s: Real[ArrayLike, " k"],
    depth: int,
    n_out: int,
    n_in: int,
    lam: Real[ArrayLike, " n_in"] | None = None,
) -> Float[Array, "n_out n_in"]:
    """Hessian eigenvalues at a balanced global minimum, one for each pair (output mode i, input mode j).

    h_ij = lam_j sum_{l=1}^N s_i^{2(N-l)/N} s_j^{2(l-1)/N},   all other eigenvalues are zero.

    The products at the two ends are empty: a factor s^0 is one also for s = 0, so that a mode i that is not learned
    still has h_ij = lam_j s_j^{2-2/N} with every learned mode j.

    Arguments:
        s: singular values of the network map W_N ... W_1 at the minimum, >= 0, in any order, shape (k,) with
            k <= min(n_out, n_in); modes beyond k are zero.
        depth: number N of weight matrices, static.
        n_out, n_in: numbers of outputs and inputs, static.
        lam: eigenvalues of the input correlation Sxx, > 0, shape (n_in,), in the order of the map's right vectors;
            ones (white inputs) if left out.
    Returns:
        h, shape (n_out, n_in): the non-zero eigenvalues of the Hessian in all weights are the non-zero entries of h,
        each as often as it stands there.
    Holds when: the residual at the minimum is uncorrelated with the inputs (no hidden layer is narrower than the
        rank of the task), the layers are balanced (W_{l+1}^T W_{l+1} = W_l W_l^T), and Sxx shares the map's right
        vectors. The derivative in an s that is exactly zero is given as zero where it is infinite (depth >= 3).
    Source: the Gauss-Newton matrix at zero residual in the frame of Saxe, McClelland & Ganguli 2013
        (arXiv:1312.6120); its largest entry at white inputs is in Mulayoff & Michaeli 2020.
    """
    depth, n_out, n_in = whole("depth", depth), whole("n_out", n_out), whole("n_in", n_in)
    s = non_negative("s", s)
    if s.ndim != 1 or s.shape[0] > min(n_out, n_in):
        raise ValueError(f"s must be a vector of at most {min(n_out, n_in)} modes, got shape {s.shape}")
    lam = jnp.ones(n_in, s.dtype) if lam is None else positive("lam", lam)
    if lam.shape != (n_in,):
        raise ValueError(f"lam must have shape ({n_in},), got shape {lam.shape}")
    out = jnp.pad(s, (0, n_out - s.shape[0]))[:, None]
    into = jnp.pad(s, (0, n_in - s.shape[0]))[None, :]
    terms = [_power(out, 2 * (depth - k) / depth) * _power(into, 2 * (k - 1) / depth) for k in range(1, depth + 1)]
    return lam * sum(terms)


def minimum_sharpness(s: Real[ArrayLike, "..."], depth: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Largest Hessian eigenvalue at a balanced global minimum: the flattest minimum that there is.

    N s^{2 - 2/N}.

    Arguments, which broadcast:
        s: largest singular value of the network map at the minimum, >= 0.
        depth: number N of weight matrices, >= 1.
    Returns:
        the sharpness, of the broadcast shape.
    Holds when: as for `minimum_spectrum`, with white inputs.
    Source: Mulayoff & Michaeli 2020, the sharpness of the flattest minima.
    """
    s, depth = non_negative("s", s), _at_least_one("depth", depth)
    # s^0 = 1 and s^1 = s at s = 0 are spelled out: the power's own derivative is not a number there.
    at_zero = jnp.where(depth == 1, 1.0, jnp.where(depth == 2, 2 * s, 0.0))
    return jnp.where(s == 0, at_zero, depth * jnp.where(s == 0, 1, s) ** (2 - 2 / depth))


def largest_stable_step(s: Real[ArrayLike, "..."], depth: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Largest step with which gradient descent can stay at the balanced global minimum.

    2 / (N s^{2 - 2/N}): it shrinks as 1/N with the depth.

    Arguments, which broadcast:
        s: largest singular value of the network map at the minimum, > 0.
        depth: number N of weight matrices, >= 1.
    Returns:
        the step, of the broadcast shape; with a larger one the top mode grows by |1 - lr N s^{2-2/N}| > 1 per step.
    Holds when: as for `minimum_sharpness`. Every other minimum of the same map is sharper, and its edge is lower.
    Source: linear stability of gradient descent at `minimum_sharpness`.
    """
    s, depth = positive("s", s), _at_least_one("depth", depth)
    return 2 / (depth * s ** (2 - 2 / depth))


class ModeSpectrum(NamedTuple):
    """Hessian eigenvalues in the weights of one balanced mode: `along` once, `across` depth - 1 times."""

    along: Float[Array, "..."]
    across: Float[Array, "..."]


def trajectory_spectrum(u: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."], depth: int) -> ModeSpectrum:
    """Hessian eigenvalues while one balanced mode is learned, in its N scalar weights a_l = u^{1/N}.

    along = N u^{2-2/N} - (N-1) (s-u) u^{1-2/N},   across = (s-u) u^{1-2/N}   (N - 1 times).

    `along` belongs to the direction in which all layers grow together: negative on the plateau, it passes zero at
    u = s (N-1)/(2N-1) and rises to N s^{2-2/N}. `across` unbalances the layers: it vanishes at the minimum.

    Arguments, which broadcast:
        u: strength of the mode, >= 0.
        s: its final strength, >= 0 (white inputs).
        depth: number N of weight matrices, static. At N = 1 there is no `across`, and it is returned as zero.
    Returns:
        both, of the broadcast shape.
    Holds when: the mode is alone (single input, single output, hidden width one) and balanced. The derivative at
        u = 0 is given as zero where it is infinite (depth >= 3).
    Source: Hessian of (s - a_1 ... a_N)^2 / 2 at a_l = u^{1/N}.
    """
    u, s, depth = non_negative("u", u), non_negative("s", s), whole("depth", depth)
    if depth == 1:
        one = jnp.ones_like(u * s)
        return ModeSpectrum(one, 0 * one)
    across = (s - u) * _power(u, 1 - 2 / depth)
    return ModeSpectrum(depth * _power(u, 2 - 2 / depth) - (depth - 1) * across, across)


def two_layer_spectrum(
    a: Real[ArrayLike, "..."], b: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."]
) -> Float[Array, "... 2"]:
    """Hessian eigenvalues of (s - a b)^2 / 2 anywhere: one mode of two layers, balanced or not.

    (a^2 + b^2)/2 -+ sqrt(((a^2 - b^2)/2)^2 + (2 a b - s)^2).

    Arguments, which broadcast:
        a, b: weights of the first and of the second layer, any sign.
        s: strength of the target, any sign.
    Returns:
        the smaller and the larger eigenvalue, with a last axis of two.
    Holds when: always, for one hidden unit, one input of unit variance and one output.
    Source: the two-by-two Hessian ((b^2, 2ab - s), (2ab - s, a^2)).
    """
    a, b, s = real("a", a), real("b", b), real("s", s)
    middle = (a**2 + b**2) / 2
    half = _hypot((a - b) * (a + b) / 2, 2 * a * b - s)
    return jnp.stack(jnp.broadcast_arrays(middle - half, middle + half), axis=-1)


def unbalanced_sharpness(s: Real[ArrayLike, "..."], imbalance: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Sharpness of the two-layer minima of one mode, against the imbalance of the layers.

    a^2 + b^2 = sqrt(Lam^2 + 4 s^2)   on the minima a b = s, with Lam = b^2 - a^2.

    Arguments, which broadcast:
        s: strength of the mode at the minimum, any sign.
        imbalance: Lam = b^2 - a^2 (second layer minus first), any sign; the gradient flow conserves it.
    Returns:
        the sharpness, of the broadcast shape, at least 2 |s|: the minimum that a flow reaches from a start of that
        imbalance. Its largest stable step is 2 over it.
    Holds when: one hidden unit, one input of unit variance and one output.
    Source: trace of the rank-one Hessian at zero residual.
    """
    return _hypot(real("imbalance", imbalance), 2 * real("s", s))


def _power(x: Float[Array, "..."], exponent: float) -> Float[Array, "..."]:
    """x ** exponent for x >= 0, with 0 ** 0 = 1 and a finite (zero) derivative at x = 0 for exponents below one."""
    if exponent == 0:
        return jnp.ones_like(x)
    # Both branches must be finite for the gradient of `where` to be.
    zero = (x == 0) & (exponent < 1)
    return jnp.where(zero, 0, jnp.where(zero, 1, x) ** exponent)


def _hypot(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """sqrt(x^2 + y^2) without overflow, with a finite (zero) derivative at the origin."""
    origin = (x == 0) & (y == 0)
    return jnp.where(origin, 0, jnp.hypot(jnp.where(origin, 1, x), jnp.where(origin, 1, y)))


def _at_least_one(name: str, value: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    x = floating(name, value)
    return require(name, x, jnp.isfinite(x) & (x >= 1), "must be at least 1 and finite")
