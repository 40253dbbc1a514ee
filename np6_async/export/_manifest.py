"""What an export has done, in one small file: what is not in it has not happened.

The file is replaced as a whole, which commits everything before it. It holds neither key nor contact, and grows with
the number of parts, not of contacts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from attrs import Factory, define, frozen

from .._models.time_bounds import isoformat, to_millis
from ._writers import Format

VERSION: Final = 1


@frozen
class Query:
    """What is exported: a folder holds the result of one query.

    `start` and `end` are ISO 8601, fixed when the export began. `every` is milliseconds.
    """

    kind: str
    by: Literal["id", "unicity", "hash"]
    start: str | None
    end: str
    classification: str | None
    missing: Literal["error", "empty"]
    every: int | None
    format: Format
    gzip: bool

    def following(self, window: str | None) -> str | None:
        """The start of the window after the one that begins at `window`; None after the last."""
        if window is None or self.every is None:
            return None
        start = _millis(window) + self.every
        return isoformat(start) if start < _millis(self.end) else None

    @property
    def windows(self) -> int:
        """How many windows the time is cut into; 0: it is not cut."""
        if self.start is None or self.every is None:
            return 0
        return -(-(_millis(self.end) - _millis(self.start)) // self.every)


@frozen
class Asked:
    """The bounds that count back from the time of the call, as they were given: the next run means the same time."""

    start: str | None
    end: str | None


@frozen
class Place:
    """The position of an export in its input: `contacts` were begun, whose `digest` this is, and all of them have ended
    except those at the positions `open`, which count from 0."""

    contacts: int = 0
    digest: str = ""
    open: list[int] = Factory(list)


@frozen
class PartEntry:
    """A part: `contacts` counts those that it has events of."""

    file: str
    window: str | None
    contacts: int
    rows: int
    bytes: int


@define
class FailuresEntry:
    """A file of contacts that failed, one a line, of which the first `bytes` count."""

    file: str
    window: str | None
    contacts: int
    bytes: int


@define
class Manifest:
    """`window` is the start of the one being fetched and `place` is in it; `input` is what a whole pass over the
    contacts was, known after the first window. `contacts` counts those that are done, once for each window."""

    version: int
    query: Query
    asked: Asked
    window: str | None
    complete: bool = False
    contacts: int = 0
    rows: int = 0
    failed: int = 0
    input: Place | None = None
    place: Place = Factory(Place)
    failures: list[FailuresEntry] = Factory(list)
    parts: list[PartEntry] = Factory(list)

    @property
    def blank(self) -> bool:
        """Whether nothing was committed yet."""
        return self.place.contacts == 0 and self.input is None


class BadManifest(Exception):
    """The file is not a manifest that this version reads; the message says why."""


def encode(manifest: Manifest) -> bytes:
    """The manifest as JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(content: bytes) -> Manifest:
    """The inverse of `encode`; raises `BadManifest`."""
    try:
        version = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).get("version", msgspec.Raw(b"none"))
        if bytes(version) != str(VERSION).encode():
            raise BadManifest(f"its version is {bytes(version)[:20].decode(errors='replace')}, not {VERSION}")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadManifest(f"it is damaged: {error}") from None


def _millis(bound: str) -> int:
    return to_millis(bound, name="bound", now=datetime.now(UTC), tz=None)
