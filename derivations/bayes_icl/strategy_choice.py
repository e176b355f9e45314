"""Memorising against generalising: Bayes' rule with evidence that grows slowly, and where the odds are even."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

n, km, kg, lm, lg, beta, gamma, w = sp.symbols("N K_M K_G L_M L_G beta gamma w", positive=True)
alpha = sp.Symbol("alpha", positive=True)
SOURCE = "Wurgaft et al. 2025 (arXiv:2506.17859)"
ODDS = -sp.log(2) * (km**beta - kg**beta) - gamma * n ** (1 - alpha) * (lm - lg)
DOMAIN = {
    n: Interval(1, 1e5, log=True),
    km: Interval(200, 1e5, log=True),
    kg: Interval(1, 100, log=True),
    lm: Interval(0, 0.1),
    lg: Interval(0.2, 1),
    alpha: Interval(0.1, 0.8),
    beta: Interval(0.1, 0.5),
    gamma: Interval(0.1, 2, log=True),
}


def _bayes():
    """The log ratio of two posteriors, prior 2^{-K^beta} and likelihood e^{-gamma N^{1-alpha} L}."""
    posterior = lambda k, lost: 2 ** (-(k**beta)) * sp.exp(-gamma * n ** (1 - alpha) * lost)  # noqa: E731
    return sp.simplify(sp.expand_log(sp.log(posterior(km, lm)) - sp.log(posterior(kg, lg)), force=True) - ODDS)


def _tempered():
    """Without a slow-down each sample counts as one of gamma observations: the odds change at a constant rate."""
    return sp.diff(ODDS.subs(alpha, 0), n) + gamma * (lm - lg)


CROSSING = (sp.log(2) * (km**beta - kg**beta) / (gamma * (lg - lm))) ** (1 / (1 - alpha))


def _even():
    """At the crossing the odds are even: numbers of all signs of K and L."""
    points = [(sp.Rational(1, 3), 2), (sp.Rational(3, 4), 1)]
    found = [
        ODDS.subs(n, CROSSING).subs(
            {alpha: a, beta: sp.Rational(b, 2), km: 81, kg: 16, lm: sp.Rational(1, 10), lg: 1, gamma: sp.Rational(3, 2)}
        )
        for a, b in points
    ]
    return sp.Matrix([sp.nsimplify(x.evalf(40), tolerance=1e-30) for x in found])


odds = Formula(
    title="Log odds of memorising",
    backs="theory.bayes_icl.strategy_choice.log_odds",
    symbol=sp.Symbol("eta"),
    arguments=(n, lm, km, lg, kg, alpha, beta, gamma),
    domain=DOMAIN,
    # Away from its zero.
    expression=ODDS + 1000,
    proofs={"Bayes' rule": _bayes, "no slow-down": _tempered},
    call=lambda n, lm, km, lg, kg, a, b, c: (n, (lm, km), (lg, kg), (a, b, c)),
    read=lambda found: found + 1000,
    source=SOURCE,
)

posterior = Formula(
    title="Belief in the second of three strategies",
    backs="theory.bayes_icl.strategy_choice.strategy_log_posterior",
    symbol=sp.Symbol("ln P"),
    arguments=(n, km, lg, alpha, gamma),
    domain={
        n: Interval(1, 1e4, log=True),
        km: Interval(1, 300),
        lg: DOMAIN[lg],
        alpha: DOMAIN[alpha],
        gamma: DOMAIN[gamma],
    },
    # Strategies of bits (9, K, 100) and losses (1/2, L, 0), beta = 1/2; each written against the second.
    expression=-sp.log(
        1
        + 2 ** (sp.sqrt(km) - 3) * sp.exp(gamma * n ** (1 - alpha) * (lg - sp.Rational(1, 2)))
        + 2 ** (sp.sqrt(km) - 10) * sp.exp(gamma * n ** (1 - alpha) * lg)
    ),
    proofs={
        "beliefs sum to one": lambda: sp.simplify(
            sum(
                1
                / sum(
                    sp.exp(-sp.log(2) * (sp.sqrt(k) - sp.sqrt(j)) - gamma * n * (x - y))
                    for k, x in ((9, 1), (km, lg), (100, 0))
                )
                for j, y in ((9, 1), (km, lg), (100, 0))
            )
            - 1
        )
    },
    call=lambda n, k, lost, a, c: (n, np.array([0.5, lost, 0.0]), np.array([9.0, k, 100.0]), (a, 0.5, c)),
    read=lambda found: found[1],
    source=SOURCE,
)

crossing = Formula(
    title="Step at which memorising takes over",
    backs="theory.bayes_icl.strategy_choice.crossing_step",
    symbol=sp.Symbol("N*"),
    arguments=(lm, km, lg, kg, alpha, beta, gamma),
    domain={a: DOMAIN[a] for a in (lm, km, lg, kg, alpha, beta, gamma)},
    expression=CROSSING,
    proofs={"the odds are even": _even},
    call=lambda lm, km, lg, kg, a, b, c: ((lm, km), (lg, kg), (a, b, c)),
    source=SOURCE,
)

_a, _b, _u, _v = sp.symbols("a b u v", real=True)


def _mixture():
    """Squared distances of w u + (1 - w) v to u and to v, over that between them: r = 2 w - 1."""
    mixed = w * _u + (1 - w) * _v
    return sp.simplify(((mixed - _v) ** 2 - (mixed - _u) ** 2) / (_u - _v) ** 2 - (2 * w - 1))


distance = Formula(
    title="Relative distance of a mixture",
    backs="theory.bayes_icl.strategy_choice.relative_distance",
    symbol=sp.Symbol("r"),
    arguments=(w, _u, _v),
    domain={w: Interval(0.55, 1), _u: Interval(1, 2), _v: Interval(-2, 0)},
    expression=2 * w - 1,
    proofs={"of two points": _mixture},
    call=lambda w, u, v: ((1 - w) ** 2 * (u - v) ** 2, w**2 * (u - v) ** 2, (u - v) ** 2),
    source=SOURCE,
)
