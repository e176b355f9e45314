"""Diagonal linear networks `beta = u^D - v^D`: the scale of the start decides between kernel and sparse features.

The loss is (1/2n) |y - X beta|^2, time is in units of 1 / learning rate of the raw weights u, v. Each pair of weights
moves on a curve that the start fixes (u v for D = 2, u^(2-D) + v^(2-D) for D >= 3), so that one number per coordinate,
the log ratio chi = ln(u/v), tells both weights at any scale, however small.
Woodworth et al. 2020 (arXiv:2002.09277); for the steps of gradient descent Even et al. 2023 (arXiv:2302.08982).
"""

from __future__ import annotations

from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole
from theory.deep_linear.modes import decay_integral
from theory.flow import times


class DiagonalRegression(eqx.Module):
    """DiagonalRegression by a diagonal network: the data, and the start of the weights.

    x: inputs X, samples in rows, shape (n, d).
    y: targets, shape (n,).
    log_alpha: ln sqrt(u0 v0), the scale of the start, scalar or shape (d,); any finite number.
    c: ln(u0 / v0), zero for the unbiased start u0 = v0 = alpha, scalar or shape (d,).
    depth: D >= 2, in beta = u^D - v^D.
    """

    x: Real[ArrayLike, "n d"]
    y: Real[ArrayLike, " n"]
    log_alpha: Real[ArrayLike, "..."]
    c: Real[ArrayLike, "..."] = 0.0
    depth: int = eqx.field(static=True, default=2)


DiagonalRegressionLike = DiagonalRegression | tuple


