"""Which way requests go: over aiohttp's connections alone, or by the session, where something else is to see them."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
import trustme
import vcr  # type: ignore[import-untyped]
from aiohttp.client_proto import ResponseHandler
from aiointercept import aiointercept
from aioresponses import aioresponses
from support.ways import Way

from np6_async import NP6Client, RetryPolicy, ServiceUnavailable
from np6_async._http import wire
from np6_async.testing import FakeNP6

ONCE = RetryPolicy(max_attempts=1)
EXTERNAL = "https://api-cm.np6.com/targets/A/events?sort=asc"
BODY = '[{"timestamp":1,"id":"a"}]'


async def read_twice(np6: NP6Client, contact: str) -> list[int]:
    """The number of events, one contact alone and in a bulk run."""
    alone = await np6.events.list(contact)
    async with np6.events.stream_many([contact]) as events:
        return [len(alone), len([pair async for pair in events])]


async def test_a_session_of_its_own(taken: list[Way]) -> None:
    async with FakeNP6(contacts=1) as server, server.client(retry=ONCE) as np6:
        assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
        assert (taken, server.request_count) == (["wire", "wire"], 2)


async def test_tls_with_a_context_that_is_passed(taken: list[Way]) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)
    async with FakeNP6(contacts=1, ssl_context=theirs, host="localhost") as server:
        async with server.client(retry=ONCE, ssl_context=ours) as np6:
            assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
        assert (taken, server.connections) == (["wire", "wire"], 1)


async def test_a_borrowed_session(taken: list[Way]) -> None:
    async with FakeNP6(contacts=1) as server, aiohttp.ClientSession() as session:
        async with server.client(retry=ONCE, session=session) as np6:
            assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
        assert (taken, server.request_count) == (["session", "session"], 2)


async def test_a_borrowed_session_with_a_proxy(taken: list[Way]) -> None:
    """Every request goes through it."""
    asked: list[bytes] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" ")[1])
        theirs, ours = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        path = b"/" + asked[-1].split(b"/", 3)[3]
        ours.write(head.replace(asked[-1], path, 1).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        writer.write(await theirs.read())
        ours.close()
        writer.close()

    async with (
        FakeNP6(contacts=1) as server,
        await asyncio.start_server(forward, "127.0.0.1", 0) as proxy,
        aiohttp.ClientSession(proxy=f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}") as session,
        server.client(retry=ONCE, session=session) as np6,
    ):
        assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
        assert len(asked) == server.request_count == 2
        assert all(target.startswith(server.url.encode()) for target in asked)
        assert taken == ["session", "session"]


async def test_traces(taken: list[Way]) -> None:
    seen: list[str] = []

    async def start(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.url.path)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(start)
    async with FakeNP6(contacts=1) as server, server.client(retry=ONCE, trace_configs=[trace]) as np6:
        assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
        assert len(seen) == server.request_count
    assert taken == ["session", "session"]


async def test_traces_that_an_instrumentation_adds_to_every_session(
    taken: list[Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of OpenTelemetry and Sentry do."""
    seen: list[str] = []
    original = aiohttp.ClientSession.__init__

    async def start(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.url.path)

    def initialise(self: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(start)
        options["trace_configs"] = [*(options.get("trace_configs") or ()), trace]
        original(self, *args, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", initialise)
    async with FakeNP6(contacts=1) as server, server.client(retry=ONCE) as np6:
        assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
        assert len(seen) == server.request_count
    assert taken == ["session", "session"]


@pytest.mark.parametrize("name", ["_request", "get"])
async def test_a_method_of_all_sessions_that_is_replaced(
    name: str, taken: list[Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as it is: also of a client that was used before."""
    seen: list[str] = []
    original = getattr(aiohttp.ClientSession, name)

    def replacement(self: aiohttp.ClientSession, *args: Any, **options: Any) -> Any:
        seen.append(str(args[-1]))
        return original(self, *args, **options)

    async with FakeNP6(contacts=1) as server, server.client(retry=ONCE) as np6:
        for expected in ("wire", "session", "wire"):
            with monkeypatch.context() as replaced:
                if expected == "session":
                    replaced.setattr(aiohttp.ClientSession, name, replacement)
                assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
        assert len(seen) == 2
        assert (taken, server.connections) == (["wire"] * 2 + ["session"] * 2 + ["wire"] * 2, 1)


async def test_aioresponses_sees_every_request(taken: list[Way], responses: aioresponses) -> None:
    responses.get(EXTERNAL, body=BODY, repeat=True)
    async with NP6Client("k", retry=ONCE) as np6:
        assert await read_twice(np6, "A") == [1, 1]
    assert [len(calls) for calls in responses.requests.values()] == [2]
    assert taken == []  # nothing was sent


async def test_a_mock_of_get_sees_every_request(taken: list[Way]) -> None:
    with patch("aiohttp.ClientSession.get", side_effect=aiohttp.ServerDisconnectedError) as get:
        async with (
            NP6Client("k", retry=ONCE) as np6,
            np6.events.stream_many(["A", "B"], on_error="collect") as events,
        ):
            with pytest.raises(ServiceUnavailable):
                assert [pair async for pair in events] == []
    assert (get.call_count, len(events.failures), taken) == (2, 0, [])


async def test_aiointercept_sees_every_request(taken: list[Way]) -> None:
    """It replaces names and certificates of connections, and marks requests by a header of its own."""
    async with aiointercept(mock_external_urls=True) as mocked:
        mocked.get(EXTERNAL, body=BODY, repeat=True)
        async with NP6Client("k", retry=ONCE) as np6:
            assert await read_twice(np6, "A") == [1, 1]
        assert [len(calls) for calls in mocked.requests.values()] == [2]
    assert taken == ["session", "session"]


async def test_vcrpy_records_every_request_and_plays_it_back(taken: list[Way], tmp_path: Path) -> None:
    """Without the key, which is added where it does not look."""
    cassette = tmp_path / "cassette.yaml"
    async with FakeNP6(contacts=1, api_key="canary-key") as server:
        contact = server.contact_ids[0]
        with vcr.use_cassette(str(cassette), record_mode="once", allow_playback_repeats=True) as recorded:
            async with server.client(retry=ONCE) as np6:
                assert await read_twice(np6, contact) == [10, 10]
        assert len(recorded) == server.request_count == 1  # the second is a repeat
        assert taken == ["session"]
        assert "canary-key" not in cassette.read_text()
        with vcr.use_cassette(str(cassette), record_mode="none", allow_playback_repeats=True):
            async with server.client(retry=ONCE) as np6:
                assert await read_twice(np6, contact) == [10, 10]
        assert (server.request_count, taken) == (1, ["session"])


async def test_an_aiohttp_that_is_not_known(taken: list[Way], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("np6_async._http.transport.supported", lambda: False)
    async with FakeNP6(contacts=1) as server, server.client(retry=ONCE) as np6:
        assert await read_twice(np6, server.contact_ids[0]) == [10, 10]
    assert taken == ["session", "session"]


def _no_timer(self: Any, *, skip_payload: bool = False) -> None: ...


def _no_traces(self: Any, req: Any) -> None: ...


@pytest.mark.parametrize(
    ("owner", "name", "replacement"),
    [
        (ResponseHandler, "set_response_params", _no_timer),
        (ResponseHandler, "set_response_params", None),
        (ResponseHandler, "should_close", ...),
        (ResponseHandler, "is_connected", ...),
        (aiohttp.BaseConnector, "connect", _no_traces),
        (aiohttp.BaseConnector, "connect", ...),
        (aiohttp, "ClientRequest", _no_traces),
        (aiohttp, "ClientRequest", ...),
    ],
)
async def test_what_makes_an_aiohttp_unknown(
    owner: Any, name: str, replacement: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other parameters, or a name that is missing."""
    assert wire.supported()
    if replacement is ...:
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, replacement)
    assert not wire.supported()


def test_what_was_replaced_before_the_first_import_counts_as_replaced() -> None:
    """So a mock that was there first sees every request, too."""
    program = (
        "from unittest.mock import patch\n"
        "with patch('aiohttp.ClientSession._request'):\n"
        "    import np6_async\n"
        "from np6_async._http.wire import is_replaced\n"
        "print(is_replaced())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    assert not wire.is_replaced()
