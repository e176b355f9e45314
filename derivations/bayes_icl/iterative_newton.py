"""Newton's iteration filters the spectrum: its error squares at every step."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

lam, a, eta, eps = sp.symbols("lambda a eta epsilon", positive=True)
k = sp.Symbol("k", positive=True)


def _iteration():
    """Three steps of m <- 2 m - m^2 lambda from a lambda."""
    m = a * lam
    for _ in range(3):
        m = 2 * m - m**2 * lam
    return sp.simplify(m * lam - (1 - (1 - a * lam**2) ** 8))


def _squares():
    """1 - m lambda squares at each step, whatever it is."""
    m = sp.Symbol("m")
    return sp.expand(1 - (2 * m - m**2 * lam) * lam - (1 - m * lam) ** 2)


SHARE = 1 - (1 - a * lam**2) ** (2**k)

share = Formula(
    title="Share of the solution after some steps of Newton's iteration",
    backs="theory.bayes_icl.iterative_newton.newton_share",
    symbol=sp.Symbol("f"),
    arguments=(lam, a, k),
    domain={lam: Interval(0.1, 1.9), a: Interval(0.01, 0.25), k: Interval(0, 8)},
    expression=SHARE,
    proofs={"three steps": _iteration, "errors square": _squares},
    source="Fu et al. 2023 (arXiv:2310.17086)",
)

MATCHED = 2**k * sp.log(1 - a * lam**2) / sp.log(1 - eta * lam)

matched = Formula(
    title="Steps of gradient descent as good as some of Newton's",
    backs="theory.bayes_icl.iterative_newton.matched_descent_steps",
    symbol=sp.Symbol("t"),
    arguments=(lam, a, eta, k),
    domain={lam: Interval(0.01, 0.9), a: Interval(0.05, 1), eta: Interval(0.05, 1), k: Interval(0, 10)},
    expression=MATCHED,
    proofs={
        "the same share": lambda: sp.simplify(
            sp.expand_log(sp.log((1 - eta * lam) ** sp.Symbol("t")), force=True).subs(sp.Symbol("t"), MATCHED)
            - 2**k * sp.log(1 - a * lam**2)
        ),
        "twice as many for one more": lambda: sp.simplify(MATCHED.subs(k, k + 1) / MATCHED - 2),
    },
    source="Fu et al. 2023 (arXiv:2310.17086)",
)

COUNT = sp.log(sp.log(eps) / sp.log(1 - a * lam**2)) / sp.log(2)

count = Formula(
    title="Steps of Newton's iteration to an error",
    backs="theory.bayes_icl.iterative_newton.newton_steps",
    symbol=sp.Symbol("k"),
    arguments=(lam, a, eps),
    domain={lam: Interval(0.01, 0.5), a: Interval(0.05, 1), eps: Interval(1e-9, 0.1, log=True)},
    expression=COUNT,
    proofs={
        "the share that is left": lambda: sp.simplify(
            sp.expand_log(2**COUNT * sp.log(1 - a * lam**2), force=True) - sp.log(eps)
        )
    },
    source="Fu et al. 2023 (arXiv:2310.17086)",
)

x0, x1, y0, y1, q = sp.symbols("x_0 x_1 y_0 y_1 q", real=True)
S = x0**2 + x1**2


def _by_products():
    """Two steps with the products themselves, from 1 / |S S|."""
    m = S / S**2
    for _ in range(2):
        m = 2 * m - m * S * m
    return sp.simplify(m * (x0 * y0 + x1 * y1) * q - PREDICTED)


# Of one input the first step is exact: a lambda^2 = 1.
PREDICTED = q * (x0 * y0 + x1 * y1) / S


def _call(x0, x1, y0, y1, q):
    return np.array([[x0], [x1]]), np.array([y0, y1]), np.array([q])


predicted = Formula(
    title="Newton's prediction of one input, from the default start",
    backs="theory.bayes_icl.iterative_newton.newton",
    symbol=sp.Symbol("yhat"),
    arguments=(x0, x1, y0, y1, q),
    domain={name: Interval(0.2, 2) for name in (x0, x1, y0, y1, q)},
    expression=PREDICTED,
    proofs={"products of matrices": _by_products},
    call=_call,
    keywords={"steps": 2},
    source="Fu et al. 2023 (arXiv:2310.17086)",
)
