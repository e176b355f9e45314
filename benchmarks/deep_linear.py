"""What deep linear networks cost: theory against integration, ensembles against loops, growth with size.

    python -m benchmarks.deep_linear [closed_form | accuracy | ensemble | scaling]

All figures are ratios (or exponents) from one run on one machine; seconds mean nothing elsewhere.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("JAX_ENABLE_X64", "1")

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.integrate
from rich.console import Console
from rich.table import Table

from benchmarks.timing import least_seconds, slope
from sims.engine import Simulation, grid, simulate
from sims.networks.deep_linear import correlation_loss, gaussian
from sims.training import gradient_descent

console = Console(width=110)


def table(title: str, *columns: str) -> Table:
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="left" if i == 0 else "right")
    return drawn


def correlations(n_in: int, n_out: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """White inputs, and a random input-output correlation with singular values between 0.3 and 3."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (n_out, n_in))
    k = min(n_in, n_out)
    return np.eye(n_in), (left[:, :k] * np.linspace(3, 0.3, k)) @ right[:, :k].T


def trained(width: int, depth: int, lr: float = 1e-3) -> Simulation:
    """Gradient descent on a square network of equal widths."""
    sxx, syx = map(jnp.asarray, correlations(width, width))
    return gradient_descent(
        lambda key, hyper: gaussian(key, (width,) * (depth + 1), 1 / width),
        lambda network: correlation_loss(network, sxx, syx),
        lr,
        lambda network, hyper: correlation_loss(network, sxx, syx),
    )


def ensemble(steps: int = 500) -> None:
    """An ensemble in one program, against the same runs one by one, against a Python loop over compiled steps."""
    drawn = table(
        f"Ensemble training, {steps} steps: cost of the alternative / cost of one program",
        "width",
        "runs",
        "vmap",
        "lax.map",
        "run by run",
        "Python loop of steps",
    )
    for width, runs in ((8, 64), (32, 16), (128, 8)):
        simulation = trained(width, 2)
        times = [0, steps]
        together = grid(seeds=runs)
        network = jax.jit(simulation.init)(jax.random.key(0), {})
        step = jax.jit(simulation.step)

        def loop(network=network, step=step):
            state = network
            for _ in range(steps):
                state = step(state)
            return state.model.weights[0]

        def one_by_one(simulation=simulation, runs=runs, times=times):
            return [simulate(simulation, grid(seeds=[seed]), times).records for seed in range(runs)]

        seconds = least_seconds(
            {
                "auto": lambda: simulate(simulation, together, times).records,  # noqa: B023
                "vmap": lambda: simulate(simulation, together, times, batching="vmap").records,  # noqa: B023
                "map": lambda: simulate(simulation, together, times, batching="map").records,  # noqa: B023
                "single": one_by_one,
                "loop": loop,
            },
            rounds=3,
        )
        best = seconds["auto"]
        drawn.add_row(
            str(width),
            str(runs),
            f"{seconds['vmap'] / best:.2f}",
            f"{seconds['map'] / best:.2f}",
            f"{seconds['single'] / best:.1f}",
            f"{runs * seconds['loop'] / best:.1f}",
        )
    console.print(drawn)


def scaling(steps: int = 200) -> None:
    """Exponents of the cost of training against width, depth and number of runs."""
    drawn = table("Cost of training against size", "axis", "sizes", "cost relative to the first", "exponent")
    axes = {
        "width": ((32, 64, 128, 256), lambda n: (trained(n, 2), grid(seeds=1))),
        "depth": ((2, 4, 8, 16, 32), lambda n: (trained(64, n), grid(seeds=1))),
        "runs": ((1, 4, 16, 64, 256), lambda n: (trained(16, 2), grid(seeds=n))),
    }
    for name, (sizes, build) in axes.items():
        calls = {}
        for size in sizes:
            simulation, runs = build(size)
            calls[str(size)] = lambda s=simulation, r=runs: simulate(s, r, [0, steps]).records
        seconds = list(least_seconds(calls, rounds=3).values())
        relative = ", ".join(f"{s / seconds[0]:.3g}" for s in seconds)
        drawn.add_row(name, ", ".join(map(str, sizes)), relative, f"{slope(sizes, seconds):.2f}")
    console.print(drawn)


def main() -> None:
    console.print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores, float64\n")
    parts = {"ensemble": ensemble, "scaling": scaling}
    chosen = sys.argv[1:] or list(parts)
    if unknown := [name for name in chosen if name not in parts]:
        raise SystemExit(f"unknown part {unknown[0]!r}; there are: {', '.join(parts)}")
    for name in chosen:
        parts[name]()
        console.print()


if __name__ == "__main__":
    main()
