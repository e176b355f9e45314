"""English words: numbered in order, cut into pieces, the same every time."""

import sys

import numpy as np
import pytest

from sims.tasks.english import ALPHABET, LICENCES, documentation, licences, text


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


def test_later_copies_of_a_passage_go():
    found = text(["a b c d", "b c d e", "c d a b"])
    left = found.unrepeated(3)
    assert [left.vocabulary[i] for i in left.words] == list("abcdecdab")
    np.testing.assert_array_equal(found.unrepeated(12).words, found.words)
    # One word at a time: each stands once.
    assert [found.vocabulary[i] for i in found.unrepeated(1).words] == list("abcde")


def test_the_documentation_repeats_itself():
    """A fifth of it, whole topics; what is left holds no passage twice."""
    everything = documentation()
    once = everything.unrepeated(12)
    assert 0.5 < len(once.words) / len(everything.words) < 0.95
    runs = np.lib.stride_tricks.sliding_window_view(once.words, 12)
    # But for those that only arise where a copy was cut out.
    assert len(np.unique(runs, axis=0)) > 0.999 * len(runs)


def test_the_commonest_words_go():
    found = text(["b a c", "a b d a"])
    left = found.without(2)
    assert [left.vocabulary[i] for i in left.words] == list("cd")
    # As common as c and d, and used first.
    assert [found.vocabulary[i] for i in found.without(3).words] == ["d"]
    np.testing.assert_array_equal(found.without(0).words, found.words)
    everything = documentation()
    gone = set(everything.vocabulary) - {everything.vocabulary[i] for i in everything.without(20).words}
    assert len(gone) == 20
    assert gone >= {"the", "a", "is", "of", "to", "and"}


def test_words_come_back_sooner_than_their_frequency_says():
    """What remains without the commonest ones does so ten times as often within some ten words; not next to itself."""
    words = documentation().unrepeated(12).without(20).words
    often = np.sum((np.bincount(words) / len(words)) ** 2)
    again = [np.mean(words[d:] == words[:-d]) for d in (1, 5, 10, 3000)]
    assert min(again[1:3]) > 10 * often
    assert again[0] < again[1]
    assert again[3] < 3 * often


def test_letters():
    found = text(["It's THE end"])
    assert "".join(ALPHABET[i] for i in found.letters()) == "its the end"


@pytest.mark.skipif(not LICENCES.exists(), reason="no licences here")
def test_licences():
    assert "warranty" in licences().vocabulary


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="parts must hold at least one word, got none"):
        text(["42"])
    with pytest.raises(ValueError, match="length must be from 1 to the 2 words of the text, got 3"):
        text(["two words"]).pieces(3)
    with pytest.raises(ValueError, match="passage must be at least 1 word, got 0"):
        text(["two words"]).unrepeated(0)
    with pytest.raises(ValueError, match="commonest must be from 0 to less than the 2 different words, got 2"):
        text(["two words"]).without(2)
    with pytest.raises(FileNotFoundError, match="there are no licences in"):
        licences(tmp_path)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ModuleNotFoundError, match="documentation topics of Python"):
        documentation()
