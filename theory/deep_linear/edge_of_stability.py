"""Gradient descent beyond the edge of stability: the outlier oscillates, and its growth flattens the valley.

The setting is that of `outliers`. With X = lr kappa b > 2 the outlier weight w_o, however small, is multiplied by
1 - lr kappa c^2 at each step and in the end grows. Grown large it pushes c back until lr kappa c^2 < 2: training stops
not at the end of its flow but below the edge, by an amount that one number decides, theta = (X - 2) / (lr b). The
mechanism is the self-stabilisation of Damian, Nichani & Lee 2022 (arXiv:2209.15594); the formulas are derived for this
loss, by expansion in X - 2.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require
from theory.deep_linear.outliers import Outliers, OutliersLike, passing_step, record
from theory.flow import flow, times

# B_2k / (2k+1)! of the dilogarithm's series in -ln(1 - x), k = 1 ... 9.
_BERNOULLI = (
    1 / 36,
    -1 / 3600,
    1 / 211680,
    -1 / 10886400,
    1 / 526901760,
    -691 / 16999766784000,
    1 / 1120863744000,
    -3617 / 181400588328960000,
    43867 / 97072790126247936000,
)


def plateau_growth(setting: OutliersLike) -> Float[Array, "..."]:
    """Logarithmic growth of |w_o| per step of gradient descent once the signal is learned.

    ln(X - 1),   X = lr kappa b.

    Arguments:
        setting: signal, outlier and step (the start does not matter), with X > 1.
    Returns:
        the growth: positive, and w_o alternates in sign, beyond the edge of stability X > 2.
    Holds when: c^2 = b and w_o small.
    Source: w_o <- (1 - lr kappa c^2) w_o.
    """
    _, top = _above(setting, 1.0)
    return jnp.log(top - 1)


def oscillation_gain(u: Real[ArrayLike, "..."], setting: OutliersLike) -> Float[Array, "..."]:
    """Logarithm of |w_o| over its start while c^2 grows from u0 to u, to leading order in the step.

    G = (1 / 2 b lr) [I(x)] from lr kappa u0 to lr kappa u, where
    I(x) = -Re Li_2(x) - ln|1-x| ln|1 + (1-x)/(X-1)| - Re Li_2(-(1-x)/(X-1)),   X = lr kappa b.

    Arguments:
        u: c^2 at the end, u0 <= u < b.
        setting: signal, outlier, step and start, with X > 1.
    Returns:
        G, of the broadcast shape: first negative (w_o decays and passes close to zero as lr kappa u = 1), then growing.
    Holds when: balanced start, w_o small, lr b small. The sum over whole steps differs from this by an amount of
        order one, which `arrival_step` takes in.
    Source: integral of ln|1 - lr kappa u| over the logistic u.
    """
    setting, top = _above(setting, 1.0)
    u = positive("u", u)
    u = require("u", u, (u >= setting.u0) & (u < setting.b), "must lie between u0 and b")
    gain = _gain_integral(setting.lr * setting.kappa * u, top) - _gain_integral(
        setting.lr * setting.kappa * setting.u0, top
    )
    return gain / (2 * setting.b * setting.lr)


def _gain_integral(x, top):
    y = (1 - x) / (top - 1)
    return -_dilogarithm(x) - _log(1 - x) * _log(1 + y) - _dilogarithm(-y)


def arrival_step(
    size: Real[ArrayLike, "..."], setting: OutliersLike, w0: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Step of gradient descent at which |w_o| has grown back to a given small size.

    n = [ln(size / |w0|) + D] / ln(X - 1), where D = sum over steps of ln(X - 1) - ln|1 - lr kappa u_n|, the delay that
    the approach to the plateau costs. To order one in the step, with x_n = lr kappa u_n, h(x) = ln(X-1) - ln|1-x|:
    D = (J_1 + J_2)/(2 b lr) + (J_1 - 2 J_2)/4 + h(x_0)/2 - ln|2 sin(pi n_1)|,
    J_1 = int h/x dx = ln(X-1) ln(X/x_0) + Re Li_2(X) - Re Li_2(x_0),
    J_2 = int h/(X-x) dx = pi^2/6 + h(x_0) ln[(X-x_0)/(X-1)] - Re Li_2(-(1-x_0)/(X-1)),
    both from x_0 to X. The last term is the one step that falls next to x = 1, where w_o all but vanishes: n_1 is the
    (real) step at which lr kappa u passes one.

    Arguments:
        size: the |w_o| to be reached, > 0, above |w0| and below the size at which it acts back on c.
        setting: signal, outlier, step and start, with X > 2 and lr kappa u0 < 1.
        w0: w_o at the start, not zero; small.
    Returns:
        the step, a real number, of the broadcast shape: an error of order lr b / ln(X - 1) remains, more if n_1 is
        within that of a whole number.
    Holds when: balanced start; the plateau c^2 = b is reached before |w_o| reaches the size.
    Source: Euler-Maclaurin sum over the steps of `oscillation_gain`'s integrand, with its logarithmic singularity.
    """
    setting, top = _above(setting, 2.0)
    size, w0 = positive("size", size), real("w0", w0)
    w0 = require("w0", w0, w0 != 0, "must not be zero")
    x0 = setting.lr * setting.kappa * setting.u0
    x0 = require("u0", x0, x0 < 1, "times lr kappa must lie below 1")
    growth = jnp.log(top - 1)
    h0 = growth - jnp.log1p(-x0)
    j1 = growth * jnp.log(top / x0) + _dilogarithm(top) - _dilogarithm(x0)
    j2 = jnp.pi**2 / 6 + h0 * jnp.log((top - x0) / (top - 1)) - _dilogarithm(-(1 - x0) / (top - 1))
    nearest = _log(2 * jnp.sin(jnp.pi * passing_step(setting, 1 / (setting.lr * setting.kappa))))
    delay = (j1 + j2) / (2 * setting.b * setting.lr) + (j1 - 2 * j2) / 4 + h0 / 2 - nearest
    return (jnp.log(size / jnp.abs(w0)) + delay) / growth


