"""The unit of a sync in many processes: some contacts with their progress, of which a worker fetches what is new.

The worker makes an ordinary run of them, over a store in its memory, and leaves its files in the folder beside that of
the parts, under names that nobody else gives. Files and progress go back together, and count when the one process that
has the state records both. So a shard may be fetched twice, even at the same time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import CancelledError
from math import inf
from typing import Any, Final

from attrs import Factory, define, field, frozen

from .._client import ClientSettings, NP6Client
from .._columns.personal import Personal
from .._errors import NP6Error
from .._models.contacts import Contact
from .._streams.buffer import Failure
from .._streams.stats import BulkStats
from ..sync import Sync, SyncRun
from ..sync._lending import LentStore, Terms
from ..sync._sync import run_until
from ._disk import in_thread
from ._errors import ExportError
from ._executor import Job
from ._part import HeldFile, Part, Partition, new_part
from ._storage import Storage
from ._sync_intake import SyncIntake
from ._sync_parts import held_name, stem
from ._worker import hold, stoppable, work_in_folder
from ._writers import CsvDialect, Format, file_format

_REPORT_SECONDS: Final = 1.0


@frozen
class Files:
    """What the files of a sync are like; `name` begins their names, and `tag` is that of `Note`."""

    name: str
    tag: str
    format: Format
    gzip: bool
    csv_dialect: CsvDialect
    personal: Personal
    personal_key: bytes | None = field(repr=False)
    partition_by: tuple[Partition, ...]
    part_bytes: int


@frozen
class SyncShard:
    """What a worker needs to know. A repr of it shows neither contacts nor keys: it may get into logs.

    `number` is 1 for the first shard of a run, whose first contacts show whether the address is right. `account` is a
    word for the API key and the server, made with `salt`, which no other run has. `states` are what the store of the
    sync has of the `contacts`.
    """

    where: str  # the folder
    files: Files
    terms: Terms
    client: ClientSettings
    salt: bytes = field(repr=False)
    account: str = field(repr=False)
    number: int
    contacts: tuple[Contact, ...] = field(repr=False)
    states: tuple[bytes | None, ...] = field(repr=False)


@frozen
class Synced:
    """What became of a shard: `files` are held, and have the events that `states`, the progress of the contacts by
    their positions, say are delivered, and no others.

    `failed` are those contacts that did so; `end` is that of the run, and `error` what ended it early. Contacts that
    are in neither are as if they had not been begun.
    """

    files: list[HeldFile]
    states: dict[int, bytes] = field(repr=False)
    failed: list[tuple[int, Failure]] = field(repr=False)
    stats: BulkStats
    end: int
    error: NP6Error | None


def fetch_sync_shard(shard: SyncShard, job: Job) -> Synced:
    """Fetch what is new of a shard; in a thread of a worker.

    Raises OSError where its disk fails, `FolderError` where it does not see the folder, and `ConfigError` where it
    lacks the API key or has another one.
    """

    async def fetch(client: NP6Client, storage: Storage) -> Synced:
        return await _Fetching(shard, job, storage).fetch(client)

    try:
        return work_in_folder(shard.where, shard.client, shard.salt, shard.account, fetch)
    except CancelledError:  # by the job
        return Synced([], {}, [], BulkStats(), shard.terms.end, None)


@define(eq=False, repr=False)
class _Fetching:
    """A shard that is being fetched."""

    shard: SyncShard
    job: Job
    storage: Storage
    _run: SyncRun[Any] = field(init=False)
    _files: list[HeldFile] = Factory(list)
    _token: str = Factory(lambda: secrets.token_hex(8))
    _number: int = 0
    _reported_at: float = 0.0

    async def fetch(self, client: NP6Client) -> Synced:
        """Fetch what can be fetched."""
        shard = self.shard
        store = LentStore(shard.contacts, shard.states)
        run = self._run = run_until(self._make_sync(client, store), shard.terms.end, known=shard.number > 1)
        intake = SyncIntake(run, self._next_part, self._commit, self._report, shard.files.part_bytes, inf)
        error: NP6Error | None = None
        limit: asyncio.Timeout | None = None
        try:
            async with run, stoppable(self.job, run.stop) as limit:
                await intake.take_all()
        except ExportError:
            raise
        except NP6Error as ended:
            error = ended
        except TimeoutError:  # what was delivered is committed
            if limit is None or not limit.expired():  # it is of the disk
                raise
        positions = {contact: position for position, contact in enumerate(shard.contacts)}
        failed = [(positions[failure.contact], failure) for failure in run.failures]  # type: ignore[index]
        return Synced(self._files, store.written, failed, run.stats, run.end, error)

    def _make_sync(self, client: NP6Client, store: LentStore) -> Sync[Any]:
        terms = self.shard.terms
        sync: Sync[Any] = Sync(
            client,
            store,
            self.shard.contacts,
            terms.kind,
            overlap=terms.overlap,
            safety=terms.safety,
            start=terms.start,
            classification=terms.classification,
            missing=terms.missing,
        )
        return sync

    def _next_part(self, end: str) -> Part:
        files = self.shard.files
        made = file_format(
            files.format,
            gzip=files.gzip,
            csv_dialect=files.csv_dialect,
            personal=files.personal,
            personal_key=files.personal_key,
        )
        self._number += 1
        numbers = f"{self.shard.number:06d}-{self._number:04d}"
        name = f"{stem(files.name, end)}-{numbers}-{self._token}{made.suffix}"
        return new_part(self.storage.scratch, name, made, files.partition_by, self._held)

    def _held(self, name: str) -> str:
        return held_name(name, self.shard.files.tag)

    async def _commit(self, part: Part) -> None:
        held = await in_thread(lambda: hold(self.storage, part, self._held))
        await self._run.commit()
        self._files += held

    def _report(self, _: int | None) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            self.job.report(self._run.stats)
