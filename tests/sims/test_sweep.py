"""Sweeps: every number at its place, nothing computed twice, nothing that is finished lost."""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims import fingerprint
from sims.sweep import Unfinished, sweep

HERE = str(Path(__file__).parent)
# Worker processes are given the path, and import it from there.
sys.path.append(HERE)
jobs = importlib.import_module("sweep_jobs")

netcdf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("h5netcdf", "h5py")),
    reason="a store needs h5netcdf and h5py",
)
AXES = {"depth": [2, 3, 1], "noise": np.array([0.0, 0.5])}


def calls(folder):
    """How often each job of `marked` was computed."""
    names = [file.name.split("-")[0] for file in Path(folder).glob("*-*-*")]
    return {int(name): names.count(name) for name in names}


def folders(tmp_path):
    for name in ("signs", "store"):
        (tmp_path / name).mkdir()
    return str(tmp_path / "signs"), tmp_path / "store"


def test_every_number_stands_at_its_place():
    found = sweep(
        jobs.trained,
        AXES,
        seeds=[4, 7],
        fixed={"scale": 2.0},
        executor="serial",
        dims={"loss": ("step",)},
        coords={"step": [0, 10, 20, 30]},
        units={"loss": "nats", "noise": "1"},
    )
    assert found.loss.dims == ("depth", "noise", "seed", "step")
    assert (found.loss.attrs["units"], found.noise.attrs["units"]) == ("nats", "1")
    for depth in (1, 2, 3):
        for seed in (4, 7):
            there = found.sel(depth=depth, noise=0.5, seed=seed)
            plain = jobs.trained(depth, 0.5, seed, scale=2.0)
            np.testing.assert_array_equal(there.loss, plain["loss"])
            assert there.width == depth**2
    assert found.width.dtype == np.int64
    np.testing.assert_array_equal(found.step, [0, 10, 20, 30])


class Modes(NamedTuple):
    strength: jax.Array
    half_time: jax.Array


def modes(t, s, u0):
    """A theory function: arrays to a record of arrays."""
    return Modes(s / (1 + (s / u0 - 1) * jnp.exp(-2 * s * t)), jnp.log(s / u0 - 1) / (2 * s))


def test_one_call_over_the_whole_grid_gives_the_same():
    axes = {"s": [1.0, 2.0, 3.0], "u0": jnp.array([1e-3, 1e-2])}
    arguments = dict(fixed={"t": np.linspace(0, 5, 7)}, dims={"strength": ("t",)})
    at_once = sweep(modes, axes, vectorised=True, **arguments)
    one_by_one = sweep(modes, axes, executor="serial", **arguments)
    assert at_once.strength.dims == ("s", "u0", "t")
    np.testing.assert_array_equal(at_once.t, np.linspace(0, 5, 7))
    for name in ("strength", "half_time"):
        np.testing.assert_allclose(at_once[name], one_by_one[name], rtol=1e-12)


def test_a_single_result_has_the_name_of_the_function():
    def double(x):
        return 2 * x

    assert list(sweep(double, {"x": [1.0]}, vectorised=True)) == ["double"]
    assert list(sweep(lambda x: 2 * x, {"x": [1.0]}, executor="serial")) == ["result"]


def test_values_that_are_arrays_are_numbered():
    found = sweep(lambda w: w.sum(), {"w": np.arange(6.0).reshape(3, 2)}, vectorised=True)
    np.testing.assert_array_equal(found.w, [0, 1, 2])
    np.testing.assert_array_equal(found.result, [1, 5, 9])


@netcdf
def test_processes_and_the_store_change_no_bit_and_nothing_runs_twice(tmp_path):
    signs, store = folders(tmp_path)
    axes = {"x": [0, 1, 2, 3]}
    here = sweep(jobs.killed_once, {"x": [0, 1, 3]}, fixed={"signs": signs}, executor="serial")
    for file in Path(signs).iterdir():
        file.unlink()
    seen = []
    arguments = dict(fixed={"signs": signs}, store=store, progress=lambda *done: seen.append(done))
    found = sweep(jobs.killed_once, axes, **arguments)
    assert found.sel(x=[0, 1, 3]).identical(here)
    assert found.sel(x=2).killed_once == 4.0, "whose process was killed the first time"
    assert seen[-1] == (4, 4)
    first = calls(signs)
    assert sweep(jobs.killed_once, axes, **arguments).identical(found)
    assert calls(signs) == first
    # Another executor finds them as well, and computes only what is new.
    more = sweep(jobs.killed_once, {"x": [0, 1, 2, 3, 4]}, **arguments, executor="serial")
    assert calls(signs) == first | {4: 1}
    assert more.sel(x=[0, 1, 2, 3]).identical(found)


