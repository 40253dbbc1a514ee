"""Segments and contacts: the same requests, retries and errors as events have, on real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from np6_async import (
    APIError,
    AuthError,
    BadRequest,
    ClientClosed,
    Contact,
    ContactDone,
    ContactFailed,
    ContactRecord,
    DecodeError,
    DecodeLimits,
    InvalidContact,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NP6Client,
    NP6Error,
    Observation,
    OrderError,
    ProtocolError,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryPolicy,
    RetryScheduled,
    Segment,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
    UnexpectedRedirect,
)
from np6_async.testing import FakeNP6, Fault, RateLimit

IDS = ["000MLGPR", "0013KDC0", 'odd,"id\\', "é", "0013KDC0"]


async def immediately(_: float) -> None:
    """Sleep, without the waiting."""
    await asyncio.sleep(0)


IMPATIENT = RetryPolicy(sleep=immediately, random=lambda: 0.0, budget=1e9)


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=20) as fake:
        fake.add_segment(41, IDS, name="VIP")
        yield fake


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client(retry=IMPATIENT) as client:
        yield client


Call = Callable[[NP6Client], Awaitable[Any]]


async def _list(np6: NP6Client) -> Any:
    return await np6.segments.list()


async def _ids(np6: NP6Client) -> list[str]:
    return [each async for each in np6.segments.contacts(41)]


async def _get(np6: NP6Client) -> Any:
    return await np6.contacts.get(Contact.by_unicity("anne@example.com"))


async def _count(np6: NP6Client) -> Any:
    return await np6.contacts.count()


CALLS = [
    pytest.param(_list, "/segments", id="segments.list"),
    pytest.param(_ids, "/segments/{id}/targets", id="segments.contacts"),
    pytest.param(_get, "/targets", id="contacts.get"),
    pytest.param(_count, "/targets/count", id="contacts.count"),
]
every_call = pytest.mark.parametrize(("call", "path"), CALLS)


@pytest.fixture(autouse=True)
def anne(server: FakeNP6) -> None:
    server.add_contact("ANNE", unicity="anne@example.com")


class _Received:
    """A hook: how many bytes each request brought."""

    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes

    def __call__(self, observation: Observation, /) -> None:
        if isinstance(observation, RequestFinished):
            self._sizes.append(observation.received)


# What they give back


async def test_segments_are_listed_in_the_servers_order_with_every_member(server: FakeNP6, np6: NP6Client) -> None:
    everybody, test, vip = await np6.segments.list()
    assert vip == Segment(
        type="static",
        id=41,
        name="VIP",
        creation=datetime(2023, 3, 1, 10, tzinfo=UTC),
        expiration=None,
        is_test=False,
        targets_count=len(IDS),
        data=vip.data,
    )
    assert vip.data["name"] == "VIP"
    assert (everybody.targets_count, test.is_test) == (21, True)
    assert len({everybody, test, vip, *await np6.segments.list()}) == 3
    assert server.requests[-1].target == "/segments"


async def test_segments_of_another_shape_keep_what_can_be_read(server: FakeNP6, np6: NP6Client) -> None:
    """Unknown members stay in `data`; missing, null and odd ones are None."""
    odd = [
        {},
        {"id": "seven", "name": None, "isTest": "no", "targetsCount": "12", "creation": "soon", "parentId": 41},
        {"id": 3, "creation": 1_700_000_000_000, "expiration": "2024-03-01T10:00:00", "targetsCount": None},
    ]
    server.script(Fault.object(json.dumps(odd).encode()))
    empty, text, number = await np6.segments.list()
    assert empty == Segment()
    assert (text.id, text.name, text.is_test, text.targets_count, text.creation) == ("seven", None, None, 12, None)
    assert text.data["parentId"] == 41
    assert number.creation == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert number.expiration == datetime(2024, 3, 1, 10, tzinfo=UTC)


async def test_no_segments_are_an_empty_list(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.object(b"[]"))
    assert await np6.segments.list() == []


@pytest.mark.parametrize("segment", [41, "41", Segment(id=41), Segment(id="41")])
async def test_the_ids_of_a_segment_come_in_the_servers_order(np6: NP6Client, segment: Any) -> None:
    assert [each async for each in np6.segments.contacts(segment)] == IDS
    async with np6.segments.contacts(segment) as ids:
        assert [each async for batch in ids.batches() for each in batch] == IDS


async def test_a_segment_without_contacts_yields_nothing(server: FakeNP6, np6: NP6Client) -> None:
    server.add_segment(42, [])
    assert [each async for each in np6.segments.contacts(42)] == []


async def test_the_ids_of_a_segment_feed_a_bulk_run(server: FakeNP6, np6: NP6Client) -> None:
    """Even while one request at a time is allowed."""
    async with server.client(concurrency=1) as one, one.events.stream_many(one.segments.contacts(1)) as events:
        found = {contact async for contact, _ in events}
        assert events.stats.done == 21
    assert found == set(server.contact_ids) - {"ANNE"}


async def test_a_contact_is_found_by_each_of_its_names(server: FakeNP6, np6: NP6Client) -> None:
    by_id = await np6.contacts.get("ANNE")
    assert by_id == ContactRecord(
        id="ANNE",
        hash=server.hash("ANNE"),
        creation_date=datetime(2023, 3, 1, 10, tzinfo=UTC),
        last_update_date=datetime(2024, 3, 1, 10, tzinfo=UTC),
        fields={"email": "anne@example.com"},
        data=by_id.data,
    )
    assert await np6.contacts.get(Contact.by_unicity("anne@example.com")) == by_id
    assert await np6.contacts.get(Contact.by_hash(server.hash("ANNE"))) == by_id
    assert [seen.target for seen in server.requests] == [
        "/targets/ANNE",
        "/targets?unicity=anne%40example.com",
        f"/targets?hash={server.hash('ANNE')}",
    ]
    assert len({by_id, await np6.contacts.get("ANNE")}) == 1


async def test_a_contact_in_an_array_of_one_is_that_contact(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.object(b'\xef\xbb\xbf [{"id":"ANNE","fields":null,"more":1}]\n'))
    record = await np6.contacts.get("ANNE")
    assert record == ContactRecord(id="ANNE", data={"id": "ANNE", "fields": None, "more": 1})


async def test_a_record_shows_no_personal_data(np6: NP6Client) -> None:
    assert repr(await np6.contacts.get("ANNE")) == "ContactRecord(id='ANNE')"


async def test_the_contacts_of_the_account_are_counted(np6: NP6Client) -> None:
    assert await np6.contacts.count() == 21


# What goes wrong


@pytest.mark.parametrize(
    "segment", ["", ".", "..", "a/b", "1?x", "1\n", "%2F", "é", -1, -1.5, True, None, b"1", [1], Segment()]
)
async def test_a_bad_segment_is_refused_before_any_request(server: FakeNP6, np6: NP6Client, segment: Any) -> None:
    with pytest.raises(InvalidInput, match="segment"):
        np6.segments.contacts(segment)
    with pytest.raises(InvalidContact):
        await np6.contacts.get(segment)
    assert server.request_count == 0


@every_call
@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (401, AuthError, 1),
        (403, AuthError, 1),
        (404, NotFound, 1),
        (410, NotFound, 1),
        (400, BadRequest, 1),
        (302, UnexpectedRedirect, 1),
        (500, ServerError, 5),
        (503, ServerError, 5),
        (501, ServerError, 1),
    ],
)
async def test_statuses_are_the_errors_that_events_have(
    server: FakeNP6, np6: NP6Client, call: Call, path: str, status: int, error: type[APIError], requests: int
) -> None:
    server.script(Fault.status(status), times=None)
    with pytest.raises(error) as caught:
        await call(np6)
    assert (caught.value.status, caught.value.attempts, server.request_count) == (status, requests, requests)
    assert caught.value.request_id
    assert "anne" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_messages_name_what_was_requested(server: FakeNP6, np6: NP6Client) -> None:
    with pytest.raises(NotFound, match=r"^segment 77: 404: not found in this account"):
        await anext(np6.segments.contacts(77))
    with pytest.raises(NotFound, match=r"^contact NOBODY: 404: not found in this account") as caught:
        await np6.contacts.get("NOBODY")
    assert caught.value.contact == Contact.by_id("NOBODY")
    server.forbidden = True
    with pytest.raises(AuthError, match=r"^the segments: 403: "):
        await np6.segments.list()
    with pytest.raises(AuthError, match=r"^the count of contacts: 403: "):
        await np6.contacts.count()


@every_call
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>sign in</html>", ProtocolError),
        (b'"text"', ProtocolError),
        (b"null", ProtocolError),
        (b'{"error":"internal error"}', ProtocolError),
        (b"[[]]", ProtocolError),
        (b"[1:2]", ProtocolError),
        (b"[" * 100_000 + b"]" * 100_000, ProtocolError),
    ],
)
async def test_a_response_that_is_not_what_the_api_promises_is_requested_three_times(
    server: FakeNP6, np6: NP6Client, call: Call, path: str, body: bytes, error: type[NP6Error]
) -> None:
    server.script(Fault.object(body), times=None)
    with pytest.raises(error) as caught:
        await call(np6)
    assert server.request_count == (1 if isinstance(caught.value, LimitExceeded) else 3)
    assert "internal error" not in str(caught.value)


async def test_elements_that_cannot_be_read_are_named_by_their_position(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.object(b'[{"id":1},null]'), times=None)
    with pytest.raises(DecodeError, match="element 1") as caught:
        await np6.segments.list()
    assert caught.value.position == 1
    server.reset()
    server.script(Fault.object(b'["a",12,"b",{}]'), times=None)
    found = []
    with pytest.raises(DecodeError, match=r"^segment 41: .*element 3") as caught:
        async for each in np6.segments.contacts(41):
            found.append(each)
    assert found == ["a", "12", "b"]
    assert caught.value.position == 3


async def test_a_contact_that_is_none_or_several_is_an_error(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.object(b"[]"))
    with pytest.raises(NotFound, match="contact ANNE: the response holds no contact"):
        await np6.contacts.get("ANNE")
    server.script(Fault.object(b'[{"id":"A"},{"id":"B"}]'), times=3)
    with pytest.raises(ProtocolError, match="array, not the record of one contact"):
        await np6.contacts.get("ANNE")


@pytest.mark.parametrize("count", [b"{}", b'{"targetsCount":null}', b'{"targetsCount":-1}', b'{"targetsCount":"many"}'])
async def test_a_count_that_is_not_a_number_is_an_error(server: FakeNP6, np6: NP6Client, count: bytes) -> None:
    server.script(Fault.object(count), times=None)
    with pytest.raises(ProtocolError, match="targetsCount"):
        await np6.contacts.count()


@pytest.mark.parametrize("call", [_list, _get, _count])
async def test_a_response_that_is_read_whole_is_bounded(server: FakeNP6, call: Call) -> None:
    server.script(Fault.object(b"[" + b'"x",' * 5_000 + b'"x"]'))
    async with server.client(limits=DecodeLimits(event_bytes=10_000)) as np6:
        with pytest.raises(LimitExceeded, match="10000 bytes"):
            await call(np6)
    assert server.request_count == 1


# What breaks, and comes whole all the same


@pytest.mark.slow
@every_call
@pytest.mark.parametrize("how", ["chunked", "length", "eof", "gzip"])
async def test_a_response_cut_at_any_byte_is_requested_again(
    server: FakeNP6, np6: NP6Client, call: Call, path: str, how: Any
) -> None:
    """The result is the same, ids once each and in order."""
    sizes: list[int] = []
    async with server.client(hooks=[_Received(sizes)]) as watched:
        whole = await call(watched)
    (size,) = sizes
    server.reset()
    for after in range(size):
        server.script(Fault.cut(after=after, how=how))
        assert await call(np6) == whole, after
    assert server.faults_consumed.total() == size
    assert server.request_count == 2 * size


async def test_many_breaks_in_one_segment_lose_and_double_nothing(server: FakeNP6, np6: NP6Client) -> None:
    server.add_segment(5, [f"{n:08}" for n in range(20_000)])
    for after in (100_000, 219_000, 50_000, 200_001):
        server.script(Fault.cut(after=after))
    ids = [each async for each in np6.segments.contacts(5)]
    assert ids == list(server.segment(5))
    assert server.request_count == 5


@pytest.mark.parametrize("changed", [["B", "A", "C", "D"], ["A", "C", "D", "E"], ["A"], []])
async def test_a_segment_that_changed_after_a_break_is_an_error_and_not_a_guess(
    server: FakeNP6, np6: NP6Client, changed: list[str]
) -> None:
    server.add_segment(5, ["A", "B", "C", "D"])
    server.script(Fault.cut(after=len('["A","B",')))
    ids = np6.segments.contacts(5)
    assert [await anext(ids), await anext(ids)] == ["A", "B"]
    server.add_segment(5, changed)
    with pytest.raises(OrderError, match=r"^segment 5: .* after 2 ids, .* start again"):
        await anext(ids)
    with pytest.raises(ClientClosed):
        await anext(ids)
    assert server.request_count == 2


@every_call
@pytest.mark.parametrize("gzip", [False, True])
async def test_failures_are_retried(server: FakeNP6, np6: NP6Client, call: Call, path: str, gzip: bool) -> None:
    whole = await call(np6)
    server.gzip = gzip
    server.reset()
    faults = (Fault.status(503), Fault.drop(), Fault.html(), Fault.reset())
    server.script(*faults)
    assert await call(np6) == whole
    assert server.request_count == len(faults) + 1


@every_call
async def test_a_wait_that_the_server_asks_for_is_respected(server: FakeNP6, call: Call, path: str) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    server.script(Fault.status(503, retry_after=7))
    async with server.client(retry=RetryPolicy(sleep=sleep)) as np6:
        await call(np6)
    assert max(slept) == pytest.approx(7, abs=0.5)


@every_call
async def test_the_retry_budget_is_that_of_the_client(server: FakeNP6, call: Call, path: str) -> None:
    server.script(Fault.status(503), times=None)
    async with server.client(retry=RetryPolicy(sleep=immediately, budget=2)) as np6:
        with pytest.raises(ServerError, match=r"RetryPolicy\.budget"):
            await call(np6)
    assert server.request_count == 3


@every_call
async def test_a_429_pauses_without_spending_an_attempt(server: FakeNP6, call: Call, path: str) -> None:
    seen: list[Any] = []
    server.script(Fault.rate_limited(retry_after=0.01))
    async with server.client(retry=RetryPolicy(max_attempts=1), hooks=[seen.append]) as np6:
        await call(np6)
    waits = [each for each in seen if isinstance(each, RateLimitWait)]
    assert [each.path for each in waits] == [path]
    assert server.request_count == 2


@every_call
async def test_the_callers_rate_limiter_sees_these_requests(server: FakeNP6, call: Call, path: str) -> None:
    class Counting:
        entered = 0

        async def __aenter__(self) -> None:
            self.entered += 1

        async def __aexit__(self, *_: object) -> None:
            pass

    limiter = Counting()
    async with server.client(rate_limiter=limiter) as np6:
        await call(np6)
    assert limiter.entered == server.request_count == 1


@every_call
async def test_calls_wait_for_a_slot(server: FakeNP6, call: Call, path: str) -> None:
    async with server.client(concurrency=2) as np6:
        await asyncio.gather(*(call(np6) for _ in range(10)))
    assert server.max_in_flight <= 2


@every_call
async def test_a_response_that_stalls_times_out(server: FakeNP6, call: Call, path: str) -> None:
    server.script(Fault.stall(after=5), times=None)
    async with server.client(timeout=Timeout(read=0.02), retry=RetryPolicy(max_attempts=2, sleep=immediately)) as np6:
        with pytest.raises(TimeoutExceeded, match=r"Timeout\.read") as caught:
            await call(np6)
        assert caught.value.limit == "read"
    async with server.client(timeout=Timeout(deadline=0.02)) as np6:
        with pytest.raises(TimeoutExceeded, match=r"Timeout\.deadline") as caught:
            await call(np6)
        assert caught.value.limit == "deadline"


# What others see of it


@every_call
async def test_hooks_and_log_see_path_templates_and_no_contact_is_counted(
    server: FakeNP6, call: Call, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    server.script(Fault.cut(after=14), Fault.status(503))
    with caplog.at_level(logging.DEBUG, "np6_async"):
        async with server.client(retry=IMPATIENT, hooks=[seen.append]) as np6:
            await call(np6)
    kinds = [type(each) for each in seen]
    assert kinds.count(RequestStarted) == kinds.count(RequestFinished) == 3
    assert kinds.count(RetryScheduled) == 2
    assert kinds.count(Resumed) == (1 if call is _ids else 0)
    assert not {ContactDone, ContactFailed} & set(kinds)
    assert {each.path for each in seen} == {path}
    asked = Contact.by_unicity("anne@example.com") if call is _get else None
    assert {each.contact for each in seen} == {asked}
    text = re.sub(r"\d+\.\d+ s", "", caplog.text)  # what took 0.041 s names no segment
    assert all(secret not in text for secret in ("41", "anne", "000MLGPR", server.api_key))
    assert path in caplog.text
    assert "events" not in caplog.text


# How it ends


@every_call
async def test_cancelling_a_call_leaves_nothing(server: FakeNP6, np6: NP6Client, call: Call, path: str) -> None:
    server.script(Fault.stall(after=5))
    before = asyncio.all_tasks()
    task = asyncio.create_task(asyncio.wait_for(call(np6), 5))
    while not server.in_flight:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    while server.in_flight:
        await asyncio.sleep(0.001)
    assert await call(np6)


@pytest.mark.slow
async def test_leaving_the_ids_early_gives_the_connection_back(server: FakeNP6) -> None:
    server.add_segment(5, [f"{n:08}" for n in range(200_000)])
    async with server.client(concurrency=1) as np6:
        async with np6.segments.contacts(5) as ids:
            async for _ in ids:
                break
        with pytest.raises(ClientClosed):
            await anext(ids)
        while server.in_flight:
            await asyncio.sleep(0.001)
        async for _ in np6.segments.contacts(5):
            break
        assert await np6.contacts.count() == 21


@every_call
async def test_closing_the_client_ends_the_call(server: FakeNP6, np6: NP6Client, call: Call, path: str) -> None:
    server.script(Fault.stall(after=5))
    task = asyncio.create_task(asyncio.wait_for(call(np6), 5))
    while not server.in_flight:
        await asyncio.sleep(0.001)
    await np6.close()
    with pytest.raises(ClientClosed):
        await task
    with pytest.raises(ClientClosed):
        await call(np6)


@pytest.mark.slow
async def test_a_slow_reader_of_ids_holds_the_server_back(server: FakeNP6) -> None:
    """What waits in memory does not grow with the segment."""
    server.add_segment(5, [f"{n:08}" for n in range(400_000)])
    sizes: list[int] = []
    async with server.client(hooks=[_Received(sizes)]) as np6, np6.segments.contacts(5) as ids:
        taken = 0
        async for batch in ids.batches():
            assert len(batch) < 10_000
            taken += len(batch)
            if taken > 20_000:
                break
    (size,) = sizes
    assert size < 500_000


async def test_rate_limits_are_shared_with_events(server: FakeNP6) -> None:
    server.rate_limit = RateLimit(limit=3, window=0.05)
    async with server.client(retry=IMPATIENT) as np6:
        results = await asyncio.gather(
            *(np6.contacts.count() for _ in range(4)), np6.segments.list(), np6.events.list("ANNE")
        )
    assert results[0] == 21


async def test_an_empty_response_is_an_interrupted_one(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.object(b""), times=None)
    for call in (_list, _ids, _get, _count):
        with pytest.raises(StreamInterrupted):
            await call(np6)
