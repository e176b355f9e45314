"""Kernel regression on n of M points: the free compression of a kernel matrix, and what follows.

Let K be the kernel matrix of all M points, of eigenvalues M lam_i, and D a diagonal matrix of M entries at random to
K's eigenvectors: ridge on the n seen points and 1/t -> infinity on the unseen. Free probability gives
(K + D)^{-1} = (K + omega)^{-1} for all linear functionals, with omega and its partner omega_D such that

    g = (1/M) tr (K + omega)^{-1} = (n/M) / (ridge + omega_D) + (1 - n/M) / (1/t + omega_D),   omega + omega_D = 1/g.

kappa = omega / M. The residual on unseen points is the slope, at t = 0, of f^T K^{-1} (K^{-1} + D^{-1})^{-1} K^{-1} f.
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
    settled,
    share,
    task_of,
)

points = m + m2
samples = learned + ridge / kappa * (1 - learned / points)

# The raised spectrum lam + ridge/M and its own effective ridge, k = kappa - ridge/M, the form that the theory computes.
_k = kappa - ridge / points
_raised = [(m, lam + ridge / points, power) for m, lam, power in LEVELS]
_missed = [(m, _k / (lam + _k), power) for m, lam, power in _raised]
_spread = sum(m * f * (1 - f) for m, f, _ in _missed)
_unlearned = sum(f**2 * (power + m * noise / points) for m, f, power in _missed)
_test = samples * points / (points - samples) * _unlearned / _spread
_train = ((points - samples) * ridge / (samples * points * _k)) ** 2 * _test

# g in the two ways above, at small t, with 1/omega = w(t); everything at fixed n.
t, w = sp.symbols("t w", positive=True)
_trace = w / points * sum(m / (1 + w * points * lam) for m, lam, _ in LEVELS)
_partner = 1 / _trace - 1 / w
_balance = n / points / (ridge + _partner) + (1 - n / points) * t / (1 + t * _partner) - _trace
_here = {w: 1 / (points * kappa), n: samples}
_slope = (-sp.diff(_balance, t) / sp.diff(_balance, w)).subs(t, 0).subs(_here)
# f^T K^{-1} (K^{-1} + w)^{-1} K^{-1} f falls with w by sum of M v^2 (1 - L)^2 on each level.
_by_slope = _slope * sum((1 - share(lam)) ** 2 * (p + m * noise / points) for m, lam, p in LEVELS)

# Both sides are linear in the powers and treat the levels alike, and noise is a power on each: one stands for all. And
# kappa may be the unit of the spectrum.
_ONE = {power: 1, power2: 0, noise: 0, kappa: 1}

_ARGUMENTS = (kappa, ridge, m, lam, m2, lam2, power, power2, noise)
# kappa is drawn in units of ridge / M, which it exceeds.
_DOMAIN = {kappa: Interval(1e-2, 10, log=True), ridge: Interval(1e-3, 1, log=True), **SPECTRUM, **TARGET}
_SOURCE = "Free compression of a matrix (Voiculescu), with the argument of Simon et al. 2023 (arXiv:2110.03922)"


def _call(kappa, ridge, *task):
    """The number of points that has kappa raised by ridge / M, the task and the ridge."""
    m, lam, m2, lam2 = task[:4]
    kappa = kappa + ridge / (m + m2)
    learned = m * lam / (lam + kappa) + m2 * lam2 / (lam2 + kappa)
    return learned + ridge / kappa * (1 - learned / (m + m2)), task_of(*task), ridge


def _raise(expression):
    return expression.subs(kappa, kappa + ridge / points)


test_error = Formula(
    title="Error on the unseen points of a finite domain",
    backs="theory.kernels.finite_domain.domain_curve",
    symbol=sp.Function("E_test")(n),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=_raise(_test),
    proofs={
        "the ridge raises the spectrum: n modes are learned of it": sum(m * (1 - f) for m, f, _ in _missed) - samples,
        "the balance of free compression at t = 0": _balance.subs(t, 0).subs(_here),
        "the residual on unseen points, (1 - n/M) E_test, is the slope in t": lambda: settled(
            (_by_slope - (1 - samples / points) * _test).subs(_ONE)
        ),
        "without ridge and noise the error over all points is that of independent samples": (
            (1 - samples / points) * _test - samples / _spread * missed_power
        ).subs({ridge: 0, noise: 0}),
    },
    call=_call,
    read=lambda curve: curve.test_error,
    source=_SOURCE,
)

# Residuals on the seen points are ridge (K_SS + ridge)^{-1} y = ridge Z y; Z^2 = - dZ/dridge and Z = (K + omega)^{-1}.
_omega_slope = -(sp.diff(_balance, ridge) / sp.diff(_balance, w)).subs(t, 0).subs(_here) * -((points * kappa) ** 2)
_seen = (
    ridge**2
    / samples
    * _omega_slope
    * sum((points * p + m * noise) / (points * (lam + kappa)) ** 2 for m, lam, p in LEVELS)
)

training_error = Formula(
    title="Error on the seen points of a finite domain",
    backs="theory.kernels.finite_domain.domain_curve",
    symbol=sp.Function("E_train")(n),
    arguments=_ARGUMENTS,
    domain=_DOMAIN,
    expression=_raise(_train),
    proofs={"mean square of ridge Z y": lambda: settled((_seen - _train).subs(_ONE))},
    call=_call,
    read=lambda curve: curve.training_error,
    source=_SOURCE,
)

# Points that know nothing of each other, K = diag(k_1, k_2): the self-energies are explicit, and so is the truth.
k1, k2, y1, y2, fraction = sp.symbols("k_1 k_2 y_1 y_2 alpha", positive=True)


def _alone(k):
    """Self-energy of a point that is correlated with no other."""
    return (ridge + (1 - fraction) * k) / fraction


def _weight(k, right):
    """J^{-1} right, where J = g - (omega - ridge) g^2 is diagonal."""
    g = 1 / (k + _alone(k))
    return right(g) / (g - (_alone(k) - ridge) * g**2) * g**2


_pointwise_train = ridge**2 / (2 * fraction) * sum(_weight(k, lambda g: g) * y**2 for k, y in ((k1, y1), (k2, y2)))

pointwise = Formula(
    title="Error on the seen points of a domain without correlations",
    backs="theory.kernels.finite_domain.pointwise_curve",
    symbol=sp.Function("E_train")(n),
    arguments=(fraction, k1, k2, y1, y2, ridge),
    domain={
        fraction: Interval(0.05, 0.95),
        k1: Interval(0.1, 10, log=True),
        k2: Interval(0.1, 10, log=True),
        y1: Interval(0.1, 2),
        y2: Interval(0.1, 2),
        ridge: Interval(1e-2, 10, log=True),
    },
    expression=_pointwise_train,
    proofs={
        "the self-energy": (_alone(k1) - ridge) / (k1 + _alone(k1)) - (1 - fraction),
        "each label is shrunk on its own, by ridge / (k + ridge)": _pointwise_train
        - ((ridge * y1 / (k1 + ridge)) ** 2 + (ridge * y2 / (k2 + ridge)) ** 2) / 2,
        "an unseen label is missed in full": fraction * _weight(k1, lambda g: 1 / g) - 1,
    },
    call=lambda f, k1, k2, y1, y2, ridge: (2 * f, np.diag([k1, k2]), np.array([y1, y2]), ridge),
    read=lambda curve: curve.training_error,
    source="Coherent potential approximation (Soven 1967)",
)
