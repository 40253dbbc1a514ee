"""Events as Arrow record batches and tables, for pandas, polars, duckdb and whatever else reads Arrow.

::

    async with NP6Client() as np6, np6.events.stream_many(ids, start="2026-01-01") as events:
        table = await arrow.table(events)

The columns are those of Parquet and CSV files. Needs the extra ``parquet``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import groupby
from typing import Any, Final, Protocol, TypeAlias

try:
    import pyarrow as pa
except ModuleNotFoundError:
    raise ImportError("np6_async.integrations.arrow needs pyarrow: pip install 'np6_async[parquet]'") from None

from .. import ActionStream, BulkStream, CampaignEvents, Contact, Event, EventStream, InvalidInput
from .._columns.arrow import SCHEMA, BatchBuilder
from .._columns.personal import Mask, Personal, PersonalKey, make_mask
from .._streams.event_stream import Batches

__all__ = ["SCHEMA", "record_batches", "table"]

_ROWS: Final = 64 * 1024
_BYTES: Final = 4 * 1024 * 1024  # of JSON


class _Run(Protocol):
    """A `np6_async.sync.SyncRun`."""

    @property
    def autocommit(self) -> bool: ...
    @property
    def by_recipient(self) -> bool: ...
    def batches(self) -> AsyncIterator[tuple[str | Contact, list[Any]]]: ...


Events: TypeAlias = EventStream[Any] | ActionStream[Any] | CampaignEvents[Any] | BulkStream[Any, Any] | _Run


def record_batches(
    events: Events,
    *,
    rows: int = _ROWS,
    personal: Personal = "keep",
    personal_key: PersonalKey = None,
) -> AsyncIterator[pa.RecordBatch]:
    """The events of a stream, a bulk stream or the run of a sync as record batches of pyarrow, all of `SCHEMA`.

    A batch ends when it has `rows` rows (1 to 1,048,576, default 65,536), with up to 255 more, or when its events come
    to 4 MiB of JSON; so memory is bounded, however many events there are. A step that is cancelled loses nothing.
    Column `contact` is the contact that was asked for, or the id of the event's recipient where the events are those
    of an action, a campaign or the account. `personal` and `personal_key` are those of `np6_async.export.make_writer`.

    The run of a sync must be one with ``autocommit=False``: commit it when the batches are where they are to be, and
    not after a step that was cancelled, whose events come with the next batch.

    Raises `InvalidInput` at once; while iterating, what the stream raises, after a batch of the events before it, and
    `LimitExceeded` for an event that is nested too deeply.
    """
    if not isinstance(rows, int) or isinstance(rows, bool) or not 1 <= rows <= 1024 * 1024:
        raise InvalidInput(f"rows={rows!r} is not a number of rows; use 1 to 1,048,576")
    if not hasattr(events, "batches"):
        raise InvalidInput(f"a stream of events is needed, not {type(events).__name__}; see table() for lists")
    if getattr(events, "autocommit", False):
        raise InvalidInput("the run commits by itself: use sync.run(autocommit=False), and commit when it is written")
    return Batches(_Reader(events, rows, make_mask(personal, personal_key)).next_batch)


async def table(
    events: Events | Iterable[tuple[str | Contact | None, Event]],
    *,
    personal: Personal = "keep",
    personal_key: PersonalKey = None,
) -> pa.Table:
    """All events as one `pyarrow.Table` of `SCHEMA`, in memory: roughly 400 bytes an event.

    `events` is what `record_batches` takes, or an iterable of ``(contact, event)`` such as `Page.items`; where that
    contact is None, it is the id of the event's recipient. Parameters and errors are those of `record_batches`.
    """
    if not isinstance(events, Iterable):
        batches = [batch async for batch in record_batches(events, personal=personal, personal_key=personal_key)]
        return pa.Table.from_batches(batches, SCHEMA)
    builder = BatchBuilder(make_mask(personal, personal_key))
    made = []
    for contact, pairs in groupby(map(_pair, events), lambda pair: pair[0]):
        builder.add(contact, [event for _, event in pairs])
        if builder.rows >= _ROWS or builder.bytes >= _BYTES:
            made.append(builder.build())
    return pa.Table.from_batches([*made, builder.build()], SCHEMA)


def _pair(given: Any) -> tuple[str | Contact | None, Event]:
    match given:
        case (None | str() | Contact() as contact, Event() as event):
            return contact, event
    raise InvalidInput(f"table() takes pairs of contact and event, such as Page.items, not {type(given).__name__}")


class _Reader:
    """Reads a stream, batch after batch."""

    def __init__(self, events: Any, rows: int, mask: Mask | None) -> None:
        self._pairs = isinstance(events, BulkStream) or hasattr(events, "by_recipient")
        self._contact: str | Contact | None = events.contact if isinstance(events, EventStream) else None
        self._by_recipient = bool(getattr(events, "by_recipient", False))
        self._events = events
        self._batches: AsyncIterator[Any] | None = None
        self._rows = rows
        self._builder = BatchBuilder(mask)
        self._ended = False
        self._error: Exception | None = None  # of the stream, after the rows that came before it

    async def next_batch(self) -> pa.RecordBatch:
        """The next batch; StopAsyncIteration after the last."""
        batches = self._batches = self._batches or self._events.batches()
        while not self._ended and self._builder.rows < self._rows and self._builder.bytes < _BYTES:
            try:
                item = await anext(batches)
            except StopAsyncIteration:
                self._ended = True
                break
            except Exception as error:
                if not self._builder.rows:
                    raise
                self._ended, self._error = True, error
                break
            contact, events = item if self._pairs else (self._contact, item)
            self._builder.add(None if self._by_recipient else contact, events)
        if not self._builder.rows:
            raise self._error or StopAsyncIteration
        return self._builder.build()
