"""A body whose connection ends in whatever way: a typed error at once, or the rest of the events from another response.

aiohttp's reader is not always told that no more will come. Stand-ins make that happen here: a reader that nobody wakes,
and a parser that refuses what it is given.
"""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict, CIMultiDictProxy
from support.raw_server import Connection, RawServer, raw_server, response

from np6_async import ClientClosed, NP6Client, NP6Error, RetryPolicy, StreamInterrupted, Timeout
from np6_async._http.response import Response

pytestmark = pytest.mark.both_ways

EVENTS = [{"timestamp": number, "id": f"{number:x}", "type": "hit", "note": "x" * 300} for number in range(1, 400)]
BODY = json.dumps(EVENTS).encode()
IDS = [event["id"] for event in EVENTS]
ONCE = RetryPolicy(max_attempts=1)
AT_ONCE = 2  # seconds, where the timeouts are 30


class Silent:
    """The connection of a reader that aiohttp does not wake."""

    connected = True

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self.content = aiohttp.StreamReader(self, 2**16, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        self.let_go = 0

    def resume_reading(self, **_: Any) -> None: ...

    def response(self) -> Response:
        headers = CIMultiDictProxy[str](CIMultiDict())
        return Response(200, headers, self.content, self._close, set(), self)

    def _close(self) -> None:
        self.let_go += 1


class TestAReaderThatNobodyWakes:
    @pytest.mark.parametrize("error", [None, ConnectionResetError("canary")])
    async def test_ends_when_its_connection_does(self, error: Exception | None) -> None:
        silent = Silent()
        reading = silent.response()
        task = asyncio.create_task(reading.read())
        await asyncio.sleep(0)
        assert silent.closed is not None
        if error is None:
            silent.closed.set_result(None)
        else:
            silent.closed.set_exception(error)
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(StreamInterrupted, match="the connection broke"):
                await task

    async def test_does_not_begin_to_wait_after_that(self) -> None:
        silent = Silent()
        reading = silent.response()
        assert silent.closed is not None
        silent.closed.set_result(None)
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(StreamInterrupted):
                await reading.read()
            silent.closed = None  # what aiohttp has where nobody had asked before
            with pytest.raises(StreamInterrupted):
                await reading.read()

    async def test_still_gets_what_has_arrived(self) -> None:
        """Also where it was the end of the body that ended the connection."""
        silent = Silent()
        reading = silent.response()
        silent.content.feed_data(b"[")
        assert await reading.read() == b"["
        task = asyncio.create_task(reading.read())
        await asyncio.sleep(0)
        assert silent.closed is not None
        silent.closed.set_result(None)
        silent.content.feed_data(b"]")
        silent.content.feed_eof()
        assert await task == b"]"
        assert (await reading.read(), reading.ended) == (b"", True)

    async def test_leaves_nothing_to_a_connection_that_lives_on(self) -> None:
        """Which may end much later, and with an error that is then nobody's."""
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        silent = Silent()
        reading = silent.response()
        for piece in (b"[", b" ", b"]"):
            task = asyncio.create_task(reading.read())
            await asyncio.sleep(0)
            silent.content.feed_data(piece)
            assert await task == piece
        silent.content.feed_eof()
        reading.close()
        assert silent.closed is not None
        silent.closed.set_exception(ConnectionResetError("canary"))
        await asyncio.sleep(0)
        silent.closed = None
        gc.collect()
        await asyncio.sleep(0)
        assert (complaints, silent.let_go) == ([], 1)


class Refuses:
    """A parser that finds what it is given to be no HTTP."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def feed_data(self, _: bytes) -> Any:
        raise self._error

    def feed_eof(self) -> None: ...

    def pause_reading(self) -> None: ...


def refuse_the_rest(connector: Any, error: Exception) -> None:
    (protocol,) = connector._acquired
    protocol._parser = Refuses(error)


async def read(np6: NP6Client, how: str) -> list[Any]:
    if how == "list":
        return [event.id for event in await np6.events.list("A")]
    if how == "stream":
        return [event.id async for event in np6.events.stream("A")]
    async with np6.events.stream_many(["A"], on_error="collect") as events:
        ids = [event.id async for _, event in events]
    if events.failures:
        raise events.failures[0].error
    return ids


HOWS = pytest.mark.parametrize("how", ["list", "stream", "stream_many"])
ERRORS = pytest.mark.parametrize(
    "error", [aiohttp.http.HttpProcessingError(message="canary"), ValueError("canary"), AssertionError("canary")]
)


def gives(*pieces: bytes) -> Callable[[Connection], Awaitable[None]]:
    """Half of a body and, once `go` is set, a little more; then a whole one to each request."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:
            await connection.send(response(BODY)[:-10_000])
            await asyncio.sleep(0.02)
            GO.set()
            await MORE.wait()
            await connection.send(b" ")
            connection.writer.transport.pause_reading()  # and does not care for what the client does
            try:
                await asyncio.Event().wait()
            finally:
                connection.writer.transport.abort()
        await connection.send(response(BODY))

    return behave


GO = asyncio.Event()
MORE = asyncio.Event()


@pytest.fixture(autouse=True)
def _new_events() -> None:
    global GO, MORE
    GO, MORE = asyncio.Event(), asyncio.Event()


async def break_it(server: RawServer, how: str, error: Exception, retry: RetryPolicy, **options: Any) -> list[Any]:
    async with NP6Client("k", base_url=server.url, retry=retry, **options) as np6:
        task = asyncio.create_task(read(np6, how))
        await GO.wait()
        session = np6._runtime.transport._session
        assert session is not None
        refuse_the_rest(session.connector, error)
        MORE.set()
        async with asyncio.timeout(AT_ONCE):
            return await task


@HOWS
@ERRORS
async def test_what_breaks_the_framing_is_resumed(how: str, error: Exception) -> None:
    async with raw_server(gives()) as server:
        assert await break_it(server, how, error, RetryPolicy(base_delay=0)) == IDS
        assert len(server.requests) == 2


@HOWS
@ERRORS
async def test_what_breaks_the_framing_is_a_typed_error(how: str, error: Exception) -> None:
    async with raw_server(gives()) as server:
        with pytest.raises(StreamInterrupted) as caught:
            await break_it(server, how, error, ONCE)
    assert "canary" not in f"{caught.value!r}"
    assert caught.value.__cause__ is caught.value.__context__ is None


@HOWS
async def test_also_over_tls_where_the_server_does_not_take_leave(how: str) -> None:
    """The end of a TLS connection is agreed on; nobody waits for that."""
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)
    error = aiohttp.http.HttpProcessingError(message="canary")
    async with raw_server(gives(), theirs) as server:
        assert await break_it(server, how, error, RetryPolicy(base_delay=0), ssl_context=ours) == IDS