def start(u0: Real[ArrayLike, "..."], v0: Real[ArrayLike, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(log_alpha, c) of the start u0, v0 > 0: alpha = sqrt(u0 v0) and c = ln(u0 / v0), for every depth."""
    log_u, log_v = jnp.log(positive("u0", u0)), jnp.log(positive("v0", v0))
    return (log_u + log_v) / 2, log_u - log_v


def coefficient(
    eta: Real[ArrayLike, "..."],
    log_alpha: Real[ArrayLike, "..."],
    c: Real[ArrayLike, "..."] = 0.0,
    depth: int = 2,
) -> Float[Array, "..."]:
    """Coefficient beta as a function of its dual variable eta = -int dL/dbeta dt.

    D = 2: beta = 2 alpha^2 sinh(4 eta + c).
    D > 2: beta = (u0^(2-D) - k eta)^(-D/(D-2)) - (v0^(2-D) + k eta)^(-D/(D-2)), k = D (D - 2).

    Arguments, which broadcast:
        eta: dual variable; for D > 2 within (-v0^(2-D) / k, u0^(2-D) / k).
        log_alpha: ln alpha, alpha = sqrt(u0 v0).
        c: ln(u0 / v0).
        depth: D >= 2.
    Returns:
        beta, of the broadcast shape; beta = alpha^D h_D(k alpha^(D-2) eta) at c = 0, in Woodworth's notation.
    Holds when: the weights follow gradient flow on any loss of beta, with time in units of 1 / learning rate.
    Source: Woodworth et al. 2020 (arXiv:2002.09277), theorem 1 and the section on higher-order models.
    """
    eta, log_alpha, c = real("eta", eta), real("log_alpha", log_alpha), real("c", c)
    depth = whole("depth", depth, 2)
    chi = c + 4 * eta
    if depth > 2:
        k = depth * (depth - 2) * eta
        up = k * jnp.exp((depth - 2) * (log_alpha + c / 2))
        down = k * jnp.exp((depth - 2) * (log_alpha - c / 2))
        up = require("eta", up, (up < 1) & (down > -1), "must lie between -v0^(2-D) and u0^(2-D) over D (D - 2)")
        chi = c + (jnp.log1p(down) - jnp.log1p(-up)) / (depth - 2)
    return difference(chi, conserved_scale(log_alpha, c, depth), depth)


def dual_variable(
    beta: Real[ArrayLike, "..."],
    log_alpha: Real[ArrayLike, "..."],
    c: Real[ArrayLike, "..."] = 0.0,
    depth: int = 2,
) -> Float[Array, "..."]:
    """Dual variable eta = -int dL/dbeta dt at which the coefficient is beta: the inverse of `coefficient`.

    D = 2: eta = (arcsinh(beta / 2 alpha^2) - c) / 4.    D > 2: the root of beta = coefficient(eta).

    Arguments, which broadcast: beta, any real number; the others as for `coefficient`.
    Returns:
        eta, of the broadcast shape. It is the gradient of the mirror potential of the flow; at large alpha
        eta = (beta - beta(0)) / (D^2 (u0^(2D-2) + v0^(2D-2))).
    Holds when: as for `coefficient`. For D > 2 and |beta| >> alpha^D it saturates at the ends of its range.
    Source: Woodworth et al. 2020 (arXiv:2002.09277), theorem 1 and the section on higher-order models.
    """
    beta, log_alpha, c = real("beta", beta), real("log_alpha", log_alpha), real("c", c)
    depth = whole("depth", depth, 2)
    scale = conserved_scale(log_alpha, c, depth)
    chi = log_ratio(beta, scale, depth)
    if depth == 2:
        return (chi - c) / 4
    half = (depth - 2) / 2
    return (jnp.tanh(half * chi) - jnp.tanh(half * c)) * jnp.exp(-2 * half * scale) / (depth * (depth - 2))


def coefficients(
    t: Real[ArrayLike, " T"],
    regression: DiagonalRegressionLike,
    *,
    tolerance: float = 1e-14,
    max_steps: int = 200_000,
) -> Float[Array, "T d"]:
    """Coefficients of a diagonal network under gradient flow.

    dbeta/dt = -D^2 (u^(2D-2) + v^(2D-2)) dL/dbeta,   L = |y - X beta|^2 / 2n;   for D = 2 and c = 0
    dbeta/dt = -4 sqrt(beta^2 + 4 alpha^4) dL/dbeta.

    Arguments:
        t: times, increasing, >= 0, in units of 1 / learning rate of the raw weights, shape (T,).
        regression: data and start, or the tuple (x, y, log_alpha, c, depth) of them; n and d are free.
        tolerance: local error of the adaptive integrator (Dormand & Prince 8(5,3)), relative to the log ratio.
        max_steps: steps after which the integration is given up, with an error.
    Returns:
        beta(t), shape (T, d).
    Holds when: the flow comes to rest before t, or t times its fastest rate (about D^2 max|beta|^(2-2/D) times the
        largest eigenvalue of X^T X / n) is below 2 max_steps; the limit t -> infinity is `implicit_bias.interpolator`.
        float32 carries the tolerance 1e-5.
    Source: Woodworth et al. 2020 (arXiv:2002.09277), appendix; the flow of ln(u/v) integrated here follows from it.
    """
    t = times("t", t)
    regression = checked(regression)
    chi, _ = _trajectory(t, regression, tolerance, max_steps=max_steps)
    scale = conserved_scale(regression.log_alpha, regression.c, regression.depth)
    return difference(chi, scale, regression.depth)


def descent_shift(
    t: Real[ArrayLike, " T"],
    regression: DiagonalRegressionLike,
    *,
    tolerance: float = 1e-14,
    max_steps: int = 200_000,
) -> tuple[Float[Array, "T d"], Float[Array, "T d"]]:
    """Shift of the effective start by the steps of gradient descent, per unit of learning rate.

    Up to O(lr^2) the weights of gradient descent at t lie on the curves of the start
    ln u0 - lr (D - 1) D^2/2 u0^(D-2) int_0^t u^(D-2) (dL/dbeta)^2 dr   (same for v0),
    so that it converges to the interpolator of that start; for D = 2, ln alpha - 2 lr int (dL/dbeta)^2.

    Arguments: as for `coefficients`.
    Returns:
        (d log_alpha / d lr, d c / d lr) of the effective start, each of shape (T, d).
    Holds when: lr is small against the inverse of the fastest rate of the flow.
    Source: Even et al. 2023 (arXiv:2302.08982) for D = 2; for any D, the Euler steps of u^(2-D) to second order.
    """
    t = times("t", t)
    regression = checked(regression)
    _, (up, down) = _trajectory(t, regression, tolerance, max_steps=max_steps, gains=True)
    depth, log_alpha, c = regression.depth, regression.log_alpha, regression.c
    unit = -(depth - 1) * depth**2 / 2
    shift_u = unit * up * jnp.exp((depth - 2) * (log_alpha + c / 2))
    shift_v = unit * down * jnp.exp((depth - 2) * (log_alpha - c / 2))
    return (shift_u + shift_v) / 2, shift_u - shift_v


def orthogonal_coefficient(
    t: Real[ArrayLike, "..."],
    target: Real[ArrayLike, "..."],
    log_alpha: Real[ArrayLike, "..."],
    c: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """One coefficient of a depth-2 network on an orthogonal design X^T X = n I, in closed form.

    dbeta/dt = 4 sqrt(beta^2 + 4 alpha^4) (b - beta).   With R = sqrt(b^2 + 4 alpha^4), E = exp(-4 R t), G = (1 - E)/R:
    beta = b - (b - beta(0)) 4 E / (P Q),   P = 1 + E + (b + 2 v0^2) G,   Q = 1 + E + (2 u0^2 - b) G.

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate of the raw weights.
        target: b, the coefficient that fits the data, (X^T y / n)_i, any sign.
        log_alpha: ln alpha, alpha = sqrt(u0 v0).
        c: ln(u0 / v0).
    Returns:
        beta(t), of the broadcast shape; b as t -> infinity.
    Holds when: the design is orthogonal and the depth is 2.
    Source: the Riccati equation of u/v; an unbalanced mode of a two-layer network (Saxe et al. 2013, appendix A).
    """
    t, target = non_negative("t", t), real("target", target)
    log_alpha, c = real("log_alpha", log_alpha), real("c", c)
    square, start = 2 * jnp.exp(2 * log_alpha), difference(c, log_alpha, 2)
    # Below the smallest normal number alpha^4 only keeps the square root differentiable at target = 0.
    r = jnp.sqrt(target**2 + jnp.maximum(square**2, jnp.finfo(target.dtype).tiny))
    growth = 4 * decay_integral(4 * r, t)
    # R - |b| = 4 alpha^4 / (R + |b|), and all in logarithms because E and alpha^4 underflow.
    large = jnp.log(r + jnp.abs(target))
    small = jnp.log(4.0) + 4 * log_alpha - large
    up = target >= 0
    log_p = _log_sum(jnp.logaddexp(jnp.where(up, large, small), jnp.log(2.0) + 2 * log_alpha - c), growth, 4 * r * t)
    log_q = _log_sum(jnp.logaddexp(jnp.where(up, small, large), jnp.log(2.0) + 2 * log_alpha + c), growth, 4 * r * t)
    # u/v = (P/Q) u0/v0. At large alpha P/Q is near one, but P - Q = 2 (b - beta(0)) G without cancellation.
    ratio = 2 * (target - start) * growth * jnp.exp(-jnp.maximum(log_q, -0.9 * jnp.log(jnp.finfo(r.dtype).max)))
    near = jnp.abs(ratio) < 0.5
    rise = jnp.where(near, jnp.log1p(jnp.where(near, ratio, 0.0)), log_p - log_q)
    beta = difference(c + rise, log_alpha, 2)
    gap = (target - start) * 4 * jnp.exp(-4 * r * t - log_p - log_q)
    # Of the two forms, the one that cancels less.
    noise = jnp.abs(beta) + square * jnp.abs(jnp.sinh(c))
    return jnp.where(jnp.abs(target) + jnp.abs(gap) < 2 * noise, target - gap, beta)


def _log_sum(log_rate, growth, decay):
    """ln(2 exp(-decay) + growth exp(log_rate)), where either term may underflow."""
    top = jax.lax.stop_gradient(jnp.maximum(log_rate, -decay))
    return top + jnp.log(2 * jnp.exp(-decay - top) + jnp.exp(log_rate - top) * growth)


# The rooms below are shared with `implicit_bias` and `saddle_to_saddle`; they check nothing.


def checked(regression: DiagonalRegressionLike) -> DiagonalRegression:
    """`regression` with floating arrays, log_alpha and c of shape (d,), or a refusal."""
    if not isinstance(regression, DiagonalRegression):
        regression = DiagonalRegression(*regression)
    x = matrix("x", regression.x)
    y = real("y", regression.y)
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must be a vector of the {x.shape[0]} samples of x, got shape {y.shape}")
    whole("depth", regression.depth, 2)
    scales = []
    for name in ("log_alpha", "c"):
        value = real(name, getattr(regression, name))
        if value.shape not in ((), x.shape[1:]):
            raise ValueError(f"{name} must be a scalar or of shape ({x.shape[1]},), got shape {value.shape}")
        scales.append(jnp.broadcast_to(value, x.shape[1:]))
    return DiagonalRegression(x, y, *scales, regression.depth)


def conserved_scale(log_alpha, c, depth: int) -> Float[Array, "..."]:
    """ln a, where a^(2-D) = (u0^(2-D) + v0^(2-D)) / 2 (a = alpha for D = 2): what the flow conserves."""
    return log_alpha + 0 * c if depth == 2 else log_alpha - log_cosh((depth - 2) / 2 * c) / (depth - 2)


def log_weights(chi, scale, depth: int) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(ln u, ln v) at the log ratio chi = ln(u/v), on the curve of scale ln a."""
    middle = scale if depth == 2 else scale + log_cosh((depth - 2) / 2 * chi) / (depth - 2)
    return middle + chi / 2, middle - chi / 2


def difference(chi, scale, depth: int) -> Float[Array, "..."]:
    """beta = u^D - v^D at the log ratio chi, with no overflow on the way and no cancellation at chi = 0."""
    log_u, log_v = log_weights(chi, scale, depth)
    up = chi >= 0
    rise, fall = jnp.where(up, chi, 0.0), jnp.where(up, 0.0, chi)
    # Weights beyond all numbers, at chi = 0, still differ by nothing.
    most = jnp.log(jnp.finfo(log_u.dtype).max)
    larger = jnp.exp(jnp.minimum(depth * jnp.where(up, log_u, log_v), most))
    return jnp.where(up, -jnp.expm1(-depth * rise), jnp.expm1(depth * fall)) * larger


def log_ratio(beta, scale, depth: int) -> Float[Array, "..."]:
    """chi = ln(u/v) at the coefficient beta: the inverse of `difference`."""
    size = jnp.abs(beta)
    log_x = jnp.log(jnp.where(size > 0, size, 1.0)) - depth * scale - jnp.log(2.0)
    far = (size > 0) & (log_x > 12)
    near = jnp.arcsinh(jnp.where(far, 0.0, beta) * jnp.exp(jnp.minimum(-depth * scale, 600.0)) / 2)
    log_x = jnp.where(far, log_x, 12.0)
    far_value = jnp.sign(beta) * (log_x + jnp.log1p(jnp.sqrt(1 + jnp.exp(-2 * log_x))))
    level = jnp.where(far, far_value, near)
    return level if depth == 2 else _ratio_of_level(level, depth)


def log_cosh(x) -> Float[Array, "..."]:
    """ln cosh x, accurate also where it is x^2 / 2."""
    small = jnp.abs(x) < 1
    return jnp.where(
        small,
        jnp.log1p(2 * jnp.sinh(jnp.where(small, x, 0.0) / 2) ** 2),
        jnp.logaddexp(x, -x) - jnp.log(2.0),
    )


def _level(chi, depth: int):
    """arcsinh(beta / 2 a^D) as a function of the log ratio: chi itself for D = 2, nearly linear for all D."""
    log_size = depth / (depth - 2) * log_cosh((depth - 2) / 2 * chi)
    # sinh(D chi / 2) e^log_size, its arcsinh in logarithms where it is large.
    half = depth / 2 * jnp.abs(chi)
    log_x = log_size + half - jnp.log(2.0) + jnp.log(-jnp.expm1(-2 * jnp.maximum(half, 1e-3)))
    near = jnp.arcsinh(jnp.exp(jnp.minimum(log_size, 20.0)) * jnp.sinh(jnp.clip(depth / 2 * chi, -20, 20)))
    return jnp.where(log_x > 12, jnp.sign(chi) * (log_x + jnp.log1p(jnp.sqrt(1 + jnp.exp(-2 * log_x)))), near)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _ratio_of_level(level, depth: int):
    """The log ratio at which `_level` has the given value."""
    return _newton(level, depth)


@partial(jax.jit, static_argnums=1)
def _newton(level, depth: int):
    """Newton's method, quick because the function is nearly linear."""

    def step(_, chi):
        return chi - (_level(chi, depth) - level) / _level_slope(chi, depth)

    return jax.lax.fori_loop(0, 12, step, 2 * level / depth)


@_ratio_of_level.defjvp
def _ratio_of_level_jvp(depth, primals, tangents):
    chi = _ratio_of_level(primals[0], depth)
    return chi, tangents[0] / _level_slope(chi, depth)


def _level_slope(chi, depth: int):
    """d level / d chi = (dbeta/dchi) / sqrt(beta^2 + 4 a^(2D)), every factor over e^(D |chi|)."""
    decay = jnp.exp(-jnp.abs(chi))
    spread = depth * log_cosh((depth - 2) / 2 * chi) / (depth - 2) - depth / 2 * jnp.abs(chi)
    tilt = (1 - decay**depth) * jnp.tanh((depth - 2) / 2 * jnp.abs(chi)) + 1 + decay**depth
    sinh = (1 - decay**depth) * jnp.exp(spread)
    return depth / 2 * tilt * jnp.exp(spread) / jnp.sqrt(sinh**2 + 4 * decay ** (2 * depth))


@partial(jax.jit, static_argnames=("max_steps", "gains"))
def _trajectory(t, regression: DiagonalRegression, tolerance, max_steps: int, gains: bool = False):
    """chi(t), shape (T, d), and the integrals of u^(D-2) g^2 and v^(D-2) g^2 where `gains` asks for them."""
    x, y, c, depth = regression.x, regression.y, regression.c, regression.depth
    n, d = jnp.shape(x)
    scale = conserved_scale(regression.log_alpha, c, depth)
    tolerance = jnp.maximum(tolerance, 30 * jnp.finfo(x.dtype).eps)
    # chi is counted in units of what it must travel, so that one tolerance serves every scale of the start.
    largest = jnp.max(jnp.abs(x))
    size = jnp.max(jnp.abs(y)) / jnp.where(largest > 0, largest, 1.0) + jnp.max(jnp.abs(difference(c, scale, depth)))
    unit = jax.lax.stop_gradient(jnp.abs(log_ratio(size, scale, depth)) + jnp.finfo(x.dtype).eps)

    rest = tolerance * (1 + jnp.max(unit))
    # No coefficient goes beyond this; a trial step that does must be rejected for its error, which overflow would hide.
    beyond = jax.lax.stop_gradient(size * jnp.exp(0.1 * jnp.log(jnp.finfo(x.dtype).max)))
    reach = log_ratio(jnp.maximum(beyond, jnp.finfo(x.dtype).tiny), scale, depth)

    def field(_, state, __):
        chi = jnp.clip(c + unit * state[0], -reach, reach)
        log_u, log_v = log_weights(chi, scale, depth)
        beta = difference(chi, scale, depth)
        gap, size = y - x @ beta, jnp.abs(x) @ jnp.abs(beta) + jnp.abs(y)
        g = -x.T @ gap / n
        # At rest to within the tolerance: an explicit method would go on at the pace of the fastest rate.
        left = (jnp.abs(gap), size) if n < d else (jnp.abs(g), jnp.abs(x).T @ size / n)
        moving = jnp.max(left[0]) > rest * jnp.max(left[1])
        up, down = jnp.exp((depth - 2) * log_u), jnp.exp((depth - 2) * log_v)
        speed = jnp.where(moving, -depth * (up + down) * g / unit, 0.0)
        return (speed, jnp.where(moving, up * g**2, 0.0), jnp.where(moving, down * g**2, 0.0)) if gains else (speed,)

    zero = jnp.zeros_like(c)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8(),
        t0=jnp.zeros_like(t[0]),
        t1=jnp.maximum(t[-1], jnp.finfo(t.dtype).tiny),
        dt0=None,
        y0=(zero, zero, zero) if gains else (zero,),
        saveat=diffrax.SaveAt(ts=t),
        # Steps end on the times asked for: interpolation would cost two digits.
        stepsize_controller=diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=tolerance, atol=tolerance), step_ts=t
        ),
        max_steps=max_steps,
    )
    return c + unit * solution.ys[0], solution.ys[1:]
