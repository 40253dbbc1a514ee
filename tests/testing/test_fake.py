"""What FakeNP6 promises to the tests that rely on it; its faults have their own tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import urllib.error
import urllib.request
import warnings
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from np6_async import InvalidInput
from np6_async.testing import FakeNP6, Fault, RateLimit, RequestSeen, make_bounce, make_event, make_hit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ENDPOINTS = {
    "": None,
    "/activations": "activation",
    "/bounces": "bounce",
    "/responses/stop": "optout",
    "/hits": "hit",
    "/hits/open": "hit",
    "/hits/redirection": "hit",
    "/hits/unsubscribe": "hit",
    "/hits/mirror": "hit",
    "/hits/form": "hit",
}


class Session:
    """A client that interprets nothing: it returns what was sent."""

    def __init__(self, server: FakeNP6, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def get(self, target: str, *, key: str | None = "", method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
        headers = {} if key is None else {"X-Key": key or self.server.api_key}
        url = URL(self.server.url + target, encoded=True)
        async with self.session.request(method, url, headers=headers) as response:
            return response.status, await response.read(), {k.lower(): v for k, v in response.headers.items()}

    async def events(self, target: str) -> list[dict[str, Any]]:
        status, body, _ = await self.get(target)
        assert status == 200, body
        events: list[dict[str, Any]] = json.loads(body)
        return events


@contextlib.asynccontextmanager
async def serving(*args: Any, **options: Any) -> AsyncIterator[tuple[FakeNP6, Session]]:
    async with FakeNP6(*args, **options) as server, aiohttp.ClientSession() as session:
        yield server, Session(server, session)


async def until(condition: Callable[[], bool]) -> None:
    """Let the server run until `condition` holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


def stamps(events: list[dict[str, Any]]) -> list[int]:
    return [event["timestamp"] for event in events]


async def test_a_key_is_needed() -> None:
    """401 without the key or with another; 403 when forbidden; a new key revokes the first at once."""
    async with serving(1) as (server, session):
        target = f"/targets/{server.contact_ids[0]}/events"
        assert (await session.get(target, key=None))[0] == 401
        assert (await session.get(target, key="wrong"))[0] == 401
        assert (await session.get(target))[0] == 200
        old, server.api_key = server.api_key, "another"
        assert (await session.get(target, key=old))[0] == 401
        server.forbidden = True
        assert (await session.get(target))[0] == 403


@pytest.mark.parametrize("suffix", ENDPOINTS)
async def test_every_endpoint_takes_ids_in_path_and_query_unicities_and_hashes(suffix: str) -> None:
    """All ways to name a contact return the same events, of the kind of the endpoint."""
    async with serving(3, 400) as (server, session):
        contact = server.contact_ids[1]
        expected = server.events(contact, suffix.removeprefix("/") or "all")
        assert expected
        assert {event["type"] for event in expected} == {ENDPOINTS[suffix]} or not suffix
        for target in (
            f"/targets/{contact}/events{suffix}?sort=asc",
            f"/targets/events{suffix}?id={contact}&sort=asc",
            f"/targets/events{suffix}?unicity={server.unicity(contact)}&sort=asc",
            f"/targets/events{suffix}?sort=asc&hash={server.hash(contact)}",
        ):
            events = await session.events(target)
            assert sorted(ids(events)) == sorted(ids(expected))
            assert stamps(events) == stamps(expected)
        assert {seen.contact for seen in server.requests} == {contact}