@netcdf
def test_other_arguments_code_or_precision_are_other_results(tmp_path, monkeypatch):
    signs, store = folders(tmp_path)
    arguments = dict(axes={"x": [1]}, fixed={"signs": signs}, executor="serial", store=store)
    sweep(jobs.marked, **arguments)
    sweep(jobs.marked, **arguments)
    assert calls(signs) == {1: 1}
    sweep(jobs.marked, **arguments, seeds=[1])
    assert calls(signs) == {1: 2}
    with jax.enable_x64(False):
        sweep(jobs.marked, **arguments)
    assert calls(signs) == {1: 3}
    monkeypatch.setattr(fingerprint, "of_packages", lambda *_: "another version")
    sweep(jobs.marked, **arguments)
    assert calls(signs) == {1: 4}
    monkeypatch.setattr(fingerprint, "of_function", lambda _: "another version")
    sweep(jobs.marked, **arguments)
    assert calls(signs) == {1: 5}


@netcdf
def test_one_call_is_stored_as_one_result(tmp_path):
    first = sweep(jobs.squared, {"x": [1.0, 2.0]}, vectorised=True, store=tmp_path)
    assert len(list(tmp_path.rglob("*.nc"))) == 1
    again = sweep(jobs.squared, {"x": [1.0, 2.0]}, vectorised=True, store=tmp_path)
    assert again.identical(first)
    sweep(jobs.squared, {"x": [1.0, 3.0]}, vectorised=True, store=tmp_path)
    assert len(list(tmp_path.rglob("*.nc"))) == 2


@netcdf
def test_a_job_that_raises_is_named_and_costs_no_other(tmp_path):
    signs, store = folders(tmp_path)
    arguments = dict(axes={"x": [1, 2, 3, 4]}, fixed={"signs": signs}, executor="serial", store=store)
    with pytest.raises(Unfinished) as caught:
        sweep(jobs.refusing, **arguments)
    assert str(caught.value).splitlines() == [
        f"2 of 4 jobs failed; 2 are kept in {store}",
        "  x=2: ValueError: 2 is too much",
        "  x=3: ValueError: 3 is too much",
    ]
    assert [configuration for configuration, _ in caught.value.failures] == [{"x": 2}, {"x": 3}]
    np.testing.assert_array_equal(caught.value.finished.refusing, [2, np.nan, np.nan, 8])
    with pytest.raises(Unfinished):
        sweep(jobs.refusing, **arguments)
    assert calls(signs) == {1: 1, 4: 1}


