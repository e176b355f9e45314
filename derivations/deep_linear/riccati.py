"""The matrix Riccati flow of balanced networks, textbook form, for two hidden directions on two eigenmodes."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, mu1, mu2 = sp.symbols("t mu_1 mu_2", real=True)
q11, q12, q21, q22 = _entries = sp.symbols("q_11 q_12 q_21 q_22", real=True)
F = sp.diag(mu1, mu2)
Q0 = sp.Matrix([[q11, q12], [q21, q22]])

_growth = sp.diag(sp.exp(mu1 * t), sp.exp(mu2 * t))
_integral = sp.diag(*[(sp.exp(2 * mu * t) - 1) / (2 * mu) for mu in (mu1, mu2)])
_linear = Q0 * _growth
_inner = sp.eye(2) + Q0 * _integral * Q0.T
# The closed form of the inverse, written out: SymPy's own takes seconds to find it.
_inverse = sp.Matrix([[_inner[1, 1], -_inner[0, 1]], [-_inner[1, 0], _inner[0, 0]]]) / _inner.det()
_P = _linear.T * _inverse * _linear
_row = Q0[0, :] * _growth
_p = _row.T * _row / (1 + (Q0[0, :] * _integral * Q0[0, :].T)[0])


# F given by its eigenvalues: the frame is the identity.
_DIAGONAL = (lambda mu: mu[:, None] * np.eye(2), lambda mu: (mu, np.eye(2)))


def _weighed(p):
    """All entries of P in one number without cancellation: |P_12| <= (P_11 + P_22) / 2."""
    return p[0, 0] + p[1, 1] + p[0, 1]


flow = Formula(
    title="The Riccati flow of two hidden directions on two modes",
    backs="theory.deep_linear.riccati.riccati_factor",
    symbol=sp.Function("P")(t),
    arguments=(t, mu1, mu2, *_entries),
    domain={
        t: Interval(0, 10),
        mu1: Interval(0.01, 3, log=True),
        mu2: Interval(-3, -0.01),
        **{q: Interval(-1, 1) for q in _entries},
    },
    expression=_weighed(_P),
    proofs={
        # X = Q0 e^{Ft} and K = I + Q0 J Q0^T; with these two, P = X^T K^{-1} X solves the flow.
        "dX/dt = X F": lambda: sp.diff(_linear, t) - _linear * F,
        "dK/dt = X X^T": lambda: sp.diff(_inner, t) - _linear * _linear.T,
        "dP/dt = F P + P F - P^2 for one hidden direction": lambda: sp.diff(_p, t) - F * _p - _p * F + _p * _p,
        "P(0) = Q0^T Q0": lambda: _P.subs(t, 0) - Q0.T * Q0,
    },
    call=lambda t, a, b, *q: (_DIAGONAL, np.array([a, b]), np.array(t), np.array(q).reshape(2, 2)),
    read=lambda result: _weighed(result[0].T @ result[0]),
    source="Fukumizu 1998, the solution of the matrix Riccati equation",
)

both_growing = Formula(
    title="The Riccati flow of two modes that both grow",
    backs="theory.deep_linear.riccati.riccati_factor",
    symbol=sp.Function("P")(t),
    arguments=(t, mu1, mu2, *_entries),
    domain=flow.domain | {mu2: Interval(0.01, 3, log=True)},
    expression=_weighed(_P),
    proofs=flow.proofs,
    call=flow.call,
    read=flow.read,
    source=flow.source,
)

_o = sp.Matrix([sp.cos(t), sp.sin(t)])
_settled = 2 * mu1 * _o * _o.T
_F = mu1 * _o * _o.T + mu2 * (sp.eye(2) - _o * _o.T)

limit = Formula(
    title="The limit of the Riccati flow of one hidden direction",
    backs="theory.deep_linear.riccati.riccati_limit",
    symbol=sp.Symbol("P_infinity"),
    arguments=(mu1, mu2, q11, q12),
    domain={
        mu1: Interval(0.1, 3),
        mu2: Interval(-3, 0.05),
        q11: Interval(0.01, 1),
        q12: Interval(-1, 1),
    },
    expression=2 * mu1,
    proofs={"F P + P F = P^2": lambda: _F * _settled + _settled * _F - _settled * _settled},
    call=lambda a, b, *q: (_DIAGONAL, np.array([a, b]), np.array([q])),
    read=lambda z: _weighed(z.T @ z),
    source="the fixed points of the Riccati flow",
)
