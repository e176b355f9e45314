"""The shape of the house: who may import whom, how long a file may be, what a public function owes its reader."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("theory", "sims", "derivations", "validation")
ALLOWED = {
    "theory": {"theory"},
    "sims": {"sims"},
    "derivations": {"derivations"},
    "validation": {"validation", "theory", "sims", "derivations"},
}
FILES = [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]
THEORY = [p for p in FILES if p.parts[len(ROOT.parts)] == "theory" and p.name != "__init__.py"]
LONGEST_FILE = 400
LONGEST_BODY = 60


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> set[str]:
    """Top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_islands_import_nothing_of_each_other(path):
    package = path.relative_to(ROOT).parts[0]
    foreign = imports(ast.parse(path.read_text())) & (set(PACKAGES) | {"tests"}) - ALLOWED[package]
    assert not foreign, f"{name_of(path)} imports {foreign}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_can_be_read_in_one_sitting(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= LONGEST_BODY, f"{node.name} has a body of {length} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_public_jax(path):
    text = path.read_text()
    assert not re.search(r"jax\.(core|interpreters|_src|experimental\.ode)\b", text)


@pytest.mark.parametrize("path", THEORY, ids=name_of)
def test_theory_functions_are_documented_and_typed(path):
    module = ast.parse(path.read_text())
    assert ast.get_docstring(module), "a file says in its first line what it is about"
    for node in module.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        assert ast.get_docstring(node), f"{node.name} has no docstring"
        assert node.returns is not None, f"{node.name} does not say what it returns"
        assert not node.name.startswith(("compute_", "get_")), node.name


def test_every_theory_file_of_a_family_has_its_derivation():
    families = [p for p in (ROOT / "theory").iterdir() if p.is_dir() and p.name != "__pycache__"]
    for family in families:
        for path in family.glob("*.py"):
            mirror = ROOT / "derivations" / family.name / path.name
            assert mirror.exists(), f"{name_of(path)} has no {name_of(mirror)}"


@pytest.mark.parametrize("path", THEORY, ids=name_of)
def test_every_theory_file_has_its_property_tests(path):
    tests = ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.name}"
    # What refuses bad input is tested through every function that uses it.
    assert tests.exists() or path.name == "checks.py", f"{name_of(path)} has no {name_of(tests)}"


def test_every_formula_that_a_study_names_exists():
    from derivations.formula import discover as formulas
    from validation.study import discover, find

    known = dict(formulas())
    for name in discover():
        for formula in find(name).formulas:
            assert formula in known, f"{name} names the formula {formula}"


def test_every_formula_backs_a_theory_function():
    from derivations.formula import discover as formulas

    for name, formula in formulas():
        module, function = formula.backs.rsplit(".", 1)
        assert module.startswith("theory."), name
        assert callable(getattr(importlib.import_module(module), function)), name