def test_what_is_missing_is_no_number_and_no_word():
    def named(x):
        return {"word": np.array(["a" * (1 // x)]), "true": np.array(True)}

    with pytest.raises(Unfinished) as caught:
        sweep(named, {"x": [0, 1]}, executor="serial")
    finished = caught.value.finished
    assert finished.word.values.ravel().tolist() == ["", "a"]
    np.testing.assert_array_equal(finished.true, [np.nan, 1.0])


def test_results_that_do_not_fit_together_are_failures_of_their_jobs():
    with pytest.raises(Unfinished, match=r"x=3: ValueError: it returned .*\(3,\).*, the first of the others .*\(2,\)"):
        sweep(lambda x: np.zeros(min(x + 1, 3) if x > 1 else 2), {"x": [0, 1, 3]}, executor="serial")


@netcdf
def test_ctrl_c_keeps_what_is_finished_and_says_so(tmp_path):
    signs, store = folders(tmp_path)
    script = tmp_path / "study.py"
    script.write_text(
        "import sys\n"
        f"sys.path.append({HERE!r})\n"
        "import sweep_jobs\n"
        "from sims.sweep import sweep\n"
        "if __name__ == '__main__':\n"
        f"    sweep(sweep_jobs.waiting, {{'x': [0, 1, 2, 3]}}, fixed={{'signs': {signs!r}}}, store={str(store)!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(HERE).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(store.rglob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    # As a terminal does: to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=200)
    assert process.returncode != 0
    sentence = f"KeyboardInterrupt: 2 of 4 jobs are finished and kept in {store}; the same call runs the others"
    assert told.strip().splitlines()[-1] == sentence
    (Path(signs) / "go").touch()
    found = sweep(jobs.waiting, {"x": [0, 1, 2, 3]}, fixed={"signs": signs}, executor="serial", store=store)
    np.testing.assert_array_equal(found.waiting, [0, 2, 4, 6])
    assert calls(signs)[0] == calls(signs)[1] == 1


def test_ctrl_c_that_somebody_swallowed_counts():
    done = []

    def swallowing(x):
        done.append(x)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            return x

    with pytest.raises(KeyboardInterrupt):
        sweep(swallowing, {"x": [1, 2, 3]}, executor="serial")
    assert done == [1]


def test_ctrl_c_without_a_store_says_that_nothing_is_kept():
    def pressed(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="nothing is kept: name a store"):
        sweep(pressed, {"x": [1]}, executor="serial")


@netcdf
def test_a_full_disk_is_said_once_and_the_sweep_goes_on(tmp_path, file_limit):
    signs, store = folders(tmp_path)
    sweep(jobs.marked, {"x": [0]}, fixed={"signs": signs}, executor="serial", store=store)
    arguments = dict(axes={"x": [0, 1, 2]}, fixed={"signs": signs}, executor="serial", store=store)
    with file_limit(100), pytest.warns(UserWarning, match="goes on in memory") as told:
        found = sweep(jobs.marked, **arguments)
    assert len(told) == 1
    np.testing.assert_array_equal(found.marked, [0, 2, 4])
    assert len(list(store.rglob("*.*"))) == 2, "what was there, and nothing half-written"
    assert sweep(jobs.marked, **arguments).identical(found)


@netcdf
def test_a_corrupt_result_is_computed_again(tmp_path):
    signs, store = folders(tmp_path)
    arguments = dict(axes={"x": [0, 1]}, fixed={"signs": signs}, executor="serial", store=store)
    found = sweep(jobs.marked, **arguments)
    damaged = next(store.rglob("*.nc"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"is corrupt.*set aside"):
        assert sweep(jobs.marked, **arguments).identical(found)
    assert sorted(calls(signs).values()) == [1, 2]


def test_workers_compute_in_the_precision_of_whoever_asks():
    with ThreadPoolExecutor(1) as threads:
        assert sweep(jobs.precision, {"x": [1]}, executor=threads).bits == 64
        with jax.enable_x64(False):
            # Neither threads nor, where the environment says otherwise, processes inherit it.
            assert sweep(jobs.precision, {"x": [1]}, executor=threads).bits == 32
            elsewhere = sweep(jobs.precision, {"x": [1]})
    assert elsewhere.bits == 32
    assert elsewhere.process != os.getpid()


@pytest.mark.slow
def test_a_script_without_its_guard_is_told_of_it(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        f"import sys\nsys.path.append({HERE!r})\nimport sweep_jobs\nfrom sims.sweep import sweep\n"
        "sweep(sweep_jobs.own_number, {'signs': ['.']})\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(HERE).parent.parent)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert 'wants `if __name__ == "__main__":` around the call' in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(axes={}), "axes must name at least one axis"),
        (dict(axes={"x": []}), r"x must hold at least one value, got \[\]"),
        (dict(axes={"x": "relu"}), "x must hold at least one value, got 'relu'"),
        (dict(axes={"x": 3}), "x must hold at least one value, got 3"),
        (dict(seeds=0), "seed must hold at least one value"),
        (dict(axes={"seed": [1]}, seeds=2), "seeds must be None where axes has a seed"),
        (dict(fixed={"x": 3}), "x must be in axes or in fixed"),
        (dict(executor="many"), "executor must be None, 'serial' or a concurrent.futures.Executor, got 'many'"),
        (dict(executor="serial", vectorised=True), "executor must be None where vectorised is True"),
        (dict(executor=None, vectorised=True, axes={"x": ["a"]}), "x must hold numbers where vectorised is True"),
        (dict(units={"y": "nats"}), "units names 'y'"),
        (dict(dims={"squared": ("t",)}), r"dims\['squared'\] must name 0 axes"),
        (dict(function=lambda x: x, executor=None), "function must stand in a file by its own name"),
        pytest.param(
            dict(function=lambda x: x, store="nowhere"), "function must stand in a file by its own name", marks=netcdf
        ),
    ],
)
def test_bad_input_is_one_sentence(change, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        sweep(**(dict(function=jobs.squared, axes={"x": [1.0, 2.0]}, executor="serial") | change))


def test_a_function_of_plain_numbers_is_told_from_one_of_arrays():
    with pytest.raises(ValueError, match="vectorised must be False for counted: it wants plain numbers of x"):
        sweep(jobs.counted, {"x": [1, 2]}, vectorised=True)
    np.testing.assert_array_equal(sweep(jobs.counted, {"x": [1, 2]}, executor="serial").counted, [1, 2])


def test_a_wrong_label_costs_one_job():
    done = []
    with pytest.raises(ValueError, match="units names 'y'"):
        sweep(lambda x: done.append(x) or x, {"x": [1, 2, 3]}, executor="serial", units={"y": "nats"})
    assert done == [1]
