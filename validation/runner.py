"""Runs studies in worker processes: one broken study, or a stop half-way, costs nothing that is finished.

Workers are spawned, never forked (JAX hangs in a forked child), take study names from a queue and tell of their
progress through another. A stopped study leaves checkpoints, from which `resume=True` goes on. On an executor, such as
that of a cluster, a study is one job that returns the contents of its files.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple

from sims.compilation import forget_compiled
from sims.workers import Setup, completed, noting_interrupts, set_up


class Options(NamedTuple):
    """How to run: the size, the seed, where to, and whether to go on from what is there."""

    size: str
    seed: int
    out: Path
    resume: bool
    keep: bool = False


class Event(NamedTuple):
    """What a worker says: `what` is "started", "progress" (done, total), "finished" (summary) or "failed" (why)."""

    what: str
    study: str
    content: Any = None


def run(
    names: Sequence[str],
    options: Options,
    jobs: int,
    listen: Callable[[Event], None],
    executor: Executor | None = None,
) -> dict[str, dict[str, Any]]:
    """Run the studies `names`; returns each study's summary, or {"error": why} of a broken one.

    They run in `jobs` processes of this machine, or on `executor`, which may be another one: then the files of a result
    travel back and are written here. On `KeyboardInterrupt` the workers are asked to stop, which saves their
    checkpoints (of this machine), and it is raised again; what is finished lies in `options.out`. A scheduler that is
    gone raises `ConnectionError`.
    """
    source = _in_processes(names, options, jobs) if executor is None else _elsewhere(names, options, executor)
    done: dict[str, dict[str, Any]] = {}
    with noting_interrupts() as interrupted, contextlib.closing(source) as events:
        for event in events:
            if interrupted:
                raise KeyboardInterrupt
            if event is None:
                continue
            listen(event)
            if event.what == "finished":
                done[event.study] = event.content
            elif event.what == "failed":
                done[event.study] = {"study": event.study, "holds": False, "error": event.content}
    return {name: done[name] for name in names}


def _in_processes(names: Sequence[str], options: Options, jobs: int) -> Iterator[Event | None]:
    """What the workers of this machine say, until every study is finished or failed; None while they are silent."""
    context = multiprocessing.get_context("spawn")
    tasks, events = context.Queue(), context.Queue()
    for name in names:
        tasks.put(name)
    workers = [_start(context, tasks, events, options, jobs) for _ in range(min(jobs, len(names)))]
    # Studies under way by the number of their process, and how many have ended.
    running: dict[int, str] = {}
    ended = 0
    try:
        while ended < len(names):
            sender, event = _heard(events)
            if event is None:
                # A worker that is gone took its study with it (out of memory, killed): say so, go on.
                gone = {worker: worker.exitcode for worker in workers if worker.exitcode is not None}
                lost = [(running.pop(worker.pid), code) for worker, code in gone.items() if worker.pid in running]
                ended += len(lost)
                workers = [worker for worker in workers if worker not in gone]
                for _ in range(min(jobs, len(names) - ended) - len(workers)):
                    workers.append(_start(context, tasks, events, options, jobs))
                yield from (Event("failed", study, f"its process ended with exit code {code}") for study, code in lost)
            elif event.what == "started":
                running[sender] = event.study
            elif event.what != "progress":
                running.pop(sender, None)
                ended += 1
            yield event
    finally:
        _stop(workers)
        for channel in (tasks, events):
            channel.cancel_join_thread()
            channel.close()


def _heard(events, patience: float = 0.5) -> tuple[int, Event | None]:
    """The next event and the process it comes from; None after some silence."""
    try:
        return events.get(timeout=patience)
    except queue.Empty:
        return 0, None


def _start(context, tasks, events, options: Options, jobs: int):
    worker = context.Process(target=_work, args=(tasks, events, options, jobs), daemon=True)
    worker.start()
    return worker


def _stop(workers, patience: float = 10.0) -> None:
    """Ask idle or interrupted workers to end; SIGINT lets the engine save its checkpoint."""
    for worker in workers:
        if worker.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGINT)
    for worker in workers:
        worker.join(patience)
        if worker.is_alive():
            worker.kill()


def _work(tasks, events, options: Options, jobs: int) -> None:
    """A worker's life: studies from the queue, one after the other, until it is told to stop."""
    set_up(Setup(x64=float64(), quick=options.size == "smoke", sharing=jobs > 1))

    with contextlib.suppress(KeyboardInterrupt), noting_interrupts() as stopped:

        def tell(what, study, content=None):
            if stopped:
                raise KeyboardInterrupt
            events.put((os.getpid(), Event(what, study, content)))

        while not stopped:
            name = tasks.get()
            tell("started", name)
            try:
                summary = run_one(name, options, lambda *steps, name=name: tell("progress", name, steps))
                tell("finished", name, summary)
            except Exception as error:
                # Whatever a study's code raises must not stop the other studies.
                tell("failed", name, f"{type(error).__name__}: {error}")
            _clear_up(stopped)


