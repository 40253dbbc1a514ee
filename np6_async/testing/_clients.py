"""A client that a test need not close, whatever runs the test."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .._client import runtime_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from .. import NP6Client


@contextmanager
def closing(np6: NP6Client) -> Iterator[NP6Client]:
    """`np6`, closed on the event loop that it was used on: when the context ends, or with the loop where that is first.

    Plugins differ in when they close a test's loop, and `asyncio.run` in a plain test closes one of its own. All of
    them, before they do, finalise the asynchronous generators that were begun on it: one of these closes the client.
    """
    endings: list[tuple[asyncio.AbstractEventLoop, AsyncGenerator[None]]] = []

    def begin() -> None:
        ending = _close_at_the_end(np6)
        endings.append((asyncio.get_running_loop(), ending))
        with suppress(StopIteration):  # it has come to its `yield`, and waits for nothing before
            ending.__anext__().send(None)

    lifetime = runtime_of(np6).lifetime
    lifetime.on_first_use(begin)
    try:
        yield np6
    finally:
        if not endings:
            lifetime.close()
        for loop, ending in endings:
            if loop.is_running():  # in a thread of its own
                asyncio.run_coroutine_threadsafe(_finalise(ending), loop).result()
            elif not loop.is_closed():
                loop.run_until_complete(_finalise(ending))


async def _close_at_the_end(np6: NP6Client) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await np6.close()


async def _finalise(ending: AsyncGenerator[None]) -> None:
    await ending.aclose()
