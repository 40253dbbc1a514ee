"""The calls of a client: `np6.events`."""

from __future__ import annotations

import builtins  # `Events.list` hides the builtin inside its class
import re
from collections.abc import AsyncIterable, Callable, Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Literal, TypeAlias, overload

from attrs import evolve

from .._config import check_concurrency
from .._errors import InvalidInput
from .._models.contacts import Contact, parse
from .._models.events import Activation, Bounce, Event, EventKind, Hit, Optout
from .._models.time_bounds import Bound, Window, window
from .._protocol.event_query import Query
from .._protocol.resume import Delivered
from .._streams.bulk_stream import BulkStream, ErrorPolicy
from .._streams.contact_queue import reusable
from .._streams.event_stream import EventStream
from .._streams.fetch import Fetch, Runtime
from .._streams.pages import CountPages, Cursor, Pages, WindowPages, digest
from .._streams.time_order import Merge
from .._streams.workers import Workers

_CLASSIFICATION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MILLISECOND: Final = timedelta(milliseconds=1)

All: TypeAlias = Literal["all", EventKind.ALL]
Activations: TypeAlias = Literal["activations", EventKind.ACTIVATIONS]
Bounces: TypeAlias = Literal["bounces", EventKind.BOUNCES]
Stops: TypeAlias = Literal["stops", EventKind.STOPS]
Hits: TypeAlias = Literal[
    "hits",
    "hits/open",
    "hits/redirection",
    "hits/unsubscribe",
    "hits/mirror",
    "hits/form",
    EventKind.HITS,
    EventKind.HITS_OPEN,
    EventKind.HITS_REDIRECTION,
    EventKind.HITS_UNSUBSCRIBE,
    EventKind.HITS_MIRROR,
    EventKind.HITS_FORM,
]
Missing: TypeAlias = Literal["error", "empty"]
Order: TypeAlias = Literal["completion", "input", "time"]
_Contacts: TypeAlias = Iterable[str | Contact] | AsyncIterable[str | Contact]


