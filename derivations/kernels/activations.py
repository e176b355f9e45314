"""Dual activations, from Price's theorem dT/dc = E[phi'(u) phi'(v)] and from T at c = 0, where u and v part.

A kink or a jump makes phi'' or phi' a delta function, whose average is the density of (u, v) at the origin; a bell
curve makes a Gaussian integral. Either way the derivatives in c and the values at c = 0 determine the dual.
"""

import sympy as sp

from derivations.formula import Formula, Interval

a, b = sp.symbols("q_1 q_2", positive=True)
rho, c = sp.symbols("rho c", real=True)
A, B = sp.symbols("A B", positive=True)
alpha, beta = sp.symbols("alpha beta", positive=True)
pi, root, half = sp.pi, sp.sqrt, sp.Rational(1, 2)

det = a * b - c**2
theta = sp.acos(c / root(a * b))
# The joint density of (u, v) at the origin: E[delta(u) delta(v)].
origin = 1 / (2 * pi * root(det))
_SOURCE = "Cho & Saul 2009, section 2; Daniely, Frostig & Singer 2016 (arXiv:1602.05897), section 4; Price 1958"
_DOMAIN = {a: Interval(0.05, 20, log=True), b: Interval(0.05, 20, log=True), rho: Interval(0.05, 0.95)}


def _formulas(name, dual, slope, proofs, *, with_numbers=None, domain=None, jumps=False, source=_SOURCE):
    """The dual and the dual of the derivative of one activation, as functions of q1, q2 and the correlation rho.

    Parameters of the activation are proved as symbols, and compared at `with_numbers`.
    """
    with_numbers = with_numbers or {}
    proofs = {"dT/dc = T' (Price)": sp.diff(dual, c) - slope} | proofs
    parts = ((dual, "dual", "T"), (slope, "dual_derivative", "T'"))[: 1 if jumps else 2]
    return tuple(
        Formula(
            title=f"Dual of {name}" + (", derivative" if part is slope else ""),
            backs=f"theory.kernels.activations.{function}",
            symbol=sp.Symbol(symbol),
            arguments=(a, b, rho),
            domain=_DOMAIN | (domain or {}),
            expression=sp.sympify(part).subs(c, rho * root(a * b)).subs(with_numbers),
            proofs=proofs,
            call=lambda q1, q2, r: ((name, *map(float, with_numbers.values())), q1, q2, r * (q1 * q2) ** 0.5),
            source=source,
        )
        for part, function, symbol in parts
    )


def _at_zero(expression, value):
    return sp.sympify(expression).subs(c, 0) - value


_mean = root(a * b) / (2 * pi)  # E[max(u, 0)] E[max(v, 0)]
_step = (pi - theta) / (2 * pi)
(step,) = _formulas("step", _step, origin, {"T(0) = 1/4": _at_zero(_step, sp.Rational(1, 4))}, jumps=True)
_sign = 1 - 2 * theta / pi
(sign,) = _formulas("sign", _sign, 4 * origin, {"T(0) = 0": _at_zero(_sign, 0)}, jumps=True)

_relu = (root(det) + c * (pi - theta)) / (2 * pi)
relu, relu_slope = _formulas(
    "relu",
    _relu,
    _step,
    {
        "T(0) = E[phi(u)] E[phi(v)]": _at_zero(_relu, _mean),
        "T'(0) = P(u > 0) P(v > 0)": _at_zero(_step, sp.Rational(1, 4)),
        "dT'/dc = E[delta(u) delta(v)]": sp.diff(_step, c) - origin,
    },
)

# A min(x, 0) + B max(x, 0): its kink is B - A.
_abrelu = ((A**2 + B**2) * (root(det) + c * (pi - theta)) - 2 * A * B * (root(det) - c * theta)) / (2 * pi)
_abslope = ((A**2 + B**2) * (pi - theta) + 2 * A * B * theta) / (2 * pi)


