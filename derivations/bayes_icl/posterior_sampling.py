"""A sampled reference adds the variance of its own error to every distance that is measured to it."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

g, f = sp.symbols("g f", real=True)
e = sp.Symbol("e", positive=True)


def _two_points():
    """An error of plus or minus e, equally likely: the mean of the squared distance, less e^2."""
    mean = ((g - f - e) ** 2 + (g - f + e) ** 2) / 2
    return sp.expand(mean - e**2 - (g - f) ** 2)


distance = Formula(
    title="Distance to a Bayes predictor that is known up to an error",
    backs="theory.bayes_icl.posterior_sampling.distance_to_bayes",
    symbol=sp.Symbol("Delta"),
    arguments=(g, f, e),
    domain={g: Interval(-2, 2), f: Interval(-2, 2), e: Interval(0.01, 1)},
    expression=(g - f) ** 2 - e**2,
    proofs={"unbiased": _two_points},
    call=lambda g, f, e: (np.array([g]), np.array([f]), np.array([e])),
    source="bias of a square",
)
