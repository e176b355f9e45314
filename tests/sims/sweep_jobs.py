"""Jobs of the tests of sweeps, which worker processes import: plain NumPy, so that they start soon."""

import os
import time
from pathlib import Path

import numpy as np


def trained(depth, noise, seed, scale=1.0):
    """A made-up network: what it returns depends on every argument."""
    rng = np.random.default_rng([seed, depth])
    return {"loss": scale * np.exp(-depth * np.arange(4.0)) + noise * rng.normal(size=4), "width": np.int64(depth**2)}


def marked(signs, x, seed=0):
    """Leaves a sign of every call, so that a test knows what was computed."""
    (Path(signs) / f"{x}-{seed}-{time.monotonic_ns()}").touch()
    return float(x) * 2


def killed_once(signs, x):
    """Ends its process the first time that it is given 2."""
    try:
        if x == 2:
            (Path(signs) / "killed").touch(exist_ok=False)
            os._exit(9)
    except FileExistsError:
        pass
    return marked(signs, x)


def greedy(signs, x):
    """Ends its process whenever it is given 2."""
    if x == 2:
        os._exit(9)
    return marked(signs, x)


def refusing(signs, x):
    """Cannot do 2 and 3."""
    if x in (2, 3):
        raise ValueError(f"{x} is too much")
    return marked(signs, x)


def waiting(signs, x):
    """Waits for a sign from 2 on."""
    found = marked(signs, x)
    while x >= 2 and not (Path(signs) / "go").exists():
        time.sleep(0.05)
    return found


def own_number(signs):
    """Tells its process by its number."""
    (Path(signs) / f"process-{os.getpid()}").touch()


def precision(x):
    """In which precision JAX computes here, and where."""
    import jax.numpy as jnp

    return {"bits": np.int64(8 * jnp.asarray(float(x)).dtype.itemsize), "process": np.int64(os.getpid())}


def squared(x):
    """A function of arrays."""
    return x**2


def counted(x):
    """A function that wants a plain number."""
    return len(range(x))
