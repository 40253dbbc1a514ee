"""One file of an export: written under a hidden name, and given its own when it is complete and on the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO

from .._models.events import Event
from ._formats import FormatName, writer


class Part:
    """A file of whole contacts that is being written, for `target`. Raises OSError where it cannot be."""

    def __init__(self, target: Path, format: FormatName, *, gzip: bool, temporary: Path | None = None) -> None:
        self.target = target
        self.contacts = 0  # those that it has events of, as whoever adds them counts
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
            self._writer = writer(format)(inner)
        except BaseException:
            self._remove()
            raise

    @property
    def size(self) -> int:
        """Bytes written up to now; a few that wait to be written are not counted."""
        return self._file.tell()

    def add(self, contact: str, events: Sequence[Event]) -> None:
        """Write some of a contact's events; all of them must follow before the part is complete."""
        self._writer.add(contact, events)
        self.rows += len(events)

    def complete(self) -> int:
        """Put the file in its place, in full and on the disk; returns its size in bytes."""
        size = self.seal()
        try:
            self.publish()
        except BaseException:
            self.discard()
            raise
        return size

    def seal(self) -> int:
        """Let the file be complete and on the disk, under its hidden name; returns its size in bytes."""
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
        """Put what was sealed in its place; where that fails it stays what it was."""
        os.replace(self._temporary, self.target)
        sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the file."""
        self._writer.discard()
        self._remove()

    def _remove(self) -> None:
        for file in (self._gzip, self._file):
            if file is not None:
                with suppress(OSError, ValueError):  # what is still in a buffer does not fit: so be it
                    file.close()
        with suppress(OSError):
            self._temporary.unlink()


def hidden(target: Path) -> Path:
    """The name of a file until it is complete."""
    return target.with_name(f".{target.name}.tmp")


def replace_file(target: Path, content: bytes) -> None:
    """Give `target` this content: at any instant, and after a crash, it has either the old or the new."""
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
    """Make the names in a folder last, where the system can: what is renamed is renamed, so this never fails."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
