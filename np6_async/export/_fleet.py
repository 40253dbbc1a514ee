"""An export whose contacts workers fetch: cut into shards as they are read, and committed as they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from attrs import Factory, define, evolve, frozen

from .._models.contacts import Contact
from .._streams.buffer import Failure
from ._counts import Counts
from ._dispatch import Dispatch
from ._executor import Executor
from ._exporter import Exporter
from ._ledger import Ledger
from ._manifest import positions
from ._part import HeldPart
from ._shard import Fetched, Shard, fetch_shard


@define(eq=False, repr=False)
class Fleet:
    """A `Fetcher` whose `executor` runs `fetch_shard` in workers, for `size` contacts at a time.

    `shard` is what all shards have in common, `names` has one for each. Contacts are read when a worker is about to
    need them, and what comes back is committed while others go on; so a kill costs what the workers have in hand.
    `ask` makes the server's time known by a request for a contact, so that an end of "now" is one for all workers.
    """

    exporter: Exporter
    executor: Executor
    names: Iterator[str]
    shard: Shard
    size: int
    ask: Callable[[Contact], Awaitable[None]]
    _dispatch: Dispatch[list[Contact], _Result] | None = None
    _number: int = 0
    _fetching: set[str] = Factory(set)
    _answered: asyncio.Event = Factory(asyncio.Event)  # somebody was: failures are not those of a wrong address
    _error: Exception | None = None  # what the exporter's `report` has raised
    _retries: int = 0
    _heard: dict[str, int] = Factory(dict)  # of these, the retries of shards that are being fetched

    @property
    def retries(self) -> int:
        """See `Fetcher`."""
        return self._retries

    async def fill(self, ledger: Ledger) -> None:
        """See `Fetcher`."""
        self._dispatch = Dispatch(self.executor, lambda: self._read(ledger), self._fetch, self._commit)
        await self._dispatch.run()
        if self._error is not None:
            raise self._error

    async def keep(self) -> None:
        """See `Fetcher`."""
        if self._dispatch is not None:
            await self._dispatch.keep()

    def discard(self) -> None:
        """See `Fetcher`: what the workers have left is removed when the folder is tidied."""

    def stop(self) -> None:
        """See `Fetcher`: the workers begin no more contacts either."""
        if self._dispatch is not None:
            self._dispatch.stop()

    async def _read(self, ledger: Ledger) -> list[Contact] | None:
        contacts: list[Contact] = []
        async for contact in ledger:
            contacts.append(contact)
            if len(contacts) == self.size:
                break
        if contacts and self.exporter.end.open is not None:
            await self.ask(contacts[0])
            self.exporter.end.settle()
        return contacts or None

    async def _fetch(self, contacts: Sequence[Contact]) -> _Result:
        self._number += 1
        name = next(self.names)
        start, end = self.exporter.bounds
        values = tuple(contact.value for contact in contacts)
        shard = evolve(self.shard, number=self._number, start=start, end=end, contacts=values)

        def report(counts: Counts) -> None:
            if name in self._fetching:  # it may be late
                self._show(name, counts)

        self._fetching.add(name)
        try:
            fetched = await self.executor.run(name, fetch_shard, shard, report)
            if not fetched.done and shard.number > 1:
                await self._answered.wait()
        except BaseException:
            self.exporter.underway(name, None)
            raise
        finally:
            self._fetching.discard(name)
            if shard.number == 1:
                self._answered.set()
        if fetched.done:
            self._answered.set()
        self._show(name, fetched.counts)
        del self._heard[name]
        failed = [evolve(failure, contact=contacts[position]) for position, failure in fetched.failed]
        done = [contacts[position] for position in positions(fetched.done)]
        return _Result(name, done, failed, fetched, self._tell(failed) or fetched.error)

    def _tell(self, failed: Iterable[Failure]) -> Exception | None:
        """Tell of those that have failed; returns what ends the run."""
        try:
            for failure in failed:
                self.exporter.on_failure(failure)
        except Exception as error:
            return error
        return None

    def _show(self, name: str, counts: Counts) -> None:
        self._retries += counts.retries - self._heard.get(name, 0)
        self._heard[name] = counts.retries
        self.exporter.underway(name, counts)
        try:
            self.exporter.report()
        except Exception as error:
            self._error = self._error or error
            self.stop()

    async def _commit(self, results: Iterable[_Result]) -> None:
        parts: list[HeldPart] = []
        for result in results:
            self.exporter.underway(result.name, None)
            events = result.fetched.counts.events
            for contact in result.done:
                self.exporter.count_done(contact, events)
                events = 0
            for failure in result.failed:
                self.exporter.count_failed(failure)
            parts += result.fetched.parts
        await self.exporter.commit(parts)


@frozen
class _Result:
    """A shard that has come back; `error` is what ends the run."""

    name: str
    done: Sequence[Contact]
    failed: Sequence[Failure]
    fetched: Fetched
    error: Exception | None
