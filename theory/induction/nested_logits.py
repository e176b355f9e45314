"""The minimal induction head as three nested logits: a product that must grow together, and so grows abruptly.

A sequence holds N items, each followed by its label, and a target item. An induction head needs three things: labels
that attend to the item before them (layer 1, logit beta_1), a target that attends to the label whose item matches it
(layer 2, logit beta_2), and a classifier that copies what is attended to (logit xi). Each works only as well as the one
that it contains: beta_1 inside beta_2 inside xi,

    s_1 = 1 / (1 + c e^{-beta_1}),   s_2 = 1 / (1 + (N - 1) e^{-beta_2 s_1}),   p = e^{xi s_2} / Z,

so that the gradients of beta_2 and beta_1 vanish at the origin and the loss has a plateau. With N contextual labels out
of L the classifier learns first that the answer is one of them, a curriculum without which the head never forms.

It is the mechanism of a deep linear mode (`theory.deep_linear.modes`): factors of a product, each of which moves at a
rate in proportion to the others, so that all wait for each other and then rise together. Two things differ. The copying
logit has a force of its own, the curriculum, which leaves the origin without a start of any size; and logits saturate.
Where L = N there is no curriculum, and the saddle at the origin is, to second order, that of a two-layer mode of
strength s_1(0) (N - 1) / N^2 (`saddle_rate`), of which xi and beta_2 are the layers.

This model is a reconstruction, from what the author states of the published one in public; the published equations may
differ in form. That it is the mean field of a small head trained on sequences is shown for `averaged_flow`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import positive, real, require
from theory.flow import flow, times

# Gauss-Legendre nodes on the unit interval for the required drive, whose integrand is analytic.
NODES, WEIGHTS = (0.5 * np.polynomial.legendre.leggauss(200)[0] + 0.5, 0.5 * np.polynomial.legendre.leggauss(200)[1])


class Logits(NamedTuple):
    """The three logits: xi of copying, beta_2 of matching, beta_1 of looking at the item before a label."""

    copy: Float[Array, "..."]
    match: Float[Array, "..."]
    previous: Float[Array, "..."]


class Progress(NamedTuple):
    """What a head does.

    `association`  s_1, attention of a label to its item.
    `attention`    s_2, attention of the target to the right label.
    `accuracy`     p, probability of the right label; `other` p_o, of each other label in the context.
    `contextual`   p + (N - 1) p_o, of all of them.
    `loss`         -ln p, in nats.
    """

    association: Float[Array, "..."]
    attention: Float[Array, "..."]
    accuracy: Float[Array, "..."]
    other: Float[Array, "..."]
    contextual: Float[Array, "..."]
    loss: Float[Array, "..."]


def progress(
    logits: Logits | tuple,
    context: Real[ArrayLike, "..."],
    labels: Real[ArrayLike, "..."],
    competitors: Real[ArrayLike, "..."],
) -> Progress:
    """Attention, accuracy and loss of a head.

    p = e^{xi s_2} / Z,   p_o = e^{xi (1 - s_2) / (N - 1)} / Z,   Z = e^{xi s_2} + (N - 1) e^{xi (1-s_2)/(N-1)} + L - N.

    Arguments, which broadcast:
        logits: (xi, beta_2, beta_1), any finite numbers.
        context: N > 1, different labels in the context (items over burstiness); labels: L >= N, of all.
        competitors: c > 0, other tokens that a label may look at: 2 n - 1 for the n-th label of a sequence.
    Returns:
        the `Progress`, finite at any logits.
    Holds when: inputs of many dimensions (classes are orthogonal), each label's items look alike.
    Source: a reconstruction of the phenomenological model of Reddy 2024 (arXiv:2312.03002); see the top of this file.
    """
    xi, beta2, beta1 = (real(name, value) for name, value in zip(Logits._fields, logits, strict=True))
    return _progress(xi, beta2, beta1, *_checked_task(context, labels, competitors))


def ascent(
    logits: Logits | tuple,
    context: Real[ArrayLike, "..."],
    labels: Real[ArrayLike, "..."],
    competitors: Real[ArrayLike, "..."],
) -> Logits:
    """Gradient of ln p: the direction in which the three logits move.

    d/dxi = s_2 (1 - p) - p_o (1 - s_2),   d/dbeta_2 = g s_1,   d/dbeta_1 = g beta_2 s_1 (1 - s_1),
    g = xi (1 - p + p_o) s_2 (1 - s_2).

    Arguments: as for `progress`.
    Returns:
        `Logits` of derivatives, of the broadcast shape. At the origin only xi has one, (L - N) / (N L).
    Holds when: as for `progress`.
    Source: as for `progress`; derived in derivations/induction/nested_logits.py.
    """
    xi, beta2, beta1 = (real(name, value) for name, value in zip(Logits._fields, logits, strict=True))
    return _ascent(xi, beta2, beta1, *_checked_task(context, labels, competitors))


def nested_flow(
    t: Real[ArrayLike, " T"],
    context: Real[ArrayLike, ""],
    labels: Real[ArrayLike, ""],
    competitors: Real[ArrayLike, ""],
    copy_rate: Real[ArrayLike, ""] = 1.0,
    start: Logits | tuple = (0.0, 0.0, 0.0),
) -> Logits:
    """Gradient flow of the three logits on the loss.

    dxi/dt = copy_rate d ln p / dxi,   dbeta_2/dt = d ln p / dbeta_2,   dbeta_1/dt = d ln p / dbeta_1.

    Arguments:
        t: times, increasing, >= 0, learning rate times steps, (T,).
        context, labels, competitors: N, L and c, scalars.
        copy_rate: > 0; 1 for one logit, 1 / (L - 1) for a linear classifier on orthogonal labels, of which each row
            learns from its own label alone.
        start: logits at t = 0. From the origin with L = N nothing ever moves.
    Returns:
        `Logits` with an axis of T.
    Holds when: as for `progress`.
    Source: as for `progress`.
    """
    n, labels, c = _checked_task(context, labels, competitors)
    weights = jnp.ones((1,), c.dtype)
    return _flow(times("t", t), n, labels, c[None], weights, positive("copy_rate", copy_rate), checked_start(start))


def averaged_flow(
    t: Real[ArrayLike, " T"],
    context: int,
    labels: Real[ArrayLike, ""],
    copy_rate: Real[ArrayLike, ""] | None = None,
    start: Logits | tuple = (0.0, 0.0, 0.0),
) -> Logits:
    """The same for a head on whole sequences: gradients averaged over labels, c = 2 n - 1 for the n-th.

    Arguments:
        t: as for `nested_flow`; context: N items of different labels, a Python int; labels: L >= N.
        copy_rate: of xi; 1 / (L - 1) if not given.
        start: logits at t = 0.
    Returns:
        `Logits` with an axis of T; xi is the mean diagonal entry of the classifier less the mean of the others.
    Holds when: one head per layer with the two logits beta_1, beta_2 and a linear classifier on orthogonal labels that
        starts at zero, inputs of many dimensions, small steps on large batches: it is then exact.
    Source: derived in derivations/induction/nested_logits.py.
    """
    n, labels, _ = _checked_task(context, labels, 1.0)
    c = 2 * jnp.arange(1, int(context) + 1, dtype=n.dtype) - 1
    rate = 1 / (labels - 1) if copy_rate is None else positive("copy_rate", copy_rate)
    return _flow(times("t", t), n, labels, c, jnp.full_like(c, 1 / c.size), rate, checked_start(start))


def plateau_copy(
    t: Real[ArrayLike, "..."],
    context: Real[ArrayLike, "..."],
    labels: Real[ArrayLike, "..."],
    copy_rate: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """The copying logit while nothing is matched yet: it learns that the answer is in the context.

    N^2 (e^{xi/N} - 1) + (L - N) xi = copy_rate t (L - N) / N.

    Arguments, which broadcast:
        t: time, >= 0; context, labels: N and L >= N; copy_rate: > 0.
    Returns:
        xi >= 0: the loss falls from ln L to ln N, its plateau. 0 for L = N.
    Holds when: beta_2 = 0.
    Source: derived in derivations/induction/nested_logits.py.
    """
    t = require("t", real("t", t), jnp.asarray(t) >= 0, "must be non-negative")
    n, labels, _ = _checked_task(context, labels, 1.0)
    drive = positive("copy_rate", copy_rate) * t * (labels - n) / n
    return _plateau(drive, n, labels)


def conserved(
    match: Real[ArrayLike, "..."], previous: Real[ArrayLike, "..."], competitors: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """What the two layers of attention keep, whatever drives them: beta_2^2 / 2 - beta_1 - e^{beta_1} / c.

    Arguments, which broadcast: match: beta_2; previous: beta_1; competitors: c > 0.
    Returns: the constant of motion, of the broadcast shape: -1/c from the origin.
    Holds when: `nested_flow`; not its average over labels, in which c varies.
    Source: derived in derivations/induction/nested_logits.py.
    """
    beta2, beta1 = real("match", match), real("previous", previous)
    return beta2**2 / 2 - beta1 - jnp.exp(beta1) / positive("competitors", competitors)


def required_drive(competitors: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Drive that takes the two layers of attention from the origin to s_1 = 1/2: int g / xi ... dt needed for a head.

    theta = int_0^{ln c} (1 + c e^{-b})^2 / (c e^{-b} beta_2(b)) db,   beta_2(b)^2 / 2 = b + (e^b - 1) / c.

    Arguments:
        competitors: c > 1.
    Returns:
        theta, the integral of xi (1 - p + p_o) s_2 (1 - s_2) over time up to the transition; sqrt(pi/2) c for large c.
    Holds when: `nested_flow` from beta_1 = beta_2 = 0. Almost independent of L, and so a clock of the transition.
    Source: derived in derivations/induction/nested_logits.py.
    """
    c = require("competitors", real("competitors", competitors), jnp.asarray(competitors) > 1, "must be above 1")
    # b = u^2 takes the square root out of beta_2 near the origin.
    top = jnp.sqrt(jnp.log(c))[..., None]
    u = top * jnp.asarray(NODES, c.dtype)
    square = u**2
    c = c[..., None]
    slope = jnp.sqrt(2 * (1 + jnp.expm1(square) / (c * square)))
    looking = c * jnp.exp(-square)
    return jnp.sum(jnp.asarray(WEIGHTS, c.dtype) * top * 2 * (1 + looking) ** 2 / (looking * slope), axis=-1)


