"""`SyncWriter`: the new events of a sync, in files, each of which the state of the sync records."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve

from .._client import settings_of
from .._columns.personal import Personal, PersonalKey, read_key
from .._errors import InvalidInput, UsageError
from ..sync._run import lending_of
from ._counts import Counts
from ._disk import acquired, in_thread
from ._executor import SHARD_SIZE, Executor, check_executor
from ._export import PART_BYTES, PART_SECONDS, check_part
from ._location import storage_of
from ._only_ids import check_only
from ._part import Part, check_partitions
from ._storage import Location
from ._sync_fleet import SyncFleet
from ._sync_intake import SyncIntake
from ._sync_parts import PartSequence
from ._sync_shard import Files, SyncShard
from ._worker import account_of, check_client
from ._writers import CsvDialect, Format, file_format

if TYPE_CHECKING:
    from ..sync import SyncRun
    from ..sync._lending import Lending


class SyncWriter:
    """Writes the new events of the runs of a `Sync` into files of a folder, each event once, whatever ends a run.

    ::

        async with sync.run(autocommit=False) as run:
            await SyncWriter("new", "bounces").write(run)

    A file appears when it is complete, and does not change: load it, then remove it. Files in progress are in the
    folder ``new.np6`` beside ``new``. Killed at any instant, the next run finishes: no event is missing, none is there
    twice. A contact's events may be in several files.

    - `folder` and those that it lies in are created unless they exist. Several syncs may share it, one at a time. It
      may be one of an object store, as that of `Export`.
    - `name` is what the names of the files begin with; then come the time up to which the run fetches events, and a
      number; with an `executor` two, of the shard and in it, and a word that no other file has.
    - `format`, `gzip`, `csv_dialect`, `personal`, `personal_key`, `partition_by`, `part_bytes` and `part_seconds` are
      those of `Export`.
    - `only`: with a sync of actions or of the account, the ids of the contacts whose events are written, such as a set
      or an `OnlyIds`; the others are left out, and count as delivered.
    - `executor`, with a sync of contacts: where they are fetched, `shard_size` at a time, 1 to 1,000,000 (default
      5,000), in place of this process. What is promised stays the same, and a run with an executor may follow one
      without, and vice versa. A worker needs the API key in its environment, and must see the folder. A shard is
      recorded as a whole: a kill costs what the workers have in hand, and `part_seconds` does not count.
    - `on_progress` is called with the `Counts` of the run after each batch, or when more is known of the workers; what
      it raises ends the run.

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
        executor: Executor | None = None,
        shard_size: int = SHARD_SIZE,
        on_progress: Callable[[Counts], object] | None = None,
    ) -> None:
        if personal == "hash" and personal_key is not None and not isinstance(personal_key, bytes):
            personal_key = read_key(personal_key)  # once: it may be a pipe
        self._format = file_format(
            format, gzip=gzip, csv_dialect=csv_dialect, personal=personal, personal_key=personal_key
        )
        check_part(part_bytes, part_seconds)
        self._storage = storage_of(folder)
        self._partition_by = check_partitions(partition_by)
        self._name = name
        self._executor = check_executor(executor, shard_size)
        self._shard_size = shard_size
        self._files = Files(
            name=name,
            tag="",
            format=format,
            gzip=self._format.gzip,
            csv_dialect=csv_dialect,
            personal=personal,
            personal_key=personal_key if isinstance(personal_key, bytes) else None,
            partition_by=self._partition_by,
            part_bytes=part_bytes,
        )
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
        method's. `only` with a run of contacts raises `InvalidInput`, and so does `executor` with one of actions or of
        the account, or where its client is one that cannot be made in other processes.

        Raises `FolderError`; `NoteError` where the state was written by another program, or names a file that is
        missing; what `SyncRun` raises; OSError where the disk fails. What was delivered before is then committed, also
        when the task is cancelled, except after an OSError and where a batch could not be written. A folder that was
        created and is empty is then removed. With an `executor`, also `WorkersLost`; and `ConfigError` where a worker
        has no API key, or another one.
        """
        self.files, self.unnamed, self.written = [], 0, 0
        if run.autocommit:
            raise UsageError("a SyncWriter says itself which events are safe: pass a sync.run(autocommit=False)")
        if self._only is not None and not run.by_recipient:
            raise InvalidInput("only= is for syncs of actions or of the account; give the Sync the contacts themselves")
        lending = None
        if self._executor is not None:
            lending = lending_of(run)
            check_client(lending.client)
        with await acquired(self._open) as parts:
            try:
                await in_thread(lambda: parts.recover(run.note))
                await run.commit(str(parts.note))
                await in_thread(parts.tidy)
                if self._executor is not None and lending is not None:
                    await self._write_with(self._executor, run, lending, parts)
                else:
                    await self._write(run, parts)
            except BaseException:
                parts.remove()
                raise
        return self.files

    def _open(self) -> PartSequence:
        return PartSequence(self._storage, self._name, self._format, partition_by=self._partition_by)

    async def _write(self, run: SyncRun[Any], parts: PartSequence) -> None:
        def report(reached: int | None) -> None:
            self._report(run, intake.written, reached)

        commit = partial(_commit, run, parts, self.files)
        intake = SyncIntake(run, parts.next_part, commit, report, self._part_bytes, self._part_seconds, self._only)
        try:
            await intake.take_all()
        finally:
            self.written, self.unnamed = intake.written, intake.unnamed

    async def _write_with(self, executor: Executor, run: SyncRun[Any], lending: Lending, parts: PartSequence) -> None:
        settings, salt = settings_of(lending.client), secrets.token_bytes(16)
        shard = SyncShard(
            where=self._storage.where,
            files=evolve(self._files, tag=parts.note.tag),
            terms=lending.terms,
            client=evolve(settings, concurrency=lending.concurrency or settings.concurrency),
            salt=salt,
            account=account_of(lending.client, salt),
            number=0,
            contacts=(),
            states=(),
        )

        def report() -> None:
            self._report(run, run.stats.events, None)

        name = f"np6-{salt[:4].hex()}"
        fleet = SyncFleet(run, lending, parts, executor, name, shard, self._shard_size, self.files, report)
        try:
            await fleet.fill()
        finally:
            self.written = fleet.written

    def _report(self, run: SyncRun[Any], written: int, reached: int | None) -> None:
        if self._on_progress is not None:
            stats = run.stats
            self._on_progress(Counts(stats.done, stats.failed, written, reached, stats.retries))


async def _commit(run: SyncRun[Any], parts: PartSequence, files: list[Location], part: Part) -> None:
    """Let a part count: the data first, then the note, then the name."""
    sealed = await in_thread(part.seal)
    note = await in_thread(lambda: parts.hold(sealed))
    names = [each.name for each in sealed]
    try:
        await run.commit(str(note))
    except Exception:
        await in_thread(lambda: parts.drop(names, note))
        raise
    files += [parts.storage.part(name) for name in names]
    await in_thread(lambda: parts.release(names))
    await run.commit(str(parts.note))
    await in_thread(lambda: parts.drop([], note))
