"""The plain arrays of a study's prediction and observation, kept in one file beside its figure.

Predictions and observations are dicts of arrays, but may also hold records of arrays, fitted objects or words.
What is an array (or a number) anywhere in them is kept under its path, "prediction/u" or
"observation/memory/loss"; what is not is left out and named.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# Larger arrays are for a simulation's own records: with them the report would grow beyond what one sends around.
LARGEST = 2**11
# So many numbers in all: beyond, the largest arrays are left out.
ALTOGETHER = 2**14
LEFT_OUT = "left out"


def as_npz(tree: Mapping[str, Any]) -> bytes:
    """Every plain array in `tree` by its path, and the paths of what is none; no pickle."""
    kept, left_out = {}, []
    for path, value in _leaves(tree, ""):
        array = _plain(value)
        if array is None:
            left_out.append(path)
        else:
            kept[path] = array
    while sum(array.size for array in kept.values()) > ALTOGETHER:
        path = max(kept, key=lambda path: kept[path].size)
        left_out.append(path)
        del kept[path]
    body = io.BytesIO()
    np.savez_compressed(body, **kept, **{LEFT_OUT: np.array(left_out, str)})
    return body.getvalue()


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, leaf) of nested mappings, named tuples, lists and tuples."""
    if isinstance(value, Mapping):
        items = value.items()
    elif hasattr(value, "_asdict"):
        items = value._asdict().items()
    elif isinstance(value, list | tuple) and not all(np.isscalar(v) for v in value):
        items = enumerate(value)
    else:
        yield path, value
        return
    for name, part in items:
        yield from _leaves(part, f"{path}/{name}".lstrip("/"))


def _plain(value: Any) -> np.ndarray | None:
    """`value` as an array of numbers, truths or words; None if it is none, or too large."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "biufcU" and array.size <= LARGEST else None
