"""What a claim measures: deviations over the deviation that is expected, so that one is the natural tolerance.

| kind        | measure                                        | tolerance                                      |
|-------------|------------------------------------------------|------------------------------------------------|
| gap         | deviation / leading error term                 | of order one, from the next term               |
| rate        | |log-log slope - predicted order|              | from the curvature that the sizes leave        |
| statistical | |mean - prediction| / standard error           | 5: below 1e-4 for hundreds of claims           |
| order       | number (or fraction) of pairs out of order     | 0                                              |
"""

from __future__ import annotations

from typing import NamedTuple

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


def crossing_time(t, curve, level, never: float = np.inf):
    """When a curve first reaches a level from below, along its last axis, by linear interpolation between records.

    `level` broadcasts against the leading axes of `curve`; a curve that starts at the level or above crosses at once,
    one that never does at `never`. For a curve that falls give -curve and -level, for one that falls by orders of
    magnitude their logarithms.
    """
    t, curve = np.asarray(t, float), np.asarray(curve, float)
    level = np.broadcast_to(np.asarray(level, float), curve.shape[:-1])
    above = curve >= level[..., None]
    at = above.argmax(axis=-1)
    before = np.maximum(at - 1, 0)
    low, high = (np.take_along_axis(curve, i[..., None], -1)[..., 0] for i in (before, at))
    share = np.where(high > low, (level - low) / np.where(high > low, high - low, 1.0), 0.0)
    return np.where(above.any(axis=-1), t[before] + share * (t[at] - t[before]), never)


class Transition(NamedTuple):
    """A plateau and the rise after it, in the unit of `t`: arrays of the leading shape of the curves.

    `arrival` on the plateau, `onset` of the rise, its `half`, its `end`.
    """

    arrival: np.ndarray
    onset: np.ndarray
    half: np.ndarray
    end: np.ndarray

    @property
    def plateau(self):
        """How long the plateau lasts."""
        return _between(self.arrival, self.onset)

    @property
    def rise(self):
        """How long the rise takes."""
        return _between(self.onset, self.end)

    @property
    def sharpness(self):
        """The time of the transition over that of its rise: large where it is abrupt."""
        return self.half / self.rise


def _between(early, late):
    """How long from one to the other: for ever, where the later never comes."""
    come = np.isfinite(late)
    return np.where(come, np.where(come, late, 0.0) - np.where(come, early, 0.0), np.inf)


def transition(t, curve, low, high, band: float = 0.1) -> Transition:
    """Where a curve comes to a plateau at `low`, leaves it, and arrives at `high`, alike for theories and networks.

    On the plateau, and at the end, means within `band` (high - low) of it. A curve that never gets there has infinite
    times. `high` below `low` is a fall. `low` and `high` broadcast against the leading axes of `curve`.
    """
    if not 0 < band < 0.5:
        raise ValueError(f"band must lie between 0 and 0.5, got {band}")
    low, high = np.asarray(low, float), np.asarray(high, float)
    curve = (np.asarray(curve, float) - low[..., None]) / (high - low)[..., None]
    return Transition(*(crossing_time(t, curve, level) for level in (-band, band, 0.5, 1 - band)))
