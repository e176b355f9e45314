"""Checkpoints: atomic, self-checking files that only ever continue the run they belong to.

A file is one line of SHA-256 over what follows, then an npz of plain arrays (no pickle): settings as JSON, the
leaves of the state, the records so far. It is written beside its place, flushed, and moved.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WHAT = {
    "program": "the code or the constants of the simulation",
    "seeds": "the seeds",
    "hyper": "the hyperparameters",
    "record_at": "the steps to record at",
    "precision": "the floating-point precision",
    "versions": "the JAX version",
}


def settings_of(simulation, seeds, hyper, record_at) -> dict[str, str]:
    """Fingerprints of everything that a run depends on, by name.

    The program is fingerprinted by its jaxprs and their constants: another loss or data set is another program.
    """
    one = jax.tree.map(lambda x: x[0], hyper)
    state = jax.eval_shape(simulation.init, jax.random.key(0), one)
    program = hashlib.sha256()
    for function, arguments in (
        (simulation.init, (jax.random.key(0), one)),
        (simulation.step, (state,)),
        (simulation.record, (state,)),
    ):
        traced = jax.make_jaxpr(function)(*arguments)
        program.update(re.sub(r"0x[0-9a-f]+", "", str(traced)).encode())
        for constant in traced.consts:
            program.update(_bytes(constant))
    leaves = jax.tree.leaves(hyper)
    return {
        "program": program.hexdigest(),
        "seeds": _sha(np.asarray(seeds)),
        "hyper": _sha(*leaves) + str(jax.tree.structure(hyper)),
        "record_at": _sha(np.asarray(record_at)),
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        "versions": jax.__version__,
    }


def digest_of(settings: dict[str, str]) -> str:
    """One fingerprint of `settings`."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def save(path: Path, settings: dict, runs: int, done: int, records: list, state: Any) -> None:
    """Write atomically. `state` may be padded beyond `runs`; the padding is not kept."""
    arrays = {
        "settings": np.frombuffer(json.dumps(settings).encode(), np.uint8),
        "done": np.array(done),
    }
    for i, leaf in enumerate(jax.tree.leaves(state)):
        arrays[f"state{i}"] = _plain(leaf)[:runs]
    for i, column in enumerate(zip(*records, strict=True)):
        arrays[f"record{i}"] = np.concatenate(column, axis=1)
    body = io.BytesIO()
    np.savez(body, **arrays)
    content = body.getvalue()
    write_atomically(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load(path: Path, settings: dict, like: Any) -> tuple[int, list, Any]:
    """(records done, records, state), or one sentence saying why this file cannot be continued."""
    digest, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError(f"checkpoint {path} is corrupt (its digest does not match): delete it to start anew")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    written = json.loads(arrays["settings"].tobytes())
    changed = [WHAT[name] for name in settings if written.get(name) != settings[name]]
    if changed:
        raise ValueError(
            f"checkpoint {path} belongs to another configuration: {' and '.join(changed)} differ; "
            "delete it or name another file"
        )
    leaves, form = jax.tree.flatten(like)
    state = [_typed(arrays[f"state{i}"], leaf) for i, leaf in enumerate(leaves)]
    count = sum(name.startswith("record") for name in arrays)
    records = [[arrays[f"record{i}"] for i in range(count)]]
    return int(arrays["done"]), records, jax.tree.unflatten(form, state)


def write_atomically(path: Path, content: bytes) -> None:
    """`content` at `path`, whole or not at all: a temporary file in the same folder, flushed, then moved."""
    write_together({Path(path): content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Several files, each whole or not at all, and none of them where the disk has no room for all; moved in order."""
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, written in temporary.items():
            os.replace(written, path)
    finally:
        for written in temporary.values():
            written.unlink(missing_ok=True)


def _plain(leaf) -> np.ndarray:
    """A leaf as a plain array: typed keys as their key data."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _typed(array: np.ndarray, like) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(array)
    return jnp.asarray(array, like.dtype)


def _bytes(constant) -> bytes:
    plain = _plain(constant) if hasattr(constant, "dtype") else np.asarray(constant)
    return f"{plain.shape}{plain.dtype}".encode() + plain.tobytes()


def _sha(*arrays) -> str:
    return hashlib.sha256(b"".join(_bytes(a) for a in arrays)).hexdigest()
