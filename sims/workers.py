"""Worker processes: spawned, with JAX set up before it starts, on this machine or on any executor.

`completed(executor, call, arguments)` hands many independent jobs to a `concurrent.futures.Executor` and yields
each as it ends. `LocalPool` is one that survives a killed worker: its jobs are started again in new processes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

from sims.compilation import ONE_AT_A_TIME, collect_seldom, quick_compilation


class Setup(NamedTuple):
    """How JAX is set up in a worker.

    `x64`        float64 or float32, as in the process that sends the work; None leaves what the environment says.
    `platforms`  what JAX may run on ("cpu"), None for its own choice.
    `quick`      compile quickly: for programs that take longer to compile than to run.
    `sharing`    workers that share the cores are faster with one thread each.
    """

    x64: bool | None = None
    platforms: str | None = None
    quick: bool = False
    sharing: bool = False


def set_up(setup: Setup) -> None:
    """Set JAX up in this process, before its first computation; what the user's XLA_FLAGS say wins."""
    flags = [quick_compilation() if setup.quick else ONE_AT_A_TIME]
    if setup.sharing:
        flags.append("--xla_cpu_multi_thread_eigen=false")
    if setup.quick:
        collect_seldom()
    own = os.environ.get("XLA_FLAGS", "")
    # XLA takes the last of two that differ.
    os.environ["XLA_FLAGS"] = " ".join([*(flag for flag in flags if flag not in own), own]).strip()
    if setup.x64 is not None:
        os.environ["JAX_ENABLE_X64"] = str(int(setup.x64))
    if setup.platforms:
        os.environ["JAX_PLATFORMS"] = setup.platforms
    if "jax" in sys.modules:
        # A script that is imported again by its workers has imported JAX before the variables were set.
        import jax

        if setup.x64 is not None:
            jax.config.update("jax_enable_x64", setup.x64)
        if setup.platforms:
            jax.config.update("jax_platforms", setup.platforms)


def default_workers() -> int:
    """One worker per core; on an accelerator one in all, which fills it by itself."""
    if Path("/dev/nvidia0").exists() and os.environ.get("JAX_PLATFORMS", "") != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def noting_interrupts() -> Iterator[list[bool]]:
    """A list that holds something once Ctrl-C was pressed; `KeyboardInterrupt` is raised as ever.

    An exception that is raised inside a garbage-collector callback is lost: hence also the note.
    """
    noted: list[bool] = []

    def note(*_):
        noted.append(True)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals, and it alone gets the exception.
        yield noted
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def completed(
    executor: Executor | None, call: Callable, arguments: Mapping[Hashable, tuple]
) -> Iterator[tuple[Any, Future]]:
    """`call(*arguments[key])` for every key: yields (key, its ended future), in the order in which they end.

    With no executor they run here, one after the other. A future that was cancelled by somebody else, or that holds a
    `BrokenExecutor`, was lost with its worker or its scheduler. A `LocalPool` is built anew; where that does not help,
    each of the jobs that were under way is tried once more alone, so that a greedy one does not cost its neighbours.
    """
    if executor is None:
        yield from _one_after_the_other(_run_here, call, arguments)
        return
    left = dict(arguments)
    while left:
        before = len(left)
        for key, future in _as_they_end(executor, call, dict(left)):
            if not (isinstance(executor, LocalPool) and is_lost(future)):
                del left[key]
                yield key, future
        if left:
            executor.renew()
        if len(left) == before:
            # They are started in order, and one more than there are workers is under way.
            suspects = {key: left.pop(key) for key in list(left)[: executor.workers + 1]}
            yield from _one_after_the_other(executor.alone, call, suspects)


def is_lost(future: Future) -> bool:
    """Whether an ended job was lost with its worker or its scheduler, and may be run again."""
    return future.cancelled() or isinstance(future.exception(), BrokenExecutor)


def _as_they_end(executor: Executor, call: Callable, arguments: Mapping) -> Iterator[tuple[Any, Future]]:
    futures = {_submitted(executor, call, given): key for key, given in arguments.items()}
    try:
        for future in as_completed(list(futures)):
            # A scheduler keeps, and computes again, what somebody still holds.
            yield futures.pop(future), future
    finally:
        # Whoever stops listening (Ctrl-C, an error of his own) wants no more of it.
        for future in futures:
            future.cancel()


def _submitted(executor: Executor, call: Callable, given: tuple) -> Future:
    try:
        return executor.submit(call, *given)
    except BrokenExecutor as broken:
        return _ended(exception=broken)


def _one_after_the_other(run: Callable, call: Callable, arguments: Mapping) -> Iterator[tuple[Any, Future]]:
    for key, given in arguments.items():
        yield key, run(call, given)


def _run_here(call: Callable, given: tuple) -> Future:
    try:
        return _ended(call(*given))
    except Exception as error:
        # As an executor would: whatever a job raises is its own affair.
        return _ended(exception=error)


def _ended(result: Any = None, exception: BaseException | None = None) -> Future:
    future: Future = Future()
    if exception is None:
        future.set_result(result)
    else:
        future.set_exception(exception)
    return future


class LocalPool(Executor):
    """Spawned processes of this machine; `renew` builds them anew after one was killed.

    Ctrl-C in a terminal reaches every process of it: the workers leave it to the one that sent the work. They end with
    it, however it ends.
    """

    def __init__(self, workers: int, setup: Setup | None = None):
        self.workers, self.setup = workers, setup or Setup()
        self._context = multiprocessing.get_context("spawn")
        self._pool: ProcessPoolExecutor | None = None
        self._started = self._context.SimpleQueue()

    def submit(self, fn, /, *args, **kwargs):
        if self._pool is None:
            initial = (self.setup, self._started)
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=self._context, initializer=_begin_work, initargs=initial
            )
        return self._pool.submit(fn, *args, **kwargs)

    def renew(self) -> None:
        """Forget the processes, so that the next job starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def alone(self, call: Callable, given: tuple) -> Future:
        """One job in a process of its own."""
        with LocalPool(1, self.setup) as pool:
            future = pool.submit(call, *given)
            future.exception()
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def __exit__(self, kind, *_):
        if kind is not None:
            self._stop()
        self.shutdown(cancel_futures=True)

    def _stop(self) -> None:
        """End the processes with whatever they are at."""
        ours = set()
        while not self._started.empty():
            ours.add(self._started.get())
        for process in multiprocessing.active_children():
            if process.pid in ours:
                process.kill()


def _begin_work(setup: Setup, started) -> None:
    """A worker's first act."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started.put(os.getpid())
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    set_up(setup)


def _end_with(sentinel) -> None:
    wait([sentinel])
    os._exit(1)
