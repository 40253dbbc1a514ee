"""Requests and responses byte by byte, on raw sockets: the same over aiohttp's connections alone and by its session."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from support.raw_server import Connection, chunk, raw_server, response

from np6_async import (
    ClientClosed,
    ConnectError,
    Contact,
    NP6Client,
    NP6Error,
    RetryPolicy,
    ServerError,
    ServiceUnavailable,
    StreamInterrupted,
    Timeout,
    UnexpectedRedirect,
)

pytestmark = pytest.mark.both_ways

EVENTS = [{"timestamp": number, "id": f"{number:x}", "type": "hit"} for number in range(1, 6)]
BODY = json.dumps(EVENTS).encode()
ONCE = RetryPolicy(max_attempts=1, budget=0)


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    """After each test: no task, and nothing that the event loop or the garbage collector complains of."""
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[NP6Client]:
    """A client that is checked before it is closed: no response is open and no connection in use."""
    async with NP6Client("the-key", base_url=url, **{"retry": ONCE, **options}) as np6:
        yield np6
        transport = np6._runtime.transport
        assert transport._live == set()
        assert transport._connector is None or transport._connector._acquired == set()


def sends(*pieces: bytes, keep: bool = False) -> Callable[[Connection], Awaitable[None]]:
    """The same response to every request of a connection; `keep`: leave it open afterwards."""

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            for piece in pieces:
                await connection.send(piece)
                await asyncio.sleep(0.002)
            if not keep:
                return

    return behave


async def ids(np6: NP6Client, contact: str | Contact = "A") -> list[str | None]:
    return [event.id for event in await np6.events.list(contact)]


IDS = [event["id"] for event in EVENTS]

# -- responses -------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n"
RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
DEFLATED = RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()


@pytest.mark.parametrize(
    "pieces",
    [
        (response(BODY),),
        (response(BODY)[:40], response(BODY)[40:]),
        tuple(response(BODY)[at : at + 50] for at in range(0, len(response(BODY)), 50)),
        (CHUNKED % b"", chunk(BODY[:50]), chunk(BODY[50:]), b"0\r\n\r\n"),
        (CHUNKED % b"" + chunk(BODY) + b"0\r\nX-Trailer: canary\r\n\r\n",),
        (response(gzip.compress(BODY), "Content-Encoding: gzip"),),
        (CHUNKED % b"Content-Encoding: gzip\r\n", chunk(gzip.compress(BODY)), b"0\r\n\r\n"),
        (response(zlib.compress(BODY), "Content-Encoding: deflate"),),
        (response(DEFLATED, "Content-Encoding: deflate"),),
        (b"HTTP/1.1 100 Continue\r\n\r\n", response(BODY)),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(BODY),),
    ],
    ids=[
        "at once",
        "in two pieces",
        "in many pieces",
        "chunked",
        "chunked with a trailer",
        "gzip",
        "gzip and chunked",
        "zlib",
        "deflate",
        "100 before",
        "102 and 103 before",
    ],
)
async def test_responses_after_which_the_connection_is_used_again(pieces: tuple[bytes, ...]) -> None:
    async with raw_server(sends(*pieces, keep=True)) as server, client(server.url) as np6:
        for _ in range(3):
            assert await ids(np6) == IDS
        async with np6.events.stream_many(["A", "B"], concurrency=1) as events:
            assert [event.id async for _, event in events] == IDS * 2
        assert (len(server.requests), server.connections) == (5, 1)


@pytest.mark.parametrize(
    "pieces",
    [
        (response(BODY, "Connection: close"),),
        (response(BODY, version="1.0"),),
        (b"HTTP/1.0 200 OK\r\n\r\n", BODY),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", BODY[:50], BODY[50:]),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY,),
    ],
    ids=["Connection: close", "HTTP/1.0", "HTTP/1.0 to the end", "to the end in pieces", "to the end at once"],
)
async def test_responses_after_which_the_connection_is_not_used_again(pieces: tuple[bytes, ...]) -> None:
    async with raw_server(sends(*pieces)) as server, client(server.url) as np6:
        for _ in range(2):
            assert await ids(np6) == IDS
        async with np6.events.stream_many(["A", "B"], concurrency=1) as events:
            assert [event.id async for _, event in events] == IDS * 2
        assert len(server.requests) == server.connections == 4


async def test_a_server_of_http_1_0_may_keep_connections() -> None:
    kept = response(BODY, "Connection: keep-alive", version="1.0")
    async with raw_server(sends(kept, keep=True)) as server, client(server.url) as np6:
        for _ in range(3):
            assert await ids(np6) == IDS
        assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", ServerError),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n", UnexpectedRedirect),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", StreamInterrupted),
    ],
    ids=["204", "304 with the length of another", "length 0"],
)
async def test_responses_without_a_body_are_no_empty_lists(head: bytes, error: type[NP6Error]) -> None:
    """And their connection is used again."""
    async with raw_server(sends(head, keep=True)) as server, client(server.url) as np6:
        for _ in range(3):
            with pytest.raises(error):
                await ids(np6)
        assert (len(server.requests), server.connections) == (3, 1)


async def test_a_change_of_protocol_is_an_error() -> None:
    """Which nobody asked for, so what follows is nothing that could be read."""
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"
    async with raw_server(sends(head + BODY, keep=True)) as server, client(server.url) as np6:
        for _ in range(2):
            with pytest.raises(NP6Error):
                await ids(np6)
        assert len(server.requests) == server.connections == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"canary\r\n\r\n",
        b"HTTP/1.1 2x0 canary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n",
        CHUNKED % b"" + b"canary\r\n[]\r\n",
        response(b"canary", "Content-Encoding: gzip"),
    ],
    ids=["no HTTP", "status line", "header", "chunk", "gzip"],
)
async def test_what_the_parser_cannot_read_is_not_quoted(sent: bytes) -> None:
    async with raw_server(sends(sent, keep=True)) as server, client(server.url) as np6:
        with pytest.raises(StreamInterrupted) as caught:
            await ids(np6)
        assert "canary" not in f"{caught.value!r} {caught.value}"
        assert caught.value.__cause__ is caught.value.__context__ is None
        async with np6.events.stream_many(["A"], on_error="collect") as events:
            assert [pair async for pair in events] == []
        assert [type(failure.error) for failure in events.failures] == [StreamInterrupted]
        assert "canary" not in repr(events.failures)
        assert len(server.requests) == server.connections == 2


# -- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stray",
    [
        response(b'[{"timestamp":1,"id":"of another"}]'),
        response(b'[{"timestamp":1,"id":"of another"}]')[:-10],
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"stray",
        b"\r\n",
        b"\x00",
    ],
    ids=["a response", "most of a response", "a little of a response", "100", "text", "an end of a line", "NUL"],
)
@pytest.mark.parametrize("when", ["in one go", "later"])
async def test_bytes_that_nobody_asked_for_are_not_taken_for_a_response(stray: bytes, when: str) -> None:
    sent: asyncio.Queue[None] = asyncio.Queue()

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            if when == "later":
                await connection.send(response(BODY))
                await asyncio.sleep(0.005)
                await connection.send(stray)
            else:
                await connection.send(response(BODY) + stray)
            sent.put_nowait(None)

    async def arrived() -> None:
        await sent.get()
        for _ in range(5):
            await asyncio.sleep(0.002)

    if when == "in one go" and stray in (b"stray", b"\x00"):
        pytest.skip("that is one invalid response, see the next test")
    retry = RetryPolicy(max_attempts=3, base_delay=0)
    async with raw_server(behave) as server, client(server.url, retry=retry) as np6:
        for _ in range(3):
            assert await ids(np6) == IDS
            await arrived()
            async with np6.events.stream_many(["A"]) as events:
                assert [event.id async for _, event in events] == IDS
            await arrived()
        if len(stray) > 20 or stray == b"stray":
            assert len(server.requests) == server.connections == 6


@pytest.mark.parametrize("more", [b'[{"timestamp":1,"id":"of another"}]', b"\x00", b"stray"])
@pytest.mark.parametrize(
    "sent", [CHUNKED % b"" + chunk(BODY) + b"0\r\n\r\n", response(BODY)], ids=["chunked", "length"]
)
async def test_a_response_with_more_after_its_end(sent: bytes, more: bytes) -> None:
    """What follows is never part of it, whether it is taken for a broken response or for a whole one."""
    async with raw_server(sends(sent + more, keep=True)) as server, client(server.url) as np6:
        for _ in range(2):
            with suppress(StreamInterrupted):
                assert await ids(np6) == IDS
        assert len(server.requests) == server.connections == 2


@pytest.mark.parametrize("how", ["closed before", "closed by the request"])
async def test_a_connection_that_the_server_closed_costs_no_attempt(how: str) -> None:
    """Though neither an attempt nor the budget would allow for another."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(BODY))
        if how == "closed by the request":
            await connection.request()

    async with raw_server(behave) as server, client(server.url) as np6:
        for number in range(3):
            stream = np6.events.stream("A")
            assert [event.id async for event in stream] == IDS
            assert stream.stats.retries == (how == "closed by the request" and number > 0)
            await asyncio.sleep(0.01)
        async with np6.events.stream_many(["A", "B"], concurrency=1) as events:
            assert [event.id async for _, event in events] == IDS * 2
        assert events.stats.requests - events.stats.retries == 2
        assert server.connections == 5


