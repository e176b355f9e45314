"""Mean-field dynamics of a linear network of one hidden layer, from its neurons."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, gamma, lam, x, lr = sp.symbols("t gamma lambda x eta", positive=True)
target, y = sp.symbols("Y y", real=True)
SIZES = {gamma: Interval(1e-3, 30, log=True), lr: Interval(1e-3, 0.3, log=True), x: Interval(0.3, 2)}

_g = gamma / sp.sqrt(lam)
_c = _g * target
_root = sp.sqrt(1 + _c**2)
_r = _c / (1 + _root)
_decay = sp.exp(-2 * lam * t * _root)
_q = _r * (1 - _decay) / (1 + _r**2 * _decay)
_aligned = 2 * _q / (_g * (1 - _q**2))


def _flow():
    """df/dt - 2 lam sqrt(1 + (g f)^2) (Y - f), with sqrt(1 + (g f)^2) = (1 + q^2) / (1 - q^2) and E for the decay."""
    e, g, w, q = sp.symbols("E g w q", positive=True)
    # With w = sqrt(1 + c^2), c^2 = w^2 - 1, r^2 = (w - 1) / (w + 1), and dE/dt = -2 lam w E.
    r = sp.sqrt((w - 1) / (w + 1))
    of_time = r * (1 - e) / (1 + r**2 * e)
    f = 2 * q / (g * (1 - q**2))
    assert sp.simplify(((1 + q**2) / (1 - q**2)) ** 2 - 1 - (g * f) ** 2) == 0
    speed = sp.diff(f, q).subs(q, of_time) * sp.diff(of_time, e) * (-2 * lam * w * e)
    drive = (2 * lam * (1 + q**2) / (1 - q**2) * (sp.sqrt(w**2 - 1) / g - f)).subs(q, of_time)
    return sp.simplify(((speed - drive) / sp.sqrt(w**2 - 1)).subs(w, sp.Symbol("v", positive=True) + 1))


def _reduction():
    """The moments along the target obey the equation of f = sqrt(lam) beta, with M = s = sqrt(1 + gamma^2 beta^2)."""
    beta, s = sp.symbols("beta s", positive=True)
    v = sp.sqrt(lam) * (target - sp.sqrt(lam) * beta)
    beta_rate, s_rate = 2 * s * v, 2 * gamma**2 * beta * v
    conserved = s * s_rate - gamma**2 * beta * beta_rate
    f_rate = sp.sqrt(lam) * beta_rate.subs(s, sp.sqrt(1 + gamma**2 * beta**2))
    f = sp.sqrt(lam) * beta
    return sp.Matrix([conserved, f_rate - 2 * lam * sp.sqrt(1 + (_g * f) ** 2) * (target - f)])


aligned_output = Formula(
    title="Output of an infinitely wide linear network on an aligned target",
    backs="theory.kernels.mean_field.aligned_output",
    symbol=sp.Function("f")(t),
    arguments=(t, target, gamma, lam),
    domain={
        t: Interval(1e-6, 1e2, log=True),
        target: Interval(1e-3, 5),
        gamma: SIZES[gamma],
        lam: Interval(1e-2, 10, log=True),
    },
    expression=_aligned,
    proofs={
        "df/dt = 2 lam sqrt(1 + (g f)^2) (Y - f)": _flow,
        "the moments' flow": _reduction,
        "f(0) = 0": _aligned.subs(t, 0),
        "f -> Y": lambda: sp.simplify((2 * _r / (_g * (1 - _r**2))) - target),
        "gamma -> 0 is the tangent-kernel flow": lambda: (
            sp.limit(_aligned, gamma, 0) - target * (1 - sp.exp(-2 * lam * t))
        ),
    },
    source="Bordelon & Pehlevan 2022 (arXiv:2205.09653), one linear hidden layer, solved here",
)


def _step(moments, size):
    """One step of the moments (M, beta, s) for one input x, one sample, one output."""
    m, beta, s = moments
    v = size * x * (y - x * beta)
    return (
        m + gamma**2 * (2 * beta * v + v**2 * s),
        beta + (m + s) * v + gamma**2 * v**2 * beta,
        s + gamma**2 * (2 * beta * v + v**2 * m),
    )


def _from_neurons():
    """The same step from two explicit neurons, f = (1 / (2 gamma)) sum a w x, at the rate 2 gamma^2 lr."""
    w, a = sp.Matrix(sp.symbols("w_1 w_2", real=True)), sp.Matrix(sp.symbols("a_1 a_2", real=True))
    loss = (y - w.dot(a) * x / (2 * gamma)) ** 2 / 2

    def moments(w, a):
        return w.dot(w) / 2, w.dot(a) / (2 * gamma), a.dot(a) / 2

    moved = [z - 2 * gamma**2 * lr * sp.Matrix([sp.diff(loss, e) for e in z]) for z in (w, a)]
    return sp.expand(sp.Matrix(moments(*moved)) - sp.Matrix(_step(moments(w, a), lr)))


def _drift():
    """s - M is conserved by the flow: its change is of second order in the step."""
    before = sp.symbols("M beta s", real=True)
    m, _, s = _step(before, lr)
    return sp.series(sp.expand(s - m - before[2] + before[0]), lr, 0, 2).removeO()


_two_steps = _step(_step((1, 0, 1), lr), lr)

linear_descent = Formula(
    title="Map of an infinitely wide linear network after two steps",
    backs="theory.kernels.mean_field.linear_descent",
    symbol=sp.Symbol("beta_2"),
    arguments=(x, y, gamma, lr),
    domain={**SIZES, gamma: Interval(1e-3, 3, log=True), y: Interval(0.3, 2)},
    expression=_two_steps[1],
    proofs={"moments of explicit neurons": _from_neurons, "s - M to first order": _drift},
    call=lambda x, y, gamma, lr: (np.zeros((2, 1), int), np.array([[x]]), np.array([[y]]), gamma, lr),
    read=lambda moments: moments.map[-1, 0, 0],
    source="Yang & Hu 2021 (arXiv:2011.14522), the one-hidden-layer linear limit",
)
