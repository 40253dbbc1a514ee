"""Pages: the events of one closed time window after the other, or a given number of events at a time; and cursors.

A page is fetched when it is asked for, and nothing runs between two pages. Its cursor says where the next one begins,
as text that may be kept anywhere: a run that starts `after` it continues with no gap and no event twice.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import blake2b
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

from attrs import field, frozen

from .._errors import InvalidInput
from .._http.observations import logger
from .._http.server_clock import ServerClock, duration
from .._models.contacts import Contact
from .._models.event_list import html_table
from .._models.events import Event
from .._models.time_bounds import Every, Window
from .._protocol.resume import Delivered, ResumePoint
from .buffer import Failure
from .bulk_stream import BulkStream
from .event_stream import EventStream
from .open_end import OpenEnd

C = TypeVar("C", bound=str | Contact)
C_co = TypeVar("C_co", bound=str | Contact, covariant=True)
E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)
P = TypeVar("P", int, Delivered)

_VERSION: Final = 1


@frozen
class Cursor:
    """Where the next page begins. ``str(cursor)`` is opaque text, safe in JSON, and what `pages(after=)` takes.

    It holds no key and no contact, and nothing of events but the ids at the last timestamp. Cursors of other versions
    of this package are accepted unless the changelog says otherwise.
    """

    _query: str  # a digest: what a cursor was made for
    _position: int | Delivered

    def __str__(self) -> str:
        at = self._position if isinstance(self._position, int) else self._position.plain()
        text = json.dumps([_VERSION, self._query, at], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def __repr__(self) -> str:
        return f"Cursor('{self}')"

    @classmethod
    def parse(cls, text: str | Cursor) -> Cursor:
        """The cursor that `text` is; raises `InvalidInput`."""
        if isinstance(text, Cursor):
            return text
        try:
            padded = text + "=" * (-len(text) % 4)
            version, query, at = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if version == _VERSION and isinstance(query, str):
                return cls(query, at if type(at) is int and at >= 0 else Delivered.from_plain(at))
            problem = f"after= is a cursor of version {str(version)[:9]}, and this package reads version {_VERSION}"
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):  # any text may come as a cursor
            problem = "after= is not a cursor; pass str(page.cursor) unchanged, or None to begin at the start"
        raise InvalidInput(problem)

    def position(self, query: str, kind: type[P]) -> P:
        """Where it points; raises `InvalidInput` unless it was made for `query`."""
        if self._query != query or not isinstance(self._position, kind):
            raise InvalidInput(
                "after= is the cursor of another query: kind, classification, order and size or every, and the contact "
                "of pages by size, must be the same; or pass None to begin at the start"
            )
        return self._position


@frozen(repr=False)
class Page(Generic[C_co, E_co]):
    """A complete set of events.

    `items` are ``(contact, event)`` pairs, contact after contact as they were given, the events of each in order.
    `window` is the time that the page covers, in epoch milliseconds. `failures` are the contacts whose events may be
    missing (only with ``on_error="collect"`` or a callable that says so); `cursor` then stays where the first page with
    failures began, so that a run after it requests them again. `has_more` is whether there are more events or, of pages
    of windows, more windows before the end.
    """

    items: list[tuple[C_co, E_co]] = field(repr=False)
    window: Window
    cursor: Cursor
    failures: list[Failure[C_co]] = field(factory=list, repr=False)
    has_more: bool = False

    def to_html(self, *, contacts: bool = False, rows: int = 20) -> str:
        """The first `rows` events as an HTML table, which names their contacts only where `contacts` is true.

        Times are in UTC. What is in it may change; it is for reading.
        """
        return html_table(
            [(contact if contacts else None, event) for contact, event in self.items[:rows]], len(self.items)
        )

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" * bool(self.failures)
        return f"<Page of {len(self.items):,} events{failed}, {self.window}, has_more={self.has_more}>"


class _Source(Protocol[C_co, E_co]):
    """Makes pages, see `Pages`."""

    async def next_page(self) -> Page[C_co, E_co] | None: ...
    async def aclose(self) -> None: ...


class Pages(Generic[C_co, E_co]):
    """An async iterator of `Page`, bare or under ``async with``.

    A page that was not finished, because the wait for it was cancelled or failed, has delivered nothing; the next step
    fetches it again.
    """

    def __init__(self, source: _Source[C_co, E_co]) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"<Pages: {self._source}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page[C_co, E_co]:
        page = await self._source.next_page()
        if page is None:
            raise StopAsyncIteration
        return page

    async def aclose(self) -> None:
        """Give back the connection that the next page would have used."""
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class WindowPages(Generic[C, E]):
    """Pages of `every` each, the last one shorter, which tile `window`.

    None covers time that the server has not reached: the page in which that lies ends there, and is the last.
    """

    def __init__(
        self,
        fetch: Callable[[Window], BulkStream[C, E]],
        window: Window,
        every: Every,
        clock: ServerClock,
        query: str,
        after: Cursor | None,
    ) -> None:
        assert window.start is not None
        assert window.end is not None
        self._fetch = fetch
        self._start = window.start
        self._end = window.end
        self._every = every
        self._clock = clock
        self._query = query
        self._at = window.start if after is None else after.position(query, int)
        self._checked = after is None  # that this is not in the future
        self._unfinished: int | None = None  # where the first page with failures began

    def __str__(self) -> str:
        return f"windows, next from {Window(self._at, self._end)}"

    async def next_page(self) -> Page[C, E] | None:
        """None at the end of the window."""
        if not self._checked:
            await self._check_cursor()
        if self._at >= self._end:
            return None
        window = Window(self._at, min(self._every.following(self._at), self._end))
        end = OpenEnd(self._clock, self._end)
        async with self._fetch(window) as events:
            items = [pair async for pair in events]
        if end.ms < (window.end or 0) and not await self._is_refuted(end, items, window):
            self._end = end.ms
            window = Window(self._at, self._end)
            items = [pair for pair in items if window.contains(pair[1].timestamp)]
            if window.empty:
                return None
        if events.failures and self._unfinished is None:
            self._unfinished = self._at
        self._at = window.end or 0
        cursor = Cursor(self._query, self._at if self._unfinished is None else self._unfinished)
        return Page(items, window, cursor, events.failures, self._at < self._end)

    async def _is_refuted(self, end: OpenEnd, items: list[tuple[C, E]], window: Window) -> bool:
        """Whether there are events so late that the server's time, which is to end the pages, cannot be right."""
        if any(end.refuted_by(event.timestamp) for _, event in items):
            return True
        if window.end == self._end or not end.is_early:
            return False
        async with self._fetch(Window(window.end, self._end)) as events:
            async for _, event in events:
                if end.refuted_by(event.timestamp):
                    return True
        return False

    async def _check_cursor(self) -> None:
        """Begin at the start if the cursor lies in the future: no page before it is known to be complete."""
        clock, at = self._clock, self._at / 1000
        if clock.lies_ahead(at):  # perhaps it is this machine's clock that is behind
            clock.moment()
            async with self._fetch(Window(0, 1)) as probe:
                async for _ in probe.outcomes():
                    break
        self._checked = True
        if clock.lies_ahead(at) and clock.known:
            logger.warning(
                "after= is a cursor that lies %s in the future: a clock was ahead when it was made. The pages begin at "
                "start= again, and may repeat events",
                duration(at - clock.now()),
            )
            self._at = self._start

    async def aclose(self) -> None:
        """Nothing is open between two pages."""


