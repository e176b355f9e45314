"""Linear attention pretrained on finitely many tasks and prompts: its errors in the limit of many dimensions.

Inputs are N(0, I / d), contexts hold l pairs, y = w . x + noise of variance rho, and pretraining sees n prompts whose
tasks are k vectors of mean square 1 each coordinate. A layer of linear attention is fitted by ridge regression. With

    alpha = l / d,   kappa = k / d,   tau = n / d^2

fixed, its errors become deterministic. A finite context acts as a ridge x* = (1 + rho) / alpha on the covariance R of
the pretrained tasks, finitely many prompts add an effective ridge xi, and all is told by the resolvent of R:

    M(z) = (1/d) tr (R + z)^{-1},   1 / M = z + kappa / (kappa + M),   z = x* + xi.

On the pretrained tasks a layer memorises; on fresh ones it learns in context only from kappa = 1 on. At tau = 1 without
a ridge both errors diverge.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive


class Pretraining(NamedTuple):
    """What a layer is fitted on: `samples` tau, `context` alpha, `tasks` kappa, label `noise` rho, `ridge` lambda."""

    samples: Float[Array, "..."]
    context: Float[Array, "..."]
    tasks: Float[Array, "..."]
    noise: Float[Array, "..."]
    ridge: Float[Array, "..."] | float = 0.0


class Errors(NamedTuple):
    """Mean square errors, noise included: `in_context` on fresh tasks, `in_distribution` on the pretrained ones."""

    in_context: Float[Array, "..."]
    in_distribution: Float[Array, "..."]


class _Traces(NamedTuple):
    """Of the resolvent at z: M, -M', h = (1/d) tr R/(R+z), its part s - z over s, and s."""

    m: Array
    slope: Array
    h: Array
    share: Array
    s: Array


