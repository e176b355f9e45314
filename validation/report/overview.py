"""The first page: the tally, the map of regimes, the families, and every study to search."""

from __future__ import annotations

from html import escape

from validation.report.markup import family_name, framed, joined, mark, tally
from validation.study import ASKS, REGIMES

TITLE = "Theory against trained networks"


def page(summaries: list[dict], families: list[str], missing: list[str], size: str, count: dict[str, int]) -> str:
    """The overview of all that stands."""
    where = summaries[0] if summaries else {"device": "-", "versions": {}}
    listed = "".join(map(entry, summaries))
    listing = escape(", ".join(missing))
    absent = (
        f"<details><summary>{len(missing)} studies have not been run</summary><p>{listing}</p></details>"
        if missing
        else ""
    )
    body = f"""<h1>{TITLE}</h1>
<p class="lead">Each study states a theory of how networks learn, trains networks that could refute it, and judges
both by claims. A claim holds if its measured value is at most its tolerance; every study also names wrong
theories, its rivals, which the same claims must refute.</p>
<ul class="tally">
{tally("studies hold", count["studies_that_hold"], count["studies"])}
{tally("claims hold", count["claims_that_hold"], count["claims"])}
{tally("rivals refuted", count["rivals_refuted"], count["rivals"])}
</ul>
<p class="soft">Size {escape(size)} · {escape(where["device"])} · {escape(joined(where["versions"]))} ·
<a href="summary.json" download>verdicts (JSON)</a></p>
{absent}
<h2 id="map">Which theory holds where</h2>
{regimes(summaries)}
<h2 id="studies">Every study</h2>
<div class="filters" hidden>
<label class="search">Search
<input type="search" id="search" placeholder="plateau, Zipf, ridge …" autocomplete="off"></label>
{choice("family", {f: family_name(f) for f in families})}
{choice("asks", ASKS)}
{choice("verdict", {"holds": "holds", "fails": "fails"})}
<p class="soft" id="found" role="status"></p>
</div>
<ul class="studies">
{listed}</ul>
"""
    return framed(TITLE, body, up="", families=families, here="map")


def regimes(summaries: list[dict]) -> str:
    """The map: a column for each regime, a row for each question, studies where both meet."""
    placed = [s for s in summaries if s.get("regimes") and s.get("asks")]
    heads = "".join(
        f'<th scope="col" data-regime="{key}"><b>{escape(head)}</b><small>{escape(rest)}</small></th>'
        for key, (head, rest) in ((k, parted(v)) for k, v in REGIMES.items())
    )
    rows = ""
    for ask, question in ASKS.items():
        cells = ""
        for regime in REGIMES:
            here = [s for s in placed if regime in s["regimes"] and s["asks"] == ask]
            links = "".join(f"<li>{mark(s['holds'])} {link(s)}</li>" for s in here)
            cells += f'<td data-regime="{regime}"><ul>{links}</ul></td>'
        rows += f'<tr><th scope="row">{escape(question)}</th>{cells}</tr>\n'
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="map of regimes"><table class="map">
<thead><tr><td></td>{heads}</tr></thead><tbody>
{rows}</tbody></table></div>"""


def parted(regime: str) -> tuple[str, str]:
    """What stands before the first comma or colon, and the rest."""
    at = min(i for i in (regime.find(","), regime.find(":"), len(regime)) if i >= 0)
    return regime[:at], regime[at + 1 :].strip()


def link(summary: dict) -> str:
    return f'<a href="studies/{summary["study"]}.html">{escape(summary["title"])}</a>'


def entry(summary: dict) -> str:
    """One line of the list, with the words by which it is found."""
    words = " ".join(
        [summary["title"], summary["question"], summary["source"], summary["study"].replace("_", " ")]
        + [c["statement"] for c in summary["claims"]]
    )
    verdict = "holds" if summary["holds"] else "fails"
    return (
        f'<li data-words="{escape(words.lower())}" data-family="{summary["family"]}" data-verdict="{verdict}"'
        f' data-asks="{escape(summary.get("asks", ""))}">{mark(summary["holds"])} {link(summary)}'
        f"<small>{escape(summary['question'])}</small></li>\n"
    )


def choice(name: str, options: dict[str, str]) -> str:
    """A menu that filters the list."""
    listed = "".join(f'<option value="{escape(k)}">{escape(v)}</option>' for k, v in options.items())
    menu = f'<select data-filter="{name}"><option value="">any</option>{listed}</select>'
    return f"<label>{name.capitalize()} {menu}</label>"
