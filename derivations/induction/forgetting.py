"""Forgetting on purpose: the error that a memory keeps making when it is reset every so often."""

import sympy as sp

from derivations.formula import Formula, Interval

p, delta, labels, m = sp.symbols("p Delta L m", positive=True)
t = sp.Symbol("t", positive=True)

# The margin of a class, from dm/dt = p L (1 - q) / (L - 1) with 1 - q = (L - 1) / (e^m + L - 1).
LAW = sp.exp(m) - 1 + (labels - 1) * m - labels * p * t


def _moves_as_the_race():
    """Along the law, dm/dt = L / (L - 1) p (1 - q), as the memory of the race does where no head helps it."""
    speed = -sp.diff(LAW, t) / sp.diff(LAW, m)
    error = (labels - 1) / (sp.exp(m) + labels - 1)
    return sp.simplify(speed - labels / (labels - 1) * p * error)


def _mean_of_the_error():
    """The integral of the error over an interval, taken over the margin instead of time."""
    error = (labels - 1) / (sp.exp(m) + labels - 1)
    duration = sp.diff(LAW, m) / (labels * p)
    total = sp.integrate(sp.simplify(error * duration), (m, 0, t))
    return sp.simplify(total - t * (labels - 1) / (labels * p))


def _quick_resets():
    """For short intervals the error is that of chance: m = (1 - 1/L) L / (L - 1) p Delta to first order."""
    speed = (-sp.diff(LAW, t) / sp.diff(LAW, m)).subs(m, 0)
    return sp.simplify(speed * (labels - 1) / (labels * p) - (1 - 1 / labels))


error_with_resets = Formula(
    title="Mean error of a memory that is reset",
    backs="theory.induction.forgetting.remaining_error",
    symbol=m,
    arguments=(delta, p, labels),
    domain={
        delta: Interval(1e-2, 1e5, log=True),
        p: Interval(1e-4, 1, log=True),
        labels: Interval(1.5, 100),
    },
    # The mean error E with the margin E L p Delta / (L - 1) on the law.
    law=LAW.subs({m: m * labels * p * delta / (labels - 1), t: delta}, simultaneous=True),
    proofs={
        "the margin moves as in the race": _moves_as_the_race,
        "the mean of the error is margin over pace": _mean_of_the_error,
        "quick resets leave chance": _quick_resets,
    },
    source="derived here, for the experiment of Anand et al. 2024 (arXiv:2406.00053)",
)