class Spike(NamedTuple):
    """The spike in scaled variables: v = w_o^2 = b s^2 nu and lr kappa c^2 - X = X s (p + m), s = X - 2."""

    p: Float[Array, " T"]
    m: Float[Array, " T"]
    nu: Float[Array, " T"]


def spike(tau: Real[ArrayLike, " T"], theta: Real[ArrayLike, ""], nu0: Real[ArrayLike, ""]) -> Spike:
    """The spike of the outlier weight, and how it flattens the valley.

    dp/dtau = -(2/theta) p - 2 nu,   dm/dtau = -2 nu,   dnu/dtau = 2 (1 + 2p + 2m) nu.

    Arguments:
        tau: (X - 2) times the number of steps, increasing, >= 0, shape (T,).
        theta: (X - 2) / (lr b), > 0: the rate of the spike over that at which the signal relaxes to its valley.
        nu0: w_o^2 / (b (X - 2)^2) at tau = 0, > 0, small; p = m = 0.
    Returns:
        p (displacement from the valley c w_s = b), m (displacement along it) and nu, each of shape (T,). The sharpness
        times lr is 2 + s (1 + 2p + 2m) to first order in s = X - 2.
    Holds when: s small, balanced start, nu0 << 1; not for theta below 1e-3 or so, where p follows nu stiffly.
    Source: expansion of the gradient-descent map around c = w_s = sqrt(b), w_o = 0, to leading order in s.
    """
    return _spike(times("tau", tau), positive("theta", theta), positive("nu0", nu0))


@jax.jit
def _spike(tau, theta, nu0):
    def field(x):
        p, m, log_nu = x
        nu = jnp.exp(log_nu)
        return -2 / theta * p - 2 * nu, -2 * nu, 2 * (1 + 2 * p + 2 * m)

    zero = jnp.zeros_like(nu0)
    p, m, log_nu = flow(field, tau, (zero, zero, jnp.log(nu0)), rtol=1e-11, atol=1e-14)
    return Spike(p, m, jnp.exp(log_nu))


