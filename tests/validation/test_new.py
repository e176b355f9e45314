"""`stagewise new`: what it writes says what is missing, holds once that is written, and never harms what is there."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from derivations.formula import find as find_formula
from validation import new
from validation.__main__ import app
from validation.new import begin
from validation.study import discover, select

ROOT = Path(__file__).parent.parent.parent
# What a user writes in the place of each sentence that the files raise.
WRITTEN = {
    "theory": ("the formula of order_parameter", "return -jnp.expm1(-rate * t)"),
    "derivation": ("the residual of the equation", "return sp.diff(_textbook, t) - rate * (1 - _textbook)"),
    "networks": (
        "train here the networks",
        "w, steps = 0.0, np.rint(np.asarray(problem.t) / problem.lr).astype(int)\n"
        "    trained = [w] + [w := w + problem.lr * problem.rate * (1 - w) for _ in range(steps[-1])]\n"
        "    return {'u': np.array(trained)[steps], 'lr': problem.lr}",
    ),
    # Twice the leading error of the steps, lr t exp(-t) / 2.
    "claim": (
        "the measure of the claim",
        "return np.abs(observation['u'] - prediction['u']).max() / (observation['lr'] / np.e)",
    ),
    "rival": ("what a wrong theory predicts", "return prediction | {'u': prediction['u'] ** 2}"),
}
FILLED = {"theory": ("theory",), "derivation": ("derivation",), "study": ("networks", "claim", "rival"), "tests": ()}


def fill(path, slots):
    """The sentences of a file replaced by what they ask for."""
    text = path.read_text()
    for slot in slots:
        sentence, code = WRITTEN[slot]
        before, found, after = text.partition("raise NotImplementedError(")
        said, _, rest = after.partition(")\n" if after.lstrip(" ").startswith('"') else "\n    )\n")
        assert found and sentence in " ".join(said.split()), f"{path} does not ask for {slot}"
        text = f"{before}{code}\n{rest}"
    path.write_text(
        text.replace("from jaxtyping", "import jax.numpy as jnp\nfrom jaxtyping") if "theory" in slots else text
    )


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_project_of_ones_own_says_what_is_missing_and_then_holds(tmp_path, run_pytest):
    written = begin("ageing/slow_decay", tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written.files} == files_below(tmp_path)
    found = run_pytest(tmp_path)
    expected = {
        "holds[Say in one sentence that could be wrong what trained networks do.]": "write here the formula",
        "is_refuted[Say what somebody might believe instead.]": "write here the formula",
        "proofs_simplify_to_zero[law]": "write here the residual of the equation that the formula solves",
        "theory_is_the_textbook_form[law]": "write here the formula",
        "test_limits": "write here the formula",
        "test_only_the_product_of_time_and_rate_counts": "write here the formula",
        "test_gradients_are_finite": "write here the formula",
    }
    assert set(found.failed) == set(expected), found.printed
    for name, sentence in expected.items():
        assert sentence in found.failed[name], name
    assert sum(name.startswith("test_refusals") for name in found.results) == 3

    family = tmp_path / "ageing"
    fill(family / "slow_decay_theory.py", FILLED["theory"])
    fill(family / "slow_decay_derivation.py", FILLED["derivation"])
    fill(family / "slow_decay.py", FILLED["study"])
    found = run_pytest(tmp_path)
    assert (found.code, len(found.results)) == (0, 10), found.printed


def checkout(folder):
    """The rooms of a checkout without its families."""
    for package in ("theory", "derivations", "validation", "validation.studies", "sims"):
        room = folder / package.replace(".", "/")
        room.mkdir(parents=True)
        for file in Path(importlib.import_module(package).__path__[0]).glob("*.py"):
            shutil.copy(file, room)
    (folder / "tests" / "theory").mkdir(parents=True)
    for file in ("conftest.py", "test_architecture.py", "test_derivations.py", "test_studies.py"):
        shutil.copy(ROOT / "tests" / file, folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.slow
def test_a_checkout_gets_files_that_its_own_rules_accept(tmp_path, run_pytest):
    before = files_below(checkout(tmp_path))
    begin("ageing/slow_decay", tmp_path)
    four = {
        "theory": "theory/ageing/slow_decay.py",
        "derivation": "derivations/ageing/slow_decay.py",
        "study": "validation/studies/ageing/slow_decay.py",
        "tests": "tests/theory/ageing/test_slow_decay.py",
    }
    packages = {f"{room}/ageing/__init__.py" for room in ("theory", "derivations", "validation/studies")}
    assert files_below(tmp_path) - before == set(four.values()) | packages
    if shutil.which("ruff", path=Path(sys.executable).parent):
        for check in (["check"], ["format", "--check"]):
            command = [Path(sys.executable).parent / "ruff", *check, *four.values(), *packages]
            subprocess.run(command, cwd=tmp_path, check=True)
    for kind, path in four.items():
        fill(tmp_path / path, FILLED[kind])
    wanted = "slow_decay or its_derivation or formula_that or backs_a_theory or refusals or limits or product"
    found = run_pytest(tmp_path, "-n", "0", "-k", wanted)
    assert found.code == 0, found.printed
    for name in (
        "test_proofs_simplify_to_zero[ageing.slow_decay.law]",
        "test_theory_function_is_the_textbook_form[ageing.slow_decay.law]",
        "test_study_holds[ageing/slow_decay]",
        "test_theory_functions_are_documented_and_typed[theory/ageing/slow_decay.py]",
        "test_every_theory_file_has_its_property_tests[theory/ageing/slow_decay.py]",
        "test_every_theory_file_of_a_family_has_its_derivation",
        "test_every_formula_that_a_study_names_exists",
        "test_limits",
    ):
        assert name in found.results


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("slow_decay", "STUDY must be a Python name of lower-case"),
        ("ageing/", "STUDY must be"),
        ("/slow_decay", "FAMILY must be a Python name"),
        ("ageing/slow/decay", "got 'ageing/slow/decay'"),
        ("../slow_decay", "FAMILY must be"),
        ("ageing/..", "STUDY must be"),
        ("Ageing/slow_decay", "FAMILY must be"),
        ("ageing/2nd", "STUDY must be"),
        ("ageing/slow-decay", "STUDY must be"),
        ("ageing/_slow", "STUDY must be"),
        ("ageing/naïve", "STUDY must be"),
        ("class/slow_decay", "FAMILY must be"),
        ("ageing/lambda", "STUDY must be"),
        ("ageing/test_slow", "takes for a file of tests, got 'test_slow'"),
        ("kernels/slow_decay", "got 'kernels', which is a family of stagewise"),
        ("theory/slow_decay", "got 'theory', which is another package's"),
        ("json/slow_decay", "got 'json', which is another package's"),
        ("numpy/slow_decay", "got 'numpy', which is the package at"),
    ],
)
def test_bad_names_are_one_sentence_and_leave_nothing(tmp_path, name, sentence):
    done = CliRunner().invoke(app, ["new", "--folder", str(tmp_path), "--", name])
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_must_be_one(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(ValueError, match="--folder must be a folder that exists, got"):
            begin("ageing/slow_decay", folder)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "ageing").mkdir()
    mine = tmp_path / "ageing" / "slow_decay_derivation.py"
    mine.write_text("mine")
    with pytest.raises(ValueError, match=r"must be new, but .*slow_decay_derivation.py exists"):
        begin("ageing/slow_decay", tmp_path)
    assert files_below(tmp_path) == {"ageing/slow_decay_derivation.py"}
    assert mine.read_text() == "mine"

    (tmp_path / "pyproject.toml").write_text("mine = 1")
    (tmp_path / "ageing" / "__init__.py").write_text("mine = 2")
    advice = begin("ageing/other", tmp_path).advice
    assert (tmp_path / "pyproject.toml").read_text() == "mine = 1"
    assert (tmp_path / "ageing" / "__init__.py").read_text() == "mine = 2"
    assert 'stagewise_studies = ["."]' in advice

    (tmp_path / "clash.py").touch()
    with pytest.raises(ValueError, match=r"FAMILY must be a folder, but .*clash.py is a file"):
        begin("clash/slow_decay", tmp_path)


def test_of_the_files_of_a_family_only_studies_are_studies(tmp_path, monkeypatch):
    studies = importlib.import_module("validation.studies")
    monkeypatch.setattr(studies, "__path__", [*studies.__path__])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    begin("ageing/slow_decay")
    before = discover()
    studies.include(".")
    studies.include(tmp_path)
    assert set(discover()) - set(before) == {"ageing/slow_decay"}
    assert (studies.__path__.count(str(tmp_path)), sys.path.count(str(tmp_path))) == (1, 1)
    assert select(["slow_decay"]) == ["ageing/slow_decay"]
    # The derivation is found by the name that the study has for it, and its file alone is loaded.
    assert find_formula("ageing.slow_decay_derivation.law").backs == "ageing.slow_decay_theory.order_parameter"
    assert "ageing.slow_decay_theory" not in sys.modules
    for name in ("ageing.slow_decay_derivation.lemma", "ageing.nothing.law", "law"):
        with pytest.raises(ValueError, match=f"name must be a formula like .*, got '{name}'"):
            find_formula(name)
    for module in ("ageing", "ageing.slow_decay_derivation"):
        del sys.modules[module]


def test_a_second_study_joins_its_family(tmp_path):
    begin("ageing/slow_decay", tmp_path)
    second = begin("ageing/fast_decay", tmp_path)
    assert len(second.files) == 4
    assert not any("stagewise_studies" in line for line in second.advice), "the first one wrote the options"


def test_a_link_that_leads_elsewhere_is_refused(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "ageing").symlink_to(outside, target_is_directory=True)
    with pytest.raises(ValueError, match=r"--folder must hold all files, but .* leads to"):
        begin("ageing/slow_decay", inside)
    assert not list(outside.iterdir())


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [1, 3, 6])
def test_nothing_half_written_stays(tmp_path, monkeypatch, stop, after):
    calls = []

    def full(_):
        calls.append(None)
        if len(calls) == after:
            raise stop

    monkeypatch.setattr(new.os, "fsync", full)
    (tmp_path / "mine").touch()
    with pytest.raises(type(stop)):
        begin("ageing/slow_decay", tmp_path)
    assert len(calls) == after
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_names_what_it_wrote(tmp_path):
    done = CliRunner().invoke(app, ["new", "ageing/slow_decay", "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for path in files_below(tmp_path):
        assert str(tmp_path / path) in done.stdout
    assert "stagewise run ageing/slow_decay" in done.stdout
