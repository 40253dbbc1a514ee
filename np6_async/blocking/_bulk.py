"""The events of many contacts behind one plain iterator."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from .._errors import UsageError
from .._models.contacts import Contact
from .._models.events import Event
from .._streams import bulk_stream
from .._streams.buffer import Done, Failure
from .._streams.stats import BulkStats
from ._handover import Handover
from ._job import call
from ._loop import Loop
from ._reader import Reader, one_by_one, size_of

E = TypeVar("E", bound=Event)
C_co = TypeVar("C_co", bound=str | Contact, covariant=True)
E_co = TypeVar("E_co", bound=Event, covariant=True)

_Item: TypeAlias = tuple[Any, list[E] | Done | Failure[Any]]
# The same, and whether it is a failure to be kept.
_Put: TypeAlias = tuple[Any, list[E] | Done | Failure[Any], bool]


class _Outcomes(Generic[E]):
    """The lists of a run and what became of its contacts; counts what the consumer has come to."""

    def __init__(self, stream: bulk_stream.BulkStream[Any, E], reader: Reader[_Put[E]]) -> None:
        self._stream = stream
        self.reader = reader
        self.rest: Iterator[tuple[Any, E]] = iter(())
        self._contact: Any = None
        self.failures: list[Failure[Any]] = []
        self.done = self.failed = self.events = 0

    @property
    def complete(self) -> bool:
        return self.reader.complete

    def advance(self) -> None:
        contact, events = self.next_batch()
        self._contact = contact
        self.rest = zip(repeat(contact), events, strict=False)

    def next_batch(self) -> tuple[Any, list[E]]:
        while True:
            contact, item = self.next_item()
            if isinstance(item, list):
                return contact, item

    def next_item(self) -> _Item[E]:
        if rest := [event for _, event in self.rest]:
            return self._contact, rest
        try:
            contact, item, kept = self.reader.next()
        except BaseException:
            # The run has ended: this is all of them, the last of which may be what was raised.
            self.failures[:] = self._stream.failures
            raise
        if isinstance(item, list):
            self.events += len(item)
        elif isinstance(item, Done):
            self.done += 1
        else:
            self.failed += 1
            if kept:
                self.failures.append(item)
        return contact, item


class _Iterator(Generic[E]):
    """Calls a method of an object for each item."""

    def __init__(self, get_next: Any) -> None:
        self._get_next = get_next

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._get_next()


class BulkStream(Generic[C_co, E_co]):
    """The events of many contacts, an iterator of ``(contact, event)``; enter it with ``with``.

    What it promises and raises is what `np6_async.BulkStream` does. Leaving the ``with`` ends what is still running:
    no task and no connection is left. One thread at a time reads it; the iterable of contacts is read in that thread,
    and `on_error` is called there. Up to 1 MiB of events waits for it, beside what the run itself holds; when that is
    full, the fetching waits. Interrupting the wait for an event, as Ctrl-C does, ends the run.
    """

    def __init__(self, loop: Loop, stream: bulk_stream.BulkStream[C_co, E_co], handover: Handover[Any]) -> None:
        self._loop = loop
        self._stream = stream
        self._outcomes: _Outcomes[E_co] = _Outcomes(
            stream, Reader(loop, lambda handover: _pump(stream, handover), handover)
        )
        self.failures: list[Failure[C_co]] = self._outcomes.failures
        self._entered = False

    @property
    def by_recipient(self) -> bool:
        """Whether the events of a batch are those of many contacts, so that each names its own: `Event.recipient`."""
        return self._stream.by_recipient

    @property
    def stats(self) -> BulkStats:
        """A snapshot of the counts: contacts and events as they were taken, the others as they were fetched."""

        async def now() -> BulkStats:
            return self._stream.stats

        stats = call(self._loop, now) if self._loop.running else self._stream.stats
        taken = self._outcomes
        stats.done, stats.failed, stats.events = taken.done, taken.failed, taken.events
        return stats

    def __iter__(self) -> Iterator[tuple[C_co, E_co]]:
        self._check_entered()
        return one_by_one(self._outcomes)

    def __next__(self) -> tuple[C_co, E_co]:
        self._check_entered()
        return next(one_by_one(self._outcomes))

    def batches(self) -> Iterator[tuple[C_co, list[E_co]]]:
        """The same as ``(contact, list of events)``, 1 to 256 events in each list.

        Continues where iteration by event left off, and vice versa.
        """
        self._check_entered()
        return _Iterator(self._outcomes.next_batch)

    def outcomes(self) -> Iterator[tuple[C_co, list[E_co] | Done | Failure[C_co]]]:
        """The same as `batches`, and after the last list of each contact its outcome, as
        `np6_async.BulkStream.outcomes` has it."""
        self._check_entered()
        return _Iterator(self._outcomes.next_item)

    def stop(self) -> None:
        """Start no more contacts: the iteration ends when those in flight have ended, as if there were no others.

        May be called in any thread, and in a handler of a signal.
        """
        self._loop.submit_quietly(self._stream.stop)

    def close(self) -> None:
        """Stop everything. Returns when no task is left; safe to call twice. Iterating then raises `ClientClosed`,
        unless it had come to its end."""
        self._outcomes.reader.close()
        list(self._outcomes.rest)  # which an iterator may hold

    def __enter__(self) -> Self:
        if self._entered:
            raise UsageError("a bulk stream is entered once; call stream_many() again for another run")
        self._outcomes.reader.begin()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        reader, taken = self._outcomes.reader, self._outcomes
        return f"<BulkStream: {reader.state}, {taken.done:,} done, {taken.failed:,} failed, {taken.events:,} events>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a stream cannot be copied or pickled; start another")

    def _check_entered(self) -> None:
        if not self._entered:
            raise UsageError("enter the bulk stream first: with np6.events.stream_many(...) as events")


async def _pump(stream: bulk_stream.BulkStream[Any, Any], handover: Handover[Any]) -> None:
    async with stream:
        async for contact, item in stream.outcomes():
            kept = bool(stream.failures) and stream.failures[-1] is item
            await handover.put((contact, item, kept), size_of(item if isinstance(item, list) else [item]))
