"""An export whose contacts workers fetch: cut into shards as they are read, and committed as they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import Factory, define, evolve, frozen

from .._http.lifetime import ended
from .._models.contacts import Contact
from ._counts import Counts
from ._executor import Executor
from ._exporter import Exporter
from ._ledger import Ledger
from ._manifest import positions
from ._part import HeldPart
from ._shard import Fetched, Shard, fetch_shard


@define(eq=False, repr=False)
class Fleet:
    """A `Fetcher` whose `executor` runs `fetch_shard` in workers, for `size` contacts at a time.

    `shard` is what all shards have in common, `name` begins their names. Contacts are read when a worker is about to
    need them, and what comes back is committed while others go on; so a kill costs what the workers have in hand.
    `ask` makes the server's time known by a request for a contact, so that an end of "now" is one for all workers.
    """

    exporter: Exporter
    executor: Executor
    name: str
    shard: Shard
    size: int
    ask: Callable[[Contact], Awaitable[None]]
    _number: int = 0
    _ending: bool = False
    _torn: bool = False  # some of what came back is counted, and not committed
    _reading: asyncio.Task[list[Contact]] | None = None
    _committing: asyncio.Task[None] | None = None
    _stopping: asyncio.Task[None] | None = None
    _running: dict[asyncio.Task[_Result], None] = Factory(dict)
    _results: list[_Result] = Factory(list)  # to be committed
    _retries: dict[str, int] = Factory(dict)

    @property
    def retries(self) -> int:
        """See `Fetcher`."""
        return sum(self._retries.values())

    async def fill(self, ledger: Ledger) -> None:
        """See `Fetcher`."""
        error: BaseException | None = None
        all_read = False
        try:
            while True:
                if not (self._reading or all_read or self._ending) and len(self._running) < self.executor.width:
                    self._reading = asyncio.create_task(self._read(ledger))
                if self._results and not self._committing:
                    self._committing = asyncio.create_task(self._commit())
                waiting = {*self._running, *filter(None, (self._reading, self._committing))}
                if not waiting:
                    break
                finished, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    try:
                        all_read |= self._take(task)
                    except (Exception, asyncio.CancelledError) as raised:
                        if error is None and not (self._ending and isinstance(raised, asyncio.CancelledError)):
                            error = raised
                        self.stop()
        finally:
            await self._end()
        if error is not None:
            raise error

    def _take(self, task: asyncio.Task[Any]) -> bool:
        """Take what has ended; whether all contacts are read. Raises what ends the run."""
        if task is self._committing:
            self._committing = None
            task.result()
        elif task is self._reading:
            self._reading = None
            contacts = task.result()
            if contacts:
                self._running[asyncio.create_task(self._run(contacts))] = None
            return len(contacts) < self.size
        else:
            del self._running[task]
            result = task.result()
            self._results.append(result)
            if result.fetched.error is not None:
                raise result.fetched.error
        return False

    async def _end(self) -> None:
        """Cancel what is left, but not a commit."""
        left = [*self._running, *filter(None, (self._reading, self._stopping))]
        for task in left:
            task.cancel()
        try:
            await asyncio.gather(*left, return_exceptions=True)
        finally:
            if self._committing is not None:
                with suppress(Exception):  # `Exporter` finds it
                    await ended(self._committing)

    async def keep(self) -> None:
        """See `Fetcher`."""
        if self._results and not self._torn:
            await self._commit()

    def discard(self) -> None:
        """See `Fetcher`: what the workers have left is removed when the folder is tidied."""
        self._results = []

    def stop(self) -> None:
        """See `Fetcher`: the workers begin no more contacts either."""
        self._ending = True
        if self._reading is not None:
            self._reading.cancel()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self.executor.stop())

    async def _read(self, ledger: Ledger) -> list[Contact]:
        contacts: list[Contact] = []
        async for contact in ledger:
            contacts.append(contact)
            if len(contacts) == self.size:
                break
        if contacts and self.exporter.end.open is not None:
            await self.ask(contacts[0])
            self.exporter.end.settle()
        return contacts

    async def _run(self, contacts: Sequence[Contact]) -> _Result:
        self._number += 1
        name = f"{self.name}-{self._number:06d}"
        start, end = self.exporter.bounds
        values = tuple(contact.value for contact in contacts)
        shard = evolve(self.shard, start=start, end=end, contacts=values)

        def report(counts: Counts) -> None:
            self._retries[name] = counts.retries
            self.exporter.underway(name, counts)

        try:
            fetched = await self.executor.run(name, fetch_shard, shard, report)
        except BaseException:
            self.exporter.underway(name, None)
            raise
        self._retries[name] = fetched.counts.retries
        return _Result(name, contacts, fetched)

    async def _commit(self) -> None:
        results, self._results = self._results, []
        parts: list[HeldPart] = []
        self._torn = True
        for result in results:
            fetched, contacts = result.fetched, result.contacts
            self.exporter.underway(result.name, None)
            self.exporter.add_events(fetched.counts.events)
            for position in positions(fetched.done):
                self.exporter.done(contacts[position], 0)
            for position, failure in fetched.failed:
                self.exporter.failed(evolve(failure, contact=contacts[position]))
            parts += fetched.parts
        await self.exporter.commit(parts)
        self._torn = False


@frozen
class _Result:
    name: str
    contacts: Sequence[Contact]
    fetched: Fetched
