"""The quick lane of a bulk run: whatever a response holds and wherever a run ends, as if each contact had its `Fetch`.

Hooks that listen keep every contact out of the lane, so a run with a hook is what one without is compared to.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal

import attrs
import pytest

from np6_async import (
    AuthError,
    BulkError,
    BulkStream,
    ClientClosed,
    ContactDone,
    ContactFailed,
    Done,
    Event,
    Failure,
    FetchFinished,
    FetchStarted,
    NP6Client,
    NP6Error,
    Observation,
    RequestFinished,
    RequestStarted,
    RetryPolicy,
    Timeout,
    TimeoutExceeded,
)
from np6_async._streams import quick_lane
from np6_async.testing import FakeNP6, Fault, RateLimit

pytestmark = pytest.mark.both_ways


async def immediately(_: float) -> None:
    await asyncio.sleep(0)


IMPATIENT = RetryPolicy(sleep=immediately, random=lambda: 0.0, budget=1e9)
START, END = 1_767_225_600_000, 1_767_312_000_000
Order = Literal["completion", "input"]


def event(number: int, **members: Any) -> bytes:
    """An event in the window that the tests ask for, later for a higher number."""
    return json.dumps({"type": "hit", "id": f"e{number}", "timestamp": START + number} | members).encode()


def array(*parts: bytes) -> bytes:
    return b"[" + b",".join(parts) + b"]"


BODIES: dict[str, bytes] = {
    "good": array(event(1), event(2), event(3)),
    "one": array(event(1)),
    "empty": b"[]",
    "blanks": b" [ " + event(1) + b" , " + event(2) + b"\n]\r\n",
    "mark": b"\xef\xbb\xbf" + array(event(1)),
    "ties": array(event(1), event(1, id="other"), event(1, id="third")),
    "undecodable": array(event(1), b'{"id":"none"}', event(3)),
    "undecodable-first": array(b"5", event(1)),
    "undecodable-last": array(event(1), event(2), b'{"timestamp":"soon"}'),
    "odd-timestamp": array(event(1), event(2, timestamp=str(START + 2)), event(3)),
    "odd-members": array(event(1, identity=5), event(2, source=[]), event(3, type=7)),
    "twice": array(event(1), event(2), event(2), event(3)),
    "twice-apart": array(event(1), event(2), event(3, id="e1")),
    "no-id": array(event(1, id=None), event(2), event(3, id=None)),
    "empty-id": array(event(1, id=""), event(1, id=""), event(2)),
    "same-without-id": array(event(1, id=None), event(1, id=None)),
    "out-of-order": array(event(1), event(3), event(2)),
    "newest-first": array(event(3), event(2), event(1)),
    "before": array(event(-1), event(1), event(2)),
    "after": array(event(1), event(2, timestamp=END), event(3, timestamp=END + 1)),
    "outside": array(event(-2), event(-1)),
    "html": b"<html><body>[]</body></html>",
    "object": b'{"error":[]}',
    "null": b"null",
    "nested": array(array(event(1))),
    "no-bracket": array(event(1), event(2))[:-1],
    "in-event": array(event(1), event(2))[:-9],
    "garbage-after": array(event(1)) + b"]",
    "garbage-between": b"[" + event(1) + b"x," + event(2) + b"]",
    "two-arrays": array(event(1)) + array(event(2)),
    "comma": b"[" + event(1) + b",]",
    "not-utf-8": array(event(1, note="x").replace(b"x", b"\xff"), event(2)),
    "nothing": b"",
    "deep": array(event(1), event(2)[:-1] + b',"x":' + b"[" * 3_000 + b"]" * 3_000 + b"}"),
    "one-large": array(event(1, note="x" * 70_000)),
    "many": array(*(event(number, note="x" * 200) for number in range(1_000))),
    "at-the-bound": array(event(1, note="x" * (quick_lane._MOST - 72))),
    "beyond-the-bound": array(event(1, note="x" * (quick_lane._MOST - 71))),
}
STATUSES = [400, 404, 410, 422, 500, 503, 204, 302]


async def served() -> FakeNP6:
    """A server with a contact for each body and each status, and good ones between them."""
    server = FakeNP6(contacts=0)
    for number, (name, body) in enumerate(BODIES.items()):
        server.set_raw(name, body)
        server.set_raw(f"good-{number}", array(event(number), event(number + 1)))
    for status in STATUSES:
        server.set_raw(f"status-{status}", b"[]", status=status)
    for number, after in enumerate((0, 1, 40, 100)):
        server.set_raw(f"cut-{number}", BODIES["good"])
        server.script(Fault.cut(after=after, how="length"), contact=f"cut-{number}")
    server.set_raw("limited", BODIES["good"])
    server.script(Fault.rate_limited(0), contact="limited")
    server.set_raw("failing-once", BODIES["good"])
    server.script(Fault.status(503), contact="failing-once")
    return server


@attrs.define
class Result:
    """What a run came to; `bytes` without those of broken responses, which depend on what arrived in time."""

    pairs: dict[Any, list[Event]] = attrs.field(factory=dict)
    ends: list[Any] = attrs.field(factory=list)
    failures: dict[Any, tuple[Any, ...]] = attrs.field(factory=dict)
    counts: tuple[int, ...] = ()
    error: Any = None
    requests: Counter[str] = attrs.field(factory=Counter)
    sent: int = attrs.field(default=0, eq=False)  # probes, too


def described(failure: Failure) -> tuple[Any, ...]:
    text = str(failure.error).split(" [request id", 1)[0]
    return type(failure.error), text, failure.attempts, failure.resume_at


def is_probe(query: dict[str, str]) -> bool:
    """Whether a request is for one millisecond."""
    start, end = (datetime.fromisoformat(query[name]) for name in ("start", "end"))
    return end - start == timedelta(milliseconds=1)


async def run(hooks: list[Any], concurrency: int, **options: Any) -> Result:
    """A run over everything that is served; each contact's outcome must follow its events, once."""
    result = Result()
    async with (
        await served() as server,
        server.client(retry=IMPATIENT, hooks=hooks, concurrency=concurrency) as np6,
        np6.events.stream_many(server.contact_ids, start=START, end=END, **options) as events,
    ):
        try:
            async for contact, item in events.outcomes():
                assert contact not in result.ends
                if isinstance(item, list):
                    result.pairs.setdefault(contact, []).extend(item)
                    continue
                result.ends.append(contact)
                if isinstance(item, Failure):
                    result.failures[contact] = described(item)
        except BulkError as error:
            result.error = [str(each).split(" [request id", 1)[0] for each in error.exceptions]
        else:
            assert sorted(result.ends) == sorted(server.contact_ids)
            assert events.stats.done + events.stats.failed == len(server.contact_ids)
            assert server.request_count == events.stats.requests
            assert server.max_in_flight <= concurrency
        stats = events.stats
        result.counts = (stats.done, stats.failed, stats.events, stats.retries, stats.in_flight)
        # Probes are for whichever contact was answered last.
        result.sent = server.request_count
        asked = [request for request in server.requests if not is_probe(request.query)]
        result.requests = Counter(request.path.split("/")[2] for request in asked)
    return result


