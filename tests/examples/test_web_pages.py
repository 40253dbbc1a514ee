"""The applications of docs/how-to/web-app.md, flask.md and django.md as they stand, over real sockets on both sides."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.needs import needs

from np6_async import NP6Client
from np6_async.testing import FakeNP6, Fault, make_bounce

needs("django", "fastapi", "flask", "uvicorn")

import aiohttp
import django
import flask
import uvicorn
from aiohttp import web
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import clear_url_caches
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from werkzeug.serving import WSGIRequestHandler, make_server

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
DAY = datetime(2026, 1, 1, tzinfo=UTC)

Until = Callable[[Callable[[], bool]], Any]


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNP6]:
    """In a thread of its own: the sync applications block theirs. ANNE has 50 events, an hour apart."""
    with FakeNP6(contacts=0) as server:
        server.add_contact("ANNE", [make_bounce(at=DAY + timedelta(hours=hour)) for hour in range(50)])
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setenv("NP6_BASE_URL", server.url)
        yield server


# -- what serves them ------------------------------------------------------------------------------


def block(page: str, words: str) -> str:
    text = (HOW_TO / page).read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if words in code]
    return str(code)


def module(name: str, code: str, page: str) -> ModuleType:
    made = ModuleType(name)
    sys.modules[name] = made
    exec(compile(code, page, "exec", dont_inherit=True), made.__dict__)  # noqa: S102 - our own code
    return made


@asynccontextmanager
async def under_uvicorn(app: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on", ws="none"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        """An access log would contain the ids of contacts."""


@asynccontextmanager
async def under_wsgi(app: Any) -> AsyncIterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    await asyncio.to_thread(server.shutdown)
    thread.join()
    server.server_close()


@asynccontextmanager
async def aiohttp_web() -> AsyncIterator[str]:
    app = module("application", block("web-app.md", "web.Application("), "web-app.md").app
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def fastapi() -> AsyncIterator[str]:
    app = module("application", block("web-app.md", "FastAPI(lifespan"), "web-app.md").app
    async with under_uvicorn(app) as url:
        yield url


@asynccontextmanager
async def flask_app() -> AsyncIterator[str]:
    page = module("application", block("flask.md", "Flask(__name__)"), "flask.md")
    assert isinstance(page.app, flask.Flask)
    async with under_wsgi(page.app) as url:
        yield url
    page.np6.close()


def project(*files: str) -> list[ModuleType]:
    """The files of the page of Django, in a project with no more settings than they need."""
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="urls", MIDDLEWARE=["errors.NP6Errors"], ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None
        )
        django.setup()
    clear_url_caches()
    return [module(name, block("django.md", f"# {name}.py\n"), "django.md") for name in files]


@asynccontextmanager
async def django_sync() -> AsyncIterator[str]:
    _, views, _ = project("errors", "views", "urls")
    async with under_wsgi(get_wsgi_application()) as url:
        yield url
    views.np6.close()


@asynccontextmanager
async def django_async() -> AsyncIterator[str]:
    _, views = project("errors", "async_views")
    sys.modules["views"] = views
    _, asgi = project("urls", "asgi")
    async with under_uvicorn(asgi.application) as url:
        yield url


ASYNC = {"aiohttp": aiohttp_web, "fastapi": fastapi, "django async": django_async}
ALL = {**ASYNC, "django sync": django_sync, "flask": flask_app}
Get = Callable[..., AbstractAsyncContextManager[aiohttp.ClientResponse]]


@pytest.fixture
async def get(request: pytest.FixtureRequest, server: FakeNP6, until: Until) -> AsyncIterator[Get]:
    """Asks one of the applications; when it has ended, no connection to NP6 is left."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(request.param())
        browser = await stack.enter_async_context(aiohttp.ClientSession(url))
        yield lambda path, **query: browser.get(path, params=query)
    await until(lambda: server.open_connections == 0)
    for name in ("application", "errors", "views", "async_views", "urls", "asgi"):
        sys.modules.pop(name, None)


