"""The events of contacts: of one kind, in one window of time."""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter
from typing import Any, Final

from attrs import field, frozen

from .._config import DecodeLimits
from .._models.contacts import Contact, path_template, target_path
from .._models.events import EventKind
from .._models.time_bounds import Window, isoformat
from .endpoint import Endpoint
from .event_decoder import Demand, EventDecoder, decode_whole
from .resume import ResumePoint

_timestamp: Final = attrgetter("timestamp")
_id: Final = attrgetter("id")
_LATEST: Final = 253_402_300_799_998  # ms since 1970: two before the end of the year 9999


@frozen
class EventQuery(Endpoint[Contact, Any]):
    """What is requested for each contact."""

    kind: EventKind
    window: Window
    newest_first: bool = False
    classification: str | None = None
    missing_is_empty: bool = False
    demand: Demand = field(factory=Demand, eq=False, repr=False)

    @cached_property
    def empty(self) -> bool:
        """Whether no event can lie in the window."""
        return self.window.empty

    @cached_property
    def _suffix(self) -> str:
        return f"/events{self.kind.suffix}"

    @cached_property
    def _parameters(self) -> str:
        return self._encode(self.window)

    def template(self, contact: Contact) -> str:
        """The path without the contact, for logs."""
        return path_template(contact, self._suffix)

    def label(self, contact: Contact) -> str:
        """The contact, for messages."""
        return contact.label

    def target(self, contact: Contact, progress: ResumePoint) -> tuple[str, str]:
        """Path and query of a request for what is not delivered yet."""
        if progress.window is self.window:
            return self.first_target(contact)
        path, query = target_path(contact, self._suffix)
        parameters = self._encode(progress.window)
        return path, f"{query}&{parameters}" if query else parameters

    def first_target(self, contact: Contact) -> tuple[str, str]:
        """Path and query of a request for everything."""
        if contact.kind == "id":  # as `target_path` has it
            return f"/targets/{contact.value}{self._suffix}", self._parameters
        path, query = target_path(contact, self._suffix)
        return path, f"{query}&{self._parameters}" if query else self._parameters

    def probe_target(self, contact: Contact, number: int) -> tuple[str, str]:
        """A request for one millisecond."""
        first = min((self.window.start or 0) + number, _LATEST)
        return self.target(contact, ResumePoint(Window(first, first + 1)))

    def read_whole(self, body: bytes, limits: DecodeLimits) -> list[Any] | None:
        """The events of a whole response that are to be delivered as they are, in order, once each, in the window.

        None where `whole` and a `ResumePoint` must look at it more closely.
        """
        events = decode_whole(body, self.kind, limits, self.demand)
        if not events:
            return events
        times = list(map(_timestamp, events))
        if times != sorted(times, reverse=self.newest_first):
            return None
        first, last = (times[-1], times[0]) if self.newest_first else (times[0], times[-1])
        start, end = self.window.start, self.window.end
        if (start is not None and first < start) or (end is not None and last >= end):
            return None
        ids = set(map(_id, events))
        return events if len(ids) == len(events) and None not in ids and "" not in ids else None

    def progress(self) -> ResumePoint:
        """A resume point at the beginning of the window."""
        return ResumePoint(self.window, newest_first=self.newest_first)

    def whole(self, body: bytes, limits: DecodeLimits) -> list[Any] | None:
        """All events of a response that needs no decoder; None for any other."""
        return decode_whole(body, self.kind, limits, self.demand)

    def decoder(self, limits: DecodeLimits) -> EventDecoder[Any]:
        """The decoder of one response."""
        return EventDecoder(self.kind, limits, self.demand)

    def _encode(self, window: Window) -> str:
        parts = ["sort=desc" if self.newest_first else "sort=asc"]
        if window.start is not None:
            parts.append(f"start={isoformat(window.start)}")
        if window.end is not None:
            parts.append(f"end={isoformat(window.end)}")
        if self.classification is not None:
            parts.append(f"classification={self.classification}")
        return "&".join(parts)
