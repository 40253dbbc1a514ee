"""Between the client and the server: a real nginx, TLS gone wrong, and a TCP proxy that treats connections badly."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import trustme
from support.peers import Delivery, Nginx, TCPProxy, compare, free_port, run_nginx, until

from np6_async import BulkStats, ConfigError, Event, NP6Client, RetryPolicy, Timeout, TLSError
from np6_async.testing import FakeNP6, Fault

if TYPE_CHECKING:
    from conftest import Figure

SEED: Final = 20_260_731
EXACTLY_ONCE: Final = Delivery()
IN_WORDS: Final = "0/0/0/0 lost/duplicated/foreign/disordered"

StartNginx = Callable[..., AbstractContextManager[Nginx]]


@pytest.fixture
def nginx(tmp_path: Path) -> StartNginx:
    """Runs an nginx in a directory of this test; see `run_nginx`."""
    return partial(run_nginx, tmp_path)


@pytest.fixture(autouse=True)
def _seed() -> None:
    print(f"seed {SEED}")  # shown where a test fails


def policy(**options: Any) -> RetryPolicy:
    """A policy that draws the same waits every time."""
    return RetryPolicy(random=random.Random(SEED).random, **options)


async def fetch_all(np6: NP6Client, server: FakeNP6) -> tuple[Delivery, BulkStats]:
    """Fetch the events of all contacts, none of which may fail, and compare them with what the server holds."""
    contacts = server.contact_ids
    received: dict[str, list[Event]] = {contact: [] for contact in contacts}
    async with np6.events.stream_many(contacts, on_error="collect") as events:
        async for contact, event in events:
            received[str(contact)].append(event)
    assert not events.failures, f"{len(events.failures)} failed, such as: {events.failures[0]}"
    assert events.stats.done == len(contacts)
    return compare(server, received), events.stats


# -- nginx -------------------------------------------------------------------------------------


async def test_A7_a_consumer_slower_than_the_gateway_loses_nothing(nginx: StartNginx, figure: Figure) -> None:
    """A consumer may pause for longer than a gateway waits for it: the response that is cut meanwhile is resumed."""
    count, pauses = 300_000, 5
    # One in three shares its timestamp with the one before.
    bodies = (
        b'{"type":"hit","id":"%06d","timestamp":%d,"identity":{"type":"customer","agency":"DEMO","customer":"028"},'
        b'"source":{"type":"link","detail":{"link":{"type":"open"},"agent":"%b"}}}'
        % (number, 1_700_000_000_000 + number - (number % 3 == 2), b"x" * 180)
        for number in range(count)
    )
    seen = bytearray(count)
    duplicated = disordered = number = last = 0
    async with FakeNP6(contacts=0) as server:
        server.add_contact("BUSY", bodies)
        with nginx(server.url, listen="sndbuf=64k", http="send_timeout 1s; proxy_max_temp_file_size 0;") as gateway:
            began = time.monotonic()
            async with server.client(base_url=gateway.url) as np6, np6.events.stream("BUSY") as events:
                async for event in events:
                    index = int(event.id or "")
                    duplicated += seen[index]
                    seen[index] = 1
                    disordered += event.timestamp < last
                    last = event.timestamp
                    number += 1
                    if number % (count // (pauses + 1)) == 0 and number < count:
                        await asyncio.sleep(3.5)
            seconds = time.monotonic() - began - 3.5 * pauses
            all_seen = await gateway.seen(events.stats.requests)
            cuts = gateway.errors("client timed out")
        requests = server.request_count
    delivery = Delivery(seen.count(0), duplicated, 0, disordered)
    figure("A7", f"{count:,} events, {pauses} pauses of 3.5 s behind nginx with send_timeout 1s", IN_WORDS, delivery)
    figure(
        "A7",
        "the paused stream: cuts by nginx/requests/seconds without pauses",
        ">= 3 cuts",
        f"{cuts}/{requests}/{seconds:.1f}",
    )
    assert delivery == EXACTLY_ONCE
    assert cuts >= 3
    assert events.stats.retries == requests - 1 >= cuts
    assert events.stats.requests == requests
    assert all_seen


async def test_C7_a_gateway_that_limits_the_rate_gets_hardly_any_request_twice(
    nginx: StartNginx, figure: Figure
) -> None:
    """Behind a gateway that allows 50 requests a second and says so by 429 alone, few requests are refused."""
    count, rate = 300, 50
    limit = f"""
        limit_req_zone $binary_remote_addr zone=one:1m rate={rate}r/s;
        limit_req zone=one burst=5 nodelay;
        limit_req_status 429;
        keepalive_requests 7;
        gzip on;
        gzip_types application/json;
        gzip_min_length 0;
        """
    async with FakeNP6(contacts=count, events_per_contact=(1, 20), seed=SEED) as server:
        with nginx(server.url, http=limit) as gateway:
            began = time.monotonic()
            async with server.client(base_url=gateway.url, retry=policy()) as np6:
                delivery, stats = await fetch_all(np6, server)
            seconds = time.monotonic() - began
            all_seen = await gateway.seen(stats.requests)
            statuses, connections, compressed = gateway.statuses(), gateway.connections(), gateway.compressed()
    ratio = statuses.total() / count
    figure("C7", f"nginx limit_req {rate} r/s burst 5: requests per contact, {count} contacts", "<= 1.05", ratio)
    figure(
        "C7",
        f"nginx limit_req {rate} r/s burst 5: share of the allowed rate, over {seconds:.1f} s",
        "(no goal)",
        count / seconds / rate,
    )
    assert delivery == EXACTLY_ONCE
    assert statuses.keys() == {200, 429}, "the limit was not met"
    assert ratio <= 1.05
    assert all_seen, f"nginx saw {statuses.total()} requests, the client counts {stats.requests}"
    assert connections >= statuses.total() / 7, "keepalive_requests was not in force"
    assert compressed == count


async def test_A1_an_upstream_that_dies_and_comes_back_loses_nothing(nginx: StartNginx, figure: Figure) -> None:
    """While the server behind a gateway is down or hangs (502, 504, cut responses), contacts wait and then complete."""
    outages, hung, stalled = 3, 5, 5
    async with FakeNP6(contacts=600, events_per_contact=(20, 60), seed=SEED, port=free_port(), latency=0.005) as server:
        contacts = server.contact_ids
        # The last ones, which the outages do not meet.
        for contact in contacts[-hung:]:
            server.script(Fault.hang(), contact=contact)
        for contact in contacts[-hung - stalled : -hung]:
            server.script(Fault.stall(after=9_000), contact=contact)

        async def die_and_come_back() -> None:
            for number in range(outages):
                assert await until(lambda: server.request_count >= 150 * (number + 1), 30)  # noqa: B023
                await server.__aexit__(None, None, None)
                await asyncio.sleep(0.5)
                await server.__aenter__()

        with nginx(server.url, location="proxy_read_timeout 500ms;") as gateway:
            # More attempts than by default: half a second is longer than one contact in a hundred then waits.
            async with server.client(base_url=gateway.url, retry=policy(max_attempts=10, max_delay=1.0)) as np6:
                trouble = asyncio.create_task(die_and_come_back())
                try:
                    delivery, stats = await fetch_all(np6, server)
                    await trouble
                finally:
                    trouble.cancel()
            all_seen = await gateway.seen(stats.requests)
            statuses = gateway.statuses()
            cuts = gateway.errors("while reading upstream")
        pending = server.faults_pending
    figure("A1", f"upstream of nginx down {outages} times for 0.5 s, {len(contacts)} contacts", IN_WORDS, delivery)
    figure(
        "A1",
        "upstream of nginx down: 502/504/cut responses, retries",
        "> 0",
        f"{statuses[502]}/{statuses[504]}/{cuts}, {stats.retries}",
    )
    assert not pending
    assert delivery == EXACTLY_ONCE
    assert statuses[502] >= outages
    assert statuses[504] >= hung
    assert cuts >= stalled
    assert all_seen, f"nginx saw {statuses.total()} requests, the client counts {stats.requests}"


async def test_A1_a_gateway_that_reloads_is_not_noticed(nginx: StartNginx, figure: Figure) -> None:
    """A gateway may read its configuration again in the middle of a run: nothing fails, with the defaults."""
    reloads = 6
    async with FakeNP6(contacts=1_400, events_per_contact=(5, 40), seed=SEED, latency=0.01) as server:
        with nginx(server.url) as gateway:

            async def reload() -> None:
                for number in range(reloads):
                    assert await until(lambda: server.request_count >= 200 * (number + 1), 30)  # noqa: B023
                    gateway.reload()

            async with server.client(base_url=gateway.url, retry=policy()) as np6:
                reloading = asyncio.create_task(reload())
                try:
                    delivery, stats = await fetch_all(np6, server)
                    await reloading
                finally:
                    reloading.cancel()
            done = gateway.errors("(SIGHUP) received")
            connections = gateway.connections()
    figure("A1", f"nginx reloaded {done} times in a run of {stats.done:,} contacts", IN_WORDS, delivery)
    figure(
        "A1",
        "nginx reloaded: failed contacts/requests sent again/connections",
        "0 failed",
        f"{stats.failed}/{stats.retries}/{connections}",
    )
    assert delivery == EXACTLY_ONCE
    assert done == reloads
    assert connections >= 16 * 2, "no connection was closed by a reload"


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a user passes as `ssl_context=` to trust the private authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def served(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize("problem", ["untrusted authority", "wrong host name", "expired"])
async def test_E6_a_certificate_that_is_not_accepted_ends_the_call_at_once(
    problem: str, authority: trustme.CA, trusting: ssl.SSLContext, figure: Figure
) -> None:
    """Whatever is wrong with the server's certificate: `TLSError` after one handshake, and the key is not sent."""
    certificate = {
        "untrusted authority": lambda: authority.issue_cert("127.0.0.1"),
        "wrong host name": lambda: authority.issue_cert("api-cm.np6.example", "localhost", "127.0.0.2"),
        "expired": lambda: authority.issue_cert("127.0.0.1", not_after=datetime(2025, 1, 1, tzinfo=UTC)),
    }[problem]()
    context = None if problem == "untrusted authority" else trusting
    async with FakeNP6(contacts=20, ssl_context=served(certificate)) as server, TCPProxy(server.url) as proxy:
        contacts = server.contact_ids
        async with server.client(base_url=proxy.url, ssl_context=context, retry=policy()) as np6:
            with pytest.raises(TLSError) as caught:
                await np6.events.list(contacts[0])
            handshakes = proxy.accepted
            async with np6.events.stream_many(contacts, on_error="collect", concurrency=4) as events:
                with pytest.raises(TLSError):
                    async for _ in events:
                        pass
        all_handshakes = proxy.accepted
        requests = server.request_count
        left = 0 if await until(lambda: proxy.open == 0) else proxy.open
    figure(
        "E6",
        f"{problem}: handshakes for one call, for a run of 4 at once",
        "1, <= 4",
        f"{handshakes}, {all_handshakes - 1}",
    )
    assert (handshakes, caught.value.attempts) == (1, 1)
    assert all_handshakes <= 1 + 4
    assert (events.stats.retries, events.failures) == (0, [])
    assert (requests, left) == (0, 0)


