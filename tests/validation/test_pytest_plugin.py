"""The plugin of pytest, as a project of somebody's own meets it: what is collected, run, and said of failures."""

import re

import pytest

from theory.bayes_icl.prequential import linear_predictions
from validation.predictor_laws import ISOTROPIC, law_test

OPTIONS = "[pytest]\nstagewise_studies = .\nstagewise_derivations = *.*_derivation\naddopts = --strict-markers\n"
STUDY = """
import os
from pathlib import Path
import numpy as np
from validation.study import Claim, Rival, Study
from lines.straight_theory import line

def simulate(problem):
    with open(Path(__file__).parent / "runs", "a") as file:
        file.write(f"{problem.size} {problem.seed}\\n")
    return {"y": 2 * np.arange(5.0) + 0.01}

def apart(scale):
    return lambda p, o: np.abs(p["y"] - o["y"]).max() / scale

STUDY = Study(
    title="A line", question="Is it straight?", source="none",
    sizes={"smoke": {"size": "smoke"}, "paper": {"size": "paper"}},
    predict=lambda problem: {"y": np.array([line(x, 2.0) for x in range(5)])},
    simulate=simulate,
    claims=(
        Claim("It is straight: y = 2x.", apart(0.02), 1.0, "twice what was put in"),
        Claim("It is straighter than it is.", apart(0.001), 1.0, "a tenth of what was put in"),
    ),
    rivals=(
        Rival("It is flat.", lambda problem, p: {"y": 0 * p["y"]}),
        Rival("Nothing is known.", lambda problem, p: {"y": np.nan * p["y"]}),
    ),
    draw=lambda *_: None,
)
"""
THEORY = "def line(x, slope):\n    return slope * x\n\ndef double(x):\n    return 4 * x\n"
DERIVATION = """
import sympy as sp
from derivations.formula import Formula, Interval

x, slope = sp.symbols("x a", real=True)

def formula(name, arguments, expression, residual):
    return Formula(
        title=f"Height of the {name}", backs=f"lines.straight_theory.{name}", symbol=sp.Symbol("y"),
        arguments=arguments, domain={a: Interval(1, 5) for a in arguments}, expression=expression,
        proofs={"dy/dx": residual}, source="none",
    )

line = formula("line", (x, slope), slope * x, sp.diff(slope * x, x) - slope)
twice = formula("double", (x,), 2 * x, sp.Integer(0))
unproved = formula("line", (x, slope), slope * x, sp.diff(slope * x, x))
"""


