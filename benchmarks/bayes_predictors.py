"""What Bayes predictors at every prefix cost: one pass, against a loop over prefixes as published code has it.

    python -m benchmarks.bayes_predictors [ridge | pools | costs | precision | scaling] [--quick] [--keep]

The loops, of Raventos et al. 2023, solve or weigh anew for each prefix; once compiled as a whole, prefixes unrolled,
and once operation by operation. Batches of prompts, and one precision, on both sides; float32 is theirs. All figures
are ratios of CPU time from one run on one machine.
"""

from __future__ import annotations

import logging
import math
import os
import time
from functools import partial

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.driver import run
from benchmarks.kept import Result, growth, point
from benchmarks.timing import ratios
from theory.bayes_icl.context_tree import context_tree_predictions
from theory.bayes_icl.discrete_tasks import pool_predictions
from theory.bayes_icl.function_families import sparse_predictions
from theory.bayes_icl.prequential import linear_predictions, process_predictions

NOISE = 0.25
# (prompts, pairs, inputs), and (prompts, tasks) with the ratio that is aimed at.
PROMPTS = {False: ((256, 16, 8), (64, 41, 20), (64, 16, 32)), True: ((8, 8, 4),)}
POOLS = {False: ((256, 1024, 4.0), (64, 16_384, 12.0)), True: ((8, 256, None),)}
# Compiling any predictor may take so many CPU seconds.
PATIENCE = 5.0


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


def ridge(asked, peers: dict) -> list[Result]:
    """Ridge regression at every prefix, against loops over prefixes."""
    series: dict = {"compiled loop": {}, "eager loop": {}, "one factor": {}}
    for dtype in (np.float32, np.float64):
        for batch, n, d in PROMPTS[asked.quick]:
            x, y = prompts(batch, n, d, dtype)
            agree(ours(x, y), ridge_by_prefix_compiled(x, y))
            rivals = {"compiled loop": ridge_by_prefix_compiled, "eager loop": ridge_by_prefix, "one factor": factored}
            calls = {name: partial(way, x, y) for name, way in ({"ours": ours} | rivals).items()}
            for name, each in ratios(calls, "ours", asked.rounds).items():
                series[name].setdefault(dtype.__name__, []).append(point(f"{n} pairs, {d} inputs", each))
    title, unit = "Ridge regression at every prefix", "loop / ours, CPU time"
    why = (
        "Our predictor carries a covariance past every pair: below, it would have to go faster to memory and back. "
        "A solve of theirs is by LU, which in float64 costs no more than in float32."
    )
    return [
        Result(f"{title}, against a compiled loop", "prompts", unit, series["compiled loop"], 40.0, why),
        Result(f"{title}, against an eager loop", "prompts", unit, series["eager loop"], 80.0, why),
        Result(
            f"{title}, against one factor of the kernel", "prompts", "factor / ours, CPU time", series["one factor"]
        ),
    ]


def pools(asked, peers: dict, n=16, d=8) -> list[Result]:
    """A pool of tasks at every prefix, against loops over prefixes."""
    series: dict = {}
    loop = jax.jit(pool_by_prefix)
    for dtype in (np.float32, np.float64):
        for batch, tasks, aim in POOLS[asked.quick]:
            x, y = prompts(batch, n, d, dtype)
            pool = pool_of(tasks, d, dtype)
            agree(our_pool(pool, x, y), loop(pool, x, y))
            rivals = {"ours": our_pool, "compiled loop": loop, "eager loop": pool_by_prefix}
            calls = {name: partial(way, pool, x, y) for name, way in rivals.items()}
            for name, each in ratios(calls, "ours", min(asked.rounds, 3)).items():
                series.setdefault(f"{name}, {dtype.__name__}", []).append(point(tasks, each, aim))
    comment = "What is left is one product of every pair with all tasks and one exponential; theirs in float64 as well."
    return [Result("Pool of tasks at every prefix", "tasks", "loop / ours, CPU time", series, comment=comment)]


def pool_of(tasks: int, d: int, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(1).normal(size=(tasks, d)), dtype)


