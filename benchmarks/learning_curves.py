"""What the effective ridge of kernel regression costs: all sample sizes at once, against root searches one by one.

    python -m benchmarks.learning_curves [--published FOLDER]

FOLDER is a clone of github.com/james-simon/eigenlearning, whose `find_kappa` (bisection on jax.numpy sums) then takes
part. All figures are ratios from one run on one machine; microseconds mean nothing elsewhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq

from benchmarks.timing import least_seconds
from theory.kernels.learning_curves import effective_ridge

console = Console(width=110)
MODES, COUNTS = 10_000, 89


def spectra() -> dict[str, np.ndarray]:
    i = np.arange(1.0, MODES + 1)
    return {"i^-1.5": i**-1.5, "i^-3": i**-3, "e^(-i/100)": np.exp(-i / 100), "flat": np.ones(MODES)}


def by_brentq(counts, lam, ridge) -> np.ndarray:
    """SciPy's root search in log kappa with NumPy sums, one number of samples after the other."""

    def excess(x, n):
        kappa = np.exp(x)
        return np.sum(lam / (lam + kappa)) + ridge / kappa - n

    return np.exp([brentq(excess, -200, 50, args=(n,), xtol=1e-12) for n in counts])


def by_brentq_on_jax(counts, lam, ridge) -> np.ndarray:
    """The same search, calling uncompiled jax.numpy for each value."""
    lam = jnp.asarray(lam)

    def excess(x, n):
        kappa = jnp.exp(x)
        return float(jnp.sum(lam / (lam + kappa)) + ridge / kappa - n)

    return np.exp([brentq(excess, -200, 50, args=(n,), xtol=1e-12) for n in counts])


def published(folder: Path):
    """The published solver: (counts, lam, ridge) -> effective ridges, one after the other."""
    spec = importlib.util.spec_from_file_location("eigenlearning_theory", folder / "theory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def solve(counts, lam, ridge):
        spectrum = module.Spectrum(lam)
        return np.array([module.find_kappa(n, spectrum, ridge) for n in counts])

    return solve


def answers(call) -> bool:
    """Whether a solver finds its root: the published one looks for it above 1e-15 only."""
    try:
        call()
    except ValueError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="folder of the published solver")
    options = parser.parse_args()
    peer = published(options.published) if options.published else None
    console.print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores, float64\n")
    title = f"Effective ridge, {MODES} modes, {COUNTS} numbers of samples: CPU time over that of all at once"
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    columns = ("spectrum", "ridge", "µs per kappa", "brentq", "brentq on jax", "published", "differ by")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="left" if i == 0 else "right")
    counts = np.geomspace(1, 0.9 * MODES, COUNTS)
    no_answer = "fails" if peer else "-"
    # The published solver takes seconds for all of them.
    few = counts[::8]
    solve = jax.jit(effective_ridge)
    for name, lam in spectra().items():
        for ridge in (0.0, 1e-3):
            calls = {
                "ours": lambda lam=lam, ridge=ridge: solve(counts, lam, ridge),
                "brentq": lambda lam=lam, ridge=ridge: by_brentq(counts, lam, ridge),
                "jax": lambda lam=lam, ridge=ridge: by_brentq_on_jax(counts, lam, ridge),
            }
            ask = partial(peer, few, lam, ridge) if peer else None
            if ask and answers(ask):
                calls["published"] = ask
            seconds = least_seconds(calls, rounds=2)
            error = np.abs(np.asarray(calls["ours"]()) / calls["brentq"]() - 1).max()
            each = seconds["ours"]
            drawn.add_row(
                name,
                f"{ridge:g}",
                f"{each / COUNTS * 1e6:.0f}",
                f"{seconds['brentq'] / each:.1f}",
                f"{seconds['jax'] / each:.0f}",
                f"{seconds['published'] / len(few) / (each / COUNTS):.0f}" if "published" in seconds else no_answer,
                f"{error:.0e}",
            )
    console.print(drawn)


if __name__ == "__main__":
    main()
