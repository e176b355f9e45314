"""What a figure of task diversity costs: linear attention fitted to drawn prompts, against a published script.

    python -m benchmarks.task_diversity [figure | scaling] [--peers FOLDER] [--keep]

The script is `errors_from_DATA` of github.com/Pehlevan-Group/incontext-asymptotics-experiments (NumPy, draw by draw),
where `python -m benchmarks` has fetched it. CPU time, taking turns, in float64.
"""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import numpy as np

from benchmarks.driver import run
from benchmarks.environments import REPOSITORIES, repository
from benchmarks.kept import Result, growth, point
from benchmarks.timing import ratios
from sims.networks.fitted_linear_attention import pretrained_layer_errors

SCRIPT = "incontext-asymptotics-experiments"
# Context over d, prompts over d^2, noise, ridge; and how often a layer is drawn and fitted.
ALPHA, TAU, NOISE, RIDGE, DRAWS = 10, 10, 0.01, 1e-6, 10
DIMENSION, TASKS = 10, (2, 20, 320)


@partial(jax.jit, static_argnames=("d", "tasks", "draws"))
def errors(key, d: int, tasks: int, draws: int = DRAWS):
    """Errors on fresh and on pretrained tasks of fitted layers, (draws, 2)."""
    context, n = ALPHA * d, round(TAU * d**2 / tasks) * tasks

    one = partial(pretrained_layer_errors, d=d, tasks=tasks, n=n, context=context, noise=NOISE, ridge=RIDGE)
    return jax.lax.map(one, jax.random.split(key, draws))


def published(folder: Path):
    """The script's function: (d, tasks) -> errors."""
    spec = importlib.util.spec_from_file_location("in_context_asymptotics", folder / "theory_runs" / "common.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda d, tasks: module.errors_from_DATA(d, ALPHA, tasks / d, TAU, NOISE, RIDGE, DRAWS)


def figure(asked, peers: dict) -> list[Result]:
    """Points of the figure, each the mean over some draws."""
    folder = repository(asked.peers, SCRIPT)
    if not folder:
        return []
    peers[SCRIPT] = REPOSITORIES[SCRIPT][1][:8]
    theirs, points = published(folder), []
    for tasks in TASKS:
        ours = partial(errors, jax.random.key(0), DIMENSION, tasks)
        mean, spread, *_ = theirs(DIMENSION, tasks)
        own = np.asarray(ours())[:, 0]
        assert abs(own.mean() - mean) < 5 * np.hypot(own.std(), spread) / DRAWS**0.5, (own.mean(), mean)
        calls = {"ours": ours, "script": partial(theirs, DIMENSION, tasks)}
        points.append(point(tasks, ratios(calls, "ours", asked.rounds)["script"], 8.0))
    title = f"Task diversity of linear attention, {DIMENSION} dimensions"
    comment = (
        "Both draw a prompt's summary from its own law; ours takes a label for each of 100 pairs; least squares "
        "for d (d + 1) numbers are the same on both sides."
    )
    return [Result(title, "tasks", "script / ours, CPU time", {"published script": points}, comment=comment)]


def scaling(asked, peers: dict) -> list[Result]:
    """Cost of a point against dimension (d^4 numbers are drawn, and d^6 operations follow) and draws."""
    axes = {
        "dimension": ((5, 10, 20), lambda d: partial(errors, jax.random.key(0), d, d, 2)),
        "draws": ((2, 8, 32), lambda draws: partial(errors, jax.random.key(0), 5, 5, draws)),
    }
    return [growth("Task diversity: growth", "dimension or draws", axes, min(asked.rounds, 3))]


def main() -> None:
    run("task_diversity", "Task diversity of linear attention", __doc__, dict(figure=figure, scaling=scaling))


if __name__ == "__main__":
    main()
