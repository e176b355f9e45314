"""All benchmarks against all peers: one command, one run, a verdict on every aim.

    python -m benchmarks [--only NAME ...] [--peers FOLDER] [--rounds N]

Sets up an environment for each peer, once, in FOLDER; then runs one benchmark after the other, on one thread, and keeps
what each has found where the report and README.md show it. A peer that cannot be installed is left out, and that is
said. Ctrl-C keeps what is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.environments import ENVIRONMENTS, PEERS, REPOSITORIES, set_up
from validation.report.aims import Aim, aims, table

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "validation" / "speed"
# What is no benchmark by itself.
PARTS = {"driver", "environments", "kept", "neural_tangents_peer", "peer", "serving", "timing", "torch_peer"}
# Which peers a benchmark asks; the others have rivals that stand among our own dependencies.
ASKED = {
    "kernels": ("neural-tangents",),
    "empirical_ntk": ("neural-tangents-empirical", "torch"),
    "training": ("torch",),
    "learning_curves": ("eigenlearning",),
    "deep_linear": ("LinearNetworkDynamics",),
    "task_diversity": ("incontext-asymptotics-experiments",),
}


def benchmarks() -> list[str]:
    """The names of all benchmarks: the files of this folder that keep results."""
    names = (path.stem for path in sorted(Path(__file__).parent.glob("*.py")))
    return [name for name in names if not name.startswith("_") and name not in PARTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = benchmarks()
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", help=f"some of {', '.join(known)}")
    parser.add_argument("--peers", type=Path, default=PEERS, help=f"where the peers are installed (default {PEERS})")
    parser.add_argument("--rounds", type=int, default=5, help="how often all rivals take their turn (default 5)")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {asked.rounds}")
    chosen = asked.only or known
    failed, verdicts = {}, {}
    try:
        failed = prepared(chosen, asked.peers)
        for name in chosen:
            verdicts[name] = ran(name, asked.peers, asked.rounds)
    except KeyboardInterrupt:
        print("\nstopped; what is written is kept", flush=True)
    summary(verdicts)
    (ROOT / "README.md").write_text(with_table((ROOT / "README.md").read_text()))
    for name, reason in failed.items():
        print(f"without {name}, which could not be installed: {reason}")
    if len(verdicts) < len(chosen):
        raise SystemExit(130)
    if lost := [name for name, found in verdicts.items() if found is None]:
        raise SystemExit(f"failed: {', '.join(lost)}")


def prepared(chosen: list[str], folder: Path) -> dict[str, str]:
    """Set up the peers that are asked; those that cannot be, with the reason."""
    failed = {}
    for peer in (*ENVIRONMENTS, *REPOSITORIES):
        if any(peer in ASKED.get(name, ()) for name in chosen):
            print(f"peer {peer} in {folder} ... ", end="", flush=True)
            reason = set_up(folder, peer)
            print(f"left out: {reason}" if reason else "ready", flush=True)
            if reason:
                failed[peer] = reason
    return failed


def ran(name: str, folder: Path, rounds: int) -> list[Aim] | None:
    """Run a benchmark in a process of its own; the aims it was held against, or None if it failed."""
    print(f"\n== {name}", flush=True)
    start = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--keep", "--rounds", str(rounds), "--peers", str(folder)]
    ended = subprocess.run(command, cwd=ROOT)
    print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    if ended.returncode:
        return None
    kept = json.loads((SPEED / f"{name}.json").read_text())
    return [aim for result in kept["results"] for aim in aims(result)]


def with_table(readme: str) -> str:
    """The README with the table of what is kept, between its two marks."""
    before, rest = readme.split("<!-- speed -->\n")
    after = rest.split("<!-- end -->", 1)[1]
    kept = [json.loads(path.read_text()) for path in sorted(SPEED.glob("*.json"))]
    return f"{before}<!-- speed -->\n{table(kept)}\n<!-- end -->{after}"


def summary(verdicts: dict[str, list[Aim] | None]) -> None:
    """A line for every aim."""
    found = [(name, aim) for name, held in verdicts.items() for aim in held or ()]
    if found:
        print(f"\nAims: {sum(aim.met for _, aim in found)} of {len(found)} met")
    for name, aim in found:
        low, middle, high = aim.ratio
        print(
            f"{aim.verdict():6}  {middle:.3g} ({low:.3g} to {high:.3g}) of {aim.aim:g}  "
            f"{name}: {aim.title}; {aim.rival}, {aim.x}"
        )


if __name__ == "__main__":
    main()
