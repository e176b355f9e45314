"""What the effective ridge of kernel regression costs: all sample sizes at once, against root searches one by one.

    python -m benchmarks.learning_curves [ridges | scaling] [--peers FOLDER] [--keep]

The published solver is `find_kappa` of github.com/james-simon/eigenlearning (bisection on jax.numpy sums), where
`python -m benchmarks` has fetched it. All are ratios of CPU time from one run, taking turns, in float64.
"""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from benchmarks.driver import console, run
from benchmarks.environments import REPOSITORIES, repository
from benchmarks.kept import Result, growth, point
from benchmarks.timing import ratios_in_turns, timed
from theory.kernels.learning_curves import effective_ridge

MODES, COUNTS = 10_000, 89
AIMS = {"published": 50.0, "brentq": 1.0}


def spectra(modes: int = MODES) -> dict[str, np.ndarray]:
    i = np.arange(1.0, modes + 1)
    return {"i^-1.5": i**-1.5, "i^-3": i**-3, "e^(-i/100)": np.exp(-i / 100), "flat": np.ones(modes)}


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


def ridges(asked, peers: dict) -> list[Result]:
    """Effective ridges of all numbers of samples, each way for as many of them as it can do in time."""
    folder = repository(asked.peers, "eigenlearning")
    ways = {"brentq": (by_brentq, 1), "brentq on jax.numpy": (by_brentq_on_jax, 16)}
    if folder:
        ways["published"] = (published(folder), 16)
        peers["eigenlearning"] = REPOSITORIES["eigenlearning"][1][:8]
    counts = np.geomspace(1, 0.9 * MODES, COUNTS)
    solve = jax.jit(effective_ridge)
    series: dict = {}
    for name, lam in spectra().items():
        for ridge in (0.0, 1e-3):
            exact = np.asarray(solve(counts, lam, ridge))
            seconds = {"ours": per(timed(partial(solve, counts, lam, ridge)), COUNTS)}
            for rival, (way, every) in ways.items():
                few = counts[::every]
                call = partial(way, few, lam, ridge)
                if not answers(call):
                    console.print(f"{rival} finds no root for {name}, ridge {ridge:g}")
                    continue
                if rival == "brentq":
                    np.testing.assert_allclose(call(), exact, rtol=1e-8)
                seconds[rival] = per(timed(call), len(few))
            for rival, each in ratios_in_turns(seconds, "ours", asked.rounds).items():
                at = f"{name}, {ridge:g}"
                series.setdefault(rival, []).append(point(at, each, AIMS.get(rival)))
    comment = (
        f"For each of {COUNTS} numbers of samples, {MODES} modes. Others need a dozen sums over all modes or more; "
        "ours are summed for all numbers of samples at once."
    )
    return [Result("Effective ridge", "spectrum, ridge", "CPU time over ours", series, comment=comment)]


def per(seconds, count: int):
    """Of one kappa."""
    return lambda: seconds() / count


def scaling(asked, peers: dict) -> list[Result]:
    """Cost against the number of modes and of sample sizes."""

    def ridge(modes: int = 2000, count: int = 32):
        lam, counts = spectra(modes)["i^-1.5"], np.geomspace(1, 0.9 * modes, count)
        return partial(jax.jit(effective_ridge), counts, lam, 1e-3)

    axes = {
        "modes": ((1000, 4000, 16_000, 64_000), ridge),
        "numbers of samples": ((16, 64, 256), lambda n: ridge(count=n)),
    }
    return [growth("Effective ridge: growth", "modes or numbers of samples", axes, asked.rounds)]


def main() -> None:
    run("learning_curves", "Learning curves of kernel regression", __doc__, dict(ridges=ridges, scaling=scaling))


if __name__ == "__main__":
    main()
