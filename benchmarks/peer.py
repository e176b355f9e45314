"""A rival in a process and an environment of its own, which takes turns with us."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path


class Peer:
    """neural-tangents, asked in turn; its kernels have JAX's precision, not the inputs'."""

    def __init__(self, python: str, dtype: str):
        root = Path(__file__).parents[1]
        # It imports our networks, to time its kernels on the same ones.
        self.process = subprocess.Popen(
            [python, str(root / "benchmarks" / "neural_tangents_peer.py")],
            env=os.environ | {"JAX_ENABLE_X64": str(int(dtype == "float64")), "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.versions = self.answer()

    def answer(self) -> dict:
        """The next line that is an answer: neural-tangents prints what it counts, too."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("the peer's process ended: does its environment import neural_tangents and equinox?")

    def ask(self, kind: str, **request) -> dict:
        """The first time a request is made its kernel is compiled and entries of it come back, then CPU seconds."""
        self.process.stdin.write(json.dumps({"kind": kind} | request) + "\n")
        self.process.stdin.flush()
        return self.answer()
