"""Tables of results for other programs: every point of every figure, and the arrays behind it.

    stagewise export two_layer_modes --out tables --format netcdf

CSV: one file per study, one row per point of its figure, and one with all of them. NetCDF: one file per study, in which
`points` holds the same rows, and `prediction` and `observation` the plain arrays of both sides. A figure's panels
have their own axes; the arrays' axes have no names on disk, and are called by their array and number ("u_axis0").
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sims import labelled
from sims.checkpoints import write_atomically
from validation import results
from validation.arrays import LEFT_OUT

FORMATS = ("csv", "netcdf")
NUMBERS = ("x", "y", "error_low", "error_high")


def export(names: Sequence[str], report: Path, size: str, out: Path, form: str) -> list[Path]:
    """Write the tables of the studies `names` that have a result of `size` in the folder `report` to `out`."""
    if form not in FORMATS:
        raise ValueError(f"--format must be one of {', '.join(FORMATS)}, got {form!r}")
    finished = {name: found for name in names if (found := results.read(report, name, size)) is not None}
    if not finished:
        raise ValueError(f"--report {report} holds no result of {', '.join(names) or 'any study'} at size {size}")
    if form == "netcdf":
        try:
            labelled.require_netcdf()
        except ModuleNotFoundError as error:
            raise ValueError(f"--format netcdf: {error}") from error
        return [_netcdf(results.folder_of(report, name, size), summary, out) for name, summary in finished.items()]
    tables = {name: points(results.folder_of(report, name, size), summary) for name, summary in finished.items()}
    whole = [(name, *row) for name, rows in tables.items() for row in rows]
    written = [_csv(results.within(out, f"{name}.csv"), results.COLUMNS, rows) for name, rows in tables.items()]
    return [*written, _csv(out / "points.csv", ("study", *results.COLUMNS), whole)]


def points(folder: Path, summary: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a study's table of points, as words."""
    header, *rows = csv.reader(io.StringIO(_content(folder, "plotted.csv", summary).decode(), newline=""))
    if tuple(header) != results.COLUMNS:
        raise ValueError(f"{folder / 'plotted.csv'} has other columns than {', '.join(results.COLUMNS)}")
    return rows


def arrays(folder: Path, summary: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The plain arrays of a study by their paths ("prediction/u"); none of results from before they were kept."""
    if "arrays.npz" not in summary.get("sha256", {}):
        return {}
    with np.load(io.BytesIO(_content(folder, "arrays.npz", summary)), allow_pickle=False) as file:
        return dict(file)


def _content(folder: Path, name: str, summary: Mapping[str, Any]) -> bytes:
    """The content of a file of a result, where it is the one that was written."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): run the study again") from error
    digest = hashlib.sha256(content).hexdigest()
    if summary.get("sha256", {}).get(name, digest) != digest:
        raise ValueError(f"{path} is not what was written there: run the study again")
    return content


def _csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, table.getvalue().encode())
    return path


def _netcdf(folder: Path, summary: Mapping[str, Any], out: Path) -> Path:
    import xarray

    columns = dict(zip(results.COLUMNS, zip(*points(folder, summary), strict=True), strict=False))
    table = {
        name: ("point", np.array([float(x or "nan") for x in column]) if name in NUMBERS else np.array(column, str))
        for name, column in columns.items()
    }
    kept = arrays(folder, summary)
    about = {name: summary[name] for name in ("study", "title", "source", "size", "seed", "digest")}
    groups = {"/": xarray.Dataset(attrs=about | {"holds": int(summary["holds"])}), "/points": xarray.Dataset(table)}
    for side in ("prediction", "observation"):
        own = {path.partition("/")[2].replace("/", "."): x for path, x in kept.items() if path.startswith(f"{side}/")}
        left_out = [path.partition("/")[2] for path in kept.get(LEFT_OUT, ()) if path.startswith(f"{side}/")]
        groups[f"/{side}"] = xarray.Dataset(labelled.variables(own, {}), attrs={"left_out": json.dumps(left_out)})
    return labelled.save(xarray.DataTree.from_dict(groups), results.within(out, f"{summary['study']}.nc"), about)