def project(folder, options=OPTIONS, **files):
    """A project with one family `lines`; files of it by name, "" leaves one out."""
    family = folder / "lines"
    family.mkdir(parents=True)
    written = {"__init__": "", "straight": STUDY, "straight_theory": THEORY, "straight_derivation": DERIVATION} | files
    for name, text in written.items():
        if text or name == "__init__":
            (family / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text(options)
    return folder


def test_every_claim_rival_and_formula_is_a_test(tmp_path, run_pytest):
    code, printed, results = run_pytest(project(tmp_path))
    assert code == 1, printed
    assert "FAILED lines/straight.py::holds[It is straighter than it is.] - Failed: The claim fails" in printed
    passed = {name for name, failure in results.items() if failure is None}
    failed = {name: failure for name, failure in results.items() if failure is not None}
    assert passed == {
        "holds[It is straight: y = 2x.]",
        "is_refuted[It is flat.]",
        "proofs_simplify_to_zero[line]",
        "proofs_simplify_to_zero[twice]",
        "theory_is_the_textbook_form[line]",
        "theory_is_the_textbook_form[unproved]",
    }
    claim = failed.pop("holds[It is straighter than it is.]")
    for word in ("The claim fails: It is straighter than it is.", "measured   10", "tolerance  1: a tenth of what"):
        assert word in claim
    rival = failed.pop("is_refuted[Nothing is known.]")
    assert "No claim refutes the rival: Nothing is known." in rival
    assert "measured nan, tolerance 1: It is straight: y = 2x." in rival
    assert "measured nan, tolerance 1: It is straighter than it is." in rival
    assert "Height of the line: 'dy/dx' leaves a" in failed.pop("proofs_simplify_to_zero[unproved]")
    formula = failed.pop("theory_is_the_textbook_form[twice]")
    assert "lines.straight_theory.double is not its formula" in formula
    assert re.search(r"\(x\) = \(1\.0,\): 4\.0 against 2\.0", formula)
    assert not failed
    for text in (claim, rival, formula):
        assert "Traceback" not in text and ".py" not in text, "what failed is a sentence, not lines of code"
    assert (tmp_path / "lines" / "runs").read_text() == "smoke 0\n", "a study is run once"


@pytest.mark.slow
def test_size_seed_and_precision(tmp_path, run_pytest):
    """The options reach the study, and float64 is on although a conftest.py imports JAX first."""
    project(tmp_path, straight_derivation="", options="[pytest]\nstagewise_studies = .\n")
    precise = "import jax\n\ndef pytest_configure():\n    assert jax.numpy.zeros(()).dtype == 'float64'\n"
    (tmp_path / "conftest.py").write_text(precise)
    code, printed, results = run_pytest(tmp_path, "--stagewise-size=paper", "--stagewise-seed=3", "-k", "flat")
    assert code == 0, printed
    assert list(results) == ["is_refuted[It is flat.]"]
    assert "--stagewise-size=paper --stagewise-seed=3 JAX_ENABLE_X64=1" in printed
    assert (tmp_path / "lines" / "runs").read_text() == "paper 3\n"


@pytest.mark.slow
def test_what_the_user_sets_stays(tmp_path, run_pytest):
    (tmp_path / "tests").mkdir()
    project(tmp_path, options="[pytest]\ntestpaths = tests\n")
    told = "import os\n\ndef test():\n    assert (os.environ['JAX_ENABLE_X64'], os.environ['XLA_FLAGS']) == ('0', '')\n"
    (tmp_path / "tests" / "test_told.py").write_text(told)
    mine = {"STAGEWISE_STUDIES": ".", "JAX_ENABLE_X64": "0", "XLA_FLAGS": ""}
    _, _, results = run_pytest(tmp_path, **mine)
    assert results["test"] is None
    assert "is_refuted[It is flat.]" in results, "the variable names folders, and testpaths does not hide them"
    _, _, results = run_pytest(tmp_path, "tests", **mine)
    assert list(results) == ["test"], "what is named is run, nothing else"
    _, _, results = run_pytest(tmp_path, "-m", "not stagewise", **mine)
    assert list(results) == ["test"]


def test_costs_nothing_where_nothing_is_set(tmp_path, run_pytest):
    light = (
        "import os, sys\n\ndef test():\n"
        "    assert 'validation.pytest_plugin' in sys.modules\n"
        "    ours = {m for m in sys.modules if m.split('.')[0] in ('validation', 'theory', 'sims', 'derivations')}\n"
        "    assert ours == {'validation', 'validation.pytest_plugin'}, ours\n"
        "    assert not {'JAX_ENABLE_X64', 'XLA_FLAGS', 'STAGEWISE_STUDIES'} & set(os.environ)\n"
    )
    project(tmp_path, options="[pytest]\n")
    (tmp_path / "test_light.py").write_text(light)
    code, printed, results = run_pytest(tmp_path)
    assert (code, list(results)) == (0, ["test"]), printed
    assert "stagewise:" not in printed


@pytest.mark.slow
def test_an_error_shows_the_projects_own_lines_once(tmp_path, run_pytest):
    broken = STUDY.replace("np.arange(5.0) + 0.01", "np.arange(5.0) / nothing")
    project(tmp_path, straight=broken, straight_derivation="import nothing")
    _, _, results = run_pytest(tmp_path, "--continue-on-collection-errors")
    first, *others = [failure for name, failure in results.items() if "[" in name]
    assert "straight.py:11: in simulate" in first and "name 'nothing' is not defined" in first
    assert "validation/study.py" not in first and "pluggy" not in first
    for other in others:
        assert other.startswith(
            "The study could not be judged, as another of its tests shows: NameError: name 'nothing'"
        )
    assert len(others) == 3
    assert any("No module named 'nothing'" in (failure or "") for failure in results.values())


@pytest.mark.parametrize(
    ("options", "files", "arguments", "sentence"),
    [
        ("stagewise_studies = nowhere", {}, (), "stagewise_studies must name folders, got"),
        ("stagewise_derivations = lines.nothing", {}, (), "must name modules, got 'lines.nothing', which is none"),
        ("stagewise_derivations = *.nothing", {}, (), "must name modules, got '*.nothing', which is none"),
        ("stagewise_derivations = lines.straight_theory", {}, (), "but holds no Formula"),
        ("stagewise_studies = .", {}, ("--stagewise-seed=-1",), "--stagewise-seed must be 0 or more, got -1"),
        ("stagewise_studies = .", {}, ("--stagewise-size=huge",), "must be one of smoke, paper, got 'huge'"),
        ("stagewise_studies = .", {"straight": "STUDY = 3"}, (), "STUDY must be a validation.study.Study, got 3"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path, run_pytest, options, files, arguments, sentence):
    code, printed, _ = run_pytest(project(tmp_path, f"[pytest]\n{options}\n", **files), *arguments)
    assert code in (2, 4)
    assert sentence in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_a_family_of_a_name_that_is_taken_is_refused(tmp_path, run_pytest):
    (project(tmp_path) / "lines").rename(tmp_path / "kernels")
    code, printed, _ = run_pytest(tmp_path, "kernels/straight.py")
    assert code == 2
    assert "another family is called 'kernels', and is found first: rename it" in printed


@pytest.mark.slow
def test_a_study_is_run_once_by_several_workers(tmp_path, run_pytest):
    pytest.importorskip("xdist")
    code, printed, results = run_pytest(
        project(tmp_path, straight_derivation="", options="[pytest]\nstagewise_studies = .\n"),
        *("-n", "2", "--dist", "loadfile"),
    )
    assert (code, len(results)) == (1, 4), printed
    assert (tmp_path / "lines" / "runs").read_text() == "smoke 0\n"


def predictor(x, y, noise):
    return linear_predictions(x, y, noise=noise)


def loud(x, y, noise):
    found = predictor(x, y, noise)
    return found._replace(variance=found.variance / 10)


@pytest.mark.parametrize("law", ["exchangeable", "louder_than_the_noise"])
def test_laws_are_one_line_in_a_file_of_tests(law):
    tests = law_test(predictor, ISOTROPIC)
    (marker,) = tests.pytestmark
    assert set(marker.args[1]) == set(ISOTROPIC)
    tests(law=law)


def test_a_law_that_is_broken_says_which():
    with pytest.raises(AssertionError, match=r"louder_than_the_noise: No label is known better .* tolerance 1e-08"):
        law_test(loud)(law="louder_than_the_noise")
