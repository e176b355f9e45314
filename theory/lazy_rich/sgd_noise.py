"""Noise of stochastic gradient descent as a temperature: how far a perceptron travels until all samples are fitted.

A perceptron f(x) = w . x / sqrt(d) learns y = sign(x_1) by the hinge loss max(0, margin - y f) with steps lr on batches
of B. Its noise enters as the temperature T = lr / B. Samples near the boundary are rare or common, z = |x_1| having
the density ~ z^chi e^{-z^2/2}; all other coordinates are standard normal. What counts is

    a = w_1 / sqrt(d),   the signal,    and    r = |w_perp| / sqrt(d),   the noise;   rho = a / r.

On fresh samples they close on each other as d grows (`noise_flow`): r settles where forgetting balances the noise, at
a size proportional to T, and a creeps on as t^{1 / (3 + chi)}. On a training set of P = alpha d samples the noise must
first be small enough, against the signal, for all of them to be separable at once: rho >= rho_c(alpha), which grows as
alpha^{1 / (1 + chi)} (`separable_ratio`). Both together give the power laws of weights, times and temperatures.
Nothing here says at which multiple of rho_c training ends (measured: about three), only that it is of order one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, gammaln, ndtr
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require
from theory.flow import flow, times

# Trapezoids in ln z, the whole of its density within rounding; |ln z| matters down to where z^{1 + chi} does.
NODES, LOWEST, HIGHEST = 400, -37.0, 2.5


class NoiseExponents(NamedTuple):
    """Powers of the number of samples P (at fixed d) and of T, for large P / d and T far above the margin."""

    weights_in_samples: Float[Array, "..."]
    time_in_samples: Float[Array, "..."]
    temperature_in_samples: Float[Array, "..."]
    weights_in_temperature: Float[Array, "..."]
    time_in_temperature: Float[Array, "..."]


class SignalAndNoise(NamedTuple):
    """a = w_1 / sqrt(d) and r = |w_perp| / sqrt(d), (T,)."""

    signal: Float[Array, " T"]
    noise: Float[Array, " T"]


def noise_exponents(chi: Real[ArrayLike, "..."]) -> NoiseExponents:
    """Power laws of a perceptron that is trained until it fits: weights, time, characteristic temperature.

    w_1 ~ T P^{1/(1+chi)},   t* ~ T P^{(3+chi)/(1+chi)},   T_c ~ P^{-1/(1+chi)}.

    Arguments:
        chi: exponent of the density of the distance to the boundary, > -1; 0 for Gaussian inputs.
    Returns:
        the `NoiseExponents`. T_c is the temperature at which w_1 reaches a given size, such as that of its start.
    Holds when: P >> d, T >> margin. Corrections are of relative order d / P, (3 + chi) times that for t*.
    Source: Sclocchi, Geiger & Wyart 2023 (arXiv:2301.13703), the perceptron; here from `separable_ratio`,
        `noise_plateau` and `late_signal`.
    """
    chi = _density(chi)
    reach = 1 / (1 + chi)
    one = jnp.ones_like(chi)
    return NoiseExponents(reach, (3 + chi) * reach, -reach, one, one)


def unfit_fraction(rho: Real[ArrayLike, "..."], chi: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Share of fresh samples on the wrong side of the boundary: (1/2) I_{1/(1+rho^2)}((1+chi)/2, 1/2).

    Arguments, which broadcast:
        rho: signal over noise, >= 0.
        chi: exponent of the density of distances, > -1.
    Returns:
        the fraction, 1/2 at rho = 0, and ~ rho^{-(1 + chi)} for large rho.
    Holds when: the margin is far below the noise; noise r z' with z' standard normal.
    Source: the tail of Student's t distribution of 1 + chi degrees of freedom.
    """
    rho, chi = non_negative("rho", rho), _density(chi)
    return betainc((1 + chi) / 2, 0.5, 1 / (1 + rho**2)) / 2


