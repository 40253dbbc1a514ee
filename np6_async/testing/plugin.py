"""The pytest plugin of np6_async: the fixtures `np6_server` and `np6_client`, wherever the package is installed.

Every run of pytest imports it, so the fake server and the factories are imported when a test needs them.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from .._client import runtime_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from np6_async import NP6Client

    from . import FakeNP6


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "np6_server(**options): options of FakeNP6 for the np6_server fixture.")
    config.addinivalue_line("markers", "np6_client(**options): options of NP6Client for the np6_client fixture.")


@pytest.fixture
def np6_server(request: pytest.FixtureRequest) -> Iterator[FakeNP6]:
    """A running `np6_async.testing.FakeNP6`, a new one for each test.

    It runs in its own thread, so tests may be plain functions or coroutines, under any plugin and event loop. Its
    options come from a marker: `@pytest.mark.np6_server(contacts=3, gzip=True)`.
    """
    from . import FakeNP6

    arguments, options = _marked(request, "np6_server")
    with FakeNP6(*arguments, **options) as server:
        yield server


@pytest.fixture
def np6_client(request: pytest.FixtureRequest, np6_server: FakeNP6) -> Iterator[NP6Client]:
    """An `np6_async.NP6Client` of the test's `np6_server`, closed after the test.

    Like any client it belongs to the event loop on which it is first used: the loop of the test, or the one that a
    plain test runs itself. It retries without waiting. Its options come from a marker:
    `@pytest.mark.np6_client(concurrency=2)`.
    """
    from np6_async import RetryPolicy

    arguments, options = _marked(request, "np6_client")
    if arguments:
        raise pytest.UsageError("the marker np6_client takes options of NP6Client by name")
    with _closing(np6_server.client(**{"retry": RetryPolicy(base_delay=0), **options})) as client:
        yield client


def _marked(request: pytest.FixtureRequest, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the nearest marker of this name."""
    marker = request.node.get_closest_marker(name)
    return (marker.args, marker.kwargs) if marker else ((), {})


@contextmanager
def _closing(np6: NP6Client) -> Iterator[NP6Client]:
    """Close `np6` on the event loop on which it was used: when the context ends, or with the loop if that ends first.

    Plugins close the loop of a test at different times, and `asyncio.run` in a plain test closes its own. Before they
    do, all of them finalise the async generators that were started on the loop: one of these closes the client.
    """
    closers: list[tuple[asyncio.AbstractEventLoop, AsyncGenerator[None]]] = []

    def start() -> None:
        closer = _close_when_finalised(np6)
        closers.append((asyncio.get_running_loop(), closer))
        with suppress(StopIteration):  # it has reached its `yield`, before which it waits for nothing
            closer.__anext__().send(None)

    lifetime = runtime_of(np6).lifetime
    lifetime.on_first_use(start)
    try:
        yield np6
    finally:
        if not closers:  # never used: nothing is open
            lifetime.close()
        for loop, closer in closers:
            _finalise(closer, loop)


async def _close_when_finalised(np6: NP6Client) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await np6.close()


def _finalise(closer: AsyncGenerator[None], loop: asyncio.AbstractEventLoop) -> None:
    from ._server import LoopEnded, result_of

    async def finalise() -> None:
        await closer.aclose()

    if loop.is_running():  # in another thread
        with suppress(LoopEnded):
            return result_of(finalise(), loop, loop.is_running)
    if not loop.is_closed():
        loop.run_until_complete(finalise())
    return None
