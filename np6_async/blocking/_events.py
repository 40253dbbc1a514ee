"""The calls of a blocking client for the events of contacts: `np6.events`."""

from __future__ import annotations

import builtins  # `Events.list` hides the builtin inside its class
from typing import Any, Unpack, overload

from .._api import events as _api
from .._api.events import BulkOptions, EventOptions, ListOptions, PageOptions
from .._api.kinds import Activations, All, Bounces, Hits, Stops
from .._models.contacts import Contact
from .._models.events import Activation, Bounce, Event, Hit, Optout
from .._streams.contact_queue import ContactIterable
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
        self, contacts: ContactIterable, kind: Activations, **options: Unpack[BulkOptions]
    ) -> BulkStream[Activation]: ...

    @overload
    def stream_many(
        self, contacts: ContactIterable, kind: Bounces, **options: Unpack[BulkOptions]
    ) -> BulkStream[Bounce]: ...

    @overload
    def stream_many(
        self, contacts: ContactIterable, kind: Stops, **options: Unpack[BulkOptions]
    ) -> BulkStream[Optout]: ...

    @overload
    def stream_many(self, contacts: ContactIterable, kind: Hits, **options: Unpack[BulkOptions]) -> BulkStream[Hit]: ...

    @overload
    def stream_many(
        self, contacts: ContactIterable, kind: str = ..., **options: Unpack[BulkOptions]
    ) -> BulkStream[Event]: ...

    @mirrors(_api.Events.stream_many)
    def stream_many(self, *args: Any, **options: Any) -> BulkStream[Any]:
        """As `np6_async.Events.stream_many`, for ``with`` and ``for``."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared("contacts", args, options, handover)
        return BulkStream(self._loop, self._calls.stream_many(*args, **options), handover)

    @overload
    def list(
        self, contact: str | Contact, kind: Activations, **options: Unpack[ListOptions]
    ) -> builtins.list[Activation]: ...

    @overload
    def list(self, contact: str | Contact, kind: Bounces, **options: Unpack[ListOptions]) -> builtins.list[Bounce]: ...

    @overload
    def list(self, contact: str | Contact, kind: Stops, **options: Unpack[ListOptions]) -> builtins.list[Optout]: ...

    @overload
    def list(self, contact: str | Contact, kind: Hits, **options: Unpack[ListOptions]) -> builtins.list[Hit]: ...

    @overload
    def list(self, contact: str | Contact, kind: All = ..., **options: Unpack[ListOptions]) -> builtins.list[Event]: ...

    @overload
    def list(self, contact: str | Contact, kind: str, **options: Unpack[ListOptions]) -> builtins.list[Any]: ...

    @mirrors(_api.Events.list)
    def list(self, *args: Any, **options: Any) -> builtins.list[Any]:
        """As `np6_async.Events.list`; returns when it has them."""
        return call(self._loop, lambda: self._calls.list(*args, **options))

    @overload
    def pages(
        self, contacts: str | Contact | ContactIterable, kind: Activations, **options: Unpack[PageOptions]
    ) -> Pages[Activation]: ...

    @overload
    def pages(
        self, contacts: str | Contact | ContactIterable, kind: Bounces, **options: Unpack[PageOptions]
    ) -> Pages[Bounce]: ...

    @overload
    def pages(
        self, contacts: str | Contact | ContactIterable, kind: Stops, **options: Unpack[PageOptions]
    ) -> Pages[Optout]: ...

    @overload
    def pages(
        self, contacts: str | Contact | ContactIterable, kind: Hits, **options: Unpack[PageOptions]
    ) -> Pages[Hit]: ...

    @overload
    def pages(
        self, contacts: str | Contact | ContactIterable, kind: str = ..., **options: Unpack[PageOptions]
    ) -> Pages[Event]: ...

    @mirrors(_api.Events.pages)
    def pages(self, *args: Any, **options: Any) -> Pages[Any]:
        """As `np6_async.Events.pages`, an iterator."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared("contacts", args, options, handover, single=True)
        return Pages(self._loop, self._calls.pages(*args, **options), handover)
