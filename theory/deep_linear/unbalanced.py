"""Modes whose layers do not start alike: the imbalance is conserved and decides between rich and lazy.

From aligned weights each mode of a two-layer network follows da/dt = b (s - lam a b), db/dt = a (s - lam a b)
(Fukumizu 1998; Saxe, McClelland & Ganguli 2013), solved here for starts of any size and sign. Deeper modes,
da_l/dt = (prod_{k != l} a_k) (s - lam prod_k a_k), keep every a_l^2 - a_k^2 and so reduce to one quadrature.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require
from theory.deep_linear.modes import decay_integral


class TwoLayers(NamedTuple):
    """Strengths of a mode in the two layers: `a` in the first, `b` in the second."""

    a: Float[Array, "..."]
    b: Float[Array, "..."]


def two_layer_strengths(
    t: Real[ArrayLike, "..."],
    a0: Real[ArrayLike, "..."],
    b0: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> TwoLayers:
    """Strengths of one mode in both layers of a two-layer network at time t, from any start.

    a(t) = [a0 cosh(kappa t) + (s b0 - lam Lam a0 / 2) S] / sqrt(K),
    b(t) = [b0 cosh(kappa t) + (s a0 + lam Lam b0 / 2) S] / sqrt(K),   S = sinh(kappa t) / kappa,
    K = [cosh(kappa t) + (s + lam (a0 - b0)^2 / 2) S] [cosh(kappa t) - (s - lam (a0 + b0)^2 / 2) S],
    Lam = b0^2 - a0^2,   kappa = sqrt(s^2 + lam^2 Lam^2 / 4).

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate.
        a0, b0: strengths at t = 0 in the first and the second layer, of any sign; zero is allowed.
        s: singular value of the input-output correlation Syx, of any sign (-s is s with one vector turned round).
        lam: eigenvalue of the input correlation Sxx on the mode's right vector, > 0.
    Returns:
        (a(t), b(t)), of the broadcast shape. a0 = -b0 with s > 0 flows into the saddle a = b = 0.
    Holds when: the start is aligned, and Syx and Sxx share right vectors. Each value is accurate to a few ulp,
        except where a layer passes through zero on its way to the other sign: there the error is a few ulp of a0, b0.
    Source: derived from Kunin et al. 2024 (arXiv:2406.06158), section 3, whose single neuron is this mode.
    """
    t, a0, b0 = non_negative("t", t), real("a0", a0), real("b0", b0)
    s, lam = real("s", s), positive("lam", lam)
    # The larger layer keeps its sign for ever. Every sum below is of terms of one sign, but for the one in which
    # the smaller layer may pass through zero.
    upper = jnp.abs(b0) >= jnp.abs(a0)
    large, small = jnp.where(upper, b0, a0), jnp.where(upper, a0, b0)
    sign, pull = jnp.where(s < 0, -1, 1).astype(s.dtype), jnp.where(s < 0, -s, s)
    up, across = large + sign * small, large - sign * small
    half = lam * up * across / 2
    kappa = _hypotenuse(pull, half)
    # kappa - pull and pull - kappa + half; as they stand at kappa = 0, which gradients take for a constant.
    flat, length = kappa == 0, jnp.where(kappa == 0, 1, kappa)
    tilt = half / (length + pull)
    excess = jnp.where(flat, kappa - pull, half * tilt)
    lag = jnp.where(flat, pull - kappa + half, pull * (excess + half) / (length + half))
    e, h = jnp.exp(-kappa * t), decay_integral(2 * kappa, t)
    # On the way into the saddle numerator and denominator vanish together: `unit` divides both.
    unit = 1 / jnp.maximum(jnp.maximum(e, jnp.abs(up) * jnp.sqrt(lam * h / 2)), _tiny(e, 0.5))
    unit = lax.stop_gradient(unit)
    slow = jnp.where(flat, (kappa - pull) * unit * unit, (half * unit) * (tilt * unit)) + lam / 2 * (up * unit) ** 2
    shrink = jnp.maximum((e * unit) ** 2 + h * slow, _tiny(e, 0.65))
    grow = e**2 + h * (kappa + pull + lam / 2 * across**2)
    scale = lax.rsqrt(grow) * lax.rsqrt(shrink)
    first, second = e * (e * unit) * scale, h * unit * scale
    large, small = (
        large * first + (large * (excess + half) + pull * up) * second,
        small * first + (sign * pull * up - small * lag) * second,
    )
    return TwoLayers(jnp.where(upper, small, large), jnp.where(upper, large, small))


def unbalanced_mode_strength(
    t: Real[ArrayLike, "..."],
    a0: Real[ArrayLike, "..."],
    b0: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Strength of one mode of a two-layer network at time t, from any start.

    du/dt = sqrt(Lam^2 + 4 u^2) (s - lam u),   u = a b,   Lam = b0^2 - a0^2.

    Arguments, which broadcast: as for `two_layer_strengths`.
    Returns:
        u(t) = a(t) b(t), of the broadcast shape; s/lam as t -> infinity, unless the start flows into the saddle.
    Holds when: as for `two_layer_strengths`; Lam = 0 with a0 b0 > 0 is `modes.mode_strength`.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), appendix on unequal layers (hyperbolic coordinates).
    """
    layers = two_layer_strengths(t, a0, b0, s, lam)
    return layers.a * layers.b


