"""How far each theory function can be trusted in float32: `python -m validation.precision [NAME ...]`.

The theory function of every `Formula` (of the families or files NAME, if any is given) is called at 64 points
of the formula's domain in two processes, of float64 and of float32, on the same arguments, rounded to float32. What
they differ by goes to `validation/precision.json`, which is committed and shown in the reference.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).parent / "precision.json"
POINTS = 64
# Where arguments that are no numbers (counts, tables) differ from point to point, each is a program of its own.
PROGRAMS = 6
TRUSTED = 1e-3
# Fewer points than this on the good side of a bound are no domain.
_LEAST_SHARE = 0.25
# What float32 can hold: below, results are zero, and that is no loss of the formula's.
_SMALLEST = float(np.finfo(np.float32).tiny)


def points(formula: Any, count: int = POINTS) -> np.ndarray:
    """Numbers of the formula's domain that float32 can hold, (points, arguments): the same ones every time."""
    draws = np.random.default_rng(zlib.crc32(f"{formula.backs} {formula.title}".encode()))
    columns = []
    for argument in formula.arguments:
        domain = formula.domain[argument]
        u = draws.uniform(size=count)
        low, high = (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)
        x = low + (high - low) * u
        rounded = np.float32(np.exp(x) if domain.log else x)
        inner = np.float32(0.5 * domain.low + 0.5 * domain.high)
        outside = (rounded < domain.low) | (rounded > domain.high)
        columns.append(np.where(outside, np.nextafter(rounded, inner), rounded).astype(float))
    # Some formulas are one number.
    return np.stack(columns, axis=1) if columns else np.zeros((1, 0))


def values(formula: Any, numbers: np.ndarray) -> list[float | None]:
    """What the theory function says at each of `numbers`, in the precision of this process; None is a refusal."""
    import jax

    from validation.formulas import REFUSALS, function_and_arguments, split

    programs: dict[str, Callable] = {}
    found: list[float | None] = []
    for row in numbers:
        parts = split(*function_and_arguments(formula, *map(float, row)), formula.keywords)
        if parts.key not in programs:
            if len(programs) == PROGRAMS:
                break
            programs[parts.key] = jax.jit(parts.call)
        found.append(None)
        for reals in ([_rounded(x) for x in parts.reals], parts.reals):
            # What must be exact, as that a distribution sums to one, may not be so once it is rounded.
            with contextlib.suppress(*REFUSALS):
                try:
                    result = jax.device_get(programs[parts.key](reals))
                except TypeError:
                    # Plain floats are wanted, as by a function that keeps what it made of them.
                    programs[parts.key] = parts.call
                    result = jax.device_get(parts.call(reals))
                found[-1] = float(formula.read(result) if formula.read else result)
                break
    return found


def _rounded(x: Any) -> Any:
    """A number or array, rounded to what float32 can hold."""
    return float(np.float32(x)) if isinstance(x, float) else np.asarray(x).astype(np.float32).astype(np.float64)


def compared(names: Sequence[str], numbers: np.ndarray, exact: Sequence, single: Sequence) -> dict[str, Any]:
    """One row of the table: the largest relative error, and where it is small if it is not so everywhere."""
    rows = [(x, a, b) for x, a, b in zip(numbers, exact, single, strict=False) if a is not None]
    if not rows:
        return {"points": 0}
    at = np.array([x for x, _, _ in rows])
    errors = np.array([np.inf if b is None else relative(a, b) for _, a, b in rows])
    bad = ~(errors <= TRUSTED)
    row: dict[str, Any] = {"points": len(rows), "error": _short(errors.max()), "lost": int(bad.sum())}
    if refused := sum(b is None for _, _, b in rows):
        row["refused"] = refused
    if bad.any() and (bound := best_bound(names, at, bad)) is not None:
        argument, side, value, good = bound
        row |= {"argument": argument, "side": side, "value": _short(value), "error_there": _short(errors[good].max())}
    return row


def relative(exact: float, single: float) -> float:
    if exact == single:
        return 0.0
    if max(abs(exact), abs(single)) < _SMALLEST:
        return 0.0
    return abs(single - exact) / abs(exact) if exact else np.inf


