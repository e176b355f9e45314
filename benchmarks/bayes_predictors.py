"""What Bayes predictors at every prefix cost: one pass, against a loop over prefixes as published code has it.

    python -m benchmarks.bayes_predictors [--quick] [--keep]

The loops, of Raventos et al. 2023, solve or weigh anew for each prefix; once compiled as a whole, prefixes unrolled,
and once operation by operation. Batches of prompts, and one precision, on both sides; float32 is theirs. All figures
are ratios of CPU time from one run on one machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from functools import partial

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.kept import Result, keep
from benchmarks.timing import least_seconds, ratios, slope
from theory.bayes_icl.context_tree import context_tree_predictions
from theory.bayes_icl.discrete_tasks import pool_predictions
from theory.bayes_icl.function_families import sparse_predictions
from theory.bayes_icl.prequential import linear_predictions, process_predictions

console = Console(width=110)
NOISE = 0.25


def prompts(batch, n, d, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(batch, n, d)), rng.normal(size=(batch, d))
    y = np.einsum("pnd,pd->pn", x, w) + NOISE**0.5 * rng.normal(size=(batch, n))
    return jnp.asarray(x, dtype), jnp.asarray(y, dtype)


@jax.jit
def ours(x, y):
    return jax.vmap(lambda x, y: linear_predictions(x, y, NOISE).mean)(x, y)


def by_factor(x, y, noise):
    """By one factor of the kernel, however many pairs there are for each input."""
    return process_predictions(x @ x.T, y, noise)


@jax.jit
def factored(x, y):
    return jax.vmap(lambda x, y: by_factor(x, y, NOISE).mean)(x, y)


def ridge_by_prefix(x, y, in_turn=False):
    """Normal equations of every prefix, one after the other."""
    found = [jnp.zeros(len(x), x.dtype)]
    for t in range(1, x.shape[1]):
        # Compiled, solves that do not wait for one another were seen to lock JAX 0.10 up on two cores.
        seen = x[:, :t] + (0 * found[-1][:, None, None] if in_turn else 0)
        gram = seen.swapaxes(1, 2) @ seen + NOISE * jnp.eye(x.shape[2], dtype=x.dtype)
        w = jnp.linalg.solve(gram, seen.swapaxes(1, 2) @ y[:, :t, None])[..., 0]
        found.append(jnp.sum(w * x[:, t], axis=1))
    return jnp.stack(found, axis=1)


ridge_by_prefix_compiled = jax.jit(partial(ridge_by_prefix, in_turn=True))


def pool_by_prefix(pool, x, y):
    """Errors of all tasks on every prefix, one after the other."""
    found = [x[:, 0] @ pool.mean(axis=0)]
    for t in range(1, x.shape[1]):
        error = y[:, :t, None] - x[:, :t] @ pool.T
        weight = jax.nn.softmax(-jnp.sum(error**2, axis=1) / (2 * NOISE), axis=1)
        found.append(jnp.sum((weight @ pool) * x[:, t], axis=1))
    return jnp.stack(found, axis=1)


@jax.jit
def our_pool(pool, x, y):
    return jax.lax.map(lambda prompt: pool_predictions(pool, *prompt, NOISE).mean, (x, y), batch_size=16)


def agree(one, other):
    exact = one.dtype == jnp.float64
    np.testing.assert_allclose(one, other, **(dict(rtol=1e-6, atol=1e-8) if exact else dict(rtol=1e-2, atol=1e-3)))


def ridge(sizes):
    columns = "precision", "prompts", "pairs", "inputs", "compiled loop", "eager loop", "one factor"
    table = Table(*columns, title="Ridge, theirs / ours")
    series = {}
    for dtype in (np.float32, np.float64):
        for batch, n, d in sizes:
            x, y = prompts(batch, n, d, dtype)
            agree(ours(x, y), ridge_by_prefix_compiled(x, y))
            rivals = {"ours": ours, "compiled loop": ridge_by_prefix_compiled, "eager loop": ridge_by_prefix}
            found = ratios(
                {name: partial(way, x, y) for name, way in (rivals | {"one factor": factored}).items()}, "ours"
            )
            table.add_row(dtype.__name__, *map(str, (batch, n, d)), *(f"{found[name][1]:.1f}" for name in columns[4:]))
            for name, each in found.items():
                point = {"x": f"{n} pairs, {d} inputs", "ratio": each}
                series.setdefault(name, {}).setdefault(dtype.__name__, []).append(point)
    console.print(table)
    title, unit = "Ridge regression at every prefix", "loop / ours, CPU time"
    why = (
        "Our predictor carries a covariance past every pair: below, it would have to go faster to memory and back. "
        "A solve of theirs is by LU, which in float64 costs no more than in float32."
    )
    return [
        Result(f"{title}, against a {name}", "prompts", unit, series[name], aim, why if name == "compiled loop" else "")
        for name, aim in (("compiled loop", 40.0), ("eager loop", 80.0))
    ]


def pools(sizes, n=16, d=8):
    columns = "precision", "prompts", "tasks", "compiled loop", "eager loop"
    table = Table(*columns, title=f"Pool of tasks, {n} pairs of {d} inputs, theirs / ours")
    series = {}
    loop = jax.jit(pool_by_prefix)
    for dtype in (np.float32, np.float64):
        for batch, tasks in sizes:
            x, y = prompts(batch, n, d, dtype)
            pool = jnp.asarray(np.random.default_rng(1).normal(size=(tasks, d)), dtype)
            agree(our_pool(pool, x, y), loop(pool, x, y))
            rivals = {"ours": our_pool, "compiled loop": loop, "eager loop": pool_by_prefix}
            found = ratios({name: partial(way, pool, x, y) for name, way in rivals.items()}, "ours", rounds=3)
            table.add_row(dtype.__name__, str(batch), str(tasks), *(f"{found[name][1]:.1f}" for name in columns[3:]))
            for name, each in found.items():
                point = {"x": tasks, "ratio": each}
                series.setdefault(f"{name}, {dtype.__name__}", []).append(point)
    console.print(table)
    comment = "Aims: 4 with 1024 tasks, 12 with 16384. What is left is one product with all tasks and one exponential."
    return [Result("Pool of tasks at every prefix", "tasks", "loop / ours, CPU time", series, comment=comment)]


def spent_on(call):
    return least_seconds({"": call}, rounds=3)[""]


def costs(quick):
    """Exponents of cost, and what compiling and mixtures cost."""
    lengths = (16, 32, 64, 128, 256) if not quick else (16, 32, 64)
    spent = [spent_on(partial(ours, *prompts(16, n, 8))) for n in lengths]
    console.print(f"cost against pairs: exponent {slope(lengths, spent):.1f}")
    widths = (8, 16, 32, 64, 128) if not quick else (8, 16, 32)
    spent = [spent_on(partial(ours, *prompts(16, 32, d))) for d in widths]
    console.print(f"cost against inputs: exponent {slope(widths, spent):.1f}")
    tasks = (2**9, 2**11, 2**13, 2**15) if not quick else (2**9, 2**11)
    x, y = prompts(4, 16, 8)
    tables = [jnp.asarray(np.random.default_rng(1).normal(size=(m, 8))) for m in tasks]
    spent = [spent_on(partial(our_pool, w, x, y)) for w in tables]
    held = [our_pool.lower(w, x, y).compile().memory_analysis().temp_size_in_bytes / w.nbytes for w in tables[-2:]]
    console.print(
        f"cost against tasks: exponent {slope(tasks, spent):.1f}; memory over that of the pool itself, 4 prompts at "
        f"once: {held[0]:.1f} with {tasks[-2]} tasks, {held[1]:.1f} with {tasks[-1]}"
    )
    x, y = prompts(1, 512, 20)
    start = time.process_time()
    jax.block_until_ready(jax.jit(lambda x, y: linear_predictions(x, y, NOISE).mean)(x[0], y[0]))
    console.print(f"compiling 512 prefixes: {time.process_time() - start:.1f} CPU s")
    n, d, k = (41, 20, 3) if not quick else (16, 10, 2)
    x, y = prompts(1, n, d)
    mixture = jax.jit(lambda x, y: sparse_predictions(x, y, NOISE, k).mean)
    alone = jax.jit(lambda x, y: linear_predictions(x[:, :k], y, NOISE).mean)
    found = least_seconds({"mixture": lambda: mixture(x[0], y[0]), "alone": lambda: alone(x[0], y[0])}, rounds=3)
    console.print(f"all supports of {k} in {d}: {found['mixture'] / found['alone']:.0f} x the predictor of one of them")


def trees(quick):
    """Context-tree weighting: what a symbol costs, by depth and by length."""
    depths, lengths = ((4, 8, 12, 16), (250, 500, 1000, 2000)) if not quick else ((2, 4), (50, 100))
    bits = jnp.asarray(np.random.default_rng(0).integers(0, 2, lengths[-1]))
    known = jax.jit(lambda x, past: context_tree_predictions(x, past, 2).log_density)
    spent = [spent_on(partial(known, bits, jnp.zeros(depth, int))) for depth in depths]
    console.print(f"a symbol of a context tree, against depth: exponent {slope(depths, spent):.1f}")
    spent = [spent_on(partial(known, bits[:n], jnp.zeros(depths[1], int))) for n in lengths]
    console.print(f"a text against its length: exponent {slope(lengths, spent):.1f}")


def precision():
    """Largest deviation of float32 from float64, by noise."""
    table = Table("noise", "as chosen", "one factor", title="float32 against float64, 40 pairs of 20 inputs")
    x, y = prompts(20, 40, 20)
    # A refusal is a result here.
    logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)
    for noise in (1.0, 1e-2, 1e-3, 1e-4):
        row = []
        for way in (linear_predictions, by_factor):
            of = jax.jit(jax.vmap(lambda x, y, way=way, noise=noise: way(x, y, jnp.asarray(noise, x.dtype)).mean))
            exact = of(x, y)
            try:
                row.append(f"{float(jnp.max(jnp.abs(of(x.astype(jnp.float32), y.astype(jnp.float32)) - exact))):.0e}")
            except Exception:
                row.append("refused")
        table.add_row(f"{noise:g}", *row)
    console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds")
    parser.add_argument("--keep", action="store_true", help="keep the ratios for the report")
    asked = parser.parse_args()
    found = ridge(((256, 16, 8), (64, 41, 20), (64, 16, 32)) if not asked.quick else ((8, 8, 4),))
    found += pools(((256, 1024), (64, 16384)) if not asked.quick else ((8, 256),))
    costs(asked.quick)
    trees(asked.quick)
    precision()
    if asked.keep:
        console.print(f"kept in {keep('bayes_predictors', 'Bayes predictors', found)}")


if __name__ == "__main__":
    main()