def final_strengths(
    a0: Real[ArrayLike, "..."], b0: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."], lam: Real[ArrayLike, "..."] = 1.0
) -> TwoLayers:
    """Strengths of one mode in both layers of a two-layer network as t -> infinity.

    a^2 = (sqrt(Lam^2 + 4 s^2 / lam^2) - Lam) / 2,   b^2 = (sqrt(Lam^2 + 4 s^2 / lam^2) + Lam) / 2,   a b = s / lam.

    Arguments, which broadcast: as for `two_layer_strengths`.
    Returns:
        (a, b), of the broadcast shape: the stronger layer keeps its sign. (0, 0) from the starts that flow into
        the saddle, a0 = -sign(s) b0, and from those with s = 0 and a0^2 = b0^2.
    Holds when: as for `two_layer_strengths`. a^2 + b^2 = sqrt(Lam^2 + 4 s^2 / lam^2) is, times lam, the sharpness.
    Source: stationarity of the flow with Lam = b0^2 - a0^2 conserved.
    """
    a0, b0, s, lam = real("a0", a0), real("b0", b0), real("s", s), positive("lam", lam)
    upper = jnp.abs(b0) >= jnp.abs(a0)
    large, small = jnp.where(upper, b0, a0), jnp.where(upper, a0, b0)
    spread = (large - small) * (large + small)
    saddle = large + jnp.where(s < 0, -small, small) == 0
    square = (_hypotenuse(spread, 2 * jnp.abs(s) / lam) + spread) / 2
    saddle |= square == 0
    large = jnp.where(large < 0, -1, 1) * jnp.sqrt(jnp.where(saddle, 1, square))
    large, small = jnp.where(saddle, 0, large), jnp.where(saddle, 0, s / lam / large)
    return TwoLayers(jnp.where(upper, small, large), jnp.where(upper, large, small))


