"""What benchmarks were held against, read from what they kept: every point that has an aim, met or missed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def table(kept: Iterable[Mapping[str, Any]]) -> str:
    """What has an aim as a table in Markdown, a row for each result: medians from the least to the largest."""
    rows = ["| | ratios | aims met |", "|---|---|---|"]
    for result in (result for one in kept for result in one["results"]):
        held = aims(result)
        if not held:
            continue
        by_rival = {aim.rival: [other.ratio[1] for other in held if other.rival == aim.rival] for aim in held}
        spans = [f"{rival}: {_span(min(medians), max(medians))}" for rival, medians in by_rival.items()]
        title = f"{result['title']} ({result['unit']})"
        rows.append(f"| {title} | {'; '.join(spans)} | {sum(aim.met for aim in held)} of {len(held)} |")
    return "\n".join(rows)


def _span(low: float, high: float) -> str:
    ends = [f"{end:.2g}" if end < 100 else f"{end:,.0f}" if end < 1e5 else f"{end:.0e}" for end in (low, high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