def separable_ratio(load: Real[ArrayLike, "..."], chi: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Least ratio rho_c of signal to noise at which all samples of a training set can be on their right side.

    1 / alpha = E_z int_{rho_c z}^infinity Dt (t - rho_c z)^2.

    Arguments, which broadcast:
        load: alpha = P / d, > 0.
        chi: exponent of the density of distances, > -1.
    Returns:
        rho_c; 0 for alpha <= 2, where noise alone separates them (Cover); ~ alpha^{1/(1+chi)} for large alpha.
    Holds when: d is large.
    Source: Gardner 1988 (J. Phys. A 21, 257), the capacity at stability -rho z, derived in
        derivations/lazy_rich/sgd_noise.py.
    """
    load, chi = jnp.broadcast_arrays(positive("load", load), _density(chi))
    return _separable(load, chi)


def noise_plateau(temperature: Real[ArrayLike, "..."], chi: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Size at which the noise settles: r = T E|Z|^{1+chi} / (2 (1 + chi) E|Z|^chi), whatever the signal.

    Arguments, which broadcast:
        temperature: T = lr / B, > 0; chi: exponent of the density of distances, > -1.
    Returns:
        r = |w_perp| / sqrt(d); sqrt(1 / 2 pi) T for chi = 0.
    Holds when: fresh samples (P >> d), d large, rho large and growing slowly, T far above the margin.
    Source: derived in derivations/lazy_rich/sgd_noise.py; that it is of order T: Sclocchi et al. 2023.
    """
    temperature, chi = positive("temperature", temperature), _density(chi)
    return temperature * jnp.exp(_log_moment(1 + chi) - _log_moment(chi)) / (2 * (1 + chi))


def late_signal(
    t: Real[ArrayLike, "..."], temperature: Real[ArrayLike, "..."], chi: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Growth of the signal, late: a = [(3 + chi) c k r^{2+chi} t]^{1/(3+chi)}.

    c = 1 / (2^{(chi-1)/2} Gamma((1+chi)/2)),   k = E|Z|^{2+chi} / (2 (2 + chi)),   r the `noise_plateau`.

    Arguments, which broadcast:
        t: steps times lr over d, >= 0; temperature: T > 0; chi: > -1.
    Returns:
        a = w_1 / sqrt(d).
    Holds when: as for `noise_plateau`.
    Source: derived in derivations/lazy_rich/sgd_noise.py.
    """
    t, chi = non_negative("t", t), _density(chi)
    r = noise_plateau(temperature, chi)
    log_density = -(chi - 1) / 2 * jnp.log(2.0) - gammaln((1 + chi) / 2)
    pull = jnp.exp(log_density + _log_moment(2 + chi)) / (2 * (2 + chi))
    return ((3 + chi) * pull * r ** (2 + chi) * t) ** (1 / (3 + chi))


def least_signal(
    temperature: Real[ArrayLike, "..."], load: Real[ArrayLike, "..."], chi: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Size of the signal below which a noisy perceptron cannot have fitted its samples: a >= r rho_c.

    Arguments, which broadcast:
        temperature: T > 0; load: alpha = P / d > 0; chi: > -1.
    Returns:
        a = w_1 / sqrt(d), proportional to T and, for large alpha, to alpha^{1/(1+chi)}.
    Holds when: as for `noise_plateau` and `separable_ratio`.
    Source: the two together.
    """
    return noise_plateau(temperature, chi) * separable_ratio(load, chi)


def characteristic_temperature(
    reach: Real[ArrayLike, "..."], load: Real[ArrayLike, "..."], chi: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Temperature above which fitting takes a signal of at least a given size: T_c = a / (r rho_c at T = 1).

    Arguments, which broadcast:
        reach: a, size of the signal at which the network counts as changed (that of its start, say), > 0.
        load: alpha = P / d > 2; chi: > -1.
    Returns:
        T_c; infinite for alpha <= 2.
    Holds when: as for `least_signal`.
    Source: as for `least_signal`; the scaling P^{-1/(1+chi)}: Sclocchi et al. 2023 (arXiv:2301.13703).
    """
    least = least_signal(1.0, load, chi)
    return jnp.where(least > 0, positive("reach", reach) / jnp.where(least > 0, least, 1.0), jnp.inf)


def noise_flow(
    t: Real[ArrayLike, " T"],
    temperature: Real[ArrayLike, ""],
    chi: Real[ArrayLike, ""],
    margin: Real[ArrayLike, ""] = 1.0,
    signal: Real[ArrayLike, ""] = 0.0,
    noise: Real[ArrayLike, ""] = 0.0,
) -> SignalAndNoise:
    """Signal and noise of a perceptron under stochastic gradient descent on fresh samples.

    da/dt = E z 1(u),   dr^2/dt = 2 E s 1(u) + T E 1(u),   u: a z + s < margin,   s ~ N(0, r^2).

    Arguments:
        t: steps times lr over d, increasing, >= 0, shape (T,).
        temperature: T = lr / B > 0; chi: exponent of the density of distances, > -1; margin: of the hinge, >= 0.
        signal, noise: a and r at t = 0; r >= 0, and a margin or a noise above 0.
    Returns:
        `SignalAndNoise` at the times t.
    Holds when: d -> infinity with lr of order one: a single step then changes nothing much. At finite d it
        fluctuates by d^{-1/2}.
    Source: the closure of online learning (Biehl & Schwarze 1995), derived in derivations/lazy_rich/sgd_noise.py.
    """
    temperature, chi = positive("temperature", temperature), _density(chi)
    margin, noise = non_negative("margin", margin), non_negative("noise", noise)
    require("noise", noise, margin + noise > 0, "must be positive where the margin is 0")
    return SignalAndNoise(*_flow(times("t", t), temperature, chi, margin, real("signal", signal), noise))


@jax.jit
def _flow(t, temperature, chi, margin, signal, noise):
    z, weight = _distances(chi)

    def field(state):
        a, square = state
        r = jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny))
        gap = (margin - a * z) / r
        unfit = weight * ndtr(gap)
        pulled = -r * jnp.sum(weight * jnp.exp(-(gap**2) / 2)) / jnp.sqrt(2 * jnp.pi)
        return jnp.sum(z * unfit), 2 * pulled + temperature * jnp.sum(unfit)

    a, square = flow(field, t, (signal, noise**2), rtol=1e-7, atol=1e-10, stiff=True)
    return a, jnp.sqrt(square)


def _distances(chi):
    """Nodes and weights of the density of z = |x_1|: a chi distribution of 1 + chi degrees of freedom."""
    lowest = LOWEST / (1 + chi)
    steps = jnp.linspace(0.0, 1.0, NODES, dtype=chi.dtype)
    log_z = lowest + (HIGHEST - lowest) * steps
    z = jnp.exp(log_z)
    weight = jnp.exp((1 + chi) * log_z - z**2 / 2)
    return z, weight / jnp.sum(weight)


@jax.jit
def _separable(load, chi):
    def excess(log_ratio):
        return jnp.log(load * _crowding(jnp.exp(log_ratio), chi))

    low, high = jnp.full_like(load, -30.0), jnp.full_like(load, 40.0)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        above = excess(middle) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    return jnp.where(load > 2, jnp.exp((low + high) / 2), 0.0)


def _crowding(rho, chi):
    """E_z int_{rho z}^infinity Dt (t - rho z)^2, in polar coordinates of (t, z): three incomplete beta functions."""
    inside = 1 / (1 + rho**2)

    def share(cosines, sines):
        """int of cos^m sin^n up to the angle at which t = rho z, over that of sin^chi up to pi."""
        first, second = (sines + 1) / 2, jnp.asarray((cosines + 1) / 2, rho.dtype)
        log_beta = gammaln(first) + gammaln(second) - gammaln(first + second)
        log_whole = jnp.log(jnp.pi) / 2 + gammaln((1 + chi) / 2) - gammaln(1 + chi / 2)
        return betainc(first, second, inside) * jnp.exp(log_beta - log_whole) / 2

    # (2 + chi) is the mean squared radius.
    return (2 + chi) * (share(2, chi) - 2 * rho * share(1, 1 + chi) + rho**2 * share(0, 2 + chi))


def _log_moment(power):
    """ln E|Z|^p of a standard normal Z."""
    return power / 2 * jnp.log(2.0) + gammaln((power + 1) / 2) - jnp.log(jnp.pi) / 2


def _density(chi):
    chi = real("chi", chi)
    return require("chi", chi, chi > -1, "must be above -1")
