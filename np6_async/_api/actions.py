"""The calls of a client that answer for all contacts of the account: `np6.actions` and `np6.reactivities`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict, Unpack, overload

from attrs import evolve

from .._errors import InvalidInput
from .._models.actions import Action
from .._models.event_list import EventList
from .._models.events import Activation, Bounce, Cancellation, Event, EventKind, Hit, Optout
from .._models.time_bounds import Bound
from .._protocol.event_query import ActionQuery, EventQuery, ReactivityQuery
from .._streams.bulk_stream import BulkStream
from .._streams.event_stream import ActionStream
from .._streams.failures import ErrorPolicy
from .._streams.pages import Cursor, Pages
from .._streams.runtime import Runtime
from .event_requests import EventRequests, Missing, Order, check_limit
from .kinds import Activations, Bounces, Cancellations, Hits, Stops

ActionIterable: TypeAlias = Iterable[str] | AsyncIterable[str]
Span: TypeAlias = tuple[Bound | None, Bound | None] | None


class _Options(TypedDict, total=False):
    """Options of every call for the events of actions."""

    action: str | None
    end: Bound | None
    classification: str | Iterable[str] | None
    newest_first: bool
    missing: Missing


class ActionOptions(_Options, total=False):
    """Options of `Actions.stream`."""

    start: Bound | None


class ActionListOptions(ActionOptions, total=False):
    """Options of `Actions.list`."""

    limit: int | None


class ActionBulkOptions(TypedDict, total=False):
    """Options of `Actions.stream_many`."""

    start: Bound | None
    end: Bound | None
    classification: str | Iterable[str] | None
    newest_first: bool
    missing: Missing
    concurrency: int | None
    on_error: ErrorPolicy
    order: Order


class ActionPageOptions(_Options, total=False):
    """Options of `Actions.pages`."""

    start: Bound | None
    every: timedelta | str | None
    size: int | None
    after: Cursor | str | None
    on_error: ErrorPolicy


class Actions:
    """The events of all contacts of the account, by action; reached as `NP6Client.actions`.

    One request answers for every contact, where `NP6Client.events` takes one for each: for a whole account, this is the
    call to use. Whether NP6 puts every type of event into that answer is not known: contacts' own events may include
    creations, modifications and opt-outs that these do not. ``np6 compare`` finds out for your account.

    Each event names its contact: see `Event.recipient`.

    Common to all methods:

    - `action` is the id of one action, such as ``"000PE4"``; None (the default) is all of them;
    - `kind` is an `EventKind` or its value, including ``"cancellations"``; the type of the events follows from it;
    - `start`, `end`, `classification` and `newest_first` are those of `Events`;
    - `missing` says whether an action that the account does not have (404) is an error, `NotFound` (``"error"``, the
      default), or has no events (``"empty"``). Of all actions, a 404 is always an error: the address is wrong.

    Events come in the order of their timestamps, each once, even if the connection breaks in between. Thousands may
    share a timestamp, because a message goes to many contacts in the same second: up to 100,000 in one millisecond are
    told apart, more raise `LimitExceeded`. Invalid arguments raise `InvalidInput` (also a ValueError), before any I/O.

    NP6 API reference 8.1.0, actions: `/actions/events`, `/actions/{id}/events` and what follows them.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._requests = EventRequests(runtime, ActionQuery)

    @overload
    def stream(self, kind: Activations, **options: Unpack[ActionOptions]) -> ActionStream[Activation]: ...

    @overload
    def stream(self, kind: Cancellations, **options: Unpack[ActionOptions]) -> ActionStream[Cancellation]: ...

    @overload
    def stream(self, kind: Bounces, **options: Unpack[ActionOptions]) -> ActionStream[Bounce]: ...

    @overload
    def stream(self, kind: Stops, **options: Unpack[ActionOptions]) -> ActionStream[Optout]: ...

    @overload
    def stream(self, kind: Hits, **options: Unpack[ActionOptions]) -> ActionStream[Hit]: ...

    @overload
    def stream(self, kind: str = ..., **options: Unpack[ActionOptions]) -> ActionStream[Event]: ...

    def stream(
        self,
        kind: str = EventKind.ALL,
        *,
        action: str | None = None,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
    ) -> ActionStream[Any]:
        """The events as an async iterator. No request goes out before it is iterated. Memory stays flat."""
        query = self._requests.query(kind, start, end, classification, newest_first, missing)
        return ActionStream(self._requests.fetch(Action(action), query))

    @overload
    async def list(self, kind: Activations, **options: Unpack[ActionListOptions]) -> EventList[Activation]: ...

    @overload
    async def list(self, kind: Cancellations, **options: Unpack[ActionListOptions]) -> EventList[Cancellation]: ...

    @overload
    async def list(self, kind: Bounces, **options: Unpack[ActionListOptions]) -> EventList[Bounce]: ...

    @overload
    async def list(self, kind: Stops, **options: Unpack[ActionListOptions]) -> EventList[Optout]: ...

    @overload
    async def list(self, kind: Hits, **options: Unpack[ActionListOptions]) -> EventList[Hit]: ...

    @overload
    async def list(self, kind: str = ..., **options: Unpack[ActionListOptions]) -> EventList[Event]: ...

    async def list(
        self,
        kind: str = EventKind.ALL,
        *,
        action: str | None = None,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
    ) -> EventList[Any]:
        """The events as a list, at most `limit` of them (a whole number from 0; None is all).

        Reading stops at `limit`: with `newest_first`, the latest 50 events of an account cost little more than 50.
        """
        check_limit(limit)
        query = self._requests.query(kind, start, end, classification, newest_first, missing)
        return await self._requests.first(ActionStream(self._requests.fetch(Action(action), query)), limit)

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: Activations, **options: Unpack[ActionBulkOptions]
    ) -> BulkStream[str, Activation]: ...

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: Cancellations, **options: Unpack[ActionBulkOptions]
    ) -> BulkStream[str, Cancellation]: ...

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: Bounces, **options: Unpack[ActionBulkOptions]
    ) -> BulkStream[str, Bounce]: ...

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: Stops, **options: Unpack[ActionBulkOptions]
    ) -> BulkStream[str, Optout]: ...

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: Hits, **options: Unpack[ActionBulkOptions]
    ) -> BulkStream[str, Hit]: ...

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: str = ..., **options: Unpack[ActionBulkOptions]
    ) -> BulkStream[str, Event]: ...

    def stream_many(
        self,
        actions: ActionIterable,
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
        """The events of several actions, fetched concurrently, as an async iterator of ``(action, event)``.

        `actions` is any iterable or async iterable of ids. `concurrency`, `on_error` and `order` are those of
        `Events.stream_many`, and so is the run; the id of the action takes the place of the contact in it, in its
        failures and in its outcomes.
        """

        def query(closed: bool) -> EventQuery[Any]:
            last = self._requests.closed_end(end) if closed else end
            return self._requests.query(kind, start, last, classification, newest_first, missing)

        return self._requests.many(actions, query, concurrency, on_error, order)

    @overload
    def pages(self, kind: Activations, **options: Unpack[ActionPageOptions]) -> Pages[str, Activation]: ...

    @overload
    def pages(self, kind: Cancellations, **options: Unpack[ActionPageOptions]) -> Pages[str, Cancellation]: ...

    @overload
    def pages(self, kind: Bounces, **options: Unpack[ActionPageOptions]) -> Pages[str, Bounce]: ...

    @overload
    def pages(self, kind: Stops, **options: Unpack[ActionPageOptions]) -> Pages[str, Optout]: ...

    @overload
    def pages(self, kind: Hits, **options: Unpack[ActionPageOptions]) -> Pages[str, Hit]: ...

    @overload
    def pages(self, kind: str = ..., **options: Unpack[ActionPageOptions]) -> Pages[str, Event]: ...

    def pages(
        self,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        action: str | None = None,
        end: Bound | None = None,
        every: timedelta | str | None = None,
        size: int | None = None,
        after: Cursor | str | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
        on_error: ErrorPolicy = "raise",
    ) -> Pages[Any, Any]:
        """The events page by page, with a cursor after each from which a later run can continue.

        A page holds the events of a window of length `every`, or `size` events; exactly one of the two must be given.
        `every`, `size`, `after`, `end` and `on_error` are those of `Events.pages`. In the pairs of `Page.items`, the
        id of the action, or ``"all"``, takes the place of the contact: see `Event.recipient` for that.
        """
        query = self._requests.query(kind, start, self._requests.closed_end(end), classification, newest_first, missing)
        return _pages(self._requests, Action(action), query, every, size, after, on_error)


class _ReactivityOptions(TypedDict, total=False):
    """Options of every call for reactivities."""

    action: str | None
    sent: Span
    newest_first: bool
    missing: Missing


class ReactivityOptions(_ReactivityOptions, total=False):
    """Options of `Reactivities.stream`."""

    reacted: Span


class ReactivityListOptions(ReactivityOptions, total=False):
    """Options of `Reactivities.list`."""

    limit: int | None


class ReactivityBulkOptions(TypedDict, total=False):
    """Options of `Reactivities.stream_many`."""

    sent: Span
    reacted: Span
    newest_first: bool
    missing: Missing
    concurrency: int | None
    on_error: ErrorPolicy
    order: Order


class ReactivityPageOptions(_ReactivityOptions, total=False):
    """Options of `Reactivities.pages`."""

    reacted: Span
    every: timedelta | str | None
    size: int | None
    after: Cursor | str | None
    on_error: ErrorPolicy


class Reactivities:
    """What contacts did after messages that were sent in a given time; reached as `NP6Client.reactivities`.

    The hits and bounces of all contacts of the account, of all actions or one. They may come months after the sending,
    so there are two windows, each a pair of bounds as `Events` takes them for `start` and `end`, half-open, of which
    either may be None:

    - `sent`: when the message was sent (None: at any time);
    - `reacted`: when the contact reacted (None: at any time). That is the events' `timestamp`: their order, resuming
      and cursors go by it.

    `kind` is ``"all"`` (the default), ``"bounces"``, ``"hits"`` or one of the hits. NP6 has no `classification` here.
    Everything else is as in `Actions`.

    NP6 API reference 8.1.0, actions: `/actions/reactivities`, `/actions/{id}/reactivities` and what follows them.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._requests = EventRequests(runtime, ReactivityQuery)

    @overload
    def stream(self, kind: Bounces, **options: Unpack[ReactivityOptions]) -> ActionStream[Bounce]: ...

    @overload
    def stream(self, kind: Hits, **options: Unpack[ReactivityOptions]) -> ActionStream[Hit]: ...

    @overload
    def stream(self, kind: str = ..., **options: Unpack[ReactivityOptions]) -> ActionStream[Event]: ...

    def stream(
        self,
        kind: str = EventKind.ALL,
        *,
        action: str | None = None,
        sent: Span = None,
        reacted: Span = None,
        newest_first: bool = False,
        missing: Missing = "error",
    ) -> ActionStream[Any]:
        """The reactions as an async iterator. No request goes out before it is iterated. Memory stays flat."""
        query = self._query(kind, sent, reacted, newest_first, missing)
        return ActionStream(self._requests.fetch(Action(action), query))

    @overload
    async def list(self, kind: Bounces, **options: Unpack[ReactivityListOptions]) -> EventList[Bounce]: ...

    @overload
    async def list(self, kind: Hits, **options: Unpack[ReactivityListOptions]) -> EventList[Hit]: ...

    @overload
    async def list(self, kind: str = ..., **options: Unpack[ReactivityListOptions]) -> EventList[Event]: ...

    async def list(
        self,
        kind: str = EventKind.ALL,
        *,
        action: str | None = None,
        sent: Span = None,
        reacted: Span = None,
        limit: int | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
    ) -> EventList[Any]:
        """The reactions as a list, at most `limit` of them (a whole number from 0; None is all)."""
        check_limit(limit)
        query = self._query(kind, sent, reacted, newest_first, missing)
        return await self._requests.first(ActionStream(self._requests.fetch(Action(action), query)), limit)

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: Bounces, **options: Unpack[ReactivityBulkOptions]
    ) -> BulkStream[str, Bounce]: ...

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: Hits, **options: Unpack[ReactivityBulkOptions]
    ) -> BulkStream[str, Hit]: ...

    @overload
    def stream_many(
        self, actions: ActionIterable, kind: str = ..., **options: Unpack[ReactivityBulkOptions]
    ) -> BulkStream[str, Event]: ...

    def stream_many(
        self,
        actions: ActionIterable,
        kind: str = EventKind.ALL,
        *,
        sent: Span = None,
        reacted: Span = None,
        newest_first: bool = False,
        missing: Missing = "error",
        concurrency: int | None = None,
        on_error: ErrorPolicy = "raise",
        order: Order = "completion",
    ) -> BulkStream[Any, Any]:
        """The reactions to several actions, as `Actions.stream_many` has their events."""

        def query(closed: bool) -> EventQuery[Any]:
            return self._query(kind, sent, reacted, newest_first, missing, closed=closed)

        return self._requests.many(actions, query, concurrency, on_error, order)

    @overload
    def pages(self, kind: Bounces, **options: Unpack[ReactivityPageOptions]) -> Pages[str, Bounce]: ...

    @overload
    def pages(self, kind: Hits, **options: Unpack[ReactivityPageOptions]) -> Pages[str, Hit]: ...

    @overload
    def pages(self, kind: str = ..., **options: Unpack[ReactivityPageOptions]) -> Pages[str, Event]: ...

    def pages(
        self,
        kind: str = EventKind.ALL,
        *,
        reacted: Span = None,
        action: str | None = None,
        sent: Span = None,
        every: timedelta | str | None = None,
        size: int | None = None,
        after: Cursor | str | None = None,
        newest_first: bool = False,
        missing: Missing = "error",
        on_error: ErrorPolicy = "raise",
    ) -> Pages[Any, Any]:
        """The reactions page by page, as `Actions.pages` has events. With `every`, `reacted` must have a start; its end
        is now if it is None. A cursor does not hold `sent`: pass the same one, or the messages to follow from there on.
        """
        query = self._query(kind, sent, reacted, newest_first, missing, closed=True)
        return _pages(self._requests, Action(action), query, every, size, after, on_error)

    def _query(
        self, kind: str, sent: Span, reacted: Span, newest_first: bool, missing: str, *, closed: bool = False
    ) -> EventQuery[Any]:
        """The query that the arguments describe; raises `InvalidInput`. `closed`: it has an end."""
        first, last = _bounds("reacted", reacted)
        last = self._requests.closed_end(last) if closed else last
        query = self._requests.query(kind, first, last, None, newest_first, missing)
        window = self._requests.window(*_bounds("sent", sent), ("sent[0]", "sent[1]"))
        return evolve(query, sent=window)  # type: ignore[call-arg]


def _bounds(name: str, span: Any) -> tuple[Bound | None, Bound | None]:
    if span is None:
        return None, None
    if not isinstance(span, tuple | list) or len(span) != 2:
        raise InvalidInput(f"{name} must be a pair (start, end), either of which may be None, or None for any time")
    return span[0], span[1]


def _pages(
    requests: EventRequests,
    action: Action,
    query: EventQuery[Any],
    every: timedelta | str | None,
    size: int | None,
    after: Cursor | str | None,
    on_error: ErrorPolicy,
) -> Pages[Any, Any]:
    return requests.pages([action.id or "all"], action, query, every, size, after, None, on_error)
