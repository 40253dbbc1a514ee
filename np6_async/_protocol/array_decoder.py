"""Bytes of a response in, batches of what its objects become out. No I/O; memory is bounded by one object.

A response is a JSON array of objects. The decoder holds the bytes that are not a complete object yet, and what it
expects next. Each step adds a slice of the body and consumes the punctuation before the next object:

    BOM_OR_ARRAY, ARRAY  ->  OBJECT_OR_END  ->  object  ->  COMMA_OR_END  ->  OBJECT  ->  object  ->  ...  ->  NOTHING

Then it cuts what it holds after the last complete object, and msgspec splits that piece at once. A cheap search from
the end suggests the cut, and msgspec proves it: if ``[`` + piece + ``]`` is an array, no string and no nested value
can be open there. Only where the suggestion is wrong (objects nested in an array, JSON that msgspec does not accept)
or an object is larger than a slice does a slower scanner look for the ends of objects. The work is linear in the body,
whatever it holds and however it is chunked.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from itertools import accumulate, islice, repeat
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from .._config import DecodeLimits
from .._errors import DecodeError, LimitExceeded, NP6Error, ProtocolError, StreamInterrupted
from .._models import convert
from .endpoint import Decoder

T = TypeVar("T")

SPACE: Final = b" \t\r\n"
BOM: Final = b"\xef\xbb\xbf"
# Opening braces to try, from the end of a piece, in search of the one that begins its last object.
_LOOK_BACK: Final = 64
# Values in an object that is not read in the fast way: reading more at once would take too long. They are counted by
# punctuation, so a few count twice, and so does punctuation inside text.
_MOST_VALUES: Final = 100_000
# The inside of a string, as far as it has arrived; brackets and strings, the last of which may be cut off.
_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TOKENS: Final = re.compile(rb'[{}\[\]]|"(?:[^"\\]++|\\.)*+(?:"|\\?)', re.DOTALL)
_STEPS: Final = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
# Bytes in the first window of a scan.
_WINDOW: Final = 64
_SEPARATOR: Final = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+(?=\{)")

split: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
decode_objects: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode


class _Expect(Enum):
    """What the next byte that is not white space must begin."""

    BOM_OR_ARRAY = auto()
    ARRAY = auto()
    OBJECT_OR_END = auto()
    OBJECT = auto()
    COMMA_OR_END = auto()
    NOTHING = auto()


class ArrayDecoder(Decoder[T]):
    """Decodes one response. A subclass says what it is an array of, and what an object becomes."""

    elements: ClassVar[str]  # what they are, in messages

    def __init__(self, limits: DecodeLimits) -> None:
        super().__init__(limits)
        self._expect = _Expect.BOM_OR_ARRAY
        self._pending: bytes | bytearray = b""  # looked at, not yet a complete object
        self._look_again = False  # whether `_pending` may hold complete objects after all
        self._scan: _Scan | None = None  # of the object at the beginning of `_pending`, which is then a bytearray
        self._raws: list[msgspec.Raw] = []  # complete objects, not yet decoded
        self._items: list[T] = []  # decoded, not yet returned
        self._since_object = 0  # bytes looked at since the last complete object
        self._position = 0  # objects decoded

    def decode(self, array: bytes, raws: list[msgspec.Raw], /) -> list[T]:
        """What the objects of `array` become; `raws` is its split. Raises one of `convert.UNREADABLE` where one of
        them does not have the documented shape."""
        raise NotImplementedError

    def decode_tolerant(self, data: Any, raw: bytes, /) -> T:
        """What one object becomes that `decode` did not read; `data` is `raw` as plain JSON types.

        Raises `DecodeError` or `LimitExceeded`.
        """
        raise NotImplementedError

    def next_batch(self) -> list[T] | None:
        """The next items in the order of the response, at most `batch_events`; None: feed more.

        Raises `ProtocolError` where the response is not an array, `DecodeError` at an object that cannot be read, and
        `LimitExceeded`; always after the items before the fault were returned.
        """
        most = self._limits.batch_events
        while True:
            if self._raws:
                raws, self._raws = self._raws[:most], self._raws[most:]
                self._items = self._decode_singly(raws)
            if self._items:
                items, self._items = self._items[:most], self._items[most:]
                return items
            if self._fault is not None:
                raise self._fault
            if self._look_again:
                self._look_again = False
            elif piece := self._slice():
                self._since_object += len(piece)
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
        """Whether the array was closed, nothing has come after it so far, and every item was taken."""
        return (
            self._expect is _Expect.NOTHING
            and self._offset >= len(self._received)
            and self._fault is None
            and not (self._items or self._raws)
        )

    def finish(self) -> list[T]:
        """Raises `StreamInterrupted` unless the array was closed: a body cut short by the server, a proxy or a gzip
        stream may end without an HTTP error."""
        if self._fault is not None:
            raise self._fault
        if self._expect is not _Expect.NOTHING:
            raise StreamInterrupted("the response ended before the closing bracket of its array")
        return []

    def _take(self) -> None:
        """Decode the complete objects of `_pending`, or move them to `_raws`."""
        buffer, end = self._pending, 0
        if self._expect is _Expect.BOM_OR_ARRAY and buffer[:1] == b"[" and buffer[-1:] == b"]":
            # Most often that is all there is. If not, it does not decode, or what follows is an error anyway.
            complete = self._decode_array(bytes(buffer))
            if complete:
                self._expect, self._pending, self._since_object = _Expect.NOTHING, b"", 0
                return
        if self._scan is not None:
            end = self._continue_scan(self._scan)
        else:
            buffer = self._punctuation(bytes(buffer))
            if buffer and self._expect in (_Expect.OBJECT, _Expect.OBJECT_OR_END):
                end = self._cut(buffer)
        if end:
            self._since_object = 0
            self._expect = _Expect.COMMA_OR_END
            buffer = self._punctuation(bytes(buffer[end:]))
        if self._scan is not None and not isinstance(buffer, bytearray):
            buffer = bytearray(buffer)  # now it grows in place
        self._pending = buffer
        if self._since_object > self._limits.event_bytes:
            raise LimitExceeded(f"no complete element within {self._limits.event_bytes} bytes of the response")

    def _punctuation(self, buffer: bytes) -> bytes:
        """Consume what stands between objects; return what is left, which begins an object or is empty."""
        if self._expect is _Expect.BOM_OR_ARRAY:
            if len(buffer) < len(BOM) and BOM.startswith(buffer):
                return buffer
            self._expect = _Expect.ARRAY
            buffer = buffer.removeprefix(BOM)
        buffer = buffer.lstrip(SPACE)
        if self._expect is _Expect.ARRAY and buffer:
            if not buffer.startswith(b"["):
                raise ProtocolError.from_elsewhere(
                    f"the response is {looks_like(buffer)}, not a JSON array of {self.elements}"
                )
            self._expect = _Expect.OBJECT_OR_END
            buffer = buffer[1:].lstrip(SPACE)
        elif self._expect is _Expect.COMMA_OR_END and buffer.startswith(b","):
            self._expect = _Expect.OBJECT
            buffer = buffer[1:].lstrip(SPACE)
        if self._expect in (_Expect.OBJECT_OR_END, _Expect.COMMA_OR_END) and buffer.startswith(b"]"):
            self._expect = _Expect.NOTHING
            buffer = buffer[1:].lstrip(SPACE)
        if buffer and self._expect is _Expect.NOTHING:
            raise ProtocolError("the response continues after the end of its array")
        if buffer and self._expect is _Expect.COMMA_OR_END:
            raise ProtocolError("two elements of the response are not separated by a comma")
        if buffer and not buffer.startswith(b"{"):
            raise unreadable("an element of the response is not a JSON object", self._position + len(self._raws))
        return buffer

    def _cut(self, buffer: bytes) -> int:
        """The length of the complete objects at the beginning of `buffer`, which are decoded, or moved to `_raws`."""
        after_brace = buffer.rfind(b"}") + 1
        rest = buffer[after_brace:].strip(SPACE)
        # Where `buffer` ends in the middle of an object, a member follows the last brace, or there is none.
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
            raws = split(array)
        except convert.UNREADABLE:
            return False
        try:
            self._items = self.decode(array, raws)
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
        """The length of the one object at the beginning of `_pending`; 0 while it is not complete."""
        end = scan.find_end(self._pending)
        if end:
            self._scan = None
            self._look_again = True
            self._raws.append(msgspec.Raw(bytes(self._pending[:end])))
        return end

    def _decode_singly(self, raws: list[msgspec.Raw]) -> list[T]:
        """The items of `raws` up to the first that cannot be read, which sets `_fault`."""
        items: list[T] = []
        for raw in raws:
            try:
                items += self.decode(b"[%b]" % raw, [raw])
            except convert.UNREADABLE:
                found = self._decode_odd(bytes(raw))
                if not found:
                    break
                items += found
            self._position += 1
        return items

    def _decode_odd(self, raw: bytes) -> list[T]:
        """The item of `raw`; empty if it cannot be read: then the response ends here, and `_fault` says why."""
        try:
            if sum(map(raw.count, (b",", b"[", b"{"))) > _MOST_VALUES:
                raise LimitExceeded(f"an element of an undocumented shape holds more than {_MOST_VALUES} values")
            return [self.decode_tolerant(convert.loads(raw), raw)]
        except LimitExceeded as error:
            self._fault = LimitExceeded(*error.args)
        except DecodeError as error:
            self._fault = unreadable(str(error), self._position)
        except ValueError:
            self._fault = unreadable("an element is not valid JSON", self._position)
        self._raws = []
        return []


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
                raise LimitExceeded(f"an element is nested deeper than {self._max_depth} levels")
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
