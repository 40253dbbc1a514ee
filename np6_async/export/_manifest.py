"""What an export has done, in one small file: what is not in it has not happened.

The file is replaced as a whole, which commits everything before it. It holds neither key nor contact, and grows with
the number of parts, not of contacts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timezone, tzinfo
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from attrs import Factory, define, frozen

from .._columns.personal import Personal
from .._errors import InvalidInput
from .._models.time_bounds import Every, isoformat, to_millis
from .._protocol.resume import Delivered
from ._writers import CsvDialect, Format

VERSION: Final = 1


@frozen
class Query:
    """What is exported: a folder holds the result of one query.

    `start` and `end` are ISO 8601, fixed when the export began. `every` is milliseconds or, of the calendar of `tz`,
    a text such as ``1d``. `by` is how contacts are named; ``"action"``: in their place, the events are those of the
    `action` of this id, or of the whole account where it is None; `only`: those of some contacts. `personal_key` tells
    one key from another, and nothing else.
    """

    kind: str
    by: Literal["id", "unicity", "hash", "action"]
    start: str | None
    end: str
    classification: str | None
    missing: Literal["error", "empty"]
    every: int | str | None
    format: Format
    gzip: bool
    tz: str | None = None
    action: str | None = None
    only: bool = False
    partition_by: tuple[str, ...] = ()
    csv_dialect: CsvDialect = "rfc4180"
    personal: Personal = "keep"
    personal_key: str = ""

    @property
    def length(self) -> Every | None:
        """That of the windows; None: the time is not cut."""
        if isinstance(self.every, str):
            return Every.read(self.every, find_zone(self.tz or "UTC"))
        return None if self.every is None else Every(self.every, "ms", UTC)

    def following(self, window: str | None) -> str | None:
        """The start of the window after the one that begins at `window`; None after the last."""
        if window is None or (length := self.length) is None:
            return None
        start = length.following(_millis(window))
        return isoformat(start) if start < _millis(self.end) else None

    @property
    def windows(self) -> int:
        """How many windows the time is cut into; 0: it is not cut."""
        if self.start is None or (length := self.length) is None:
            return 0
        return length.windows(_millis(self.start), _millis(self.end))


@frozen
class Asked:
    """The bounds that count back from the time of the call, as they were given: the next run means the same time."""

    start: str | None
    end: str | None


@frozen
class Place:
    """The position of an export in its input: `contacts` were begun, whose `digest` this is, and all of them have ended
    except those at the positions `open`, which count from 0; several in a row are the first and the last of them.

    Without contacts, what was `delivered` of the one response, as `Delivered.plain` has it.
    """

    contacts: int = 0
    digest: str = ""
    open: list[int | tuple[int, int]] = Factory(list)
    delivered: list[Any] | None = None


@frozen
class PartEntry:
    """A file of a part: `contacts` counts those that it has events of."""

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
    contacts was, known after the first window. `contacts` counts those that are done, once for each window. `run` is a
    word by which the run that wrote it knows it again, where that matters."""

    version: int
    query: Query
    asked: Asked
    window: str | None
    run: str = ""
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
        return self.place == Place() and self.input is None


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
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadManifest(f"it is damaged: {error}") from None
    try:
        if manifest.place.delivered is not None:
            Delivered.from_plain(manifest.place.delivered)
    except (TypeError, ValueError):
        raise BadManifest("it is damaged: it does not say what was delivered") from None
    try:
        _ = manifest.query.length
    except InvalidInput:
        raise BadManifest(f"its windows are of an unknown length, {manifest.query.every!r}") from None
    except (LookupError, OSError, ValueError):
        raise BadManifest(f"this machine does not know its time zone, {manifest.query.tz!r}") from None
    return manifest


def runs(positions: Iterable[int]) -> list[int | tuple[int, int]]:
    """These positions as `Place.open` has them."""
    found: list[int | tuple[int, int]] = []
    first = last = -2
    for position in sorted(positions):
        if position == last + 1:
            last = position
            found[-1] = first, last
        else:
            first = last = position
            found.append(position)
    return found


def positions(runs: Iterable[int | tuple[int, int]]) -> Iterator[int]:
    """The inverse of `runs`."""
    for run in runs:
        yield from [run] if isinstance(run, int) else range(run[0], run[1] + 1)


def zone_name(zone: tzinfo) -> str:
    """What `find_zone` finds the zone by; raises `InvalidInput`."""
    name = getattr(zone, "key", None)
    if isinstance(zone, timezone):
        name = str(timezone(zone.utcoffset(None)))  # without a name of its own
    if not isinstance(name, str):
        raise InvalidInput(
            "every= goes by the days of the client's tz, which has no name to resume by: pass a zoneinfo.ZoneInfo"
        )
    return name


def find_zone(name: str) -> tzinfo:
    """The zone of this name; raises LookupError, ValueError or OSError."""
    if name == "UTC":
        return UTC
    if name.startswith(("UTC+", "UTC-")):
        zone = datetime.strptime(name[3:], "%z").tzinfo
        assert zone is not None
        return zone
    return ZoneInfo(name)


def _millis(bound: str) -> int:
    return to_millis(bound, name="bound", now=datetime.now(UTC), tz=None)
