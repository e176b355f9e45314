"""Denoising score matching as regression, textbook forms."""

import jax.numpy as jnp
import numpy as np
import sympy as sp

from derivations.deep_linear.marchenko_pastur import ALPHA, alpha, g, lam, m
from derivations.formula import Formula, Interval

a, s, c, t, k = sp.symbols("a s c t k", positive=True)
x, r, mu, S, w0 = sp.symbols("x r mu S w_0", real=True)
nu, v = sp.symbols("nu v", positive=True)

_LEVEL = {a: Interval(0.2, 1), s: Interval(0.2, 2), c: Interval(0.2, 3)}
_SCORE = "Han, Razaviyayn & Xu 2024"
_ADVANI = "Advani & Saxe 2017, with the labels of denoising score matching"

# x = a x_0 + s z. Of a label y: Cov(y, x) and Var(y); E[y | x] = Cov x / Var(x), Var(y | x) = Var(y) - Cov^2 / Var(x).
_total = a**2 * c + s**2
_LABELS = {"score": (-1, 1 / s**2), "noise": (s, 1), "data": (a * c, c)}
_SIGNAL = {"score": 1 / _total, "noise": s**2 / _total, "data": a**2 * c**2 / _total}
_NOISE = {"score": a**2 * c / (s**2 * _total), "noise": a**2 * c / _total, "data": s**2 * c / _total}


def _labels(target):
    """Signal of the labels of a target; its proofs cover the noise and their ratio too."""
    covariance, variance = _LABELS[target]
    snr = a**2 * c / s**2 if target == "data" else s**2 / (a**2 * c)
    return {
        "the mean of y given x has this mean square": covariance**2 / _total - _SIGNAL[target],
        "the rest of the variance is label noise": sp.simplify(variance - covariance**2 / _total - _NOISE[target]),
        "signal over noise": sp.simplify(_SIGNAL[target] / _NOISE[target] - snr),
    }


signal_of_data = Formula(
    title="Mean square of what the label x_0 says about x, Gaussian data",
    backs="theory.kernels.score_matching.label_statistics",
    symbol=sp.Symbol("sigma_w^2"),
    arguments=(a, s, c),
    domain=_LEVEL,
    expression=_SIGNAL["data"],
    call=lambda *level: (level, "data"),
    read=lambda labels: labels.signal,
    proofs=_labels("data"),
    source="Tweedie's formula",
)

noise_of_score = Formula(
    title="Label noise of denoising score matching, Gaussian data",
    backs="theory.kernels.score_matching.label_statistics",
    symbol=sp.Symbol("sigma_epsilon^2"),
    arguments=(a, s, c),
    domain=_LEVEL,
    expression=_NOISE["score"],
    call=lambda *level: (level, "score"),
    read=lambda labels: labels.noise,
    proofs=_labels("score")
    | {
        "it is 1/s^2 - 1/sigma^2": _NOISE["score"] - (1 / s**2 - 1 / _total),
        "S = E[-z/s | x] = d ln p / dx": -x / _total - sp.diff(-(x**2) / (2 * _total), x),
    },
    source="Tweedie's formula, second order",
)

noise_of_noise = Formula(
    title="Spread of the noise z given the noised input",
    backs="theory.kernels.score_matching.label_statistics",
    symbol=sp.Symbol("sigma_epsilon^2"),
    arguments=(a, s, c),
    domain=_LEVEL,
    expression=_NOISE["noise"],
    call=lambda *level: (level, "noise"),
    read=lambda labels: labels.noise,
    proofs=_labels("noise"),
    source="Tweedie's formula, second order",
)

# Two samples, at +mu and -mu.
_mixture = sum(sp.exp(-((x - sign * a * mu) ** 2) / (2 * s**2)) for sign in (1, -1))
_two = (a * mu * sp.tanh(a * mu * x / s**2) - x) / s**2

