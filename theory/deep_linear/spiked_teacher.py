"""Generalization of a deep linear network that learns a low-rank teacher from noisy outputs (Lampinen & Ganguli 2019).

Noise strengthens and tilts the singular vectors of the teacher's modes (spikes), and adds a bulk of modes that carry
nothing but noise. A two-layer network learns strong modes first, so that signal comes before noise, and there is
a best time to stop between the two.

Setting: N1 white inputs, as many samples as inputs, Sxx = 1, N3 outputs, Syx = sum_i s_i u_i v_i^T + Z with independent
entries Z of variance 1/N1; aspect = N3/N1. Times are those of gradient flow on 1/2 |Syx - W|^2 (Frobenius), in units
of 1 / learning rate.
"""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive
from theory.deep_linear.generalization import minimising_time
from theory.deep_linear.marchenko_pastur import bulk, edge_angles


class SpikedTeacher(eqx.Module):
    """A teacher of rank r, and the size of the noise around it.

    strengths: singular values of the teacher, in units of the noise (variance 1/N1 per entry), > 0, shape (r,).
    inputs, outputs: N1 and N3, large.
    """

    strengths: Real[ArrayLike, " r"]
    inputs: Real[ArrayLike, ""]
    outputs: Real[ArrayLike, ""]


# The record, or its fields in order.
SpikedTeacherLike = SpikedTeacher | tuple


