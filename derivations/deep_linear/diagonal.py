"""Diagonal linear networks, textbook forms: the coefficient as a function of its dual variable, orthogonal designs."""

import mpmath
import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

eta, t, a, c, g = sp.symbols("eta t alpha c g", real=True)
log_alpha, z = sp.symbols("L z", real=True)
beta = sp.Symbol("beta", real=True)
W = "Woodworth et al. 2020 (arXiv:2002.09277)"


def _weights(depth):
    """u and v as functions of eta, solved from u' = -D u^(D-1) g, v' = D v^(D-1) g with eta' = -g."""
    u0, v0 = (sp.exp(log_alpha + sign * c / 2) for sign in (1, -1))
    if depth == 2:
        return u0 * sp.exp(2 * eta), v0 * sp.exp(-2 * eta)
    k, power = depth * (depth - 2), sp.Rational(-1, depth - 2)
    return (u0 ** (2 - depth) - k * eta) ** power, (v0 ** (2 - depth) + k * eta) ** power


def _coefficient(depth):
    u, v = _weights(depth)
    return u**depth - v**depth


def _flow_proofs(depth):
    u, v = _weights(depth)
    conserved = u * v if depth == 2 else u ** (2 - depth) + v ** (2 - depth)
    velocity = depth**2 * (u ** (2 * depth - 2) + v ** (2 * depth - 2))
    return {
        "du/deta = D u^(D-1)": sp.diff(u, eta) / u ** (depth - 1) - depth,
        "dv/deta = -D v^(D-1)": sp.diff(v, eta) / v ** (depth - 1) + depth,
        "u v, or u^(2-D) + v^(2-D), is conserved": lambda: sp.diff(sp.expand(conserved), eta),
        "dbeta/deta = D^2 (u^(2D-2) + v^(2D-2))": sp.diff(_coefficient(depth), eta) - velocity,
        "sqrt(u0 v0) = alpha": lambda: sp.powsimp((u * v).subs(eta, 0)) - sp.exp(2 * log_alpha),
        "ln(u0 / v0) = c": lambda: sp.simplify((u / v).subs(eta, 0)) - sp.exp(c),
    }


depth_two = Formula(
    title="Coefficient of a diagonal network of depth 2",
    backs="theory.deep_linear.diagonal.coefficient",
    symbol=beta,
    arguments=(eta, log_alpha, c),
    domain={eta: Interval(-20, 20), log_alpha: Interval(-300, 20), c: Interval(-5, 5)},
    expression=2 * sp.exp(2 * log_alpha) * sp.sinh(4 * eta + c),
    proofs={
        "it is u^2 - v^2": (2 * sp.exp(2 * log_alpha) * sp.sinh(4 * eta + c)).rewrite(sp.exp) - _coefficient(2),
        "(dbeta/deta)^2 = 16 (beta^2 + 4 alpha^4)": lambda: (
            sp.diff(_coefficient(2), eta) ** 2 - 16 * (_coefficient(2) ** 2 + 4 * sp.exp(4 * log_alpha))
        ),
        **_flow_proofs(2),
    },
    source=f"{W}, theorem 1",
)


def _reach(depth, z, log_alpha, c):
    """eta at the fraction z of the shorter way to the end of its range."""
    log_reach = (2 - depth) * (log_alpha + abs(c) / 2)
    return z * (mpmath.exp if isinstance(z, mpmath.mpf) else sp.exp)(log_reach) / (depth * (depth - 2))


