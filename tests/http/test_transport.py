"""One attempt over aiohttp, on real sockets: what goes over the wire, and what each failure becomes."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aioresponses import aioresponses

from np6_async import (
    APIError,
    AuthError,
    BadRequest,
    ClientClosed,
    ConfigError,
    ConnectError,
    LimitExceeded,
    NotFound,
    NP6Client,
    NP6Error,
    RateLimited,
    RetryPolicy,
    ServerError,
    ServiceUnavailable,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
    TLSError,
    UnexpectedRedirect,
)
from np6_async.testing import FakeNP6, Fault

pytestmark = pytest.mark.both_ways

# Self-signed for localhost, from 2020 to 2120; it protects nothing.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZGRx18QbHO1gINzF
32eT7HzFE7xZD85mP0YneCovb3uhRANCAASUMB6f98J7OueoOqF9NpxRuNuViziB
s0v/d9J8xxIOAeifRCfIDSlB/alwgSzUCsdkBfNnBCdC+SLJs1xsKT1S
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBYjCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJQwHp/3wns656g6
oX02nFG425WLOIGzS/930nzHEg4B6J9EJ8gNKUH9qXCBLNQKx2QF82cEJ0L5Ismz
XGwpPVKjSDBGMBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAPBgNVHRMBAf8EBTADAQH/
MB0GA1UdDgQWBBRrzYy4Wxu0B9pfUiu73skFOLuGMDAKBggqhkjOPQQDAgNJADBG
AiEAhrGu71fUSfDOFn0HAGkv+FhFUSOQGYx4p9bWghlwDlICIQCGZj0lfc8SwjDs
hmXFgynm87FBYAFCEZwAxddwHlsoSA==
-----END CERTIFICATE-----
"""
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"


async def no_sleep(_: float) -> None: ...


def policy(**options: Any) -> RetryPolicy:
    return RetryPolicy(**{"sleep": no_sleep, **options})


ONCE = policy(max_attempts=1)


