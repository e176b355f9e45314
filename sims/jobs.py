"""One job of a sweep: a call in whatever process, with the precision and the code that its sender means."""

from __future__ import annotations

import functools
import importlib
import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple

import jax
import numpy as np

from sims import fingerprint
from sims.named_arrays import named_arrays
from sims.workers import LocalPool, Setup, completed, is_lost, set_up

Outputs = dict[str, np.ndarray]

# Differs in every process, and says whether a job came back to the one that sent it.
_PROCESS = f"{os.getpid()}-{uuid.uuid4().hex}"


class Origin(NamedTuple):
    """What a sweep's jobs have in common.

    `function`   "module:name", or the function itself where no other process would find it.
    `called`     what a single result is called: the function's name.
    `sender`     the process that sends the jobs; `x64` its precision.
    `depends_on` what results depend on besides the arguments: code, JAX, precision, platform; empty if nobody asked.
    """

    function: Callable | str
    called: str
    sender: str
    x64: bool
    depends_on: dict[str, str]


def origin_of(function: Callable, executor: Executor | None, store: Any) -> Origin:
    """The origin of jobs that call `function` on `executor` (None: in this process).

    Workers are asked what they compute with, where anything depends on it: they may be another machine.
    """
    called = getattr(function, "__name__", "<").replace("<lambda>", "<")
    plain = Origin(function, "result" if "<" in called else called, _PROCESS, bool(jax.config.jax_enable_x64), {})
    if store is None and (executor is None or not isinstance(executor, LocalPool)):
        return plain
    path = fingerprint.dotted_path(function)
    own = fingerprint.of_function(function)
    if function.__module__ != "__main__":
        plain = plain._replace(function=f"{function.__module__}:{function.__qualname__}")
    here = _code(plain.function) | {"own code": own}
    ((_, asked),) = completed(executor, environment, {0: (plain,)})
    if is_lost(asked) and isinstance(executor, LocalPool):
        raise RuntimeError(
            "the worker processes end as soon as they start: a script that calls sweep is imported again by its "
            'workers, and wants `if __name__ == "__main__":` around the call'
        )
    theirs = asked.result()
    for what in ("code", "own code", "jax"):
        if theirs.get(what, here[what]) != here[what]:
            raise RuntimeError(f"the workers have another version of {_WORDS[what]} than this process: start them anew")
    return plain._replace(depends_on={"function": path, **here, **theirs})


_WORDS = {"code": "theory or sims", "own code": "the function's code", "jax": "JAX"}


def environment(origin: Origin) -> dict[str, str]:
    """What this process would compute with."""
    if origin.sender != _PROCESS:
        set_up(Setup(origin.x64))
        return _remembered(origin.function, origin.x64)
    return _environment(origin.function, origin.x64)


def _environment(function: Callable | str, x64: bool) -> dict[str, str]:
    _found(function)
    return _code(function) | {"precision": "float64" if x64 else "float32", "platform": jax.default_backend()}


# The code that a worker computes with is that which it has loaded, whatever becomes of the files.
_remembered = functools.cache(_environment)


def _code(function: Callable | str) -> dict[str, str]:
    found = {"code": fingerprint.of_packages("theory", "sims"), "jax": jax.__version__}
    # What a script holds only its own process knows.
    return found | ({"own code": fingerprint.of_function(_found(function))} if isinstance(function, str) else {})


def _found(function: Callable | str) -> Callable:
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


def do(origin: Origin, arguments: Mapping[str, Any]) -> Outputs:
    """One job: the arrays that the function returns, by their path."""
    if origin.sender != _PROCESS:
        now = environment(origin)
        if any(now[what] != origin.depends_on.get(what, now[what]) for what in now):
            raise RuntimeError("this worker runs other code, or on another platform, than those that were asked first")
    # Threads do not inherit the precision, and the results leave as NumPy's arrays.
    with jax.enable_x64(origin.x64):
        return named_arrays(_found(origin.function)(**arguments), origin.called)
