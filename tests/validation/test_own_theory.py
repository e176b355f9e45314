"""The example of a theory of one's own, where only the wheel is installed: it passes, and a wrong formula fails.

    python -m pytest -m slow tests/validation/test_own_theory.py

Where this library is installed from its folder, a wheel is built first and installed into an environment of its own.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "docs" / "own_theory"
CLAIM = "holds[Averages of trained networks depart from the formula only by the step error of the networks.]"


def from_a_folder() -> bool:
    """Whether what is imported here is a checkout: an editable installation, or none."""
    try:
        origin = importlib.metadata.distribution("stagewise").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return True
    return bool(json.loads(origin or "{}").get("dir_info", {}).get("editable"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A Python that has the wheel, and of this one all else."""
    if not from_a_folder():
        return Path(sys.executable)
    folder = tmp_path_factory.mktemp("installed")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    uv = shutil.which("uv")
    if uv is None:
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], **quiet)
    else:
        subprocess.run([uv, "build", "-q", "--wheel", "--out-dir", str(folder), str(ROOT)], **quiet)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], **quiet)
    (place,) = (folder / "venv" / "lib").glob("python*/site-packages")
    python = folder / "venv" / "bin" / "python"
    if uv is None:
        subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(place), str(wheel)], **quiet)
    else:
        subprocess.run([uv, "pip", "install", "-q", "--no-deps", "--python", str(python), str(wheel)], **quiet)
    # Behind the wheel: packages that a path file adds are found, path files among them (an editable one) are not read.
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (place / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n")
    return python


@pytest.fixture
def example(tmp_path):
    return shutil.copytree(EXAMPLE, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("__pycache__", ".*"))


def plain_environment():
    ours = ("JAX_ENABLE_X64", "XLA_FLAGS", "PYTHONPATH")
    return {k: v for k, v in os.environ.items() if k not in ours} | {"JAX_PLATFORMS": "cpu", "COLUMNS": "150"}


@pytest.mark.slow
def test_the_wheel_is_what_is_imported_and_begins_theories(installed, tmp_path):
    code = "import sims, theory, validation; print(*(m.__path__[0] for m in (sims, theory, validation)), sep='\\n')"
    printed = subprocess.check_output([installed, "-c", code], cwd=tmp_path, env=plain_environment(), text=True)
    assert all(Path(line).parent.name == "site-packages" for line in printed.splitlines()), printed
    command = [installed, "-m", "validation", "new", "ageing/slow_decay"]
    subprocess.run(command, cwd=tmp_path, env=plain_environment(), check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "ageing" / "test_slow_decay.py").exists()


@pytest.mark.slow
def test_the_example_passes(installed, example, run_pytest):
    done = run_pytest(example, python=installed)
    assert done.code == 0, done.printed
    assert {CLAIM, "theory_is_the_textbook_form[mean_strength]", "test_start_and_end"} < set(done.results)
    command = [installed, "-m", "validation", "run", "averaging", "--out", str(example / "report")]
    environment = plain_environment() | {"STAGEWISE_STUDIES": str(example)}
    judged = subprocess.run(command, cwd=example, env=environment, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert "1 of 1 studies hold" in judged.stdout
    (page,) = (example / "report").rglob("*averaged_predictor*.html")
    assert "d(t v)/dt = u" in page.read_text(), "the page shows the formula that the theory has from its derivation"


@pytest.mark.slow
def test_a_factor_of_two_is_noticed_by_claim_and_formula(installed, example, run_pytest):
    theory = example / "averaging" / "averaged_predictor_theory.py"
    right = "x, share = 2 * s * t, u0 / s"
    assert right in theory.read_text()
    theory.write_text(theory.read_text().replace(right, "x, share = s * t, u0 / s"))
    done = run_pytest(example, python=installed)
    assert done.code == 1
    failed = done.failed
    assert {CLAIM, "theory_is_the_textbook_form[mean_strength]", "test_start_and_end"} <= set(failed), done.printed
    assert "proofs_simplify_to_zero[mean_strength]" not in failed, "the derivation is as right as before"
    assert "The claim fails: Averages of trained networks" in failed[CLAIM]
    assert "averaged_predictor_theory.averaged_strength is not its formula" in done.printed
