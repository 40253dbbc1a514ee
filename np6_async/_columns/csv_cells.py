"""The cells of a CSV file, safe to open in a spreadsheet."""

from __future__ import annotations

import re
from typing import Final

from .._models.time_bounds import isoformat
from .schema import Cell

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


def safe(text: str) -> str:
    """`text` as a cell that is not a formula: with a ``'`` in front of what a spreadsheet would run."""
    return f"'{text}" if _FORMULA.match(text) else text


def csv_cell(value: Cell) -> str | None:
    """A cell of `row`, whose numbers are its times."""
    return isoformat(value) if isinstance(value, int) else value and safe(value)
