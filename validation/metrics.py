"""What a claim measures: deviations over the deviation that is expected, so that one is the natural tolerance.

| kind        | measure                                        | tolerance                                      |
|-------------|------------------------------------------------|------------------------------------------------|
| gap         | deviation / leading error term                 | of order one, from the next term               |
| rate        | |log-log slope - predicted order|              | from the curvature that the sizes leave        |
| statistical | |mean - prediction| / standard error           | 5: below 1e-4 for hundreds of claims           |
| order       | number (or fraction) of pairs out of order     | 0                                              |
"""

from __future__ import annotations

import numpy as np


def gap(prediction, observation, scale) -> float:
    """Largest deviation of `observation` from `prediction`, in units of `scale` (the expected leading error).

    NaN anywhere gives NaN, so that a diverged network never agrees with anything.
    """
    deviation = np.abs(np.asarray(observation, float) - np.asarray(prediction, float))
    return float(np.max(deviation / np.asarray(scale, float)))


def slope(sizes, errors) -> float:
    """Log-log slope of `errors` against `sizes` by least squares."""
    return float(np.polyfit(np.log(np.asarray(sizes, float)), np.log(np.asarray(errors, float)), 1)[0])


def rate(sizes, errors, order: float) -> float:
    """|measured order - predicted order| of `errors ~ sizes ** order`, from three sizes or more."""
    if len(sizes) < 3:
        raise ValueError(f"sizes must hold three or more to measure a rate, got {len(sizes)}")
    return abs(slope(sizes, errors) - order)


def log_mean(runs) -> float:
    """Geometric mean of positive numbers: what a power law is fitted to."""
    return float(np.exp(np.mean(np.log(runs))))


def fitted_exponent(sizes, samples, statistic=np.mean) -> tuple[float, float]:
    """Log-log slope of `statistic(runs)` against `sizes`, and its standard error over runs (jackknife).

    `samples` is (sizes, runs, ...): what each run measured at each size; `statistic` takes (runs, ...). A run is left
    out at all sizes at once, as is right both where a run shares its seed among sizes and where it does not.
    """
    samples = np.asarray(samples, float)
    runs = samples.shape[1]
    if len(sizes) < 3 or runs < 3:
        raise ValueError(f"samples must hold three sizes and three runs or more, got {samples.shape[:2]}")
    fitted = slope(sizes, [statistic(one) for one in samples])
    left = [slope(sizes, [statistic(np.delete(one, i, axis=0)) for one in samples]) for i in range(runs)]
    return fitted, float(np.sqrt((runs - 1) * np.var(left)))


def z_score(prediction, samples, axis: int = 0, floor: float = 0.0) -> float:
    """Largest |mean of `samples` over `axis` - prediction| in standard errors of that mean.

    `floor` is a known deviation that is not noise (finite step, finite width), added in quadrature.
    """
    samples = np.asarray(samples, float)
    runs = samples.shape[axis]
    if runs < 2:
        raise ValueError(f"samples must hold two runs or more along axis {axis}, got {runs}")
    error = np.hypot(samples.std(axis=axis, ddof=1) / np.sqrt(runs), floor)
    return float(np.max(np.abs(samples.mean(axis=axis) - np.asarray(prediction, float)) / error))


def regret(times, chosen, errors) -> float:
    """How significantly any moment beats the one nearest `chosen`: paired over runs, in standard errors.

    `errors` is (runs, times). NaN anywhere gives NaN.
    """
    errors, nearest = np.asarray(errors, float), int(np.abs(np.asarray(times, float) - chosen).argmin())
    excess = np.delete(errors[:, [nearest]] - errors, nearest, axis=1)
    spread = excess.std(axis=0, ddof=1) / np.sqrt(len(excess))
    mean = excess.mean(axis=0)
    # Errors that do not scatter beat surely or not at all.
    sure = np.where(mean > 0, np.inf, mean)
    return float(np.max(np.where(spread > 0, mean / np.where(spread > 0, spread, 1.0), sure)))


def disorder(expected_first_to_last) -> int:
    """Number of neighbouring pairs of a sequence of times that are not in increasing order; NaN counts as out."""
    times = np.asarray(expected_first_to_last, float)
    return int(np.sum(~(np.diff(times) > 0)))
