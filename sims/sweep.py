"""Sweeps: a table of independent jobs, on any executor, to an array with named axes.

    found = sweep(final_loss, {"depth": [2, 3, 4], "noise": [0.0, 0.1]}, seeds=8, store="results")
    found.final_loss.mean("seed")

A job is one call of a pure function with one value of every axis. By default the jobs run in spawned processes of this
machine, one per core; a killed process costs nothing. With a `store`, what is finished stays, whatever happens, and the
same call goes on from there. A function of arrays alone, such as a theory function, needs no jobs:

    sweep(mode_strength, {"t": t, "s": [1.0, 2.0, 3.0]}, fixed={"u0": 1e-3}, vectorised=True)

A script that calls `sweep` is imported again by its workers, and wants `if __name__ == "__main__":` around the call.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from sims import labelled
from sims import store as stored
from sims.jobs import Outputs, do, origin_of
from sims.named_arrays import named_arrays
from sims.progress import bar
from sims.workers import LocalPool, Setup, completed, default_workers, noting_interrupts

Cells = dict[int, Outputs]
Failures = list[tuple[dict[str, Any], BaseException]]


class Unfinished(RuntimeError):
    """Some jobs failed. `failures`: (configuration, error) of each; `finished`: the others, and NaN in their place."""

    def __init__(self, sentence: str, failures: Failures, finished: xarray.Dataset | None):
        super().__init__(sentence)
        self.failures, self.finished = failures, finished


class Table(NamedTuple):
    """The jobs of a sweep: `axes` by name, in the order of the result, and what every job is given besides."""

    function: Callable
    axes: dict[str, Sequence]
    fixed: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.axes.values())

    @property
    def jobs(self) -> int:
        return int(np.prod(self.shape))

    def configurations(self) -> list[dict[str, Any]]:
        """The arguments of every job along the axes, in the order of the result."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]


class Labels(NamedTuple):
    """What the user calls things, as `sweep` is given it."""

    dims: Mapping[str, Sequence[str]]
    coords: Mapping[str, Any]
    units: Mapping[str, str]


def sweep(
    function: Callable,
    axes: Mapping[str, Any],
    *,
    seeds: int | Sequence[int] | np.ndarray | None = None,
    fixed: Mapping[str, Any] | None = None,
    executor: Executor | str | None = None,
    vectorised: bool = False,
    store: str | Path | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | bool = False,
) -> xarray.Dataset:
    """`function(**config, **fixed)` on the grid of `axes`, as a dataset with these axes named.

    `function`    a pure function to a number, an array, or any pytree of them (a dict, a record). Results are named by
                  their path; a single one has the name of the function.
    `axes`        the values along each axis, by the name of the argument.
    `seeds`       a number of them, or a list: a last axis `seed`, given to the function as `seed=`.
    `executor`    None: spawned processes of this machine; "serial": this process; or any `concurrent.futures.Executor`,
                  such as `dask.distributed.Client(...).get_executor()`.
    `vectorised`  one compiled call over the whole grid by `jax.vmap`, in this process, in place of jobs.
    `store`       a folder that keeps every finished job, under the digest of all that it depends on.
    `dims`        names of the axes that a result has of its own: {"loss": ("step",)}; `coords` the values along them.
                  An argument in `fixed` of that name serves as well.
    `units`       by result or axis.
    `progress`    True: a bar with the time left; or a function that is called with (jobs done, jobs in all).

    A job that raises does not stop the others: at the end `Unfinished` names every configuration that failed, and holds
    the rest. Ctrl-C says how many jobs are finished and kept.
    """
    table = _checked(function, axes, seeds, fixed)
    labels = Labels(dims or {}, coords or {}, units or {})
    if vectorised and executor is not None:
        raise ValueError(f"executor must be None where vectorised is True, got {executor!r}")
    if store is not None:
        labelled.require_netcdf()
        stored.clean(store)
    if vectorised:
        return _dataset(table, _at_once(table, store), labels)
    with (
        bar("sweep", "jobs") if progress is True else contextlib.nullcontext(progress or None) as tell,
        _workers(executor, table.jobs) as workers,
    ):
        cells, failures, kept = _run(table, workers, store, labels, tell)
    finished = _dataset(table, _stacked(cells, table.jobs), labels) if cells else None
    if failures or finished is None:
        raise Unfinished(_sentence(failures, kept, table.jobs), failures, finished) from failures[0][1]
    return finished


