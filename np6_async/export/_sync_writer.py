"""`SyncWriter`: the new events of a sync, in files, each of which the state of the sync records.

A part is complete and on the disk, in the folder beside that of the parts, when the state of the sync records it; then
it is renamed into its folder, and the state records that too. So the state says of each part whether it counts, at
whatever instant the process is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from attrs import define, evolve, frozen

from .._columns.personal import Personal, PersonalKey
from .._columns.recipients import of_contacts
from .._errors import InvalidInput, NP6Error, UsageError
from .._http.lifetime import ended
from .._models.contacts import Contact
from .._models.time_bounds import isoformat
from ._counts import Counts
from ._disk import acquired, in_thread
from ._errors import FolderError, NoteError
from ._export import PART_BYTES, PART_SECONDS, check_part
from ._location import storage_of
from ._only_ids import check_only
from ._part import Part, Partition, Sealed, check_partitions, new_part, temporary_name
from ._storage import Location, Opened, Storage
from ._writers import CsvDialect, FileFormat, Format, file_format

if TYPE_CHECKING:
    from ..sync import SyncRun

_FORM: Final = "np6 sync 2"
_FORMER: Final = "np6 sync 1"
_ODD: Final = re.compile(r"[^a-z0-9]+")


@frozen
class Note:
    """What the state records. `tag` is in the names of all files of its sync that are not complete.

    `pending`: the name of the part that is complete, and may not be in the folder `place` yet; `many`: of the list that
    is held of its files.
    """

    tag: str
    place: str = ""
    pending: str | None = None
    many: bool = False

    def __str__(self) -> str:
        # As ASCII: a path may hold characters that are not Unicode.
        return f"{_FORM} {json.dumps([self.tag, self.place, self.pending, self.many])}"

    @classmethod
    def parse(cls, text: str | None) -> Note:
        """The note that `text` is, or that of a new state; raises `NoteError`."""
        if text is None:
            return cls(secrets.token_hex(6))
        form, _, rest = text.rpartition(" [")
        if form == _FORM:
            with suppress(ValueError, TypeError):
                return cls(*json.loads(f"[{rest}"))
        if form == _FORMER:
            with suppress(ValueError, TypeError):
                tag, pending = json.loads(f"[{rest}")
                if pending is None:
                    return cls(tag)
                raise NoteError("was left by a killed run of an earlier version; let that version finish it")
        raise NoteError("belongs to another program that uses np6_async.sync; give another path")


def _missing(file: Location) -> NoteError:
    return NoteError(
        f"names the file {str(file)!r}, which is neither there nor in the folder; put it back (if it was loaded "
        "already, an empty file of this name will do)"
    )


class PartSequence(Opened):
    """The parts in a folder, whose names begin with `name`.

    Several syncs may share a folder of this machine, one at a time. Every method blocks, and raises OSError where the
    disk or the store does. Raises `FolderError`.
    """

    note: Note  # since `recover`

    def __init__(
        self, storage: Storage, name: str, format: FileFormat, *, partition_by: Sequence[Partition] = ()
    ) -> None:
        self.storage = storage
        self._name = _ODD.sub("-", name)
        self._format = format
        self._partition_by = partition_by
        self._number = 0
        storage.open()

    def recover(self, text: str | None) -> None:
        """Finish what an earlier run was killed in; `text` is the note in its state. Raises `NoteError`."""
        self.note = Note.parse(text)
        pending = self.note.pending
        if pending is not None:
            noted = storage_of(self.note.place)
            for name in self._listed(noted, pending) if self.note.many else [pending]:
                held = self._held(name)
                # The folders may have been moved.
                if not noted.release(held, name) and not self.storage.release(held, name):
                    raise _missing(noted.part(name))
            self.note = Note(self.note.tag)

    def _listed(self, noted: Storage, pending: str) -> list[str]:
        for storage in (noted, self.storage):
            with suppress(FileNotFoundError):
                names: list[str] = json.loads(storage.read(self._held(pending)))
                return names
        raise _missing(noted.other(self._held(pending)))

    def tidy(self) -> None:
        """Remove what an earlier run has not completed."""
        for name in self.storage.others():
            if name.endswith(self._held("")):
                self.storage.remove_other(name)

    def next_part(self, end: str) -> Part:
        """The next part of the run that fetches the events before `end`, an ISO 8601 time."""
        self._number += 1
        stem = re.sub(r"[-:]", "", end)
        name = self.storage.own(f"{self._name}-{stem}-{self._number:06d}{self._format.suffix}")
        return new_part(self.storage.scratch, name, self._format, self._partition_by, self._held)

    def hold(self, sealed: Sequence[Sealed]) -> Note:
        """Keep the files for good; the note that records them before they are in the folder."""
        names = [each.name for each in sealed]
        note = Note(self.note.tag, self.storage.where, names[0])
        if len(names) > 1:
            note = evolve(note, pending=names[0].rpartition("/")[2], many=True)
        try:
            for each in sealed:
                self.storage.hold(each.file, self._held(each.name))
            if note.many:  # the list of which a note has no room for
                self.storage.write(self._held(note.pending or ""), json.dumps(names).encode())
        except BaseException:
            with suppress(OSError, FolderError):
                self.drop(sealed, note)
            raise
        return note

    def release(self, sealed: Sequence[Sealed]) -> None:
        """Put the files into the folder."""
        for each in sealed:
            self.storage.release(self._held(each.name), each.name)

    def drop(self, sealed: Sequence[Sealed], note: Note) -> None:
        """Remove the files that are held, and the list of them."""
        names = [each.name for each in sealed]
        for name in [*names, note.pending] if note.many and note.pending else names:
            self.storage.remove_other(self._held(name))

    def remove(self) -> None:
        """Remove the folder, if it was created and is empty."""
        self.storage.remove()

    def _held(self, name: str) -> str:
        return temporary_name(name, f".{self.note.tag}")


class SyncWriter:
    """Writes the new events of the runs of a `Sync` into files of a folder, each event once, whatever ends a run.

    ::

        async with sync.run(autocommit=False) as run:
            await SyncWriter("new", "bounces").write(run)

    A file appears when it is complete, and does not change: load it, then remove it. Files in progress are in the
    folder ``new.np6`` beside ``new``. Killed at any instant, the next run finishes: no event is missing, none is there
    twice. A contact's events may be in several files.

    - `folder` is created if it does not exist, its parent is not. Several syncs may share it, one at a time. It may be
      one of an object store, as that of `Export`.
    - `name` is what the names of the files begin with; then come the time up to which the run fetches events, and a
      number.
    - `format`, `gzip`, `csv_dialect`, `personal`, `personal_key`, `partition_by`, `part_bytes` and `part_seconds` are
      those of `Export`.
    - `only`: with a sync of actions or of the account, the ids of the contacts whose events are written, such as a set
      or an `OnlyIds`; the others are left out, and count as delivered.
    - `on_progress` is called with the `Counts` of the run after each batch; what it raises ends the run.

    Raises `InvalidInput` before any I/O.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str = "all",
        *,
        format: Format = "ndjson",
        gzip: bool = False,
        partition_by: Sequence[str] = (),
        csv_dialect: CsvDialect = "rfc4180",
        personal: Personal = "keep",
        personal_key: PersonalKey = None,
        part_bytes: int = PART_BYTES,
        part_seconds: float = PART_SECONDS,
        only: Container[str] | None = None,
        on_progress: Callable[[Counts], object] | None = None,
    ) -> None:
        self._format = file_format(
            format, gzip=gzip, csv_dialect=csv_dialect, personal=personal, personal_key=personal_key
        )
        check_part(part_bytes, part_seconds)
        self._storage = storage_of(folder)
        self._partition_by = check_partitions(partition_by)
        self._name = name
        self._part_bytes = part_bytes
        self._part_seconds = part_seconds
        self._only = check_only(only)
        self._on_progress = on_progress
        self.files: list[Location] = []
        """The files that the last `write` has completed, however it ended."""
        self.unnamed: int = 0
        """The events that it has left out because they do not name their contact by its id; only with `only`."""
        self.written: int = 0
        """The events that it has put into files, whether or not these were completed."""

    async def write(self, run: SyncRun[Any]) -> list[Location]:
        """Write what `run` delivers until there is nothing new, or `SyncRun.stop` was called; returns the new files.

        `run` must have been made with ``autocommit=False``, or `UsageError` is raised, and entered; its note is this
        method's. `only` with a run of contacts raises `InvalidInput`.

        Raises `FolderError`; `NoteError` where the state was written by another program, or names a file that is
        missing; what `SyncRun` raises; OSError where the disk fails. What was delivered before is then committed, also
        when the task is cancelled, except after an OSError and where a batch could not be written. A folder that was
        created and is empty is then removed.
        """
        self.files, self.unnamed, self.written = [], 0, 0
        if run.autocommit:
            raise UsageError("a SyncWriter says itself which events are safe: pass a sync.run(autocommit=False)")
        if self._only is not None and not run.by_recipient:
            raise InvalidInput("only= is for syncs of actions or of the account; give the Sync the contacts themselves")
        with await acquired(self._open) as parts:
            try:
                await in_thread(lambda: parts.recover(run.note))
                await run.commit(str(parts.note))
                await in_thread(parts.tidy)
                await self._write(_Commits(run, parts, self.files), run)
            except BaseException:
                parts.remove()
                raise
        return self.files

    def _open(self) -> PartSequence:
        return PartSequence(self._storage, self._name, self._format, partition_by=self._partition_by)

    async def _write(self, commits: _Commits, run: SyncRun[Any]) -> None:
        try:
            await self._take_all(commits, run)
            await commits.commit()
        except (asyncio.CancelledError, Exception) as error:
            of_disk = isinstance(error, OSError) and not isinstance(error, NP6Error)  # a time-out is both
            if not of_disk and not commits.torn:
                await commits.commit()
            raise
        finally:
            commits.discard()

    async def _take_all(self, commits: _Commits, run: SyncRun[Any]) -> None:
        loop = asyncio.get_running_loop()
        batches = run.batches()
        due: float | None = None  # when the part is to be committed, on the loop's clock
        while True:
            try:
                # While nothing arrives, what has arrived is still committed. A cancelled step loses nothing.
                async with asyncio.timeout_at(due):
                    contact, events = await anext(batches)
            except TimeoutError:
                await commits.commit()
                due = None
                continue
            except StopAsyncIteration:
                return
            if due is None:
                due = loop.time() + self._part_seconds
            reached = events[-1].timestamp if run.by_recipient else None
            commits.torn = True
            if self._only is not None:
                events, unnamed = of_contacts(events, self._only)
                self.unnamed += unnamed
            self.written += len(events)
            size = commits.add(None if run.by_recipient else contact, events)
            commits.torn = False
            if self._on_progress is not None:
                stats = run.stats
                self._on_progress(Counts(stats.done, stats.failed, self.written, reached))
            if size >= self._part_bytes or loop.time() >= due:
                await commits.commit()
                due = None


