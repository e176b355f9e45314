"""Cross-entropy of one sample in the linear regime, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, rate, m0 = sp.symbols("t r m_0", positive=True)
C = sp.Symbol("C", positive=True)
m = sp.Function("m")(t)
margin = sp.Symbol("m", real=True)


def _law(classes, end, start):
    """C r t / (C - 1), minus the time from one margin to another."""
    return (
        classes * rate * t / (classes - 1) - (end + sp.exp(end) / (classes - 1)) + start + sp.exp(start) / (classes - 1)
    )


def _speed(classes):
    """dm/dt = C r (1 - p) / (C - 1), p = 1/(1 + (C-1) e^{-m})."""
    return classes * rate / (classes - 1) * (1 - 1 / (1 + (classes - 1) * sp.exp(-margin)))


def _slope():
    """dt/dm from the law, times dm/dt."""
    law = -_law(C, margin, m0)
    return sp.simplify(sp.diff(law, margin) * _speed(C) / (C * rate / (C - 1)) - 1)


def _softmax():
    """Three classes, f = (m, 0, 0) up to a common shift: rate of f_1 - f_2 under df_c/dt = r (y_c - p_c)."""
    weights = [sp.exp(margin), 1, 1]
    p = [w / sum(weights) for w in weights]
    return rate * ((1 - p[0]) - (0 - p[1])) - _speed(3)


def _gradient():
    """grad_f of -sum_c y_c ln p_c is p - y, where the y sum to 1."""
    f, y = sp.symbols("f_1:4", real=True), sp.symbols("y_1:3", real=True)
    y = (*y, 1 - sum(y))
    total = sum(sp.exp(v) for v in f)
    loss = -sum(label * (v - sp.log(total)) for label, v in zip(y, f, strict=True))
    return sp.Matrix([sp.diff(loss, v) - (sp.exp(v) / total - label) for label, v in zip(y, f, strict=True)])


def _margin(classes):
    return Formula(
        title=f"Margin of one sample under cross-entropy, {classes} classes",
        backs="theory.kernels.cross_entropy.softmax_margin",
        symbol=m,
        arguments=(t, rate, m0),
        domain={t: Interval(0, 1e6), rate: Interval(1e-3, 10, log=True), m0: Interval(0.01, 5)},
        law=_law(classes, m, m0),
        proofs={
            "dm/dt = C r (1 - p) / (C - 1)": _slope,
            "the rate of a softmax of three": _softmax,
            "the gradient of the cross-entropy": _gradient,
            "no time has passed at m_0": _law(C, m0, m0).subs(t, 0),
        },
        keywords={"classes": classes},
        source="df/dt = -Theta grad_f L of Lee et al. 2019, eq. 5, for one sample",
    )


margin_of_two = _margin(2)
margin_of_ten = _margin(10)

f1, f2 = sp.symbols("f_1 f_2", real=True)
_binary = sp.log(1 + sp.exp(-f1)) / 2 + sp.log(1 + sp.exp(f2)) / 2

logistic = Formula(
    title="Logistic loss of two samples of opposite labels",
    backs="theory.kernels.cross_entropy.logistic",
    symbol=sp.Symbol("L"),
    arguments=(f1, f2),
    domain={f1: Interval(-30, 30), f2: Interval(-30, 30)},
    expression=_binary,
    proofs={
        "the cross-entropy of the outputs (f, 0)": _binary
        + (sp.log(sp.exp(f1) / (sp.exp(f1) + 1)) + sp.log(1 / (sp.exp(f2) + 1))).expand(force=True) / 2
        - (sp.log(1 + sp.exp(-f1)) + f1 - sp.log(1 + sp.exp(f1))) / 2,
        "ln(1 + e^f) = f + ln(1 + e^{-f})": sp.exp(sp.log(1 + sp.exp(-f1)) + f1).expand() - (1 + sp.exp(f1)),
    },
    call=lambda f1, f2: (np.array([f1, f2]), np.array([1.0, -1.0])),
    source="the cross-entropy of two classes with one output",
)

cross_entropy = Formula(
    title="Cross-entropy of one sample of two classes",
    backs="theory.kernels.cross_entropy.cross_entropy",
    symbol=sp.Symbol("L"),
    arguments=(f1, f2),
    domain={f1: Interval(-20, 20), f2: Interval(-20, 20)},
    expression=-(sp.Rational(3, 10) * f1 + sp.Rational(7, 10) * f2) + sp.log(sp.exp(f1) + sp.exp(f2)),
    proofs={"its gradient is p - y": _gradient},
    call=lambda f1, f2: (np.array([[f1, f2]]), np.array([[0.3, 0.7]])),
    source="Lee et al. 2019, section 2.4",
)
