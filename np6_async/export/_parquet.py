"""Parquet through pyarrow: typed columns, the same schema whatever events there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .._events import Event
from ._columns import COLUMNS, Row, row

# A row group is written when it has so many rows, or is made of so many bytes of JSON: what waits in memory.
_ROWS: Final = 16 * 1024
_BYTES: Final = 8 * 1024 * 1024

_TYPES: Final = {"text": pa.string(), "json": pa.string(), "time": pa.timestamp("ms", tz="UTC")}
SCHEMA: Final = pa.schema([pa.field(c.name, _TYPES[c.type], nullable=not c.required) for c in COLUMNS])


class ParquetWriter:
    """Writes row groups of bounded size, compressed with zstd."""

    def __init__(self, file: BinaryIO) -> None:
        # The system's memory, and not a pool that keeps what it once had.
        self._pool: Any = pa.system_memory_pool()
        self._writer: Any = pq.ParquetWriter(file, SCHEMA, compression="zstd", memory_pool=self._pool)
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, contact: str, events: Sequence[Event]) -> None:
        for event in events:
            self._rows.append(row(contact, event))
            self._bytes += len(event.raw)
            if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
                self._write()

    def close(self) -> None:
        self._write()
        self._writer.close()

    def discard(self) -> None:
        self._rows = []
        self._writer.is_open = False  # or it would write its end when it is collected

    def _write(self) -> None:
        if not self._rows:
            return
        cells = zip(zip(*self._rows, strict=True), SCHEMA.types, strict=True)
        self._rows, self._bytes = [], 0
        columns = [pa.array(column, kind, memory_pool=self._pool) for column, kind in cells]
        self._writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
