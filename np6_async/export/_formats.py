"""The formats of a file of events, and what writes them.

CSV is as RFC 4180 has it, in UTF-8 without a byte order mark, and safe to open in a spreadsheet: a spreadsheet runs a
cell that begins with ``=``, ``+``, ``-`` or ``@``, also after a tab or a line end. Such a cell gets a ``'`` in front;
so does one that begins with ``'`` followed by one of these, so that removing one ``'`` from such cells restores what
NP6 sent. Times are ISO 8601 in UTC. A missing value and an empty text are both an empty cell.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import BinaryIO, Final, Literal, Protocol, TypeAlias, get_args

from .._errors import InvalidInput
from .._models.convert import dumps
from .._models.events import Event, unstructure
from .._models.time_bounds import isoformat
from ._columns import COLUMNS, Cell, row

Format: TypeAlias = Literal["ndjson", "csv", "parquet"]

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


def suffix(format: Format, *, gzip: bool) -> str:
    """What the names of its files end with."""
    return f".{format}{'.gz' * gzip}"


class Writer(Protocol):
    """Writes events to a binary file, which it does not close.

    Each method may raise OSError, and `add` raises `LimitExceeded` for an event that is nested too deeply; then call
    `discard`.
    """

    def add(self, contact: str, events: Sequence[Event]) -> None:
        """Write events of the contact with this id, unicity value or hash."""

    def close(self) -> None:
        """Write what a complete file ends with."""

    def discard(self) -> None:
        """Give the file up: nothing more is written."""


def make_writer(format: Format, file: BinaryIO) -> Writer:
    """A writer of `format` to `file`: ``"ndjson"``, ``"csv"`` or ``"parquet"``.

    Raises `InvalidInput` for another format, and where pyarrow is needed and not installed.
    """
    check_format(format)
    match format:
        case "ndjson":
            return NdjsonWriter(file)
        case "csv":
            return CsvWriter(file)
        case "parquet":
            from ._parquet import ParquetWriter

            return ParquetWriter(file)


def check_format(format: str, *, gzip: bool = False) -> None:
    """Raise `InvalidInput` where files of this format cannot be written."""
    if format not in get_args(Format):
        raise InvalidInput(f"format={format!r} is not known; use 'ndjson', 'csv' or 'parquet'")
    if format == "parquet" and gzip:
        raise InvalidInput("gzip is for ndjson and csv: parquet is compressed already")
    if format == "parquet" and find_spec("pyarrow") is None:
        raise InvalidInput("format='parquet' needs pyarrow: pip install 'np6_async[parquet]'")


def ndjson(contact: str, events: Sequence[Event]) -> bytes:
    """A line for each event, ``{"contact":"000MLGPR","event":{...}}``, with every member that the server sent."""
    prefix = b'{"contact":%b,"event":' % dumps(contact)
    return b"".join([b"%b%b}\n" % (prefix, dumps(unstructure(event))) for event in events])


class NdjsonWriter:
    """Writes the lines of `ndjson`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, contact: str, events: Sequence[Event]) -> None:
        self._file.write(ndjson(contact, events))

    def close(self) -> None:
        """There is no end to write."""

    def discard(self) -> None:
        """There is nothing to release."""


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
        """There is nothing to release."""

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
