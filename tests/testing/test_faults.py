"""Faults happen exactly as ordered, to the byte, and are counted when they happen."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from support.fake_wire import fetch, until

from np6_async import InvalidInput
from np6_async.testing import FakeNP6, Fault, make_bounce

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMES = [
    "drop",
    "reset",
    "status_500",
    "status_502",
    "status_503",
    "cut_chunked",
    "cut_rst",
    "cut_length",
    "cut_eof",
    "cut_gzip",
    "stall",
    "html",
    "object",
    "garbage",
    "bit_flip",
    "close_after",
    "duplicate",
]
EVENTS = [make_bounce(id=f"é{n}", at=n * 1000, source=None, identity=None) for n in range(3)]


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(10) as server:
        server.add_contact("X", EVENTS)
        yield server


@pytest.fixture
async def body(server: FakeNP6) -> bytes:
    whole = await fetch(server)
    assert (whole.end, whole.length, json.loads(whole.body)) == ("open", len(whole.body), EVENTS)
    return whole.body


def test_there_are_17_kinds() -> None:
    """`Fault.ALL` has one of each kind, under distinct names."""
    assert [fault.name for fault in Fault.ALL] == NAMES
    assert repr(Fault.drop()) == "<Fault drop>"


async def test_no_byte_before_the_end(server: FakeNP6) -> None:
    """`drop`, `reset` and `hang` each end the connection in their own way, with nothing sent."""
    server.script(Fault.drop(), Fault.reset(), Fault.hang(), Fault.hang(seconds=0.001))
    wires = [await fetch(server, wait=0.02 if n == 2 else 5) for n in range(4)]
    assert [(wire.head, wire.end) for wire in wires] == [(b"", "eof"), (b"", "rst"), (b"", "open"), (b"", "eof")]
    assert [(seen.status, seen.fault) for seen in server.requests] == [
        (0, "drop"),
        (0, "reset"),
        (0, "hang"),
        (0, "hang"),
    ]


async def test_error_statuses_are_sent_as_servers_send_them(server: FakeNP6) -> None:
    """They come with an empty body, 502 with HTML, and the headers asked for; the connection stays open."""
    server.script(
        Fault.status(500),
        Fault.status(502),
        Fault.status(503, retry_after=1.5),
        Fault.rate_limited("Fri, 15 Jan 2027 08:00:10 GMT"),
        Fault.status(301, headers={"Location": "http://elsewhere.example/"}),
        Fault.status(404, body=b'{"message":"no"}', content_type="application/json"),
    )
    wires = [await fetch(server) for _ in range(6)]
    assert [seen.status for seen in server.requests] == [500, 502, 503, 429, 301, 404]
    assert [wire.end for wire in wires] == ["open"] * 6
    assert [wire.length for wire in wires] == [len(wire.body) for wire in wires]
    assert [b"html" in wire.body for wire in wires] == [False, True, False, False, False, False]
    assert b"Retry-After: 1.5" in wires[2].head
    assert b"Retry-After: Fri, 15 Jan 2027 08:00:10 GMT" in wires[3].head
    assert b"Location: http://elsewhere.example/" in wires[4].head
    assert wires[5].body == b'{"message":"no"}'
    assert all(b"x-request-id" in wire.head for wire in wires)


@pytest.mark.slow
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("how", ["chunked", "rst", "length", "eof", "gzip"])
async def test_a_cut_sends_exactly_the_bytes_asked_for(server: FakeNP6, body: bytes, how: Any, gzip: bool) -> None:
    """At every byte of a body and beyond: these bytes arrive, not one more, and the connection ends as `how` says."""
    server.gzip = gzip
    compressed = gzip or how == "gzip"
    for after in (*range(len(body) + 1), len(body) + 7):
        server.script(Fault.cut(after=after, how=how), contact="X")
        wire = await fetch(server, gzip=compressed)
        assert wire.body == body[:after], after
        assert (b"Content-Encoding: gzip" in wire.head) == compressed
        assert wire.end == {"rst": "rst", "gzip": "open"}.get(how, "eof"), after
        match how:
            case "chunked":
                assert wire.chunked
                assert not wire.finished
            case "eof":
                assert b"Connection: close" in wire.head
                assert not wire.chunked
                assert wire.length == -1
            case "gzip":
                assert not wire.inflate.eof
            case "length" | "rst" if not gzip:
                assert wire.length == max(len(body), after + 1)
    assert server.faults_consumed[f"cut_{how}"] == len(body) + 2
    assert not server.faults_pending


@pytest.mark.slow
async def test_a_large_body_cut_by_reset_arrives_up_to_the_cut(server: FakeNP6) -> None:
    """RST is sent only after the bytes before it have arrived, however slow the reader is."""
    server.add_contact("L", [make_bounce(at=n) for n in range(10_000)])
    server.script(Fault.cut(after=4_000_000, how="rst"))
    wire = await fetch(server, "L")
    assert (len(wire.body), wire.end) == (4_000_000, "rst")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("chunked", aiohttp.ClientPayloadError),
        ("rst", aiohttp.ClientError),
        ("length", aiohttp.ClientPayloadError),
        ("eof", None),
        ("gzip", None),
    ],
)
async def test_a_cut_as_an_http_client_sees_it(
    server: FakeNP6, body: bytes, how: Any, error: type[Exception] | None
) -> None:
    """Some cuts are an HTTP error; with the others only the bracket is missing."""
    server.script(Fault.cut(after=50, how=how))
    got = b""
    async with aiohttp.ClientSession(headers={"X-Key": server.api_key}) as session:
        with pytest.raises(error) if error else contextlib.nullcontext():
            async with session.get(f"{server.url}/targets/X/events?sort=asc") as response:
                async for data in response.content.iter_any():
                    got += data
    # With RST, aiohttp drops what it has not delivered yet.
    assert got == body[:50] or (how == "rst" and not got)


async def test_without_a_place_the_cut_is_inside_the_body(server: FakeNP6, body: bytes) -> None:
    """The place is drawn for each request, and is never the end."""
    server.script(Fault.cut(), times=30)
    lengths = [len((await fetch(server)).body) for _ in range(30)]
    assert len(set(lengths)) > 15
    assert max(lengths) < len(body)


async def test_a_stall_keeps_the_connection_open(server: FakeNP6, body: bytes) -> None:
    """The bytes stop at the place asked for, for ever or for a while."""
    server.script(Fault.stall(after=20), Fault.stall(after=20, seconds=0.001), Fault.stall(after=0))
    wire = await fetch(server, wait=0.02)
    assert (wire.body, wire.end, wire.length) == (body[:20], "open", len(body))
    assert (await fetch(server)).body == body
    assert (await fetch(server, wait=0.02)).body == b""
    server.chunk_size = 10
    server.gzip = True
    server.script(Fault.stall(after=25), Fault.stall(after=25, seconds=0.001))
    assert (await fetch(server, gzip=True, wait=0.02)).body == body[:25]
    wire = await fetch(server, gzip=True, wait=0.1)
    assert (wire.body, wire.finished) == (body, True)
    await until(lambda: server.in_flight == 0)


async def test_wrong_bodies(server: FakeNP6, body: bytes) -> None:
    """HTML, an object and garbage after the bracket come with status 200 and correct framing."""
    server.script(Fault.html(), Fault.object(), Fault.object(b"null"), Fault.garbage(), Fault.garbage(b" \0"))
    wires = [await fetch(server) for _ in range(5)]
    assert b"Content-Type: text/html" in wires[0].head
    assert wires[0].body.startswith(b"<html>")
    assert wires[1].body == b'{"error":"internal error"}'
    assert [wire.body for wire in wires[2:]] == [b"null", body + b"}garbage", body + b" \0"]
    assert [wire.length for wire in wires] == [len(wire.body) for wire in wires]
    assert {seen.status for seen in server.requests} == {200}


async def test_a_bit_flip_always_breaks_the_json(server: FakeNP6, body: bytes) -> None:
    """One bit of one byte differs, and no parser accepts the result."""
    server.script(Fault.bit_flip(), times=200)
    for _ in range(200):
        broken = (await fetch(server)).body
        assert sum((a ^ b).bit_count() for a, b in zip(broken, body, strict=True)) == 1
        with pytest.raises(ValueError):
            json.loads(broken)
    server.add_contact("E", [])
    server.script(Fault.bit_flip())
    with pytest.raises(ValueError):
        json.loads((await fetch(server, "E")).body)


async def test_a_duplicate_comes_twice_in_a_row(server: FakeNP6) -> None:
    """There is one event more, next to its twin."""
    server.script(Fault.duplicate(), times=20)
    for _ in range(20):
        events = json.loads((await fetch(server)).body)
        assert len(events) == 4
        assert sum(a == b for a, b in itertools.pairwise(events)) == 1


async def test_close_after_breaks_the_next_request(server: FakeNP6, body: bytes) -> None:
    """The response is fine and keeps the connection; the next request on it is seen and gets no response."""
    server.script(Fault.close_after(), contact="X")
    async with aiohttp.ClientSession(headers={"X-Key": server.api_key}) as session:
        async with session.get(f"{server.url}/targets/X/events?sort=asc") as response:
            assert await response.read() == body
            assert "Connection" not in response.headers
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(f"{server.url}/targets/X/events")
    assert [seen.status for seen in server.requests][1:] == [200, 0]
    assert server.faults_consumed == {"close_after": 1}


async def test_faults_meet_the_requests_they_were_ordered_for(server: FakeNP6) -> None:
    """In order, the given number of times, for this contact however it is addressed, and after the requests to skip."""
    first, second = server.contact_ids[:2]
    server.script(Fault.status(500), Fault.status(503), contact=first, times=2, skip=1)
    server.script(Fault.status(418), contact=second, times=None)
    assert server.faults_pending == {"status_500": 2, "status_503": 2}
    statuses = [(await fetch(server, first)).head.split()[1] for _ in range(6)]
    assert statuses == [b"200", b"500", b"500", b"503", b"503", b"200"]
    assert not server.faults_pending
    async with aiohttp.ClientSession(headers={"X-Key": server.api_key}) as session:
        for name in (f"unicity={server.unicity(second)}", f"hash={server.hash(second)}", f"id={second}"):
            async with session.get(f"{server.url}/targets/events?{name}") as response:
                assert response.status == 418
    assert server.faults_consumed == {"status_500": 2, "status_503": 2, "status_418": 3}
    assert not server.faults_pending
    server.reset()
    assert (await fetch(server, second)).head.split()[1] == b"200"


async def test_faults_wait_for_a_response_that_they_fit(server: FakeNP6) -> None:
    """A duplicate needs an event, a gzip cut a client that accepts gzip, a cut a status of 200, and all a valid key."""
    server.add_contact("E", [])
    server.script(Fault.duplicate())
    server.script(Fault.cut(after=5, how="gzip"))
    server.script(Fault.cut(after=1), contact="NOBODY")
    for contact in ("E", "NOBODY"):
        await fetch(server, contact)
    assert server.faults_pending == {"duplicate": 1, "cut_gzip": 1, "cut_chunked": 1}
    key, server.api_key = server.api_key, "new"
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/targets/X/events", headers={"X-Key": key}),
    ):
        pass
    assert server.requests[-1].status == 401
    assert server.faults_pending.total() == 3
    await fetch(server)
    await fetch(server, gzip=True)
    assert server.faults_pending == {"cut_chunked": 1}


@pytest.mark.slow
async def test_random_faults_follow_from_the_seed(server: FakeNP6) -> None:
    """The share is right, all kinds occur, and the n-th request for a contact meets the same fault in any order."""

    async def run(contacts: list[str], seed: int, rate: float = 0.5) -> dict[str, list[str | None]]:
        server.reset()
        server.fault_rate(rate, seed=seed)
        for contact in contacts:
            await fetch(server, contact, gzip=True, wait=0.002)
        happened = server.faults_consumed
        assert happened == Counter(seen.fault for seen in server.requests if seen.fault)
        return {c: [s.fault for s in server.requests if s.contact == c] for c in dict.fromkeys(contacts)}

    contacts = list(server.contact_ids) * 20
    first = await run(contacts, 1)
    assert set(server.faults_consumed) == set(NAMES)
    assert 80 < server.faults_consumed.total() < 120
    assert await run(contacts[::-1], 1) == first
    assert await run(contacts, 2) != first
    await run(contacts, 1, rate=0)
    assert not server.faults_consumed


def test_orders_that_cannot_be_carried_out_are_refused() -> None:
    """Wrong numbers are a ValueError."""
    server = FakeNP6(0)
    with pytest.raises(ValueError, match="times"):
        server.script(Fault.drop(), times=0)
    with pytest.raises(ValueError, match="skip"):
        server.script(Fault.drop(), skip=-1)
    with pytest.raises(ValueError, match="rate"):
        server.fault_rate(1.5)
    with pytest.raises(ValueError, match="after"):
        Fault.cut(after=-1)


@pytest.mark.parametrize("what", ["503", 503, Fault.drop, Fault])
def test_anything_but_a_fault_is_refused(what: Any) -> None:
    server = FakeNP6(0)
    with pytest.raises(InvalidInput, match=r"is not a Fault: make one, such as Fault\.status\(503\)"):
        server.script(Fault.drop(), what)
    with pytest.raises(InvalidInput, match="is not a Fault"):
        server.fault_rate(0.5, [what])
    assert not server.faults_pending


LEAKS = """
import asyncio, gc, logging
import aiohttp
from np6_async.testing import FakeNP6, Fault

logging.basicConfig(level="WARNING")

async def get(session, server, contact):
    try:
        async with session.get(f"{server.url}/targets/{contact}/events") as response:
            await response.read()
    except aiohttp.ClientError:
        pass

async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 10
    loop.set_exception_handler(lambda loop, context: print("LOOP", context))
    async with aiohttp.ClientSession(headers={"X-Key": "fake-np6-key"}) as session:
        for server in FakeNP6(300), FakeNP6(300, gzip=True, chunk_size=100):
            async with server:
                server.fault_rate(0.9)
                tasks = [asyncio.create_task(get(session, server, c)) for c in server.contact_ids]
                await asyncio.sleep(0.05)
            await asyncio.gather(*tasks)
            assert not server.open_connections and not server.in_flight
    assert asyncio.all_tasks() == {asyncio.current_task()}

asyncio.run(main())
with FakeNP6(1) as server:
    asyncio.run(main())
gc.collect()
"""


@pytest.mark.slow
def test_nothing_is_leaked_or_logged() -> None:
    """With every fault in flight at the end, there is no warning of an open resource and no logged error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", LEAKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
