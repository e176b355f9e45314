"""A progress bar with the time left, for a simulation that runs in a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(description: str = "training", unit: str = "steps") -> Iterator[Callable[[int, int], None]]:
    """Within the block, the value called with (steps done, steps in all) moves a bar; it is gone afterwards.

        with bar("digits") as progress:
            simulate(simulation, runs, record_at, progress=progress)

    `simulate(..., progress=True)` does the same with a bar of its own. Where there is no terminal nothing is drawn.
    """
    # Loaded here: a simulation without a bar needs no rich.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (BarColumn(bar_width=32), MofNCompleteColumn(), TextColumn(f"{unit},"), TimeElapsedColumn())
    left = (TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left"))
    label = TextColumn("{task.description}")
    with Progress(label, *columns, *left, console=console, transient=True, disable=not console.is_terminal) as drawn:
        task = drawn.add_task(description, total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)