@pytest.mark.parametrize("missing", ["error", "empty"])
@pytest.mark.parametrize("order", ["completion", "input"])
@pytest.mark.parametrize("on_error", ["collect", "skip"])
async def test_every_kind_of_response_comes_to_the_same_as_without_the_lane(
    on_error: Any, order: Order, missing: str
) -> None:
    """Events, failures, outcomes and counts."""
    quick = await run([], 4, on_error=on_error, order=order, missing=missing)
    slow = await run([lambda _: None], 4, on_error=on_error, order=order, missing=missing)
    if order == "input":
        assert list(quick.pairs) == list(slow.pairs)
        assert quick.ends == slow.ends
    quick.ends.sort()
    slow.ends.sort()
    assert quick == slow
    assert {"good", "ties", "blanks", "many"} <= quick.pairs.keys()
    assert ("status-404" in quick.failures) is (missing == "error")


async def test_the_first_failure_ends_the_run_as_without_the_lane() -> None:
    """One contact after the other: the same events came before it, and the same error."""
    quick = await run([], 1, on_error="raise", order="input")
    slow = await run([lambda _: None], 1, on_error="raise", order="input")
    assert quick.error == slow.error
    assert quick.pairs == slow.pairs
    assert quick.ends == slow.ends


@pytest.mark.parametrize("how", ["chunked", "length", "rst", "gzip"])
@pytest.mark.one_way("slow, and about what follows the transport")
async def test_a_body_cut_at_any_byte(how: Any) -> None:
    """Each contact's at another one: once each, in order, all of them."""
    body = BODIES["ties"] if how == "gzip" else BODIES["good"]
    expected = [each["id"] for each in json.loads(body)]
    async with FakeNP6(contacts=0) as server:
        names = [server.set_raw(f"C{after}", body) for after in range(len(body))]
        for after, name in enumerate(names):
            server.script(Fault.cut(after=after, how=how), contact=name)
        async with (
            server.client(retry=IMPATIENT, concurrency=8) as np6,
            np6.events.stream_many(names, start=START, end=END) as events,
        ):
            got: dict[Any, list[Any]] = {name: [] for name in names}
            async for contact, each in events:
                got[contact].append(each.id)
        assert events.stats.done == len(names)
        assert events.stats.retries > 0
    assert {name: sorted(ids) for name, ids in got.items()} == {name: sorted(expected) for name in names}
    if how != "gzip":
        assert got == dict.fromkeys(names, expected)


