"""The page of a family: its guide, then its studies with their figures."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from validation import results
from validation.report.markup import family_name, framed, tally, verdict_class
from validation.report.reference import described, root_of

GUIDES = Path(__file__).parent.parent / "guides"


def page(out: Path, family: str, summaries: list[dict], families: list[str]) -> str:
    """One family."""
    guide = GUIDES / f"{family}.md"
    text = guide.read_text() if guide.exists() else f"# {family_name(family)}\n"
    hold = sum(s["holds"] for s in summaries)
    body = f"""<div class="guide">{rendered(text, family, summaries, out)}</div>
<h2>Studies</h2>
<ul class="tally">{tally("studies hold", hold, len(summaries))}</ul>
<ul class="cards">
{"".join(card(out, s) for s in summaries)}</ul>
{f'<p class="soft"><a href="../reference/{family}.html">Its functions</a></p>' if described(family) else ""}
"""
    return framed(family_name(family), body, up="../", families=families, here=family)


def card(out: Path, summary: dict) -> str:
    """A study as its figure, title and question."""
    name, stem = summary["study"], summary["study"].split("/")[1]
    picture = f"{summary['family']}/{stem}/{summary['size']}/figure.svg"
    there = (results.folder_of(out, name, summary["size"]) / "figure.svg").exists()
    # The link below says what the picture is.
    shown = f'<img src="{picture}" alt="" loading="lazy" width="518" height="230">' if there else ""
    verdict = "holds" if summary["holds"] else "fails"
    return (
        f'<li><a href="{summary["family"]}/{stem}.html">{shown}<b>{escape(summary["title"])}</b></a> '
        f'<span class="{verdict_class(summary["holds"])}">{verdict}</span>'
        f"<p>{escape(summary['question'])}</p></li>\n"
    )


def reference_link(family: str, name: str) -> str | None:
    """A file of the family's theory as a link to what the reference says of it."""
    if not (root_of("theory") / family / f"{name}.py").exists():
        return None
    return f'<a href="../reference/{family}.html#theory.{family}.{name}"><code>{name}</code></a>'


def rendered(text: str, family: str, summaries: list[dict], out: Path) -> str:
    """A guide as HTML. An image whose target is the name of a study is that study's figure, and leads to its page."""
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = re.sub(r"<pre>", '<pre tabindex="0">', html)
    html = re.sub(r"<code>(\w+)</code>", lambda found: reference_link(family, found[1]) or found[0], html)
    by_stem = {s["study"].split("/")[1]: s for s in summaries}

    def figure(found: re.Match) -> str:
        target, words = found[1], found[2]
        summary = by_stem.get(target)
        if summary is None:
            return f'<span class="soft">(The study <code>{target}</code> has not been run.)</span>'
        folder = f"{summary['family']}/{target}"
        return (
            f'<a href="{folder}.html"><img src="{folder}/{summary["size"]}/figure.svg" alt="{words}" '
            'width="518" height="230"></a>'
        )

    return re.sub(r'<img src="(\w+)" alt="([^"]*)" ?/?>', figure, html)
