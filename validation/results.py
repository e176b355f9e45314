"""What a run leaves behind: one folder per study and size, written whole or not at all.

    <out>/studies/<family>/<study>/<size>/result.json    verdicts, settings, seconds, versions, digest
                                          figure.svg     the figure, and figure.pdf for papers
                                          plotted.csv    the data in it, one row per point
                                          arrays.npz     the prediction and the observation, where plain arrays

`result.json` is written last, so that a folder with one is complete. Results of `paper` runs worth keeping are
copied to `validation/paper/`, which is committed.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

from sims import fingerprint
from sims.checkpoints import write_atomically, write_together
from validation import style
from validation.arrays import as_npz
from validation.study import Outcome, Study, discover

PAPER = Path(__file__).parent / "paper"
COLUMNS = ("panel", "series", "kind", "x", "y", "error_low", "error_high")


def folder_of(out: Path, name: str, size: str) -> Path:
    """Where the results of one study at one size lie."""
    return within(out, "studies", name, size)


def within(out: Path, *parts: str) -> Path:
    """A place in the folder `out`; a name or a link that leads out of it is refused in one sentence (`ValueError`)."""
    path = Path(out).joinpath(*parts)
    if not path.resolve().is_relative_to(Path(out).resolve()):
        raise ValueError(f"{path} leads out of --out {out}, to {path.resolve()}: nothing is read or written there")
    return path


def summary_of(name: str, study: Study, size: str, seed: int, outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON: what was claimed, what was measured, with which settings, where."""
    return {
        "study": name,
        "family": name.split("/")[0],
        "title": study.title,
        "question": study.question,
        "source": study.source,
        "formulas": list(study.formulas),
        "regimes": list(study.regimes),
        "asks": study.asks,
        "size": size,
        "seed": seed,
        "settings": dict(study.sizes[size]),
        "holds": outcome.holds,
        "claims": [
            {
                "statement": v.statement,
                "value": v.value,
                "tolerance": v.tolerance,
                "holds": v.holds,
                "reason": v.reason,
            }
            for v in outcome.verdicts
        ],
        "rivals": [
            {
                "belief": r.belief,
                "refuted": r.holds,
                "by": [{"statement": v.statement, "value": v.value, "tolerance": v.tolerance} for v in r.refuted_by],
            }
            for r in outcome.refutations
        ],
        "seconds": {k: round(v, 2) for k, v in outcome.seconds.items()},
        "device": device(),
        "versions": versions(),
        "digest": digest_of(name, study.sizes[size], seed),
    }


