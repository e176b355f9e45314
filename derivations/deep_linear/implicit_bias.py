"""Potentials that diagonal networks minimise, textbook forms, and the interpolators of one sample."""

import mpmath
import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

z, s, c, delta, nu = sp.symbols("z s c delta nu", real=True)
log_alpha, x1, x2, y, u0, v0 = sp.symbols("L x_1 x_2 y u_0 v_0", positive=True)
W = "Woodworth et al. 2020 (arXiv:2002.09277)"

_q = 2 - sp.sqrt(4 + z**2) + z * sp.asinh(z / 2)

depth_two = Formula(
    title="Potential of one coefficient, depth 2",
    backs="theory.deep_linear.implicit_bias.bias_potential",
    symbol=sp.Symbol("q"),
    arguments=(z,),
    domain={z: Interval(1e-8, 1e6, log=True)},
    expression=_q,
    proofs={
        "q' = arcsinh(z/2)": sp.diff(_q, z) - sp.asinh(z / 2),
        "q(0) = 0": _q.subs(z, 0),
        "q = z^2/4 near 0": lambda: sp.limit(_q / z**2, z, 0) - sp.Rational(1, 4),
    },
    source=f"{W}, theorem 1",
)

_D, _p = sp.symbols("D p", positive=True)


def _link(depth):
    """h_D(s)."""
    p = depth / (depth - 2)
    return (1 - s) ** (-p) - (1 + s) ** (-p)


def _potential(depth):
    """q_D at z = h_D(s): the Legendre transform of the integral of h_D."""
    p = 2 / (depth - 2)
    return s * _link(depth) - ((1 - s) ** (-p) + (1 + s) ** (-p) - 2) / p


def _deeper(depth):
    D = sp.Integer(depth)

    def coefficient(s):
        """h_D(s) without cancellation at small s."""
        s, p = mpmath.mpf(s), mpmath.mpf(depth) / (depth - 2)
        with mpmath.workdps(40):
            return (float((1 - s) ** -p - (1 + s) ** -p),)

    return Formula(
        title=f"Potential of one coefficient, depth {depth}, at z = h_D(s)",
        backs="theory.deep_linear.implicit_bias.bias_potential",
        symbol=sp.Symbol("q_D"),
        arguments=(s,),
        domain={s: Interval(1e-7, 0.999, log=True)},
        expression=_potential(D),
        proofs={
            "dq/ds = s dz/ds, that is dq/dz = h_D^(-1)(z)": lambda: (
                sp.diff(_potential(_D), s) - s * sp.diff(_link(_D), s)
            ),
            "q(0) = 0": _potential(D).subs(s, 0),
        },
        call=coefficient,
        keywords={"depth": depth},
        source=f"{W}, section on higher-order models",
    )


depth_three, depth_four, depth_seven = _deeper(3), _deeper(4), _deeper(7)


def _moved(depth):
    """u and v at ln(u/v) = c + delta, from the start sqrt(u0 v0) = alpha, ln(u0/v0) = c."""
    start = sp.exp(log_alpha + c / 2), sp.exp(log_alpha - c / 2)
    if depth == 2:
        return start, (start[0] * sp.exp(delta / 2), start[1] * sp.exp(-delta / 2))
    conserved = start[0] ** (2 - depth) + start[1] ** (2 - depth)
    ratio = sp.exp((depth - 2) * (c + delta))
    power = sp.Rational(1, depth - 2)
    return start, (((1 + ratio) / conserved) ** power, ((1 + 1 / ratio) / conserved) ** power)


def _divergence(depth):
    """The sum over u and v, and eta."""
    start, now = _moved(depth)
    if depth == 2:
        parts = [2 * w**2 * sp.log(w / w0) - w**2 + w0**2 for w0, w in zip(start, now, strict=True)]
        return sum(parts) / 4, delta / 4
    k = depth * (depth - 2)
    parts = [
        w**depth * w0 ** (2 - depth) - sp.Rational(depth, 2) * w**2 + (sp.Rational(depth, 2) - 1) * w0**2
        for w0, w in zip(start, now, strict=True)
    ]
    return sum(parts) / k, (start[0] ** (2 - depth) - now[0] ** (2 - depth)) / k


def _bregman(depth):
    def slope():
        value, eta = _divergence(depth)
        u, v = _moved(depth)[1]
        # In a = e^log_alpha, k = e^(c/2), m = e^delta everything is algebraic.
        a, k, m = sp.symbols("a k m", positive=True)
        rest = sp.diff(value, delta) - eta * sp.diff(u**depth - v**depth, delta)
        rest = sp.expand_log(rest.subs({log_alpha: sp.log(a), c: 2 * sp.log(k), delta: sp.log(m)}), force=True)
        return sp.simplify(rest)

    def call(delta, log_alpha, c):
        with mpmath.workdps(40):
            _, (u, v) = _moved(depth)
            numbers = dict(zip(("delta", "L", "c"), map(mpmath.mpf, (delta, log_alpha, c)), strict=True))
            beta = sp.lambdify([_SYMBOLS[k] for k in numbers], u**depth - v**depth, "mpmath")(*numbers.values())
            return float(beta), log_alpha, c

    return Formula(
        title=f"Divergence of one coefficient from its start, depth {depth}, at ln(u/v) = c + delta",
        backs="theory.deep_linear.implicit_bias.bregman_divergence",
        symbol=sp.Symbol("Psi"),
        arguments=(delta, log_alpha, c),
        domain={delta: Interval(0.1, 20), log_alpha: Interval(-20, 5), c: Interval(-2, 2)},
        expression=_divergence(depth)[0],
        proofs={
            "its gradient in beta is eta": slope,
            "it vanishes at the start": lambda: sp.simplify(_divergence(depth)[0].subs(delta, 0)),
        },
        call=call,
        keywords={"depth": depth},
        source=f"{W}; Azulay et al. 2021 (arXiv:2102.09769)",
    )


