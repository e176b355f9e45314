"""The files of a new phenomenon: a theory, its derivation, a study and tests that say what is still to be written.

In a checkout of this library they go where all others are. In a project of your own they lie in one folder,

    my_family/my_study.py               the study, which `stagewise run my_family/my_study` finds
    my_family/my_study_theory.py        the theory
    my_family/my_study_derivation.py    its proof
    my_family/test_my_study.py          its tests

which the variable STAGEWISE_STUDIES and, for pytest, the options `stagewise_studies` and `stagewise_derivations` name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import keyword
import os
import pkgutil
import re
import string
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TEMPLATES = Path(__file__).parent / "templates"
CHECKOUT = ("theory/checks.py", "derivations/formula.py", "validation/study.py", "tests/theory")
PYTEST_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
PYTEST_OPTIONS = """\
[tool.pytest.ini_options]
stagewise_studies = ["."]
stagewise_derivations = ["*.*_derivation"]
"""


class Written(NamedTuple):
    """The files that were written, and what to do with them, line by line."""

    files: tuple[Path, ...]
    advice: tuple[str, ...]


def begin(name: str, folder: str | os.PathLike[str] = ".") -> Written:
    """Write the files of the phenomenon `name` ("my_family/my_study") in `folder`: all of them, or none.

    Nothing is overwritten. Until they are written out, the theory, the proof, the networks, the claim and the rival
    each raise `NotImplementedError` with a sentence that says what to put there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"--folder must be a folder that exists, got {folder}")
    family, _, study = name.partition("/")
    _check_name("FAMILY", family, name)
    _check_name("STUDY", study, name)
    if study.startswith("test_") or study == "conftest":
        raise ValueError(f"STUDY must not be a name that pytest takes for a file of tests, got {study!r}")
    here = all((folder / part).exists() for part in CHECKOUT)
    if not here:
        _check_family(family, folder)
    files = _in_checkout(family, study) if here else _in_project(family, study)
    for path in files:
        _check_place(folder, path)
    packages = {path: text for path, text in _packages(family, here).items() if not (folder / path).exists()}
    options = {} if here or _pytest_file(folder) else {Path("pyproject.toml"): PYTEST_OPTIONS}
    written = {folder / path: text for path, text in (packages | files | options).items()}
    _write(written)
    return Written(tuple(written), _advice(family, study, folder, here))


def _in_checkout(family: str, study: str) -> dict[Path, str]:
    words = {"theory_module": f"theory.{family}.{study}", "formula": f"{family}.{study}.law"}
    words |= {"decorator": "", "hypothesis_names": "given"}
    return {
        Path(f"theory/{family}/{study}.py"): _text("theory", study, words),
        Path(f"derivations/{family}/{study}.py"): _text("derivation", study, words),
        Path(f"validation/studies/{family}/{study}.py"): _text("study", study, words),
        Path(f"tests/theory/{family}/test_{study}.py"): _text("tests", study, words),
    }


def _in_project(family: str, study: str) -> dict[Path, str]:
    words = {"theory_module": f"{family}.{study}_theory", "formula": f"{family}.{study}_derivation.law"}
    # A checkout has a profile of Hypothesis for all tests.
    patience = "@settings(deadline=None)  # the first call compiles\n"
    words |= {"decorator": patience, "hypothesis_names": "given, settings"}
    return {
        Path(f"{family}/{study}_theory.py"): _text("theory", study, words),
        Path(f"{family}/{study}_derivation.py"): _text("derivation", study, words),
        Path(f"{family}/{study}.py"): _text("study", study, words),
        Path(f"{family}/test_{study}.py"): _text("tests", study, words),
    }


def _packages(family: str, here: bool) -> dict[Path, str]:
    """What makes the folders of a family packages."""
    about = f'"""{_title(family)}: say in one line what the family is about."""\n'
    if not here:
        return {Path(f"{family}/__init__.py"): about}
    others = (Path(f"{parent}/{family}/__init__.py") for parent in ("derivations", "validation/studies"))
    return {Path(f"theory/{family}/__init__.py"): about} | dict.fromkeys(others, "")


def _text(template: str, study: str, words: Mapping[str, str]) -> str:
    text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
    return string.Template(text).substitute(words, title=_title(study))


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _advice(family: str, study: str, folder: Path, here: bool) -> tuple[str, ...]:
    if here:
        return (
            f"python -m pytest -m '' -k {study}      says what is still to be written",
            f"stagewise run {family}/{study}",
        )
    lines = (
        "python -m pytest      says what is still to be written",
        f"STAGEWISE_STUDIES=. stagewise run {family}/{study}",
    )
    file = _pytest_file(folder)
    if file is not None and "stagewise_studies" not in file.read_text(encoding="utf-8", errors="replace"):
        lines += (f"pytest finds the study and the proof once {file} says", *PYTEST_OPTIONS.splitlines())
    return lines


def _pytest_file(folder: Path) -> Path | None:
    """The file that holds pytest's options, or may hold them, in `folder` or above it."""
    inside = folder.resolve()
    places = (parent / name for parent in (inside, *inside.parents) for name in PYTEST_FILES)
    return next((place for place in places if place.is_file()), None)


def _check_name(what: str, part: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", part) or keyword.iskeyword(part):
        letters = "lower-case letters, digits and underscores"
        raise ValueError(f"{what} must be a Python name of {letters}, as in my_family/my_study, got {name!r}")


def _check_family(family: str, folder: Path) -> None:
    """A family of a project is a package of that name: refuse one that another package has."""
    ours = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "studies")])}
    if family in ours:
        raise ValueError(f"FAMILY must be a name of your own, got {family!r}, which is a family of stagewise")
    if family in sys.stdlib_module_names or family in ("theory", "sims", "derivations", "validation", "tests"):
        raise ValueError(f"FAMILY must be a name of your own, got {family!r}, which is another package's")
    found = importlib.util.find_spec(family)
    places = [Path(place).resolve() for place in (found.submodule_search_locations or [])] if found else []
    if found is not None and (folder / family).resolve() not in places:
        raise ValueError(f"FAMILY must be a name of your own, got {family!r}, which is the package at {found.origin}")


def _check_place(folder: Path, path: Path) -> None:
    """Refuse a file that exists, or a folder that is none or leads elsewhere."""
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--folder must hold all files, but {place.parent} leads to {place.parent.resolve()}")
    if os.path.lexists(place):
        raise ValueError(f"FAMILY/STUDY must be new, but {place} exists")
    for module in (place.parent, place.parent.with_suffix(".py")):
        if module.is_file():
            raise ValueError(f"FAMILY must be a folder, but {module} is a file of that name")


def _write(files: Mapping[Path, str]) -> None:
    """All of `files`, or none: an error, or Ctrl-C, takes back what is written, and nothing is overwritten."""
    made = []
    try:
        for path, text in files.items():
            for parent in [p for p in reversed(path.parents) if not p.exists()]:
                parent.mkdir()
                made.append(parent)
            with open(path, "x", encoding="utf-8", newline="\n") as file:
                made.append(path)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
