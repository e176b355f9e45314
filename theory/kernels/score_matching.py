"""Denoising score matching by kernel machines and lazily trained networks: learn the score, then memorise the data.

Data x_0 are noised to x = a x_0 + s z, z ~ N(0, I): Ornstein-Uhlenbeck at time tau has a = e^{-tau}, s^2 = 1 - a^2
(variance preserving), variance exploding has a = 1. The score of p(x) is learned by regression on noisy labels,

    target "score": y = -z / s,    target "noise": y = z,    target "data": y = x_0,

whose means given x are the score S(x), -s S(x) and (x + s^2 S(x)) / a (Tweedie). The labels' spread about these means
is label noise, though nobody added any: a machine that fits each label exactly has memorised its sample. So training
has a best moment to stop, between the time to learn and the time to memorise. All errors here are distances to the
true score, the test loss less what no machine can reduce.

Gaussian data make it a problem of linear regression whose signal-to-noise ratio is s^2 / (a^2 variance) for "score"
and "noise" and the inverse of that for "data": early stopping matters most where the label is mostly noise. Time t is
learning rate times steps, the loss L = (1/2P) sum |y - f(x)|^2 over P noised samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require
from theory.deep_linear.generalization import minimising_time
from theory.deep_linear.marchenko_pastur import Spectrum, bulk
from theory.deep_linear.modes import decay_integral

TARGETS = ("score", "noise", "data")


class Noising(NamedTuple):
    """One noise level x = a x_0 + s z of Gaussian data x_0 ~ N(0, variance I).

    a: factor on the data, > 0.  s: standard deviation of the noise, > 0.  variance: of each coordinate of x_0, > 0.
    """

    a: Real[ArrayLike, "..."]
    s: Real[ArrayLike, "..."]
    variance: Real[ArrayLike, "..."] = 1.0


class Labels(NamedTuple):
    """What a target makes of the labels, for each coordinate.

    signal: mean square of E[y | x].  noise: variance of y given x.  unit: squared score error per squared error of y.
    """

    signal: Float[Array, "..."]
    noise: Float[Array, "..."]
    unit: Float[Array, "..."]


class ScoreError(NamedTuple):
    """Mean squared distance to the true score: of the mean prediction, and of the spread about it."""

    bias: Float[Array, "..."]
    variance: Float[Array, "..."]

    @property
    def total(self) -> Float[Array, "..."]:
        """bias + variance."""
        return self.bias + self.variance


def ornstein_uhlenbeck(tau: Real[ArrayLike, "..."], variance: Real[ArrayLike, "..."] = 1.0) -> Noising:
    """The noise level at time tau of dx = -x dt + sqrt(2) dB: a = e^{-tau}, s^2 = 1 - e^{-2 tau}.

    Arguments: tau: diffusion time, > 0; variance: of each coordinate of the data, > 0.
    Returns: `Noising(a, s, variance)`; it holds always.
    Source: Song et al. 2021 (arXiv:2011.13456), variance preserving.
    """
    tau = positive("tau", tau)
    return Noising(jnp.exp(-tau), jnp.sqrt(-jnp.expm1(-2 * tau)), positive("variance", variance))


def empirical_weights(x: Real[ArrayLike, "N d"], data: Real[ArrayLike, "n dims"], a, s) -> Float[Array, "N n"]:
    """Posterior probability that x is a noised copy of each sample: softmax_i(-|x - a x_i|^2 / 2 s^2).

    Arguments:
        x: points in rows, (N, d); data: the training samples in rows, (n, d).
        a, s: the noise level, > 0, scalars.
    Returns:
        weights of sum 1, shape (N, n). One of them near 1 means that the empirical score leads back to that sample.
    Holds when: always.
    Source: Han, Razaviyayn & Xu 2024 (arXiv:2401.15604), the empirical optimum; Bayes' rule.
    """
    x, a, s = matrix("x", x), positive("a", a), positive("s", s)
    data = matrix("data", data, columns=x.shape[1])
    # |x|^2 is common to all weights of a point.
    energy = (a * x @ data.T - a**2 * jnp.sum(data**2, axis=1) / 2) / s**2
    return jax.nn.softmax(energy, axis=1)


def empirical_score(x: Real[ArrayLike, "N d"], data: Real[ArrayLike, "n dims"], a, s) -> Float[Array, "N d"]:
    """The score that memorises: that of the training set smoothed by the noise.

    S_n(x) = (a sum_i w_i(x) x_i - x) / s^2,   w the `empirical_weights`.

    Arguments: as for `empirical_weights`.
    Returns: S_n in rows, (N, d).
    Holds when: always; it minimises the loss with endlessly many noise draws per sample over all functions, and its
        reverse diffusion returns training samples. With one draw per sample the minimum is lower still: f = y.
    Source: Tweedie's formula for the empirical distribution; Bonnaire et al. 2025 (arXiv:2505.17638).
    """
    x = matrix("x", x)
    weights = empirical_weights(x, data, a, s)
    return (a * weights @ jnp.asarray(data, x.dtype) - x) / jnp.asarray(s) ** 2


def kernel_score_error(
    t: Real[ArrayLike, " T"],
    gram: Real[ArrayLike, "P samples"],
    cross: Real[ArrayLike, "N train"],
    labels: Real[ArrayLike, "points d"],
    score: Real[ArrayLike, "tests outputs"],
    lr: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, " T"]:
    """Mean squared distance to the true function after training a kernel machine on given labels: exact.

    f_t(x) = Theta(x, X) Theta^{-1} (1 - e^{-Theta t / P}) Y,   error = (1/N) sum_x |f_t(x) - S(x)|^2.

    Arguments:
        t: times, >= 0, shape (T,).
        gram: Theta(X, X), symmetric and positive semi-definite up to rounding, (P, P); cross: Theta(test, X), (N, P).
        labels: Y, (P, d), less the start f_0(X) if that is not zero; score: E[y | x] at the test points, less f_0.
        lr: step of gradient descent, t = lr steps; 0 for gradient flow. Stable below P / (largest eigenvalue).
    Returns:
        the error, shape (T,), summed over outputs.
    Holds when: the kernel does not move (a wide lazily trained network: its tangent kernel at the start).
    Source: Han, Razaviyayn & Xu 2024 (arXiv:2401.15604), the kernel regression behind score networks.
    """
    response, labels, score = _response(t, gram, cross, labels, score, lr)
    return jnp.sum((response @ labels - score) ** 2, axis=(1, 2)) / score.shape[0]


def expected_score_error(
    t: Real[ArrayLike, " T"],
    gram: Real[ArrayLike, "P samples"],
    cross: Real[ArrayLike, "N train"],
    mean: Real[ArrayLike, "points d"],
    score: Real[ArrayLike, "tests outputs"],
    noise: Real[ArrayLike, "P *samples"],
    lr: Real[ArrayLike, ""] = 0.0,
) -> ScoreError:
    """`kernel_score_error` averaged over the labels, the noised inputs being given.

    bias = (1/N) sum_x |A_t S(X) - S(x)|^2,   variance = (1/N) tr A_t C A_t^T,   f_t = A_t Y above.

    Arguments:
        t, gram, cross, score, lr: as for `kernel_score_error`.
        mean: E[y | X] at the training inputs, (P, d).
        noise: variances of the labels given the inputs, summed over outputs, (P,) where they are independent (each x_0
            noised once), or their covariance C, (P, P), where noised copies share an x_0.
    Returns:
        `ScoreError(bias, variance)`, each of shape (T,). The variance rises for ever, the bias need not fall to 0.
    Holds when: as for `kernel_score_error`; exact for any data, whose score enters only at these points.
    Source: bias and variance of linear smoothers; Han, Razaviyayn & Xu 2024 (arXiv:2401.15604).
    """
    response, mean, score = _response(t, gram, cross, mean, score, lr)
    noise = real("noise", noise)
    if noise.ndim == 1:
        spread = jnp.sum(response**2 * non_negative("noise", noise), axis=(1, 2))
    else:
        spread = jnp.einsum("tnp,pq,tnq->t", response, matrix("noise", noise, *[mean.shape[0]] * 2), response)
    bias = jnp.sum((response @ mean - score) ** 2, axis=(1, 2))
    return ScoreError(bias / score.shape[0], spread / score.shape[0])


def label_statistics(noising: Noising | tuple, target: str = "score") -> Labels:
    """Signal and noise in the labels of denoising score matching, Gaussian data; sigma^2 = a^2 variance + s^2.

    "score": signal 1 / sigma^2, noise a^2 variance / (s^2 sigma^2); "noise": both times s^2;
    "data": signal a^2 variance^2 / sigma^2, noise s^2 variance / sigma^2.

    Arguments:
        noising: `Noising`, whose fields broadcast; target: "score", "noise" or "data".
    Returns:
        `Labels(signal, noise, unit)` per coordinate. signal / noise is s^2 / (a^2 variance), for "data" its inverse.
    Holds when: x_0 ~ N(0, variance I), so that the score is -x / sigma^2 and the label noise is Gaussian, the same for
        all x.
    Source: Tweedie's formula, first and second order.
    """
    a, s, c = _noising(noising)
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    total = a**2 * c + s**2
    if target == "data":
        return Labels(a**2 * c**2 / total, s**2 * c / total, a**2 / s**4)
    unit = jnp.ones_like(total) if target == "score" else 1 / s**2
    return Labels(1 / (total * unit), a**2 * c / (s**2 * total * unit), unit)


def kernel_ridge(kappa: Callable[[Array], Array], variance: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The ridge that a dot-product kernel kappa(x.x'/d) has built in, in high dimension.

    g = (kappa(v) - kappa(0) - v kappa'(0)) / (v kappa'(0)):   Theta = (kappa'(0)/d) X X^T + v kappa'(0) g I.

    Arguments:
        kappa: a smooth function of x.x'/d, with kappa'(0) > 0.
        variance: v = |x|^2 / d of the noised inputs, a^2 variance + s^2, > 0.
    Returns:
        g >= 0, in the units of `ridge` below; 0 for a linear kernel.
    Holds when: inputs of independent coordinates, n of the order of d, both large; what is nonlinear in the kernel is
        then seen by each sample alone. Corrections are of order 1/sqrt d.
    Source: El Karoui 2010 (the spectrum of kernel random matrices).
    """
    v = positive("variance", variance)
    at_zero, slope = jax.jvp(kappa, (jnp.zeros_like(v),), (jnp.ones_like(v),))
    return (kappa(v) - at_zero - v * slope) / (
        v * require("kappa", slope, slope > 0, "must have a positive slope at 0")
    )


