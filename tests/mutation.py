"""Do the tests notice a wrong formula? Plants one mistake at a time and runs the tests that should see it.

    python tests/mutation.py                 24 mistakes spread over theory/ and derivations/
    python tests/mutation.py --count 60 --seed 3 --only deep_linear/matrix
    python tests/mutation.py --count 30 --only /kernels/ --keep

A mistake is a wrong sign, factor, power, index or transpose in one place of a copy of the repository. Whatever no test
notices is printed with its place: either the tests have a hole, or the change is none (a starting guess, a threshold).
The exit code is 1 if fewer than 90 % are noticed. Nothing in the working tree is touched, but for `--keep`: it writes
the outcome of each family to tests/mutation.json, where whoever ran it says of each survivor why it is harmless.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
# Places where a number steers the computation but is no part of the formula.
STEERING = {"rtol", "atol", "max_steps", "length", "nodes", "axis", "ndmin", "maxiter", "axes", "reshape"}
STEERING |= {"Interval", "symbols", "read"}
GUARDS = {"where", "minimum", "maximum", "clip"}
LEAST = 0.9
KEPT = ROOT / "tests" / "mutation.json"


class Mistake(NamedTuple):
    file: str
    line: int
    kind: str
    before: str
    after: str
    source: str


class Planter(ast.NodeTransformer):
    """Counts the places where a mistake fits, and makes the one numbered `target`."""

    def __init__(self, target: int | None = None):
        self.target, self.count, self.made = target, 0, None

    def here(self, node, kind, change):
        self.count += 1
        if self.count - 1 != self.target:
            return node
        before = ast.unparse(node)
        changed = ast.copy_location(change(), node)
        self.made = (node.lineno, kind, before, ast.unparse(changed))
        return changed

    def skip(self, node):
        return node

    visit_Raise = visit_Assert = visit_JoinedStr = visit_arguments = visit_AnnAssign = visit_Import = skip
    visit_ImportFrom = visit_Compare = skip

    def visit_FunctionDef(self, node):
        node.body = [self.visit(child) for child in node.body]
        return node

    def visit_Expr(self, node):
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_keyword(self, node):
        return node if node.arg in STEERING else self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in GUARDS:
            # A number that stands there is most often a filler that nobody reads, or far from what is asked for.
            node.args = [arg if isinstance(arg, ast.Constant) else self.visit(arg) for arg in node.args]
            return node
        return node if name in STEERING else self.generic_visit(node)

    def visit_BinOp(self, node):
        self.generic_visit(node)
        swap = SWAPS.get(type(node.op))
        text = isinstance(node.left, ast.JoinedStr) or isinstance(getattr(node.left, "value", None), str)
        if swap is None or text:
            return node
        return self.here(node, "sign or factor", lambda: ast.BinOp(node.left, swap(), node.right))

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        if not isinstance(node.op, ast.USub) or isinstance(node.operand, ast.Constant):
            return node
        return self.here(node, "sign", lambda: node.operand)

    def visit_Attribute(self, node):
        self.generic_visit(node)
        return self.here(node, "transpose", lambda: node.value) if node.attr == "T" else node

    def visit_Constant(self, node):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float) or abs(node.value) > 16:
            return node
        return self.here(node, "number", lambda: ast.Constant(node.value + 1))

    def visit_Subscript(self, node):
        # An index is shifted; the number in it counts as one place. Sizes of an array are most often alike.
        if getattr(node.value, "attr", "") == "shape":
            return node
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            node.value = self.visit(node.value)
            shifted = ast.Constant(-1 if node.slice.value == 0 else node.slice.value - 1)
            return self.here(node, "index", lambda: ast.Subscript(node.value, shifted, node.ctx))
        return self.generic_visit(node)


def mistakes_in(path: Path) -> int:
    counter = Planter()
    counter.visit(ast.parse(path.read_text()))
    return counter.count


def plant(path: Path, target: int) -> Mistake:
    planter = Planter(target)
    tree = ast.fix_missing_locations(planter.visit(ast.parse(path.read_text())))
    return Mistake(path.relative_to(ROOT).as_posix(), *planter.made, ast.unparse(tree))


def chosen(count: int, seed: int, only: str) -> list[Mistake]:
    """`count` mistakes: the files take turns, the place within a file is drawn."""
    draw = random.Random(seed)
    files = [p for top in ("theory", "derivations") for p in sorted((ROOT / top).glob("*/*.py"))]
    files = [p for p in files if p.name != "__init__.py" and only in p.as_posix()]
    places = {p: draw.sample(range(n), n) for p in files if (n := mistakes_in(p))}
    draw.shuffle(files)
    picked = []
    while len(picked) < count and any(places.values()):
        for path in files:
            if places.get(path) and len(picked) < count:
                picked.append(plant(path, places[path].pop()))
    return picked


def imported(path: Path) -> set[str]:
    """Modules, and names that may be modules, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def dependents(root: Path, top: str, module: str) -> set[str]:
    """The modules of an island that import `module`, or one that does, and itself."""
    imports = {
        ".".join(path.relative_to(root).with_suffix("").parts): imported(path)
        for path in root.glob(f"{top}/*/*.py")
        if path.stem != "__init__"
    }
    found, news = {module}, {module}
    while news:
        news = {name for name, own in imports.items() if name not in found and own & news}
        found |= news
    return found


