"""The report: complete, self-contained, and alive in a real browser."""

import json
import os
import re
import shutil
import threading
from html import escape as html_escape
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from derivations import formula
from validation import report, results, style
from validation.report.formulas import repeated_parts
from validation.study import ASKS, Claim, Rival, Study, check

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
        regimes=("lazy", "rich"),
        asks="what",
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


def pages(out: Path) -> dict[str, str]:
    """All pages of a report, by path."""
    return {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*.html")}


def test_the_report_needs_nothing_but_itself(out):
    found = pages(out)
    assert {"index.html", "studies/lines.html", "studies/lines/first.html", "reference/index.html"} <= set(found)
    for name, html in found.items():
        loaded = re.findall(r'(?:src|href)="([^"#][^"]*)"', html)
        assert all(not link.startswith(("http", "//")) for link in loaded), (name, loaded)
        for link in loaded:
            target = (out / name).parent / link.split("#")[0]
            assert link.startswith("data:") or target.exists(), f"{link} on {name} leads nowhere"
        assert "<angles>" not in html
    style, script = (out / "report.css").read_text(), (out / "report.js").read_text()
    assert "@import" not in style
    assert "http" not in style + script
    assert "Lines &amp; &lt;angles&gt;" in found["studies/lines/first.html"]


def test_everything_that_was_judged_is_in_the_report(out):
    found = pages(out)
    assert "2 of 3</b> studies hold" in found["index.html"]
    assert "1.5 &gt; 1" in found["studies/lines/second.html"]
    first = found["studies/lines/first.html"]
    for piece in ("0.5 ≤ 1", "a &lt; b", "refuted", "<math", "λ", '<img src="first/smoke/figure.svg"'):
        assert piece in first, piece
    assert "own settings (" in first, "the paper run is shown beside"
    # Whoever cannot see the figure hears what is in it.
    assert re.search(r'<img [^>]*alt="[^"]*Left &amp; right &lt; panel; [^"]*mode 0, mode 1', first)
    for file in ("figure.svg", "figure.pdf", "plotted.csv", "result.json"):
        assert f'href="first/smoke/{file}" download' in first
    assert (out / "studies/lines/first/smoke/figure.pdf").read_bytes().startswith(b"%PDF")


def test_the_map_has_each_study_where_its_theory_holds(out):
    html = (out / "index.html").read_text()
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", html, re.DOTALL)
    assert [row[0] for row in rows] == [html_escape(question) for question in ASKS.values()]
    for question, cells in rows:
        for regime, cell in re.findall(r'<td data-regime="(\w+)">(.*?)</td>', cells, re.DOTALL):
            placed = question == ASKS["what"] and regime in ("lazy", "rich")
            assert cell.count("studies/lines/first.html") == placed


def test_benchmarks_are_shown_as_kept(tmp_path, monkeypatch):
    points = [{"x": n, "ratio": [8.0, 9.5, 12.0]} for n in (16, 64)]
    kept = dict(title="Ridge <at> all prefixes", x="context length", unit="theirs / ours", aim=40)
    kept |= dict(series={"compiled loop": points}, comment="missed by the solver")
    everything = dict(title="Bayes", command="python -m benchmarks.bayes", device="2 CPU cores", date="2026-01-02")
    everything |= dict(versions={"jax": "0.10.2"}, peers={"numpy": "2.4"}, results=[kept])
    (tmp_path / "bayes.json").write_text(json.dumps(everything))
    monkeypatch.setattr(report.benchmarks_page, "SPEED", tmp_path)
    html = report.benchmarks_page.page(["lines"])
    for piece in ("Ridge &lt;at&gt;", "9.5", "8 to 12", "Aim: 40", "missed by the solver", "jax 0.10.2", "numpy 2.4"):
        assert piece in html, piece
    assert html.count("<svg") == 1


def test_pages_are_prepared_while_studies_run(tmp_path, monkeypatch):
    """Each formula of a study that is done, a broken one or not; an interrupt ends it and leaves no thread behind."""
    made = []

    def formula(name, study):
        made.append((name, study))
        return str(1 / (name != "broken"))

    monkeypatch.setattr(report, "formula", formula)
    monkeypatch.setattr(report.benchmarks_page, "SPEED", tmp_path)
    (tmp_path / "linear.json").write_text("no JSON")
    with report.prepared() as prepare:
        prepare({"study": "lines/first", "formulas": ["broken", "whole"]})
        prepare({"study": "lines/second", "formulas": []})
    assert made == [("broken", "lines/first"), ("whole", "lines/first")]
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), report.prepared():
        raise KeyboardInterrupt
    assert threading.active_count() == threads


