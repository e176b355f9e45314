"""What Bayes predictors at every prefix cost: one pass, against a loop over prefixes as published code has it.

    python -m benchmarks.bayes_predictors [--quick]

The loops solve or weigh anew for each prefix; once compiled as a whole, prefixes unrolled, and once operation by
operation. Batches of prompts on both sides. All figures are ratios of CPU time from one run on one machine.
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
from rich.console import Console
from rich.table import Table

from benchmarks.timing import least_seconds, slope
from theory.bayes_icl.discrete_tasks import pool_predictions
from theory.bayes_icl.function_families import sparse_predictions
from theory.bayes_icl.prequential import linear_predictions, streaming_predictions

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


@jax.jit
def streaming(x, y):
    return jax.vmap(lambda x, y: streaming_predictions(x, y, NOISE).mean)(x, y)


def ridge_by_prefix(x, y):
    """Normal equations of every prefix, one after the other."""
    found = [jnp.zeros(len(x), x.dtype)]
    for t in range(1, x.shape[1]):
        seen = x[:, :t]
        gram = seen.swapaxes(1, 2) @ seen + NOISE * jnp.eye(x.shape[2], dtype=x.dtype)
        w = jnp.linalg.solve(gram, seen.swapaxes(1, 2) @ y[:, :t, None])[..., 0]
        found.append(jnp.sum(w * x[:, t], axis=1))
    return jnp.stack(found, axis=1)


@jax.jit
def ridge_by_prefix_compiled(x, y):
    """One prompt after the other: unrolled batches of solves were seen to lock JAX 0.10 up on two cores."""
    return jax.lax.map(lambda prompt: ridge_by_prefix(*(part[None] for part in prompt))[0], (x, y))


def pool_by_prefix(pool, x, y):
    """Errors of all tasks on every prefix, one after the other."""
    found = [x[:, 0] @ pool.mean(axis=0)]
    for t in range(1, x.shape[1]):
        error = y[:, :t, None] - x[:, :t] @ pool.T
        weight = jax.nn.softmax(-jnp.sum(error**2, axis=1) / (2 * NOISE), axis=1)
        found.append(jnp.sum((weight @ pool) * x[:, t], axis=1))
    return jnp.stack(found, axis=1)


@partial(jax.jit, static_argnames="chunk")
def our_pool(pool, x, y, chunk=16384):
    return jax.lax.map(lambda prompt: pool_predictions(pool, *prompt, NOISE, chunk=chunk).mean, (x, y))


def ridge_table(sizes):
    table = Table("pairs", "inputs", "compiled loop", "eager loop", "streaming", title="Ridge, theirs / ours")
    for n, d in sizes:
        x, y = prompts(64, n, d)
        found = least_seconds(
            {
                "ours": lambda x=x, y=y: ours(x, y),
                "compiled": lambda x=x, y=y: ridge_by_prefix_compiled(x, y),
                "eager": lambda x=x, y=y: ridge_by_prefix(x, y),
                "streaming": lambda x=x, y=y: streaming(x, y),
            },
            rounds=3,
        )
        np.testing.assert_allclose(ours(x, y), ridge_by_prefix_compiled(x, y), rtol=1e-6, atol=1e-8)
        ratios = [f"{found[name] / found['ours']:.1f}" for name in ("compiled", "eager", "streaming")]
        table.add_row(str(n), str(d), *ratios)
    console.print(table)


def pool_table(sizes, n=16, d=8):
    table = Table(
        "tasks", "compiled loop", "eager loop", title=f"Pool of tasks, {n} pairs of {d} inputs, theirs / ours"
    )
    for tasks in sizes:
        x, y = prompts(16, n, d)
        pool = jnp.asarray(np.random.default_rng(1).normal(size=(tasks, d)))
        loop = jax.jit(pool_by_prefix)
        found = least_seconds(
            {
                "ours": lambda x=x, y=y, pool=pool: our_pool(pool, x, y),
                "compiled": lambda x=x, y=y, pool=pool, loop=loop: loop(pool, x, y),
                "eager": lambda x=x, y=y, pool=pool: pool_by_prefix(pool, x, y),
            },
            rounds=3,
        )
        np.testing.assert_allclose(our_pool(pool, x, y), loop(pool, x, y), rtol=1e-6, atol=1e-8)
        table.add_row(str(tasks), *(f"{found[name] / found['ours']:.1f}" for name in ("compiled", "eager")))
    console.print(table)


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
    pools = (2**9, 2**11, 2**13, 2**15) if not quick else (2**9, 2**11)
    x, y = prompts(4, 16, 8)
    tables = [jnp.asarray(np.random.default_rng(1).normal(size=(m, 8))) for m in pools]
    spent = [spent_on(partial(our_pool, w, x, y)) for w in tables]
    console.print(f"cost against tasks: exponent {slope(pools, spent):.1f}; memory of 16384 at most")
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


def precision():
    """Largest deviation of float32 from float64, by noise."""
    table = Table("noise", "one pass", "streaming", title="float32 against float64, 40 pairs of 20 inputs")
    x, y = prompts(20, 40, 20)
    for noise in (1.0, 1e-2, 1e-3, 1e-4):
        row = []
        for way in (linear_predictions, streaming_predictions):
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
    quick = parser.parse_args().quick
    ridge_table(((16, 8), (41, 20)) if not quick else ((8, 4),))
    pool_table((1024, 16384) if not quick else (256,))
    costs(quick)
    precision()


if __name__ == "__main__":
    main()