def _checked(function: Callable, axes: Mapping, seeds, fixed: Mapping | None) -> Table:
    axes, fixed = dict(axes), dict(fixed or {})
    if seeds is not None:
        if "seed" in axes:
            raise ValueError("seeds must be None where axes has a seed of its own")
        axes["seed"] = list(range(seeds)) if isinstance(seeds, int | np.integer) else seeds
    if not axes:
        raise ValueError("axes must name at least one axis, got none")
    for name, values in axes.items():
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise ValueError(f"{name} must hold at least one value, got {values!r}")
        if name in fixed:
            raise ValueError(f"{name} must be in axes or in fixed, got it in both")
        # NumPy's and JAX's numbers as plain ones: the same value is the same job.
        axes[name] = [v.item() if hasattr(v, "item") and np.ndim(v) == 0 else v for v in values]
    return Table(function, axes, fixed)


@contextlib.contextmanager
def _workers(executor: Executor | str | None, jobs: int) -> Iterator[Executor | None]:
    """The executor that is meant; a pool of our own ends with the sweep."""
    if isinstance(executor, Executor):
        yield executor
    elif executor == "serial" or (executor is None and multiprocessing.current_process().daemon):
        # A worker of somebody else's pool may not start processes.
        yield None
    elif executor is None:
        count = min(jobs, default_workers())
        with LocalPool(count, Setup(jax.config.jax_enable_x64, jax.config.jax_platforms, sharing=count > 1)) as pool:
            yield pool
    else:
        raise ValueError(f"executor must be None, 'serial' or a concurrent.futures.Executor, got {executor!r}")


def _run(table: Table, executor: Executor | None, store, labels: Labels, tell) -> tuple[Cells, Failures, _Kept]:
    """The results of the jobs by their number, those in `store` first, the failures, and what is kept."""
    origin = origin_of(table.function, executor, store)
    configurations = table.configurations()
    given = [{**table.fixed, **configuration} for configuration in configurations]
    settings = [{**origin.depends_on, "arguments": arguments} for arguments in given]
    # What the store lacks stays None.
    found = [None if store is None else stored.get(store, s) for s in settings]
    cells = {i: {str(name): data[name].values for name in data} for i, data in enumerate(found) if data is not None}
    kept = _Kept(store, len(cells))
    failures: Failures = []

    def take(i: int, future) -> None:
        error = CancelledError("its executor cancelled it") if future.cancelled() else future.exception()
        if error is None:
            kept.put(settings[i], future.result())
            error = _misfit(future.result(), cells, table, labels)
        if error is None:
            cells[i] = future.result()
        else:
            failures.append((configurations[i], error))
        if tell:
            tell(len(cells) + len(failures), table.jobs)

    calls = {i: (origin, arguments) for i, arguments in enumerate(given) if i not in cells}
    with noting_interrupts() as interrupted, contextlib.closing(completed(executor, do, calls)) as ended:
        try:
            for i, future in ended:
                take(i, future)
                if interrupted:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise KeyboardInterrupt(kept.sentence(table.jobs)) from None
    return cells, failures, kept


class _Kept:
    """The store of a sweep: a disk that is full must not cost what is in memory."""

    def __init__(self, store, number: int):
        self.store, self.number, self.warned = store, number, False

    def put(self, settings: dict, outputs: Outputs) -> None:
        if self.store is None:
            return
        try:
            stored.put(self.store, settings, xarray.Dataset(labelled.variables(outputs, {})))
            self.number += 1
        except OSError as error:
            if not self.warned:
                warnings.warn(f"{error}; the sweep goes on in memory", stacklevel=5)
            self.warned = True

    def sentence(self, jobs: int) -> str:
        if self.store is None:
            return "interrupted, and nothing is kept: name a store for the finished jobs to stay"
        return f"{self.number} of {jobs} jobs are finished and kept in {self.store}; the same call runs the others"


