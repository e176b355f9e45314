"""The arrays of a pytree by name: what is recorded or returned, before it gets named axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def named_arrays(tree: Any, alone: str) -> dict[str, np.ndarray]:
    """The leaves of a pytree as arrays, by their paths ("head.loss"); a tree that is one array is called `alone`."""
    found = {}
    for name, leaf in named_leaves(tree, alone):
        array = np.asarray(leaf) if is_plain(leaf) else None
        if array is not None and jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.kind == "V":
            # NetCDF knows no bfloat16; float32 holds it exactly.
            array = array.astype(np.float32)
        if array is None or array.dtype.kind not in "biufcU":
            raise ValueError(f"{name} must be an array of numbers, truths or words, got {type(leaf).__name__}")
        found[name] = array
    return found


def named_leaves(tree: Any, alone: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a pytree with their paths ("head.loss"); a tree that is one leaf is called `alone`."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator=".").replace("/", ".") or alone, leaf


def is_plain(leaf: Any) -> bool:
    """Whether a leaf is no key: its type, if it has one, is one of NumPy's."""
    return isinstance(getattr(leaf, "dtype", np.dtype(float)), np.dtype)
