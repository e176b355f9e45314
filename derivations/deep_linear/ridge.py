"""Ridge regression in high dimension, closed forms from the resolvent (Advani & Saxe 2017)."""

import sympy as sp

from derivations.deep_linear.generalization import noise, signal
from derivations.deep_linear.marchenko_pastur import ALPHA, alpha, g, lam, m
from derivations.formula import Formula, Interval

_slope = sp.diff(m, g)
# Along one eigenvector: what is kept of the teacher is g / (lam + g), what is let in of the noise is lam / (lam + g)^2.
_mode = (g**2 * signal + lam * noise) / (lam + g) ** 2
_test = noise + signal * g**2 * -_slope + noise * (m + g * _slope)
_train = noise * (1 - 1 / alpha) + g**2 / alpha * (signal * (m + g * _slope) - noise * _slope)
_one = 1 / (lam + g)
_best = {g: noise / signal}
_b = g + alpha - 1

_ARGUMENTS = (g, alpha, signal, noise)
_RANGES = {
    alpha: ALPHA,
    signal: Interval(1e-3, 1e3, log=True),
    noise: Interval(1e-3, 1e3, log=True),
    g: Interval(1e-2, 1e3, log=True),
}
_SOURCE = "Advani & Saxe 2017 (arXiv:1710.03667)"


def _call(g, *data):
    return g, (*data, 0.7)


generalization = Formula(
    title="Test error of ridge regression",
    backs="theory.deep_linear.ridge.ridge_generalization_error",
    symbol=sp.Function("E_g")(g),
    arguments=_ARGUMENTS,
    domain=_RANGES,
    expression=_test,
    call=_call,
    proofs={
        # m stands for the mean of 1/(lam + g) over all directions, zero modes included.
        "mode by mode": _mode - (signal * g**2 * -sp.diff(_one, g) + noise * (_one + g * sp.diff(_one, g))),
        "zero modes keep the whole signal": _mode.subs(lam, 0) - signal,
    },
    source=_SOURCE,
)

training = Formula(
    title="Training error of ridge regression",
    backs="theory.deep_linear.ridge.ridge_training_error",
    symbol=sp.Function("E_t")(g),
    arguments=_ARGUMENTS,
    domain=_RANGES,
    expression=_train,
    call=_call,
    proofs={
        "mode by mode": (lam * signal + noise) * g**2 / (lam + g) ** 2
        - g**2 * (signal * (_one + g * sp.diff(_one, g)) - noise * sp.diff(_one, g)),
        "strong ridge: signal + noise": lambda: sp.limit(_train, g, sp.oo) - signal - noise,
    },
    source=_SOURCE,
)

best = Formula(
    title="Best ridge",
    backs="theory.deep_linear.ridge.optimal_ridge",
    symbol=sp.Symbol("g"),
    arguments=(alpha, signal, noise),
    domain=_RANGES,
    expression=noise / signal,
    call=lambda *data: (data,),
    proofs={
        "every mode's error is stationary there": sp.diff(_mode, g).subs(_best),
        "and lowest": sp.diff(_mode, g, 2).subs(_best) - 2 * lam * signal / (lam + noise / signal) ** 3,
    },
    source=_SOURCE,
)

best_error = Formula(
    title="Test error at the best ridge",
    backs="theory.deep_linear.ridge.optimal_ridge_error",
    symbol=sp.Symbol("E_g"),
    arguments=(alpha, signal, noise),
    domain=_RANGES,
    expression=(noise * (1 + m)).subs(_best),
    call=lambda *data: (data,),
    proofs={
        "the general error at g = noise / signal": (_test - noise * (1 + m)).subs(_best),
        "noise m = signal (sqrt(b^2 + 4 g) - b) / 2": (noise * m - signal * (sp.sqrt(_b**2 + 4 * g) - _b) / 2).subs(
            _best
        ),
    },
    source=_SOURCE,
)