def _misfit(outputs: Outputs, cells: Cells, table: Table, labels: Labels) -> ValueError | None:
    """Why the results of one job do not fit those of the others; of the first, a refusal of the labels themselves."""
    if not cells:
        # Tried on one job, so that a wrong label costs one job and not all.
        one = table._replace(axes={name: values[:1] for name, values in table.axes.items()})
        _dataset(one, _stacked({0: outputs}, 1), labels)
        return None
    first = next(iter(cells.values()))
    shapes, expected = ({name: x.shape for name, x in some.items()} for some in (outputs, first))
    return None if shapes == expected else ValueError(f"it returned {shapes}, the first of the others {expected}")


def _stacked(cells: Cells, jobs: int) -> Outputs:
    """The results with a leading axis of jobs; NaN (or an empty word) where one is missing."""
    stacked = {}
    for name, x in next(iter(cells.values())).items():
        dtype = np.result_type(*{outputs[name].dtype for outputs in cells.values()})
        if len(cells) < jobs and dtype.kind in "biu":
            dtype = np.dtype(float)
        missing = "" if dtype.kind == "U" else np.nan if dtype.kind in "fc" else 0
        stacked[name] = np.full((jobs, *x.shape), missing, dtype)
        for i, outputs in cells.items():
            stacked[name][i] = outputs[name]
    return stacked


def _at_once(table: Table, store) -> Outputs:
    """The results with a leading axis of jobs, from one compiled call over all of them."""
    origin = origin_of(table.function, None, store)
    settings = {**origin.depends_on, "axes": table.axes, "fixed": table.fixed}
    if store is not None and (found := stored.get(store, settings)) is not None:
        return {str(name): found[name].values for name in found}
    places = np.unravel_index(np.arange(table.jobs), table.shape)
    columns = {}
    for place, (name, values) in zip(places, table.axes.items(), strict=True):
        if (along := np.asarray(values)).dtype.kind not in "biufc":
            raise ValueError(f"{name} must hold numbers where vectorised is True, got {values!r}")
        columns[name] = jnp.asarray(along)[place]
    try:
        found = jax.jit(jax.vmap(lambda run: table.function(**run, **table.fixed)))(columns)
    except jax.errors.JAXTypeError as error:
        raise ValueError(
            f"vectorised must be False for {origin.called}: it wants plain numbers of {', '.join(table.axes)}"
        ) from error
    outputs = named_arrays(found, origin.called)
    _Kept(store, 0).put(settings, outputs)
    return outputs


def _dataset(table: Table, stacked: Outputs, labels: Labels) -> xarray.Dataset:
    names = tuple(table.axes)
    arrays = {name: x.reshape(*table.shape, *x.shape[1:]) for name, x in stacked.items()}
    variables = labelled.variables(arrays, labels.dims, names)
    own = {name for axes, _ in variables.values() for name in axes if name not in names}
    coords = {name: np.asarray(values) for name, values in table.axes.items()}
    coords = {name: x if x.ndim == 1 else np.arange(len(x)) for name, x in coords.items()}
    coords |= {name: x for name, x in table.fixed.items() if name in own and np.ndim(x) == 1}
    return labelled.dataset(variables, {**coords, **labels.coords}, labels.units)


def _sentence(failures: Failures, kept: _Kept, jobs: int, most: int = 10) -> str:
    """Which configurations failed, and why."""
    others = f"; {kept.number} are kept in {kept.store}" if kept.store is not None else ""
    lines = [f"{len(failures)} of {jobs} jobs failed{others}"]
    for configuration, error in failures[:most]:
        words = ", ".join(f"{name}={value!r}" for name, value in configuration.items())
        lines.append(f"  {words}: {_why(error)}")
    return "\n".join([*lines, *(["  ..."] if len(failures) > most else [])])


def _why(error: BaseException) -> str:
    if isinstance(error, CancelledError):
        return "lost, its executor cancelled it (a scheduler that is gone?)"
    if isinstance(error, BrokenExecutor):
        return "its worker process was killed (out of memory?)"
    return f"{type(error).__name__}: {error}"
