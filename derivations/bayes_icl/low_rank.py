"""Weights of rank one: a Gaussian cut at zero and its recurrence, the first label, a single angle."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

x, u = sp.symbols("x u", real=True)
# Half of the integral's Gaussian: I_0 = int_0^inf e^{-x u - u^2 / 2} du.
half = sp.sqrt(sp.pi / 2) * sp.exp(x**2 / 2) * sp.erfc(x / sp.sqrt(2))
# I_{k+1} = -dI_k / dx.
first, second = -sp.diff(half, x), sp.diff(half, x, 2)
WIDE = {x: Interval(-6, 12)}


def _integral():
    """The stated I_0 by completing the square."""
    integral = sp.integrate(sp.exp(-(u**2) / 2), (u, x, sp.oo)) * sp.exp(x**2 / 2)
    return sp.simplify((integral - half).rewrite(sp.erf))


def _by_parts(k):
    """I_{k+1} = k I_{k-1} - x I_k, whose quotients are the continued fraction: u^k e^{-..} vanishes at both ends."""
    inside = sp.exp(-x * u - u**2 / 2)
    slope = sp.diff(u**k * inside, u)
    return sp.simplify(slope - (k * u ** (k - 1) - x * u**k - u ** (k + 1)) * inside)


total = Formula(
    title="Integral over the positive half of a Gaussian",
    backs="theory.bayes_icl.low_rank.cut_gaussian",
    symbol=sp.Symbol("I_0"),
    arguments=(x,),
    domain=WIDE,
    expression=half,
    proofs={"completed square": _integral, "slope": lambda: sp.simplify(sp.diff(half, x) - x * half + 1)},
    read=lambda found: np.exp(found.log_total),
    source="Laplace 1805",
)

mean = Formula(
    title="Mean of a Gaussian cut at zero",
    backs="theory.bayes_icl.low_rank.cut_gaussian",
    symbol=sp.Symbol("I_1 / I_0"),
    arguments=(x,),
    domain=WIDE,
    expression=first / half,
    proofs={"recurrence of the first": lambda: sp.simplify(first - (1 - x * half)), "by parts": lambda: _by_parts(1)},
    read=lambda found: found.mean,
    source="Laplace 1805",
)

square = Formula(
    title="Mean square of a Gaussian cut at zero",
    backs="theory.bayes_icl.low_rank.cut_gaussian",
    symbol=sp.Symbol("I_2 / I_0"),
    arguments=(x,),
    domain=WIDE,
    expression=second / half,
    proofs={"recurrence": lambda: sp.simplify(second - (half - x * first)), "by parts": lambda: _by_parts(2)},
    read=lambda found: found.square,
    source="Laplace 1805",
)

a, b, c, d = sp.symbols("x_11 x_12 x_21 x_22", real=True)
s2 = sp.Symbol("sigma^2", positive=True)
p, q = sp.symbols("p q", real=True)
ENTRIES = {entry: Interval(-2, 2) for entry in (a, b, c, d)}
variance = 2 * a**2 + 2 * d**2 + (b + c) ** 2 + s2


def _moment(polynomial):
    """Mean over independent N(0, 1) p and q: E p^2 = 1, E p^4 = 3, odd moments vanish."""
    known = {0: 1, 2: 1, 4: 3}
    terms = sp.Poly(sp.expand(polynomial), p, q).terms()
    return sum(known.get(i, 0) * known.get(j, 0) * factor for (i, j), factor in terms)


def _prior_variance():
    """Var of z^T X z + noise from the fourth moments of z."""
    value = a * p**2 + (b + c) * p * q + d * q**2
    return sp.simplify(_moment(value**2) - _moment(value) ** 2 + s2 - variance)


def _prior_mean():
    return sp.simplify(_moment(a * p**2 + (b + c) * p * q + d * q**2) - (a + d))


first_label = Formula(
    title="Variance of the first label of a weight of rank one",
    backs="theory.bayes_icl.low_rank.rank_one_predictions",
    symbol=sp.Symbol("V_0"),
    arguments=(a, b, c, d, s2),
    domain=ENTRIES | {s2: Interval(0.1, 5)},
    expression=variance,
    proofs={"fourth moments": _prior_variance, "mean is the trace": _prior_mean},
    call=lambda a, b, c, d, s2: (np.array([[a, b, c, d]]), np.zeros(1), s2),
    read=lambda found: found.variance[0],
    source="moments of a Gaussian",
)

y, rho = sp.symbols("y rho", real=True)
trace = sp.Symbol("t", positive=True)
# With x = t I all angles look alike, and one label says y = t rho + noise, with rho of density e^{-rho / 2} / 2.
shift = (sp.Rational(1, 2) - trace * y / s2) * sp.sqrt(s2) / trace


def _exponent():
    """-rho / 2 - (y - t rho)^2 / (2 s2) is, with u = rho t / s, that of I_0 at the stated shift, and a constant."""
    exponent = -rho / 2 - (y - trace * rho) ** 2 / (2 * s2)
    scaled = rho * trace / sp.sqrt(s2)
    return sp.simplify(exponent - (-shift * scaled - scaled**2 / 2) + y**2 / (2 * s2))


second_label = Formula(
    title="Second label where all angles look alike",
    backs="theory.bayes_icl.low_rank.rank_one_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(y, trace, s2),
    domain={y: Interval(-2, 4), trace: Interval(0.3, 2), s2: Interval(0.2, 4)},
    expression=trace * (first / half).subs(x, shift) * sp.sqrt(s2) / trace,
    proofs={"completed square": _exponent, "recurrence": lambda: sp.simplify(first - (1 - x * half))},
    call=lambda y, t, s2: (np.array([[t, 0, 0, t]] * 2), np.array([y, 0.0]), s2),
    read=lambda found: found.mean[1],
    source="derived here",
)
