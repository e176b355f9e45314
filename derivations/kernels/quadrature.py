"""Quadrature of dual activations: the polar coordinates in which a kink at zero lies on straight lines."""

import sympy as sp

from derivations.formula import Formula, Interval

a, b = sp.symbols("q_1 q_2", positive=True)
rho = sp.Symbol("rho", real=True)
r, angle, theta = sp.symbols("r a theta", positive=True)


def cubic(x):
    """x + x^3, whose average over Gaussian pairs is a polynomial."""
    return x + x * x * x


_u, _v = sp.sqrt(a) * r * sp.cos(angle + theta / 2), sp.sqrt(b) * r * sp.cos(angle - theta / 2)
_c = rho * sp.sqrt(a * b)


def _average(integrand):
    """int_0^inf r exp(-r^2/2) dr int_0^{2 pi} da / 2 pi of a polynomial in u and v."""
    over_angle = sp.integrate(sp.expand(sp.expand_trig(integrand)), (angle, 0, 2 * sp.pi)) / (2 * sp.pi)
    powers = sp.Poly(sp.expand(over_angle), r)
    # int_0^inf r^(k+1) exp(-r^2/2) dr = 2^(k/2) Gamma(k/2 + 1).
    return sum(factor * 2 ** (k / sp.Integer(2)) * sp.gamma(k / sp.Integer(2) + 1) for (k,), factor in powers.terms())


any_function = Formula(
    title="Dual of x + x^3, by quadrature",
    backs="theory.kernels.quadrature.quadrature_dual",
    symbol=sp.Symbol("T"),
    arguments=(a, b, rho),
    domain={a: Interval(0.1, 3), b: Interval(0.1, 3), rho: Interval(0.05, 0.95)},
    expression=_c + 3 * _c * (a + b) + 9 * a * b * _c + 6 * _c**3,
    proofs={
        "E[u v] = c": lambda: _average(_u * _v) - sp.sqrt(a * b) * sp.cos(theta),
        "E[u^2] = q1": lambda: _average(_u**2) - a,
        "E[u v^3] = 3 c q2": lambda: _average(_u * _v**3) - 3 * b * sp.sqrt(a * b) * sp.cos(theta),
    },
    call=lambda q1, q2, r: (cubic, q1, q2, r * (q1 * q2) ** 0.5),
    source="Gaussian pairs in polar coordinates; Isserlis 1918",
)