async def test_segments_and_contacts_are_served_too() -> None:
    """Segments with the ids of their contacts, the record of each contact by all its names, and their number."""
    async with serving(7) as (server, session):
        server.add_contact("ANNE", unicity="anne@example.com")
        server.add_segment("vip", ["ANNE", server.contact_ids[0]], name="VIP", test=True)
        listed = {each["id"]: each for each in await session.events("/segments")}
        assert list(listed) == [1, 2, "vip"]
        assert listed["vip"]["name"] == "VIP"
        assert [each["targetsCount"] for each in listed.values()] == [8, 5, 2]
        assert [each["isTest"] for each in listed.values()] == [False, True, True]
        for segment in listed:
            assert await session.events(f"/segments/{segment}/targets") == list(server.segment(segment))
        assert list(server.segment(1)) == list(server.contact_ids)
        by_id = json.loads((await session.get("/targets/ANNE"))[1])
        assert by_id["id"] == "ANNE"
        assert by_id["fields"] == {"email": "anne@example.com"}
        for query in ("unicity=anne%40example.com", f"hash={server.hash('ANNE')}"):
            assert json.loads((await session.get(f"/targets?{query}"))[1]) == by_id
        assert json.loads((await session.get("/targets/count"))[1]) == {"targetsCount": 8}
        assert {seen.contact for seen in server.requests} == {None, "ANNE"}


async def test_wrong_requests_are_refused_as_documented() -> None:
    """404 for unknown contacts and paths, 405 for other methods, 400 for wrong parameters."""
    async with serving(1) as (server, session):
        contact = server.contact_ids[0]
        here = f"/targets/{contact}/events"
        for target, status in {
            "/targets/NOBODY00/events": 404,
            "/targets/events?unicity=nobody%40example.com": 404,
            "/targets/events?hash=00000000000000000000000000000000": 404,
            f"{here}/cancellations": 404,
            "/": 404,
            "/segments/": 404,
            "/segments/9/targets": 404,
            "/segments/1": 404,
            "/targets/NOBODY00": 404,
            "/targets/NOBODY00/emails": 404,
            "/targets?hash=00000000000000000000000000000000": 404,
            "/targets": 400,
            f"/targets?id={contact}": 400,
            "/targets/events": 400,
            "/targets/events?id=": 400,
            f"/targets/events?id={contact}&hash={server.hash(contact)}": 400,
            f"{here}?sort=ascending": 400,
            f"{here}?start=yesterday": 400,
            f"{here}?end=": 400,
            f"{here}?start=2026-01-01T00:00:00+02:00": 400,  # a plus sign that was not encoded is a space
            f"{here}/hits?classification=google": 400,
        }.items():
            assert (await session.get(target))[0] == status, target
        for method in ("POST", "PUT", "DELETE", "HEAD"):
            status, _, headers = await session.get(here, method=method)
            assert (status, headers["allow"]) == (405, "GET")
        server.missing = "empty"
        assert await session.events("/targets/NOBODY00/events") == []


async def test_bounds_are_half_open_in_every_notation() -> None:
    """`start` is included and `end` is not, whether ISO with Z, an offset or neither, a date, or epoch ms."""
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    moments = [noon + timedelta(milliseconds=n) for n in (-1, 0, 1)] + [datetime(2026, 3, 2, tzinfo=UTC)]
    async with serving(0) as (server, session):
        server.add_contact("X", [make_bounce(at=moment, id=str(n)) for n, moment in enumerate(moments)])
        for query, expected in {
            "": "0123",
            "start=2026-03-01T12:00:00Z": "123",
            "start=2026-03-01T14:00:00.000%2B02:00&end=2026-03-01T12:00:00.001Z": "1",
            "end=2026-03-01T12:00:00": "0",
            "end=2026-03-02": "012",
            "start=2026-03-02": "3",
            f"start={int(noon.timestamp() * 1000) + 1}": "23",
            "start=2026-03-01T12:00:00.0001Z&end=2026-03-01T12:00:00.0011Z": "2",
            "start=2026-03-02&end=2026-03-01": "",
        }.items():
            assert "".join(ids(await session.events(f"/targets/X/events?sort=asc&{query}"))) == expected, query


