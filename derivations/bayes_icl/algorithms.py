"""Rules that filter a spectrum, in one dimension and by two pairs; the weights behind predictions."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

x0, x1, y0, y1, q = sp.symbols("x_0 x_1 y_0 y_1 q", real=True)
eta, lam = sp.symbols("eta lambda", positive=True)
DOMAIN = {
    x0: Interval(0.2, 2),
    x1: Interval(-2, -0.2),
    y0: Interval(-2, 2),
    y1: Interval(-2, 2),
    q: Interval(-2, 2),
    eta: Interval(0.01, 0.2),
    lam: Interval(0.01, 3),
}
S, XY = x0**2 + x1**2, x0 * y0 + x1 * y1


def _call(x0, x1, y0, y1, q, *_):
    return np.array([[x0], [x1]]), np.array([y0, y1]), np.array([q])


def _descent():
    w = sp.Integer(0)
    for _ in range(3):
        w = w - eta * (x0 * (x0 * w - y0) + x1 * (x1 * w - y1))
    return sp.simplify(w - (1 - (1 - eta * S) ** 3) / S * XY)


def _ridge():
    w = sp.Symbol("w", real=True)
    slope = sp.diff((y0 - x0 * w) ** 2 + (y1 - x1 * w) ** 2 + lam * w**2, w)
    return sp.simplify(slope.subs(w, XY / (S + lam)))


def _minimum_norm():
    """Two coordinates and one pair: the smallest solution lies along the input."""
    w = sp.Matrix([x0, x1]) * y0 / S
    fits = (sp.Matrix([x0, x1]).T * w)[0] - y0
    other = (sp.Matrix([-x1, x0]).T * w)[0]
    return sp.Abs(sp.simplify(fits)) + sp.Abs(sp.simplify(other))


least_squares = Formula(
    title="Least squares from one pair of two coordinates",
    backs="theory.bayes_icl.algorithms.least_squares",
    symbol=sp.Symbol("yhat"),
    arguments=(x0, x1, y0, q),
    domain=DOMAIN,
    expression=(q * x0 + 2 * x1) * y0 / S,
    proofs={"fits, and has the least norm": _minimum_norm},
    call=lambda x0, x1, y0, q: (np.array([[x0, x1]]), np.array([y0]), np.array([q, 2.0])),
    source="standard",
)

ridge = Formula(
    title="Ridge regression, penalty 3/4",
    backs="theory.bayes_icl.algorithms.ridge",
    symbol=sp.Symbol("yhat"),
    arguments=(x0, x1, y0, y1, q),
    domain=DOMAIN,
    expression=(q * XY / (S + lam)).subs(lam, sp.Rational(3, 4)),
    proofs={"flat penalised error": _ridge},
    call=_call,
    keywords={"penalty": 0.75},
    source="Hoerl & Kennard 1970",
)

gradient_descent = Formula(
    title="Three steps of gradient descent, rate 1/8",
    backs="theory.bayes_icl.algorithms.gradient_descent",
    symbol=sp.Symbol("yhat"),
    arguments=(x0, x1, y0, y1, q),
    domain=DOMAIN,
    expression=(q * (1 - (1 - eta * S) ** 3) / S * XY).subs(eta, sp.Rational(1, 8)),
    proofs={"step by step": _descent},
    call=_call,
    keywords={"rate": 0.125, "steps": 3},
    source="Akyurek et al. 2023 (arXiv:2211.15661)",
)


def _one_pass():
    w = sp.Integer(0)
    for x, y in ((x0, y0), (x1, y1)):
        w = w + eta * (y - w * x) * x
    return sp.simplify(w - eta * (XY - eta * x0 * y0 * x1**2))


one_pass_sgd = Formula(
    title="One pass over two pairs, rate 1/8",
    backs="theory.bayes_icl.algorithms.one_pass_sgd",
    symbol=sp.Symbol("yhat"),
    arguments=(x0, x1, y0, y1, q),
    domain=DOMAIN,
    expression=(q * eta * (XY - eta * x0 * y0 * x1**2)).subs(eta, sp.Rational(1, 8)),
    proofs={"pair by pair": _one_pass},
    call=_call,
    keywords={"rate": 0.125},
    source="Akyurek et al. 2023 (arXiv:2211.15661)",
)

averaging = Formula(
    title="Mean of labels times inputs",
    backs="theory.bayes_icl.algorithms.averaging",
    symbol=sp.Symbol("yhat"),
    arguments=(x0, x1, y0, y1, q),
    domain=DOMAIN,
    expression=q * XY / 2,
    proofs={
        "right on white inputs": lambda: sp.simplify(
            (q * XY / 2).subs({y0: 5 * x0, y1: 5 * x1}).subs({x0: 1, x1: -1}) - 5 * q
        )
    },
    call=_call,
    source="Garg et al. 2022 (arXiv:2208.01066)",
)

# Predictions at the corners (1, 0), (0, 1), (1, 1) of a rule that is not linear.
f0, f1, f2 = sp.symbols("f_0 f_1 f_2", real=True)


def _normal_equations():
    points = sp.Matrix([[1, 0], [0, 1], [1, 1]])
    values = sp.Matrix([f0, f1, f2])
    w = (points.T * points).inv() * points.T * values
    return sp.simplify(w[0] - (2 * f0 - f1 + f2) / 3)


implicit = Formula(
    title="First weight behind three predictions",
    backs="theory.bayes_icl.algorithms.implicit_weights",
    symbol=sp.Symbol("w_0"),
    arguments=(f0, f1, f2),
    domain={name: Interval(-2, 2) for name in (f0, f1, f2)},
    expression=(2 * f0 - f1 + f2) / 3,
    proofs={"normal equations": _normal_equations},
    call=lambda *f: (np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array(f)),
    read=lambda found: found.w[0],
    source="Akyurek et al. 2023 (arXiv:2211.15661)",
)