in_each = pytest.mark.parametrize("get", ALL.values(), ids=ALL, indirect=True)
where_a_browser_that_leaves_cancels = pytest.mark.parametrize("get", ASYNC.values(), ids=ASYNC, indirect=True)


# -- what they do ----------------------------------------------------------------------------------


@in_each
async def test_the_next_twenty_are_neither_shifted_nor_doubled_by_new_events(get: Get, server: FakeNP6) -> None:
    expected = [event["id"] for event in reversed(server.events("ANNE"))]
    path, seen, sizes = "/contacts/ANNE/history", [], []
    while path:
        async with get(path) as response:
            answer = await response.json()
        assert response.status == 200
        seen += [event["id"] for event in answer["events"]]
        sizes.append(len(answer["events"]))
        server.add_events("ANNE", [make_bounce(at=DAY + timedelta(days=10, hours=len(sizes)))])
        path = answer.get("next")
        assert path is None or re.fullmatch(r"/contacts/ANNE/history\?after=[\w-]+", path)
    assert (seen, sizes) == (expected, [20, 20, 10])


def altered(cursor: str) -> Iterator[str]:
    """Whatever somebody may make of a cursor."""
    yield from ("", "x", cursor[:-2], cursor + "A", cursor[::-1], cursor.lower(), "é", "\x00", "A" * 3_000, "9" * 300)
    version, query, (last, ids, without) = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    for position in (
        -1,
        1e400,
        {},
        None,
        [],
        [None, [], []],
        [-last, ids, without],
        [last * 10**9, ids, without],
        [last + 0.5, ids, without],
        [True, ids, without],
        [last, "ids", without],
        [last, [None, {}], without],
        [last, [["deep"] * 50], without],
        [last, ["\ud800"], [["aa", 1e400]]],
        [last, ids, [["aa", -1]]],
        [last, ids, [["not hex", 1]]],
        [0, ids, without],
        [253_402_300_799_999, ids, without],
    ):
        for changed in ([version, query, position], [version + 1, query, position], [version, "0" * 18, position]):
            yield base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")


@in_each
async def test_a_cursor_that_was_tampered_with_is_a_bad_request_and_never_an_error_of_the_server(
    get: Get, server: FakeNP6
) -> None:
    async with get("/contacts/ANNE/history") as response:
        cursor = (await response.json())["next"].partition("after=")[2]
    statuses = []
    for text in altered(cursor):
        async with get("/contacts/ANNE/history", after=text) as response:
            statuses.append(response.status)
            if response.status == 400:
                assert re.search("cursor|1970", (await response.json())["error"])
    assert set(statuses) == {200, 400}
    assert statuses[:10] == [400] * 10
    assert statuses.count(200) < 12  # another point in time of the same contact is no harm


@in_each
async def test_a_cursor_of_another_contact_is_refused(get: Get, server: FakeNP6) -> None:
    async with get("/contacts/ANNE/history") as response:
        path = (await response.json())["next"]
    server.add_contact("BELA", server.events("ANNE"))
    before = server.request_count
    async with get(path.replace("ANNE", "BELA")) as response:
        assert response.status == 400
    assert server.request_count == before


@in_each
async def test_a_refused_key_is_no_401_of_the_application(get: Get, server: FakeNP6) -> None:
    """A browser would ask its user to log in; nor is the user told about the key."""
    server.api_key = "another"
    for what in ("history", "events"):
        async with get(f"/contacts/ANNE/{what}") as response:
            assert (response.status, await response.json()) == (502, {"error": "The events cannot be fetched."})


@in_each
async def test_the_wait_that_np6_asks_for_is_passed_on(get: Get, server: FakeNP6) -> None:
    server.script(Fault.rate_limited(retry_after=1_000), times=None)
    async with get("/contacts/ANNE/history") as response:
        assert response.status == 503
        assert 990 <= int(response.headers["Retry-After"]) <= 1_000


