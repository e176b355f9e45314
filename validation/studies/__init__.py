"""The studies, by family: one folder per family, one file and one figure per phenomenon.

Your own studies can lie elsewhere: name folders of families in the environment variable `STAGEWISE_STUDIES`
(separated as in PATH) and every command finds them, `stagewise run my_family` included.
"""

import os

__path__ += [folder for folder in os.environ.get("STAGEWISE_STUDIES", "").split(os.pathsep) if folder]