async def test_only_the_requested_order_is_kept() -> None:
    """Unsorted responses differ from each other; sorted ones have the same timestamps and differ within ties."""
    async with serving(1, 60) as (server, session):
        contact = server.contact_ids[0]
        truth = server.events(contact)
        assert len(set(stamps(truth))) < len(truth)
        for sort, expected in ("asc", stamps(truth)), ("desc", stamps(truth)[::-1]):
            responses = [await session.events(f"/targets/{contact}/events?sort={sort}") for _ in range(5)]
            assert all(stamps(response) == expected for response in responses)
            assert all(sorted(ids(response)) == sorted(ids(truth)) for response in responses)
            assert len({tuple(ids(response)) for response in responses}) > 1
        responses = [await session.events(f"/targets/{contact}/events") for _ in range(5)]
        assert len({tuple(ids(response)) for response in responses}) == 5
        assert all(sorted(ids(response)) == sorted(ids(truth)) for response in responses)


async def test_ties_are_reshuffled_inside_a_window() -> None:
    """A window that begins or ends at a tie has all of it or none, in any order."""
    async with serving(0) as (server, session):
        events = [make_bounce(id=f"{at}{n}", at=at) for at in (1, 2, 3) for n in range(4)]
        server.add_contact("T", events)
        seen = set()
        for _ in range(20):
            response = ids(await session.events("/targets/T/events?sort=asc&start=2000&end=3000"))
            assert sorted(response) == ["20", "21", "22", "23"]
            seen.add(tuple(response))
        assert len(seen) > 5


async def test_robots_are_left_out_of_hits_unless_asked_for() -> None:
    """`classification` selects robot classes of hits; without it hits are by people; "all" has everything."""
    async with serving(1, 2000) as (server, session):
        base = f"/targets/{server.contact_ids[0]}/events"
        people = await session.events(f"{base}/hits")
        robots = await session.events(f"{base}/hits?classification=genericrobot,mpp,gsr")
        apple = await session.events(f"{base}/hits?classification=mpp")
        everything = [event for event in await session.events(base) if event["type"] == "hit"]
        assert 0 < len(apple) < len(robots) < len(people)
        assert sorted(ids(people) + ids(robots)) == sorted(ids(everything))


async def test_added_hits_can_be_those_of_a_robot() -> None:
    """Then they are where hits by robots are, and the other events added with them where they always are."""
    async with serving(0) as (server, session):
        server.add_contact("T", [make_hit("open", id="a person's")])
        server.add_events("T", [make_hit("open", id="a robot's"), make_bounce(id="a bounce")], robot="mpp")
        for kind, expected in {
            "": ["a person's", "a robot's", "a bounce"],
            "/hits": ["a person's"],
            "/hits?classification=mpp": ["a robot's"],
            "/hits?classification=gsr": [],
            "/bounces": ["a bounce"],
        }.items():
            assert sorted(ids(await session.events(f"/targets/T/events{kind}"))) == sorted(expected)
        with pytest.raises(ValueError, match="robot is 'R2-D2': it must be one of genericrobot, mpp, gsr, or None"):
            server.add_events("T", [], robot="R2-D2")


async def test_type_can_be_left_out_where_the_endpoint_implies_it() -> None:
    """`typed=False` drops `type` from single-kind endpoints and keeps it where types are mixed."""
    async with serving(1, 200, typed=False) as (server, session):
        base = f"/targets/{server.contact_ids[0]}/events"
        assert all("type" in event for event in await session.events(base))
        bounces = await session.events(f"{base}/bounces")
        assert bounces
        assert not any("type" in event for event in bounces)


@pytest.mark.slow
async def test_responses_are_framed_by_size_and_compressed_on_demand() -> None:
    """Small bodies have a Content-Length, larger ones are chunked; gzip needs both sides to want it."""
    async with serving(1, 50) as (server, session):
        target = f"/targets/{server.contact_ids[0]}/events?sort=asc"
        for chunk_size in (1, 1000, 100_000):
            server.chunk_size = chunk_size
            for server.gzip in (False, True):
                status, body, headers = await session.get(target)
                assert status == 200
                assert headers["content-type"] == "application/json"
                assert len(json.loads(body)) == 50
                assert ("transfer-encoding" in headers) == (chunk_size < 100_000)
                assert ("content-length" in headers) == (chunk_size == 100_000)
                assert ("content-encoding" in headers) == server.gzip
        async with session.session.get(
            server.url + target, headers={"X-Key": server.api_key, "Accept-Encoding": "identity"}
        ) as response:
            assert "Content-Encoding" not in response.headers


