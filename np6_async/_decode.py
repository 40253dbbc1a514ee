"""Bytes of an answer in, batches of events out. No I/O, memory bounded by one event.

An answer is a JSON array of objects. What has arrived is cut after its last complete object, and msgspec
splits the piece in one go. The cut is found by a cheap search from the end and is proved by the decoder: if
``[`` + piece + ``]`` is an array, then no string and no nested value can be open at the cut. Only where the
cheap search is fooled, by objects nested in an array or by JSON that msgspec does not take, does a slower
scanner look for the end of a single object; it never looks at a byte twice.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from attrs import frozen

from . import _convert
from ._errors import DecodeError, LimitExceeded, NP6Error, ProtocolError, StreamInterrupted
from ._events import EVENT_TYPES, Event, EventKind, UnknownEvent, event_class, structure_tolerant

E = TypeVar("E", bound=Event)

_SPACE: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
# Opening braces to look at, from the end of a piece, for the one that begins its last event.
_LOOK_BACK: Final = 64
_TOKEN: Final = re.compile(rb'["{}\[\]]')
_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)

_split: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_set: Final = object.__setattr__
_decoders: dict[type[Event], Any] = {}


@frozen
class DecodeLimits:
    """What an answer may cost.

    `event_bytes` bounds one event (default 2 MiB) and `depth` its nesting (default 128); an answer that goes
    over raises `LimitExceeded`. `slice_bytes` and `batch_events` bound the work done between two looks at
    the event loop, not the answer.
    """

    event_bytes: int = 2 * 1024 * 1024
    depth: int = 128
    slice_bytes: int = 32 * 1024
    batch_events: int = 256


class _Expect(Enum):
    """What the next byte that is no white space must begin."""

    ARRAY = auto()
    EVENT_OR_END = auto()
    EVENT = auto()
    COMMA_OR_END = auto()
    NOTHING = auto()


class Decoder(Generic[E]):
    """Decodes one answer. Feed bytes, take batches until None, feed again; `finish` at the end of the body."""

    def __init__(self, kind: EventKind, limits: DecodeLimits) -> None:
        self._kind = kind
        self._limits = limits
        self._expect = _Expect.ARRAY
        self._received = b""  # fed, not yet looked at
        self._pending = b""  # looked at, not yet a complete event
        self._look_again = False  # whether `_pending` may hold complete events all the same
        self._scan: _Scan | None = None  # at work on the event that `_pending` begins with
        self._raws: list[msgspec.Raw] = []  # complete events, not yet decoded
        self._fault: NP6Error | None = None  # raised once the events before it were taken
        self._since_event = 0  # bytes looked at since the last complete event
        self._position = 0  # events decoded

    def feed(self, data: bytes) -> None:
        """Add bytes of the body, after every batch of the bytes before was taken."""
        self._received = data

    def next_batch(self) -> list[E] | None:
        """The next events in the order of the answer, at most `batch_events`; None: feed more.

        Raises `ProtocolError` where the answer is no array, `DecodeError` at an event that cannot be read
        and `LimitExceeded`; always after the events before the fault were returned.
        """
        size = self._limits.slice_bytes
        while True:
            if self._raws:
                raws, self._raws = self._raws, []
                if len(raws) > self._limits.batch_events:
                    raws, self._raws = raws[: self._limits.batch_events], raws[self._limits.batch_events :]
                if events := self._decode(raws):
                    return events
            if self._fault is not None:
                raise self._fault
            if self._look_again:
                buffer, self._look_again = self._pending, False
            elif self._received:
                piece, self._received = self._received[:size], self._received[size:]
                self._since_event += len(piece)
                buffer = self._pending + piece
            else:
                return None
            try:
                self._take(buffer)
            except NP6Error as fault:
                self._fault = fault

    def finish(self) -> None:
        """The body ended. Raises `StreamInterrupted` unless the array was closed: a body cut short by the
        server, a proxy or a gzip stream may end without any error of HTTP."""
        if self._expect is not _Expect.NOTHING:
            raise StreamInterrupted("the answer ended before the closing bracket of its array")

    def _take(self, buffer: bytes) -> None:
        """Move complete events of `buffer` to `_raws`, and keep the rest in `_pending`."""
        buffer = self._punctuation(buffer)
        if buffer and self._expect in (_Expect.EVENT, _Expect.EVENT_OR_END):
            end = self._cut(buffer) if self._scan is None else self._find_end(buffer)
            if end:
                self._since_event = 0
                self._expect = _Expect.COMMA_OR_END
                buffer = self._punctuation(buffer[end:])
        self._pending = buffer
        if self._since_event > self._limits.event_bytes:
            raise LimitExceeded(f"no complete event within {self._limits.event_bytes} bytes of the answer")

    def _punctuation(self, buffer: bytes) -> bytes:
        """Consume what stands between events; return what is left, which begins an event or is empty."""
        if self._scan is not None:
            return buffer
        buffer = buffer.lstrip(_SPACE)
        if self._expect is _Expect.ARRAY:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                return buffer
            buffer = buffer.removeprefix(_BOM).lstrip(_SPACE)
            if buffer and not buffer.startswith(b"["):
                raise ProtocolError(f"the answer is {_looks_like(buffer)}, not a JSON array of events")
            if buffer:
                self._expect = _Expect.EVENT_OR_END
                buffer = buffer[1:].lstrip(_SPACE)
        elif self._expect is _Expect.COMMA_OR_END and buffer.startswith(b","):
            self._expect = _Expect.EVENT
            buffer = buffer[1:].lstrip(_SPACE)
        if self._expect in (_Expect.EVENT_OR_END, _Expect.COMMA_OR_END) and buffer.startswith(b"]"):
            self._expect = _Expect.NOTHING
            buffer = buffer[1:].lstrip(_SPACE)
        if buffer and self._expect is _Expect.NOTHING:
            raise ProtocolError("the answer goes on after the end of its array")
        if buffer and self._expect is _Expect.COMMA_OR_END:
            raise ProtocolError("two events of the answer are not separated by a comma")
        if buffer and self._expect in (_Expect.EVENT, _Expect.EVENT_OR_END) and not buffer.startswith(b"{"):
            raise self._unreadable("an element of the answer is no JSON object")
        return buffer

    def _cut(self, buffer: bytes) -> int:
        """The length of the complete events at the beginning of `buffer`, which are moved to `_raws`."""
        body = buffer.rstrip(_SPACE)
        ends = [len(body)] if body.endswith(b"}") else [len(body) - 1] if body.endswith(b"]") else []
        boundary = _last_boundary(body)
        if boundary:
            ends.append(boundary)
        for end in ends:
            try:
                self._raws = _split(b"[%b]" % body[:end])
            except _convert.UNREADABLE:
                # Fooled, or what follows the next candidate is complete and broken: the scanner will tell.
                self._look_again = True
                continue
            return end
        if ends or boundary is None:
            self._scan = _Scan(self._limits.depth)
            return self._find_end(buffer)
        return 0

    def _find_end(self, buffer: bytes) -> int:
        """The length of the one event at the beginning of `buffer`; 0 while it is not complete."""
        assert self._scan is not None
        end = self._scan.find_end(buffer)
        self._look_again = end > 0
        if end:
            self._scan = None
            self._raws = [msgspec.Raw(buffer[:end])]
        return end

    def _decode(self, raws: list[msgspec.Raw]) -> list[E]:
        """The events of `raws`; those before the first that cannot be read, and `_fault` is set."""
        only = event_class(self._kind)
        decode = _decoder(only or Event)
        default = self._kind.default_type
        events: list[Event] = []
        for raw in raws:
            try:
                event = decode(raw)
                _set(event, "raw", bytes(raw))
                if only is None:
                    # The classes differ in behaviour alone, not in layout. Choosing the class of an object
                    # that nobody else has seen costs a tenth of building a second one.
                    _set(event, "__class__", EVENT_TYPES.get(event.type, UnknownEvent))
                elif event.type is None:
                    _set(event, "type", default)
            except _convert.UNREADABLE:
                try:
                    event = self._decode_tolerant(bytes(raw))
                except DecodeError as fault:
                    self._fault, self._raws = fault, []
                    break
            events.append(event)
            self._position += 1
        return cast("list[E]", events)

    def _decode_tolerant(self, raw: bytes) -> Event:
        try:
            data = _convert.loads(raw)
        except (ValueError, RecursionError):
            raise self._unreadable("an event is not valid JSON") from None
        try:
            return structure_tolerant(data, raw, self._kind)
        except DecodeError as error:
            raise self._unreadable(str(error)) from None

    def _unreadable(self, message: str) -> DecodeError:
        position = self._position + len(self._raws)
        error = DecodeError(f"{message} (element {position} of the answer)")
        error.position = position
        return error


class _Scan:
    """Finds where the object that a buffer begins with ends; called again with the buffer grown."""

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._depth = 0
        self._offset = 0
        self._in_string = False

    def find_end(self, buffer: bytes) -> int:
        """The offset just behind the object; 0 while it is not complete."""
        offset = self._offset
        while True:
            if self._in_string:
                match = _STRING.match(buffer, offset)
                assert match is not None
                offset = match.end()
                if buffer[offset : offset + 1] != b'"':
                    break
                self._in_string = False
                offset += 1
            token = _TOKEN.search(buffer, offset)
            if token is None:
                offset = len(buffer)
                break
            offset = token.end()
            match token[0]:
                case b'"':
                    self._in_string = True
                case b"{" | b"[":
                    self._depth += 1
                    if self._depth > self._max_depth:
                        raise LimitExceeded(f"an event is nested deeper than {self._max_depth} levels")
                case _:
                    self._depth -= 1
                    if self._depth == 0:
                        return offset
        self._offset = offset
        return 0


def _decoder(cls: type[Event]) -> Any:
    decode = _decoders.get(cls)
    if decode is None:
        decode = _decoders[cls] = msgspec.json.Decoder(cls).decode
    return decode


def _last_boundary(body: bytes) -> int | None:
    """The offset behind the last ``}`` that is followed by a comma and a ``{``.

    0 if there is none; None if that would take too long to tell.
    """
    brace = len(body)
    for _ in range(_LOOK_BACK):
        brace = body.rfind(b"{", 0, brace)
        if brace <= 0:
            return 0
        before = body[max(0, brace - 64) : brace].rstrip(_SPACE)
        if before.endswith(b","):
            before = before[:-1].rstrip(_SPACE)
            if before.endswith(b"}"):
                return max(0, brace - 64) + len(before)
    return None


def _looks_like(buffer: bytes) -> str:
    """What kind of thing an answer is, without quoting it."""
    if buffer.startswith(b"<"):
        return "an HTML or XML page"
    if buffer.startswith(b"{"):
        return "a JSON object"
    if buffer.startswith((b'"', b"null", b"true", b"false")) or buffer[:1].isdigit() or buffer.startswith(b"-"):
        return "a single JSON value"
    return "neither JSON nor text in UTF-8" if buffer[0] > 0x7F or buffer[0] < 0x20 else "plain text"
