"""Many contacts: all of them, each event once, with bounded work in flight, and nothing left over."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import aiohttp
import pytest

from np6_async import (
    AuthError,
    BulkError,
    BulkStream,
    ClientClosed,
    Contact,
    ContactDone,
    EndpointNotFound,
    Event,
    Failure,
    InvalidContact,
    InvalidInput,
    NotFound,
    NP6Client,
    NP6Error,
    Observation,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ServerError,
    StreamStats,
    Timeout,
    UsageError,
    structure,
)
from np6_async._http.lifetime import Lifetime
from np6_async._streams.workers import Workers
from np6_async.testing import FakeNP6, Fault

pytestmark = pytest.mark.both_ways


async def immediately(_: float) -> None:
    """Sleep, without the waiting."""
    await asyncio.sleep(0)


IMPATIENT = RetryPolicy(sleep=immediately, random=lambda: 0.0, budget=1e9)


def truth(server: FakeNP6) -> Counter[tuple[str, str]]:
    return Counter((contact, event["id"]) for contact in server.contact_ids for event in server.events(contact))


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=100, events_per_contact=(0, 8)) as fake:
        yield fake


# -- on real sockets -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.one_way("slow; others count requests, too")
async def test_ten_thousand_contacts_take_ten_thousand_requests_and_each_event_comes_once() -> None:
    """At most `concurrency` requests in flight, and tasks in proportion to that and not to the contacts."""
    with FakeNP6(contacts=10_000, events_per_contact=(0, 6)) as server:
        got: Counter[tuple[Any, str | None]] = Counter()
        most_tasks = 0
        async with (
            server.client(concurrency=20) as np6,
            np6.events.stream_many(iter(server.contact_ids)) as events,
        ):
            async for contact, event in events:
                got[contact, event.id] += 1
                most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            stats = events.stats
        assert server.request_count == stats.requests == stats.done == 10_000
        assert server.max_in_flight <= 20
        assert most_tasks <= 20 + 5
        assert got == truth(server)
        assert stats.events == got.total()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.status(404), NotFound), (Fault.status(500), ServerError), (Fault.html(), ProtocolError)],
    ids=["unknown", "failing", "garbage"],
)
async def test_one_contact_in_a_hundred_that_fails_permanently_harms_no_other(
    fault: Fault, error: type[NP6Error]
) -> None:
    async with FakeNP6(contacts=1_000, events_per_contact=3) as server:
        broken = list(server.contact_ids)[50::100]
        for contact in broken:
            server.script(fault, contact=contact, times=None)
        async with (
            server.client(retry=IMPATIENT) as np6,
            np6.events.stream_many(server.contact_ids, on_error="collect") as events,
        ):
            got = Counter([(contact, event.id) async for contact, event in events])
        assert sorted(str(failure.contact) for failure in events.failures) == sorted(broken)
        assert {type(failure.error) for failure in events.failures} == {error}
        assert all(failure.contact in str(failure) for failure in events.failures)
        assert got == Counter({key: 1 for key in truth(server) if key[0] not in broken})
        assert (events.stats.done, events.stats.failed) == (990, 10)


async def test_faults_on_a_third_of_the_requests_lose_and_double_nothing(server: FakeNP6) -> None:
    quick = [kind for kind in Fault.ALL if kind.name not in ("stall", "hang")]
    server.fault_rate(0.35, quick, seed=7)
    async with (
        server.client(
            retry=RetryPolicy(max_attempts=20, max_protocol_attempts=20, sleep=immediately, budget=1e9)
        ) as np6,
        np6.events.stream_many(server.contact_ids) as events,
    ):
        got = Counter([(contact, event.id) async for contact, event in events])
    assert got == truth(server)
    assert server.faults_consumed.total() > 20


async def test_the_contact_comes_back_as_it_was_passed_in(server: FakeNP6) -> None:
    contact = next(c for c in server.contact_ids if server.events(c))
    given = [Contact.by_id(contact), Contact.by_unicity(server.unicity(contact)), Contact.by_hash(server.hash(contact))]
    async with server.client() as np6, np6.events.stream_many(given) as events:
        async for got, batch in events.batches():
            assert any(got is one for one in given)
            assert len(batch) == len(server.events(contact))
    assert events.stats.done == 3


async def test_a_revoked_key_ends_the_run_after_the_requests_in_flight(server: FakeNP6) -> None:
    """Under every error policy: a thousand more refused calls help nobody."""
    server.script(Fault.status(401), times=None, skip=20)
    async with (
        server.client(concurrency=8) as np6,
        np6.events.stream_many(server.contact_ids, on_error="skip") as events,
    ):
        with pytest.raises(AuthError):
            async for _ in events:
                pass
    assert 20 - 8 < events.stats.done <= 20
    assert server.request_count <= 20 + 8


async def test_a_wrong_address_ends_the_run_after_twenty_contacts(server: FakeNP6) -> None:
    ids = [f"NOBODY{number}" for number in range(1_000)]
    async with server.client(concurrency=4) as np6, np6.events.stream_many(ids, on_error="collect") as events:
        with pytest.raises(EndpointNotFound, match="first 20 contacts"):
            async for _ in events:
                pass
    assert server.request_count <= 24


async def test_missing_contacts_may_count_as_empty(server: FakeNP6) -> None:
    ids = [f"NOBODY{number}" for number in range(50)]
    async with server.client() as np6, np6.events.stream_many(ids, missing="empty") as events:
        assert [pair async for pair in events] == []
    assert events.stats.done == 50


async def test_a_call_may_request_more_slots_than_its_client_has(server: FakeNP6) -> None:
    async with server.client(concurrency=2) as np6:
        async with np6.events.stream_many(server.contact_ids, concurrency=10) as events:
            assert len([pair async for pair in events]) == truth(server).total()
        assert 2 < server.max_in_flight <= 10


async def test_closing_the_client_ends_the_run(server: FakeNP6) -> None:
    server.script(Fault.stall(), times=None)
    np6 = server.client()
    async with np6.events.stream_many(server.contact_ids, on_error="collect") as events:
        task = asyncio.create_task(_count(events))
        while server.in_flight < 5:
            await asyncio.sleep(0.001)
        await np6.close()
        async with asyncio.timeout(10):
            with pytest.raises(ClientClosed):
                await task


async def _count(events: Any) -> int:
    return len([pair async for pair in events])


# -- without HTTP: the sources are made up ---------------------------------------------------------


class Source:
    """A contact's events, in memory: `batches` of so many events each, then `error` if there is one."""

    open = 0
    complete = False
    delivered_to: int | None = None
    failures = 1

    def __init__(self, contact: Contact, batches: list[int], error: NP6Error | None = None) -> None:
        self.stats = StreamStats(requests=1)
        self._contact = contact
        self._batches = iter(batches)
        self._error = error
        self._number = self._received = 0
        self._closed = False
        Source.open += 1

    async def next_batch(self) -> list[Event]:
        """One or two events at a time."""
        await asyncio.sleep(0)
        self._received = self._received or next(self._batches, 0)
        if not self._received and self._error is not None:
            raise self._error
        size = min(2, self._received)
        self.complete = not size
        self._received -= size
        self._number += size
        self.stats.bytes += size * 500
        return [
            structure({"type": "hit", "timestamp": n, "id": f"{self._contact.value}-{n}"})
            for n in range(self._number - size, self._number)
        ]

    def report_outcome(self) -> None:
        pass

    def close(self) -> None:
        self._received = 0
        if not self._closed:
            self._closed = True
            Source.open -= 1


