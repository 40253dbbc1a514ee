"""A FastAPI application with one NP6Client: the history of a contact by pages, and all its events as they arrive."""

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from np6_async import (
    BadRequest,
    ClientClosed,
    Contact,
    Event,
    EventKind,
    EventStream,
    InvalidInput,
    NotFound,
    NP6Client,
    NP6Error,
    RateLimited,
    RetryPolicy,
    ServiceUnavailable,
    TimeoutExceeded,
    unstructure,
)

T = TypeVar("T")


class State(TypedDict):
    np6: NP6Client


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    # Nobody waits minutes for a page: if the rate limit takes more than ten seconds, send a 503 that says how long.
    async with NP6Client(retry=RetryPolicy(max_wait=10, outage=10)) as np6:
        yield {"np6": np6}


def client(request: Request) -> NP6Client:
    np6: NP6Client = request.state.np6
    return np6


app = FastAPI(title="Contact events", lifespan=lifespan)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` returns or raises; when the reader disconnects it is cancelled, and with it the request to NP6."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.create_task(gone())
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "the reader has disconnected")  # which nobody sees
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait([working, leaving])


@app.get("/contacts/{contact}/history")
async def history(
    request: Request,
    np6: Annotated[NP6Client, Depends(client)],
    contact: str,
    kind: EventKind = EventKind.ALL,
    after: str | None = None,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """The latest events, and the path of the page with those before them."""
    pages = np6.events.pages(Contact.by_id(contact), kind, size=size, newest_first=True, after=after)
    async with pages:
        page = await unless_gone(request, anext(pages, None))
    items = page.items if page else []
    answer: dict[str, Any] = {"events": [unstructure(event) for _, event in items]}
    if page and page.has_more:
        following = request.url.include_query_params(after=str(page.cursor))
        answer["next"] = f"{following.path}?{following.query}"
    return answer


class EventLines(StreamingResponse):
    """Sends its status code with the first line, so that an error before it can have its own status code."""

    media_type = "application/x-ndjson"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)
                return
            while held:
                await send(held.pop())
            await send(message)

        await super().__call__(scope, receive, send_late)


async def lines(events: EventStream[Event]) -> AsyncIterator[str]:
    started = False
    try:
        async for batch in events.batches():
            yield "".join(json.dumps(unstructure(event)) + "\n" for event in batch)
            started = True
    except NP6Error as error:
        if not started:
            raise
        yield json.dumps({"error": describe(error)[1]}) + "\n"  # the status code has been sent: say it in the last line
    finally:
        await events.aclose()  # also when the reader has disconnected


@app.get("/contacts/{contact}/events", response_class=EventLines)
async def contact_events(
    np6: Annotated[NP6Client, Depends(client)],
    contact: str,
    kind: EventKind = EventKind.ALL,
    start: str | None = None,
    end: str | None = None,
) -> EventLines:
    return EventLines(lines(np6.events.stream(Contact.by_id(contact), kind, start=start, end=end)))


def describe(error: NP6Error) -> tuple[int, str]:
    """The status code for an error, and what the reader may know about it."""
    match error:
        case InvalidInput():
            return 400, str(error)
        case NotFound():
            return 404, "There is no such contact."
        case BadRequest():
            return 400, "NP6 does not accept this request."
        case RateLimited():
            return 503, "NP6 accepts no more requests for now; please try again later."
        case ServiceUnavailable() | ClientClosed():
            return 503, "Please try again later."
        case TimeoutExceeded():
            return 504, "NP6 did not respond in time; please try again."
        case _:  # also AuthError: a 401 or 403 of NP6 is about our key, and not about the reader
            return 502, "NP6 does not respond as it should; please try again."


@app.exception_handler(NP6Error)
async def failed(_: Request, error: NP6Error) -> JSONResponse:
    logging.getLogger("events").warning("%s: %s", type(error).__name__, error)
    status, detail = describe(error)
    wait = error.retry_after if isinstance(error, RateLimited | ServiceUnavailable) else None
    headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
    return JSONResponse({"detail": detail}, status, headers)
