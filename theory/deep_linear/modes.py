"""Modes of deep linear networks: plateau, then abrupt rise (Saxe, McClelland & Ganguli 2013).

From aligned weights the singular modes of `Syx = U diag(s) V^T` decouple, and each mode strength `u` (a singular
value of the network map) grows on its own: du/dt = N u^{2-2/N} (s - lam u) at depth N. How long that takes is in
`learning_time`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, whole

# The two series below are used up to argument 1/2, where the 54th term is under the rounding of float64.
ORDERS = np.arange(1, 55)


def mode_strength(
    t: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
    depth: int = 2,
) -> Float[Array, "..."]:
    """Strength of one mode of a deep linear network at time t.

    du/dt = N u^{2-2/N} (s - lam u), which is, at
        depth N = 1:   u(t) = s/lam + (u0 - s/lam) exp(-lam t),
        depth N = 2:   u(t) = s u0 / (lam u0 (1 - E) + s E),   E = exp(-2 s t),
        depth N >= 3:  N t = int_{u0}^{u} dv / (v^{2-2/N} (s - lam v)), solved for u.

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate.
        s: singular value of the input-output correlation Syx, >= 0.
        u0: strength at t = 0, >= 0 (any real number at depth 1); below or above s/lam.
        lam: eigenvalue of the input correlation Sxx on the mode's right vector, > 0.
        depth: number N of weight matrices, a Python int >= 1.
    Returns:
        u(t), of the broadcast shape; s/lam as t -> infinity; at s = 0 it is
        (u0^{-(2-2/N)} + 2 (N-1) lam t)^{-N/(2N-2)}; from u0 = 0 it stays 0 at depth 2 and more.
    Holds when: the start is balanced (every layer u0^{1/N}) and aligned, and Syx and Sxx share right vectors. The
        result is as exact as the time: a relative rounding of t is amplified by t |du/dt| / u, the number of
        time constants of the rise that the plateau lasts.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), eq. 12 (depth 2) and the section on deeper networks.
    """
    depth = whole("depth", depth)
    t, s, lam = non_negative("t", t), non_negative("s", s), positive("lam", lam)
    if depth == 1:
        u0 = real("u0", u0)
        return u0 * jnp.exp(-lam * t) + s * decay_integral(lam, t)
    u0 = non_negative("u0", u0)
    if depth > 2:
        return _deep_strength(depth * t, s, u0, lam, 2 / depth)
    # Zero is a fixed point, but 0/0 in the formula once E has underflowed.
    moving = u0 > 0
    start = jnp.where(moving, u0, 1.0)
    # Dividing numerator and denominator by s leaves (1 - E)/s = 2 t phi(2 s t), smooth through s = 0.
    u = start / (lam * start * 2 * decay_integral(2 * s, t) + jnp.exp(-2 * s * t))
    return jnp.where(moving, u, u0 * jnp.exp(jnp.minimum(2 * s * t, 80.0)))


def infinite_depth_strength(
    t: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Strength of one mode of an infinitely deep linear network: the limit of u(t/N) at depth N -> infinity.

    du/dt = u^2 (s - lam u),   t = f(u) - f(u0),   f(u) = (lam/s^2) ln(u / |s - lam u|) - 1/(s u).

    Arguments, which broadcast:
        t: depth N times the time, >= 0, in units of 1 / learning rate: the time of a learning rate given per layer.
        s, u0, lam: as for `mode_strength`; u0 does not change with depth (orthogonal layers of scale u0^{1/N}).
    Returns:
        u, of the broadcast shape; u0 / sqrt(1 + 2 lam u0^2 t) at s = 0.
    Holds when: as for `mode_strength`, with corrections of order 1/N.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section on very deep networks.
    """
    t, s, lam = non_negative("t", t), non_negative("s", s), positive("lam", lam)
    return _deep_strength(t, s, non_negative("u0", u0), lam, 0.0)


def excess_loss(
    u: Real[ArrayLike, "*times k"], s: Real[ArrayLike, " k"], lam: Real[ArrayLike, "*k"] = 1.0
) -> Float[Array, "*times"]:
    """Loss above its minimum over all linear maps, of an aligned problem with mode strengths u.

    L - L_min = (1/2) sum_i lam_i (u_i - s_i/lam_i)^2,   L = (1/2P) sum |y - W x|^2.

    Arguments:
        u: mode strengths, the modes on the last axis; 0 for a mode that the network lacks the rank to hold.
        s: singular values of Syx, shape (k,).
        lam: eigenvalues of Sxx on the same right vectors, > 0, shape (k,) or a scalar.
    Returns:
        the excess loss, without the axis of the modes.
    Holds when: Syx and Sxx share right vectors and W = sum_i u_i left_i right_i^T.
    """
    u, s, lam = real("u", u), non_negative("s", s), positive("lam", lam)
    return 0.5 * jnp.sum(lam * (u - s / lam) ** 2, axis=-1)


