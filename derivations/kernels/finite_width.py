"""Fluctuations of kernels between random starts: sums over independent units, and their fourth moments."""

import sympy as sp

from derivations.formula import Formula, Interval

a, b = sp.symbols("q_1 q_2", positive=True)
s, n = sp.symbols("s_w n", positive=True)
rho, c, g = sp.symbols("rho c g", real=True)
root, pi, half = sp.sqrt, sp.pi, sp.Rational(1, 2)

_WIDTH, _WEIGHT = 64, sp.Rational(3, 2)
_DOMAIN = {
    a: Interval(0.05, 5, log=True),
    b: Interval(0.05, 5, log=True),
    rho: Interval(-0.95, 0.95),
}


def _own(squares, mixed, slopes, dual, slope):
    """n Var Theta / s_w^2: the variance of phi phi' + a^2 c d d' over units, a^2 of mean 1 and mean square 3."""
    return squares + 2 * c * mixed + 3 * c**2 * slopes - (dual + c * slope) ** 2


def _formulas(name, call, squares, mixed, slopes, dual, slope, proofs):
    parts = {
        "nngp": (squares - dual**2, "K"),
        "ntk": (_own(squares, mixed, slopes, dual, slope), "Theta"),
        "ntk_between": (c**2 * slopes, "Theta_{km}"),
    }
    return tuple(
        Formula(
            title=f"Variance of {symbol} over random starts, one hidden layer of {name}",
            backs="theory.kernels.finite_width.kernel_variances",
            symbol=sp.Symbol(f"Var {symbol}"),
            arguments=(a, b, rho),
            domain=_DOMAIN,
            expression=(_WEIGHT**2 / _WIDTH * expression).subs(c, rho * root(a * b)),
            proofs=proofs,
            call=lambda q1, q2, r: (q1, q2, r * (q1 * q2) ** 0.5),
            keywords={"width": _WIDTH, "phi": call, "weight_variance": float(_WEIGHT)},
            read=lambda variances, part=part: getattr(variances, part),
            source="Sums over independent units; fourth moments by Price's theorem",
        )
        for part, (expression, symbol) in parts.items()
    )


_gauss = sp.exp(-(g**2) / 2) / root(2 * pi)


def _mean(f, low=-sp.oo):
    """E f(g), g ~ N(0, 1), of a function that vanishes below `low`."""
    return sp.integrate(f * _gauss, (g, low, sp.oo))


# The variance of P + a^2 c D over a unit, from the moments of the readout weight a alone.
_P, _D = sp.symbols("P D")
_readout = {
    "E a^2 = 1, E a^4 = 3": _mean(g**4) - 3 + _mean(g**2) - 1,
    "(P + a^2 c D)^2 on average over a": (
        _mean(sp.expand((_P + g**2 * c * _D) ** 2)) - (_P**2 + 2 * c * _P * _D + 3 * c**2 * _D**2)
    ),
}

_theta = sp.acos(c / root(a * b))
_relu = (root(a * b - c**2) + c * (pi - _theta)) / (2 * pi)
_step = (pi - _theta) / (2 * pi)
_quadratic = (3 * c * root(a * b - c**2) + (pi - _theta) * (a * b + 2 * c**2)) / (2 * pi)
relu, relu_ntk, relu_between = _formulas(
    "ReLU",
    "relu",
    _quadratic,
    _relu,
    _step,
    _relu,
    _step,
    _readout
    | {
        "dE[phi^2 phi'^2]/dc = E[(phi^2)' (phi'^2)'] (Price)": sp.diff(_quadratic, c) - 4 * _relu,
        "E[phi^2 phi'^2] = E[phi^2] E[phi'^2] at c = 0": _quadratic.subs(c, 0) - a * b * _mean(g**2, 0) ** 2,
        "dE[phi phi']/dc = E[d d']": sp.diff(_relu, c) - _step,
        "E[d d'] = 1/4 at c = 0": _step.subs(c, 0) - sp.Rational(1, 4),
        "E[phi^4] = 3 q^2 / 2 at x = x'": _quadratic.subs(b, a).subs(c, a) - a**2 * _mean(g**4, 0),
        "n Var Theta = 3 s_w^2 q^2 at x = x'": _own(_quadratic, _relu, _step, _relu, _step).subs(b, a).subs(c, a)
        - 3 * a**2,
    },
)