@HOWS
@ERRORS
async def test_also_on_a_borrowed_session(how: str, error: Exception) -> None:
    async with raw_server(gives()) as server, aiohttp.ClientSession() as session:
        assert await break_it(server, how, error, RetryPolicy(base_delay=0), session=session) == IDS


# -- a session that its owner closes ----------------------------------------------------------------


class Never(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        await asyncio.Event().wait()
        return []

    async def close(self) -> None: ...


@HOWS
@pytest.mark.parametrize("retry", [ONCE, RetryPolicy()], ids=["once", "retried"])
@pytest.mark.parametrize(
    "where", ["resolving", "connecting", "queueing", "before the response", "in its head", "in it"]
)
async def test_a_session_that_its_owner_closes(where: str, retry: RetryPolicy, how: str) -> None:
    """At any moment: the error says so, at once, and never a cancellation that nobody asked for."""
    pieces = {"before the response": b"", "in its head": response(BODY)[:20], "in it": response(BODY)[:-5]}
    there = asyncio.Event()

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(pieces.get(where, b""))
        there.set()
        await connection.closed()

    connector = aiohttp.TCPConnector(limit=1, resolver=Never())
    async with (
        raw_server(behave) as server,
        aiohttp.ClientSession(connector=connector) as session,
        NP6Client(
            "k",
            base_url="https://np6.invalid" if where == "resolving" else server.url,
            session=session,
            retry=retry,
            timeout=Timeout(),
        ) as np6,
    ):
        other = asyncio.create_task(session.get(server.url)) if where == "queueing" else None
        if other is not None:
            await there.wait()
        task = asyncio.create_task(read(np6, how))
        if where in pieces:
            await there.wait()
            await asyncio.sleep(0.01)
        else:
            for _ in range(1 if where == "connecting" else 10):
                await asyncio.sleep(0)
        await session.close()
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(NP6Error) as caught:
                await task
            assert isinstance(caught.value, ClientClosed)
            assert "the aiohttp session was closed; create a new client" in str(caught.value)
            if other is not None:
                with pytest.raises(aiohttp.ClientError):
                    await other
