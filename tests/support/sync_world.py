"""What tests of `np6_async.sync` share: a clock to turn, a store in memory, and what a run delivered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from np6_async import Event, NP6Client, RetryPolicy, StoreError
from np6_async.sync import SyncRun
from np6_async.testing import FakeNP6

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z
SECOND = 1_000
MINUTE = 60 * SECOND


class Clock:
    """The wall clock of a client, in epoch milliseconds."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now / 1000

    def client(self, server: FakeNP6, **policy: Any) -> NP6Client:
        """A client that lives by this clock, and gives a contact up at the first failure."""
        return server.client(retry=RetryPolicy(wall_clock=self, **{"max_attempts": 1, "budget": 1e9, **policy}))


class MemoryStore:
    """A store in `values`, which outlive it. `die` is a kill: after so many writes nothing reaches them any more."""

    def __init__(self, values: dict[str, bytes] | None = None) -> None:
        self.values: dict[str, bytes] = {} if values is None else values
        self.writes = 0
        self.reads: list[Sequence[str]] = []
        self.is_open = False
        self._left: int | None = None

    def die(self, after: int = 0) -> None:
        self._left = after

    async def open(self) -> None:
        if self.is_open:
            raise StoreError("in use")
        self.is_open = True

    async def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        await asyncio.sleep(0)
        self.reads.append(names)
        return {name: self.values[name] for name in names if name in self.values}

    async def write(self, values: Mapping[str, bytes]) -> None:
        await asyncio.sleep(0)
        if self._left is not None:
            if not self._left:
                raise StoreError("killed")
            self._left -= 1
        self.writes += 1
        self.values.update(values)

    async def close(self) -> None:
        self.is_open = False


def key(event: Event) -> tuple[int, Any]:
    """What identifies an event, as in the truth: of one without an id, all of it."""
    return event.timestamp, event.id or repr(event.data)


def truth(server: FakeNP6, before: int | None = None) -> Counter[tuple[str, tuple[int, Any]]]:
    """Every event the server has, before this time."""
    return Counter(
        (contact, (event["timestamp"], event.get("id") or repr(event)))
        for contact in server.contact_ids
        for event in server.events(contact)
        if before is None or event["timestamp"] < before
    )


async def taken(run: SyncRun[Any]) -> Counter[tuple[str, tuple[int, Any]]]:
    """Everything that a run delivers."""
    got: Counter[tuple[str, tuple[int, Any]]] = Counter()
    async with run:
        async for contact, events in run.batches():
            assert events
            got.update((str(contact), key(event)) for event in events)
    return got
