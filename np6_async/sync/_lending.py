"""The progress of a run's contacts, lent to runs in other processes, and what these have made of it.

A worker gets some contacts, each with what the store has of it, and makes a run of them up to the same time. What that
run has written comes back as it is, to be put into the store together with a note of where the events are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from attrs import Factory, define, evolve, field, frozen

from .._api.event_requests import Missing
from .._client import NP6Client
from .._errors import InvalidInput
from .._models.contacts import Contact
from .._streams.buffer import Failure
from .._streams.failures import Failures
from .._streams.stats import BulkStats
from ._checkpoints import Checkpoints, ReadAhead, name_of


@frozen
class Terms:
    """What makes a `Sync` again in another process, and its run: up to `end`, in epoch milliseconds."""

    kind: str
    end: int
    overlap: timedelta
    safety: timedelta
    start: str | None  # whenever it was asked for: a length of time before now has become a time
    classification: str | None
    missing: Missing


@frozen
class Loan:
    """Contacts as they were given and as they were read, and what the store has of each: None, where it knows none."""

    given: Sequence[Any] = field(repr=False)
    contacts: tuple[Contact, ...] = field(repr=False)
    states: tuple[bytes | None, ...] = field(repr=False)


@define(eq=False, repr=False)
class Lending:
    """The contacts of a run of `terms`, for others to fetch.

    `concurrency` is how many requests each of them may have in flight; None: as the client says.
    """

    client: NP6Client
    terms: Terms
    concurrency: int | None
    failures: Failures
    _checkpoints: Checkpoints
    begun: bool = False
    end: int = field(init=False)  # of the one that got least far
    _ahead: ReadAhead = field(init=False)
    _kept: dict[Any, bytes | None] = Factory(dict)  # of those that are lent, or about to be
    _lock: asyncio.Lock = Factory(asyncio.Lock)
    _raised: bool = False  # by `on_error`
    _total: BulkStats = Factory(BulkStats)  # of those that are back
    _underway: dict[str, BulkStats] = Factory(dict)
    _stopped: bool = False
    _on_stop: Callable[[], object] | None = None

    def __attrs_post_init__(self) -> None:
        checkpoints = self._checkpoints
        self.end = self.terms.end
        self._ahead = ReadAhead(checkpoints.contacts, checkpoints.parse, self._take, self._read)

    # Contacts

    async def lend(self, count: int) -> Loan | None:
        """The next contacts, at most so many; None after the last. None is lent that another has.

        One that is not valid fails, as `settle` says. Raises what the contacts raise, and `StoreError`.
        """
        self.begun = True
        taken: list[tuple[Any, Contact, bytes | None]] = []
        async for given in self._ahead:
            try:
                contact = self._checkpoints.parse(given)
            except InvalidInput as error:
                error.contact = given
                await self.settle(Failure.of(given, error))
                continue
            taken.append((given, contact, self._kept[contact]))
            self._kept[contact] = None
            if len(taken) == count:
                break
        if not taken:
            return None
        given, contacts, states = zip(*taken, strict=True)
        return Loan(given, contacts, states)

    async def give_back(self, loans: Iterable[tuple[Loan, Mapping[int, bytes]]], note: str | None) -> None:
        """Write the progress of contacts, by their positions in what was lent, and the note: all of it, or nothing.

        Those that have none are as they were. They may all be lent again.
        """
        loans = tuple(loans)
        await self._checkpoints.put(
            {loan.contacts[position]: state for loan, states in loans for position, state in states.items()}, note
        )
        for loan, _ in loans:
            for contact in loan.contacts:
                self._kept.pop(contact, None)

    async def settle(self, failure: Failure) -> None:
        """Do what `on_error` says of a contact that has failed: one call at a time. Raises as `Failures` does.

        Once that has raised, the run ends: further contacts are left to the next run, as if they had not been begun.
        """
        async with self._lock:
            if not self._raised:
                self._raised = True
                await self.failures.settle(failure)
                self._raised = False

    def _take(self, contact: Any) -> bool:
        if contact in self._kept:
            return False
        self._kept[contact] = None
        return True

    async def _read(self, contacts: list[Any]) -> None:
        self._kept |= await self._checkpoints.kept(contacts)

    # How far they are

    @property
    def stats(self) -> BulkStats:
        """Of all runs in other processes, as last heard."""
        now = evolve(self._total, failed=self.failures.count)
        for stats in self._underway.values():
            _add(now, stats)
        return now

    def underway(self, name: str, stats: BulkStats) -> None:
        """What is called `name` has got so far."""
        self._underway[name] = stats

    def lost(self, name: str) -> None:
        """Nothing of it will come back. Its requests were made."""
        if name in self._underway:
            self._total.add(self._underway.pop(name))

    def ended(self, name: str, stats: BulkStats, end: int) -> None:
        """It is back, and its run has got to `end`. Its failures count as they are settled."""
        self._underway.pop(name, None)
        _add(self._total, evolve(stats, failed=0, in_flight=0))
        self.end = min(self.end, end)

    # Its end

    def stop(self) -> None:
        """Let those that fetch end soon."""
        self._stopped = True
        if self._on_stop is not None:
            self._on_stop()

    def listen(self, stop: Callable[[], object]) -> None:
        """Call `stop` once the run is stopped, or now if it was."""
        self._on_stop = stop
        if self._stopped:
            stop()


class LentStore:
    """A `Store` in memory, of contacts that another process has lent."""

    def __init__(self, contacts: Sequence[Contact], states: Iterable[bytes | None]) -> None:
        self._positions = {name_of(contact): position for position, contact in enumerate(contacts)}
        self._values = {name: state for name, state in zip(self._positions, states, strict=True) if state is not None}
        self.written: dict[int, bytes] = {}
        """What to give back: the progress by the positions of contacts."""

    async def open(self) -> None:
        """See `Store`: nobody else has it."""

    async def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store`."""
        return {name: self._values[name] for name in names if name in self._values}

    async def write(self, values: Mapping[str, bytes]) -> None:
        """See `Store`."""
        for name, value in values.items():
            if name in self._positions:  # not what the run says of itself
                self._values[name] = self.written[self._positions[name]] = value

    async def close(self) -> None:
        """See `Store`."""


def _add(total: BulkStats, stats: BulkStats) -> None:
    total.add(stats)
    total.done += stats.done
    total.failed += stats.failed
    total.in_flight += stats.in_flight
    total.events += stats.events