memorised = Formula(
    title="The score that memorises two samples",
    backs="theory.kernels.score_matching.empirical_score",
    symbol=sp.Function("S_n")(x),
    arguments=(x, mu, a, s),
    # A level at which the two do not separate: elsewhere the score passes zero.
    domain={x: Interval(0.1, 3), mu: Interval(0.1, 0.5), a: Interval(0.1, 1), s: Interval(0.6, 2)},
    expression=_two,
    call=lambda x, mu, a, s: (np.array([[x]]), np.array([[mu], [-mu]]), a, s),
    read=lambda score: score[0, 0],
    proofs={
        "it is the slope of the log density": lambda: (sp.diff(sp.log(_mixture), x) - _two).rewrite(sp.exp),
    },
    source=_SCORE,
)

# One sample, one test point: gram k, cross r; the coefficient b of f(x) = r b obeys db/dt = y - k b.
_run = (1 - sp.exp(-k * t)) / k
_ROW = {
    t: Interval(0.01, 20),
    k: Interval(0.1, 3),
    r: Interval(0.1, 2),
    mu: Interval(0.1, 2),
    S: Interval(-2, -0.1),
    nu: Interval(0.1, 2),
}


def _row(t, k, r, mu, S, nu):
    return np.array([t]), np.array([[k]]), np.array([[r]]), np.array([[mu]]), np.array([[S]]), np.array([nu])


_FLOW = {
    "df/dt = -K (f - y) on the sample": sp.diff(k * _run * mu, t) + k * (k * _run * mu - mu),
    "from f = 0": _run.subs(t, 0),
}

bias = Formula(
    title="Bias of a kernel machine trained on one label",
    backs="theory.kernels.score_matching.expected_score_error",
    symbol=sp.Function("B")(t),
    arguments=(t, k, r, mu, S, nu),
    domain=_ROW,
    expression=(r * _run * mu - S) ** 2,
    call=_row,
    read=lambda error: error.bias[0],
    proofs=_FLOW,
    source=_SCORE,
)

variance = Formula(
    title="Variance of a kernel machine trained on one label",
    backs="theory.kernels.score_matching.expected_score_error",
    symbol=sp.Function("V")(t),
    arguments=(t, k, r, mu, S, nu),
    domain=_ROW,
    expression=r**2 * _run**2 * nu,
    call=_row,
    read=lambda error: error.variance[0],
    proofs=_FLOW
    | {
        "E (y - mu)^2 = nu": sp.diff((r * _run * (mu + w0) - r * _run * mu) ** 2 / w0**2 * nu - r**2 * _run**2 * nu, w0)
    },
    source=_SCORE,
)

_n = sp.Symbol("n", integer=True, positive=True)

own_ridge = Formula(
    title="The ridge built into the exponential kernel in high dimension",
    backs="theory.kernels.score_matching.kernel_ridge",
    symbol=g,
    arguments=(v,),
    domain={v: Interval(0.3, 3)},
    expression=(sp.exp(v) - 1 - v) / v,
    call=lambda v: (jnp.exp, v),
    proofs={
        "all powers but the first": lambda: (
            sp.summation(v**_n / sp.factorial(_n), (_n, 2, sp.oo)) / v - (sp.exp(v) - 1 - v) / v
        )
    },
    source="El Karoui 2010",
)

# The end of training with a ridge of the kernel's own, from the resolvent.
_mode = (g**2 * _SIGNAL["score"] + lam * _NOISE["score"]) / (lam + g) ** 2
_one = 1 / (lam + g)
_slope = sp.diff(m, g)
_REGRESSION = {alpha: ALPHA, g: Interval(0.01, 100, log=True), **_LEVEL}

memorising_end = Formula(
    title="Distance to the score after training without end",
    backs="theory.kernels.score_matching.score_error",
    symbol=sp.Symbol("E"),
    arguments=(alpha, g, a, s, c),
    domain=_REGRESSION,
    expression=_SIGNAL["score"] * g**2 * -_slope + _NOISE["score"] * (m + g * _slope),
    call=lambda alpha, g, a, s, c: (1e6 * alpha / g, (a, s, c), alpha, g),
    read=lambda error: error.total,
    proofs={
        # 1 - h = g / (lam + g) and h^2 / lam = lam / (lam + g)^2, also along the zero modes.
        "mode by mode": _mode
        - (_SIGNAL["score"] * g**2 * -sp.diff(_one, g) + _NOISE["score"] * (_one + g * sp.diff(_one, g))),
        "zero modes keep the signal": _mode.subs(lam, 0) - _SIGNAL["score"],
    },
    source=_ADVANI,
)

