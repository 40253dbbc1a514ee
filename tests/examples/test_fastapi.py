"""The FastAPI example, over real sockets on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import runpy
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from support.needs import needs

from np6_async import unstructure
from np6_async.testing import FakeNP6, Fault, RateLimit, make_bounce

needs("fastapi", "httpx", "uvicorn")

import httpx
import uvicorn
from fastapi.responses import JSONResponse

from examples.fastapi_events.app import app


@pytest.fixture
async def http(np6_server: FakeNP6, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which runs under uvicorn and uses the fake server."""
    monkeypatch.setenv("NP6_API_KEY", np6_server.api_key)
    monkeypatch.setenv("NP6_BASE_URL", np6_server.url)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on", ws="none"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started or serving.done())
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client
    server.should_exit = True
    await serving
    await until(lambda: np6_server.open_connections == 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def rows(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "key", [{}, {"NP6_API_KEY": "key"}, {"NP6_API_KEY_FILE": "/run/secrets/np6"}], ids=["none", "key", "file"]
)
def test_it_uses_np6_if_there_is_a_key_in_the_environment_and_otherwise_a_fake(
    monkeypatch: pytest.MonkeyPatch, key: dict[str, str]
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(uvicorn, "run", lambda *_, **__: asked.append(os.environ.get("NP6_BASE_URL")))
    with patch.dict(os.environ, key):
        runpy.run_module("examples.fastapi_events", run_name="__main__")
    (url,) = asked
    assert (url is None) == bool(key)


async def test_each_event_is_a_line(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    """Complete, in order, and of the kind and time asked for."""
    bounces = [make_bounce(at=f"2026-02-0{day}") for day in (1, 2, 3)]
    np6_server.add_contact("ANNE", bounces)
    response = await http.get("/contacts/ANNE/events", params={"kind": "bounces", "start": "2026-02-02"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert rows(response.text) == bounces[1:]


async def test_half_an_emoji_spoils_no_line(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    """Strict readers take what the server sends cut in the middle of a character; so does a `JSONResponse`."""
    bounce = make_bounce(at="2026-02-01")
    bounce["source"]["detail"]["bounce"]["status"]["diagnostic"] = "mailbox \ud83d full"
    np6_server.set_raw("ANNE", json.dumps([bounce]).encode())
    response = await http.get("/contacts/ANNE/events")
    (event,) = map(msgspec.json.decode, response.content.splitlines())
    assert event["source"]["detail"]["bounce"]["status"]["diagnostic"] == "mailbox \ufffd full"
    async with np6_server.client() as np6:
        (fetched,) = await np6.events.list("ANNE")
    assert msgspec.json.decode(JSONResponse(unstructure(fetched)).body) == event


async def test_a_contact_without_events_has_an_empty_response(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    np6_server.add_contact("ANNE")
    response = await http.get("/contacts/ANNE/events")
    assert (response.status_code, response.text) == (200, "")


@pytest.mark.np6_server(contacts=1, events_per_contact=400)
async def test_the_first_event_arrives_before_the_last_is_sent(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    """And when the reader disconnects, the fetch is cancelled: its connection to NP6 is closed."""
    contact = np6_server.contact_ids[0]
    np6_server.script(Fault.stall(after=100_000))
    async with http.stream("GET", f"/contacts/{contact}/events") as response:
        first = await anext(response.aiter_lines())
        assert json.loads(first) == np6_server.events(contact)[0]
        assert np6_server.in_flight == 1
    await until(lambda: np6_server.in_flight == 0 and np6_server.open_connections == 0)
    assert np6_server.request_count == 1


async def test_a_reader_who_disconnects_before_the_first_event_ends_the_fetch_too(
    np6_server: FakeNP6, http: httpx.AsyncClient
) -> None:
    np6_server.script(Fault.hang())
    asking = asyncio.create_task(http.get(f"/contacts/{np6_server.contact_ids[0]}/events"))
    await until(lambda: np6_server.in_flight == 1)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await until(lambda: np6_server.in_flight == 0 and np6_server.open_connections == 0)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/contacts/NOBODY/events", 404, "no such contact"),
        ("/contacts/ANNE/events?start=yesterday", 400, "yesterday"),
        ("/contacts/ANNE/events?start=2026-02-02&end=2026-02-01", 400, "start"),
    ],
)
async def test_a_wrong_request_is_explained(
    np6_server: FakeNP6, http: httpx.AsyncClient, path: str, status: int, words: str
) -> None:
    np6_server.add_contact("ANNE")
    response = await http.get(path)
    assert response.status_code == status
    assert words in response.json()["detail"]


@pytest.mark.parametrize("fault", [Fault.status(501), Fault.status(403)])
async def test_a_failure_of_np6_is_a_bad_gateway(np6_server: FakeNP6, http: httpx.AsyncClient, fault: Fault) -> None:
    """The reader learns nothing about the key and its rights."""
    np6_server.script(fault)
    response = await http.get(f"/contacts/{np6_server.contact_ids[0]}/events")
    assert response.status_code == 502
    assert response.json() == {"detail": "NP6 does not respond as it should; please try again."}


async def test_a_long_rate_limit_says_when_to_try_again(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    np6_server.rate_limit = RateLimit(limit=0, window=120)
    response = await http.get(f"/contacts/{np6_server.contact_ids[0]}/events")
    assert response.status_code == 503
    assert 100 <= int(response.headers["retry-after"]) <= 120
    assert "try again later" in response.json()["detail"]


async def test_an_error_after_the_first_events_is_the_last_line(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    """The status code has been sent by then; no event before the error is lost."""
    np6_server.add_contact("ANNE", [make_bounce(at=f"2026-02-0{day}") for day in (1, 2, 3)])
    np6_server.script(Fault.cut(after=1_000), Fault.status(501))
    response = await http.get("/contacts/ANNE/events")
    assert response.status_code == 200
    *events, last = rows(response.text)
    assert events == np6_server.events("ANNE")[: len(events)]
    assert events
    assert last == {"error": "NP6 does not respond as it should; please try again."}


async def test_the_next_page_is_not_shifted_by_new_events(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    np6_server.add_contact("ANNE", [make_bounce(at=f"2026-02-{day:02}") for day in range(1, 26)])
    expected = [event["id"] for event in reversed(np6_server.events("ANNE"))]
    path: str | None = "/contacts/ANNE/history?kind=bounces&size=10"
    seen = []
    while path:
        page = (await http.get(path)).json()
        seen += [event["id"] for event in page["events"]]
        np6_server.add_events("ANNE", [make_bounce(at="2026-03-01")])
        path = page.get("next")
    assert seen == expected
    tampered = await http.get("/contacts/ANNE/history?after=x")
    assert (tampered.status_code, "not a cursor" in tampered.json()["detail"]) == (400, True)


async def test_a_reader_who_does_not_wait_for_a_page_ends_the_fetch(
    np6_server: FakeNP6, http: httpx.AsyncClient
) -> None:
    np6_server.script(Fault.hang())
    asking = asyncio.create_task(http.get(f"/contacts/{np6_server.contact_ids[0]}/history"))
    await until(lambda: np6_server.in_flight == 1)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await until(lambda: np6_server.in_flight == 0 and np6_server.open_connections == 0)
    assert np6_server.request_count == 1


async def test_an_outage_says_when_to_try_again(np6_server: FakeNP6, http: httpx.AsyncClient) -> None:
    np6_server.script(Fault.status(503, retry_after=90), times=None)
    response = await http.get(f"/contacts/{np6_server.contact_ids[0]}/history")
    assert response.status_code == 503
    assert 80 <= int(response.headers["retry-after"]) <= 90