def least_loss(
    syy: Real[ArrayLike, ""], s: Real[ArrayLike, " k"], lam: Real[ArrayLike, "*k"] = 1.0
) -> Float[Array, ""]:
    """The smallest loss of any linear map: L_min = (1/2) (tr Syy - sum_i s_i^2 / lam_i).

    Arguments:
        syy: tr Syy, the mean squared length of an output, >= 0.
        s, lam: of all modes with s > 0, as for `excess_loss`.
    Returns:
        L_min, a scalar; the loss of an aligned network is L_min + `excess_loss`.
    Holds when: Syx and Sxx share right vectors.
    """
    syy, s, lam = non_negative("syy", syy), non_negative("s", s), positive("lam", lam)
    return 0.5 * (syy - jnp.sum(s**2 / lam))


def effective_start(
    w1: Real[ArrayLike, "hidden n_in"],
    w2: Real[ArrayLike, "n_out hidden"],
    left: Real[ArrayLike, "n_out k"],
    right: Real[ArrayLike, "n_in k"],
) -> Float[Array, " k"]:
    """The start u0 that a mode of a two-layer network with small random weights behaves as if it had.

    u0_i = |p_i|^2 / 4,   p_i = W1 right_i + W2^T left_i,   the part of the weights that grows as exp(s_i t).

    Arguments:
        w1, w2: the weights at t = 0.
        left, right: the modes' singular vectors, in columns.
    Returns:
        u0, shape (k,), for `mode_strength(t, s, u0)`.
    Holds when: white inputs, |p_i|^2 << s_i, and directions p_i that are orthogonal in the hidden layer, as random
        ones are up to cosines of order 1/sqrt(hidden); see `separate_start` for those.
    """
    p = growing_part(w1, w2, left, right)
    return jnp.sum(p**2, axis=0) / 4


def separate_start(
    w1: Real[ArrayLike, "hidden n_in"],
    w2: Real[ArrayLike, "n_out hidden"],
    left: Real[ArrayLike, "n_out k"],
    right: Real[ArrayLike, "n_in k"],
) -> Float[Array, " k"]:
    """The effective start of each mode once the stronger modes have been learned.

    u0_i = R_ii^2 / 4,   Q R = (p_1, ..., p_k): what p_i has outside the hidden directions of stronger modes.
    A stronger mode takes its direction: along it a weaker one no longer grows, but decays.

    Arguments: as for `effective_start`, with the modes in order of falling s.
    Returns:
        u0, shape (k,); smaller than the effective start by sum_j cos^2(p_i, p_j), of order k/hidden.
    Holds when: as for `effective_start`, with singular values apart, (u0/s_i)^{s_i/s_j - 1} << 1 for i < j, and
        hidden >= k; the cosines may be of any size.
    """
    r = jnp.linalg.qr(growing_part(w1, w2, left, right), mode="r")
    return jnp.diagonal(r) ** 2 / 4


