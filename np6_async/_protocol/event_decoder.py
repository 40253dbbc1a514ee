"""Bytes of a response in, batches of events out. No I/O; memory is bounded by one event.

A response is a JSON array of objects. The decoder holds the bytes that are not a complete event yet, and what it
expects next. Each step adds a slice of the body and consumes the punctuation before the next event:

    BOM_OR_ARRAY, ARRAY  ->  EVENT_OR_END  ->  event  ->  COMMA_OR_END  ->  EVENT  ->  event  ->  ...  ->  NOTHING

Then it cuts what it holds after the last complete object, and msgspec splits that piece at once. A cheap search from
the end suggests the cut, and msgspec proves it: if ``[`` + piece + ``]`` is an array, no string and no nested value
can be open there. Only where the suggestion is wrong (objects nested in an array, JSON that msgspec does not accept)
or an event is larger than a slice does a slower scanner look for the ends of objects. The work is linear in the body,
whatever it holds and however it is chunked.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from functools import cache
from itertools import accumulate, islice, repeat
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

import msgspec
from attrs import frozen

from .._config import DecodeLimits
from .._errors import DecodeError, LimitExceeded, NP6Error, ProtocolError, StreamInterrupted
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
from .endpoint import Decoder

E = TypeVar("E", bound=Event)

SPACE: Final = b" \t\r\n"
BOM: Final = b"\xef\xbb\xbf"
# Slices in a response that is decoded at once: enough for 100 events.
_WHOLE_SLICES: Final = 2
# Opening braces to try, from the end of a piece, in search of the one that begins its last event.
_LOOK_BACK: Final = 64
# Values in an event that is not read in the fast way: reading more at once would take too long. They are counted by
# punctuation, so a few count twice, and so does punctuation inside text.
_MOST_VALUES: Final = 100_000
# The inside of a string, as far as it has arrived; brackets and strings, the last of which may be cut off.
_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TOKENS: Final = re.compile(rb'[{}\[\]]|"(?:[^"\\]++|\\.)*+(?:"|\\?)', re.DOTALL)
_STEPS: Final = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
# Bytes in the first window of a scan.
_WINDOW: Final = 64
_SEPARATOR: Final = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+(?=\{)")

_split: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
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


class _Expect(Enum):
    """What the next byte that is not white space must begin."""

    BOM_OR_ARRAY = auto()
    ARRAY = auto()
    EVENT_OR_END = auto()
    EVENT = auto()
    COMMA_OR_END = auto()
    NOTHING = auto()


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
        events = _plan(kind).decode(body, _split(body), demand or Demand())
    except convert.UNREADABLE:
        return None
    return events if len(events) <= limits.batch_events else None


class EventDecoder(Decoder[E]):
    """Decodes one response to an event query."""

    def __init__(self, kind: EventKind, limits: DecodeLimits, demand: Demand | None = None) -> None:
        super().__init__(limits)
        self._kind = kind
        self._demand = demand or Demand()
        self._expect = _Expect.BOM_OR_ARRAY
        self._pending: bytes | bytearray = b""  # looked at, not yet a complete event
        self._look_again = False  # whether `_pending` may hold complete events after all
        self._scan: _Scan | None = None  # of the event at the beginning of `_pending`, which is then a bytearray
        self._plan = _plan(kind)
        self._raws: list[msgspec.Raw] = []  # complete events, not yet decoded
        self._events: list[Event] = []  # decoded, not yet returned
        self._since_event = 0  # bytes looked at since the last complete event
        self._position = 0  # events decoded

    def next_batch(self) -> list[E] | None:
        """The next events in the order of the response, at most `batch_events`; None: feed more.

        Raises `ProtocolError` where the response is not an array, `DecodeError` at an event that cannot be read, and
        `LimitExceeded`; always after the events before the fault were returned.
        """
        most = self._limits.batch_events
        while True:
            if self._raws:
                raws, self._raws = self._raws[:most], self._raws[most:]
                self._events = self._decode_singly(raws)
            if self._events:
                events, self._events = self._events[:most], self._events[most:]
                return cast("list[E]", events)
            if self._fault is not None:
                raise self._fault
            if self._look_again:
                self._look_again = False
            elif piece := self._slice():
                self._since_event += len(piece)
                self._pending += piece
            else:
                self._received = b""
                return None
            try:
                self._take()
            except NP6Error as fault:
                self._fault = fault

    @property
    def done(self) -> bool:
        """Whether the array was closed, nothing has come after it so far, and every event was taken."""
        return (
            self._expect is _Expect.NOTHING
            and self._offset >= len(self._received)
            and self._fault is None
            and not (self._events or self._raws)
        )

    def finish(self) -> list[E]:
        """Raises `StreamInterrupted` unless the array was closed: a body cut short by the server, a proxy or a gzip
        stream may end without an HTTP error."""
        if self._fault is not None:
            raise self._fault
        if self._expect is not _Expect.NOTHING:
            raise StreamInterrupted("the response ended before the closing bracket of its array")
        return []

    def _take(self) -> None:
        """Move complete events of `_pending` to `_raws`."""
        buffer, end = self._pending, 0
        if self._expect is _Expect.BOM_OR_ARRAY and buffer[:1] == b"[" and buffer[-1:] == b"]":
            # Most often that is all there is. If not, it does not decode, or what follows is an error anyway.
            complete = self._decode_array(bytes(buffer))
            if complete:
                self._expect, self._pending, self._since_event = _Expect.NOTHING, b"", 0
                return
        if self._scan is not None:
            end = self._continue_scan(self._scan)
        else:
            buffer = self._punctuation(bytes(buffer))
            if buffer and self._expect in (_Expect.EVENT, _Expect.EVENT_OR_END):
                end = self._cut(buffer)
        if end:
            self._since_event = 0
            self._expect = _Expect.COMMA_OR_END
            buffer = self._punctuation(bytes(buffer[end:]))
        if self._scan is not None and not isinstance(buffer, bytearray):
            buffer = bytearray(buffer)  # now it grows in place
        self._pending = buffer
        if self._since_event > self._limits.event_bytes:
            raise LimitExceeded(f"no complete event within {self._limits.event_bytes} bytes of the response")

    def _punctuation(self, buffer: bytes) -> bytes:
        """Consume what stands between events; return what is left, which begins an event or is empty."""
        if self._expect is _Expect.BOM_OR_ARRAY:
            if len(buffer) < len(BOM) and BOM.startswith(buffer):
                return buffer
            self._expect = _Expect.ARRAY
            buffer = buffer.removeprefix(BOM)
        buffer = buffer.lstrip(SPACE)
        if self._expect is _Expect.ARRAY and buffer:
            if not buffer.startswith(b"["):
                raise ProtocolError.from_elsewhere(f"the response is {looks_like(buffer)}, not a JSON array of events")
            self._expect = _Expect.EVENT_OR_END
            buffer = buffer[1:].lstrip(SPACE)
        elif self._expect is _Expect.COMMA_OR_END and buffer.startswith(b","):
            self._expect = _Expect.EVENT
            buffer = buffer[1:].lstrip(SPACE)
        if self._expect in (_Expect.EVENT_OR_END, _Expect.COMMA_OR_END) and buffer.startswith(b"]"):
            self._expect = _Expect.NOTHING
            buffer = buffer[1:].lstrip(SPACE)
        if buffer and self._expect is _Expect.NOTHING:
            raise ProtocolError("the response continues after the end of its array")
        if buffer and self._expect is _Expect.COMMA_OR_END:
            raise ProtocolError("two events of the response are not separated by a comma")
        if buffer and not buffer.startswith(b"{"):
            raise unreadable("an element of the response is not a JSON object", self._position + len(self._raws))
        return buffer

    def _cut(self, buffer: bytes) -> int:
        """The length of the complete events at the beginning of `buffer`, which are moved to `_raws`."""
        after_brace = buffer.rfind(b"}") + 1
        rest = buffer[after_brace:].strip(SPACE)
        # Where `buffer` ends in the middle of an event, a member follows the last brace, or there is none.
        odd = after_brace > 0 and (not rest.startswith(b',"') or rest.endswith(b"]"))
        if odd and (rest in (b"", b",") or rest.startswith(b"]")):
            if self._decode_array(b"[%b]" % buffer[:after_brace]):
                return after_brace
            boundary = _last_boundary(buffer[:after_brace])
        else:
            boundary = _last_boundary(buffer)
        if boundary and self._decode_array(b"[%b]" % buffer[:boundary]):
            self._look_again = odd
            return boundary
        if boundary != 0 or odd or len(buffer) > self._limits.slice_bytes:
            return self._cut_by_scanning(buffer)
        return 0

    def _decode_array(self, array: bytes) -> bool:
        """Whether msgspec accepts `array`; its elements are then decoded, or moved to `_raws` where one is odd."""
        try:
            raws = _split(array)
        except convert.UNREADABLE:
            return False
        try:
            self._events = self._plan.decode(array, raws, self._demand)
        except convert.UNREADABLE:
            self._raws = raws
        else:
            self._position += len(raws)
        return True

    def _cut_by_scanning(self, buffer: bytes) -> int:
        """As `_cut`, object by object."""
        start = end = 0
        while True:
            scan = _Scan(self._limits.depth, start)
            found = scan.find_end(buffer)
            if not found:
                if not end:
                    self._scan = scan
                return end
            end = found
            self._raws.append(msgspec.Raw(buffer[start:end]))
            separator = _SEPARATOR.match(buffer, end)
            if separator is None:
                return end
            start = separator.end()

    def _continue_scan(self, scan: _Scan) -> int:
        """The length of the one event at the beginning of `_pending`; 0 while it is not complete."""
        end = scan.find_end(self._pending)
        if end:
            self._scan = None
            self._look_again = True
            self._raws.append(msgspec.Raw(bytes(self._pending[:end])))
        return end

    def _decode_singly(self, raws: list[msgspec.Raw]) -> list[Event]:
        """The events of `raws` up to the first that cannot be read, which sets `_fault`."""
        events: list[Event] = []
        for raw in raws:
            try:
                events += self._plan.decode(b"[%b]" % raw, [raw], self._demand)
            except convert.UNREADABLE:
                event = self._decode_tolerant(bytes(raw))
                if event is None:
                    break
                events.append(event)
            self._position += 1
        return events

    def _decode_tolerant(self, raw: bytes) -> Event | None:
        """The event of `raw`; None if it cannot be read: then the response ends here, and `_fault` says why."""
        try:
            if sum(map(raw.count, (b",", b"[", b"{"))) > _MOST_VALUES:
                raise LimitExceeded(f"an event of an undocumented shape holds more than {_MOST_VALUES} values")
            return structure_tolerant(convert.loads(raw), raw, self._kind)
        except LimitExceeded as error:
            self._fault = LimitExceeded(*error.args)
        except DecodeError as error:
            self._fault = unreadable(str(error), self._position)
        except ValueError:
            self._fault = unreadable("an event is not valid JSON", self._position)
        self._raws = []
        return None


class _Scan:
    """Finds where the object that begins at `start` ends; `find_end` is called again when the buffer has grown.

    It scans windows of doubling size, each with all its brackets at once: the work is linear in the bytes, however
    small the pieces by which the buffer grows, and there is no Python loop over brackets.
    """

    def __init__(self, max_depth: int, start: int) -> None:
        self._max_depth = max_depth
        self._depth = 0
        self._offset = start
        self._in_string = False

    def find_end(self, buffer: bytes | bytearray) -> int:
        """The offset just after the object; 0 while it is not complete."""
        window = _WINDOW
        while self._offset < len(buffer):
            if self._in_string:
                self._offset = _end(_STRING, buffer, self._offset)
                if buffer[self._offset : self._offset + 1] != b'"':
                    break
                self._in_string = False
                self._offset += 1
            piece = bytes(buffer[self._offset : self._offset + window])
            tokens = _TOKENS.findall(piece)
            depths = list(accumulate(map(_STEPS.get, tokens, repeat(0)), initial=self._depth))[1:]
            last = depths.index(0) if 0 in depths else None
            if max(depths[:last], default=0) > self._max_depth:
                raise LimitExceeded(f"an event is nested deeper than {self._max_depth} levels")
            if last is not None:
                return self._offset + next(islice(_TOKENS.finditer(piece), last, None)).end()
            self._offset += len(piece)
            if tokens:
                self._depth = depths[-1]
                if tokens[-1].startswith(b'"'):
                    rest = tokens[-1][_end(_STRING, tokens[-1], 1) :]
                    self._in_string = rest != b'"'
                    self._offset -= rest == b"\\"  # what it escapes has not arrived yet
            window *= 2
        return 0


def _end(pattern: re.Pattern[bytes], buffer: bytes | bytearray, offset: int) -> int:
    match = pattern.match(buffer, offset)
    assert match is not None  # the patterns match an empty string, too
    return match.end()


def unreadable(message: str, position: int) -> DecodeError:
    """The error of an element that cannot be read, with its place."""
    error = DecodeError(f"{message} (element {position} of the response)")
    error.position = position
    return error


def is_cut(body: bytes, limits: DecodeLimits) -> bool:
    """Whether the object or array that `body` begins with is cut off."""
    return not _Scan(limits.depth, 0).find_end(body)


def _last_boundary(body: bytes) -> int | None:
    """The offset after the last ``}`` that is followed by a comma and a ``{``; 0 if there is none; None if finding out
    would take too long."""
    brace = len(body)
    for _ in range(_LOOK_BACK):
        brace = body.rfind(b"{", 0, brace)
        if brace <= 0:
            return 0
        before = body[max(0, brace - 64) : brace].rstrip(SPACE)
        if before.endswith(b","):
            before = before[:-1].rstrip(SPACE)
            if before.endswith(b"}"):
                return max(0, brace - 64) + len(before)
    return None


def looks_like(buffer: bytes) -> str:
    """What kind of thing a response is, without quoting it."""
    if buffer.startswith(b"<"):
        return "an HTML or XML page"
    if buffer.startswith(b"{"):
        return "a JSON object"
    if buffer.startswith((b'"', b"null", b"true", b"false", b"-")) or buffer[:1].isdigit():
        return "a single JSON value"
    return "neither JSON nor text in UTF-8" if buffer[0] > 0x7F or buffer[0] < 0x20 else "plain text"
