"""The calls of a client: `np6.events`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypedDict, Unpack, overload

from .._models.contacts import Contact, parse
from .._models.event_list import EventList
from .._models.events import Activation, Bounce, Event, EventKind, Hit, Optout
from .._models.time_bounds import Bound
from .._protocol.event_query import EventQuery
from .._streams.bulk_stream import BulkStream
from .._streams.contact_queue import C, ContactIterable, Many
from .._streams.event_stream import EventStream
from .._streams.failures import ErrorPolicy
from .._streams.pages import Cursor, Pages
from .._streams.runtime import Runtime
from .event_requests import EventRequests, Missing, Order, check_limit
from .kinds import Activations, Bounces, Hits, Stops


class _Options(TypedDict, total=False):
    """Options of every call for events."""

    end: Bound | None
    classification: str | Iterable[str] | None
    newest_first: bool
    missing: Missing


class EventOptions(_Options, total=False):
    """Options of `Events.stream`."""

    start: Bound | None


class ListOptions(EventOptions, total=False):
    """Options of `Events.list`."""

    limit: int | None


class BulkOptions(EventOptions, total=False):
    """Options of `Events.stream_many`."""

    concurrency: int | None
    on_error: ErrorPolicy
    order: Order


class PageOptions(_Options, total=False):
    """Options of `Events.pages`."""

    start: Bound | None
    every: timedelta | str | None
    size: int | None
    after: Cursor | str | None
    concurrency: int | None
    on_error: ErrorPolicy


class Events:
    """The events of contacts; reached as `NP6Client.events`.

    Common to all methods:

    - a contact is an id as `str`, or a `Contact` made by `Contact.by_id`, `by_unicity` or `by_hash`;
    - `kind` is an `EventKind` or its value; the type of the events follows from it;
    - `start` (inclusive) and `end` (exclusive) bound the events' `timestamp`: an aware datetime, a date (its
      beginning), an ISO 8601 text, epoch seconds or milliseconds, or a timedelta (that long before now).
      None is no bound. A relative bound is fixed when the call is made, by this machine's clock or, once a response
      has shown that the server's is behind it, by the server's. With equal bounds nothing is requested;
    - `classification` adds hits made by robots to the ``hits`` kinds: ``genericrobot``, ``mpp`` and ``gsr``, as
      an iterable or separated by commas;
    - `newest_first` reverses the order;
    - `missing` says whether a contact that the account does not have (404) is an error, `NotFound` (``"error"``, the
      default), or has no events (``"empty"``).

    Invalid arguments raise `InvalidInput` (also a ValueError), before any I/O.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._requests = EventRequests(runtime)

    @overload
    def stream(
        self, contact: str | Contact, kind: Activations, **options: Unpack[EventOptions]
    ) -> EventStream[Activation]: ...

    @overload
    def stream(self, contact: str | Contact, kind: Bounces, **options: Unpack[EventOptions]) -> EventStream[Bounce]: ...

    @overload
    def stream(self, contact: str | Contact, kind: Stops, **options: Unpack[EventOptions]) -> EventStream[Optout]: ...

    @overload
    def stream(self, contact: str | Contact, kind: Hits, **options: Unpack[EventOptions]) -> EventStream[Hit]: ...

    @overload
    def stream(
        self, contact: str | Contact, kind: str = ..., **options: Unpack[EventOptions]
    ) -> EventStream[Event]: ...

    def stream(
        self,
        contact: str | Contact,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
    ) -> EventStream[Any]:
        """The events of one contact as an async iterator. No request goes out before it is iterated."""
        query = self._requests.query(kind, start, end, classification, newest_first, missing)
        return EventStream(self._requests.fetch(contact, query))

    @overload
    def stream_many(
        self, contacts: Many[C], kind: Activations, **options: Unpack[BulkOptions]
    ) -> BulkStream[C, Activation]: ...

    @overload
    def stream_many(
        self, contacts: Many[C], kind: Bounces, **options: Unpack[BulkOptions]
    ) -> BulkStream[C, Bounce]: ...

    @overload
    def stream_many(self, contacts: Many[C], kind: Stops, **options: Unpack[BulkOptions]) -> BulkStream[C, Optout]: ...

    @overload
    def stream_many(self, contacts: Many[C], kind: Hits, **options: Unpack[BulkOptions]) -> BulkStream[C, Hit]: ...

    @overload
    def stream_many(
        self, contacts: Many[C], kind: str = ..., **options: Unpack[BulkOptions]
    ) -> BulkStream[C, Event]: ...

    def stream_many(
        self,
        contacts: ContactIterable,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
        concurrency: int | None = None,
        on_error: ErrorPolicy = "raise",
        order: Order = "completion",
    ) -> BulkStream[Any, Any]:
        """The events of many contacts, fetched concurrently, as an async iterator of ``(contact, event)``.

        `contacts` is any iterable or async iterable. It is read as workers come free, so ten million ids may come from
        a file. A contact that it names twice is fetched twice.

        `concurrency` (default: the client's; 1 to 1,000) is the maximum number of requests of this run in flight, and
        of its tasks. They come on top of the client's own, so that other calls, even from inside the loop, need not
        wait for the run. With a borrowed session that limits its connections, a run takes those that are free, except
        one. A slow consumer stops the reading: 256 KiB of events, and for each request in flight a batch of them and
        what the socket gave in one go (up to 256 KiB), wait in memory.

        `order` is the order of the contacts:

        - ``"completion"`` (the default): as the responses arrive, mixed with each other;
        - ``"input"``: contact after contact as they were given. While one with many events is read, those after it
          are fetched until 256 KiB of them wait; then they wait too;
        - ``"time"``: the events of all contacts by timestamp. `start` is required, `end` defaults to now, and
          `contacts` must be re-iterable: a list, or an object whose ``__iter__`` or ``__aiter__`` starts again with the
          same contacts in the same order. The time is fetched window after window, with a request for each contact and
          window, and each window is merged in memory. Windows are made so short that they hold at most 50,000 events (a
          single millisecond may hold more); where all events fit, there is one window. A contact that failed is left
          out of the windows that follow; its events before that were delivered.

        `on_error` is what happens when a contact fails permanently: ``"raise"`` (the default) ends the run with a
        `BulkError`; ``"collect"`` adds it to `BulkStream.failures` and continues; ``"skip"`` only counts it; a callable
        gets the `Failure`, after the contact's events, and returns one of these words (None is ``"skip"``), also as a
        coroutine. `AuthError` and `TLSError` end the run whatever it is, and so do `RateLimited` (the server asks for a
        longer wait than `RetryPolicy.max_wait`) and, unless ``missing="empty"``, `EndpointNotFound` (the first 20
        contacts all got a 404).
        """

        def query(closed: bool) -> EventQuery[Any]:
            last = self._requests.closed_end(end) if closed else end
            return self._requests.query(kind, start, last, classification, newest_first, missing)

        return self._requests.many(contacts, query, concurrency, on_error, order)

    @overload
    async def list(
        self, contact: str | Contact, kind: Activations, **options: Unpack[ListOptions]
    ) -> EventList[Activation]: ...

    @overload
    async def list(
        self, contact: str | Contact, kind: Bounces, **options: Unpack[ListOptions]
    ) -> EventList[Bounce]: ...

    @overload
    async def list(self, contact: str | Contact, kind: Stops, **options: Unpack[ListOptions]) -> EventList[Optout]: ...

    @overload
    async def list(self, contact: str | Contact, kind: Hits, **options: Unpack[ListOptions]) -> EventList[Hit]: ...

    @overload
    async def list(
        self, contact: str | Contact, kind: str = ..., **options: Unpack[ListOptions]
    ) -> EventList[Event]: ...

    async def list(
        self,
        contact: str | Contact,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
    ) -> EventList[Any]:
        """The events of one contact, at most `limit` of them (a whole number from 0; None is all).

        Reading stops at `limit`: with `newest_first`, the latest 50 events of a contact with a million cost
        little more than 50.
        """
        check_limit(limit)
        query = self._requests.query(kind, start, end, classification, newest_first, missing)
        return await self._requests.first(EventStream(self._requests.fetch(contact, query)), limit)

    @overload
    def pages(
        self, contacts: C | Many[C], kind: Activations, **options: Unpack[PageOptions]
    ) -> Pages[C, Activation]: ...

    @overload
    def pages(self, contacts: C | Many[C], kind: Bounces, **options: Unpack[PageOptions]) -> Pages[C, Bounce]: ...

    @overload
    def pages(self, contacts: C | Many[C], kind: Stops, **options: Unpack[PageOptions]) -> Pages[C, Optout]: ...

    @overload
    def pages(self, contacts: C | Many[C], kind: Hits, **options: Unpack[PageOptions]) -> Pages[C, Hit]: ...

    @overload
    def pages(self, contacts: C | Many[C], kind: str = ..., **options: Unpack[PageOptions]) -> Pages[C, Event]: ...

    def pages(
        self,
        contacts: str | Contact | ContactIterable,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        end: Bound | None = None,
        every: timedelta | str | None = None,
        size: int | None = None,
        after: Cursor | str | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
        concurrency: int | None = None,
        on_error: ErrorPolicy = "raise",
    ) -> Pages[Any, Any]:
        """The events page by page, with a cursor after each from which a later run can continue.

        With `every`, a page holds the events of all `contacts` in a window of that length. That is a timedelta, of a
        millisecond or more, or a text such as ``"15m"`` or ``"6h"``; or days, weeks or months of the calendar, such as
        ``"1d"``, ``"1w"`` or ``"1mo"``, in the client's `tz` or else in UTC: days end at midnight, weeks with Sunday,
        months with their last day. A day has 23 or 25 hours where clocks change, and the first window may be shorter.
        The windows tile the time from `start`, which is needed, to `end`, and the last one may be shorter. `contacts`
        are read again for each page: pass a list, or an object whose ``__iter__`` or ``__aiter__`` starts again. With
        `size`, a page holds that many events of one contact. Exactly one of the two must be given.

        `after` is the cursor of an earlier page, or its text: the pages continue after it, whatever `start` says now,
        with no gap and no event twice, as long as the query is the same. `end` defaults to now, fixed when the call is
        made. With `every`, no page covers time that the server's clock has not reached, whatever `end` is: the last
        one ends there. A cursor that lies in the future by this machine's clock and the server's, because a clock was
        ahead when it was made, is not trusted: the pages begin at `start`, which is logged as a warning.

        `on_error` is that of `stream_many`: with ``"raise"``, a page that lacks something raises `BulkError` and is
        requested again by the next step; with ``"collect"`` it comes with its `failures`, and the cursor does not pass
        it; with ``"skip"`` it does. `newest_first` goes with `size` only.

        Raises `InvalidInput` for a cursor of another query.
        """
        last = self._requests.closed_end(end)
        query = self._requests.query(kind, start, last, classification, newest_first, missing)
        subject = None
        if isinstance(contacts, str | Contact):
            subject = parse(contacts)
            contacts = [contacts]
        return self._requests.pages(contacts, subject, query, every, size, after, concurrency, on_error)
