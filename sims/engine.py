"""The engine: three pure functions in, the trajectories of every run of a sweep out.

    runs = grid(seeds=8, lr=[0.1, 0.05])
    trajectory = simulate(Simulation(init, step, record), runs, record_at=every(1000, 10))
    trajectory.records["loss"]      # (runs, times)

All runs (seeds x hyperparameters) live in one compiled program: `vmap`, `lax.map` or batches of runs, whichever suits
what a step computes and the device (`sims.batching`), sharded over all local devices (and over hosts, see
`sims.hosts`). The host owns the time loop over compiled chunks, so progress and checkpoints need no callbacks, and a
run that is stopped and resumed is bit-identical to one that was not.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sims import checkpoints, hosts
from sims.batching import chosen
from sims.compilation import optimisations
from sims.progress import bar

State = Any
Hyper = Any
Records = Any


class Simulation(NamedTuple):
    """`init(key, hyper) -> state`, `step(state) -> state`, `record(state) -> pytree of small arrays`.

    All three are pure and are traced once. A state is a pytree of arrays and keys: what a step needs (learning
    rate, data, its own key and step count) is in it.
    """

    init: Callable[[jax.Array, Hyper], State]
    step: Callable[[State], State]
    record: Callable[[State], Records]


class Runs(NamedTuple):
    """The runs of a sweep. `seeds` (runs,); each leaf of `hyper` has a leading axis of runs; `shape` is the grid's.

    `names` are those of the grid's axes, as `grid` was given them; none where the runs were put together by hand.
    """

    seeds: np.ndarray
    hyper: Hyper
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()


class Trajectory(NamedTuple):
    """What was recorded. Each leaf of `records` is (runs, times, ...), of `state` (the last one) is (runs, ...).

    `batching` says how the runs were batched: "vmap", "map", or how many at a time.
    """

    runs: Runs
    steps: np.ndarray
    records: Records
    state: State
    batching: str | int | None = None

    def on_grid(self) -> Records:
        """The records with the runs axis unfolded: (seeds, first hyperparameter, ..., times, ...)."""
        return jax.tree.map(lambda x: x.reshape(self.runs.shape + x.shape[1:]), self.records)


def grid(seeds: int | Sequence[int] | np.ndarray = 1, **axes: Sequence | np.ndarray | jax.Array) -> Runs:
    """Every combination of `seeds` (a number of them, or a list) and of the values along each named axis.

    A value may be a scalar or an array; the hyperparameters of a run are a dict by name. With no axes
    `hyper` is an empty dict.
    """
    seeds = list(range(seeds)) if isinstance(seeds, int | np.integer) else list(seeds)
    shape = (len(seeds), *(len(values) for values in axes.values()))
    if 0 in shape:
        empty = "seeds" if not seeds else next(name for name, v in axes.items() if len(v) == 0)
        raise ValueError(f"{empty} must hold at least one value, got none")
    combinations = list(itertools.product(seeds, *axes.values()))
    hyper = {name: np.stack([c[1 + i] for c in combinations]) for i, name in enumerate(axes)}
    return Runs(np.array([c[0] for c in combinations]), hyper, shape, ("seed", *axes))


def every(steps: int, interval: int) -> np.ndarray:
    """Record at step 0 and then every `interval` steps up to `steps`."""
    if steps < 0 or interval < 1:
        raise ValueError(f"steps must be >= 0 and interval >= 1, got {steps} and {interval}")
    return np.arange(0, steps + 1, interval)


def simulate(
    simulation: Simulation,
    runs: Runs,
    record_at: Sequence[int] | np.ndarray,
    *,
    batching: str | int = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    chunks: int = 20,
    progress: Callable[[int, int], None] | bool = False,
    optimised: bool = False,
) -> Trajectory:
    """Run every run of `runs`, recording at the steps `record_at` (increasing, from 0 on).

    `batching`    "vmap", "map" (one run after the other inside the program), a number (so many runs at a time) or
                  "auto": the fastest on this device, as measured; the trajectory says which it was.
    `checkpoint`  a file to save to every `checkpoint_every` seconds and when interrupted, and to resume from. It
                  refuses to continue another configuration. `session(folder)` names one for every simulation. Each
                  of several hosts has its own, with its number in the name.
    `chunks`      into how many compiled calls the time axis is cut (the result does not depend on it).
    `progress`    True: a bar with the time left; or a function that is called with (steps done, steps in all).
    `optimised`   compile with XLA's optimisations, also where its flags ask for quick compilation: for thousands of
                  steps of a network with attention, which are three times as fast.
    """
    record_at = _checked_times(record_at)
    _checked_runs(runs)
    everyones = runs
    if jax.process_count() > 1:
        own = hosts.own_part(len(runs.seeds))
        runs = Runs(np.asarray(runs.seeds)[own], jax.tree.map(lambda x: x[own], runs.hyper), own.shape)
    devices = tuple(jax.local_devices())
    together = -(-len(runs.seeds) // len(devices))
    batching = chosen(simulation.init, simulation.step, runs.hyper, together, batching)
    surrounding = _SESSION.get()
    settings = {}
    if checkpoint is not None or surrounding.folder is not None:
        settings = checkpoints.settings_of(simulation, runs.seeds, runs.hyper, record_at)
        default = (surrounding.folder or Path()) / f"{checkpoints.digest_of(settings)[:20]}.npz"
        checkpoint = hosts.own_file(Path(checkpoint or default))
    # The next chunk may overwrite a state that nobody will save: half the memory, and a copy less.
    program = _program(simulation, batching, devices, optimised, donated=checkpoint is None)

    if checkpoint is not None and checkpoint.exists():
        like = jax.eval_shape(program.start, runs.seeds, runs.hyper)
        done, records, state = checkpoints.load(checkpoint, settings, like)
    else:
        done, records, state = 0, [], program.start(runs.seeds, runs.hyper)
    finished = Finished(done, records, program.padded(state))

    def save(finished: Finished) -> None:
        if checkpoint is not None and finished.done > done:
            _save(checkpoint, settings, len(runs.seeds), finished)

    size = -(-len(record_at) // max(1, min(chunks, len(record_at))))
    with bar() if progress is True else contextlib.nullcontext(progress or surrounding.progress) as tell:
        finished = _advanced(program, finished, len(runs.seeds), record_at, size, tell, save, checkpoint_every)
    columns = [np.concatenate(column, axis=1) for column in zip(*finished.records, strict=True)]
    records = jax.tree.unflatten(program.form(finished.state), columns)
    state = jax.tree.map(lambda x: x[: len(runs.seeds)], finished.state)
    if everyones is not runs:
        records, state = hosts.gathered((records, state), len(everyones.seeds))
    return Trajectory(everyones, record_at, records, state, batching)


class Finished(NamedTuple):
    """What is finished so far: how many records, their leaves chunk by chunk, and the state after the last."""

    done: int
    records: list[list[np.ndarray]]
    state: State


def _advanced(program, finished: Finished, runs: int, record_at, size: int, tell, save, save_every) -> Finished:
    """The host's loop over compiled chunks of `size` records, from what is finished to the last record."""
    gaps = np.diff(record_at, prepend=0)
    saved = time.monotonic()
    try:
        while finished.done < len(record_at):
            now = gaps[finished.done : finished.done + size]
            state, recorded = program.advance(finished.state, np.pad(now, (0, size - len(now))))
            kept = [np.asarray(x)[:runs, : len(now)] for x in jax.tree.leaves(recorded)]
            # One assignment: Ctrl-C never finds it half-way.
            finished = Finished(finished.done + len(now), [*finished.records, kept], state)
            if tell:
                tell(int(record_at[finished.done - 1]), int(record_at[-1]))
            if time.monotonic() - saved > save_every:
                save(finished)
                saved = time.monotonic()
    finally:
        # Also on Ctrl-C and on any error: what is finished is kept.
        save(finished)
    return finished


