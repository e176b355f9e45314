"""Named axes: every number keeps its place, every file its content."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from sims.engine import Runs, Simulation, grid, simulate
from sims.labelled import dataset, labelled, load, save

TIMES = [0, 1, 4]


def walk(record=lambda state: {"x": state["x"], "head": {"loss": jnp.sum(state["x"])}}):
    """A state of two numbers whose records tell the run and the step."""
    return Simulation(
        lambda key, hyper: {"x": jnp.ones(2) * hyper["lr"], "n": jax.random.key_data(key)[0]},
        lambda state: state | {"x": state["x"] + jnp.array([1.0, 10.0])},
        record,
    )


def walked(runs, times, **keywords):
    return labelled(simulate(walk(), runs, times), **keywords)


def test_axes_have_the_names_of_the_grid_and_every_number_its_place():
    found = walked(grid(seeds=[3, 5], lr=[0.1, 0.2, 0.3]), TIMES, dims={"x": ("unit",)}, units={"head.loss": "nats"})
    assert found.x.dims == ("seed", "lr", "step", "unit")
    assert found["head.loss"].attrs["units"] == "nats"
    for seed in (3, 5):
        for lr in (0.1, 0.2, 0.3):
            for step in TIMES:
                place = found.sel(seed=seed, lr=lr, step=step)
                np.testing.assert_allclose(place.x, [lr + step, lr + 10 * step])
                np.testing.assert_allclose(place["head.loss"], 2 * lr + 11 * step)


def test_runs_put_together_by_hand_are_numbered_and_say_what_they_were_given():
    found = walked(Runs(np.array([7, 8, 9]), {"lr": np.array([0.1, 0.5, 0.2])}, (3,)), TIMES)
    assert found.x.dims == ("run", "step", "x_axis0")
    np.testing.assert_array_equal(found.seed, [7, 8, 9])
    np.testing.assert_array_equal(found.swap_dims(run="lr").x.sel(lr=0.5, step=1), [1.5, 10.5])


def test_axes_named_by_hand_are_labelled_only_by_values_that_they_have():
    runs = Runs(np.arange(5, 9), {"lr": np.repeat([0.1, 0.2], 2)}, (2, 2))
    found = walked(runs, TIMES, names=("lr", "seed"))
    np.testing.assert_array_equal(found.lr, [0.1, 0.2])
    # The seeds of the two rows differ: they are no labels of the columns.
    np.testing.assert_array_equal(found.seed, [0, 1])


def test_hyperparameters_that_are_arrays_are_numbered():
    def init(key, hyper):
        return {"x": hyper["start"]}

    starts = grid(start=[np.ones(2), np.zeros(2)])
    found = labelled(simulate(walk()._replace(init=init, record=lambda state: state["x"]), starts, [0]))
    assert found.record.dims == ("seed", "start", "step", "record_axis0")
    np.testing.assert_array_equal(found.start, [0, 1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(names=("lr",)), "names must hold one name for each of the 2 axes"),
        (dict(dims={"x": ("unit", "more")}), r"dims\['x'\] must name 1 axes"),
        (dict(dims={"y": ("unit",)}), "dims names 'y', which is none of"),
        (dict(units={"y": "nats"}), "units names 'y'"),
        (dict(names=("x", "lr")), "'x' is the name of an axis and of a result"),
    ],
)
def test_wrong_labels_are_refused_by_name(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        walked(grid(seeds=2, lr=[0.1, 0.2]), TIMES, **change)


def test_keys_are_no_numbers():
    simulation = Simulation(lambda key, hyper: {"x": 0.0}, lambda state: state, lambda state: state)
    keys = jax.random.split(jax.random.key(0), (2, 1))
    with pytest.raises(ValueError, match=r"^key must be an array of numbers"):
        labelled(simulate(simulation, grid(seeds=2), [0])._replace(records={"key": keys}))


netcdf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("h5netcdf", "h5py")),
    reason="NetCDF files need h5netcdf, h5py",
)
KINDS = {
    "float64": np.array([1.5, np.nan, np.inf]),
    "float32": np.float32([0.1, -0.0]),
    "float16": np.float16([1, 2]),
    "complex": np.array([1 + 2j]),
    "whole": np.array([-(2**62), 1]),
    "truth": np.array([True, False]),
    "words": np.array(["relu", "größer"]),
    "scalar": np.array(3.0),
    "empty": np.zeros((0, 2)),
    "seconds": np.arange(3.0),
}


def sample():
    axes = {name: tuple(f"{name}_{i}" for i in range(x.ndim)) for name, x in KINDS.items()}
    return dataset({name: (axes[name], x) for name, x in KINDS.items()}, {}, {"seconds": "seconds"})


@netcdf
def test_files_hold_every_kind_of_array_as_it_was(tmp_path):
    path = save(sample(), tmp_path / "found.nc", {"what": "a sample"})
    again = load(path)
    assert again.identical(sample())
    for name, x in KINDS.items():
        assert again[name].dtype == x.dtype, name
    # Any other reader finds NetCDF.
    assert xarray.load_dataset(path, engine="h5netcdf", decode_timedelta=False).identical(sample())


@netcdf
@pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
def test_a_flipped_bit_is_noticed(tmp_path, place):
    path = save(sample(), tmp_path / "found.nc")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"found\.nc is corrupt"):
        load(path)


@netcdf
def test_a_file_without_its_digest_is_not_trusted(tmp_path):
    path = save(sample(), tmp_path / "found.nc")
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"found\.nc cannot be checked: found\.json"):
        load(path)


@netcdf
def test_a_full_disk_leaves_what_was_there(tmp_path, file_limit):
    path = save(sample(), tmp_path / "found.nc")
    with file_limit(1000), pytest.raises(OSError):
        save(sample().isel(whole_0=[0]), path)
    assert load(path).identical(sample())
    assert not list(tmp_path.glob(".*"))


def test_what_is_missing_for_files_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="NetCDF files need h5netcdf and h5py: pip install"):
        save(sample(), tmp_path / "found.nc")
