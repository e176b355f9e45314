"""What kernels of wide networks cost: against a plain implementation, neural-tangents, and what cannot be saved.

    python -m benchmarks.kernels [--peer PYTHON] [--save FILE]

PYTHON is the interpreter of an environment of its own that has neural-tangents (0.6.5 imports with JAX 0.5.3 and
tf2jax 0.3.7 at the newest); without it that column is left out. All are ratios of CPU time from one run, taking turns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.peer import Peer
from theory.kernels.infinite import kernels

console = Console(width=110)
DIMENSION, ROUNDS = 64, 7
CASES = [
    *(("relu", 3, points, dtype) for dtype in ("float32", "float64") for points in (500, 1000, 2000, 4000)),
    *(("erf", 3, points, dtype) for dtype in ("float32", "float64") for points in (1000, 2000)),
    *(("relu", depth, 1000, dtype) for dtype in ("float32", "float64") for depth in (1, 10, 30)),
]


def plain(depth: int, activation: str):
    """The textbook recursion on whole matrices, as anyone would write it first."""

    @jax.jit
    def both(x):
        k = theta = 2 * x @ x.T / x.shape[1]
        for _ in range(depth):
            q = jnp.diagonal(k)
            if activation == "relu":
                size = jnp.sqrt(q[:, None] * q[None, :])
                cosine = jnp.clip(k / size, -1, 1)
                angle = jnp.arccos(cosine)
                slope = (jnp.pi - angle) / jnp.pi
                k = size * (jnp.sin(angle) + (jnp.pi - angle) * cosine) / jnp.pi
            else:
                square = (1 + 2 * q)[:, None] * (1 + 2 * q)[None, :]
                slope = 8 / jnp.pi / jnp.sqrt(square - 4 * k * k)
                k = 4 / jnp.pi * jnp.arcsin(2 * k / jnp.sqrt(square))
            theta = k + theta * slope
        return k, theta

    return both


@jax.jit
def one_product_and_two_stores(x):
    k = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    return k, k + 1


@jax.jit
def one_inverse_cosine(k):
    return jnp.arccos(k)


def cpu_seconds(call) -> float:
    start = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - start


def measure(case: tuple, peer: Peer | None) -> dict:
    """Least CPU seconds of each way, all taking turns; and by how much the peer's kernel differs from ours."""
    activation, depth, points, dtype = case
    x = jnp.asarray(np.random.default_rng(0).normal(size=(points, DIMENSION)), dtype)
    cosines = jnp.clip(x @ x.T / DIMENSION, -1, 1)
    by_hand = plain(depth, activation)
    ways = {
        "ours": lambda: kernels(x, depth=depth, activation=activation),
        "plain": lambda: by_hand(x),
        "product and stores": lambda: one_product_and_two_stores(x),
        "inverse cosine": lambda: one_inverse_cosine(cosines),
    }
    for call in ways.values():
        jax.block_until_ready(call())
    least = dict.fromkeys(ways, math.inf)
    if peer is not None:
        least["neural-tangents"] = math.inf
        request = dict(zip(("activation", "depth", "points", "dtype"), case, strict=True)) | dict(dimension=DIMENSION)
        corner = peer.ask("infinite", **request)["corner"]
        own = kernels(x[:2], depth=depth, activation=activation)
        np.testing.assert_allclose(corner, [own.ntk[0, 1], own.nngp[0, 1]], rtol=1e-4, atol=1e-4)
    for _ in range(ROUNDS):
        for name, call in ways.items():
            least[name] = min(least[name], cpu_seconds(call))
        if peer is not None:
            least["neural-tangents"] = min(least["neural-tangents"], peer.ask("infinite", **request)["seconds"])
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment with neural-tangents")
    parser.add_argument("--save", type=Path, help="write the figures to this file as JSON")
    options = parser.parse_args()
    peers = {dtype: Peer(options.peer, dtype) for dtype in ("float32", "float64")} if options.peer else {}
    drawn = Table(title="Both kernels of N points, in ours: CPU time of the others", title_justify="left", box=None)
    for name in (
        "activation",
        "depth",
        "N",
        "precision",
        "neural-tangents",
        "plain",
        "ns / entry",
        "/ floor",
        "/ acos pass",
    ):
        drawn.add_column(name, justify="right")
    rows = []
    for case in CASES:
        activation, depth, points, dtype = case
        peer = peers.get(dtype)
        least = measure(case, peer)
        ours = least["ours"]
        row = dict(
            activation=activation,
            depth=depth,
            points=points,
            dtype=dtype,
            neural_tangents=least["neural-tangents"] / ours if peer else None,
            plain=least["plain"] / ours,
            nanoseconds_per_entry=1e9 * ours / points**2,
            over_product_and_stores=ours / least["product and stores"],
            over_inverse_cosine=ours / least["inverse cosine"],
        )
        rows.append(row)
        shown = [f"{value:.2g}" if isinstance(value, float) else str(value or "") for value in row.values()]
        drawn.add_row(*shown)
    console.print(drawn)
    if options.save:
        about = dict(machine=platform.processor() or platform.machine(), cpus=os.cpu_count(), jax=jax.__version__)
        about |= {"peer": peers["float32"].versions if peers else None}
        options.save.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