def saddle_rate(context: Real[ArrayLike, "..."], competitors: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Rate at which the origin is left where all labels are in the context, L = N: s_1(0) (N - 1) / N^2.

    Arguments, which broadcast: context: N > 1; competitors: c > 0.
    Returns: lambda; from a start of size delta the transition comes at ln(1 / delta) / lambda and a constant.
    Holds when: L = N, copy_rate 1: there is no curriculum, and the origin is a saddle of xi and beta_2.
    Source: derived in derivations/induction/nested_logits.py.
    """
    n, _, c = _checked_task(context, context, competitors)
    return (n - 1) / n**2 / (1 + c)


def _progress(xi, beta2, beta1, n, labels, c) -> Progress:
    s1 = jax.nn.sigmoid(beta1 - jnp.log(c))
    s2 = jax.nn.sigmoid(beta2 * s1 - jnp.log(n - 1))
    right, wrong = xi * s2, xi * jax.nn.sigmoid(jnp.log(n - 1) - beta2 * s1) / (n - 1)
    rest = jnp.where(labels > n, jnp.log(jnp.where(labels > n, labels - n, 1.0)), -jnp.inf)
    log_z = jnp.logaddexp(jnp.logaddexp(right, wrong + jnp.log(n - 1)), jnp.broadcast_to(rest, right.shape))
    p, other = jnp.exp(right - log_z), jnp.exp(wrong - log_z)
    # The loss to full precision where p is within rounding of one.
    gap = jnp.logaddexp(wrong - right + jnp.log(n - 1), rest - right)
    return Progress(s1, s2, p, other, p + (n - 1) * other, jnp.logaddexp(0.0, gap))


def _ascent(xi, beta2, beta1, n, labels, c) -> Logits:
    s1, s2, _, other, _, loss = _progress(xi, beta2, beta1, n, labels, c)
    missing = -jnp.expm1(-loss)
    unmatched = jax.nn.sigmoid(jnp.log(n - 1) - beta2 * s1)
    g = xi * (missing + other) * s2 * unmatched
    astray = jax.nn.sigmoid(jnp.log(c) - beta1)
    return Logits(s2 * missing - other * unmatched, g * s1, g * beta2 * s1 * astray)


@jax.jit
def _flow(t, n, labels, c, weights, copy_rate, start) -> Logits:
    def field(state):
        xi, beta2, beta1 = state
        each = _ascent(xi, beta2, beta1, n, labels, c)
        mean = [jnp.sum(weights * part) for part in each]
        return copy_rate * mean[0], mean[1], mean[2]

    return Logits(*flow(field, t, start, rtol=1e-9, atol=1e-11))


@jax.jit
def _plateau(drive, n, labels):
    """Newton's method on a convex increasing function, from the right of the root."""
    some = drive > 0
    drive = jnp.where(some, drive, 1.0)
    # Each term alone would reach the drive here, so that the root is to the left.
    start = jnp.minimum(n * jnp.log1p(drive / n**2), drive / jnp.maximum(labels - n, jnp.finfo(n.dtype).tiny))

    def step(_, xi):
        value = n**2 * jnp.expm1(xi / n) + (labels - n) * xi - drive
        return xi - value / (n * jnp.exp(xi / n) + labels - n)

    return jnp.where(some, jax.lax.fori_loop(0, 60, step, start), 0.0)


def checked_start(start: Logits | tuple) -> tuple[Array, ...]:
    """Three logits as scalars, or a refusal.

    Arguments:
        start: what a user gave.
    Returns:
        the same, three numbers.
    Holds when: always.
    Source: a definition.
    """
    found = tuple(real(name, value) for name, value in zip(Logits._fields, start, strict=True))
    if any(value.ndim for value in found):
        raise ValueError(f"start must hold three numbers, got shapes {[value.shape for value in found]}")
    return found


def _checked_task(context, labels, competitors):
    n, c = real("context", context), positive("competitors", competitors)
    n = require("context", n, n > 1, "must be above 1")
    labels = real("labels", labels)
    return n, require("labels", labels, labels >= n, "must be at least the number of labels in the context"), c
