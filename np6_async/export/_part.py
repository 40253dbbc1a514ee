"""One file of events: written elsewhere, and renamed into its folder when it is complete and on the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO, Final

from .._models.events import Event
from ._writers import Format, make_writer

TEMPORARY: Final = ".tmp"  # ends the name of a file that is not complete


class Part:
    """A file that is being written at `temporary`, for `target` on the same disk. Raises OSError where it cannot be."""

    def __init__(self, target: Path, temporary: Path, format: Format, *, gzip: bool) -> None:
        self.target = target
        self.contacts = 0  # those that it has events of, counted by the caller
        self.rows = 0
        self._temporary = temporary
        self._file = open(self._temporary, "wb")  # noqa: SIM115 - `complete` and `discard` close it
        self._gzip: GzipFile | None = None
        inner: BinaryIO = self._file
        if gzip:
            # Neither name nor time, so that equal events are equal bytes.
            self._gzip = GzipFile("", "wb", 6, self._file, 0)
            inner = self._gzip  # type: ignore[assignment]
        try:
            self._writer = make_writer(format, inner)
        except BaseException:
            self._remove()
            raise

    @property
    def size(self) -> int:
        """Bytes written up to now; a few that wait to be written are not counted."""
        return self._file.tell()

    def add(self, contact: str | None, events: Sequence[Event]) -> None:
        """Write events of a contact; None: of many."""
        self._writer.add(contact, events)
        self.rows += len(events)

    def complete(self) -> int:
        """Complete the file and give it its name; returns its size in bytes."""
        size = self.seal()
        try:
            self.publish()
        except BaseException:
            self.discard()
            raise
        return size

    def seal(self) -> int:
        """Complete the file on the disk, where it is; returns its size in bytes."""
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
        return size

    def publish(self) -> None:
        """Give the sealed file its name; where that fails it stays where it is."""
        move(self._temporary, self.target)

    def discard(self) -> None:
        """Remove the file."""
        self._writer.discard()
        self._remove()

    def _remove(self) -> None:
        for file in (self._gzip, self._file):
            if file is not None:
                with suppress(OSError, ValueError):  # the rest of a buffer does not fit on the disk: it is to go anyway
                    file.close()
        with suppress(OSError):
            self._temporary.unlink()


def move(file: Path, target: Path) -> None:
    """Give a file another name on its disk, for good."""
    os.replace(file, target)
    sync_folder(target.parent)
    sync_folder(file.parent)


def replace_file(target: Path, content: bytes) -> None:
    """Replace the content of `target`: at any instant, and after a crash, it has either the old or the new."""
    temporary = target.with_name(target.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can; never fails."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
