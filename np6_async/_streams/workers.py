"""Workers: each fetches contacts one after the other and puts their events into the buffer of a bulk run.

No HTTP here: a contact's events come from whatever `fetch` returns.

While the server has never answered, nothing tells an outage from contacts that fail by themselves, if their errors may
concern the server. Those contacts are *undecided*: they fail when another contact ends in any other way, be it that the
server does not know it, and when 20 of them there are, or no other contact is left, the run ends with
`ServiceUnavailable`, and none of them has failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from .._errors import (
    AuthError,
    ClientClosed,
    NP6Error,
    ProxyError,
    RateLimited,
    ServiceUnavailable,
    StreamInterrupted,
    TLSError,
    forget,
)
from .._http.availability import Availability, concerns_server
from .._models.contacts import parse
from .._models.events import Event
from .._protocol.event_query import EventQuery
from .buffer import OVERHEAD, Batch, Body, Buffer, Failure, ItemQueue, Outcome
from .contact_queue import END, ContactQueue
from .quick_lane import QuickLane
from .stats import BulkStats, StreamStats

E = TypeVar("E", bound=Event)

# A run whose first 20 contacts all get a 404 was given a wrong address, not wrong contacts; one in which 20 contacts
# fail before any is answered meets an outage.
EARLY: Final = 20
# Seconds that contacts stay undecided while nothing else is requested.
_UNDECIDED: Final = 5.0


class BatchSource(Protocol[E]):
    """The part of a `Fetch` that workers need."""

    failures: int

    @property
    def complete(self) -> bool: ...
    @property
    def stats(self) -> StreamStats: ...
    @property
    def delivered_to(self) -> int | None: ...
    async def next_batch(self) -> list[E]: ...
    def report_outcome(self) -> None: ...
    def close(self) -> None: ...


class Workers(Generic[E]):
    """A `Producer`. `slots` says how many workers there may be, while the run lasts.

    What is said of contacts here holds for actions as well, of which `parse` makes checked references.
    """

    def __init__(
        self,
        contacts: Any,
        fetch: Callable[[Any], BatchSource[E]],
        slots: AbstractContextManager[int],
        *,
        parse: Callable[[Any], Any] = parse,
        name: str = "contacts",
        in_turn: bool = False,
        quick_lane: QuickLane[Any] | None = None,
        availability: Availability | None = None,
    ) -> None:
        self._contacts = ContactQueue(contacts, name)
        self._parse = parse
        self._fetch = fetch
        self._quick_lane = quick_lane
        self._in_turn = in_turn
        self.buffer: Buffer[E] = Buffer(in_turn=in_turn)
        self.slots = slots
        self._active: set[BatchSource[E]] = set()
        self._ended = BulkStats()  # of the contacts that have ended
        self._started = 0  # contacts
        self._stopping = False
        self._idle = 0  # workers that wait for a contact
        self._odd: deque[Body[E]] = deque()  # to look at before more contacts are started
        self._availability = availability
        self._answered = False  # some contact has ended, and was not undecided
        self._busy = 0  # workers that fetch
        self._undecided: list[tuple[ItemQueue[E], Outcome]] = []

    def stop(self) -> None:
        """Start no more contacts."""
        self._stopping = True

    @property
    def stats(self) -> BulkStats:
        """Counts of requests so far."""
        now = BulkStats(in_flight=len(self._active))
        if self._quick_lane is not None:
            now.in_flight += self._quick_lane.in_flight
            now.add(self._quick_lane.stats)
        now.add(self._ended)
        for source in self._active:
            now.add(source.stats)
        return now

    async def work(self, start_another: Callable[[], None]) -> None:
        """Fetch contacts one after the other, until there are no more or the run is stopped.

        Each worker starts the next when it has taken its first contact, so there are no more workers than contacts.
        """
        scope = None if self._quick_lane is None else self._quick_lane.scope()
        started = False
        queue: ItemQueue[E] | None = None
        while True:
            if self._odd:
                await self._refetch(self._odd.popleft())
                continue
            if self._stopping:
                self._decide(ended=True)
                return
            self._idle += 1
            given = await (self._next_or_end() if self._undecided else self._contacts.next())
            self._idle -= 1
            if given is END or self._stopping:
                if self._odd:
                    continue
                self._decide(ended=True)
                return
            if not started:
                started = True
                start_another()
            self._started += 1
            early = self._started <= EARLY
            if queue is None or self._in_turn:
                queue = self.buffer.queue()
            source: tuple[EventQuery[Any], bytes] | BatchSource[Any]
            try:
                contact = self._parse(given)
                if self._quick_lane is None or scope is None:
                    source = self._fetch(contact)
                else:
                    self._busy += 1
                    try:
                        source = await self._quick_lane.fetch(contact, scope)
                    finally:
                        self._busy -= 1
            except NP6Error as error:
                error.contact = given
                await self.buffer.put(queue, Outcome(given, Failure.of(given, error), early, lambda: None))
                continue
            if isinstance(source, tuple):
                query, body = source
                if self._undecided:
                    self._decide()
                await self.buffer.put(queue, Body(given, contact, query, body, queue, early, len(body) + OVERHEAD))
            else:
                await self._fetch_rest(source, given, queue, early=early)

    def refetch(self, item: Body[E]) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """Go on with a body that was not what the quick lane took it for: in a worker, or in the task that is returned.

        The workers may all be waiting: with the contacts in turn for the room that this one takes, or for contacts.
        """
        if self._in_turn or self._idle:
            return partial(self._refetch, item)
        self._odd.append(item)
        return None

    @property
    def unfinished(self) -> bool:
        """Whether there is a body that waits for a worker."""
        return bool(self._odd)

    async def _refetch(self, item: Body[E]) -> None:
        assert self._quick_lane is not None
        self._quick_lane.stats.requests -= 1  # the fetch counts them
        self._quick_lane.stats.bytes -= len(item.body)
        source: BatchSource[E] = self._quick_lane.refetch(item.contact, item.query, item.body)
        await self._fetch_rest(source, item.given, item.queue, early=item.early)

    async def _fetch_rest(self, source: BatchSource[E], given: Any, queue: ItemQueue[E], *, early: bool) -> None:
        failure = None
        self._active.add(source)
        seen = 0
        try:
            while not source.complete and (batch := await source.next_batch()):
                received = source.stats.bytes
                await self.buffer.put(queue, Batch(given, batch, received - seen + len(batch) * OVERHEAD))
                seen = received
        except (AuthError, ClientClosed, RateLimited, ServiceUnavailable, TLSError) as error:
            source.report_outcome()
            forget(error)
            raise  # it concerns every contact, and not only this one
        except NP6Error as error:
            if isinstance(error, ProxyError) and error.permanent:  # so does this
                source.report_outcome()
                forget(error)
                raise
            failure = Failure.of(given, error, source.failures, source.delivered_to)
        finally:
            source.close()
            self._active.discard(source)
            self._ended.add(source.stats)
        outcome = Outcome(given, failure, early, source.report_outcome)
        if failure is not None and self._never_answered and _may_be_outage(failure.error):
            self._undecided.append((queue, outcome))
        else:
            self._answered = True
            if self._undecided:
                self._decide()
            await self.buffer.put(queue, outcome)
        if len(self._undecided) >= EARLY:
            self._decide(ended=True)

    async def _next_or_end(self) -> Any:
        """The next contact; where it takes long to come, the undecided ones wait no longer."""
        following = asyncio.ensure_future(self._contacts.next())
        try:
            while not (await asyncio.wait([following], timeout=_UNDECIDED))[0]:
                self._decide(ended=True)
            return following.result()
        finally:
            if not following.done():
                following.cancel()
                await asyncio.wait([following])

    @property
    def _never_answered(self) -> bool:
        return not self._answered and self._availability is not None and self._availability.answered is None

    def _decide(self, *, ended: bool = False) -> None:
        """Let the undecided contacts fail, if one was answered; `ended`: otherwise, end the run if none may be."""
        if not self._never_answered:
            for queue, outcome in self._undecided:
                self.buffer.add(queue, outcome)
            self._undecided.clear()
        elif ended and self._undecided and (len(self._undecided) >= EARLY or not (self._busy or self._active)):
            failure = self._undecided[-1][1].failure
            assert failure is not None
            assert self._availability is not None
            raise self._availability.never_answered(failure.error, len(self._undecided))


def _may_be_outage(error: NP6Error) -> bool:
    """Whether the server may have answered nobody: not where a response began, and broke off."""
    return concerns_server(error) and not isinstance(error, StreamInterrupted)