def _save(checkpoint: Path, settings: dict, runs: int, finished: Finished) -> None:
    """Save what is finished; a disk that is full must not cost the run that is in memory."""
    try:
        checkpoints.save(checkpoint, settings, runs, *finished)
    except OSError as error:
        warnings.warn(f"checkpoint {checkpoint} could not be written, the run goes on: {error}", stacklevel=3)


class Program(NamedTuple):
    """The compiled parts of one simulation, for one way of batching and one set of devices."""

    start: Callable[[Any, Hyper], State]
    advance: Callable[[State, Any], tuple[State, Records]]
    padded: Callable[[Any], Any]
    form: Callable[[State], Any]


@functools.lru_cache(maxsize=16)
def _program(simulation: Simulation, batching: str | int, devices: tuple, optimised: bool, donated: bool) -> Program:
    """Cached, so that the same simulation, run again, is not compiled again.

    `donated` states are gone once `advance` is called: Ctrl-C during a chunk would find nothing left to save.
    """
    root = jax.random.key(0)
    at_a_time = batching if isinstance(batching, int) else None

    def begin(seed, hyper):
        return simulation.init(jax.random.fold_in(root, seed), hyper)

    def advance(state, gaps):
        def interval(state, gap):
            state = jax.lax.fori_loop(0, gap, lambda _, s: simulation.step(s), state)
            return state, simulation.record(state)

        return jax.lax.scan(interval, state, gaps)

    def begin_all(seeds, hyper):
        if batching == "vmap":
            return jax.vmap(begin)(seeds, hyper)
        return jax.lax.map(lambda run: begin(*run), (seeds, hyper), batch_size=at_a_time)

    def advance_all(states, gaps):
        if batching == "vmap":
            return jax.vmap(advance, in_axes=(0, None))(states, gaps)
        return jax.lax.map(lambda state: advance(state, gaps), states, batch_size=at_a_time)

    if len(devices) > 1:
        mesh = jax.sharding.Mesh(np.array(devices), ("runs",))
        over_runs, whole = PartitionSpec("runs"), PartitionSpec()
        advance_all = jax.shard_map(
            advance_all,
            mesh=mesh,
            in_specs=(over_runs, whole),
            out_specs=over_runs,
            check_vma=False,
        )

    def padded(tree):
        """`tree` with its runs axis repeated at the end to a multiple of the number of devices."""
        if len(devices) == 1:
            return tree
        short = -len(jax.tree.leaves(tree)[0]) % len(devices)
        tree = jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * short]), tree)
        return jax.device_put(tree, NamedSharding(mesh, over_runs))

    def form(states):
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), states)
        return jax.tree.structure(jax.eval_shape(simulation.record, one))

    options = optimisations() if optimised and jax.default_backend() == "cpu" else None
    forward = jax.jit(advance_all, compiler_options=options, donate_argnums=0 if donated else ())
    return Program(jax.jit(begin_all), forward, padded, form)


