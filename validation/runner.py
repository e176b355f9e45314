"""Runs studies in worker processes: one broken study, or a stop half-way, costs nothing that is finished.

Workers are spawned, never forked (JAX hangs in a forked child), take study names from a queue and tell of their
progress through another. A stopped study leaves checkpoints, from which `resume=True` goes on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sims.compilation import ONE_AT_A_TIME, quick_compilation


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


@contextlib.contextmanager
def noting_interrupts():
    """A list that holds something once Ctrl-C was pressed; `KeyboardInterrupt` is raised as ever.

    An exception that is raised inside a garbage-collector callback is lost: hence also the note.
    """
    noted = []

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


def run(
    names: Sequence[str], options: Options, jobs: int, listen: Callable[[Event], None]
) -> dict[str, dict[str, Any]]:
    """Run the studies `names`, `jobs` at a time; returns each study's summary, or {"error": why} of a broken one.

    On `KeyboardInterrupt` the workers are asked to stop, which saves their checkpoints, and it is raised again;
    what is finished lies in `options.out`.
    """
    context = multiprocessing.get_context("spawn")
    tasks, events = context.Queue(), context.Queue()
    for name in names:
        tasks.put(name)
    workers = [_start(context, tasks, events, options, jobs) for _ in range(min(jobs, len(names)))]
    running, done = {}, {}
    with noting_interrupts() as interrupted:
        try:
            while len(done) < len(names):
                if interrupted:
                    raise KeyboardInterrupt
                try:
                    sender, event = events.get(timeout=0.5)
                except queue.Empty:
                    for worker in [w for w in workers if w.exitcode is not None]:
                        # A worker that is gone took its study with it (out of memory, killed): say so, go on.
                        workers.remove(worker)
                        lost = running.pop(worker.pid, None)
                        if lost is not None:
                            why = f"its process ended with exit code {worker.exitcode}"
                            done[lost] = {"study": lost, "holds": False, "error": why}
                            listen(Event("failed", lost, why))
                        if len(done) + len(running) < len(names):
                            workers.append(_start(context, tasks, events, options, jobs))
                    continue
                listen(event)
                if event.what == "started":
                    running[sender] = event.study
                elif event.what in ("finished", "failed"):
                    running.pop(sender, None)
                    failed = {"study": event.study, "holds": False, "error": event.content}
                    done[event.study] = event.content if event.what == "finished" else failed
        finally:
            _stop(workers)
            for channel in (tasks, events):
                channel.cancel_join_thread()
                channel.close()
    return {name: done[name] for name in names}


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
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    flags = [os.environ.get("XLA_FLAGS", "")]
    if jobs > 1:
        # Workers that share the cores are faster with one thread each.
        flags.append("--xla_cpu_multi_thread_eigen=false")
    flags.append(quick_compilation() if options.size == "smoke" else ONE_AT_A_TIME)
    # What the user set comes last and wins.
    os.environ["XLA_FLAGS"] = " ".join(reversed(flags)).strip()

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


def run_one(name: str, options: Options, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Run and judge one study in this process, write its results, return its summary."""
    from sims import engine
    from validation import results
    from validation.study import check, find

    study = find(name)
    if options.resume:
        finished = results.read(options.out, name, options.size)
        digest = results.digest_of(name, study.sizes[options.size], options.seed)
        if finished is not None and finished.get("digest") == digest:
            return finished
    checkpoints = Path(options.out) / "checkpoints" / name / options.size
    if not options.resume:
        shutil.rmtree(results.folder_of(options.out, name, options.size), ignore_errors=True)
        shutil.rmtree(checkpoints, ignore_errors=True)
    with engine.session(checkpoints, progress):
        outcome = check(study, size=options.size, seed=options.seed)
    summary = results.summary_of(name, study, options.size, options.seed, outcome)
    results.write(options.out, summary, study, outcome)
    if options.keep and options.size == "paper":
        results.keep(summary)
    # The verdicts stand: the states that led to them are no longer needed.
    shutil.rmtree(checkpoints, ignore_errors=True)
    return summary