async def test_every_response_has_a_request_id() -> None:
    """Every response has `x-request-id` and Date, errors included; the recorded request has the id too."""
    async with serving(1) as (server, session):
        responses = [await session.get(t) for t in (f"/targets/{server.contact_ids[0]}/events", "/", "/targets/events")]
        assert [a[2]["x-request-id"] for a in responses] == [seen.request_id for seen in server.requests]
        assert len({seen.request_id for seen in server.requests}) == 3
        assert all("date" in headers for _, _, headers in responses)


async def test_the_same_seed_gives_the_same_server() -> None:
    """Contacts, names and events follow from the seed; with another seed they differ."""
    one, same, other = FakeNP6(20, 10, seed=1), FakeNP6(20, 10, seed=1), FakeNP6(20, 10, seed=2)
    assert list(one.contact_ids) == list(same.contact_ids) != list(other.contact_ids)
    contact = one.contact_ids[7]
    assert one.events(contact) == same.events(contact)
    assert one.unicity(contact) == same.unicity(contact)


def test_a_million_contacts_cost_nothing_until_asked_for() -> None:
    """The ids are a lazy sequence; any contact, by any name, is found without the others."""
    server = FakeNP6(1_000_000, (0, 5))
    assert len(server.contact_ids) == 1_000_000
    last = server.contact_ids[-1]
    assert last == server.contact_ids[999_999]
    assert last in server.contact_ids
    assert "NOBODY00" not in server.contact_ids
    assert "a" * 8 not in server.contact_ids
    assert server.contact_ids[10:13] == [server.contact_ids[n] for n in (10, 11, 12)]
    assert len(set(server.contact_ids[:5000])) == 5000
    assert all(len(c) == 8 and c.isalnum() and c.upper() == c for c in server.contact_ids[:100])
    counts = {len(server.events(contact)) for contact in server.contact_ids[:200]}
    assert counts == {0, 1, 2, 3, 4, 5}
    with pytest.raises(IndexError):
        server.contact_ids[1_000_000]
    with pytest.raises(KeyError):
        server.events("NOBODY00")
    with pytest.raises(KeyError):
        server.hash("NOBODY00")
    with pytest.raises(ValueError, match="not a kind"):
        server.events(last, "clicks")


def test_generated_events_end_at_any_now_that_a_client_would_take_as_a_start() -> None:
    """A fixed day by default; `now` may be a datetime, epoch seconds, epoch milliseconds or text."""
    moment = datetime(2026, 7, 1, tzinfo=UTC)
    servers = [FakeNP6(2, 50, now=now) for now in (moment, 1_782_864_000, 1_782_864_000_000, "2026-07-01")]
    contact = servers[0].contact_ids[0]
    histories = [server.events(contact) for server in servers]
    assert all(history == histories[0] for history in histories)
    assert max(stamps(histories[0])) > max(stamps(FakeNP6(2, 50).events(contact)))


async def test_recent_events_are_found_by_a_timedelta() -> None:
    """If `now` is the current time, `start=timedelta(days=30)` finds some events of the 90 days but not all."""
    async with FakeNP6(1, 200, now=datetime.now(UTC)) as server, server.client() as np6:
        found = await np6.events.list(server.contact_ids[0], start=timedelta(days=30))
    assert 0 < len(found) < 200


