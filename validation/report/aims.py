"""What benchmarks were held against, read from what they kept: every point that has an aim, met or missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Aim(NamedTuple):
    """One aim: what was compared with whom, the ratio (least, median, largest) and the ratio that was aimed at."""

    title: str
    rival: str
    x: str
    ratio: Sequence[float]
    aim: float

    @property
    def met(self) -> bool:
        """By the median."""
        return self.ratio[1] >= self.aim

    def verdict(self) -> str:
        """A missed aim that the spread reaches is missed all the same."""
        return "met" if self.met else "missed"


def aims(result: Mapping[str, Any]) -> list[Aim]:
    """The aims of a result: a point's own, or the result's."""
    found = []
    for rival, points in result["series"].items():
        for point in points:
            aim = point.get("aim", result.get("aim"))
            if aim is not None:
                found.append(Aim(result["title"], rival, str(point["x"]), point["ratio"], aim))
    return found
