"""Overfitting coefficients of spectra that fall as a power and as an exponential: sums as integrals, and exactly."""

import sympy as sp

from derivations.formula import Formula, Interval

n, a, rho, kappa, u, s, noise = sp.symbols("n a rho kappa u s sigma^2", positive=True)
b, j = sp.Symbol("b", positive=True), sp.Symbol("j", integer=True)

# sum_i L_i over i = 1, 2, ... of the spectrum i^{-a}, by Euler and Maclaurin: the integral from 0 less half of L_0 = 1.
_constant = sp.pi / a / sp.sin(sp.pi / a)
_learned = _constant * kappa ** (-1 / a) - sp.Rational(1, 2)
_ridge = (_constant / ((1 - rho) * n + sp.Rational(1, 2))) ** a
_overfitting = n / (rho * n + ((1 - rho) * n + sp.Rational(1, 2)) / a)
_DOMAIN = {n: Interval(1, 1e6, log=True), a: Interval(1.05, 8), rho: Interval(0, 0.99)}
_SOURCE = "Mallinar et al. 2022 (arXiv:2207.06569), theorem 3.1 and its appendix"


def _integral(power):
    """int_0^oo du / (1 + u^a)."""
    return sp.integrate(1 / (1 + u**power), (u, 0, sp.oo))


_c, _whole = sp.symbols("c N", positive=True)

power_law_ridge = Formula(
    title="Effective ridge of the spectrum i^{-a}",
    backs="theory.kernels.overfitting.power_law_ridge",
    symbol=kappa,
    arguments=(n, a, rho),
    domain=_DOMAIN,
    expression=_ridge,
    proofs={
        "sum L = (1 - rho) n, + 1/2 = N": sp.powdenest((((_c / _whole) ** a) ** (-1 / a)), force=True) * _c - _whole,
        "the integral of L at a = 2": lambda: _integral(2) - _constant.subs(a, 2),
        "at a = 3": lambda: _integral(3) - _constant.subs(a, 3),
        "at a = 4": lambda: _integral(4) - _constant.subs(a, 4),
    },
    source=_SOURCE,
)

# n kappa E_0^{-1} = ridge + kappa sum L (1 - L), and sum L (1 - L) is the slope of - sum L in ln kappa.
_spread = -kappa * sp.diff(_learned, kappa)

power_law_overfitting = Formula(
    title="Overfitting coefficient of the spectrum i^{-a}",
    backs="theory.kernels.overfitting.power_law_overfitting",
    symbol=sp.Symbol("E_0"),
    arguments=(n, a, rho),
    domain=_DOMAIN,
    expression=_overfitting,
    proofs={
        "n / (ridge / kappa + sum L (1 - L))": sp.simplify(
            n / _overfitting
            - rho * n
            - _spread.subs(kappa ** (-1 / a), (_learned_power := sp.Symbol("K"))).subs(
                _learned_power, ((1 - rho) * n + sp.Rational(1, 2)) / _constant
            )
        ),
        "without a ridge it is the exponent of kappa": sp.diff(sp.log(_ridge.subs(rho, 0)), n) * (n + sp.Rational(1, 2))
        + a,
    },
    source=_SOURCE,
)

limit = Formula(
    title="Limit of the overfitting coefficient",
    backs="theory.kernels.overfitting.overfitting_limit",
    symbol=sp.Symbol("E_0"),
    arguments=(a, rho),
    domain={a: Interval(1, 50), rho: Interval(0, 1)},
    expression=a / (1 + (a - 1) * rho),
    proofs={
        "n -> infinity": lambda: sp.limit(_overfitting, n, sp.oo) - a / (1 + (a - 1) * rho),
        "any ridge that takes every sample is benign": (a / (1 + (a - 1) * rho)).subs(rho, 1) - 1,
    },
    source=_SOURCE,
)

