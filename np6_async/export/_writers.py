"""The formats of a file of events, and what writes them: NDJSON, CSV and, through pyarrow, Parquet.

CSV is as RFC 4180 has it, in UTF-8, and safe to open in a spreadsheet: a spreadsheet runs a cell that begins with
``=``, ``+``, ``-`` or ``@``, also after a tab or a line end. Such a cell gets a ``'`` in front; so does one that begins
with ``'`` followed by one of these, so that removing one ``'`` from such cells restores what NP6 sent. Times are ISO
8601 in UTC. A missing value and an empty text are both an empty cell.
"""

from __future__ import annotations

import codecs
import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, BinaryIO, Final, Literal, TypeAlias, get_args

from attrs import frozen

from .._columns.csv_cells import csv_cell
from .._columns.one_event import row
from .._columns.personal import Mask, Personal, PersonalKey, make_mask
from .._columns.recipients import name, named_texts, names, texts
from .._columns.schema import COLUMNS
from .._errors import InvalidInput
from .._models.contacts import Contact
from .._models.convert import dumps
from .._models.events import Event, unstructure

Format: TypeAlias = Literal["ndjson", "csv", "parquet"]
CsvDialect: TypeAlias = Literal["rfc4180", "excel-fr"]

# Of Parquet: events wait as JSON until they are so many bytes, then as Arrow columns; a row group is written at so many
# rows, or bytes.
_MOST: Final = 1024  # events that are added at once
_BATCH: Final = 1024 * 1024
_ROWS: Final = 64 * 1024
_BYTES: Final = 6 * 1024 * 1024


class Writer(ABC):
    """Writes events to a binary file, which it does not close; made by `make_writer`.

    Each method may raise OSError, and `add` and `close` raise `LimitExceeded` for an event that is nested too deeply;
    then call `discard`.
    """

    @abstractmethod
    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        """Write events of a contact, given as one or as its id.

        None: of many contacts, so that each goes under the id of its recipient, if it names one by its id.
        """

    @property
    def waiting(self) -> int:
        """About how many bytes the events will take that were added and are not in the file yet."""
        return 0

    def close(self) -> None:  # noqa: B027 - of two formats, the file needs no end
        """Write what a complete file ends with."""

    def discard(self) -> None:  # noqa: B027
        """Give the file up: nothing more is written."""


def ndjson(contact: str | Contact | None, events: Sequence[Event]) -> bytes:
    """A line for each event, ``{"contact":"000MLGPR","event":{...}}``, with every member that the server sent.

    `contact` None: of many contacts, so that each has the id of its recipient, or null.
    """
    return _ndjson(contact, events, None)


def _ndjson(contact: str | Contact | None, events: Sequence[Event], mask: Mask | None) -> bytes:
    if mask is not None:
        lines = [dumps(mask.data(unstructure(event))) for event in events]
        named = names(contact, events, mask)
    elif contact is not None:
        prefix = b'{"contact":%b,"event":' % dumps(name(contact, None))
        return prefix + (b"}\n" + prefix).join(texts(events)) + b"}\n" if events else b""
    else:
        named, lines = named_texts(events)
    pairs = zip(map(dumps, named), lines, strict=True)
    return b"".join([b'{"contact":%b,"event":%b}\n' % pair for pair in pairs])


class NdjsonWriter(Writer):
    """Writes the lines of `ndjson`."""

    def __init__(self, file: BinaryIO, mask: Mask | None = None) -> None:
        self._file = file
        self._mask = mask

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        self._file.write(_ndjson(contact, events, self._mask))


