"""The command knows every benchmark, peers answer over their pipe, what is committed says what it was held against."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from validation.report.aims import aims

ROOT = Path(__file__).parent.parent
KEPT = sorted((ROOT / "validation" / "speed").glob("*.json"))


@pytest.fixture
def command(monkeypatch):
    """`benchmarks` lies beside the packages, is not one of them, and sets the number of threads of its process."""
    for name in ("XLA_FLAGS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.__main__ as found

    return found


def test_every_benchmark_is_known_to_the_command(command):
    files = {path.stem: path.read_text() for path in (ROOT / "benchmarks").glob("[!_]*.py")}
    keep = {name for name, text in files.items() if "keep(" in text or "run(" in text.split("def main()")[-1]}
    assert keep - command.PARTS == set(command.benchmarks()), "a file is neither a benchmark nor named as a part"
    assert set(files) == set(command.benchmarks()) | command.PARTS
    assert set(command.ASKED) <= set(command.benchmarks())
    from benchmarks.environments import ENVIRONMENTS, REPOSITORIES

    asked = {peer for peers in command.ASKED.values() for peer in peers}
    assert asked == set(ENVIRONMENTS) | set(REPOSITORIES)


def test_the_readme_has_the_table_of_what_is_kept(command):
    readme = (ROOT / "README.md").read_text()
    assert command.with_table(readme) == readme, "python -m benchmarks writes it"
    assert command.with_table(readme.replace("| aims met |", "| aims |")) == readme


def test_the_command_refuses_what_is_no_benchmark():
    call = [sys.executable, "-m", "benchmarks", "--only", "nothing"]
    ended = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2 and "'nothing'" in ended.stderr and "kernels" in ended.stderr


def test_a_peer_answers_what_it_knows_and_says_what_it_does_not(tmp_path):
    (tmp_path / "peer.py").write_text(
        "from benchmarks.serving import serve\n"
        "def square(n):\n    return (lambda: sum(range(1000))), n * n\n"
        "serve({'square': '1'}, {'square': square})\n"
    )
    asked = [{"kind": "square", "n": 7}, {"kind": "square", "n": "x"}, {"kind": "square", "n": 7}]
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "peer.py")],
        input="".join(json.dumps(each) + "\n" for each in asked),
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    versions, first, wrong, second = map(json.loads, ended.stdout.splitlines())
    assert versions == {"square": "1"} and first == {"entries": 49} and "TypeError" in wrong["error"]
    assert 0 < second["seconds"] < 1


def test_an_environment_that_cannot_be_made_is_left_out_with_its_reason(command, tmp_path, monkeypatch):
    from benchmarks import environments

    broken = environments.Environment(("no-such-package-of-any-kind-1",), ("math",))
    monkeypatch.setitem(environments.ENVIRONMENTS, "broken", broken)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert "no-such-package" in environments.set_up(tmp_path, "broken")
    assert environments.interpreter(tmp_path, "broken") is None and not (tmp_path / "broken").exists()


def test_aims_are_judged_by_their_median():
    series = {
        "one": [{"x": 5, "ratio": [9, 10, 30]}, {"x": 20, "ratio": [7, 9, 11]}],
        "two": [{"x": 5, "ratio": [1, 1, 1], "aim": 1}],
    }
    found = aims({"title": "t", "series": series, "aim": 10})
    assert [(each.rival, each.x, each.aim, each.met) for each in found] == [
        ("one", "5", 10, True),
        ("one", "20", 10, False),
        ("two", "5", 1, True),
    ]
    assert not aims({"title": "t", "series": {"one": series["one"]}, "aim": None})


def test_the_command_says_of_each_aim_whether_it_is_met(command, monkeypatch, capsys):
    from validation.report.aims import Aim

    found = {"training": [Aim("seeds", "PyTorch", "64", (20, 28, 31), 25)], "mean_field": None}
    found["kernels"] = [Aim("kernels", "peer", "N", (1, 2, 4), 3)]
    asked = []

    def ran(name, folder, rounds):
        asked.append((name, rounds))
        if name == "lazy_rich":
            raise KeyboardInterrupt
        return found[name]

    monkeypatch.setattr(command, "ran", ran)
    monkeypatch.setattr(command, "set_up", lambda folder, peer: "no network" if peer == "torch" else "")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "training", "kernels", "mean_field", "--rounds", "2"])
    with pytest.raises(SystemExit, match="failed: mean_field"):
        command.main()
    said = capsys.readouterr().out
    assert asked == [("training", 2), ("kernels", 2), ("mean_field", 2)]
    assert "1 of 2 met" in said and "without torch, which could not be installed: no network" in said
    assert "met     28 (20 to 31) of 25  training: seeds; PyTorch, 64" in said
    assert "missed  2 (1 to 4) of 3  kernels: kernels; peer, N" in said
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "training", "lazy_rich", "kernels"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    said = capsys.readouterr().out
    assert stopped.value.code == 130 and asked[-1][0] == "lazy_rich", "what comes after is not run"
    assert "what is written is kept" in said and "1 of 1 met" in said


def test_growth_finds_the_exponent_of_a_cost(command, monkeypatch):
    from benchmarks import kept

    def spent(calls, rounds):
        return {name: [(1 + 0.1 * i) * int(name) ** 2 for i in range(rounds)] for name in calls}

    monkeypatch.setattr(kept, "seconds_by_round", spent)
    found = kept.growth("t", "size", {"size": ((2, 4, 8), lambda n: lambda: n)}, rounds=3)
    assert [p["ratio"][1] for p in found.series["size"]] == pytest.approx([1, 4, 16])
    assert found.exponents["size"] == pytest.approx([2, 2, 2])


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_is_kept_says_where_it_was_found_and_why_aims_are_missed(path, command):
    kept = json.loads(path.read_text())
    assert kept["benchmark"] == path.stem and path.stem in command.benchmarks()
    assert kept["device"] and kept["date"] and {"python", "jax", "numpy"} <= set(kept["versions"])
    assert kept["results"]
    for result in kept["results"]:
        points = [point for some in result["series"].values() for point in some]
        assert points, result["title"]
        for point in points:
            low, middle, high = point["ratio"]
            assert 0 < low <= middle <= high < math.inf, (result["title"], point)
        missed = [aim for aim in aims(result) if not aim.met]
        assert not missed or result["comment"], f"{result['title']} misses an aim and does not say why: {missed}"
    # Spread: not all of a benchmark's ratios are of one round.
    assert any(p["ratio"][0] < p["ratio"][2] for r in kept["results"] for some in r["series"].values() for p in some)


def test_the_page_shows_missed_aims_first_and_exponents(tmp_path, monkeypatch):
    from validation.report import benchmarks_page

    near = {"x": 5, "ratio": [52, 61.5, 70], "aim": 50}
    far = {"x": 20, "ratio": [3, 4.25, 5], "aim": 8}
    grown = [{"x": n, "ratio": [n**2] * 3} for n in (1, 2, 4)]
    held = dict(title="Exact <solution>", x="units", unit="theirs / ours", comment="a matrix for each time")
    costs = dict(title="Growth", x="units", unit="CPU time", comment="", exponents={"units": [1.9, 2.0, 2.25]})
    kept = dict(title="Linear", command="python -m benchmarks", device="2 cores", date="2026-01-02", versions={})
    kept |= dict(peers={}, results=[held | {"series": {"peer": [near, far]}}, costs | {"series": {"units": grown}}])
    (tmp_path / "linear.json").write_text(json.dumps(kept))
    monkeypatch.setattr(benchmarks_page, "SPEED", tmp_path)
    html = benchmarks_page.page(["lines"])
    aims_shown = html[: html.index("<section>")]
    assert "1 of 2</b> aims met" in aims_shown and aims_shown.index("4.25") < aims_shown.index("61.5")
    assert aims_shown.count("a matrix for each time") == 1, "why an aim is missed stands beside it, and only there"
    assert "Exact &lt;solution&gt;: peer, 20" in aims_shown and html.count("<svg") == 2
    assert "units: exponent 2.0" in html and "1.90 to 2.25" in html
    benchmarks_page.section.cache_clear()
    assert html == benchmarks_page.page(["lines"]), "the page depends on nothing but what was kept"
