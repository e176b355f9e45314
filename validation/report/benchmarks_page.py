"""The page on speed: what benchmarks measured against peers, from their committed results.

A benchmark that is run with `--keep` writes `validation/speed/<benchmark>.json`: machine, versions, and series of
ratios (peer over ours) with their spread, each held against an aim.
"""

from __future__ import annotations

import io
import json
import math
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt

from validation import style
from validation.report.markup import framed, joined, scrolled, shown_figure
from validation.style import INK

SPEED = Path(__file__).parent.parent / "speed"


def page(families: list[str]) -> str:
    """All committed benchmarks."""
    kept = [json.loads(path.read_text()) for path in sorted(SPEED.glob("*.json"))]
    body = """<h1>Speed</h1>
<p class="lead">How long others take for the same, in units of what we take: CPU time of both, from one run on one
machine, to the same accuracy. Bars span the repetitions; a dashed line is what was aimed at.</p>
"""
    body += "".join(map(section, kept)) or '<p class="soft">No benchmark has been kept.</p>'
    return framed("Speed", body, up="", families=families, here="benchmarks")


def section(kept: dict) -> str:
    """One benchmark: its results as figures, and the machine."""
    shown = "".join(result(r) for r in kept["results"])
    peers = f" Against {escape(joined(kept['peers']))}." if kept.get("peers") else ""
    return f"""<section><h2>{escape(kept["title"])}</h2>
{shown}
<p class="soft"><code>{escape(kept["command"])}</code> · {escape(kept["device"])} · {escape(joined(kept["versions"]))} ·
{escape(kept["date"])}.{peers}</p></section>
"""


def result(found: dict) -> str:
    """One figure with its table."""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{escape(str(point["x"]))}</td>'
        f'<td class="n">{point["ratio"][1]:.3g}</td>'
        f'<td class="n">{point["ratio"][0]:.3g} to {point["ratio"][2]:.3g}</td></tr>'
        for name, points in found["series"].items()
        for point in points
    )
    heads = "".join(f'<th class="n">{escape(head)}</th>' for head in (found["x"], found["unit"], "spread"))
    aim = f" Aim: {found['aim']:g}." if found.get("aim") else ""
    comment = f'<p class="soft">{escape(found["comment"])}</p>' if found.get("comment") else ""
    words = f"{found['title']}: {found['unit']} against {found['x']}, for {', '.join(found['series'])}.{aim}"
    return f"""<h3>{escape(found["title"])}</h3>
<figure>{shown_figure(words, picture(found), "figure small")}</figure>
{comment}<details><summary>In numbers</summary>{scrolled("ratios", f"<tr><th>against</th>{heads}</tr>{rows}")}</details>
"""


def picture(found: dict) -> str:
    """The ratios as SVG; categories stand where numbers would."""
    names = list(dict.fromkeys(str(p["x"]) for points in found["series"].values() for p in points))
    with plt.rc_context(style.RC | {"figure.figsize": (5.6, 2.8)}):
        figure = plt.figure()
        axes = figure.subplots()
        for i, (name, points) in enumerate(found["series"].items()):
            low, middle, high = ([p["ratio"][j] for p in points] for j in range(3))
            bars = [
                [m - a for m, a in zip(middle, low, strict=True)],
                [b - m for m, b in zip(middle, high, strict=True)],
            ]
            where = [names.index(str(p["x"])) + 0.06 * i for p in points]
            style.networks(axes, where, middle, i=i, error=bars, label=name, markerfacecolor=style.colour(i))
        axes.axhline(1, color=INK, linewidth=0.8)
        if found.get("aim"):
            axes.axhline(found["aim"], color=INK, linewidth=1, linestyle=(0, (4, 2)))
            axes.annotate(
                "aim", (len(names) - 0.75, found["aim"]), xytext=(0, 2), textcoords="offset points", fontsize=8
            )
        axes.set(xlabel=found["x"], ylabel=found["unit"], yscale="log", xlim=(-0.5, len(names) - 0.5))
        axes.set_xticks(range(len(names)), names)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.8), max(high, 10 ** math.ceil(math.log10(max(high, 2)) - 0.7)))
        axes.legend(fontsize=8)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = drawn.getvalue()
    prefix = f"b{abs(hash(found['title'])) % 10**8}"
    for old, new in ((' id="', f' id="{prefix}-'), ('href="#', f'href="#{prefix}-'), ("url(#", f"url(#{prefix}-")):
        svg = svg.replace(old, new)
    return svg[svg.index("<svg") :].replace(INK, "currentColor").replace("<svg", '<svg aria-hidden="true"', 1)
