"""Stochastic gradient descent on least squares: the noise of single samples and of small batches.

One-pass descent on Gaussian inputs: the exact mean risk at every step, its steady state and its largest stable step.
Multi-pass single-sample descent: the homogenised loss in the limit of many samples, which obeys a Volterra equation
(Paquette, Lee, Pedregosa & Paquette 2021, arXiv:2102.04396).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import floating, non_negative, positive, require
from theory.deep_linear.discrete import whole_steps
from theory.deep_linear.modes import decay_integral


class Stream(eqx.Module):
    """Online linear regression: x ~ N(0, Sigma) fresh at every step, y = theta* . x + xi.

    `lam`    eigenvalues of Sigma, >= 0, shape (d,).
    `m0`     mean squared components of theta(0) - theta* along its eigenvectors, >= 0, shape (d,).
    `noise`  variance of the label noise xi, >= 0.
    """

    lam: Float[Array, " d"]
    m0: Float[Array, " d"]
    noise: Float[Array, ""]

    def __init__(self, lam: Real[ArrayLike, " d"], m0: Real[ArrayLike, " d"], noise: Real[ArrayLike, ""] = 0.0):
        self.lam, self.m0 = non_negative("lam", lam), non_negative("m0", m0)
        self.noise = non_negative("noise", noise)


# The record, or its fields in order.
StreamLike = Stream | tuple


def sgd_risk(
    k: Real[ArrayLike, "*K"], stream: StreamLike, lr: Real[ArrayLike, ""], batch: Real[ArrayLike, ""]
) -> Float[Array, "*K"]:
    """Mean excess risk of one-pass stochastic gradient descent after k steps, exactly.

    1/2 sum_i lam_i m_i,   m_i <- (1 - 2 lr lam_i + lr^2 (1 + 1/B) lam_i^2) m_i
                                  + (lr^2 / B) lam_i (sum_j lam_j m_j + noise).

    Arguments:
        k: numbers of steps, whole, >= 0, of any shape and in any order.
        stream: spectrum, start and label noise.
        lr: step on the mean over the batch of (y - theta . x)^2 / 2, >= 0.
        batch: batch size B, >= 1; as B grows the curve becomes that of gradient descent.
    Returns:
        the mean over data of E_x[((theta_k - theta*) . x)^2] / 2, of the shape of k; the risk on noisy labels has
        noise/2 more. Beyond the largest stable step it grows without bound (infinity, once too large for a float).
    Holds when: inputs are Gaussian (fourth moments by Wick's rule) and never seen twice. Rounding errors grow as
        k lr lam_max times the unit roundoff.
    Source: second moments of the update; the diagonal in the eigenbasis closes on itself.
    """
    k, lr, batch = whole_steps("k", k), non_negative("lr", lr), _batch(batch)
    stream = stream if isinstance(stream, Stream) else Stream(*stream)
    lam = stream.lam
    gain = lr**2 / batch * lam
    change = jnp.diag(-2 * lr * lam + lr**2 * (1 + 1 / batch) * lam**2) + gain[:, None] * lam
    steps = jax.lax.stop_gradient(k.ravel())
    return _relaxed(_geometric, change, stream.m0, gain * stream.noise, lam / 2, steps).reshape(k.shape)


def sgd_noise_gain(lam: Real[ArrayLike, " d"], lr: Real[ArrayLike, ""], batch: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """How much of the noise in one-pass stochastic gradient descent the noise itself renews: kappa.

    kappa = (1/B) sum_i lr lam_i / (2 - lr (1 + 1/B) lam_i).

    Arguments:
        lam: eigenvalues of the input covariance, >= 0, shape (d,).
        lr: step, >= 0.
        batch: batch size B, >= 1.
    Returns:
        kappa: the mean risk stays bounded if and only if kappa < 1; infinity where lr (1 + 1/B) lam_max >= 2, beyond
        which the formula has no meaning.
    Holds when: as for `sgd_risk`.
    Source: the fixed point of its recursion.
    """
    lam, lr, batch = non_negative("lam", lam), non_negative("lr", lr), _batch(batch)
    room = 2 - lr * (1 + 1 / batch) * lam
    beyond = jnp.any(room <= 0)
    kappa = jnp.sum(lr * lam / jnp.where(room <= 0, 1, room)) / batch
    return jnp.where(beyond, jnp.inf, kappa)


def sgd_steady_risk(
    lam: Real[ArrayLike, " d"],
    noise: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    batch: Real[ArrayLike, ""],
) -> Float[Array, ""]:
    """Mean excess risk at which one-pass stochastic gradient descent settles.

    (noise / 2) kappa / (1 - kappa),   kappa from `sgd_noise_gain`;   lr noise tr(Sigma) / (4 B) for small steps.

    Arguments:
        lam: eigenvalues of the input covariance, >= 0, shape (d,).
        noise: variance of the label noise, >= 0.
        lr: step, >= 0.
        batch: batch size B, >= 1.
    Returns:
        the excess risk; infinity where kappa >= 1.
    Holds when: as for `sgd_risk`.
    Source: the fixed point of its recursion.
    """
    noise = non_negative("noise", noise)
    kappa = sgd_noise_gain(lam, lr, batch)
    unstable = kappa >= 1
    kappa = jnp.where(unstable, 0, kappa)
    return jnp.where(unstable, jnp.inf, noise / 2 * kappa / (1 - kappa))


def sgd_largest_stable_step(lam: Real[ArrayLike, " d"], batch: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """Step beyond which the mean risk of one-pass stochastic gradient descent grows: the root of kappa(lr) = 1.

    Arguments:
        lam: eigenvalues of the input covariance, >= 0, the largest > 0, shape (d,).
        batch: batch size B, >= 1.
    Returns:
        the step, below 2 / ((1 + 1/B) lam_max); white inputs: 2 B / (lam (d + B + 1)); 2 / lam_max as B -> infinity.
    Holds when: as for `sgd_risk`.
    Source: `sgd_noise_gain`.
    """
    lam, batch = non_negative("lam", lam), _batch(batch)
    top = require("lam", jnp.max(lam, initial=0), jnp.max(lam, initial=0) > 0, "must have a positive entry")
    r = lam / top

    w = _unit_gain(r, batch)
    return 2 * batch * w / ((1 + w) * (batch + 1) * top)


@jax.jit
def _unit_gain(r: Float[Array, " d"], batch: Float[Array, ""]) -> Float[Array, ""]:
    """The w = x/(1-x), x = lr (1 + 1/B) lam_max / 2, at which kappa is one; r = lam / lam_max."""
    # In units v of its lower bound, w enters kappa as a concave function without poles: Newton's method climbs to the
    # root from v = 1 without overshooting, quadratically: after a step of `tolerance` only rounding is left.
    unit = (batch + 1) / jnp.sum(r)

    def excess(v, _):
        return jnp.sum(v * r / (1 + v * unit * (1 - r))) / jnp.sum(r) - 1

    tolerance = float(jnp.finfo(r.dtype).eps) ** 0.75
    solver = optx.Newton(rtol=tolerance, atol=tolerance)
    return unit * optx.root_find(excess, solver, jnp.ones_like(unit), max_steps=200).value


class LeastSquares(eqx.Module):
    """A least-squares problem f(x) = |A x - b|^2 / 2 with n rows of about unit norm, and a start x0.

    `lam`      squared singular values of A, >= 0, shape (d,); zeros may be left out.
    `z2`       squared components of x0 - x* along the right singular vectors, >= 0, shape (d,).
    `floor`    |b_perp|^2 / 2, the loss that no x can remove, >= 0.
    `samples`  number of rows n.
    """

    lam: Float[Array, " d"]
    z2: Float[Array, " d"]
    floor: Float[Array, ""]
    samples: Float[Array, ""]

    def __init__(
        self,
        lam: Real[ArrayLike, " d"],
        z2: Real[ArrayLike, " d"],
        floor: Real[ArrayLike, ""],
        samples: Real[ArrayLike, ""],
    ):
        self.lam, self.z2 = non_negative("lam", lam), non_negative("z2", z2)
        self.floor, self.samples = non_negative("floor", floor), positive("samples", samples)


# The record, or its fields in order.
LeastSquaresLike = LeastSquares | tuple


def multipass_loss(t: Real[ArrayLike, "*T"], problem: LeastSquaresLike, lr: Real[ArrayLike, ""]) -> Float[Array, "*T"]:
    """Training loss of multi-pass single-sample stochastic gradient descent, homogenised.

    f(t) = f_gf(t) + int_0^t K(t - r) f(r) dr,   K(t) = (lr^2 / n) sum_i lam_i^2 e^{-2 lr lam_i t},
    f_gf(t) = floor + 1/2 sum_i lam_i z2_i e^{-2 lr lam_i t}.

    Arguments:
        t: times in passes, t = steps / n, >= 0, of any shape and in any order.
        problem: spectrum, start, floor and number of samples.
        lr: step on one sample's loss (a . x - b)^2 / 2, >= 0.
    Returns:
        f(t) = |A x_t - b|^2 / 2, summed over samples, of the shape of t.
    Holds when: samples are drawn uniformly with replacement, n is large, the rows have equal norms and no left
        singular vector sits on few rows; one run then follows its mean. Solved exactly (no time grid): a sum of
        exponentials as kernel makes the equation a linear system, symmetric in the variables f_i / lam_i.
    Source: Paquette, Lee, Pedregosa & Paquette 2021 (arXiv:2102.04396), their Volterra equation.
    """
    t, lr = non_negative("t", t), non_negative("lr", lr)
    problem = problem if isinstance(problem, LeastSquares) else LeastSquares(*problem)
    lam, gain = problem.lam, lr**2 / problem.samples * problem.lam
    change = jnp.diag(-2 * lr * lam) + gain[:, None] * lam
    noisy = _relaxed(_exponential, change, problem.z2 / 2, gain * problem.floor, lam, t.ravel())
    return problem.floor + noisy.reshape(t.shape)


def multipass_limit(problem: LeastSquaresLike, lr: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """Training loss at which multi-pass single-sample stochastic gradient descent settles.

    floor / (1 - int K),   int_0^infinity K dt = (lr / 2n) sum_i lam_i < 1   (lr < 2 for rows of unit norm).

    Arguments:
        problem: spectrum, floor and number of samples (the start does not matter).
        lr: step on one sample's loss, >= 0.
    Returns:
        the limit of `multipass_loss`; infinity where int K >= 1.
    Holds when: as for `multipass_loss`.
    Source: Paquette, Lee, Pedregosa & Paquette 2021 (arXiv:2102.04396).
    """
    problem = problem if isinstance(problem, LeastSquares) else LeastSquares(*problem)
    kernel = non_negative("lr", lr) / (2 * problem.samples) * jnp.sum(problem.lam)
    unstable = kernel >= 1
    return jnp.where(unstable, jnp.inf, problem.floor / jnp.where(unstable, 1, 1 - kernel))


# A linear recursion or flow with a symmetric matrix, solved in its eigenbasis. The eigenvectors of a matrix with
# repeated eigenvalues have no derivative, but the solution has one: it is spelled out below (Daleckii & Krein).


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _relaxation(
    solution: Callable,
    change: Float[Array, "d d"],
    start: Float[Array, " d"],
    source: Float[Array, " d"],
    read: Float[Array, " d"],
    t: Float[Array, " T"],
) -> Float[Array, " T"]:
    """read . (g(change) start + h(change) source) at each t, where g, h, _ = solution(eigenvalue, t)."""
    a, v = jnp.linalg.eigh(change)
    g, h, _ = solution(a, t[:, None])
    return _bounded((g * (start @ v) + h * (source @ v)) @ (read @ v), g)


@_relaxation.defjvp
def _relaxation_jvp(solution, primals, tangents):
    change, start, source, read, t = primals
    d_change, d_start, d_source, d_read, d_t = tangents
    a, v = jnp.linalg.eigh(change)
    turn = v.T @ d_change @ v
    y, z, w = start @ v, source @ v, read @ v
    d_y, d_z, d_w = d_start @ v, d_source @ v, d_read @ v

    def at(now):
        time, d_time = now
        (g, h, _), (g_dot, h_dot, _) = jax.jvp(lambda r: solution(a, r), (time,), (jnp.ones_like(time),))
        of_g, of_h = _divided_difference(solution, a, time)
        x = g * y + h * z
        d_x = (of_g * turn) @ y + (of_h * turn) @ z + (g_dot * y + h_dot * z) * d_time + g * d_y + h * d_z
        return _bounded(x @ w, g), d_x @ w + x @ d_w

    return jax.lax.map(at, (t, d_t))


_relaxed = jax.jit(_relaxation, static_argnums=0)


def _divided_difference(solution: Callable, a: Float[Array, " d"], time: Float[Array, ""]):
    """(f(a_i) - f(a_j)) / (a_i - a_j) for f = g and f = h and all pairs: the derivative f' where the two meet."""
    g, h, scale = solution(a, time)
    low, gap = a[:, None], a - a[:, None]
    near = jnp.abs(gap) <= 0.5 * jnp.minimum(scale, scale[:, None])
    # The mean of f' over the interval; f changes little over it, so that five nodes are exact to rounding.
    nodes, weights = np.polynomial.legendre.leggauss(5)
    mean_g = mean_h = jnp.zeros_like(gap)
    for x, w in zip(nodes, weights, strict=True):
        at = jnp.where(near, low + (1 + x) / 2 * gap, low)
        _, (g_slope, h_slope, _) = jax.jvp(lambda a: solution(a, time), (at,), (jnp.ones_like(at),))
        mean_g, mean_h = mean_g + w / 2 * g_slope, mean_h + w / 2 * h_slope
    apart = jnp.where(near, 1, gap)
    return jnp.where(near, mean_g, (g - g[:, None]) / apart), jnp.where(near, mean_h, (h - h[:, None]) / apart)


def _geometric(a, k):
    """(1 + a)^k, the sum of (1 + a)^j over j < k, and the distance in a over which these change."""
    a = jnp.maximum(a, -1 + jnp.finfo(a.dtype).eps)
    small = jnp.abs(a) < 1e-3
    series = 1 - a / 2 + a**2 / 3 - a**3 / 4 + a**4 / 5 - a**5 / 6
    log = jnp.log1p(a)
    g, h, _ = _exponential(log, k)
    return g, h * jnp.where(small, series, log / jnp.where(small, 1, a)), (1 + a) / (1 + k)


def _exponential(a, t):
    """exp(a t), the integral of exp(a r) over r from 0 to t, and the distance in a over which these change."""
    # Growth stops short of overflow, where modes of either sign would add up to no number: see `_bounded`.
    over = a * t > _largest_growth(a)
    t = jnp.where(over, _largest_growth(a) / jnp.where(over, a, 1), t)
    return jnp.exp(a * t), decay_integral(-a, t), 1 / jnp.maximum(t, jnp.finfo(a.dtype).tiny)


def _bounded(x: Float[Array, "*T"], g: Float[Array, "*T d"]) -> Float[Array, "*T"]:
    """Infinity in place of what has grown beyond the floats."""
    limit = jnp.exp(_largest_growth(g) * (1 - 1e-6))
    return jnp.where(jnp.any(g > limit, axis=-1), jnp.inf, x)


def _largest_growth(x: Float[Array, "..."]) -> float:
    return 0.9 * float(np.log(jnp.finfo(x.dtype).max))


def _batch(value: Real[ArrayLike, ""]) -> Float[Array, ""]:
    x = floating("batch", value)
    return require("batch", x, jnp.isfinite(x) & (x >= 1), "must be at least 1 and finite")
