"""Two processes that train one sweep together give what one process gives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims import hosts
from sims.engine import Simulation, grid, simulate

HERE = Path(__file__).parent
SCRIPT = """
import sys
import jax, numpy as np
address, number, here, folder = sys.argv[1:]
jax.distributed.initialize(address, 2, int(number))
sys.path.append(here)
from test_hosts import TIMES, flipping, stop_at
from sims.engine import grid, session, simulate
assert jax.process_count() == 2
for runs in (3, 1):
    found = simulate(flipping(), grid(seeds=runs, lr=[0.1]), TIMES)
    last = {"last": found.state["x"], "keys": jax.random.key_data(found.state["key"])}
    np.savez(f"{folder}/{runs}-{number}.npz", grid=found.on_grid()["x"], **last, **found.records)
# Each stops by itself, and goes on from a file of its own.
again = dict(runs=grid(seeds=3, lr=[0.1]), record_at=TIMES, checkpoint=f"{folder}/run.npz")
try:
    simulate(flipping(), **again, progress=stop_at(4))
except KeyboardInterrupt:
    pass
seen = []
found = simulate(flipping(), **again, progress=lambda done, _: seen.append(done))
assert seen[0] > 4, seen
np.savez(f"{folder}/resumed-{number}.npz", **found.records)
"""
TIMES = np.array([0, 1, 4, 9])


def flipping():
    """A noisy walk: its state holds a key, its records numbers of several kinds."""

    def init(key, hyper):
        return {"x": jax.random.normal(key, (2,)), "key": key, "n": jnp.zeros((), int), "lr": hyper["lr"]}

    def step(state):
        kick = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), (2,))
        return state | {"x": state["x"] + state["lr"] * kick, "n": state["n"] + 1}

    return Simulation(init, step, lambda state: {"x": state["x"], "up": state["x"] > 0, "n": state["n"]})


def stop_at(step):
    def stop(done, total):
        if done >= step:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("runs", [1, 2, 6, 7])
def test_every_run_has_its_place_after_gathering(monkeypatch, count, runs):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    parts = []
    for index in range(count):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(hosts.own_part(runs))
    assert len({len(part) for part in parts}) == 1
    np.testing.assert_array_equal(np.concatenate(parts)[:runs], np.arange(runs))


def test_two_processes_give_what_one_gives(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parent.parent)}
    processes = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, address, str(i), str(HERE), str(tmp_path)], env=environment)
        for i in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for runs in (3, 1):
        here = simulate(flipping(), grid(seeds=runs, lr=[0.1]), TIMES)
        keys = np.asarray(jax.random.key_data(here.state["key"]))
        expected = {**here.records, "grid": here.on_grid()["x"], "last": np.asarray(here.state["x"]), "keys": keys}
        for number in range(2):
            found = np.load(tmp_path / f"{runs}-{number}.npz")
            assert {name: found[name].dtype for name in found} == {name: x.dtype for name, x in expected.items()}
            for name, x in expected.items():
                # Another number of runs at a time may be compiled to sums in another order.
                np.testing.assert_allclose(found[name], x, atol=1e-14)
            if runs == 3:
                resumed = np.load(tmp_path / f"resumed-{number}.npz")
                np.testing.assert_array_equal(resumed["x"], found["x"])
    assert len(list(tmp_path.glob("run.[01].npz"))) == 2
