"""High-dimensional regression through training, textbook forms (Advani & Saxe 2017).

Everything follows from one mode. Along an eigenvector of X^T X of eigenvalue lam the distance z = wbar - w obeys
dz/dt = -lam z - sqrt(lam) eps, with z(0) of variance A = signal + start and eps of variance noise, independent.
"""

import sympy as sp

from derivations.deep_linear.marchenko_pastur import ALPHA, alpha, few, g, lam, lower, m, more
from derivations.formula import Formula, Interval

t, signal, noise, start, lr, c = sp.symbols("t sigma_w^2 sigma_epsilon^2 sigma_0^2 eta c", positive=True)
z0, eps = sp.symbols("z_0 epsilon", real=True)
k = sp.Symbol("k", integer=True, positive=True)
A = signal + start

_z = z0 * sp.exp(-lam * t) - eps / sp.sqrt(lam) * (1 - sp.exp(-lam * t))
_z_after = z0 * (1 - lr * lam) ** k - eps / sp.sqrt(lam) * (1 - (1 - lr * lam) ** k)
_error = A * sp.exp(-2 * lam * t) + noise / lam * (1 - sp.exp(-lam * t)) ** 2
_error_after = A * (1 - lr * lam) ** (2 * k) + noise / lam * (1 - (1 - lr * lam) ** k) ** 2
_residual = (lam * A + noise) * sp.exp(-2 * lam * t)
_residual_after = (lam * A + noise) * (1 - lr * lam) ** (2 * k)
_stationary = sp.exp(-lam * t) * (noise * (1 - sp.exp(-lam * t)) - A * lam * sp.exp(-lam * t))


def _mean_square(z):
    """E z^2 for independent z0 and eps of variances A and noise."""
    # z is linear in both.
    return sp.diff(z, z0) ** 2 * A + sp.diff(z, eps) ** 2 * noise


_j = sp.Symbol("j", integer=True)
_angle = sp.Symbol("theta", positive=True)
_over_angle = 2 * alpha * sp.sin(_angle) ** 2 / (sp.pi * lam)
_at_angle = lower + 4 * sp.sqrt(alpha) * sp.sin(_angle / 2) ** 2


def _even_angles(f, points):
    """int rho(lam) f(lam) dlam for f / lam without a pole: lam = 1 + alpha - 2 sqrt(alpha) cos(theta).

    The integrand is then entire and periodic in theta, so that equal steps give all digits that are asked for.
    """
    angle = sp.pi * (_j - sp.Rational(1, 2)) / points
    return sp.Sum((sp.pi / points * _over_angle * f).subs(lam, _at_angle).subs(_angle, angle), (_j, 1, points))


def _bulk(f, points=96):
    """int rho(lam) f(lam) dlam: f(0) times the bulk's mass min(1, alpha), and the rest, which vanishes at lam = 0."""
    at_zero = sp.limit(f, lam, 0)
    return at_zero * sp.Min(1, alpha) + _even_angles(f - at_zero, points)


def _last(*numbers):
    """(..., alpha, signal, noise, start) -> (..., record)."""
    return *numbers[:-4], numbers[-4:]


_DATA = (alpha, signal, noise, start)
_RANGES = {
    alpha: ALPHA,
    signal: Interval(1e-3, 1e3, log=True),
    noise: Interval(1e-3, 1e3, log=True),
    start: Interval(1e-3, 1e3, log=True),
}
_MODE = {
    "dz/dt = -lam z - sqrt(lam) eps": sp.diff(_z, t) + lam * _z + sp.sqrt(lam) * eps,
    "z(0) = z_0": _z.subs(t, 0) - z0,
    "the mode's error is E z^2": lambda: _mean_square(_z) - _error,
}
_STEPS = {
    "z_{k+1} = (1 - eta lam) z_k - eta sqrt(lam) eps": (
        _z_after.subs(k, k + 1) - (1 - lr * lam) * _z_after + lr * sp.sqrt(lam) * eps
    ),
    "the mode's error is E z^2": lambda: _mean_square(_z_after) - _error_after,
}
_SOURCE = "Advani & Saxe 2017 (arXiv:1710.03667)"

generalization = Formula(
    title="Test error at time t",
    backs="theory.deep_linear.generalization.generalization_error",
    symbol=sp.Function("E_g")(t),
    arguments=(t, *_DATA),
    domain={t: Interval(0, 10), **_RANGES},
    expression=noise + sp.Max(0, 1 - alpha) * A + _bulk(_error),
    call=_last,
    proofs=_MODE,
    source=_SOURCE,
)