@define(eq=False, repr=False)
class _Commits:
    """The part that is being written, and how it comes to count: the data first, then the note, then the name."""

    run: SyncRun[Any]
    parts: PartSequence
    files: list[Location]
    torn: bool = False  # the last batch is not, or not all, in the part: the run would commit it with the others
    _part: Part | None = None
    _left_out: bool = False  # events were, before there was a part

    def add(self, contact: str | Contact | None, events: list[Any]) -> int:
        """Write events of a contact, or of many; returns the size of the part in bytes."""
        if self._part is None:
            if not events:
                self._left_out = True
                return 0
            self._part = self.parts.next_part(isoformat(self.run.end))
        self._part.add(contact, events)
        return self._part.size

    async def commit(self) -> None:
        """Let what was added count; a cancellation meanwhile is raised when that is done."""
        if self._part is None and self._left_out:
            await self.run.commit()
        self._left_out = False
        if self._part is not None:
            part, self._part = self._part, None
            await ended(asyncio.create_task(self._commit(part)))

    def discard(self) -> None:
        """Remove what was not committed."""
        if self._part is not None:
            self._part.discard()

    async def _commit(self, part: Part) -> None:
        sealed = await in_thread(part.seal)
        note = await in_thread(lambda: self.parts.hold(sealed))
        try:
            await self.run.commit(str(note))
        except Exception:
            await in_thread(lambda: self.parts.drop(sealed, note))
            raise
        self.files += [self.parts.storage.part(each.name) for each in sealed]
        await in_thread(lambda: self.parts.release(sealed))
        await self.run.commit(str(self.parts.note))
        if note.many:
            await in_thread(lambda: self.parts.drop([], note))