async def test_a_new_connection_that_the_server_closes_costs_an_attempt() -> None:
    async def behave(connection: Connection) -> None:
        await connection.request()

    retry = RetryPolicy(max_attempts=3, base_delay=0)
    async with raw_server(behave) as server, client(server.url, retry=retry) as np6:
        with pytest.raises(ConnectError) as caught:
            await ids(np6)
        assert (caught.value.attempts, len(server.requests)) == (3, 3)
        async with np6.events.stream_many(["A"], on_error="collect") as events:
            with pytest.raises(ServiceUnavailable):
                assert [pair async for pair in events] == []
        assert len(server.requests) == 6
        assert (events.stats.requests, events.stats.retries) == (3, 2)


# -- ways to leave ---------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"


@pytest.mark.parametrize("how", ["cancel", "close the client", "time out", "leave"])
@pytest.mark.parametrize("many", [False, True], ids=["list", "stream_many"])
@pytest.mark.parametrize("where", ["connecting", "before the response", "in its head", "before the body", "in it"])
async def test_leaving_at_any_point_closes_the_connection(where: str, many: bool, how: str) -> None:
    """At once, and the server sees it; a client that lives on works."""
    pieces = {
        "connecting": (),
        "before the response": (),
        "in its head": (HEAD[:20],),
        "before the body": (HEAD,),
        "in it": (HEAD, BODY[:-1]),
    }[where]
    there = asyncio.Event()
    good = False

    async def behave(connection: Connection) -> None:
        await connection.request()
        if good:
            await connection.send(response(BODY))
            return
        await connection.send(*pieces)
        there.set()
        await connection.closed()

    async def read(np6: NP6Client) -> None:
        if many:
            async with np6.events.stream_many(["A", "B"]) as events:
                async for _ in events:
                    pass
        else:
            await np6.events.list("A")

    async with raw_server(behave) as server, client(server.url, timeout=Timeout(read=5)) as np6:
        task = asyncio.create_task(read(np6))
        if where == "connecting":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        else:
            async with asyncio.timeout(5):
                await there.wait()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            if how == "close the client":
                await np6.close()
                with pytest.raises(ClientClosed):
                    await task
            elif how == "time out":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await task
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        if how == "cancel":
            good = True
            assert await ids(np6) == IDS


