"""Unbalanced modes of networks of any depth: one conserved imbalance for each further layer leaves one quadrature.

From aligned weights the layer strengths of a mode follow da_l/dt = (prod_{k != l} a_k) (s - lam prod_k a_k) (Saxe,
McClelland & Ganguli 2013) and keep every a_l^2 - a_k^2. Two layers have a closed form: `unbalanced`.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from theory.checks import non_negative, positive, real

# Panels of the rise and of the approach, safeguarded Newton steps within a panel, Newton steps for a strength.
RISE, APPROACH, TRIES, STEPS = 64, 64, 40, 60
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


def layer_strengths(
    t: Real[ArrayLike, "*times"],
    layers: Real[ArrayLike, " N"],
    s: Real[ArrayLike, ""],
    lam: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*times N"]:
    """Strengths of one mode in all layers of a network of depth N at time t, from any start.

    da_l/dt = (prod_{k != l} a_k) (s - lam u),   u = prod_k a_k.   With x the weakest layer and c_l = a_l^2 - x^2,
    which is conserved, a_l = +-sqrt(x^2 + c_l) and t = int dx / [prod_{l != x} a_l (s - lam u)].

    Arguments:
        t: times, >= 0, in units of 1 / learning rate, of any shape.
        layers: strengths a_l at t = 0 from the input up, shape (N,), N >= 2, of any sign; zeros are allowed.
        s: singular value of the input-output correlation Syx, of any sign.
        lam: eigenvalue of the input correlation Sxx on the mode's right vector, > 0.
    Returns:
        a_l(t), shape (*times, N); the mode strength u(t) is the product over the last axis.
        Where only one layer is the weakest it can pass through zero; where several share the smallest strength
        they cannot: with u of the wrong sign they sink into the saddle, and two or more at zero stay there.
    Holds when: the start is aligned, and Syx and Sxx share right vectors. By quadrature, inverted by Newton steps,
        to 1e-13 in float64 and 1e-5 in float32, while the layers and (s/lam)^(1/N), where not zero, lie within a
        factor of 1e40. The derivative is that of the quadrature, but not where it would leave a saddle: from two or
        more layers at zero it is given as if those stayed, and across a shared weakest strength it is lost once
        that has sunk to 1e-9 of its scale (for two layers `unbalanced` has it).
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section on deep networks, without their equal layers.
    """
    return _strengths(*_entry(non_negative("t", t), layers, s, lam))


def learning_time(
    u: Real[ArrayLike, "*shape"],
    layers: Real[ArrayLike, " N"],
    s: Real[ArrayLike, ""],
    lam: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*shape"]:
    """Time at which a mode of a network of depth N passes the strength u, from any start.

    t = int dx / [prod_{l != x} a_l (s - lam u)], from the weakest layer x at the start to the one at strength u.

    Arguments:
        u: strengths, of any sign and shape.
        layers, s, lam: as for `layer_strengths`.
    Returns:
        t, of the shape of u: negative for strengths that the mode had before the start; infinite for those that
        it never has, s/lam among them.
    Holds when: as for `layer_strengths`.
    Source: as for `layer_strengths`.
    """
    return _times(*_entry(real("u", u), layers, s, lam))


def _entry(first: Float[Array, "..."], layers, s, lam) -> tuple[Float[Array, "..."], ...]:
    """The checked arguments, of one precision."""
    layers, s, lam = real("layers", layers), real("s", s), positive("lam", lam)
    if layers.ndim != 1 or layers.size < 2:
        raise ValueError(f"layers must be a vector of two strengths or more, got shape {layers.shape}")
    dtype = jnp.result_type(first, layers, s, lam)
    return tuple(x.astype(dtype) for x in (first, layers, s, lam))


class _Start(eqx.Module):
    """A start turned round so that the weakest layer x grows with s >= 0 and all others are sqrt(x^2 + c)."""

    x: Float[Array, ""]
    c: Float[Array, " n"]
    s: Float[Array, ""]
    signs: Float[Array, " N"]
    order: Array
    still: Bool[Array, ""]


def _canonical(layers: Float[Array, " N"], s: Float[Array, ""]) -> _Start:
    order = jnp.argsort(jnp.abs(layers))
    a = layers[order]
    still = a[1] == 0
    a, s = jnp.where(still, 1, a), jnp.where(still, 1, s)
    signs = jnp.where(a < 0, -1, 1).astype(a.dtype)
    turn = jnp.where(jnp.prod(signs[1:]) * s < 0, -1, 1).astype(a.dtype)
    c = (a[1:] - a[0]) * (a[1:] + a[0])
    return _Start(turn * a[0], c, turn * jnp.prod(signs[1:]) * s, signs.at[0].set(turn), order, still)


# Compiled here as well, so that a call outside of any `jit` compiles its loops once and not each time.
@jax.jit
def _strengths(t, layers, s, lam):
    start = _canonical(layers, s)
    course = _course(start.x, start.c, start.s, lam)
    x = jax.vmap(lambda t: _position(course, t))(t.reshape(-1))[:, None]
    squares = x**2 + start.c
    others = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    strengths = (start.signs * jnp.concatenate([x, others], axis=1))[:, jnp.argsort(start.order)]
    return jnp.where(start.still, layers, strengths).reshape(*t.shape, layers.size)


@jax.jit
def _times(u, layers, s, lam):
    start = _canonical(layers, s)

    def time(u):
        x = _weakest(start.c, jnp.prod(start.signs) * u)
        goal = _course(start.x, start.c, start.s, lam).goal
        past = (x - start.x) * (goal - start.x) < 0
        begin, end = jnp.where(past, x, start.x), jnp.where(past, start.x, x)
        # Two layers at zero have no way out: nothing begins there.
        met = (begin != 0) | (jnp.min(start.c) > 0)
        course = _course(jnp.where(met, begin, 1), start.c, start.s, lam)
        met &= ((end - begin) * (course.goal - end) > 0) | (end == begin)
        elapsed = _time_to(course, jnp.where(met, end, course.x0))
        return jnp.where(met, jnp.where(past, -elapsed, elapsed), jnp.inf)

    times = jax.vmap(time)(u.reshape(-1)).reshape(u.shape)
    return jnp.where(start.still, jnp.where(u == jnp.prod(layers), 0.0, jnp.inf), times)


class _Course(eqx.Module):
    """The way of the weakest layer, x' = Q (s - lam x Q) with Q = prod sqrt(x^2 + c), from x0 to `goal`.

    It is cut into panels that are short against the distance to every singularity: from x0 to `middle`, half-way to the
    goal (`rise`), even in arcsinh(x / unit); from there on even in -ln |goal - x|, until that has grown by `end`.
    What is left obeys gap' = -k gap (gap / gap(end))^power with gap = goal - x.
    """

    x0: Float[Array, ""]
    c: Float[Array, " n"]
    s: Float[Array, ""]
    lam: Float[Array, ""]
    goal: Float[Array, ""]
    sinks: Bool[Array, ""]
    unit: Float[Array, ""]
    middle: Float[Array, ""]
    end: Float[Array, ""]
    power: Float[Array, ""]

    def rate(self, x: Float[Array, "..."], gap: Float[Array, "..."]) -> Float[Array, "..."]:
        """x' / gap, which is positive, without the difference s - lam x Q wherever it could cancel."""
        # Horner's way through [prod (g^2 + c) - prod (x^2 + c)] / (g^2 - x^2), the first c being that of x: 0.
        q, slope, there = jnp.ones_like(x), jnp.ones_like(x), self.goal**2
        for k in range(self.c.size):
            square = x**2 + self.c[k]
            q, slope, there = q * jnp.sqrt(square), slope * square + there, there * (self.goal**2 + self.c[k])
        last, now, ahead = self.s / self.lam, x * q, x > 0
        share = jnp.where(ahead, last + now, self.goal - x)
        slope = jnp.where(ahead, (x + self.goal) * slope, last - now) / jnp.where(share == 0, 1, share)
        slope = jnp.where(share == 0, q, slope)
        sinking = self.s / jnp.where(self.sinks, gap, 1) + self.lam * q
        return q * jnp.where(self.sinks, sinking, self.lam * slope)

    def x(self, rise: Bool[Array, "..."], place: Float[Array, "..."]) -> Float[Array, "..."]:
        """The weakest layer at a place, which is x itself on the rise and the gap on the approach."""
        return jnp.where(rise, place, self.goal - place)

    def speed(self, rise: Bool[Array, "..."], place: Float[Array, "..."]) -> Float[Array, "..."]:
        """The place's velocity."""
        gap = jnp.where(rise, self.goal - place, place)
        speed = gap * self.rate(self.x(rise, place), gap)
        # Where nothing moves for longer than any time, the inverse must stay finite.
        least = float(jnp.finfo(gap.dtype).tiny) ** 0.4
        speed = jnp.where(jnp.abs(speed) < least, jnp.where(gap < 0, -least, least), speed)
        return jnp.where(rise, speed, -speed)

    def elapsed(
        self, rise: Bool[Array, "..."], low: Float[Array, "..."], high: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Time from the place `low` to `high`, a panel's width apart or less, by Gauss-Legendre quadrature."""
        nodes, weights = (jnp.asarray(w, low.dtype) / 2 for w in (NODES + 1, WEIGHTS))
        places = low[..., None] + (high - low)[..., None] * nodes
        return (high - low) * jnp.sum(weights / self.speed(rise[..., None], places), axis=-1)

    def panels(self, rise_to: Float[Array, ""], approach_to: Float[Array, ""]):
        """Which part each panel is of, and its two places: the rise up to one x, the approach up to one -ln gap."""
        first, last = jnp.arcsinh(self.x0 / self.unit), jnp.arcsinh(rise_to / self.unit)
        rise = self.unit * jnp.sinh(jnp.linspace(first, last, RISE + 1))
        closer = jnp.linspace(jnp.zeros_like(approach_to), approach_to, APPROACH + 1)
        approach = (self.goal - self.middle) * jnp.exp(-closer)
        low, high = (jnp.concatenate([rise[k], approach[k]]) for k in (slice(None, -1), slice(1, None)))
        return jnp.arange(low.size) < RISE, low, high

    def last(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The gap where the panels end, and its rate k."""
        gap = (self.goal - self.middle) * jnp.exp(-self.end)
        return gap, self.rate(self.goal - gap, gap)


def _course(x0: Float[Array, ""], c: Float[Array, " n"], s: Float[Array, ""], lam: Float[Array, ""]) -> _Course:
    ties = jnp.sum(c == 0)
    sinks = (ties > 0) & ((x0 < 0) | (s == 0))
    goal = _weakest(c, jnp.where(sinks & (s == 0), 1, s) / lam)
    # The panels may lie anywhere: they are no part of the derivative.
    x, least, full = lax.stop_gradient((x0, jnp.sqrt(jnp.min(c)), goal))
    least_imbalance = jnp.sqrt(jnp.min(jnp.where(c > 0, lax.stop_gradient(c), jnp.inf)))
    unit = jnp.where(sinks, 1, jnp.where(x > 0, jnp.maximum(least, x), least))
    rises = ~sinks & (x < full / 2) & ((least <= full / 2) | (x > -full / 2))
    middle = jnp.where(rises, full / 2, x0)
    sunk = jnp.minimum(jnp.minimum(jnp.abs(x), least_imbalance), jnp.where(s > 0, full, jnp.inf))
    near = 1e-9 * jnp.where(sinks, sunk, jnp.maximum(full, least) / (1 + c.size))
    goal = jnp.where(sinks, 0, goal)
    end = jnp.log(jnp.maximum(jnp.abs(lax.stop_gradient(goal - middle)) / near, 1))
    power = jnp.where(sinks, jnp.where(s > 0, ties - 1, 2 * ties), 0).astype(x0.dtype)
    return _Course(x0, c, s, lam, goal, sinks, unit, middle, end, power)


def _position(course: _Course, t: Float[Array, ""]) -> Float[Array, ""]:
    """The weakest layer at time t: the panel from a table of times, the place in it by safeguarded Newton steps."""
    rise, low, high = course.panels(course.middle, course.end)
    spent = course.elapsed(rise, low, high)
    passed = jnp.concatenate([jnp.zeros_like(spent[:1]), jnp.cumsum(spent)])
    panel = jnp.searchsorted(passed, t, side="right") - 1
    beyond, panel = panel >= spent.size, jnp.minimum(panel, spent.size - 1)
    rise, low, high = rise[panel], low[panel], high[panel]
    since = jnp.where(beyond, 0, t - passed[panel])
    fixed, low_, high_, since_ = lax.stop_gradient((course, low, high, since))

    def newton(_, state):
        place, early, late = state
        excess = fixed.elapsed(rise, low_, place) - since_
        early, late = jnp.where(excess < 0, place, early), jnp.where(excess < 0, late, place)
        new = place - excess * fixed.speed(rise, place)
        return jnp.where((new - early) * (new - late) < 0, new, (early + late) / 2), early, late

    place = lax.stop_gradient(lax.fori_loop(0, TRIES, newton, ((low_ + high_) / 2, low_, high_))[0])
    # One more step, which is differentiated: it carries the derivative of the implicit solution.
    place = place - (course.elapsed(rise, low, place) - since) * course.speed(rise, place)
    (gap, k), power = course.last(), course.power
    late = k * jnp.where(beyond, t - passed[-1], 0)
    late = jnp.where(power > 0, jnp.log1p(power * late) / jnp.where(power > 0, power, 1), late)
    return course.x(rise & ~beyond, jnp.where(beyond, gap * jnp.exp(-late), place))


def _time_to(course: _Course, x: Float[Array, ""]) -> Float[Array, ""]:
    """Time from x0 to an x on the way to the goal."""
    rise_to = jnp.where(course.middle > course.x0, jnp.minimum(x, course.middle), course.x0)
    apart = course.goal - x
    closer = jnp.log(jnp.maximum((course.goal - course.middle) / jnp.where(apart == 0, 1, apart), 1))
    closer, tail = jnp.minimum(closer, course.end), jnp.maximum(closer - course.end, 0)
    late = jnp.where(course.power > 0, jnp.expm1(course.power * tail) / jnp.maximum(course.power, 1), tail)
    return jnp.sum(course.elapsed(*course.panels(rise_to, closer))) + late / course.last()[1]


def _weakest(c: Float[Array, " n"], u: Float[Array, ""]) -> Float[Array, ""]:
    """The x with x prod sqrt(x^2 + c) = u."""
    size = jnp.where(u == 0, 1, jnp.abs(u))
    fixed, wanted = lax.stop_gradient((c, jnp.log(size)))

    def newton(_, log_x):
        # Convex in ln x, and started above the root: each step stays above.
        square = jnp.exp(2 * log_x)
        excess = log_x + jnp.sum(jnp.log(square + fixed)) / 2 - wanted
        return log_x - excess / (1 + jnp.sum(square / (square + fixed)))

    x = lax.stop_gradient(jnp.exp(lax.fori_loop(0, STEPS, newton, wanted / (1 + c.size))))
    slope = 1 + jnp.sum(x**2 / (x**2 + fixed))
    # One more step, which is differentiated and removes the rounding of the logarithm.
    x = x * (1 + (size / (x * jnp.prod(jnp.sqrt(x**2 + c))) - 1) / slope)
    steep = jnp.prod(jnp.sqrt(jnp.where(c > 0, c, 1)))
    return jnp.where(u == 0, u / steep, jnp.where(u < 0, -x, x))
