"""Ratios that a noisy machine leaves standing: rivals take turns, the least CPU time of each counts.

Where JAX computes on an accelerator the processor's time says nothing: there it is wall-clock time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import jax


def least_seconds(rivals: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """CPU seconds of one call of each rival: the least of `rounds` rounds, in which all of them take turns.

    A call is repeated within a round until it lasts 20 ms. The first call of each (compilation) does not count.
    """
    return {name: min(spent) for name, spent in seconds_by_round(rivals, rounds).items()}


def ratios(rivals: Mapping[str, Callable[[], object]], ours: str, rounds: int = 5) -> dict[str, list[float]]:
    """CPU time of each rival over that of `ours`: least, median and largest of the rounds' ratios."""
    return ratios_in_turns({name: timed(call) for name, call in rivals.items()}, ours, rounds)


def ratios_in_turns(seconds: Mapping[str, Callable[[], float]], ours: str, rounds: int) -> dict[str, list[float]]:
    """As `ratios`, of functions that give the seconds of a call: `timed` ones of this process, or a peer's."""
    spent = _by_round(seconds, rounds)
    found = {name: [a / b for a, b in zip(spent[name], spent[ours], strict=True)] for name in seconds if name != ours}
    return {name: spread(each) for name, each in found.items()}


def spread(values: Sequence[float]) -> list[float]:
    """Least, median and largest."""
    return [float(f(values)) for f in (min, statistics.median, max)]


def seconds_by_round(rivals: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of one call of each rival in each round; wall-clock seconds on an accelerator."""
    return _by_round({name: timed(call) for name, call in rivals.items()}, rounds)


def _by_round(seconds: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {name: [] for name in seconds}
    for _ in range(rounds):
        for name, each in seconds.items():
            spent[name].append(each())
    return spent


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """A function that gives the seconds of one call, which is compiled, and repeated for 20 ms or more."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter

    def once(repeats: int) -> float:
        start = clock()
        for _ in range(repeats):
            jax.block_until_ready(call())
        return (clock() - start) / repeats

    jax.block_until_ready(call())
    repeats = max(1, math.ceil(0.02 / max(once(1), 1e-7)))
    return lambda: once(repeats)


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Exponent of cost against size over the larger half of the sizes, where fixed costs no longer hide it."""
    half = len(sizes) // 2
    x = [math.log(s) for s in sizes[half - 1 :]]
    y = [math.log(s) for s in seconds[half - 1 :]]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
