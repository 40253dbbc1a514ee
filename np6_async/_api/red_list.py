"""The calls of a client about the contacts that must not be written to: `np6.redlist`."""

from __future__ import annotations

from typing import Literal

from .._models.time_bounds import Bound
from .._protocol.red_list import RedListQuery
from .._streams.event_stream import RedListEntries
from .._streams.fetch import Fetch
from .._streams.runtime import Runtime
from .event_requests import EventRequests


class RedList:
    """The contacts that must not be written to; reached as `NP6Client.redlist`.

    `start` and `end` bound the time at which a contact got onto the list, and are written as those of events are; None
    is no bound. They are sent as ``startDate`` and ``endDate``, and every entry that the server returns is delivered:
    whether one at `end` itself is among them is not documented. With equal bounds nothing is requested.

    No request is sent before the iterator is iterated. Requests are paced, retried and limited as those for events are.
    Invalid bounds raise `InvalidBound`, before any I/O. The path is documented; the shape of the entries comes from an
    older reference, so any of their members may be None.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def mail(self, start: Bound | None = None, end: Bound | None = None) -> RedListEntries:
        """The contacts that must not get e-mails (``GET /targets/redlist/mail``), streamed."""
        return self._entries("mail", start, end)

    def sms(self, start: Bound | None = None, end: Bound | None = None) -> RedListEntries:
        """The contacts that must not get text messages (``GET /targets/redlist/sms``), streamed."""
        return self._entries("sms", start, end)

    def _entries(self, channel: Literal["mail", "sms"], start: Bound | None, end: Bound | None) -> RedListEntries:
        query = RedListQuery(channel, EventRequests(self._runtime).window(start, end, ("start", "end")))
        return RedListEntries(Fetch(self._runtime, None, query, self._runtime.slots))