def resolvent(z: Real[ArrayLike, "..."], tasks: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """M(z) = (1/d) tr (R + z)^{-1} of the covariance R of k = kappa d tasks.

    M = 2 / (b + sqrt(b^2 + 4 z / kappa)),   b = z + 1 - 1 / kappa.

    Arguments, which broadcast:
        z: > 0.
        tasks: kappa > 0, tasks over dimension.
    Returns:
        M: 1 / (1 + z) for kappa -> inf, (1 - kappa) / z + O(1) for z -> 0 below kappa = 1.
    Holds when: many dimensions; tasks independent, isotropic, of mean square 1 each coordinate.
    Source: Marchenko & Pastur 1967.
    """
    return _traces(positive("z", z), positive("tasks", tasks)).m


def effective_ridge(pretraining: Pretraining | tuple) -> Float[Array, "..."]:
    """xi >= 0, the ridge that finitely many prompts add.

    lambda = xi [1 - (1 - xi M(x* + xi)) / tau],   x* = (1 + rho) / alpha.

    Arguments:
        pretraining: arrays that broadcast, tau > 0, alpha > 0, kappa > 0, rho >= 0, lambda >= 0.
    Returns:
        xi; without a ridge 0 for tau >= 1, and 1 - xi M(x* + xi) = tau below.
    Holds when: as `pretrained_errors`.
    Source: Lu, Letey, Zavatone-Veth, Maiti & Pehlevan 2024 (arXiv:2405.11751).
    """
    return _ridge(*_checked(pretraining))


def pretrained_errors(pretraining: Pretraining | tuple) -> Errors:
    """Errors on fresh and on pretrained tasks.

    e_IDG = [rho + z (1 - z M) - xi (1 - 2 z M - z^2 M')] / [1 - (1 - 2 xi M - xi^2 M') / tau],
    e_ICL = 1 + rho - 2 (1 - z M) + (1 + x*) (1 - 2 z M - z^2 M') + e_IDG (1 + x*) (M + xi M') / tau,

    with M and M' at z = x* + xi.

    Arguments:
        pretraining: arrays that broadcast, tau > 0, alpha > 0, kappa > 0, rho >= 0, lambda >= 0.
    Returns:
        `Errors`; infinite at tau = 1 without a ridge.
    Holds when: d -> inf at fixed tau, alpha, kappa; finite d adds a relative O(1/d), upwards, more the nearer tau = 1.
        The layer is <Gamma, x q^T> with q = (d / l) sum y_i x_i, (1 / l) sum y_i^2, fitted by
        sum (y - <Gamma, H>)^2 + (n / d) lambda |Gamma|^2.
    Source: Lu, Letey, Zavatone-Veth, Maiti & Pehlevan 2024 (arXiv:2405.11751), in sums of positive terms.
    """
    tau, alpha, kappa, rho, ridge = _checked(pretraining)
    xi = _ridge(tau, alpha, kappa, rho, ridge)
    x = (1 + rho) / alpha
    z = x + xi
    m = _traces(z, kappa)
    # (1/d) tr (R + x*)^2 / (R + z)^2.
    remembered = m.h * m.share + 2 * x * m.h / m.s + x**2 * m.slope
    known = rho + m.h * (x + xi * z / m.s)
    free = 1 - remembered / tau
    # At the pole, rounding may leave a zero of either sign.
    known_tasks = jnp.where(free > 0, known / jnp.where(free > 0, free, 1.0), jnp.inf)
    scatter = (1 + x) * (m.h / m.s + x * m.slope) / tau
    return Errors(rho + z**2 * m.slope + x * m.h * m.share + known_tasks * scatter, known_tasks)


def endless_errors(
    context: Real[ArrayLike, "..."], tasks: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."]
) -> Errors:
    """Errors after pretraining on endlessly many prompts of k tasks, without a ridge.

    e_ICL = 1 + rho - 2 (1 - x* M) + (1 + x*) (1 - 2 x* M - x*^2 M'),   e_IDG = rho + x* (1 - x* M),   M = M(x*).

    Arguments, which broadcast:
        context: alpha > 0; tasks: kappa > 0; noise: rho >= 0.
    Returns:
        `Errors`. For alpha -> inf: e_ICL = rho + max(1 - kappa, 0), a sharp transition at kappa = 1, and e_IDG = rho;
        for kappa -> inf both are 1 + rho - 1 / (1 + x*).
    Holds when: as `pretrained_errors`.
    Source: Lu, Letey, Zavatone-Veth, Maiti & Pehlevan 2024 (arXiv:2405.11751).
    """
    alpha, kappa, rho = positive("context", context), positive("tasks", tasks), non_negative("noise", noise)
    x = (1 + rho) / alpha
    m = _traces(x, kappa)
    return Errors(rho + x**2 * m.slope + x * m.h * m.share, rho + x * m.h)


def bayes_error(context: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Mean square error of the Bayes predictor of fresh tasks, ridge regression on the context itself.

    e = rho + 2 rho / [rho + alpha - 1 + sqrt((rho + alpha - 1)^2 + 4 rho)].

    Arguments, which broadcast:
        context: alpha > 0, pairs over dimension.
        noise: rho >= 0.
    Returns:
        e: rho + (1 - alpha)_+ for rho -> 0, rho + rho / alpha for alpha -> inf.
    Holds when: d -> inf; inputs N(0, I / d), tasks N(0, I).
    Source: Dobriban & Wager 2018 (arXiv:1507.03003).
    """
    alpha, rho = positive("context", context), non_negative("noise", noise)
    b = rho + alpha - 1
    # Without noise the root is |b|, which has no derivative in rho there above or below.
    inside = b**2 + 4 * rho
    s = jnp.where(inside > 0, jnp.sqrt(jnp.where(inside > 0, inside, 1.0)), 0.0)
    # 2 rho / (b + s) = (s - b) / 2, whichever does not cancel.
    excess = jnp.where(b > 0, 2 * rho / jnp.where(b > 0, b + s, 1.0), (s - b) / 2)
    return rho + excess


def _traces(z, kappa) -> _Traces:
    inverse = 1 / kappa
    b = z + 1 - inverse
    s = jnp.sqrt(b**2 + 4 * z * inverse)
    m = jnp.where(b > 0, 2 / jnp.where(b > 0, b + s, 1.0), kappa * (s - b) / (2 * z))
    # In 1 / kappa, so that many tasks do not overflow: 1 - z M = M / (1 + M / kappa).
    h = m / (1 + m * inverse)
    share = (2 * z * (1 + inverse) + (1 - inverse) ** 2) / (s * (s + z))
    return _Traces(m, m * (m * inverse + 1) / s, h, share, s)


@jax.jit
def _ridge(tau, alpha, kappa, rho, ridge):
    """The root, by bisection of its logarithm, and one step of Newton that carries the derivatives."""
    x = (1 + rho) / alpha

    def left(xi):
        # 1 - xi M = h + x* M lies between 0 and 1.
        m = _traces(x + xi, kappa)
        return xi * (1 - (m.h + x * m.m) / tau) - ridge

    tiny = jnp.finfo(x.dtype).tiny
    high = ridge + (1 + x) / tau
    ends = jax.lax.stop_gradient((jnp.log(jnp.maximum(ridge, tiny)), jnp.log(high)))
    ends = tuple(jnp.broadcast_to(end, jnp.broadcast_shapes(*map(jnp.shape, (tau, x, kappa, ridge)))) for end in ends)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        above = left(jnp.exp(middle)) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, 64, halve, ends))
    root = jnp.where((ridge == 0) & (tau >= 1), 0.0, jnp.exp((low + high) / 2))
    root = jax.lax.stop_gradient(root)
    value, slope = jax.jvp(left, (root,), (jnp.ones_like(root),))
    slope = jax.lax.stop_gradient(slope)
    return root - jnp.where(slope > 0, value / jnp.where(slope > 0, slope, 1.0), 0.0)


def _checked(pretraining):
    tau, alpha, kappa, rho, ridge = Pretraining(*pretraining)
    found = (
        positive("samples", tau),
        positive("context", alpha),
        positive("tasks", kappa),
        non_negative("noise", rho),
        non_negative("ridge", ridge),
    )
    kind = jnp.result_type(*found)
    return tuple(jnp.asarray(part, kind) for part in found)
