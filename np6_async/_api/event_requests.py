"""From the arguments of a call to a query, and from a query to its fetches, runs and pages.

For the namespaces of a client, `np6_async.sync` and `np6_async.export`. What events are of, contacts or actions, is a
*subject* here; the class of the query knows which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from attrs import evolve

from .._config import check_concurrency
from .._errors import InvalidInput, NP6Error
from .._models.event_list import EventList
from .._models.events import EventKind
from .._models.time_bounds import Bound, Every, Window, window
from .._protocol.event_query import ContactQuery, EventQuery
from .._protocol.resume import Delivered, ResumePoint
from .._streams.bulk_stream import BulkStream
from .._streams.contact_queue import reusable
from .._streams.event_stream import ActionStream, EventStream
from .._streams.failures import ErrorPolicy
from .._streams.fetch import Fetch
from .._streams.pages import CountPages, Cursor, Pages, WindowPages, digest
from .._streams.quick_lane import QuickLane
from .._streams.runtime import Runtime
from .._streams.time_order import TimeOrder
from .._streams.workers import Workers

Missing: TypeAlias = Literal["error", "empty"]
Order: TypeAlias = Literal["completion", "input", "time"]

_CLASSIFICATION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

# No event can be in it, and yet it is not empty.
_NO_TIME: Final = Window(0, 1)


class EventRequests:
    """The requests for events that a client makes with queries of one class."""

    def __init__(self, runtime: Runtime, query_class: type[EventQuery[Any]] = ContactQuery) -> None:
        self.runtime = runtime
        self._query_class = query_class

    def now(self) -> datetime:
        """The time by `RetryPolicy.wall_clock` or, where that is known to be ahead, by the server's clock."""
        return datetime.fromtimestamp(self.runtime.server_clock.now(), UTC)

    async def measure_clock(self, subject: Any, query: EventQuery[Any]) -> None:
        """Make the server's time known by a request for next to nothing. Should it fail, so will those that follow."""
        self.runtime.server_clock.moment()
        narrow = evolve(query, window=_NO_TIME, missing_is_empty=True)
        fetch = self.fetch(subject, narrow)
        with suppress(NP6Error):
            await fetch.next_batch()
        fetch.close()

    def query(
        self,
        kind: str,
        start: Bound | None,
        end: Bound | None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: str = "error",
    ) -> EventQuery[Any]:
        """The query that the arguments describe; raises `InvalidInput`."""
        cls = self._query_class
        parsed = EventKind.parse(kind, cls.kinds, f"the {cls.family[1:]} of {cls.subjects}")
        if missing not in ("error", "empty"):
            raise InvalidInput(f"missing={missing!r} is not known; use 'error' or 'empty'")
        return cls(
            kind=parsed,
            window=self.window(start, end, cls.arguments),
            newest_first=bool(newest_first),
            classification=_parse_classification(classification, parsed),
            missing_is_empty=missing == "empty",
            demand=self.runtime.demand,
        )

    def window(self, start: Bound | None, end: Bound | None, names: tuple[str, str]) -> Window:
        """The window between two arguments of these names; raises `InvalidInput`."""
        return window(start, end, now=self.now(), tz=self.runtime.tz, names=names)

    def closed_end(self, end: Bound | None) -> Bound:
        """`end`, or now: what is still to come is not requested, so that windows are closed."""
        return self.now() if end is None else end

    # One subject

    def fetch(self, subject: Any, query: EventQuery[Any], delivered: Delivered | None = None) -> Fetch[Any, Any]:
        """A fetch of the events of a subject, those after what was `delivered`."""
        return Fetch(self.runtime, query.parse(subject), query, self.runtime.slots, _after(delivered, query))

    async def first(self, stream: EventStream[Any] | ActionStream[Any], limit: int | None) -> EventList[Any]:
        """The first events of a stream, at most `limit`, which `check_limit` has seen."""
        self.runtime.lifetime.check()
        events: EventList[Any] = EventList()
        async with stream:
            if limit != 0:
                async for batch in stream.batches():
                    events += batch
                    if limit is not None and len(events) >= limit:
                        break
        if limit is not None:
            del events[limit:]
        return events

    # Many

    def bulk(
        self,
        subjects: Any,
        query_of: Callable[[Any], EventQuery[Any]],
        concurrency: int | None,
        on_error: ErrorPolicy,
        *,
        in_turn: bool = False,
        parse: Callable[[Any], Any] | None = None,
        delivered: Delivered | None = None,
        known: bool = False,
    ) -> BulkStream[Any, Any]:
        """A bulk run; `query_of` is called with each subject when its turn has come.

        `parse` makes a checked subject of each of `subjects`, other than the class of the query does. `delivered` is
        where to begin, in a run of one subject. `known`: the address is right, even if the first subjects get a 404.
        """

        def fetch(subject: Any) -> Fetch[Any, Any]:
            query = query_of(subject)
            return Fetch(self.runtime, subject, query, progress=_after(delivered, query))

        wanted = self.runtime.concurrency if concurrency is None else check_concurrency(concurrency, InvalidInput)
        workers: Workers[Any] = Workers(
            subjects,
            fetch,
            self.runtime.slots.lend(wanted),
            parse=parse or self._query_class.parse,
            name=self._query_class.subjects,
            in_turn=in_turn,
            # The response of actions is large, as a rule: not read ahead, it is delivered as it arrives.
            quick_lane=QuickLane(self.runtime, query_of) if self._query_class is ContactQuery else None,
            availability=self.runtime.availability,
        )
        return BulkStream(
            workers,
            on_error=on_error,
            lifetime=self.runtime.lifetime,
            limits=self.runtime.limits,
            by_recipient=self._query_class is not ContactQuery,
            known=known,
        )

    def many(
        self,
        subjects: Any,
        query: Callable[[bool], EventQuery[Any]],
        concurrency: int | None,
        on_error: ErrorPolicy,
        order: str,
    ) -> BulkStream[Any, Any]:
        """A bulk run in one of the orders of `stream_many`; `query` makes the query, `True`: with an end."""
        if order not in ("completion", "input", "time"):
            raise InvalidInput(f"order={order!r} is not known; use 'completion', 'input' or 'time'")
        asked = query(order == "time")
        if order != "time":
            return self.bulk(subjects, lambda _: asked, concurrency, on_error, in_turn=order == "input")
        if asked.window.start is None:
            name = asked.arguments[0]
            raise InvalidInput(f"order='time' needs {name}=: from there on the time is fetched window after window")

        def fetch(subjects: Any, window: Window) -> BulkStream[Any, Any]:
            part = evolve(asked, window=window)
            return self.bulk(subjects, lambda _: part, concurrency, "skip", in_turn=True)

        fetch((), asked.window)  # refuse invalid arguments now, and not at the first window
        merged = TimeOrder(reusable(subjects), fetch, asked.window, newest_first=asked.newest_first)
        by_recipient = self._query_class is not ContactQuery
        return BulkStream(merged, on_error=on_error, lifetime=self.runtime.lifetime, by_recipient=by_recipient)

    # Pages

    def pages(
        self,
        subjects: Any,
        subject: Any,
        query: EventQuery[Any],
        every: timedelta | str | None,
        size: int | None,
        after: Cursor | str | None,
        concurrency: int | None,
        on_error: ErrorPolicy,
    ) -> Pages[Any, Any]:
        """Pages by window of `subjects`, or by size of the single `subject` among them; None: there are many."""
        if (every is None) == (size is None):
            raise InvalidInput("pages() takes every=, for the windows of many contacts, or size=, for one contact")
        begin = None if after is None else Cursor.parse(after)
        if size is not None:
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InvalidInput(f"size must be a whole number from 1, not {size!r}")
            if subject is None:
                raise InvalidInput("size= goes with one contact; for many use every=")
            (single,) = subjects

            def stream(delivered: Delivered) -> EventStream[Any]:
                return EventStream(self.fetch(subject, query, delivered))

            name = digest("size", *query.identity(subject))
            return Pages(CountPages(stream, single, query.progress(), query.window, size, name, begin))
        assert every is not None
        if query.window.start is None:
            raise InvalidInput(f"every= needs {query.arguments[0]}=: the time from there on is cut into windows")
        length = Every.read(every, self.runtime.tz)
        if query.newest_first:
            raise InvalidInput("newest_first goes with size=; windows come in the order of time")
        again = reusable(subjects)

        def fetch(page: Window) -> BulkStream[Any, Any]:
            part = evolve(query, window=page)
            parse = None if subject is None else lambda _: subject
            return self.bulk(again, lambda _: part, concurrency, on_error, in_turn=True, parse=parse)

        fetch(query.window)  # refuse invalid arguments now, and not at the first page
        name = digest("every", *query.identity())
        return Pages(WindowPages(fetch, query.window, length, self.runtime.server_clock, name, begin))


def _after(delivered: Delivered | None, query: EventQuery[Any]) -> ResumePoint | None:
    """Where to begin, other than at the beginning."""
    if delivered is None:
        return None
    progress = query.progress()
    progress.restore(delivered)
    return progress


def check_limit(limit: int | None) -> None:
    """Raise `InvalidInput` where it is not a number of events."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise InvalidInput(f"limit must be a whole number from 0 or None, not {limit!r}")


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
