"""The command line: `stagewise list | run | report | show | export | new`, the same as `python -m validation`.

Nothing here imports JAX before a study runs, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(
    help="Theory against trained networks: run the studies, judge their claims, make the report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Names = Annotated[list[str] | None, typer.Argument(help="Studies or families; all of them if none is named.")]
Size = Annotated[str, typer.Option(help="smoke (2 CPU cores, seconds) or paper (the source's own settings; a GPU).")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is random.")]
Out = Annotated[Path, typer.Option(help="Folder for results and the report.")]
Resume = Annotated[bool, typer.Option("--resume", help="Keep finished studies and go on with half-finished ones.")]
Jobs = Annotated[int, typer.Option(min=0, help="Studies at a time; 0: as many as there are cores, one on a GPU.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a dask scheduler whose workers run the studies.")]
Slurm = Annotated[Path | None, typer.Option(help="TOML file with the settings of Slurm jobs that run the studies.")]
Keep = Annotated[bool, typer.Option("--keep", help="With --size paper: also copy the verdicts to validation/paper/.")]

SIZES = ("smoke", "paper")


@app.command(name="list")
def list_studies() -> None:
    """List every study, by family, with what it asks."""
    from validation.study import discover

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("study", "what it shows"):
        table.add_column(heading, overflow="fold")
    for name, module in discover().items():
        table.add_row(name, first_line(module))
    console.print(table)


@app.command()
def run(
    names: Names = None,
    size: Size = "smoke",
    seed: Seed = 0,
    out: Out = Path("report"),
    resume: Resume = False,
    jobs: Jobs = 0,
    keep: Keep = False,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
) -> None:
    """Run studies, judge them, and bring the report in --out up to date with them."""
    raise typer.Exit(run_and_report(names, size, seed, out, resume, jobs, keep, scheduler, slurm))


@app.command()
def report(
    names: Names = None,
    size: Size = "smoke",
    seed: Seed = 0,
    out: Out = Path("report"),
    resume: Resume = False,
    jobs: Jobs = 0,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
) -> None:
    """Regenerate the whole theory-against-simulation report: run every study, then write one page."""
    raise typer.Exit(run_and_report(names, size, seed, out, resume, jobs, False, scheduler, slurm))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A study.")],
    size: Size = "smoke",
    out: Out = Path("report"),
) -> None:
    """Show what a study asks, claims and refutes, and its last verdict in --out."""
    from validation import results
    from validation.study import find, select

    with refusing():
        (full,) = select([name]) if len(select([name])) == 1 else [name]
        study = find(full)
        settings = sized(study, size)
    console.print(f"[bold]{study.title}[/]  ({full})\n{study.question}\n[dim]{study.source}[/]\n")
    last = results.read(out, full, size) or {}
    measured = {c["statement"]: c for c in last.get("claims", [])}
    for claim in study.claims:
        found = measured.get(claim.statement)
        console.print(f"[bold]claim[/]  {claim.statement}\n       at most {claim.tolerance:g}: {claim.reason}")
        if found:
            console.print(f"       measured {number(found['value'])}: {'holds' if found['holds'] else 'FAILS'}")
    refuted = {r["belief"]: r["refuted"] for r in last.get("rivals", [])}
    for rival in study.rivals:
        word = {True: "\n       refuted", False: "\n       STILL STANDING", None: ""}[refuted.get(rival.belief)]
        console.print(f"[bold]rival[/]  {rival.belief}{word}")
    shown = [f"{k} = {results.brief(v)}" for k, v in json.loads(results.as_json(settings)).items()]
    console.print(f"\n[bold]settings[/] ({size})  " + escape(", ".join(shown)))
    if study.formulas:
        console.print("[bold]derivations[/]  " + ", ".join(study.formulas))
    if not last:
        console.print(f"[dim]not run yet at this size: stagewise run {full} --size {size} --out {out}[/]")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="FAMILY/STUDY", help="What to call it, such as my_family/my_study.")],
    folder: Annotated[Path, typer.Option(help="Your project's folder, or a checkout of stagewise.")] = Path(),
) -> None:
    """Write the files of a new phenomenon (theory, derivation, study, tests), which say what is still missing."""
    from validation.new import begin

    with refusing():
        written = begin(name, folder)
    for line in (*written.files, "", *written.advice):
        console.print(str(line), markup=False, highlight=False, soft_wrap=True)


@app.command()
def export(
    names: Names = None,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("export"),
    form: Annotated[str, typer.Option("--format", help="csv, or netcdf, with predictions and observations.")] = "csv",
    size: Size = "smoke",
    results_in: Annotated[Path, typer.Option("--report", help="Folder with the results.")] = Path("report"),
) -> None:
    """Write the points of the studies' figures, and the arrays behind them, as tables for other programs."""
    from validation import export as tables
    from validation.study import select

    with refusing():
        writable(out)
        for path in tables.export(select(names or []), results_in, size, out, form):
            console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def run_and_report(names, size, seed, out, resume, jobs, keep, scheduler=None, slurm=None) -> int:
    """Run, print the verdicts, write the page; the exit code is 0 only if every study holds."""
    from sims.workers import default_workers
    from validation import runner
    from validation.report import prepared
    from validation.study import select

    with refusing():
        chosen = select(names or [])
        if size not in SIZES:
            raise ValueError(f"--size must be one of {', '.join(SIZES)}, got {size!r}")
        if keep and size != "paper":
            raise ValueError(f"--keep copies verdicts of paper runs, got --size {size}")
        if jobs and (scheduler or slurm):
            raise ValueError(f"--jobs counts processes of this machine, got {jobs} with --scheduler or --slurm")
        writable(out)
    options = runner.Options(size, seed, out, resume, keep)
    jobs = min(jobs or default_workers(), len(chosen))
    start, finished = time.monotonic(), {}
    code = 0
    try:
        with (
            prepared() as prepare,
            elsewhere(scheduler, slurm) as executor,
            following(chosen, finished, prepare) as listen,
        ):
            finished.update(runner.run(chosen, options, jobs, listen, executor))
    except KeyboardInterrupt:
        code = 130
    except ConnectionError as lost:
        print(f"stagewise: {lost}", file=sys.stderr)
        code = 1
    print_verdicts([finished[name] for name in chosen if name in finished])
    page = write_report(out, size)
    minutes = (time.monotonic() - start) / 60
    if code:
        left = len(chosen) - len(finished)
        console.print(
            f"Interrupted: {len(finished)} of {len(chosen)} studies finished and kept; the same command with "
            f"--resume runs the other {left}."
        )
        return code
    failed = [name for name in chosen if not finished[name]["holds"]]
    for name in failed:
        if "error" in finished[name]:
            console.print(f"[red]{name}[/]: {finished[name]['error']}", highlight=False)
    console.print(
        f"{len(chosen) - len(failed)} of {len(chosen)} studies hold, in {minutes:.1f} minutes.  Report: {page}"
    )
    return 1 if failed else 0


