"""What all benchmarks share: the options, tables of what was found, verdicts on aims, and keeping it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.environments import PEERS
from benchmarks.kept import Result, keep
from validation.report.aims import aims

console = Console(width=120)
# A part of a benchmark: given the options and where to note the peers' versions, what it found.
Part = Callable[[argparse.Namespace, dict[str, str]], Sequence[Result]]


def run(name: str, title: str, about: str | None, parts: Mapping[str, Part], options: Sequence[dict] = ()) -> None:
    """The command of a benchmark: parts one after the other, each shown when it is done, all kept at the end.

    `options` are further ones, {"name": "--steps", ...} with what argparse takes.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(parts)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="how often all rivals take their turn (default 5)")
    parser.add_argument("--peers", type=Path, default=PEERS, help=f"the peers' environments (default {PEERS})")
    parser.add_argument("--keep", action="store_true", help="keep the ratios for the report")
    for option in options:
        parser.add_argument(option["name"], **{key: value for key, value in option.items() if key != "name"})
    asked = parser.parse_args()
    if unknown := [part for part in asked.parts if part not in parts]:
        parser.error(f"unknown part {unknown[0]!r}; there are: {', '.join(parts)}")
    if asked.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {asked.rounds}")
    if asked.keep and asked.parts:
        parser.error("--keep keeps all parts of one run: name none")
    console.print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {asked.rounds} rounds\n")
    found: list[Result] = []
    peers: dict[str, str] = {}
    for part in asked.parts or parts:
        start = spent()
        for result in parts[part](asked, peers):
            show(result)
            found.append(result)
        console.print(f"[dim]{part}: {spent() - start:.0f} CPU s[/dim]\n")
    if asked.keep:
        console.print(f"kept in {keep(name, title, found, peers)}")


def spent() -> float:
    """CPU seconds of this process and of the peers that have ended."""
    return sum(os.times()[:4])


def show(result: Result) -> None:
    """A table of medians with their spread; an aim stands beside what it is for."""
    table = Table(result.x, box=None, pad_edge=False, header_style="bold")
    for name in result.series:
        table.add_column(name, justify="right")
    reached = {(aim.rival, aim.x): aim for aim in aims(result._asdict())}

    def cell(name: str, x: str) -> str:
        ratios = [point["ratio"] for point in result.series[name] if str(point["x"]) == x]
        if not ratios:
            return ""
        low, middle, high = ratios[0]
        spread = f" ({low:.3g} to {high:.3g})" if low < high else ""
        aim = reached.get((name, x))
        return f"{middle:.3g}{spread}" + (f" aim {aim.aim:g}: {aim.verdict()}" if aim else "")

    for x in dict.fromkeys(str(point["x"]) for points in result.series.values() for point in points):
        table.add_row(x, *(cell(name, x) for name in result.series))
    if result.exponents:
        table.add_row("exponent", *(f"{result.exponents[name][1]:.2f}" for name in result.series))
    console.print(f"[italic]{result.title}[/italic]: {result.unit}", table, "", sep="\n")
