"""The calls of a blocking client that answer for all contacts of the account: `np6.actions` and `np6.reactivities`."""

from __future__ import annotations

from typing import Any, Unpack, overload

from .._api import actions as _api
from .._api.actions import (
    ActionBulkOptions,
    ActionIterable,
    ActionListOptions,
    ActionOptions,
    ActionPageOptions,
    ReactivityBulkOptions,
    ReactivityListOptions,
    ReactivityOptions,
    ReactivityPageOptions,
)
from .._api.kinds import Activations, Bounces, Cancellations, Hits, Stops
from .._models.event_list import EventList
from .._models.events import Activation, Bounce, Cancellation, Event, Hit, Optout
from ._bulk import BulkStream
from ._callbacks import prepared
from ._handover import Handover
from ._job import call
from ._loop import Loop
from ._mirror import mirrors
from ._pages import Pages
from ._streams import ActionStream


class Actions:
    """The events of all contacts, by action; reached as `np6_async.blocking.NP6Client.actions`.

    The calls, their arguments and their errors are those of `np6_async.Actions`.
    """

    def __init__(self, loop: Loop, calls: _api.Actions) -> None:
        self._loop = loop
        self._calls = calls

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

    @mirrors(_api.Actions.stream)
    def stream(self, *args: Any, **options: Any) -> ActionStream[Any]:
        """As `np6_async.Actions.stream`, an iterator."""
        return ActionStream(self._loop, self._calls.stream(*args, **options))

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

    @mirrors(_api.Actions.stream_many)
    def stream_many(self, *args: Any, **options: Any) -> BulkStream[Any, Any]:
        """As `np6_async.Actions.stream_many`, for ``with`` and ``for``."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared("actions", args, options, handover)
        return BulkStream(self._loop, self._calls.stream_many(*args, **options), handover)

    @overload
    def list(  # pyright: ignore[reportOverlappingOverload] - a list of activations is no list of events
        self, kind: Activations, **options: Unpack[ActionListOptions]
    ) -> EventList[Activation]: ...

    @overload
    def list(self, kind: Cancellations, **options: Unpack[ActionListOptions]) -> EventList[Cancellation]: ...

    @overload
    def list(self, kind: Bounces, **options: Unpack[ActionListOptions]) -> EventList[Bounce]: ...

    @overload
    def list(self, kind: Stops, **options: Unpack[ActionListOptions]) -> EventList[Optout]: ...

    @overload
    def list(self, kind: Hits, **options: Unpack[ActionListOptions]) -> EventList[Hit]: ...

    @overload
    def list(self, kind: str = ..., **options: Unpack[ActionListOptions]) -> EventList[Event]: ...

    @mirrors(_api.Actions.list)
    def list(self, *args: Any, **options: Any) -> EventList[Any]:
        """As `np6_async.Actions.list`; returns when it has them."""
        return call(self._loop, lambda: self._calls.list(*args, **options))

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

    @mirrors(_api.Actions.pages)
    def pages(self, *args: Any, **options: Any) -> Pages[Any, Any]:
        """As `np6_async.Actions.pages`, an iterator."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared(None, args, options, handover)
        return Pages(self._loop, self._calls.pages(*args, **options), handover)


class Reactivities:
    """What contacts did after messages; reached as `np6_async.blocking.NP6Client.reactivities`.

    The calls, their arguments and their errors are those of `np6_async.Reactivities`.
    """

    def __init__(self, loop: Loop, calls: _api.Reactivities) -> None:
        self._loop = loop
        self._calls = calls

    @overload
    def stream(self, kind: Bounces, **options: Unpack[ReactivityOptions]) -> ActionStream[Bounce]: ...

    @overload
    def stream(self, kind: Hits, **options: Unpack[ReactivityOptions]) -> ActionStream[Hit]: ...

    @overload
    def stream(self, kind: str = ..., **options: Unpack[ReactivityOptions]) -> ActionStream[Event]: ...

    @mirrors(_api.Reactivities.stream)
    def stream(self, *args: Any, **options: Any) -> ActionStream[Any]:
        """As `np6_async.Reactivities.stream`, an iterator."""
        return ActionStream(self._loop, self._calls.stream(*args, **options))

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

    @mirrors(_api.Reactivities.stream_many)
    def stream_many(self, *args: Any, **options: Any) -> BulkStream[Any, Any]:
        """As `np6_async.Reactivities.stream_many`, for ``with`` and ``for``."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared("actions", args, options, handover)
        return BulkStream(self._loop, self._calls.stream_many(*args, **options), handover)

    @overload
    def list(  # pyright: ignore[reportOverlappingOverload] - a list of bounces is no list of events
        self, kind: Bounces, **options: Unpack[ReactivityListOptions]
    ) -> EventList[Bounce]: ...

    @overload
    def list(self, kind: Hits, **options: Unpack[ReactivityListOptions]) -> EventList[Hit]: ...

    @overload
    def list(self, kind: str = ..., **options: Unpack[ReactivityListOptions]) -> EventList[Event]: ...

    @mirrors(_api.Reactivities.list)
    def list(self, *args: Any, **options: Any) -> EventList[Any]:
        """As `np6_async.Reactivities.list`; returns when it has them."""
        return call(self._loop, lambda: self._calls.list(*args, **options))

    @overload
    def pages(self, kind: Bounces, **options: Unpack[ReactivityPageOptions]) -> Pages[str, Bounce]: ...

    @overload
    def pages(self, kind: Hits, **options: Unpack[ReactivityPageOptions]) -> Pages[str, Hit]: ...

    @overload
    def pages(self, kind: str = ..., **options: Unpack[ReactivityPageOptions]) -> Pages[str, Event]: ...

    @mirrors(_api.Reactivities.pages)
    def pages(self, *args: Any, **options: Any) -> Pages[Any, Any]:
        """As `np6_async.Reactivities.pages`, an iterator."""
        handover: Handover[Any] = Handover(self._loop)
        args, options = prepared(None, args, options, handover)
        return Pages(self._loop, self._calls.pages(*args, **options), handover)