def bulk(
    contacts: Any,
    fetch: Callable[[Contact], Any],
    *,
    concurrency: int = 4,
    on_error: Any = "raise",
) -> BulkStream[Any, Event]:
    workers = Workers(contacts, fetch, nullcontext(concurrency))
    return BulkStream(workers, on_error=on_error, lifetime=Lifetime())


def names(count: int) -> list[str]:
    return [f"C{number}" for number in range(count)]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After every test: every source was closed."""
    Source.open = 0
    yield
    assert Source.open == 0


async def test_the_events_of_a_contact_keep_their_order() -> None:
    async with bulk(names(20), lambda contact: Source(contact, [3, 1, 7])) as events:
        seen: dict[Any, list[int]] = {}
        async for contact, event in events:
            seen.setdefault(contact, []).append(event.timestamp)
    assert seen == {name: list(range(11)) for name in names(20)}


async def test_a_slow_consumer_pauses_the_requests() -> None:
    """What waits for it is bounded: 256 KiB, and a batch of each worker."""
    received = 0

    class Counting(Source):
        async def next_batch(self) -> list[Event]:
            nonlocal received
            batch = await super().next_batch()
            received += len(batch)
            return batch

    most = 0
    async with bulk(names(50), lambda contact: Counting(contact, [1] * 1_000), concurrency=10) as events:
        taken = 0
        async for _ in events:
            taken += 1
            for _ in range(100):
                await asyncio.sleep(0)
            most = max(most, received - taken)
            if taken == 200:
                break
    assert 100 < most <= 256 * 1024 / 756 + 2 * 10


async def test_a_contact_is_done_only_when_its_last_event_was_delivered() -> None:
    """So what is counted as done may be checkpointed."""
    seen: set[object] = set()
    async with bulk(names(30), lambda contact: Source(contact, [1, 1]), concurrency=5) as events:
        last = 0
        async for contact, event in events:
            if event.timestamp == 1:
                seen.add(contact)
            last = events.stats.done
            assert last <= len(seen)
    assert events.stats.done == 30


async def test_four_hundred_workers_do_not_deadlock() -> None:
    async with asyncio.timeout(20):
        async with bulk(names(800), lambda contact: Source(contact, [2, 2]), concurrency=400) as events:
            assert len([pair async for pair in events]) == 3_200


async def test_contacts_are_taken_from_the_iterable_only_as_workers_become_free() -> None:
    taken = 0

    def ids() -> Iterator[str]:
        nonlocal taken
        for name in names(10_000):
            taken += 1
            yield name

    async with bulk(ids(), lambda contact: Source(contact, [4])) as events:
        async for _ in events:
            for _ in range(10_000):
                await asyncio.sleep(0)
            break
        assert taken < 256 * 1024 / 756 / 4 + 4 + 1


async def test_contacts_may_come_from_an_async_iterable() -> None:
    async def ids() -> AsyncIterator[str]:
        for name in names(30):
            await asyncio.sleep(0)
            yield name

    async with bulk(ids(), lambda contact: Source(contact, [1])) as events:
        assert {contact async for contact, _ in events} == set(names(30))


async def test_an_error_of_the_iterable_of_contacts_is_raised_unchanged_after_the_events_fetched() -> None:
    def ids() -> Iterator[str]:
        yield from names(3)
        raise OSError("the file went away")

    seen = []
    async with bulk(ids(), lambda contact: Source(contact, [1]), concurrency=1) as events:
        with pytest.raises(OSError, match="went away"):
            async for contact, _ in events:
                seen.append(contact)
    assert seen == names(3)


async def test_on_error_raise_ends_the_run_with_a_group_that_names_the_contact() -> None:
    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], ServerError("C7 failed", status=500) if contact.value == "C7" else None)

    async with bulk(names(1_000), fetch) as events:
        with pytest.raises(BulkError) as caught:
            async for _ in events:
                pass
    assert [type(error) for error in caught.value.exceptions] == [ServerError]
    assert [failure.contact for failure in events.failures] == ["C7"]
    assert events.stats.done < 50


async def test_on_error_skip_counts_and_does_not_list() -> None:
    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], ServerError("failed", status=500) if contact.value in ("C3", "C4") else None)

    async with bulk(names(10), fetch, on_error="skip") as events:
        assert len([pair async for pair in events]) == 10
    assert (events.stats.done, events.stats.failed, events.failures) == (8, 2, [])


@pytest.mark.parametrize("coroutine", [False, True])
async def test_on_error_may_be_a_callable_that_decides_failure_by_failure(coroutine: bool) -> None:
    def decide(failure: Failure) -> Any:
        return {"C3": "collect", "C4": None, "C5": "skip"}[str(failure.contact)]

    async def decide_later(failure: Failure) -> Any:
        await asyncio.sleep(0)
        return decide(failure)

    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], NotFound("no", status=404) if contact.value in ("C3", "C4", "C5") else None)

    async with bulk(names(10), fetch, on_error=decide_later if coroutine else decide) as events:
        assert len([pair async for pair in events]) == 10
    assert [failure.contact for failure in events.failures] == ["C3"]
    assert events.stats.failed == 3


async def test_an_invalid_contact_is_a_failure_of_that_contact_alone() -> None:
    async with bulk(["C1", "../admin", "C2"], lambda contact: Source(contact, [1]), on_error="collect") as events:
        assert {contact async for contact, _ in events} == {"C1", "C2"}
    assert [type(failure.error) for failure in events.failures] == [InvalidContact]


@pytest.mark.parametrize("contacts", ["000MLGPR", b"000MLGPR", 7, None, Contact.by_id("000MLGPR")])
async def test_anything_but_an_iterable_of_contacts_is_refused_at_once(contacts: Any) -> None:
    with pytest.raises(InvalidInput):
        bulk(contacts, lambda contact: Source(contact, []))


async def test_an_unknown_error_policy_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="'raise', 'collect', 'skip'"):
        bulk([], lambda contact: Source(contact, []), on_error="ignore")


async def test_iterating_outside_async_with_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="async with"):
        aiter(bulk(["C1"], lambda contact: Source(contact, [1])))


async def test_a_bulk_stream_is_entered_once() -> None:
    events = bulk(["C1"], lambda contact: Source(contact, [1]))
    async with events:
        assert len([pair async for pair in events]) == 1
        assert [pair async for pair in events] == []
    with pytest.raises(UsageError, match="once"):
        await events.__aenter__()


async def test_without_contacts_there_are_no_events() -> None:
    async with bulk([], lambda contact: Source(contact, [1])) as events:
        assert [pair async for pair in events] == []


class Boom(Exception):
    """What a consumer may raise."""


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("way", ["break", "raise", "cancel", "timeout", "aclose"])
async def test_leaving_at_any_point_leaves_no_task_and_no_open_source(way: str, steps: int) -> None:
    before = asyncio.all_tasks()

    async def consume() -> None:
        async with bulk(names(100), lambda contact: Source(contact, [2, 2])) as events:
            taken = 0
            async for _ in events:
                taken += 1
                if taken < steps:
                    continue
                if way == "break":
                    break
                if way == "raise":
                    raise Boom
                if way == "aclose":
                    await events.aclose()
                    break
                await asyncio.sleep(60)

    task = asyncio.create_task(consume())
    if way == "cancel":
        for _ in range(steps * 3):
            await asyncio.sleep(0)
        task.cancel()
    if way == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await task
    else:
        expected = {"raise": Boom, "cancel": asyncio.CancelledError}.get(way)
        if expected is None:
            await task
        else:
            with pytest.raises(expected):
                await task
    assert asyncio.all_tasks() == before


async def test_a_run_is_cancelled_at_once_whatever_its_workers_are_doing() -> None:
    class Stuck(Source):
        async def next_batch(self) -> list[Event]:
            await asyncio.sleep(60)
            return []

    async def consume() -> None:
        async with bulk(names(10), lambda contact: Stuck(contact, [])) as events:
            async for _ in events:
                pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task


def test_a_client_serves_several_runs_at_once(np6_server: FakeNP6) -> None:
    async def main() -> list[int]:
        async with np6_server.client() as np6:
            return await asyncio.gather(*[run(np6) for _ in range(3)])

    async def run(np6: NP6Client) -> int:
        async with np6.events.stream_many(np6_server.contact_ids) as events:
            return len([pair async for pair in events])

    counts = asyncio.run(main())
    assert len(set(counts)) == 1


# -- what must not look complete -------------------------------------------------------------------


async def test_a_none_among_the_contacts_is_a_failure_and_not_the_end() -> None:
    async with bulk([None, "C1", None, "C2"], lambda contact: Source(contact, [1]), on_error="collect") as events:
        assert {contact async for contact, _ in events} == {"C1", "C2"}
    assert [type(failure.error) for failure in events.failures] == [InvalidContact, InvalidContact]


async def test_waiting_for_the_next_event_may_time_out_and_continue(server: FakeNP6) -> None:
    server.latency = 0.05
    got = 0
    async with server.client() as np6, np6.events.stream_many(server.contact_ids) as events:
        while True:
            try:
                async with asyncio.timeout(0.01):
                    await anext(events)
                got += 1
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
    assert got == truth(server).total()


async def test_a_closed_run_does_not_look_complete() -> None:
    async with bulk(names(50), lambda contact: Source(contact, [1])) as events:
        await anext(events)
        await events.aclose()
        with pytest.raises(ClientClosed):
            await anext(events)


@pytest.mark.parametrize("error", [asyncio.CancelledError, OSError])
async def test_what_on_error_raises_ends_the_run(error: type[BaseException]) -> None:
    def decide(_: Failure) -> Any:
        raise error

    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], NotFound("no", status=404) if contact.value == "C1" else None)

    async with bulk(names(9), fetch, on_error=decide) as events:
        with pytest.raises(error):
            async for _ in events:
                pass


async def test_a_cancellation_inside_the_contacts_iterable_ends_the_run() -> None:
    async def ids() -> AsyncIterator[str]:
        yield "C1"
        inner = asyncio.create_task(asyncio.sleep(60))
        inner.cancel()
        await inner

    async with bulk(ids(), lambda contact: Source(contact, [1])) as events:
        with pytest.raises(asyncio.CancelledError):
            async for _ in events:
                pass


async def test_a_callback_that_swallows_the_cancellation_does_not_delay_leaving() -> None:
    async def decide(_: Failure) -> Any:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], NotFound("no", status=404))

    async with asyncio.timeout(5):
        async with bulk(names(50), fetch, on_error=decide) as events:
            await anext(events)


async def test_unknown_contacts_beside_a_good_one_do_not_mean_a_wrong_address(server: FakeNP6) -> None:
    good = next(c for c in server.contact_ids if server.events(c))
    ids = [good, *(f"NOBODY{number}" for number in range(40))]
    async with server.client(concurrency=32) as np6, np6.events.stream_many(ids, on_error="collect") as events:
        async for _ in events:
            await asyncio.sleep(0.02)
    assert (events.stats.done, events.stats.failed) == (1, 40)


async def test_a_rate_limit_beyond_max_wait_ends_the_run(server: FakeNP6) -> None:
    """It concerns every contact: they are not burnt one by one."""
    server.script(Fault.rate_limited(3_600), times=None)
    async with server.client() as np6, np6.events.stream_many(server.contact_ids, on_error="collect") as events:
        with pytest.raises(RateLimited):
            async for _ in events:
                pass
    assert events.failures == []
    assert server.request_count <= 16


async def test_a_call_inside_the_loop_has_its_own_slots(server: FakeNP6) -> None:
    async with server.client(concurrency=2) as np6, np6.events.stream_many(server.contact_ids) as events:
        async for contact, _ in events:
            assert await np6.events.list(contact, limit=1)


async def test_closing_the_client_ends_a_run_that_waits_for_contacts(server: FakeNP6) -> None:
    async def ids() -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield "C1"

    np6 = server.client()
    async with np6.events.stream_many(ids()) as events:
        task = asyncio.create_task(_count(events))
        await asyncio.sleep(0.01)
        await np6.close()
        async with asyncio.timeout(10):
            with pytest.raises(ClientClosed):
                await task


@pytest.mark.slow
async def test_contacts_that_need_no_request_do_not_block_the_loop() -> None:
    async with asyncio.timeout(20):
        async with bulk(itertools.count(), lambda contact: Source(contact, []), on_error="skip") as events:
            waiting = asyncio.ensure_future(anext(events, None))
            for _ in range(100):
                await asyncio.sleep(0)
            waiting.cancel()
    assert 0 < events.stats.failed < 200_000


async def test_a_failure_keeps_nothing_of_the_response() -> None:
    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], ServerError("failed", status=500))

    async with bulk(names(3), fetch, on_error="collect") as events:
        async for _ in events:
            pass
    assert all(failure.error.__traceback__ is None for failure in events.failures)


# -- reading in more than one way ------------------------------------------------------------------


async def test_batches_and_single_events_may_be_mixed() -> None:
    """Nothing is lost between them, and each event stays with its contact."""
    got: list[tuple[Any, str | None]] = []
    async with bulk(names(20), lambda contact: Source(contact, [2, 2, 1])) as events:
        while True:
            pair = await anext(events, None)
            if pair is None:
                break
            got.append((pair[0], pair[1].id))
            contact, batch = await anext(events.batches(), ("", []))
            got += [(contact, event.id) for event in batch]
    assert len(got) == len(set(got)) == 100
    assert all(str(name).startswith(f"{contact}-") for contact, name in got)


async def test_two_tasks_do_not_read_one_run() -> None:
    async with bulk(names(20), lambda contact: Source(contact, [1])) as events:
        first = asyncio.create_task(_count(events))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="another task"):
            await anext(events)
        assert await first == 20


@pytest.mark.parametrize("error", [StopAsyncIteration, StopIteration])
async def test_a_stray_stop_iteration_is_not_the_end_of_the_run(error: type[Exception]) -> None:
    """Whether `on_error` raises it or the iterable of contacts."""

    class Ids:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            raise StopAsyncIteration

    def decide(_: Failure) -> Any:
        raise error

    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], NotFound("no", status=404))

    async with bulk(names(9), fetch, on_error=decide) as events:
        with pytest.raises(RuntimeError, match="on_error raised Stop"):
            await _count(events)
    async with bulk(Ids(), lambda contact: Source(contact, [1])) as events:
        with pytest.raises(RuntimeError, match="iterable of contacts"):
            await _count(events)


async def test_a_run_that_was_fetched_but_not_taken_does_not_look_complete() -> None:
    """When it is closed, or when a failure ended it."""
    events = bulk(names(20), lambda contact: Source(contact, [1]), concurrency=20)
    async with events:
        await anext(events)
        await asyncio.sleep(0.01)
    with pytest.raises(ClientClosed):
        await anext(events)

    def fetch(contact: Contact) -> Source:
        return Source(contact, [1], NotFound("no", status=404) if contact.value == "C3" else None)

    async with bulk(names(20), fetch, concurrency=20) as events:
        await asyncio.sleep(0.01)
        for _ in range(2):
            with pytest.raises(BulkError):
                await _count(events)


async def test_a_failure_whose_handling_was_cancelled_is_handled_again_and_counted_once() -> None:
    handled = 0

    async def decide(_: Failure) -> Any:
        nonlocal handled
        handled += 1
        await asyncio.sleep(60 if handled <= 30 else 0)

    def fetch(contact: Contact) -> Source:
        return Source(contact, [], NotFound("no", status=404) if contact.value == "C1" else None)

    async with bulk(names(3), fetch, on_error=decide) as events:
        while handled < 30:  # on a busy machine the time is sometimes up before the handling begins
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(events)
        assert await anext(events, None) is None
    assert handled == 31
    assert (events.stats.done, events.stats.failed) == (2, 1)


async def test_workers_cancelled_before_their_first_step_do_not_look_like_the_end() -> None:
    before = asyncio.all_tasks()
    async with bulk(names(20), lambda contact: Source(contact, [1])) as events:
        for task in asyncio.all_tasks() - before:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await anext(events)


async def test_on_error_may_close_the_run() -> None:
    events: BulkStream[Any, Event]

    async def decide(_: Failure) -> Any:
        await events.aclose()

    def fetch(contact: Contact) -> Source:
        return Source(contact, [], NotFound("no", status=404))

    async with asyncio.timeout(5):
        async with bulk(names(9), fetch, on_error=decide) as events:
            with pytest.raises(ClientClosed):
                await _count(events)


async def test_the_iterable_of_contacts_may_close_the_run() -> None:
    events: BulkStream[Any, Event]

    async def ids() -> AsyncIterator[str]:
        yield "C1"
        await events.aclose()
        yield "C2"

    async with asyncio.timeout(5):
        async with bulk(ids(), lambda contact: Source(contact, [1])) as events:
            with pytest.raises(ClientClosed):
                await _count(events)


async def test_hooks_are_notified_of_a_contact_when_its_events_were_taken(server: FakeNP6) -> None:
    """Its outcome may be written down as a checkpoint: data first."""
    taken: Counter[str] = Counter()
    done: list[str] = []

    def hook(observation: Observation) -> None:
        if isinstance(observation, ContactDone):
            contact = observation.contact.value
            assert taken[contact] == observation.events == len(server.events(contact))
            done.append(contact)

    async with server.client(hooks=[hook]) as np6, np6.events.stream_many(server.contact_ids) as events:
        async for contact, _ in events:
            taken[str(contact)] += 1
    assert sorted(done) == sorted(server.contact_ids)


async def test_an_invalid_contact_is_named_in_the_group() -> None:
    async with bulk(["../admin"], lambda contact: Source(contact, [1])) as events:
        with pytest.raises(BulkError) as caught:
            await _count(events)
    assert [error.contact for error in caught.value.exceptions] == ["../admin"]


async def test_a_failure_comes_after_the_events_of_its_contact() -> None:
    """So `resume_at` never runs ahead of what the consumer has."""
    seen: list[Any] = []

    def decide(failure: Failure) -> Any:
        seen.append("failure")

    def fetch(contact: Contact) -> Source:
        return Source(contact, [2, 2], ServerError("failed", status=500))

    async with bulk(["C1"], fetch, on_error=decide) as events:
        async for _, event in events:
            seen.append(event.timestamp)
    assert seen == [0, 1, 2, 3, "failure"]


async def test_a_borrowed_session_leaves_a_connection_for_calls_inside_the_loop(server: FakeNP6) -> None:
    """Its limit of connections is kept, and no contact fails for it, however slow the consumer is."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=3)) as session,
        NP6Client(server.api_key, base_url=server.url, session=session, timeout=Timeout(connect=1, pool=0.05)) as np6,
        np6.events.stream_many(server.contact_ids, concurrency=8) as events,
    ):
        async for contact, _ in events.batches():
            assert await np6.events.list(contact, limit=1)
    assert server.max_in_flight <= 3
    assert events.stats.done == len(server.contact_ids)