def files_of(summary: Mapping[str, Any], study: Study, outcome: Outcome) -> dict[str, bytes]:
    """The contents of every file of a result by its name, the verdicts last."""
    with plt.rc_context(style.RC):
        figure = plt.figure()
        study.draw(figure, outcome.problem, outcome.prediction, outcome.observation)
        picture, print_out = io.BytesIO(), io.BytesIO()
        figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
        # The layout is found; it need not be sought again.
        figure.set_layout_engine("none")
        figure.savefig(print_out, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
        rows, words = plotted(figure), described(figure)
        plt.close(figure)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    files = {
        "figure.svg": slim(picture.getvalue().decode()).encode(),
        "figure.pdf": print_out.getvalue(),
        "plotted.csv": table.getvalue().encode(),
        "arrays.npz": as_npz({"prediction": outcome.prediction, "observation": outcome.observation}),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {**files, "result.json": as_json({**summary, "alternative": words, "sha256": digests})}


def slim(svg: str) -> str:
    """The same drawing in fewer letters: places to a hundredth of a point, no indentation, no names of groups."""

    def rounded(number: re.Match) -> str:
        return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")

    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # What is referred to are shapes and clips.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    places = r'(?<= [dxy]=")[^"]*'
    return re.sub(r"\n\s+", "\n", re.sub(places, lambda found: re.sub(r"-?\d+\.\d{3,}", rounded, found[0]), svg))


def write(out: Path, summary: Mapping[str, Any], study: Study, outcome: Outcome) -> None:
    """All files of a result: the figure, the data in it, and last the verdicts."""
    write_files(folder_of(out, summary["study"], summary["size"]), files_of(summary, study, outcome))


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """The files of a result, all of them or none, in order."""
    if elsewhere := [name for name in files if not re.fullmatch(r"\w[\w.-]*", name)]:
        raise ValueError(f"the files of a result must lie in its own folder, got {elsewhere[0]!r}")
    write_together({folder / name: content for name, content in files.items()})


def read(out: Path, name: str, size: str) -> dict[str, Any] | None:
    """The finished result of a study, or None where there is none (or only a broken one)."""
    try:
        found = json.loads((folder_of(out, name, size) / "result.json").read_text())
        own = (found["study"], found["family"], found["size"]) == (name, name.split("/")[0], size)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # What pages and tables are called comes from here: the result of another name would choose its own places.
    return found if own else None


def keep(summary: Mapping[str, Any]) -> Path:
    """Copy the verdicts of a `paper` run to where they are committed and shown beside the smoke run."""
    path = PAPER / f"{summary['study']}.json"
    write_atomically(path, as_json(summary))
    return path


def kept(name: str) -> dict[str, Any] | None:
    """The committed result of the study's `paper` run, if there is one."""
    path = PAPER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def as_json(value: Any) -> bytes:
    """Strict JSON (no NaN: it becomes null), indented, with NumPy's numbers as plain ones."""

    def plain(x):
        if isinstance(x, Mapping):
            return {str(k): plain(v) for k, v in x.items()}
        if isinstance(x, (list, tuple, np.ndarray)):
            return [plain(v) for v in x]
        if isinstance(x, (bool, str, int)) or x is None:
            return x
        if isinstance(x, np.bool_ | np.integer):
            return x.item()
        number = float(x)
        return number if np.isfinite(number) else None

    return json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False).encode()


def plotted(figure) -> list[tuple]:
    """Every point that the figure shows: (panel, series, kind, x, y, error_low, error_high)."""
    rows: list[tuple] = []
    for i, axes in enumerate(figure.axes):
        panel = axes.get_title(loc="left") or axes.get_title() or axes.get_ylabel() or f"panel {i + 1}"
        named = {}
        for artist in [*axes.containers, *axes.lines, *axes.collections]:
            label = str(artist.get_label())
            if not label.startswith("_") and label != "None":
                named.setdefault(_colour(artist), label)
        for container in axes.containers:
            if isinstance(container, ErrorbarContainer):
                rows += _points(panel, named.get(_colour(container), ""), container)
        in_containers = {id(c.lines[0]) for c in axes.containers if isinstance(c, ErrorbarContainer)}
        for line in axes.lines:
            x, y = (np.atleast_1d(np.asarray(v, float)) for v in line.get_data(orig=False))
            if id(line) in in_containers or len(x) < 2:
                continue
            kind = "rival" if _colour(line) == to_hex(style.RIVAL) else "theory"
            own = str(line.get_label())
            series = named.get(_colour(line), "") if own.startswith("_") else own
            rows += [(panel, series, kind, *map(_short, point), "", "") for point in zip(x, y, strict=True)]
        for collection in axes.collections:
            if isinstance(collection, PolyCollection):
                series = named.get(_colour(collection), "")
                for path in collection.get_paths():
                    rows += [(panel, series, "band edge", *map(_short, v), "", "") for v in np.asarray(path.vertices)]
    return rows


def described(figure) -> str:
    """What the figure shows, in words, for those who cannot see it: of each panel its axes and what is drawn."""
    panels = []
    for axes in figure.axes:
        x, y = axes.get_xlabel(), axes.get_ylabel()
        drawn = dict.fromkeys(str(label) for label in axes.get_legend_handles_labels()[1])
        title = axes.get_title(loc="left") or axes.get_title()
        words = [title, f"{y or 'the same'} against {x}" if x else y, ", ".join(drawn)]
        panels.append("; ".join(word for word in words if word))
    # A colour bar, or a panel that is only a legend, may have no words.
    return _without_mathtext(". ".join(panel for panel in panels if panel))


def _without_mathtext(text: str) -> str:
    return re.sub(r"[\\${}]|mathrm", "", text).replace("\n", " ")


def _points(panel: str, series: str, container: ErrorbarContainer) -> list[tuple]:
    x, y = container.lines[0].get_data(orig=False)
    low, high = ([""] * len(x),) * 2
    if container.lines[2]:
        ends = np.array([s for s in container.lines[2][0].get_segments()])
        low, high = ([_short(v) for v in ends[:, j, 1]] for j in (0, 1))
    return [
        (panel, series, "networks", _short(a), _short(b), lo, hi) for a, b, lo, hi in zip(x, y, low, high, strict=True)
    ]


def _colour(artist) -> str:
    if isinstance(artist, ErrorbarContainer):
        return to_hex(artist.lines[0].get_color())
    if isinstance(artist, PolyCollection):
        faces = artist.get_facecolor()
        return to_hex(faces[0]) if len(faces) else ""
    return to_hex(artist.get_color()) if hasattr(artist, "get_color") and np.ndim(artist.get_color()) == 0 else ""


def _short(number: float) -> str:
    return f"{float(number):.6g}"


def device() -> str:
    """Where the networks were trained: the accelerator's name, or the processor's."""
    import jax

    first = jax.devices()[0]
    kind = first.device_kind if first.platform != "cpu" else f"{platform.machine()} CPU"
    count = jax.device_count()
    return f"{count} x {kind}" if count > 1 else kind


def versions() -> dict[str, str]:
    """The versions that a number may depend on."""
    names = ("jax", "numpy", "equinox", "diffrax", "stagewise")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def brief(value: Any) -> str:
    """A setting on one line; long lists are cut in the middle."""
    if isinstance(value, list) and len(value) > 8:
        return f"[{', '.join(brief(v) for v in value[:3])}, … {brief(value[-1])}] ({len(value)} values)"
    if isinstance(value, list):
        return f"[{', '.join(brief(v) for v in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def digest_of(name: str, settings: Mapping[str, Any], seed: int) -> str:
    """Fingerprint of all that a result depends on: the study, its settings and seed, the code and the versions."""
    module = discover().get(name)
    file = importlib.util.find_spec(module) if module is not None else None
    # Studies may lie elsewhere than the packages, together with theories of their own.
    beside = fingerprint.of_folder(Path(file.origin).parent) if file is not None and file.origin else ""
    parts = as_json({"study": name, "settings": settings, "seed": seed, "code": [code_and_versions(), beside]})
    return hashlib.sha256(parts).hexdigest()


def code_and_versions() -> str:
    """Fingerprint of the packages' own source files and of the versions that a number may depend on."""
    own = fingerprint.of_packages("theory", "sims", "validation")
    return hashlib.sha256(as_json(versions()) + own.encode()).hexdigest()