def _clear_up(stopped: list[bool]) -> None:
    """Between studies, forget what was compiled before the process is full: there a study takes up to twice as long."""
    # Ctrl-C is noted and waits: a `KeyboardInterrupt` within the garbage collector's callbacks would only be printed.
    before = signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    try:
        forget_compiled()
    finally:
        signal.signal(signal.SIGINT, before)


def float64() -> bool:
    """Whether studies run in float64: unless the user's JAX_ENABLE_X64 says otherwise."""
    return os.environ.get("JAX_ENABLE_X64", "1").lower() in ("1", "true", "t", "yes", "y", "on")


def _elsewhere(names: Sequence[str], options: Options, executor: Executor) -> Iterator[Event]:
    """Finished and failed studies, in the order in which their files come back and are written."""
    from validation import results

    code = results.code_and_versions()
    calls = {}
    for name in names:
        if (summary := _finished_before(name, options)) is not None:
            yield Event("finished", name, summary)
            continue
        try:
            _forget(name, options)
        except ValueError as error:
            yield Event("failed", name, str(error))
            continue
        calls[name] = (name, options.size, options.seed, float64(), code)
    lost = []
    with contextlib.closing(completed(executor, files_of_study, calls)) as ended:
        for name, future in ended:
            if future.cancelled():
                # Others may have come back before: they are taken first.
                lost.append(name)
            else:
                yield _received(name, options, future)
    if lost:
        raise ConnectionError(f"the scheduler is gone: {len(lost)} of {len(names)} studies are not finished")


def _received(name: str, options: Options, future: Future) -> Event:
    """The files that came back, written; or why there are none."""
    from validation import results

    try:
        files = future.result()
        if isinstance(files, str):
            return Event("failed", name, files)
        results.write_files(results.folder_of(options.out, name, options.size), files)
        summary = results.read(options.out, name, options.size)
        if summary is None:
            raise ValueError("its worker sent back the result of something else")
        if options.keep and options.size == "paper":
            results.keep(summary)
        return Event("finished", name, summary)
    except Exception as error:
        # A worker that was killed again and again, a disk that is full: the other studies go on.
        return Event("failed", name, f"{type(error).__name__}: {error}")


_ONE_AT_A_TIME = threading.Lock()


def files_of_study(name: str, size: str, seed: int, x64: bool, code: str) -> dict[str, bytes] | str:
    """Run and judge one study in whatever process; returns the contents of its files, or why there are none."""
    set_up(Setup(x64, quick=size == "smoke"))
    os.environ.setdefault("MPLBACKEND", "Agg")
    from validation import results
    from validation.study import check, find

    if results.code_and_versions() != code:
        return "its worker has other code or versions than this process: install the same there, and start it anew"
    # Figures, and what JAX was told of precision, belong to a process: its threads take turns.
    with _ONE_AT_A_TIME:
        try:
            study = find(name)
            outcome = check(study, size=size, seed=seed)
            return results.files_of(results.summary_of(name, study, size, seed, outcome), study, outcome)
        except Exception as error:
            # As words: not every error can travel.
            return f"{type(error).__name__}: {error}"


def run_one(name: str, options: Options, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Run and judge one study in this process, write its results, return its summary."""
    from sims import engine
    from validation import results
    from validation.study import check, find

    if (finished := _finished_before(name, options)) is not None:
        return finished
    study = find(name)
    if not options.resume:
        _forget(name, options)
    with engine.session(_checkpoints(name, options), progress):
        outcome = check(study, size=options.size, seed=options.seed)
    summary = results.summary_of(name, study, options.size, options.seed, outcome)
    results.write(options.out, summary, study, outcome)
    if options.keep and options.size == "paper":
        results.keep(summary)
    # The verdicts stand: the states that led to them are no longer needed.
    shutil.rmtree(_checkpoints(name, options), ignore_errors=True)
    return summary


def _finished_before(name: str, options: Options) -> dict[str, Any] | None:
    """The result of an earlier run with the same code, settings and seed, where `options` ask for it."""
    from validation import results
    from validation.study import find

    if not options.resume or (finished := results.read(options.out, name, options.size)) is None:
        return None
    digest = results.digest_of(name, find(name).sizes[options.size], options.seed)
    return finished if finished.get("digest") == digest else None


def _forget(name: str, options: Options) -> None:
    """Remove what an earlier run left of a study."""
    from validation import results

    shutil.rmtree(results.folder_of(options.out, name, options.size), ignore_errors=True)
    shutil.rmtree(_checkpoints(name, options), ignore_errors=True)


def _checkpoints(name: str, options: Options) -> Path:
    from validation import results

    return results.within(options.out, "checkpoints", name, options.size)
