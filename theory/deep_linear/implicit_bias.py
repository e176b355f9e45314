"""Which of all interpolators a diagonal network finds: between least squares (min L2) and sparse features (min L1).

With fewer samples than coefficients (n < d) every interpolator has zero loss. The flow finds the one that minimises a
potential which the scale of the start sets: quadratic for a large start, the L1 norm for a vanishing one.
Woodworth et al. 2020 (arXiv:2002.09277), Azulay et al. 2021 (arXiv:2102.09769) for starts with u0 != v0.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import real, whole
from theory.deep_linear.diagonal import (
    DiagonalRegression,
    DiagonalRegressionLike,
    checked,
    conserved_scale,
    difference,
    log_cosh,
    log_ratio,
    log_weights,
)


class Interpolator(NamedTuple):
    """Where the flow ends.

    beta: the interpolator, shape (d,).
    gap: largest |y - X beta| that is left, over the largest entry of |X| |beta| + |y|.
    steps: Newton steps taken.
    """

    beta: Float[Array, " d"]
    gap: Float[Array, ""]
    steps: Int[Array, ""]


def bias_potential(z: Real[ArrayLike, "..."], depth: int = 2) -> Float[Array, "..."]:
    """Potential q_D(z) of one coefficient z = beta / alpha^D, for the start u0 = v0 = alpha.

    D = 2: q(z) = int_0^z arcsinh(x/2) dx = 2 - sqrt(4 + z^2) + z arcsinh(z/2).
    D > 2: q_D(z) = int_0^z h_D^(-1)(x) dx,   h_D(s) = (1 - s)^(-D/(D-2)) - (1 + s)^(-D/(D-2)).

    Arguments:
        z: coefficient in units of alpha^D, any real number and shape.
        depth: D >= 2.
    Returns:
        q_D(z) >= 0, of the shape of z; z^2 / 4 (D = 2) or (D-2) z^2 / 4D for small z, |z| ln|z| or |z| for large.
    Holds when: always; the flow from u0 = v0 = alpha ends at the interpolator of least sum_i q_D(beta_i / alpha^D).
    Source: Woodworth et al. 2020 (arXiv:2002.09277), theorem 1 and the section on higher-order models.
    """
    z, depth = real("z", z), whole("depth", depth, 2)
    return _divergence(log_ratio(z, 0.0, depth), 0.0, 0.0, depth)


def bregman_divergence(
    beta: Real[ArrayLike, "..."],
    log_alpha: Real[ArrayLike, "..."],
    c: Real[ArrayLike, "..."] = 0.0,
    depth: int = 2,
) -> Float[Array, "..."]:
    """Divergence of one coefficient from its start: what the flow minimises, in the mirror potential's own unit.

    D = 2: [kl(u^2, u0^2) + kl(v^2, v0^2)] / 4,   kl(a, b) = a ln(a/b) - a + b.
    D > 2: sum over w = u, v of [w^D w0^(2-D) - (D/2) w^2 + (D/2 - 1) w0^2] / (D (D - 2)).

    Arguments, which broadcast:
        beta: coefficient, any real number.
        log_alpha: ln alpha, alpha = sqrt(u0 v0).
        c: ln(u0 / v0).
        depth: D >= 2.
    Returns:
        the divergence >= 0, of the broadcast shape; its gradient in beta is `dual_variable`. At c = 0 it is
        alpha^2 q(beta/alpha^2) / 4, and alpha^2 q_D(beta/alpha^D) / (D (D-2)) for D > 2.
    Holds when: always; the flow ends at the interpolator of least sum_i of it, also for a scale per coordinate.
    Source: Woodworth et al. 2020 (arXiv:2002.09277), theorem 1; Azulay et al. 2021 (arXiv:2102.09769).
    """
    beta, log_alpha, c = real("beta", beta), real("log_alpha", log_alpha), real("c", c)
    depth = whole("depth", depth, 2)
    chi = log_ratio(beta, conserved_scale(log_alpha, c, depth), depth)
    return _divergence(chi, log_alpha, c, depth) / (4 if depth == 2 else depth * (depth - 2))


def interpolator(regression: DiagonalRegressionLike, *, max_steps: int = 2000, throw: bool = True) -> Interpolator:
    """The interpolator that the flow of a diagonal network reaches as t -> infinity, for n <= d.

    beta = coefficient(X^T nu) with nu in R^n such that X beta = y: the interpolator of least divergence.

    Arguments:
        regression: data and start; X of full row rank.
        max_steps: Newton steps after which the solver gives up.
        throw: whether to raise when it gives up; otherwise its last iterate is returned, and `gap` tells.
    Returns:
        an `Interpolator`; beta has first derivatives in y, x, log_alpha and c, of the exact solution.
    Holds when: ln alpha down to -1000 and below for D = 2, at float64. For D > 2 and alpha^D below 1e-14 of the
        coefficients the start may be replaced by a larger one, of alpha^D at most 1e-10 of them: beta, which by then
        is the minimum-L1 interpolator, hardly depends on it.
    Source: Woodworth et al. 2020 (arXiv:2002.09277), theorem 1 and the section on higher-order models; solved by
        a damped Newton method on the concave dual (as in Sun & Tran-Dinh 2019, arXiv:1703.04599).
    """
    regression = checked(regression)
    n, d = jnp.shape(regression.x)
    if n > d:
        raise ValueError(f"x must have at most as many samples as coefficients to be interpolated, got shape {(n, d)}")
    x, y, log_alpha, c, depth = (getattr(regression, k) for k in ("x", "y", "log_alpha", "c", "depth"))
    end = _compiled_solution(depth, max_steps, x, y, log_alpha, c)
    beta = difference(end.chi, conserved_scale(end.log_alpha, c, depth), depth) + end.correction
    if throw:
        beta = eqx.error_if(
            beta,
            end.found == 0,
            f"the interpolator was not found in {max_steps} Newton steps: the rows of x must be "
            "linearly independent, and max_steps large enough for the start",
        )
    return Interpolator(beta, end.gap, end.steps.astype(jnp.int32))


def kernel_interpolator(regression: DiagonalRegressionLike) -> Float[Array, " d"]:
    """The limit alpha -> infinity of `interpolator`: linear regression on the tangent features of the start.

    beta = beta(0) + W X^T (X W X^T)^(-1) (y - X beta(0)),   W = diag(u0^(2D-2) + v0^(2D-2)):
    the least-squares interpolator X^T (X X^T)^(-1) y for one alpha and c = 0, whatever the depth.

    Arguments:
        regression: data and start; X of full row rank, n <= d.
    Returns:
        beta, shape (d,).
    Holds when: alpha^D is large against the coefficients; `kernel_deviation` is the leading term of the rest.
    Source: Woodworth et al. 2020 (arXiv:2002.09277), theorem 2; Jacot et al. 2018 (arXiv:1806.07572).
    """
    regression = checked(regression)
    beta0, projection = _tangent(regression)
    return beta0 + projection(regression.y - regression.x @ beta0)


def kernel_deviation(regression: DiagonalRegressionLike) -> Float[Array, " d"]:
    """Leading deviation of `interpolator` from `kernel_interpolator` for a large start u0 = v0 = alpha.

    delta = (D-1)(3D-4) / (12 D^2) [I - W X^T (X W X^T)^(-1) X] (beta^3 / alpha^(2D)),   W = diag(alpha^(2D-2)).

    Arguments:
        regression: data and start, with c = 0; X of full row rank, n <= d.
    Returns:
        delta, shape (d,); for one alpha, the part of beta^3 / alpha^(2D) outside the row space of X, times the factor.
    Holds when: alpha^D is large against the coefficients; the next term is of relative order beta^2 / alpha^(2D).
    Source: q_D to fourth order in beta / alpha^D; Woodworth et al. 2020 (arXiv:2002.09277), theorem 2, bound it.
    """
    regression = checked(regression)
    depth = regression.depth
    _, projection = _tangent(regression)
    factor = (depth - 1) * (3 * depth - 4) / (12 * depth**2)
    drive = factor * kernel_interpolator(regression) ** 3 * jnp.exp(-2 * depth * regression.log_alpha)
    return drive - projection(regression.x @ drive)


def _tangent(regression: DiagonalRegression):
    """beta(0), and the map r -> W X^T (X W X^T)^(-1) r of the kernel at the start."""
    n, d = jnp.shape(regression.x)
    if n > d:
        raise ValueError(f"x must have at most as many samples as coefficients to be interpolated, got shape {(n, d)}")
    depth, log_alpha, c = regression.depth, regression.log_alpha, regression.c
    log_w = (2 * depth - 2) * log_alpha + log_cosh((depth - 1) * c)
    root = jnp.exp((log_w - jnp.max(log_w)) / 2)
    q, r = jnp.linalg.qr(root[:, None] * regression.x.T)
    solve = partial(jax.scipy.linalg.solve_triangular, r, trans=1)
    return difference(c, conserved_scale(log_alpha, c, depth), depth), lambda gap: root * (q @ solve(gap))


def _divergence(chi, log_alpha, c, depth: int):
    """Sum over both weights w of w^D w0^(2-D) - (D/2) w^2 + (D/2 - 1) w0^2; for D = 2 of kl(w^2, w0^2)."""
    bend = 0.0 if depth == 2 else (log_cosh((depth - 2) / 2 * chi) - log_cosh((depth - 2) / 2 * c)) / (depth - 2)

    def part(log_start, rho):
        square = jnp.exp(2 * log_start)
        near = jnp.abs(depth * rho) < 1
        step = jnp.where(near, rho, 0.0)
        if depth == 2:
            close = square * jnp.exp(2 * step) * _exp_rest(-2 * step)
            return jnp.where(near, close, square + (2 * rho - 1) * jnp.exp(2 * (log_start + rho)))
        close = square * (_exp_rest(depth * step) - depth / 2 * _exp_rest(2 * step))
        far = (depth / 2 - 1) * square - depth / 2 * jnp.exp(2 * (log_start + rho))
        return jnp.where(near, close, far + jnp.exp(2 * log_start + depth * rho))

    return part(log_alpha + c / 2, (chi - c) / 2 + bend) + part(log_alpha - c / 2, (c - chi) / 2 + bend)


def _exp_rest(x):
    """e^x - 1 - x, by its series where that cancels; |x| <= 1."""
    terms = 1.0
    for k in range(18, 2, -1):
        terms = 1 + x / k * terms
    return x**2 / 2 * terms


class _Solution(NamedTuple):
    """A state of Newton's method; `chi` is ln(u/v) and `nu` the multiplier, for a start of scale `log_alpha`."""

    chi: Float[Array, " d"]
    nu: Float[Array, " n"]
    log_alpha: Float[Array, " d"]
    correction: Float[Array, " d"]
    gap: Float[Array, ""]
    steps: Float[Array, ""]
    found: Float[Array, ""]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _solution(depth: int, max_steps: int, x, y, log_alpha, c) -> _Solution:
    """Where X beta(chi) = y with the dual variable in the row space of X.

    For D > 2 a start too small to be resolved is replaced by alpha^D = 1e-14 of the coefficients, or 1e-12, or 1e-10.
    """
    none = jnp.zeros((), y.dtype)
    begin = _Solution(c, jnp.zeros_like(y), log_alpha, jnp.zeros_like(c), none + jnp.inf, none, none)
    if depth == 2:
        return _newton(depth, max_steps, x, y, c, begin)
    least = [(jnp.log(_noise(x, y)) + digits * jnp.log(10.0)) / depth for digits in (0, 2, 4)]

    def attempt(state, scale):
        begun = begin._replace(log_alpha=scale)
        state = jax.tree.map(lambda old, new: jnp.where(state.found > 0, old, new), state, begun)
        return _newton(depth, max_steps // 4, x, y, c, state), None

    return jax.lax.scan(attempt, begin, jnp.stack([log_alpha, *(jnp.maximum(log_alpha, a) for a in least)]))[0]


@_solution.defjvp
def _solution_jvp(depth, max_steps, primals, tangents):
    x, y, log_alpha, c = primals
    dx, dy, dlog_alpha, dc = tangents
    state = _solution(depth, max_steps, *primals)
    dlog_alpha = jnp.where(state.log_alpha > log_alpha, 0.0, dlog_alpha)
    scale = conserved_scale(state.log_alpha, c, depth)
    log_u, log_v = log_weights(state.chi, scale, depth)
    # d ln u at fixed eta: u^(2-D) moves with u0^(2-D).
    du = (dlog_alpha + dc / 2) * jnp.exp((depth - 2) * (log_u - state.log_alpha - c / 2))
    dv = (dlog_alpha - dc / 2) * jnp.exp((depth - 2) * (log_v - state.log_alpha + c / 2))
    log_w, safe, top = _curvature(log_u, log_v, jnp.log(_noise(x, y)), depth)
    lift = jnp.exp(jnp.minimum(-top, 80.0))
    # The row space turns with X, at fixed multipliers.
    turn = dx.T @ state.nu
    moved = depth * (jnp.exp(depth * log_u) * du - jnp.exp(depth * log_v) * dv) + jnp.exp(log_w + top) * turn
    beta = difference(state.chi, scale, depth) + state.correction
    dnu, deta = _dual_step(x, jnp.exp(log_w), safe, dy - dx @ beta - x @ moved)
    dchi = du - dv + depth * (jnp.exp((depth - 2) * log_u) + jnp.exp((depth - 2) * log_v)) * (deta * lift + turn)
    still = jax.tree.map(jnp.zeros_like, state)
    return state, still._replace(chi=dchi, nu=dnu * lift, log_alpha=dlog_alpha)


# Compiled here, so that a call outside jit is not compiled again and again.
_compiled_solution = jax.jit(_solution, static_argnums=(0, 1))


def _newton(depth: int, max_steps: int, x, y, c, begin: _Solution) -> _Solution:
    """Newton's method, each step cut so that the fastest-growing weight ends where its linearisation says.

    With that cut the dual grows at every step, from any start: u^D grows by at most the factor 1 + (D u'/u)_Newton.
    """
    scale, eps = conserved_scale(begin.log_alpha, c, depth), jnp.finfo(y.dtype).eps
    log_noise, last = jnp.log(_noise(x, y)), begin.steps + max_steps

    def body(s: _Solution) -> _Solution:
        log_u, log_v = log_weights(s.chi, scale, depth)
        beta = difference(s.chi, scale, depth)
        left = y - x @ beta
        size = jnp.max(jnp.abs(x) @ jnp.abs(beta) + jnp.abs(y))
        gap = jnp.max(jnp.abs(left)) / jnp.maximum(size, jnp.finfo(y.dtype).tiny)
        found = gap <= eps * (10 + depth * jnp.max(jnp.abs(s.chi)))
        log_w, safe, top = _curvature(log_u, log_v, log_noise, depth)
        dnu, deta = _dual_step(x, jnp.exp(log_w), safe, left)
        dchi, log_t = _cut_step(deta, log_u, log_v, top, depth)
        moved = (s.chi + dchi, s.nu + dnu * jnp.exp(log_t))
        chi, nu = jax.tree.map(lambda new, old: jnp.where(found, old, new), moved, (s.chi, s.nu))
        rest = jnp.exp(log_w) * deta
        better = found & (jnp.max(jnp.abs(left - x @ rest)) < jnp.max(jnp.abs(left)))
        correction = jnp.where(better, rest, 0.0)
        return _Solution(chi, nu, s.log_alpha, correction, gap, s.steps + 1, found.astype(y.dtype))

    return jax.lax.while_loop(lambda s: (s.found == 0) & (s.steps < last), body, begin)


def _noise(x, y):
    """Size of a coefficient that counts for nothing: some rounding errors of the largest."""
    return 45 * jnp.finfo(y.dtype).eps * (jnp.max(jnp.abs(y)) / jnp.max(jnp.abs(x)) + jnp.finfo(y.dtype).tiny)


def _curvature(log_u, log_v, log_noise, depth: int):
    """ln(dbeta/deta), the safe weights (from no coefficient below the noise), both over e^top; and top."""
    log_w = 2 * jnp.log(depth) + jnp.logaddexp((2 * depth - 2) * log_u, (2 * depth - 2) * log_v)
    floor_u = (depth - 2) * log_u + jnp.maximum(depth * log_u, log_noise)
    floor_v = (depth - 2) * log_v + jnp.maximum(depth * log_v, log_noise)
    safe = 2 * jnp.log(depth) + jnp.logaddexp(floor_u, floor_v)
    top = jax.lax.stop_gradient(jnp.max(safe))
    return log_w - top, jnp.maximum(jnp.exp(safe - top), jnp.finfo(log_u.dtype).eps ** 1.55), top


def _dual_step(x, weights, safe, left):
    """(dnu, X^T dnu) with X diag(weights) X^T dnu = left, by iterations preconditioned with the safe weights.

    The refinement gives the heavy coordinates of X^T dnu, far smaller than the light ones, their own accuracy.
    """
    order = jnp.argsort(-safe)
    upper = jnp.linalg.qr((jnp.sqrt(safe)[:, None] * x.T)[order], mode="r")

    def once(r):
        half = jax.scipy.linalg.solve_triangular(upper, r, trans=1)
        return jax.scipy.linalg.solve_triangular(upper, half)

    dnu = once(left)
    deta = x.T @ dnu
    for _ in range(3):
        more = once(left - x @ (weights * deta))
        dnu, deta = dnu + more, deta + x.T @ more
    return dnu, deta


def _cut_step(deta, log_u, log_v, top, depth: int):
    """Change of chi along e^-top deta, cut to the safe length; and the log of the factor that was applied to deta."""
    up = deta > 0
    log_eta = jnp.log(jnp.abs(deta)) - top
    linear_u, linear_v = (2 * jnp.log(depth) + (depth - 2) * w + log_eta for w in (log_u, log_v))
    rising, falling = jnp.where(up, linear_u, linear_v), jnp.where(up, linear_v, linear_u)
    fastest = jnp.max(rising)
    growth = jnp.logaddexp(0.0, fastest)
    if depth == 2:
        log_t = jnp.log(growth) - fastest
        return jnp.sign(deta) * jnp.exp(rising + log_t), log_t - top
    power = depth / (depth - 2)
    used = -jnp.expm1(-growth / power)
    share, opened = jnp.exp(rising - fastest), jnp.exp(falling - fastest) * used
    # ln(1 - share used), where share is near one and used may be one to rounding.
    near = share * used < 0.5
    shut = jnp.where(
        near,
        jnp.log1p(-jnp.where(near, share * used, 0.0)),
        jnp.logaddexp(jnp.log(-jnp.expm1(rising - fastest)), rising - fastest - growth / power),
    )
    return jnp.sign(deta) * (jnp.log1p(opened) - shut) / (depth - 2), jnp.log(power * used) - fastest - top
