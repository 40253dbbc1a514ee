"""Answers that are small enough to be taken whole: the segments, one contact's record, a count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import frozen

from .._config import DecodeLimits
from .._errors import LimitExceeded, ProtocolError, StreamInterrupted
from .._models import convert
from .event_decoder import BOM, SPACE, is_cut, looks_like

T = TypeVar("T")


@frozen
class Document(Generic[T]):
    """A `Question` with a small answer.

    `name` is what messages call it. `read` makes records of the answer's JSON, or raises `ProtocolError`.
    """

    path: str
    query: str
    logged_path: str
    name: str
    read: Callable[[Any], list[T]]
    limits: DecodeLimits

    nothing = False
    missing_is_empty = False

    def template(self, _: object) -> str:
        """The path as logs may show it."""
        return self.logged_path

    def label(self, _: object) -> str:
        """What the answer is about."""
        return self.name

    def target(self, _: object, __: object) -> tuple[str, str]:
        """Path and query of each request."""
        return self.path, self.query

    def resume_point(self) -> Held[T]:
        """Nothing is there yet."""
        return Held(self.read, self.limits)

    def whole(self, _: bytes, __: DecodeLimits) -> None:
        """Every answer goes the same way."""

    def decoder(self, limits: DecodeLimits) -> Pieces:
        """What takes the bytes of one answer."""
        return Pieces(limits.event_bytes)


class Pieces:
    """Hands on the bytes of one answer, `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._received = b""

    def feed(self, data: bytes) -> None:
        """Add bytes of the body."""
        self._received = data
        self._size += len(data)
        if self._size > self._most:
            raise LimitExceeded(f"the answer is larger than {self._most} bytes (DecodeLimits.event_bytes)")

    def next_batch(self) -> list[Any] | None:
        """The bytes fed last, once."""
        if not self._received:
            return None
        data, self._received = self._received, b""
        return [data]

    @property
    def done(self) -> bool:
        """Only the end of the body tells."""
        return False

    def finish(self) -> None:
        """`Held` looks at the whole."""


class Held(Generic[T]):
    """Gives out nothing before the whole answer was read: one that broke off is simply asked for again."""

    delivered_to: None = None

    def __init__(self, read: Callable[[Any], list[T]], limits: DecodeLimits) -> None:
        self._read = read
        self._limits = limits
        self._pieces: list[Any] = []

    def restart(self) -> None:
        """Another answer begins."""
        self._pieces = []

    def accept(self, pieces: list[Any]) -> list[T]:
        """Keep the pieces of the answer."""
        self._pieces += pieces
        return []

    def finish(self) -> list[T]:
        """The records of the answer."""
        body = b"".join(self._pieces).removeprefix(BOM).strip(SPACE)
        if not body:
            raise StreamInterrupted("the answer is empty")
        try:
            data = convert.loads(body)
        except ValueError:
            data = None
        else:
            return self._read(data)
        # Not raised above: what loads raised quotes the body.
        if not body.startswith((b"{", b"[")):
            raise ProtocolError(f"the answer is {looks_like(body)}, not the JSON that is documented")
        if is_cut(body, self._limits):
            raise StreamInterrupted("the answer ended before the closing bracket of its JSON")
        raise ProtocolError("the answer is no valid JSON")
