"""Transience of in-context learning: weight decay withdraws the circuit as a memoriser takes over its work.

After its acquisition a circuit's attention is on the copy, and the logit of the right label is phi + a w: a memoriser's
margin, and the attended label a with weight w. The memoriser goes on learning, more slowly, from the errors that the
circuit leaves. Under L2 decay (lambda / 2) w^2 the weight rests where its drive equals its decay,

    a <sigma(-phi - a w)> = lambda w,

and follows this resting place as the margins phi grow: the better the items are known, the smaller the weight, down to
none at all. Without decay the circuit stays. A memoriser with a parameter of its own for each item, which grows only by
what the circuit leaves to it, makes this a closed law, 1 / u = omega(r lambda t + ...), u = a w: the lifetime of the
circuit is the number of items over the decay. omega is Wright's function, omega + ln omega = y.

Time is learning rate times steps, losses are in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, within
from theory.clock import differentiable
from theory.flow import flow, times
from theory.induction.acquisition import Contexts, checked_contexts, force
from theory.wright_omega import wright_omega


class Bounds(NamedTuple):
    """`low` and `high` end of an interval."""

    low: Float[Array, "..."]
    high: Float[Array, "..."]


class Learners(NamedTuple):
    """The circuit's `weight` w and `sharpness` beta, and the `margin` phi of a memoriser's items."""

    weight: Float[Array, "..."]
    sharpness: Float[Array, "..."]
    margin: Float[Array, "..."]


def resting_weight(
    margins: Real[ArrayLike, "*times Q"], decay: Real[ArrayLike, "..."], attended: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "..."]:
    """The weight at which drive and decay are equal: a <sigma(-phi - a w)> = lambda w.

    Arguments:
        margins: phi, the memoriser's logit times the right label, of Q items of equal chance on the last axis.
        decay: lambda > 0, of the weight.
        attended: a in (0, 1], what the attention reads of the right label: 1/c where all of it is on c copies. Both
            broadcast with the leading axes of the margins.
    Returns:
        w*, of the broadcast shape, to rounding. It falls with every margin and with the decay, to zero.
    Holds when: attention is sure of the copy; the weight is faster than the memoriser, see `withdrawal_rate`.
    Source: derived in derivations/induction/transience.py, after Nguyen & Reddy 2024 (arXiv:2412.00104), transience.
    """
    phi, drive, a = _checked(margins, decay, attended)
    return _resting(phi, drive) / a


def weight_bounds(
    margins: Real[ArrayLike, "*times Q"], decay: Real[ArrayLike, "..."], attended: Real[ArrayLike, "..."] = 1.0
) -> Bounds:
    """Closed forms on both sides of the resting weight, which meet as items are memorised.

    omega(ln c_1 - ln lambda) <= w* <= omega(ln c_3 - ln lambda),   c_1 = <sigma(-phi)>,  c_3 = <e^{-phi}>,

    for a = 1; with another a both are omega(... - ln(lambda / a^2)) / a.

    Arguments: as for `resting_weight`.
    Returns:
        `Bounds`. The upper one is the limit e^{-phi - w} << 1, the memoriser's or the circuit's certainty.
    Holds when: always.
    Source: derived in derivations/induction/transience.py.
    """
    phi, drive, a = _checked(margins, decay, attended)
    return Bounds(*(bound / a for bound in _bounds(phi, drive)))


def in_context_loss(weight: Real[ArrayLike, "..."], attended: Real[ArrayLike, "..."] = 1.0) -> Float[Array, "..."]:
    """Cross-entropy on new items, of which the memoriser knows nothing: softplus(-a w), about lambda w* / c_3.

    Arguments, which broadcast: weight: w; attended: a in [0, 1].
    Returns: the loss, ln 2 at w = 0.
    Holds when: attention is sure of the copy; phi = 0 on new items.
    Source: a definition.
    """
    return jax.nn.softplus(-real("weight", weight) * within("attended", attended, 0.0, 1.0))


def in_weights_loss(margins: Real[ArrayLike, "*times Q"]) -> Float[Array, "*times"]:
    """Cross-entropy on known items without a copy in the context: <softplus(-phi)>, about c_3 when it is small.

    Arguments: margins: phi of Q items on the last axis.
    Returns: the loss, of the leading shape. Where both are small, its product with the in-context loss is lambda w*.
    Holds when: a context without a copy says nothing.
    Source: a definition.
    """
    return jnp.mean(jax.nn.softplus(-_checked_margins(margins)), axis=-1)


def withdrawal_rate(
    margins: Real[ArrayLike, "*times Q"],
    weight: Real[ArrayLike, "*runs"],
    decay: Real[ArrayLike, ""],
    attended: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "*times"]:
    """Rate at which a weight returns to its resting place: lambda + a^2 <sigma (1 - sigma)>, sigma = sigma(-phi - a w).

    Arguments:
        margins, decay, attended: as for `resting_weight`; weight: w of the leading shape.
    Returns:
        the rate, about lambda (1 + a w*) at rest. A memoriser that moves more slowly than this is followed.
    Holds when: attention is sure of the copy.
    Source: the slope of the drive.
    """
    phi, drive, a = _checked(margins, decay, attended)
    w = real("weight", weight)
    if w.shape != phi.shape[:-1]:
        raise ValueError(f"weight must be of shape {phi.shape[:-1]} beside margins of shape {phi.shape}, got {w.shape}")
    z = phi + (a * w)[..., None]
    return a**2 * (drive + jnp.mean(jax.nn.sigmoid(z) * jax.nn.sigmoid(-z), axis=-1))


def learning_flow(
    t: Real[ArrayLike, " T"],
    contexts: Contexts | tuple,
    items: Real[ArrayLike, ""],
    decay: Real[ArrayLike, ""] = 0.0,
    start: Learners | tuple = (0.0, 0.0, 0.0),
    copies: Real[ArrayLike, ""] = 2.0,
) -> Learners:
    """Gradient flow of a circuit and of a memoriser with a logit for each item, on one loss.

    dw/dt = -dL/dw - lambda w,   dbeta/dt = -dL/dbeta,   dphi/dt = E sigma(-phi - w a) / K.

    Arguments:
        t: times, increasing, >= 0, (T,).
        contexts: `acquisition.random_contexts`, or others.
        items: K > 0, of equal chance: each gets one K-th of the steps.
        decay: lambda >= 0, of the weight alone.
        start: (w, beta, phi) at t = 0, scalars.
        copies: c >= 1, 2 where the item asked for sees itself.
    Returns:
        `Learners` at the times, (T,) each. With decay w first rises, then falls to zero; without, it rises for ever.
    Holds when: small steps on large batches, many dimensions; items do not share parameters.
    Source: derived in derivations/induction/transience.py; the circuit of Nguyen & Reddy 2024 (arXiv:2412.00104).
    """
    given = tuple(real(name, value) for name, value in zip(Learners._fields, start, strict=True))
    if any(value.ndim for value in given):
        raise ValueError(f"start must hold three numbers, got shapes {[value.shape for value in given]}")
    rest = checked_contexts(contexts, copies)
    return _learning(times("t", t), positive("items", items), non_negative("decay", decay), given, *rest)


def withdrawn_weight(
    t: Real[ArrayLike, "..."],
    items: Real[ArrayLike, "..."],
    decay: Real[ArrayLike, "..."],
    start: Real[ArrayLike, "..."],
    attended: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """The weight that follows its resting place beside a memoriser of independent items, in closed form.

    u = a w,   1 / u = omega(r lambda t + 1 / u_0 - ln u_0),   r = 1 / (a^2 K).

    Arguments, which broadcast:
        t: time >= 0; items: K > 0; decay: lambda >= 0; attended: a in (0, 1].
        start: w_0 > 0 at t = 0, at its resting place.
    Returns:
        w > 0. First ln u falls like 1/u rises; in the end u = 1 / (r lambda t): ICL fades as one over time, not
        exponentially.
    Holds when: e^{-phi - u} << 1, r << 1.
    Source: derived in derivations/induction/transience.py.
    """
    t, k, decay = non_negative("t", t), positive("items", items), non_negative("decay", decay)
    a = within("attended", positive("attended", attended), 0.0, 1.0)
    u = a * positive("start", start)
    return 1 / (a * wright_omega(decay * t / (a**2 * k) + 1 / u - jnp.log(u)))


def lifetime(
    items: Real[ArrayLike, "..."],
    decay: Real[ArrayLike, "..."],
    start: Real[ArrayLike, "..."],
    end: Real[ArrayLike, "..."],
    attended: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """How long the weight takes to fall from `start` to `end`: (a^2 K / lambda) [1/u - ln u] from u_0 to u.

    Arguments, which broadcast: as for `withdrawn_weight`; end: 0 < w <= start.
    Returns: the time, proportional to the number of items and to one over the decay.
    Holds when: as for `withdrawn_weight`.
    Source: derived in derivations/induction/transience.py.
    """
    k, decay, a = positive("items", items), positive("decay", decay), positive("attended", attended)
    first, last = positive("start", start), positive("end", end)
    last = require("end", last, last <= first, "must not be above the start")
    fallen = (1 / last - 1 / first) / a + jnp.log(first / last)
    return a**2 * k / decay * fallen


def _bounds(phi, drive):
    """For u = a w: sigma(-phi) e^{-u} <= sigma(-phi - u) <= e^{-phi - u}, and u e^u = c / drive."""
    count, level = jnp.log(phi.shape[-1]), jnp.log(drive)
    known = logsumexp(-jax.nn.softplus(phi), axis=-1), logsumexp(-phi, axis=-1)
    return tuple(wright_omega(total - count - level) for total in known)


@jax.jit
def _resting(phi, drive):
    """u with <sigma(-phi - u)> = drive u: halving between the bounds, then Newton's steps to rounding."""
    low, high = (jax.lax.stop_gradient(bound) for bound in _bounds(phi, drive))

    def excess(u):
        """ln of drive over decay, and minus its slope in ln u."""
        sigma = -jax.nn.softplus(phi + u[..., None])
        turn = jnp.sum(jax.nn.softmax(sigma, axis=-1) * jax.nn.sigmoid(phi + u[..., None]), axis=-1)
        return logsumexp(sigma, axis=-1) - jnp.log(phi.shape[-1] * drive) - jnp.log(u), 1 + u * turn

    def halve(_, ends):
        low, high = ends
        middle = jnp.sqrt(low) * jnp.sqrt(high)
        above = excess(middle)[0] < 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    def newton(u):
        value, slope = excess(u)
        return u * jnp.exp(value / slope)

    low, high = jax.lax.fori_loop(0, 40, halve, (low, high))
    return differentiable(newton, jnp.sqrt(low) * jnp.sqrt(high))


@jax.jit
def _learning(t, k, decay, start, m, s, p, c) -> Learners:
    def field(state):
        w, beta, phi = state
        error, (dw, dbeta) = force(w, beta, phi[None], m, s, p, c)
        return dw - decay * w, dbeta, error / k

    return Learners(*flow(field, t, start, rtol=1e-9, atol=1e-12))


def _checked_margins(margins):
    phi = real("margins", margins)
    if not phi.ndim or not phi.shape[-1]:
        raise ValueError(f"margins must hold one item or more on the last axis, got shape {phi.shape}")
    return phi


def _checked(margins, decay, attended):
    """Margins, lambda / a^2 and a, of which the first two determine u = a w."""
    phi, a = _checked_margins(margins), within("attended", positive("attended", attended), 0.0, 1.0)
    return phi, positive("decay", decay) / a**2, a
