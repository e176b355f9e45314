"""What it costs to watch a network learn, and what is saved when a phase diagram is trained in one program.

    python -m benchmarks.lazy_rich [tracking | cells | scaling] [--keep]

Small networks learn odd against even on 64 digits. First with and without the empirical tangent kernel,
whose alignment with that of the start is recorded a number of times on the way: CPU time over that of the same training
with as many records of the loss. Then a diagram of output scales, temperatures and seeds: as one batched program
(vmap), as one program that goes through the runs (map), and as one call after the other of a compiled program. It runs
on whatever device JAX has; wall-clock time counts in the second part. All figures are from one run on one machine.
"""

from __future__ import annotations

import os
import time
from functools import partial

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.driver import run
from benchmarks.kept import Result, growth, point
from benchmarks.timing import seconds_by_round, spread
from sims.engine import Runs, Simulation, grid, simulate
from sims.networks.centred import centred
from sims.networks.mlp import mlp, squared_error
from sims.probes.ntk import empirical_ntk, kernel_distance
from sims.tasks.digits import digits
from sims.tasks.noisy_boundary import hinge
from sims.training import gradient_descent, training

SAMPLES, INPUTS, BATCH, LR = 64, 64, 4, 0.1
STEPS, WIDTHS, RECORDS = 512, (32, 128, 256), (8, 32, 128)
CELL_STEPS, CELL_WIDTHS, CELLS = 300, (16, 64), ((2, 2, 2), (4, 4, 4))


def data():
    """Images in rows, and +1 for even digits, -1 for odd ones."""
    found = digits()
    x = found.x.T[:SAMPLES] / np.sqrt(np.mean(found.x**2))
    return jnp.asarray(x), jnp.asarray(1.0 - 2.0 * (found.labels[:SAMPLES] % 2))


def watched(width: int, kernel: bool) -> Simulation:
    """Full-batch training; records the loss, or the loss and how far the kernel has turned from the start's."""
    x, y = data()

    def loss(model):
        return squared_error(model, x, y[:, None])

    def record(model, _):
        if not kernel:
            return loss(model)
        now, before = (empirical_ntk(network, x, strategy="structured") for network in (model.network, model.start))
        return loss(model), kernel_distance(before, now)

    return gradient_descent(lambda key, _: centred(mlp(key, (INPUTS, width, width, 1))), loss, LR, record)


def diagram(width: int) -> Simulation:
    """Small batches, hinge loss over the squared output scale: the cells of a diagram of scale and temperature."""
    x, y = data()

    def batch(key, hyper):
        at = jax.random.randint(key, (BATCH,), 0, SAMPLES)
        return x[at], y[at], hyper["scale"]

    def loss(model, now):
        x, y, scale = now
        return hinge(scale * model(x)[:, 0], y) / scale**2

    return training(
        lambda key, _: centred(mlp(key, (INPUTS, width, 1))),
        loss,
        lambda hyper: optax.sgd(BATCH * hyper["temperature"]),
        batch,
        lambda model, _: model.moved(),
    )


def tracking(asked, peers: dict) -> list[Result]:
    """Training with a number of kernels on the way, against training without."""
    series: dict = {}
    for width in WIDTHS:
        plain, whole = watched(width, kernel=False), watched(width, kernel=True)
        calls = {}
        for k in RECORDS:
            at = np.linspace(STEPS // k, STEPS, k).astype(int)
            # One chunk: the host's loop is not what is measured.
            calls[k, False] = partial(records, plain, at)
            calls[k, True] = partial(records, whole, at)
        spent = seconds_by_round(calls, min(asked.rounds, 3))
        for k in RECORDS:
            each = spread([a / b for a, b in zip(spent[k, True], spent[k, False], strict=True)])
            series.setdefault(f"{k} kernels", []).append(point(width, each))
    title = f"Tracking the tangent kernel: {STEPS} steps with and without"
    comment = "Less is better here: 1 is free."
    return [Result(title, "width", "with kernels / without, CPU time", series, comment=comment)]


def records(simulation: Simulation, at):
    return simulate(simulation, grid(1), at, chunks=1).records


def axes_of(scales: int, temperatures: int) -> dict:
    return {"scale": 4.0 ** np.arange(1, scales + 1), "temperature": 4.0 ** -np.arange(1, temperatures + 1)}


def cells(asked, peers: dict) -> list[Result]:
    """A phase diagram in one program, against a call for each run, wall-clock."""
    series: dict = {}
    for width in CELL_WIDTHS:
        simulation = diagram(width)
        for scales, temperatures, seeds in CELLS:
            runs = grid(seeds, **axes_of(scales, temperatures))
            calls = {
                "vmap": partial(simulate, simulation, runs, [CELL_STEPS], batching="vmap"),
                "map": partial(simulate, simulation, runs, [CELL_STEPS], batching="map"),
                "one": partial(one_by_one, simulation, runs),
            }
            for call in calls.values():
                call()
            spent = [{name: wall(call) for name, call in calls.items()} for _ in range(min(asked.rounds, 3))]
            for name in ("vmap", "map"):
                each = spread([row["one"] / row[name] for row in spent])
                series.setdefault(name, []).append(point(f"{width} ({len(runs.seeds)} runs)", each))
    title = f"A diagram of output scale x temperature x seed in one program, {CELL_STEPS} steps"
    return [Result(title, "width", "a call for each run / one program, wall-clock", series)]


def one_by_one(simulation: Simulation, runs: Runs) -> None:
    """A call for each run, all of one compiled program."""
    for i in range(len(runs.seeds)):
        alone = Runs(runs.seeds[i : i + 1], jax.tree.map(lambda x, i=i: x[i : i + 1], runs.hyper), (1,))
        simulate(simulation, alone, [CELL_STEPS], batching="vmap")


def wall(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def scaling(asked, peers: dict) -> list[Result]:
    """Cost against width and number of runs."""

    def train(width: int, seeds: int = 1):
        runs = grid(seeds, **axes_of(1, 1))
        return lambda: simulate(diagram_of[width], runs, [CELL_STEPS]).records

    widths = (32, 64, 128, 256)
    diagram_of = {width: diagram(width) for width in (16, *widths)}
    axes = {"width": (widths, train), "runs of width 16": ((1, 4, 16, 64), lambda n: train(16, n))}
    return [growth(f"{CELL_STEPS} steps: growth", "width or runs", axes, asked.rounds)]


def main() -> None:
    parts = dict(tracking=tracking, cells=cells, scaling=scaling)
    run("lazy_rich", "Watching networks learn, and phase diagrams", __doc__, parts)


if __name__ == "__main__":
    main()
