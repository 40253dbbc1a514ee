"""`SyncRun`: one run of a `Sync`, to be read here or lent to other processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from .._errors import InvalidInput, StoreError, UsageError
from .._models.contacts import Contact
from .._models.events import Event
from .._streams.buffer import Done, Failure
from .._streams.bulk_stream import BulkStream
from .._streams.event_stream import Batches
from .._streams.open_end import OpenEnd
from .._streams.stats import BulkStats
from ._checkpoints import Checkpoints
from ._lending import Lending

E_co = TypeVar("E_co", bound=Event, covariant=True)

MOST_NOTE: Final = 4_096


class SyncRun(Generic[E_co]):
    """The events that no earlier run has delivered; enter it with ``async with``, and read `batches`, once.

    Entering it opens the store, locks it and reads the note; requests begin with the first batch. Leaving it, in
    whatever way, ends all requests, writes the progress that may be written, and closes the store.

    The last batch counts as written when the next one is requested (or when `commit` says so), and not before: where
    the loop is left by ``break``, an exception or a cancellation, the next run delivers it again. Before a ``break``
    that follows a successful write, call `commit`.
    """

    def __init__(
        self,
        bulk: BulkStream[Any, E_co],
        checkpoints: Checkpoints,
        end: OpenEnd,
        *,
        autocommit: bool,
        by_recipient: bool,
        lending: Lending | None = None,
    ) -> None:
        self._lending = lending
        self._bulk = bulk
        self._checkpoints = checkpoints
        self._autocommit = autocommit
        self._by_recipient = by_recipient
        self._entered = self._closed = False
        self._reading = False
        self._delivered = 0  # events
        self._end = end
        self._items: AsyncIterator[tuple[str | Contact, list[E_co] | Done | Failure]] | None = None
        self._item: tuple[str | Contact, list[E_co] | Done | Failure] | None = None  # a step that is cancelled keeps it

    @property
    def end(self) -> int:
        """All events before this time, in epoch milliseconds, are delivered by this run, and none of the others.

        The first response may show that the server's time is earlier than this machine's, and the end with it.
        """
        if self._lent is not None:
            return self._lent.end
        return self._end.ms

    @property
    def autocommit(self) -> bool:
        """Whether a batch counts as written when the next one is requested, see `Sync.run`."""
        return self._autocommit

    @property
    def by_recipient(self) -> bool:
        """Whether the events of a batch are those of many contacts, so that each names its own: `Event.recipient`."""
        return self._by_recipient

    @property
    def note(self) -> str | None:
        """The note that was committed last, in this run or in one before; None where there is none."""
        self._check_entered()
        return self._checkpoints.note

    @property
    def stats(self) -> BulkStats:
        """A snapshot of the counts; `events` are those delivered."""
        if self._lent is not None:
            return self._lent.stats
        stats = self._bulk.stats
        stats.events = self._delivered
        return stats

    @property
    def failures(self) -> list[Failure]:
        """The contacts that failed, except under ``on_error="skip"``. The next run resumes them."""
        if self._lent is not None:
            return self._lent.failures.kept
        return self._bulk.failures

    def batches(self) -> AsyncIterator[tuple[str | Contact, list[E_co]]]:
        """New events as ``(contact, events)``, 1 to 256 of them, each contact's in the order of time.

        `contact` is the very object that was passed in; for a sync of actions it is the id of the action, and ``"all"``
        for one of the account: see `Event.recipient` for the contact of each event. Raises what `BulkStream` does, and
        `StoreError`.
        """
        self._check_entered()
        return Batches(self._next_batch)

    def stop(self) -> None:
        """Start no more contacts: `batches` ends when those in flight have ended. For a process that must end soon."""
        self._bulk.stop()
        if self._lending is not None:
            self._lending.stop()

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

    def _lend(self) -> Lending:
        self._check_entered()
        if self._lending is None:
            raise InvalidInput("executor= is for contacts: the events of actions are one response, for one process")
        if self._items is not None:
            raise UsageError("this run is being read, and its contacts cannot be fetched by workers any more")
        return self._lending

    @property
    def _lent(self) -> Lending | None:
        """Where the contacts are, once others fetch them."""
        return self._lending if self._lending is not None and self._lending.begun else None

    def _check_entered(self) -> None:
        if not self._entered or self._closed:
            raise UsageError("enter the run first: async with sync.run() as run")

    async def _next_batch(self) -> tuple[str | Contact, list[E_co]]:
        self._check_entered()
        if self._lent is not None:
            raise UsageError("the contacts of this run are fetched by workers; call run() again for another")
        if self._reading:
            raise UsageError("the run is being read by another task; let one task read and pass events on")
        self._checkpoints.consumer_returned(confirmed=self._autocommit)
        self._reading = True
        try:
            if self._items is None:
                await self._bulk.__aenter__()
                self._items = self._bulk.outcomes()
            while True:
                await self._checkpoints.write()
                try:
                    if self._item is None:
                        self._item = await anext(self._items)
                except StopAsyncIteration:
                    await self._checkpoints.write(now=True)
                    raise
                given, item = self._item
                events = await self._take(given, item)
                self._item = None
                if events:
                    self._delivered += len(events)
                    return given, events
        finally:
            self._reading = False

    async def _take(self, given: Any, item: list[E_co] | Done | Failure) -> list[E_co]:
        """The events to deliver, if any; the checkpoints learn about their contact."""
        checkpoints = self._checkpoints
        try:
            contact = checkpoints.parse(given)
        except InvalidInput:  # a failure, which has no progress
            return []
        if isinstance(item, list):
            state = checkpoints.of(contact)
            if item := state.limited(item, self.end, self._end.refuted_by):
                await checkpoints.recall(contact, item)
                item = state.fresh(item)
            if item:
                checkpoints.deliver(contact, item)
            return item
        if isinstance(item, Done):
            checkpoints.done(contact, self.end)
        else:
            checkpoints.failed(contact)
        return []


def lending_of(run: SyncRun[Any]) -> Lending:
    """The contacts of a run that was entered, for others to fetch; raises `InvalidInput` for one of actions."""
    return run._lend()  # noqa: SLF001 - the door itself


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
