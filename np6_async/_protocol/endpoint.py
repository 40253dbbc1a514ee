"""What `Fetch` must know of what it fetches: where to ask, and how to read the answers."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from .._config import DecodeLimits
from .._models.contacts import Contact

S_contra = TypeVar("S_contra", bound=Contact | None, contravariant=True)
T = TypeVar("T")


class Progress(Protocol[T]):
    """What of an answer was given out already, so that a second answer brings the rest alone."""

    @property
    def delivered_to(self) -> int | None:
        """The timestamp of the last event given out; None before the first, and where there are no timestamps."""
        ...

    def restart(self) -> None:
        """Another answer begins."""
        ...

    def accept(self, batch: list[T], /) -> list[T]:
        """Those to give out. Raises where the answer is not as it was asked for."""
        ...

    def finish(self) -> list[T]:
        """The answer is whole: what was held back until now. Raises where it does not go with an earlier one."""
        ...


class Decoding(Protocol[T]):
    """Makes something of the bytes of one answer; `Decoder` says how."""

    @property
    def done(self) -> bool: ...
    def feed(self, data: bytes, /) -> None: ...
    def next_batch(self) -> list[T] | None: ...
    def finish(self) -> None: ...


class Question(Protocol[S_contra, T]):
    """What is asked of the API, and how its answer is read.

    A question about contacts is put about one after the other, and so gets the contact passed; that of others is None.
    """

    @property
    def nothing(self) -> bool:
        """Whether the answer is known to be empty: then nothing is asked."""
        ...

    @property
    def missing_is_empty(self) -> bool:
        """Whether a 404 is an empty answer and not an error."""
        ...

    def template(self, contact: S_contra, /) -> str:
        """The path as logs may show it, without ids."""
        ...

    def label(self, contact: S_contra, /) -> str:
        """What the answer is about, as messages may name it."""
        ...

    def target(self, contact: S_contra, resume: Any, /) -> tuple[str, str]:
        """Path and query, percent-encoded, of a request for what `resume`, one of `resume_point`, still lacks."""
        ...

    def resume_point(self) -> Progress[T]:
        """Where nothing is given out yet."""
        ...

    def whole(self, body: bytes, limits: DecodeLimits, /) -> list[T] | None:
        """All of an answer that came in one piece, nothing held back; None where `decoder` must have a look at it."""
        ...

    def decoder(self, limits: DecodeLimits, /) -> Decoding[T]:
        """What reads one answer."""
        ...
