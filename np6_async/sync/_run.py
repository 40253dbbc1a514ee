"""One run of a sync: the consumer's side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from .._errors import InvalidContact, InvalidInput, StoreError, UsageError
from .._models.contacts import Contact, parse
from .._models.events import Event
from .._streams.buffer import Done, Failure
from .._streams.bulk_stream import BulkStream
from .._streams.event_stream import Batches
from .._streams.stats import BulkStats
from ._checkpoints import Checkpoints

E_co = TypeVar("E_co", bound=Event, covariant=True)

MOST_NOTE: Final = 4_096


class SyncRun(Generic[E_co]):
    """The events that no earlier run has delivered; enter it with ``async with``, and read `batches`, once.

    Entering it opens the store, locks it and reads the note. Leaving it, in whatever way, ends all requests, writes the
    progress that may be written, and closes the store.

    The last batch counts as written when the next one is requested (or when `commit` says so), and not before: where
    the loop is left by ``break``, an exception or a cancellation, the next run delivers it again. Before a ``break``
    that follows a successful write, call `commit`.
    """

    def __init__(
        self,
        bulk: BulkStream[E_co],
        checkpoints: Checkpoints,
        end: int,
        *,
        autocommit: bool,
    ) -> None:
        self._bulk = bulk
        self._checkpoints = checkpoints
        self._autocommit = autocommit
        self._entered = self._closed = False
        self._reading = False
        self._delivered = 0  # events
        self.end: int = end
        """All events before this time, in epoch milliseconds, are requested."""

    @property
    def note(self) -> str | None:
        """The note that was committed last, in this run or in one before; None where there is none."""
        self._check_entered()
        return self._checkpoints.note

    @property
    def stats(self) -> BulkStats:
        """A snapshot of the counts; `events` are those delivered."""
        stats = self._bulk.stats
        stats.events = self._delivered
        return stats

    @property
    def failures(self) -> list[Failure]:
        """The contacts that failed, except under ``on_error="skip"``. The next run resumes them."""
        return self._bulk.failures

    def batches(self) -> AsyncIterator[tuple[str | Contact, list[E_co]]]:
        """New events as ``(contact, events)``, 1 to 256 of them, each contact's in the order of time.

        `contact` is the very object that was passed in. Raises what `BulkStream` does, and `StoreError`.
        """
        self._check_entered()
        return Batches(self._next_batch)

    def stop(self) -> None:
        """Start no more contacts: `batches` ends when those in flight have ended. For a process that must end soon."""
        self._bulk.stop()

    async def commit(self, note: str | None = None) -> None:
        """Save that all events delivered so far are safe: no later run delivers them again.

        `note` (at most 4,096 characters) is saved with that, both or neither: for instance the name of the file that
        holds the events. Without it the last note stays. What was committed survives a kill and a power failure, see
        `SQLiteStore`; if this raises `StoreError`, nothing was committed. Call it in the task that reads the batches.
        """
        self._check_entered()
        if note is not None and not (isinstance(note, str) and len(note) <= MOST_NOTE and _encodable(note)):
            raise InvalidInput(f"note must be a text of at most {MOST_NOTE} characters, without lone surrogates")
        if self._reading:
            raise UsageError("commit() was called while a batch is being waited for; let one task read and commit")
        await self._checkpoints.commit(note)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise UsageError("a run is entered once; call run() again for another")
        self._entered = True
        await self._checkpoints.open()
        try:
            await self._bulk.__aenter__()
            self._items = self._bulk.outcomes()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._bulk.aclose()
        finally:
            try:
                if not isinstance(error, StoreError):
                    await self._checkpoints.write(now=True)
            finally:
                await self._close()

    async def _close(self) -> None:
        self._closed = True
        await self._checkpoints.close()

    def _check_entered(self) -> None:
        if not self._entered or self._closed:
            raise UsageError("enter the run first: async with sync.run() as run")

    async def _next_batch(self) -> tuple[str | Contact, list[E_co]]:
        self._check_entered()
        if self._reading:
            raise UsageError("the run is being read by another task; let one task read and pass events on")
        self._checkpoints.consumer_returned(confirmed=self._autocommit)
        self._reading = True
        try:
            while True:
                await self._checkpoints.write()
                try:
                    given, item = await anext(self._items)
                except StopAsyncIteration:
                    await self._checkpoints.write(now=True)
                    raise
                if events := self._take(given, item):
                    self._delivered += len(events)
                    return given, events
        finally:
            self._reading = False

    def _take(self, given: Any, item: list[E_co] | Done | Failure) -> list[E_co]:
        """The events to deliver, if any; the checkpoints learn about their contact."""
        try:
            contact = parse(given)
        except InvalidContact:  # a failure, which has no progress
            return []
        if isinstance(item, list):
            if fresh := self._checkpoints.of(contact).fresh(item):
                self._checkpoints.deliver(contact, fresh)
            return fresh
        if isinstance(item, Done):
            self._checkpoints.done(contact, self.end)
        else:
            self._checkpoints.failed(contact)
        return []


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
