"""The command line, as a user meets it: verdicts, exit codes, Ctrl-C, resume, and every kind of bad input."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from validation.__main__ import app
from validation.runner import Options, run_one

COMMON = """
import numpy as np
from validation import style
from validation.study import Claim, Rival, Study

def draw(figure, problem, prediction, observation):
    axes = figure.subplots()
    style.theory(axes, prediction["x"], prediction["y"], label="theory")
    style.networks(axes, prediction["x"], observation["y"], label="networks")
    axes.set(xlabel="x", title="A line")

def study(**changes):
    x = np.arange(5.0)
    return Study(**(dict(
        title="A line", question="Is it straight?", source="none",
        sizes={"smoke": {"off": 0.01}, "paper": {"off": 0.001}},
        predict=lambda problem: {"x": x, "y": 2 * x},
        simulate=lambda problem: {"y": 2 * x + problem.off},
        claims=(Claim("it is straight", lambda p, o: np.abs(p["y"] - o["y"]).max() / 0.02, 1.0, "given"),),
        rivals=(Rival("it is flat", lambda problem, p: p | {"y": 0 * x}),),
        draw=draw) | changes))
"""
STUDIES = {
    "good": "STUDY = study()",
    "failing": 'STUDY = study(simulate=lambda problem: {"y": np.zeros(5)})',
    "standing": 'STUDY = study(rivals=(Rival("the same again", lambda problem, p: p),))',
    "crashing": "def burst(problem):\n    raise RuntimeError('the sky fell')\nSTUDY = study(simulate=burst)",
    "dying": "import os\nSTUDY = study(simulate=lambda problem: os._exit(9))",
}
SLOW = """
import os, time
from pathlib import Path
import jax.numpy as jnp
from sims.engine import Simulation, grid, simulate

WALK = Simulation(lambda key, hyper: hyper["x"], lambda x: jnp.tanh(x), lambda x: x)

def train(problem):
    # Pauses, so that on any machine it takes longer than a test needs to interrupt it.
    signs = Path(os.environ["STAGEWISE_STUDIES"])
    for i in range(80):
        simulate(WALK, grid(x=[float(i)]), [100])
        (signs / "started").touch()
        if not (signs / "hurry").exists():
            time.sleep(0.5)
    return {"y": 2 * np.arange(5.0)}

