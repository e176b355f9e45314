"""Linear attention in many dimensions: the resolvent of its tasks, and errors as traces, eigenvalue by eigenvalue."""

import sympy as sp

from derivations.formula import Formula, Interval

tau, alpha, kappa, rho, xi, z, lam, e = sp.symbols("tau alpha kappa rho xi z lambda r", positive=True)
SOURCE = "Lu, Letey, Zavatone-Veth, Maiti & Pehlevan 2024 (arXiv:2405.11751)"

_b = z + 1 - 1 / kappa
M = 2 / (_b + sp.sqrt(_b**2 + 4 * z / kappa))
SLOPE = sp.diff(M, z)
X = (1 + rho) / alpha
x = sp.Symbol("x", positive=True)


def at(expression):
    """With z = x* + xi."""
    return expression.subs(z, X + xi)


_m, _dm = at(M), at(SLOPE)
_z = X + xi
IDG = (rho + _z * (1 - _z * _m) - xi * (1 - 2 * _z * _m - _z**2 * _dm)) / (1 - (1 - 2 * xi * _m - xi**2 * _dm) / tau)
ICL = 1 + rho - 2 * (1 - _z * _m) + (1 + X) * (1 - 2 * _z * _m - _z**2 * _dm) + IDG * (1 + X) * (_m + xi * _dm) / tau
RIDGE = xi * (1 - (1 - xi * _m) / tau)


def _self_consistent():
    return sp.simplify((1 / M - z - kappa / (kappa + M)).subs(kappa, sp.Rational(3, 7)))


def traces(expression):
    """An expression in one eigenvalue r of the tasks' covariance as c_0 + c_1 / (r + z) + c_2 / (r + z)^2."""
    y = sp.Symbol("y", positive=True)
    polynomial = sp.Poly(sp.expand(sp.cancel(expression.subs(e, 1 / y - x - xi))), y)
    return [polynomial.coeff_monomial(y**k) for k in range(3)]


def mean(expression):
    """The same over all eigenvalues: M is the mean of 1 / (r + z), -M' that of 1 / (r + z)^2."""
    m, dm = sp.symbols("m m'")
    free, one, two = traces(expression)
    return free + one * m - two * dm, m, dm


def _pretrained():
    """What ridge regression with features of covariance R + x* leaves: residual variance and squared bias.

    The best layer is R / (R + x*); the covariance's ridge is xi. Both traces have R + x* below, their sum has not.
    """
    total = e + x + xi
    left = x * e / (e + x) + xi**2 * e**2 / ((e + x) * total**2)
    stated, m, dm = mean((x + xi) * e / total - xi * e**2 / total**2)
    place = x + xi
    text = place * (1 - place * m) - xi * (1 - 2 * place * m - place**2 * dm)
    whole = (x + xi) * e / total - xi * e**2 / total**2
    return sp.Matrix([sp.cancel(left - whole), sp.expand(stated - text)])


def _spread():
    """tr (R + x*)^2 / (R + z)^2 and tr (R + x*) / (R + z)^2, degrees of freedom and scatter of the layer."""
    total = e + x + xi
    freedom, m, dm = mean((e + x) ** 2 / total**2)
    scatter, *_ = mean((e + x) / total**2)
    return sp.Matrix([sp.expand(freedom - (1 - 2 * xi * m - xi**2 * dm)), sp.expand(scatter - (m + xi * dm))])


def _fresh():
    """A fresh task w of mean square 1: error of the mean layer R / (R + z), of signal and of scatter x*."""
    total = e + x + xi
    layer = e / total
    stated, m, dm = mean((1 - layer) ** 2 + x * layer**2)
    place = x + xi
    text = 1 - 2 * (1 - place * m) + (1 + x) * (1 - 2 * place * m - place**2 * dm)
    return sp.expand(stated - text)


ARGUMENTS = (xi, tau, alpha, kappa, rho)
DOMAIN = {
    xi: Interval(0.05, 5, log=True),
    tau: Interval(1.2, 20, log=True),
    alpha: Interval(0.2, 20, log=True),
    kappa: Interval(0.2, 5, log=True),
    rho: Interval(0.01, 2),
}


def _setting(xi_, tau_, alpha_, kappa_, rho_):
    """The ridge that has this effective one."""
    place = (1 + rho_) / alpha_ + xi_
    b = place + 1 - 1 / kappa_
    m = 2 / (b + (b**2 + 4 * place / kappa_) ** 0.5)
    return ((tau_, alpha_, kappa_, rho_, xi_ * (1 - (1 - xi_ * m) / tau_)),)


