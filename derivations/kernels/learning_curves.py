"""Learning curves of kernel regression: what follows from the self-consistent equation for the effective ridge.

The numbers drawn are kappa and the spectrum; the number of samples that belongs to them is explicit.
"""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

n, m, lam, m2, lam2, ridge, kappa = sp.symbols("n m lambda m_2 lambda_2 delta kappa", positive=True)
power, power2, noise = sp.symbols("v^2 v_2^2 sigma^2", positive=True)
SPECTRUM = {
    m: Interval(1, 100, log=True),
    lam: Interval(0.1, 10, log=True),
    m2: Interval(1, 1000, log=True),
    lam2: Interval(1e-3, 0.1, log=True),
}
TARGET = {power: Interval(0, 5), power2: Interval(0, 5), noise: Interval(1e-3, 5, log=True)}

# Two levels stand for any number of them: every sum below is over independent terms.
LEVELS = ((m, lam, power), (m2, lam2, power2))


def share(lam):
    """L, the share of a mode that is learned."""
    return lam / (lam + kappa)


def settled(residual):
    """Numerator of a rational function, expanded: zero where the function is. SymPy's `simplify` would take minutes."""
    return sp.expand(sp.numer(sp.together(residual)))


learned = sum(m * share(lam) for m, lam, _ in LEVELS)
squares = sum(m * share(lam) ** 2 for m, lam, _ in LEVELS)
missed_power = sum((1 - share(lam)) ** 2 * power for _, lam, power in LEVELS)
samples = learned + ridge / kappa

_flat = (m - n) * lam + ridge + sp.sqrt(((m - n) * lam + ridge) ** 2 + 4 * n * ridge * lam)
_flat = _flat / (2 * n)
_SOURCE = "Simon et al. 2023 (arXiv:2110.03922), section 4; Canatar, Bordelon & Pehlevan 2021 (arXiv:2006.13198)"

flat_ridge = Formula(
    title="Effective ridge of a flat spectrum",
    backs="theory.kernels.learning_curves.effective_ridge",
    symbol=kappa,
    arguments=(n, lam, ridge, m),
    domain={n: Interval(1, 1e3), lam: SPECTRUM[lam], ridge: Interval(1e-3, 10, log=True), m: Interval(1, 1e3)},
    expression=_flat,
    proofs={
        "m L + ridge / kappa = n": (m * share(lam) + ridge / kappa - n).subs(kappa, _flat),
        "without a ridge, more modes than samples: kappa = lam (m - n) / n": sp.simplify(
            _flat.subs(m, n + m2).subs(ridge, 0) - lam * m2 / n
        ),
        "without a ridge, more samples than modes: kappa = 0": sp.simplify(_flat.subs(n, m + m2).subs(ridge, 0)),
    },
    call=lambda n, lam, ridge, m: (n, np.array([lam]), ridge, m),
    source=_SOURCE,
)


def task_of(m, lam, m2, lam2, power, power2, noise):
    """Eigenvalues, powers, multiplicities and noise, as the theory takes them."""
    return np.array([lam, lam2]), np.array([power, power2]), np.array([m, m2]), noise


def _call(kappa, ridge, *task):
    """The number of samples that has this kappa, the task and the ridge."""
    m, lam, m2, lam2 = task[:4]
    return m * lam / (lam + kappa) + m2 * lam2 / (lam2 + kappa) + ridge / kappa, task_of(*task), ridge


_ARGUMENTS = (kappa, ridge, m, lam, m2, lam2, power, power2, noise)
_DOMAIN = {kappa: Interval(1e-3, 10, log=True), ridge: Interval(1e-3, 10, log=True), **SPECTRUM, **TARGET}

_amplification = samples / (samples - squares)
_test = _amplification * (missed_power + noise)
# d kappa / d ridge and d kappa / d n along samples(kappa, ridge) = n.
_per_ridge = -sp.diff(samples, ridge) / sp.diff(samples, kappa)
_per_sample = 1 / sp.diff(samples, kappa)

# The same for linear regression in N dimensions, inputs of variance 1/N: one level, lam = 1/N, m = N, power = signal.
# The mean resolvent r = (1/N) tr (X^T X + ridge)^{-1} of Marchenko and Pastur is what a direction misses, over ridge.
_linear = {m: 1 / lam, m2: 0}
_resolvent = kappa / (lam + kappa) / ridge
_alpha = samples.subs(_linear) * lam

_OF_TEST = {
    "E_0 = n dkappa/dridge": _amplification - samples * _per_ridge,
    "without a ridge E_0 = - dln kappa / dln n": (_amplification + samples / kappa * _per_sample).subs(ridge, 0),
    "linear regression: the resolvent of Marchenko and Pastur": ridge * _resolvent**2
    + (ridge + _alpha - 1) * _resolvent
    - 1,
}

test_error = Formula(
    title="Test error of kernel ridge regression",
    backs="theory.kernels.learning_curves.learning_curve",
    symbol=sp.Function("E_test")(n),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=_test,
    proofs=_OF_TEST,
    call=_call,
    read=lambda curve: curve.test_error,
    source=_SOURCE,
)

# The least of (|y - f|^2 + ridge |f|^2) / n is ridge y^T (K + ridge)^{-1} y / n; its slope in the ridge is |f|^2 / n.
_missed = sum((1 - share(lam)) * power for _, lam, power in LEVELS)
_cost = ridge / (n * kappa) * (_missed + noise)

training_error = Formula(
    title="Training error of kernel ridge regression",
    backs="theory.kernels.learning_curves.learning_curve",
    symbol=sp.Function("E_train")(n),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=(ridge / (samples * kappa)) ** 2 * _test,
    proofs={
        "cost less penalty": (_cost - ridge * (sp.diff(_cost, ridge) + sp.diff(_cost, kappa) * _per_ridge)).subs(
            n, samples
        )
        - (ridge / (samples * kappa)) ** 2 * _test,
    },
    call=_call,
    read=lambda curve: curve.training_error,
    source=_SOURCE,
)

_variance = _test * squares / samples

variance = Formula(
    title="Variance of kernel ridge regression",
    backs="theory.kernels.learning_curves.learning_curve",
    symbol=sp.Function("V")(n),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=_variance,
    proofs={"test error = bias + variance + noise": _test - missed_power - _variance - noise},
    call=_call,
    read=lambda curve: curve.variance,
    source=_SOURCE,
)

level_error = Formula(
    title="Error of one level of eigenfunctions",
    backs="theory.kernels.learning_curves.learning_curve",
    symbol=sp.Function("E_1")(n),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=(1 - share(lam)) ** 2 * power + m * share(lam) ** 2 * _test / samples,
    proofs={
        "the levels sum to the test error without the new label's noise": sum(
            (1 - share(lam)) ** 2 * power + m * share(lam) ** 2 * _test / samples for m, lam, power in LEVELS
        )
        - (_test - noise),
    },
    call=_call,
    read=lambda curve: curve.level_errors[0],
    source=_SOURCE,
)
