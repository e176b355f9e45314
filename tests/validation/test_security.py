"""What SECURITY.md promises: reading runs nothing, and nothing is written outside the folder that was named.

Keys of a store are tested in tests/sims/test_store.py, the settings of Slurm jobs in test_cluster.py, names of new
studies in test_new.py, damaged files with the checkpoints and tables that they damage.
"""

import ast
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from validation import report, results, runner
from validation.__main__ import app
from validation.report.formulas import formula

ROOT = Path(__file__).parents[2]
PACKAGES = ("theory", "sims", "derivations", "validation")
FILES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
# Objects between processes of one's own are pickled by multiprocessing and dask themselves, and by nothing here.
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "torch"}
NAMES = {"eval", "exec", "compile", "__import__", "system", "popen", "read_pickle", "unsafe_load", "literal_eval"}
NAME = "deep_linear/depth"
SUMMARY = dict(study=NAME, family="deep_linear", size="smoke", title="A curve", source="none", seed=0, digest="0" * 64)
SUMMARY |= dict(question="?", formulas=[], regimes=[], settings={}, seconds={}, device="none", versions={})
SUMMARY |= dict(claims=[], rivals=[], holds=True)


def dangers(tree):
    """What in a file could run code that is data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            words = {k.arg: ast.unparse(k.value) for k in node.keywords}
            called = ast.unparse(node.func)
            last = called.rpartition(".")[2]
            # `re.compile` and the like are no builtin.
            if last in NAMES and (called == last or called.startswith("os.") or last.startswith(("read", "unsafe"))):
                yield called
            if words.get("shell", "False") != "False" or words.get("allow_pickle", "False") != "False":
                yield ast.unparse(node)
            if called in ("np.load", "numpy.load", "jnp.load") and words.get("allow_pickle") != "False":
                yield ast.unparse(node)


def test_nothing_in_the_packages_runs_what_it_reads():
    found = {str(path.relative_to(ROOT)): list(dangers(ast.parse(path.read_text()))) for path in FILES}
    assert not {name: what for name, what in found.items() if what}


@pytest.mark.parametrize(
    "line",
    """import pickle; from marshal import loads; eval('1'); exec(text); np.load(path); os.system('ls'); import yaml
    np.load(path, allow_pickle=True); subprocess.run(line, shell=True); compile(a, b, 'exec')""".replace(
        "\n", ";"
    ).split(";"),
)
def test_the_rule_sees_each_of_these(line):
    assert list(dangers(ast.parse(line.strip())))


def put(out, place=f"studies/{NAME}/smoke", **changes):
    """A result in `out`, as somebody else may have written it."""
    folder = out / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(SUMMARY | changes))
    (folder / "plotted.csv").write_text(",".join(results.COLUMNS) + "\n")
    return folder


def outside(tmp_path):
    """All files and folders that do not lie in one of those that the commands were given."""
    given = [tmp_path / name for name in ("out", "tables")]
    return {p for p in tmp_path.rglob("*") if not any(p.is_relative_to(folder) for folder in given)}


@pytest.mark.parametrize("name", ["../../escaped", "/etc/passwd", "deep_linear/../deep_linear/depth", "..", ""])
@pytest.mark.parametrize("command", ["run", "show", "export"])
def test_names_of_studies_are_no_paths(tmp_path, command, name):
    done = CliRunner().invoke(app, [command, name, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("size", ["../../../..", "/", "..", "../smoke"])
def test_a_size_is_no_path(tmp_path, size):
    put(tmp_path, ".")
    put(tmp_path / "out")
    arguments = ["export", NAME, "--size", size, "--report", str(tmp_path / "out"), "--out", str(tmp_path / "tables")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert CliRunner().invoke(app, ["show", NAME, "--size", size, "--out", str(tmp_path / "out")]).exit_code == 2
    assert not list((tmp_path / "tables").iterdir())


CALLED = ({"study": "../../../escaped"}, {"family": "../../escaped"}, {"size": "../.."})


@pytest.mark.parametrize("changes", CALLED, ids=str)
@pytest.mark.parametrize("form", ["csv", "netcdf"])
def test_what_a_result_is_called_is_no_path(tmp_path, changes, form):
    put(tmp_path / "out", **changes)
    arguments = ["export", NAME, "--format", form, "--report", str(tmp_path / "out"), "--out", str(tmp_path / "tables")]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not outside(tmp_path)
    assert not list((tmp_path / "tables").iterdir())


def test_the_report_does_not_follow_what_a_result_is_called(tmp_path, monkeypatch):
    for place, changes in zip(("two_layer_modes", "exact_matrix", "depth"), CALLED, strict=True):
        put(tmp_path / "out", f"studies/deep_linear/{place}/smoke", **changes)
    # It takes a second, and no result has a say in it.
    monkeypatch.setattr(report.reference, "pages", lambda families: {})
    report.write(tmp_path / "out", "smoke")
    assert not outside(tmp_path)


@pytest.mark.parametrize("link", ["studies", "studies/deep_linear", f"studies/{NAME}/smoke", "checkpoints/deep_linear"])
def test_a_link_leads_nowhere(tmp_path, link):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for place in ("smoke", "depth/smoke", f"{NAME}/smoke"):
        put(elsewhere, place)
    before = outside(tmp_path)
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(elsewhere, target_is_directory=True)
    options = runner.Options("smoke", 0, out, resume=False)
    with pytest.raises(ValueError, match="leads out of --out"):
        runner.run_one(NAME, options)
    with pytest.raises(ValueError, match="leads out of --out"):
        results.write_files(results.folder_of(out, NAME, "smoke"), {}) or runner._checkpoints(NAME, options)
    assert results.read(out, NAME, "smoke") is None
    assert outside(tmp_path) == before, "what a link leads to is neither written nor removed"


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk", target_is_directory=True)
    put(tmp_path / "out")
    assert results.read(tmp_path / "out", NAME, "smoke")["title"] == "A curve"


def test_a_worker_does_not_choose_where_its_files_go(tmp_path):
    folder = tmp_path / "out" / "studies"
    for name in ("../escaped", "/escaped", "deeper/file", ".."):
        with pytest.raises(ValueError, match="own folder"):
            results.write_files(folder, {"result.json": b"{}", name: b""})
    assert not list(tmp_path.rglob("*"))


def test_a_word_in_a_result_loads_no_module(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nlaw = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("trap.law", "..trap.law", "derivations.trap.law", "formula.trap.law", "deep_linear.modes.sp", "law"):
        assert formula(name, "nobody/study") == ""
    assert not (tmp_path / "sprung").exists()
    assert "trap" not in sys.modules
    assert "<math" in formula("deep_linear.modes.two_layer", "nobody/study")