class Events:
    """The events of contacts; reached as `NP6Client.events`.

    Common to all methods:

    - a contact is an id as `str`, or a `Contact` made by `Contact.by_id`, `by_unicity` or `by_hash`;
    - `kind` is an `EventKind` or its value; the type of the events follows from it;
    - `start` (inclusive) and `end` (exclusive) bound the events' `timestamp`: an aware datetime, a date (its
      midnight), an ISO 8601 text, epoch seconds or milliseconds, or a timedelta (that long before now).
      None is no bound. A relative bound is fixed when the call is made. Equal bounds ask nothing;
    - `classification` adds hits made by robots to the ``hits`` kinds: ``genericrobot``, ``mpp`` and ``gsr``, as
      an iterable or separated by commas;
    - `newest_first` turns the order around;
    - `missing` says whether a contact that the account does not have (404) is an error, `NotFound`
      (``"error"``, the default), or has no events (``"empty"``).

    Bad arguments raise `InvalidInput` (also a ValueError), before any I/O.
    """

    def __init__(self, runtime: Runtime, tz: tzinfo | None, concurrency: int) -> None:
        self._runtime = runtime
        self._tz = tz
        self._concurrency = concurrency

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: Activations,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> EventStream[Activation]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: Bounces,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> EventStream[Bounce]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: Stops,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> EventStream[Optout]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: Hits,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> EventStream[Hit]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: str = ...,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
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
        query = self._query(kind, start, end, classification, newest_first, missing)
        return EventStream(Fetch(self._runtime, parse(contact), query, self._runtime.slots))

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: Activations,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Order = ...,
    ) -> BulkStream[Activation]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: Bounces,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Order = ...,
    ) -> BulkStream[Bounce]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: Stops,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Order = ...,
    ) -> BulkStream[Optout]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: Hits,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Order = ...,
    ) -> BulkStream[Hit]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: str = ...,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Order = ...,
    ) -> BulkStream[Event]: ...

    def stream_many(
        self,
        contacts: _Contacts,
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
    ) -> BulkStream[Any]:
        """The events of many contacts, fetched concurrently, as an async iterator of ``(contact, event)``.

        `contacts` is any iterable or async iterable; it is read as workers come free, so ten million ids may
        come from a file. A contact that it names twice is fetched twice. `concurrency` (default: the
        client's, 1 to 1,000) is how many requests of this run are in flight at most, and how many tasks it has;
        they come on top of the client's own, so that other calls, also from inside the loop, need not wait for
        it. Of a borrowed session with a limit of connections, a run takes what others have left, but for one.
        A slow consumer stops the reading: 256 KiB of events, and for each request in flight a batch of them and
        what the socket gave in one go (up to 256 KiB) wait in memory.

        `order` says in which order contacts come:

        - ``"completion"`` (the default): as the answers arrive, mixed with each other;
        - ``"input"``: contact after contact as they were given. While one with many events is read, those behind it
          are fetched until 256 KiB of them wait; then they wait too;
        - ``"time"``: the events of all contacts by timestamp. `start` is needed, `end` is now where it is not given,
          and `contacts` must be re-iterable (a list, or an object whose ``__iter__`` or ``__aiter__`` begins anew, with
          the same contacts in the same order): the time is fetched window after window, with a request for each
          contact and window, and a window is merged in memory. It is made so short that it holds at most 50,000
          events (a single millisecond may hold more); where all of them fit, there is one. A contact that failed is
          left out of the windows that follow, what came of it before was handed out.

        `on_error` says what becomes of a contact that failed for good: ``"raise"`` (the default) ends the run
        with a `BulkError`; ``"collect"`` lists it in `BulkStream.failures` and goes on; ``"skip"`` only counts it;
        a callable gets the `Failure`, after the contact's events, and answers with one of these words (None is
        ``"skip"``), also as a coroutine. `AuthError` and `TLSError` end the run under each of them, and so do
        `RateLimited` (the server asks for a longer wait than `RetryPolicy.max_wait`) and, unless ``missing="empty"``,
        `EndpointNotFound`: the first 20 contacts all answered 404.
        """
        if order not in ("completion", "input", "time"):
            raise InvalidInput(f"order={order!r} is not known; use 'completion', 'input' or 'time'")
        if order != "time":
            query = self._query(kind, start, end, classification, newest_first, missing)
            return self._bulk(contacts, lambda _: query, concurrency, on_error, in_turn=order == "input")
        query = self._query(kind, start, self._end(end), classification, newest_first, missing)
        if query.window.start is None:
            raise InvalidInput("order='time' needs start=: the time from there on is fetched window after window")

        def fetch(contacts: _Contacts, window: Window) -> BulkStream[Any]:
            part = evolve(query, window=window)
            return self._bulk(contacts, lambda _: part, concurrency, "skip", in_turn=True)

        fetch((), query.window)  # bad arguments are for now, and not for the first window
        merge = Merge(reusable(contacts), fetch, query.window, newest_first=query.newest_first)
        return BulkStream(merge, on_error=on_error, lifetime=self._runtime.lifetime)

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: Activations,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> builtins.list[Activation]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: Bounces,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> builtins.list[Bounce]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: Stops,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> builtins.list[Optout]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: Hits,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> builtins.list[Hit]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: All = ...,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> builtins.list[Event]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: str,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
    ) -> builtins.list[Any]: ...

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
    ) -> builtins.list[Any]:
        """The events of one contact, at most `limit` of them (a whole number from 0; None is all).

        Reading stops at `limit`: with `newest_first`, the latest 50 events of a contact with a million cost
        little more than 50.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InvalidInput(f"limit must be a whole number from 0 or None, not {limit!r}")
        self._runtime.lifetime.check()
        query = self._query(kind, start, end, classification, newest_first, missing)
        events: builtins.list[Any] = []
        async with EventStream(
            Fetch[Contact, Any](self._runtime, parse(contact), query, self._runtime.slots)
        ) as stream:
            if limit != 0:
                async for batch in stream.batches():
                    events += batch
                    if limit is not None and len(events) >= limit:
                        break
        return events[:limit]

    @overload
    def pages(
        self,
        contacts: str | Contact | _Contacts,
        kind: Activations,
        *,
        start: Bound,
        end: Bound | None = ...,
        every: timedelta | None = ...,
        size: int | None = ...,
        after: Cursor | str | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
    ) -> Pages[Activation]: ...

    @overload
    def pages(
        self,
        contacts: str | Contact | _Contacts,
        kind: Bounces,
        *,
        start: Bound,
        end: Bound | None = ...,
        every: timedelta | None = ...,
        size: int | None = ...,
        after: Cursor | str | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
    ) -> Pages[Bounce]: ...

    @overload
    def pages(
        self,
        contacts: str | Contact | _Contacts,
        kind: Stops,
        *,
        start: Bound,
        end: Bound | None = ...,
        every: timedelta | None = ...,
        size: int | None = ...,
        after: Cursor | str | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
    ) -> Pages[Optout]: ...

    @overload
    def pages(
        self,
        contacts: str | Contact | _Contacts,
        kind: Hits,
        *,
        start: Bound,
        end: Bound | None = ...,
        every: timedelta | None = ...,
        size: int | None = ...,
        after: Cursor | str | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
    ) -> Pages[Hit]: ...

    @overload
    def pages(
        self,
        contacts: str | Contact | _Contacts,
        kind: str = ...,
        *,
        start: Bound,
        end: Bound | None = ...,
        every: timedelta | None = ...,
        size: int | None = ...,
        after: Cursor | str | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
    ) -> Pages[Event]: ...

    def pages(
        self,
        contacts: str | Contact | _Contacts,
        kind: str = EventKind.ALL,
        *,
        start: Bound,
        end: Bound | None = None,
        every: timedelta | None = None,
        size: int | None = None,
        after: Cursor | str | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
        concurrency: int | None = None,
        on_error: ErrorPolicy = "raise",
    ) -> Pages[Any]:
        """The events page by page, with a cursor behind each that a later run can go on from.

        With `every`, a page holds the events of all `contacts` in a window of that length (a millisecond or
        more); the windows tile the time from `start` to `end`, the last one being shorter. `contacts` are read
        anew for each page: a list, or an object whose ``__iter__`` or ``__aiter__`` begins anew. With `size`, a
        page holds so many events of one contact. One of the two is given.

        `after` is the cursor of an earlier page, or its text: the pages go on behind it, whatever `start` says
        now, with no gap and no event twice, as long as the query is the same. `end` is now where it is not given,
        fixed when the call is made. `on_error` is that of `stream_many`: under ``"raise"`` a page that misses
        something raises `BulkError` and is asked for again by the next step; with ``"collect"`` it comes with its
        `failures`, and the cursor does not pass it; with ``"skip"`` it does. `newest_first` goes with `size` only.

        Raises `InvalidInput` for a cursor of another query.
        """
        if (every is None) == (size is None):
            raise InvalidInput("pages() takes every=, for the windows of many contacts, or size=, for one contact")
        begin = None if after is None else Cursor.parse(after)
        query = self._query(kind, start, self._end(end), classification, newest_first, missing)
        mode = [query.kind.value, query.classification]
        if size is not None:
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InvalidInput(f"size must be a whole number from 1, not {size!r}")
            if not isinstance(contacts, str | Contact):
                raise InvalidInput("size= goes with one contact; for many use every=")
            contact = parse(contacts)
            stream = _resumed(self._runtime, contact, query)
            name = digest("size", mode, query.newest_first, contact.kind, contact.value)
            return Pages(CountPages(stream, contacts, query.resume_point(), query.window, size, name, begin))
        if not isinstance(every, timedelta) or every < _MILLISECOND:
            raise InvalidInput(f"every must be a timedelta of a millisecond or more, not {every!r}")
        if query.newest_first:
            raise InvalidInput("newest_first goes with size=; windows come in the order of time")
        again = reusable(contacts)

        def fetch(page: Window) -> BulkStream[Any]:
            part = evolve(query, window=page)
            return self._bulk(again, lambda _: part, concurrency, on_error, in_turn=True)

        fetch(query.window)  # bad arguments are for now, and not for the first page
        return Pages(WindowPages(fetch, query.window, every // _MILLISECOND, digest("every", mode), begin))

    def _bulk(
        self,
        contacts: _Contacts,
        ask: Callable[[Contact], Query],
        concurrency: int | None,
        on_error: ErrorPolicy,
        *,
        in_turn: bool,
    ) -> BulkStream[Any]:
        """`ask` says what is asked of a contact, when its turn has come."""
        slots = self._concurrency if concurrency is None else check_concurrency(concurrency, InvalidInput)
        workers: Workers[Any] = Workers(
            contacts,
            lambda contact: Fetch(self._runtime, contact, ask(contact)),
            self._runtime.slots.lend(slots),
            in_turn=in_turn,
        )
        return BulkStream(workers, on_error=on_error, lifetime=self._runtime.lifetime)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._runtime.policy.wall_clock(), UTC)

    def _end(self, end: Bound | None) -> Bound:
        """Where no end is given, what is to come is not asked for: windows are closed."""
        return self._now() if end is None else end

    def _query(
        self,
        kind: str,
        start: Bound | None,
        end: Bound | None,
        classification: str | Iterable[str] | None,
        newest_first: bool,
        missing: str,
    ) -> Query:
        parsed = EventKind.parse(kind)
        if missing not in ("error", "empty"):
            raise InvalidInput(f"missing={missing!r} is not known; use 'error' or 'empty'")
        return Query(
            kind=parsed,
            window=window(start, end, now=self._now(), tz=self._tz),
            newest_first=bool(newest_first),
            classification=_parse_classification(classification, parsed),
            missing_is_empty=missing == "empty",
        )


def _parse_classification(classification: str | Iterable[str] | None, kind: EventKind) -> str | None:
    if classification is None:
        return None
    if not kind.is_hits:
        raise InvalidInput(f"classification goes with the kinds of hits, not with kind={kind.value!r}")
    if isinstance(classification, str):
        classification = classification.split(",")
    names = list(classification) if isinstance(classification, Iterable) else []
    if not names or not all(isinstance(name, str) and _CLASSIFICATION.fullmatch(name) for name in names):
        raise InvalidInput("classification must be names such as 'genericrobot', 'mpp' or 'gsr'")
    return ",".join(names)


def _resumed(runtime: Runtime, contact: Contact, query: Query) -> Callable[[Delivered], EventStream[Any]]:
    """Makes streams of `contact` that begin behind what was delivered."""

    def stream(delivered: Delivered) -> EventStream[Any]:
        resume = query.resume_point()
        resume.restore(delivered)
        return EventStream(Fetch[Contact, Any](runtime, contact, query, runtime.slots, resume))

    return stream