abrelu, abrelu_slope = _formulas(
    "abrelu",
    _abrelu,
    _abslope,
    {
        "T(0) = E[phi(u)] E[phi(v)]": _at_zero(_abrelu, (B - A) ** 2 * _mean),
        "T'(0) = E[phi'(u)] E[phi'(v)]": _at_zero(_abslope, ((A + B) / 2) ** 2),
        "dT'/dc = (B - A)^2 E[delta(u) delta(v)]": sp.diff(_abslope, c) - (B - A) ** 2 * origin,
    },
    with_numbers={A: sp.Rational(1, 4), B: sp.Rational(3, 2)},
)

power_slope = 4 * _relu
_power = (3 * root(det) * c + (pi - theta) * (a * b + 2 * c**2)) / (2 * pi)
rectified_power, rectified_power_slope = _formulas(
    "rectified_power",
    _power,
    power_slope,
    {
        "T(0) = E[phi(u)] E[phi(v)]": _at_zero(_power, a * b / 4),
        "T'(0) = E[phi'(u)] E[phi'(v)]": _at_zero(power_slope, 4 * _mean),
        "dT'/dc = 4 P(u > 0, v > 0)": sp.diff(power_slope, c) - 4 * _step,
    },
)

# Bell curves: E of exp(-(quadratic form)/2) is the determinant of what it adds to the inverse covariance.
_bell = 1 / root((1 + 2 * a) * (1 + 2 * b) - 4 * c**2)
_sigma = sp.Matrix([[a, c], [c, b]])
_erf = 2 / pi * sp.asin(2 * c / root((1 + 2 * a) * (1 + 2 * b)))
erf, erf_slope = _formulas(
    "erf",
    _erf,
    4 / pi * _bell,
    {
        "T(0) = 0": _at_zero(_erf, 0),
        "T' = (4/pi) E[exp(-u^2 - v^2)]": _bell**-2 - (sp.eye(2) + 2 * _sigma).det(),
    },
    source="Williams 1997, section 3.1; Price 1958",
)

# Under the bell the pair has covariance (Sigma^-1 + 2)^-1, whose off-diagonal entry is c over the determinant.
_tilted = (_sigma * (sp.eye(2) + 2 * _sigma).inv()).applyfunc(sp.simplify)
gaussian, gaussian_slope = _formulas(
    "gaussian",
    _bell,
    4 * c * _bell**3,
    {
        "T = det(1 + 2 Sigma)^(-1/2)": _bell**-2 - (sp.eye(2) + 2 * _sigma).det(),
        "T' = 4 T E_bell[u v]": 4 * _bell * _tilted[0, 1] - 4 * c * _bell**3,
    },
    source="Gaussian integrals",
)

_density = 1 / (2 * pi * root((1 + a) * (1 + b) - c**2))
_above = sp.Rational(1, 4) + sp.asin(c / root((1 + a) * (1 + b))) / (2 * pi)
normal_cdf, normal_cdf_slope = _formulas(
    "normal_cdf",
    _above,
    _density,
    {
        "T(0) = E[Phi(u)] E[Phi(v)]": _at_zero(_above, sp.Rational(1, 4)),
        "T' = E[n(u) n(v)]": (2 * pi * _density) ** -2 - (sp.eye(2) + _sigma).det(),
    },
    source="Williams 1997; Price 1958",
)

# GELU: phi'' = (2 - x^2) n(x), n the normal density; under n(u) n(v) the covariance is Sigma (1 + Sigma)^-1.
_D, _P = (1 + a) * (1 + b) - c**2, (1 + a) * (1 + b)
_R = a * b + c**2 * (1 - a * b) / _P
_gelu = c * _above + _density * _R
_gelu_slope = _above + c * _density + 2 * c * _density * (1 - a * b) / _P + c * _density * _R / _D
_under = (_sigma * (sp.eye(2) + _sigma).inv()).applyfunc(sp.simplify)
_curved = 4 - 2 * (_under[0, 0] + _under[1, 1]) + _under[0, 0] * _under[1, 1] + 2 * _under[0, 1] ** 2
gelu, gelu_slope = _formulas(
    "gelu",
    _gelu,
    _gelu_slope,
    {
        "T(0) = E[u Phi(u)] E[v Phi(v)]": _at_zero(_gelu, a * b / (2 * pi * root(_P))),
        "T'(0) = 1/4": _at_zero(_gelu_slope, sp.Rational(1, 4)),
        "dT'/dc = E[phi''(u) phi''(v)]": lambda: sp.diff(_gelu_slope, c) - _density * _curved,
    },
    source="Stein's lemma and Price 1958; Tsuchida et al. 2021 (arXiv:2002.08517)",
)

