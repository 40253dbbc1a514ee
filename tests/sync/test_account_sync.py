"""Syncs of the account and of actions: one watermark, any number of events in the overlap, each event once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sync_world import MINUTE, NOON, SECOND, Clock, MemoryStore

from np6_async import Event, InvalidInput, NP6Client, StoreError, structure
from np6_async.sync import Store, Sync, SyncRun, _state
from np6_async.sync._state import PagedState
from np6_async.testing import FakeNP6, Fault, make_activation, make_hit

HOUR = timedelta(hours=1)


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=0) as server:
        for number in range(5):
            server.add_contact(f"C{number}", [make_activation(at=NOON - 30 * MINUTE) for _ in range(20)])
            server.add_events(f"C{number}", [make_hit(at=NOON - 20 * MINUTE + number) for _ in range(20)])
        yield server


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every test has fingerprints in the state and in pages."""
    monkeypatch.setattr(_state, "PAGE", 16)


def truth(server: FakeNP6, before: int) -> Counter[str]:
    """The ids of all events before a time."""
    events = (event for contact in server.contact_ids for event in server.events(contact))
    return Counter(event["id"] for event in events if event["timestamp"] < before)


async def taken(run: SyncRun[Any]) -> Counter[str]:
    got: Counter[str] = Counter()
    async with run:
        async for name, events in run.batches():
            assert name == "all"
            got.update(event.id for event in events)
    return got


async def test_two_runs_with_new_and_late_events_between_them_deliver_each_event_once(
    server: FakeNP6, clock: Clock, np6: NP6Client, store: Store
) -> None:
    sync = Sync(np6, store, account=True, overlap=HOUR)
    first = await taken(sync.run())
    assert first == truth(server, NOON - 2 * MINUTE)
    assert first.total() == 200
    server.add_contact("NEW", [make_hit(at=NOON - 50 * MINUTE), make_hit(at=NOON + MINUTE)])
    for number in range(5):
        server.add_events(f"C{number}", [make_activation(at=NOON - 30 * MINUTE) for _ in range(9)])
    clock.now += 10 * MINUTE
    second = await taken(sync.run())
    assert first + second == truth(server, clock.now)
    assert second.total() == 47
    assert await taken(sync.run()) == Counter()
    assert [request.path for request in server.requests] == ["/actions/events"] * 2


async def test_actions_have_a_watermark_each(server: FakeNP6, clock: Clock, np6: NP6Client, store: Store) -> None:
    for number in range(3):
        server.add_contact(f"A{number}", [_of("AAAAAA", NOON - 5 * MINUTE), _of(f"B0000{number}", NOON - 5 * MINUTE)])
    sync = Sync(np6, store, actions=["AAAAAA", "B00001"], overlap=HOUR)
    async with sync.run() as run:
        assert run.by_recipient
        found = Counter([name async for name, events in run.batches() for _ in events])
        assert run.stats.done == 2
    assert found == {"AAAAAA": 3, "B00001": 1}
    server.add_events("A1", [_of("B00001", NOON - 9 * MINUTE), _of("B00002", NOON - 9 * MINUTE)])
    clock.now += MINUTE
    async with sync.run() as run:
        assert [name async for name, events in run.batches() for _ in events] == ["B00001"]


def _of(action: str, at: int) -> Any:
    event = make_activation(at=at)
    event["source"]["detail"]["activation"]["id"] = action
    return event


async def test_a_run_that_fails_in_the_middle_is_resumed_by_the_next(
    server: FakeNP6, np6: NP6Client, store: Store
) -> None:
    sync = Sync(np6, store, account=True, overlap=HOUR)
    got: Counter[str] = Counter()
    for after in (0, 40_000, 70_000, 90_000):
        server.script(Fault.cut(after=after))
        run = sync.run()
        got += await taken(run)
        assert run.stats.failed == 1
        assert str(run.failures[0]).startswith("the account: ")
    assert 0 < got.total() < 200
    got += await taken(sync.run())
    assert got == truth(server, NOON)


