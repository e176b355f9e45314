"""What a benchmark found, kept where the report shows it: `validation/speed/<benchmark>.json`."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.timing import seconds_by_round, slope, spread
from sims.checkpoints import write_atomically
from validation import results

SPEED = Path(__file__).parents[1] / "validation" / "speed"


class Result(NamedTuple):
    """One figure of the page on speed. More is better where there is an aim.

    `title`      what is compared.
    `x`          what the points differ in, and `unit`, what their ratios are of.
    `series`     by rival, points {"x": ..., "ratio": [least, median, largest]}, of `point`; one that has an aim of its
                 own says so: "aim".
    `aim`        the ratio that was aimed at, for all points that do not say; `comment` says why it is missed, or what
                 limits it.
    `exponents`  by series, if the ratios are costs over that of the smallest size: [least, median, largest] exponent.
    """

    title: str
    x: str
    unit: str
    series: Mapping[str, Sequence[Mapping[str, Any]]]
    aim: float | None = None
    comment: str = ""
    exponents: Mapping[str, Sequence[float]] | None = None


def point(x: object, ratio: Sequence[float] | float, aim: float | None = None) -> dict[str, Any]:
    """A point of a series; a number that no repetition would change has no spread."""
    ratio = [float(ratio)] * 3 if isinstance(ratio, int | float) else [float(each) for each in ratio]
    return {"x": x, "ratio": ratio} | ({} if aim is None else {"aim": float(aim)})


def growth(
    title: str,
    x: str,
    axes: Mapping[str, tuple[Sequence[int], Callable[[int], Callable[[], object]]]],
    rounds: int,
    comment: str = "",
) -> Result:
    """Cost against size: by axis, the sizes, and what makes the call for a size. All sizes of an axis take turns."""
    series, exponents = {}, {}
    for name, (sizes, build) in axes.items():
        spent = seconds_by_round({str(size): build(size) for size in sizes}, rounds)
        by_round = list(zip(*(spent[str(size)] for size in sizes), strict=True))
        series[name] = [point(n, spread([row[i] / row[0] for row in by_round])) for i, n in enumerate(sizes)]
        exponents[name] = spread([slope(sizes, row) for row in by_round])
    return Result(title, x, "CPU time over that of the smallest", series, comment=comment, exponents=exponents)


def processor() -> str:
    """What the machine calls its processor, where it says; an accelerator goes before it."""
    about = Path("/proc/cpuinfo")
    if jax.default_backend() != "cpu" or not about.exists():
        return ""
    names = [line.split(":")[1].strip() for line in about.read_text().splitlines() if line.startswith("model name")]
    return f"{platform.machine()} {names[0]}" if names else ""


def keep(benchmark: str, title: str, found: Sequence[Result], peers: Mapping[str, str] | None = None) -> Path:
    """Write the results of a run with this machine, its versions and the date; returns the file's path."""
    content = {
        "benchmark": benchmark,
        "title": title,
        "command": f"python -m benchmarks.{benchmark} --keep",
        "date": datetime.date.today().isoformat(),
        "device": f"one thread, {os.cpu_count()} cores, {processor() or results.device()}",
        "versions": results.versions(),
        "peers": dict(peers or {}),
        "results": [result._asdict() for result in found],
    }
    path = SPEED / f"{benchmark}.json"
    write_atomically(path, results.as_json(content))
    return path
