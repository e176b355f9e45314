"""Where the peers live: an environment of its own for each, set up once in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

PEERS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stagewise" / "peers"


class Environment(NamedTuple):
    """What is installed, what must import then, and pip's first choice of an index (PyPI serves otherwise)."""

    packages: tuple[str, ...]
    imports: tuple[str, ...]
    index: str = ""


# The newest JAX that a neural-tangents from PyPI imports with; and the newest on which all of its strategies for
# empirical kernels work.
ENVIRONMENTS = {
    "neural-tangents": Environment(
        ("neural-tangents==0.6.5", "jax==0.5.3", "jaxlib==0.5.3", "tf2jax==0.3.7", "equinox==0.12.2"),
        ("neural_tangents", "equinox"),
    ),
    "neural-tangents-empirical": Environment(
        (
            "neural-tangents==0.6.5",
            "jax==0.4.25",
            "jaxlib==0.4.25",
            "tf2jax==0.3.6",
            "equinox==0.11.9",
            "numpy<2",
            "scipy<1.13",
        ),
        ("neural_tangents", "equinox"),
    ),
    "torch": Environment(("torch", "numpy"), ("torch", "numpy"), "https://download.pytorch.org/whl/cpu"),
}
# Published scripts that are no packages: their repository and its state.
REPOSITORIES = {
    "eigenlearning": (
        "https://github.com/james-simon/eigenlearning",
        "bd25fce372b9c444c660cef1a82fcb40df33921d",
    ),
    "LinearNetworkDynamics": (
        "https://github.com/Nico31415/LinearNetworkDynamics",
        "416571dfd237918dadcf48f9372bc00dbf692bc8",
    ),
    "incontext-asymptotics-experiments": (
        "https://github.com/Pehlevan-Group/incontext-asymptotics-experiments",
        "9f9b5626befd5ff58239f4a074657c6d9589fb85",
    ),
}


def interpreter(folder: Path, environment: str) -> Path | None:
    """The Python of an environment that was set up in the folder, or None."""
    found = folder / environment / "bin" / "python"
    return found if (folder / environment / "ready").exists() and found.exists() else None


def repository(folder: Path, name: str) -> Path | None:
    """A repository that was cloned to the folder, or None."""
    return folder / name if (folder / name / ".git").exists() else None


def set_up(folder: Path, name: str) -> str:
    """Install a peer unless it is there; returns why that failed, or nothing."""
    if interpreter(folder, name) or repository(folder, name):
        return ""
    shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (_clone if name in REPOSITORIES else _install)(folder, name)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder / name, ignore_errors=True)
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        return said.strip().splitlines()[-1] if said.strip() else f"{error}"
    return ""


def _install(folder: Path, name: str) -> None:
    packages, imports, index = ENVIRONMENTS[name]
    _run(_python(), "-m", "venv", folder / name)
    python = folder / name / "bin" / "python"
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    # Where the index is out of reach, PyPI's wheel does as well, and brings what a GPU needs.
    _run(*install, *(("--index-url", index) if index and _answers(index) else ()))
    _run(python, "-c", f"import {', '.join(imports)}")
    (folder / name / "ready").touch()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


def _clone(folder: Path, name: str) -> None:
    url, commit = REPOSITORIES[name]
    _run("git", "clone", "--quiet", url, folder / name)
    _run("git", "-C", folder / name, "checkout", "--quiet", commit)


def _python() -> str:
    """A Python 3.11, the newest that the peers' versions of JAX have wheels for besides 3.12."""
    found = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if not found:
        raise OSError("the peers need Python 3.11, and there is no python3.11")
    return found


def _run(*command: object) -> None:
    # No questions: a repository that is gone would ask for a password.
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    subprocess.run(
        [str(word) for word in command], check=True, env=environment, capture_output=True, text=True, timeout=1800
    )