async def test_the_counts_are_those_of_the_server_whatever_breaks() -> None:
    """Requests, retries, events and contacts in flight, at every moment."""
    async with FakeNP6(contacts=300, events_per_contact=(0, 12)) as server:
        kinds = [kind for kind in Fault.ALL if kind.name not in ("stall", "hang", "close_after", "rate_limited", "cut")]
        server.fault_rate(0.3, kinds, seed=11)
        async with (
            server.client(retry=attrs.evolve(IMPATIENT, max_attempts=30, max_protocol_attempts=30)) as np6,
            np6.events.stream_many(server.contact_ids, concurrency=5) as events,
        ):
            got = Counter()
            async for contact, each in events:
                got[contact, each.id] += 1
                assert events.stats.in_flight >= 0
            stats = events.stats
        truth = Counter((contact, each["id"]) for contact in server.contact_ids for each in server.events(contact))
        assert got == truth
        assert (stats.done, stats.failed, stats.in_flight, stats.events) == (300, 0, 0, truth.total())
        assert stats.requests == server.request_count
        assert stats.requests - stats.retries == 300


async def test_bytes_are_those_of_the_bodies() -> None:
    names = ["good", "one", "empty", "ties", "odd-timestamp", "twice", "before", "many", "one-large", "not-utf-8"]
    async with FakeNP6(contacts=0) as server:
        for name in names:
            server.set_raw(name, BODIES[name])
        async with (
            server.client(retry=IMPATIENT) as np6,
            np6.events.stream_many(names, start=START, end=END, on_error="collect") as events,
        ):
            async for _ in events:
                pass
        assert events.stats.bytes == sum(len(BODIES[name]) for name in names)
        assert events.stats.requests == len(names)


@pytest.mark.parametrize(
    "body",
    [
        "html",
        "out-of-order",
        "garbage-between",
    ],
)
async def test_odd_bodies_take_no_more_requests_at_once_than_asked_for(body: str) -> None:
    """Though they are requested again, and many wait to be looked at."""
    async with FakeNP6(contacts=0, latency=0.002) as server:
        good = server.set_raw("GOOD", BODIES["good"])  # the server is there
        names = [good, *(server.set_raw(f"C{number}", BODIES[body]) for number in range(100))]
        async with (
            server.client(retry=IMPATIENT, concurrency=3) as np6,
            np6.events.stream_many(names, on_error="skip") as events,
        ):
            async for _ in events:
                await asyncio.sleep(0.001)
        assert events.stats.failed == 100
        assert server.max_in_flight <= 3


async def test_a_run_that_has_failed_looks_at_no_more_bodies() -> None:
    """A wrong key ends it: what is still there is not requested again, and leaving does not wait."""
    async with FakeNP6(contacts=0) as server:
        names = [server.set_raw(f"C{number}", BODIES["garbage-between"]) for number in range(5)]
        server.set_raw("REFUSED", b"", status=401)
        async with (
            server.client(retry=IMPATIENT, timeout=Timeout(read=60)) as np6,
            np6.events.stream_many([*names, "REFUSED"], on_error="skip") as events,
        ):
            while server.request_count < 6 or events.stats.in_flight:
                await asyncio.sleep(0.001)
            server.script(Fault.hang(), times=None)
            async with asyncio.timeout(10):
                with pytest.raises(AuthError):
                    async for _ in events:
                        pass
        assert server.request_count == 6


@pytest.mark.parametrize("order", ["completion", "input"])
async def test_outcomes_of_a_closed_run_do_not_go_on(order: Order) -> None:
    """Not even with the outcome of the contact whose events were delivered last."""
    async with (
        FakeNP6(contacts=5, events_per_contact=3) as server,
        server.client() as np6,
        np6.events.stream_many(server.contact_ids, order=order) as events,
    ):
        outcomes = events.outcomes()
        assert isinstance((await anext(outcomes))[1], list)
        await events.aclose()
        with pytest.raises(ClientClosed):
            await anext(outcomes)


async def test_a_contact_is_done_when_more_is_asked_for() -> None:
    """In each way to read; so a contact that is counted as done was written."""
    async with FakeNP6(contacts=6, events_per_contact=3) as server, server.client() as np6:
        async with np6.events.stream_many(server.contact_ids) as events:
            for number in range(6):
                for _ in range(3):
                    await anext(events)
                    assert events.stats.done == number
        assert events.stats.done == 5  # nobody asked for more
        async with np6.events.stream_many(server.contact_ids) as events:
            number = 0
            async for _ in events.batches():
                assert events.stats.done == number
                number += 1
            assert events.stats.done == 6
        async with np6.events.stream_many(server.contact_ids) as events:
            async for _, item in events.outcomes():
                assert isinstance(item, list | Done)
            assert events.stats.done == 6


