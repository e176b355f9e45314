"""Ratios that a noisy machine leaves standing: rivals take turns, the least CPU time of each counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax


def least_seconds(rivals: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """CPU seconds of one call of each rival: the least of `rounds` rounds, in which all of them take turns.

    A call is repeated within a round until it lasts 20 ms. The first call of each (compilation) does not count.
    """
    repeats = {}
    for name, call in rivals.items():
        jax.block_until_ready(call())
        once = _cpu_seconds(call, 1)
        repeats[name] = max(1, math.ceil(0.02 / max(once, 1e-7)))
    best = dict.fromkeys(rivals, math.inf)
    for _ in range(rounds):
        for name, call in rivals.items():
            best[name] = min(best[name], _cpu_seconds(call, repeats[name]))
    return best


def _cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.process_time() - start) / repeats


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Exponent of cost against size over the larger half of the sizes, where fixed costs no longer hide it."""
    half = len(sizes) // 2
    x = [math.log(s) for s in sizes[half - 1 :]]
    y = [math.log(s) for s in seconds[half - 1 :]]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