def score_error(
    t: Real[ArrayLike, "..."],
    noising: Noising | tuple,
    alpha: Real[ArrayLike, "..."],
    ridge: Real[ArrayLike, "..."] = 0.0,
    *,
    target: str = "score",
    lr: Real[ArrayLike, "..."] = 0.0,
    inputs: int | None = None,
) -> ScoreError:
    """Distance to the true score of a linear or dot-product-kernel machine trained on P = alpha d noised samples.

    bias = unit signal [(1 - alpha)_+ + int rho (1 - h)^2],   variance = unit noise int rho h^2 / lam,
    h(lam, t) = lam / (lam + g) (1 - e^{-(lam + g) sigma^2 t / alpha}),   rho the Marchenko-Pastur bulk.

    Arguments, which broadcast:
        t: time, >= 0, of gradient descent on f = W x from W = 0 (or any start of small weights). A kernel
            kappa(x.x'/d) runs at the speed kappa'(0) / d: give it t kappa'(0) / d.
        noising: `Noising`; alpha: noised samples per dimension, each of its own x_0, > 0.
        target: what is predicted; the error is that of the score which it gives.
        ridge: g, the kernel's own ridge (`kernel_ridge`); it memorises at the rate g sigma^2 / alpha.
        lr: as for `kernel_score_error`; stable below alpha / (sigma^2 ((1 + sqrt alpha)^2 + g)).
        inputs: d, for the leading correction of finite size, of order 1/d.
    Returns:
        `ScoreError(bias, variance)` per coordinate, (1/d) E |f - S|^2 in its parts.
    Holds when: isotropic Gaussian data; d and P large (linear: to order 1/d with `inputs`).
    Source: the regression of Advani & Saxe 2017 (arXiv:1710.03667) with the labels of `label_statistics`.
    """
    labels, spectrum, g, decay, _ = _modes(t, noising, alpha, target, ridge, lr, inputs)
    fitted = spectrum.rates / (spectrum.rates + g) * (1 - decay)
    missed = spectrum.frozen + spectrum.sum((1 - fitted) ** 2)
    # h / lam is smooth where lam vanishes.
    spread = spectrum.sum(fitted * (1 - decay) / (spectrum.rates + g))
    return ScoreError(labels.unit * labels.signal * missed, labels.unit * labels.noise * spread)