def overshoot(theta: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """How far below the edge of stability the spike leaves the sharpness, in units of its height above the edge before.

    sigma = 1 - y/theta,   y > 0 the root of the final-size law y = (1 + theta)(1 - e^{-y}).

    Arguments:
        theta: (X - 2) / (lr b), >= 0.
    Returns:
        sigma in [-1, 0), of the shape of theta: -1 + 2 theta/3 for slow spikes (the overshoot is reflected at the
        edge), -1/theta for fast ones.
    Holds when: as for `spike`, nu0 -> 0.
    Source: first integral of `spike` in the variable m - p; the law is that of an epidemic's final size.
    """
    theta = non_negative("theta", theta)
    slow = theta < 1

    q = _solve(_final_size, jnp.where(slow, 1.0, 2.0), theta)
    fast = (jnp.expm1(-theta * q) + theta * jnp.exp(-theta * q)) / jnp.where(slow, 1, theta)
    return jnp.where(slow, 1 - q, fast)


def _final_size(q, theta):
    """The law of `overshoot` for q = y/theta = 1 - sigma, in the form that is well conditioned."""
    slow = theta < 1
    rate = jnp.where(slow, 1, theta)
    fast = q + (1 + 1 / rate) * jnp.expm1(-theta * q)
    return jnp.where(slow, q * (1 + theta) * _rest(theta * q) - 1, fast)


def spike_height(theta: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Largest w_o^2 of the spike, in units of b (X - 2)^2.

    nu = r/(4 theta) + r^2/8, where r = 1 - z, z the smaller root of theta (z-1) - 2 + 2 (1+theta) e^{-theta z} = 0.

    Arguments:
        theta: (X - 2) / (lr b), >= 0.
    Returns:
        nu_max, of the shape of theta: 1/4 as theta -> 0, 1/8 as theta -> infinity.
    Holds when: as for `overshoot`.
    Source: the first integral of `spike` where 1 + 2p + 2m = 0.
    """
    theta = non_negative("theta", theta)
    slow = theta < 1

    z = _solve(_turning_point, jnp.zeros_like(theta), theta)
    r = jnp.where(slow, _turning_ratio(z, theta), (1 - z) / jnp.where(slow, 1, theta))
    return r / 4 + (theta * r) ** 2 / 8


def _turning_point(z, theta):
    """The law of `spike_height`, in the form that is well conditioned."""
    slow = theta < 1
    rate = jnp.where(slow, 1, theta)
    fast = z - 1 - 2 / rate + 2 * (1 + 1 / rate) * jnp.exp(-theta * z)
    return jnp.where(slow, 1 - z - theta * _turning_ratio(z, theta), fast)


def _turning_ratio(z, theta):
    """(1 - z)/theta at the root, which stays exact as theta -> 0."""
    return 2 * z - 2 * (1 + theta) * z**2 * _rest(theta * z)


def end_sharpness(setting: OutliersLike) -> Float[Array, "..."]:
    """Sharpness along the outlier at which gradient descent comes to rest.

    (2 + s sigma(theta) + O(s^2)) / lr,   s = X - 2, theta = s / (lr b), for X > 2;   kappa b for X <= 2.

    Arguments:
        setting: signal, outlier and step (the start does not matter).
    Returns:
        kappa c^2 at the end: below 2 / lr, whatever the size and the sign of the outlier weight at the start.
    Holds when: balanced start, one spike, X - 2 small (1 % at X = 2.2, 4 % at 2.5; beyond 3 training may diverge).
    Source: `overshoot`.
    """
    setting = record(setting)
    s, theta = _beyond_edge(setting)
    return jnp.where(s > 0, (2 + s * overshoot(theta)) / setting.lr, setting.kappa * setting.b)


def peak_outlier(setting: OutliersLike) -> Float[Array, "..."]:
    """Largest |w_o| of the spike.

    s sqrt(b nu_max(theta)) (1 + O(s)),   s = X - 2, theta = s / (lr b);   zero for X <= 2.

    Arguments:
        setting: signal, outlier and step (the start does not matter).
    Returns:
        the peak of |w_o|.
    Holds when: as for `end_sharpness`, and |w_o| was smaller at the start.
    Source: `spike_height`.
    """
    setting = record(setting)
    s, theta = _beyond_edge(setting)
    return s * jnp.sqrt(setting.b * spike_height(theta))


def _beyond_edge(setting: Outliers):
    """X - 2 (zero if negative) and theta."""
    s = jnp.maximum(setting.lr * setting.kappa * setting.b - 2, 0)
    return s, s / (setting.lr * setting.b)


def _above(setting: OutliersLike, least: float) -> tuple[Outliers, Float[Array, "..."]]:
    """The record, and X = lr kappa b, which must lie above a number."""
    setting = record(setting)
    x = setting.lr * setting.kappa * setting.b
    return setting, require("lr", x, x > least, f"times kappa b must lie above {least:g}")


@functools.partial(jax.jit, static_argnums=0)
def _solve(law, start: Float[Array, "..."], theta: Float[Array, "..."]) -> Float[Array, "..."]:
    """The root of law(., theta) for each theta; each law is convex or concave, and Newton climbs to it from `start`."""
    # Convergence is quadratic: the step after one of this size is below rounding.
    tolerance = float(jnp.finfo(theta.dtype).eps) ** 0.75
    solver = optx.Newton(rtol=tolerance, atol=tolerance)

    def root(start, theta):
        return optx.root_find(law, solver, start, args=theta, max_steps=200).value

    return jnp.vectorize(root)(start, theta)


def _rest(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """(y - 1 + exp(-y)) / y^2, smooth through y = 0."""
    small = y < 1
    series, inner = 0.0, jnp.where(small, y, 0)
    for k in range(18, 1, -1):
        series = (1 - inner * series) / k
    safe = jnp.where(small, 1, y)
    return jnp.where(small, series, (safe + jnp.expm1(-safe)) / safe**2)


def _log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """ln|x|, and zero at x = 0: there it is always multiplied by zero."""
    return jnp.log(jnp.abs(jnp.where(x == 0, 1, x)))


def dilogarithm(x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Real part of the dilogarithm Li_2.

    Li_2(x) = -int_0^x ln|1 - r| / r dr.

    Arguments:
        x: any real number.
    Returns:
        Re Li_2(x), of the shape of x; pi^2/6 at one.
    Holds when: always; its derivative -ln|1 - x| / x is infinite at x = 1.
    Source: Lewin 1981, chapter 1 (inversion and reflection; the series in -ln(1 - x)).
    """
    return _dilogarithm(real("x", x))


@jax.custom_jvp
def _dilogarithm(x):
    # x is led into [-1, 1/2] by x -> 1/x and x -> 1 - x.
    far, beyond = jnp.abs(x) > 2, x < -1
    inverted = far | beyond
    y = jnp.where(inverted, 1 / jnp.where(inverted, x, 1), x)
    reflected = y > 0.5
    z = jnp.where(reflected, 1 - y, y)
    u = -jnp.log1p(-z)
    series = u - u**2 / 4
    for k, coefficient in enumerate(_BERNOULLI):
        series = series + coefficient * u ** (2 * k + 3)
    one = y == 1
    log_log = jnp.where(one, 0, jnp.log(jnp.where(reflected, y, 1)) * jnp.log(jnp.abs(jnp.where(one, 2, 1 - y))))
    near = jnp.where(reflected, jnp.pi**2 / 6 - log_log - series, series)
    log_x = jnp.log(jnp.abs(jnp.where(inverted, x, 1)))
    return jnp.where(inverted, jnp.where(x > 0, jnp.pi**2 / 3, -(jnp.pi**2) / 6) - log_x**2 / 2 - near, near)


@_dilogarithm.defjvp
def _dilogarithm_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    small = jnp.abs(x) < 1e-4
    log = jnp.where(x > 0.5, jnp.log(jnp.abs(1 - jnp.where(x > 0.5, x, 0))), jnp.log1p(-jnp.minimum(x, 0.5)))
    slope = jnp.where(small, 1 + x / 2 + x**2 / 3 + x**3 / 4, -log / jnp.where(small, 1, x))
    return _dilogarithm(x), slope * dx
