"""Tables for other programs: every point of a figure, and the arrays behind it, as they were."""

import csv
import importlib.util
import io
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from validation import results, style
from validation.__main__ import app
from validation.arrays import ALTOGETHER, LARGEST, as_npz
from validation.export import arrays, export, points
from validation.study import Claim, Outcome, Refutation, Rival, Study, Verdict

NAME = "deep_linear/depth"


class Record(NamedTuple):
    mean: np.ndarray
    fitted: object


X = np.arange(4.0)
PREDICTION = {"x": X, "y": X**2, "deep": {"z": np.eye(2), "word": "flat"}, "rows": [X, X[:2]], 3: 1}
OBSERVATION = {"y": X**2 + 0.1, "record": Record(X, object()), "many": np.zeros(LARGEST + 1), "true": np.array([True])}


def draw(figure, problem, prediction, observation):
    axes = figure.subplots()
    axes.set_title('Two\nlines, "quoted"')
    style.theory(axes, prediction["x"], prediction["y"], label="theory")
    style.networks(axes, prediction["x"], observation["y"], label="networks")


@pytest.fixture
def report(tmp_path):
    study = Study(
        title="A curve",
        question="?",
        source="none",
        sizes={"smoke": {}, "paper": {}},
        predict=lambda problem: PREDICTION,
        simulate=lambda problem: OBSERVATION,
        claims=(Claim("it is one", lambda p, o: 0.0, 1.0, "given"),),
        rivals=(Rival("it is none", lambda problem, p: p),),
        draw=draw,
    )
    held, failed = (Verdict("it is one", value, 1.0, "given") for value in (0.0, 2.0))
    refutations = (Refutation("it is none", (failed,)),)
    outcome = Outcome(SimpleNamespace(), PREDICTION, OBSERVATION, (held,), refutations)
    out = tmp_path / "report"
    results.write(out, results.summary_of(NAME, study, "smoke", 0, outcome), study, outcome)
    return out


def stored(report):
    return results.folder_of(report, NAME, "smoke"), results.read(report, NAME, "smoke")


def test_arrays_are_kept_by_their_path_and_the_rest_is_named(report):
    kept = arrays(*stored(report))
    expected = {
        "prediction/x": X,
        "prediction/y": X**2,
        "prediction/deep/z": np.eye(2),
        "prediction/deep/word": np.array("flat"),
        "prediction/rows/0": X,
        "prediction/rows/1": X[:2],
        "prediction/3": np.array(1),
        "observation/y": X**2 + 0.1,
        "observation/record/mean": X,
        "observation/true": np.array([True]),
    }
    left_out = kept.pop("left out").tolist()
    assert kept.keys() == expected.keys()
    for name, x in expected.items():
        assert kept[name].dtype == x.dtype
        np.testing.assert_array_equal(kept[name], x)
    assert left_out == ["observation/record/fitted", "observation/many"]


def test_of_too_many_arrays_the_largest_are_left_out():
    many = ALTOGETHER // LARGEST
    tree = {"small": X, "large": [np.zeros(LARGEST)] * many, "other": X}
    with np.load(io.BytesIO(as_npz(tree))) as kept:
        assert kept["left out"].tolist() == ["large/0"]
        assert len(kept.files) == many + 2


def test_csv_has_a_row_per_point(report, tmp_path):
    written = export([NAME], report, "smoke", tmp_path / "tables", "csv")
    assert written == [tmp_path / "tables" / f"{NAME}.csv", tmp_path / "tables" / "points.csv"]
    with open(written[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["study"] for row in rows} == {NAME}
    assert {row["panel"] for row in rows} == {'Two\nlines, "quoted"'}
    theory = [(float(row["x"]), float(row["y"])) for row in rows if row["kind"] == "theory"]
    assert theory == [(x, x**2) for x in X]
    assert len(rows) == len(points(*stored(report))) == 8


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("h5netcdf", "h5py")), reason="NetCDF needs h5netcdf, h5py"
)
def test_netcdf_holds_points_prediction_and_observation(report, tmp_path):
    import xarray

    (path,) = export([NAME], report, "smoke", tmp_path / "tables", "netcdf")
    with xarray.open_datatree(path, engine="h5netcdf") as found:
        assert found.attrs["study"] == NAME
        np.testing.assert_array_equal(found["prediction"]["deep.z"], np.eye(2))
        np.testing.assert_array_equal(found["observation"]["record.mean"], X)
        assert found["observation"].attrs["left_out"] == '["record/fitted", "many"]'
        table = found["points"]
        theory = (table["kind"] == "theory").values
        np.testing.assert_array_equal(table["y"].values[theory], X**2)
        assert np.isnan(table["error_low"].values[theory]).all()
    assert path.with_suffix(".json").exists()


def test_results_from_before_arrays_were_kept_have_their_points(report, tmp_path):
    folder, summary = stored(report)
    (folder / "arrays.npz").unlink()
    del summary["sha256"]
    (folder / "result.json").write_bytes(results.as_json(summary))
    assert arrays(*stored(report)) == {}
    for form in ("csv", *(["netcdf"] if importlib.util.find_spec("h5py") else [])):
        export([NAME], report, "smoke", tmp_path / "tables", form)


@pytest.mark.parametrize(
    ("damage", "form", "sentence"),
    [
        (("arrays.npz", lambda x: x[:50] + b"!" + x[51:]), "netcdf", "arrays.npz is not what was written"),
        (("arrays.npz", lambda x: x[:100]), "netcdf", "arrays.npz is not what was written"),
        (("plotted.csv", lambda x: x.replace(b"9", b"8", 1)), "csv", "plotted.csv is not what was written"),
        (("plotted.csv", None), "csv", "plotted.csv cannot be read .No such file"),
    ],
)
def test_a_damaged_result_is_named(report, tmp_path, damage, form, sentence):
    name, change = damage
    path = results.folder_of(report, NAME, "smoke") / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=sentence):
        export([NAME], report, "smoke", tmp_path / "tables", form)


def test_the_command_says_what_it_wrote_or_why_not(report, tmp_path):
    arguments = ["export", NAME, "--report", str(report), "--out", str(tmp_path / "tables")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert done.stdout.split() == [str(tmp_path / "tables" / f"{NAME}.csv"), str(tmp_path / "tables" / "points.csv")]
    for change, sentence in (
        (["--format", "xls"], "--format must be one of csv, netcdf, got 'xls'"),
        (["--size", "paper"], f"holds no result of {NAME} at size paper"),
        (["--out", "/dev/null"], "--out must be a folder"),
    ):
        done = CliRunner().invoke(app, [*arguments, *change])
        assert done.exit_code == 2
        assert sentence in done.stderr