def training_error(
    t: Real[ArrayLike, "..."],
    noising: Noising | tuple,
    alpha: Real[ArrayLike, "..."],
    ridge: Real[ArrayLike, "..."] = 0.0,
    *,
    target: str = "score",
    lr: Real[ArrayLike, "..."] = 0.0,
    inputs: int | None = None,
) -> Float[Array, "..."]:
    """Mean squared error on the noised training samples themselves, per coordinate and in units of the target.

    (1 - 1/alpha)_+ noise e^{-2 g T} + (1/alpha) int rho (lam signal + noise) e^{-2 (lam + g) T}, T = sigma^2 t / alpha.

    Arguments, which broadcast, and regime: as for `score_error`.
    Returns: twice the loss per coordinate; with a ridge of its own the kernel brings it to 0: every label is memorised.
    Source: as for `score_error`.
    """
    labels, spectrum, _, decay, alone = _modes(t, noising, alpha, target, ridge, lr, inputs)
    residual = spectrum.rates * labels.signal[..., None] + labels.noise[..., None]
    return spectrum.unfit * labels.noise * alone**2 + spectrum.sum(residual * decay**2) / spectrum.alpha


def score_stopping_time(
    noising: Noising | tuple,
    alpha: Real[ArrayLike, ""],
    ridge: Real[ArrayLike, ""] = 0.0,
    *,
    target: str = "score",
) -> Float[Array, ""]:
    """Time at which `score_error` is lowest.

    The slope vanishes between the best times of single modes, ln[(lam + N) / (N - g)] / (lam + g) in units of
    alpha / sigma^2, N = noise / signal.

    Arguments: as for `score_error`, scalars.
    Returns: t, in the units of `score_error`; infinity where g >= N: such a kernel is never trained too long.
    Holds when: as for `score_error`, gradient flow, at d = infinity.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), optimal early stopping, with the kernel's own ridge.
    """
    a, s, c = _noising(noising)
    labels, g, spectrum = label_statistics(noising, target), non_negative("ridge", ridge), bulk(alpha)
    return _stopping_time(labels.noise / labels.signal, g, spectrum) * spectrum.alpha / (a**2 * c + s**2)


