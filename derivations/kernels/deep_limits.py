"""Infinite depth: the exponent of the singular kernel, Koenigs functions in closed form, the consistent mixture.

A Mobius map has Koenigs functions in closed form, and is the dual of an activation with geometric Hermite weights.
"""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

xi, p, m, s, d, alpha, L = sp.symbols("xi p m s d alpha L", positive=True)
e = sp.Symbol("epsilon", positive=True)
PAPER = "Radhakrishnan, Belkin & Uhler 2023 (PNAS 120)"
TERMS = 80

_cubic = p * xi + (1 - p) * xi**3
_exponent = -2 * sp.log(p) / sp.log(3 - 2 * p)

exponent = Formula(
    title="Exponent of the singular kernel of phi = sqrt(p) h_1 + sqrt(1 - p) h_3",
    backs="theory.kernels.deep_limits.deep_limit",
    symbol=alpha,
    arguments=(p,),
    domain={p: Interval(0.01, 0.95)},
    expression=_exponent,
    proofs={
        "f'(0) = p": sp.diff(_cubic, xi).subs(xi, 0) - p,
        "f'(1) = 3 - 2 p": sp.diff(_cubic, xi).subs(xi, 1) - (3 - 2 * p),
        # g ~ e^{-alpha/2}, e = 1 - xi = |x - x'|^2 / 2, and a layer takes e to f'(1) e.
        "g(f) = f'(0) g near coincidence": sp.expand_log(
            -_exponent / 2 * sp.log(3 - 2 * p) - sp.log(p),
            force=True,
        ),
    },
    call=lambda p: (np.array([0.0, p, 0.0, 1 - p]),),
    read=lambda limit: limit.exponent,
    source=f"{PAPER}, the singular case",
)

_mobius = p * xi / (1 - (1 - p) * xi)
_singular = xi / (1 - xi)


def _geometric_weights(p):
    return np.array([0.0, *(p * (1 - p) ** k for k in range(TERMS))])


singular_kernel = Formula(
    title="Singular kernel of an activation with geometric Hermite weights",
    backs="theory.kernels.deep_limits.singular_kernel",
    symbol=sp.Function("g")(xi),
    arguments=(xi, p),
    domain={xi: Interval(0.001, 0.999), p: Interval(0.4, 0.9)},
    expression=_singular,
    proofs={
        "f(1) = 1": _mobius.subs(xi, 1) - 1,
        "its weights are p (1 - p)^{k-1}": sp.diff(_mobius, xi, 4).subs(xi, 0) / 24 - p * (1 - p) ** 3,
        "g(f) = f'(0) g": _singular.subs(xi, _mobius) - sp.diff(_mobius, xi).subs(xi, 0) * _singular,
        "g'(0) = 1": sp.diff(_singular, xi).subs(xi, 0) - 1,
        "f'(0) f'(1) = 1: the exponent is 2": sp.diff(_mobius, xi).subs(xi, 0) * sp.diff(_mobius, xi).subs(xi, 1) - 1,
    },
    call=lambda xi, p: (xi, _geometric_weights(p)),
    source=f"{PAPER}, the singular case; Koenigs 1884",
)

# Fixed points 1 and s > 1, slope m < 1 at 1.
_shrinking = (s * (1 - m) - xi * (1 - m * s)) / (s - m - xi * (1 - m))
_distance = (s - 1) * (1 - xi) / (s - xi)


def _shrinking_weights(m, s):
    ratio, first = (1 - m) / (s - m), m * (s - 1) ** 2 / (s - m) ** 2
    return np.array([s * (1 - m) / (s - m), *(first * ratio**k for k in range(TERMS))])


# The deviation of Theta from its limit at leading order, L m^{L-1} times something, from one layer to the next.
_second = sp.Symbol("C2", positive=True)
_prefactor = (m + _second / (1 - m)) / m
_deviation = _prefactor * L * m**L * e

interpolation_distance = Formula(
    title="Deviation of deep kernels from a constant, in closed form",
    backs="theory.kernels.deep_limits.interpolation_distance",
    symbol=sp.Function("D")(xi),
    arguments=(xi, m, s),
    domain={xi: Interval(0, 0.999), m: Interval(0.1, 0.8), s: Interval(1.5, 5)},
    expression=_distance,
    proofs={
        "f(1) = 1": _shrinking.subs(xi, 1) - 1,
        "f'(1) = m": sp.diff(_shrinking, xi).subs(xi, 1) - m,
        "first weight": sp.diff(_shrinking, xi).subs(xi, 0) - m * (s - 1) ** 2 / (s - m) ** 2,
        "the others fall geometrically": sp.diff(_shrinking, xi, 3).subs(xi, 0) / 6
        - m * (s - 1) ** 2 / (s - m) ** 2 * ((1 - m) / (s - m)) ** 2,
        "D(f) = m D": _distance.subs(xi, _shrinking) - m * _distance,
        "D'(1) = -1": sp.diff(_distance, xi).subs(xi, 1) + 1,
        # Theta <- f + Theta f', 1 - f = e m^{L+1}, f' = m - C2 e m^L, Theta = 1/(1 - m) - deviation, at order e.
        "the tangent kernel deviates by L m^L times D": sp.diff(
            (1 / (1 - m) - (1 - e * m ** (L + 1)) - (1 / (1 - m) - _deviation) * (m - _second * e * m**L)), e
        ).subs(e, 0)
        - sp.diff(_deviation, e).subs(L, L + 1),
    },
    call=lambda xi, m, s: (xi, _shrinking_weights(m, s)),
    source="derived here: Koenigs' function at coincidence",
)

_law = p**2 * (3 - 2 * p) ** d - 1

mixture_share = Formula(
    title="Share of h_1 in the mixture with h_3 that is consistent on the sphere of dimension d",
    backs="theory.kernels.deep_limits.mixture_share",
    symbol=p,
    arguments=(d,),
    domain={d: Interval(1.2, 20)},
    law=_law,
    proofs={
        "the law says that the exponent is d": (_exponent - d).subs(d, -2 * sp.log(p) / sp.log(3 - 2 * p)),
        "p = 1 solves it too": _law.subs(p, 1),
        "a second root needs a falling law there, d > 2/(k - 1)": sp.diff(_law, p).subs(p, 1) - (2 - 2 * d),
    },
    call=lambda d: (d, 3),
    source=f"{PAPER}, consistent networks",
)
