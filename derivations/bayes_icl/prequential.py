"""One Cholesky factor predicts every label: from the joint Gaussian by hand, and a mixture by Bayes' rule."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

y0, y1, m0, m1 = sp.symbols("y_0 y_1 mu_0 mu_1", real=True)
k00, k11, s2 = sp.symbols("K_00 K_11 sigma^2", positive=True)
r = sp.Symbol("r", real=True)
# A correlation keeps the kernel positive whatever is drawn.
k01 = r * sp.sqrt(k00 * k11)

DOMAIN = {
    k00: Interval(0.1, 4),
    k11: Interval(0.1, 4),
    r: Interval(0.05, 0.95),
    s2: Interval(1e-3, 3, log=True),
    # Terms of one sign: the comparison is relative.
    y0: Interval(0.1, 3),
    y1: Interval(-3, 3),
    m0: Interval(-2, 0),
    m1: Interval(0, 2),
}

MEAN = m1 + k01 * (y0 - m0) / (k00 + s2)
VARIANCE = k11 + s2 - k01**2 / (k00 + s2)


def _kernel(k00, k11, r):
    off = r * np.sqrt(k00 * k11)
    return np.array([[k00, off], [off, k11]])


def _joint():
    """log p(y_0, y_1) of the joint Gaussian is the sum of both log densities."""
    joint = sp.Matrix([[k00 + s2, k01], [k01, k11 + s2]])
    e = sp.Matrix([y0 - m0, y1 - m1])
    whole = -(e.T * joint.inv() * e)[0] / 2 - sp.log(joint.det()) / 2
    parts = -((y0 - m0) ** 2) / (2 * (k00 + s2)) - sp.log(k00 + s2) / 2
    parts += -((y1 - MEAN) ** 2) / (2 * VARIANCE) - sp.log(VARIANCE) / 2
    # The exponents are rational; the determinants meet as their exponentials.
    rational = sp.simplify((whole - parts).replace(sp.log, lambda _: sp.Integer(0)))
    return sp.Abs(rational) + sp.Abs(sp.simplify(joint.det() - (k00 + s2) * VARIANCE))


def _factor():
    """mu_1 + L_10 z_0, which is y_1 - L_11 z_1."""
    l00 = sp.sqrt(k00 + s2)
    l10, l11 = k01 / l00, sp.sqrt(VARIANCE)
    z0 = (y0 - m0) / l00
    z1 = (y1 - m1 - l10 * z0) / l11
    return sp.Abs(sp.simplify(y1 - l11 * z1 - MEAN)) + sp.Abs(sp.simplify(m1 + l10 * z0 - MEAN))


second_label = Formula(
    title="Second label of a Gaussian process from the first",
    backs="theory.bayes_icl.prequential.process_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(k00, k11, r, s2, y0, y1, m0, m1),
    domain=DOMAIN,
    expression=MEAN,
    proofs={"evidences multiply": _joint, "from the factor": _factor},
    call=lambda k00, k11, r, s2, y0, y1, m0, m1: (_kernel(k00, k11, r), np.array([y0, y1]), s2, np.array([m0, m1])),
    read=lambda found: found.mean[1],
    source="standard Gaussian conditioning",
)

second_variance = Formula(
    title="Variance of the second label, noise included",
    backs="theory.bayes_icl.prequential.process_predictions",
    symbol=sp.Symbol("v_1"),
    arguments=(k00, k11, r, s2),
    domain=DOMAIN,
    expression=VARIANCE,
    proofs={"without correlation the first label says nothing": sp.simplify(VARIANCE.subs(r, 0) - k11 - s2)},
    call=lambda k00, k11, r, s2: (_kernel(k00, k11, r), np.zeros(2), s2),
    read=lambda found: found.variance[1],
    source="standard Gaussian conditioning",
)

phi0, phi1, prior, tau2 = sp.symbols("phi_0 phi_1 m tau^2", real=True)
WEIGHT = (prior / tau2 + phi0 * y0 / s2) / (1 / tau2 + phi0**2 / s2)
SCALAR = {phi0: Interval(0.1, 2), phi1: Interval(0.1, 2), prior: Interval(0, 2), tau2: Interval(0.1, 3)} | {
    name: DOMAIN[name] for name in (s2, y0, y1)
}


def _stationary():
    """The posterior mean is where the log posterior is flat."""
    w = sp.Symbol("w", real=True)
    slope = sp.diff(-((y0 - phi0 * w) ** 2) / (2 * s2) - (w - prior) ** 2 / (2 * tau2), w)
    return sp.simplify(slope.subs(w, WEIGHT))


def _kalman():
    f = phi0**2 * tau2 + s2
    return sp.simplify(prior + tau2 * phi0 / f * (y0 - phi0 * prior) - WEIGHT)


linear_mean = Formula(
    title="Second label of a linear model of one weight",
    backs="theory.bayes_icl.prequential.linear_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(phi0, phi1, s2, y0, prior, tau2),
    domain=SCALAR,
    expression=phi1 * WEIGHT,
    proofs={"mode of the posterior": _stationary, "one step of recursive least squares": _kalman},
    call=lambda phi0, phi1, s2, y0, prior, tau2: (
        np.array([[phi0], [phi1]]),
        np.array([y0, 7.0]),
        s2,
        np.array([prior]),
        tau2,
    ),
    read=lambda found: found.mean[1],
    source="standard Gaussian conditioning",
)

streamed_mean = Formula(
    title="The same label, one pair at a time",
    backs="theory.bayes_icl.prequential.streaming_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=linear_mean.arguments,
    domain=SCALAR,
    expression=phi1 * WEIGHT,
    proofs={"one step of recursive least squares": _kalman},
    call=linear_mean.call,
    read=lambda found: found.mean[1],
    source="Kalman 1960; Plackett 1950",
)

posterior_variance = Formula(
    title="Variance of one weight after two labels",
    backs="theory.bayes_icl.prequential.weight_posteriors",
    symbol=sp.Symbol("C_2"),
    arguments=(phi0, phi1, s2, tau2),
    domain=SCALAR,
    expression=1 / (1 / tau2 + (phi0**2 + phi1**2) / s2),
    proofs={
        "C - k^2 f, twice": lambda: sp.simplify(
            _shrunk(phi1, _shrunk(phi0, tau2)) - 1 / (1 / tau2 + (phi0**2 + phi1**2) / s2)
        )
    },
    call=lambda phi0, phi1, s2, tau2: (np.array([[phi0], [phi1]]), np.array([1.0, -2.0]), s2, 0.0, tau2),
    read=lambda found: found.covariance[2, 0, 0],
    source="Kalman 1960",
)


def _shrunk(phi, c):
    f = phi**2 * c + s2
    return c - (c * phi / f) ** 2 * f


a, b, v, u, p = sp.symbols("m_a m_b v_a v_b p", positive=True)
ODDS = p / (1 - p) * sp.sqrt(u / v) * sp.exp(-((y0 - a) ** 2) / (2 * v) + (y0 - b) ** 2 / (2 * u))
SECOND = (ODDS * a + b) / (1 + ODDS)


def _bayes():
    """P(a | y_0) from the densities themselves."""
    densities = [sp.exp(-((y0 - m) ** 2) / (2 * x)) / sp.sqrt(2 * sp.pi * x) for m, x in ((a, v), (b, u))]
    first = p * densities[0] / (p * densities[0] + (1 - p) * densities[1])
    return sp.simplify(first - ODDS / (1 + ODDS))


mixture_mean = Formula(
    title="Second label when one of two models holds",
    backs="theory.bayes_icl.prequential.mixture_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(a, b, v, u, p, y0),
    domain={
        a: Interval(0.1, 3),
        b: Interval(0.1, 3),
        v: Interval(0.2, 3),
        u: Interval(0.2, 3),
        p: Interval(0.05, 0.95),
        y0: Interval(-3, 3),
    },
    expression=SECOND,
    proofs={
        "posterior of the first model": _bayes,
        "one model alone": lambda: sp.simplify(SECOND.subs(p, 1 - sp.Symbol("q")).subs(sp.Symbol("q"), 1) - b),
    },
    call=lambda a, b, v, u, p, y0: (_two(a, b, v, u, y0), np.log([p, 1 - p])),
    read=lambda found: found.mean[1],
    source="Bayes' rule",
)


def _two(a, b, v, u, y0):
    """Two models with the same mean and variance for both labels, which they have seen."""
    means, variances = np.array([[a, a], [b, b]]), np.array([[v, v], [u, u]])
    seen = np.array([y0, 0.3])
    return means, variances, -((seen - means) ** 2) / (2 * variances) - np.log(2 * np.pi * variances) / 2