def _deeper(depth):
    """beta(eta), drawn at a fraction z of the range of eta."""
    return Formula(
        title=f"Coefficient of a diagonal network of depth {depth}",
        backs="theory.deep_linear.diagonal.coefficient",
        symbol=beta,
        arguments=(z, log_alpha, c),
        domain={z: Interval(1e-6, 0.999, log=True), log_alpha: Interval(-40, 10), c: Interval(-3, 3)},
        expression=_coefficient(depth).subs(eta, _reach(depth, z, log_alpha, c)),
        proofs={
            **_flow_proofs(depth),
            "at c = 0 it is alpha^D h_D(D (D-2) alpha^(D-2) eta)": lambda: (
                sp.powsimp(
                    _coefficient(depth)
                    .subs(c, 0)
                    .subs(eta, z * sp.exp((2 - depth) * log_alpha) / (depth * (depth - 2)))
                    / sp.exp(depth * log_alpha)
                ).subs(log_alpha, 0)
                - ((1 - z) ** sp.Rational(-depth, depth - 2) - (1 + z) ** sp.Rational(-depth, depth - 2))
            ),
        },
        call=lambda z, log_alpha, c: (float(_reach(depth, mpmath.mpf(z), log_alpha, c)), log_alpha, c),
        keywords={"depth": depth},
        source=f"{W}, section on higher-order models",
    )


depth_three, depth_four = _deeper(3), _deeper(4)

_inverse = (sp.asinh(beta * sp.exp(-2 * log_alpha) / 2) - c) / 4

dual_variable = Formula(
    title="Dual variable of a coefficient of a network of depth 2",
    backs="theory.deep_linear.diagonal.dual_variable",
    symbol=eta,
    arguments=(beta, log_alpha),
    domain={beta: Interval(-1e3, 1e3), log_alpha: Interval(-300, 20)},
    expression=_inverse.subs(c, 0),
    proofs={
        "it inverts the coefficient": depth_two.expression.subs(eta, _inverse) - beta,
        "deta/dbeta = 1 / (4 sqrt(beta^2 + 4 alpha^4))": lambda: (
            sp.diff(_inverse, beta) ** 2 - 1 / (16 * (beta**2 + 4 * sp.exp(4 * log_alpha)))
        ),
    },
    source=f"{W}, theorem 1",
)


def _dual_deeper(depth):
    """The law beta = u^D - v^D in the unit z = D (D-2) eta of a start u0 = v0 = 1, free of fractions."""
    up, down = 1 - z, 1 + z
    power = sp.Rational(depth, depth - 2)
    return Formula(
        title=f"Dual variable of a coefficient of a network of depth {depth}, start u0 = v0 = 1",
        backs="theory.deep_linear.diagonal.dual_variable",
        symbol=z,
        arguments=(beta,),
        domain={beta: Interval(1e-6, 1e4, log=True)},
        law=down**power - up**power - beta * (up * down) ** power,
        proofs={
            "the law is beta = u^D - v^D": lambda: sp.simplify(
                (down**power - up**power) / (up * down) ** power
                - _coefficient(depth).subs({log_alpha: 0, c: 0}).subs(eta, z / (depth * (depth - 2)))
            )
        },
        call=lambda beta: (beta, 0.0),
        keywords={"depth": depth},
        read=lambda found: found * depth * (depth - 2),
        source=f"{W}, section on higher-order models",
    )


dual_depth_three, dual_depth_four = _dual_deeper(3), _dual_deeper(4)

# Orthogonal design. With b = s (q - 1/q), R = sqrt(b^2 + 4 s^2) = s (q + 1/q), s = alpha^2, all proofs are rational.
b, R, E, s, q, w0 = sp.symbols("b R E s q w_0", positive=True)
target = sp.Symbol("b", real=True)
_G = (1 - E) / R


def _parts(b):
    """P and Q of the closed form, with u0^2 = s w0 and v0^2 = s / w0."""
    return 1 + E + (b + 2 * s / w0) * _G, 1 + E + (2 * s * w0 - b) * _G


def _orthogonal(b):
    p, q = _parts(b)
    return b - (b - s * (w0 - 1 / w0)) * 4 * E / (p * q)


def _rational(expression):
    return expression.subs(R, s * (q + 1 / q)).subs(b, s * (q - 1 / q))


def _riccati():
    """dw/dt - 4 (b w + s - s w^2) for w = w0 P/Q, with dE/dt = -4 R E."""
    p, p2 = _parts(b)
    w = w0 * p / p2
    return sp.simplify(_rational(sp.diff(w, E) * (-4 * R * E) - 4 * (b * w + s - s * w**2)))


