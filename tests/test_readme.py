"""The README's examples run, in order, and print what it says they print; its figures and files exist."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_examples_print_what_the_readme_says():
    # The blocks that carry no language after a Python block are its output.
    blocks = re.findall(r"```(\w*)\n(.*?)```(?:\n```\n(.*?)```)?", README, re.DOTALL)
    namespace = {"__name__": "readme"}
    ran = 0
    for language, code, expected in blocks:
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), np.printoptions(suppress=True):
            # No file of that name: Hypothesis and tracebacks must not look a line up in the README itself.
            exec(compile(code, "<README>", "exec"), namespace)
        ran += 1
        if expected:
            assert printed.getvalue().split() == expected.split()
    assert ran >= 3


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_both_commands_stand_between_their_marks():
    for mark in ("report", "tests"):
        assert re.search(rf"<!-- {mark} -->\n```sh\n.+\n```\n<!-- end -->", README), mark
