"""A FastAPI application with one NP6Client: the events of a contact, one line of JSON each, as they arrive."""

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
    # Nobody waits minutes for a page: if the rate limit takes more than ten seconds, send a 503 that says how long.
    async with NP6Client(retry=RetryPolicy(max_wait=10)) as np6:
        yield {"np6": np6}


def client(request: Request) -> NP6Client:
    np6: NP6Client = request.state.np6
    return np6


app = FastAPI(title="Contact events", lifespan=lifespan)


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
        case _:
            return 502, "NP6 does not respond as it should; please try again."


@app.exception_handler(NP6Error)
async def failed(_: Request, error: NP6Error) -> JSONResponse:
    status, detail = describe(error)
    wait = error.retry_after if isinstance(error, RateLimited) else None
    headers = {} if wait is None else {"Retry-After": f"{wait:.0f}"}
    return JSONResponse({"detail": detail}, status, headers)
