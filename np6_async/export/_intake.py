"""From the events of many contacts, as they arrive, to parts of whole contacts.

A contact goes through these states, all but the last in memory alone:

- *begun*: the `Ledger` has handed it out, and it is open in every `Place` from then on;
- *buffered*: its events wait in a `ContactBuffer`, because a part holds whole contacts only;
- *done*: all its events are in the part, or there were none; or *failed*, with nothing in the part;
- *committed*: done or failed in the manifest, together with the part and the `Place` in which it is not open.

Whatever is not committed is fetched again by the next run, from the contact's first event.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, Protocol

from attrs import Factory, define

from .._models.contacts import Contact
from .._models.events import Event
from .._streams.buffer import Done, Failure
from .._streams.bulk_stream import BulkStream
from ._part import HELD, OVERHEAD, Part

# A contact whose events take more bytes gets its own part, so that its writing can be given up.
_LARGE: Final = 16 * 1024 * 1024
# Memory for the events of contacts in flight, in bytes: of each, and roughly of all.
_BUFFER: Final = 1024 * 1024
_BUFFERS: Final = 32 * 1024 * 1024
_BUFFER_LEAST: Final = 64 * 1024


@define(eq=False, repr=False)
class ContactBuffer:
    """Batches of events in the order in which they came: in memory up to `limit` bytes, then in a nameless file.

    The file is in `folder`, on the disk that the events are written to: a temporary folder may be memory.
    """

    folder: Path
    limit: int
    size: int = 0  # bytes of memory that they take, or would
    _batches: list[list[Event]] = Factory(list)
    _in_memory: int = 0
    _file: BinaryIO | None = None

    def add(self, events: list[Event]) -> None:
        """Keep these as well; raises OSError where the disk is full."""
        size = sum([len(event.raw) for event in events]) + OVERHEAD * len(events)
        self.size += size
        self._batches.append(events)
        self._in_memory += size
        if self._in_memory > self.limit:
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
            self._file = TemporaryFile(prefix=HELD, dir=self.folder)  # noqa: SIM115 - `close` closes it
        for events in self._batches:
            pickle.dump(events, self._file, pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._batches, self._in_memory = [], 0


class Outcomes(Protocol):
    """Who wants to know how contacts end."""

    def done(self, contact: Contact, events: int) -> None:
        """All its events are in the part."""

    def failed(self, failure: Failure) -> None:
        """It has failed, permanently."""


@define(eq=False, repr=False)
class Intake:
    """Takes the events of streams into parts, each contact's whole into one.

    `commit` gets the part, or None where no contact had events, when that has `part_bytes` or is `part_seconds` old.
    The events of contacts in flight, of which there are `concurrency`, take some 32 MiB of memory, and then the disk of
    `scratch`. `before` takes from a batch what is to be left out.
    """

    scratch: Path
    new_part: Callable[[], Part]
    commit: Callable[[Part | None], Awaitable[None]]
    outcomes: Outcomes
    part_bytes: int
    part_seconds: float
    concurrency: int
    before: Callable[[list[Event]], list[Event]] | None = None
    _part: Part | None = None
    _torn: bool = False  # the part has some events of a contact, and not all
    _news: bool = False  # contacts have ended since the last commit
    _committed_at: float = 0.0
    _buffers: dict[int, ContactBuffer] = Factory(dict)  # by identity of the contact

    async def take_all(self, stream: BulkStream[Any, Any]) -> None:
        """Take all that the stream has. What is left at its end is not committed: see `keep`."""
        outcomes = stream.outcomes()
        self._committed_at = asyncio.get_running_loop().time()
        while True:
            try:
                # While nothing arrives, what has arrived is still committed. A cancelled step loses nothing.
                async with asyncio.timeout_at(self._due()):
                    contact, item = await anext(outcomes)
            except TimeoutError:
                await self._commit()
                continue
            except StopAsyncIteration:
                return
            await self._take(contact, item)
            due = self._due()
            late = due is not None and asyncio.get_running_loop().time() >= due
            if late or (self._part is not None and self._part.size >= self.part_bytes):
                await self._commit()

    async def keep(self) -> None:
        """Commit what is whole, if there is anything."""
        if self._torn:
            self.discard()
        elif self._news:
            await self._commit()

    def discard(self) -> None:
        """Remove what is not committed."""
        if self._part is not None:
            self._part.discard()
            self._part, self._torn = None, False
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()

    @property
    def _buffer_bytes(self) -> int:
        """Of memory, for each contact in flight."""
        return max(_BUFFER_LEAST, min(_BUFFER, _BUFFERS // self.concurrency))

    def _due(self) -> float | None:
        """When the next commit is due, on the loop's clock; None: there is nothing to commit."""
        return self._committed_at + self.part_seconds if self._news else None

    async def _take(self, contact: Any, item: list[Event] | Done | Failure) -> None:
        if isinstance(item, list):
            if self.before is not None:
                item = self.before(item)
            if not item:
                return
            buffer = self._buffers.get(id(contact))
            if buffer is None:
                buffer = self._buffers[id(contact)] = ContactBuffer(self.scratch, self._buffer_bytes)
            buffer.add(item)
            return
        buffer = self._buffers.pop(id(contact), None)
        self._news = True
        try:
            if isinstance(item, Failure):
                self.outcomes.failed(item)
            else:
                events = 0 if buffer is None else await self._write(contact, buffer)
                self.outcomes.done(contact, events)
        finally:
            if buffer is not None:
                buffer.close()

    async def _write(self, contact: Contact, buffer: ContactBuffer) -> int:
        """How many events it has."""
        large = buffer.size > _LARGE
        if large and self._part is not None:
            await self._commit()
        if self._part is None:
            self._part = self.new_part()
        self._torn = True
        count = 0
        for events in buffer.batches():
            self._part.add(contact, events)
            count += len(events)
            if large:
                await asyncio.sleep(0)  # other tasks want to run, and it may have to be given up
        self._torn = False
        return count

    async def _commit(self) -> None:
        part, self._part, self._news = self._part, None, False
        await self.commit(part)
        self._committed_at = asyncio.get_running_loop().time()