class CsvWriter(Writer):
    """Writes a line of column names, and a record for each event."""

    def __init__(self, file: BinaryIO, mask: Mask | None = None, dialect: CsvDialect = "rfc4180") -> None:
        self._file = file
        self._mask = mask
        self.delimiter = ";" if dialect == "excel-fr" else ","
        file.write(codecs.BOM_UTF8 * (dialect == "excel-fr"))
        self._write([[column.name for column in COLUMNS]])

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        cells: Any = zip(*map(row, names(contact, events, self._mask), events), strict=True)
        if self._mask is not None:
            cells = map(self._mask.cells, COLUMNS, cells)
        self._write(zip(*[map(csv_cell, column) for column in cells], strict=True))

    def _write(self, rows: Iterable[Iterable[str | None]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.delimiter).writerows(rows)
        self._file.write(text.getvalue().encode())


class _BatchWriter(Writer):
    """Gathers events into record batches."""

    def __init__(self, mask: Mask | None) -> None:
        from .._columns.arrow import BatchBuilder

        self._builder = BatchBuilder(mask)

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        for begin in range(0, len(events), _MOST):
            self._builder.add(contact, events[begin : begin + _MOST])
            if self._builder.bytes >= _BATCH:
                self._take(self._builder.build())

    def close(self) -> None:
        if self._builder.rows:
            self._take(self._builder.build())

    def discard(self) -> None:
        self._builder.clear()

    @abstractmethod
    def _take(self, batch: Any) -> None:
        """Write a batch, or keep it."""


class ArrowCsvWriter(_BatchWriter):
    """Writes what `CsvWriter` does, many events at once."""

    def __init__(self, file: BinaryIO, mask: Mask | None = None, dialect: CsvDialect = "rfc4180") -> None:
        super().__init__(mask)
        self._file = file
        self._delimiter = CsvWriter(file, mask, dialect).delimiter

    @property
    def waiting(self) -> int:
        return self._builder.bytes // 2  # a line is about half as long as its JSON

    def _take(self, batch: Any) -> None:
        from .._columns.csv_lines import lines

        self._file.write(lines(batch.columns, self._delimiter))


class ParquetWriter(_BatchWriter):
    """Writes row groups of bounded size, compressed with zstd: typed columns, the same whatever the events."""

    def __init__(self, file: BinaryIO, mask: Mask | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from .._columns.arrow import FEW_VALUES, SCHEMA, SORTABLE

        super().__init__(mask)
        self._arrow: Any = pa
        pool = pa.system_memory_pool()
        options: Any = {"use_dictionary": FEW_VALUES, "write_statistics": SORTABLE, "memory_pool": pool}
        self._writer: Any = pq.ParquetWriter(file, SCHEMA, compression="zstd", **options)
        self._batches: list[Any] = []
        self._bytes = 0  # of the batches

    def close(self) -> None:
        super().close()
        self._write()
        self._writer.close()

    def discard(self) -> None:
        super().discard()
        self._batches = []
        self._writer.is_open = False  # or it would write its end when it is collected

    def _take(self, batch: Any) -> None:
        self._batches.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= _BYTES:
            self._write()

    def _write(self) -> None:
        if self._batches:
            table = self._arrow.Table.from_batches(self._batches)
            self._batches, self._bytes = [], 0
            self._writer.write_table(table, row_group_size=_ROWS)


@frozen
class FileFormat:
    """How files of events are written; made by `file_format`."""

    format: Format = "ndjson"
    gzip: bool = False
    csv_dialect: CsvDialect = "rfc4180"
    mask: Mask | None = None

    @property
    def suffix(self) -> str:
        """What the names of the files end with."""
        return f".{self.format}{'.gz' * self.gzip}"

    def writer(self, file: BinaryIO) -> Writer:
        """A writer to `file`, which is what is compressed."""
        match self.format:
            case "ndjson":
                return NdjsonWriter(file, self.mask)
            case "csv":
                return (ArrowCsvWriter if _has_arrow() else CsvWriter)(file, self.mask, self.csv_dialect)
            case "parquet":
                return ParquetWriter(file, self.mask)


def file_format(
    format: str = "ndjson",
    *,
    gzip: bool = False,
    csv_dialect: str = "rfc4180",
    personal: str = "keep",
    personal_key: PersonalKey = None,
) -> FileFormat:
    """The format of files; raises `InvalidInput` where such files cannot be written."""
    if format not in get_args(Format):
        raise InvalidInput(f"format={format!r} is not known; use 'ndjson', 'csv' or 'parquet'")
    if csv_dialect not in get_args(CsvDialect):
        raise InvalidInput(f"csv_dialect={csv_dialect!r} is not known; use 'rfc4180' or 'excel-fr'")
    if csv_dialect != "rfc4180" and format != "csv":
        raise InvalidInput(f"csv_dialect= is for format='csv', not for {format!r}")
    if format == "parquet" and gzip:
        raise InvalidInput("gzip is for ndjson and csv: parquet is compressed already")
    if format == "parquet" and not _has_arrow():
        raise InvalidInput("format='parquet' needs pyarrow and numpy: pip install 'np6_async[parquet]'")
    mask = make_mask(personal, personal_key)
    return FileFormat(format, bool(gzip), csv_dialect, mask)  # type: ignore[arg-type]


def make_writer(
    format: Format,
    file: BinaryIO,
    *,
    csv_dialect: CsvDialect = "rfc4180",
    personal: Personal = "keep",
    personal_key: PersonalKey = None,
) -> Writer:
    """A writer of `format` to `file`: ``"ndjson"``, ``"csv"`` or ``"parquet"``.

    `csv_dialect` ``"excel-fr"`` is what Excel opens in French: with ``;`` and a byte order mark. `personal`:
    ``"hash"`` replaces what names a person by its HMAC-SHA-256 under `personal_key` (16 bytes or more, or the file that
    holds them), ``"drop"`` leaves it out.

    Raises `InvalidInput` for another format, and where pyarrow is needed and not installed.
    """
    return file_format(format, csv_dialect=csv_dialect, personal=personal, personal_key=personal_key).writer(file)


def _has_arrow() -> bool:
    return find_spec("pyarrow") is not None and find_spec("numpy") is not None
