"""The law of a sync: each event exactly once after the last run, whatever happened in between."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sync_world import MINUTE, NOON, SECOND, Clock, MemoryStore, key, truth

from np6_async import NP6Client, StoreError
from np6_async.sync import Sync, SyncRun
from np6_async.testing import FakeNP6, Fault, make_hit

pytestmark = pytest.mark.slow

Told: TypeAlias = tuple[str, tuple[int, Any]]

OVERLAP, SAFETY = 5 * MINUTE, 2 * MINUTE
CONTACTS = ["A", "B", "C"]
_ids = itertools.count()


class Killed(Exception):
    """Ends a consumer in the place of kill -9: its store is dead then."""


class Parts:
    """A sink of files as `np6 sync` has: a part counts once a note names it, or a later one."""

    def __init__(self) -> None:
        self.parts: dict[int, list[Told]] = {}

    def recover(self, note: str | None) -> int:
        """Drop the parts that no note names; gives back the number of the next."""
        last = int(note or 0)
        self.parts = {number: part for number, part in self.parts.items() if number <= last}
        return last + 1

    def all(self) -> Counter[Told]:
        return Counter(itertools.chain.from_iterable(self.parts.values()))


contacts = st.sampled_from(CONTACTS)
# How long ago, in steps that make ties; up to what a late event may be.
ages = st.integers(0, (OVERLAP + SAFETY) // MINUTE).map(lambda steps: steps * MINUTE)
publish = st.tuples(st.just("publish"), contacts, st.lists(st.tuples(ages, st.booleans()), min_size=1, max_size=6))
wait = st.tuples(st.just("wait"), st.integers(0, 12).map(lambda steps: steps * 30 * SECOND))
# A run: the faults it meets, the batch at which it ends early (0: none), how, after how many batches it commits, and
# how many of the contacts it knows.
run = st.tuples(
    st.just("run"),
    st.dictionaries(contacts, st.integers(1, 3_000), max_size=2),
    st.integers(0, 4),
    st.sampled_from(["before the commit", "in the commit", "after the commit", "raise", "cancel", "break"]),
    st.integers(1, 3),
    st.sampled_from([3, 2, 1]),
)
rounds = st.tuples(st.lists(publish, max_size=3), wait, run).map(lambda parts: [*parts[0], *parts[1:]])
histories = st.lists(rounds, min_size=1, max_size=5).map(lambda each: list(itertools.chain.from_iterable(each)))
LAST: list[Any] = [("wait", SAFETY), ("run", {}, 0, "", 1, 3)]


@settings(max_examples=80)
@given(steps=histories)
def test_each_event_exactly_once_with_commits(steps: list[Any]) -> None:
    """New events, late ones within the overlap, contacts that fail anywhere, and crashes on both sides of a commit."""

    async def main() -> None:
        clock = Clock()
        async with FakeNP6(contacts=0, chunk_size=600) as server, clock.client(server) as np6:
            values: dict[str, bytes] = {}
            sink = Parts()
            for contact in CONTACTS:
                server.add_contact(contact, [hit(clock.now - age) for age in (60 * MINUTE, 3 * MINUTE, 3 * MINUTE)])
            for step in [*steps, *LAST]:
                match step:
                    case "publish", contact, new:
                        server.add_events(contact, [hit(clock.now - age, named) for age, named in new])
                    case "wait", duration:
                        clock.now += duration
                    case "run", faults, stop, how, every, known:
                        for contact, after in faults.items():
                            server.script(Fault.cut(after=after), contact=contact)
                        store = MemoryStore(values)
                        sync = make(np6, store, CONTACTS[:known])
                        with suppress(Killed, StoreError, asyncio.CancelledError):
                            await write_parts(sync.run(autocommit=False), store, sink, every, stop, how)
                        assert not store.is_open
                        server.reset()
            assert sink.all() == truth(server, clock.now - SAFETY)

    asyncio.run(main())


async def write_parts(run: SyncRun[Any], store: MemoryStore, sink: Parts, every: int, stop: int, how: str) -> None:
    """Write a part of `every` batches, then commit; at batch `stop`, or at the end, it ends as `how` says."""
    async with run:
        number = sink.recover(run.note)
        part = sink.parts[number] = []
        count = 0
        async for contact, events in run.batches():
            part += [(str(contact), key(event)) for event in events]
            count += 1
            match how if count == stop else "":
                case "before the commit":
                    store.die()
                    raise Killed
                case "in the commit":
                    store.die(after=1)
                case "raise":
                    raise Killed
                case "break":
                    break
                case "cancel":
                    raise asyncio.CancelledError
            if count % every == 0:
                await run.commit(str(number))
                if 0 < stop <= count:
                    store.die()
                    raise Killed
                number += 1
                part = sink.parts[number] = []
        else:
            await run.commit(str(number))


@settings(max_examples=40)
@given(steps=histories)
def test_each_event_exactly_once_without_commits(steps: list[Any]) -> None:
    """The same where asking for the next batch says that one is written, for ends other than kill -9."""

    async def main() -> None:
        clock = Clock()
        async with FakeNP6(contacts=0, chunk_size=600) as server, clock.client(server) as np6:
            got: Counter[Told] = Counter()
            store = MemoryStore()
            for contact in CONTACTS:
                server.add_contact(contact, [hit(clock.now - age) for age in (60 * MINUTE, 3 * MINUTE, 3 * MINUTE)])
            for step in [*steps, *LAST]:
                match step:
                    case "publish", contact, new:
                        server.add_events(contact, [hit(clock.now - age, named) for age, named in new])
                    case "wait", duration:
                        clock.now += duration
                    case "run", faults, stop, how, _, known:
                        for contact, after in faults.items():
                            server.script(Fault.cut(after=after), contact=contact)
                        with suppress(Killed):
                            async with make(np6, store, CONTACTS[:known]).run() as run:
                                count = 0
                                async for contact, events in run.batches():
                                    count += 1
                                    if count == stop and how == "break":
                                        break
                                    if count == stop:
                                        raise Killed
                                    got.update((str(contact), key(event)) for event in events)
                        server.reset()
            assert got == truth(server, clock.now - SAFETY)

    asyncio.run(main())


@pytest.mark.parametrize("safety", [0, SAFETY])
def test_a_killed_run_without_commits_loses_nothing(safety: int) -> None:
    """It may deliver again what it had delivered; after the next run nothing is missing."""

    async def main() -> None:
        clock = Clock()
        async with FakeNP6(contacts=0) as server, clock.client(server) as np6:
            for number in range(20):
                server.add_contact(f"N{number}", [hit(NOON - 60 * MINUTE), hit(NOON - 5 * MINUTE)])
            got: Counter[Told] = Counter()
            store = MemoryStore()
            with suppress(StoreError):
                async with make(np6, store, server.contact_ids, safety).run() as run:
                    async for contact, events in run.batches():
                        got.update((str(contact), key(event)) for event in events)
                        if len(got) == 20:
                            store.die()
            async with make(np6, MemoryStore(store.values), server.contact_ids, safety).run() as run:
                async for contact, events in run.batches():
                    got.update((str(contact), key(event)) for event in events)
            assert set(got) == set(truth(server))

    asyncio.run(main())


def make(np6: NP6Client, store: MemoryStore, contacts: Any, safety: int = SAFETY) -> Sync[Any]:
    overlap = timedelta(milliseconds=OVERLAP)
    return Sync(np6, store, contacts, overlap=overlap, safety=timedelta(milliseconds=safety), concurrency=2)


def hit(at: int, named: bool = True) -> dict[str, Any]:
    """One with its own id, or one that is like all others of its time."""
    return make_hit(at=at, id=f"{next(_ids):08x}") if named else {"type": "hit", "timestamp": at}
