"""The spectrum after one example: every number of frequencies is as likely as before, and the few weigh more."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

x, y, s2 = sp.symbols("x y sigma^2", positive=True)
HIGHEST = 4


def share(k):
    weights = [sum(sp.Rational(1, f) for f in range(j, HIGHEST + 1)) ** 2 for j in range(1, HIGHEST + 1)]
    return weights[k - 1] / sum(weights)


def _from_posterior():
    """Mean coefficients given one label, for each number of frequencies, then averaged with equal weight."""
    energy = []
    for k in range(1, HIGHEST + 1):
        # f(x) has variance one for any number F, so E[a_k] = cos(k x) y / (sqrt(F) (1 + s2)), used with 1 / sqrt(F).
        each = sum(sp.Rational(1, f) for f in range(k, HIGHEST + 1)) / HIGHEST
        # Both coefficients of a frequency; simplified here, where it takes no time.
        energy.append((each * y / (1 + s2)) ** 2 * sp.trigsimp(sp.cos(k * x) ** 2 + sp.sin(k * x) ** 2))
    total = sum(energy)
    return sp.Add(*(sp.Abs(sp.simplify(e / total - share(k))) for k, e in enumerate(energy, start=1)))


first = Formula(
    title="Share of the second of four frequencies after one example",
    backs="theory.bayes_icl.simplicity_bias.mixture_spectrum",
    symbol=sp.Symbol("e_2"),
    arguments=(x, y, s2),
    domain={x: Interval(0.1, 3), y: Interval(0.2, 2), s2: Interval(0.01, 1)},
    expression=share(2) + 0 * x,
    proofs={"mean coefficients": _from_posterior, "shares sum to one": sum(share(k) for k in range(1, 5)) - 1},
    call=lambda x, y, s2: (np.array([x]), np.array([y]), s2, HIGHEST, np.pi),
    read=lambda found: found[0, 1],
    source="derived here",
)

whatever = Formula(
    title="The same, whatever the example",
    backs="theory.bayes_icl.simplicity_bias.first_spectrum",
    symbol=sp.Symbol("e_3"),
    arguments=(x,),
    domain={x: Interval(0, 1)},
    expression=share(3) + 0 * x,
    proofs={"mean coefficients": _from_posterior},
    call=lambda x: (HIGHEST,),
    read=lambda found: found[2],
    source="derived here",
)

a, b = sp.symbols("a b", positive=True)


def _transform():
    """Two waves on eight points: sums of the points times waves, by hand."""
    points = [a * sp.cos(sp.pi * j / 4) + b * sp.sin(2 * sp.pi * j / 4) for j in range(8)]
    energy = [
        sum(p * sp.cos(k * sp.pi * j / 4) for j, p in enumerate(points)) ** 2
        + sum(p * sp.sin(k * sp.pi * j / 4) for j, p in enumerate(points)) ** 2
        for k in (1, 2, 3)
    ]
    return sp.simplify(energy[0] / sum(energy) - a**2 / (a**2 + b**2))


energy = Formula(
    title="Share of one of two waves",
    backs="theory.bayes_icl.simplicity_bias.fourier_energy",
    symbol=sp.Symbol("e_1"),
    arguments=(a, b),
    domain={a: Interval(0.1, 3), b: Interval(0.1, 3)},
    expression=a**2 / (a**2 + b**2),
    proofs={"sums over the grid": _transform},
    call=lambda a, b: (a * np.cos(np.pi * np.arange(8) / 4) + b * np.sin(np.pi * np.arange(8) / 2), 3),
    read=lambda found: found[0],
    source="discrete Fourier transform",
)
