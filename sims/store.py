"""A content-addressed store of results: what was computed once, with the same code and settings, is read again.

    <store>/ab/<key>.nc      the result, NetCDF
    <store>/ab/<key>.json    its settings and its digest
    <store>/aside/           what did not stand the check

The key is the SHA-256 of the settings (what was called, with which arguments, code, JAX and precision, on which
platform) as canonical JSON. Both files are written whole or not at all, the second last; both are checked on
reading, and what is corrupt, or belongs to other settings, is set aside and never used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from sims import labelled

ASIDE = "aside"
# A writer that was killed leaves its temporary file; none takes that long.
_LONGEST_WRITE = 3600.0


def canonical(name: str, value: Any) -> Any:
    """`value` as plain JSON that equal values share; large arrays by their digest. `name` is for the refusal."""
    if isinstance(value, Mapping):
        return {str(k): canonical(f"{name}[{k!r}]", value[k]) for k in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [canonical(f"{name}[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, np.generic) or (hasattr(value, "shape") and value.shape == ()):
        value = np.asarray(value).item()
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            raise ValueError(f"{name} must be a number, got NaN")
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "dtype") and isinstance(value.dtype, np.dtype) and value.dtype.kind in "biufcU":
        array = np.ascontiguousarray(value)
        if array.dtype.kind in "fc" and np.isnan(array).any():
            raise ValueError(f"{name} must hold numbers, got NaN")
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return {"array": str(array.dtype), "shape": list(array.shape), "sha256": digest}
    raise ValueError(f"{name} must be made of numbers, words and arrays of them, got {type(value).__name__}")


def key_of(settings: Mapping[str, Any]) -> str:
    """The hex digest under which the result of `settings` lies."""
    plain = {name: canonical(name, value) for name, value in settings.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode()).hexdigest()


def put(store: str | Path, settings: Mapping[str, Any], data: xarray.Dataset) -> Path:
    """Keep `data` as the result of `settings`. Where it cannot be written, `OSError` says why in one sentence."""
    key = key_of(settings)
    path = _path(store, key)
    about = {"key": key, "settings": canonical("settings", settings)}
    try:
        return labelled.save(data, path, about)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"store {store} could not take a result ({why}); what it holds is whole") from error


def get(store: str | Path, settings: Mapping[str, Any]) -> xarray.Dataset | None:
    """The result of `settings`, or None: where there is none, or what lay there had to be set aside."""
    key = key_of(settings)
    path = _path(store, key)
    if not path.exists() or not labelled.beside(path).exists():
        # The second file is written last: without it there is no result.
        return None
    try:
        note = json.loads(labelled.beside(path).read_bytes())
        if note.get("key") != key or key_of(note["settings"]) != key:
            raise ValueError(f"{path} belongs to other settings")
        return labelled.load(path)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        _set_aside(store, path, error)
        return None


def clean(store: str | Path) -> None:
    """Remove what writers that were killed left half-written."""
    for file in Path(store).glob("??/.*.tmp"):
        if time.time() - file.stat().st_mtime > _LONGEST_WRITE:
            file.unlink(missing_ok=True)


def _path(store: str | Path, key: str) -> Path:
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise ValueError(f"key must be 64 hex digits, got {key!r}")
    return Path(store) / key[:2] / f"{key}.nc"


def _set_aside(store: str | Path, path: Path, why: Exception) -> None:
    aside = Path(store) / ASIDE
    aside.mkdir(exist_ok=True)
    for file in (path, labelled.beside(path)):
        number = sum(other.name.endswith(file.name) for other in aside.iterdir())
        os.replace(file, aside / f"{number}-{file.name}")
    warnings.warn(f"{why}; it was set aside in {aside} and will be computed again", stacklevel=4)
