"""Random-feature regression: two samples of one kernel, one inside the other.

Given the features, their kernel has the operator A = Lam^{1/2} W W^T Lam^{1/2} / k, and regression on it is kernel
regression with effective ridge gamma: tr A (A + gamma)^{-1} + ridge / gamma = n. The features are k samples of the same
modes: gamma (A + gamma)^{-1} = kappa (Lam + kappa)^{-1} with sum_i L_i + k gamma / kappa = k.

The numbers drawn are kappa and the features k - z that no mode takes; k and n follow.
"""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval
from derivations.kernels.learning_curves import (
    LEVELS,
    SPECTRUM,
    TARGET,
    kappa,
    lam,
    lam2,
    learned,
    m,
    m2,
    missed_power,
    n,
    noise,
    power,
    power2,
    ridge,
    samples,
    settled,
    share,
    squares,
    task_of,
)

k, spare, gamma = sp.symbols("k p gamma", positive=True)
z, q = learned, squares
_k = z + spare
_gamma = kappa * spare / _k
_n = z + ridge / _gamma

# kappa as a function of gamma at fixed k.
_ratio = z + k * gamma / kappa - k
_kappa_slope = (-sp.diff(_ratio, gamma) / sp.diff(_ratio, kappa)).subs({gamma: _gamma, k: _k})
# tr A^2 (A + gamma)^{-2} = z + gamma dz/dgamma, and gamma^2 v^T (A + gamma)^{-2} v is from the slope in gamma of
# v^T (A + gamma)^{-1} v = (kappa / gamma) sum_i v_i^2 / (lam_i + kappa).
_squares = z + _gamma * _kappa_slope * sp.diff(z, kappa)
_misfit = sum(
    power * (kappa / (lam + kappa) - _gamma * _kappa_slope * lam / (lam + kappa) ** 2) for _, lam, power in LEVELS
)
_test = _n / (_n - _squares) * (_misfit + noise)

# The form of the theory: s is the share of what is learned that the choice of the features costs.
_s = (z - q) / (_k - q)
_form = sum((1 - share(lam)) * (1 - share(lam) + _s * share(lam)) * power for _, lam, power in LEVELS)

_ARGUMENTS = (kappa, spare, ridge, m, lam, m2, lam2, power, power2, noise)
_DOMAIN = {
    kappa: Interval(1e-3, 10, log=True),
    spare: Interval(1e-2, 1e3, log=True),
    ridge: Interval(1e-3, 10, log=True),
    **SPECTRUM,
    **TARGET,
}
_SOURCE = "Simon, Karkada, Ghosh & Belkin 2024 (arXiv:2311.14646), random-feature eigenframework"


def _call(kappa, spare, ridge, *task):
    m, lam, m2, lam2 = task[:4]
    z = m * lam / (lam + kappa) + m2 * lam2 / (lam2 + kappa)
    k = z + spare
    return z + ridge * k / (kappa * spare), k, task_of(*task), ridge


test_error = Formula(
    title="Test error of random-feature regression",
    backs="theory.kernels.random_features.random_feature_curve",
    symbol=sp.Function("E_test")(n, k),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=_test,
    proofs={
        "one equation for kappa: (n - z) (k - z) = ridge k / kappa": (_n - z) * (_k - z) - ridge * _k / kappa,
        "dkappa/dgamma = k / (k - q)": _kappa_slope - _k / (_k - q),
        "the trace of squares": lambda: settled(_squares - (q * (_k - 2 * z) + z**2) / (_k - q)),
        "what is missed": lambda: settled((_misfit - _form).subs({power: 1, power2: 0})),
        "samples that are free": lambda: settled(_n - _squares - (_n - z + (_k - z) * _s)),
        "infinitely many features are the kernel": lambda: settled(
            sp.limit(_misfit, spare, sp.oo) - missed_power + sp.limit(_squares, spare, sp.oo) - q
        ),
        "and have its number of samples": lambda: sp.limit(_n, spare, sp.oo) - samples,
    },
    call=_call,
    read=lambda curve: curve.test_error,
    source=_SOURCE,
)

training_error = Formula(
    title="Training error of random-feature regression",
    backs="theory.kernels.random_features.random_feature_curve",
    symbol=sp.Function("E_train")(n, k),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=(ridge / (_n * _gamma)) ** 2 * _test,
    proofs={"ridge / gamma = n - z": ridge / _gamma - (_n - z)},
    call=_call,
    read=lambda curve: curve.training_error,
    source=_SOURCE,
)

# The mean over data and features is linear in the labels, with coefficients L_i v_i; the scatter is the rest.
_by_features = _s * sum(share(lam) * (1 - share(lam)) * power for _, lam, power in LEVELS)
_variance = _squares / (_n - _squares) * (_misfit + noise) + _by_features
_whole, _part, _error = sp.symbols("whole part error", positive=True)

variance = Formula(
    title="Variance of random-feature regression",
    backs="theory.kernels.random_features.random_feature_curve",
    symbol=sp.Function("V")(n, k),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=_variance,
    proofs={
        "what the choice of features costs": lambda: settled(
            (_misfit - missed_power - _by_features).subs({power: 1, power2: 0})
        ),
        "test error = bias + variance + noise": _whole / (_whole - _part) * _error
        - _error
        - _part / (_whole - _part) * _error,
    },
    call=_call,
    read=lambda curve: curve.variance,
    source=_SOURCE,
)

effective_ridge = Formula(
    title="Effective ridge of random-feature regression",
    backs="theory.kernels.random_features.random_feature_ridge",
    symbol=kappa,
    arguments=(n, k, ridge, m, lam, m2, lam2),
    domain={n: Interval(1, 100), k: Interval(101, 300), ridge: Interval(1e-2, 10, log=True), **SPECTRUM},
    law=sp.log((n - z) * (k - z)) - sp.log(ridge * k / kappa),
    proofs={
        "gamma = kappa (k - z) / k solves both": (k * gamma / kappa - (k - z)).subs(gamma, kappa * (k - z) / k),
        "ridge / gamma = n - z": (ridge / gamma - (n - z))
        .subs(gamma, kappa * (k - z) / k)
        .subs(n, z + ridge * k / (kappa * (k - z))),
    },
    call=lambda n, k, ridge, m, lam, m2, lam2: (n, k, np.array([lam, lam2]), ridge, np.array([m, m2])),
    source=_SOURCE,
)
