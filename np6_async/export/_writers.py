"""The formats of a file of events, and what writes them: NDJSON, CSV and, through pyarrow, Parquet.

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
from importlib.util import find_spec
from typing import Any, BinaryIO, Final, Literal, TypeAlias, get_args

from .._errors import InvalidInput
from .._models.convert import dumps, loads
from .._models.events import Event
from .._models.time_bounds import isoformat
from ._columns import COLUMNS, Cell, Row, row
from ._recipients import named_texts, recipient_ids, texts

Format: TypeAlias = Literal["ndjson", "csv", "parquet"]

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")
# Of Parquet: rows wait as Python objects, which are large, then as Arrow columns; a row group is written at so many
# rows, or bytes.
_BATCH: Final = 1024
_ROWS: Final = 64 * 1024
_BYTES: Final = 16 * 1024 * 1024


class Writer(ABC):
    """Writes events to a binary file, which it does not close; made by `make_writer`.

    Each method may raise OSError, and `add` raises `LimitExceeded` for an event that is nested too deeply; then call
    `discard`.
    """

    @abstractmethod
    def add(self, contact: str | None, events: Sequence[Event]) -> None:
        """Write events of the contact with this id, unicity value or hash.

        None: of many contacts, so that each goes under the id of its recipient, if it names one by its id.
        """

    def close(self) -> None:  # noqa: B027 - of two formats, the file needs no end
        """Write what a complete file ends with."""

    def discard(self) -> None:  # noqa: B027
        """Give the file up: nothing more is written."""


def ndjson(contact: str | None, events: Sequence[Event]) -> bytes:
    """A line for each event, ``{"contact":"000MLGPR","event":{...}}``, with every member that the server sent.

    `contact` None: of many contacts, so that each has the id of its recipient, or null.
    """
    if contact is not None:
        prefix = b'{"contact":%b,"event":' % dumps(str.__str__(contact))
        return prefix + (b"}\n" + prefix).join(texts(events)) + b"}\n" if events else b""
    names, lines = named_texts(events)
    quoted = [b"null" if name is None else b'"%b"' % name.encode() for name in names]
    return b"".join([b'{"contact":%b,"event":%b}\n' % pair for pair in zip(quoted, lines, strict=True)])


class NdjsonWriter(Writer):
    """Writes the lines of `ndjson`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, contact: str | None, events: Sequence[Event]) -> None:
        self._file.write(ndjson(contact, events))


class CsvWriter(Writer):
    """Writes a line of column names, and a record for each event."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._csv = csv.writer(self._text)
        self._csv.writerow([column.name for column in COLUMNS])
        self._flush()

    def add(self, contact: str | None, events: Sequence[Event]) -> None:
        for name, event in zip(_names(contact, events), events, strict=True):
            self._csv.writerow(map(_cell, row(name, event)))
        self._flush()

    def _flush(self) -> None:
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def safe(text: str) -> str:
    """`text` as a cell that is not a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _names(contact: str | None, events: Sequence[Event]) -> Sequence[str | None]:
    """The contact of each event, as a text that UTF-8 can hold, also where it is of a subclass such as numpy.str_."""
    return recipient_ids(events) if contact is None else [loads(dumps(str.__str__(contact)))] * len(events)


def _cell(value: Cell) -> str | None:
    # The numbers of a row are its times.
    return isoformat(value) if isinstance(value, int) else value and safe(value)


class ParquetWriter(Writer):
    """Writes row groups of bounded size, compressed with zstd: typed columns, the same whatever the events."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"text": pa.string(), "json": pa.string(), "time": pa.timestamp("ms", tz="UTC")}
        self._arrow: Any = pa
        self._schema: Any = pa.schema([pa.field(c.name, types[c.type], nullable=not c.required) for c in COLUMNS])
        # The system's memory, and not a pool that keeps what it once had.
        self._pool: Any = pa.system_memory_pool()
        self._writer: Any = pq.ParquetWriter(file, self._schema, compression="zstd", memory_pool=self._pool)
        self._rows: list[Row] = []
        self._batches: list[Any] = []
        self._bytes = 0  # of the batches

    def add(self, contact: str | None, events: Sequence[Event]) -> None:
        for name, event in zip(_names(contact, events), events, strict=True):
            self._rows.append(row(name, event))
            if len(self._rows) >= _BATCH:
                self._gather()
                if self._bytes >= _BYTES or len(self._batches) * _BATCH >= _ROWS:
                    self._write()

    def close(self) -> None:
        self._gather()
        self._write()
        self._writer.close()

    def discard(self) -> None:
        self._rows, self._batches = [], []
        self._writer.is_open = False  # or it would write its end when it is collected

    def _gather(self) -> None:
        if self._rows:
            cells = zip(zip(*self._rows, strict=True), self._schema.types, strict=True)
            self._rows = []
            columns = [self._arrow.array(column, kind, memory_pool=self._pool) for column, kind in cells]
            self._batches.append(self._arrow.record_batch(columns, schema=self._schema))
            self._bytes += self._batches[-1].nbytes

    def _write(self) -> None:
        if self._batches:
            table = self._arrow.Table.from_batches(self._batches)
            self._batches, self._bytes = [], 0
            self._writer.write_table(table, row_group_size=_ROWS)


def suffix(format: Format, *, gzip: bool) -> str:
    """What the names of its files end with."""
    return f".{format}{'.gz' * gzip}"


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
            return ParquetWriter(file)


def check_format(format: str, *, gzip: bool = False) -> None:
    """Raise `InvalidInput` where files of this format cannot be written."""
    if format not in get_args(Format):
        raise InvalidInput(f"format={format!r} is not known; use 'ndjson', 'csv' or 'parquet'")
    if format == "parquet" and gzip:
        raise InvalidInput("gzip is for ndjson and csv: parquet is compressed already")
    if format == "parquet" and find_spec("pyarrow") is None:
        raise InvalidInput("format='parquet' needs pyarrow: pip install 'np6_async[parquet]'")
