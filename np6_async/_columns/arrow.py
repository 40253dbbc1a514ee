"""Events as Arrow: the schema of the columns, and record batches of many events. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from .._models.contacts import Contact
from .._models.events import Event
from . import buffers
from .addresses import MAY_BE_ADDRESS
from .many_events import Shapes, columns
from .personal import Mask
from .recipients import names
from .schema import COLUMNS, VERSION, Column

pc: Final[Any] = pyarrow.compute  # whose functions type checkers do not see
# Once a block of so many bytes was freed, glibc keeps the memory of smaller ones, in place of giving it to the system
# and getting it back, page by page, for each batch: an eighth of what a batch costs.
_KEPT: Final = 16 * 1024 * 1024
_TYPES: Final = {"text": pa.string(), "json": pa.string(), "time": pa.timestamp("ms", tz="UTC")}
SCHEMA: Final[Any] = pa.schema(
    [pa.field(column.name, _TYPES[column.type], nullable=not column.required) for column in COLUMNS],
    {"np6_async.columns": str(VERSION)},
)
# The columns of few different texts: a file has a dictionary of these, which for others would be as long as the texts.
FEW_VALUES: Final = [
    *("type", "identity_type", "identity_agency", "identity_customer", "channel", "receiver_type"),
    *("activation_id", "activation_kind", "activation_version", "execution_id", "execution_kind"),
    *("bounce_type", "bounce_code", "bounce_verdict", "bounce_subject", "bounce_subject_detail", "bounce_meaning"),
    *("link_type", "cancellation_type", "cancellation_reason"),
]
# The columns whose least and greatest values help to find rows. Those of random ids do not.
SORTABLE: Final = [
    *(column.name for column in COLUMNS if column.type == "time"),
    *("contact", "receiver_id"),
    *FEW_VALUES,
]


class BatchBuilder:
    """Makes record batches of the events that are added to it."""

    def __init__(self, mask: Mask | None = None) -> None:
        self.bytes = 0  # of the JSON of the events
        self._mask = mask
        self._shapes = Shapes()
        np.empty(_KEPT, dtype=np.uint8)  # and free it, untouched
        # The system's memory, and not a pool that keeps what it once had.
        self._pool: Any = pa.system_memory_pool()
        self._contacts: list[str | None] = []
        self._events: list[Event] = []

    @property
    def rows(self) -> int:
        """How many events were added."""
        return len(self._events)

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> Sequence[str | None]:
        """Add events of a contact; None: of many. Returns what their column `contact` will hold."""
        contacts = names(contact, events, self._mask)
        self._contacts += contacts
        self._events += events
        self.bytes += sum([len(event.raw) for event in events])
        return contacts

    def build(self) -> Any:
        """A batch of what was added since the last. Raises `LimitExceeded` for an event that is nested too deeply."""
        arrays = columns(self._contacts, self._events, self.bytes, self._shapes, self._pool)
        self.clear()
        if self._mask is not None:
            arrays = [self._masked(column, array) for column, array in zip(COLUMNS, arrays, strict=True)]
        return pa.record_batch(arrays, schema=SCHEMA)

    def clear(self) -> None:
        """Forget what was added."""
        self._contacts, self._events, self.bytes = [], [], 0

    def _masked(self, column: Column, array: Any) -> Any:
        if self._mask is None or column.type == "time":
            return array
        if column.personal is None and not pc.any(pc.match_substring_regex(array, MAY_BE_ADDRESS)).as_py():
            return array
        return buffers.texts(self._mask.cells(column, array.to_pylist()))  # type: ignore[arg-type]
