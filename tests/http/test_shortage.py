"""This machine runs out of something: requests wait for it, and nobody is blamed."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from support.raw_server import Connection, raw_server, response
from support.virtual_time import START, now, run

from np6_async import ConnectError, NP6Client, RetryPolicy, Timeout, TimeoutExceeded, TLSError
from np6_async._http import shortage
from np6_async._http.lifetime import Lifetime

pytestmark = pytest.mark.both_ways

BODY = b'[{"timestamp":1,"id":"a","type":"hit"}]'
ONCE = RetryPolicy(max_attempts=1, budget=0)
CONNECT = aiohttp.TCPConnector._create_connection


def raises(monkeypatch: pytest.MonkeyPatch, when: Callable[[], bool], error: OSError, kind: Any = None) -> None:
    """Opening a connection fails with `error` while `when` says so."""

    async def create(self: Any, req: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        if when():
            raise (kind or aiohttp.ClientConnectorError)(req.connection_key, error)
        return await CONNECT(self, req, *args)

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", create)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "np6_async")
    return caplog


async def serve(connection: Connection) -> None:
    while True:
        await connection.request()
        await connection.send(response(BODY))


LIMITS = [
    (errno.EMFILE, "ulimit -n"),
    (errno.ENFILE, "fs.file-max"),
    (errno.EADDRNOTAVAIL, "net.ipv4.ip_local_port_range"),
    (errno.ENOBUFS, "no memory for another socket"),
]


@pytest.mark.parametrize(("number", "named"), LIMITS)
@pytest.mark.parametrize("kind", [aiohttp.ClientConnectorError, aiohttp.ClientConnectorDNSError])
async def test_a_request_waits_until_there_is_enough(
    number: int, named: str, kind: Any, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is neither an attempt nor a retry, and warned of once."""
    left = 3

    def fails() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    raises(monkeypatch, fails, OSError(number, "canary"), kind)
    async with raw_server(serve) as server, NP6Client("k", base_url=server.url, retry=ONCE) as np6:
        stream = np6.events.stream("A")
        assert [event.id async for event in stream] == ["a"]
        assert (stream.stats.requests, stream.stats.retries) == (1, 0)
        left = 2
        async with np6.events.stream_many(["A", "B", "C"]) as events:
            assert len([pair async for pair in events]) == 3
        assert (events.stats.requests, events.stats.retries, events.failures) == (3, 0, [])
        assert len(server.requests) == 4
    (record,) = said.records
    assert named in record.getMessage()
    assert "canary" not in record.getMessage()


