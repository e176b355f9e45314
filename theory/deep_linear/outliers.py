"""Opposing outliers: a few samples whose strong feature cancels on average make training progressively sharper.

A two-layer linear unit `yhat = c (w_s x_s + w_o x_o)` learns `y = b x_s`; rare samples carry a strong feature
x_o = +-a that says nothing about y. On the mean the outlier weight w_o feels no force, but its curvature kappa c^2
grows as the signal is learned:

    L = (c w_s - b)^2 / 2 + kappa c^2 w_o^2 / 2,   kappa = p a^2 (p the fraction of outliers, x_s of unit variance).

The phenomenon is that of Rosenfeld & Risteski 2023 (arXiv:2311.04163); here: the flow along which it builds up and
the step at which the curvature passes 2 / lr. What follows, once it has, is in `edge_of_stability`.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require
from theory.deep_linear.modes import decay_integral


class Outliers(eqx.Module):
    """One gradient descent on the signal and its outliers, from the balanced start c = w_s = sqrt(u0).

    `b`      strength of the signal, > 0.
    `kappa`  second moment p a^2 of the outlier feature, > 0.
    `lr`     step, > 0.
    `u0`     c^2 at the start, 0 < u0 < b.
    """

    b: Float[Array, "..."]
    kappa: Float[Array, "..."]
    lr: Float[Array, "..."]
    u0: Float[Array, "..."]

    def __init__(
        self,
        b: Real[ArrayLike, "..."],
        kappa: Real[ArrayLike, "..."],
        lr: Real[ArrayLike, "..."],
        u0: Real[ArrayLike, "..."],
    ):
        self.b, self.kappa, self.lr = positive("b", b), positive("kappa", kappa), positive("lr", lr)
        u0 = positive("u0", u0)
        self.u0 = require("u0", u0, u0 < self.b, "must lie below b")


# The record, or its fields in order.
OutliersLike = Outliers | tuple


def record(setting: OutliersLike) -> Outliers:
    """The setting as a record, its fields checked."""
    return setting if isinstance(setting, Outliers) else Outliers(*setting)


class SignalPath(NamedTuple):
    """The upper weight c and the signal's lower weight w."""

    c: Float[Array, "..."]
    w: Float[Array, "..."]


def signal_path(
    t: Real[ArrayLike, "..."], b: Real[ArrayLike, "..."], c0: Real[ArrayLike, "..."], w0: Real[ArrayLike, "..."]
) -> SignalPath:
    """How the signal is learned while the outlier weight is negligible, from any start.

    dc/dt = w (b - c w),   dw/dt = c (b - c w).   With y = (c + w)^2 / 2:   dy/dt = -(y - y_+)(y - y_-),
    y_+- = b +- sqrt(b^2 + D^2/4), and both D = c^2 - w^2 and (c + w)(c - w) are conserved.

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate.
        b: strength of the signal, > 0.
        c0, w0: upper weight and lower signal weight at t = 0, any sign.
    Returns:
        c(t) and w(t), of the broadcast shape; the outlier's curvature at that time is kappa c^2. Balanced (c0 = w0):
        c^2 is the logistic mode b / (1 + (b/u0 - 1) e^{-2 b t}). From c0 = -w0 both weights die out.
    Holds when: gradient flow, kappa c w_o^2 negligible against |w (b - c w)|.
    Source: two-layer mode with unequal layers; Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), appendix A.
    """
    t, b, c0, w0 = non_negative("t", t), positive("b", b), real("c0", c0), real("w0", w0)
    p0, m0 = (c0 + w0) / jnp.sqrt(2), (c0 - w0) / jnp.sqrt(2)
    root = jnp.sqrt(b**2 + (p0 * m0) ** 2)
    e, h = jnp.exp(-2 * root * t), decay_integral(2 * root, t)
    # The Riccati equation for y = p^2, solved as p^2 = p0^2 n / d; everything is positive, and p m is conserved.
    lift = 1 + m0**2 / (b + root)
    n = (b + root) * lift * h + e
    d = jnp.maximum(p0**2 * lift * h + e, jnp.finfo(e.dtype).tiny)
    p, m = p0 * jnp.sqrt(n / d), m0 * jnp.sqrt(d / n)
    return SignalPath((p + m) / jnp.sqrt(2), (p - m) / jnp.sqrt(2))


def signal_spectrum(
    c: Real[ArrayLike, "..."], w: Real[ArrayLike, "..."], b: Real[ArrayLike, "..."], kappa: Real[ArrayLike, "..."]
) -> Float[Array, "... 3"]:
    """Hessian eigenvalues at w_o = 0: along the outlier, and the two of the signal's weights.

    kappa c^2,   (c^2 + w^2)/2 +- sqrt(((c^2 - w^2)/2)^2 + (2 c w - b)^2).

    Balanced: kappa u, and 3u - b, b - u in descending order (u = c^2). In the valley c w = b: kappa c^2, c^2 + w^2, 0,
    so that from a balanced start the outlier is the sharpest direction at the end if and only if kappa > 2.

    Arguments, which broadcast:
        c, w: upper weight and lower signal weight, any sign.
        b: strength of the signal, > 0.
        kappa: second moment of the outlier feature, > 0.
    Returns:
        the three eigenvalues, with a last axis of three.
    Holds when: always, at w_o = 0.
    Source: Hessian of the loss of this module.
    """
    c, w, b, kappa = real("c", c), real("w", w), positive("b", b), positive("kappa", kappa)
    x, y = (c - w) * (c + w) / 2, 2 * c * w - b
    origin = (x == 0) & (y == 0)
    half = jnp.where(origin, 0, jnp.hypot(jnp.where(origin, 1, x), jnp.where(origin, 1, y)))
    middle = (c**2 + w**2) / 2
    return jnp.stack(jnp.broadcast_arrays(kappa * c**2, middle + half, middle - half), axis=-1)