@pytest.mark.parametrize("many", [False, True], ids=["stream", "stream_many"])
async def test_a_loop_that_is_left_within_a_response_closes_its_connection(many: bool) -> None:
    events = [{"timestamp": number, "id": f"{number:x}", "note": "x" * 500} for number in range(400)]
    body = json.dumps(events).encode()
    gone = asyncio.Event()

    async def behave(connection: Connection) -> None:
        await connection.request()
        try:
            await connection.send(response(body)[:-10])
            await connection.closed()
        finally:
            gone.set()

    async with raw_server(behave) as server, client(server.url) as np6:
        stream: Any = np6.events.stream_many(["A"]) if many else np6.events.stream("A")
        async with stream as events_:
            async for _ in events_:
                break
        async with asyncio.timeout(10):
            await gone.wait()


async def test_statuses_and_broken_bodies_leave_nothing() -> None:
    """Whatever comes, in a bulk run: each contact is a failure, and its response is closed."""
    sent = {
        "A200": response(BODY),
        "A404": response(b"no", status="404 Not Found"),
        "B500": response(b"no", status="500 Error"),
        "C-long": b"HTTP/1.1 404 No\r\nContent-Length: 90000\r\n\r\n" + b"x" * 30_000,
        "D-cut": response(BODY, length=5_000),
        "E-cut": CHUNKED % b"" + chunk(BODY[:50]),
        "F-cut": CHUNKED % b"" + chunk(BODY) + b"5\r\n",
        "G-drop": b"",
        "H-head": b"HTTP/1.1 200 OK\r\nContent-Le",
        "I-gzip": response(gzip.compress(BODY)[:-20], "Content-Encoding: gzip"),
        "J-html": response(b"<html>"),
        "K-large": response(b"[" + b" " * 100_000 + BODY[1:], length=200_000),
        "L-stall": response(BODY, length=5_000),
    }

    async def behave(connection: Connection) -> None:
        while True:
            contact = (await connection.request()).contact
            await connection.send(sent[contact])
            if contact == "L-stall":
                await connection.closed()
            elif contact not in ("A200", "A404", "B500", "I-gzip", "J-html"):
                return

    retry = RetryPolicy(max_attempts=2, base_delay=0)
    async with raw_server(behave) as server, client(server.url, retry=retry, timeout=Timeout(read=0.3)) as np6:
        async with np6.events.stream_many(list(sent), on_error="collect", concurrency=3) as events:
            got = [contact async for contact, _ in events]
        assert {failure.contact for failure in events.failures} >= sent.keys() - {"A200", "F-cut"}
        assert set(got) <= {"A200", "D-cut", "E-cut", "F-cut", "I-gzip", "K-large", "L-stall"}
        assert events.stats.requests == len(server.requests)


