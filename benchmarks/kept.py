"""What a benchmark found, kept where the report shows it: `validation/speed/<benchmark>.json`."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sims.checkpoints import write_atomically
from validation import results

SPEED = Path(__file__).parents[1] / "validation" / "speed"


class Result(NamedTuple):
    """One figure of the page on speed.

    `title`    what is compared.
    `x`        what the points differ in, and `unit`, what their ratios are of.
    `series`   by rival, points {"x": ..., "ratio": [least, median, largest]}, of `timing.ratios`.
    `aim`      the ratio that was aimed at, if there is one; `comment` says why it is missed, or what limits it.
    """

    title: str
    x: str
    unit: str
    series: Mapping[str, Sequence[Mapping[str, Any]]]
    aim: float | None = None
    comment: str = ""


def keep(benchmark: str, title: str, found: Sequence[Result], peers: Mapping[str, str] | None = None) -> Path:
    """Write the results of a run with this machine, its versions and the date; returns the file's path."""
    content = {
        "benchmark": benchmark,
        "title": title,
        "command": f"python -m benchmarks.{benchmark} --keep",
        "date": datetime.date.today().isoformat(),
        "device": f"{os.cpu_count()} cores, {results.device()}",
        "versions": results.versions(),
        "peers": dict(peers or {}),
        "results": [result._asdict() for result in found],
    }
    path = SPEED / f"{benchmark}.json"
    write_atomically(path, results.as_json(content))
    return path
