"""Noise of stochastic gradient descent in a perceptron: moments of a noisy margin, and when samples are separable."""

import sympy as sp

from derivations.formula import Formula, Interval

rho, alpha, temperature, t = sp.symbols("rho alpha T t", positive=True)
chi = sp.Symbol("chi", positive=True)
r, a, u, z, theta = sp.symbols("r a u z theta", positive=True)

PHI = sp.exp(-(u**2) / 2) / sp.sqrt(2 * sp.pi)
TAIL = sp.erfc(u / sp.sqrt(2)) / 2
DENSITY = 1 / (2 ** ((chi - 1) / 2) * sp.gamma((1 + chi) / 2))


def moment(power):
    """E |Z|^p."""
    return 2 ** (power / 2) * sp.gamma((power + 1) / 2) / sp.sqrt(sp.pi)


def share(cosines, sines):
    """int_0^{arctan 1/rho} cos^m sin^n over int_0^pi sin^chi."""
    first, second = (sines + 1) / 2, sp.Rational(cosines + 1, 2)
    whole = sp.sqrt(sp.pi) * sp.gamma((1 + chi) / 2) / sp.gamma(1 + chi / 2)
    return sp.betainc(first, second, 0, 1 / (1 + rho**2)) / 2 / whole


CROWDING = (2 + chi) * (share(2, chi) - 2 * rho * share(1, 1 + chi) + rho**2 * share(0, 2 + chi))
UNFIT = sp.betainc((1 + chi) / 2, sp.Rational(1, 2), 0, 1 / (1 + rho**2)) / (
    2 * sp.beta((1 + chi) / 2, sp.Rational(1, 2))
)


def _density_is_one():
    return sp.gammasimp(DENSITY * 2 ** ((chi - 1) / 2) * sp.gamma((1 + chi) / 2) - 1)


def _unfit_slope():
    """d/drho of P(Z > rho z) is -E z phi(rho z), a Gamma integral; an incomplete beta changes at its end."""
    x = 1 / (1 + rho**2)
    end = x ** ((1 + chi) / 2 - 1) * (1 - x) ** sp.Rational(-1, 2) * sp.diff(x, rho)
    found = end / (2 * sp.gamma((1 + chi) / 2) * sp.sqrt(sp.pi) / sp.gamma(1 + chi / 2))
    # int_0^infinity z^{1+chi} exp(-(1+rho^2) z^2 / 2) dz = 2^{chi/2} Gamma(1 + chi/2) (1 + rho^2)^{-(1 + chi/2)}.
    expected = -DENSITY / sp.sqrt(2 * sp.pi) * 2 ** (chi / 2) * sp.gamma(1 + chi / 2) * x ** (1 + chi / 2)
    return sp.gammasimp(sp.simplify(sp.powsimp(found / expected, force=True))) - 1


def _crowding(power):
    """The angular integral in closed form, for a whole number chi."""
    angle = sp.Integral(
        (sp.cos(theta) - rho * sp.sin(theta)) ** 2 * sp.sin(theta) ** power, (theta, 0, sp.atan(1 / rho))
    )
    whole = sp.integrate(sp.sin(theta) ** power, (theta, 0, sp.pi))
    return (2 + power) * angle.doit() / whole


def _three_derivatives(power):
    """E_z int_{rho z} Dt (t - rho z)^2 has the third derivative -2 E z^3 phi(rho z), and starts as it must."""
    found = _crowding(power)
    c = DENSITY.subs(chi, power)
    integral = 2 ** sp.Rational(2 + power, 2) * sp.gamma(sp.Rational(4 + power, 2))
    third = -2 * c / sp.sqrt(2 * sp.pi) * integral * (1 + rho**2) ** sp.Rational(-(4 + power), 2)
    mean = c * 2 ** sp.Rational(power, 2) * sp.gamma(sp.Rational(2 + power, 2))
    starts = (sp.Rational(1, 2), -2 * mean / sp.sqrt(2 * sp.pi), sp.Integer(1 + power))
    left = [sp.simplify(sp.diff(found, rho, 3) - third)]
    left += [sp.simplify(sp.limit(sp.diff(found, rho, n), rho, 0, "+") - start) for n, start in enumerate(starts)]
    return sp.Matrix(left)


