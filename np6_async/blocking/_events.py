"""The calls of a blocking client for the events of contacts: `np6.events`."""

from __future__ import annotations

from typing import Any, Unpack, overload

from .._api import events as _api
from .._api.events import BulkOptions, EventOptions, ListOptions, PageOptions
from .._api.kinds import Activations, Bounces, Hits, Stops
from .._models.contacts import Contact
from .._models.event_list import EventList
from .._models.events import Activation, Bounce, Event, Hit, Optout
from .._streams.contact_queue import C, Many
from ._bulk import BulkStream
from ._callbacks import prepared
from ._handover import Handover
from ._job import call
from ._loop import Loop
from ._mirror import mirrors
from ._pages import Pages
from ._streams import EventStream


class Events:
    """The events of contacts; reached as `np6_async.blocking.NP6Client.events`.

    The calls, their arguments and their errors are those of `np6_async.Events`.
    """

    def __init__(self, loop: Loop, calls: _api.Events) -> None:
        self._loop = loop
        self._calls = calls

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

    @mirrors(_api.Events.stream)
    def stream(self, *args: Any, **options: Any) -> EventStream[Any]:
        """As `np6_async.Events.stream`, an iterator."""
        return EventStream(self._loop, self._calls.stream(*args, **options))

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

    @mirrors(_api.Events.stream_many)
    def stream_many(self, *args: Any, **options: Any) -> BulkStream[Any, Any]:
        """As `np6_async.Events.stream_many`, for ``with`` and ``for``."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared("contacts", args, options, handover)
        return BulkStream(self._loop, self._calls.stream_many(*args, **options), handover)

    @overload
    def list(  # pyright: ignore[reportOverlappingOverload] - a list of activations is no list of events
        self, contact: str | Contact, kind: Activations, **options: Unpack[ListOptions]
    ) -> EventList[Activation]: ...

    @overload
    def list(self, contact: str | Contact, kind: Bounces, **options: Unpack[ListOptions]) -> EventList[Bounce]: ...

    @overload
    def list(self, contact: str | Contact, kind: Stops, **options: Unpack[ListOptions]) -> EventList[Optout]: ...

    @overload
    def list(self, contact: str | Contact, kind: Hits, **options: Unpack[ListOptions]) -> EventList[Hit]: ...

    @overload
    def list(self, contact: str | Contact, kind: str = ..., **options: Unpack[ListOptions]) -> EventList[Event]: ...

    @mirrors(_api.Events.list)
    def list(self, *args: Any, **options: Any) -> EventList[Any]:
        """As `np6_async.Events.list`; returns when it has them."""
        return call(self._loop, lambda: self._calls.list(*args, **options))

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

    @mirrors(_api.Events.pages)
    def pages(self, *args: Any, **options: Any) -> Pages[Any, Any]:
        """As `np6_async.Events.pages`, an iterator."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared("contacts", args, options, handover, single=True)
        return Pages(self._loop, self._calls.pages(*args, **options), handover)
