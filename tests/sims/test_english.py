"""English words: numbered in order, cut into pieces, the same every time."""

import sys

import numpy as np
import pytest

from sims.tasks.english import LICENCES, documentation, licences, text


def test_words_are_numbered_by_first_use():
    found = text(["The cat's cat -- the", "CAT’s 2 cats!"])
    assert found.vocabulary == ("the", "cat's", "cat", "cats")
    np.testing.assert_array_equal(found.words, [0, 1, 2, 0, 1, 3])
    np.testing.assert_array_equal(found.pieces(4), [[0, 1, 2, 0]])


def test_the_documentation_is_english():
    found, again = documentation(), documentation()
    np.testing.assert_array_equal(found.words, again.words)
    counts = np.bincount(found.words)
    assert len(found.words) > 50_000
    assert len(counts) == len(found.vocabulary) > 2500
    assert found.vocabulary[counts.argmax()] == "the"


@pytest.mark.skipif(not LICENCES.exists(), reason="no licences here")
def test_licences():
    assert "warranty" in licences().vocabulary


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="parts must hold at least one word, got none"):
        text(["42"])
    with pytest.raises(ValueError, match="length must be from 1 to the 2 words of the text, got 3"):
        text(["two words"]).pieces(3)
    with pytest.raises(FileNotFoundError, match="there are no licences in"):
        licences(tmp_path)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ModuleNotFoundError, match="documentation topics of Python"):
        documentation()
