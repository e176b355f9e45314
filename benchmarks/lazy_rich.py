"""What it costs to watch a network learn, and how many cells of a phase diagram are trained per minute.

    python -m benchmarks.lazy_rich

Small networks learn odd against even on 64 digits. First with and without the empirical tangent kernel,
whose alignment with that of the start is recorded a number of times on the way: CPU time over that of the same training
with as many records of the loss. Then a diagram of output scales, temperatures and seeds: as one batched program
(vmap), as one program that goes through the runs (map), and as one call after the other of a compiled program. It runs
on whatever device JAX has; wall-clock minutes count in the second table. All figures are from one run on one machine.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from benchmarks.timing import least_seconds
from sims.engine import Runs, Simulation, grid, simulate
from sims.networks.centred import centred
from sims.networks.mlp import mlp, squared_error
from sims.probes.ntk import empirical_ntk, kernel_distance
from sims.tasks.digits import digits
from sims.tasks.noisy_boundary import hinge
from sims.training import gradient_descent, training

console = Console(width=110)
SAMPLES, INPUTS, BATCH, LR = 64, 64, 4, 0.1
STEPS, WIDTHS, RECORDS = 512, (32, 128, 256), (2, 8, 32, 128)
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


def table(title: str, *columns: str) -> Table:
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right")
    return drawn


def tracking() -> Table:
    title = f"CPU time of {STEPS} steps with k kernels over that without"
    drawn = table(title, "width", "µs per step", *(f"k = {k}" for k in RECORDS), "steps per kernel")
    for width in WIDTHS:
        plain, whole = watched(width, kernel=False), watched(width, kernel=True)
        calls = {}
        for k in RECORDS:
            at = np.linspace(STEPS // k, STEPS, k).astype(int)
            # One chunk: the host's loop is not what is measured.
            calls[k, False] = partial(simulate, plain, grid(1), at, chunks=1)
            calls[k, True] = partial(simulate, whole, grid(1), at, chunks=1)
        seconds = least_seconds({name: partial(records, call) for name, call in calls.items()}, rounds=2)
        step = seconds[RECORDS[0], False] / STEPS
        most = RECORDS[-1]
        kernel = (seconds[most, True] - seconds[most, False]) / most
        ratios = (f"{seconds[k, True] / seconds[k, False]:.2f}" for k in RECORDS)
        drawn.add_row(f"{width}", f"{1e6 * step:.0f}", *ratios, f"{kernel / step:.1f}")
    return drawn


def records(call):
    return call().records


def cells_per_minute() -> Table:
    title = f"Runs of {CELL_STEPS} steps per minute, in diagrams of output scale x temperature x seed"
    drawn = table(title, "width", "runs", "vmap", "map", "one by one", "vmap over one by one", "map over one by one")
    for width in CELL_WIDTHS:
        simulation = diagram(width)
        for scales, temperatures, seeds in CELLS:
            axes = {"scale": 4.0 ** np.arange(1, scales + 1), "temperature": 4.0 ** -np.arange(1, temperatures + 1)}
            runs = grid(seeds, **axes)
            count = len(runs.seeds)
            calls = {
                "vmap": partial(simulate, simulation, runs, [CELL_STEPS], batching="vmap"),
                "map": partial(simulate, simulation, runs, [CELL_STEPS], batching="map"),
                "one": partial(one_by_one, simulation, runs),
            }
            rates = {name: count / minutes(call) for name, call in calls.items()}
            ratios = (f"{rates[name] / rates['one']:.1f}" for name in ("vmap", "map"))
            drawn.add_row(f"{width}", f"{count}", *(f"{rate:.0f}" for rate in rates.values()), *ratios)
    return drawn


def one_by_one(simulation: Simulation, runs: Runs) -> None:
    """A call for each run, all of one compiled program."""
    for i in range(len(runs.seeds)):
        alone = Runs(runs.seeds[i : i + 1], jax.tree.map(lambda x, i=i: x[i : i + 1], runs.hyper), (1,))
        simulate(simulation, alone, [CELL_STEPS], batching="vmap")


def minutes(call, rounds: int = 2) -> float:
    """Wall-clock time of one call, the least of a few, once it is compiled."""
    call()
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return min(spent) / 60


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    precision = "float64" if jax.config.jax_enable_x64 else "float32"
    console.print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores, {precision}\n")
    console.print(tracking(), "")
    console.print(cells_per_minute())


if __name__ == "__main__":
    main()
