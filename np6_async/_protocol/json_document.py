"""Responses that are small enough to be read whole: the segments, one contact's record, a count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import frozen

from .._config import DecodeLimits
from .._errors import LimitExceeded, ProtocolError, StreamInterrupted
from .._models import convert
from .._models.contacts import Contact
from .array_decoder import BOM, SPACE, is_cut, looks_like
from .endpoint import Decoder, Endpoint

T = TypeVar("T")


@frozen
class JSONDocument(Endpoint[Contact | None, T]):
    """A path whose response is one small JSON document.

    `name` is for messages. `read` makes records of the document, or raises `ProtocolError`.
    """

    path: str
    query: str
    logged_path: str
    name: str
    read: Callable[[Any], list[T]]

    def template(self, _: object) -> str:
        """The path without ids, for logs."""
        return self.logged_path

    def label(self, _: object) -> str:
        """What the response is about, for messages."""
        return self.name

    def target(self, _: object, __: object) -> tuple[str, str]:
        """Path and query of each request: after a broken response it is simply repeated."""
        return self.path, self.query

    def decoder(self, limits: DecodeLimits) -> DocumentDecoder[T]:
        """The decoder of one response."""
        return DocumentDecoder(self.read, limits)


class DocumentDecoder(Decoder[T]):
    """Keeps the body, up to `DecodeLimits.event_bytes`, until it is complete."""

    def __init__(self, read: Callable[[Any], list[T]], limits: DecodeLimits) -> None:
        super().__init__(limits)
        self._read = read
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes of the body."""
        self._body += data
        if len(self._body) > self._limits.event_bytes:
            raise LimitExceeded(
                f"the response is larger than {self._limits.event_bytes} bytes (DecodeLimits.event_bytes)"
            )

    def next_batch(self) -> None:
        """Only the end of the body completes a document."""

    def finish(self) -> list[T]:
        """The records of the document."""
        body = bytes(self._body).removeprefix(BOM).strip(SPACE)
        if not body:
            raise StreamInterrupted("the response is empty")
        try:
            data = convert.loads(body)
        except ValueError:
            data = None
        else:
            return self._read(data)
        # Not raised in `except`: the error of `loads`, which would be the context, quotes the body.
        if not body.startswith((b"{", b"[")):
            raise ProtocolError.from_elsewhere(f"the response is {looks_like(body)}, not the documented JSON")
        if is_cut(body, self._limits):
            raise StreamInterrupted("the response ended before the closing bracket of its JSON")
        raise ProtocolError("the response is not valid JSON")