STUDY = study(simulate=train)
"""


def family(folder, **studies):
    """A family `sample` of studies in `folder`, and the environment in which the command finds it."""
    sample = folder / "studies" / "sample"
    sample.mkdir(parents=True)
    (sample / "__init__.py").touch()
    for name, text in studies.items():
        (sample / f"{name}.py").write_text(f'"""The {name} study."""\n{COMMON}{text}\n')
    return os.environ | {"STAGEWISE_STUDIES": str(folder / "studies"), "JAX_PLATFORMS": "cpu", "COLUMNS": "150"}


def stagewise(*arguments, env=None, cwd=None):
    command = [sys.executable, "-m", "validation", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=300)


def test_verdicts_exit_codes_and_artefacts(tmp_path):
    env = family(tmp_path, **STUDIES)
    out = tmp_path / "out"
    done = stagewise("run", "sample", "--out", out, "--jobs", 2, env=env)
    assert done.returncode == 1
    assert "1 of 5 studies hold" in done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("sample/")}
    assert "holds" in rows["sample/good"]
    assert "FAILS" in rows["sample/failing"]
    assert "FAILS" in rows["sample/standing"]
    assert "RuntimeError: the sky fell" in done.stdout
    assert "its process ended with exit code 9" in done.stdout

    summary = json.loads((out / "summary.json").read_text())
    verdicts = {s["study"]: s["holds"] for s in summary["studies"] if s["family"] == "sample"}
    assert verdicts == {"sample/good": True, "sample/failing": False, "sample/standing": False}
    assert summary["totals"]["rivals_refuted"] == 1, "to a flat network the flat rival is right"
    points = list(csv.DictReader((out / "studies/sample/good/smoke/plotted.csv").read_text().splitlines()))
    lines = [(float(p["x"]), float(p["y"])) for p in points if p["kind"] == "theory"]
    assert lines == [(x, 2 * x) for x in range(5)]
    networks = [float(p["y"]) for p in points if p["kind"] == "networks"]
    assert networks == pytest.approx([2 * x + 0.01 for x in range(5)])
    assert not list(out.rglob("*.tmp"))

    shown = stagewise("show", "good", "--out", out, env=env)
    assert shown.returncode == 0
    assert "it is straight" in shown.stdout
    assert "refuted" in shown.stdout


def test_a_study_that_holds_exits_with_zero(tmp_path):
    env = family(tmp_path, good=STUDIES["good"])
    assert stagewise("run", "good", "--out", tmp_path / "out", env=env).returncode == 0


def test_resume_keeps_what_is_finished_and_whole(tmp_path, monkeypatch):
    family(tmp_path, good=STUDIES["good"])
    studies = importlib.import_module("validation.studies")
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path / "studies")])
    for module in ("sample", "sample.good"):
        monkeypatch.delitem(sys.modules, f"validation.studies.{module}", raising=False)
    fresh = Options("smoke", 0, tmp_path / "out", resume=False)
    result = fresh.out / "studies" / "sample" / "good" / "smoke" / "result.json"
    assert run_one("sample/good", fresh)["holds"]
    before = result.stat().st_mtime_ns
    resumed = fresh._replace(resume=True)
    assert run_one("sample/good", resumed)["holds"]
    assert result.stat().st_mtime_ns == before, "a finished study was run again"
    run_one("sample/good", resumed._replace(seed=1))
    assert result.stat().st_mtime_ns != before, "another seed is another run"
    # A broken result is not taken for a finished one.
    result.write_text("{")
    run_one("sample/good", resumed)
    assert json.loads(result.read_text())["holds"]


def test_interrupt_keeps_what_is_finished_and_resume_goes_on(tmp_path):
    env = family(tmp_path, good=STUDIES["good"], slow=SLOW)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "validation", "run", "sample", "--out", str(out), "--jobs", "1"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    checkpoints = out / "checkpoints" / "sample" / "slow"
    finished = out / "studies" / "sample" / "good" / "smoke" / "result.json"
    deadline = time.monotonic() + 120
    while not (finished.exists() and (tmp_path / "studies" / "started").exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.fail("the slow study was over before it could be interrupted")
    assert process.returncode == 130
    assert "1 of 2 studies finished and kept" in printed
    assert (out / "index.html").exists()
    saved = list(checkpoints.rglob("*.npz"))
    (tmp_path / "studies" / "hurry").touch()
    again = stagewise("run", "sample", "--out", out, "--resume", env=env)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 of 2 studies hold" in again.stdout
    assert saved, "the interrupted study left no checkpoint"


def test_a_full_disk_is_one_sentence_and_no_half_file(tmp_path):
    env = family(tmp_path, good=STUDIES["good"])
    out = tmp_path / "out"
    # Files may grow to 4 kB only: the verdicts fit, the figure does not.
    limited = f"ulimit -f 4; exec {sys.executable} -m validation run good --out {out}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 1
    assert "File too large" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob("result.json"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "nowhere"), "unknown study or family 'nowhere'; the families are bayes_icl"),
        (("run", "dept"), "did you mean deep_linear/depth"),
        (("run", "--size", "huge"), "--size must be one of smoke, paper, got 'huge'"),
        (("run", "--keep"), "--keep copies verdicts of paper runs, got --size smoke"),
        (("run", "--out", "/dev/null"), "--out must be a folder, got the file /dev/null"),
        (("run", "--out", "/proc/nothing"), "/proc/nothing"),
        (("run", "--seed", "-1"), "--seed"),
        (("run", "--seed", "x"), "--seed"),
        (("run", "--jobs", "-2"), "--jobs"),
        (("show", "nowhere"), "unknown study or family 'nowhere'"),
        (("show", "deep_linear"), "name must be one study, got 'deep_linear'"),
        (("show", "two_layer_modes", "--size", "huge"), "--size must be one of"),
        (("dance",), "dance"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(arguments, sentence):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 2
    assert sentence in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_help_and_list_answer_without_jax():
    code = (
        "import sys, validation.__main__ as m\n"
        "from typer.testing import CliRunner\n"
        "for arguments in (['--help'], ['run', '--help'], ['list']):\n"
        "    result = CliRunner().invoke(m.app, arguments)\n"
        "    assert result.exit_code == 0, result.output\n"
        "assert 'two_layer_modes' in result.output\n"
        "heavy = {'jax', 'sympy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
