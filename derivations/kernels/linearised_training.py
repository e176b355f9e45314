"""Training of networks that are linear in their weights, textbook forms."""

import jax.numpy as jnp
import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, lam, rho, lr, k = sp.symbols("t lambda rho eta k", positive=True)
SAMPLES = 5
MODE = {lam: Interval(1e-6, 50, log=True), rho: Interval(1e-6, 3, log=True)}

# One mode. The weights move by J^T a, so that f = f_0 + lam a, and the loss has grad_f L = c (f - y). Per unit of
# y - f_0: da/dt = c (1 - lam a) - rho a. The loss is (1/2P) sum |y - f|^2, c = 1/P.
c = sp.Rational(1, SAMPLES)
_rate = c * lam + rho


def _velocity(a, factor=c):
    return factor * (1 - lam * a) - rho * a


_flow = c * (1 - sp.exp(-_rate * t)) / _rate

flow_filter = Formula(
    title="Spectral filter of gradient flow with weight decay towards the start",
    backs="theory.kernels.linearised_training.flow_filter",
    symbol=sp.Function("g_t")(lam),
    arguments=(t, lam, rho),
    domain={t: Interval(1e-6, 1e3), **MODE},
    expression=_flow,
    proofs={
        "da/dt = c (1 - lam a) - rho a": sp.diff(_flow, t) - _velocity(_flow),
        "a(0) = 0": _flow.subs(t, 0),
        "a -> 1/(lam + rho/c): ridge regression": sp.limit(_flow, t, sp.oo) - 1 / (lam + rho / c),
        "a -> c t at lam = rho = 0": lambda: sp.limit(sp.limit(_flow, rho, 0), lam, 0) - c * t,
    },
    call=lambda t, lam, rho: (t, lam, SAMPLES, "mean_half", rho),
    source="Lee et al. 2019, section 2.2",
)

# The loss (1/P) sum |y - f|^2, c = 2/P.
_twice = 2 * c
_mean = (1 - sp.exp(-_twice * lam * t)) / lam

flow_filter_of_the_mean = Formula(
    title="Spectral filter of gradient flow on the mean squared error",
    backs="theory.kernels.linearised_training.flow_filter",
    symbol=sp.Function("g_t")(lam),
    arguments=(t, lam),
    domain={t: Interval(1e-6, 1e3), lam: MODE[lam]},
    expression=_mean,
    proofs={"da/dt = (2/P)(1 - lam a)": sp.diff(_mean, t) - _twice * (1 - lam * _mean), "a(0) = 0": _mean.subs(t, 0)},
    call=lambda t, lam: (t, lam, SAMPLES, "mean"),
    source="Lee et al. 2019, section 2.2",
)

_descent = c * (1 - (1 - lr * _rate) ** k) / _rate

descent_filter = Formula(
    title="Spectral filter of gradient descent",
    backs="theory.kernels.linearised_training.descent_filter",
    symbol=sp.Function("g_k")(lam),
    arguments=(k, lam, rho, lr),
    domain={k: Interval(0, 300), lam: MODE[lam], rho: Interval(1e-6, 1, log=True), lr: Interval(1e-6, 0.3, log=True)},
    expression=_descent.subs(k, sp.floor(k)),
    proofs={
        "a_{k+1} = a_k + lr (c (1 - lam a_k) - rho a_k)": (
            sp.expand_power_base(sp.powsimp(sp.expand(_descent.subs(k, k + 1) - _descent - lr * _velocity(_descent))))
        ),
        "a_0 = 0": _descent.subs(k, 0),
        "gradient flow as lr -> 0": lambda: (
            sp.limit(_descent.subs({k: t / lr, lam: 2, rho: 1}), lr, 0) - _flow.subs({lam: 2, rho: 1})
        ),
    },
    call=lambda k, lam, rho, lr: (np.floor(k), lam, SAMPLES, lr, "mean_half", rho),
    source="Lee et al. 2019, section 2.2, with steps of finite size",
)

_edge = 2 / _rate

largest_stable_lr = Formula(
    title="Largest stable learning rate of gradient descent",
    backs="theory.kernels.linearised_training.largest_stable_lr",
    symbol=sp.Symbol("eta_max"),
    arguments=(lam, rho),
    domain=MODE,
    expression=_edge,
    proofs={"there a step reflects the residual: 1 - lr (c lam + rho) = -1": 1 - _edge * _rate + 1},
    call=lambda lam, rho: (lam, SAMPLES, "mean_half", rho),
    source="Lee et al. 2019, section 2.2",
)

# Two training points and one test point. The kernel of training points is R(angle) diag(l_1, l_2) R(angle)^T.
l1, l2, angle = sp.symbols("l_1 l_2 alpha", positive=True)
h1, h2, y1, y2 = sp.symbols("h_1 h_2 y_1 y_2", real=True)
k11, k22, k33, k12, k13, k23 = sp.symbols("K_11 K_22 K_33 K_12 K_13 K_23", real=True)
s2 = sp.Symbol("sigma^2", positive=True)
_turn = sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])
_theta = _turn * sp.diag(l1, l2) * _turn.T
_reach = sp.Matrix([[h1, h2]])
_y = sp.Matrix([y1, y2])
_prior = sp.Matrix([[k11, k12], [k12, k22]])
_prior_cross = sp.Matrix([[k13, k23]])
_half = sp.Rational(1, 2)


def _decay(entry):
    return _turn * sp.diag(entry(l1), entry(l2)) * _turn.T


_a = _reach * _decay(lambda v: (1 - sp.exp(-v * t / 2)) / v)
_mean = (_a * _y)[0]
_variance = k33 + (_a * (_prior + s2 * sp.eye(2)) * _a.T)[0] - 2 * (_a * _prior_cross.T)[0]