@contextlib.contextmanager
def elsewhere(scheduler: str | None, slurm: Path | None) -> Iterator[Executor | None]:
    """The executor of a cluster, or None for this machine."""
    if scheduler is None and slurm is None:
        yield None
        return
    from validation.cluster import connected

    with contextlib.ExitStack() as stack:
        with refusing():
            executor = stack.enter_context(connected(scheduler, slurm, console.print))
        yield executor


def write_report(out: Path, size: str) -> str:
    """The page over everything that stands in `out`, or the sentence why it could not be written."""
    from validation.report import write

    try:
        return str(write(out, size))
    except (OSError, ValueError) as error:
        return f"not written ({error})"


def print_verdicts(summaries: list[dict]) -> None:
    """One row per study: how many claims hold, how near the nearest one is to failing, how many rivals fell."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("study", overflow="fold")
    for heading in ("verdict", "claims", "tightest", "rivals", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in summaries:
        if "error" in summary:
            table.add_row(summary["study"], "[red]broken[/]", "", "", "", "")
            continue
        claims, rivals = summary["claims"], summary["rivals"]
        table.add_row(
            summary["study"],
            "[green]holds[/]" if summary["holds"] else "[red]FAILS[/]",
            f"{sum(c['holds'] for c in claims)}/{len(claims)}",
            f"{tightest(claims):.0%}",
            f"{sum(r['refuted'] for r in rivals)}/{len(rivals)}",
            f"{sum(summary['seconds'].values()):.1f}",
        )
    console.print(table)


def tightest(claims: list[dict]) -> float:
    """The largest measured value in units of its tolerance; claims of order (tolerance 0) count 0 or 100 %+."""
    shares = [
        (c["value"] / c["tolerance"] if c["tolerance"] else 2.0 * (not c["holds"])) if c["value"] is not None else 9.99
        for c in claims
    ]
    return min(max(shares), 9.99)


def number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3g}"


class following:
    """Progress on the terminal: one bar for the studies, one line for each that is running.

    Finished summaries are put into `finished` as they come, so that an interrupt finds them, and given to `prepare`.
    """

    def __init__(self, names: list[str], finished: dict, prepare: Callable[[dict], None]):
        self.names, self.finished, self.prepare, self.rows = names, finished, prepare, {}
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self):
        self.progress.start()
        self.whole = self.progress.add_task("studies", total=len(self.names))
        return self.listen

    def __exit__(self, *_):
        self.progress.stop()

    def listen(self, event) -> None:
        if event.what == "started":
            self.rows[event.study] = self.progress.add_task(f"  {event.study}", total=None)
        elif event.what == "progress":
            done, total = event.content
            self.progress.update(self.rows[event.study], completed=done, total=total)
        else:
            if (row := self.rows.pop(event.study, None)) is not None:
                self.progress.remove_task(row)
            self.progress.advance(self.whole)
            if event.what == "finished":
                self.finished[event.study] = event.content
                self.prepare(event.content)
            if not console.is_terminal:
                console.print(f"{event.what}: {event.study}", highlight=False)


class refusing:
    """Turn a mistake in an argument into one sentence on stderr and exit code 2."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is not None and issubclass(kind, ValueError | OSError):
            print(f"stagewise: {error}", file=sys.stderr)
            raise typer.Exit(2)


def sized(study, size: str):
    if size not in study.sizes:
        raise ValueError(f"--size must be one of {', '.join(study.sizes)}, got {size!r}")
    return study.sizes[size]


def writable(out: Path) -> None:
    """Refuse an `--out` that cannot be written to before hours are spent on it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {out}")
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise ValueError(f"--out must be writable, got {out}")


def first_line(module: str) -> str:
    """The first line of a study file's docstring, without importing it."""
    import ast
    import importlib.util

    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or "").split("\n")[0]


def main() -> None:
    """Entry of the installed command `stagewise`."""
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    app(prog_name="stagewise")


if __name__ == "__main__":
    main()
