"""One run of an export: fetches what its folder lacks, part after part, until it is complete or stopped.

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
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, Self

from attrs import Factory, define

from .._errors import NP6Error
from .._models.contacts import Contact
from .._models.events import Event
from .._models.time_bounds import isoformat
from .._streams.buffer import Done, Failure
from .._streams.bulk_stream import BulkStream
from ._disk import Commits, in_thread
from ._end import End
from ._errors import InputChanged, NoContacts
from ._folder import Folder
from ._manifest import Place
from ._part import HELD, OVERHEAD, Part

_TURN: Final = 5_000  # contacts that are read without letting others run
# A contact whose events take more bytes gets its own part, so that its writing can be given up.
_LARGE: Final = 16 * 1024 * 1024


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


class Ledger:
    """Hands out contacts, no object twice at the same time, and keeps a `Place`, in little memory.

    After `stop` it hands out no more, as if the input had ended.
    """

    def __init__(self, contacts: AsyncIterator[Contact]) -> None:
        self.ended = False  # the input was read to its end
        self._contacts = contacts
        self._again: deque[tuple[int, Contact]] = deque()
        self._open: dict[int, tuple[int, Contact]] = {}  # by identity: a contact may be given twice
        self._count = 0
        self._digest = blake2b(digest_size=16)
        self._stopped = False

    async def skip(self, place: Place) -> None:
        """Continue at `place`: those that were open there come first. Raises `InputChanged`. `stop` ends it early."""
        wanted = set(place.open)
        while self._count < place.contacts and not self._stopped:
            position = self._count
            try:
                contact = await self._read()
            except StopAsyncIteration:
                raise InputChanged(
                    f"there are only {self._count:,}, and the export has reached number {place.contacts:,}"
                ) from None
            if position in wanted:
                self._again.append((position, contact))
            if self._count % _TURN == 0:
                await asyncio.sleep(0)
        if place.contacts and not self._stopped and self._digest.hexdigest() != place.digest:
            raise InputChanged(f"the first {self._count:,} are not those that the export began with")

    async def check(self, whole: Place) -> None:
        """Read the whole input, and raise `InputChanged` unless it is the one that was read before."""
        with suppress(StopAsyncIteration):
            while self._count <= whole.contacts:
                await self._read()
                if self._count % _TURN == 0:
                    await asyncio.sleep(0)
        if self._count != whole.contacts:
            more = "more than" if self._count > whole.contacts else f"{self._count:,} and not"
            raise InputChanged(f"there are {more} the {whole.contacts:,} that the export began with")
        if self._digest.hexdigest() != whole.digest:
            raise InputChanged(f"the {self._count:,} are not those that the export began with")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        if self._stopped:
            raise StopAsyncIteration
        if self._again:
            position, contact = self._again.popleft()
        else:
            try:
                contact = await self._read()
            except StopAsyncIteration:
                self.ended = True
                raise
            position = self._count - 1
        if id(contact) in self._open:
            contact = Contact(contact.kind, contact.value)
        self._open[id(contact)] = position, contact
        return contact

    def end(self, contact: str | Contact) -> None:
        """This contact is done, or failed permanently."""
        del self._open[id(contact)]

    def stop(self) -> None:
        """Hand out no more."""
        self._stopped = True

    @property
    def place(self) -> Place:
        """Where it is now."""
        opened = [position for position, _ in (*self._open.values(), *self._again)]
        return Place(self._count, self._digest.hexdigest(), sorted(opened))

    async def _read(self) -> Contact:
        contact = await anext(self._contacts)
        self._count += 1
        self._digest.update(b"%b\n" % contact.value.encode())
        return contact


@define(eq=False, repr=False)
class Exporter:
    """Exports what `folder` lacks. `contacts` starts the input again at each call, `fetch` gets the bounds of a window,
    and `report` is called after every contact.

    A part is closed at `part_bytes`, or `part_seconds` after the last commit. The events of each contact in flight
    take at most `buffer_bytes` of memory.
    """

    folder: Folder
    end: End
    contacts: Callable[[], AsyncGenerator[Contact, None]]
    fetch: Callable[[Ledger, str | None, str], BulkStream[Any]]
    part_bytes: int
    part_seconds: float
    buffer_bytes: int
    on_failure: Callable[[Failure], object]
    report: Callable[[], object]
    done: int = 0  # contacts, in this run
    failed: int = 0
    events: int = 0  # written in this run, committed or not
    _ledger: Ledger | None = None
    _window: str | None = None  # the start of the one that is being filled
    _stopped: bool = False
    # Since the last commit
    _part: Part | None = None
    _torn: bool = False  # the part has some events of a contact, and not all
    _newly_done: int = 0
    _newly_failed: list[Contact] = Factory(list)
    _committed_at: float = 0.0
    _buffers: dict[int, ContactBuffer] = Factory(dict)  # by identity of the contact
    _commits: Commits = Factory(Commits)
    _retried: dict[int, Contact] | None = None  # by identity: those that failed before, and are not done

    def stop(self) -> None:
        """Begin no more contacts; `run` ends when those in flight have, with everything committed."""
        self._stopped = True
        if self._ledger is not None:
            self._ledger.stop()

    async def run(self) -> None:
        """Run until the export is complete or stopped.

        Raises whatever ends it early. What was done before is then committed, also when it is cancelled, except after
        an OSError of the disk; failures are not committed where no contact was done.
        """
        if self.folder.manifest.input is not None:
            await self.check_input()
        while not self.folder.manifest.complete and not self._stopped:
            async with aclosing(self.contacts()) as contacts:
                await self._fill_window(contacts)

    async def retry(self) -> None:
        """Fetch the contacts once more that failed in earlier runs, window after window.

        Those that are done get into parts, and leave the file of those that failed. Raises as `run` does.
        """
        for entry in tuple(self.folder.manifest.failures):
            if self._stopped:
                return
            by = self.folder.manifest.query.by
            assert by != "action"
            values = await in_thread(lambda entry=entry: self.folder.failed(entry))  # type: ignore[misc]
            contacts = [Contact(by, value) for value in values]
            self._retried = {id(contact): contact for contact in contacts}
            try:
                await self._retry_window(contacts, entry.window)
            finally:
                self._retried = None

    async def _retry_window(self, contacts: list[Contact], window: str | None) -> None:
        async def again() -> AsyncGenerator[Contact, None]:
            for contact in contacts:
                yield contact

        query = self.folder.manifest.query
        self._window = window
        ledger = self._ledger = Ledger(again())
        async with self._committing(ledger):
            async with self.fetch(ledger, window or query.start, query.following(window) or query.end) as stream:
                await self._take_all(ledger, stream)
            await self._keep(ledger)

    async def check_input(self) -> None:
        """Compare the contacts with those of the first window. Raises `InputChanged`."""
        whole = self.folder.manifest.input
        assert whole is not None
        async with aclosing(self.contacts()) as contacts:
            await Ledger(contacts).check(whole)

    async def _fill_window(self, contacts: AsyncGenerator[Contact, None]) -> None:
        manifest = self.folder.manifest
        self._window = manifest.window
        ledger = self._ledger = Ledger(contacts)
        await ledger.skip(manifest.place)
        async with self._committing(ledger):
            query = self.end.query
            end = query.following(manifest.window) or query.end
            async with self.fetch(ledger, manifest.window or query.start, end) as stream:
                await self._take_all(ledger, stream)
            place = ledger.place
            if not ledger.ended or place.open:
                await self._keep(ledger)
                return
            if not place.contacts:
                raise NoContacts("there are no contacts to export")
            await self._end_window(ledger, place)

    @asynccontextmanager
    async def _committing(self, ledger: Ledger) -> AsyncIterator[None]:
        """Commit what is whole where the run ends early, and discard the rest."""
        try:
            yield
        except (asyncio.CancelledError, Exception) as error:
            if isinstance(error, NP6Error) or not isinstance(error, OSError):  # a time-out is both
                await self._keep(ledger)
            raise
        finally:
            self._discard()

    async def _end_window(self, ledger: Ledger, place: Place) -> None:
        await self._look_ahead()
        self.end.write()
        manifest = self.folder.manifest
        following = manifest.query.following(manifest.window)
        if following is None and self._part is None and not manifest.parts:
            self._part = self.folder.new_part(manifest.window)  # readers of the export find its columns
        await self._commit(ledger)
        if manifest.input not in (None, place):
            raise InputChanged("the contacts are not those of the first window")
        await self._commits.run(lambda: self.folder.next_window(following, place))

    async def _take_all(self, ledger: Ledger, stream: BulkStream[Any]) -> None:
        outcomes = stream.outcomes()
        self._committed_at = asyncio.get_running_loop().time()
        while True:
            try:
                # While nothing arrives, what has arrived is still committed. A cancelled step loses nothing.
                async with asyncio.timeout_at(self._due()):
                    contact, item = await anext(outcomes)
            except TimeoutError:
                await self._commit(ledger)
                continue
            except StopAsyncIteration:
                return
            await self._take(ledger, contact, item)
            due = self._due()
            late = due is not None and asyncio.get_running_loop().time() >= due
            if late or (self._part is not None and self._part.size >= self.part_bytes):
                await self._commit(ledger)

    async def _take(self, ledger: Ledger, contact: Any, item: list[Event] | Done | Failure) -> None:
        if isinstance(item, list):
            item = self.end.before(item)
            if not item:
                return
            buffer = self._buffers.get(id(contact))
            if buffer is None:
                buffer = self._buffers[id(contact)] = ContactBuffer(self.folder.storage.scratch, self.buffer_bytes)
            buffer.add(item)
            return
        buffer = self._buffers.pop(id(contact), None)
        try:
            if isinstance(item, Failure):
                ledger.end(contact)
                if self._retried is None:
                    self._newly_failed.append(contact)
                    self.failed += 1
                self.on_failure(item)
            else:
                if buffer is not None:
                    await self._write(ledger, contact, buffer)
                ledger.end(contact)
                self._newly_done += 1
                self.done += 1
                if self._retried is not None:
                    del self._retried[id(contact)]
                    self.failed -= 1
        finally:
            if buffer is not None:
                buffer.close()
        self.report()

    # The end

    async def _look_ahead(self) -> None:
        """Where the last window is to end long before this machine's now, look whether a later event disproves that."""
        open_end = self.end.open
        if open_end is None or not open_end.is_early:
            return
        start = self.end.query.following(self.folder.manifest.window)
        if start is None or start < isoformat(open_end.ms):
            return
        async with (
            aclosing(self.contacts()) as contacts,
            self.fetch(Ledger(contacts), start, self.end.query.end) as stream,
        ):
            async for _, events in stream.batches():
                if open_end.refuted_by(events[-1].timestamp):
                    return

    async def _write(self, ledger: Ledger, contact: Contact, buffer: ContactBuffer) -> None:
        large = buffer.size > _LARGE
        if large and self._part is not None:
            await self._commit(ledger)
        if self._part is None:
            self._part = self.folder.new_part(self._window)
        self._torn = True
        for events in buffer.batches():
            self._part.add(contact, events)
            self.events += len(events)
            if large:
                await asyncio.sleep(0)  # other tasks want to run, and it may have to be given up
        self._torn = False

    # Commits

    def _due(self) -> float | None:
        """When the next commit is due, on the loop's clock; None: there is nothing to commit."""
        if not self._newly_done and not self._newly_failed:
            return None
        return self._committed_at + self.part_seconds

    async def _keep(self, ledger: Ledger) -> None:
        """The run ends early: commit what is whole, unless no contact was done: all may have failed for one cause."""
        await self._commits.check()
        if self._torn:
            self._discard()
        elif self.done and (self._newly_done or self._newly_failed):
            await self._commit(ledger)

    async def _commit(self, ledger: Ledger) -> None:
        self.end.write()
        part, place = self._part, ledger.place
        done, failed = self._newly_done, [contact.value for contact in self._newly_failed]
        self._part, self._newly_done, self._newly_failed = None, 0, []
        if self._retried is None:
            await self._commits.run(lambda: self.folder.commit(part, place, done=done, failed=failed))
        else:
            window, left = self._window, [contact.value for contact in self._retried.values()]
            await self._commits.run(lambda: self.folder.commit_retried(window, part, done=done, failed=left))
        self._committed_at = asyncio.get_running_loop().time()

    def _discard(self) -> None:
        """Remove what is not committed."""
        if self._part is not None:
            self._part.discard()
            self._part, self._torn = None, False
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()