def _moments():
    """E[(f_0(x) + A (y + noise - f_0(X)))^2] - mean^2, with E over f_0 and the noise entered by hand."""
    f1, f2, f3, e1, e2, a1, a2 = sp.symbols("f_1 f_2 f_3 e_1 e_2 a_1 a_2")
    square = sp.expand((f3 + a1 * (e1 - f1) + a2 * (e2 - f2)) ** 2)
    second = {(f1, f1): k11, (f2, f2): k22, (f3, f3): k33, (f1, f2): k12, (f1, f3): k13, (f2, f3): k23}
    second |= {(e1, e1): s2, (e2, e2): s2}
    poly = sp.Poly(square, f1, f2, f3, e1, e2)
    average = 0
    for powers, coefficient in poly.terms():
        pair = tuple(v for v, p in zip(poly.gens, powers, strict=True) for _ in range(p))
        average += coefficient * second.get(pair, 0)
    return sp.expand(average.subs({a1: _a[0], a2: _a[1]}) - _variance)


def _setting(t, l1, l2, angle, h1, h2, *rest):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ntk = ((turn * [l1, l2]) @ turn.T, np.array([[h1, h2]]), np.eye(1))
    return t, ntk, rest


def _mean_call(*numbers):
    t, ntk, y = _setting(*numbers)
    return t, ntk, (np.eye(2), np.zeros((1, 2)), np.eye(1)), np.array(y)


def _variance_call(*numbers):
    t, ntk, (k11, k22, k33, k12, k13, k23) = _setting(*numbers)
    nngp = (np.array([[k11, k12], [k12, k22]]), np.array([[k13, k23]]), np.array([[k33]]))
    return t, ntk, nngp, np.zeros(2)


_KERNEL = {
    t: Interval(0, 50),
    l1: Interval(0.1, 5),
    l2: Interval(0.1, 5),
    angle: Interval(0, 1.5),
    h1: Interval(0.1, 2),
    h2: Interval(0.1, 2),
}

mean = Formula(
    title="Mean output at a test point, two training points",
    backs="theory.kernels.linearised_training.flow_outputs",
    symbol=sp.Function("mu")(t),
    arguments=(t, l1, l2, angle, h1, h2, y1, y2),
    # Compared to an absolute accuracy.
    domain={**_KERNEL, y1: Interval(-1, 1), y2: Interval(-1, 1)},
    expression=_mean + 10,
    proofs={
        # With f_test = A_t (y - f_0) and f_train - y = e^{-Theta t/P} (f_0 - y).
        "dA/dt = (1/P) Theta(x, X) e^{-Theta t / P}": sp.diff(_a, t)
        - _half * _reach * _decay(lambda v: sp.exp(-v * t / 2)),
        "e^{-Theta t/P} obeys its equation": sp.diff(_decay(lambda v: sp.exp(-v * t / 2)), t)
        + _half * _theta * _decay(lambda v: sp.exp(-v * t / 2)),
        "A_0 = 0": _a.subs(t, 0),
        "A -> Theta(x, X) Theta^{-1}": lambda: _a.applyfunc(lambda e: sp.limit(e, t, sp.oo)) * _theta - _reach,
    },
    call=_mean_call,
    read=lambda outputs: outputs.mean[0] + 10,
    source="Lee et al. 2019, eq. 14",
)

variance = Formula(
    title="Variance of the output at a test point, two training points, noise afresh on every network's targets",
    backs="theory.kernels.linearised_training.flow_outputs",
    symbol=sp.Function("Sigma")(t),
    arguments=(t, l1, l2, angle, h1, h2, k11, k22, k33, k12, k13, k23),
    domain={
        **_KERNEL,
        **{v: Interval(0.5, 2) for v in (k11, k22)},
        k33: Interval(50, 100),
        **{v: Interval(-0.5, 0.5) for v in (k12, k13, k23)},
    },
    expression=_variance.subs(s2, sp.Rational(3, 10)),
    proofs={"the second moment of f_0(x) + A (y + noise - f_0(X))": _moments},
    call=_variance_call,
    keywords={"noise": 0.3},
    read=lambda outputs: outputs.covariance[0, 0],
    source="Lee et al. 2019, eq. 15",
)

_gain = _reach * _decay(lambda v: 1 / (v + s2))


def _sampled():
    """Readout training, Theta = K, ends at the posterior where ridge and noise on the targets are equal."""
    variance = k33 + (_gain * (_theta + s2 * sp.eye(2)) * _gain.T)[0] - 2 * (_gain * _reach.T)[0]
    return variance - (k33 - (_gain * _reach.T)[0])


nngp_posterior = Formula(
    title="Variance of the posterior of an infinitely wide network, two training points",
    backs="theory.kernels.linearised_training.nngp_posterior",
    symbol=sp.Symbol("Sigma"),
    arguments=(l1, l2, angle, h1, h2, k33, s2),
    domain={
        **{v: _KERNEL[v] for v in (l1, l2, angle, h1, h2)},
        k33: Interval(100, 200),
        s2: Interval(0.01, 1),
    },
    expression=k33 - (_gain * _reach.T)[0],
    proofs={
        "the gain is K(x, X) (K + noise)^{-1}": _gain * (_theta + s2 * sp.eye(2)) - _reach,
        "readout training with noisy targets ends there": _sampled,
    },
    call=lambda l1, l2, angle, h1, h2, k33, s2: (
        (*_setting(0, l1, l2, angle, h1, h2)[1][:2], jnp.array([[k33]])),
        np.zeros(2),
        s2,
    ),
    read=lambda outputs: outputs.covariance[0, 0],
    source="Lee et al. 2018, eqs. 8 and 9; Lee et al. 2019, section 2.3",
)
