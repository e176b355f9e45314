"""The studies, by family: one folder per family, one file and one figure per phenomenon.

Your own studies can lie elsewhere: name folders of families in the environment variable `STAGEWISE_STUDIES`
(separated as in PATH) and every command finds them, `stagewise run my_family` included. Their files may import each
other by name: `from my_family.my_study_theory import my_theory`.
"""

import os
import sys


def include(*folders: str | os.PathLike[str]) -> None:
    """Look for families in `folders` as well, after those that are known."""
    for folder in map(os.path.abspath, folders):
        if folder not in __path__:
            __path__.append(folder)
        # At the end: what is installed keeps its name.
        if folder not in sys.path:
            sys.path.append(folder)


include(*(folder for folder in os.environ.get("STAGEWISE_STUDIES", "").split(os.pathsep) if folder))
