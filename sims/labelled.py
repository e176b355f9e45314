"""Results with named axes: an `xarray.Dataset` of a trajectory, and files that notice a flipped bit.

    found = labelled(simulate(simulation, grid(seeds=8, lr=[0.1, 0.05]), every(1000, 10)), units={"loss": "nats"})
    found.loss.mean("seed").plot.line(x="step")
    save(found, "losses.nc")

The digest lies in a second file beside the first; `load` refuses what does not match it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from sims.checkpoints import write_together
from sims.engine import Runs, Trajectory
from sims.named_arrays import is_plain, named_arrays, named_leaves


def labelled(
    trajectory: Trajectory,
    names: Sequence[str] | None = None,
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
) -> xarray.Dataset:
    """The records of a trajectory with the runs unfolded into named axes, and the recorded steps as the last of them.

    `names`  of the axes of the grid; those that `grid` was given where it made the runs ("seed" first), else "run".
    `dims`   names of the axes that a record has of its own, by record: {"strength": ("mode",)}.
    `units`  by record or axis.
    Records are named by their path in the pytree ("loss", "head.loss"), a single one "record".
    """
    runs = trajectory.runs
    names = tuple(names if names is not None else runs.names or _numbered("run", len(runs.shape)))
    if len(names) != len(runs.shape):
        raise ValueError(f"names must hold one name for each of the {len(runs.shape)} axes of runs, got {names}")
    arrays = named_arrays(trajectory.on_grid(), "record")
    coordinates = {**_coordinates(runs, names), "step": np.asarray(trajectory.steps)}
    return dataset(variables(arrays, dims or {}, (*names, "step")), coordinates, units)


def _coordinates(runs: Runs, names: tuple[str, ...]) -> dict[str, Any]:
    """The values along each axis, or their numbers where they are arrays; of other runs what each was given."""
    leaves = [("seed", runs.seeds), *named_leaves(runs.hyper, "hyper")]
    # Arrays, and keys, are no labels.
    values = {name: np.asarray(x).reshape(runs.shape) for name, x in leaves if x.ndim == 1 and is_plain(x)}
    found: dict[str, Any] = {}
    for axis, name in enumerate(names):
        of_grid = runs.names[axis] if runs.names else name
        along = np.moveaxis(values.get(of_grid, np.zeros(runs.shape)), axis, 0).reshape(runs.shape[axis], -1)
        labels = of_grid in values and (along == along[:, :1]).all()
        found[name] = along[:, 0] if labels else np.arange(runs.shape[axis])
    if not runs.names:
        found |= {name: (names, x) for name, x in values.items() if name not in names}
    return found


def variables(
    arrays: Mapping[str, np.ndarray], dims: Mapping[str, Sequence[str]], axes: tuple[str, ...] = ()
) -> dict[str, tuple]:
    """Each array with the names of its axes: `axes` first, then those of its own, as `dims` says or by their number."""
    found = {}
    for name, x in arrays.items():
        count = x.ndim - len(axes)
        own = tuple(dims.get(name, tuple(f"{name}_axis{i}" for i in range(count))))
        if len(own) != count:
            raise ValueError(f"dims[{name!r}] must name {count} axes, got {own}")
        found[name] = ((*axes, *own), x)
    if unknown := set(dims) - set(arrays):
        raise ValueError(f"dims names {min(unknown)!r}, which is none of {', '.join(arrays)}")
    return found


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return (name,) if count == 1 else tuple(f"{name}_{i}" for i in range(count))


def dataset(
    variables: Mapping[str, tuple], coords: Mapping[str, Any], units: Mapping[str, str] | None = None
) -> xarray.Dataset:
    """A dataset with `units` in the attributes of its variables, where plots and NetCDF readers look for them."""
    for name, (axes, _) in variables.items():
        if name in axes or name in coords:
            raise ValueError(f"{name!r} is the name of an axis and of a result: call one of them otherwise")
    data = xarray.Dataset(variables, coords)
    for name, unit in (units or {}).items():
        if name not in data.variables:
            raise ValueError(f"units names {name!r}, which is none of {', '.join(map(str, data.variables))}")
        data[name].attrs["units"] = unit
    return data


def save(data: xarray.Dataset | xarray.DataTree, path: str | Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write `data` as NetCDF, whole or not at all, and beside it what it is `about` and its digest, as JSON.

    The second file has the name of the first with `.json` for its ending, and is written last.
    """
    path = Path(path)
    content = as_netcdf(data)
    note = {**(about or {}), "sha256": hashlib.sha256(content).hexdigest()}
    words = json.dumps(note, indent=1, sort_keys=True, allow_nan=False)
    write_together({path: content, beside(path): words.encode()})
    return path


def load(path: str | Path) -> xarray.Dataset:
    """What `save` wrote, once its digest was checked; a file that changed since is refused in one sentence."""
    path = Path(path)
    try:
        note = json.loads(beside(path).read_bytes())
        digest = note["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be checked: {beside(path).name} beside it does not hold its digest") from error
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path} is corrupt: its digest is not the one that was written with it")
    return from_netcdf(content)


def beside(path: Path) -> Path:
    """Where the digest of a NetCDF file lies."""
    return path.with_suffix(".json")


def as_netcdf(data: xarray.Dataset | xarray.DataTree) -> bytes:
    """The content of a NetCDF-4 file."""
    require_netcdf()
    return bytes(data.to_netcdf(engine="h5netcdf"))


def from_netcdf(content: bytes) -> xarray.Dataset:
    """The dataset in the content of a NetCDF-4 file; units of time are labels, not dates."""
    return xarray.load_dataset(io.BytesIO(content), engine="h5netcdf", decode_times=False, decode_timedelta=False)


def require_netcdf() -> None:
    """Say in one sentence what is missing for NetCDF files, before anything is computed for one."""
    missing = [name for name in ("h5netcdf", "h5py") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"NetCDF files need {' and '.join(missing)}: pip install h5netcdf h5py")
