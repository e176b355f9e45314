"""Tangent kernels of BatchNorm's scales and shifts, textbook forms."""

import sympy as sp

from derivations.formula import Formula, Interval

t = sp.Symbol("t", real=True)
q1, q2, a, b = sp.symbols("q_1 q_2 a b", positive=True)
c = sp.Symbol("c", real=True)
theta = sp.acos(t)

_SOURCE = "Frankle, Schwab & Morcos 2021, in the limit of Jacot, Gabriel & Hongler 2018"
_PRICE = "Price 1958: integration by parts"
_COSINE = {t: Interval(-0.999, 0.999)}

# ReLU with unit variances and cosine t: E[phi phi] and E[phi' phi'].
_relu = (sp.sqrt(1 - t**2) + t * (sp.pi - theta)) / (2 * sp.pi)
_step = (sp.pi - theta) / (2 * sp.pi)


def _gain(d):
    """E[u phi' v phi'] from D(q1, q2, c) = E[phi' phi']."""
    return c * d + (q1 * q2 + c**2) * sp.diff(d, c) + 2 * c * (q1 * sp.diff(d, q1) + q2 * sp.diff(d, q2))


_homogeneous = _step.subs(t, c / sp.sqrt(q1 * q2))

shallow_relu = Formula(
    title="Tangent kernel of BatchNorm alone, one hidden layer of ReLU",
    backs="theory.kernels.batchnorm_only.batchnorm_kernels_of_cosine",
    symbol=sp.Function("Theta")(t),
    arguments=(t,),
    domain=_COSINE,
    expression=((sp.pi - theta) * (1 + t) + sp.sqrt(1 - t**2)) / (2 * sp.pi),
    keywords={"depth": 1},
    read=lambda kernels: kernels.batchnorm,
    proofs={
        "a shift feels E[phi' phi'] = d E[phi phi] / dt, a scale E[phi phi]": (
            ((sp.pi - theta) * (1 + t) + sp.sqrt(1 - t**2)) / (2 * sp.pi) - _relu - sp.diff(_relu, t)
        ),
        "E[phi' phi'] is a quarter for independent units": _step.subs(t, 0) - sp.Rational(1, 4),
        "and d E[phi' phi'] / dt the density at the origin": sp.diff(_step, t) - 1 / (2 * sp.pi * sp.sqrt(1 - t**2)),
        "E[phi phi] = (E phi)^2 for independent units": _relu.subs(t, 0) - 1 / (2 * sp.pi),
        "u phi'(u) = phi(u): the gain is E[phi phi]": lambda: (
            _gain(_homogeneous).subs({q1: 1, q2: 1}).subs(c, t) - _relu
        ),
    },
    source=_SOURCE,
)

# erf: E[u v e^{-u^2 - v^2}] is an unnormalised Gaussian moment with precision Sigma^{-1} + 2.
_sigma = sp.Matrix([[q1, c], [c, q2]])
_tilted = (_sigma.inv() + 2 * sp.eye(2)).inv()
_determinant = (1 + 2 * q1) * (1 + 2 * q2) - 4 * c**2
_slopes = 4 / sp.pi / sp.sqrt(_determinant)
_erf = 4 / sp.pi * c / _determinant ** sp.Rational(3, 2)
_alike = {q1: 1, q2: 1, c: t}

gain_of_erf = Formula(
    title="Dual of u phi'(u) for erf",
    backs="theory.kernels.batchnorm_only.gain_dual",
    symbol=sp.Symbol("G"),
    arguments=(q1, q2, t),
    domain={q1: Interval(0.01, 10, log=True), q2: Interval(0.01, 10, log=True), t: Interval(0.01, 1)},
    expression=_erf.subs(c, t * sp.sqrt(q1 * q2)),
    call=lambda q1, q2, t: ("erf", q1, q2, t * (q1 * q2) ** 0.5),
    proofs={
        "the Gaussian integral": sp.simplify(_tilted[0, 1] * _determinant - c),
        "its normalisation": sp.simplify(_tilted.det() * _determinant - _sigma.det()),
        "integration by parts": lambda: _gain(_slopes) - _erf,
    },
    source=_PRICE,
)