_decay = sp.exp(-2 * a - 2 * b)
_sine = sp.exp(-(a + b) / 2) * sp.sinh(c)
_cosine = sp.exp(-(a + b) / 2) * sp.cosh(c)
_squares = (1 - sp.exp(-2 * a) - sp.exp(-2 * b) + _decay * sp.cosh(4 * c)) / 4
_slopes = (1 + sp.exp(-2 * a) + sp.exp(-2 * b) + _decay * sp.cosh(4 * c)) / 4
_mixed = _decay * sp.sinh(4 * c) / 4


def _exponential(f):
    return sp.sympify(f).rewrite(sp.exp)


sine, sine_ntk, sine_between = _formulas(
    "sine",
    "sine",
    _squares,
    _mixed,
    _slopes,
    _sine,
    _cosine,
    _readout
    | {
        "dE[phi^2 phi'^2]/dc = 4 E[phi phi' d d'] (Price)": sp.diff(_squares, c) - 4 * _mixed,
        "phi^2 + d^2 = 1": _squares + _slopes - half - half * _decay * sp.cosh(4 * c),
        "E[sin^2 u sin^2 v] = E[sin^2 u] E[sin^2 v] at c = 0": sp.expand(
            _squares.subs(c, 0) - (1 - sp.exp(-2 * a)) * (1 - sp.exp(-2 * b)) / 4
        ),
        "E[sin^2 u] = (1 - e^{-2q})/2": lambda: (
            sp.integrate(sp.sin(root(a) * g) ** 2 * _gauss, (g, -sp.oo, sp.oo)) - (1 - sp.exp(-2 * a)) / 2
        ),
        "dE[phi phi']/dc = E[d d']": _exponential(sp.diff(_sine, c) - _cosine),
    },
)

_m, _n = sp.symbols("n_1 n_2", positive=True)
_ratio = _mean(g**4, 0) / _mean(g**2, 0) ** 2

norm_moment = Formula(
    title="Second moment of the squared norm in a deep ReLU network",
    backs="theory.kernels.finite_width.relu_norm_moment",
    symbol=sp.Symbol("E[q^2] / E[q]^2"),
    arguments=(_m, _n),
    domain={_m: Interval(1, 50, log=True), _n: Interval(1, 50, log=True)},
    expression=(1 + 5 / sp.floor(_m)) * (1 + 5 / sp.floor(_n)),
    proofs={
        "one layer: (E phi^4 / E[phi^2]^2 - 1) / n = 5 / n": (_ratio - 1) / _n - 5 / _n,
        "a layer of the mean square q: E[q'^2 | q] = E[q' | q]^2 (1 + 5/n)": (
            (_n * _mean(g**4, 0) + _n * (_n - 1) * _mean(g**2, 0) ** 2) / _n**2 - _mean(g**2, 0) ** 2 * (1 + 5 / _n)
        ),
    },
    call=lambda m, n: ([int(m), int(n)],),
    source="Hanin & Nica 2018 (arXiv:1812.05994), theorem 1",
)

_t = sp.symbols("t", real=True)
_w = sp.Function("w")(_t)
_loss_slope = sp.Symbol("L'", real=True)

standard_rate = Formula(
    title="Rate of a standard weight that learns as an NTK weight",
    backs="theory.kernels.finite_width.standard_rates",
    symbol=sp.Symbol("eta_W"),
    arguments=(s, n),
    domain={s: Interval(0.3, 4), n: Interval(1, 100, log=True)},
    expression=s / sp.floor(n),
    proofs={
        # W = k w with k^2 = s/n; dw/dt = -dL/dw = -k L'(W), and dW/dt = -eta L'(W).
        "dW/dt = k dw/dt = -(s/n) dL/dW": sp.diff(root(s / n) * _w, _t).subs(
            sp.diff(_w, _t), -root(s / n) * _loss_slope
        )
        + s / n * _loss_slope,
    },
    call=lambda weight, n: ([3, int(n), 2], weight),
    read=lambda rates: rates.weights[1],
    source="Lee et al. 2019 (arXiv:1902.06720), appendix F",
)
