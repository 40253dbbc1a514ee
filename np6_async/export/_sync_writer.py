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
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, evolve, frozen

from .._columns.recipients import of_contacts
from .._errors import InvalidInput, NP6Error, UsageError
from .._http.lifetime import ended
from .._models.contacts import Contact
from .._models.time_bounds import isoformat
from ._disk import LockedFolder, beside, in_thread
from ._errors import NoteError
from ._export import PART_BYTES, PART_SECONDS, Counts, check_part
from ._only_ids import check_only
from ._part import TEMPORARY, Part, move
from ._writers import Format, check_format, suffix

if TYPE_CHECKING:
    from ..sync import SyncRun

_FORM: Final = "np6 sync 1"
_ODD: Final = re.compile(r"[^a-z0-9]+")


@frozen
class Note:
    """What the state records. `tag` is in the names of all parts of its sync that are not complete.

    `pending`: the part that is complete, by its path, and may not be there yet.
    """

    tag: str
    pending: str | None = None

    def __str__(self) -> str:
        # As ASCII: a path may hold characters that are not Unicode.
        return f"{_FORM} {json.dumps([self.tag, self.pending])}"

    @classmethod
    def parse(cls, text: str | None) -> Note:
        """The note that `text` is, or that of a new state; raises `NoteError`."""
        if text is None:
            return cls(secrets.token_hex(6))
        form, _, rest = text.rpartition(" [")
        if form == _FORM:
            with suppress(ValueError):
                tag, pending = json.loads(f"[{rest}")
                return cls(tag, pending)
        raise NoteError("belongs to another program that uses np6_async.sync; give another path")


class PartSequence(LockedFolder):
    """The parts in the folder at `path`, whose names begin with `name`.

    Several syncs may share the folder, one at a time. Every method blocks, and raises OSError where the disk does.
    Raises `FolderError`.
    """

    note: Note  # since `recover`

    def __init__(self, path: Path, name: str, format: Format, *, gzip: bool) -> None:
        super().__init__(path)
        self.path = path.absolute()  # the note may be read in another working directory
        self._name = _ODD.sub("-", name)
        self._format: Format = format
        self._gzip = gzip
        self._number = 0

    def recover(self, text: str | None) -> None:
        """Finish what an earlier run was killed in; `text` is the note in its state. Raises `NoteError`."""
        self.note = Note.parse(text)
        if self.note.pending is not None:
            noted = Path(self.note.pending)
            if not self._finish(noted):
                raise NoteError(
                    f"names the file {str(noted)!r}, which is neither there nor in the folder; put it back (if it was "
                    "loaded already, an empty file of this name will do)"
                )
            self.note = evolve(self.note, pending=None)
        for file in self.beside.glob(f"*.{self.note.tag}{TEMPORARY}"):
            file.unlink()

    def next_part(self, end: str) -> Part:
        """The next part of the run that fetches the events before `end`, an ISO 8601 time."""
        self._number += 1
        stem = re.sub(r"[-:]", "", end)
        target = self.path / f"{self._name}-{stem}-{self._number:06d}{suffix(self._format, gzip=self._gzip)}"
        return Part(target, self._temporary(target), self._format, gzip=self._gzip)

    def pending(self, part: Part) -> Note:
        """The note that records a complete part before it gets its name."""
        return evolve(self.note, pending=str(part.target))

    def _finish(self, noted: Path) -> bool:
        """Put the part in its place; whether it is there now."""
        here = self.path / noted.name  # the folder may have been moved, with the one beside it or without
        for target in (noted, here):
            for file in (self._temporary(noted), self._temporary(here)):
                with suppress(FileNotFoundError, NotADirectoryError):
                    move(file, target)
            if target.exists():
                return True
        return False

    def _temporary(self, target: Path) -> Path:
        return beside(target.parent) / f"{target.name}.{self.note.tag}{TEMPORARY}"


class SyncWriter:
    """Writes the new events of the runs of a `Sync` into files of a folder, each event once, whatever ends a run.

    ::

        async with sync.run(autocommit=False) as run:
            await SyncWriter("new", "bounces").write(run)

    A file appears when it is complete, and does not change: load it, then remove it. Files in progress are in the
    folder ``new.np6`` beside ``new``. Killed at any instant, the next run finishes: no event is missing, none is there
    twice. A contact's events may be in several files.

    - `folder` is created if it does not exist, its parent is not. Several syncs may share it, one at a time.
    - `name` is what the names of the files begin with; then come the time up to which the run fetches events, and a
      number.
    - `format`, `gzip`, `part_bytes` and `part_seconds` are those of `Export`.
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
        part_bytes: int = PART_BYTES,
        part_seconds: float = PART_SECONDS,
        only: Container[str] | None = None,
        on_progress: Callable[[Counts], object] | None = None,
    ) -> None:
        check_format(format, gzip=gzip)
        check_part(part_bytes, part_seconds)
        self._path = Path(folder)
        self._name = name
        self._format: Format = format
        self._gzip = gzip
        self._part_bytes = part_bytes
        self._part_seconds = part_seconds
        self._only = check_only(only)
        self._on_progress = on_progress
        self.files: list[Path] = []
        """The files that the last `write` has completed, however it ended."""
        self.unnamed: int = 0
        """The events that it has left out because they do not name their contact by its id; only with `only`."""
        self.written: int = 0
        """The events that it has put into files, whether or not these were completed."""

    async def write(self, run: SyncRun[Any]) -> list[Path]:
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
        with PartSequence(self._path, self._name, self._format, gzip=self._gzip) as parts:
            try:
                await in_thread(lambda: parts.recover(run.note))
                await run.commit(str(parts.note))
                await self._write(_Commits(run, parts, self.files), run)
            except BaseException:
                parts.remove()
                raise
        return self.files

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
            name = None if run.by_recipient else contact.value if isinstance(contact, Contact) else contact
            self.written += len(events)
            size = commits.add(name, events)
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
    files: list[Path]
    torn: bool = False  # the last batch is not, or not all, in the part: the run would commit it with the others
    _part: Part | None = None
    _left_out: bool = False  # events were, before there was a part

    def add(self, contact: str | None, events: list[Any]) -> int:
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
        await in_thread(part.seal)
        try:
            await self.run.commit(str(self.parts.pending(part)))
        except Exception:
            part.discard()
            raise
        self.files.append(part.target)
        await in_thread(part.publish)
        await self.run.commit(str(self.parts.note))
