"""Bandits: beliefs, two rounds played out, quantiles, volumes, and why a confidence set has its radius."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

mu, total, m0, m = sp.symbols("mu S m_0 m", real=True)
n, s2, v0, v, t, a = sp.symbols("n sigma^2 v_0 v t alpha", positive=True)
lam, sigma, size, delta, log_det, volume = sp.symbols("lambda sigma S_theta delta L V", positive=True)
p1, p2, q, keep_won, keep_lost, x, x1, x2, y1, y2 = sp.symbols("p_1 p_2 q u w x x_1 x_2 y_1 y_2", real=True)

_mean = (s2 * m0 + v0 * total) / (s2 + n * v0)
_variance = s2 * v0 / (s2 + n * v0)
BELIEF = (n, total, s2, m0, v0)
DOMAIN = {
    n: Interval(0, 50),
    total: Interval(-20, 20),
    s2: Interval(0.1, 10, log=True),
    m0: Interval(0.5, 2),
    v0: Interval(0.1, 10, log=True),
}

# Prior and likelihood of a mean mu; sum (r - mu)^2 = const - 2 mu S + n mu^2.
_log_belief = -((mu - m0) ** 2) / (2 * v0) + (2 * mu * total - n * mu**2) / (2 * s2)


def _belief(n, total, s2, m0, v0):
    return np.array([n]), np.array([total]), s2, m0, v0


arm_mean = Formula(
    title="Mean of what is known of a Gaussian arm",
    backs="theory.bayes_icl.bandits.gaussian_arms",
    symbol=m,
    arguments=BELIEF,
    domain=DOMAIN | {total: Interval(0, 20)},
    expression=_mean,
    proofs={
        "top of the posterior": lambda: sp.simplify(sp.diff(_log_belief, mu).subs(mu, _mean)),
        "many rewards": lambda: sp.limit(_mean.subs(total, n * mu), n, sp.oo) - mu,
    },
    call=_belief,
    read=lambda found: found.mean[0],
    source="standard Gaussian conditioning",
)

arm_variance = Formula(
    title="Variance of what is known of a Gaussian arm",
    backs="theory.bayes_icl.bandits.gaussian_arms",
    symbol=v,
    arguments=BELIEF,
    domain=DOMAIN,
    expression=_variance,
    proofs={"curvature of the posterior": lambda: sp.simplify(sp.diff(_log_belief, mu, 2) + 1 / _variance)},
    call=_belief,
    read=lambda found: found.variance[0],
    source="standard Gaussian conditioning",
)


def _quantile():
    """The stated index is where the posterior's distribution is 1 - 1/t."""
    index = m + sp.sqrt(2 * v) * sp.erfinv(1 - 2 / t)
    return sp.simplify((1 + sp.erf((index - m) / sp.sqrt(2 * v))) / 2 - (1 - 1 / t))


bayes_ucb = Formula(
    title="Index of Bayes-UCB",
    backs="theory.bayes_icl.bandits.bayes_ucb_index",
    symbol=sp.Symbol("u"),
    arguments=(m, v, t),
    domain={m: Interval(3, 6), v: Interval(0.01, 0.5, log=True), t: Interval(1.1, 1e4, log=True)},
    expression=m + sp.sqrt(2 * v) * sp.erfinv(1 - 2 / t),
    proofs={"quantile": _quantile},
    source="Kaufmann, Cappe & Garivier 2012",
)

_scale = sp.Symbol("c", positive=True)
_width = _scale * sp.sqrt(2 * sp.log(t) / n)


def _confidence(scale, deviation, power):
    """Chernoff: the mean of n sigma-sub-Gaussian rewards is off by the width with a chance of at most t^-power."""
    chance = sp.exp(-n * _width.subs(_scale, scale) ** 2 / (2 * deviation**2))
    return sp.simplify(chance - t**-power)


ucb = Formula(
    title="Index of UCB1",
    backs="theory.bayes_icl.bandits.ucb_index",
    symbol=sp.Symbol("u"),
    arguments=(mu, n, t, _scale),
    domain={mu: Interval(0.1, 2), n: Interval(1, 100), t: Interval(1, 1e5, log=True), _scale: Interval(0.1, 3)},
    expression=mu + _width,
    proofs={
        "chance t^-4 for rewards in [0, 1]": lambda: _confidence(1, sp.Rational(1, 2), 4),
        "chance 1/t for c = sigma": lambda: _confidence(sigma, sigma, 1),
    },
    source="Auer, Cesa-Bianchi & Fischer 2002, fig. 1",
)

_won, _lost, _prior_mean = (a + 1) / (a + 2), a / (a + 2), a / (a + 1)
_earned = _prior_mean * (keep_won * _won + (1 - keep_won) * _prior_mean) + (1 - _prior_mean) * (
    keep_lost * _lost + (1 - keep_lost) * _prior_mean
)
_second = 2 * a / (2 * a + 1) - _earned