trace = Formula(
    title="Resolvent of the tasks",
    backs="theory.bayes_icl.linear_attention_asymptotics.resolvent",
    symbol=sp.Symbol("M"),
    arguments=(z, kappa),
    domain={z: Interval(1e-4, 100, log=True), kappa: Interval(0.05, 50, log=True)},
    expression=M,
    proofs={
        "self-consistent": _self_consistent,
        "many tasks": lambda: sp.limit(M.subs(z, 3), kappa, sp.oo) - sp.Rational(1, 4),
        "missing directions": lambda: sp.limit((z * M).subs(kappa, sp.Rational(1, 3)), z, 0) - sp.Rational(2, 3),
    },
    source="Marchenko & Pastur 1967",
)

ridge = Formula(
    title="Effective ridge",
    backs="theory.bayes_icl.linear_attention_asymptotics.effective_ridge",
    symbol=xi,
    arguments=(tau, alpha, kappa, rho, lam),
    domain={
        **{one: DOMAIN[one] for one in (alpha, kappa, rho)},
        tau: Interval(0.2, 20, log=True),
        lam: Interval(1e-3, 10, log=True),
    },
    law=RIDGE - lam,
    proofs={
        # d lambda / d xi = 1 - degrees of freedom / tau, as in both errors.
        "stiffness": lambda: sp.simplify(sp.diff(RIDGE, xi) - 1 + (1 - 2 * xi * _m - xi**2 * _dm) / tau),
        "large ridge": lambda: sp.limit(RIDGE.subs({alpha: 2, kappa: 3, rho: 1, tau: 2}) - xi, xi, sp.oo) + 1,
    },
    call=lambda *numbers: (numbers,),
    source=SOURCE,
)

memorised = Formula(
    title="Error on pretrained tasks",
    backs="theory.bayes_icl.linear_attention_asymptotics.pretrained_errors",
    symbol=sp.Symbol("e_IDG"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=IDG,
    proofs={"ridge regression, residual and bias": _pretrained, "degrees of freedom": _spread},
    call=_setting,
    read=lambda found: found.in_distribution,
    source=SOURCE,
)

fresh = Formula(
    title="Error on fresh tasks",
    backs="theory.bayes_icl.linear_attention_asymptotics.pretrained_errors",
    symbol=sp.Symbol("e_ICL"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=ICL,
    proofs={"mean layer on a fresh task": _fresh, "scatter": _spread},
    call=_setting,
    read=lambda found: found.in_context,
    source=SOURCE,
)

ENDLESS = (1 + rho - 2 * (1 - z * M) + (1 + z) * (1 - 2 * z * M - z**2 * SLOPE)).subs(z, X)

endless = Formula(
    title="Error on fresh tasks after endless pretraining",
    backs="theory.bayes_icl.linear_attention_asymptotics.endless_errors",
    symbol=sp.Symbol("e_ICL"),
    arguments=(alpha, kappa, rho),
    domain={**{one: DOMAIN[one] for one in (alpha, kappa)}, rho: Interval(0.05, 2)},
    expression=ENDLESS,
    proofs={
        "the limit": lambda: sp.simplify(
            (sp.limit(ICL.subs({alpha: 2, rho: 1, kappa: 3}).subs(xi, 0), tau, sp.oo))
            - ENDLESS.subs({alpha: 2, rho: 1, kappa: 3})
        ),
        "few tasks": lambda: (
            sp.limit(ENDLESS.subs({rho: sp.Rational(1, 4), kappa: sp.Rational(1, 3)}), alpha, sp.oo)
            - sp.Rational(1, 4)
            - sp.Rational(2, 3)
        ),
        "enough tasks": lambda: (
            sp.limit(ENDLESS.subs({rho: sp.Rational(1, 4), kappa: 2}), alpha, sp.oo) - sp.Rational(1, 4)
        ),
    },
    read=lambda found: found.in_context,
    source=SOURCE,
)

_s = rho + alpha - 1
BAYES = rho + 2 * rho / (_s + sp.sqrt(_s**2 + 4 * rho))

bayes = Formula(
    title="Bayes error on fresh tasks",
    backs="theory.bayes_icl.linear_attention_asymptotics.bayes_error",
    symbol=sp.Symbol("e"),
    arguments=(alpha, rho),
    domain={alpha: Interval(0.1, 20, log=True), rho: Interval(1e-3, 3, log=True)},
    expression=BAYES,
    proofs={
        # The posterior's covariance is rho (X^T X + rho)^{-1}, and X^T X is alpha times a covariance of l samples.
        "trace of the posterior": lambda: sp.simplify(
            BAYES - rho - (rho / alpha * M.subs({kappa: alpha, z: rho / alpha}))
        ),
    },
    source="Dobriban & Wager 2018 (arXiv:1507.03003)",
)