def readers(copy: Path, mistake: Mistake) -> list[list[str]]:
    """Tests that can see a mistake, nearest first: proofs, its own file, other files and studies that import it."""
    top, family, stem = Path(mistake.file).with_suffix("").parts
    proofs = ["tests/test_derivations.py", "-k", f"{family}.{stem}."]
    used = dependents(copy, top, f"{top}.{family}.{stem}")
    others = sorted(used - {f"{top}.{family}.{stem}"})
    if top == "derivations":
        names = " or ".join(".".join(name.split(".")[1:]) + "." for name in others)
        return [proofs, ["tests/test_derivations.py", "-k", names] if names else []]
    mirror = f"tests/theory/{family}/test_{stem}.py"
    tests = sorted(p for p in copy.glob("tests/theory/*/test_*.py") if imported(p) & used)
    # Those that name it come before those that only reach it.
    tests.sort(key=lambda p: f"theory.{family}.{stem}" not in imported(p))
    rest = [name for p in tests if (name := p.relative_to(copy).as_posix()) != mirror]
    studies = [
        f"tests/test_studies.py::test_study_holds[{p.parent.name}/{p.stem}]"
        for p in sorted(copy.glob("validation/studies/*/*.py"))
        if f"theory.{family}.{stem}" in imported(p)
    ]
    return [proofs, [mirror] if (copy / mirror).exists() else [], rest, studies]


def forget_other_families(copy: Path, family: str) -> None:
    """Removes derivations that neither the family nor what it builds on imports: most of a run would go to them."""
    files = sorted(copy.glob("derivations/*/*.py"))
    texts = {file: file.read_text() for file in files}
    for file in files:
        other, stem = file.parent.name, file.stem
        needed = any(
            f"from derivations.{other}.{stem} import" in text or f"from derivations.{other} import {stem}" in text
            for text in texts.values()
        )
        if other != family and stem != "__init__" and not needed:
            file.unlink()


def noticed(mistake: Mistake) -> str:
    """The first test that fails with the mistake in place, or nothing."""
    family = Path(mistake.file).parts[-2]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        kept = shutil.ignore_patterns(".*", "report", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, copy, ignore=kept)
        forget_other_families(copy, family)
        (copy / mistake.file).write_text(mistake.source)
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        # One mistake keeps one core busy: `--jobs` is the number of mistakes tested at a time. SymPy may look for ever
        # for a proof of what is wrong; no right one takes a minute.
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--timeout", "90", "-p", "no:cacheprovider"]
        for tests in readers(copy, mistake):
            if not tests:
                continue
            done = subprocess.run([*pytest, *tests], cwd=copy, env=environment, capture_output=True, text=True)
            failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            if failed:
                return failed[0].split(" - ")[0].split(" ", 1)[-1]
            if done.returncode not in (0, 5):  # 5: nothing was selected
                return f"no test could run: {(done.stdout + done.stderr).strip().splitlines()[-1]}"
    return ""


def keep(found: list[tuple[Mistake, str]]) -> None:
    """Writes each family's outcome; what was said of a survivor that is known stays."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for family in sorted({Path(mistake.file).parts[-2] for mistake, _ in found}):
        said = {(s["file"], s["before"], s["after"]): s["why"] for s in kept.get(family, {}).get("survivors", [])}
        own = [(mistake, by) for mistake, by in found if Path(mistake.file).parts[-2] == family]
        survivors = [
            dict(file=m.file, before=m.before, after=m.after, why=said.get((m.file, m.before, m.after), ""))
            for m, by in own
            if not by
        ]
        kept[family] = {"planted": len(own), "noticed": len(own) - len(survivors), "survivors": survivors}
    KEPT.write_text(json.dumps(kept, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=24, help="how many mistakes (default 24)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default 0)")
    parser.add_argument("--only", default="", help="only files whose path contains this")
    parser.add_argument("--jobs", type=int, default=1, help="copies tested at a time (default 1)")
    parser.add_argument("--keep", action="store_true", help="write the outcome to tests/mutation.json")
    arguments = parser.parse_args()
    planted = chosen(arguments.count, arguments.seed, arguments.only)
    found: list[tuple[Mistake, str]] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mistake, by in zip(planted, pool.map(noticed, planted), strict=True):
            found.append((mistake, by))
            place = f"{mistake.file}:{mistake.line}"
            print(f"{'noticed ' if by else 'MISSED  '} {place}  {mistake.before}  ->  {mistake.after}")
            print(f"          {mistake.kind}" + (f", by {by}" if by else ""), flush=True)
            if arguments.keep:
                keep(found)
    caught = sum(bool(by) for _, by in found)
    print(f"{caught} of {len(planted)} mistakes noticed")
    return int(not planted or caught < LEAST * len(planted))


if __name__ == "__main__":
    raise SystemExit(main())
