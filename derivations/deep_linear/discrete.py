"""Gradient descent in discrete time, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

k, eta, lam = sp.symbols("k eta lambda", positive=True)
a1, a2, a3, error, gap = sp.symbols("a_1 a_2 a_3 e g", positive=True)

_factor = (1 - eta * lam) ** k
_factor_proofs = {
    "one more step": lambda: sp.expand_power_exp(_factor.subs(k, k + 1)) - (1 - eta * lam) * _factor,
    "small steps over t = eta k: the flow": lambda: sp.limit(_factor.subs(k, 1 / eta), eta, 0) - sp.exp(-lam),
}

below_edge = Formula(
    title="Error after k steps of gradient descent on a quadratic",
    backs="theory.deep_linear.discrete.descent_factor",
    symbol=sp.Function("x")(k),
    arguments=(k, eta, lam),
    domain={k: Interval(0, 1e5), eta: Interval(1e-6, 1, log=True), lam: Interval(1e-3, 0.9)},
    expression=_factor.subs(k, sp.floor(k)),
    proofs=_factor_proofs,
    call=lambda k, eta, lam: (int(k), eta, lam),
    source="linear recursion",
)

# Close to eta lam = 1 the rounding of the product alone moves the result by more than the comparison allows.
oscillating = Formula(
    title="Error after k steps of gradient descent on a quadratic, with alternating sign",
    backs="theory.deep_linear.discrete.descent_factor",
    symbol=sp.Function("x")(k),
    arguments=(k, eta, lam),
    domain={k: Interval(0, 1e3), eta: Interval(1, 1.2), lam: Interval(1.2, 2.2)},
    expression=_factor.subs(k, sp.floor(k)),
    proofs=_factor_proofs,
    call=lambda k, eta, lam: (int(k), eta, lam),
    source="linear recursion",
)


def _scalar_step():
    """Change of a_2^2 - a_1^2 of three scalar layers in one step, less the formula."""
    layers = sp.Matrix([a1, a2, a3])
    forces = [error * a2 * a3, error * a1 * a3, error * a1 * a2]
    new = [a + eta * f for a, f in zip(layers, forces, strict=True)]
    change = (new[1] ** 2 - new[0] ** 2) - (a2**2 - a1**2)
    return sp.expand(change + eta**2 * error**2 * a3**2 * (a2**2 - a1**2))


def _matrix_step():
    """Change of W_2^T W_2 - W_1 W_1^T in one step of two layers of two-by-two weights, less the formula."""
    w1, w2, e = (sp.Matrix(2, 2, sp.symbols(f"{name}:4", real=True)) for name in ("p", "q", "r"))
    new1, new2 = w1 + eta * w2.T * e, w2 + eta * e * w1.T
    change = (new2.T * new2 - new1 * new1.T) - (w2.T * w2 - w1 * w1.T)
    return (change - eta**2 * (w1 * e.T * e * w1.T - w2.T * e * e.T * w2)).expand()


# The layers are given by their difference `gap` and the target by the error, so that nothing cancels.
_layers = {a2: a1 + gap}
drift = Formula(
    title="Drift of the balance of three layers in one step",
    backs="theory.deep_linear.discrete.balance_drift",
    symbol=sp.Symbol("Delta"),
    arguments=(a1, gap, a3, error, eta),
    domain={
        a1: Interval(0.1, 2),
        gap: Interval(0.1, 2),
        a3: Interval(0.1, 2),
        error: Interval(0.1, 2),
        eta: Interval(1e-4, 1, log=True),
    },
    expression=(-(eta**2) * error**2 * a3**2 * (a2**2 - a1**2)).subs(_layers),
    proofs={"scalar layers": _scalar_step, "two layers of matrices": _matrix_step},
    call=lambda a1, gap, a3, e, eta: (
        [np.array([[a]]) for a in (a1, a1 + gap, a3)],
        eta,
        np.eye(1),
        np.array([[a1 * (a1 + gap) * a3 + e]]),
    ),
    read=lambda drifts: drifts[0][0, 0],
    source="exact step of gradient descent",
)

factor = Formula(
    title="Factor by which a step shrinks the imbalance of two of three layers",
    backs="theory.deep_linear.discrete.balance_factor",
    symbol=sp.Symbol("f"),
    arguments=(a1, a2, a3, error, eta),
    domain={
        a1: Interval(-2, 2),
        a2: Interval(-2, 2),
        a3: Interval(-2, 2),
        error: Interval(0.1, 2),
        eta: Interval(1e-4, 0.2, log=True),
    },
    expression=1 - eta**2 * error**2 * a3**2,
    proofs={"scalar layers": _scalar_step},
    call=lambda a1, a2, a3, e, eta: (np.array([a1, a2, a3]), a1 * a2 * a3 + e, eta),
    read=lambda factors: factors[0, 1],
    source="exact step of gradient descent",
)