# Waves: E[exp(i k N)] = exp(-k^2 Var(N) / 2) for the sum and the difference of u and v.
_decay = sp.exp(-(alpha**2) * (a + b) / 2)
_sine = _decay * (sp.exp(alpha**2 * c) - sp.cos(2 * beta) * sp.exp(-(alpha**2) * c)) / 2
_sine_slope = alpha**2 * _decay * (sp.exp(alpha**2 * c) + sp.cos(2 * beta) * sp.exp(-(alpha**2) * c)) / 2
sine, sine_slope = _formulas(
    "sine",
    _sine,
    _sine_slope,
    {
        "T(0) = (E sin)^2": _at_zero(_sine, _decay * sp.sin(beta) ** 2),
        "T'(0) = alpha^2 (E cos)^2": _at_zero(_sine_slope, alpha**2 * _decay * sp.cos(beta) ** 2),
        "T'' = alpha^4 T, for phi'' = -alpha^2 phi": sp.diff(_sine, c, 2) - alpha**4 * _sine,
    },
    with_numbers={alpha: sp.Rational(3, 4), beta: sp.Rational(2, 5)},
    domain={a: Interval(0.05, 5), b: Interval(0.05, 5)},
    source="Rahimi & Recht 2007; Pearce et al. 2020 (arXiv:1905.06076)",
)

_exponential = sp.exp(alpha**2 * (a + b + 2 * c) / 2)
exponential, exponential_slope = _formulas(
    "exponential",
    _exponential,
    alpha**2 * _exponential,
    {
        "T(0) = E[exp(alpha u)] E[exp(alpha v)]": _at_zero(
            _exponential, sp.exp(alpha**2 * a / 2) * sp.exp(alpha**2 * b / 2)
        )
    },
    with_numbers={alpha: sp.Rational(3, 4)},
    domain={a: Interval(0.05, 5), b: Interval(0.05, 5)},
    source="Moment generating function of a Gaussian; Daniely, Frostig & Singer 2016 (arXiv:1602.05897)",
)

# Polynomials: moments by differentiating the generating function exp((q1 s^2 + 2 c s t + q2 t^2) / 2) at zero.
_s, _t = sp.symbols("s t")
_generating = sp.exp((a * _s**2 + 2 * c * _s * _t + b * _t**2) / 2)


def _moment(p, q):
    """E[u^p v^q]."""
    derivative = sp.diff(_generating, _s, p) if p else _generating
    derivative = sp.diff(derivative, _t, q) if q else derivative
    return sp.expand(derivative.subs({_s: 0, _t: 0}))


_cubic = sp.symbols("a_0:4", positive=True)
_moments = {(p, q): _moment(p, q) for p in range(4) for q in range(4)}
_polynomial = sum(_cubic[p] * _cubic[q] * _moments[p, q] for p in range(4) for q in range(4))
_polynomial_slope = sum(
    p * q * _cubic[p] * _cubic[q] * _moments[p - 1, q - 1] for p in range(1, 4) for q in range(1, 4)
)
polynomial, polynomial_slope = _formulas(
    "polynomial",
    _polynomial,
    _polynomial_slope,
    {"T(0) = E[phi(u)] E[phi(v)]": _at_zero(_polynomial, (_cubic[0] + _cubic[2] * a) * (_cubic[0] + _cubic[2] * b))},
    with_numbers=dict(zip(_cubic, map(sp.Rational, ("1/2", "3/4", "2", "1/3")), strict=True)),
    source="Isserlis 1918",
)
