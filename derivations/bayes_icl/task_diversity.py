"""Between two predictors: the weight of the nearest mixture, and the risk of ridge regression from two inputs."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

f0, f1, a0, a1, b0, b1, w = sp.symbols("f_0 f_1 a_0 a_1 b_0 b_1 w", real=True)
APART = (a0 - b0) ** 2 + (a1 - b1) ** 2
WEIGHT = ((f0 - b0) * (a0 - b0) + (f1 - b1) * (a1 - b1)) / APART


def _nearest():
    distance = sum((f - w * a - (1 - w) * b) ** 2 for f, a, b in ((f0, a0, b0), (f1, a1, b1)))
    return sp.simplify(sp.diff(distance, w).subs(w, WEIGHT))


memorising = Formula(
    title="Weight of the pool's predictor in the mixture nearest to a network",
    backs="theory.bayes_icl.task_diversity.deltas",
    symbol=sp.Symbol("w"),
    arguments=(f0, f1, a0, a1, b0, b1),
    domain={f0: Interval(-2, 2), f1: Interval(-2, 2)}
    | {name: Interval(0.2, 2) for name in (a0, a1)}
    | {name: Interval(-2, -0.2) for name in (b0, b1)},
    expression=WEIGHT,
    proofs={"least distance": _nearest},
    call=lambda f0, f1, a0, a1, b0, b1: (
        np.array([[f0, f1]]),
        np.array([[a0, a1]]),
        np.array([[b0, b1]]),
        3,
    ),
    read=lambda found: found.memorising,
    source="derived here",
)

distance = Formula(
    title="Distance to the pool's predictor, of two positions in three dimensions",
    backs="theory.bayes_icl.task_diversity.deltas",
    symbol=sp.Symbol("Delta"),
    arguments=memorising.arguments,
    domain=memorising.domain,
    expression=((f0 - a0) ** 2 + (f1 - a1) ** 2) / 6,
    proofs={
        "on the line between both": lambda: sp.simplify(
            (((f0 - a0) ** 2 + (f1 - a1) ** 2) / 6).subs({f0: w * a0 + (1 - w) * b0, f1: w * a1 + (1 - w) * b1})
            - (1 - w) ** 2 * APART / 6
        )
    },
    call=memorising.call,
    read=lambda found: found.to_pool,
    source="Raventos et al. 2023 (arXiv:2306.15063)",
)

x0, x1, s2, tau2 = sp.symbols("x_0 x_1 sigma^2 tau^2", positive=True)


def _error():
    """E (w_hat x_1 - w x_1)^2 over the task and the noise of one pair, for ridge sigma^2 / tau^2."""
    shrink = x0**2 / (x0**2 + s2 / tau2)
    of_task, of_noise = (1 - shrink) ** 2 * tau2, (x0 / (x0**2 + s2 / tau2)) ** 2 * s2
    return sp.simplify((of_task + of_noise) * x1**2 - x1**2 / (1 / tau2 + x0**2 / s2))


excess = Formula(
    title="Excess risk of ridge regression after one pair",
    backs="theory.bayes_icl.task_diversity.bayes_excess",
    symbol=sp.Symbol("e_1"),
    arguments=(x0, x1, s2, tau2),
    domain={x0: Interval(0.1, 2), x1: Interval(0.1, 2), s2: Interval(0.05, 2), tau2: Interval(0.2, 3)},
    expression=x1**2 / (1 / tau2 + x0**2 / s2),
    proofs={"bias and variance": _error},
    call=lambda x0, x1, s2, tau2: (np.array([[x0], [x1]]), s2, tau2),
    read=lambda found: found[1],
    source="standard Gaussian conditioning",
)

w1, w2, y0 = sp.symbols("w_1 w_2 y_0", real=True)


def _exponentials():
    first = sp.exp(-((y0 - w1 * x0) ** 2) / (2 * s2))
    second = sp.exp(-((y0 - w2 * x0) ** 2) / (2 * s2))
    return sp.simplify((w1 * first + w2 * second) / (first + second) - POOLED / x1)


POOLED = (
    x1
    * (w1 + w2 * sp.exp(((y0 - w1 * x0) ** 2 - (y0 - w2 * x0) ** 2) / (2 * s2)))
    / (1 + sp.exp(((y0 - w1 * x0) ** 2 - (y0 - w2 * x0) ** 2) / (2 * s2)))
)

pooled = Formula(
    title="Second label of a batch of one prompt, by a pool of two tasks",
    backs="theory.bayes_icl.task_diversity.task_predictors",
    symbol=sp.Symbol("m_1"),
    arguments=(w1, w2, x0, x1, y0, s2),
    domain={w1: Interval(-2, 2), w2: Interval(-2, 2), y0: Interval(-2, 2)}
    | {name: excess.domain[name] for name in (x0, x1, s2)},
    expression=POOLED,
    proofs={"posterior mean": _exponentials},
    call=lambda w1, w2, x0, x1, y0, s2: (
        np.array([[w1], [w2]]),
        np.array([[[x0], [x1]]]),
        np.array([[y0, 8.0]]),
        s2,
    ),
    read=lambda found: found[0][0, 1],
    source="Raventos et al. 2023 (arXiv:2306.15063)",
)
