"""The contact ids of a segment: bytes in, batches of ids out, and the check of a repeated response.

A response is a JSON array of short strings, perhaps many millions. What has arrived is cut after its last complete
id, and msgspec decodes the piece at once. No I/O; memory is bounded by one slice.

No order can be requested, and there is nothing to resume by, so the progress is a `Prefix`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen

from .._config import DecodeLimits
from .._errors import LimitExceeded, NP6Error, ProtocolError, StreamInterrupted
from .._models import convert
from .array_decoder import BOM, SPACE, looks_like, unreadable
from .endpoint import Decoder, Endpoint
from .prefix import Prefix

# A contact id has 256 characters at most; anything much longer is not an id. This is in bytes of the JSON, quotes
# included, where an escaped character counts once, so that the count does not depend on how much has arrived.
_MOST_ID_BYTES: Final = 4 * 1024
_BLANKS: Final = rb"[ \t\r\n]*+"
_BARE: Final = rb'[^\s",:\[\]{}]'
_CHARACTER: Final = rb'(?:[^"\\]|\\.)'
# Nearly every id matches the first alternative, which is twenty times as fast as the second.
_ELEMENT: Final = rb'(?:"[^"\\]{,%d}+"|"%b{,%d}+"|%b{1,%d}+)' % (
    _MOST_ID_BYTES - 2,
    _CHARACTER,
    _MOST_ID_BYTES - 2,
    _BARE,
    _MOST_ID_BYTES,
)
_TOO_LONG: Final = re.compile(
    rb'"%b{%d}|%b{%d}' % (_CHARACTER, _MOST_ID_BYTES - 1, _BARE, _MOST_ID_BYTES + 1), re.DOTALL
)
_COMPLETE: Final = re.compile(rb"(?:%b%b%b,)*+" % (_BLANKS, _ELEMENT, _BLANKS), re.DOTALL)
_ONE: Final = re.compile(_ELEMENT, re.DOTALL)
_LAST: Final = re.compile(rb"%b%b\]" % (_ELEMENT, _BLANKS), re.DOTALL)
_ALONE: Final = re.compile(rb"%b(%b)" % (_ELEMENT, _BLANKS), re.DOTALL)
_UNSEPARATED: Final = re.compile(rb"%b%b[^ \t\r\n]" % (_ELEMENT, _BLANKS), re.DOTALL)


@frozen
class SegmentIds(Endpoint[None, str]):
    """The ids of the contacts in a segment. `segment` is one path segment, percent-encoded."""

    segment: str

    def template(self, _: object) -> str:
        """The path without the id, for logs."""
        return "/segments/{id}/targets"

    def label(self, _: object) -> str:
        """The segment, for messages."""
        return f"segment {self.segment}"

    def target(self, _: object, __: object) -> tuple[str, str]:
        """Path and query of each request: a part cannot be requested."""
        return f"/segments/{self.segment}/targets", ""

    def progress(self) -> Prefix[str]:
        """The progress before anything is delivered."""
        return Prefix("ids", "the segment")

    def decoder(self, limits: DecodeLimits) -> IdDecoder:
        """The decoder of one response."""
        return IdDecoder(limits)


class IdDecoder(Decoder[str]):
    """Decodes one response, as `EventDecoder` does for events."""

    def __init__(self, limits: DecodeLimits) -> None:
        super().__init__(limits)
        self._pending = b""  # looked at, not yet a complete id
        self._begun = self._ended = False  # whether the array's brackets have come
        self._position = 0  # ids decoded

    def next_batch(self) -> list[str] | None:
        """The next ids in the order of the response, those of one slice; None: feed more.

        Raises `ProtocolError` where the response is not an array, `DecodeError` at an element that is not an id, and
        `LimitExceeded`; always after the ids before the fault were returned.
        """
        while self._fault is None and (piece := self._slice()):
            ids: list[str] = []
            try:
                self._take(self._pending + piece, ids)
            except NP6Error as fault:
                self._fault = fault
            self._position += len(ids)
            if ids:
                return ids
        if self._fault is not None:
            raise self._fault
        return None

    @property
    def done(self) -> bool:
        """Whether the array was closed, and nothing has come after it so far."""
        return self._ended and self._fault is None and self._offset >= len(self._received)

    def finish(self) -> list[str]:
        """Raises `StreamInterrupted` unless the array was closed."""
        if self._fault is not None:
            raise self._fault
        if not self._ended:
            raise StreamInterrupted("the response ended before the closing bracket of its array")
        return []

    def _take(self, buffer: bytes, ids: list[str]) -> None:
        """Add the complete ids of `buffer` to `ids`, and keep the rest of it."""
        if not self._begun:
            if len(buffer) < len(BOM) and BOM.startswith(buffer):
                self._pending = buffer
                return
            buffer = buffer.removeprefix(BOM).lstrip(SPACE)
            self._pending = b""
            if not buffer:
                return
            if not buffer.startswith(b"["):
                raise ProtocolError.from_elsewhere(
                    f"the response is {looks_like(buffer)}, not a JSON array of contact ids"
                )
            self._begun = True
            buffer = buffer[1:]
        if not self._ended:
            complete = _COMPLETE.match(buffer)
            assert complete is not None  # it matches an empty string, too
            if complete.end():
                self._decode(buffer[: complete.end() - 1], ids)
            buffer = buffer[complete.end() :].lstrip(SPACE)
            if last := _LAST.match(buffer):
                self._decode(buffer[: last.end() - 1], ids)
                buffer = buffer[last.end() :]
                self._ended = True
            elif buffer.startswith(b"]") and not self._position + len(ids):
                buffer = buffer[1:]
                self._ended = True
            else:
                self._check_unfinished(buffer, self._position + len(ids))
        if self._ended:
            buffer = buffer.lstrip(SPACE)
            if buffer:
                raise ProtocolError("the response continues after the end of its array")
        elif alone := _ALONE.fullmatch(buffer):  # one blank means as much as a thousand
            buffer = buffer[: alone.start(1) + 1]
        self._pending = buffer

    def _decode(self, elements: bytes, ids: list[str]) -> None:
        try:
            found = _loads(b"[%b]" % elements)
        except ValueError:
            found = map(_decode_one, _ONE.findall(elements))
        for value in found:
            text = value if type(value) is str else convert.text(value)
            if text is None:
                raise unreadable("an element of the response is not a contact id", self._position + len(ids))
            ids.append(text)

    def _check_unfinished(self, buffer: bytes, position: int) -> None:
        """Raise where `buffer` cannot become an id, or only one that is too long."""
        if buffer.startswith((b"{", b"[")):
            raise unreadable("an element of the response is not a contact id", position)
        if buffer.startswith((b",", b"]", b"}", b":")):
            raise ProtocolError("the response is not valid JSON")
        if _TOO_LONG.match(buffer):
            raise LimitExceeded(f"no complete contact id within {_MOST_ID_BYTES} bytes of the response")
        if _UNSEPARATED.match(buffer):
            raise ProtocolError("two ids of the response are not separated by a comma")


def _loads(raw: bytes) -> Any:
    if not raw.isascii():
        raw.decode()  # raises for invalid UTF-8, which `loads` would replace
    return convert.loads(raw)


def _decode_one(element: bytes) -> object:
    try:
        value: object = _loads(element)
    except ValueError:
        return None
    return value
