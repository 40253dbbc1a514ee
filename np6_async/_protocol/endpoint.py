"""The base classes of what a fetch can request: an endpoint, the decoder of a response, the progress of delivery."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

from .._config import DecodeLimits
from .._errors import LimitExceeded, NP6Error
from .._models.actions import Action
from .._models.contacts import Contact

S = TypeVar("S", bound=Contact | Action | None)
T = TypeVar("T")


class Progress(Generic[T]):
    """Which items of an endpoint were delivered, so that another response adds only the rest.

    This base class remembers nothing: it is for items that are delivered all at once or not at all.
    """

    @property
    def delivered_to(self) -> int | None:
        """The timestamp of the last event delivered, in epoch milliseconds; None before the first or without any."""
        return None

    def restart(self) -> None:
        """Another response begins."""

    def accept(self, batch: list[T], /) -> list[T]:
        """The items to deliver. Raises where the response is not what was asked for."""
        return batch

    def finish(self) -> None:
        """The response is complete. Raises where it contradicts an earlier one."""


class Decoder(Generic[T]):
    """Decodes one response. Feed bytes, take batches until None, feed again; `finish` at the end of the body."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._received = b""  # fed; looked at up to `_offset`
        self._offset = self._fed = 0
        self._fault: NP6Error | None = None  # raised once the items before it were taken

    @property
    def done(self) -> bool:
        """Whether nothing more can come, even if the body has not ended."""
        return False

    def feed(self, data: bytes, /) -> None:
        """Add bytes of the body, once every batch of the bytes before was taken. Raises `LimitExceeded`."""
        self._received = data
        self._offset = 0
        self._fed += len(data)
        if self._fed > self._limits.answer_bytes:
            raise LimitExceeded(f"the response is larger than {self._limits.answer_bytes} bytes")

    def _slice(self) -> bytes:
        """The next bytes to look at, `DecodeLimits.slice_bytes` at most; empty: feed more."""
        piece = self._received[self._offset : self._offset + self._limits.slice_bytes]
        self._offset += len(piece)
        return piece

    def next_batch(self) -> list[T] | None:
        """The next items in the order of the response; None: feed more. Raises a fault after the items before it."""
        raise NotImplementedError

    def finish(self) -> list[T]:
        """The items that only the end of the body completes. Raises where the response is not complete."""
        raise NotImplementedError


class Endpoint(Generic[S, T]):
    """One path of the API with its parameters.

    An endpoint about contacts or actions is requested for one of them at a time, its *subject*, which is passed to each
    method; for others that is None. Nothing is requested of one that is `empty`. `body` is the JSON of a POST that only reads, so
    that it is retried as a GET is; None makes each request a GET.
    """

    body: bytes | None = None

    @cached_property
    def empty(self) -> bool:
        """Whether it is known that there are no items."""
        return False

    def empty_if_missing(self, subject: S, /) -> bool:
        """Whether a 404 means that there are no items, and is not an error."""
        return False

    def template(self, subject: S, /) -> str:
        """The path without ids, for logs."""
        raise NotImplementedError

    def label(self, subject: S, /) -> str:
        """What the response is about, for messages."""
        raise NotImplementedError

    def target(self, subject: S, progress: Any, /) -> tuple[str, str]:
        """Path and query, percent-encoded, of a request for what `progress` still lacks."""
        raise NotImplementedError

    def probe_target(self, subject: S, number: int, /) -> tuple[str, str] | None:
        """Path and query of a request that costs the server next to nothing, and whose response is an array.

        Another one for each `number`, lest a cache answers. None where there is none of that kind.
        """
        return None

    def progress(self) -> Progress[T]:
        """The progress before anything is delivered."""
        return Progress()

    def whole(self, body: bytes, limits: DecodeLimits, /) -> list[T] | None:
        """All items of a response that arrived as a whole; None where it takes a `decoder`."""
        return None

    def decoder(self, limits: DecodeLimits, /) -> Decoder[T]:
        """The decoder of one response."""
        raise NotImplementedError