def mean_effective_start(
    hidden: int, sigma1: Real[ArrayLike, "..."], sigma2: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Mean of `effective_start` over Gaussian weights: hidden (sigma1^2 + sigma2^2) / 4.

    Arguments:
        hidden: hidden width, a Python int.
        sigma1, sigma2: standard deviations of the entries of W1 and W2, >= 0.
    Returns:
        E u0; u0 / E u0 is chi-squared with `hidden` degrees of freedom over `hidden`, so it spreads by sqrt(2/hidden).
    """
    sigma1, sigma2 = non_negative("sigma1", sigma1), non_negative("sigma2", sigma2)
    return whole("hidden", hidden) * (sigma1**2 + sigma2**2) / 4


def growing_part(w1, w2, left, right) -> Float[Array, "hidden k"]:
    """W1 right + W2^T left, of checked shapes."""
    left = matrix("left", left)
    right = matrix("right", right, columns=left.shape[1])
    w1 = matrix("w1", w1, columns=right.shape[0])
    w2 = matrix("w2", w2, rows=left.shape[0], columns=w1.shape[0])
    return w1 @ right + w2.T @ left


def decay_integral(rate: Float[Array, "..."], t: Float[Array, "..."]) -> Float[Array, "..."]:
    """int_0^t exp(-rate r) dr = (1 - exp(-rate t)) / rate, smooth (with its derivatives) through rate = 0."""
    x = rate * t
    small = jnp.abs(x) < 0.02
    # Both branches must be finite for the gradient of `where` to be.
    near, far = jnp.where(small, x, 0.0), jnp.where(small, 0.0, x)
    series = 1 - near / 2 * (1 - near / 3 * (1 - near / 4 * (1 - near / 5 * (1 - near / 6 * (1 - near / 7)))))
    return jnp.where(small, t * series, -jnp.expm1(-far) / jnp.where(small, 1.0, rate))


# The law of any depth. Let v = lam u / s where the start is below s/lam, and s / (lam u) where it is above: v rises
# to 1 on both sides, dv/dT = v^b (1 - v) in a suitable unit of time, with b = 2 - 2/N below and 2/N - 1 above.
# Up to v = 1/2 the time is nearly linear in (v/v0)^{1-b} (the plateau), from there on in ln(1 - v) (the relaxation):
# in these variables the slope of the law varies by less than a factor of 4, and in one sense only, so that
# Newton's method runs to the root from one side and needs neither a bracket nor a test.


def plateau_law(growth: Float[Array, ""], v: Float[Array, ""], c: Float[Array, ""]) -> Float[Array, ""]:
    """int_0^growth e^{-c l} / (1 - v e^{-l}) dl: the time in which v e^{-growth} grows to v <= 1/2; c = 1 - b."""
    return decay_integral(c, growth) + jnp.sum(v**ORDERS * decay_integral(c + ORDERS, growth))


def relaxation_law(decay: Float[Array, ""], w0: Float[Array, ""], b: Float[Array, ""]) -> Float[Array, ""]:
    """int_0^decay (1 - w0 e^{-l})^{-b} dl: the time in which w = 1 - v falls from w0 <= 1/2 to w0 e^{-decay}."""
    binomial = jnp.cumprod((b + ORDERS - 1) / ORDERS)
    return decay - jnp.sum(binomial * w0**ORDERS * jnp.expm1(-decay * ORDERS) / ORDERS)


def _deep_strength(t, s, u0, lam, a: float) -> Float[Array, "..."]:
    """u after du/dt = u^{2-a} (s - lam u), 0 <= a < 1, of the broadcast shape."""
    dtype = jnp.result_type(t, s, u0, lam)
    return _inverted_law(*(jnp.asarray(x, dtype) for x in (t, s, u0, lam, a)))


@jax.jit
@jnp.vectorize
def _inverted_law(t, s, u0, lam, a) -> Float[Array, ""]:
    moving = u0 > 0
    start = jnp.where(moving, u0, 1.0)
    below = lam * start <= s
    v0 = jnp.where(below, lam * start, s) / jnp.where(below, s, lam * start)
    c = jnp.where(below, a - 1, 2 - a)
    slow = v0 < 0.5

    # The plateau, from v0 to 1/2, in units that s = 0 leaves: 1 / (s u0^{1-a}) below and 1 / (lam u0^{2-a}) above.
    t = t * jnp.where(below, s * start ** (1 - a), lam * start ** (2 - a))
    first = jnp.where(slow, v0, 0.5)
    full = -jnp.log(2 * jnp.maximum(first, jnp.finfo(t.dtype).tiny ** 0.25))
    lasts = jnp.exp(c * full) * plateau_law(full, jnp.full_like(t, 0.5), c)
    early = slow & (t <= lasts)
    growth = _growth(jnp.where(early, t, lasts), first, full, c)
    rising = start * jnp.exp(jnp.where(below, growth, -growth))

    # The relaxation, from max(v0, 1/2) on, in units of 1 / (s (s/lam)^{1-a}). Past 1000 of them nothing moves.
    left = jnp.where(early, 0.0, jnp.where(slow, t - lasts, t))
    left = jnp.minimum(left * v0**c, 1000.0)
    w0 = jnp.where(slow, 0.5, 1 - v0)
    v = 1 - w0 * jnp.exp(-_decay(left, w0, c, below))
    settling = s / lam * jnp.where(below, v, 1 / v)
    return jnp.where(moving, jnp.where(early, rising, settling), u0)


def _growth(spent, first, full, c) -> Float[Array, ""]:
    """ln(v / first) after time `spent` on the plateau, at most `full`."""

    def growth(x, full, c):
        # The end of a plateau so long that it is lost in the rounding of t must not become log(0).
        return jnp.minimum(jnp.log1p(jnp.maximum(c * x, jnp.finfo(x.dtype).eps - 1)) / c, full)

    def law(x, first, full, c):
        now = growth(x, full, c)
        v = first * jnp.exp(now)
        return jnp.exp(c * now) * plateau_law(now, v, c), 1 / (1 - v)

    guess = jnp.minimum(spent, decay_integral(-c, full))
    return growth(_root(law, spent, guess, first, full, c), full, c)


def _decay(spent, w0, c, below) -> Float[Array, ""]:
    """ln(w0 / w) after time `spent` of relaxation."""

    def law(x, w0, c):
        return relaxation_law(x, w0, 1 - c), (1 - w0 * jnp.exp(-x)) ** (c - 1)

    # Two bounds, on the side from which Newton's method is monotone: by the first slope, and by the final delay.
    steep = spent * (1 - w0) ** (1 - c)
    delayed = spent - (relaxation_law(jnp.full_like(spent, 1e3), w0, 1 - c) - 1e3)
    return _root(law, spent, jnp.where(below, jnp.maximum(steep, delayed), jnp.minimum(steep, delayed)), w0, c)


def _root(law: Callable, target: Float[Array, ""], start: Float[Array, ""], *given) -> Float[Array, ""]:
    """x with law(x, *given) = (target, slope), by Newton's method; differentiable in `target` and `given`.

    Five steps reach the root to 1e-9 or better; two more, and only these, are differentiated: a Newton step from a
    root has the root's own derivative, and a second one its second derivative.
    """

    def step(x, target, given):
        value, slope = law(x, *given)
        return x - (value - target) / slope

    fixed = jax.lax.stop_gradient((target, given))
    x = jax.lax.fori_loop(0, 5, lambda _, x: step(x, *fixed), jax.lax.stop_gradient(start))
    return step(step(x, target, given), target, given)
