"""The events of a response: what an `ArrayDecoder` splits is decoded at once, many events at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from itertools import repeat
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

import msgspec
from attrs import frozen

from .._config import DecodeLimits
from .._models import convert
from .._models.events import (
    EVENT_TYPES,
    DetailedEvent,
    Event,
    EventKind,
    UnknownEvent,
    event_class,
    is_structured,
    set_identity,
    set_raw,
    set_type,
    structure_tolerant,
)
from .array_decoder import ArrayDecoder, split

E = TypeVar("E", bound=Event)

# Slices in a response that is decoded at once: enough for 100 events.
_WHOLE_SLICES: Final = 2
_decode_details: Final = msgspec.json.Decoder(list[DetailedEvent]).decode
_raw_identity: Final = attrgetter("identity")
_shared: Final = convert.Identities().__getitem__
_set_class: Final = object.__dict__["__class__"].__set__
_exhaust: Final[Callable[[Iterable[Any]], object]] = deque(maxlen=0).extend  # run a chain of iterators, at C speed
_type: Final = attrgetter("type")


class _Classes(dict[str | None, type[Event]]):
    """The class of events by their type."""

    def __missing__(self, _: str | None) -> type[Event]:
        return UnknownEvent


_class: Final = _Classes(EVENT_TYPES).__getitem__


class Demand:
    """Whether the consumers of a client read the details of events, as a sample of earlier ones shows.

    Where they do, details are decoded in the same pass as the events, at a third of what they cost later. While they
    are, it cannot be seen whether they are read, so from time to time they are not, and a sample is taken again.
    """

    BATCHES: Final = 32

    def __init__(self) -> None:
        self.sample: Event | None = None
        self.age = 0  # of the sample, in batches: events may wait for their consumer while others are decoded
        self._left = 0  # batches to decode with their details

    def expects_details(self) -> bool:
        """Whether to decode the next batch with its details."""
        if not self._left:
            if self.sample is None or not is_structured(self.sample):
                return False
            self.sample = None
            self._left = self.BATCHES
        self._left -= 1
        return True


@frozen
class _Plan:
    """How the events of one kind are decoded. `cls` is None where their type decides the class."""

    cls: type[Event] | None
    default_type: str | None
    decode_array: Callable[[bytes], list[Event]]

    def decode(self, array: bytes, raws: list[msgspec.Raw], demand: Demand) -> list[Event]:
        """The events of `array`, whose elements are `raws`; raises where one does not have the documented shape."""
        events = self._decode_details(array) if demand.expects_details() else None
        if events is None:
            events = self.decode_array(array)
            demand.age += 1
            if events and (demand.sample is None or demand.age > demand.BATCHES):
                demand.sample, demand.age = events[0], 0
            if self.cls is None:
                # The classes differ in behaviour alone, not in layout. Changing the class of an event that nobody else
                # has seen costs a tenth of building a second one.
                _exhaust(map(_set_class, events, map(_class, map(_type, events))))
        _exhaust(map(set_raw, events, map(bytes, raws)))
        try:
            shared = list(map(_shared, map(bytes, map(_raw_identity, events))))
        except TypeError:  # an event has none
            shared = [_shared(bytes(cast("Any", event.identity) or b"null")) for event in events]
        _exhaust(map(set_identity, events, shared))
        if self.default_type is not None:
            for event in events:
                if event.type is None:
                    set_type(event, self.default_type)
        return events

    def _decode_details(self, array: bytes) -> list[Event] | None:
        """The events with their details; None where these are not of the documented shape."""
        try:
            events = _decode_details(array)
        except convert.UNREADABLE:
            return None
        classes = map(_class, map(_type, events)) if self.cls is None else repeat(self.cls)
        _exhaust(map(_set_class, events, classes))
        return events  # type: ignore[return-value]


@cache
def _plan(kind: EventKind) -> _Plan:
    cls = event_class(kind)
    return _Plan(
        cls,
        kind.default_type,
        msgspec.json.Decoder(list[cls or Event]).decode,  # type: ignore[misc]
    )


def decode_whole(body: bytes, kind: EventKind, limits: DecodeLimits, demand: Demand | None = None) -> list[Any] | None:
    """The events of a complete response of ordinary size and shape; None where it takes an `EventDecoder`.

    Most responses are of this kind, and for a few events the decoder's bookkeeping costs more than the decoding.
    """
    if len(body) > _WHOLE_SLICES * limits.slice_bytes or body[:1] != b"[" or body[-1:] != b"]":
        return None
    try:
        events = _plan(kind).decode(body, split(body), demand or Demand())
    except convert.UNREADABLE:
        return None
    return events if len(events) <= limits.batch_events else None


class EventDecoder(ArrayDecoder[E]):
    """Decodes one response to an event query."""

    elements = "events"

    def __init__(self, kind: EventKind, limits: DecodeLimits, demand: Demand | None = None) -> None:
        super().__init__(limits)
        self._kind = kind
        self._demand = demand or Demand()
        self._plan = _plan(kind)

    def decode(self, array: bytes, raws: list[msgspec.Raw]) -> list[E]:
        """The events of `array`."""
        return cast("list[E]", self._plan.decode(array, raws, self._demand))

    def decode_tolerant(self, data: Any, raw: bytes) -> E:
        """The event of one object."""
        return cast("E", structure_tolerant(data, raw, self._kind))