class CountPages(Generic[C, E]):
    """Pages of `size` events of one contact, the last one shorter."""

    def __init__(
        self,
        stream: Callable[[Delivered], EventStream[E]],
        contact: C,
        delivered: ResumePoint,
        window: Window,
        size: int,
        query: str,
        after: Cursor | None,
    ) -> None:
        if after is not None:
            delivered.restore(after.position(query, Delivered))
        self._delivered = delivered  # in finished pages
        self._start = stream
        self._stream: EventStream[E] | None = None
        self._contact = contact
        self._window = window
        self._size = size
        self._query = query
        self._ahead: list[E] = []  # fetched, of the next page

    def __str__(self) -> str:
        return f"{self._size:,} events each"

    async def next_page(self) -> Page[C, E] | None:
        """None where there are no more events."""
        if self._stream is None:
            self._stream = self._start(self._delivered.delivered)
        try:
            while len(self._ahead) <= self._size:  # one more shows that there is a further page
                self._ahead += await anext(self._stream.batches())
        except StopAsyncIteration:
            pass
        except BaseException:
            # The stream cannot continue: the next call starts another after the last page.
            await self.aclose()
            raise
        events, self._ahead = self._ahead[: self._size], self._ahead[self._size :]
        if not events:
            return None
        self._delivered.accept(events)
        items: list[tuple[C, E]] = [(self._contact, event) for event in events]
        cursor = Cursor(self._query, self._delivered.delivered)
        return Page(items, self._window, cursor, has_more=bool(self._ahead))

    async def aclose(self) -> None:
        """Close the stream; a further page starts another."""
        self._ahead = []
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.aclose()


def digest(*parts: object) -> str:
    """A short digest of what a cursor belongs to, which does not reveal it."""
    return blake2b(json.dumps(parts).encode(), digest_size=9).hexdigest()
