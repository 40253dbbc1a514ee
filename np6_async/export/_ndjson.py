"""NDJSON: one JSON object a line and an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from .._models.convert import dumps
from .._models.events import Event, unstructure


def lines(contact: str, events: Sequence[Event]) -> bytes:
    """A line for each event: the contact, and every member that the server sent."""
    prefix = b'{"contact":%b,"event":' % dumps(contact)
    return b"".join([b"%b%b}\n" % (prefix, dumps(unstructure(event))) for event in events])


class NdjsonWriter:
    """Writes `lines`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, contact: str, events: Sequence[Event]) -> None:
        self._file.write(lines(contact, events))

    def close(self) -> None:
        """There is no end to write."""

    def discard(self) -> None:
        """There is nothing to let go of."""