unfit = Formula(
    title="Fraction of fresh samples on the wrong side of a noisy boundary",
    backs="theory.lazy_rich.sgd_noise.unfit_fraction",
    symbol=sp.Symbol("p"),
    arguments=(rho, chi),
    domain={rho: Interval(0.05, 20, log=True), chi: Interval(0.05, 3)},
    expression=UNFIT,
    proofs={"its slope is -E z phi(rho z)": _unfit_slope, "the density of distances is normalised": _density_is_one},
    source="Student's t distribution",
)

separable = Formula(
    title="Least ratio of signal to noise at which samples are separable",
    backs="theory.lazy_rich.sgd_noise.separable_ratio",
    symbol=rho,
    arguments=(alpha, chi),
    domain={alpha: Interval(3, 60, log=True), chi: Interval(0.05, 3)},
    law=alpha * CROWDING - 1,
    proofs={
        "the angular integral is E int Dt (t - rho z)^2, chi = 0": lambda: _three_derivatives(0),
        "the angular integral is E int Dt (t - rho z)^2, chi = 1": lambda: _three_derivatives(1),
    },
    source="Gardner 1988 (J. Phys. A 21, 257)",
)

PLATEAU = temperature * moment(1 + chi) / (2 * (1 + chi) * moment(chi))
PULL = DENSITY * moment(2 + chi) / (2 * (2 + chi))


def _balance():
    """2 E s 1(s < -a z) + T P(s < -a z) = 0 at large a / r, with moments of u = a z / r of density c u^chi."""
    by_parts = sp.diff(u ** (1 + chi) * TAIL / (1 + chi), u) - u**chi * TAIL + u ** (1 + chi) * PHI / (1 + chi)
    pulled, unfit_ = moment(chi) / 2, moment(1 + chi) / 2 / (1 + chi)
    return sp.Matrix([sp.simplify(by_parts), sp.simplify(-2 * PLATEAU * pulled + temperature * unfit_)])


def _half_moment():
    return sp.simplify(sp.integrate(u**chi * PHI, (u, 0, sp.oo)) - moment(chi) / 2)


plateau = Formula(
    title="Size at which the noise of a perceptron settles",
    backs="theory.lazy_rich.sgd_noise.noise_plateau",
    symbol=r,
    arguments=(temperature, chi),
    domain={temperature: Interval(0.1, 100, log=True), chi: Interval(0.05, 3)},
    expression=PLATEAU,
    proofs={"forgetting balances the noise": _balance, "half moments": _half_moment},
    source="derived for the perceptron of Sclocchi, Geiger & Wyart 2023 (arXiv:2301.13703)",
)

_signal = ((3 + chi) * PULL * PLATEAU ** (2 + chi) * t) ** (1 / (3 + chi))

late = Formula(
    title="Late growth of the signal of a perceptron",
    backs="theory.lazy_rich.sgd_noise.late_signal",
    symbol=sp.Function("a")(t),
    arguments=(t, temperature, chi),
    domain={t: Interval(1, 1e6, log=True), temperature: Interval(0.1, 100, log=True), chi: Interval(0.05, 3)},
    expression=_signal,
    proofs={
        # E z 1(s < -a z) = c (r / a)^{2 + chi} int u^{1 + chi} P(Z > u) du.
        "da/dt = c k (r / a)^(2 + chi)": lambda: sp.simplify(
            sp.powsimp(sp.diff(_signal, t) * _signal ** (2 + chi) / (PULL * PLATEAU ** (2 + chi)), force=True) - 1
        ),
    },
    source="derived for the perceptron of Sclocchi, Geiger & Wyart 2023 (arXiv:2301.13703)",
)