def _checked_times(record_at: Sequence[int] | np.ndarray) -> np.ndarray:
    steps = np.asarray(record_at)
    whole = steps.ndim == 1 and steps.size and np.issubdtype(steps.dtype, np.integer)
    if not whole or steps[0] < 0 or (np.diff(steps) <= 0).any():
        raise ValueError(f"record_at must be increasing step numbers from 0 on, got {record_at!r}")
    return steps


def _checked_runs(runs: Runs) -> None:
    seeds = np.asarray(runs.seeds)
    if seeds.ndim != 1 or not seeds.size or seeds.min() < 0 or seeds.max() >= 2**32:
        raise ValueError(f"seeds must be whole numbers from 0 to 2**32 - 1, got {runs.seeds!r}")
    for path, leaf in jax.tree.leaves_with_path(runs.hyper):
        if np.shape(leaf)[:1] != (len(seeds),):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"hyper{name} must have a leading axis of {len(seeds)} runs, got shape {np.shape(leaf)}")


class Session(NamedTuple):
    """What surrounds a call of `simulate`: where checkpoints go by default, and who hears of progress."""

    folder: Path | None = None
    progress: Callable[[int, int], None] | None = None


_NO_SESSION = Session()
_SESSION: contextvars.ContextVar[Session] = contextvars.ContextVar("session", default=_NO_SESSION)


@contextlib.contextmanager
def session(folder: str | Path | None = None, progress: Callable[[int, int], None] | None = None) -> Iterator[None]:
    """Within the block every `simulate` keeps its checkpoint in `folder`, under the digest of its settings.

    Run the block again and each simulation takes up where it was stopped; a changed one starts afresh.
    """
    token = _SESSION.set(Session(None if folder is None else Path(folder), progress))
    try:
        yield
    finally:
        _SESSION.reset(token)