def final_outlier_curvature(
    b: Real[ArrayLike, "..."], kappa: Real[ArrayLike, "..."], imbalance: Real[ArrayLike, "..."] = 0.0
) -> Float[Array, "..."]:
    """Curvature along the outlier at the end of the gradient flow, where training would stop sharpening by itself.

    kappa (D + sqrt(D^2 + 4 b^2)) / 2.

    Arguments, which broadcast:
        b: strength of the signal, > 0.
        kappa: second moment of the outlier feature, > 0.
        imbalance: D = c^2 - w_s^2 of the start, any sign (upper minus lower); the flow conserves it.
    Returns:
        kappa c^2 in the valley that the flow reaches, of the broadcast shape; kappa b if balanced.
    Holds when: gradient flow, w_o small, c0 != -w0.
    Source: `signal_path` as t -> infinity.
    """
    b, kappa, d = positive("b", b), positive("kappa", kappa), real("imbalance", imbalance)
    root = jnp.sqrt(d**2 + 4 * b**2)
    return kappa * jnp.where(d < 0, 2 * b**2 / (root + jnp.abs(d)), (root + jnp.abs(d)) / 2)


def crossing_time(
    sharpness: Real[ArrayLike, "..."],
    b: Real[ArrayLike, "..."],
    kappa: Real[ArrayLike, "..."],
    c0: Real[ArrayLike, "..."],
    w0: Real[ArrayLike, "..."],
) -> Float[Array, "..."]:
    """When the outlier's curvature kappa c^2 rises past a given sharpness (2 / lr, say) along the flow.

    t = (1 / 2R) ln[(y_c - y_-)(y_+ - y_0) / ((y_+ - y_c)(y_0 - y_-))],   y = (c + w)^2 / 2, R = sqrt(b^2 + D^2/4).

    Arguments, which broadcast:
        sharpness: the curvature to be passed, > 0.
        b, kappa: strength of the signal and second moment of the outlier feature, > 0.
        c0, w0: the start, with c0 w0 >= 0, c0 w0 < b and c0 + w0 != 0.
    Returns:
        the time, of the broadcast shape; infinity if the flow ends below, zero if it starts above.
    Holds when: as for `signal_path`.
    Source: the solution of its Riccati equation.
    """
    b, kappa, c0, w0 = positive("b", b), positive("kappa", kappa), real("c0", c0), real("w0", w0)
    u = positive("sharpness", sharpness) / kappa
    start = require("c0", c0 * w0, (c0 * w0 >= 0) & (c0 * w0 < b) & (c0 + w0 != 0), "times w0 must lie in [0, b)")
    d = (c0 - w0) * (c0 + w0)
    above, never = u <= c0**2, u * kappa >= final_outlier_curvature(b, kappa, d)
    s = jnp.sqrt(jnp.where(above | never, b**2 / 4, u * (u - d)))
    root, at_start, at_end = (jnp.sqrt(x**2 + d**2 / 4) for x in (b, start, s))
    low = d**2 / 4 / (b + root)
    left = (b - start) * (1 + (b + start) / (root + at_start)) / (start + at_start + low)
    right = (b - s) * (1 + (b + s) / (root + at_end)) / (s + at_end + low)
    return jnp.where(above, 0.0, jnp.where(never, jnp.inf, jnp.log(left / right) / (2 * root)))


def crossing_step(setting: OutliersLike, sharpness: Real[ArrayLike, "..."] | None = None) -> Float[Array, "..."]:
    """Step of gradient descent at which the outlier's curvature kappa c^2 passes a given sharpness.

    n = (1 / 2 b lr) ln[(b/u0 - 1)/(b/u - 1)] + (1/2) ln[f(sqrt u) / f(sqrt u0)],   f(c) = c (b - c^2), u = sharpness
    over kappa. The half logarithm is what steps of finite size add to the flow: it does not vanish with lr.

    Arguments:
        setting: signal, outlier, step and start.
        sharpness: the curvature to be passed, above kappa u0; 2 / lr (the edge of stability) if left out.
    Returns:
        the step, a real number; infinity if the sharpness is never reached. The error is of order lr b.
    Holds when: balanced start, w_o small until then.
    Source: modified equation of the Euler method (Hairer, Lubich & Wanner 2006, IX.1) for dc/dt = f(c).
    """
    setting = record(setting)
    u = (2 / setting.lr if sharpness is None else positive("sharpness", sharpness)) / setting.kappa
    u = require("sharpness", u, u > setting.u0, "over kappa must lie above u0")
    never = u >= setting.b
    return jnp.where(never, jnp.inf, passing_step(setting, jnp.where(never, (setting.b + setting.u0) / 2, u)))


def passing_step(setting: Outliers, u: Float[Array, "..."]) -> Float[Array, "..."]:
    """Step at which c^2 passes u, for u0 < u < b: the formula of `crossing_step`, unchecked."""
    left, right = (setting.b - setting.u0) / setting.u0, (setting.b - u) / u
    half = jnp.log(u / setting.u0) / 4 + jnp.log((setting.b - u) / (setting.b - setting.u0)) / 2
    return jnp.log(left / right) / (2 * setting.b * setting.lr) + half