shallow_erf = Formula(
    title="Tangent kernel of BatchNorm alone, one hidden layer of erf",
    backs="theory.kernels.batchnorm_only.batchnorm_kernels_of_cosine",
    symbol=sp.Function("Theta")(t),
    arguments=(t,),
    domain={t: Interval(-1, 1)},
    expression=4 / sp.pi * (1 / sp.sqrt(9 - 4 * t**2) + t / (9 - 4 * t**2) ** sp.Rational(3, 2)),
    keywords={"depth": 1, "phi": "erf"},
    read=lambda kernels: kernels.batchnorm,
    proofs={
        "shift and scale": lambda: (
            4 / sp.pi * (1 / sp.sqrt(9 - 4 * t**2) + t / (9 - 4 * t**2) ** sp.Rational(3, 2))
            - (_slopes + _erf).subs(_alike)
        )
    },
    source=_SOURCE,
)

_generating = sp.exp((a**2 * q1 + b**2 * q2 + 2 * a * b * c) / 2)
_exponential = ((q1 + c) * (q2 + c) + c) * sp.exp((q1 + q2 + 2 * c) / 2)

gain_of_exponential = Formula(
    title="Dual of u phi'(u) for the exponential",
    backs="theory.kernels.batchnorm_only.gain_dual",
    symbol=sp.Symbol("G"),
    arguments=(q1, q2, t),
    domain={q1: Interval(0.01, 3), q2: Interval(0.01, 3), t: Interval(0.01, 1)},
    expression=_exponential.subs(c, t * sp.sqrt(q1 * q2)),
    call=lambda q1, q2, t: ("exponential", q1, q2, t * (q1 * q2) ** 0.5),
    proofs={
        "E[u v e^{u + v}] from the generating function": (sp.diff(_generating, a, b).subs({a: 1, b: 1}) - _exponential),
        "integration by parts": lambda: _gain(_generating.subs({a: 1, b: 1})) - _exponential,
    },
    source=_PRICE,
)

# Two hidden layers of ReLU on a sphere of high dimension. Centring takes off K(0); s is what is left at t = 1.
_spread = _relu.subs(t, 1) - _relu.subs(t, 0)
_second = (_relu - _relu.subs(t, 0)) / _spread
_upper_relu, _upper_step = _relu.subs(t, _second), _step.subs(t, _second)

deep_scale = Formula(
    title="Tangent kernel of the scales, two hidden layers of ReLU",
    backs="theory.kernels.batchnorm_only.batchnorm_kernels_of_cosine",
    symbol=sp.Function("Theta_gamma")(t),
    arguments=(t,),
    domain=_COSINE,
    expression=_upper_relu + _relu * _upper_step / _spread,
    keywords={"depth": 2},
    read=lambda kernels: kernels.scale,
    proofs={
        "orthogonal inputs stay so": _second.subs(t, 0),
        "alike ones too": _second.subs(t, 1) - 1,
        "what is below passes through the slopes and 1/s": lambda: (
            # A change e phi(u) below changes the second layer by W (e phi) / sqrt(s n), of covariance e^2 K / s.
            sp.diff(sp.Symbol("e") ** 2 * _relu / _spread * _upper_step, sp.Symbol("e"), 2) / 2
            - _relu * _upper_step / _spread
        ),
    },
    source=_SOURCE,
)

deep_shift = Formula(
    title="Tangent kernel of the shifts, two hidden layers of ReLU",
    backs="theory.kernels.batchnorm_only.batchnorm_kernels_of_cosine",
    symbol=sp.Function("Theta_beta")(t),
    arguments=(t,),
    domain=_COSINE,
    expression=_upper_step * (1 + _step / _spread),
    keywords={"depth": 2},
    read=lambda kernels: kernels.shift,
    proofs={
        "the spread of one layer of ReLU is its variance": _spread - (sp.Rational(1, 2) - 1 / (2 * sp.pi)),
        "alike inputs: (1 + 1/2s) / 2": lambda: (
            (_upper_step * (1 + _step / _spread)).subs(t, 1) - (1 + 1 / (2 * _spread)) / 2
        ),
    },
    source=_SOURCE,
)