# P = d. int rho e^{-2 lam T} = e^{-4T} (I_0 + I_1)(4T), and lam in front is -1/2 d/dT.
_T = sp.Symbol("T", positive=True)
_decay = sp.exp(-4 * _T) * (sp.besseli(0, 4 * _T) + sp.besseli(1, 4 * _T))
_EQUAL = {t: Interval(0.01, 10), g: Interval(0.01, 2), **_LEVEL}
_CATALAN = {
    "moments 1, 1, 2, 5, 14": lambda: (
        sp.series(_decay, _T, 0, 5).removeO() - sum((-2 * _T) ** n / sp.factorial(n) * sp.catalan(n) for n in range(5))
    ).expand()
}

bias_in_time = Formula(
    title="Bias of a linear score at time t, as many samples as dimensions",
    backs="theory.kernels.score_matching.score_error",
    symbol=sp.Function("B")(t),
    arguments=(t, a, s, c),
    domain={t: Interval(0.01, 10), **_LEVEL},
    expression=(_SIGNAL["score"] * _decay).subs(_T, _total * t),
    call=lambda t, a, s, c: (t, (a, s, c), 1.0),
    read=lambda error: error.bias,
    proofs=_CATALAN,
    source=_ADVANI,
)

loss_in_time = Formula(
    title="Training error of a kernel with a ridge of its own, as many samples as dimensions",
    backs="theory.kernels.score_matching.training_error",
    symbol=sp.Function("E_t")(t),
    arguments=(t, g, a, s, c),
    domain=_EQUAL,
    expression=(sp.exp(-2 * g * _T) * (_NOISE["score"] * _decay - _SIGNAL["score"] * sp.diff(_decay, _T) / 2)).subs(
        _T, _total * t
    ),
    call=lambda t, g, a, s, c: (t, (a, s, c), 1.0, g),
    proofs=_CATALAN | {"lam = -1/2 d/dT": sp.diff(sp.exp(-2 * lam * _T), _T) / -2 - lam * sp.exp(-2 * lam * _T)},
    source=_ADVANI,
)

# Endlessly many noise draws: the loss of a coordinate of data variance q is 1/2 E (W x + z/s)^2.
_W, _q = sp.symbols("W q", real=True)
_b = a**2 * _q + s**2
_risk = (_W**2 * _b + 2 * _W + 1 / s**2) / 2
_path = -(1 - sp.exp(-_b * t)) / _b
_own = s**2 * alpha / (a**2 * c)
_unit = alpha / (a**2 * c)

fresh_end = Formula(
    title="Distance to the score after training without end under fresh noise",
    backs="theory.kernels.score_matching.fresh_noise_error",
    symbol=sp.Symbol("E"),
    arguments=(alpha, a, s, c),
    domain={alpha: Interval(0.1, 5), **_LEVEL},
    expression=1 / _total - 2 * _unit * m.subs(g, _own) - _total * _unit**2 * _slope.subs(g, _own),
    call=lambda alpha, a, s, c: (1e4 / s**2, (a, s, c), alpha),
    proofs={
        "dW/dt = -dL/dW": sp.diff(_path, t) + sp.diff(_risk, _W).subs(_W, _path),
        "W(0) = 0": _path.subs(t, 0),
        "1/b is a resolvent": 1 / (a**2 * lam * c / alpha + s**2) - _unit / (lam + _own),
        "the end, mode by mode": sp.simplify(
            _total * (1 / _total - _unit / (lam + g)) ** 2
            - (1 / _total - 2 * _unit * _one - _total * _unit**2 * sp.diff(_one, g))
        ),
    },
    source="Marchenko & Pastur 1967",
)
