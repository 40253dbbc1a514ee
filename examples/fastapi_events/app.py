"""A FastAPI application with one NP6Client for its life: the events of a contact, a line of JSON each, as they come."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from np6_async import (
    BadRequest,
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
    unstructure,
)


class State(TypedDict):
    np6: NP6Client


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    # Nobody waits minutes for a page: after ten seconds of rate limit, say 503 and how long it is.
    async with NP6Client(retry=RetryPolicy(max_wait=10)) as np6:
        yield {"np6": np6}


def client(request: Request) -> NP6Client:
    np6: NP6Client = request.state.np6
    return np6


app = FastAPI(title="Contact events", lifespan=lifespan)


class EventLines(StreamingResponse):
    """Sends its status with the first line, so that what goes wrong before it gets a status of its own."""

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
    begun = False
    try:
        async for batch in events.batches():
            yield "".join(json.dumps(unstructure(event)) + "\n" for event in batch)
            begun = True
    except NP6Error as error:
        if not begun:
            raise
        yield json.dumps({"error": told(error)[1]}) + "\n"  # the status is sent already: say it in the last line
    finally:
        await events.aclose()  # also where the reader has left


@app.get("/contacts/{contact}/events", response_class=EventLines)
async def contact_events(
    np6: Annotated[NP6Client, Depends(client)],
    contact: str,
    kind: EventKind = EventKind.ALL,
    start: str | None = None,
    end: str | None = None,
) -> EventLines:
    return EventLines(lines(np6.events.stream(Contact.by_id(contact), kind, start=start, end=end)))


def told(error: NP6Error) -> tuple[int, str]:
    """The status for an error, and what the reader may know of it."""
    match error:
        case InvalidInput():
            return 400, str(error)
        case NotFound():
            return 404, "There is no such contact."
        case BadRequest():
            return 400, "NP6 cannot answer this question."
        case RateLimited():
            return 503, "NP6 has had enough requests for now; please come back later."
        case _:
            return 502, "NP6 does not answer as it should; please try again."


@app.exception_handler(NP6Error)
async def failed(_: Request, error: NP6Error) -> JSONResponse:
    status, detail = told(error)
    wait = error.retry_after if isinstance(error, RateLimited) else None
    headers = {} if wait is None else {"Retry-After": f"{wait:.0f}"}
    return JSONResponse({"detail": detail}, status, headers)
