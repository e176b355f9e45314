"""Jobs in processes: a killed one costs nothing, a greedy one only itself, and nobody is left behind."""

import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from sims.workers import LocalPool, Setup, completed, is_lost, noting_interrupts, set_up

HERE = str(Path(__file__).parent)
# Worker processes are given the path, and import it from there.
sys.path.append(HERE)
jobs = importlib.import_module("sweep_jobs")


def until(condition, seconds=120.0):
    """Wait for `condition()`, and say whether it came."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def calls(folder, numbers=range(5)):
    return {x: (folder, x) for x in numbers}


def test_a_killed_process_costs_no_job(tmp_path):
    with LocalPool(2) as pool:
        found = {x: future.result() for x, future in completed(pool, jobs.killed_once, calls(tmp_path))}
    assert (tmp_path / "killed").exists()
    assert found == {x: 2.0 * x for x in range(5)}


def test_a_job_that_always_ends_its_process_costs_only_itself(tmp_path):
    with LocalPool(2) as pool:
        futures = dict(completed(pool, jobs.greedy, calls(tmp_path)))
    assert set(futures) == set(range(5))
    assert isinstance(futures.pop(2).exception(), BrokenProcessPool)
    assert {x: future.result() for x, future in futures.items()} == {x: 2.0 * x for x in (0, 1, 3, 4)}


def test_whoever_stops_listening_leaves_no_process(tmp_path):
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt), LocalPool(2) as pool:
        for _ in completed(pool, jobs.waiting, calls(tmp_path)):
            raise KeyboardInterrupt
    assert until(lambda: set(multiprocessing.active_children()) <= before)


def test_workers_leave_ctrl_c_to_whoever_sent_the_work(tmp_path):
    with LocalPool(1) as pool:
        pool.submit(jobs.own_number, tmp_path).result()
        (number,) = (int(file.name.partition("-")[2]) for file in tmp_path.glob("process-*"))
        future = pool.submit(jobs.waiting, tmp_path, 2)
        assert until(lambda: list(tmp_path.glob("2-*")))
        os.kill(number, signal.SIGINT)
        (tmp_path / "go").touch()
        assert future.exception() is None


PARENT = """
import sys
sys.path.append(sys.argv[1])
import sweep_jobs
from sims.workers import LocalPool
if __name__ == "__main__":
    with LocalPool(1) as pool:
        pool.submit(sweep_jobs.own_number, sys.argv[2]).result()
        pool.submit(sweep_jobs.waiting, sys.argv[2], 2).result()
"""


def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(HERE).parent.parent)}
    parent = subprocess.Popen([sys.executable, str(script), HERE, str(tmp_path)], env=environment)
    assert until(lambda: list(tmp_path.glob("process-*")) and list(tmp_path.glob("2-*")))
    parent.kill()
    parent.wait()
    (number,) = (int(file.name.partition("-")[2]) for file in tmp_path.glob("process-*"))
    assert until(lambda: not Path(f"/proc/{number}").exists())


def test_without_an_executor_jobs_run_here_one_after_the_other(tmp_path):
    order = []
    for x, future in completed(None, jobs.refusing, calls(tmp_path, range(4))):
        order.append(x)
        assert (future.exception() is not None) == (x in (2, 3))
        started = len(list(tmp_path.iterdir()))
        assert started == sum(y not in (2, 3) for y in order), "each is started when it is its turn"
    assert order == [0, 1, 2, 3]


def test_any_executor_will_do(tmp_path):
    with ThreadPoolExecutor(2) as threads:
        found = {x: future.result() for x, future in completed(threads, jobs.marked, calls(tmp_path))}
    assert found == {x: 2.0 * x for x in range(5)}


class Keeping(Executor):
    """An executor that knows which of its futures somebody still holds."""

    def __init__(self):
        self.futures = []

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args))
        self.futures.append(weakref.ref(future))
        return future


def test_nobody_holds_what_is_done_with(tmp_path):
    # A scheduler computes again what was lost with a worker, as long as somebody holds it.
    executor = Keeping()
    ended = completed(executor, jobs.marked, calls(tmp_path))
    for left in (5, 4, 3):
        _, future = next(ended)
        gc.collect()
        assert sum(reference() is not None for reference in executor.futures) == left
        del future
    ended.close()


class Broken(Executor):
    """An executor of somebody else whose workers are gone: it refuses, or cancels."""

    def __init__(self, refuses):
        self.refuses = refuses

    def submit(self, fn, /, *args, **kwargs):
        if self.refuses:
            raise BrokenProcessPool("gone")
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


@pytest.mark.parametrize("refuses", [True, False])
def test_what_a_broken_executor_lost_is_told_of(tmp_path, refuses):
    futures = dict(completed(Broken(refuses), jobs.marked, calls(tmp_path)))
    assert set(futures) == set(range(5))
    assert all(is_lost(future) for future in futures.values())


def test_a_noted_interrupt_is_raised_as_ever():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), noting_interrupts() as noted:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    assert noted
    assert signal.getsignal(signal.SIGINT) is before


def test_what_the_user_says_to_xla_comes_last_and_only_once(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    for _ in range(2):
        set_up(Setup(sharing=True))
    flags = os.environ["XLA_FLAGS"].split()
    assert flags[-1] == "--xla_cpu_multi_thread_eigen=true"
    assert flags.count("--xla_cpu_multi_thread_eigen=false") == 1
    assert os.environ["JAX_ENABLE_X64"] == "0", "what is not said is left alone"
