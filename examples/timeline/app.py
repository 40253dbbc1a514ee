"""The web application: two pages, and a stream of server-sent events for each search and each look at the account.

One `NP6Client` serves them all as long as the application runs. It keeps the API key to itself: everything that is sent
to a browser comes from `describe`, `reach`, `account` and `words`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from time import time as clock
from typing import Any, Final, TypeAlias, TypeVar

import attrs
from aiohttp import web

from np6_async import Hit, Hook, NP6Client, NP6Error

from .account import LastHour
from .describe import describe
from .notices import Notices, View
from .reach import Read, Sign, judge, sign
from .search import BadSearch, Search
from .words import words

T = TypeVar("T")

# Opens the client for the application, with these hooks.
Connect: TypeAlias = Callable[[Sequence[Hook]], AbstractAsyncContextManager[NP6Client]]

MOST_EVENTS: Final = 20_000  # as many as a browser holds with ease
HEARTBEAT: Final = 15.0  # seconds; proxies close silent connections, and a phone may be gone without closing its own

CLIENT: Final = web.AppKey("client", NP6Client)
LAST_HOUR: Final = web.AppKey("last_hour", LastHour)
NOTICES: Final = web.AppKey("notices", Notices)
ABOUT: Final = web.AppKey("about", dict[str, Any])

_STATIC: Final = Path(__file__).parent / "static"
_HEADERS: Final = {
    # Strangers write the texts of events. Even if one became HTML, it could not run or load anything.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(connect: Connect, about: Mapping[str, Any]) -> web.Application:
    """The application, with the client that `connect` opens; `about` is what the page says about its data.

    Serve it with ``handler_cancellation=True``: a fetch then ends when its browser leaves.
    """

    async def client(app: web.Application) -> AsyncIterator[None]:
        async with connect([app[NOTICES]]) as app[CLIENT]:
            app[LAST_HOUR] = LastHour(app[CLIENT], app[NOTICES])
            yield

    app = web.Application()
    app[NOTICES] = Notices()
    app[ABOUT] = dict(about)
    app.cleanup_ctx.append(client)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_end_streams)
    app.router.add_get("/", _page)
    app.router.add_get("/account", _account_page)
    app.router.add_get("/about", _about)
    app.router.add_get("/events", _events)
    app.router.add_get("/account/counts", _counts)
    app.router.add_static("/static", _STATIC)
    return app


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


async def _end_streams(app: web.Application) -> None:
    # Otherwise the server would wait for every browser that is still reading.
    app[LAST_HOUR].close()
    await app[CLIENT].close()


async def _page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(_STATIC / "index.html")


async def _account_page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(_STATIC / "account.html")


async def _about(request: web.Request) -> web.Response:
    return web.json_response(request.app[ABOUT])


async def _events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: `events` (a list) and `notice` (a wait, or null); at the end `problem`, or else `robots` (the
    places of their events), `reach` (a list) and `end`.
    """
    response = await _event_stream(request)
    try:
        search = Search.parse(request.query)
    except BadSearch as error:
        await _send(response, "problem", {"words": str(error), "field": error.field})
        return response
    try:
        async with asyncio.TaskGroup() as tasks:
            with request.app[NOTICES].view(search.contact) as view:
                notices = tasks.create_task(_send_notices(view, response))
                try:
                    await _fetch(request.app[CLIENT], search, response)
                finally:
                    notices.cancel()
    except* ConnectionResetError:
        pass  # the browser left
    return response


async def _fetch(client: NP6Client, search: Search, response: web.StreamResponse) -> None:
    shown = 0
    signs: list[Sign] = []
    hits: dict[int, Hit] = {}  # by their place in what was sent
    try:
        async with client.events.stream(
            search.contact, start=search.start, end=search.end, newest_first=True
        ) as events:
            async for batch in events.batches():
                batch = batch[: MOST_EVENTS - shown]
                hits |= {shown + at: event for at, event in enumerate(batch) if isinstance(event, Hit)}
                signs += filter(None, map(sign, batch))
                shown += len(batch)
                await _send(response, "events", [describe(event) for event in batch])
                if shown == MOST_EVENTS:
                    break
    except NP6Error as error:
        problem, field = words(error, search)
        await _send(response, "problem", {"words": problem, "field": field})
        return
    people = await _people(client, search, hits.values())
    robots = [] if people is None else [place for place, hit in hits.items() if hit.id and hit.id not in people]
    await _send(response, "robots", {"known": people is not None, "places": robots})
    now = int(clock() * 1000)
    answers = judge(signs, now=now, people=people, read=_read(search, now, most=shown == MOST_EVENTS))
    await _send(response, "reach", [attrs.asdict(answer) for answer in answers])
    await _send(response, "end", {"events": shown, "most": shown == MOST_EVENTS})


async def _people(client: NP6Client, search: Search, hits: Collection[Hit]) -> Collection[str] | None:
    """The ids of the hits that are not by robots; None where NP6 does not say.

    All events of a contact have those by robots, and `hits` leaves them out. It is asked last: what is in the first and
    not in the second is then no hit that was published in between.
    """
    if not hits:
        return frozenset()
    first, last = min(hit.timestamp for hit in hits), max(hit.timestamp for hit in hits)
    try:
        async with client.events.stream(
            search.contact, "hits", start=first, end=last + 1, newest_first=True
        ) as by_people:
            return {hit.id async for hit in by_people if hit.id}
    except NP6Error:
        return None


def _read(search: Search, now: int, *, most: bool) -> Read:
    if search.end and search.end.timestamp() * 1000 <= now:
        return "earlier"
    return "latest" if search.start or most else "all"


async def _send_notices(view: View, response: web.StreamResponse) -> None:
    """Send what the client is waiting for."""
    while True:
        await _send(response, "notice", await _news(response, view.notice))


async def _counts(request: web.Request) -> web.StreamResponse:
    """Server-sent events: `counts` (see `account`) and `notice` (a wait, or null), until a `problem`."""
    response = await _event_stream(request)
    with suppress(ConnectionResetError):  # the browser left
        async with request.app[LAST_HOUR].watch() as watch:
            news: dict[str, Any] = {}
            while "problem" not in news:
                news = await _news(response, watch.news)
                for name, data in news.items():
                    await _send(response, name, data)
    return response


async def _event_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    return response


async def _news(response: web.StreamResponse, wait: Callable[[], Awaitable[T]]) -> T:
    """What `wait` returns. A heartbeat is sent while there is no news."""
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT):
                return await wait()
        except TimeoutError:
            await response.write(b": still here\n\n")


async def _send(response: web.StreamResponse, name: str, data: Any) -> None:
    # JSON in ASCII: no line break in the data can end the message, and lone surrogates can be sent.
    await response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode("ascii"))