def _from_ratio():
    """alpha^2 (w - 1/w) less the closed form."""
    p, p2 = _parts(b)
    w = w0 * p / p2
    return sp.simplify(_rational(s * (w - 1 / w) - _orthogonal(b)))


orthogonal = Formula(
    title="Coefficient of a network of depth 2 on an orthogonal design",
    backs="theory.deep_linear.diagonal.orthogonal_coefficient",
    symbol=beta,
    arguments=(t, target, log_alpha, c),
    domain={t: Interval(0, 50), target: Interval(-5, 5), log_alpha: Interval(-11, 3), c: Interval(-2, 2)},
    expression=_orthogonal(target)
    .subs(E, sp.exp(-4 * R * t))
    .subs(R, sp.sqrt(target**2 + 4 * s**2))
    .subs({s: sp.exp(2 * log_alpha), w0: sp.exp(c)}),
    proofs={
        "w = u/v obeys dw/dt = 4 (b w + alpha^2 - alpha^2 w^2)": _riccati,
        "which is the flow u' = -2 u g, v' = 2 v g, g = beta - b": lambda: (
            -4 * E * (s * (E - 1 / E) - b) - 4 * (b * E + s - s * E**2)
        ),
        "beta = alpha^2 (w - 1/w)": _from_ratio,
        "beta(0) = u0^2 - v0^2": lambda: _orthogonal(b).subs(E, 1) - s * (w0 - 1 / w0),
        "beta -> b": _orthogonal(b).subs(E, 0) - b,
    },
    source="Riccati equation of u/v; Saxe, McClelland & Ganguli 2013 for unbalanced modes",
)

_lr, _u = sp.symbols("eta_lr u", positive=True)


def _second_order(depth):
    """Second order of the change of u^(2-D) (of ln u for D = 2) in one step of gradient descent."""
    stepped = _u - _lr * depth * _u ** (depth - 1) * g
    change = sp.log(stepped) if depth == 2 else stepped ** (2 - depth)
    return sp.diff(change, _lr, 2).subs(_lr, 0) / 2


def _effective(depth):
    """What the shift of ln u0 by -lr (D-1) D^2/2 u0^(D-2) u^(D-2) g^2 is to u0^(2-D), or to ln u0."""
    start = sp.Symbol("u_0", positive=True)
    shift = -sp.Rational((depth - 1) * depth**2, 2) * (start * _u) ** (depth - 2) * g**2
    return shift if depth == 2 else (2 - depth) * start ** (2 - depth) * shift


# int (dL/dbeta)^2 dt up to beta, in one dimension, where dt = dbeta / (4 sqrt(beta^2 + 4 alpha^4) (b - beta)).
_root = sp.sqrt(beta**2 + 4 * s**2)
_gain = (b * sp.asinh(beta / (2 * s)) - _root + 2 * s) / 4

descent_shift = Formula(
    title="Shift of ln alpha by the steps of gradient descent, one coefficient fitted to b",
    backs="theory.deep_linear.diagonal.descent_shift",
    symbol=sp.Symbol("Delta"),
    arguments=(b, log_alpha),
    domain={b: Interval(0.5, 5), log_alpha: Interval(-8, 0.5)},
    expression=(-2 * _gain).subs(beta, b).subs(s, sp.exp(2 * log_alpha)),
    proofs={
        "it integrates (b - beta)^2 dt": sp.diff(_gain, beta) - (b - beta) / (4 * _root),
        "from beta(0) = 0": _gain.subs(beta, 0),
        "a step moves ln u by -2 lr^2 g^2 at second order": _second_order(2) - _effective(2),
        **{
            f"a step moves u^(2-D) as the shift of ln u does, D = {depth}": _second_order(depth) - _effective(depth)
            for depth in (3, 4, 5)
        },
    },
    call=lambda b, log_alpha: (np.array([1e7]), (np.array([[1.0]]), np.array([b]), log_alpha)),
    read=lambda shifts: shifts[0][0, 0],
    source="Even et al. 2023 (arXiv:2302.08982), effective initialisation",
)
