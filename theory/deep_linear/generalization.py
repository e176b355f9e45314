"""Training and test error of linear regression in high dimension, through training (Advani & Saxe 2017).

A linear student learns a noisy linear teacher from P samples in N dimensions. Directions of large input variance
are learned first and for good; directions of small variance pick up noise late. So test error falls and rises again,
worst at P = N (double descent), and stopping early or a ridge removes the peak.

Units of this file, the field's own: inputs have independent entries of variance 1/N, and time `t` is that of gradient
flow on the SUM over samples, dw/dt = X^T (y - X w), with X of shape (P, N). Gradient descent with step lr on
1/2 |y - X w|^2 reaches t = lr k after k steps; on the mean, (1/2P) |y - X w|^2, it reaches t = lr k / P. With inputs of
unit variance the mean loss reaches t = lr k / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, require, whole
from theory.deep_linear.marchenko_pastur import Spectrum, bulk


class Regression(eqx.Module):
    """A student, its teacher and its data, as N -> infinity. Fields are scalars or broadcast.

    alpha: samples per dimension, P/N, > 0.
    signal: variance of the teacher's weights wbar_i, sigma_w^2, >= 0.
    noise: variance of the label noise in y = wbar . x + eps, sigma_eps^2, >= 0. SNR = signal / noise.
    start: variance of the student's weights at t = 0, sigma_w0^2, >= 0. INR = start / noise.
    """

    alpha: Real[ArrayLike, "..."]
    signal: Real[ArrayLike, "..."] = 1.0
    noise: Real[ArrayLike, "..."] = 0.0
    start: Real[ArrayLike, "..."] = 0.0

    @classmethod
    def from_snr(cls, alpha, snr, inr=0.0) -> Regression:
        """Labels of unit variance, signal + noise = 1, with signal / noise = `snr` and start / noise = `inr`."""
        snr, inr = non_negative("snr", snr), non_negative("inr", inr)
        return cls(alpha, snr / (1 + snr), 1 / (1 + snr), inr / (1 + snr))


# The record, or its fields in order.
RegressionLike = Regression | tuple


def generalization_error(
    t: Real[ArrayLike, "..."], regression: RegressionLike, spectrum: Spectrum | None = None
) -> Float[Array, "..."]:
    """Mean squared error on new samples, label noise included, at time t.

    E_g(t) = noise + (1 - alpha)_+ A + int rho(lam) [A e^{-2 lam t} + (noise / lam) (1 - e^{-lam t})^2] dlam,
    A = signal + start, rho the Marchenko-Pastur bulk.

    Arguments, which broadcast:
        t: time, >= 0, in units of 1 / learning rate of the SUM loss 1/2 |y - X w|^2.
        regression: alpha, signal, noise, start.
        spectrum: eigenvalues to average over instead of the infinite bulk: `bulk(alpha, inputs=N)` for the mean over
            Gaussian inputs to order 1/N, `sample_spectrum(eigenvalues, P)` for given inputs, exactly.
    Returns:
        E_g(t) = noise + E |w - wbar|^2 / N, of the broadcast shape; noise + A at t = 0.
    Holds when: gradient flow on all samples; independent inputs, teacher, noise and start. Relative error 1e-13 for
        t <= 1e15; float32 carries 1e-5, for t <= 1e5.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), generalization error of gradient descent.
    """
    t, (r, s) = non_negative("t", t), checked(regression, spectrum)
    x = s.rates * t[..., None]
    return _generalization_error(jnp.exp(-x), -jnp.expm1(-x), r, s)


def training_error(
    t: Real[ArrayLike, "..."], regression: RegressionLike, spectrum: Spectrum | None = None
) -> Float[Array, "..."]:
    """Mean squared error on the training samples, (1/P) |y - X w|^2, at time t.

    E_t(t) = (1 - 1/alpha)_+ noise + (1/alpha) int rho(lam) (lam A + noise) e^{-2 lam t} dlam.

    Arguments, which broadcast: as for `generalization_error`.
    Returns:
        E_t(t), of the broadcast shape; noise + A at t = 0. The zero modes (alpha < 1) add nothing.
    Holds when: as for `generalization_error`.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), training error of gradient descent.
    """
    t, (r, s) = non_negative("t", t), checked(regression, spectrum)
    return _training_error(jnp.exp(-s.rates * t[..., None]), r, s)


def descent_generalization_error(
    k: Real[ArrayLike, "..."], lr: Real[ArrayLike, "..."], regression: RegressionLike, spectrum: Spectrum | None = None
) -> Float[Array, "..."]:
    """Test error after k steps of gradient descent: `generalization_error` with (1 - lr lam)^k for e^{-lam t}, exactly.

    Arguments, which broadcast:
        k: number of steps, whole, >= 0.
        lr: step on the SUM loss 1/2 |y - X w|^2, > 0; stable below 2 / (largest eigenvalue of X^T X).
        regression, spectrum: as for `generalization_error`.
    Returns:
        E_g after k steps, of the broadcast shape.
    Holds when: as for `generalization_error`; lr (1 + sqrt alpha)^2 <= 2, or else as long as it has not diverged.
    Source: Advani & Saxe 2017 (arXiv:1710.03667); each mode of gradient descent is a geometric series.
    """
    k, lr, (r, s) = *_steps(k, lr), checked(regression, spectrum)
    return _generalization_error(*_geometric(k, lr * s.rates), r, s)


def descent_training_error(
    k: Real[ArrayLike, "..."], lr: Real[ArrayLike, "..."], regression: RegressionLike, spectrum: Spectrum | None = None
) -> Float[Array, "..."]:
    """Training error after k steps of gradient descent: `training_error` with (1 - lr lam)^k for e^{-lam t}, exactly.

    Arguments, which broadcast, and regime: as for `descent_generalization_error`.
    Returns:
        E_t after k steps, of the broadcast shape.
    Source: as for `descent_generalization_error`.
    """
    k, lr, (r, s) = *_steps(k, lr), checked(regression, spectrum)
    return _training_error(_geometric(k, lr * s.rates)[0], r, s)


def final_generalization_error(regression: RegressionLike, inputs: int | None = None) -> Float[Array, "..."]:
    """Test error of training without end: the double-descent curve.

    noise (1 + 1 / (alpha - 1)) for alpha > 1,   (1 - alpha) A + noise (1 + alpha / (1 - alpha)) for alpha < 1.

    Arguments:
        regression: alpha, signal, noise, start; A = signal + start.
        inputs: N; with it the exact mean over Gaussian inputs, |alpha - 1| - 1/N in both denominators.
    Returns:
        E_g(infinity), of the fields' shape; with noise, infinite for |alpha - 1| <= 1/N (alpha = 1 at N = infinity).
    Holds when: as for `generalization_error`; t -> infinity after N -> infinity, or at N where that is given.
    Source: Advani & Saxe 2017 (arXiv:1710.03667); finite N: the mean of an inverse Wishart matrix.
    """
    r, _ = checked(regression)
    margin = jnp.abs(r.alpha - 1)
    if inputs is not None:
        # |alpha - 1| = 1/N is a case to be met, and alpha = P/N is rounded.
        margin = margin - 1 / whole("inputs", inputs)
        margin = jnp.where(margin < 2 * jnp.finfo(margin.dtype).eps * (1 + r.alpha), 0, margin)
    gain = jnp.minimum(r.alpha, 1) / jnp.where(margin > 0, margin, 1.0)
    amplified = jnp.where(margin > 0, r.noise * gain, jnp.where(r.noise > 0, jnp.inf, 0.0))
    return r.noise + frozen_fraction(r.alpha) * (r.signal + r.start) + amplified


def final_training_error(regression: RegressionLike) -> Float[Array, "..."]:
    """Training error of training without end, (1 - 1/alpha)_+ noise: zero while the samples can be interpolated.

    Arguments: regression: alpha, signal, noise, start.
    Returns: E_t(infinity), of the regression's shape.
    Holds when: as for `generalization_error`; also at finite N, with alpha = P/N.
    Source: Advani & Saxe 2017 (arXiv:1710.03667).
    """
    r, s = checked(regression)
    return s.unfit * r.noise


def frozen_fraction(alpha: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Fraction (1 - alpha)_+ of the weights' directions that no sample touches: they keep their start for ever.

    Arguments: alpha: samples per dimension P/N, > 0.
    Returns: the fraction, of alpha's shape.
    Holds when: inputs in general position; gradient flow, gradient descent and SGD alike, also at finite N.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), the frozen subspace.
    """
    return jnp.maximum(1 - positive("alpha", alpha), 0)