def waiting(task: asyncio.Task[Any]) -> list[str]:
    """The local variables of every frame in which `task` waits, and the arguments in them."""
    found, awaited = [], task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        found += [] if frame is None else [f"{frame.f_code.co_qualname}: {frame.f_locals!r}"]
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return found


@pytest.mark.parametrize("many", [False, True], ids=["list", "stream_many"])
@pytest.mark.parametrize("pieces", [(), (HEAD[:20],), (HEAD,), (HEAD, BODY[:-1])], ids=len)
@pytest.mark.one_way("while a session waits, aiohttp's frames hold the request and its headers")
async def test_the_key_is_in_no_frame_that_waits(pieces: tuple[bytes, ...], many: bool) -> None:
    """Tools that report slow tasks show such frames with their local variables."""
    there = asyncio.Event()

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(*pieces)
        there.set()
        await connection.closed()

    async def read(np6: NP6Client) -> None:
        if not many:
            await np6.events.list("A")
            return
        async with np6.events.stream_many(["A"]) as events:
            async for _ in events:
                pass

    async with raw_server(behave) as server, client(server.url) as np6:
        before = asyncio.all_tasks()
        reading = asyncio.create_task(read(np6))
        await there.wait()
        await asyncio.sleep(0.02)
        ours = [task for task in asyncio.all_tasks() - before if "np6_async" in repr(task) or task is reading]
        frames = [text for task in ours for text in waiting(task)]
        assert any("Wire.get" in text or "Response.read" in text for text in frames)
        assert not [text for text in frames if "the-key" in text]
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


# -- requests --------------------------------------------------------------------------------------

CONTACTS = [
    Contact.by_id("000MLGPR"),
    Contact.by_id("a.b_c~d:e+f=g-h"),
    Contact.by_unicity("zoë+test@example.com"),
    Contact.by_unicity("a b&c=d%2F/?#é\u2028"),
    Contact.by_hash("0" * 32),
]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("prefix", ["", "/np6/v1", "/np%206/é"])
@pytest.mark.one_way("it compares the two")
async def test_both_ways_send_the_same_bytes(host: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the order of headers."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(response(BODY))
        writer.close()

    try:
        listening = await asyncio.start_server(serve, host, 0, family=socket.AF_INET6 if host == "::1" else 0)
    except OSError:
        pytest.skip("there is no IPv6 here")
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        if host == "localhost":  # each address has its port
            port = next(each for each in listening.sockets if each.family == socket.AF_INET).getsockname()[1]
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        ways = []
        for supported in (True, False):
            monkeypatch.setattr("np6_async._http.transport.supported", lambda known=supported: known)
            seen.clear()
            async with client(f"http://{authority}{prefix}", user_agent="mine/1.0") as np6:
                assert (np6._runtime.transport._wire is not None) is False
                for contact in CONTACTS:
                    for call in (
                        np6.events.stream(contact, start="2026-01-01T00:00Z", end="2026-01-02T00:00Z"),
                        np6.events.stream(contact, "hits/open", classification="mpp", newest_first=True),
                    ):
                        async with call as stream:
                            with suppress(NP6Error):
                                async for _ in stream:
                                    break
                assert (np6._runtime.transport._wire is not None) is supported
            ways.append([sorted(request.split(b"\r\n")) for request in seen])
    assert ways[0] == ways[1]
    assert len(ways[0]) == 2 * len(CONTACTS)
    headers = {line.split(b": ")[0] for line in ways[0][0] if b": " in line}
    assert headers == {b"Host", b"Accept", b"Accept-Encoding", b"User-Agent", b"X-Key"}
    assert f"Host: {authority}".encode() in ways[0][0]


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/é", "/a\x00", "a", "", "/a\x7f", "http://other/"])
@pytest.mark.one_way("the session's own checks are aiohttp's")
async def test_a_target_cannot_smuggle_anything(target: str) -> None:
    async with raw_server(sends(response(BODY), keep=True)) as server, client(server.url) as np6:
        await ids(np6)
        wire = np6._runtime.transport._wire
        assert wire is not None
        with pytest.raises(ValueError, match="printable ASCII"):
            await wire.get(target)
        assert len(server.requests) == 1
