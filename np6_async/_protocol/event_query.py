"""The events of contacts or of actions: of one kind, in one window of time."""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter
from typing import Any, ClassVar, Final, TypeVar

from attrs import field, frozen

from .._config import DecodeLimits
from .._models.actions import Action, parse_action
from .._models.contacts import Contact, parse, path_template, target_path
from .._models.events import EventKind
from .._models.time_bounds import Window, isoformat
from .endpoint import Endpoint
from .event_decoder import Demand, EventDecoder, decode_whole
from .resume import ResumePoint

S = TypeVar("S", Contact, Action)

_timestamp: Final = attrgetter("timestamp")
_id: Final = attrgetter("id")
_LATEST: Final = 253_402_300_799_998  # ms since 1970: two before the end of the year 9999


@frozen
class EventQuery(Endpoint[S, Any]):
    """What is requested for each contact or action."""

    kind: EventKind
    window: Window
    newest_first: bool = False
    classification: str | None = None
    missing_is_empty: bool = False
    demand: Demand = field(factory=Demand, eq=False, repr=False)

    subjects: ClassVar[str]
    """What the events are of, in the plural."""
    kinds: ClassVar[frozenset[EventKind]]
    """Those that there are for these subjects."""
    family: ClassVar[str] = "/events"
    """The part of the path before that of the kind; it also names what cannot be had of some kinds."""
    bounds: ClassVar[tuple[str, str]] = ("start", "end")
    """The parameters of the window."""
    arguments: ClassVar[tuple[str, str]] = ("start", "end")
    """What the caller calls its bounds."""

    @cached_property
    def empty(self) -> bool:
        """Whether no event can lie in the window."""
        return self.window.empty

    def empty_if_missing(self, subject: S) -> bool:
        """Whether a 404 means that there are no events."""
        return self.missing_is_empty

    @cached_property
    def suffix(self) -> str:
        """The end of the path."""
        return f"{self.family}{self.kind.suffix}"

    @cached_property
    def _parameters(self) -> str:
        return self._encode(self.window)

    @staticmethod
    def parse(given: Any, /) -> S:
        """The contact or action that the caller means; raises `InvalidInput`."""
        raise NotImplementedError

    def path(self, subject: S) -> tuple[str, str]:
        """Path and query without the parameters of the events."""
        raise NotImplementedError

    def identity(self, subject: S | None = None) -> list[object]:
        """What a cursor is bound to, whatever the window: all of the query, and the subject where there is one."""
        raise NotImplementedError

    def label(self, subject: S) -> str:
        """The contact or the action, for messages."""
        return subject.label

    def target(self, subject: S, progress: ResumePoint) -> tuple[str, str]:
        """Path and query of a request for what is not delivered yet."""
        if progress.window is self.window:
            return self.first_target(subject)
        return self._joined(*self.path(subject), self._encode(progress.window))

    def first_target(self, subject: S) -> tuple[str, str]:
        """Path and query of a request for everything."""
        return self._joined(*self.path(subject), self._parameters)

    def probe_target(self, subject: S, number: int) -> tuple[str, str]:
        """A request for one millisecond."""
        first = min((self.window.start or 0) + number, _LATEST)
        return self.target(subject, ResumePoint(Window(first, first + 1)))

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
        parts += encode_bounds(window, self.bounds)
        if self.classification is not None:
            parts.append(f"classification={self.classification}")
        return "&".join(parts)

    @staticmethod
    def _joined(path: str, query: str, parameters: str) -> tuple[str, str]:
        return path, f"{query}&{parameters}" if query else parameters


@frozen
class ContactQuery(EventQuery[Contact]):
    """The events of contacts: `/targets/{id}/events`, and `/targets/events` for contacts by unicity or hash."""

    subjects = "contacts"
    kinds = frozenset(EventKind) - {EventKind.CANCELLATIONS}
    parse = staticmethod(parse)

    def template(self, subject: Contact) -> str:
        """The path without the contact, for logs."""
        return path_template(subject, self.suffix)

    def identity(self, subject: Contact | None = None) -> list[object]:
        """What a cursor is bound to, whatever the window."""
        mode = [self.kind.value, self.classification]
        return [mode] if subject is None else [mode, self.newest_first, subject.kind, subject.value]

    def path(self, subject: Contact) -> tuple[str, str]:
        """Path and query without the parameters of the events."""
        return target_path(subject, self.suffix)

    def first_target(self, subject: Contact) -> tuple[str, str]:
        """Path and query of a request for everything."""
        if subject.kind == "id":  # as `target_path` has it, in fewer calls
            return f"/targets/{subject.value}{self.suffix}", self._parameters
        return self._joined(*self.path(subject), self._parameters)


@frozen
class ActionQuery(EventQuery[Action]):
    """The events of all contacts, by action: `/actions/{id}/events`, and `/actions/events` for those of all actions."""

    subjects = "actions"
    kinds = frozenset(EventKind)
    parse = staticmethod(parse_action)

    def empty_if_missing(self, subject: Action) -> bool:
        """Whether a 404 means that there are no events: the account exists, so that the address must be wrong."""
        return self.missing_is_empty and subject.id is not None

    def template(self, subject: Action) -> str:
        """The path without the id, for logs."""
        return subject.path_template(self.suffix)

    def identity(self, subject: Action | None = None) -> list[object]:
        """What a cursor is bound to, whatever the window."""
        mode = [self.family, self.kind.value, self.classification]
        return [mode] if subject is None else [mode, self.newest_first, subject.id]

    def path(self, subject: Action) -> tuple[str, str]:
        """Path and query without the parameters of the events."""
        return subject.path(self.suffix), ""


@frozen
class ReactivityQuery(ActionQuery):
    """The reactions to what was sent within `sent`: `/actions/{id}/reactivities`. `window` bounds the reactions."""

    sent: Window = field(default=Window(), kw_only=True)

    kinds = frozenset(kind for kind in EventKind if kind.is_hits) | {EventKind.ALL, EventKind.BOUNCES}
    family = "/reactivities"
    bounds = ("reactivityStart", "reactivityEnd")
    arguments = ("reacted[0]", "reacted[1]")

    @cached_property
    def empty(self) -> bool:
        """Whether no event can lie in both windows."""
        return self.window.empty or self.sent.empty

    def _encode(self, window: Window) -> str:
        return "&".join([super()._encode(window), *encode_bounds(self.sent, ("activationStart", "activationEnd"))])


def encode_bounds(window: Window, names: tuple[str, str]) -> list[str]:
    """The parameters of a window, which are called `names`."""
    bounds = zip(names, (window.start, window.end), strict=True)
    return [f"{name}={isoformat(bound)}" for name, bound in bounds if bound is not None]
