"""The API reference: every public function and record of the packages with its signature and docstring.

Read from the source, not imported: a reference costs no JAX, and a broken file breaks nothing else.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from validation import precision
from validation.report.markup import family_name, framed


class Room(NamedTuple):
    """A page of the reference: its name, what it is called, and its files by dotted name."""

    key: str
    title: str
    files: dict[str, Path]


def described(family: str) -> bool:
    """Whether the reference has a page for this family: a user's own has none."""
    return (root_of("theory") / family).is_dir()


def rooms(families: list[str]) -> list[Room]:
    """Theory by family, then what lies beside it."""
    theory, sims, validation, derivations = map(root_of, ("theory", "sims", "validation", "derivations"))
    found = [
        Room(f, f"theory.{f}: {family_name(f).lower()}", files_of(theory, f"theory.{f}", theory / f))
        for f in families
        if described(f)
    ]
    found += [
        Room("theory", "theory: shared rooms", files_of(theory, "theory", theory)),
        Room("sims", "sims: networks that are trained", files_of(sims, "sims", sims, deep=True)),
        Room("validation", "validation: studies, claims, laws", files_of(validation, "validation", validation)),
        Room("derivations", "derivations: proofs", files_of(derivations, "derivations", derivations)),
    ]
    return [room for room in found if room.files]


def root_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def files_of(root: Path, dotted: str, folder: Path, deep: bool = False) -> dict[str, Path]:
    """The files of a folder that hold something public, by dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py") if deep else folder.glob("*.py")):
        if not path.stem.startswith("_"):
            found[".".join([root.name, *path.relative_to(root).with_suffix("").parts])] = path
    return found


def pages(families: list[str]) -> dict[str, str]:
    """All pages of the reference, by file name; `index.html` lists the files of all rooms."""
    found, listed = {}, ""
    for room in rooms(families):
        entries = {name: ast.parse(path.read_text()) for name, path in room.files.items()}
        rows = "".join(
            f'<li><a href="{room.key}.html#{name}"><code>{name}</code></a> '
            f"<small>{escape(first_line(tree))}</small></li>\n"
            for name, tree in entries.items()
        )
        body = f"<h1>{escape(room.title)}</h1>\n" + "".join(section(name, tree) for name, tree in entries.items())
        found[f"{room.key}.html"] = framed(room.title, body, up="../", families=families, here="reference")
        listed += f'<h2><a href="{room.key}.html">{escape(room.title)}</a></h2>\n<ul class="files">{rows}</ul>\n'
    body = f"<h1>Reference</h1>\n{listed}"
    return found | {"index.html": framed("Reference", body, up="../", families=families, here="reference")}


def first_line(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").split("\n")[0]


def section(name: str, tree: ast.Module) -> str:
    """One file: what it is about, then what it holds."""
    about = ast.get_docstring(tree) or ""
    notes = precision.notes() if name.startswith("theory.") else {}
    items = "".join(entry(name, node, notes.get(f"{name}.{node.name}", "")) for node in tree.body if is_public(node))
    return (
        f'<section id="{name}"><h2><code>{name}</code></h2>\n{prose(about)}\n{items}</section>\n'
        if items or about
        else ""
    )


def is_public(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
        return False
    return ast.get_docstring(node) is not None


def entry(module: str, node: ast.stmt, note: str = "") -> str:
    """A function or a record, and what else is known of it."""
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    text = ast.get_docstring(node) or ""
    return (
        f'<div class="entry" id="{module}.{node.name}"><h3 class="code"><code>{escape(signature(node))}</code></h3>'
        f'<pre tabindex="0">{escape(text)}</pre>{f"<small>{escape(note)}</small>" if note else ""}</div>\n'
    )


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """As one writes it, with the shapes of arrays."""
    if isinstance(node, ast.ClassDef):
        fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        return f"class {node.name}({', '.join(fields)})"
    returns = f" → {shape(node.returns)}" if node.returns else ""
    return f"{node.name}({shape(node.args)}){returns}"


def shape(node: ast.AST) -> str:
    """Annotations as a reader says them: `Float[ArrayLike, 'n d']` is `Float (n d)`."""
    text = ast.unparse(node)
    text = re.sub(r"(\w+)\[Array(?:Like)?, '([^']*)'\]", lambda m: f"{m[1]} ({m[2].strip()})", text)
    return re.sub(r"\(\)(?= *[,)=]|$)", "scalar", text.replace(" ()", " scalar"))


def prose(text: str) -> str:
    """A docstring's paragraphs; what is indented stays as it is set."""
    found = ""
    for block in re.split(r"\n\s*\n", text.strip()):
        fixed = block.startswith("    ") or "\n    " in block or "\n- " in block
        found += f'<pre tabindex="0">{escape(block)}</pre>' if fixed else f"<p>{escape(block)}</p>"
    return found
