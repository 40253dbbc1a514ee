"""One file of events: written under a hidden name, and renamed when it is complete and on the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO

from .._models.events import Event
from ._writers import Format, make_writer


class Part:
    """A file that is being written, for `target`. Raises OSError where it cannot be."""

    def __init__(self, target: Path, format: Format, *, gzip: bool, temporary: Path | None = None) -> None:
        self.target = target
        self.contacts = 0  # those that it has events of, counted by the caller
        self.rows = 0
        self._temporary = temporary or hidden(target)
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
        """Complete the file on the disk, under its hidden name; returns its size in bytes."""
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
        sync_folder(self.target.parent)
        return size

    def publish(self) -> None:
        """Give the sealed file its name; where that fails it keeps the hidden one."""
        os.replace(self._temporary, self.target)
        sync_folder(self.target.parent)

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


def hidden(target: Path) -> Path:
    """The name of a file until it is complete."""
    return target.with_name(f".{target.name}.tmp")


def replace_file(target: Path, content: bytes) -> None:
    """Replace the content of `target`: at any instant, and after a crash, it has either the old or the new."""
    temporary = hidden(target)
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
