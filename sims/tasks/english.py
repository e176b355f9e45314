"""English words that a machine with Python already has: its documentation, and the licences where Debian put them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

LICENCES = Path("/usr/share/common-licenses")


class Text(NamedTuple):
    """`words` (T,): numbers into `vocabulary`, in the order of the text; the vocabulary is in that of first use."""

    words: np.ndarray
    vocabulary: tuple[str, ...]

    def pieces(self, length: int) -> np.ndarray:
        """The text cut into pieces of `length` words, (pieces, length); what is left over at the end is dropped."""
        if not 1 <= length <= len(self.words):
            raise ValueError(f"length must be from 1 to the {len(self.words)} words of the text, got {length}")
        count = len(self.words) // length
        return self.words[: count * length].reshape(count, length)


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
