"""Events as Arrow: the schema of the columns, and record batches of many events. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from .._models.events import Event
from .one_event import row
from .personal import Mask
from .schema import COLUMNS, VERSION, Row

_TYPES: Final = {"text": pa.string(), "json": pa.string(), "time": pa.timestamp("ms", tz="UTC")}
SCHEMA: Final[Any] = pa.schema(
    [pa.field(column.name, _TYPES[column.type], nullable=not column.required) for column in COLUMNS],
    {"np6_async.columns": str(VERSION)},
)


class BatchBuilder:
    """Makes record batches of the events that are added to it."""

    def __init__(self, mask: Mask | None = None) -> None:
        self.rows = 0
        self.bytes = 0  # of the JSON of the events
        self._mask = mask
        # The system's memory, and not a pool that keeps what it once had.
        self._pool: Any = pa.system_memory_pool()
        self._cells: list[Row] = []

    def add(self, contacts: Sequence[str | None], events: Sequence[Event]) -> None:
        """Add events, each with its contact."""
        for contact, event in zip(contacts, events, strict=True):
            self._cells.append(row(contact, event))
            self.bytes += len(event.raw)
        self.rows += len(events)

    def build(self) -> Any:
        """A batch of what was added since the last."""
        cells: list[Any] = list(zip(*self._cells, strict=True)) or [()] * len(COLUMNS)
        self.clear()
        if self._mask is not None:
            cells = list(map(self._mask.cells, COLUMNS, cells))
        arrays = [
            pa.array(column, field.type, memory_pool=self._pool) for column, field in zip(cells, SCHEMA, strict=True)
        ]
        return pa.record_batch(arrays, schema=SCHEMA)

    def clear(self) -> None:
        """Forget what was added."""
        self._cells, self.rows, self.bytes = [], 0, 0