def test_summary_and_points_are_machine_readable(out):
    summary = json.loads((out / "summary.json").read_text())
    assert summary["totals"]["claims_that_hold"] == 2
    first = summary["studies"][0]
    assert {"settings", "digest", "device", "versions", "seconds", "claims", "rivals"} <= set(first)
    text = (out / "studies/lines/first/smoke/plotted.csv").read_text()
    for kind in ("theory", "networks", "rival", "band edge"):
        assert f",{kind}," in text
    assert ",mode 1,networks,4,9.01," in text.replace("Left & right < panel", ""), (
        "unlabelled points take the line's name"
    )


def test_not_a_number_is_written_as_null():
    text = results.as_json({"a": float("nan"), "b": np.float64(2), "c": np.array([1, 2]), "d": np.bool_(True)})
    assert json.loads(text) == {"a": None, "b": 2.0, "c": [1, 2], "d": True}


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, driven headless; CI must have it."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, out):
    """`opened(path, **how)`: a page of the report, and what its console says."""
    contexts = []

    def open_page(path, width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto((out / path).as_uri())
        return page, said

    yield open_page
    for context in contexts:
        context.close()


PLACES = ("index.html", "studies/lines.html", "studies/lines/first.html", "reference/sims.html", "benchmarks.html")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1200, "dark")], ids=["phone", "desk"])
@pytest.mark.parametrize("path", PLACES)
def test_a_page_in_a_browser(opened, path, width, scheme):
    page, said = opened(path, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "scrolls sideways"
    violations = Axe().run(page, options={"preload": False}).response["violations"]
    assert not violations, [(v["id"], v["nodes"][0]["html"][:200]) for v in violations]
    assert not said, "the console is silent, and nothing is asked of the network"


@pytest.mark.browser
def test_figures_and_formulas_are_drawn(opened):
    inks = []
    for scheme in ("light", "dark"):
        page, _ = opened("studies/lines/first.html", scheme=scheme)
        sizes = page.evaluate(
            """selector => [...document.querySelectorAll(selector)].map(e => {
                const box = e.getBoundingClientRect(); return Math.min(box.width, box.height); })""",
            "figure img, math",
        )
        assert len(sizes) > 1
        assert min(sizes) > 10
        picture = page.locator("figure img")
        assert picture.evaluate("e => e.complete && e.naturalWidth > 100"), "the file is a picture"
        inks.append(picture.evaluate("e => getComputedStyle(e).filter"))
    assert inks[0] != inks[1], "the ink of the figures follows the colour scheme"


@pytest.mark.browser
def test_search_filters_and_keys(opened):
    page, _ = opened("index.html")
    shown = lambda: page.locator(".studies > li:visible a").evaluate_all("all => all.map(a => a.pathname)")  # noqa: E731
    assert len(shown()) == 3
    page.keyboard.press("/")
    page.keyboard.type("curves")
    assert [path.split("/studies/")[1] for path in shown()] == ["curves/third.html"]
    page.locator("#search").fill("nobody angles")
    page.locator("[data-filter=verdict]").select_option("fails")
    assert [path.split("/studies/")[1] for path in shown()] == ["lines/second.html"]
    assert page.locator("#found").inner_text() == "1 of 3 studies"
    page.reload()
    assert len(shown()) == 1, "the address keeps what was asked"

    page, _ = opened("studies/lines/first.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip", "the first stop leads past the navigation"
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/second.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/first.html")


@pytest.mark.browser
def test_the_colour_scheme_can_be_chosen_and_paper_is_plain(opened):
    page, _ = opened("index.html")
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    light = ground()
    page.get_by_role("button", name="Dark").click()
    assert ground() != light
    assert page.get_by_role("button", name="Light").is_visible()
    page.emulate_media(media="print")
    assert not page.locator("header.site").is_visible()


@pytest.mark.parametrize("name", ["deep_linear.matrix.network_map", "deep_linear.random_start.strength"])
def test_a_long_formula_and_the_parts_that_it_repeats_are_the_formula(name):
    expression = formula.find(name).expression
    form, parts = repeated_parts(expression)
    assert parts
    assert form.count_ops() < expression.count_ops() / 2
    for symbol, part in reversed(parts):
        form = form.xreplace({symbol: part})
    assert form.free_symbols == expression.free_symbols
    numbers = {x: 0.3 + 0.1 * i for i, x in enumerate(sorted(expression.free_symbols, key=str))}
    assert float(form.subs(numbers)) == pytest.approx(float(expression.subs(numbers)), rel=1e-12)
