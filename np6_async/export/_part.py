"""What a commit adds to a folder: a file of events, or a file in each of its partitions."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from gzip import GzipFile
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, Literal, Protocol, TypeAlias
from urllib.parse import quote

from attrs import frozen

from .._errors import InvalidInput
from .._models.contacts import Contact
from .._models.events import Event
from ._storage import TEMPORARY, sync_folder
from ._writers import FileFormat

Partition: TypeAlias = Literal["kind", "day"]

HELD: Final = "held-"  # begins the name of a file that should have none, on systems where it must have one
OVERHEAD: Final = 256  # what an event takes beside its JSON, in bytes of memory
_PARTITIONS: Final[tuple[Partition, ...]] = ("kind", "day")
_NONE: Final = "__HIVE_DEFAULT_PARTITION__"  # the name of no value, to whatever reads folders as Hive does
_LONGEST: Final = 60  # bytes of a type that is the name of a folder
_DAY: Final = 86_400_000
_IN_MEMORY: Final = 16 * 1024 * 1024  # bytes of events that wait to be sorted into their partitions


@frozen
class Sealed:
    """A complete file on the local disk, with the name it gets in the folder of the parts."""

    file: Path
    name: str
    contacts: int
    rows: int
    bytes: int


@frozen
class HeldFile:
    """A complete file that a worker has put beside the parts, where `temporary_name` of its name is it."""

    name: str
    contacts: int
    rows: int
    bytes: int


@frozen
class HeldPart:
    """The files of a part that a worker has completed: one, or one in each partition."""

    files: list[HeldFile]


class Part(Protocol):
    """What is being written, and is committed as a whole. Its methods block, and raise OSError where the disk does."""

    rows: int

    @property
    def size(self) -> int:
        """Bytes written up to now, or of events that wait to be."""
        ...

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        """Write events of a contact; None: of many."""

    def seal(self) -> list[Sealed]:
        """Complete the files, on the disk; where that fails, there are none."""
        ...

    def discard(self) -> None:
        """Remove the files."""


class PartFile:
    """A part of one file, written in the folder `scratch`."""

    def __init__(self, scratch: Path, name: str, format: FileFormat, *, temporary: str) -> None:
        self.name = name
        self.contacts = 0  # those that it has events of
        self.rows = 0
        self._contact: str | Contact | None = None
        self._temporary = scratch / temporary
        self._file = open(self._temporary, "wb")  # noqa: SIM115 - `seal` and `discard` close it
        self._gzip: GzipFile | None = None
        inner: BinaryIO = self._file
        if format.gzip:
            # Neither name nor time, so that equal events are equal bytes.
            self._gzip = GzipFile("", "wb", 6, self._file, 0)
            inner = self._gzip  # type: ignore[assignment]
        try:
            self._writer = format.writer(inner)
        except BaseException:
            self._remove()
            raise

    @property
    def size(self) -> int:
        return self._file.tell() + self._writer.waiting

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        self._writer.add(contact, events)
        self.rows += len(events)
        if contact is not None and contact != self._contact:
            self.contacts += 1
            self._contact = contact

    def seal(self) -> list[Sealed]:
        try:
            self._writer.close()
            if self._gzip is not None:
                self._gzip.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
        except BaseException:
            self.discard()
            raise
        sync_folder(self._temporary.parent)
        return [Sealed(self._temporary, self.name, self.contacts, self.rows, size)]

    def discard(self) -> None:
        self._writer.discard()
        self._remove()

    def _remove(self) -> None:
        for file in (self._gzip, self._file):
            if file is not None:
                with suppress(OSError, ValueError):  # the rest of a buffer does not fit on the disk: it is to go anyway
                    file.close()
        with suppress(OSError):
            self._temporary.unlink()


class PartitionedPart:
    """A part of one file for each of the partitions `by` that it has events of.

    The events wait, sorted, in 16 MiB of memory and then in a nameless file; `seal` writes one partition after the
    other. So however many there are, two files are open at a time, and the memory is that and what one writer takes.
    `make` begins the file of a partition, whose folder it is given.
    """

    def __init__(self, scratch: Path, by: Sequence[Partition], make: Callable[[str], PartFile]) -> None:
        self.rows = 0
        self._size = 0
        self._scratch = scratch
        self._by = by
        self._make = make
        self._folders: dict[tuple[str | None, int], str] = {}  # by type and day
        self._held: dict[str, list[tuple[str | Contact | None, list[Event]]]] = {}
        self._in_memory = 0
        self._spilled: dict[str, list[int]] = {}  # where in the file
        self._file: BinaryIO | None = None

    @property
    def size(self) -> int:
        return self._size

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        groups: dict[str, list[Event]] = {}
        for event in events:
            key = event.type, event.timestamp // _DAY
            folder = self._folders.get(key)
            if folder is None:
                folder = self._folders[key] = folder_of(self._by, *key)
            groups.setdefault(folder, []).append(event)
        for folder, group in groups.items():
            self._held.setdefault(folder, []).append((contact, group))
        size = sum(len(event.raw) for event in events)
        self.rows += len(events)
        self._size += size
        self._in_memory += size + OVERHEAD * len(events)
        if self._in_memory > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(prefix=HELD, dir=self._scratch)  # noqa: SIM115 - `_release` closes it
        for folder, held in self._held.items():
            self._spilled.setdefault(folder, []).append(self._file.tell())
            pickle.dump(held, self._file, pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._held, self._in_memory = {}, 0

    def seal(self) -> list[Sealed]:
        sealed: list[Sealed] = []
        part: PartFile | None = None
        try:
            # Where there are no events, one empty file: readers find the columns.
            for folder in sorted({*self._spilled, *self._held}) or ["/".join(f"{name}={_NONE}" for name in self._by)]:
                part = self._make(folder)
                for contact, events in self._of(folder):
                    part.add(contact, events)
                sealed += part.seal()
        except BaseException:
            if part is not None:
                part.discard()
            for each in sealed:
                with suppress(OSError):
                    each.file.unlink()
            raise
        finally:
            self.discard()
        return sealed

    def _of(self, folder: str) -> Iterator[tuple[str | Contact | None, list[Event]]]:
        for place in self._spilled.get(folder, ()):
            assert self._file is not None
            self._file.seek(place)
            held: list[Any] = pickle.load(self._file)  # noqa: S301 - our own: nobody else can open this file
            yield from held
        yield from self._held.pop(folder, ())

    def discard(self) -> None:
        self._held, self._spilled = {}, {}
        if self._file is not None:
            self._file.close()
            self._file = None


def check_partitions(by: Sequence[str]) -> tuple[Partition, ...]:
    """What `partition_by` is; raises `InvalidInput`."""
    if isinstance(by, str):
        raise InvalidInput(f"partition_by={by!r} is a text; use a tuple, such as partition_by=('kind', 'day')")
    given = tuple(by)
    known: list[Partition] = [each for name in given for each in _PARTITIONS if each == name]
    if tuple(known) != given or len(set(given)) != len(given):
        raise InvalidInput(f"partition_by={given!r} is not known; use 'kind', 'day' or both, each once")
    return tuple(known)


def folder_of(by: Sequence[Partition], type: str | None, day: int) -> str:
    """The folder of the events of this type and this day since 1970, as Hive calls it: kind=bounce/day=2026-11-28."""
    values = {"kind": _kind(type), "day": _date(day)}
    return "/".join(f"{name}={values[name]}" for name in by)


def _kind(type: str | None) -> str:
    name = quote(type.encode(errors="replace"), safe="") if isinstance(type, str) else ""
    return name if 0 < len(name) <= _LONGEST else _NONE


def _date(day: int) -> str:
    try:
        return f"{datetime.fromtimestamp(day * (_DAY // 1000), UTC):%Y-%m-%d}"
    except (OverflowError, OSError, ValueError):
        return _NONE


def temporary_name(name: str, tag: str = "") -> str:
    """What a file is called in the folder beside the parts, until it is one of them."""
    return f"{quote(name, safe=' =')}{tag}{TEMPORARY}"


def new_part(
    scratch: Path,
    name: str,
    format: FileFormat,
    partition_by: Sequence[Partition],
    temporary: Callable[[str], str] = temporary_name,
) -> Part:
    """A part of this name, in files of the folder `scratch` that are called `temporary` of their names."""

    def make(folder: str | None) -> PartFile:
        full = name if folder is None else f"{folder}/{name}"
        return PartFile(scratch, full, format, temporary=temporary(full))

    return PartitionedPart(scratch, partition_by, make) if partition_by else make(None)
