"""The page on speed: what benchmarks measured against peers, from their committed results.

A benchmark that is run with `--keep` writes `validation/speed/<benchmark>.json`: machine, versions, and series of
ratios (peer over ours) with their spread, held against aims; or of costs against size, with their exponents.
"""

from __future__ import annotations

import functools
import io
import json
import math
import textwrap
import zlib
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

from validation import results, style
from validation.report.aims import aims
from validation.report.markup import framed, joined, mark, scrolled, shown_figure, tally
from validation.style import INK

SPEED = Path(__file__).parent.parent / "speed"


def texts() -> list[str]:
    """What was kept of each benchmark, JSON."""
    return [path.read_text() for path in sorted(SPEED.glob("*.json"))]


def page(families: list[str]) -> str:
    """All committed benchmarks."""
    kept = [json.loads(text) for text in texts()]
    body = """<h1>Speed</h1>
<p class="lead">How long others take for the same, in units of what we take: CPU time of both, from one run on one
machine, taking turns. Bars span the repetitions; dashes are what was aimed at, which an aim's median must reach.</p>
"""
    body += held(kept) + "".join(map(section, texts())) or '<p class="soft">No benchmark has been kept.</p>'
    return framed("Speed", body, up="", families=families, here="benchmarks")


def held(kept: list[dict]) -> str:
    """Every aim, met or missed; why one is missed stands beside its figure and here."""
    found = [(result, aim) for one in kept for result in one["results"] for aim in aims(result)]
    if not found:
        return ""
    # What is missed is what a reader should see first.
    found.sort(key=lambda pair: pair[1].met)
    rows = "".join(
        f"<tr><td>{mark(aim.met)} {escape(aim.title)}: {escape(aim.rival)}, {escape(aim.x)}"
        + (f'<br><span class="soft">{escape(result["comment"])}</span>' if not aim.met and result["comment"] else "")
        + f'</td><td class="n">{number(aim.aim)}</td><td class="n">{number(aim.ratio[1])}</td>'
        f'<td class="n">{spread(aim.ratio)}</td></tr>'
        for result, aim in found
    )
    heads = "<tr><th>what</th>" + "".join(f'<th class="n">{head}</th>' for head in ("aim", "found", "spread")) + "</tr>"
    met = sum(aim.met for _, aim in found)
    return f"""<ul class="tally">{tally("aims met", met, len(found))}</ul>
<details{"" if met == len(found) else " open"}><summary>Every aim</summary>{scrolled("aims", heads + rows)}</details>
"""


def number(value: float) -> str:
    """Three digits, and no powers of ten below a million."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def spread(ratio: list[float]) -> str:
    """Least to largest; nothing where no repetition would change a number."""
    return f"{number(ratio[0])} to {number(ratio[2])}" if ratio[0] < ratio[2] else ""


@functools.cache
def section(text: str) -> str:
    """One benchmark, from its JSON: its results as figures, and the machine. Drawing takes seconds: it is kept."""
    kept = json.loads(text)
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
        f'<td class="n">{number(point["ratio"][1])}</td><td class="n">{spread(point["ratio"])}</td></tr>'
        for name, points in found["series"].items()
        for point in points
    )
    for name, exponent in (found.get("exponents") or {}).items():
        rows += (
            f'<tr><td>{escape(name)}</td><td class="n">exponent</td>'
            f'<td class="n">{exponent[1]:.2f}</td><td class="n">{exponent[0]:.2f} to {exponent[2]:.2f}</td></tr>'
        )
    heads = "".join(f'<th class="n">{escape(head)}</th>' for head in (found["x"], found["unit"], "spread"))
    aim = f" Aim: {found['aim']:g}." if found.get("aim") else ""
    comment = f'<p class="soft">{escape(found["comment"])}</p>' if found.get("comment") else ""
    words = f"{found['title']}: {found['unit']} against {found['x']}, for {', '.join(found['series'])}.{aim}"
    return f"""<h3>{escape(found["title"])}</h3>
