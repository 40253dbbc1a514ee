"""One contact: exactly once, in order, whatever breaks, and nothing left over."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest

from np6_async import (
    Bounce,
    ClientClosed,
    DecodeError,
    NotFound,
    NP6Client,
    OrderError,
    ProtocolError,
    RequestStarted,
    Resumed,
    RetryPolicy,
    RetryScheduled,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
    UsageError,
)
from np6_async.testing import FakeNP6, Fault

pytestmark = pytest.mark.both_ways

CONTACT = "000MLGPR"
# Twelve small events on five timestamps: ties at both ends and in the middle.
TIES = [
    {"type": "hit", "id": f"{number:x}", "timestamp": 1_700_000_000_000 + 1_000 * second, "note": 'é},{"['}
    for number, second in enumerate([0, 0, 1, 2, 2, 2, 2, 3, 4, 4, 4, 4])
]


async def immediately(_: float) -> None:
    """Sleep, without the waiting."""
    await asyncio.sleep(0)


IMPATIENT = RetryPolicy(sleep=immediately, random=lambda: 0.0, budget=1e9)


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=20, events_per_contact=30) as fake:
        fake.add_contact(CONTACT, TIES)
        yield fake


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client(retry=IMPATIENT) as client:
        yield client


def ids(events: list[Any]) -> list[str]:
    return sorted(event.id for event in events)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["chunked", "length"])
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.one_way("slow, and the next test cuts bodies both ways")
async def test_a_body_cut_at_any_byte_yields_the_same_events_once_each_in_order(
    server: FakeNP6, np6: NP6Client, newest_first: bool, how: Any
) -> None:
    # How the server writes it: the number of bytes does not depend on the order of ties.
    size = len(json.dumps(TIES, separators=(",", ":"), ensure_ascii=False).encode())
    for after in range(size):
        server.script(Fault.cut(after=after, how=how), contact=CONTACT)
        events = await np6.events.list(CONTACT, newest_first=newest_first)
        assert ids(events) == sorted(str(e["id"]) for e in TIES)
        times = [event.timestamp for event in events]
        assert times == sorted(times, reverse=newest_first), after
    assert server.faults_consumed.total() == size
    assert not server.faults_pending.total()


@pytest.mark.parametrize("newest_first", [False, True])
async def test_five_cuts_in_a_row_lose_and_double_nothing(server: FakeNP6, np6: NP6Client, newest_first: bool) -> None:
    for after in (600, 500, 400, 300, 250):
        server.script(Fault.cut(after=after), contact=CONTACT)
    stream = np6.events.stream(CONTACT, newest_first=newest_first)
    events = [event async for event in stream]
    assert ids(events) == sorted(str(e["id"]) for e in TIES)
    assert stream.stats.requests == server.request_count == 6


async def test_a_body_without_its_closing_bracket_is_never_taken_for_complete(server: FakeNP6, np6: NP6Client) -> None:
    """Such a response ends without any error of HTTP: the bracket is the only mark of integrity."""
    server.set_raw(CONTACT, b'[{"timestamp":1,"id":"a"}')
    with pytest.raises(StreamInterrupted, match="closing bracket") as caught:
        await np6.events.list(CONTACT)
    assert caught.value.contact.value == CONTACT
    assert "5 attempts" in str(caught.value)


async def test_progress_resets_the_count_of_attempts(server: FakeNP6) -> None:
    """Ten cuts, each after one more event, with three attempts allowed."""
    events = [{"type": "hit", "id": str(n), "timestamp": n} for n in range(20)]
    server.add_contact("LONG", events)
    size = len(json.dumps(events[:3], separators=(",", ":")))
    async with server.client(retry=RetryPolicy(max_attempts=3, sleep=immediately)) as np6:
        server.script(Fault.cut(after=size), contact="LONG", times=10)
        assert len(await np6.events.list("LONG")) == 20


async def test_no_progress_in_max_attempts_requests_in_a_row_is_an_error(server: FakeNP6) -> None:
    server.script(Fault.status(503), contact=CONTACT, times=None)
    async with server.client(retry=RetryPolicy(max_attempts=3, sleep=immediately)) as np6:
        with pytest.raises(ServerError, match=r"contact 000MLGPR: 503.*after 3 attempts") as caught:
            await np6.events.list(CONTACT)
    assert server.request_count == caught.value.attempts == 3


async def test_a_response_that_makes_no_sense_is_requested_three_times_at_most(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.html(), contact=CONTACT, times=None)
    with pytest.raises(ProtocolError, match="HTML"):
        await np6.events.list(CONTACT)
    assert server.request_count == 3


async def test_an_unknown_contact_is_requested_once(server: FakeNP6, np6: NP6Client) -> None:
    with pytest.raises(NotFound):
        await np6.events.list("NOBODY")
    assert server.request_count == 1


async def test_a_broken_order_is_an_error_before_any_later_event(server: FakeNP6, np6: NP6Client) -> None:
    server.set_raw(CONTACT, b'[{"timestamp":5,"id":"a"},{"timestamp":4,"id":"b"},{"timestamp":6,"id":"c"}]')
    seen = []
    with pytest.raises(OrderError):
        async for event in np6.events.stream(CONTACT):
            seen.append(event.id)
    assert seen in ([], ["a"])
    assert server.request_count == 1


async def test_an_event_that_cannot_be_read_names_contact_and_position_after_those_before_it(
    server: FakeNP6, np6: NP6Client
) -> None:
    server.set_raw(CONTACT, b'[{"timestamp":5,"id":"a"},{"timestamp":"soon"},{"timestamp":6,"id":"c"}]')
    seen = []
    with pytest.raises(DecodeError, match=CONTACT) as caught:
        async for event in np6.events.stream(CONTACT):
            seen.append(event.id)
    assert seen == ["a"]
    assert caught.value.position == 1


async def test_events_outside_the_window_are_dropped_even_if_the_server_sends_them(
    server: FakeNP6, np6: NP6Client
) -> None:
    server.set_raw(CONTACT, json.dumps([{"timestamp": t * 1000} for t in range(1_700_000_000, 1_700_000_009)]).encode())
    events = await np6.events.list(CONTACT, start=1_700_000_002, end=1_700_000_005)
    assert [event.timestamp for event in events] == [t * 1000 for t in range(1_700_000_002, 1_700_000_005)]


async def test_an_event_sent_twice_in_one_response_is_delivered_once(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.duplicate(), contact=CONTACT)
    assert ids(await np6.events.list(CONTACT)) == sorted(str(e["id"]) for e in TIES)
    assert server.faults_consumed.total() == 1


async def test_equal_bounds_yield_nothing_and_request_nothing(server: FakeNP6, np6: NP6Client) -> None:
    assert await np6.events.list(CONTACT, start="2026-01-01", end="2026-01-01") == []
    assert server.request_count == 0


async def test_no_request_goes_out_before_a_stream_is_iterated(server: FakeNP6, np6: NP6Client) -> None:
    np6.events.stream(CONTACT)
    await asyncio.sleep(0.01)
    assert server.request_count == 0


async def test_a_stream_is_an_async_iterator_with_anext(np6: NP6Client) -> None:
    stream = np6.events.stream(CONTACT)
    first = await anext(stream)
    assert first.timestamp == TIES[0]["timestamp"]
    rest = [event async for event in _rest(stream)]
    assert len(rest) == 11
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def _rest(stream: Any) -> AsyncIterator[Any]:
    while True:
        try:
            event = await anext(stream)
        except StopAsyncIteration:
            return
        yield event


async def test_a_stream_continues_where_the_last_loop_left_it(np6: NP6Client) -> None:
    stream = np6.events.stream(CONTACT)
    assert aiter(stream) is stream
    first = await anext(stream)
    rest = [event async for event in stream]
    assert first.id not in {event.id for event in rest}
    assert len(rest) == 11
    assert [event async for event in stream] == []


async def test_a_stream_whose_reading_was_cancelled_does_not_look_complete(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.stall(after=300), contact=CONTACT)
    stream = np6.events.stream(CONTACT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            async for _ in stream:
                pass
    with pytest.raises(ClientClosed, match="cancelled"):
        await anext(stream)


async def test_a_closed_stream_does_not_look_complete(np6: NP6Client) -> None:
    stream = np6.events.stream(CONTACT)
    await anext(stream)
    await stream.aclose()
    with pytest.raises(ClientClosed):
        await anext(stream)


async def test_a_stream_closed_while_it_waits_for_a_slot_requests_nothing(server: FakeNP6) -> None:
    server.script(Fault.stall(after=700), contact=CONTACT)
    async with server.client(concurrency=1) as np6, np6.events.stream(CONTACT) as held:
        await anext(held)
        waiting = np6.events.stream(CONTACT)
        task = asyncio.create_task(_drain(waiting))
        await asyncio.sleep(0.01)
        await waiting.aclose()
        await held.aclose()
        with pytest.raises(ClientClosed):
            await task
    assert server.request_count == 1


async def test_a_404_after_a_broken_response_does_not_prove_completeness(server: FakeNP6, np6: NP6Client) -> None:
    """Also where contacts that are missing count as empty."""
    server.script(Fault.cut(after=400), Fault.status(404), contact=CONTACT)
    with pytest.raises(NotFound):
        await np6.events.list(CONTACT, missing="empty")


async def test_batches_and_single_events_may_be_mixed(np6: NP6Client) -> None:
    """Nothing is lost between them."""
    stream = np6.events.stream(CONTACT)
    events = [await anext(stream)]
    events += [event async for batch in stream.batches() for event in batch]
    assert ids(events) == ids(await np6.events.list(CONTACT))


async def test_a_stream_is_not_copied(np6: NP6Client) -> None:
    """A copy that is garbage collected would take the response with it."""
    stream = np6.events.stream(CONTACT)
    first = await anext(stream)
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copying(stream)
    gc.collect()
    assert [first, *[event async for event in stream]][-1].timestamp == TIES[-1]["timestamp"]


async def test_two_tasks_do_not_read_one_stream(server: FakeNP6, np6: NP6Client) -> None:
    """The second gets an error, and the first continues."""
    server.latency = 0.02
    stream = np6.events.stream(CONTACT)
    first = asyncio.create_task(_drain(stream))
    await asyncio.sleep(0)
    with pytest.raises(UsageError, match="another task"):
        await anext(stream)
    await first
    assert stream.stats.events == 12


async def test_a_stream_closed_by_another_task_ends_at_once(server: FakeNP6) -> None:
    """In whatever it waits for, and its slot is free for others only when its request has ended."""
    async with server.client(concurrency=1, timeout=Timeout(pool=5)) as np6:
        for fault in (Fault.hang(), Fault.stall(after=300), Fault.rate_limited(60)):
            server.script(fault, contact=CONTACT)
            stream = np6.events.stream(CONTACT)
            task = asyncio.create_task(_drain(stream))
            await asyncio.sleep(0.02)
            await stream.aclose()
            async with asyncio.timeout(10):
                with pytest.raises(ClientClosed):
                    await task
            assert np6._runtime.slots.in_use == 0
            assert not np6._runtime.transport._live


async def test_cancelling_a_wait_before_a_retry_does_not_skip_it(server: FakeNP6) -> None:
    """The server asked for a minute, and gets no request sooner."""
    server.script(Fault.status(503, retry_after=60), times=None)
    async with server.client() as np6:
        stream = np6.events.stream(CONTACT)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(stream)
        with pytest.raises(ClientClosed, match="cancelled"):
            await anext(stream)
    assert server.request_count == 1


async def test_batches_hold_the_same_events(np6: NP6Client, server: FakeNP6) -> None:
    contact = server.contact_ids[0]
    batches = [batch async for batch in np6.events.stream(contact).batches()]
    assert [e.id for batch in batches for e in batch] != []
    assert ids([e for batch in batches for e in batch]) == ids(await np6.events.list(contact))


async def test_the_kind_decides_the_endpoint_and_the_class_of_events(np6: NP6Client, server: FakeNP6) -> None:
    contact = next(c for c in server.contact_ids if server.events(c, "bounces"))
    bounces = await np6.events.list(contact, kind="bounces")
    assert {type(event) for event in bounces} == {Bounce}
    assert all(bounce.verdict in ("hard", "soft") for bounce in bounces)
    assert server.requests[-1].path == f"/targets/{contact}/events/bounces"


async def test_leaving_a_stream_early_gives_its_connection_and_slot_back(server: FakeNP6) -> None:
    async with server.client(concurrency=1, timeout=Timeout(pool=0.5)) as np6:
        for _ in range(3):
            async with np6.events.stream(CONTACT) as stream:
                async for _ in stream:
                    break
        async for _ in np6.events.stream(CONTACT):  # bare: the generator goes with its last reference
            break
        gc.collect()
        await asyncio.sleep(0)
        assert len(await np6.events.list(CONTACT, limit=5)) == 5
        assert len(await np6.events.list(CONTACT)) == 12


async def test_streams_that_hold_every_slot_lead_to_an_error_and_not_to_a_hang(server: FakeNP6) -> None:
    server.script(Fault.stall(after=700), contact=CONTACT)
    async with server.client(concurrency=1, timeout=Timeout(pool=0.05)) as np6, np6.events.stream(CONTACT) as held:
        await anext(held)
        with pytest.raises(TimeoutExceeded, match="no slot came free"):
            await np6.events.list(CONTACT)


async def test_cancelling_a_read_raises_cancelled_error_and_leaves_nothing(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.stall(after=200), contact=CONTACT)
    task = asyncio.create_task(np6.events.list(CONTACT))
    while not server.in_flight:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await np6.events.list(CONTACT)) == 12


async def test_a_deadline_bounds_the_waiting_and_not_the_consumer(server: FakeNP6) -> None:
    async with server.client(timeout=Timeout(deadline=0.2)) as np6:
        async for _ in np6.events.stream(CONTACT):
            await asyncio.sleep(0.03)  # 12 times: more than the deadline
        server.script(Fault.stall(after=200), contact=CONTACT)
        with pytest.raises(TimeoutExceeded, match="deadline"):
            await np6.events.list(CONTACT)


async def test_hooks_see_a_cut_response_as_a_retry_and_a_resume(server: FakeNP6) -> None:
    seen: list[Any] = []
    server.script(Fault.cut(after=400), contact=CONTACT)
    async with server.client(retry=IMPATIENT, hooks=[seen.append]) as np6:
        await np6.events.list(CONTACT)
    kinds = [type(observation) for observation in seen]
    assert kinds.index(RequestStarted) < kinds.index(RetryScheduled) < kinds.index(Resumed)


async def test_closing_a_stream_while_another_task_reads_it_ends_the_read(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.stall(after=200), contact=CONTACT)
    stream = np6.events.stream(CONTACT)
    task = asyncio.create_task(_drain(stream))
    while not server.in_flight:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    await stream.aclose()
    async with asyncio.timeout(10):
        with pytest.raises(ClientClosed):
            await task


async def _drain(stream: Any) -> int:
    return len([event async for event in stream])
