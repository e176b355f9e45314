"""pytest in a process of its own, for the tests of what this library does to a project's tests."""

import importlib.metadata
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import pytest


class Done(NamedTuple):
    """Exit code, all that was printed, and by its name what each test failed with, or None."""

    code: int
    printed: str
    results: dict[str, str | None]

    @property
    def failed(self) -> dict[str, str]:
        return {name: failure for name, failure in self.results.items() if failure is not None}


def run(folder: Path, *arguments: str, python: str | Path = sys.executable, **variables: str) -> Done:
    """pytest in `folder`, in a process that has nothing of what this one has set."""
    # An environment that was set up before the entry point stood in pyproject.toml does not know it.
    points = importlib.metadata.entry_points(group="pytest11")
    unknown = python == sys.executable and not any(point.name == "stagewise" for point in points)
    plugin = ["-p", "validation.pytest_plugin"] if unknown else []
    ours = ("JAX_ENABLE_X64", "XLA_FLAGS", "STAGEWISE_STUDIES", "PYTHONPATH", "CI")
    environment = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("PYTEST_")}
    # Hypothesis is the same in every CI.
    environment |= {"COLUMNS": "200", "CI": "true"} | variables
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", *plugin, f"--junitxml={report}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    results = {}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        bad = [part.text for part in (case.find("failure"), case.find("error")) if part is not None]
        results[case.get("name")] = bad[0] if bad else None
    return Done(done.returncode, done.stdout + done.stderr, results)


@pytest.fixture(scope="session")
def run_pytest():
    """The function `run`."""
    return run