def best_bound(names: Sequence[str], at: np.ndarray, bad: np.ndarray) -> tuple[str, str, float, np.ndarray] | None:
    """The bound on one argument that leaves out every bad point and the fewest good ones.

    The argument, the side of the bound that is kept, the bound, and which points are.
    """
    found = []
    for j, name in enumerate(names):
        x = at[:, j]
        found.append((name, "below", float(x[bad].min()), x < x[bad].min()))
        found.append((name, "above", float(x[bad].max()), x > x[bad].max()))
    best = max(found, key=lambda bound: bound[3].sum(), default=None)
    return best if best is not None and best[3].mean() >= _LEAST_SHARE else None


def note(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the reference says beside a function: of its formulas, the one that float32 serves worst."""
    measured = [row for row in rows if row.get("points")]
    if not measured:
        return "float32: not measured" + (f" ({rows[0]['why']})" if rows and "why" in rows[0] else "")
    worst = max(measured, key=lambda row: (row["lost"], math.inf if row["error"] is None else row["error"]))
    if not worst["lost"]:
        return f"float32: relative error at most {worst['error']:.0e} on its domain"
    lost = f"{worst['lost']} of {worst['points']} points of its domain"
    refused = f", {worst['refused']} of them by a refusal" if worst.get("refused") else ""
    if "argument" not in worst:
        return f"float32: loses {TRUSTED:g} at {lost}{refused}; use float64"
    where = f"{worst['argument']} {'<' if worst['side'] == 'below' else '>'} {worst['value']:.3g}"
    there = f"float32: relative error at most {worst['error_there']:.0e} where {where}"
    return f"{there}; loses {TRUSTED:g} at {lost}{refused}"


def notes() -> dict[str, str]:
    """The sentence of every function of the table, by its dotted path."""
    by_function: dict[str, list[dict]] = {}
    for row in read().values():
        by_function.setdefault(row["backs"], []).append(row)
    return {backs: note(rows) for backs, rows in by_function.items()}


def read() -> dict[str, dict[str, Any]]:
    """The committed table: formulas by name."""
    return json.loads(TABLE.read_text())["formulas"] if TABLE.exists() else {}


def _short(number: float) -> float | None:
    return float(f"{number:.2g}") if np.isfinite(number) else None


def _print_values(places: Sequence[str]) -> None:
    """In a process of one precision: a line of JSON for each formula."""
    from derivations.formula import discover

    for name, formula in itertools.chain.from_iterable(discover(place) for place in places or [""]):
        numbers = points(formula)
        row: dict[str, Any] = {"name": name, "backs": formula.backs, "arguments": [str(a) for a in formula.arguments]}
        try:
            row |= {"values": values(formula, numbers), "numbers": numbers.tolist()}
        except Exception as error:
            row |= {"values": [], "numbers": [], "why": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
        print(json.dumps(row), flush=True)


def _values_in(precision: str, places: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The formulas' values by name, from a process of that precision."""
    from sims.compilation import quick_compilation

    environment = os.environ | {"JAX_ENABLE_X64": "1" if precision == "float64" else "0", "JAX_PLATFORMS": "cpu"}
    environment.setdefault("XLA_FLAGS", quick_compilation())
    command = [sys.executable, "-m", "validation.precision", "--values", *places]
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--values"]:
        _print_values(arguments[1:])
        return
    from sims.checkpoints import write_atomically

    exact, single = (_values_in(precision, arguments) for precision in ("float64", "float32"))
    table = read()
    for name, row in exact.items():
        other = single[name]
        why = {"why": row.get("why") or other["why"]} if "why" in row or "why" in other else {}
        found = compared(row["arguments"], np.array(row["numbers"]), row["values"], other["values"])
        table[name] = {"backs": row["backs"], **found, **why}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    about = f'"points": {POINTS}, "trusted": {TRUSTED}'
    write_atomically(TABLE, f'{{{about}, "formulas": {{\n{lines}\n}}}}\n'.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
