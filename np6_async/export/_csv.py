"""CSV as RFC 4180 has it, in UTF-8 without a byte order mark, that no spreadsheet takes for formulas.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@``, also behind a tab or a line end. Such a cell
gets a ``'`` in front; so does one that begins with ``'`` and then one of these, so that taking one ``'`` off
such cells gives back what NP6 sent. Times are ISO 8601 in UTC. A missing value and an empty text are both an empty
cell.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import BinaryIO, Final

from .._models.events import Event
from .._models.time_bounds import isoformat
from ._columns import COLUMNS, Cell, row

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


def safe(text: str) -> str:
    """`text` as a cell that is no formula."""
    return f"'{text}" if _FORMULA.match(text) else text


class CsvWriter:
    """Writes a line of column names, and a record for each event."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._csv = csv.writer(self._text)
        self._csv.writerow([column.name for column in COLUMNS])
        self._flush()

    def add(self, contact: str, events: Sequence[Event]) -> None:
        for event in events:
            self._csv.writerow(map(_cell, row(contact, event)))
        self._flush()

    def close(self) -> None:
        """There is no end to write."""

    def discard(self) -> None:
        """There is nothing to let go of."""

    def _flush(self) -> None:
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def _cell(value: Cell) -> str | None:
    # The numbers of a row are its times.
    return isoformat(value) if isinstance(value, int) else value and safe(value)
