"""Stochastic gradient descent on least squares, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

k, t, eta, lam, m0, noise, batch = sp.symbols("k t gamma lambda m_0 sigma2 B", positive=True)


def _wick():
    """E[x_1^2 (d_1 x_1 + d_2 x_2)^2] of independent Gaussians, less lam_1 sum lam_j d_j^2 + 2 lam_1^2 d_1^2."""
    l1, l2 = sp.symbols("l_1 l_2", positive=True)
    x, y, d1, d2 = sp.symbols("x y d_1 d_2", real=True)

    def mean(f, x, variance):
        density = sp.exp(-(x**2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
        return sum(c * sp.integrate(x ** n[0] * density, (x, -sp.oo, sp.oo)) for n, c in sp.Poly(f, x).terms())

    moment = mean(sp.expand(mean(sp.expand(x**2 * (d1 * x + d2 * y) ** 2), x, l1)), y, l2)
    return sp.expand(moment - (l1 * (l1 * d1**2 + l2 * d2**2) + 2 * l1**2 * d1**2))


def _batch_mean():
    """Second moment of a mean of B independent terms x_r x_r^T d along one axis, from that of one term."""
    one, mean = sp.symbols("q m")
    s_all, l1, d1 = sp.symbols("S l_1 d_1")
    second = (batch * one + batch * (batch - 1) * mean**2) / batch**2
    second = second.subs({one: l1 * s_all + 2 * l1**2 * d1**2, mean: l1 * d1})
    return sp.expand(second - ((1 + 1 / batch) * l1**2 * d1**2 + l1 * s_all / batch))


# White inputs in three dimensions: the sum over j is three times the one m.
_white = 1 - 2 * eta * lam + eta**2 * (1 + 1 / batch) * lam**2 + 3 * eta**2 / batch * lam**2
_source = eta**2 / batch * lam * noise
_steady = _source / (1 - _white)
_risk = sp.Rational(3, 2) * lam * (_white**k * (m0 - _steady) + _steady)

risk = Formula(
    title="Mean risk of one-pass stochastic gradient descent, three white inputs",
    backs="theory.deep_linear.sgd.sgd_risk",
    symbol=sp.Function("R")(k),
    arguments=(k, eta, lam, m0, noise, batch),
    domain={
        k: Interval(0, 2000),
        # From slow to unstable: the factor per step is between 0.4 and 1.2.
        eta: Interval(1e-3, 1, log=True),
        lam: Interval(0.05, 0.7),
        m0: Interval(0.1, 3),
        noise: Interval(0.01, 2),
        batch: Interval(1, 8),
    },
    expression=_risk.subs(k, sp.floor(k)),
    proofs={
        "Gaussian fourth moments": _wick,
        "their mean over a batch": _batch_mean,
        "fixed point": lambda: sp.simplify(_white * _steady + _source - _steady),
        "start": lambda: sp.simplify(_risk.subs(k, 0) - sp.Rational(3, 2) * lam * m0),
    },
    call=lambda k, eta, lam, m0, noise, batch: (int(k), (np.full(3, lam), np.full(3, m0), noise), eta, batch),
    source="second moments of the update",
)

l1, l2, l3 = sp.symbols("lambda_1 lambda_2 lambda_3", positive=True)
kappa = sp.Symbol("kappa", positive=True)
_spectrum = {l1: Interval(0.01, 1), l2: Interval(0.01, 1), l3: Interval(0.01, 1)}


def _gain(*lams):
    return sum(eta * x / (2 - eta * (1 + 1 / batch) * x) for x in lams) / batch


def _fixed_point():
    """The recursion at its claimed fixed point, for one of three modes."""
    risk = noise * kappa / (1 - kappa)
    m = {x: eta / batch * (risk + noise) / (2 - eta * (1 + 1 / batch) * x) for x in (l1, l2, l3)}
    kept = 1 - 2 * eta * l1 + eta**2 * (1 + 1 / batch) * l1**2
    one_more = kept * m[l1] + eta**2 / batch * l1 * (risk + noise)
    return sp.simplify(one_more - m[l1])


def _closure():
    """sum lam_j m_j at that fixed point, less kappa (sum + noise)."""
    total = sp.Symbol("S")
    terms = [x * eta / batch * (total + noise) / (2 - eta * (1 + 1 / batch) * x) for x in (l1, l2, l3)]
    return sp.simplify(sum(terms) - _gain(l1, l2, l3) * (total + noise))


noise_gain = Formula(
    title="How much of the noise of stochastic gradient descent the noise renews",
    backs="theory.deep_linear.sgd.sgd_noise_gain",
    symbol=kappa,
    arguments=(l1, l2, l3, eta, batch),
    domain={**_spectrum, eta: Interval(1e-4, 0.9, log=True), batch: Interval(1, 100, log=True)},
    expression=_gain(l1, l2, l3),
    proofs={"the fixed point closes on the risk": _closure},
    call=lambda l1, l2, l3, eta, batch: (np.array([l1, l2, l3]), eta, batch),
    source="fixed point of the second moments",
)

steady_risk = Formula(
    title="Risk at which stochastic gradient descent settles",
    backs="theory.deep_linear.sgd.sgd_steady_risk",
    symbol=sp.Symbol("R_oo"),
    arguments=(l1, l2, l3, noise, eta, batch),
    # Stable throughout: kappa is at most 3/4.
    domain={
        **_spectrum,
        noise: Interval(0.01, 10, log=True),
        eta: Interval(1e-4, 0.3, log=True),
        batch: Interval(1, 100, log=True),
    },
    expression=noise / 2 * _gain(l1, l2, l3) / (1 - _gain(l1, l2, l3)),
    proofs={
        "a fixed point of the recursion": _fixed_point,
        "small steps: gamma sigma^2 tr(Sigma) / 4B": lambda: (
            sp.limit(noise / 2 * _gain(l1, l2, l3) / (1 - _gain(l1, l2, l3)) / eta, eta, 0)
            - noise * (l1 + l2 + l3) / (4 * batch)
        ),
    },
    call=lambda l1, l2, l3, noise, eta, batch: (np.array([l1, l2, l3]), noise, eta, batch),
    source="fixed point of the second moments",
)

largest_step = Formula(
    title="Largest stable step of stochastic gradient descent",
    backs="theory.deep_linear.sgd.sgd_largest_stable_step",
    symbol=eta,
    arguments=(l1, l2, l3, batch),
    domain={**_spectrum, batch: Interval(1, 1e4, log=True)},
    # Cleared of its poles, so that the root search does not run into them.
    law=sp.expand(
        sp.prod([2 - eta * (1 + 1 / batch) * x for x in (l1, l2, l3)])
        - sum(
            eta * x / batch * sp.prod([2 - eta * (1 + 1 / batch) * y for y in (l1, l2, l3) if y != x])
            for x in (l1, l2, l3)
        )
    ),
    proofs={
        "kappa = 1, cleared of its denominators": lambda: sp.simplify(
            largest_step.law - (1 - _gain(l1, l2, l3)) * sp.prod([2 - eta * (1 + 1 / batch) * x for x in (l1, l2, l3)])
        ),
        "white inputs in d dimensions: 2B / (lam (d + B + 1))": lambda: (
            _gain(lam, lam, lam).subs(eta, 2 * batch / (lam * (3 + batch + 1))) - 1
        ),
    },
    call=lambda l1, l2, l3, batch: (np.array([l1, l2, l3]), batch),
    source="kappa = 1",
)

n, z1, z2, floor = sp.symbols("n z_1 z_2 f_oo", positive=True)

# Two equal eigenvalues and a zero one: f' = -2 gamma lam (f - floor) + K(0) f, K(0) = 2 gamma^2 lam^2 / n.
_kernel = 2 * eta**2 * lam**2 / n * sp.exp(-2 * eta * lam * t)
_rate = 2 * eta * lam - 2 * eta**2 * lam**2 / n
_limit = 2 * eta * lam * floor / _rate
_start = lam * (z1 + z2) / 2 + floor
_loss = _limit + (_start - _limit) * sp.exp(-_rate * t)


def _volterra():
    """f - f_gf - int_0^t K(t - r) f(r) dr."""
    r = sp.Symbol("r", positive=True)
    flow = floor + lam * (z1 + z2) / 2 * sp.exp(-2 * eta * lam * t)
    # Written with one symbol for the rate, so that the integral is elementary.
    rate = sp.Symbol("q", positive=True)
    guess = _limit + (_start - _limit) * sp.exp(-rate * r)
    inner = sp.integrate(sp.expand(_kernel.subs(t, 0) * sp.exp(2 * eta * lam * r) * guess), r, conds="none")
    integral = sp.exp(-2 * eta * lam * t) * (inner.subs(r, t) - inner.subs(r, 0))
    return sp.simplify((_loss - flow - integral).subs(rate, _rate))


multipass = Formula(
    title="Homogenised loss of multi-pass stochastic gradient descent, two equal singular values",
    backs="theory.deep_linear.sgd.multipass_loss",
    symbol=sp.Function("f")(t),
    arguments=(t, lam, z1, z2, floor, n, eta),
    domain={
        t: Interval(0, 200),
        lam: Interval(0.01, 2),
        z1: Interval(0.1, 2),
        z2: Interval(0.1, 2),
        floor: Interval(0.1, 2),
        n: Interval(3, 100),
        eta: Interval(1e-3, 1.2, log=True),
    },
    expression=_loss,
    proofs={
        "the Volterra equation": _volterra,
        "without the kernel: the flow": lambda: sp.simplify(
            sp.limit(_loss, n, sp.oo) - floor - lam * (z1 + z2) / 2 * sp.exp(-2 * eta * lam * t)
        ),
    },
    call=lambda t, lam, z1, z2, floor, n, eta: (t, (np.array([lam, lam, 0.0]), np.array([z1, z2, 1.0]), floor, n), eta),
    source="Paquette, Lee, Pedregosa & Paquette 2021 (arXiv:2102.04396)",
)

multipass_floor = Formula(
    title="Homogenised loss at which multi-pass stochastic gradient descent settles",
    backs="theory.deep_linear.sgd.multipass_limit",
    symbol=sp.Symbol("f_limit"),
    arguments=(l1, l2, floor, n, eta),
    domain={
        l1: Interval(0.01, 2),
        l2: Interval(0.01, 2),
        floor: Interval(0.1, 2),
        n: Interval(3, 100),
        eta: Interval(1e-3, 1, log=True),
    },
    expression=floor / (1 - eta / (2 * n) * (l1 + l2)),
    proofs={
        "the integral of the kernel": lambda: (
            sp.integrate(eta**2 / n * l1**2 * sp.exp(-2 * eta * l1 * t), (t, 0, sp.oo)) - eta * l1 / (2 * n)
        ),
        "two equal singular values": lambda: sp.simplify(_limit - floor / (1 - eta / (2 * n) * 2 * lam)),
    },
    call=lambda l1, l2, floor, n, eta: ((np.array([l1, l2]), np.ones(2), floor, n), eta),
    source="Paquette, Lee, Pedregosa & Paquette 2021 (arXiv:2102.04396)",
)