@pytest.mark.parametrize(("number", "named"), LIMITS)
def test_where_nothing_succeeds_the_error_names_the_limit(
    number: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as long as a connection and a response may take; the server is not called slow."""
    tries = 0

    def fails() -> bool:
        nonlocal tries
        tries += 1
        return True

    raises(monkeypatch, fails, OSError(number, "canary"))

    async def main() -> None:
        async with NP6Client(
            "k", base_url="https://np6.invalid", retry=ONCE, timeout=Timeout(connect=20, read=0.1)
        ) as np6:
            with pytest.raises(ConnectError, match=r"no connection to https://np6\.invalid: this ") as caught:
                await np6.events.list("A")
            assert named in str(caught.value)
            assert caught.value.local
            assert (caught.value.attempts, caught.value.__context__) == (1, None)
            assert 20 <= now() - START <= 22
            assert 10 <= tries <= 50

    run(main)


async def test_a_borrowed_session_waits_too(said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([True, True, False])
    raises(monkeypatch, lambda: next(left), OSError(errno.EMFILE, "no"))
    async with (
        raw_server(serve) as server,
        aiohttp.ClientSession() as session,
        NP6Client("k", base_url=server.url, session=session, retry=ONCE) as np6,
    ):
        assert len(await np6.events.list("A")) == 1
    assert len(said.records) == 1


def test_fewer_connections_are_open_and_more_later(
    said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than there may be, so that something is left; after a minute, as many again as there may be by then."""
    most, opened, in_flight = 30, 0, 0
    peaks: list[int] = []

    async def create(self: Any, req: Any, *args: Any) -> Any:
        nonlocal opened
        if opened >= most:
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(errno.EMFILE, "no"))
        opened += 1
        protocol = await CONNECT(self, req, *args)
        assert protocol.closed is not None
        protocol.closed.add_done_callback(closed)
        return protocol

    def closed(future: asyncio.Future[None]) -> None:
        nonlocal opened
        opened -= 1
        future.exception()

    async def serving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal in_flight
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                in_flight += 1
                peaks.append(in_flight)
                await asyncio.sleep(1)
                in_flight -= 1
                writer.write(response(BODY))
        writer.close()

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", create)

    async def main() -> tuple[int, int, int]:
        nonlocal most
        few = left = 0
        async with await asyncio.start_server(serving, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            contacts = [f"A{number}" for number in range(3_000)]
            async with NP6Client("k", base_url=url, retry=ONCE) as np6:
                async with np6.events.stream_many(contacts, concurrency=100) as events:
                    count = 0
                    async for _ in events:
                        count += 1
                        if count == 80:
                            peaks.clear()
                        elif count == 200:
                            few, left = max(peaks), most - opened
                            most = 1_000
                            peaks.clear()
                assert count == 3_000
                assert (events.stats.requests, events.failures) == (3_000, [])
        return few, left, max(peaks)

    few, left, later = run(main)
    assert 15 <= few <= 22
    assert left >= 8
    assert later >= 80
    assert len(said.records) == 1


@pytest.mark.parametrize("served", [False, True])
def test_a_request_that_waits_in_vain_is_tried_all_the_same(served: bool) -> None:
    """What is in flight may be streams that nobody reads. While others are served, it waits for its turn."""

    async def main() -> None:
        lifetime = Lifetime()
        lifetime.shared_timeout(9, lambda: TimeoutExceeded("that of the client"))
        read_timeout = lifetime.shared_timeout(1, lambda: TimeoutExceeded("of the call, whichever that is"))
        held: Any = object()
        queue = shortage.Shortage(10, lifetime, {held})
        queue.most = 1
        queue._raise_at = START + 1_000

        async def serve() -> None:
            for _ in range(20):
                await asyncio.sleep(5)
                queue.served += 1

        serving = asyncio.create_task(serve()) if served else None
        with lifetime.scope() as scope:
            read_timeout.start(scope)
            await queue.enter()
        assert now() - START == pytest.approx(120 if served else 10, abs=11)
        assert (queue.starting, len(queue._waiting)) == (1, 0)
        if serving is not None:
            await serving
        lifetime.close()

    run(main)


async def test_a_request_that_is_cancelled_in_the_queue_leaves_it() -> None:
    """Before its turn, and just as it comes."""
    lifetime = Lifetime()
    queue = shortage.Shortage(10, lifetime, set())
    queue.most, queue.starting, queue._raise_at = 1, 1, float("inf")
    first, second, third = (asyncio.create_task(queue.enter()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    queue.starting -= 1
    queue.wake()
    first.cancel()
    await third
    assert (second.cancelled(), first.cancelled(), queue.starting, len(queue._waiting)) == (True, True, 1, 0)
    lifetime.close()


# -- what does not say so by itself -----------------------------------------------------------------


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """All that this process may open, with as few as there may be."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/dev/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, before[1]))
    opened: list[int] = []
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    try:
        yield
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def vague() -> list[OSError]:
    """What a lack of descriptors may look like."""
    key: Any = None
    return [
        aiohttp.ClientConnectorDNSError(key, socket.gaierror(socket.EAI_AGAIN, "Temporary failure")),
        aiohttp.ClientConnectorDNSError(key, OSError("no such name")),
        aiohttp.ClientConnectorError(key, OSError("Multiple exceptions: ...")),
        aiohttp.ClientConnectorCertificateError(key, Exception("unable to get local issuer certificate")),
    ]


@pytest.mark.usefixtures("no_descriptors")
def test_what_fails_without_descriptors_is_recognised() -> None:
    assert [shortage.shortage_of(error) for error in vague()] == ["EMFILE"] * 4
    assert (
        shortage.shortage_of(aiohttp.ClientConnectorError(None, ConnectionRefusedError(errno.ECONNREFUSED, "no")))
        is None
    )  # type: ignore[arg-type]


def test_with_descriptors_it_is_what_it_says() -> None:
    assert [shortage.shortage_of(error) for error in vague()] == [None] * 4


async def test_a_certificate_that_is_not_accepted_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    raises(monkeypatch, lambda: True, Exception("no"), aiohttp.ClientConnectorCertificateError)  # type: ignore[arg-type]
    async with NP6Client("k", base_url="https://np6.invalid", retry=ONCE) as np6:
        with pytest.raises(TLSError):
            await np6.events.list("A")
