"""`SyncWriter`: the new events of a sync, in files, each of which the state of the sync records."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import Contact, NP6Error
from .._models.time_bounds import isoformat
from ._export import PART_BYTES, PART_SECONDS, Counts, check_part
from ._formats import Format, check_format
from ._part import Part
from ._part_sequence import PartSequence
from ._threads import in_thread

if TYPE_CHECKING:
    from ..sync import SyncRun


class SyncWriter:
    """Writes the new events of the runs of a `Sync` into files of a folder, each event once, whatever ends a run.

    ::

        async with sync.run(autocommit=False) as run:
            await SyncWriter("new", "bounces").write(run)

    A file appears under its name when it is complete, and does not change: load it, then remove it. Names that begin
    with a dot are files in progress. Killed at any instant, the next run finishes: no event is missing, none is there
    twice. A contact's events may be in several files.

    - `folder` is created if it does not exist, its parent is not. Several syncs may share it, one at a time.
    - `name` is what the names of the files begin with; then come the time up to which the run fetches events, and a
      number.
    - `format`, `gzip`, `part_bytes` and `part_seconds` are those of `Export`.
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
        self._on_progress = on_progress
        self.files: list[Path] = []
        """The files that the last `write` has completed, however it ended."""

    async def write(self, run: SyncRun[Any]) -> list[Path]:
        """Write what `run` delivers until there is nothing new, or `SyncRun.stop` was called; returns the new files.

        `run` must have been made with ``autocommit=False`` and entered; its note is this method's.

        Raises `FolderError`; `NoteError` where the state was written by another program, or names a file that is
        missing; what `SyncRun` raises; OSError where the disk fails. What was delivered before is then committed, also
        when the task is cancelled, except after an OSError. A folder that was created and is empty is then removed.
        """
        self.files = []
        with PartSequence(self._path, self._name, self._format, gzip=self._gzip) as parts:
            try:
                await in_thread(lambda: parts.recover(run.note))
                await run.commit(str(parts.note))
                await self._write(_Commits(run, parts, self.files), run)
            except BaseException:
                parts.forget()
                raise
        return self.files

    async def _write(self, commits: _Commits, run: SyncRun[Any]) -> None:
        try:
            await self._take_all(commits, run)
            await commits.commit()
        except (asyncio.CancelledError, Exception) as error:
            if isinstance(error, NP6Error) or not isinstance(error, OSError):  # a time-out is both
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
            size = commits.add(contact.value if isinstance(contact, Contact) else contact, events)
            if self._on_progress is not None:
                stats = run.stats
                self._on_progress(Counts(stats.done, stats.failed, stats.events))
            if size >= self._part_bytes or loop.time() >= due:
                await commits.commit()
                due = None


class _Commits:
    """The part that is being written, and how it comes to count: the data first, then the note, then the name."""

    def __init__(self, run: SyncRun[Any], parts: PartSequence, files: list[Path]) -> None:
        self._run = run
        self._parts = parts
        self._files = files
        self._part: Part | None = None
        self._running: asyncio.Future[None] | None = None

    def add(self, contact: str, events: list[Any]) -> int:
        """Write events of a contact; returns the size of the part in bytes."""
        if self._part is None:
            self._part = self._parts.next_part(isoformat(self._run.end))
        self._part.add(contact, events)
        return self._part.size

    async def commit(self) -> None:
        """Let what was added count; a commit that was cancelled meanwhile goes on, and is waited for here."""
        if self._running is not None and not self._running.done():
            await asyncio.shield(self._running)
        if self._part is not None:
            part, self._part = self._part, None
            self._running = asyncio.ensure_future(self._commit(part))
            await asyncio.shield(self._running)

    def discard(self) -> None:
        """Remove what was not committed."""
        if self._part is not None:
            self._part.discard()

    async def _commit(self, part: Part) -> None:
        await in_thread(part.seal)
        try:
            await self._run.commit(str(self._parts.pending(part)))
        except Exception:
            part.discard()
            raise
        self._files.append(part.target)
        await in_thread(part.publish)
        await self._run.commit(str(self._parts.note))
