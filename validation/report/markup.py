"""What all pages of the report share: the frame around them, and how numbers and figures are written."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

FAMILIES = {
    "deep_linear": "Deep linear networks",
    "kernels": "Infinite width",
    "lazy_rich": "Lazy and rich",
    "induction": "Induction",
    "bayes_icl": "Bayes in context",
}


def family_name(family: str) -> str:
    """The name of a family, which may be a user's own."""
    return FAMILIES.get(family, family.replace("_", " ").capitalize())


def ordered(families: Sequence[str]) -> list[str]:
    """Families in the order in which they are read: ours, then a user's own."""
    return sorted(set(families), key=lambda f: (list(FAMILIES).index(f) if f in FAMILIES else len(FAMILIES), f))


def framed(title: str, body: str, *, up: str, families: Sequence[str], here: str = "") -> str:
    """A whole page. `up` leads from its folder to the report's; `here` is its entry in the navigation."""
    entries = [("map", "Map", "index.html")]
    entries += [(family, family_name(family), f"studies/{family}.html") for family in families]
    entries += [("benchmarks", "Speed", "benchmarks.html"), ("reference", "Reference", "reference/index.html")]
    links = "".join(
        f'<li><a href="{up}{target}"{" aria-current=page" if key == here else ""}>{escape(name)}</a></li>'
        for key, name, target in entries
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · stagewise</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{up}report.css">
<script src="{up}report.js" defer></script>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header class="site"><nav aria-label="pages"><ul>{links}</ul></nav></header>
<main id="content">
{body}
</main>
</body>
</html>
"""


def scrolled(label: str, table: str) -> str:
    """A table that may be wider than the page: it scrolls by itself, by keys too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>{table}</table></div>'


def shown_figure(words: str, svg: str, style: str = "figure") -> str:
    """A figure with what it shows in words; on a phone it scrolls by itself, by keys too."""
    drawn = f'<div role="img" aria-label="{escape(words)}">{svg}</div>'
    return f'<div class="{style}" tabindex="0" role="group" aria-label="figure">{drawn}</div>'


def picture(words: str, file: Path, link: str) -> str:
    """A figure in a file of its own, in a frame like `shown_figure`'s."""
    if not file.exists():
        return '<p class="soft">The figure is missing.</p>'
    drawn = f'<img src="{link}" alt="{escape(words)}" width="518" height="230">'
    return f'<div class="figure" tabindex="0" role="group" aria-label="figure">{drawn}</div>'


def tally(what: str, hold: int, of: int) -> str:
    return f'<li><b class="{verdict_class(hold == of)}">{hold} of {of}</b> {what}</li>'


def mark(holds: bool) -> str:
    """A tick or a cross, with its word for those who hear the page."""
    return f'<span class="{verdict_class(holds)}" role="img" aria-label="{"holds" if holds else "fails"}">' + (
        "✓</span>" if holds else "✗</span>"
    )


def verdict_class(holds: bool) -> str:
    return "holds" if holds else "fails"


def number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3g}"


def joined(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
