"""What writes events to a file: the base class, NDJSON and CSV.

CSV is as RFC 4180 has it, in UTF-8 without a byte order mark, and safe to open in a spreadsheet: a spreadsheet runs a
cell that begins with ``=``, ``+``, ``-`` or ``@``, also after a tab or a line end. Such a cell gets a ``'`` in front;
so does one that begins with ``'`` followed by one of these, so that removing one ``'`` from such cells restores what
NP6 sent. Times are ISO 8601 in UTC. A missing value and an empty text are both an empty cell.
"""

from __future__ import annotations

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import BinaryIO, Final

from .._models.convert import dumps
from .._models.events import Event, unstructure
from .._models.time_bounds import isoformat
from ._columns import COLUMNS, Cell, row

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


class Writer(ABC):
    """Writes events to a binary file, which it does not close; made by `make_writer`.

    Each method may raise OSError, and `add` raises `LimitExceeded` for an event that is nested too deeply; then call
    `discard`.
    """

    @abstractmethod
    def add(self, contact: str, events: Sequence[Event]) -> None:
        """Write events of the contact with this id, unicity value or hash."""

    def close(self) -> None:  # noqa: B027 - of two formats, the file needs no end
        """Write what a complete file ends with."""

    def discard(self) -> None:  # noqa: B027
        """Give the file up: nothing more is written."""


def ndjson(contact: str, events: Sequence[Event]) -> bytes:
    """A line for each event, ``{"contact":"000MLGPR","event":{...}}``, with every member that the server sent."""
    prefix = b'{"contact":%b,"event":' % dumps(contact)
    return b"".join([b"%b%b}\n" % (prefix, dumps(unstructure(event))) for event in events])


class NdjsonWriter(Writer):
    """Writes the lines of `ndjson`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, contact: str, events: Sequence[Event]) -> None:
        self._file.write(ndjson(contact, events))


class CsvWriter(Writer):
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

    def _flush(self) -> None:
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def safe(text: str) -> str:
    """`text` as a cell that is not a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _cell(value: Cell) -> str | None:
    # The numbers of a row are its times.
    return isoformat(value) if isinstance(value, int) else value and safe(value)
