"""How the figures look: theory as lines, networks as points or bands, one palette, light and dark.

Every artist that carries data goes through `theory`, `networks` or `band`, so that figures read alike. The
ink (text, axes, ticks) is drawn in `INK`, which the report replaces by the reader's text colour.
"""

from __future__ import annotations

import matplotlib
import matplotlib.colors
import matplotlib.patches
import numpy as np

matplotlib.use("Agg")

INK = "#6b7683"
# Mid-tone colours, distinguishable to colour-blind readers (after Wong 2011), readable on white and on black.
COLOURS = ("#0b84c6", "#e07b00", "#0f9d76", "#c75b9b", "#8a6fd1", "#b89400", "#d1495b", "#5a8f29")
RIVAL = "#9aa3ad"
# The regions of a phase diagram, pale enough for points to stand on: the first is where nothing happens.
REGIONS = ("#9aa3ad55", "#0b84c688", "#e07b0088", "#0f9d7688")

RC = {
    "figure.figsize": (7.2, 3.2),
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "stagewise",
    "font.family": "sans-serif",
    # The others of the default list would be named in every word of a figure.
    "font.sans-serif": ["DejaVu Sans"],
}


def colour(i: int) -> str:
    """The i-th colour of the palette, which repeats."""
    return COLOURS[i % len(COLOURS)]


def theory(axes, x, y, *, i: int = 0, label: str | None = None, **style):
    """The theory's prediction: a solid line in colour `i`, of as many points as can be seen."""
    style = {"color": colour(i), "zorder": 2} | style
    x, y = np.atleast_1d(x), np.atleast_1d(y)
    seen = _seen(len(x))
    return axes.plot(x[seen], y[seen], label=label, **style)


def _seen(points: int, most: int = 800) -> np.ndarray:
    """At most `most` of that many, spread evenly on a linear axis and on a logarithmic one."""
    if points <= most:
        return np.arange(points)
    evenly, in_ratio = np.linspace(0, points - 1, most // 2), np.geomspace(1, points, most // 2) - 1
    return np.unique(np.round(np.concatenate([evenly, in_ratio])).astype(int))


def rival(axes, x, y, *, label: str | None = None, **style):
    """A rival's prediction: a thin grey dashed line."""
    style = {"color": RIVAL, "linestyle": (0, (4, 2)), "linewidth": 1.2, "zorder": 1} | style
    return axes.plot(np.asarray(x), np.asarray(y), label=label, **style)


def networks(axes, x, y, *, i: int = 0, label: str | None = None, error=None, most: int = 24, **style):
    """Trained networks: open points in colour `i`, thinned to at most `most`, with bars where `error` is given."""
    x, y = np.asarray(x), np.asarray(y)
    keep = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int))
    bars = None if error is None else np.asarray(error)[..., keep]
    style = {"color": colour(i), "markerfacecolor": "none", "zorder": 3} | style
    return axes.errorbar(
        x[keep],
        y[keep],
        yerr=bars,
        fmt=style.pop("marker", "o"),
        markersize=4,
        linewidth=1.1,
        capsize=0,
        label=label,
        **style,
    )


def band(axes, x, runs, *, i: int = 0, label: str | None = None, **style):
    """Trained networks, many seeds: the range from the 10th to the 90th percentile over the first axis of `runs`."""
    low, high = np.nanpercentile(np.asarray(runs), [10, 90], axis=0)
    style = {"color": colour(i), "alpha": 0.25, "linewidth": 0, "zorder": 1} | style
    return axes.fill_between(np.asarray(x), low, high, label=label, **style)


def regions(axes, x, y, which, names):
    """A phase diagram: `which` (y, x) holds the number of the region, of those `names`, at each point."""
    shown = matplotlib.colors.ListedColormap(REGIONS[: len(names)])
    axes.pcolormesh(np.asarray(x), np.asarray(y), np.asarray(which), cmap=shown, vmin=-0.5, vmax=len(names) - 0.5)
    patches = [matplotlib.patches.Patch(color=REGIONS[i], label=name) for i, name in enumerate(names)]
    axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2, fontsize=7)


def in_region(axes, x, y, which):
    """Networks on a phase diagram, in the full colour of the region that they ended in."""
    colours = [REGIONS[i][:7] for i in np.ravel(which)]
    axes.scatter(np.ravel(x), np.ravel(y), c=colours, edgecolors=INK, s=36, zorder=3, clip_on=False)