<figure>{shown_figure(words, picture(found), "figure small")}</figure>
{comment}<details><summary>In numbers</summary>{scrolled("ratios", f"<tr><th>series</th>{heads}</tr>{rows}")}</details>
"""


def picture(found: dict) -> str:
    """The ratios as SVG, or cost against size on logarithmic axes where there are exponents."""
    rows = math.ceil(len(found["series"]) / 2)
    with plt.rc_context(style.RC | {"figure.figsize": (5.6, 2.8 + 0.18 * rows)}):
        figure = plt.figure()
        axes = figure.subplots()
        (growth if found.get("exponents") else ratios)(axes, found)
        low, high = axes.get_ylim()
        wide = high / low > 300
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        if high / low < 1e5:
            axes.yaxis.set_major_formatter("{x:g}")
        # Beneath: there is no corner that is free in all of them.
        figure.legend(fontsize=8, loc="outside lower left", ncols=2)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = results.slim(drawn.getvalue())
    prefix = f"b{zlib.crc32(found['title'].encode())}"
    for old, new in ((' id="', f' id="{prefix}-'), ('href="#', f'href="#{prefix}-'), ("url(#", f"url(#{prefix}-")):
        svg = svg.replace(old, new)
    return svg[svg.index("<svg") :].replace(INK, "currentColor").replace("<svg", '<svg aria-hidden="true"', 1)


def bars(points: list[dict]) -> tuple[list[float], list[list[float]]]:
    """Medians, and how far the spread reaches to either side."""
    low, middle, high = ([p["ratio"][j] for p in points] for j in range(3))
    return middle, [
        [m - a for m, a in zip(middle, low, strict=True)],
        [b - m for m, b in zip(middle, high, strict=True)],
    ]


def ratios(axes, found: dict) -> None:
    """Ratios by category, which stand where numbers would; an aim is a dash at its point."""
    names = list(dict.fromkeys(str(p["x"]) for points in found["series"].values() for p in points))
    apart = min(0.12, 0.6 / len(found["series"]))
    for i, (name, points) in enumerate(found["series"].items()):
        shift = apart * (i - (len(found["series"]) - 1) / 2)
        where = [names.index(str(p["x"])) + shift for p in points]
        middle, error = bars(points)
        style.networks(axes, where, middle, i=i, error=error, label=name, markerfacecolor=style.colour(i))
        for x, point in zip(where, points, strict=True):
            if "aim" in point:
                dash = dict(color=style.colour(i), linestyle=(0, (3, 1.5)))
                axes.plot([x - apart / 2, x + apart / 2], [point["aim"]] * 2, **dash)
    axes.axhline(1, color=INK, linewidth=0.8)
    if found.get("aim"):
        axes.axhline(found["aim"], color=INK, linewidth=1, linestyle=(0, (4, 2)))
        axes.annotate("aim", (len(names) - 0.75, found["aim"]), xytext=(0, 2), textcoords="offset points", fontsize=8)
    axes.set(xlabel=found["x"], ylabel="\n".join(textwrap.wrap(found["unit"], 34)), yscale="log")
    axes.set_xlim(-0.5, len(names) - 0.5)
    crowded = sum(map(len, names)) > 60
    axes.set_xticks(range(len(names)), names, **(dict(rotation=20, ha="right") if crowded else {}))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 10 ** math.ceil(math.log10(max(high, 2)) - 0.7)))


def growth(axes, found: dict) -> None:
    """Cost against size."""
    sizes = set()
    for i, (name, points) in enumerate(found["series"].items()):
        middle, error = bars(points)
        x = [p["x"] for p in points]
        sizes |= set(x)
        label = f"{name}: exponent {found['exponents'][name][1]:.1f}"
        axes.plot(x, middle, color=style.colour(i), linewidth=1)
        style.networks(axes, x, middle, i=i, error=error, label=label, markerfacecolor=style.colour(i))
    axes.set(xlabel=found["x"], ylabel="\n".join(textwrap.wrap(found["unit"], 34)), xscale="log", yscale="log")
    axes.set_xlim(min(sizes) / 1.2, max(sizes) * 1.2)
