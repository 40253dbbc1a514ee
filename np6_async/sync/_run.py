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
    """The events that no run before has handed out; enter it with ``async with``, read `batches`, once.

    Entering it opens the store, locks it and reads the note. Leaving it, in whatever way, ends all requests,
    writes the progress that may be written, and closes the store.

    The batch last handed out counts as written when the next one is asked for (or when `commit` says so), and
    not before: where the loop is left by ``break``, an exception or a cancellation, it comes again in the next
    run. Before a ``break`` behind a write that succeeded, call `commit`.
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
        self._handed_out = 0
        self.end: int = end
        """Every event before this time, in epoch milliseconds, is asked for."""

    @property
    def note(self) -> str | None:
        """The note that was committed last, in this run or in one before; None where there is none."""
        self._check_entered()
        return self._checkpoints.note

    @property
    def stats(self) -> BulkStats:
        """A snapshot of the counts; `events` are those handed out."""
        stats = self._bulk.stats
        stats.events = self._handed_out
        return stats

    @property
    def failures(self) -> list[Failure]:
        """The contacts that failed, except under ``on_error="skip"``. The next run goes on where they stopped."""
        return self._bulk.failures

    def batches(self) -> AsyncIterator[tuple[str | Contact, list[E_co]]]:
        """New events as ``(contact, events)``, 1 to 256 of them, each contact's in the order of time.

        `contact` is the very object that was passed in. Raises what `BulkStream` does, and `StoreError`.
        """
        self._check_entered()
        return Batches(self._next_batch)

    def stop(self) -> None:
        """Begin no more contacts: `batches` ends when those in flight have ended. For a process that is to end soon."""
        self._bulk.stop()

    async def commit(self, note: str | None = None) -> None:
        """All events handed out so far are safe: write down that they are not to come again.

        `note` (at most 4,096 characters) is kept with it, both or neither: the name of the file that holds the
        events, for instance. Without it the last note stays. When this returns it is safe from a kill and from a
        loss of power, see `SQLiteStore`; if it raises `StoreError`, nothing was committed. Call it in the task
        that reads the batches.
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
            raise UsageError("this is for inside the run: async with sync.run() as run")

    async def _next_batch(self) -> tuple[str | Contact, list[E_co]]:
        self._check_entered()
        if self._reading:
            raise UsageError("the run is being read by another task; let one task read and hand on")
        self._checkpoints.taken(safe=self._autocommit)
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
                    self._handed_out += len(events)
                    return given, events
        finally:
            self._reading = False

    def _take(self, given: Any, item: list[E_co] | Done | Failure) -> list[E_co]:
        """The events to hand out, if any, and what becomes of their contact."""
        try:
            contact = parse(given)
        except InvalidContact:  # which is its failure
            return []
        if isinstance(item, list):
            if fresh := self._checkpoints.of(contact).fresh(item):
                self._checkpoints.hand_out(contact, fresh)
            return fresh
        if isinstance(item, Done):
            self._checkpoints.done(contact, self.end)
        else:
            self._checkpoints.failed(contact)
        return []


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
