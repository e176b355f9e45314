"""Continual linear regression: averages of the spectrum, what one task does to all errors, joint ridge, Bayes."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

alpha, lam, t, sigma2, x, m = sp.symbols("alpha lambda t sigma2 x m", positive=True)
a1, a2, g1, g2, p1, p2 = sp.symbols("alpha_1 alpha_2 g_1 g_2 p_1 p_2", positive=True)
rho = sp.Symbol("rho", real=True)
SOURCE = "derived here"


def narayana(k):
    """The k-th moment of the law of Marchenko and Pastur."""
    return sum(sp.binomial(k, r) * sp.binomial(k, r - 1) * alpha**r for r in range(1, k + 1)) / k


def moments_of(function, expression):
    """Both in powers of 1 / lambda: averages of x^k under `function`, and the closed form."""
    z = sp.Symbol("z", positive=True)
    series = sp.series(function.subs(lam, 1 / z), z, 0, 5).removeO()
    averaged = sum(term.coeff(x, k) * (narayana(k) if k else 1) for term in [sp.expand(series)] for k in range(5))
    return sp.expand(averaged - sp.series(expression.subs(lam, 1 / z), z, 0, 5).removeO())


_b = lam + alpha - 1
_r = sp.sqrt(_b**2 + 4 * lam)
kept = (_r - _b) / 2
noise = (1 - kept) / _r
WIDE = {lam: Interval(0.05, 20, log=True), alpha: Interval(0.1, 4, log=True)}

pull_kept = Formula(
    title="Share of the old distance that a pull keeps",
    backs="theory.lazy_rich.continual_regression.pull_filter",
    symbol=sp.Symbol("<k>"),
    arguments=(lam, alpha),
    domain=WIDE,
    expression=kept,
    proofs={
        "moments of the spectrum": lambda: moments_of(lam / (x + lam), kept),
        "resolvent m = <k> / lambda": kept * (1 + alpha / (lam + kept)) - 1,
    },
    read=lambda averages: averages.kept,
    source="Marchenko & Pastur 1967",
)

pull_noise = Formula(
    title="Label noise that a pull lets into the weights",
    backs="theory.lazy_rich.continual_regression.pull_filter",
    symbol=sp.Symbol("<(1-k)^2/x>"),
    arguments=(lam, alpha),
    domain=WIDE,
    expression=noise,
    proofs={
        "moments of the spectrum": lambda: moments_of(x / (x + lam) ** 2, noise),
        # x / (x + lam)^2 = d/dlam of lam / (x + lam).
        "slope of <k>": sp.diff(kept, lam) - noise,
    },
    read=lambda averages: averages.noise,
    source=SOURCE,
)

pull_spread = Formula(
    title="Spread of what a pull keeps",
    backs="theory.lazy_rich.continual_regression.pull_filter",
    symbol=sp.Symbol("<k(1-k)>"),
    arguments=(lam, alpha),
    domain=WIDE,
    expression=lam * noise,
    proofs={"moments of the spectrum": lambda: moments_of(lam * x / (x + lam) ** 2, lam * noise)},
    read=lambda averages: averages.spread,
    source=SOURCE,
)

_stopped = sp.exp(-2 * t) * (sp.besseli(0, 2 * t) + sp.besseli(1, 2 * t))
_stopped_spread = _stopped - _stopped.subs(t, 2 * t)


def _catalan(expression, moment):
    """Powers of t: at alpha = 1 the moments are Catalan numbers."""
    return sp.expand(sp.series(expression, t, 0, 7).removeO() - sum(moment(k) * t**k for k in range(7)))


stopped_spread = Formula(
    title="Spread of what stopped gradient flow keeps, as many samples as inputs",
    backs="theory.lazy_rich.continual_regression.stopped_flow_filter",
    symbol=sp.Symbol("<k(1-k)>"),
    arguments=(t,),
    domain={t: Interval(0.01, 30, log=True)},
    expression=_stopped_spread,
    proofs={
        "moments of e^{-xt} - e^{-2xt}": lambda: _catalan(
            _stopped_spread, lambda k: (-1) ** k * (1 - 2**k) * sp.catalan(k) / sp.factorial(k)
        )
    },
    call=lambda t: (t, 1.0),
    read=lambda averages: averages.spread,
    source="Marchenko & Pastur 1967",
)

_N = sp.Symbol("N", positive=True)

flow_noise = Formula(
    title="Label noise in the weights of an interpolating student, on average over data sets",
    backs="theory.lazy_rich.continual_regression.flow_filter",
    symbol=sp.Symbol("<(1-k)^2/x>"),
    arguments=(alpha,),
    domain={alpha: Interval(0.05, 0.9)},
    expression=alpha / (1 - alpha - sp.Rational(1, 40)),
    proofs={
        # One sample: N x is chi-squared with N degrees of freedom, and one direction in N learns.
        "one sample, N = 40": lambda: (
            sp.integrate(x**18 * sp.exp(-x / 2), (x, 0, sp.oo)) / (2**20 * sp.gamma(20))
            - (alpha / (1 - alpha - sp.Rational(1, 40))).subs(alpha, sp.Rational(1, 40))
        ),
        "the limit of weak pull, N = oo": lambda: (
            sp.limit(noise.subs(alpha, sp.Rational(1, 3)), lam, 0) - sp.Rational(1, 3) / (1 - sp.Rational(1, 3))
        ),
    },
    keywords={"inputs": 40},
    read=lambda averages: averages.noise,
    source="mean of an inverse Wishart matrix",
)

_D, _Delta, _old, _g, _spread, _v = sp.symbols("D Delta D_t g s v", positive=True)
_after = _g * _D + (1 - _g) * _Delta - _spread * _old + sigma2 * _v


def _turned():
    """Two directions that keep k_1 and k_2, in all orientations: |k (w - w_t) + w_t - w_s|^2."""
    angle, k1, k2 = sp.symbols("theta k_1 k_2", real=True)
    w, w_t, w_s = (sp.Matrix(sp.symbols(f"{name}_1 {name}_2", real=True)) for name in "wab")
    turn = sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])
    found = turn * sp.diag(k1, k2) * turn.T * (w - w_t) + w_t - w_s
    mean = sp.integrate(sp.expand(found.dot(found)), (angle, 0, 2 * sp.pi)) / (2 * sp.pi) / 2
    square = lambda u: u.dot(u) / 2  # noqa: E731
    known = {
        _g: (k1 + k2) / 2,
        _spread: (k1 * (1 - k1) + k2 * (1 - k2)) / 2,
        _D: square(w - w_s),
        _Delta: square(w_t - w_s),
        _old: square(w - w_t),
        sigma2: 0,
    }
    return sp.expand(mean - _after.subs(known, simultaneous=True))


def _noise_of_flow():
    """One direction: dw/dt = -x w + sqrt(x) noise from zero, noise frozen."""
    xi = sp.Symbol("xi")
    w = sp.Function("w")
    solved = sp.dsolve(sp.diff(w(t), t) + x * w(t) - sp.sqrt(x) * xi, w(t), ics={w(0): 0}).rhs
    return sp.expand(solved**2 - xi**2 * (1 - sp.exp(-x * t)) ** 2 / x)


errors_after = Formula(
    title="What one more task does to the error of a task",
    backs="theory.lazy_rich.continual_regression.errors_after",
    symbol=sp.Symbol("D'"),
    arguments=(_D, _Delta, _old, _g, _spread, _v, sigma2),
    domain={
        _D: Interval(0.5, 2),
        _Delta: Interval(0.1, 4),
        _old: Interval(0.1, 1),
        _g: Interval(0.3, 0.9),
        _spread: Interval(0, 0.05),
        _v: Interval(0, 2),
        sigma2: Interval(0, 1),
    },
    expression=_after,
    proofs={"all orientations of two directions": _turned, "noise, one direction of the flow": _noise_of_flow},
    call=lambda error, distance, old, g, s, v, sigma2: (
        np.array([error]),
        np.array([distance]),
        old,
        (np.asarray(g), np.asarray(s), np.asarray(v)),
        sigma2,
    ),
    read=lambda errors: errors[0],
    source=SOURCE,
)

_one_direction = (lam**2 * _old + sigma2 * x) / (x + lam) ** 2

optimal_pull = Formula(
    title="The pull of lowest error",
    backs="theory.lazy_rich.continual_regression.optimal_pull",
    symbol=sp.Symbol("lambda*"),
    arguments=(_old, sigma2),
    domain={_old: Interval(0.05, 4, log=True), sigma2: Interval(1e-3, 2, log=True)},
    expression=sigma2 / _old,
    proofs={
        "stationary in every direction": lambda: sp.simplify(sp.diff(_one_direction, lam).subs(lam, sigma2 / _old)),
        "the error there is k D": lambda: sp.simplify(
            (_one_direction - lam * _old / (x + lam)).subs(lam, sigma2 / _old)
        ),
    },
    source=SOURCE,
)


def _interpolated(error, distance, a):
    return (1 - a) * error + a * distance + sigma2 * a / (1 - a)


_first = _interpolated(1, 0, a1)
_forgotten = a2 * (1 + a1 - 2 * rho - sigma2 * a1 / (1 - a1)) + sigma2 * a2 / (1 - a2)
_gained = (1 - a2) * (a1 * (2 * rho - 1) - sigma2 * a1 / (1 - a1))
FEW = {rho: Interval(-1, 1), a1: Interval(0.05, 0.9), a2: Interval(0.05, 0.9), sigma2: Interval(0, 0.5)}

forgetting = Formula(
    title="Forgetting of the first of two tasks",
    backs="theory.lazy_rich.continual_regression.forgetting",
    symbol=sp.Symbol("F"),
    arguments=(rho, a1, a2, sigma2),
    domain=FEW,
    # Away from a sign change.
    expression=_forgotten + 20,
    proofs={
        "two tasks in sequence": _interpolated(_first, 2 * (1 - rho), a2) - _first - _forgotten,
        "nothing is forgotten at rho = (1 + alpha_1) / 2": _forgotten.subs({sigma2: 0, rho: (1 + a1) / 2}),
    },
    read=lambda forgotten: forgotten + 20,
    source=SOURCE,
)

transfer = Formula(
    title="Transfer to the second of two tasks",
    backs="theory.lazy_rich.continual_regression.transfer",
    symbol=sp.Symbol("G"),
    arguments=(rho, a1, a2, sigma2),
    domain=FEW,
    expression=_gained + 20,
    proofs={
        "two tasks in sequence, or the second alone": _interpolated(1, 0, a2)
        - _interpolated(_interpolated(1, 2 * (1 - rho), a1), 0, a2)
        - _gained,
        "no transfer at rho = 1/2": _gained.subs({sigma2: 0, rho: sp.Rational(1, 2)}),
    },
    read=lambda gained: gained + 20,
    source=SOURCE,
)

_fisher = sp.Symbol("kappa", positive=True)


def _consolidated():
    """One weight: consolidation at the first solution is the weighted joint ridge; its curvature is strength times."""
    w, x1, x2, y1, y2, ridge = sp.symbols("w x_1 x_2 y_1 y_2 lambda_0", positive=True)
    alone = x1 * y1 / (x1**2 + ridge)
    elastic = (y2 - x2 * w) ** 2 / 2 + _fisher * (x1**2 + ridge) * (w - alone) ** 2 / 2
    joint = (y2 - x2 * w) ** 2 / 2 + _fisher * ((y1 - x1 * w) ** 2 + ridge * w**2) / 2
    return sp.simplify(sp.diff(elastic - joint, w))


fisher_pull = Formula(
    title="Diagonal elastic consolidation as a pull",
    backs="theory.lazy_rich.continual_regression.fisher_pull",
    symbol=lam,
    arguments=(_fisher, alpha, m),
    domain={_fisher: Interval(0, 5), alpha: Interval(0.1, 3), m: Interval(0, 1)},
    expression=_fisher * (alpha + m),
    proofs={"one weight": _consolidated, "mean of the diagonal": narayana(1) - alpha},
    source="Kirkpatrick et al. 2017 (arXiv:1612.00796)",
)

_law = m * (lam + a1 * g1 / (1 + g1 * m) + a2 * g2 / (1 + g2 * m)) - 1
_c = [m * g * a / (1 + g * m) for g, a in ((g1, a1), (g2, a2))]
_k = [c**2 / a for c, a in zip(_c, (a1, a2), strict=True)]


def _bias(s, r):
    u, v = (c - int(s == i) for i, c in enumerate(_c))
    return u**2 + v**2 + 2 * r * u * v


_joint = _bias(0, rho) + sum(k * (_bias(s, rho) + sigma2) for s, k in enumerate(_k)) / (1 - sum(_k))


def _solved(symbol):
    """dm / dsymbol along the law of m."""
    return -sp.diff(_law, symbol) / sp.diff(_law, m)


def _on_law(expression):
    """`expression` where the law of m holds."""
    return sp.simplify(expression.subs(lam, sp.solve(_law, lam)[0]))


def _noise_of_joint():
    """sum g_a^2 <G S_a G> with G = (sum g S + lam)^{-1}, whose trace is m: -dG/dg_a = G S_a G."""
    resolvents = -sum(g**2 * _solved(g) for g in (g1, g2))
    return _on_law(resolvents - sp.diff(_joint, sigma2))


def _same_teacher():
    """One teacher for both: what is left of it is lam G, and lam^2 <G^2> = -lam^2 dm/dlam."""
    return _on_law(-(lam**2) * _solved(lam) - _joint.subs({rho: 1, sigma2: 0}))


def _single():
    """Without the second task: the pull from zero weights."""
    alone = _joint.subs({a2: 0, g1: 1})
    sequence = (kept - lam * noise + sigma2 * noise).subs(alpha, a1)
    at = sp.solve(_law.subs({a2: 0, g1: 1}), a1)[0]
    r = sp.simplify(lam * m + 1 / m)
    # (lam + alpha - 1)^2 + 4 lam is a square there.
    square = sp.simplify(((lam + at - 1) ** 2 + 4 * lam) - r**2)
    explicit = sequence.subs(_r.subs(alpha, a1), r).subs(a1, at)
    return sp.Matrix([square, sp.simplify(alone.subs(a1, at) - explicit)])


joint_ridge = Formula(
    title="Error of weighted joint ridge regression",
    backs="theory.lazy_rich.continual_regression.joint_ridge_errors",
    symbol=sp.Symbol("D_1"),
    arguments=(m, rho, a1, a2, g1, g2, sigma2),
    domain={
        m: Interval(0.02, 0.3),
        rho: Interval(-1, 1),
        **dict.fromkeys((a1, a2), Interval(0.1, 1)),
        **dict.fromkeys((g1, g2), Interval(0.2, 1.5)),
        sigma2: Interval(0, 1),
    },
    expression=_joint,
    proofs={"resolvents: noise": _noise_of_joint, "resolvents: one teacher": _same_teacher, "one task": _single},
    # The pull that belongs to m.
    call=lambda m, rho, a1, a2, g1, g2, sigma2: (
        np.array([[1, rho], [rho, 1]]),
        np.array([a1, a2]),
        np.array([g1, g2]),
        1 / m - a1 * g1 / (1 + g1 * m) - a2 * g2 / (1 + g2 * m),
        sigma2,
    ),
    read=lambda errors: errors[0],
    source=SOURCE,
)

_S = sp.Matrix([[1, rho], [rho, 1]])
_C = (_S.inv() + sp.diag(p1, p2)).inv()
_covariance = (rho / ((1 + p1) * (1 + p2) - p1 * p2 * rho**2)) + 2
INSIDE = Interval(-0.95, 0.95)

posterior_covariance = Formula(
    title="Posterior covariance of two tasks' weights",
    backs="theory.lazy_rich.continual_regression.posterior_covariance",
    symbol=sp.Symbol("C_12"),
    arguments=(rho, p1, p2),
    domain={rho: INSIDE, p1: Interval(0, 5), p2: Interval(0, 5)},
    expression=_covariance,
    proofs={
        "inverse matrices": lambda: sp.simplify(_C[0, 1] + 2 - _covariance),
        "no inverse of the prior": lambda: sp.simplify(_C - (sp.eye(2) + _S * sp.diag(p1, p2)).inv() * _S),
    },
    call=lambda rho, p, q: (np.array([[1, rho], [rho, 1]]), np.array([p, q])),
    read=lambda covariance: covariance[0, 1] + 2,
    source="Gaussian conditioning",
)

_V = sp.Symbol("D", positive=True)
_p = alpha / (sigma2 + _V)

bayes_errors = Formula(
    title="Bayes error of two tasks with as many samples",
    backs="theory.lazy_rich.continual_regression.bayes_errors",
    symbol=_V,
    arguments=(rho, alpha, sigma2),
    domain={rho: INSIDE, alpha: Interval(0.05, 4, log=True), sigma2: Interval(0.01, 2, log=True)},
    law=_V - (1 + _p * (1 - rho**2)) / ((1 + _p) ** 2 - _p**2 * rho**2),
    proofs={
        "inverse matrices": lambda: sp.simplify(
            _C[0, 0].subs(p2, p1) - (1 + p1 * (1 - rho**2)) / ((1 + p1) ** 2 - p1**2 * rho**2)
        ),
        # Without a relation, D is the share kept by ridge regression at the best ridge, sigma^2.
        "one task is ridge regression": lambda: sp.simplify((_V * (1 + _p) - 1).subs(_V, kept.subs(lam, sigma2))),
        # With the same teacher twice, at twice the samples.
        "the same task twice": lambda: sp.simplify(
            1 / (1 + 2 * _p) - sp.simplify(_C[0, 0].subs(p2, p1)).subs(p1, _p).subs(rho, 1)
        ),
    },
    call=lambda rho, alpha, sigma2: (np.array([[1, rho], [rho, 1]]), np.array([alpha, alpha]), sigma2),
    read=lambda errors: errors[0],
    source=SOURCE,
)
