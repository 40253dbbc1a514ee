"""The proxy that a client takes, and what goes through it."""

from __future__ import annotations

import asyncio
import base64
import logging
import pickle
import re
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import trustme
from attrs import field, frozen
from support.raw_server import Connection, raw_server
from yarl import URL

from np6_async import ConfigError, NotFound, NP6Client, ProxyError, RetryPolicy, TLSError
from np6_async._client import runtime_of, settings_of
from np6_async._http.proxies import Proxy
from np6_async.testing import FakeNP6, Fault

pytestmark = pytest.mark.both_ways

QUICK = RetryPolicy(base_delay=0)
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def proxy_of(np6: NP6Client) -> Proxy | None:
    return runtime_of(np6).transport.proxy


def port_of(server: FakeNP6) -> int:
    port = URL(server.url).port
    assert port is not None
    return port


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def theirs(authority: trustme.CA) -> ssl.SSLContext:
    """The TLS of a server that is called np6.test."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("np6.test").configure_cert(context)
    return context


@pytest.fixture
def ours(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@frozen
class Tunnels:
    """A proxy, and what it was asked: the head of each CONNECT, and all bytes that went to the server."""

    url: str
    heads: list[bytes] = field(factory=list)
    sent: bytearray = field(factory=bytearray)


@asynccontextmanager
async def tunnelling(
    port: int, credentials: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Tunnels]:
    """A proxy that takes whatever host is named for the port of this machine, and wants these credentials."""
    wanted = None if credentials is None else b"Basic " + base64.b64encode(credentials.encode())

    async def behave(connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        tunnels.heads.append(head)
        if wanted is not None and wanted not in head:
            await connection.send(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seen: bytearray | None) -> None:
            while data := await source.read(65_536):
                if seen is not None:
                    seen += data
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(
                pump(connection.reader, writer, tunnels.sent),
                pump(reader, connection.writer, None),
                return_exceptions=True,
            )
        finally:
            writer.transport.abort()

    async with raw_server(behave, tls) as server:
        tunnels = Tunnels(server.url)
        yield tunnels


class TestOfTheEnvironment:
    @pytest.mark.parametrize(
        ("variables", "url", "source"),
        [
            ({}, None, None),
            ({"HTTPS_PROXY": "http://one:3128"}, "http://one:3128", "HTTPS_PROXY"),
            ({"https_proxy": "http://one:3128"}, "http://one:3128", "HTTPS_PROXY"),
            ({"https_proxy": "http://one:1", "HTTPS_PROXY": "http://two:2"}, "http://one:1", "HTTPS_PROXY"),
            ({"ALL_PROXY": "http://all:3128"}, "http://all:3128", "ALL_PROXY"),
            ({"HTTPS_PROXY": "https://one", "ALL_PROXY": "http://all"}, "https://one", "HTTPS_PROXY"),
            ({"HTTPS_PROXY": "", "ALL_PROXY": "http://all:3128"}, "http://all:3128", "ALL_PROXY"),
            ({"HTTPS_PROXY": "one.corp:3128"}, "http://one.corp:3128", "HTTPS_PROXY"),
            ({"HTTP_PROXY": "http://one:3128"}, None, None),
            ({"HTTPS_PROXY": "http://one:3128", "NO_PROXY": "api-cm.np6.com"}, None, None),
            ({"HTTPS_PROXY": "http://one:3128", "NO_PROXY": "other.com, .np6.com"}, None, None),
            ({"HTTPS_PROXY": "http://one:3128", "NO_PROXY": "*"}, None, None),
            ({"HTTPS_PROXY": "http://one:3128", "NO_PROXY": "cm.np6.com"}, "http://one:3128", "HTTPS_PROXY"),
        ],
        ids=str,
    )
    def test_is_the_one_that_curl_would_take(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str | None, source: str | None
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        proxy = proxy_of(NP6Client("k"))
        assert (None if proxy is None else (str(proxy.url), proxy.source)) == (None if url is None else (url, source))
        assert proxy_of(NP6Client("k", proxy=None)) is None
        assert str(getattr(proxy_of(NP6Client("k", proxy="http://mine:1")), "url", None)) == "http://mine:1"

    @pytest.mark.parametrize(
        ("names", "address", "used"),
        [
            ("api-cm.np6.com:443", "https://api-cm.np6.com", False),
            ("api-cm.np6.com:8443", "https://api-cm.np6.com:8443", False),
            ("api-cm.np6.com:8443", "https://api-cm.np6.com", True),
            ("np6.com:443", "https://api-cm.np6.com", False),
            ("localhost API-CM.NP6.COM.", "https://api-cm.np6.com", False),
            (" * ", "https://api-cm.np6.com", False),
            ("*.np6.com", "https://api-cm.np6.com", False),
            (" ,, . :443", "https://api-cm.np6.com", True),
            ("10.0.0.0/8", "https://10.1.2.3", False),
            ("10.0.0.0/8", "https://11.1.2.3", True),
            ("0.0.0.0/0", "https://[2001:db8::443]", True),
            ("2001:db8::443", "https://[2001:db8::443]", False),
            ("[2001:db8::443]:8443", "https://[2001:db8::443]:8443", False),
            ("[2001:db8::443]:8443", "https://[2001:db8::443]", True),
            ("*", "https://[2001:db8::443]", False),
        ],
        ids=str,
    )
    def test_those_in_no_proxy_are_reached_without_it(
        self, monkeypatch: pytest.MonkeyPatch, names: str, address: str, used: bool
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://one:3128")
        monkeypatch.setenv("NO_PROXY", names)
        assert (proxy_of(NP6Client("k", base_url=address)) is not None) is used

    @pytest.mark.parametrize(
        "server", ["http://127.0.0.1:9", "https://127.0.0.1:9", "https://localhost", "https://[::1]"]
    )
    def test_is_not_used_for_loopback_addresses(self, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
        for name in NAMES[:3]:
            monkeypatch.setenv(name, "http://one:3128")
        assert proxy_of(NP6Client("k", base_url=server)) is None

    async def test_is_not_used_with_a_borrowed_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://one:3128")
        async with aiohttp.ClientSession() as session:
            assert proxy_of(NP6Client("k", session=session)) is None
            for proxy in ("http://one:3128", None):
                with pytest.raises(ConfigError, match="proxy= is for a session of the client's own"):
                    NP6Client("k", session=session, proxy=proxy)

    @pytest.mark.parametrize(
        "value", ["socks5://user:canary@one:1080", "ftp://user:canary@one", "http://user:canary@", "x y"]
    )
    def test_that_cannot_be_used_is_an_error_that_does_not_quote_it(
        self, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        """And no reason to go without."""
        monkeypatch.setenv("ALL_PROXY", value)
        with pytest.raises(ConfigError, match=r"^ALL_PROXY .* change ALL_PROXY, or pass proxy=None") as caught:
            NP6Client("k")
        assert "canary" not in str(caught.value)


class TestGiven:
    @pytest.mark.parametrize(
        ("proxy", "problem"),
        [
            ("socks5://u:canary@one:1080", "proxy names a SOCKS proxy, which aiohttp does not speak: pass another"),
            ("ftp://u:canary@one", r"proxy must begin with http:// or https://, such as http://proxy\.example"),
            ("http://u:canary@one/path", "proxy must be a URL with a host and nothing after it"),
            ("http://u:canary@one:0", "proxy must be a URL with a host"),
            ("http://u:canary@one:99999", "proxy must be a URL with a host"),
            ("", "proxy must be a URL with a host"),
            (3128, 'proxy must be a URL, None or "environment", not int'),
            ({"https": "http://u:canary@one"}, 'proxy must be a URL, None or "environment", not dict'),
        ],
        ids=str,
    )
    def test_one_that_cannot_be_is_refused_without_being_quoted(self, proxy: Any, problem: str) -> None:
        with pytest.raises(ConfigError, match=problem) as caught:
            NP6Client("k", proxy=proxy)
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        text = "".join(shown.format())
        assert not re.search("canary", text.replace(repr(proxy), ""))  # the frame of this test has it, no other

    def test_what_goes_in_the_clear_goes_through_none(self) -> None:
        with pytest.raises(ConfigError, match="proxy= is for https:// servers"):
            NP6Client("k", base_url="http://127.0.0.1:9", proxy="http://one:3128")

    @pytest.mark.parametrize(
        ("proxy", "sent"),
        [("http://:token@one", ":token"), ("http://user@one", "user:"), ("http://u:p%40s%3As@one", "u:p@s:s")],
    )
    def test_a_name_or_a_password_alone_is_sent_too(self, proxy: str, sent: str) -> None:
        found = proxy_of(NP6Client("k", proxy=proxy))
        assert found is not None
        assert found.has_credentials
        headers = found.options(URL("https://np6.test"))["proxy_headers"]
        assert headers["Proxy-Authorization"] == f"Basic {base64.b64encode(sent.encode()).decode()}"

    def test_its_password_is_shown_nowhere(self) -> None:
        np6 = NP6Client("k", proxy="http://somebody:canary@one:3128")
        proxy = proxy_of(np6)
        assert repr(proxy) == "Proxy('http://one:3128', 'proxy')"
        assert "canary" not in f"{np6!r}{settings_of(np6)!r}{vars(proxy)!r}{pickle.dumps(settings_of(np6))!r}"


class TestOnTheWay:
    async def test_events_come_through_it_and_it_sees_nothing(
        self, theirs: ssl.SSLContext, ours: ssl.SSLContext
    ) -> None:
        """It is told the server's name and gets its own credentials; the API key and the events are encrypted."""
        async with (
            FakeNP6(contacts=4, ssl_context=theirs, api_key="canary-key") as server,
            tunnelling(port_of(server), "somebody:pass word€") as proxy,
        ):
            async with NP6Client(
                "canary-key",
                base_url=f"https://np6.test:{port_of(server)}",
                proxy=proxy.url.replace("http://", "http://somebody:pass%20word%E2%82%AC@"),
                ssl_context=ours,
                concurrency=1,
            ) as np6:
                for contact in server.contact_ids:
                    assert len(await np6.events.list(contact)) == 10
                async with np6.events.stream_many(server.contact_ids, concurrency=1) as events:
                    assert len([pair async for pair in events]) == 40
            assert len(proxy.heads) == 1, "connections through it are used again"
            head = proxy.heads[0]
            assert head.startswith(f"CONNECT np6.test:{port_of(server)} HTTP/1.1\r\n".encode())
            assert b"X-Key" not in head
            assert b"canary-key" not in head + bytes(proxy.sent)
            assert b"Proxy-Authorization" not in proxy.sent

    async def test_requests_with_and_without_a_body_share_its_connections(
        self, theirs: ssl.SSLContext, ours: ssl.SSLContext
    ) -> None:
        async with FakeNP6(contacts=1, ssl_context=theirs) as server, tunnelling(port_of(server), "u:p") as proxy:
            async with NP6Client(
                server.api_key,
                base_url=f"https://np6.test:{port_of(server)}",
                proxy=URL(proxy.url).with_user("u").with_password("p"),
                ssl_context=ours,
            ) as np6:
                for _ in range(2):
                    assert len(await np6.events.list(server.contact_ids[0])) == 10
                    with pytest.raises(NotFound, match="campaign 1"):
                        await anext(aiter(np6.campaigns.events(1, [1])))
            assert len(proxy.heads) == 1

    async def test_that_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, theirs: ssl.SSLContext, ours: ssl.SSLContext
    ) -> None:
        async with FakeNP6(contacts=1, ssl_context=theirs) as server, tunnelling(port_of(server)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            async with NP6Client(
                server.api_key, base_url=f"https://np6.test:{port_of(server)}", ssl_context=ours
            ) as np6:
                assert len(await np6.events.list(server.contact_ids[0])) == 10
            assert len(proxy.heads) == 1

    async def test_wrong_credentials_are_told_with_where_the_proxy_was_named(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with tunnelling(1, "somebody:right") as proxy:
            named = proxy.url.replace("http://", "http://somebody:canary@")
            monkeypatch.setenv("ALL_PROXY", named)
            for options, source in (({}, "check ALL_PROXY"), ({"proxy": named}, "check proxy=")):
                async with NP6Client("k", base_url="https://np6.test", retry=QUICK, **options) as np6:  # type: ignore[arg-type]
                    with pytest.raises(
                        ProxyError, match=f"407: the proxy wants other credentials .*{source}"
                    ) as caught:
                        await np6.events.list("A")
                    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
                    told = "".join(shown.format()).replace(repr(named), "").replace(repr(options), "")
                    assert "canary" not in told + caplog.text
            assert len(proxy.heads) == 2, "it is not asked again"

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["no answer", "no TLS"])
    async def test_its_password_is_in_no_frame_of_a_call_that_is_cancelled(self, answer: bytes) -> None:
        """Trackers of errors record the locals of each frame, those of what led to an error included."""

        async def behave(connection: Connection) -> None:
            await connection.reader.readuntil(b"\r\n\r\n")
            await connection.send(answer)
            asked.set()
            await connection.reader.read()

        async def ask(np6: NP6Client, number: int) -> None:
            if number:
                async for _ in np6.campaigns.events(1, [1]):
                    pass
            else:
                await np6.events.list("A")

        encoded = base64.b64encode(b"somebody:canary").decode()
        async with raw_server(behave) as proxy:
            url = URL(proxy.url).with_user("somebody").with_password("canary")
            async with NP6Client("k", base_url="https://np6.test", proxy=url) as np6:
                for number in range(2):
                    asked = asyncio.Event()
                    call = asyncio.ensure_future(ask(np6, number))
                    await asked.wait()
                    call.cancel()
                    with pytest.raises(asyncio.CancelledError) as caught:
                        await call
                    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
                    told = [line for line in shown.format() if __file__ not in line]
                    assert not re.search(f"canary|{encoded}", "".join(told))
                    assert any("_create_proxy_connection" in line for line in told)

    async def test_a_proxy_that_is_not_there_is_what_the_error_names(self) -> None:
        async with NP6Client("k", base_url="https://np6.test", proxy="http://127.0.0.1:1", retry=QUICK) as np6:
            with pytest.raises(ProxyError, match=r"no connection to the proxy \(.*\): check proxy="):
                await np6.events.list("A")

    async def test_tls_is_that_of_the_server_and_is_verified(self, theirs: ssl.SSLContext) -> None:
        """A proxy that opens what goes through it is not trusted unless its authority is."""
        async with (
            FakeNP6(contacts=1, ssl_context=theirs) as server,
            tunnelling(port_of(server)) as proxy,
            NP6Client("k", base_url=f"https://np6.test:{port_of(server)}", proxy=proxy.url) as np6,
        ):
            with pytest.raises(TLSError, match="let SSL_CERT_FILE name those of a private authority"):
                await np6.events.list("A")

    async def test_a_proxy_may_speak_tls_itself(
        self, authority: trustme.CA, theirs: ssl.SSLContext, ours: ssl.SSLContext
    ) -> None:
        own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(own)
        async with FakeNP6(contacts=1, ssl_context=theirs) as server, tunnelling(port_of(server), tls=own) as proxy:
            url = proxy.url.replace("127.0.0.1", "localhost").replace("http://", "https://")
            async with NP6Client(
                server.api_key, base_url=f"https://np6.test:{port_of(server)}", proxy=url, ssl_context=ours
            ) as np6:
                assert len(await np6.events.list(server.contact_ids[0])) == 10

    async def test_what_it_tunnels_may_be_cut_off_and_is_continued(
        self, theirs: ssl.SSLContext, ours: ssl.SSLContext
    ) -> None:
        async with (
            FakeNP6(contacts=1, events_per_contact=500, ssl_context=theirs) as server,
            tunnelling(port_of(server)) as proxy,
        ):
            contact = server.contact_ids[0]
            server.script(Fault.cut(after=20_000))
            async with NP6Client(
                server.api_key,
                base_url=f"https://np6.test:{port_of(server)}",
                proxy=proxy.url,
                ssl_context=ours,
                retry=QUICK,
            ) as np6:
                assert len(await np6.events.list(contact)) == 500
