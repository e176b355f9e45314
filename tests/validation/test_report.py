"""The page: complete, self-contained, and alive in a real browser."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from derivations import formula
from validation import report, results, style
from validation.study import Claim, Rival, Study, check

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    for i in range(2):
        style.theory(left, prediction["x"], prediction["y"] + i, i=i, label=f"mode {i}")
        style.networks(left, prediction["x"], observation["y"] + i, i=i, error=np.full(5, 0.1))
    style.rival(right, prediction["x"], 0 * prediction["y"], label="flat")
    style.band(right, prediction["x"], np.stack([prediction["y"], prediction["y"] + 1]), i=2, label="nets")
    left.set(title="Left & right < panel")
    left.legend()


def sample(off=0.01):
    x = np.arange(5.0)
    return Study(
        title="Lines & <angles>",
        question="Is 1 < 2?",
        source="nobody",
        sizes={"smoke": dict(off=off, grid=tuple(range(20))), "paper": dict(off=off / 10, grid=(1,))},
        predict=lambda problem: {"x": x, "y": 2 * x},
        simulate=lambda problem: {"y": 2 * x + problem.off},
        claims=(Claim("straight", lambda p, o: np.abs(p["y"] - o["y"]).max() / 0.02, 1.0, "a < b"),),
        rivals=(Rival("flat", lambda problem, p: p | {"y": 0 * x}),),
        draw=draw,
        formulas=("deep_linear.modes.two_layer",),
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A report over three studies of two families, one of which fails."""
    folder = tmp_path_factory.mktemp("report")
    names = {"lines/first": sample(), "lines/second": sample(0.03), "curves/third": sample()}
    patch = pytest.MonkeyPatch()
    patch.setattr(report, "discover", lambda: {name: name for name in names})
    patch.setattr(results, "PAPER", folder / "paper")
    for name, study in names.items():
        outcome = check(study)
        results.write(folder, results.summary_of(name, study, "smoke", 0, outcome), study, outcome)
    results.keep(results.summary_of("lines/first", sample(), "paper", 0, check(sample(), size="paper")))
    report.write(folder, "smoke")
    yield folder
    patch.undo()


def test_the_page_needs_nothing_but_itself(out):
    html = (out / "index.html").read_text()
    assert "<script" not in html
    loaded = re.findall(r'(?:src|href)="([^"#][^"]*)"', html)
    assert all(not link.startswith(("http", "//")) for link in loaded), loaded
    assert "@import" not in html
    assert "Lines &amp; &lt;angles&gt;" in html
    assert "<angles>" not in html
    for link in loaded:
        assert link.startswith("data:") or (out / link).exists(), f"{link} leads nowhere"


def test_everything_that_was_judged_is_on_the_page(out):
    html = (out / "index.html").read_text()
    for piece in ("2 of 3</b> studies hold", "0.5 ≤ 1", "1.5 &gt; 1", "a &lt; b", "refuted", "<math", "λ"):
        assert piece in html, piece
    assert "own settings (" in html, "the paper run is shown beside"
    assert html.count("<svg") == 3


def test_summary_and_points_are_machine_readable(out):
    summary = json.loads((out / "summary.json").read_text())
    assert summary["totals"]["claims_that_hold"] == 2
    first = summary["studies"][0]
    assert {"settings", "digest", "device", "versions", "seconds", "claims", "rivals"} <= set(first)
    text = (out / "plotted.csv").read_text()
    for kind in ("theory", "networks", "rival", "band edge"):
        assert f",{kind}," in text
    assert ",mode 1,networks,4,9.01," in text.replace("Left & right < panel", ""), (
        "unlabelled points take the line's name"
    )


def test_not_a_number_is_written_as_null():
    text = results.as_json({"a": float("nan"), "b": np.float64(2), "c": np.array([1, 2]), "d": np.bool_(True)})
    assert json.loads(text) == {"a": None, "b": 2.0, "c": [1, 2], "d": True}


PROBE = """
<script>
addEventListener("load", () => {
  const seen = () => [...document.querySelectorAll("article")].filter(a => a.offsetHeight > 0).map(a => a.id);
  const found = { all: seen() };
  document.querySelector("#family-curves").click();
  found.curves = seen();
  document.querySelector("#family-all").click();
  found.again = seen();
  const size = e => { const b = e.getBoundingClientRect(); return Math.min(b.width, b.height); };
  found.figures = [...document.querySelectorAll("figure svg")].map(size);
  found.formulas = [...document.querySelectorAll("math")].map(size);
  found.wide = document.documentElement.scrollWidth - innerWidth;
  found.broken = [...document.querySelectorAll("svg [*|href]")]
    .map(e => e.getAttribute("href") || e.getAttributeNS("http://www.w3.org/1999/xlink", "href"))
    .filter(h => h && h[0] == "#" && !document.getElementById(h.slice(1))).length;
  found.ink = getComputedStyle(document.querySelector("figure svg text")).fill;
  document.body.innerHTML = "<pre id=probe>" + JSON.stringify(found) + "</pre>";
});
</script>
"""


def browse(page: Path, *flags: str) -> tuple[dict, str]:
    """What the probe found on the page in a headless browser, and what the browser logged."""
    copy = page.with_name(f"probe-{len(flags)}.html")
    copy.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", f"--user-data-dir={page.parent / 'profile'}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", *flags, "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(found[1]), done.stderr


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium here: apt-get install chromium")
def test_the_page_in_a_browser(out):
    page = out / "index.html"
    found, log = browse(page, "--window-size=1100,900")
    assert "CONSOLE" not in log, log
    assert found["all"] == ["lines-first", "lines-second", "curves-third"]
    assert found["curves"] == ["curves-third"], "the filter by family"
    assert found["again"] == found["all"]
    assert len(found["figures"]) == 3
    assert min(found["figures"]) > 100, "figures have a size"
    assert min(found["formulas"]) > 10, "formulas are drawn"
    assert found["broken"] == 0, "references inside the figures lead somewhere"
    assert found["wide"] <= 0
    light = found["ink"]
    dark, _ = browse(page, "--window-size=500,900", "--blink-settings=preferredColorScheme=0")
    assert dark["wide"] <= 0, "a phone need not scroll sideways"
    assert dark["ink"] != light, "the ink of the figures follows the colour scheme"


@pytest.mark.parametrize("name", ["deep_linear.matrix.network_map", "deep_linear.random_start.strength"])
def test_a_long_formula_and_the_parts_that_it_repeats_are_the_formula(name):
    expression = formula.find(name).expression
    form, parts = report.repeated_parts(expression)
    assert parts
    assert form.count_ops() < expression.count_ops() / 2
    for symbol, part in reversed(parts):
        form = form.xreplace({symbol: part})
    assert form.free_symbols == expression.free_symbols
    numbers = {x: 0.3 + 0.1 * i for i, x in enumerate(sorted(expression.free_symbols, key=str))}
    assert float(form.subs(numbers)) == pytest.approx(float(expression.subs(numbers)), rel=1e-12)