@asynccontextmanager
async def raw_server(
    sent: bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server of bytes: its URL, and the requests it saw."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                if callable(sent):
                    await sent(reader, writer)
                    break
                writer.write(sent)
                await writer.drain()
                if b"Content-Length" not in sent:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()


async def fetch(url: str, **options: Any) -> list[Any]:
    async with NP6Client("the-key", base_url=url, **{"retry": ONCE, **options}) as np6:
        return await np6.events.list("000MLGPR")


class TestRequest:
    async def test_what_goes_over_the_wire(self) -> None:
        """One GET with the key, gzip and nothing else as encoding, JSON, and who asks; no cookie, no body."""
        async with raw_server(EMPTY) as (url, seen):
            await fetch(url, user_agent="my-app/1.0")
        lines = seen[0].decode().split("\r\n")
        assert lines[0] == "GET /targets/000MLGPR/events?sort=asc HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        assert headers.pop("Host") == url.removeprefix("http://")
        assert re.fullmatch(r"my-app/1\.0 np6_async/\S+ python/3\.\d+", headers.pop("User-Agent"))
        assert headers == {"X-Key": "the-key", "Accept": "application/json", "Accept-Encoding": "gzip"}

    async def test_compressed_bodies_are_read(self) -> None:
        """gzip, as requested."""
        async with FakeNP6(contacts=1, events_per_contact=50, gzip=True) as server, server.client() as np6:
            stream = np6.events.stream(server.contact_ids[0])
            assert len([event async for event in stream]) == 50
            assert stream.stats.bytes > 50 * 300  # counted after decompression

    async def test_cookies_are_not_sent_back(self) -> None:
        """Whatever the server sets."""
        async with FakeNP6() as server:
            contact = server.set_raw("A", b"[]", headers={"Set-Cookie": "tracked=yes; Path=/"})
            async with server.client() as np6:
                for _ in range(3):
                    assert await np6.events.list(contact) == []
            assert all("cookie" not in request.headers for request in server.requests)

    async def test_the_environment_changes_nothing_for_loopback_addresses(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Neither a proxy, which would read the key, nor a netrc file, whose secrets are for others."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with FakeNP6(contacts=1) as server:
            async with server.client(retry=ONCE) as np6:
                await np6.events.list(server.contact_ids[0])
            assert "authorization" not in server.requests[0].headers

    async def test_a_prefix_in_base_url(self) -> None:
        """Is put in front of every path, with or without a slash at its end."""
        async with raw_server(EMPTY) as (url, seen):
            for prefix in ("/np6/v1", "/np6/v1/", "/np%206"):
                await fetch(url + prefix)
        paths = [request.split(b" ")[1] for request in seen]
        assert paths == [
            prefix + b"/targets/000MLGPR/events?sort=asc" for prefix in (b"/np6/v1", b"/np6/v1", b"/np%206")
        ]


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("where", ["same origin", "other port", "other host", "//", "downgrade"])
    async def test_none_is_followed(self, status: int, where: str) -> None:
        """A redirect is an error, after one request: the key would go along."""
        async with FakeNP6() as other, FakeNP6() as server:
            location = {
                "same origin": f"{server.url}/targets/B/events",
                "other port": f"{other.url}/targets/B/events",
                "other host": f"http://localhost:{other.url.rsplit(':', 1)[1]}/",
                "//": f"//{other.url.removeprefix('http://')}/targets/B/events",
                "downgrade": "http://api-cm.np6.com/targets/B/events",
            }[where]
            server.set_raw("A", b"", status=status, headers={"Location": location})
            async with server.client() as np6:
                with pytest.raises(
                    UnexpectedRedirect, match=f"{status}: a redirect, which is never followed"
                ) as caught:
                    await np6.events.list("A")
            assert caught.value.status == status
            assert (server.request_count, other.request_count) == (1, 0)


STATUSES = [
    (400, BadRequest, 1),
    (401, AuthError, 1),
    (403, AuthError, 1),
    (404, NotFound, 1),
    (405, BadRequest, 1),
    (408, ServerError, 5),
    (409, BadRequest, 1),
    (410, NotFound, 1),
    (411, BadRequest, 1),
    (414, BadRequest, 1),
    (415, BadRequest, 1),
    (418, BadRequest, 1),
    (422, BadRequest, 1),
    (425, ServerError, 5),
    (500, ServerError, 5),
    (501, ServerError, 1),
    (502, ServerError, 5),
    (503, ServerError, 5),
    (504, ServerError, 5),
    (300, UnexpectedRedirect, 1),
    (304, UnexpectedRedirect, 1),
    (204, ServerError, 1),
]


class TestStatuses:
    @pytest.mark.parametrize(("status", "error", "attempts"), STATUSES)
    async def test_each_is_its_error(
        self, status: int, error: type[APIError], attempts: int, responses: aioresponses
    ) -> None:
        """With its status and request id, tried again where that can help, and only there."""
        url = "https://api-cm.np6.com/targets/A/events?sort=asc"
        responses.get(url, status=status, headers={"x-request-id": "req-42"}, body="private@example.com", repeat=True)
        async with NP6Client("k", retry=policy()) as np6:
            with pytest.raises(error, match=str(status)) as caught:
                await np6.events.list("A")
        assert type(caught.value) is error
        assert (caught.value.status, caught.value.request_id) == (status, "req-42")
        assert caught.value.attempts == attempts
        assert sum(len(calls) for calls in responses.requests.values()) == attempts
        assert "req-42" in str(caught.value)
        assert "contact A" in str(caught.value)
        assert "private" not in str(caught.value)

    async def test_a_malformed_request_id_is_dropped(self, responses: aioresponses) -> None:
        """A header cannot forge lines of a log."""
        url = "https://api-cm.np6.com/targets/A/events?sort=asc"
        for value in ("x" * 101, "a\x1b[2Jb", "é"):
            responses.get(url, status=404, headers={"x-request-id": value})
            async with NP6Client("k") as np6:
                with pytest.raises(NotFound) as caught:
                    await np6.events.list("A")
            assert caught.value.request_id is None

    async def test_a_short_retry_after_is_honoured(self, responses: aioresponses) -> None:
        """503 with Retry-After: 7 waits 7 s, and not only the backoff of less than one."""
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        url = "https://api-cm.np6.com/targets/A/events?sort=asc"
        responses.get(url, status=503, headers={"Retry-After": "7"})
        responses.get(url, body="[]")
        async with NP6Client("k", retry=RetryPolicy(sleep=sleep)) as np6:
            assert await np6.events.list("A") == []
        assert max(slept) == pytest.approx(7.0, abs=0.5)

    async def test_a_long_retry_after_is_an_error(self, responses: aioresponses) -> None:
        """Above `outage` the server is not asked again too early: the error says how long it wants."""
        url = "https://api-cm.np6.com/targets/A/events?sort=asc"
        responses.get(url, status=503, headers={"Retry-After": "3600"}, repeat=True)
        async with NP6Client("k", retry=policy()) as np6:
            with pytest.raises(ServiceUnavailable, match="3600 s") as caught:
                await np6.events.list("A")
        assert caught.value.retry_after == pytest.approx(3600, abs=1)
        assert sum(len(calls) for calls in responses.requests.values()) == 1

    async def test_a_429_beyond_max_wait_is_an_error(self, responses: aioresponses) -> None:
        """RateLimited, with the wait the server asks for."""
        url = "https://api-cm.np6.com/targets/A/events?sort=asc"
        responses.get(url, status=429, headers={"Retry-After": "3600"}, repeat=True)
        async with NP6Client("k", retry=policy()) as np6:
            for _ in range(2):  # the second is not even sent
                with pytest.raises(RateLimited) as caught:
                    await np6.events.list("A")
                assert caught.value.retry_after == pytest.approx(3600, abs=5)
        assert sum(len(calls) for calls in responses.requests.values()) == 1

    async def test_connections_survive_error_responses(self) -> None:
        """50 times 404 over one connection."""
        async with FakeNP6() as server, server.client() as np6:
            server.set_raw("A", b"no such contact" * 50, status=404)
            for _ in range(50):
                with pytest.raises(NotFound):
                    await np6.events.list("A")
            assert (server.request_count, server.connections) == (50, 1)

    async def test_an_endless_error_body_is_not_read(self) -> None:
        """Beyond 16 KiB the connection is cut instead."""
        sent = 0

        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536

        async with raw_server(endless) as (url, _):
            with pytest.raises(NotFound):
                await fetch(url)
        assert sent < 64 * 1024 * 1024

    async def test_an_error_body_that_stalls_is_still_that_error(self) -> None:
        """The status is known: the rest is not waited for, and 404 it is."""

        async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nab")
            await asyncio.sleep(0.1)

        async with raw_server(stall) as (url, _):
            with pytest.raises(NotFound):
                await fetch(url)


class TestConnections:
    async def test_every_request_is_counted(self) -> None:
        """With connections that drop and reset, the client's count is the server's: nothing is sent unseen."""
        async with FakeNP6(contacts=30) as server:
            server.fault_rate(0.4, [Fault.drop(), Fault.reset()], seed=3)
            counted = 0
            async with server.client(retry=policy(max_attempts=20, budget=1000)) as np6:
                for contact in server.contact_ids:
                    stream = np6.events.stream(contact)
                    assert len([event async for event in stream]) == len(server.events(contact))
                    counted += stream.stats.requests
            assert counted == server.request_count > 30
            assert server.faults_consumed.total() >= 5

    async def test_a_closed_idle_connection_costs_no_attempt(self) -> None:
        """The server may close a connection that is kept alive at any time: the request is sent again at once,
        also where no retry is allowed."""
        async with FakeNP6(contacts=4) as server:
            server.script(Fault.close_after(), times=2)
            async with server.client(retry=policy(max_attempts=1, budget=0)) as np6:
                for contact in server.contact_ids:
                    stream = np6.events.stream(contact)
                    assert len([event async for event in stream]) == 10
                    assert stream.stats.retries == stream.stats.requests - 1
            assert server.faults_consumed["close_after"] == 2

    async def test_a_connection_takes_no_more_than_64_kib_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For each request in flight, so much may wait in memory."""
        sizes: list[int] = []
        feed = aiohttp.client_proto.ResponseHandler.data_received

        def data_received(self: Any, data: bytes) -> None:
            sizes.append(len(data))
            feed(self, data)

        monkeypatch.setattr(aiohttp.client_proto.ResponseHandler, "data_received", data_received)
        async with FakeNP6(contacts=1, events_per_contact=3_000) as server, server.client() as np6:
            await np6.events.list(server.contact_ids[0])
        assert sum(sizes) > 1_000_000
        assert max(sizes) <= 64 * 1024

    async def test_connections_are_reused(self) -> None:
        """100 fetches one after the other, one connection."""
        async with FakeNP6(contacts=100) as server, server.client() as np6:
            for contact in server.contact_ids:
                await np6.events.list(contact)
            assert server.connections == 1

    async def test_refused(self) -> None:
        """Nobody listens: ConnectError after max_attempts."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(ConnectError, match=rf"no connection to http://127\.0\.0\.1:{port} \(") as caught:
            await fetch(f"http://127.0.0.1:{port}", retry=policy(max_attempts=3))
        assert caught.value.attempts == 3

    async def test_a_name_that_does_not_resolve(self) -> None:
        """ConnectError, and the name is not looked up by the error's text."""

        class NoNames(AbstractResolver):
            async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
                raise OSError("no such name")

            async def close(self) -> None: ...

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoNames())) as session:
            with pytest.raises(ConnectError):
                await fetch("https://np6.invalid", session=session)

    async def test_a_black_hole(self) -> None:
        """No response to the attempt to connect: TimeoutExceeded after Timeout.connect, and retried."""

        class BlackHole(AbstractResolver):
            async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
                await asyncio.sleep(30)
                return []

            async def close(self) -> None: ...

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=BlackHole())) as session:
            with pytest.raises(TimeoutExceeded, match=r"to https://np6\.invalid within 0\.01 s \(Time") as caught:
                await fetch(
                    "https://np6.invalid", session=session, timeout=Timeout(connect=0.01), retry=policy(max_attempts=2)
                )
        assert (caught.value.limit, caught.value.attempts) == ("connect", 2)

    async def test_no_room_for_another_connection(self) -> None:
        """The same where the packets of a real connection vanish."""
        with full_socket() as url, pytest.raises(TimeoutExceeded) as caught:
            await fetch(url, timeout=Timeout(connect=0.02))
        assert caught.value.limit == "connect"

    @pytest.mark.parametrize("fault", [Fault.hang(), Fault.stall(after=0), Fault.stall(after=900)], ids=repr)
    async def test_a_stall(self, fault: Fault) -> None:
        """No byte for Timeout.read, before or inside the response: TimeoutExceeded, retried."""
        async with FakeNP6(contacts=1) as server:
            server.script(fault, times=None)
            async with server.client(timeout=Timeout(read=0.1), retry=policy(max_attempts=2)) as np6:
                with pytest.raises(TimeoutExceeded, match=r"0\.1 s \(Timeout\.read\)") as caught:
                    await np6.events.list(server.contact_ids[0])
            assert caught.value.limit == "read"
            assert server.request_count >= 2

    @pytest.mark.parametrize(
        "sent",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nBad Header\x00: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"\x00" * 1000,
            b"\r\n" * 10,
            b"",
        ],
        ids=lambda sent: repr(sent[:40]),
    )
    async def test_invalid_http(self, sent: bytes) -> None:
        """A typed error that quotes none of it."""

        async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(sent)

        async with raw_server(send) as (url, seen):
            with pytest.raises(NP6Error) as caught:
                await fetch(url)
        assert len(seen) == 1
        assert caught.value.contact is not None
        assert "OpenSSH" not in str(caught.value)

    async def test_a_gzip_stream_cut_short_is_not_a_success(self) -> None:
        """HTTP calls it complete; the list has no end."""
        body = gzip.compress(b"[" + b" " * 10_000 + b"]")[:-12]
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with raw_server(head + body) as (url, _):
            with pytest.raises(StreamInterrupted):
                await fetch(url)

    @pytest.mark.slow
    @pytest.mark.one_way("slow, and about the body alone")
    async def test_a_compressed_bomb(self) -> None:
        """What expands more than 200-fold is LimitExceeded once it is above 32 MiB, without a retry."""
        event = b'{"timestamp":1,"id":"a"},'
        body = gzip.compress(b"[" + event * (80 * 1024 * 1024 // len(event)), compresslevel=9)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with raw_server(head + body) as (url, seen):
            with pytest.raises(LimitExceeded, match="expands more than 200-fold"):
                await fetch(url, retry=policy())
        assert len(seen) == 1

    async def test_an_unsolicited_response(self) -> None:
        """It is not taken for the response to the next request: the connection is not used again."""
        written = asyncio.Semaphore(0)

        async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(EMPTY)
            await asyncio.sleep(0.01)
            writer.write(EMPTY.replace(b"Length: 2", b"Length: 17").replace(b"[]", b'[{"timestamp":1}]'))
            written.release()
            await reader.read()

        async with raw_server(twice) as (url, seen), NP6Client("k", base_url=url, retry=ONCE) as np6:
            for _ in range(2):
                assert await np6.events.list("A") == []
                await written.acquire()
                await asyncio.sleep(0.03)
        assert len(seen) == 2


class TestTLS:
    @pytest.fixture
    def pem(self, tmp_path: Path) -> Path:
        path = tmp_path / "localhost.pem"
        path.write_text(CERTIFICATE)
        return path

    @pytest.fixture
    def server_context(self, pem: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    async def test_an_unknown_authority(self, server_context: ssl.SSLContext) -> None:
        """TLSError at the first attempt: a retry would not make it trusted; no request reaches the server."""
        async with FakeNP6(ssl_context=server_context) as server:
            async with server.client(retry=policy()) as np6:
                with pytest.raises(TLSError, match="certificate was not accepted") as caught:
                    await np6.events.list("A")
            assert caught.value.attempts == 1
            assert (server.connections <= 1, server.request_count) == (True, 0)

    async def test_a_wrong_host_name(self, server_context: ssl.SSLContext, pem: Path) -> None:
        """The certificate is for localhost; 127.0.0.1 is not that."""
        async with FakeNP6(ssl_context=server_context) as server:
            async with server.client(ssl_context=ssl.create_default_context(cafile=str(pem))) as np6:
                with pytest.raises(TLSError):
                    await np6.events.list("A")
            assert server.request_count == 0

    async def test_a_private_authority(self, server_context: ssl.SSLContext, pem: Path) -> None:
        """`ssl_context=` is for this."""
        context = ssl.create_default_context(cafile=str(pem))
        async with (
            FakeNP6(contacts=1, ssl_context=server_context, host="localhost") as server,
            server.client(ssl_context=context) as np6,
        ):
            assert len(await np6.events.list(server.contact_ids[0])) == 10

    async def test_plain_http_where_tls_is_spoken(self, server_context: ssl.SSLContext) -> None:
        """A typed error, both ways around."""
        async with FakeNP6(ssl_context=server_context) as server:
            with pytest.raises(NP6Error):
                await fetch(server.url.replace("https://", "http://"))
        async with FakeNP6() as server:
            with pytest.raises(NP6Error):
                await fetch(server.url.replace("http://", "https://"), timeout=Timeout(connect=0.1))


class TestBorrowedSession:
    async def test_it_stays_open_and_as_it_was(self) -> None:
        """The client closes its responses and leaves the rest to the owner."""
        async with FakeNP6(contacts=1) as server, aiohttp.ClientSession(headers={"X-App": "mine"}) as session:
            before = dict(session.headers)
            async with server.client(session=session) as np6:
                await np6.events.list(server.contact_ids[0])
            assert not session.closed
            assert dict(session.headers) == before
            async with session.get(server.url + "/targets/X/events") as response:
                assert response.status == 401  # the key is not in the session
            assert server.requests[0].headers["x-app"] == "mine"

    async def test_whatever_its_settings(self) -> None:
        """raise_for_status, no decompression, another base URL, its own cookies and traces: the SDK works."""

        async def on_start(_: Any, context: Any, __: Any) -> None:
            assert context.trace_request_ctx is None

        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(on_start)
        async with (
            FakeNP6(contacts=1, gzip=True) as server,
            aiohttp.ClientSession(
                base_url="http://127.0.0.1:9/",
                raise_for_status=True,
                auto_decompress=False,
                headers={"Accept-Encoding": "br"},
                timeout=aiohttp.ClientTimeout(total=0.0001),
                trace_configs=[trace],
            ) as session,
            server.client(session=session, retry=ONCE) as np6,
        ):
            assert len(await np6.events.list(server.contact_ids[0])) == 10
            with pytest.raises(NotFound):
                await np6.events.list("UNKNOWN1")

    async def test_closed_by_its_owner(self) -> None:
        """ClientClosed says so."""
        session = aiohttp.ClientSession()
        await session.close()
        with pytest.raises(ClientClosed, match="the aiohttp session was closed"):
            await fetch("http://127.0.0.1:9", session=session)

    def test_something_else_is_refused(self) -> None:
        """With the type that was given."""
        with pytest.raises(ConfigError, match=r"session must be an aiohttp\.ClientSession, not object"):
            NP6Client("k", session=object())  # type: ignore[arg-type]


class TestBaseURL:
    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("http://api-cm.np6.com", "must begin with https://"),
            ("http://10.0.0.1", "must begin with https://"),
            ("http://127.evil.example", "must begin with https://"),
            ("http://localhost.evil.example", "must begin with https://"),
            ("http://0.0.0.0", "must begin with https://"),
            ("ftp://api-cm.np6.com", "must begin with https://"),
            ("https://somebody:canary@api-cm.np6.com", "no user name or password"),
            ("https://canary@api-cm.np6.com", "no user name or password"),
            ("https://api-cm.np6.com?canary=1", "no query"),
            ("https://api-cm.np6.com/#canary", "no query and no fragment"),
            ("api-cm.np6.com", "absolute URL"),
            ("/targets", "absolute URL"),
            ("", "absolute URL"),
            ("https://", "absolute URL"),
            ("https://host:99999999", "absolute URL"),
            (b"https://api-cm.np6.com", "absolute URL"),
            (42, "absolute URL"),
        ],
    )
    def test_what_is_refused(self, url: Any, problem: str) -> None:
        """A ConfigError says what would be right, and quotes nothing that could be a secret."""
        with pytest.raises(ConfigError, match=f"base_url .*{problem}") as caught:
            NP6Client("k", base_url=url)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "https://api-cm.np6.com",
            "HTTPS://API-CM.NP6.COM/",
            "http://localhost:1",
            "http://[::1]:1",
            "http://127.8.8.8",
        ],
    )
    def test_what_is_accepted(self, url: str) -> None:
        """https anywhere, http on this machine."""
        assert not NP6Client("k", base_url=url).closed


