"""Parquet through pyarrow: typed columns, the same schema whatever the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .._models.events import Event
from ._columns import COLUMNS, Row, row
from ._writers import Writer

# Rows wait as Python objects, which are large, then as Arrow columns; a row group is written at so many rows, or bytes.
_BATCH: Final = 1024
_ROWS: Final = 64 * 1024
_BYTES: Final = 16 * 1024 * 1024

_TYPES: Final = {"text": pa.string(), "json": pa.string(), "time": pa.timestamp("ms", tz="UTC")}
SCHEMA: Final = pa.schema([pa.field(c.name, _TYPES[c.type], nullable=not c.required) for c in COLUMNS])


class ParquetWriter(Writer):
    """Writes row groups of bounded size, compressed with zstd."""

    def __init__(self, file: BinaryIO) -> None:
        # The system's memory, and not a pool that keeps what it once had.
        self._pool: Any = pa.system_memory_pool()
        self._writer: Any = pq.ParquetWriter(file, SCHEMA, compression="zstd", memory_pool=self._pool)
        self._rows: list[Row] = []
        self._batches: list[Any] = []
        self._bytes = 0  # of the batches

    def add(self, contact: str, events: Sequence[Event]) -> None:
        for event in events:
            self._rows.append(row(contact, event))
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
            cells = zip(zip(*self._rows, strict=True), SCHEMA.types, strict=True)
            self._rows = []
            columns = [pa.array(column, kind, memory_pool=self._pool) for column, kind in cells]
            self._batches.append(pa.record_batch(columns, schema=SCHEMA))
            self._bytes += self._batches[-1].nbytes

    def _write(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches)
            self._batches, self._bytes = [], 0
            self._writer.write_table(table, row_group_size=_ROWS)
