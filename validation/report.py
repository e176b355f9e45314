"""The report: one static page that holds everything, no script, no network.

`write(out, size)` reads the results that stand in `out` and writes `index.html`, `summary.json` (the verdicts) and
`plotted.csv` (every point of every figure). Families are filtered by CSS alone; formulas are MathML printed from
the derivations; figures are inline SVG whose ink follows the reader's colour scheme.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from sims.checkpoints import write_atomically
from validation import results
from validation.study import discover
from validation.style import INK

TITLE = "Theory against trained networks"


def write(out: Path, size: str) -> Path:
    """Bring the page, the summary and the table of points in `out` up to date; returns the page's path."""
    out = Path(out)
    summaries = [s for name in discover() if (s := results.read(out, name, size)) is not None]
    write_atomically(out / "summary.json", results.as_json({"totals": totals(summaries), "studies": summaries}))
    write_atomically(out / "plotted.csv", all_points(out, summaries).encode())
    write_atomically(out / "index.html", page(out, summaries, size).encode())
    return out / "index.html"


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


def all_points(out: Path, summaries: Iterable[dict]) -> str:
    """The tables of all figures as one, with the study in the first column."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("study", *results.COLUMNS))
    for summary in summaries:
        path = results.folder_of(out, summary["study"], summary["size"]) / "plotted.csv"
        rows = csv.reader(path.read_text().splitlines()) if path.exists() else iter(())
        next(rows, None)
        writer.writerows((summary["study"], *row) for row in rows)
    return table.getvalue()


def page(out: Path, summaries: list[dict], size: str) -> str:
    """The whole HTML page."""
    count = totals(summaries)
    families = sorted({s["family"] for s in summaries})
    missing = [name for name in discover() if name not in {s["study"] for s in summaries}]
    hide = "\n".join(
        f'body:has(#family-{f}:checked) [data-family]:not([data-family="{f}"]) {{ display: none; }}' for f in families
    )
    style = (Path(__file__).parent / "report.css").read_text()
    where = summaries[0] if summaries else {"device": "-", "versions": {}}
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>stagewise: {TITLE.lower()}</title>
<link rel="icon" href="data:,">
<style>
{style}
{hide}
</style>
</head>
<body>
<header>
<h1>{TITLE}</h1>
<p>Each study states a theory of how networks learn, trains networks that could refute it, and judges both by
claims. A claim holds if its measured value is at most its tolerance; every study also names wrong
theories, its rivals, which the same claims must refute.</p>
<ul class="tally">
{tally("studies hold", count["studies_that_hold"], count["studies"])}
{tally("claims hold", count["claims_that_hold"], count["claims"])}
{tally("rivals refuted", count["rivals_refuted"], count["rivals"])}
</ul>
<p class="soft">Size {escape(size)} · {escape(where["device"])} · {escape(joined(where["versions"]))} ·
<a href="summary.json">verdicts (JSON)</a> · <a href="plotted.csv">plotted data (CSV)</a></p>
{f'<p class="soft">Not run: {escape(", ".join(missing))}</p>' if missing else ""}
<fieldset>
<legend>Family</legend>
<label><input type="radio" name="family" id="family-all" checked> all</label>
{"".join(choice(f) for f in families)}
</fieldset>
<nav aria-label="studies"><ol>
{"".join(entry(s) for s in summaries)}
</ol></nav>
</header>
<main>
{"".join(article(out, s) for s in summaries)}
</main>
</body>
</html>
"""


def tally(what: str, hold: int, of: int) -> str:
    return f'<li><b class="{verdict_class(hold == of)}">{hold} of {of}</b> {what}</li>'


def choice(family: str) -> str:
    name = escape(family.replace("_", " "))
    return f'<label><input type="radio" name="family" id="family-{family}"> {name}</label>'


def entry(summary: dict) -> str:
    mark = "✓" if summary["holds"] else "✗"
    return (
        f'<li data-family="{summary["family"]}"><span class="{verdict_class(summary["holds"])}">{mark}</span> '
        f'<a href="#{anchor(summary)}">{escape(summary["title"])}</a></li>\n'
    )


def article(out: Path, summary: dict) -> str:
    """One study: figure, claims, rivals, formulas, settings."""
    name = summary["study"]
    folder = results.folder_of(out, name, summary["size"])
    word = "holds" if summary["holds"] else "fails"
    seconds = " · ".join(f"{escape(k)} {v:.1f} s" for k, v in summary["seconds"].items())
    shown = "".join(formula(key) for key in summary["formulas"])
    settings = "".join(
        f"<dt>{escape(k)}</dt><dd>{escape(results.brief(v))}</dd>" for k, v in summary["settings"].items()
    )
    data = f"studies/{name}/{summary['size']}/plotted.csv"
    return f"""<article id="{anchor(summary)}" data-family="{summary["family"]}">
<div class="heading"><h2>{escape(summary["title"])}</h2>
<span class="{verdict_class(summary["holds"])}">{word}</span></div>
<p>{escape(summary["question"])}</p>
<figure role="img" aria-label="{escape(summary["title"])}: theory as lines, networks as points">
{inline(folder / "figure.svg", anchor(summary))}</figure>
<h3>Claims</h3>
<ul class="claims">{"".join(claim(c) for c in summary["claims"])}</ul>
<h3>Rivals</h3>
<ul class="rivals">{"".join(rival(r) for r in summary["rivals"])}</ul>
{f"<h3>Formulas, proved symbolically</h3>{shown}" if shown else ""}
{paper(summary, results.kept(name))}
<details><summary>Settings, source, data</summary>
<dl><dt>source</dt><dd>{escape(summary["source"])}</dd>{settings}
<dt>seed</dt><dd>{summary["seed"]}</dd><dt>seconds</dt><dd>{seconds}</dd>
<dt>file</dt><dd><code>validation/studies/{escape(name)}.py</code></dd>
<dt>data</dt><dd><a href="{data}">plotted.csv</a></dd>
<dt>digest</dt><dd><code>{summary["digest"][:16]}</code></dd></dl></details>
</article>
"""


