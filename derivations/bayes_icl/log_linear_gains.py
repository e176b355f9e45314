"""Steps at log-uniform difficulties add up to a line in the logarithm, and the least-squares line through points."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

n, low, high, s = sp.symbols("n s_0 s_1 s", positive=True)
c, y1, y2, y3, y4 = sp.symbols("c y_1 y_2 y_3 y_4", real=True)
DENSITY = 1 / (s * sp.log(high / low))
SHARE = c + (1 - c) * sp.log(n / low) / sp.log(high / low)
GAIN = (1 - c) * sp.log(2) / sp.log(high / low)
SPREAD = {low: Interval(0.5, 2), high: Interval(200, 2000, log=True), c: Interval(0, 0.9)}
POINTS = tuple(zip((1, 2, 4, 16), (y1, y2, y3, y4), strict=True))
SHOTS = np.array([1.0, 2.0, 4.0, 16.0])


def _steps():
    """Tasks below n are solved, the others by chance."""
    solved = sp.integrate(DENSITY, (s, low, n)) + c * sp.integrate(DENSITY, (s, n, high))
    return sp.simplify(sp.expand_log(solved - SHARE, force=True))


def _least_squares():
    """Slope and intercept from the normal equations."""
    a, b = sp.symbols("a b")
    error = sum((y - a - b * sp.log(k, 2)) ** 2 for k, y in POINTS)
    found = sp.solve([sp.diff(error, a), sp.diff(error, b)], [a, b])
    return sp.simplify(found[b] - SLOPE)


LOGS = (0, 1, 2, 4)
MEAN = sp.Rational(sum(LOGS), 4)
SQUARES = sum((z - MEAN) ** 2 for z in LOGS)
SLOPE = sum((z - MEAN) * y for z, (_, y) in zip(LOGS, POINTS, strict=True)) / SQUARES
LEFT = [y - (y1 + y2 + y3 + y4) / 4 - SLOPE * (z - MEAN) for z, (_, y) in zip(LOGS, POINTS, strict=True)]
ERROR = sp.sqrt(sum(r**2 for r in LEFT) / (2 * SQUARES))


def _unbiased():
    """With independent errors of variance one the mean of error^2 is the variance of the slope."""
    ys = (y1, y2, y3, y4)
    second = sp.expand(ERROR**2)
    mean = sum(second.coeff(y, 2) for y in ys)
    variance = sum(sp.diff(SLOPE, y) ** 2 for y in ys)
    return sp.simplify(mean - variance)


share = Formula(
    title="Accuracy over tasks of log-uniform difficulty",
    backs="theory.bayes_icl.log_linear_gains.solved_share",
    symbol=sp.Symbol("accuracy"),
    arguments=(n, low, high, c),
    domain={n: Interval(2, 200, log=True), **SPREAD},
    expression=SHARE,
    proofs={"steps": _steps, "all tasks": lambda: sp.integrate(DENSITY, (s, low, high)).subs({low: 2, high: 9}) - 1},
    source="derived here",
)

gain = Formula(
    title="Accuracy for each doubling",
    backs="theory.bayes_icl.log_linear_gains.doubling_gain",
    symbol=sp.Symbol("b"),
    arguments=(low, high, c),
    domain=SPREAD,
    expression=GAIN,
    proofs={"twice as many": lambda: sp.simplify(sp.expand_log(SHARE.subs(n, 2 * n) - SHARE - GAIN, force=True))},
    source="derived here",
)

slope = Formula(
    title="Slope of the line through four points",
    backs="theory.bayes_icl.log_linear_gains.task_gain",
    symbol=sp.Symbol("b"),
    arguments=(y1, y2, y3, y4),
    # Away from its zero.
    domain={y1: Interval(0, 0.2), y2: Interval(0.2, 0.4), y3: Interval(0.4, 0.6), y4: Interval(0.7, 1)},
    expression=SLOPE,
    proofs={"normal equations": _least_squares},
    call=lambda *y: (SHOTS, np.array(y)),
    read=lambda found: found.slope,
    source="textbook",
)

error = Formula(
    title="Standard error of that slope",
    backs="theory.bayes_icl.log_linear_gains.task_gain",
    symbol=sp.Symbol("e"),
    arguments=(y1, y2, y3, y4),
    domain={y1: Interval(0.5, 0.7), y2: Interval(0, 0.2), y3: Interval(0.5, 0.7), y4: Interval(0.8, 1)},
    expression=ERROR,
    proofs={"unbiased": _unbiased},
    call=lambda *y: (SHOTS, np.array(y)),
    read=lambda found: found.error,
    source="textbook",
)