async def test_generated_events_are_realistic() -> None:
    """All documented types, in the mix of a newsletter, about 550 bytes, unique ids, ties, within the period."""
    server = FakeNP6(50, 200, now=datetime(2026, 7, 1, tzinfo=UTC), period=timedelta(days=30))
    events = [event for contact in server.contact_ids for event in server.events(contact)]
    kinds = Counter(event["type"] for event in events)
    assert len(kinds) == 12
    assert kinds["activation"] + kinds["execution"] + kinds["hit"] > 0.75 * len(events)
    assert len({event["id"] for event in events}) == len(events)
    assert min(stamps(events)) >= datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000
    assert max(stamps(events)) < datetime(2026, 7, 1, tzinfo=UTC).timestamp() * 1000
    assert all(event["timestamp"] % 1000 == 0 for event in events if event["type"] in ("activation", "bounce"))
    for kind in ("activation", "bounce"):
        sizes = [len(json.dumps(e, separators=(",", ":"))) for e in events if e["type"] == kind]
        assert 450 < sum(sizes) / len(sizes) < 700
    receivers = Counter(json.dumps(_receiver(event)) for event in events if event["type"] == "activation")
    assert len(receivers) == 6
    assert any(not str(event).isascii() for event in events)
    one = server.events(server.contact_ids[0])
    assert 0.5 < len(set(stamps(one))) / len(one) < 0.95


def _receiver(event: dict[str, Any]) -> Any:
    """The shape of a receiver: member names and types, without the values."""
    receiver = event["source"]["detail"]["activation"]["receiver"]
    return {name: value if name == "type" else type(value).__name__ for name, value in receiver.items()}


async def test_contacts_and_exact_bytes_can_be_added() -> None:
    """Events are served as written and in order of time, whatever the id; bytes of `set_raw` are served untouched."""
    raw = b'{ "id": "b", "timestamp": "1500000" , "type":"hit", "source": null}'
    async with serving(2) as (server, session):
        odd = server.add_contact("a/b ?é", [make_hit(id="c", at=2000), raw, make_event(id="a", at=1000)])
        status, body, _ = await session.get("/targets/a%2Fb%20%3F%C3%A9/events?sort=asc")
        assert status == 200
        assert raw in body
        assert ids(json.loads(body)) == ["a", "b", "c"]
        assert server.requests[-1].contact == odd
        assert server.requests[-1].path == "/targets/a%2Fb%20%3F%C3%A9/events"
        assert odd in server.contact_ids
        assert ids(await session.events(f"/targets/events?unicity={server.unicity(odd)}&sort=asc")) == ["a", "b", "c"]
        first = server.contact_ids[0]
        server.add_contact(first, [], unicity="me@example.org")
        assert await session.events("/targets/events?unicity=me@example.org") == []
        assert len(server.contact_ids) == 3
        server.set_raw("R", b"no\x00json", status=203, content_type="text/x", headers={"Location": "/"})
        status, body, headers = await session.get("/targets/R/events/bounces")
        assert (status, body, headers["content-type"]) == (203, b"no\x00json", "text/x")
        assert headers["location"] == "/"
        for event in ({"id": "x"}, b"[]", b"{", {"timestamp": None}, {"timestamp": "soon"}):
            with pytest.raises(ValueError, match="timestamp"):
                server.add_contact("E", [event])


@pytest.mark.parametrize(
    "event",
    [
        b"{",
        b'{"timestamp":1e400}',
        b'{"timestamp":1,"type":"\xff"}',
        b'{"timestamp":1,"deep":%b}' % (b"[" * 100_000),
        {"timestamp": float("inf")},
        {"timestamp": 1, "source": object()},
        {"timestamp": 1, "source": "\ud800"},
    ],
)
def test_an_event_that_is_not_json_is_invalid_input(event: Any) -> None:
    """One type of error for all of them, whichever version of msgspec reads the JSON."""
    server = FakeNP6(0)
    with pytest.raises(InvalidInput, match="use set_raw for anything else"):
        server.add_contact("E", [event])
    assert "E" not in server.contact_ids


