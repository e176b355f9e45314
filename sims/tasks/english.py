"""English words that a machine with Python already has: its documentation, and the licences where Debian put them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

LICENCES = Path("/usr/share/common-licenses")
# Of `Text.letters`: a to z are 0 to 25, what stands between words is the last.
ALPHABET = "abcdefghijklmnopqrstuvwxyz "


class Text(NamedTuple):
    """`words` (T,): numbers into `vocabulary`, in the order of the text; the vocabulary is in that of first use.

    Five lines from the text to what a network reads, letters under names that are new in each piece:

        letters = documentation().unrepeated(12).letters()
        pieces = letters[: len(letters) // 64 * 64].reshape(-1, 64)
        kinds = np.array([0 if c in "aeiou" else 1 if c != " " else 2 for c in ALPHABET])
        names = new_names(key, len(pieces), kinds, 3)  # of sims.tasks.renamed_text
        strings = renamed(pieces, names)
    """

    words: np.ndarray
    vocabulary: tuple[str, ...]

    def pieces(self, length: int) -> np.ndarray:
        """The text cut into pieces of `length` words, (pieces, length); what is left over at the end is dropped."""
        if not 1 <= length <= len(self.words):
            raise ValueError(f"length must be from 1 to the {len(self.words)} words of the text, got {length}")
        count = len(self.words) // length
        return self.words[: count * length].reshape(count, length)

    def unrepeated(self, passage: int) -> Text:
        """The text without every run of `passage` words that has stood before: parts of it are then of new text.

        Whole topics of a documentation stand again in longer ones. Only later copies go.
        """
        if passage < 1:
            raise ValueError(f"passage must be at least 1 word, got {passage}")
        seen, new = set(), np.ones(len(self.words), bool)
        for start in range(len(self.words) - passage + 1):
            run = self.words[start : start + passage].tobytes()
            if run in seen:
                new[start : start + passage] = False
            seen.add(run)
        return Text(self.words[new], self.vocabulary)

    def without(self, commonest: int) -> Text:
        """The text without its commonest words, most of which (the, a, is, of) stand anywhere and mean nothing."""
        counts = np.bincount(self.words, minlength=len(self.vocabulary))
        if not 0 <= commonest < np.sum(counts > 0):
            raise ValueError(
                f"commonest must be from 0 to less than the {np.sum(counts > 0)} different words, got {commonest}"
            )
        # Of two that are as common the one that was used first.
        gone = np.argsort(-counts, kind="stable")[:commonest]
        return Text(self.words[~np.isin(self.words, gone)], self.vocabulary)

    def letters(self) -> np.ndarray:
        """Numbers into `ALPHABET` of the words one after the other, without apostrophes, a space between two words."""
        joined = " ".join(self.vocabulary[i].replace("'", "") for i in self.words)
        return np.array([ALPHABET.index(c) for c in joined])


def documentation() -> Text:
    """The topics of Python's documentation (`help("for")` and the like), some 65 000 words of technical English."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ModuleNotFoundError(
            "the documentation topics of Python (pydoc_data.topics) are not installed: install Python's full "
            "standard library, or take another text by sims.tasks.english.text"
        ) from None
    return text(topics[name] for name in sorted(topics))


def licences(folder: Path = LICENCES) -> Text:
    """The licences that Debian and its kin keep, some 35 000 words of legal English."""
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise FileNotFoundError(f"there are no licences in {folder}: take another text by sims.tasks.english.text")
    return text(path.read_text(encoding="utf-8", errors="replace") for path in files)


def text(parts: Iterable[str]) -> Text:
    """Any text as numbered words: lower case, letters and apostrophes within words only."""
    found = [word for part in parts for word in re.findall(r"[a-z]+(?:'[a-z]+)*", part.lower().replace("’", "'"))]
    if not found:
        raise ValueError("parts must hold at least one word, got none")
    number = {word: i for i, word in enumerate(dict.fromkeys(found))}
    return Text(np.array([number[word] for word in found]), tuple(number))