def imbalance(a: Real[ArrayLike, "..."], b: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The conserved quantity of a two-layer mode, Lam = b^2 - a^2 (second layer minus first)."""
    a, b = real("a", a), real("b", b)
    return (b - a) * (b + a)


def hyperbolic_angle(
    t: Real[ArrayLike, "..."],
    a0: Real[ArrayLike, "..."],
    b0: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Where a two-layer mode stands on its hyperbola b^2 - a^2 = Lam at time t.

    u = (|Lam| / 2) sinh(theta),   a^2 + b^2 = |Lam| cosh(theta),   dtheta/dt = 2 s - lam |Lam| sinh(theta).

    Arguments, which broadcast: as for `two_layer_strengths`, with |a0| != |b0|.
    Returns:
        theta(t), of the broadcast shape.
    Holds when: as for `two_layer_strengths`, and Lam is not zero.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), appendix on unequal layers (hyperbolic coordinates).
    """
    spread = jnp.abs(imbalance(a0, b0))
    spread = require("imbalance b0^2 - a0^2", spread, spread > 0, "must not be zero")
    return jnp.arcsinh(2 * unbalanced_mode_strength(t, a0, b0, s, lam) / spread)


def lazy_mode_strength(
    t: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    imbalance: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Strength of a two-layer mode at time t in the lazy limit, where the stronger layer stays as it is.

    u(t) = s/lam + (u0 - s/lam) exp(-lam |Lam| t).

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate.
        u0: strength at t = 0, of any sign.
        s: singular value of Syx, of any sign.
        imbalance: Lam = b0^2 - a0^2.
        lam: eigenvalue of Sxx, > 0.
    Returns:
        u(t), of the broadcast shape.
    Holds when: |Lam| is large against 2 |u0| and 2 |s| / lam; the error is of relative order (s / (lam Lam))^2.
    Source: limit of du/dt = sqrt(Lam^2 + 4 u^2) (s - lam u).
    """
    t, u0, s = non_negative("t", t), real("u0", u0), real("s", s)
    spread, lam = jnp.abs(real("imbalance", imbalance)), positive("lam", lam)
    decay = lam * spread * t
    return u0 * jnp.exp(-decay) - s / lam * jnp.expm1(-decay)


def learning_time(
    u: Real[ArrayLike, "..."],
    a0: Real[ArrayLike, "..."],
    b0: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Time at which a mode of a two-layer network passes the strength u, from any start.

    tanh(kappa t) / kappa = (x - x0) / (s (x + x0) + (lam^2 Lam^2 - x x0) / 2),   x = lam (sqrt(Lam^2 + 4 u^2) + 2 u).

    Arguments, which broadcast:
        u: strength, of any sign.
        a0, b0, s, lam: as for `two_layer_strengths`.
    Returns:
        t, of the broadcast shape: negative for strengths that the mode had before the start; infinite for
        u = s/lam, for what lies beyond it, and for u of the other sign than a0 b0 where Lam = 0.
    Holds when: as for `two_layer_strengths`.
    Source: the quadrature of du/dt = sqrt(Lam^2 + 4 u^2) (s - lam u).
    """
    u, a0, b0 = real("u", u), real("a0", a0), real("b0", b0)
    s, lam = real("s", s), positive("lam", lam)
    sign, pull = jnp.where(s < 0, -1, 1), jnp.where(s < 0, -s, s)
    u, u0, spread = sign * lam * u, sign * lam * a0 * b0, lam * jnp.abs(imbalance(a0, b0))
    met = ((pull - u) * (pull - u0) > 0) & ((spread > 0) | (u * u0 > 0))
    u, u0, spread, pull = (jnp.where(met, x, safe) for x, safe in ((u, 1), (u0, 1), (spread, 0), (pull, 2)))
    # (a + b)^2 obeys a Riccati equation, (a - b)^2 the same one with -s: take the one that starts larger.
    turn = jnp.where(u0 < 0, -1, 1)
    length, length0 = _hypotenuse(spread, 2 * jnp.abs(u)), _hypotenuse(spread, 2 * jnp.abs(u0))
    # x = spread + y, where y alone is known to full precision when the imbalance is large.
    y, y0 = (2 * jnp.abs(v) + 4 * v**2 / (r + spread) for v, r in ((u, length), (u0, length0)))
    x, x0, turned = spread + y, spread + y0, turn * u < 0
    x, y = jnp.where(turned, spread * (spread / x), x), jnp.where(turned, -y * (spread / x), y)
    kappa = _hypotenuse(pull, spread / 2)
    flat = kappa == 0
    safe = jnp.where(flat, 1, kappa)
    root = jnp.where(turn > 0, spread * (spread / 2 / (safe + pull)), 2 * (kappa + pull))
    ratio = 2 * turn * (u - u0) * (x + x0) / (length + length0)
    ratio = ratio / (turn * pull * (x + x0) - (spread * (y + y0) + y * y0) / 2)
    w = kappa * ratio
    near = jnp.abs(w) < 0.5
    square = jnp.where(near, w, 0) ** 2
    series = ratio * (1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9 + square / 11)))))
    whole = jnp.arctanh(jnp.where(near, w, 0)) / safe
    far = 2 * jnp.log((x + root) / (x0 + root)) + jnp.log(x0 / x) + jnp.log((pull - u0) / (pull - u))
    time = jnp.where(near, jnp.where(square < 1e-3, series, whole), far / (2 * safe))
    return jnp.where(met, time, jnp.inf)


def half_time(
    a0: Real[ArrayLike, "..."], b0: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."], lam: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "..."]:
    """Time at which a mode of a two-layer network passes half its final strength, s / (2 lam).

    Arguments, result and source: as for `learning_time`.
    """
    return learning_time(real("s", s) / positive("lam", lam) / 2, a0, b0, s, lam)


def _hypotenuse(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """sqrt(x^2 + y^2) for x, y >= 0, without overflow; its gradient at (0, 0) is 0."""
    top = lax.stop_gradient(jnp.maximum(x, y))
    safe = jnp.where(top > 0, top, 1)
    return top * jnp.sqrt(jnp.where(top > 0, (x / safe) ** 2 + (y / safe) ** 2, 1))


def _tiny(like: Float[Array, "..."], power: float) -> float:
    """The smallest normal number of that precision, to a power."""
    return float(jnp.finfo(like.dtype).tiny) ** power
