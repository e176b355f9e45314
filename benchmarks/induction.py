"""What training an attention-only network on items and labels scales with: context, width, runs in one program.

    python -m benchmarks.induction [scaling | ensembles] [--keep]

Two layers of one head and three ReLU layers; sequences are drawn within the compiled step. `benchmarks.training` has
the comparison with PyTorch. CPU time, taking turns; wall-clock in the second part, which is the one for a GPU.
"""

from __future__ import annotations

import time

import jax
import numpy as np

from benchmarks.driver import run
from benchmarks.kept import Result, growth, point
from benchmarks.timing import spread
from benchmarks.training import BATCH, SETTINGS, task_of, trained
from sims.engine import Runs, simulate
from sims.item_label_training import training_of

STEPS, LR = 50, 0.01


def scaling(asked, peers: dict) -> list[Result]:
    """Cost of a step against context and width of the stream."""

    def step(dimension: int, context: int):
        return trained((dimension, context, context, 32, 256), BATCH, STEPS)

    axes = {
        "context": ((4, 8, 16), lambda n: step(24, n)),
        "dimension of an item": ((24, 48, 96), lambda n: step(n, 4)),
    }
    comment = "The stream has a place for every position of the context beside an item's dimensions."
    return [growth(f"{STEPS} steps: growth", "context or dimension", axes, asked.rounds, comment)]


def ensembles(asked, peers: dict) -> list[Result]:
    """Runs of a sweep in one program: wall-clock time of one alone over that of each of many."""
    setting, on_cpu = SETTINGS["smoke"], jax.default_backend() == "cpu"
    simulation = training_of(task_of(setting), setting[0], batch=BATCH, tests=2)

    def together(runs: int, batching: str):
        many = Runs(np.arange(runs), {"lr": np.full(runs, LR)}, (runs,))
        return lambda: jax.block_until_ready(
            simulate(simulation, many, [STEPS], batching=batching, optimised=True).state
        )

    sizes = (1, 4, 16) if on_cpu else (1, 16, 64, 256)
    calls = {(n, batching): together(n, batching) for n in sizes for batching in ("map", "vmap")}
    spent: dict = {case: [] for case in calls}
    for call in calls.values():
        call()
    for _ in range(asked.rounds):
        for (runs, batching), call in calls.items():
            start = time.perf_counter()
            call()
            spent[runs, batching].append((time.perf_counter() - start) / runs)
    series: dict = {"map": [], "vmap": []}
    for (runs, batching), each in spent.items():
        if runs > 1:
            ratios = [alone / one for alone, one in zip(spent[1, "vmap"], each, strict=True)]
            series[batching].append(point(runs, spread(ratios)))
    return [Result("Runs of a sweep in one program", "runs", "a run alone / each of many, wall-clock", series)]


def main() -> None:
    run("induction", "Attention on items and labels", __doc__, dict(scaling=scaling, ensembles=ensembles))


if __name__ == "__main__":
    main()
