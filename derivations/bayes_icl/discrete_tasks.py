"""The discrete estimator of two tasks: a logistic function of how much better the first explains the past."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

w1, w2, x0, x1, y0 = sp.symbols("w_1 w_2 x_0 x_1 y_0", real=True)
s2 = sp.Symbol("sigma^2", positive=True)

GAIN = ((y0 - w2 * x0) ** 2 - (y0 - w1 * x0) ** 2) / (2 * s2)
WEIGHT = 1 / (1 + sp.exp(-GAIN))
DOMAIN = {name: Interval(-2, 2) for name in (w1, w2, x0, x1, y0)} | {s2: Interval(0.02, 3, log=True)}


def _bayes():
    likelihoods = [sp.exp(-((y0 - w * x0) ** 2) / (2 * s2)) for w in (w1, w2)]
    mean = (likelihoods[0] * w1 + likelihoods[1] * w2) / sum(likelihoods)
    return sp.simplify((mean - (WEIGHT * w1 + (1 - WEIGHT) * w2)).rewrite(sp.exp))


def _pair(w1, w2, x0, x1, s2, y0):
    return np.array([[w1], [w2]]), np.array([[x0], [x1]]), np.array([y0, 5.0]), s2


second_label = Formula(
    title="Second label when one of two tasks holds",
    backs="theory.bayes_icl.discrete_tasks.pool_predictions",
    symbol=sp.Symbol("m_1"),
    arguments=(w1, w2, x0, x1, s2, y0),
    domain=DOMAIN,
    expression=x1 * (w2 + (w1 - w2) * WEIGHT),
    proofs={
        "posterior mean": _bayes,
        "equal tasks": lambda: sp.simplify((w2 + (w1 - w2) * WEIGHT).subs(w2, w1) - w1),
    },
    call=_pair,
    keywords={"chunk": 1},
    read=lambda found: found.mean[1],
    source="Raventos et al. 2023 (arXiv:2306.15063)",
)

second_variance = Formula(
    title="Variance of that label, noise included",
    backs="theory.bayes_icl.discrete_tasks.pool_predictions",
    symbol=sp.Symbol("v_1"),
    arguments=(w1, w2, x0, x1, s2, y0),
    domain=DOMAIN,
    expression=s2 + x1**2 * (w1 - w2) ** 2 * WEIGHT * (1 - WEIGHT),
    proofs={
        "second moment less the square of the first": lambda: sp.simplify(
            WEIGHT * w1**2
            + (1 - WEIGHT) * w2**2
            - (WEIGHT * w1 + (1 - WEIGHT) * w2) ** 2
            - (w1 - w2) ** 2 * WEIGHT * (1 - WEIGHT)
        )
    },
    call=_pair,
    keywords={"chunk": 1},
    read=lambda found: found.variance[1],
    source="derived here",
)

first_task = Formula(
    title="Log probability of the first of two tasks after a label",
    backs="theory.bayes_icl.discrete_tasks.task_posterior",
    symbol=sp.Symbol("P_1"),
    arguments=(w1, w2, x0, x1, s2, y0),
    domain=DOMAIN,
    expression=-sp.log(1 + sp.exp(-GAIN)),
    proofs={
        "of equal prior odds": lambda: sp.simplify(sp.exp(-sp.log(1 + sp.exp(-GAIN))).subs(x0, 0) - sp.Rational(1, 2))
    },
    call=_pair,
    read=lambda found: found[0, 1],
    source="Bayes' rule",
)
