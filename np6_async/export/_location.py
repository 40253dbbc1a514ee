"""What the name of a folder means: a folder of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from ._storage import LocalStorage, Storage


def storage_of(folder: str | os.PathLike[str]) -> Storage:
    """The storage of this name; no I/O."""
    return LocalStorage(Path(folder))