def claim(found: dict) -> str:
    value, tolerance = found["value"], found["tolerance"]
    share = 1.0 if value is None else value / tolerance if tolerance else float(value > 0)
    sign = "≤" if found["holds"] else "&gt;"
    bar = (
        f'<span class="bar{"" if found["holds"] else " over"}"><i style="width:{100 * min(share, 1):.0f}%"></i></span>'
    )
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


def formula(name: str) -> str:
    """One formula: its equation in MathML, what was proved of it, and the theory function that it backs."""
    from derivations.formula import find  # loads SymPy

    try:
        shown = find(name)
    except ValueError:
        # A result of an older version may name a formula that is gone.
        return ""
    proofs = "; ".join(escape(statement) for statement in shown.proofs)
    return (
        f'<div class="formula"><span>{escape(shown.title)}</span>'
        f'<div class="equation">{equation(shown)}</div>'
        f"<small>Proved: {proofs}. Backs <code>{escape(shown.backs)}</code>. {escape(shown.source)}</small></div>\n"
    )


def equation(shown: Any) -> str:
    """`symbol = expression`, or `law = 0`, in presentation MathML; what a long one repeats has lines of its own."""
    from sympy import Integer
    from sympy.core.function import AppliedUndef
    from sympy.printing.mathml import MathMLPresentationPrinter

    class Printer(MathMLPresentationPrinter):
        def mathml_tag(self, e):
            # SymPy's own would write E_g(t) with a small e.
            return e.func.__name__ if isinstance(e, AppliedUndef) else super().mathml_tag(e)

    def markup(expression) -> str:
        text = Printer({"mul_symbol": "", "fold_short_frac": False})._print(expression).toxml()
        # The printer's empty operator between factors would be drawn as a wide gap, its e as a double-struck one.
        text = re.sub(r"<mo>(&amp;InvisibleTimes;|&InvisibleTimes;)?</mo>|<mo/>", "<mo>\u2062</mo>", text)
        text = re.sub(r"<mi>(\w+)_(\w+)</mi>", r"<msub><mi>\1</mi><mi>\2</mi></msub>", text)
        return text.replace("&ExponentialE;", "e").replace("<mo>-</mo>", "<mo>\u2212</mo>")

    def line(left, right) -> str:
        body = f"{markup(left)}<mo>=</mo>{markup(right)}"
        return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"><mrow>{body}</mrow></math>'

    implicit = shown.expression is None
    form, parts = repeated_parts(shown.law if implicit else shown.expression)
    first = line(form, Integer(0)) if implicit else line(shown.symbol, form)
    return first + "".join(line(name, part) for name, part in parts)


def repeated_parts(expression: Any, long: int = 50) -> tuple[Any, list[tuple[Any, Any]]]:
    """A long expression in terms of the parts that it repeats, and these: (short form, [(name, part)]).

    Only parts of four operations and more that occur twice get a name; a textbook would not name the others either.
    """
    import sympy as sp

    if not isinstance(expression, sp.Expr) or expression.count_ops() <= long:
        return expression, []
    found, (short,) = sp.cse(expression, sp.numbered_symbols("part", cls=sp.Dummy), order="none")
    kept = []
    for i, (name, part) in enumerate(found):
        later = [short, *(p for _, p in found[i + 1 :])]
        if part.count_ops() >= 4 and sum(x.count(name) for x in later) > 1:
            kept.append((name, part))
            continue
        short = short.xreplace({name: part})
        found[i + 1 :] = [(n, p.xreplace({name: part})) for n, p in found[i + 1 :]]
    taken = {str(s) for s in expression.free_symbols}
    letter = next(x for x in ("xi", "chi", "Theta") if not any(t.startswith(x) for t in taken))
    names = {name: sp.Symbol(f"{letter}_{i}") for i, (name, _) in enumerate(kept, 1)}
    return short.xreplace(names), [(names[n], p.xreplace(names)) for n, p in kept]


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
    changed = ", ".join(
        f"{k} = {results.brief(v)}" for k, v in kept["settings"].items() if summary["settings"].get(k) != v
    )
    refuted = sum(r["refuted"] for r in kept["rivals"])
    return f"""<details><summary>The same at the source's own settings ({escape(kept["device"])},
{sum(kept["seconds"].values()):.0f} s)</summary><div class="scroll"><table>
<tr><th>claim</th><th class="n">here</th><th class="n">paper size</th><th class="n">tolerance</th></tr>{rows}</table>
</div><small>{refuted} of {len(kept["rivals"])} rivals refuted. {escape(changed)}. {escape(joined(kept["versions"]))};
digest <code>{kept["digest"][:16]}</code></small></details>"""


def inline(path: Path, prefix: str) -> str:
    """A figure's SVG for the page: ids made unique, ink in the reader's text colour."""
    if not path.exists():
        return '<p class="soft">The figure is missing.</p>'
    svg = path.read_text()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    return svg.replace(INK, "currentColor")


def anchor(summary: dict) -> str:
    return summary["study"].replace("/", "-")


def verdict_class(holds: bool) -> str:
    return "holds" if holds else "fails"


def number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3g}"


def joined(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