# sum_i v_i^2 (1 - L_i)^2 with v_i^2 = i^{-c}: kappa^s / a times a Beta integral of w = u^a, s = (c - 1) / a.
c = sp.Symbol("c", positive=True)
_bias = kappa**s / a * sp.pi * (1 - s) / sp.sin(sp.pi * s)
_error = (_overfitting * (_bias.subs(kappa, _ridge) + noise)).subs(s, (c - 1) / a)
_y = sp.Symbol("y", positive=True)

power_law_test_error = Formula(
    title="Test error for the spectrum i^{-a} and powers i^{-b}",
    backs="theory.kernels.overfitting.power_law_test_error",
    symbol=sp.Function("E_test")(n),
    arguments=(n, a, _y, noise, rho),
    # The target's exponent is drawn as y = s / 2 of its range.
    domain={**_DOMAIN, _y: Interval(0.02, 0.48), noise: Interval(1e-3, 5, log=True)},
    expression=_error.subs(c, 1 + 2 * a * _y),
    proofs={
        "int w^{1-s} / (1 + w)^2 dw = Gamma(2 - s) Gamma(s)": lambda: sp.gammasimp(
            sp.gamma(2 - s) * sp.gamma(s) / sp.gamma(2) - sp.pi * (1 - s) / sp.sin(sp.pi * s)
        ),
        "u = w^{1/a} turns u^{2a - c} du into w^{1-s} dw / a": sp.expand_log(
            sp.log((u ** (1 / a)) ** (2 * a - c) * sp.diff(u ** (1 / a), u) / (u ** (1 - (c - 1) / a) / a)),
            force=True,
        ),
    },
    call=lambda n, a, y, noise, rho: (n, a, 1 + 2 * a * y, noise, rho),
    source="Bordelon, Canatar & Pehlevan 2020 (arXiv:2002.02561); Cui et al. 2021 (arXiv:2105.15004)",
)


def _share(i):
    """L_i of the spectrum e^{-b i} at kappa = e^{-b (n + 1/2)}."""
    return 1 / (1 + sp.exp(b * (i - n - sp.Rational(1, 2))))


exponential_ridge = Formula(
    title="Effective ridge of the spectrum e^{-b i}",
    backs="theory.kernels.overfitting.exponential_ridge",
    symbol=kappa,
    arguments=(n, b),
    domain={n: Interval(1, 50), b: Interval(0.05, 10)},
    expression=sp.exp(-b * (n + sp.Rational(1, 2))),
    proofs={
        "shares pair up: as many are missed below n as are learned above": sp.simplify(
            (_share(n - j) + _share(n + 1 + j) - 1).rewrite(sp.exp)
        ),
        "the share": sp.exp(-b * j) / (sp.exp(-b * j) + sp.exp(-b * (n + sp.Rational(1, 2)))) - _share(j),
    },
    source="derived here",
)

exponential_overfitting = Formula(
    title="Overfitting coefficient of the spectrum e^{-b i}",
    backs="theory.kernels.overfitting.exponential_overfitting",
    symbol=sp.Symbol("E_0"),
    arguments=(n, b),
    domain={n: Interval(1, 1e4, log=True), b: Interval(0.5, 20, log=True)},
    # Sixty terms of the sum, the rest of which is below e^{-30}.
    expression=n / sum(1 / (2 * sp.cosh(b * (i + sp.Rational(1, 2)) / 2) ** 2) for i in range(60)),
    proofs={
        "L (1 - L)": (_share(n + 1 + j) * (1 - _share(n + 1 + j))).rewrite(sp.exp)
        - (1 / (4 * sp.cosh(b * (j + sp.Rational(1, 2)) / 2) ** 2)).rewrite(sp.exp),
        "its integral over b i is tanh(u/2)/2, in all 1: E_0 -> b n": (
            sp.diff(sp.tanh(u / 2) / 2, u) - 1 / (4 * sp.cosh(u / 2) ** 2)
        ).rewrite(sp.exp),
    },
    source="derived here; catastrophic by Mallinar et al. 2022 (arXiv:2207.06569), theorem 3.1",
)
