"""The page of one study: figure, claims, rivals, formulas, settings, and all of it to take away."""

from __future__ import annotations

from html import escape
from pathlib import Path

from validation import results
from validation.report.formulas import formula
from validation.report.markup import family_name, framed, joined, number, picture, scrolled, verdict_class
from validation.study import ASKS, REGIMES


def page(out: Path, summary: dict, families: list[str], before: dict | None, after: dict | None) -> str:
    """One study, with its neighbours in the family."""
    name, size = summary["study"], summary["size"]
    stem, folder = name.split("/")[1], results.folder_of(out, name, size)
    words = f"{summary['title']}. {summary.get('alternative', '')}"
    shown = "".join(formula(key, name) for key in summary["formulas"])
    files = f"{stem}/{size}"
    body = f"""<article>
<p class="crumbs"><a href="../{summary["family"]}.html">{escape(family_name(summary["family"]))}</a></p>
<div class="heading"><h1>{escape(summary["title"])}</h1>
<span class="verdict {verdict_class(summary["holds"])}">{"holds" if summary["holds"] else "fails"}</span></div>
<p class="lead">{escape(summary["question"])}</p>
<figure>{picture(words, folder / "figure.svg", f"{files}/figure.svg")}
<figcaption>Theory as lines, networks as points or bands, rivals dashed and grey.
<span class="take">Figure <a href="{files}/figure.svg" download>SVG</a> <a href="{files}/figure.pdf" download>PDF</a> ·
data <a href="{files}/plotted.csv" download>CSV</a> · verdicts <a href="{files}/result.json" download>JSON</a></span>
</figcaption></figure>
<h2>Claims</h2>
<ul class="claims">{"".join(claim(c) for c in summary["claims"])}</ul>
<h2>Rivals</h2>
<ul class="rivals">{"".join(rival(r) for r in summary["rivals"])}</ul>
{f"<h2>Formulas, proved symbolically</h2>{shown}" if shown else ""}
{paper(summary, results.kept(name))}
{settings(summary)}
</article>
<nav class="neighbours" aria-label="studies of the family">{neighbour(before, "prev")}{neighbour(after, "next")}</nav>
"""
    return framed(summary["title"], body, up="../../", families=families, here=summary["family"])


def neighbour(summary: dict | None, way: str) -> str:
    if summary is None:
        return "<span></span>"
    arrow = "← {}" if way == "prev" else "{} →"
    return f'<a rel="{way}" href="{summary["study"].split("/")[1]}.html">{arrow.format(escape(summary["title"]))}</a>'


def settings(summary: dict) -> str:
    """Where the numbers come from."""
    rows = {"source": escape(summary["source"])}
    where = [REGIMES[r] for r in summary.get("regimes", ())]
    if where:
        rows["regime"] = "; ".join(map(escape, where))
    if summary.get("asks"):
        rows["asks"] = escape(ASKS[summary["asks"]])
    rows |= {escape(k): escape(results.brief(v)) for k, v in summary["settings"].items()}
    rows["seed"] = escape(str(summary["seed"]))
    rows["seconds"] = " · ".join(f"{escape(k)} {v:.1f} s" for k, v in summary["seconds"].items())
    rows["where"] = f"{escape(summary['device'])}; {escape(joined(summary['versions']))}"
    rows["file"] = f"<code>validation/studies/{escape(summary['study'])}.py</code>"
    rows["again"] = f"<code>stagewise run {escape(summary['study'])} --size {escape(summary['size'])}</code>"
    rows["digest"] = f"<code>{escape(summary['digest'][:16])}</code>"
    listed = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows.items())
    return f"<details><summary>Source and settings</summary><dl>{listed}</dl></details>"


def claim(found: dict) -> str:
    value, tolerance = found["value"], found["tolerance"]
    share = 1.0 if value is None else value / tolerance if tolerance else float(value > 0)
    sign = "≤" if found["holds"] else "&gt;"
    over = "" if found["holds"] else " over"
    bar = f'<span class="bar{over}"><i style="width:{100 * min(share, 1):.0f}%"></i></span>'
    return (
        f'<li><div class="measure"><span>{escape(found["statement"])}</span>'
        f'<span class="value {verdict_class(found["holds"])}">{number(value)} {sign} {tolerance:g}</span>{bar}</div>'
        f"<small>{escape(found['reason'])}</small></li>\n"
    )


def rival(found: dict) -> str:
    if not found["refuted"]:
        return f'<li>{escape(found["belief"])} <span class="fails">still standing</span></li>\n'
    worst = max(found["by"], key=lambda v: v["value"] / (v["tolerance"] or 1))
    return (
        f'<li>{escape(found["belief"])} <span class="holds">refuted</span><br>'
        f"<small>measured {number(worst['value'])}, at most {worst['tolerance']:g} allowed, on: "
        f"{escape(worst['statement'])}</small></li>\n"
    )


def paper(summary: dict, kept: dict | None) -> str:
    """The committed run at the source's own settings, beside this one."""
    if kept is None or summary["size"] == "paper":
        return ""
    here = {c["statement"]: c for c in summary["claims"]}
    rows = "".join(
        f'<tr><td>{escape(c["statement"])}</td><td class="n">{number(here.get(c["statement"], c)["value"])}</td>'
        f'<td class="n {verdict_class(c["holds"])}">{number(c["value"])}</td><td class="n">{c["tolerance"]:g}</td></tr>'
        for c in kept["claims"]
    )
    heads = (
        "<tr><th>claim</th>" + "".join(f'<th class="n">{h}</th>' for h in ("here", "paper size", "tolerance")) + "</tr>"
    )
    changed = ", ".join(
        f"{k} = {results.brief(v)}" for k, v in kept["settings"].items() if summary["settings"].get(k) != v
    )
    refuted = sum(r["refuted"] for r in kept["rivals"])
    return f"""<details><summary>The same at the source's own settings ({escape(kept["device"])},
{sum(kept["seconds"].values()):.0f} s)</summary>{scrolled("paper size", heads + rows)}
<small>{refuted} of {len(kept["rivals"])} rivals refuted. {escape(changed)}. {escape(joined(kept["versions"]))};
digest <code>{kept["digest"][:16]}</code></small></details>"""
