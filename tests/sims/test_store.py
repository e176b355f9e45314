"""A store gives back what it was given, for the same settings alone, or nothing."""

import importlib.util
import json
import os
import re
import shutil
import time

import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from sims import store
from sims.checkpoints import write_together

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("h5netcdf", "h5py")),
    reason="a store needs h5netcdf and h5py",
)

SETTINGS = {"function": "mine.trained", "arguments": {"depth": 2, "noise": 0.1, "seed": 0}, "jax": "0"}
DATA = xarray.Dataset({"loss": ("loss_axis0", np.arange(40.0)), "width": 4})


def test_what_was_put_is_got_and_nothing_else(tmp_path):
    assert store.get(tmp_path, SETTINGS) is None
    path = store.put(tmp_path, SETTINGS, DATA)
    assert store.get(tmp_path, SETTINGS).identical(DATA)
    assert re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{64}\.nc", path.relative_to(tmp_path).as_posix())
    for name in SETTINGS:
        assert store.get(tmp_path, {**SETTINGS, name: "other"}) is None
    assert json.loads(path.with_suffix(".json").read_text())["settings"] == SETTINGS


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=6,
)


@given(plain)
def test_keys_survive_json_and_the_order_of_names(value):
    key = store.key_of({"a": value, "b": 1})
    assert key == store.key_of({"b": 1, "a": value})
    # The second file of a result holds the settings: the key is computed from them again.
    assert key == store.key_of(json.loads(json.dumps(store.canonical("settings", {"a": value, "b": 1}))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.1, np.float64(0.1)),
        (0.1, jnp.asarray(0.1)),
        (3, np.int32(3)),
        (True, np.bool_(True)),
        ((1, 2), [1, 2]),
        (np.arange(3), jnp.arange(3)),
        (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2).T.copy().T.reshape(2, 3)),
    ],
)
def test_equal_values_are_one_job(one, other):
    assert store.key_of({"x": one}) == store.key_of({"x": other})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("1", 1),
        (np.inf, -np.inf),
        (np.inf, "inf"),
        ([1, 2], [2, 1]),
        ([1, 2], np.array([1, 2])),
        (np.float32([1]), np.float64([1])),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        ({"a": {"b": 1}}, {"a": {"c": 1}}),
    ],
)
def test_different_values_are_two(one, other):
    assert store.key_of({"x": one}) != store.key_of({"x": other})


@pytest.mark.parametrize("value", [np.nan, [1.0, np.nan], np.array([np.nan]), {"y": jnp.nan}, object(), np.sin])
def test_what_has_no_one_meaning_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^x.* must"):
        store.key_of({"x": value})


@pytest.mark.parametrize("key", ["../../etc/passwd", "a" * 63, "A" * 64, "", "g" * 64, "a" * 64 + "\n"])
def test_a_key_never_leaves_the_store(tmp_path, key):
    with pytest.raises(ValueError, match="64 hex digits"):
        store._path(tmp_path, key)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def foreign(path):
    """The result of other settings, under this name: whole, with the right digest."""
    other = store.put(path.parents[2] / "other", {**SETTINGS, "jax": "1"}, DATA + 1)
    shutil.copy(other, path)
    shutil.copy(other.with_suffix(".json"), path.with_suffix(".json"))


def renamed(path):
    """The same with the name that is expected written into it."""
    foreign(path)
    note = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(note | {"key": path.stem}))


DAMAGES = {
    "a flipped bit": flipped,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:500]),
    "empty": lambda path: path.write_bytes(b""),
    "no NetCDF": lambda path: path.write_bytes(b"nonsense"),
    "foreign": foreign,
    "foreign, renamed": renamed,
    "no JSON": lambda path: path.with_suffix(".json").write_text("{"),
    "another JSON": lambda path: path.with_suffix(".json").write_text("[]"),
    "a bit of the digest": lambda path: flipped(path.with_suffix(".json")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_stand_the_check_is_set_aside_and_computed_again(tmp_path, damage):
    folder = tmp_path / "store"
    path = store.put(folder, SETTINGS, DATA)
    for times in (1, 2):
        DAMAGES[damage](path)
        with pytest.warns(UserWarning, match=r"set aside in .*aside and will be computed again"):
            assert store.get(folder, SETTINGS) is None
        assert not path.exists()
        assert not path.with_suffix(".json").exists()
        assert len(list((folder / "aside").iterdir())) == 2 * times, "what was set aside is kept, each time"
        store.put(folder, SETTINGS, DATA)
        assert store.get(folder, SETTINGS).identical(DATA)


def test_a_writer_that_was_stopped_between_its_two_files_left_nothing(tmp_path):
    path = store.put(tmp_path, SETTINGS, DATA)
    path.with_suffix(".json").unlink()
    assert store.get(tmp_path, SETTINGS) is None


def test_what_killed_writers_left_is_removed_but_not_what_is_being_written(tmp_path):
    path = store.put(tmp_path, SETTINGS, DATA)
    old, new = (path.with_name(f".{path.name}.{n}.tmp") for n in (1, 2))
    for file in (old, new):
        file.touch()
    os.utime(old, (time.time() - 86400,) * 2)
    store.clean(tmp_path)
    assert not old.exists()
    assert new.exists()
    assert store.get(tmp_path, SETTINGS).identical(DATA)


def test_files_that_belong_together_are_written_together(tmp_path, file_limit):
    paths = [tmp_path / name for name in ("first", "second")]
    with file_limit(1000), pytest.raises(OSError):
        write_together(dict(zip(paths, (b"small", b"large" * 1000), strict=True)))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence_and_costs_nothing(tmp_path, file_limit):
    store.put(tmp_path, SETTINGS, DATA)
    # Room for the first file and not the second, then for neither.
    for size in (6000, 1000):
        with file_limit(size), pytest.raises(OSError, match=r"could not take a result .*; what it holds is whole"):
            store.put(tmp_path, {**SETTINGS, "notes": "x" * 8000}, DATA)
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) == 2, files
    assert store.get(tmp_path, SETTINGS).identical(DATA)
