"""FastAPI in several processes: ``uvicorn examples.shared_limit.app:app --workers 4``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from examples.shared_limit.client import make_client
from np6_async import unstructure


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with make_client() as app.state.np6:  # in each process, on its own event loop
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/contacts/{contact}/events")
async def events(contact: str, request: Request) -> list[Any]:
    found = await request.app.state.np6.events.list(contact, limit=100)
    return [unstructure(event) for event in found]
