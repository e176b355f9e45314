"""Fingerprints of code: what a result was computed with, so that it is never taken for another's."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

_ROOT = Path(__file__).parent.parent


def of_packages(*names: str) -> str:
    """Of every source file of the packages `names` that stand beside this one."""
    return _of_files(_ROOT, (file for name in names for file in (_ROOT / name).rglob("*.py")))


def of_function(function: Callable) -> str:
    """Of the code that a function stands in: its whole package, or the scripts in the folder of its file.

    What it calls beyond these, other packages, is not looked at.
    """
    module = sys.modules[function.__module__]
    package = sys.modules.get(module.__name__.split(".")[0])
    if package is not None and getattr(package, "__path__", None):
        folder = Path(next(iter(package.__path__)))
        return _of_files(folder, folder.rglob("*.py"))
    return of_folder(Path(module.__file__ or "").parent)


def of_folder(folder: Path) -> str:
    """Of the source files that lie in `folder` itself."""
    return _of_files(folder, folder.glob("*.py"))


def dotted_path(function: Callable) -> str:
    """The name under which another process finds a function; one sentence about a function that none can find."""
    name, module = getattr(function, "__qualname__", repr(function)), sys.modules.get(str(function.__module__))
    file = getattr(module, "__file__", None)
    found = functools.reduce(lambda owner, part: getattr(owner, part, None), name.split("."), module)
    if file is None or found is not function:
        raise ValueError(
            f"function must stand in a file by its own name for a store or for worker processes, got {name}; "
            'executor="serial" without a store takes any'
        )
    # A script has the same name whether it is run or imported.
    return f"{Path(file).stem if function.__module__ == '__main__' else function.__module__}.{name}"


def _of_files(root: Path, files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return found.hexdigest()