@pytest.mark.parametrize("writes", range(1, 20))
async def test_killed_at_any_write_a_run_with_commits_doubles_and_loses_nothing(
    server: FakeNP6, clock: Clock, np6: NP6Client, writes: int
) -> None:
    """What counts is what the note says, as for a sink that drops whatever it has written after it."""
    values: dict[str, bytes] = {}
    got: list[str] = []
    rng = random.Random(writes)

    async def run(store: MemoryStore) -> None:
        async with Sync(np6, store, account=True, overlap=HOUR).run(autocommit=False) as run:
            del got[int(run.note or "0") :]
            async for _, events in run.batches():
                got.extend(event.id or "" for event in events)
                if rng.random() < 0.5:
                    await run.commit(str(len(got)))
            await run.commit(str(len(got)))

    for turn in range(4):
        dying = MemoryStore(values)
        dying.die(after=rng.randrange(writes))
        with suppress(StoreError):
            await run(dying)
        server.add_events(f"C{turn}", [make_activation(at=NOON - 30 * MINUTE), make_hit(at=clock.now - 3 * MINUTE)])
        clock.now += MINUTE
    await run(MemoryStore(values))
    assert Counter(got) == truth(server, clock.now - 2 * MINUTE)


async def test_pages_are_dropped_when_the_overlap_has_passed_them(
    server: FakeNP6, clock: Clock, np6: NP6Client
) -> None:
    store = MemoryStore()
    sync = Sync(np6, store, account=True, overlap=HOUR)
    await taken(sync.run())
    pages = [name for name, value in store.values.items() if "/seen/" in name and value]
    assert len(pages) > 5
    clock.now += 120 * MINUTE
    await taken(sync.run())
    assert not [name for name, value in store.values.items() if "/seen/" in name and value]
    server.add_events("C0", [make_hit(at=clock.now - 3 * MINUTE) for _ in range(40)])
    clock.now += MINUTE
    assert (await taken(sync.run())).total() == 40
    assert [name for name, value in store.values.items() if "/seen/" in name and value] == ["account:/seen/0"]


async def test_a_state_that_lacks_a_page_is_an_error_and_not_a_guess(
    server: FakeNP6, clock: Clock, np6: NP6Client
) -> None:
    store = MemoryStore()
    sync = Sync(np6, store, account=True, overlap=HOUR)
    await taken(sync.run())
    del store.values["account:/seen/1"]
    clock.now += MINUTE
    with pytest.raises(StoreError, match="a part of it is missing"):
        await taken(sync.run())


