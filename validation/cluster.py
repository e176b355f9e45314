"""Executors beyond this machine: a `dask.distributed` scheduler by its address, or Slurm jobs as a TOML file says.

    host = "10.0.0.1"        # of this machine, as the workers reach it: the scheduler listens there and nowhere else
    workers = 8              # Slurm jobs, each of them one study at a time, or as many as `processes` says
    cores = 4                # of a job, as its
    memory = "16GB"
    queue = "gpu"
    walltime = "02:00:00"
    directives = ["--gres=gpu:1"]

The file holds plain settings: nothing in it is executed, here or in the shell of a job, and a name that is not known is
refused. Workers need the same Python environment; they see `STAGEWISE_STUDIES` if they inherit the environment.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

# What the file may say: its type, and what dask_jobqueue calls it.
_WORDS = {
    "host": (str, None),
    "workers": (int, None),
    "cores": (int, "cores"),
    "memory": (str, "memory"),
    "processes": (int, "processes"),
    "queue": (str, "queue"),
    "account": (str, "account"),
    "walltime": (str, "walltime"),
    "job_name": (str, "job_name"),
    "interface": (str, "interface"),
    "local_directory": (str, "local_directory"),
    "log_directory": (str, "log_directory"),
    "directives": (list, "job_extra_directives"),
}
_NEEDED = ("host", "workers", "cores", "memory")
# Letters, digits and marks that no shell takes for anything else.
_HARMLESS = re.compile(r"[A-Za-z0-9_./:=,@%+-]*")
# Nodes that are taken away again and again are no fault of the study.
_LOST_WORKERS_OF_A_STUDY = 10


@contextlib.contextmanager
def connected(
    scheduler: str | None = None,
    slurm: Path | None = None,
    say: Callable[[str], None] = print,
    patience: float = 20.0,
) -> Iterator[Executor]:
    """The executor of the scheduler at the address `scheduler`, or of Slurm jobs with the settings in the file `slurm`.

    `say` is told how many workers there are. Slurm jobs end with the block. What cannot be used is refused in one
    sentence (`ValueError`).
    """
    if scheduler is not None and slurm is not None:
        raise ValueError("--scheduler and --slurm are two ways to the same end: give one of them")
    if scheduler is not None and not re.fullmatch(r"(\w+://)?[^/\s]+:\d+", scheduler):
        raise ValueError(f"--scheduler must be an address such as tcp://10.0.0.1:8786, got {scheduler!r}")
    settings = slurm_settings(slurm) if slurm is not None else {}
    require("distributed", *(["dask_jobqueue"] if settings else []))
    import dask.config
    import distributed

    # That a scheduler is gone is our sentence to say.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": _LOST_WORKERS_OF_A_STUDY}))
        address = stack.enter_context(_slurm_jobs(settings)) if settings else scheduler
        try:
            client = distributed.Client(address, timeout=patience, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"--scheduler: nothing answers at {address!r} ({error})") from error
        stack.enter_context(contextlib.closing(client))
        workers = len(client.nthreads())
        say(f"{workers} workers" if workers else "no workers yet: the studies wait for them")
        yield client.get_executor()


def require(*modules: str) -> None:
    """Say in one sentence how to install what is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        raise ValueError(f'--scheduler and --slurm need {names}: pip install -e ".[cluster]"')


@contextlib.contextmanager
def _slurm_jobs(settings: dict[str, Any]) -> Iterator[Any]:
    """A cluster of Slurm jobs, once Slurm has agreed to take them."""
    from dask_jobqueue.slurm import SLURMCluster

    if shutil.which("sbatch") is None:
        raise ValueError("--slurm needs a machine that submits to Slurm, and finds no sbatch here")
    given = {_WORDS[name][1]: value for name, value in settings.items() if _WORDS[name][1]}
    # The studies of a process take turns: more than one thread would only keep them from other workers.
    given |= {"processes": settings.get("processes", 1), "worker_extra_args": ["--nthreads", "1"]}
    listening = {"host": settings["host"], "dashboard": False, "dashboard_address": f"{settings['host']}:0"}
    try:
        cluster = SLURMCluster(**given, scheduler_options=listening)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"--slurm: no scheduler can listen on host {settings['host']!r} ({error})") from error
    with cluster:
        tried = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), text=True, capture_output=True)
        if tried.returncode:
            raise ValueError(f"--slurm: sbatch refuses the jobs ({tried.stderr.strip()})")
        cluster.scale(jobs=settings["workers"])
        yield cluster


def slurm_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, checked: known names, right types, nothing that a shell could run."""
    try:
        found = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"--slurm: {path} cannot be read ({error})") from error
    for name, value in found.items():
        if name not in _WORDS:
            raise ValueError(f"--slurm: {path} must hold only {', '.join(_WORDS)}, got {name!r}")
        kind = _WORDS[name][0]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"--slurm: {name} in {path} must be {_CALLED[kind]}, got {value!r}")
        if kind is int and value < 1:
            raise ValueError(f"--slurm: {name} in {path} must be at least 1, got {value}")
        for word in value if kind is list else [value] if kind is str else []:
            if not isinstance(word, str) or not _HARMLESS.fullmatch(word):
                raise ValueError(
                    f"--slurm: {name} in {path} must be made of letters, digits and _./:=,@%+-, got {word!r}"
                )
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise ValueError(f"--slurm: {path} lacks {', '.join(missing)}")
    return found


_CALLED = {str: "a word", int: "a whole number", list: "a list of words"}
