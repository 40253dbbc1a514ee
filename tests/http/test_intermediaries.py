"""What stands between a client and NP6: caches, what compresses unasked, and proxies that refuse."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD
from support.raw_server import Connection, RawServer, raw_server, response

from np6_async import (
    ConnectError,
    NotFound,
    NP6Client,
    NP6Error,
    ProtocolError,
    ProxyError,
    RetryPolicy,
    ServiceUnavailable,
    TLSError,
)

pytestmark = pytest.mark.both_ways

BODY = b'[{"timestamp":1,"id":"a","type":"hit"}]'
QUICK = RetryPolicy(base_delay=0)


@asynccontextmanager
async def sending(*sent: bytes) -> AsyncIterator[RawServer]:
    """The responses in turn, the last again and again, over however many connections."""
    left = list(sent)

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(left.pop(0) if len(left) > 1 else left[0])

    async with raw_server(behave) as server:
        yield server


async def failures_of(np6: NP6Client, *contacts: str) -> list[NP6Error]:
    async with np6.events.stream_many(contacts, on_error="collect", concurrency=1) as events:
        assert [pair async for pair in events] == []
    return [failure.error for failure in events.failures]


class TestCodings:
    @pytest.mark.parametrize(
        ("headers", "named"),
        [
            (["zstd"], "zstd"),
            (["br"], "br"),
            (["x-gzip"], "x-gzip"),
            (["compress"], "compress"),
            (["gzip, x-gzip"], "gzip, x-gzip"),
            (["gzip, gzip"], "gzip, gzip"),
            (["gzip", "X-GZIP"], "gzip, x-gzip"),
            (["canary, zstd"], "an unknown one, zstd"),
            (["canary" * 1000], "an unknown one"),
            (["canary," * 9], ", ".join(["an unknown one"] * 4)),
        ],
        ids=lambda value: str(value)[:30],
    )
    async def test_one_that_cannot_be_decoded_is_named_and_asked_for_once(self, headers: list[str], named: str) -> None:
        """Another request would bring the same."""
        if (headers == ["zstd"] and HAS_ZSTD) or (headers == ["br"] and HAS_BROTLI):
            pytest.skip("here it can be decoded")
        coded = response(b"(\xb5/\xfd....", *[f"Content-Encoding: {header}" for header in headers])
        async with sending(coded) as server, NP6Client("k", base_url=server.url, retry=QUICK) as np6:
            with pytest.raises(ProtocolError) as caught:
                await np6.events.list("A")
            assert f"a coding that was not asked for and cannot be decoded ({named})" in str(caught.value)
            assert "canary" not in f"{caught.value!r}"
            assert (len(server.requests), caught.value.attempts) == (1, 1)
            for error in await failures_of(np6, "A", "B"):
                assert f"({named})" in str(error)
            assert len(server.requests) == 3
            assert np6._runtime.transport._live == set()

    @pytest.mark.parametrize("header", ["gzip", "GZIP", "identity", "", "Identity"])
    async def test_those_that_can_be_decoded(self, header: str) -> None:
        if header == "GZIP" and aiohttp.__version__ == "3.14.3":
            pytest.skip("this aiohttp knows codings in small letters only")
        body = gzip.compress(BODY) if header.lower() == "gzip" else BODY
        coded = response(body, f"Content-Encoding: {header}")
        async with sending(coded) as server, NP6Client("k", base_url=server.url, retry=QUICK) as np6:
            assert [event.id for event in await np6.events.list("A")] == ["a"]

    async def test_a_body_that_nobody_reads_may_have_any(self) -> None:
        """The status is what counts."""
        coded = response(b"....", "Content-Encoding: x-gzip", status="404 Not Found")
        async with sending(coded) as server, NP6Client("k", base_url=server.url, retry=QUICK) as np6:
            with pytest.raises(NotFound):
                await np6.events.list("A")

    async def test_a_damaged_one_is_asked_for_again(self) -> None:
        damaged = response(b"not gzip", "Content-Encoding: gzip")
        async with sending(damaged, response(BODY)) as server, NP6Client("k", base_url=server.url, retry=QUICK) as np6:
            assert [event.id for event in await np6.events.list("A")] == ["a"]
            assert len(server.requests) == 2


class TestCaches:
    @pytest.fixture
    def said(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        caplog.set_level(logging.WARNING, "np6_async")
        return caplog

    async def test_a_response_from_a_cache_is_warned_of_once(self, said: pytest.LogCaptureFixture) -> None:
        """Whenever it comes: a cache sends the first by itself, and the next from its memory."""
        fresh, old = response(BODY, "Age: 0"), response(BODY, "Age: 7")
        async with sending(fresh, old, old) as server:
            for count in (1, 2):
                async with NP6Client("k", base_url=server.url, retry=QUICK) as np6:
                    for _ in range(3):
                        await np6.events.list("A")
                    async with np6.events.stream_many(["A", "B"]) as events:
                        assert len([pair async for pair in events]) == 2
                assert len(said.records) == count
        assert said.records[0].levelno == logging.WARNING
        assert "came from a cache (its Age is above 0)" in said.records[0].getMessage()
        assert "X-Key" in said.records[0].getMessage()

    @pytest.mark.parametrize("age", ["0", "00", "", "-1", "none", "1.5", "\u0663"])
    async def test_any_other_age_is_no_sign_of_one(self, age: str, said: pytest.LogCaptureFixture) -> None:
        sent = response(BODY, "X: y").replace(b"X: y", f"Age: {age}".encode())
        async with sending(sent) as server, NP6Client("k", base_url=server.url, retry=QUICK) as np6:
            await np6.events.list("A")
        assert said.records == []

    async def test_an_error_from_a_cache_is_that_error(self, said: pytest.LogCaptureFixture) -> None:
        sent = response(b"", "Age: 60", status="404 Not Found")
        async with sending(sent) as server, NP6Client("k", base_url=server.url, retry=QUICK) as np6:
            with pytest.raises(NotFound):
                await np6.events.list("A")
        assert len(said.records) == 1


def refusing(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nProxy-Authenticate: Basic realm=canary\r\nContent-Length: 6\r\n\r\ncanary".encode()


class TestProxies:
    """NP6 is reached by CONNECT, and so a proxy of a borrowed session refuses before the server sees anything."""

    @pytest.mark.parametrize(
        "status",
        [
            "407 Proxy Authentication Required",
            "403 Forbidden",
            "400 Bad Request",
            "404 Not Found",
            "405 Method Not Allowed",
            "302 Found",
        ],
    )
    async def test_a_refusal_for_good_is_not_retried_and_ends_a_run(self, status: str) -> None:
        """It concerns every contact."""
        code = int(status.split()[0])
        async with (
            sending(refusing(status)) as proxy,
            aiohttp.ClientSession(proxy=proxy.url.replace("http://", "http://somebody:canary@")) as session,
            NP6Client("k", base_url="https://np6.invalid", session=session, retry=QUICK) as np6,
        ):
            with pytest.raises(ProxyError) as caught:
                await np6.events.list("A")
            assert (caught.value.status, caught.value.attempts, proxy.connections) == (code, 1, 1)
            assert f"{code}: the proxy " in str(caught.value)
            assert "https://np6.invalid" in str(caught.value)
            assert "canary" not in f"{caught.value!r}"
            assert caught.value.__context__ is None
            many = np6.events.stream_many([f"A{n}" for n in range(99)], on_error="skip", concurrency=4)
            with pytest.raises(ProxyError):
                async with many as events:
                    assert [pair async for pair in events] == []
            assert proxy.connections <= 5

    @pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Unavailable", "504 Timeout", "429 Slow", "408 Timeout"])
    async def test_another_refusal_is_retried_as_a_failed_connection_is(self, status: str) -> None:
        code = int(status.split()[0])
        async with (
            sending(refusing(status)) as proxy,
            aiohttp.ClientSession(proxy=proxy.url) as session,
            NP6Client("k", base_url="https://np6.invalid", session=session, retry=QUICK) as np6,
        ):
            with pytest.raises(ConnectError, match="the proxy refused") as caught:
                await np6.events.list("A")
            assert isinstance(caught.value, ProxyError)
            assert (caught.value.status, caught.value.attempts, proxy.connections) == (code, 5, 5)
            with pytest.raises(ServiceUnavailable, match="the proxy refused") as unavailable:
                await failures_of(np6, "A", "B")
            assert type(unavailable.value.error) is ProxyError

    async def test_a_proxy_that_recovers(self) -> None:
        """As with any failed connection, the next one serves."""
        authority = trustme.CA()
        theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
        authority.issue_cert("localhost").configure_cert(theirs)
        authority.configure_trust(ours)
        asked: list[bytes] = []

        async def serve(connection: Connection) -> None:
            await connection.request()
            await connection.send(response(BODY, "Connection: close"))

        async def behave(connection: Connection) -> None:
            asked.append(await connection.reader.readuntil(b"\r\n\r\n"))
            if len(asked) < 3:
                await connection.send(refusing("502 Bad Gateway"))
                return
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await connection.send(b"HTTP/1.1 200 Connected\r\n\r\n")

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65_536):
                    sink.write(data)
                sink.close()

            try:
                await asyncio.gather(pump(reader, connection.writer), pump(connection.reader, writer))
            finally:
                writer.transport.abort()

        async with (
            raw_server(serve, theirs) as server,
            raw_server(behave) as proxy,
            aiohttp.ClientSession(proxy=proxy.url) as session,
            NP6Client("k", base_url=server.url, session=session, ssl_context=ours, retry=QUICK) as np6,
        ):
            assert [event.id for event in await np6.events.list("A")] == ["a"]
        assert [request.split()[0] for request in asked] == [b"CONNECT"] * 3

    async def test_407_to_a_request_that_it_passes_on(self) -> None:
        """To plain http there is no CONNECT. Only 407 is the proxy's for certain."""
        sent = refusing("407 No")
        async with sending(sent) as server, NP6Client("k", base_url=server.url, retry=QUICK) as np6:
            with pytest.raises(ProxyError, match="407: the proxy wants other credentials") as caught:
                await np6.events.list("A")
            assert (caught.value.status, len(server.requests)) == (407, 1)
            with pytest.raises(ProxyError):
                await failures_of(np6, "A", "B")
            assert np6._runtime.transport._live == set()

    async def test_no_proxy_there(self) -> None:
        """It is the proxy that the error names, and not the server."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            async with (
                aiohttp.ClientSession(proxy=url) as session,
                NP6Client("k", base_url="https://np6.invalid", session=session, retry=QUICK) as np6,
            ):
                with pytest.raises(ProxyError, match=r"no connection to the proxy \(\w.*\): check") as caught:
                    await np6.events.list("A")
        assert (caught.value.status, caught.value.attempts) == (None, 5)

    async def test_a_proxy_whose_name_does_not_resolve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def resolve(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "canary")

        monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
        async with (
            aiohttp.ClientSession(
                proxy="http://proxy.invalid:3128", connector=aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
            ) as session,
            NP6Client("k", base_url="https://np6.invalid", session=session, retry=QUICK) as np6,
        ):
            with pytest.raises(ProxyError, match=r"no connection to the proxy \(its name does not resolve\)"):
                await np6.events.list("A")

    async def test_a_proxy_whose_certificate_is_not_accepted(self, tmp_path: Path) -> None:
        theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("localhost").configure_cert(theirs)

        async def behave(connection: Connection) -> None:
            await connection.request()

        async with (
            raw_server(behave, theirs) as proxy,
            aiohttp.ClientSession(proxy=proxy.url) as session,
            NP6Client("k", base_url="https://np6.invalid", session=session, retry=QUICK) as np6,
        ):
            with pytest.raises(TLSError, match="no TLS connection to the proxy"):
                await np6.events.list("A")