async def test_requests_are_recorded_without_the_key() -> None:
    """Each request is kept with everything that a test may check, and without the key."""
    async with serving(1, api_key="s3cret-key", clock=lambda: 1_800_000_000.0) as (server, session):
        contact = server.contact_ids[0]
        await session.get(f"/targets/{contact}/events/bounces?sort=asc&start=2026-01-01T00%3A00%3A00Z")
        await session.get("/nowhere", key="wrong")
        seen, refused = server.requests
        assert isinstance(seen, RequestSeen)
        assert (seen.method, seen.path) == ("GET", f"/targets/{contact}/events/bounces")
        assert seen.query == {"sort": "asc", "start": "2026-01-01T00:00:00Z"}
        assert (seen.contact, seen.status, seen.at, seen.fault) == (contact, 200, 1_800_000_000.0, None)
        assert "accept-encoding" in seen.headers
        assert (refused.contact, refused.status) == (None, 401)
        assert "s3cret-key" not in repr(server.requests) + str(server)
        assert "wrong" not in repr(server.requests)
        assert (server.request_count, server.connections, server.open_connections) == (2, 1, 1)
        server.reset()
        assert (server.request_count, server.requests) == (0, [])


async def test_requests_in_flight_are_counted_until_the_last_byte() -> None:
    """`max_in_flight` is the peak of `in_flight`; requests of a client that leaves no longer count."""
    async with serving(20) as (server, session):
        targets = [f"/targets/{contact}/events" for contact in server.contact_ids]
        server.latency = 0.01
        await asyncio.gather(*map(session.get, targets))
        assert (server.in_flight, server.max_in_flight) == (0, 20)
        server.latency = 30.0
        tasks = [asyncio.create_task(session.get(target)) for target in targets]
        await until(lambda: server.in_flight == 20)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: server.in_flight == 0)


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("delta", "10"),
        ("epoch_s", "1800000010"),
        ("epoch_ms", "1800000010000"),
        ("http_date", "Fri, 15 Jan 2027 08:00:10 GMT"),
        (None, None),
    ],
)
async def test_rate_limit_is_announced_in_every_notation(reset: Any, expected: str | None) -> None:
    """Requests above the limit get 429 until the window is over; the headers announce it as NP6 might."""
    now = 1_800_000_000.0
    async with serving(1, clock=lambda: now) as (server, session):
        server.rate_limit = RateLimit(limit=2, window=10, reset=reset)
        target = f"/targets/{server.contact_ids[0]}/events"
        responses = [await session.get(target) for _ in range(3)]
        assert [status for status, _, _ in responses] == [200, 200, 429]
        assert [headers["x-ratelimit-remaining"] for _, _, headers in responses] == ["1", "0", "0"]
        assert {headers["x-ratelimit-limit"] for _, _, headers in responses} == {"2"}
        assert [headers.get("x-ratelimit-reset") for _, _, headers in responses] == [expected] * 3
        assert [headers.get("retry-after") for _, _, headers in responses] == [None, None, "10"]
        assert responses[0][2]["date"] == "Fri, 15 Jan 2027 08:00:00 GMT"
        now += 9.999
        assert (await session.get(target))[0] == 429
        now += 0.001
        assert (await session.get(target))[0] == 200


async def test_rate_limit_can_be_silent() -> None:
    """Neither `Retry-After` nor `X-RateLimit-…` where they are switched off."""
    async with serving(1, rate_limit=RateLimit(limit=0, headers=False, retry_after=False)) as (server, session):
        status, _, headers = await session.get(f"/targets/{server.contact_ids[0]}/events")
        assert status == 429
        assert not {name for name in headers if name.startswith(("x-rate", "retry"))}
        assert server.rate_limit == RateLimit(limit=0, headers=False, retry_after=False)
        server.rate_limit = None
        assert (await session.get(f"/targets/{server.contact_ids[0]}/events"))[0] == 200


