"""The orders of a bulk run, and what it reports about each contact: nothing lost, memory bounded, no deadlock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from np6_async import (
    AuthError,
    BulkError,
    Contact,
    Done,
    Event,
    Failure,
    InvalidInput,
    NotFound,
    NP6Client,
    RetryPolicy,
    UsageError,
)
from np6_async._streams import time_order as merging
from np6_async.testing import FakeNP6, Fault, make_event

pytestmark = pytest.mark.both_ways

ALWAYS = "2000-01-01"


async def immediately(_: float) -> None:
    """Sleep, without the waiting."""
    await asyncio.sleep(0)


IMPATIENT = RetryPolicy(sleep=immediately, random=lambda: 0.0, budget=1e9)


def truth(server: FakeNP6) -> Counter[tuple[Any, Any]]:
    return Counter((contact, event["id"]) for contact in server.contact_ids for event in server.events(contact))


def counted(pairs: list[tuple[str | Contact, Event]]) -> Counter[tuple[Any, Any]]:
    return Counter((contact, event.id) for contact, event in pairs)


# -- outcomes --------------------------------------------------------------------------------------


async def test_the_outcome_of_a_contact_follows_its_last_events() -> None:
    async with FakeNP6(contacts=60, events_per_contact=(0, 600)) as server:
        broken = server.contact_ids[7]
        server.script(Fault.status(404), contact=broken, times=None)
        seen: Counter[Any] = Counter()
        ended: dict[Any, Any] = {}
        async with (
            server.client() as np6,
            np6.events.stream_many(server.contact_ids, on_error="skip") as events,
        ):
            async for contact, item in events.outcomes():
                assert contact not in ended
                if isinstance(item, list):
                    seen[contact] += len(item)
                else:
                    ended[contact] = item
        assert set(ended) == set(server.contact_ids)
        assert isinstance(ended.pop(broken), Failure)
        assert all(isinstance(item, Done) for item in ended.values())
        assert all(seen[contact] == len(server.events(contact)) for contact in ended)


async def test_outcomes_need_a_run_that_was_entered() -> None:
    async with FakeNP6(contacts=1) as server, server.client() as np6:
        with pytest.raises(UsageError, match="async with"):
            np6.events.stream_many(server.contact_ids).outcomes()


async def test_the_last_batch_of_single_events_is_not_lost_to_outcomes() -> None:
    async with FakeNP6(contacts=1, events_per_contact=5) as server, server.client() as np6:
        async with np6.events.stream_many(server.contact_ids) as events:
            first = await anext(aiter(events))
            rest = [item async for _, item in events.outcomes()]
        assert [type(item) for item in rest] == [list, Done]
        assert isinstance(rest[0], list)
        assert len([first, *rest[0]]) == 5


# -- order="input" ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 3, 50])
async def test_contacts_come_in_the_order_in_which_they_were_given(concurrency: int) -> None:
    """Also where the first one is by far the longest, and the buffer is full of the later ones."""
    async with FakeNP6(contacts=0) as server:
        sizes = [3_000, 0, 1, *([40] * 60), 2_000, 5]
        given = [server.add_contact(f"C{n}", [make_event() for _ in range(size)]) for n, size in enumerate(sizes)]
        server.script(Fault.cut(after=50_000), contact=given[0], times=3)
        async with (
            server.client(retry=IMPATIENT) as np6,
            np6.events.stream_many(given, order="input", concurrency=concurrency) as events,
        ):
            pairs = [pair async for pair in events]
        contacts = [contact for contact, _ in pairs]
        assert list(dict.fromkeys(contacts)) == [contact for contact, size in zip(given, sizes, strict=True) if size]
        assert contacts == sorted(contacts, key=given.index)
        assert counted(pairs) == truth(server)


async def test_in_the_order_of_input_a_contact_named_twice_comes_twice() -> None:
    async with FakeNP6(contacts=2, events_per_contact=300) as server:
        a, b = server.contact_ids
        async with server.client() as np6, np6.events.stream_many([a, b, a], order="input") as events:
            contacts = [contact async for contact, _ in events]
        assert contacts == [a] * 300 + [b] * 300 + [a] * 300


@pytest.mark.slow
@pytest.mark.one_way("slow, and about the buffer")
async def test_in_the_order_of_input_a_slow_first_contact_does_not_fill_the_memory() -> None:
    """What is fetched ahead of it stays below 256 KiB and one batch for each request in flight."""
    async with FakeNP6(contacts=0) as server:
        held = asyncio.Event()
        given = [server.add_contact(f"C{n}", [make_event() for _ in range(200)]) for n in range(500)]

        async def contacts() -> AsyncIterator[str]:
            for contact in given:
                yield contact
                if len(stream._buffer._queues) > 2:
                    held.set()

        server.script(Fault.stall(after=100), contact=given[0])
        async with (
            server.client(concurrency=8) as np6,
            np6.events.stream_many(contacts(), order="input") as stream,
        ):
            reading = asyncio.ensure_future(anext(aiter(stream)))
            await asyncio.wait_for(held.wait(), 10)
            before = -1
            while stream.stats.bytes != before:  # until they all wait
                before = stream.stats.bytes
                await asyncio.sleep(0.1)
            assert 256 * 1024 <= stream._buffer._size <= 256 * 1024 + 8 * 64 * 1024
            assert stream.stats.requests < 20
            assert not reading.done()
            reading.cancel()


async def test_in_the_order_of_input_a_failure_comes_in_its_turn() -> None:
    async with FakeNP6(contacts=9, events_per_contact=2) as server:
        broken = server.contact_ids[4]
        server.script(Fault.status(404), contact=broken, times=None)
        async with (
            server.client() as np6,
            np6.events.stream_many(server.contact_ids, order="input", on_error="collect") as events,
        ):
            ended = [contact async for contact, item in events.outcomes() if not isinstance(item, list)]
        assert ended == list(server.contact_ids)
        assert [failure.contact for failure in events.failures] == [broken]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 2, 7, 300]), max_size=25),
    concurrency=st.integers(1, 8),
    order=st.sampled_from(["completion", "input", "time"]),
)
def test_every_order_delivers_the_same_events(
    sizes: list[int], concurrency: int, order: Literal["completion", "input", "time"]
) -> None:
    async def run() -> None:
        async with FakeNP6(contacts=0) as server, server.client() as np6:
            given = [server.add_contact(f"C{n}", [make_event() for _ in range(size)]) for n, size in enumerate(sizes)]
            async with np6.events.stream_many(given, start=ALWAYS, order=order, concurrency=concurrency) as events:
                pairs = [pair async for pair in events]
                assert events.stats.done == len(given)
            assert counted(pairs) == truth(server)

    asyncio.run(run())


# -- order="time" ----------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=30, events_per_contact=(0, 80)) as fake:
        yield fake


@pytest.mark.slow
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("most", [50_000, 300, 40])
@pytest.mark.one_way("slow, and about merging")
async def test_the_events_of_all_contacts_come_in_the_order_of_time(
    server: FakeNP6, monkeypatch: pytest.MonkeyPatch, most: int, newest_first: bool
) -> None:
    """However few events may be held, and so however many windows it takes; with fewer slots than contacts."""
    monkeypatch.setattr(merging, "MOST", most)
    async with (
        server.client(concurrency=3) as np6,
        np6.events.stream_many(server.contact_ids, start=ALWAYS, order="time", newest_first=newest_first) as events,
    ):
        pairs = [pair async for pair in events]
    stamps = [event.timestamp for _, event in pairs]
    assert stamps == sorted(stamps, reverse=newest_first)
    assert counted(pairs) == truth(server)
    assert (events.stats.done, events.stats.events) == (30, len(pairs))
    assert events.stats.requests == server.request_count
    assert (server.request_count == 30) == (most == 50_000)


async def test_where_all_events_fit_each_contact_is_requested_once(server: FakeNP6) -> None:
    async with server.client() as np6, np6.events.stream_many(server.contact_ids, start=ALWAYS, order="time") as events:
        batches = [batch async for _, batch in events.batches()]
    assert server.request_count == 30
    assert sum(map(len, batches)) == sum(len(server.events(contact)) for contact in server.contact_ids)


async def test_more_events_in_one_millisecond_than_may_be_held_are_merged_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merging, "MOST", 10)
    async with FakeNP6(contacts=0) as server, server.client() as np6:
        at = "2026-03-01T00:00:00Z"
        given = [server.add_contact(f"C{n}", [make_event(at=at) for _ in range(9)]) for n in range(4)]
        async with np6.events.stream_many(
            given, start="2026-02-28", end="2026-03-02", order="time", concurrency=2
        ) as events:
            pairs = [pair async for pair in events]
        assert counted(pairs) == truth(server)


@pytest.mark.slow
@pytest.mark.parametrize("most", [50_000, 100])
async def test_a_contact_that_fails_is_reported_once_and_the_others_stay_complete(
    server: FakeNP6, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(merging, "MOST", most)
    broken = server.contact_ids[3]
    server.script(Fault.status(404), contact=broken, times=None)
    async with (
        server.client() as np6,
        np6.events.stream_many(server.contact_ids, start=ALWAYS, order="time", on_error="collect") as events,
    ):
        pairs = [pair async for pair in events]
    assert [failure.contact for failure in events.failures] == [broken]
    assert isinstance(events.failures[0].error, NotFound)
    assert counted(pairs) == Counter({key: n for key, n in truth(server).items() if key[0] != broken})
    assert (events.stats.done, events.stats.failed) == (29, 1)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("skip", range(6))
async def test_a_contact_that_is_named_twice_and_fails_once_is_complete_the_other_time(
    monkeypatch: pytest.MonkeyPatch, skip: int, later: bool
) -> None:
    """Whichever of the two fails, in whichever window: each has its own outcome."""
    monkeypatch.setattr(merging, "MOST", 40)
    given = ["A", "B", "A"]

    class Later:
        async def __aiter__(self) -> AsyncIterator[str]:
            for contact in given:
                yield contact

    async with FakeNP6(contacts=0) as server, server.client() as np6:
        for contact in ("A", "B"):
            server.add_contact(contact, [make_event(at=1_767_225_600_000 + 60_000 * minute) for minute in range(60)])
        counting = merging.TimeOrder._collect
        windows = 0

        async def collect(self: Any, window: Any, most: int) -> Any:
            nonlocal windows
            found = await counting(self, window, most)
            if found.count <= most and not windows:  # the first window that is delivered; from the next on
                server.script(Fault.status(400), contact="A", skip=skip)
            windows += found.count <= most
            return found

        monkeypatch.setattr(merging.TimeOrder, "_collect", collect)
        async with np6.events.stream_many(
            Later() if later else given,
            start=1_767_225_600_000,
            end=1_767_225_600_000 + 3_600_000,
            order="time",
            on_error="collect",
            concurrency=1,
        ) as events:
            items = [item async for item in events.outcomes()]
    outcomes = [(contact, type(item)) for contact, item in items if not isinstance(item, list)]
    assert sorted(outcomes, key=str) == [("A", Done), ("A", Failure), ("B", Done)]
    seen = Counter((contact, event.id) for contact, item in items if isinstance(item, list) for event in item)
    assert set(seen) == set(truth(server))
    assert {seen[key] for key in seen if key[0] == "B"} == {1}
    assert windows > 2


def tasks() -> list[asyncio.Task[Any]]:
    """All tasks but those in which the fake server, on the same loop, accepts a connection."""
    return [task for task in asyncio.all_tasks() if "_accept_connection" not in repr(task.get_coro())]


async def test_in_the_order_of_time_on_error_and_a_wrong_key_end_the_run(server: FakeNP6) -> None:
    server.script(Fault.status(404), contact=server.contact_ids[3], times=None)
    async with server.client() as np6:
        with pytest.raises(BulkError):
            async with np6.events.stream_many(server.contact_ids, start=ALWAYS, order="time") as events:
                [pair async for pair in events]
    async with NP6Client("wrong", base_url=server.url) as np6:
        with pytest.raises(AuthError):
            async with np6.events.stream_many(server.contact_ids, start=ALWAYS, order="time") as events:
                [pair async for pair in events]
        assert len(tasks()) == 1


async def test_leaving_a_run_in_the_order_of_time_leaves_nothing_behind(server: FakeNP6) -> None:
    async with server.client(concurrency=4) as np6:
        async with np6.events.stream_many(server.contact_ids, start=ALWAYS, order="time") as events:
            async for _ in events:
                break
        assert len(tasks()) == 1
        assert await np6.events.list(server.contact_ids[0]) is not None


async def test_an_empty_window_requests_nothing(server: FakeNP6) -> None:
    async with server.client() as np6:
        async with np6.events.stream_many(server.contact_ids, start=ALWAYS, end=ALWAYS, order="time") as events:
            assert [pair async for pair in events] == []
        assert (server.request_count, events.stats.done) == (0, 30)


def test_the_order_of_time_needs_a_start_and_contacts_that_can_be_read_again() -> None:
    np6 = NP6Client("key")
    with pytest.raises(InvalidInput, match="start="):
        np6.events.stream_many(["A"], order="time")
    with pytest.raises(InvalidInput, match="read only once"):
        np6.events.stream_many(iter(["A"]), start=ALWAYS, order="time")
    with pytest.raises(InvalidInput, match="completion"):
        np6.events.stream_many(["A"], order="random")  # type: ignore[call-overload]


# -- stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["completion", "input"])
async def test_a_run_that_is_stopped_ends_with_the_contacts_in_flight(order: Literal["completion", "input"]) -> None:
    """In an orderly way: what was begun is whole, nothing else was begun, and the iteration just ends."""
    async with FakeNP6(contacts=200, events_per_contact=3) as server, server.client(concurrency=4) as np6:
        async with np6.events.stream_many(server.contact_ids, order=order) as events:
            seen: Counter[Any] = Counter()
            ended = 0
            async for contact, item in events.outcomes():
                if isinstance(item, list):
                    seen[contact] += len(item)
                else:
                    ended += 1
                    events.stop()
        assert 1 <= ended == len(seen) == server.request_count < 200
        assert set(seen.values()) == {3}
