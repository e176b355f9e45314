"""Examples of the README and of the guides run, in order, and print what they say they print; links lead somewhere."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

import validation
from validation.study import discover

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDES = {path.stem: path.read_text() for path in sorted((Path(validation.__file__).parent / "guides").glob("*.md"))}


def ran(text: str) -> int:
    """Run the Python blocks of a text in one namespace, each held to the output that follows it; how many there are."""
    # The blocks that carry no language after a Python block are its output.
    blocks = re.findall(r"```(\w*)\n(.*?)```(?:\n```\n(.*?)```)?", text, re.DOTALL)
    namespace = {"__name__": "example"}
    count = 0
    for language, code, expected in blocks:
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), np.printoptions(suppress=True):
            # No file of that name: Hypothesis and tracebacks must not look a line up in the README itself.
            exec(compile(code, "<example>", "exec"), namespace)
        count += 1
        if expected:
            assert printed.getvalue().split() == expected.split()
    return count


def test_examples_print_what_the_readme_says():
    assert ran(README) >= 3


@pytest.mark.parametrize("family", GUIDES)
def test_examples_print_what_the_guide_says(family):
    assert ran(GUIDES[family]) >= 1


@pytest.mark.parametrize("family", GUIDES)
def test_a_guide_shows_a_study_and_says_where_its_theory_breaks(family):
    shown = re.findall(r"!\[.+\]\((\w+)\)", GUIDES[family])
    assert shown
    assert {f"{family}/{name}" for name in shown} <= set(discover())
    for heading in ("## Where it holds", "## Where it breaks"):
        assert heading in GUIDES[family]
    for name in re.findall(r"`(\w+)`", GUIDES[family]):
        places = [ROOT / "theory" / family / f"{name}.py", *(ROOT / "theory").glob(f"*/{name}.py")]
        assert any(place.exists() for place in places), f"no file of theory is called {name}"


def test_every_family_has_a_guide():
    assert set(GUIDES) == {name.split("/")[0] for name in discover()}


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_both_commands_stand_between_their_marks():
    for mark in ("report", "tests"):
        assert re.search(rf"<!-- {mark} -->\n```sh\n.+\n```\n<!-- end -->", README), mark
