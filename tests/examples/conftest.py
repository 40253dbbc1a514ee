"""Serves the timeline example to its tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aiohttp.test_utils import TestServer

from examples.timeline.app import Connect, create_app
from np6_async import RetryPolicy
from np6_async.testing import FakeNP6

Serve = Callable[..., AbstractAsyncContextManager[TestServer]]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def serve() -> Serve:
    """Serves the application with the client that `connect` opens, or with one of `np6` that retries at once."""

    @asynccontextmanager
    async def serve(np6: FakeNP6, connect: Connect | None = None) -> AsyncIterator[TestServer]:
        def default(hooks: object) -> AbstractAsyncContextManager[object]:
            return np6.client(hooks=hooks, retry=RetryPolicy(base_delay=0))

        async with TestServer(create_app(connect or default, {"demo": False})) as server:
            yield server

    return serve


@pytest.fixture
def until() -> Until:
    """Waits for a condition that another task makes true."""

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    return until