async def test_a_step_that_is_cancelled_while_a_page_is_read_loses_no_late_event(
    server: FakeNP6, clock: Clock, np6: NP6Client
) -> None:
    """As by a timeout around each step: the next one delivers the events."""
    store = SlowPages()
    sync = Sync(np6, store, account=True, overlap=HOUR)
    first = await taken(sync.run())
    for number in range(5):
        server.add_events(f"C{number}", [make_activation(at=NOON - 30 * MINUTE - number * SECOND) for _ in range(9)])
    clock.now += MINUTE
    store.slow = True
    second: Counter[str] = Counter()
    async with sync.run() as run:
        batches = run.batches()
        while True:
            step = asyncio.ensure_future(anext(batches))
            reading = asyncio.ensure_future(store.reading.wait())
            await asyncio.wait([step, reading], return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            if not step.done():
                store.slow = False
                step.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await step
                continue
            try:
                second.update(event.id for event in (await step)[1])
            except StopAsyncIteration:
                break
    assert not store.slow
    assert first + second == truth(server, clock.now - 2 * MINUTE)


class SlowPages(MemoryStore):
    """While it is `slow`, no page arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.reading = asyncio.Event()

    async def read(self, names: Any) -> Any:
        if self.slow and "/seen/" in names[0]:
            self.reading.set()
            await asyncio.Event().wait()
        self.reading.clear()
        return await super().read(names)


async def test_a_state_is_of_contacts_or_of_actions_or_of_the_account(np6: NP6Client, store: Store) -> None:
    await taken(Sync(np6, store, account=True, overlap=HOUR).run())
    for other in ({"actions": ["A"]}, {"contacts": ["C1"]}, {"account": True, "kind": "bounces"}):
        with pytest.raises(InvalidInput, match="this state was made for 'account all' and cannot be used for"):
            async with Sync(np6, store, **other).run():
                pass


async def test_a_sync_is_of_one_thing(server: FakeNP6, np6: NP6Client) -> None:
    for options in ({}, {"contacts": ["C0"], "account": True}, {"actions": ["A"], "account": True}):
        with pytest.raises(InvalidInput, match="one of the three"):
            Sync(np6, MemoryStore(), **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="account must be True or False; for the events of some actions pass"):
        Sync(np6, MemoryStore(), account="000PE4")  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="actions must be an action or an iterable of them"):
        Sync(np6, MemoryStore(), actions=7)  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match=r"cancellations.* is not among the events of contacts"):
        Sync(np6, MemoryStore(), ["C0"], "cancellations")
    assert server.request_count == 0


async def test_a_clock_that_was_ahead_is_taken_back_to_the_events_that_are_known(
    server: FakeNP6, clock: Clock, np6: NP6Client, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    sync = Sync(np6, store, account=True, overlap=HOUR)
    first = await taken(sync.run())
    clock.now -= 15 * MINUTE  # of the events, the last is 5 min in the past; the watermark lies 13 min in the future
    with FakeNP6(0, clock=clock) as behind:
        for contact in server.contact_ids:
            behind.add_contact(contact, server.events(contact))
        async with clock.client(behind) as np6:
            sync = Sync(np6, store, account=True, overlap=HOUR)
            assert await taken(sync.run()) == Counter()
            behind.add_events("C0", [make_hit(at=clock.now - 3 * MINUTE)])
            clock.now += MINUTE
            assert (await taken(sync.run())).total() == 1
    assert first.total() == 200


def _event(at: int, number: int) -> Event:
    return structure({"type": "hit", "timestamp": at, "id": f"{number}"})


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 60), max_size=60), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 80),
    st.integers(1, 9),
    st.integers(1, 70),
)
def test_whatever_is_published_within_the_overlap_comes_once(
    rounds: list[tuple[list[int], bool]], overlap: int, page: int, batch: int
) -> None:
    """Each round publishes events with any age, and runs a sync, which is killed or not."""
    before, _state.PAGE = _state.PAGE, page
    try:
        world: list[Event] = []
        kept: dict[str, bytes] = {}
        delivered: Counter[str] = Counter()
        missed: set[str] = set()
        now = 100
        for ages, dies in rounds:
            now += 30
            fresh = [_event(now - 1 - age, len(world) + number) for number, age in enumerate(ages)]
            state = PagedState.decode(overlap, kept["s"]) if "s" in kept else PagedState(overlap, None)
            window = state.window(now)
            missed |= {str(event.id) for event in fresh if not window.contains(event.timestamp)}
            world += fresh
            response = sorted((e for e in world if window.contains(e.timestamp)), key=lambda e: e.timestamp)
            got: list[str] = []
            for first in range(0, len(response), batch):
                events = response[first : first + batch]
                for number in state.pages_at(events[0].timestamp, events[-1].timestamp):
                    state.recall(number, kept[f"s/seen/{number}"], events[0].timestamp)
                if events := state.fresh(events):
                    got += [str(event.id) for event in events]
                    state.advance(events)
            if dies:
                continue
            state.complete(now)
            kept |= state.values("s")
            state.written()
            delivered.update(got)
        if not dies:
            assert delivered == Counter({str(event.id): 1 for event in world if str(event.id) not in missed})
        assert not delivered or max(delivered.values()) == 1
    finally:
        _state.PAGE = before


def test_a_few_late_events_do_not_keep_the_whole_overlap_in_memory() -> None:
    """A page of what came in time is looked at in its time alone; the late ones of all runs share theirs."""
    rng = random.Random(3)
    kept: dict[str, bytes] = {}
    world: list[Event] = []
    most = 0
    for turn in range(60):
        now = (turn + 1) * 100
        state = PagedState.decode(10_000, kept["s"]) if kept else PagedState(10_000, None)
        state.window(now)
        ages = [*range(100), *(rng.randrange(now) for _ in range(2))]
        world += [_event(now - 1 - age, len(world) + number) for number, age in enumerate(ages)]
        world.sort(key=lambda event: event.timestamp)
        delivered = 0
        for first in range(0, len(world), 10):
            events = world[first : first + 10]
            numbers = list(state.pages_at(events[0].timestamp, events[-1].timestamp))
            for number in numbers:
                state.recall(number, kept[f"s/seen/{number}"], events[0].timestamp)
            most = max(most, len(state._repeats))
            if fresh := state.fresh(events):
                delivered += len(fresh)
                state.advance(fresh)
        assert delivered == 102
        state.complete(now)
        kept |= state.values("s")
    assert most < 250  # of 6,120


def test_pages_hold_what_does_not_fit_and_little_is_in_memory() -> None:
    state = PagedState(1000 * SECOND, None)
    for number in range(0, 1000, 50):
        state.advance([_event(at, at) for at in range(number, number + 50)])
        values = state.values("s")
        state.written()
    assert len(values["s"]) < 17 + 4 + 60 * 20 + 4 + 33 * 24
    assert not state.pages_at(0, 1000)  # this run has delivered them all
    assert len(list(PagedState.decode(1000, values["s"]).pages_at(0, 1000))) > 50