async def test_pipelined_slow_and_old_clients_are_served() -> None:
    """Requests in one packet, byte by byte, and of HTTP/1.0 are served; anything but HTTP gets 400."""
    async with FakeNP6(1, 5, chunk_size=100) as server:
        head = f"GET /targets/{server.contact_ids[0]}/events HTTP/1.%d\r\nX-Key: {server.api_key}\r\n\r\n"

        async def talk(*parts: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            response = await reader.read()
            writer.close()
            await writer.wait_closed()
            return response

        modern, old = (head % 1).encode(), (head % 0).encode()
        response = await talk(modern + modern + old)
        assert response.count(b"HTTP/1.1 200 OK") == 3
        assert response.count(b"chunked") == 2
        response = await talk(*(old[n : n + 1] for n in range(len(old))))
        assert b"Content-Length" in response
        assert b"Connection: close" in response
        assert response.startswith(b"HTTP/1.1 200")
        assert (await talk(b"hello\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert (await talk(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")).startswith(b"HTTP/1.1 400")
        body = b"POST / HTTP/1.0\r\nX-Key: " + server.api_key.encode() + b"\r\nContent-Length: 3\r\n\r\n"
        assert (await talk(body, b"abc")).startswith(b"HTTP/1.1 405")
        assert await talk(b"x" * 70_000) == b""


@pytest.mark.slow
async def test_a_slow_reader_holds_the_server_back() -> None:
    """A large response waits for its reader, and arrives whole."""
    async with serving(1, 20_000) as (server, session):
        url = f"{server.url}/targets/{server.contact_ids[0]}/events?sort=asc"
        async with session.session.get(url, headers={"X-Key": server.api_key}) as response:
            for _ in range(5):
                await asyncio.sleep(0.001)
                assert server.in_flight == 1
            assert len(await response.json()) == 20_000


def test_it_runs_in_a_thread_for_tests_that_are_not_async() -> None:
    """Under plain `with` the server has its own thread, which ends with the block."""
    with FakeNP6(1) as server:
        request = urllib.request.Request(  # noqa: S310
            f"{server.url}/targets/{server.contact_ids[0]}/events", headers={"X-Key": server.api_key}
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            assert len(json.load(response)) == 10
        url = server.url
        assert url in repr(server)
    assert server.request_count == 1
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)  # noqa: S310


async def test_use_while_it_is_not_running_is_a_clear_error() -> None:
    """Before the start, after the end, and twice at the same time; it can be started again."""
    server = FakeNP6(1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not running"):
            _ = server.url
        async with server:
            assert server.url.startswith("http://127.0.0.1:")
            with pytest.raises(RuntimeError, match="already running"):
                await server.__aenter__()
            with pytest.raises(RuntimeError, match="already running"):
                server.__enter__()
    with FakeNP6(0) as first:
        taken = int(first.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            FakeNP6(0, port=taken).__enter__()


@pytest.mark.parametrize(
    "options",
    [
        {"contacts": -1},
        {"events_per_contact": -1},
        {"events_per_contact": (3, 2)},
        {"chunk_size": 0},
        {"period": timedelta(0)},
        {"now": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    """A wrong option is a ValueError when the server is made."""
    with pytest.raises(ValueError):
        FakeNP6(**options)


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_is_being_accepted_at_the_end_is_closed(turns: int) -> None:
    """However far it is."""
    async with FakeNP6(contacts=1) as server:
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", urlsplit(server.url).port or 0))
        for _ in range(turns):
            await asyncio.sleep(0)
    client.close()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in said] == []


async def test_closing_waits_for_no_client_and_leaves_nothing_behind() -> None:
    """Stalled, delayed and idle connections are not waited for; no task is left."""
    async with aiohttp.ClientSession() as session, FakeNP6(30) as server:
        server.script(Fault.stall(after=10), times=None)
        links = [f"{server.url}/targets/{contact}/events" for contact in server.contact_ids]
        tasks = [asyncio.create_task(_read(session, link, server.api_key)) for link in links]
        await until(lambda: server.in_flight == 30)
        async with asyncio.timeout(30):
            await server.__aexit__()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, aiohttp.ClientError) for result in results)
        assert (server.open_connections, server.in_flight) == (0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def _read(session: aiohttp.ClientSession, url: str, key: str) -> bytes:
    async with session.get(url, headers={"X-Key": key}) as response:
        return await response.read()