training = Formula(
    title="Training error at time t",
    backs="theory.deep_linear.generalization.training_error",
    symbol=sp.Function("E_t")(t),
    arguments=(t, *_DATA),
    domain={t: Interval(0, 10), **_RANGES},
    expression=sp.Max(0, 1 - 1 / alpha) * noise + _bulk(_residual) / alpha,
    call=_last,
    proofs={
        # The residual along the mode's left vector is sqrt(lam) z + eps.
        "the residual is E (sqrt(lam) z + eps)^2": lambda: _mean_square(sp.sqrt(lam) * _z + eps) - _residual,
    },
    source=_SOURCE,
)

_AFTER = {c: Interval(0.01, 2), **_RANGES}
_K = 7

descent_generalization = Formula(
    title="Test error after seven steps of gradient descent",
    backs="theory.deep_linear.generalization.descent_generalization_error",
    symbol=sp.Symbol("E_g"),
    arguments=(c, *_DATA),
    domain=_AFTER,
    expression=noise
    + sp.Max(0, 1 - alpha) * A
    + _bulk(_error_after.subs(k, _K).subs(lr, c / (1 + sp.sqrt(alpha)) ** 2), 16),
    call=lambda c, *data: (_K, c / (1 + data[0] ** 0.5) ** 2, data),
    proofs=_STEPS,
    source=_SOURCE,
)

descent_training = Formula(
    title="Training error after seven steps of gradient descent",
    backs="theory.deep_linear.generalization.descent_training_error",
    symbol=sp.Symbol("E_t"),
    arguments=(c, *_DATA),
    domain=_AFTER,
    expression=sp.Max(0, 1 - 1 / alpha) * noise
    + _bulk(_residual_after.subs(k, _K).subs(lr, c / (1 + sp.sqrt(alpha)) ** 2), 16) / alpha,
    call=descent_generalization.call,
    proofs={
        "the residual is E (sqrt(lam) z + eps)^2": lambda: (
            _mean_square(sp.sqrt(lam) * _z_after + eps) - _residual_after
        ),
    },
    source=_SOURCE,
)

_ends = {
    "a mode's error ends at noise / lam": lambda: sp.limit(_error, t, sp.oo) - noise / lam,
    "mean of 1/lam, alpha > 1: the resolvent at 0": (
        sp.limit(m.subs(alpha, 1 + more), g, 0, "+") - 1 / ((1 + more) - 1)
    ),
    "mean of 1/lam over the bulk, alpha < 1: the resolvent less its pole": lambda: (
        sp.limit((m - (1 - alpha) / g).subs(alpha, 1 / (1 + few)), g, 0, "+") - 1 / few
    ),
}

final_many = Formula(
    title="Test error of training without end, more samples than dimensions",
    backs="theory.deep_linear.generalization.final_generalization_error",
    symbol=sp.Function("E_g")(sp.oo),
    arguments=_DATA,
    domain={**_RANGES, alpha: Interval(1.0001, 20)},
    expression=noise * (1 + 1 / (alpha - 1)),
    call=_last,
    proofs=_ends,
    source=_SOURCE,
)

final_few = Formula(
    title="Test error of training without end, fewer samples than dimensions",
    backs="theory.deep_linear.generalization.final_generalization_error",
    symbol=sp.Function("E_g")(sp.oo),
    arguments=_DATA,
    domain={**_RANGES, alpha: Interval(0.05, 0.9999)},
    expression=(1 - alpha) * A + noise * (1 + alpha / (1 - alpha)),
    call=_last,
    proofs=_ends,
    source=_SOURCE,
)

_N = 30
final_finite = Formula(
    title="The same at N = 30, exactly",
    backs="theory.deep_linear.generalization.final_generalization_error",
    symbol=sp.Function("E_g")(sp.oo),
    arguments=_DATA,
    domain={**_RANGES, alpha: Interval(1.1, 20)},
    # E tr (X^T X)^{-1} / N = N / (P - N - 1) for P x N Gaussian entries of variance 1/N.
    expression=noise * (1 + _N / (alpha * _N - _N - 1)),
    call=_last,
    keywords={"inputs": _N},
    proofs={"N = 1: the mean of N / chi^2_P": lambda: _inverse_chi_square() - 1 / (_P - 2)},
    source="mean of an inverse Wishart matrix",
)
_P = sp.Symbol("P", positive=True)


