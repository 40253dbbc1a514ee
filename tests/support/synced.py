"""What syncs have written into a folder, read back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from support import exported


def files(folder: Path) -> list[Path]:
    """The complete ones."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


def events(folder: Path) -> Counter[exported.Key]:
    """Every event of the complete files; raises where one is torn."""
    return Counter(exported.key(row) for file in files(folder) for row in exported.rows(file))