@pytest.mark.parametrize("borrowed", [False, True], ids=["own session", "borrowed session"])
async def test_E6_a_private_authority_is_trusted_through_ssl_context(
    borrowed: bool, authority: trustme.CA, trusting: ssl.SSLContext, figure: Figure
) -> None:
    """With `ssl_context=` a server with a certificate of a private authority is like any other."""
    async with (
        FakeNP6(
            contacts=50, events_per_contact=(0, 20), ssl_context=served(authority.issue_cert("127.0.0.1"))
        ) as server,
        TCPProxy(server.url, seed=SEED, slices=(1, 1_400)) as proxy,
        aiohttp.ClientSession() as session,
    ):
        more: dict[str, Any] = {"session": session} if borrowed else {}
        async with server.client(base_url=proxy.url, ssl_context=trusting, retry=policy(), **more) as np6:
            delivery, stats = await fetch_all(np6, server)
        handshakes = proxy.accepted
    label = "borrowed" if borrowed else "own"
    figure("E6", f"private authority, {label} session: 50 contacts", IN_WORDS, delivery)
    assert delivery == EXACTLY_ONCE
    assert stats.requests == 50
    assert 1 <= handshakes <= 16


@pytest.mark.parametrize(
    "url",
    [
        "http://api-cm.np6.com",
        "http://10.0.0.1",
        "http://192.168.1.1:8080",
        "http://0.0.0.0",
        "http://[::2]",
        "http://[fe80::1]",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://localhost@example.com",
        "http://127.0.0.1:80@example.com",
        "http://example.com#@127.0.0.1",
        "http://example.com?@127.0.0.1",
        "HTTP://EXAMPLE.COM",
        "ftp://127.0.0.1",
        "ws://127.0.0.1",
        "//127.0.0.1",
        "127.0.0.1",
    ],
)
def test_E6_no_key_goes_over_plain_http(url: str) -> None:
    """Plain http:// to anything but the machine itself is a `ConfigError`, whatever the address is dressed up as."""
    with pytest.raises(ConfigError):
        NP6Client("key", base_url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://127.4.5.6", "http://localhost", "http://[::1]:8080"])
def test_E6_plain_http_is_for_loopback(url: str) -> None:
    """A server on the machine itself needs no TLS."""
    assert not NP6Client("key", base_url=url).closed


def _no_verification() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _optional_verification() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _any_host_name() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


_UNVERIFIED = [_no_verification, _optional_verification, _any_host_name]


@pytest.mark.parametrize("context", _UNVERIFIED)
def test_E6_an_ssl_context_that_does_not_verify_is_refused(context: Callable[[], ssl.SSLContext]) -> None:
    """Verification of certificates and host names cannot be turned off through `ssl_context=`."""
    with pytest.raises(ConfigError, match="must verify"):
        NP6Client("key", ssl_context=context())


@pytest.mark.parametrize(
    "tls",
    [
        lambda: False,
        _no_verification,
        _optional_verification,
        _any_host_name,
    ],
)
async def test_E6_a_borrowed_session_that_does_not_verify_is_refused(tls: Callable[[], Any]) -> None:
    """A session whose connector would accept any server is a `ConfigError`, as it is for `ssl_context=`."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls())) as session:
        with pytest.raises(ConfigError, match="verify"):
            NP6Client("key", session=session)


# -- a TCP proxy -------------------------------------------------------------------------------


def _dark(rng: random.Random) -> float:
    """One connection in five is dark from the beginning, most others are after some responses."""
    return 0 if rng.random() < 0.2 else rng.expovariate(1 / 60_000)


_MODES: Final[dict[str, dict[str, Any]]] = {
    "50 ms latency each way": {"latency": 0.05},
    "slices of 1 to 7 bytes": {"slices": (1, 7)},
    "resets at random bytes": {"lifetime": lambda rng: rng.expovariate(1 / 30_000), "ending": "reset"},
    "black holes": {"lifetime": _dark, "ending": "dark"},
}


@pytest.mark.parametrize("mode", _MODES)
async def test_A1_a_network_that_misbehaves_loses_nothing(mode: str, figure: Figure) -> None:
    """Latency, scattered bytes, resets anywhere and connections gone silent: each event once, no connection left."""
    sliced = "slices" in mode
    async with (
        FakeNP6(contacts=500, events_per_contact=1 if sliced else (0, 20), seed=SEED) as server,
        TCPProxy(server.url, seed=SEED, **_MODES[mode]) as proxy,
    ):
        began = time.monotonic()
        async with server.client(
            base_url=proxy.url,
            timeout=Timeout(read=0.5),
            retry=policy(base_delay=0.05, budget=1_000),
        ) as np6:
            delivery, stats = await fetch_all(np6, server)
            seconds = time.monotonic() - began
            most = proxy.open
        left = 0 if await until(lambda: proxy.open == server.open_connections == 0) else proxy.open
        accepted, ended, pieces = proxy.accepted, proxy.ended, proxy.pieces
    figure("A1", f"TCP proxy, {mode}: 500 contacts", IN_WORDS, delivery)
    figure(
        "A1",
        f"TCP proxy, {mode}: connections/cut/retries/writes, seconds",
        "(no goal)",
        f"{accepted}/{ended}/{stats.retries}/{pieces}, {seconds:.1f}",
    )
    figure("D1", f"TCP proxy, {mode}: connections left", "0", left)
    assert delivery == EXACTLY_ONCE
    assert left == 0
    assert most <= 16, "a connection that was given up is still open"
    if "ending" in _MODES[mode]:
        assert ended >= 20
        assert stats.retries >= 20
    else:
        assert (accepted <= 16, stats.retries) == (True, 0)
    if sliced:
        assert pieces > 50_000
