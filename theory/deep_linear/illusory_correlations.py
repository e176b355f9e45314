"""What a network knows of every item: stages in a deep one, and correlations learned only to be unlearned.

While a deep network knows the coarse categories only, it believes that a canary can swim; a shallow network never
does (Saxe, McClelland & Ganguli 2013, arXiv:1312.6120; 2019, PNAS 116, 11537).

Items are one-hot inputs, `Y` (properties x items) is the table to learn. `lam` is the eigenvalue of Sxx, how often
each item is shown: 1 if the loss sums over the items (Sxx = I, Syx = Y), 1/P if it averages over them.
"""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, whole
from theory.deep_linear.modes import decay_integral, mode_strength


class Illusion(eqx.Module):
    """Where an entry of the map leaves the interval between its start and its end, each of shape (No, P).

    peak: its value at the farthest point outside; the final value if it never leaves.
    time: when it is there; infinite if it never leaves.
    departure: how far outside it is there; 0 if it never leaves.
    """

    peak: Float[Array, "No P"]
    time: Float[Array, "No P"]
    departure: Float[Array, "No P"]


def item_property_map(
    t: Real[ArrayLike, "*time"],
    y: Real[ArrayLike, "No P"],
    u0: Real[ArrayLike, ""],
    lam: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*time No P"]:
    """What a two-layer network says of every property of every item at time t.

    Yhat(t) = U diag(u(t)) V^T,  Y = U diag(s) V^T,  du/dt = 2 lam u (s - u),  u(0) = u0 on every mode with s > 0.

    Arguments:
        t: times, >= 0, of any shape.
        y: the table Y, properties x items; repeated and zero singular values are fine.
        u0: strength of every mode at t = 0, > 0.
        lam: how often each item is shown, > 0: 1 counts time per item, 1/P averages the loss over P items.
    Returns:
        shape (*time, No, P); Y as t -> infinity.
    Holds when: the start is balanced and aligned with Y, and modes with s = 0 start at zero. First derivatives are
        exact (with respect to y: among tables of the same rank); higher ones are not provided.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), eqs. 3 and 12; 2019.
    """
    t, y = non_negative("t", t), matrix("y", y)
    u0, lam = positive("u0", u0), positive("lam", lam)
    return _map_at(jnp.ravel(t), y, u0, lam).reshape(t.shape + y.shape)


def shallow_map(
    t: Real[ArrayLike, "*time"],
    y: Real[ArrayLike, "No P"],
    w0: Real[ArrayLike, "*table"] = 0.0,
    lam: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*time No P"]:
    """What a network without hidden layer says of every property of every item: no stages, monotone everywhere.

    Yhat(t) = Y + (W_0 - Y) exp(-lam t).

    Arguments:
        t, y, lam: as for `item_property_map`.
        w0: the weights at t = 0, shape (No, P), or one number for all.
    Returns:
        shape (*time, No, P).
    Source: Saxe, McClelland & Ganguli 2013, sec. 1.
    """
    t, y = non_negative("t", t), matrix("y", y)
    w0, lam = real("w0", w0), positive("lam", lam)
    if w0.ndim and w0.shape != y.shape:
        raise ValueError(f"w0 must be a number or of the shape of y, {y.shape}, got shape {w0.shape}")
    decay = lam * t[..., None, None]
    return w0 * jnp.exp(-decay) - y * jnp.expm1(-decay)


def item_similarity(
    t: Real[ArrayLike, "*time"],
    y: Real[ArrayLike, "No P"],
    u0: Real[ArrayLike, ""],
    lam: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*time P P"]:
    """Similarity of the items' hidden representations, W_1^T W_1 = V diag(u(t)) V^T: branches split coarse to fine.

    Arguments: as for `item_property_map`.
    Returns:
        shape (*time, P, P); (Y^T Y)^(1/2) as t -> infinity.
    Holds when: as for `item_property_map`.
    Source: Saxe, McClelland & Ganguli 2019.
    """
    t, y = non_negative("t", t), matrix("y", y)
    u0, lam = positive("u0", u0), positive("lam", lam)
    return _similarity_at(jnp.ravel(t), y, u0, lam).reshape(t.shape + (y.shape[1],) * 2)


def illusory_peaks(
    y: Real[ArrayLike, "No P"], u0: Real[ArrayLike, ""], lam: Real[ArrayLike, ""] = 1.0, *, points: int = 1024
) -> Illusion:
    """Which entries of the map a two-layer network learns and unlearns: when, and how far they go.

    The extreme of Yhat_ij(t), as in `item_property_map`, outside the interval between Yhat_ij(0) and Y_ij; a
    shallow network never leaves it.

    Arguments:
        y, u0, lam: as for `item_property_map`.
        points: number of times, spaced geometrically, among which the extreme is first sought; static, >= 16.
    Returns:
        `Illusion`. `jnp.sum(departure > threshold)` counts them; a threshold above u0 leaves out the start's own
        small motion.
    Holds when: as for `item_property_map`. The time is a constant to derivatives; those of the peak are exact.
    Source: Saxe, McClelland & Ganguli 2019 (illusory correlations).
    """
    y, u0, lam, points = matrix("y", y), positive("u0", u0), positive("lam", lam), whole("points", points, 16)
    return Illusion(*_peaks(y, u0, lam, points))


@partial(jax.jit, static_argnums=3)
def _peaks(y, u0, lam, points):
    """Peak, time and departure: the farthest of many times, then the zero of the slope beside it by bisection."""
    fixed, start, unit = jax.lax.stop_gradient((y, u0, lam))
    u, s, vt, excited = _modes(fixed)
    slowest = jnp.min(jnp.where(excited, s, jnp.max(s)))
    last = (jnp.log1p(slowest / start) + 40) / (2 * slowest)
    t = jnp.concatenate([jnp.zeros(1, y.dtype), jnp.geomspace(1e-3 / jnp.max(s), last, points)]) / unit
    farthest = jnp.argmax(_departure(_modes_map(t, fixed, start, unit), fixed), axis=0)

    def slope(time):
        """dYhat_ij/dt at a time of its own for each entry."""
        w = mode_strength(time[..., None], unit * s, start, unit)
        return jnp.einsum("ok,opk,kp->op", u, jnp.where(excited, w * (s - w), 0.0), vt)

    low, high = t[jnp.maximum(farthest - 1, 0)], t[jnp.minimum(farthest + 1, points)]
    rising = slope(low)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        before = slope(middle) * rising > 0
        return jnp.where(before, middle, low), jnp.where(before, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    time = jax.lax.stop_gradient((low + high) / 2)
    at = jnp.arange(y.size)
    peak = _modes_map(time.ravel(), y, u0, lam).reshape(y.size, y.size)[at, at].reshape(y.shape)
    begin = _modes_map(jnp.zeros(1, y.dtype), y, u0, lam)
    departure = _departure(jnp.concatenate([begin, peak[None]]), y)[1]
    # What rounding alone lifts above the end is not an excursion.
    left = departure > 1e3 * jnp.finfo(y.dtype).eps * jnp.max(s)
    return jnp.where(left, peak, y), jnp.where(left, time, jnp.inf), jnp.where(left, departure, 0.0)


def _departure(path, y):
    """How far each entry of a path, times first, is outside the interval between its start and its end in `y`."""
    return jnp.maximum(path - jnp.maximum(path[0], y), jnp.minimum(path[0], y) - path)


def _modes(y):
    """Singular vectors and values of `y`, and which of the values are not zero; those that are read 1."""
    u, s, vt = jnp.linalg.svd(y, full_matrices=False)
    excited = s > max(y.shape) * jnp.finfo(y.dtype).eps * jnp.max(s)
    return u, jnp.where(excited, s, 1.0), vt, excited


def _strengths(t, s, excited, u0, lam):
    """u(t) of each mode, times first."""
    return jnp.where(excited, mode_strength(t[:, None], lam * s, u0, lam), 0.0)


@jax.custom_jvp
def _modes_map(t, y, u0, lam):
    """U diag(u(t)) V^T at each of the times of a vector."""
    u, s, vt, excited = _modes(y)
    return (u * _strengths(t, s, excited, u0, lam)[:, None, :]) @ vt


@jax.custom_jvp
def _modes_similarity(t, y, u0, lam):
    """V diag(u(t)) V^T at each of the times of a vector."""
    _, s, vt, excited = _modes(y)
    return (vt.T * _strengths(t, s, excited, u0, lam)[:, None, :]) @ vt


_map_at, _similarity_at = jax.jit(_modes_map), jax.jit(_modes_similarity)


# Both derivatives are divided differences of u as a function of s, never derivatives of singular vectors: repeated
# singular values do no harm.


@_modes_map.defjvp
def _(primals, tangents):
    (t, y, u0, lam), (dt, dy, du0, dlam) = primals, tangents
    u, s, vt, excited = _modes(y)
    g, dg = jax.jvp(lambda t, u0, lam: _strengths(t, s, excited, u0, lam), (t, u0, lam), (dt, du0, dlam))
    differences, sums = _differences(t, s, excited, g, u0, lam)
    inside = u.T @ dy @ vt.T
    even, odd = (inside + inside.T) / 2, (inside - inside.T) / 2
    core = differences * even + sums * odd + jnp.eye(len(s), dtype=s.dtype) * dg[:, None, :]
    # What `dy` has outside the span of the singular vectors only turns them.
    below, beside = dy - u @ (u.T @ dy), dy - (dy @ vt.T) @ vt
    ratio = (g / s)[:, None, :]
    turned = below @ ((vt.T * ratio) @ vt) + ((u * ratio) @ u.T) @ beside
    return (u * g[:, None, :]) @ vt, u @ core @ vt + turned


@_modes_similarity.defjvp
def _(primals, tangents):
    (t, y, u0, lam), (dt, dy, du0, dlam) = primals, tangents
    u, s, vt, excited = _modes(y)
    g, dg = jax.jvp(lambda t, u0, lam: _strengths(t, s, excited, u0, lam), (t, u0, lam), (dt, du0, dlam))
    differences, _ = _differences(t, s, excited, g, u0, lam)
    # V f(S^2) V^T is a function of Y^T Y, whose eigenvalues differ by (s_i - s_j)(s_i + s_j).
    size = jnp.where(excited, s, 0.0)
    total = size[:, None] + size[None, :]
    inside = (size[:, None] * (u.T @ dy)) @ vt.T
    core = differences / jnp.where(total > 0, total, 1.0) * (inside + inside.T)
    core = core + jnp.eye(len(s), dtype=s.dtype) * dg[:, None, :]
    beside = u.T @ (dy - (dy @ vt.T) @ vt)
    turned = (vt.T * (g / s)[:, None, :]) @ beside
    return (vt.T * g[:, None, :]) @ vt, vt.T @ core @ vt + turned + jnp.swapaxes(turned, 1, 2)


def _differences(t, s, excited, g, u0, lam):
    """(g_i - g_j) / (s_i - s_j) and (g_i + g_j) / (s_i + s_j) for the strengths g at singular values s; zero for two
    modes that are not excited."""
    both, either = excited[:, None] & excited[None, :], excited[:, None] | excited[None, :]
    ratio = g / s
    one = ratio[:, :, None] + ratio[:, None, :]
    size = jnp.where(excited, s, 0.0)
    sums = (g[:, :, None] + g[:, None, :]) / jnp.where(either, size[:, None] + size[None, :], 1.0)
    return jnp.where(both, _divided(t[:, None, None], s, g, u0, lam), one), sums


def _divided(t, s, g, u0, lam):
    """(g_i - g_j) / (s_i - s_j), and dg/ds where they agree, for g the strengths at singular values s."""
    high, low = jnp.maximum(s[:, None], s[None, :]), jnp.minimum(s[:, None], s[None, :])
    rate = 2 * lam * t
    spread = jnp.exp(-rate * low) * rate * decay_integral(rate * (high - low), jnp.ones_like(t))
    saturated = -jnp.expm1(-rate * high) / (high * low)
    return g[:, :, None] * g[:, None, :] * (saturated + spread * (1 / u0 - 1 / low))
