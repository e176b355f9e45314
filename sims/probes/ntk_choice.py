"""What is found out once for each kind of network and samples: shapes, and which strategy is fastest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax

Found = TypeVar("Found")
_memory: dict[Any, Any] = {}
MOST = 1000


def remembered(question: Any, about: Any, find: Callable[[], Found]) -> Found:
    """`find()`, asked once for each `question` and each structure, static part and shapes of the pytree `about`."""
    arrays, static = eqx.partition(about, eqx.is_array)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arrays))
    fixed = tuple(jax.tree.leaves(static))
    kind = (question, fixed, jax.tree.structure(arrays), shapes, jax.default_backend())
    if kind not in _memory:
        if len(_memory) >= MOST:
            _memory.clear()
        _memory[kind] = find()
    return _memory[kind]


def known(tree: Any) -> bool:
    """Whether the arrays of `tree` have values, rather than being traced by `jit` or `vmap`."""
    try:
        # An array in memory says where it is; one that is traced refuses.
        arrays = filter(eqx.is_array, jax.tree.leaves(tree))
        return all(getattr(leaf, "is_fully_addressable", True) for leaf in arrays)
    except jax.errors.ConcretizationTypeError:
        return False


def fastest(candidates: Sequence[str], run: Callable[[str], Any], turns: int = 3) -> str:
    """The candidate of which one run took the least time, of a few after the one that compiles."""
    least = dict.fromkeys(candidates, math.inf)
    for turn in range(turns + 1):
        for candidate in candidates:
            start = time.perf_counter()
            jax.block_until_ready(run(candidate))
            if turn:
                least[candidate] = min(least[candidate], time.perf_counter() - start)
    return min(least, key=least.get)
