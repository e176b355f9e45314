"""How many runs of an ensemble go side by side through the compiled program: all, one by one, or so many at a time.

Side by side (`vmap`) the fixed cost of an array operation, some 0.3 microseconds on a CPU, is paid once for all
runs; one by one (`lax.map`) what a run computes stays in the processor's cache. `benchmarks/engine.py` measures both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

from sims.compilation import optimisations

# What the largest operation of a step reads and writes, of all runs that go side by side, should stay in a core's
# second cache. Measured on a CPU with 1 MiB of it (float32 and float64, widths 8 to 256, depths 2 and 8, batches of 1
# to 128): batches of runs of this size were the fastest, by up to 40 %, or within some 15 % of it, at either depth;
# where fewer than four runs fit, it was `lax.map`, and `vmap` took up to 1.7 times as long.
SPACE = 3 * 2**16
FEWEST = 4
# Where XLA's flags ask for quick compilation, programs are short and a step takes five times as long, so that `lax.map`
# wins earlier. There the widest matrix of a state decides: below this width `vmap` took at most a quarter longer than
# the best, above it up to twice as long, and batches of some runs were no faster than the better of the two.
WIDE = 48


def chosen(
    init: Callable[[jax.Array, Any], Any],
    step: Callable[[Any], Any],
    hyper: Any,
    runs: int,
    batching: str | int,
) -> str | int:
    """`batching` itself, or for "auto" what should be the fastest: "vmap", "map" or a number of runs at a time.

    `init(key, hyper)` and `step(state)` are those of one run, `hyper` has a leading axis of runs, `runs` of them share
    a device. On an accelerator it is `vmap`, which fills it; that is not measured yet.
    """
    number = isinstance(batching, int) and not isinstance(batching, bool)
    if batching not in ("auto", "vmap", "map") and not (number and batching >= 1):
        raise ValueError(f"batching must be 'auto', 'vmap', 'map' or a number of runs from 1 on, got {batching!r}")
    if batching != "auto":
        return batching
    if runs == 1 or jax.default_backend() != "cpu":
        return "vmap"
    one = jax.eval_shape(init, jax.random.key(0), jax.tree.map(lambda x: x[0], hyper))
    if optimisations() is not None:
        shapes = [leaf.shape for leaf in jax.tree.leaves(one) if len(leaf.shape) > 1]
        return "vmap" if max(map(max, shapes), default=1) < WIDE else "map"
    return _filling(SPACE // max(1, largest_operation(step, one)), runs)


def _filling(fitting: int, runs: int) -> str | int:
    """Batches of equal size where the number of runs has a divisor near: a remainder would be compiled as well."""
    if fitting >= runs:
        return "vmap"
    if fitting < FEWEST:
        return "map"
    return next((size for size in range(fitting, fitting // 2, -1) if runs % size == 0), fitting)


def largest_operation(step: Callable[[Any], Any], state: Any) -> int:
    """The most bytes that an array operation within a step of one run reads and writes. Nothing is run."""
    return _largest(jax.make_jaxpr(step)(state).jaxpr)


def _largest(program: Any) -> int:
    found = 0
    for equation in program.eqns:
        inner = [part for value in equation.params.values() for part in _programs(value)]
        own = sum(_bytes(v.aval) for v in (*equation.invars, *equation.outvars))
        found = max(found, *map(_largest, inner)) if inner else max(found, own)
    return found


def _programs(value: Any) -> list:
    """The programs within a parameter of an operation: the bodies of loops, the branches of a choice."""
    if isinstance(value, tuple | list):
        return [part for each in value for part in _programs(each)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []


def _bytes(aval: Any) -> int:
    # A typed key holds a few bytes, which its type does not tell; a token, none.
    return math.prod(getattr(aval, "shape", (0,))) * getattr(getattr(aval, "dtype", None), "itemsize", 8)