class TestTimeout:
    @pytest.mark.parametrize("name", ["connect", "read", "pool", "deadline"])
    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", True])
    def test_values_out_of_range(self, name: str, value: Any) -> None:
        """A ConfigError names the field."""
        with pytest.raises(ConfigError, match=rf"Timeout\.{name} must be a number of seconds above 0"):
            Timeout(**{name: value})

    def test_only_the_deadline_may_be_none(self) -> None:
        """Nothing waits for ever by accident."""
        assert Timeout(deadline=None).deadline is None
        for name in ("connect", "read", "pool"):
            with pytest.raises(ConfigError):
                Timeout(**{name: None})  # type: ignore[arg-type]


async def test_errors_hold_nothing_of_aiohttp() -> None:
    """No cause, no context, no frame of aiohttp: these would quote URLs, headers and bodies."""
    async with FakeNP6(contacts=1) as server:
        contact = server.contact_ids[0]
        for fault in (Fault.drop(), Fault.reset(), Fault.cut(after=10, how="length"), Fault.cut(after=5, how="rst")):
            server.script(fault)
            async with server.client(retry=ONCE) as np6:
                with pytest.raises(NP6Error) as caught:
                    await np6.events.list(contact)
            assert caught.value.__cause__ is None
            assert caught.value.__context__ is None
            frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
            assert not [name for name in frames if "aiohttp" in name]


@contextmanager
def full_socket() -> Iterator[str]:
    """A listening socket whose queue is full: further connections get no response at all."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(address)
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            for each in waiting:
                each.close()
