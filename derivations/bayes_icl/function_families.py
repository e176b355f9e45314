"""Families of functions: one of two coordinates, a Fourier series of unknown length, opposite components, a wavelet."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a, b, c, d, y0 = sp.symbols("a b c d y_0", real=True)
s2, tau2 = sp.symbols("sigma^2 tau^2", positive=True)

# One of two coordinates is in use: x_0 = (a, b), x_1 = (c, d).
VARIANCES = [tau2 * x**2 + s2 for x in (a, b)]
EVIDENCE = [sp.exp(-(y0**2) / (2 * v)) / sp.sqrt(2 * sp.pi * v) for v in VARIANCES]
SPARSE = sum(e * tau2 * x * z * y0 / v for e, x, z, v in zip(EVIDENCE, (a, b), (c, d), VARIANCES, strict=True))
SPARSE = SPARSE / sum(EVIDENCE)


def _by_integral():
    """Evidence and posterior mean of one coordinate, from the integral over its weight."""
    w = sp.Symbol("w", real=True)
    numbers = {a: sp.Rational(3, 2), y0: sp.Rational(2, 3), s2: sp.Rational(1, 2), tau2: sp.Integer(2)}
    joint = sp.exp(-((y0 - a * w) ** 2) / (2 * s2) - w**2 / (2 * tau2)) / (2 * sp.pi * sp.sqrt(s2 * tau2))
    joint = joint.subs(numbers)
    mass, first = (sp.integrate(sp.expand(joint * power), (w, -sp.oo, sp.oo)) for power in (1, w))
    wanted = (tau2 * a * y0 / VARIANCES[0]).subs(numbers)
    return sp.Abs(sp.simplify(mass - EVIDENCE[0].subs(numbers))) + sp.Abs(sp.simplify(first / mass - wanted))


sparse = Formula(
    title="Second label when one of two coordinates is in use",
    backs="theory.bayes_icl.function_families.sparse_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(a, b, c, d, s2, y0, tau2),
    domain={name: Interval(0.1, 2) for name in (a, b, c, d, y0)} | {s2: Interval(0.02, 2), tau2: Interval(0.2, 2)},
    expression=SPARSE,
    proofs={
        "integral over the weight": _by_integral,
        "alike coordinates": lambda: sp.simplify(SPARSE.subs({b: a, d: c}) - tau2 * a * c * y0 / VARIANCES[0]),
    },
    call=lambda a, b, c, d, s2, y0, tau2: (np.array([[a, b], [c, d]]), np.array([y0, 1.0]), s2, 1, tau2),
    read=lambda found: found.mean[1],
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891)",
)

x0, x1, half = sp.symbols("x_0 x_1 L", real=True)
TURN = sp.pi * (x0 - x1) / half
KERNEL = (sp.cos(TURN) + sp.cos(2 * TURN)) / 2


def _kernel():
    """Prior covariance of f(x_0) and f(x_1) is the sum of products of features."""
    features = [[g(k * sp.pi * x / half) for k in (1, 2) for g in (sp.cos, sp.sin)] for x in (x0, x1)]
    return sp.simplify(sp.expand_trig(sum(f * g for f, g in zip(*features, strict=True)) / 2 - KERNEL))


fourier = Formula(
    title="Second value of a Fourier series that has one frequency or two",
    backs="theory.bayes_icl.function_families.fourier_mixture_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(x0, x1, y0, s2, half),
    domain={
        x0: Interval(-0.5, 0),
        x1: Interval(0.1, 0.5),
        y0: Interval(0.1, 2),
        s2: Interval(0.02, 2),
        half: Interval(4, 6),
    },
    # One label says nothing on their number: both give it variance 1 + sigma^2.
    expression=(sp.cos(TURN) + KERNEL) / 2 * y0 / (1 + s2),
    proofs={
        "kernel of two frequencies": _kernel,
        "same variance for any number": lambda: sp.simplify(KERNEL.subs(x1, x0) - 1),
    },
    call=lambda x0, x1, y0, s2, half: (np.array([x0, x1]), np.array([y0, 9.0]), s2, 2, half),
    read=lambda found: found.mean[1],
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891)",
)

m, phi, t = sp.symbols("m phi t", real=True)
ODDS = 2 * phi * m * y0 / (tau2 * phi**2 + s2)
MIXED = (m * sp.tanh(ODDS / 2) + tau2 * phi / (tau2 * phi**2 + s2) * (y0 - phi * m * sp.tanh(ODDS / 2))) * t
OPPOSITE = {name: Interval(0.3, 2) for name in (m, phi, t, y0)} | {s2: Interval(0.05, 2), tau2: Interval(0.2, 2)}


def _odds():
    """From both evidences."""
    v = tau2 * phi**2 + s2
    return sp.simplify(((y0 + phi * m) ** 2 - (y0 - phi * m) ** 2) / (2 * v) - ODDS)


def _mixed():
    """Each component's posterior mean, weighed."""
    v, p = tau2 * phi**2 + s2, 1 / (1 + sp.exp(-ODDS))
    means = [sign * m + tau2 * phi / v * (y0 - sign * phi * m) for sign in (1, -1)]
    return sp.simplify(((p * means[0] + (1 - p) * means[1]) * t - MIXED).rewrite(sp.exp))


opposite_components = Formula(
    title="Second label when the weight is from one of two opposite Gaussians",
    backs="theory.bayes_icl.function_families.gaussian_mixture_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(phi, t, y0, s2, m, tau2),
    domain=OPPOSITE,
    expression=MIXED,
    proofs={"weighed means": _mixed, "log odds": _odds},
    call=lambda phi, t, y0, s2, m, tau2: (
        np.array([[phi], [t]]),
        np.array([y0, 4.0]),
        s2,
        np.array([[m], [-m]]),
        tau2,
    ),
    read=lambda found: found.mean[1],
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891)",
)

log_odds = Formula(
    title="Log odds of the two components",
    backs="theory.bayes_icl.function_families.component_log_odds",
    symbol=sp.Symbol("o"),
    arguments=(phi, y0, s2, m, tau2),
    domain=OPPOSITE,
    expression=ODDS,
    proofs={"from both evidences": _odds},
    call=lambda phi, y0, s2, m, tau2: (np.array([[phi]]), np.array([y0]), s2, np.array([m]), tau2),
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891)",
)

haar = Formula(
    title="Finest of three wavelets on its second half",
    backs="theory.bayes_icl.function_families.haar_features",
    symbol=sp.Symbol("psi_{1,1}"),
    arguments=(x0,),
    domain={x0: Interval(0.76, 0.99)},
    expression=-sp.sqrt(2) + 0 * x0,
    proofs={
        "of unit norm": 2 * sp.Rational(1, 2) - 1,
        "orthogonal to the coarse one": sp.integrate(-sp.sqrt(2), (x0, sp.Rational(1, 2), sp.Rational(3, 4)))
        + sp.integrate(sp.sqrt(2), (x0, sp.Rational(3, 4), 1)),
    },
    call=lambda x0: (np.array([x0]), 1),
    read=lambda found: found[0, 3],
    source="Haar 1910",
)