def interpolation_growth(t: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Growth of the test error without bound at P = N: 4 (1 - 1/sqrt 2) / sqrt(pi) noise sqrt t = 0.66099 noise sqrt t.

    Arguments, which broadcast: t: time in units of 1 / learning rate of the SUM loss, >= 0; noise: sigma_eps^2, >= 0.
    Returns: leading term of E_g(t), of the broadcast shape. The next ones are noise / 2 and
        [A / sqrt(2 pi) + (2 - sqrt(1/2)) noise / (8 sqrt pi)] / sqrt t.
    Holds when: alpha = 1, t >> 1, and N^2 >> t.
    Source: derived from the hard edge of the Marchenko-Pastur bulk, rho = 1 / (pi sqrt lam).
    """
    t, noise = non_negative("t", t), non_negative("noise", noise)
    # The slope at t = 0 is infinite; the guard keeps the gradient finite there.
    return 4 * (1 - math.sqrt(0.5)) / math.sqrt(math.pi) * noise * jnp.where(t > 0, jnp.sqrt(jnp.where(t > 0, t, 1)), 0)


def mode_stopping_time(lam: Real[ArrayLike, "..."], regression: RegressionLike) -> Float[Array, "..."]:
    """Best time to stop if every eigenvalue were lam: ln(1 + A lam / noise) / lam.

    Arguments, which broadcast: lam: eigenvalue of X^T X, >= 0; regression: signal, noise (> 0) and start.
    Returns: the time, in units of 1 / learning rate of the SUM loss; A / noise at lam = 0.
    Holds when: one mode by itself; it falls with lam, so that no one time is best for all modes.
    Source: Advani & Saxe 2017 (arXiv:1710.03667).
    """
    lam, (r, _) = non_negative("lam", lam), checked(regression)
    return _mode_stopping_time(lam, (r.signal + r.start) / positive("noise", r.noise))


def optimal_stopping_time(regression: RegressionLike, spectrum: Spectrum | None = None) -> Float[Array, "..."]:
    """Time at which the test error is lowest.

    int rho(lam) e^{-lam t} [noise (1 - e^{-lam t}) - A lam e^{-lam t}] dlam = 0.

    Arguments:
        regression: alpha, signal, noise (> 0), start, which broadcast.
        spectrum: as for `generalization_error`.
    Returns:
        t_opt, in units of 1 / learning rate of the SUM loss, of the fields' shape; between the `mode_stopping_time` of
        the largest and of the smallest eigenvalue; 0 if there is nothing to learn (A = 0). Its gradient is the one of
        the implicit function theorem.
    Holds when: as for `generalization_error`.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), optimal early stopping.
    """
    r, s = checked(regression, spectrum)
    return _optimal_stopping_time(r.signal + r.start, positive("noise", r.noise), s.rates, s.weights)


def early_stopped_error(regression: RegressionLike, spectrum: Spectrum | None = None) -> Float[Array, "..."]:
    """Test error at the best stopping time.

    Arguments, regime and source: as for `optimal_stopping_time`.
    Returns: E_g(t_opt), of the fields' shape; never below `optimal_ridge_error` when start = 0.
    """
    return generalization_error(optimal_stopping_time(regression, spectrum), regression, spectrum)


def overtraining(regression: RegressionLike) -> Float[Array, "..."]:
    """What training for ever costs: E_g(infinity) - E_g(t_opt), infinite at alpha = 1.

    Arguments: regression: alpha, signal, noise (> 0), start.
    Returns: the excess test error, >= 0, of the fields' shape.
    Holds when: as for `generalization_error`.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), overtraining is worst where P = N.
    """
    return final_generalization_error(regression) - early_stopped_error(regression)


def minimising_time(
    error: Callable[[Array], Array], low: Float[Array, ""], high: Float[Array, ""], points: int = 64
) -> Float[Array, ""]:
    """Where the smooth curve error(t) is lowest on [low, high]: the best of `points` times, then a root of the slope.

    Arguments: error: t -> scalar, which may close over traced parameters; low, high: 0 <= low <= high.
    Returns: t, differentiable in what `error` closes over as long as the minimum is inside (low, high).
    """
    slope = jax.grad(error)
    low, high = jax.lax.stop_gradient((low, high))
    ratio = jnp.where(low > 0, high / jnp.where(low > 0, low, 1.0), 1.0)
    even = jnp.linspace(0, 1, points, dtype=low.dtype)
    grid = jnp.where(low > 0, low * ratio**even, high * even**3)
    best = jnp.argmin(jax.lax.map(error, grid))
    bracket = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, points - 1)]

    def halved(slope, _):
        def halve(_, ends):
            middle = sum(ends) / 2
            falling = slope(middle) < 0
            return jnp.where(falling, middle, ends[0]), jnp.where(falling, ends[1], middle)

        # A fixed number of halvings reaches rounding and cannot fail.
        inside = sum(jax.lax.fori_loop(0, 60, halve, bracket)) / 2
        return jnp.where((best == 0) & (slope(low) >= 0), low, inside)

    return jax.lax.custom_root(slope, grid[best], halved, lambda linear, y: y / linear(jnp.ones_like(y)))


@jax.jit
@partial(jnp.vectorize, signature="(),(),(n),(n)->()")
def _optimal_stopping_time(distance, noise, rates, weights):
    # Modes without weight are padding.
    slowest = jnp.min(jnp.where(weights != 0, rates, jnp.inf))
    fastest = jnp.max(jnp.where(weights != 0, rates, 0))

    def error(t):
        return jnp.sum(weights * _mode_error(jnp.exp(-rates * t), -jnp.expm1(-rates * t), rates, distance, noise))

    return minimising_time(
        error, _mode_stopping_time(fastest, distance / noise), _mode_stopping_time(slowest, distance / noise)
    )


def checked(regression: RegressionLike, spectrum: Spectrum | None = None) -> tuple[Regression, Spectrum]:
    """The regression with its fields checked, and the spectrum that it is averaged over."""
    given = regression if isinstance(regression, Regression) else Regression(*regression)
    r = Regression(
        positive("alpha", given.alpha),
        non_negative("signal", given.signal),
        non_negative("noise", given.noise),
        non_negative("start", given.start),
    )
    if spectrum is None:
        return r, bulk(r.alpha)
    same = jnp.abs(r.alpha / spectrum.alpha - 1) < 1e-5
    alpha = require("alpha", r.alpha, same, "must be P/N of the spectrum")
    return Regression(alpha, r.signal, r.noise, r.start), spectrum


def _mode_stopping_time(lam, distance_over_noise):
    y = distance_over_noise * lam
    return distance_over_noise * jnp.where(y > 0, jnp.log1p(y) / jnp.where(y > 0, y, 1.0), 1.0)


def _mode_error(decay, fit, rates, distance, noise):
    """Squared distance to the teacher along modes of these rates; decay is e^{-lam t} or its kin, fit = 1 - decay."""
    return distance * decay**2 + noise * fit * (fit / jnp.where(rates > 0, rates, 1.0))


def _generalization_error(decay, fit, r: Regression, s: Spectrum):
    distance = r.signal + r.start
    learned = _mode_error(decay, fit, s.rates, distance[..., None], r.noise[..., None])
    return r.noise + s.frozen * distance + s.sum(learned)


def _training_error(decay, r: Regression, s: Spectrum):
    residual = s.rates * (r.signal + r.start)[..., None] + r.noise[..., None]
    return s.unfit * r.noise + s.sum(residual * decay**2) / s.alpha


def _steps(k, lr):
    """The numbers of steps and the step size, with an axis for the modes."""
    k = non_negative("k", k)
    k = require("k", k, k == jnp.round(k), "must be a whole number of steps")
    return k[..., None], positive("lr", lr)[..., None]


def _geometric(k, x):
    """(1 - x)^k and 1 - (1 - x)^k, each to full relative precision for x < 1/2."""
    gentle = x < 0.5
    exponent = k * jnp.log1p(-jnp.where(gentle, x, 0.0))
    left = jnp.where(gentle, 1.0, x - 1)
    size = jnp.abs(left)
    power = jnp.where(size > 0, jnp.exp(k * jnp.log(jnp.where(size > 0, size, 1.0))), jnp.where(k > 0, 0.0, 1.0))
    power = jnp.where((left > 0) & (k % 2 == 1), -power, power)
    decay = jnp.where(gentle, jnp.exp(exponent), power)
    return decay, jnp.where(gentle, -jnp.expm1(exponent), 1 - power)
