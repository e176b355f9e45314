"""What `python tests/mutation.py --keep` found: enough mistakes noticed in each family, a reason for each survivor."""

import ast
import functools
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KEPT = json.loads((ROOT / "tests" / "mutation.json").read_text())
FAMILIES = sorted(path.parent.name for path in ROOT.glob("theory/*/__init__.py"))


@functools.cache
def normalised(file):
    return ast.unparse(ast.parse((ROOT / file).read_text()))


@pytest.mark.parametrize("family", FAMILIES)
def test_nine_of_ten_mistakes_are_noticed(family):
    found = KEPT[family]
    assert found["planted"] >= 24
    assert found["noticed"] >= 0.9 * found["planted"], "write the test that sees them, then run it again"
    assert found["noticed"] + len(found["survivors"]) == found["planted"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_survivor_still_stands_and_has_a_reason(family):
    for survivor in KEPT[family]["survivors"]:
        assert survivor["before"] in normalised(survivor["file"]), f"{survivor['file']} changed: run it again"
        assert len(survivor["why"].split()) > 4, f"nothing says why {survivor['before']} may be {survivor['after']}"
