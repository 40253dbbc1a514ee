"""`NP6Client.with_options`: other options for some calls, and all else shared."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from support.raw_server import Connection, raw_server, response

from np6_async import (
    ClientClosed,
    ConfigError,
    NP6Client,
    RateLimited,
    RequestStarted,
    RetryPolicy,
    ServerError,
    Timeout,
    TimeoutExceeded,
)
from np6_async._client import runtime_of, settings_of
from np6_async.testing import FakeNP6, Fault

QUICK = RetryPolicy(base_delay=0)


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=8) as server:
        yield server


async def test_the_connections_are_shared(server: FakeNP6) -> None:
    async with server.client() as np6:
        for count in range(4):
            view = np6.with_options(timeout=count + 1, concurrency=2)
            assert len(await view.events.list(server.contact_ids[0])) == 10
        assert server.connections == 1


async def test_a_number_of_seconds_is_that_for_a_connection_and_for_the_next_bytes() -> None:
    for np6 in (NP6Client("k", timeout=5), NP6Client("k").with_options(timeout=5)):
        assert settings_of(np6).timeout == Timeout(read=5, connect=5)


async def test_a_shorter_timeout_is_that_of_the_view_alone() -> None:
    async def behave(connection: Connection) -> None:
        await connection.request()
        await asyncio.sleep(0.4)
        await connection.send(response(b"[]"))

    async with raw_server(behave) as server, NP6Client("k", base_url=server.url) as np6:
        quick = np6.with_options(timeout=0.02, retry=RetryPolicy(max_attempts=1))
        with pytest.raises(TimeoutExceeded, match=r"no byte of the response came for 0\.02 s"):
            await quick.events.list("A")
        assert await np6.events.list("A") == []


@pytest.mark.parametrize("borrowed", [False, True], ids=["own session", "borrowed"])
async def test_the_time_for_a_connection_is_that_of_the_view(monkeypatch: pytest.MonkeyPatch, borrowed: bool) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("aiohttp.TCPConnector._create_direct_connection", never)
    session = aiohttp.ClientSession() if borrowed else None
    async with NP6Client("k", base_url="https://np6.test", session=session) as np6:
        quick = np6.with_options(timeout=Timeout(connect=0.02), retry=RetryPolicy(max_attempts=1))
        with pytest.raises(TimeoutExceeded, match=r"within 0\.02 s \(Timeout.connect\)|no connection in time"):
            await quick.events.list("A")
    if session is not None:
        await session.close()


async def test_retries_are_those_of_the_view(server: FakeNP6) -> None:
    contact = server.contact_ids[0]
    async with server.client(retry=QUICK) as np6:
        server.script(Fault.status(500))
        with pytest.raises(ServerError) as caught:
            await np6.with_options(retry=RetryPolicy(max_attempts=1)).events.list(contact)
        assert caught.value.attempts == 1
        server.script(Fault.status(500))
        assert len(await np6.events.list(contact)) == 10


async def test_a_pause_that_others_wait_for_may_be_too_long_for_the_view(server: FakeNP6) -> None:
    """A web page says so at once, while a bulk run goes on waiting; and what one was told, all know."""
    async with server.client() as np6:
        await np6.events.list(server.contact_ids[0])
        server.script(Fault.rate_limited(retry_after=30))
        waiting = asyncio.ensure_future(np6.events.list(server.contact_ids[0]))
        while np6.rate_limit is None or not np6.rate_limit.paused:
            await asyncio.sleep(0)
        asked = server.request_count
        with pytest.raises(RateLimited) as caught:
            await np6.with_options(retry=RetryPolicy(max_wait=1)).events.list(server.contact_ids[1])
        assert caught.value.retry_after == pytest.approx(30, abs=5)
        assert server.request_count == asked
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def test_the_retry_budget_is_that_of_the_client_in_other_processes_too() -> None:
    np6 = NP6Client("k", retry=RetryPolicy(budget=7, refund=0.5, max_attempts=4))
    retry = settings_of(np6.with_options(retry=RetryPolicy(max_attempts=2, budget=900))).retry
    assert (retry.max_attempts, retry.budget, retry.refund) == (2, 7, 0.5)


async def test_concurrency_is_that_of_its_bulk_runs(server: FakeNP6) -> None:
    async with server.client(concurrency=8) as np6:
        async with np6.with_options(concurrency=1).events.stream_many(server.contact_ids) as events:
            assert len([pair async for pair in events]) == 80
        assert server.max_in_flight == 1


async def test_hooks_hear_of_its_requests(server: FakeNP6) -> None:
    heard: list[object] = []
    async with server.client(hooks=[heard.append]) as np6:
        await np6.with_options(timeout=3).events.list(server.contact_ids[0])
    assert any(isinstance(each, RequestStarted) for each in heard)


async def test_closing_it_closes_nothing_and_closing_the_client_ends_it(server: FakeNP6) -> None:
    async with server.client() as np6:
        async with np6.with_options(timeout=3) as view:
            await view.events.list(server.contact_ids[0])
        assert not np6.closed
        assert len(await np6.events.list(server.contact_ids[0])) == 10
        assert len(await view.events.list(server.contact_ids[0])) == 10
    assert view.closed
    with pytest.raises(ClientClosed):
        await view.events.list(server.contact_ids[0])


async def test_options_of_a_view_may_be_changed_again(server: FakeNP6) -> None:
    async with server.client(timeout=9, concurrency=3) as np6:
        one = np6.with_options(timeout=Timeout(read=2, deadline=7))
        two = one.with_options(concurrency=5)
        assert settings_of(two).timeout == Timeout(read=2, deadline=7)
        assert (settings_of(two).concurrency, settings_of(one).concurrency) == (5, 3)
        assert settings_of(np6).timeout == Timeout(read=9, connect=9)


def test_as_many_as_a_server_gets_requests_leave_nothing_behind() -> None:
    np6 = NP6Client("k")
    for count in range(100):
        np6.with_options(timeout=1 + count / 100)
    gc.collect()
    assert len(runtime_of(np6).lifetime._timeouts) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"timeout": "1"}, r"timeout must be Timeout\(\.\.\.\) or a number of seconds, not str"),
        ({"timeout": -1}, "must be a number of seconds above 0"),
        ({"retry": 3}, r"retry must be RetryPolicy\(\.\.\.\), not int"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1 to 1000, not 0"),
        ({"max_retries": 3}, r"there is no option max_retries=; use retry=RetryPolicy\(max_attempts=N\)"),
        ({"hooks": []}, "there is no option hooks= here; it is an option of NP6Client, for all calls"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        NP6Client("k").with_options(**options)
