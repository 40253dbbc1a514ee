"""Workers: each fetches contacts one after the other and hands their events to the consumer.

No HTTP here: a contact's events come from whatever `fetch` returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, Protocol, TypeVar

from .._errors import AuthError, ClientClosed, NP6Error, RateLimited, TLSError, forget
from .._models.contacts import Contact, parse
from .._models.events import Event
from .buffer import OVERHEAD, Batch, Buffer, Failure, Outcome
from .contact_queue import END, ContactQueue
from .stats import BulkStats, StreamStats

E = TypeVar("E", bound=Event)

# A run whose first so many contacts all answer 404 was given a wrong address, not wrong contacts.
EARLY: Final = 20


class BatchSource(Protocol[E]):
    """The events of one contact, as workers want them; see `Fetch`."""

    complete: bool
    failures: int

    @property
    def stats(self) -> StreamStats: ...
    @property
    def delivered_to(self) -> int | None: ...
    async def next_batch(self) -> list[E]: ...
    def report(self) -> None: ...
    def close(self) -> None: ...


class Workers(Generic[E]):
    """What fills the buffer of a bulk run. `slots` says how many there are, while the run lasts."""

    def __init__(
        self,
        contacts: Iterable[str | Contact] | AsyncIterable[str | Contact],
        fetch: Callable[[Contact], BatchSource[E]],
        slots: AbstractContextManager[int],
        *,
        in_turn: bool = False,
    ) -> None:
        self._contacts = ContactQueue(contacts)
        self._fetch = fetch
        self.buffer: Buffer[E] = Buffer(in_turn=in_turn)
        self.slots = slots
        self._active: set[BatchSource[E]] = set()
        self._ended = BulkStats()  # of the contacts that are not active any more
        self._begun = 0  # contacts
        self._stopping = False

    def begin(self, count: int) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What `count` tasks are to run."""
        return [self._work] * count

    def stop(self) -> None:
        """Begin no contact any more."""
        self._stopping = True

    @property
    def stats(self) -> BulkStats:
        """Counts of requests, up to now."""
        now = BulkStats(in_flight=len(self._active))
        now.add(self._ended)
        for source in self._active:
            now.add(source.stats)
        return now

    async def _work(self) -> None:
        """Fetch contacts one after the other, until there are no more or the run is stopped."""
        while not self._stopping:
            given = await self._contacts.next()
            if given is END or self._stopping:
                return
            self._begun += 1
            await self._fetch_one(given, early=self._begun <= EARLY)

    async def _fetch_one(self, given: Any, *, early: bool) -> None:
        lane = self.buffer.lane()
        failure = None
        try:
            source = self._fetch(parse(given))
        except NP6Error as error:
            error.contact = given
            await self.buffer.put(lane, Outcome(given, Failure.of(given, error), early, lambda: None))
            return
        self._active.add(source)
        seen = 0
        try:
            while not source.complete and (batch := await source.next_batch()):
                received = source.stats.bytes
                await self.buffer.put(lane, Batch(given, batch, received - seen + len(batch) * OVERHEAD))
                seen = received
        except (AuthError, ClientClosed, RateLimited, TLSError) as error:
            source.report()
            forget(error)
            raise  # of every contact, and not of this one
        except NP6Error as error:
            failure = Failure.of(given, error, source.failures, source.delivered_to)
        finally:
            source.close()
            self._active.discard(source)
            self._ended.add(source.stats)
        await self.buffer.put(lane, Outcome(given, failure, early, source.report))
