"""The events of a contact that is not done: they are written when all of them have arrived, and not before."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from .._models.events import Event

# What an event takes beside its JSON, in bytes of memory.
_OVERHEAD: Final = 256
PREFIX: Final = ".held-"  # of a file's name, on systems where it must have one for a moment


class ContactBuffer:
    """Batches of events in the order in which they came: in memory up to `limit` bytes, then in a nameless file.

    The file is in `folder`, on the disk that the events are written to: a temporary folder may be memory.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.size = 0  # bytes of memory that they take, or would
        self._folder = folder
        self._limit = limit
        self._batches: list[list[Event]] = []
        self._in_memory = 0
        self._file: BinaryIO | None = None

    def add(self, events: list[Event]) -> None:
        """Keep these as well; raises OSError where the disk is full."""
        size = sum(len(event.raw) + _OVERHEAD for event in events)
        self.size += size
        self._batches.append(events)
        self._in_memory += size
        if self._in_memory > self._limit:
            self._spill()

    def batches(self) -> Iterator[list[Event]]:
        """All that was added; once."""
        if self._file is not None:
            self._file.seek(0)
            try:
                while True:
                    yield pickle.load(self._file)  # noqa: S301 - our own: nobody else can open this file
            except EOFError:
                pass
        yield from self._batches

    def close(self) -> None:
        """Release them."""
        self._batches = []
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(prefix=PREFIX, dir=self._folder)  # noqa: SIM115 - `close` closes it
        for events in self._batches:
            pickle.dump(events, self._file, pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._batches, self._in_memory = [], 0