def costs(asked, peers: dict) -> list[Result]:
    """What compiling costs, what mixtures over supports, and how much memory a pool takes."""
    pairs = (64, 256, 512) if not asked.quick else (16, 64)
    compiling = []
    for n in pairs:
        (x,), (y,) = prompts(1, n, 20)
        start = time.process_time()
        jax.block_until_ready(jax.jit(lambda x, y: linear_predictions(x, y, NOISE).mean)(x, y))
        compiling.append(point(n, PATIENCE / (time.process_time() - start)))
    mixed = []
    for n, d, k in ((16, 10, 2), (41, 20, 3)) if not asked.quick else ((16, 10, 2),):
        (x,), (y,) = prompts(1, n, d)
        mixture = jax.jit(lambda x, y, k=k: sparse_predictions(x, y, NOISE, k).mean)
        alone = jax.jit(lambda x, y, k=k: linear_predictions(x[:, :k], y, NOISE).mean)
        count = math.comb(d, k)
        calls = {"mixture": partial(mixture, x, y), "alone": partial(alone, x, y)}
        each = ratios(calls, "mixture", asked.rounds)["alone"]
        mixed.append(point(f"{k} of {d}", [count * one for one in each]))
    x, y = prompts(4, 16, 8)
    held = []
    for tasks in (2**13, 2**15) if not asked.quick else (2**9,):
        pool = pool_of(tasks, 8)
        used = our_pool.lower(pool, x, y).compile().memory_analysis().temp_size_in_bytes
        # Every prompt's errors on all tasks at all prefixes: what the loop has to hold.
        held.append(point(tasks, x.shape[0] * x.shape[1] * tasks * x.dtype.itemsize / max(used, 1)))
    patience = f"{PATIENCE:g} s / CPU time"
    why = "However many pairs there are, the program is a loop of one step for each."
    return [
        Result("Compiling a predictor of every prefix", "pairs", patience, {"20 inputs": compiling}, 1.0, why),
        Result("All supports at once", "support", "each by itself / mixture, CPU time", {"sparse": mixed}),
        Result("Memory of a pool", "tasks", "errors of 4 prompts at all prefixes / memory", {"pool": held}),
    ]


def precision(asked, peers: dict) -> list[Result]:
    """Largest deviation of float32 from float64, by noise; a refusal is left out."""
    x, y = prompts(20, 40, 20)
    logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)
    series: dict = {}
    for noise in (1.0, 1e-2, 1e-3, 1e-4):
        for name, way in (("as chosen", linear_predictions), ("one factor", by_factor)):
            of = jax.jit(jax.vmap(lambda x, y, way=way, noise=noise: way(x, y, jnp.asarray(noise, x.dtype)).mean))
            exact = of(x, y)
            try:
                error = float(jnp.max(jnp.abs(of(x.astype(jnp.float32), y.astype(jnp.float32)) - exact)))
            except Exception:
                continue
            series.setdefault(name, []).append(point(noise, 1e-3 / error))
    comment = "Where float32 would lose all digits the predictor refuses, and there is no point."
    return [Result("float32, 40 pairs of 20 inputs", "noise", "1e-3 / error", series, comment=comment)]


def scaling(asked, peers: dict) -> list[Result]:
    """Cost against pairs, inputs and tasks; of context trees against depth and length."""
    quick = asked.quick
    x, y = prompts(4, 16, 8)
    depths, lengths = ((4, 8, 12, 16), (250, 500, 1000, 2000)) if not quick else ((2, 4), (50, 100))
    bits = jnp.asarray(np.random.default_rng(0).integers(0, 2, lengths[-1]))
    known = jax.jit(lambda x, past: context_tree_predictions(x, past, 2).log_density)
    axes = {
        "pairs": ((16, 32, 64, 128, 256) if not quick else (16, 32), lambda n: partial(ours, *prompts(16, n, 8))),
        "inputs": ((8, 16, 32, 64, 128) if not quick else (8, 16), lambda d: partial(ours, *prompts(16, 32, d))),
        "tasks": (
            (2**9, 2**11, 2**13, 2**15) if not quick else (2**9, 2**11),
            lambda tasks: partial(our_pool, pool_of(tasks, 8), x, y),
        ),
        "depth of a context tree": (depths, lambda depth: partial(known, bits, jnp.zeros(depth, int))),
        "its text": (lengths, lambda n: partial(known, bits[:n], jnp.zeros(depths[1], int))),
    }
    return [growth("Bayes predictors: growth", "size", axes, min(asked.rounds, 3))]


def main() -> None:
    parts = dict(ridge=ridge, pools=pools, costs=costs, precision=precision, scaling=scaling)
    option = {"name": "--quick", "action": "store_true", "help": "small sizes, seconds"}
    run("bayes_predictors", "Bayes predictors", __doc__, parts, [option])


if __name__ == "__main__":
    main()
