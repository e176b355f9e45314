"""A rival in a process and an environment of its own, which takes turns with us."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.environments import interpreter

ROOT = Path(__file__).parents[1]


class Failed(Exception):
    """What the peer says of a request that it cannot serve."""


class Peer:
    """A process that answers as `benchmarks.serving` does; `precision` is that of JAX, if it has it."""

    def __init__(self, python: str | Path, script: str, precision: str = "float32"):
        # It imports our networks, and finds the same threads as we.
        self.process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.{script}"],
            cwd=ROOT,
            env=os.environ | {"JAX_ENABLE_X64": str(int(precision == "float64")), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.versions = self._answer()

    def call(self, kind: str, **request) -> tuple[Callable[[], float], list]:
        """Something to time, ready: a function that gives the CPU seconds of one call, and entries of its result."""
        line = json.dumps({"kind": kind} | request)
        return (lambda: self._ask(line)["seconds"]), self._ask(line)["entries"]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        found = self._answer()
        if "error" in found:
            raise Failed(found["error"])
        return found

    def _answer(self) -> dict:
        """The next line that is an answer: neural-tangents prints what it counts, too."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("a peer's process ended: does its environment have what `python -m benchmarks` installs?")


@contextlib.contextmanager
def peer(folder: Path, environment: str, script: str, precision: str = "float32") -> Iterator[Peer | None]:
    """The peer of an environment among those in the folder, or None where it is not installed."""
    python = interpreter(folder, environment)
    found = Peer(python, script, precision) if python else None
    try:
        yield found
    finally:
        if found:
            found.end()


def leaves(folder: str | Path, name: str, arrays) -> str:
    """A file of arrays, as a peer reads them."""
    file = Path(folder) / f"{name}.npz"
    np.savez(file, *(np.asarray(each) for each in arrays))
    return str(file)
