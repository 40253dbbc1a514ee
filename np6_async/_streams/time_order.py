"""The events of all contacts in the order of time: one window after the other, each merged in memory.

Merging responses as they arrive would need as many connections as there are contacts. A window that holds too many
events for that is cut in four, and its events are fetched again.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from heapq import merge
from itertools import count, groupby, islice
from typing import Any, Final, Generic, TypeVar

from .._models.contacts import Contact
from .._models.events import Event
from .._models.time_bounds import Window
from .buffer import OVERHEAD, Batch, Body, Buffer, Done, Failure, Outcome
from .bulk_stream import BulkStream
from .contact_queue import ContactIterable
from .stats import BulkStats

E = TypeVar("E", bound=Event)

# The most events of one window. Only a millisecond, which cannot be cut, may hold more.
MOST: Final = 50_000
_CUT: Final = 4
_PIECE: Final = 256


class TimeOrder(Generic[E]):
    """A `Producer` of events in the order of time; `window` has both its ends.

    `fetch` starts the run of one window, contact after contact, which does not raise where a contact fails. Later
    windows leave out a contact that failed.
    """

    def __init__(
        self,
        contacts: ContactIterable,
        fetch: Callable[[ContactIterable, Window], BulkStream[Any, E]],
        window: Window,
        *,
        newest_first: bool,
    ) -> None:
        assert window.start is not None
        assert window.end is not None
        self._contacts = contacts
        self._fetch = fetch
        self._start, self._end = window.start, window.end
        self._newest_first = newest_first
        self.buffer: Buffer[E] = Buffer()
        self.slots: AbstractContextManager[int] = nullcontext(1)
        # By position, so that a contact that is named twice may fail in one position only; and by name, so that no
        # other is left out in its place if the contacts come in another order next time.
        self._failed: set[tuple[int, str | Contact]] = set()
        self._stopping = False
        self._run: BulkStream[Any, E] | None = None
        self._ended = BulkStats()  # of the runs before

    def stop(self) -> None:
        """Start no more windows."""
        self._stopping = True

    unfinished = False

    def refetch(self, item: Body[E]) -> None:
        """There are no bodies here."""
        raise NotImplementedError

    @property
    def stats(self) -> BulkStats:
        """Counts of requests so far."""
        now = BulkStats()
        now.add(self._ended)
        if self._run is not None:
            running = self._run.stats
            now.add(running)
            now.in_flight = running.in_flight
        return now

    async def work(self, start_another: Callable[[], None]) -> None:
        """Fetch and merge window after window, in one task."""
        start, end = self._start, self._end
        width = end - start
        ended = False
        while not ended and not self._stopping:
            width = min(width, end - start)
            window = Window(end - width, end) if self._newest_first else Window(start, start + width)
            most = MOST if width > 1 else sys.maxsize
            found = await self._collect(window, most)
            if found.count > most:
                width = max(1, width // _CUT)
                continue
            if self._newest_first:
                end -= width
            else:
                start += width
            ended = start == end
            await self._deliver(found, ended)
            if found.count <= MOST // _CUT**2:
                width *= _CUT

    async def _collect(self, window: Window, most: int) -> _Found[E]:
        """Everything in one window, or a little more than `most` of its events."""
        found: _Found[E] = _Found()
        async with self._fetch(self._left(found.places), window) as self._run:
            async for contact, item in self._run.outcomes():
                found.add(contact, item)
                if found.count > most:
                    break
        self._ended.add(self._run.stats)
        self._run = None
        return found

    def _left(self, places: list[int]) -> ContactIterable:
        """The contacts that have not failed; as each is taken, its position among all contacts is added to `places`."""

        def has_not_failed(place: int, contact: Any) -> bool:
            if (place, _name(contact)) in self._failed:
                return False
            places.append(place)
            return True

        if isinstance(self._contacts, AsyncIterable):
            contacts, place = self._contacts, count()
            return (contact async for contact in contacts if has_not_failed(next(place), contact))
        return (contact for place, contact in enumerate(self._contacts) if has_not_failed(place, contact))

    async def _deliver(self, found: _Found[E], last: bool) -> None:
        queue = self.buffer.queue()
        for contact, events in found.merged(self._newest_first):
            size = sum(len(event.raw) + OVERHEAD for event in events)
            await self.buffer.put(queue, Batch(contact, events, size))
        for place, (contact, failure) in zip(found.places, found.outcomes, strict=True):
            if failure is not None:
                self._failed.add((place, _name(contact)))
            if failure is not None or last:
                await self.buffer.put(queue, Outcome(contact, failure, False, _reported))


class _Found(Generic[E]):
    """The events of one window."""

    def __init__(self) -> None:
        self.count = 0
        self.places: list[int] = []  # the positions among all of the contacts that were started
        self.outcomes: list[tuple[Any, Failure | None]] = []  # in the same order
        self._by_contact: list[list[tuple[Any, E]]] = []
        self._current: list[tuple[Any, E]] = []

    def add(self, contact: Any, item: list[E] | Done | Failure) -> None:
        """Add what a run delivers, contact after contact."""
        if isinstance(item, list):
            self.count += len(item)
            self._current += [(contact, event) for event in item]
            return
        if self._current:
            self._by_contact.append(self._current)
            self._current = []
        self.outcomes.append((contact, item if isinstance(item, Failure) else None))

    def merged(self, newest_first: bool) -> Iterator[tuple[Any, list[E]]]:
        """All events in order, as lists of one contact's."""
        pairs = merge(*self._by_contact, key=_timestamp, reverse=newest_first)
        # By identity, not equality: what comes back is the very object that was passed in.
        for _, run in groupby(pairs, key=lambda pair: id(pair[0])):
            for first in run:
                yield first[0], [first[1], *(event for _, event in islice(run, _PIECE - 1))]


def _timestamp(pair: tuple[Any, Event]) -> int:
    return pair[1].timestamp


def _reported() -> None:
    """Each window's run has notified the hooks itself."""


def _name(contact: Any) -> str | Contact:
    return contact if isinstance(contact, str | Contact) else repr(contact)
