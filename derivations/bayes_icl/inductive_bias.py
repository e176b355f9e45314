"""The noncentral chi-squared law: one degree of freedom as a shifted Gaussian, and as a Poisson mixture."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

x, shift, eps, tau2 = sp.symbols("x Lambda epsilon tau^2", positive=True)
j = sp.Symbol("j", integer=True, nonnegative=True)
t1, t2, t3, a1, a2 = sp.symbols("theta_1 theta_2 theta_3 a_1 a_2", real=True)

_one = (sp.erf((sp.sqrt(x) - sp.sqrt(shift)) / sp.sqrt(2)) + sp.erf((sp.sqrt(x) + sp.sqrt(shift)) / sp.sqrt(2))) / 2
_density = sp.exp(-(x + shift) / 2) * sp.cosh(sp.sqrt(shift * x)) / sp.sqrt(2 * sp.pi * x)


def _mixture():
    """Term by term: Poisson times central chi-squared of 1 + 2 j is the j-th term of the series of cosh."""
    poisson = sp.exp(-shift / 2) * (shift / 2) ** j / sp.factorial(j)
    central = (
        x ** (j - sp.Rational(1, 2)) * sp.exp(-x / 2) / (2 ** (j + sp.Rational(1, 2)) * sp.gamma(j + sp.Rational(1, 2)))
    )
    wanted = sp.exp(-(x + shift) / 2) * (shift * x) ** j / sp.factorial(2 * j) / sp.sqrt(2 * sp.pi * x)
    ratio = sp.gammasimp(sp.simplify(poisson * central / wanted).rewrite(sp.gamma))
    return sp.simplify(ratio) - 1


def _series():
    """P(a, y) is the stated sum of terms: its derivative telescopes to the density, term by term."""
    a, y = sp.symbols("a y", positive=True)

    def term(i):
        return y ** (a + i) * sp.exp(-y) / sp.gamma(a + i + 1)

    density = y ** (a - 1) * sp.exp(-y) / sp.gamma(a)
    # d/dy term(i) = term(i - 1) - term(i), where term(-1) is the density.
    inner = [sp.diff(term(i), y) - term(i - 1) + term(i) for i in (1, 2)]
    residuals = [sp.diff(term(0), y) - density + term(0), *inner]
    return sp.Matrix([sp.simplify(sp.gammasimp(r)) for r in residuals])


one = Formula(
    title="Log distribution of one shifted Gaussian, squared",
    backs="theory.bayes_icl.inductive_bias.log_noncentral_chi2",
    symbol=sp.Symbol("F"),
    arguments=(x, shift),
    domain={x: Interval(1e-6, 4, log=True), shift: Interval(1, 60)},
    expression=sp.log(_one),
    proofs={
        "its density": lambda: sp.simplify((sp.diff(_one, x) - _density).rewrite(sp.exp)),
        "Poisson mixture": _mixture,
        "series of the central law": _series,
        "from zero on": lambda: sp.limit(_one.subs(shift, 1), x, 0),
    },
    call=lambda x, shift: (x, 1.0, shift),
    source="Johnson, Kotz & Balakrishnan 1995, chapter 29",
)

_two = -sp.log(1 - sp.exp(-eps / (2 * tau2))) / sp.log(2)


def _plane():
    """Two free directions around a target at the origin: the mass of a disc, in polar coordinates."""
    radius = sp.Symbol("r", positive=True)
    mass = sp.integrate(radius / tau2 * sp.exp(-(radius**2) / (2 * tau2)), (radius, 0, sp.sqrt(eps)))
    return sp.simplify(2 ** (-_two) - mass)


bits = Formula(
    title="Bits of inductive bias, two directions that the data leave open",
    backs="theory.bayes_icl.inductive_bias.linear_inductive_bias",
    symbol=sp.Symbol("I"),
    arguments=(eps, tau2),
    domain={eps: Interval(1e-6, 10, log=True), tau2: Interval(0.2, 5)},
    expression=_two,
    proofs={"mass of a disc": _plane},
    call=lambda eps, tau2: (eps, 5, 3, 0.0, tau2),
    source="derived here, for the inductive bias of Boopathy et al. 2024",
)

_hidden = t3**2 + (a1 * t2 - a2 * t1) ** 2 / (a1**2 + a2**2)


def _projected():
    """|theta|^2 - (a . theta)^2 / |a|^2, of one datum a in the plane of the first two coordinates."""
    seen = (a1 * t1 + a2 * t2) ** 2 / (a1**2 + a2**2)
    return sp.simplify(t1**2 + t2**2 + t3**2 - seen - _hidden)


energy = Formula(
    title="What one datum leaves of a target",
    backs="theory.bayes_icl.inductive_bias.null_energy",
    symbol=sp.Symbol("E"),
    arguments=(a1, a2, t1, t2, t3),
    domain={
        a1: Interval(0.3, 2),
        a2: Interval(-2, 2),
        t1: Interval(-2, 2),
        t2: Interval(-2, 2),
        t3: Interval(0.5, 2),
    },
    expression=_hidden,
    proofs={"projection": _projected},
    call=lambda a, b, t, u, v: (np.array([[a, b, 0.0]]), np.array([t, u, v])),
    source="linear algebra",
)
