"""The unit of an export in many processes: some contacts, whose events a worker fetches into parts of their own.

A worker leaves its parts in the folder beside that of the export, where they count for nothing; the one process that
has the folder open makes parts of those that it accepts. So a shard may be fetched twice, even at the same time, and a
worker that was thought dead may go on: it has written what nobody will ask for.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from concurrent.futures import CancelledError
from math import inf
from typing import Any, Final

from attrs import Factory, define, field, frozen

from .._api.event_requests import EventRequests
from .._client import ClientSettings, NP6Client, runtime_of
from .._errors import NP6Error
from .._models.contacts import Contact
from .._streams.buffer import Failure
from .._streams.bulk_stream import BulkStream
from ._counts import Counts
from ._disk import Commits
from ._errors import ExportError
from ._executor import Job
from ._intake import Intake
from ._ledger import Ledger
from ._manifest import Query, runs
from ._part import HeldPart, Part, check_partitions, new_part, temporary_name
from ._storage import Storage
from ._worker import hold, stoppable, work_in_folder
from ._writers import file_format

_REPORT_SECONDS: Final = 1.0


@frozen
class Shard:
    """What a worker needs to know. A repr of it shows neither contacts nor keys: it may get into logs.

    `number` is 1 for the first shard of a run, whose first contacts show whether the address is right. `account` is a
    word for the API key and the server, made with `salt`, which no other run has: the worker, which has its own key,
    must have the same.
    """

    where: str  # the folder
    number: int
    query: Query
    run: str  # the word by which the run knows again what is written for it
    start: str | None
    end: str
    client: ClientSettings
    salt: bytes = field(repr=False)
    account: str = field(repr=False)
    part_bytes: int
    personal_key: bytes | None = field(repr=False)
    contacts: tuple[str, ...] = field(repr=False)


@frozen
class Fetched:
    """What became of a shard: `parts` have all events of the contacts at the positions `done`, those that `failed` did
    so permanently, and the others are as if they had not been begun. `error` is what ended it early."""

    parts: list[HeldPart]
    done: list[int | tuple[int, int]]
    failed: list[tuple[int, Failure]] = field(repr=False)
    counts: Counts
    error: NP6Error | None


def contacts_stream(
    client: NP6Client,
    query: Query,
    contacts: Ledger,
    start: str | None,
    end: str,
    concurrency: int | None,
    *,
    known: bool = False,
) -> BulkStream[Any, Any]:
    """The events that `query` asks for, between two bounds; `known`: the address is right."""
    requests = EventRequests(runtime_of(client))
    asked = requests.query(query.kind, start, end, query.classification, missing=query.missing)
    return requests.bulk(contacts, lambda _: asked, concurrency, "skip", known=known)


def fetch_shard(shard: Shard, job: Job) -> Fetched:
    """Fetch the events of a shard; in a thread of a worker.

    Raises OSError where its disk fails, `FolderError` where it does not see the folder, and `ConfigError` where it
    lacks the API key or has another one.
    """

    async def fetch(client: NP6Client, storage: Storage) -> Fetched:
        return await _Fetching(shard, job, storage).fetch(client)

    try:
        return work_in_folder(shard.where, shard.client, shard.salt, shard.account, fetch)
    except CancelledError:  # by the job
        return Fetched([], [], [], Counts(0, 0, 0), None)


@define(eq=False, repr=False)
class _Fetching:
    """A shard that is being fetched."""

    shard: Shard
    job: Job
    storage: Storage
    _parts: list[HeldPart] = Factory(list)
    _kept: list[int] = Factory(list)  # positions of contacts that are done, and in `parts`
    _done: list[int] = Factory(list)  # since the last commit
    _failed: list[tuple[int, Failure]] = Factory(list)
    _events: int = 0
    _ledger: Ledger = field(init=False)
    _token: str = Factory(lambda: secrets.token_hex(8))  # no other worker has it
    _number: int = 0
    _commits: Commits = Factory(Commits)
    _reported_at: float = 0.0
    _stream: BulkStream[Any, Any] | None = None

    async def fetch(self, client: NP6Client) -> Fetched:
        """Fetch what can be fetched."""
        shard = self.shard
        ledger = self._ledger = Ledger(self._contacts())
        intake = self._make_intake()
        ended: NP6Error | None = None
        limit: asyncio.Timeout | None = None
        try:
            known, concurrency = shard.number > 1, shard.client.concurrency
            stream = contacts_stream(client, shard.query, ledger, shard.start, shard.end, concurrency, known=known)
            async with stoppable(self.job, ledger.stop) as limit, stream as self._stream:
                await intake.take_all(stream)
            await intake.keep()
        except NP6Error as error:
            if isinstance(error, ExportError):
                raise
            ended = error
            if self._kept or self._done:
                await intake.keep()
            else:  # all may have failed for this cause
                self._failed = []
        except TimeoutError:
            if limit is None or not limit.expired():  # it is of the disk
                raise
            await intake.keep()
        finally:
            intake.discard()
        return Fetched(self._parts, runs(self._kept), self._failed, self._counts, ended)

    def _make_intake(self) -> Intake:
        shard, query = self.shard, self.shard.query
        file = file_format(
            query.format,
            gzip=query.gzip,
            csv_dialect=query.csv_dialect,
            personal=query.personal,
            personal_key=shard.personal_key,
        )
        partitions = check_partitions(query.partition_by)

        def next_part() -> Part:
            self._number += 1
            word = f"{self._token}-{shard.run}" if shard.run else self._token
            name = f"part-{self._number:06d}-{word}{file.suffix}"
            return new_part(self.storage.scratch, name, file, partitions)

        return Intake(
            self.storage.scratch,
            next_part,
            self._commit,
            self,
            part_bytes=shard.part_bytes,
            part_seconds=inf,
            concurrency=shard.client.concurrency,
        )

    async def _contacts(self) -> AsyncGenerator[Contact, None]:
        by = self.shard.query.by
        assert by != "action"
        for value in self.shard.contacts:
            yield Contact(by, value)

    # The `Outcomes` of the intake

    def done(self, contact: Contact, events: int) -> None:
        """It is, once its part is complete."""
        self._done.append(self._ledger.end(contact))
        self._events += events
        self._report()

    def failed(self, failure: Failure) -> None:
        """It is, whatever becomes of the part."""
        self._failed.append((self._ledger.end(failure.contact), failure))
        self._report()

    @property
    def _counts(self) -> Counts:
        retries = 0 if self._stream is None else self._stream.stats.retries
        return Counts(len(self._kept) + len(self._done), len(self._failed), self._events, retries=retries)

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            self.job.report(self._counts)

    async def _commit(self, part: Part | None) -> None:
        done, self._done = self._done, []

        def hold() -> None:  # to its end, also where this is cancelled meanwhile
            if part is not None:
                self._hold(part)
            self._kept += done

        await self._commits.run(hold)

    def _hold(self, part: Part) -> None:
        self._parts.append(HeldPart(hold(self.storage, part, temporary_name)))
