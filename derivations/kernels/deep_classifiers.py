"""Deep classifiers of two training inputs, and of one, in closed form; inputs on a circle, by their angles."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, t1, t2, y1, y2 = sp.symbols("t t_1 t_2 y_1 y_2", real=True)
delta, alpha, p, xi = sp.symbols("delta alpha p xi", positive=True)
PAPER = "Radhakrishnan, Belkin & Uhler 2023 (PNAS 120)"
ANGLES = {t: Interval(0.5, 0.8), t1: Interval(0.0, 0.4), t2: Interval(0.9, 1.5)}
LABELS = {y1: Interval(0.2, 1), y2: Interval(1, 2)}
labels = sp.Matrix([y1, y2])


def on_circle(*angles):
    return np.array([[np.cos(a), np.sin(a)] for a in angles])


def _data(t, t1, t2, y1, y2):
    return on_circle(float(t)), on_circle(float(t1), float(t2)), np.array([y1, y2])


def _first(scores):
    return scores[0]


def solved(kernel, new):
    """The kernel machine k^T K^{-1} y of two inputs."""
    return (new.T * kernel.inv() * labels)[0]


# Off-diagonals that vanish with depth, in the ratio of the singular kernel.
g, g1, g2 = sp.symbols("g g_1 g_2", positive=True)
_vote = (y1 * g1 + y2 * g2) / (g1 + g2)
_vanishing = solved(sp.Matrix([[1, delta * g], [delta * g, 1]]), delta * sp.Matrix([g1, g2]))


def _mobius_kernel(angle):
    """xi / (1 - xi), the singular kernel of the Mobius dual of `derivations.kernels.deep_limits`."""
    return sp.cos(angle) / (1 - sp.cos(angle))


singular_classifier = Formula(
    title="Singular classifier of two inputs, geometric Hermite weights",
    backs="theory.kernels.deep_classifiers.singular_classifier",
    symbol=sp.Symbol("score"),
    arguments=(t, t1, t2, y1, y2),
    domain={**ANGLES, **LABELS},
    expression=_vote.subs({g1: _mobius_kernel(t - t1), g2: _mobius_kernel(t2 - t)}),
    proofs={
        "it is the kernel machine as off-diagonals vanish, up to its size": sp.limit(_vanishing / delta, delta, 0)
        - _vote * (g1 + g2)
    },
    call=lambda *numbers: (*_data(*numbers), np.array([0.0, *(0.5**k for k in range(1, 60))])),
    read=_first,
    source=f"{PAPER}, the singular case",
)

_powers = [(2 * sp.sin(a / 2)) ** -alpha for a in (t - t1, t2 - t)]

hilbert_classifier = Formula(
    title="Hilbert kernel estimate of two inputs",
    backs="theory.kernels.deep_classifiers.hilbert_classifier",
    symbol=sp.Symbol("score"),
    arguments=(t, t1, t2, y1, y2, alpha),
    domain={**ANGLES, **LABELS, alpha: Interval(0.2, 6)},
    expression=_vote.subs({g1: _powers[0], g2: _powers[1]}),
    proofs={"|x - x'| = 2 sin(angle/2)": (2 - 2 * sp.cos(t)) - (2 * sp.sin(t / 2)) ** 2},
    call=lambda *numbers: (*_data(*numbers[:5]), float(numbers[5])),
    read=_first,
    source="Devroye, Gyorfi & Krzyzak 1998",
)

# Deviations from a constant kernel that vanish with depth.
D, D1, D2 = sp.symbols("D D_1 D_2", positive=True)
_interpolation = (y1 + y2) / 2 + (y1 - y2) * (D2 - D1) / (2 * D)
_uniting = solved(sp.Matrix([[1, 1 - delta * D], [1 - delta * D, 1]]), sp.Matrix([1 - delta * D1, 1 - delta * D2]))
_ridge = sp.Symbol("r", positive=True)
_shrunk = solved(
    sp.Matrix([[1 + _ridge, 1 - delta * D], [1 - delta * D, 1 + _ridge]]),
    sp.Matrix([1 - delta * D1, 1 - delta * D2]),
)


def _mobius_distance(angle):
    """(s - 1)(1 - xi)/(s - xi) at s = 2, of the Mobius dual with slope 1/2 at one."""
    return (1 - sp.cos(angle)) / (2 - sp.cos(angle))


interpolating_classifier = Formula(
    title="Interpolating classifier of two inputs, geometric Hermite weights",
    backs="theory.kernels.deep_classifiers.interpolating_classifier",
    symbol=sp.Symbol("score"),
    arguments=(t, t1, t2, y1, y2),
    domain={**ANGLES, **LABELS},
    expression=_interpolation.subs(
        {D: _mobius_distance(t2 - t1), D1: _mobius_distance(t - t1), D2: _mobius_distance(t2 - t)}
    ),
    proofs={
        "it is the kernel machine as all inputs become one": sp.limit(sp.simplify(_uniting), delta, 0) - _interpolation,
        "with a ridge that machine is a majority vote": sp.limit(sp.simplify(_shrunk), delta, 0)
        - (y1 + y2) / (2 + _ridge),
    },
    call=lambda *numbers: (*_data(*numbers), np.array([2 / 3, *(2 / 9 / 3**k for k in range(60))])),
    read=_first,
    source="derived here",
)

_vote_of_two = (y1 + y2) / 2
r = sp.Symbol("rho", positive=True)
_constant = solved(sp.Matrix([[1, r], [r, 1]]), sp.Matrix([r, r]))

majority_vote = Formula(
    title="Majority vote of two inputs",
    backs="theory.kernels.deep_classifiers.majority_vote",
    symbol=sp.Symbol("score"),
    arguments=(y1, y2),
    domain=LABELS,
    expression=_vote_of_two,
    proofs={"equal off-diagonals give every label the same weight": _constant * (1 + r) / (2 * r) - _vote_of_two},
    call=lambda y1, y2: (np.array([y1, y2]),),
    source=f"{PAPER}, the case of a constant kernel",
)

# One training input, three hidden layers, f = (2 + xi + xi^2) / 4: the tangent kernel over its diagonal.
_f = (2 + xi + xi**2) / 4
_sigma, _theta = [xi], [xi]
for _ in range(3):
    _theta.append(_f.subs(xi, _sigma[-1]) + _theta[-1] * sp.diff(_f, xi).subs(xi, _sigma[-1]))
    _sigma.append(_f.subs(xi, _sigma[-1]))
_slope = sp.Rational(3, 4)

deep_classifier = Formula(
    title="Tangent kernel of three hidden layers over its diagonal",
    backs="theory.kernels.deep_classifiers.deep_classifier",
    symbol=sp.Symbol("score"),
    arguments=(t,),
    domain={t: Interval(0.01, 2.6)},
    expression=_theta[-1].subs(xi, sp.cos(t)) / _theta[-1].subs(xi, 1),
    proofs={
        "on the diagonal it is a geometric sum": _theta[-1].subs(xi, 1) - (_slope**4 - 1) / (_slope - 1),
        "its slope at one layer is f' + (xi f')'": sp.diff(_theta[1], xi)
        - 2 * sp.diff(_f, xi)
        - xi * sp.diff(_f, xi, 2),
    },
    call=lambda t: (on_circle(float(t)), on_circle(0.0), np.array([1.0]), np.array([0.5, 0.25, 0.25]), 3),
    read=_first,
    source=f"{PAPER}, recursion of the normalised kernels",
)

nearest_neighbour = Formula(
    title="Nearest neighbour of two inputs",
    backs="theory.kernels.deep_classifiers.nearest_neighbour",
    symbol=sp.Symbol("score"),
    arguments=(t, y1, y2),
    domain={t: Interval(0.1, 0.74), **LABELS},
    expression=y1,
    proofs={
        # Off-diagonals e^{2^L} of unequal e: the larger one is all that is left.
        "the nearer input's share tends to one": sp.limit(
            1 / (1 + p ** (2**delta)).subs(p, sp.Rational(1, 2)), delta, sp.oo
        )
        - 1
    },
    call=lambda t, y1, y2: (on_circle(float(t)), on_circle(0.0, 1.5), np.array([y1, y2])),
    read=_first,
    source=f"{PAPER}, the case of vanishing off-diagonals",
)