def detection_threshold(aspect: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Strength aspect^{1/4} below which a mode of the teacher is lost in the noise.

    Arguments: aspect: outputs per input N3/N1, > 0.
    Returns: the threshold, of aspect's shape.
    Holds when: N1, N3 -> infinity at fixed aspect and rank.
    Source: Benaych-Georges & Nadakuditi 2012; Lampinen & Ganguli 2019 (arXiv:1809.10374).
    """
    return positive("aspect", aspect) ** 0.25


def empirical_singular_value(s: Real[ArrayLike, "..."], aspect: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Singular value of Syx that a mode of the teacher gives rise to.

    shat = sqrt((1 + s^2) (aspect + s^2)) / s for s > aspect^{1/4},   1 + sqrt(aspect) (the edge of the bulk) below.

    Arguments, which broadcast:
        s: singular value of the teacher, >= 0, for noise of variance 1/N1 per entry.
        aspect: outputs per input N3/N1, > 0.
    Returns:
        shat, of the broadcast shape.
    Holds when: N1, N3 -> infinity at fixed aspect and rank; corrections of order 1/sqrt N1 in each sample.
    Source: Benaych-Georges & Nadakuditi 2012; Lampinen & Ganguli 2019 (arXiv:1809.10374).
    """
    s, aspect = non_negative("s", s), positive("aspect", aspect)
    found = _found(s, aspect)
    safe = jnp.where(found, s, 1.0)
    return jnp.where(found, jnp.sqrt(1 + safe**2) * jnp.sqrt(aspect + safe**2) / safe, 1 + jnp.sqrt(aspect))


def left_overlap(s: Real[ArrayLike, "..."], aspect: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Cosine between a mode's left (output) singular vectors in the teacher and in Syx.

    sqrt[(s^4 - aspect) / (s^2 (s^2 + aspect))] for s > aspect^{1/4}, 0 below.

    Arguments, which broadcast, regime and source: as for `empirical_singular_value`.
    Returns: |u . uhat|, between 0 and 1, of the broadcast shape.
    """
    s, aspect = non_negative("s", s), positive("aspect", aspect)
    return _overlap(s, aspect, aspect)


def right_overlap(s: Real[ArrayLike, "..."], aspect: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Cosine between a mode's right (input) singular vectors in the teacher and in Syx.

    sqrt[(s^4 - aspect) / (s^2 (s^2 + 1))] for s > aspect^{1/4}, 0 below.

    Arguments, which broadcast, regime and source: as for `empirical_singular_value`.
    Returns: |v . vhat|, between 0 and 1, of the broadcast shape.
    """
    s, aspect = non_negative("s", s), positive("aspect", aspect)
    return _overlap(s, aspect, jnp.ones_like(aspect))


def generalization_error(
    t: Real[ArrayLike, "..."], teacher: SpikedTeacherLike, u0: Real[ArrayLike, ""], layers: int = 2
) -> Float[Array, "..."]:
    """Test error |W - Wbar|^2 / |Wbar|^2 (Frobenius) against the noiseless teacher, at time t.

    { sum_i [u(shat_i)^2 + s_i^2 - 2 u(shat_i) s_i O_i] + (min(N1, N3) - r) E[u(sqrt lam)^2] } / sum_i s_i^2,
    O_i = left_overlap right_overlap, lam over the Marchenko-Pastur bulk of Z^T Z, u(s) the strength at time t of a mode
    of singular value s: s / (1 + (s/u0 - 1) e^{-2 s t}) with two layers, s + (u0 - s) e^{-t} with one.

    Arguments:
        t: time, >= 0, in units of 1 / learning rate, any shape.
        teacher: strengths, inputs, outputs.
        u0: strength of every mode at t = 0, > 0.
        layers: 2 (one hidden layer, at least min(N1, N3) wide) or 1.
    Returns:
        The error, of t's shape; about 1 at t = 0 for small u0.
    Holds when: a balanced start aligned with the modes of Syx, N1, N3 -> infinity at fixed aspect and rank. While the
        bulk is unlearned its share is small; as it is learned its sum, of order N1, is off by terms of the order of the
        spikes' own, at every N1: `generalization_error_correction`. Quadrature error 1e-12 for u0 >= 1e-12.
    Source: Lampinen & Ganguli 2019 (arXiv:1809.10374).
    """
    t, parts = non_negative("t", t), _parts(teacher, u0, layers)
    return _generalization_error(t, *parts, layers)


def generalization_error_correction(
    t: Real[ArrayLike, "..."], teacher: SpikedTeacherLike, u0: Real[ArrayLike, ""], layers: int = 2
) -> Float[Array, "..."]:
    """What `generalization_error` leaves out at the order of its spikes: add it for an error of relative order 1/N1.

    Each spike moves the bulk, the bulk's vectors hold what the spike's lack of the teacher, and sums over eigenvalues
    of Gaussian matrices have a mean of order 1 beyond the Marchenko-Pastur law. The numerator gains
        [u(lower)^2 + u(upper)^2] / 4 - <u^2> / 2 + r E[u^2] - sum_i { <(q_i^2 + q_i cos theta) u^2 / d_i>
        + 4 s_i^2 <u sin^2(theta) / (sqrt(lam) d_i)> + u(shat_i)^2 where i is below the threshold },
    <.> the mean over theta, lam = 1 + aspect - 2 sqrt(aspect) cos(theta), u = u(sqrt lam), q_i = s_i^2 / sqrt(aspect),
    d_i = 1 + 2 q_i cos(theta) + q_i^2.

    Arguments: as for `generalization_error`.
    Returns: the correction, of t's shape; it decays like 1 / (number of modes) relative to the whole.
    Holds when: as for `generalization_error`; Gaussian noise, strengths apart from the threshold by over N1^{-1/3}.
    Source: derived here: the pole and the branch cut of s D / (1 - s^2 D), D of Benaych-Georges & Nadakuditi 2012, and
        Bai & Silverstein 2004.
    """
    t, teacher = non_negative("t", t), _record(teacher)
    return _correction(t, teacher, *_parts(teacher, u0, layers), layers)


def training_error(
    t: Real[ArrayLike, "..."], teacher: SpikedTeacherLike, u0: Real[ArrayLike, ""], layers: int = 2
) -> Float[Array, "..."]:
    """Training error |W - Syx|^2 / |Syx|^2 (Frobenius) at time t.

    { sum_i (shat_i - u(shat_i))^2 + (min(N1, N3) - r) E[(sqrt lam - u(sqrt lam))^2] } / the same at u = 0.

    Arguments, source: as for `generalization_error`.
    Returns: the error, of t's shape.
    Holds when: as for `generalization_error`; leading order in N1 alone, to a share of order 1/N1 of all modes.
    """
    t, (spikes, noise, u0) = non_negative("t", t), _parts(teacher, u0, layers)
    s, weights = noise
    left = (spikes[1] - _strength(t, spikes[1], u0, layers)) ** 2
    bulk_left = weights * (s - _strength(t, s, u0, layers)) ** 2
    whole = jnp.sum(spikes[1] ** 2) + jnp.sum(weights * s**2)
    return (jnp.sum(left, axis=-1) + jnp.sum(bulk_left, axis=-1)) / whole


def optimal_stopping_time(teacher: SpikedTeacherLike, u0: Real[ArrayLike, ""], layers: int = 2) -> Float[Array, ""]:
    """Time at which the test error is lowest: after the spikes that help, before the noise.

    Arguments: teacher, u0, layers: as for `generalization_error`.
    Returns: t, in units of 1 / learning rate, a scalar; 0 where learning only harms. Differentiable where t > 0.
    Holds when: as for `generalization_error`, whose minimum it is: without the correction, a shift of order 1/N1.
    Source: Lampinen & Ganguli 2019 (arXiv:1809.10374), optimal stopping.
    """
    return _optimal_stopping_time(_parts(teacher, u0, layers), layers)


@partial(jax.jit, static_argnums=1)
def _optimal_stopping_time(parts, layers: int):
    (_, empirical, _), _, u0 = parts
    weakest = jnp.min(empirical)
    # By then the weakest mode is within e^-40 of its end, and all that is left to learn is noise.
    end = (jnp.log1p(weakest / u0) + 40) / (2 * weakest) if layers == 2 else jnp.asarray(40.0, u0.dtype)
    return minimising_time(lambda t: _generalization_error(t, *parts, layers), jnp.zeros_like(end), end, points=400)


def _found(s, aspect):
    return s**2 > jnp.sqrt(aspect)


def _overlap(s, aspect, side):
    found = _found(s, aspect)
    square = jnp.where(found, s, 1.0) ** 2
    edge = jnp.sqrt(aspect)
    # (s^2 - edge) (s^2 + edge) keeps the digits of s^4 - aspect near the threshold.
    cosine = jnp.where(found, (square - edge) * (square + edge) / (square * (square + side)), 1.0)
    return jnp.where(found, jnp.sqrt(cosine), 0.0)


def _record(teacher) -> SpikedTeacher:
    """The teacher as a record of checked arrays."""
    given = teacher if isinstance(teacher, SpikedTeacher) else SpikedTeacher(*teacher)
    return SpikedTeacher(
        positive("strengths", given.strengths), positive("inputs", given.inputs), positive("outputs", given.outputs)
    )


def _parts(teacher, u0, layers: int):
    """The spikes (s, shat, O), the bulk (singular values and numbers of modes at them), and u0."""
    if layers not in (1, 2):
        raise ValueError(f"layers must be 1 or 2, got {layers!r}")
    teacher = _record(teacher)
    s, inputs, outputs = teacher.strengths, teacher.inputs, teacher.outputs
    aspect = outputs / inputs
    overlap = left_overlap(s, aspect) * right_overlap(s, aspect)
    # The logistic's transition is sharper than an exponential: ln(s/u0) nodes to each of the bulk's own.
    modes = bulk(aspect, refine=8)
    share = (jnp.minimum(inputs, outputs) - s.size) / jnp.minimum(inputs, outputs)
    noise = jnp.sqrt(modes.rates), share * inputs * modes.weights
    return (s, empirical_singular_value(s, aspect), overlap), noise, positive("u0", u0)


def _strength(t, s, u0, layers: int):
    """Strength of modes s at times t, with the modes along a new last axis."""
    t = t[..., None]
    if layers == 1:
        return -s * jnp.expm1(-t) + u0 * jnp.exp(-t)
    return u0 / (u0 * -jnp.expm1(-2 * s * t) / s + jnp.exp(-2 * s * t))


def _correction(t, teacher: SpikedTeacher, spikes, noise, u0, layers: int):
    s, empirical, _ = spikes
    aspect = teacher.outputs / teacher.inputs
    lam, x, rest, weights = edge_angles(aspect, refine=8)
    u = _strength(t, jnp.sqrt(lam), u0, layers)
    q = (s**2 / jnp.sqrt(aspect))[:, None]
    # 1 + 2 q cos(theta) + q^2 and q^2 + q cos(theta), with cos(theta) = 1 - 2 x, exact at the threshold's edge.
    d = (1 - q) ** 2 + 4 * q * rest
    moved = jnp.sum((q * (q - 1) + 2 * q * rest) / d, axis=0)
    held = jnp.sum(4 * s[:, None] ** 2 * 4 * x * rest / d, axis=0) / jnp.sqrt(lam)
    root = jnp.sqrt(aspect)
    ends = _strength(t, jnp.stack([jnp.maximum(jnp.abs(1 - root), 1e-15), 1 + root]), u0, layers)
    modes = jnp.minimum(teacher.inputs, teacher.outputs)
    mean = jnp.sum(noise[1] * _strength(t, noise[0], u0, layers) ** 2, axis=-1) / (modes - s.size)
    lost = jnp.sum(jnp.where(_found(s, aspect), 0.0, _strength(t, empirical, u0, layers) ** 2), axis=-1)
    shift = jnp.sum(weights * (-(0.5 + moved) * u**2 - held * u), axis=-1)
    return (jnp.sum(ends**2, axis=-1) / 4 + s.size * mean + shift - lost) / jnp.sum(s**2)


def _generalization_error(t, spikes, noise, u0, layers: int):
    s, empirical, overlap = spikes
    u = _strength(t, empirical, u0, layers)
    signal = jnp.sum(u**2 + s**2 - 2 * u * s * overlap, axis=-1)
    overfit = jnp.sum(noise[1] * _strength(t, noise[0], u0, layers) ** 2, axis=-1)
    return (signal + overfit) / jnp.sum(s**2)