def _inverse_chi_square():
    """Mean of 1 / chi^2 with P degrees of freedom (P > 2)."""
    q, p = sp.symbols("q p", positive=True)
    raw = sp.integrate(q ** (p - 1) * sp.exp(-q / 2), (q, 0, sp.oo)) / (2 ** (p + 1) * sp.gamma(p + 1))
    return sp.gammasimp(raw).subs(p, _P / 2 - 1)


final_training = Formula(
    title="Training error of training without end",
    backs="theory.deep_linear.generalization.final_training_error",
    symbol=sp.Function("E_t")(sp.oo),
    arguments=_DATA,
    domain=_RANGES,
    expression=sp.Max(0, 1 - 1 / alpha) * noise,
    call=_last,
    proofs={"the residual along every mode is learned": lambda: sp.limit(_residual, t, sp.oo)},
    source=_SOURCE,
)

frozen = Formula(
    title="Frozen fraction of the weights",
    backs="theory.deep_linear.generalization.frozen_fraction",
    symbol=sp.Symbol("phi"),
    arguments=(alpha,),
    domain={alpha: ALPHA},
    expression=sp.Max(0, 1 - alpha),
    proofs={
        "weight of the resolvent's pole at 0, alpha < 1": lambda: (
            sp.limit((g * m).subs(alpha, 1 / (1 + few)), g, 0, "+") - (1 - 1 / (1 + few))
        ),
        "no pole for alpha > 1": lambda: sp.limit((g * m).subs(alpha, 1 + more), g, 0, "+"),
    },
    source=_SOURCE,
)

growth = Formula(
    title="Growth of the test error at P = N",
    backs="theory.deep_linear.generalization.interpolation_growth",
    symbol=sp.Function("E_g")(t),
    arguments=(t, noise),
    domain={t: Interval(1e-3, 1e9, log=True), noise: Interval(1e-3, 1e3, log=True)},
    expression=4 / sp.sqrt(sp.pi) * (1 - 1 / sp.sqrt(2)) * noise * sp.sqrt(t),
    proofs={
        "hard edge at alpha = 1: rho -> 1 / (pi sqrt(lam))": lambda: (
            sp.limit(sp.sqrt(lam) * sp.sqrt((4 - lam) * lam) / (2 * sp.pi * lam), lam, 0) - 1 / sp.pi
        ),
        # With x = lam t: (sqrt(t) / pi) int x^{-3/2} (1 - e^{-x})^2 dx; by parts 4 int x^{-1/2} e^{-x} (1 - e^{-x}) dx.
        "by parts": lambda: (
            sp.diff(-2 * (1 - sp.exp(-lam)) ** 2 / sp.sqrt(lam), lam)
            - (1 - sp.exp(-lam)) ** 2 / lam ** sp.Rational(3, 2)
            + 4 * sp.exp(-lam) * (1 - sp.exp(-lam)) / sp.sqrt(lam)
        ),
        "the constant": lambda: (
            4 / sp.pi * sp.integrate((sp.exp(-lam) - sp.exp(-2 * lam)) / sp.sqrt(lam), (lam, 0, sp.oo))
            - 4 / sp.sqrt(sp.pi) * (1 - 1 / sp.sqrt(2))
        ),
    },
    source="hard edge of the Marchenko-Pastur bulk",
)

_alone = sp.log(1 + A * lam / noise) / lam
mode_stopping = Formula(
    title="Best stopping time of one mode",
    backs="theory.deep_linear.generalization.mode_stopping_time",
    symbol=sp.Symbol("t"),
    arguments=(lam, *_DATA),
    domain={lam: Interval(1e-9, 50, log=True), **_RANGES},
    expression=_alone,
    call=_last,
    proofs={
        "the mode's error is stationary": _stationary.subs(t, _alone),
        "the integrand is half the slope of the mode's error": sp.diff(_error, t) / 2 - _stationary,
    },
    source=_SOURCE,
)

stopping = Formula(
    title="Optimal stopping time",
    backs="theory.deep_linear.generalization.optimal_stopping_time",
    symbol=t,
    arguments=_DATA,
    domain={
        alpha: Interval(0.1, 10, log=True),
        signal: Interval(0.1, 3, log=True),
        noise: Interval(0.3, 3, log=True),
        start: Interval(0.01, 3, log=True),
    },
    law=_even_angles(_stationary, 64),
    call=_last,
    proofs={"the integrand is half the slope of the mode's error": sp.diff(_error, t) / 2 - _stationary},
    source=_SOURCE,
)
