"""A sync whose contacts workers fetch: lent to them as they are read, and recorded as they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, evolve, field, frozen

from .._errors import EndpointNotFound, NP6Error
from .._http.lifetime import ended
from .._streams.stats import BulkStats
from ._disk import in_thread
from ._dispatch import Dispatch
from ._errors import FolderError
from ._executor import Executor
from ._storage import Location
from ._sync_parts import PartSequence
from ._sync_shard import Synced, SyncShard, fetch_sync_shard

if TYPE_CHECKING:
    from ..sync import SyncRun
    from ..sync._lending import Lending, Loan


@define(eq=False, repr=False)
class SyncFleet:
    """Has `executor` run `fetch_sync_shard` in workers, for `size` contacts of `run` at a time, and records in its
    state what comes back.

    `shard` is what all shards have in common, `name` begins their names, and `report` is called when more is known.
    """

    run: SyncRun[Any]
    lending: Lending
    parts: PartSequence
    executor: Executor
    name: str
    shard: SyncShard
    size: int
    files: list[Location]  # those that are complete
    report: Callable[[], object]
    written: int = 0  # events in them
    _dispatch: Dispatch[Loan, _Result] = field(init=False)
    _number: int = 0
    _error: BaseException | None = None  # what `report` has raised
    _unsure: bool = False  # the state may have a note of files that are not in the folder yet
    _underway: set[str] = Factory(set)
    _wrong_address: bool = False  # all contacts seem to be unknown

    def __attrs_post_init__(self) -> None:
        self._dispatch = Dispatch(self.executor, lambda: self.lending.lend(self.size), self._fetch, self._commit)

    async def fill(self) -> None:
        """Fetch what is new.

        However it ends, what has come back is recorded, except after an OSError; and what nobody has accepted is
        removed, unless the next run is to finish what this one has begun.
        """
        try:
            async with self.executor:
                await self._fill()
        except BaseException:
            if not self._unsure:
                with suppress(OSError, FolderError):
                    await in_thread(self.parts.tidy)
            raise
        await in_thread(self.parts.tidy)

    async def _fill(self) -> None:
        self.lending.listen(self._dispatch.stop)
        try:
            try:
                await self._dispatch.run()
            finally:
                self.lending.listen(lambda: None)
        except (asyncio.CancelledError, Exception) as error:
            if isinstance(error, NP6Error) or not isinstance(error, OSError):  # a time-out is both
                await self._dispatch.keep()
            raise
        if self._error is not None:
            raise self._error

    async def _fetch(self, loan: Loan) -> _Result:
        self._number += 1
        name = f"{self.name}-{self._number:06d}"
        shard = evolve(self.shard, number=self._number, contacts=loan.contacts, states=loan.states)

        def report(stats: BulkStats) -> None:
            if name in self._underway:  # it may be late
                self.lending.underway(name, stats)
                self._tell()

        self._underway.add(name)
        try:
            synced = await self.executor.run(name, fetch_sync_shard, shard, report)
        except BaseException:
            self.lending.lost(name)
            raise
        finally:
            self._underway.discard(name)
        self.lending.ended(name, synced.stats, synced.end)
        return _Result(loan, synced, await self._settle(loan, synced))

    async def _settle(self, loan: Loan, synced: Synced) -> Exception | None:
        """Tell of those that have failed; returns what ends the run."""
        failed = [] if self._wrong_address else synced.failed
        self._wrong_address |= isinstance(synced.error, EndpointNotFound)
        try:
            for position, failure in failed:
                given = loan.given[position]
                failure.error.contact = given
                await self.lending.settle(evolve(failure, contact=given))
        except Exception as error:
            return error
        return synced.error

    async def _commit(self, results: Sequence[_Result]) -> None:
        """Let files and progress count; a cancellation meanwhile is raised when that is done."""
        await ended(asyncio.create_task(self._record(results)))
        self._tell()

    async def _record(self, results: Sequence[_Result]) -> None:
        loans: list[tuple[Loan, Mapping[int, bytes]]] = [(each.loan, each.synced.states) for each in results]
        files = [file for each in results for file in each.synced.files]
        if not files:
            await self.lending.give_back(loans, None)
            return
        names = [file.name for file in files]
        note = await in_thread(lambda: self.parts.take(names))
        self._unsure = True
        try:
            await self.lending.give_back(loans, str(note))
        except Exception:
            await in_thread(lambda: self.parts.drop(names, note))
            self._unsure = False
            raise
        self.files += [self.parts.storage.part(name) for name in names]
        self.written += sum(file.rows for file in files)
        await in_thread(lambda: self.parts.release(names))
        await self.run.commit(str(self.parts.note))
        self._unsure = False
        await in_thread(lambda: self.parts.drop([], note))

    def _tell(self) -> None:
        try:
            self.report()
        except Exception as error:
            self._error = self._error or error
            self.lending.stop()


@frozen
class _Result:
    loan: Loan
    synced: Synced
    error: Exception | None
