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

from collections.abc import Iterable
from pathlib import Path

from sims.checkpoints import write_atomically
from validation import results
from validation.report import benchmarks_page, family_page, overview, reference, study_page
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