def fresh_noise_error(
    t: Real[ArrayLike, "..."],
    noising: Noising | tuple,
    alpha: Real[ArrayLike, "..."],
    *,
    lr: Real[ArrayLike, "..."] = 0.0,
    inputs: int | None = None,
) -> Float[Array, "..."]:
    """Distance to the true score of a linear machine that sees n = alpha d data, each under endlessly many noise draws.

    sigma^2 < (1/sigma^2 - (1 - e^{-b t}) / b)^2 >,   b = a^2 lam variance / alpha + s^2,
    averaged over the Marchenko-Pastur law of lam, zero modes included; target "score".

    Arguments, which broadcast:
        t, noising, lr, inputs: as for `score_error`; lr b < 1.
        alpha: clean samples per dimension, > 0.
    Returns:
        (1/d) E |f - S|^2. In the end W = -(a^2 C_n + s^2)^{-1}, the best linear fit to `empirical_score`: a direction
        without data is taken for empty, which costs sigma^2 (1/s^2 - 1/sigma^2)^2.
    Holds when: as for `score_error`; there is no label noise left, only the data's own sampling.
    Source: derived: dW/dt = -(W (a^2 C_n + s^2) + 1) for the loss averaged over noise; Marchenko & Pastur 1967.
    """
    t, alpha, lr = non_negative("t", t), positive("alpha", alpha), non_negative("lr", lr)
    a, s, c = _noising(noising)
    t, alpha, lr, a, s, c = jnp.broadcast_arrays(t, alpha, lr, a, s, c)
    spectrum, total = bulk(alpha, inputs), a**2 * c + s**2

    def error(lam, *given):
        t, alpha, lr, a, s, c, total = given
        b = a**2 * lam * c / alpha + s**2
        return total * (1 / total + jnp.expm1(-_rate(b, lr) * t) / b) ** 2

    given = t, alpha, lr, a, s, c, total
    seen = spectrum.sum(error(spectrum.rates, *(x[..., None] for x in given)))
    return spectrum.frozen * error(0.0, *given) + seen