_SYMBOLS = {"delta": delta, "L": log_alpha, "c": c}
divergence_two, divergence_three, divergence_four = _bregman(2), _bregman(3), _bregman(4)

# One sample, two coefficients.


def _sample(x2, y, log_alpha, c=0.0):
    return (np.array([[1.0, x2]]), np.array([y]), log_alpha, c)


b = sp.Symbol("beta_1", positive=True)
_scale = 2 * sp.exp(2 * log_alpha)
_dual = y * nu - _scale * (sp.cosh(nu) + sp.cosh(x2 * nu))
_second = _scale * sp.sinh(x2 * sp.asinh(b / _scale))

interpolator = Formula(
    title="First coefficient of the interpolator of one sample, depth 2",
    backs="theory.deep_linear.implicit_bias.interpolator",
    symbol=b,
    arguments=(x2, y, log_alpha),
    domain={x2: Interval(0.1, 0.9), y: Interval(0.5, 3), log_alpha: Interval(-30, 5)},
    law=b + x2 * _second - y,
    proofs={
        "the concave dual is largest where X beta = y": sp.diff(_dual, nu).subs(nu, sp.asinh(b / _scale))
        - (y - b - x2 * _second),
        "beta_2 = 2 alpha^2 sinh(nu x_2) has q'(beta_2 / alpha^2) = nu x_2": lambda: (
            sp.sinh(sp.diff(_q, z)).subs(z, _second * sp.exp(-2 * log_alpha)) - _second / _scale
        ),
    },
    call=lambda x2, y, log_alpha: (_sample(x2, y, log_alpha),),
    read=lambda found: found.beta[0],
    source=f"{W}, theorem 1",
)


def _kernel(depth):
    """beta_1 and beta_2 of linear regression on the tangent features of the start."""
    start = [u0**depth - v0**depth] * 2
    weight = u0 ** (2 * depth - 2) + v0 ** (2 * depth - 2)
    rest = y - start[0] - x2 * start[1]
    return [b + weight * x * rest / (weight * (1 + x2**2)) for b, x in zip(start, (1, x2), strict=True)]


def _kernel_formula(depth):
    first, second = _kernel(depth)
    start = u0**depth - v0**depth
    alpha_c = {u0: sp.exp(log_alpha + c / 2), v0: sp.exp(log_alpha - c / 2)}
    return Formula(
        title=f"Interpolator of the kernel regime, one sample, depth {depth}",
        backs="theory.deep_linear.implicit_bias.kernel_interpolator",
        symbol=sp.Symbol("beta_1"),
        arguments=(x2, y, log_alpha, c),
        domain={x2: Interval(0.1, 0.9), y: Interval(5, 9), log_alpha: Interval(-2, 0.2), c: Interval(-0.3, 0.3)},
        expression=first.subs(alpha_c),
        proofs={
            "it interpolates": first + x2 * second - y,
            "it moved along the sample": (second - start) - x2 * (first - start),
        },
        call=lambda x2, y, log_alpha, c: ((*_sample(x2, y, log_alpha, c), depth),),
        read=lambda beta: beta[0],
        source=W,
    )


kernel_two, kernel_three = _kernel_formula(2), _kernel_formula(3)

_factor = (_D - 1) * (3 * _D - 4) / (12 * _D**2)


def _inverse_series():
    """h_D(z/2p - k z^3) - z to third order, for k = factor / 2p: what is left of it."""
    k = _factor.subs(_D, 2 * _p / (_p - 1)) / (2 * _p)
    dual = z / (2 * _p) - k * z**3
    link = (1 - dual) ** (-_p) - (1 + dual) ** (-_p)
    return sp.simplify(sp.series(link - z, z, 0, 5).removeO())


def _deviation():
    """delta_1 and delta_2 of one sample, where min L2 is y (1, x2) / (1 + x2^2)."""
    drive = [_factor * (y * x / (1 + x2**2)) ** 3 * sp.exp(-2 * _D * log_alpha) for x in (1, x2)]
    overlap = (drive[0] + x2 * drive[1]) / (1 + x2**2)
    return drive[0] - overlap, drive[1] - x2 * overlap, drive


def _deviation_formula(depth):
    first, second, drive = _deviation()
    return Formula(
        title=f"Leading deviation of the interpolator from least squares, one sample, depth {depth}",
        backs="theory.deep_linear.implicit_bias.kernel_deviation",
        symbol=sp.Symbol("delta_1"),
        arguments=(x2, y, log_alpha),
        domain={x2: Interval(0.1, 0.9), y: Interval(0.5, 3), log_alpha: Interval(-1, 5)},
        expression=first.subs(_D, depth),
        proofs={
            "h_D^(-1)(z) = (z - factor z^3) / 2p, p = D/(D-2)": _inverse_series,
            "arcsinh(z/2) = (z - z^3/24) / 2": lambda: sp.series(
                sp.asinh(z / 2) - (z - z**3 / 24) / 2, z, 0, 5
            ).removeO(),
            "the factor at D = 2 is 1/24": _factor.subs(_D, 2) - sp.Rational(1, 24),
            "the sample stays fitted": first + x2 * second,
            "the rest is along the sample": (second - drive[1]) - x2 * (first - drive[0]),
        },
        call=lambda x2, y, log_alpha: ((*_sample(x2, y, log_alpha), depth),),
        read=lambda delta: delta[0],
        source=f"fourth order of q_D; {W}",
    )


deviation_two, deviation_three = _deviation_formula(2), _deviation_formula(3)