@in_each
async def test_what_is_wrong_with_a_request_is_said(get: Get, server: FakeNP6) -> None:
    for path, status, words in (
        ("/contacts/a%20b/history", 400, "contact"),
        ("/contacts/ANNE/events?start=yesterday", 400, "yesterday"),
        ("/contacts/NOBODY/history", 404, "no such contact"),
        ("/contacts/NOBODY/events", 404, "no such contact"),
    ):
        async with get(path) as response:
            assert response.status == status
            assert words in (await response.json())["error"]


@in_each
async def test_a_stream_says_whether_it_is_complete(get: Get, server: FakeNP6) -> None:
    for faults, complete in (([], True), ([Fault.cut(after=9_000), Fault.status(400)], False)):
        server.script(*faults)
        async with get("/contacts/ANNE/events") as response:
            *events, end = map(json.loads, (await response.text()).splitlines())
        assert end["complete"] is complete
        assert [event["id"] for event in events] == [event["id"] for event in server.events("ANNE")][: len(events)]
        assert (len(events) == 50) is complete


@where_a_browser_that_leaves_cancels
@pytest.mark.parametrize("what", ["history", "events"])
async def test_a_browser_that_leaves_before_the_answer_ends_the_request_to_np6(
    get: Get, server: FakeNP6, until: Until, what: str
) -> None:
    server.script(Fault.hang(), times=None)

    async def ask() -> None:
        async with get(f"/contacts/ANNE/{what}"):
            pass

    asking = asyncio.create_task(ask())
    await until(lambda: server.in_flight == 1)
    asking.cancel()
    await asyncio.wait([asking])
    await until(lambda: server.in_flight == 0)
    assert server.request_count == 1


@where_a_browser_that_leaves_cancels
async def test_a_browser_that_leaves_a_stream_that_has_stalled_ends_the_request_to_np6(
    get: Get, server: FakeNP6, until: Until
) -> None:
    server.script(Fault.stall(after=9_000), times=None)
    async with get("/contacts/ANNE/events") as response:
        assert await response.content.readline()
        assert server.in_flight == 1
        response.close()
    await until(lambda: server.in_flight == 0)


@pytest.mark.slow
@in_each
async def test_a_browser_that_leaves_in_the_middle_of_a_long_stream_ends_the_request_to_np6(
    get: Get, server: FakeNP6, until: Until
) -> None:
    """The stream is larger than what sockets and buffers take."""
    server.add_contact("LONG", [make_bounce(at=DAY + timedelta(seconds=n)) for n in range(20_000)])
    async with get("/contacts/LONG/events") as response:
        assert await response.content.readline()
        response.close()
    await until(lambda: server.in_flight == 0)


@pytest.mark.parametrize("shielded", [True, False])
async def test_under_starlette_a_note_in_finally_is_written_if_it_is_shielded(
    server: FakeNP6, until: Until, shielded: bool
) -> None:
    code = block("web-app.md", "def noted(")
    assert "shield=True" in code
    page = module("application", code if shielded else code.replace("shield=True", "shield=False"), "web-app.md")
    begun: list[int] = []
    saved: list[int] = []

    async def save(sent: int) -> None:
        begun.append(sent)
        await asyncio.sleep(0)
        saved.append(sent)

    async def stream(_: Request) -> StreamingResponse:
        return StreamingResponse(page.noted(np6.events.stream("ANNE"), save))

    server.script(Fault.stall(after=9_000))
    async with (
        NP6Client() as np6,
        under_uvicorn(Starlette(routes=[Route("/", stream)])) as url,
        aiohttp.ClientSession() as browser,
    ):
        async with browser.get(url) as response:
            assert await response.content.readline()
            response.close()
        await until(lambda: bool(begun) and server.in_flight == 0)
        if shielded:
            await until(lambda: saved == begun)
    assert bool(saved) is shielded
