"""Mean field of a nonlinear network: its output by responses (Stein's lemma), on one pair of sampled neurons."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

u, rho, y, gamma, lr, k, h = sp.symbols("u rho y gamma eta k h", real=True)

# A smooth activation that is neither even nor odd; its averages are those of polynomials.
PHI = h + h**2 / 4


def phi(value):
    return PHI.subs(h, value)


def slope(value):
    return sp.diff(PHI, h).subs(h, value)


def moved(signal):
    """Pre-activation of a neuron after one step: it has seen the error y of a network that was silent."""
    start = sp.sqrt(k) * u
    return start + gamma * lr * k * y * slope(start) * signal


def by_responses(signal):
    """What one neuron adds to the output after one step, by its response to the noise behind its signal."""
    start = sp.sqrt(k) * u
    return lr * y * (k * slope(moved(signal)) * slope(start) + phi(moved(signal)) * phi(start))


def _gaussian(polynomial):
    """Average over independent standard normal u and rho."""
    total = 0
    for powers, coefficient in sp.Poly(sp.expand(polynomial), u, rho).terms():
        total += coefficient * sp.prod([sp.factorial2(n - 1) if n % 2 == 0 else 0 for n in powers])
    return total


def _stein():
    """<z phi(h)> / gamma of the whole population is the same: the output as the network computes it."""
    start = sp.sqrt(k) * u
    readout = rho + gamma * lr * y * phi(start)
    return sp.expand(_gaussian(by_responses(rho)) - _gaussian(readout * phi(moved(rho))) / gamma)


one_step = Formula(
    title="Output after one step, averaged over a pair of neurons",
    backs="theory.lazy_rich.mean_field_sampled.sampled_mean_field",
    symbol=sp.Symbol("f_1"),
    arguments=(u, rho, y, gamma, lr, k),
    domain={
        u: Interval(-2, 2),
        rho: Interval(-2, 2),
        y: Interval(0.2, 2),
        gamma: Interval(0, 2),
        lr: Interval(0.01, 0.5),
        k: Interval(0.3, 1.5),
    },
    expression=(by_responses(rho) + by_responses(-rho)) / 2 + 10,
    proofs={"Stein's lemma": _stein},
    call=lambda u, rho, y, gamma, lr, k: (
        np.array([[[[[u], [0.0]]] * 2, [[[rho], [0.0]], [[-rho], [0.0]]]]]),
        np.sqrt(np.array([[k]])),
        np.array([y]),
        gamma,
        lr,
        _phi,
    ),
    read=lambda field: field.outputs[-1, 0] + 10,
    source="Bordelon & Pehlevan 2022 (arXiv:2205.09653), in discrete time",
)


def _phi(value):
    return value + value**2 / 4
