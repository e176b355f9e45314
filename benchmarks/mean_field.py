"""What the dynamical mean field of feature learning costs, in time and memory, and against a published solver.

    python -m benchmarks.mean_field [--published FILE]

FILE is the utility module with `solve_kernels` (deep linear networks, fixed-point iteration, uncompiled JAX) that
circulates with papers after Bordelon & Pehlevan 2022; it then takes part, as written, with 5 of its iterations and with
as many as a residual of 1e-6 takes. JAX_ENABLE_X64=0 measures float32. All figures are from one run on one machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.timing import least_seconds
from theory.lazy_rich.mean_field_linear import linear_mean_field, residual
from theory.lazy_rich.mean_field_sampled import sampled_mean_field, single_neuron_noise

console = Console(width=110)
GAMMA, LR, INPUTS = 1.0, 0.1, 10
LINEAR = ((2, 50, 2), (4, 50, 2), (4, 100, 4), (8, 100, 2))
SAMPLED = ((2, 17, 500), (2, 17, 1000), (2, 33, 500), (4, 17, 500))


def published(file: Path):
    """The published solver: (kernel, y, depth, times, iterations) -> its kernels."""
    spec = importlib.util.spec_from_file_location("published_mean_field", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def solve(kernel, y, depth, times, iterations):
        return module.solve_kernels(kernel, y, depth, LR, GAMMA, T=times, num_steps=iterations)

    return solve


def iterations_needed(solve, exact) -> int | None:
    """How many iterations bring the last hidden kernel within 1e-6 of the solution, of a few tried; None if none do."""
    features = np.asarray(exact.features[-1])
    for count in (10, 14, 18, 24, 32):
        if np.abs(np.asarray(solve(count)[0][-1]) - features).max() <= 1e-6 * np.abs(features).max():
            return count
    return None


def data(samples: int):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(samples, INPUTS))), jnp.asarray(rng.normal(size=samples))


def table(title: str, *columns: str) -> Table:
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right")
    return drawn


def linear(peer) -> Table:
    columns = ("samples", "times", "layers", "ms", "residual", "published, 5 its", "to 1e-6", "its")
    drawn = table("Deep linear networks: one pass in time; published over ours, CPU time", *columns)
    for samples, times, depth in LINEAR:
        x, y = data(samples)
        kernel = x @ x.T / INPUTS
        calls = {"ours": lambda x=x, y=y, t=times, d=depth: linear_mean_field(t - 1, x, y, GAMMA, LR, d)}
        exact, count = calls["ours"](), None
        if peer:
            solve = lambda n, k=kernel, y=y, d=depth, t=times: peer(k, y, d, t, n)  # noqa: E731
            count = iterations_needed(solve, exact)
            calls["five"] = lambda solve=solve: solve(5)
            if count:
                calls["all"] = lambda solve=solve, count=count: solve(count)
        seconds = least_seconds(calls, rounds=1)
        drawn.add_row(
            *(f"{n}" for n in (samples, times, depth)),
            f"{1e3 * seconds['ours']:.1f}",
            f"{float(residual(exact, x, y, GAMMA, LR)):.0e}",
            *(f"{seconds[name] / seconds['ours']:.0f}" if name in seconds else "-" for name in ("five", "all")),
            f"{count or '-'}",
        )
    return drawn


def sampled() -> Table:
    columns = ("samples", "times", "neurons", "seconds", "temporary MB", "ns per neuron and (samples x times)^3")
    drawn = table("Two hidden tanh layers, sampled neurons", *columns)
    for samples, times, neurons in SAMPLED:
        x, y = data(samples)
        noise = single_neuron_noise(jax.random.key(0), neurons, times - 1, samples, 2)
        call = jax.jit(lambda noise, x, y: sampled_mean_field(noise, x, y, GAMMA, LR, jnp.tanh))
        memory = call.lower(noise, x, y).compile().memory_analysis()
        used = getattr(memory, "temp_size_in_bytes", 0) / 1e6
        seconds = least_seconds({"ours": lambda call=call, n=noise, x=x, y=y: call(n, x, y)}, rounds=2)["ours"]
        cost = 1e9 * seconds / neurons / (samples * times) ** 3
        drawn.add_row(*(f"{n}" for n in (samples, times, neurons)), f"{seconds:.2f}", f"{used:.0f}", f"{cost:.2f}")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="file of the published solver")
    options = parser.parse_args()
    precision = "float64" if jax.config.jax_enable_x64 else "float32"
    console.print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores, {precision}\n")
    console.print(linear(published(options.published) if options.published else None), "")
    console.print(sampled())


if __name__ == "__main__":
    main()