async def test_hooks_see_each_contact_from_start_to_end() -> None:
    """Because then nothing goes through the lane."""
    seen: list[Observation] = []
    result = await run([seen.append], 4, on_error="collect")
    counts = Counter(type(each) for each in seen)
    contacts = len(result.ends)
    assert counts[FetchStarted] == counts[FetchFinished] == contacts
    assert counts[RequestStarted] == counts[RequestFinished] == result.sent
    assert counts[ContactDone] + counts[ContactFailed] == contacts
    assert counts[ContactFailed] == len(result.failures)


async def test_a_deadline_holds() -> None:
    """For what waits too long, and for nothing else."""
    async with FakeNP6(contacts=4, events_per_contact=3) as server:
        slow = server.contact_ids[1]
        server.script(Fault.hang(), contact=slow, times=None)
        async with (
            server.client(timeout=Timeout(read=30, deadline=0.7)) as np6,
            np6.events.stream_many(server.contact_ids, on_error="collect") as events,
        ):
            assert len([pair async for pair in events]) == 9
        assert [(failure.contact, type(failure.error)) for failure in events.failures] == [(slow, TimeoutExceeded)]


async def test_a_read_timeout_holds() -> None:
    """Before the response and within it; the retry counts, and the contact is read."""
    async with FakeNP6(contacts=4, events_per_contact=3) as server:
        first, second, *_ = server.contact_ids
        server.script(Fault.hang(), contact=first)
        server.script(Fault.stall(after=100), contact=second)
        async with (
            server.client(timeout=Timeout(read=0.1), retry=IMPATIENT) as np6,
            np6.events.stream_many(server.contact_ids) as events,
        ):
            assert len([pair async for pair in events]) == 12
        assert (events.stats.requests, events.stats.retries, events.stats.done) == (6, 2, 4)


async def test_the_rate_limit_is_kept_in_the_lane() -> None:
    """By the headers of its responses: after the first volley, there is no 429."""
    async with FakeNP6(contacts=60, events_per_contact=1) as server:
        server.rate_limit = RateLimit(limit=20, window=0.3)
        async with (
            server.client(concurrency=8) as np6,
            np6.events.stream_many(server.contact_ids) as events,
        ):
            assert len([pair async for pair in events]) == 60
            assert np6.rate_limit is not None
            assert np6.rate_limit.limit == 20
        assert events.stats.requests == server.request_count <= 64
        assert events.stats.retries == 0
        assert (events.stats.waited > 0, events.stats.done) == (True, 60)


def left(np6: NP6Client, events: BulkStream[Any, Any]) -> dict[str, int]:
    """What must be nothing after a run."""
    runtime = np6._runtime
    connector = runtime.transport._connector
    counts = {
        "responses": len(runtime.transport._live),
        "connections": 0 if connector is None else len(connector._acquired),
        "scopes": len(runtime.lifetime._scopes),
        "pending": runtime.rate_limiter._pending,
        "in flight": events.stats.in_flight,
        "slots": runtime.slots.in_use,
    }
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("way_out", ["cancel", "aclose", "close"])
async def test_leaving_at_any_step_leaves_nothing(way_out: str) -> None:
    """Whatever the lane is waiting for at that step, in good and in odd responses."""
    names = ["good", "many", "undecodable", "garbage-between", "status-404", "cut", "empty", "one-large"]
    async with FakeNP6(contacts=0) as server:
        for name in names:
            server.set_raw(name, BODIES.get(name, BODIES["good"]), status=404 if "404" in name else 200)

        async def read(events: BulkStream[Any, Any]) -> None:
            async with events:
                async for _ in events:
                    pass

        np6 = server.client(retry=IMPATIENT)
        before = asyncio.all_tasks()
        ended = 0
        for steps in range(120):
            server.script(Fault.cut(after=60), contact="cut")
            events = np6.events.stream_many(names, on_error="skip", concurrency=3)
            task = asyncio.create_task(read(events))
            for _ in range(steps):
                await asyncio.sleep(0)
            ended += task.done()
            if way_out == "cancel":
                task.cancel()
            elif way_out == "aclose":
                await events.aclose()
            else:
                await np6.close()
            async with asyncio.timeout(5):
                with suppress(asyncio.CancelledError, NP6Error):
                    await task
            assert left(np6, events) == {}, steps
            assert [each for each in asyncio.all_tasks() - before if "np6_async" in each.get_name()] == [], steps
            if way_out == "close":
                np6 = server.client(retry=IMPATIENT)
        await np6.close()
        assert ended < 110