def _modes(t, noising, alpha, target, ridge, lr, inputs) -> tuple[Labels, Spectrum, Array, Array, Array]:
    """Labels, spectrum, ridge with an axis for the modes, e^{-(lam + g) T} of each mode and e^{-g T} of none."""
    t, alpha = non_negative("t", t), positive("alpha", alpha)
    ridge, lr = non_negative("ridge", ridge), non_negative("lr", lr)
    a, s, c = _noising(noising)
    shape = jnp.broadcast_shapes(*(x.shape for x in (t, alpha, ridge, lr, a, s, c)))
    labels = Labels(*(jnp.broadcast_to(x, shape) for x in label_statistics(noising, target)))
    alpha = jnp.broadcast_to(alpha, shape)
    spectrum = bulk(alpha, inputs)
    speed = (a**2 * c + s**2) / alpha
    t, ridge, speed, lr = (jnp.broadcast_to(x, shape)[..., None] for x in (t, ridge, speed, lr))
    decay = jnp.exp(-_rate((spectrum.rates + ridge) * speed, lr) * t)
    return labels, spectrum, ridge, decay, jnp.exp(-_rate(ridge * speed, lr) * t)[..., 0]


def _rate(rate, lr):
    """The exponent of (1 - lr rate)^{t / lr} = e^{-_rate t}."""
    step = lr * rate
    step = require("lr", step, step < 1, "must be below one over the fastest rate, the product is")
    descending = lr > 0
    return jnp.where(descending, -jnp.log1p(-step) / jnp.where(descending, lr, 1.0), rate)


def _response(t, gram, cross, labels, score, lr):
    """A_t for all times, (T, N, P), and the checked labels and score."""
    t, lr = non_negative("t", t), non_negative("lr", lr)
    labels, gram = matrix("labels", labels), matrix("gram", gram)
    gram = matrix("gram", gram, labels.shape[0], labels.shape[0])
    cross = matrix("cross", cross, columns=labels.shape[0])
    score = matrix("score", score, cross.shape[0], labels.shape[1])
    rates, modes = jnp.linalg.eigh(gram / gram.shape[0])
    floor = 10 * gram.shape[0] * jnp.finfo(rates.dtype).eps * jnp.max(jnp.abs(rates))
    rates = jnp.maximum(require("gram", rates, rates >= -floor, "must be positive semi-definite, over P it has"), 0)
    run = decay_integral(_rate(rates, lr), t[:, None]) * jnp.where(rates > 0, _rate(rates, lr) / rates, 1.0)
    return (cross @ modes * run[:, None, :]) @ modes.T / gram.shape[0], labels, score


def _noising(noising) -> tuple[Array, Array, Array]:
    a, s, c = Noising(*noising)
    return positive("a", a), positive("s", s), positive("variance", c)


@jax.jit
def _stopping_time(ratio, ridge, spectrum: Spectrum):
    stops = ridge < ratio
    g = jnp.where(stops, ridge, ratio / 2)

    def best(lam):
        return jnp.log1p((lam + g) / (ratio - g)) / (lam + g)

    def error(t):
        decay = jnp.exp(-(spectrum.rates + g) * t)
        fitted = spectrum.rates / (spectrum.rates + g) * (1 - decay)
        spread = fitted * (1 - decay) / (spectrum.rates + g)
        return jnp.sum(spectrum.weights * ((1 - fitted) ** 2 + ratio * spread))

    slowest = jnp.min(jnp.where(spectrum.weights > 0, spectrum.rates, jnp.inf))
    fastest = jnp.max(jnp.where(spectrum.weights > 0, spectrum.rates, 0.0))
    return jnp.where(stops, minimising_time(error, best(fastest), best(slowest)), jnp.inf)