def _over_bandits(integrand, alpha):
    """Mean over two arms of prior Beta(alpha, 1), for an integrand on p_1 > p_2 and its mirror image."""
    prior = alpha**2 * (p1 * p2) ** (alpha - 1)
    swapped = integrand.subs({p1: p2, p2: p1}, simultaneous=True)
    both = sp.expand(prior * (integrand + swapped).subs(sp.Max(p1, p2), p1))
    return sp.integrate(sp.integrate(both, (p2, 0, p1)), (p1, 0, 1))


def _played():
    """Given the bandit, rewards are independent: no posteriors. The arm of the first round is arm 1."""
    chosen = p1 * (keep_won * p1 + (1 - keep_won) * p2) + (1 - p1) * (keep_lost * p1 + (1 - keep_lost) * p2)
    regret = sp.Max(p1, p2) - chosen
    return sp.Matrix([sp.simplify(_over_bandits(regret, k) - _second.subs(a, k)) for k in (1, 2, 4)])


def _two_rounds(first, won, lost, alpha):
    """A policy of two rounds: arm 1 first with that chance, then the same arm with chance u if it won, w if it lost."""
    policy = np.zeros((2, 2, 2, 2, 2))
    policy[0, 0, 0, 0] = first, 1 - first
    policy[1, 0, 0, 0], policy[0, 1, 0, 0] = (won, 1 - won), (lost, 1 - lost)
    policy[0, 0, 1, 0], policy[0, 0, 0, 1] = (1 - won, won), (1 - lost, lost)
    return policy, np.array([alpha, 1.0])


second_round = Formula(
    title="Bayes regret of the second of two rounds",
    backs="theory.bayes_icl.bandits.bayes_regret",
    symbol=sp.Symbol("r_2"),
    arguments=(q, keep_won, keep_lost, a),
    domain={q: Interval(0, 1), keep_won: Interval(0, 1), keep_lost: Interval(0, 1), a: Interval(0.5, 5)},
    expression=_second,
    proofs={"played out, bandit by bandit": _played},
    call=_two_rounds,
    read=lambda found: found[1],
    source="Bayes' rule",
)


def _volume():
    """det V / lambda^2 of two actions in the plane is the product of 1 + widths."""
    first, second = sp.Matrix([x1, y1]), sp.Matrix([x2, y2])
    before = lam * sp.eye(2)
    after = before + first * first.T
    widths = [(one.T * v.inv() * one)[0] for one, v in ((first, before), (second, after))]
    return sp.simplify((after + second * second.T).det() / lam**2 - (1 + widths[0]) * (1 + widths[1]))


potential = Formula(
    title="What two actions in the plane span",
    backs="theory.bayes_icl.bandits.elliptical_potential",
    symbol=log_det,
    arguments=(x1, y1, x2, y2, lam),
    domain={x1: Interval(0.3, 1), y1: Interval(0, 1), x2: Interval(-1, 1), y2: Interval(-1, 1), lam: Interval(0.1, 9)},
    expression=sp.log(
        sp.det(sp.Matrix([[lam + x1**2 + x2**2, x1 * y1 + x2 * y2], [x1 * y1 + x2 * y2, lam + y1**2 + y2**2]])) / lam**2
    ),
    proofs={"product of widths": _volume},
    call=lambda a, b, c, d, ridge: (np.array([[a, b], [c, d]]), ridge),
    read=lambda found: found.log_det,
    source="Abbasi-Yadkori, Pal & Szepesvari 2011, lemma 11",
)


def _mixture():
    """Where the mixture of martingales int exp(x M - x^2 V sigma^2 / 2) N(x; 0, 1 / (lambda sigma^2)) dx is 1/delta.

    M = sum x_u noise_u; the set ends at M^2 / (V + lambda) = sigma^2 (2 ln 1/delta + ln (V + lambda) / lambda).
    """
    noise = sp.Symbol("M", positive=True)
    prior = sp.sqrt(lam * sigma**2 / (2 * sp.pi)) * sp.exp(-(x**2) * lam * sigma**2 / 2)
    mixture = sp.integrate(sp.exp(x * noise - x**2 * volume * sigma**2 / 2) * prior, (x, -sp.oo, sp.oo), conds="none")
    end = sigma * sp.sqrt((volume + lam) * (2 * sp.log(1 / delta) + sp.log((volume + lam) / lam)))
    return sp.simplify(sp.log(sp.simplify(mixture.subs(noise, end) * delta)))


radius = Formula(
    title="Radius of the confidence set of ridge regression",
    backs="theory.bayes_icl.bandits.confidence_radius",
    symbol=sp.Symbol("beta"),
    arguments=(log_det, lam, sigma, delta, size),
    domain={
        log_det: Interval(0, 50),
        lam: Interval(0.01, 10, log=True),
        sigma: Interval(0.1, 3),
        delta: Interval(1e-6, 1, log=True),
        size: Interval(0.5, 2),
    },
    expression=sigma * sp.sqrt(2 * sp.log(1 / delta) + log_det) + sp.sqrt(lam) * size,
    proofs={"mixture of martingales, one dimension": _mixture},
    source="Abbasi-Yadkori, Pal & Szepesvari 2011, theorem 2",
)
