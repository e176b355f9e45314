"""The report: a folder of static pages that needs no network, and no script to be read.

    <out>/index.html                            the map of regimes, and every study to search
          studies/<family>.html                 a family: its guide, its studies
          studies/<family>/<study>.html         a study: figure, claims, rivals, formulas, settings
          benchmarks.html, reference/*.html     speed against peers; every public function
          summary.json                          the verdicts
          report.css, report.js                 how it looks; search, filter, keys

`write(out, size)` makes all of it from the results that stand in `out`. Formulas are MathML printed from the
derivations; figures are SVG, beside the points in them and a PDF.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sims.checkpoints import write_atomically
from validation import results
from validation.report import benchmarks_page, family_page, overview, reference, study_page
from validation.report.formulas import formula
from validation.report.markup import ordered
from validation.study import discover

HERE = Path(__file__).parent


def write(out: Path, size: str) -> Path:
    """Bring the pages and the summary in `out` up to date; returns the first page's path."""
    out = Path(out)
    summaries = [s for name in discover() if (s := results.read(out, name, size)) is not None]
    write_atomically(out / "summary.json", results.as_json({"totals": totals(summaries), "studies": summaries}))
    for name in ("report.css", "report.js"):
        write_atomically(out / name, (HERE / name).read_bytes())
    for name, html in pages(out, summaries, size).items():
        write_atomically(results.within(out, name), html.encode())
    return out / "index.html"


@contextlib.contextmanager
def prepared() -> Iterator[Callable[[dict], None]]:
    """Within it, what pages need beside results is made and kept: drawings of benchmarks, and formulas of the studies
    whose summaries are given to the function that it yields.

    Studies run in other processes meanwhile, so that pages stand soon after the last one. An interrupt ends it; what it
    could not make `write` makes, and says what is wrong.
    """
    parts: queue.SimpleQueue[Callable[[], str] | None] = queue.SimpleQueue()
    stopped = threading.Event()
    for text in benchmarks_page.texts():
        parts.put(functools.partial(benchmarks_page.section, text))

    def add(summary: dict) -> None:
        for name in summary["formulas"]:
            parts.put(functools.partial(formula, name, summary["study"]))

    def make():
        while (part := parts.get()) is not None and not stopped.is_set():
            with contextlib.suppress(Exception):
                part()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield add
    except BaseException:
        stopped.set()
        raise
    finally:
        parts.put(None)
        # Two threads must not draw at once.
        thread.join()


def pages(out: Path, summaries: list[dict], size: str) -> dict[str, str]:
    """Every page, by its path in the report."""
    families = ordered([s["family"] for s in summaries])
    missing = [name for name in discover() if name not in {s["study"] for s in summaries}]
    in_order = [s for family in families for s in summaries if s["family"] == family]
    found = {"index.html": overview.page(in_order, families, missing, size, totals(summaries))}
    for family in families:
        own = [s for s in summaries if s["family"] == family]
        found[f"studies/{family}.html"] = family_page.page(out, family, own, families)
        for before, summary, after in zip([None, *own], own, [*own[1:], None], strict=False):
            found[f"studies/{summary['study']}.html"] = study_page.page(out, summary, families, before, after)
    found |= {f"reference/{name}": html for name, html in reference.pages(families).items()}
    return found | {"benchmarks.html": benchmarks_page.page(families)}


def totals(summaries: Iterable[dict]) -> dict[str, int]:
    """How many studies, claims and rivals there are, and how many hold or are refuted."""
    summaries = list(summaries)
    claims = [c for s in summaries for c in s["claims"]]
    rivals = [r for s in summaries for r in s["rivals"]]
    return {
        "studies": len(summaries),
        "studies_that_hold": sum(s["holds"] for s in summaries),
        "claims": len(claims),
        "claims_that_hold": sum(c["holds"] for c in claims),
        "rivals": len(rivals),
        "rivals_refuted": sum(r["refuted"] for r in rivals),
    }
