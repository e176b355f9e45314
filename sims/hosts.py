"""One simulation on several hosts: each trains its own part of the runs, and all of them get every record.

Every host runs the same script, which calls `jax.distributed.initialize(...)` before anything else; `simulate` does the
rest. Runs are independent: nothing is exchanged while they train, so that a host stops, saves and resumes by itself; at
the end the records and states of all are gathered on each. A host that fails leaves the others waiting there until
the coordinator gives it up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def own_part(runs: int) -> np.ndarray:
    """The numbers of the runs that this host trains: as many on each, the last repeated where they do not suffice."""
    size = -(-runs // jax.process_count())
    return np.minimum(jax.process_index() * size + np.arange(size), runs - 1)


def own_file(path: Path) -> Path:
    """A file of this host's own: hosts may share a disk."""
    return path.with_name(f"{path.stem}.{jax.process_index()}{path.suffix}") if jax.process_count() > 1 else path


def gathered(tree: Any, runs: int) -> Any:
    """The parts of all hosts put together: each leaf has a leading axis of `runs`."""
    from jax.experimental.multihost_utils import process_allgather

    leaves, form = jax.tree.flatten(tree)
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [np.asarray(jax.random.key_data(x) if key else x) for x, key in zip(leaves, keys, strict=True)]
    whole = [np.asarray(x)[:runs] for x in process_allgather(plain, tiled=True)]
    typed = [jax.random.wrap_key_data(x) if key else x for x, key in zip(whole, keys, strict=True)]
    return jax.tree.unflatten(form, typed)
