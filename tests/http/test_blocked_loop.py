"""A program that blocks its event loop for longer than the timeouts is not told that the server was slow."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from np6_async import NP6Client, RetryPolicy, Timeout
from np6_async.testing import FakeNP6

pytestmark = pytest.mark.both_ways

ONCE = RetryPolicy(max_attempts=1, budget=0)
SHORT = Timeout(connect=0.1, read=0.1)
LONGER = 0.15
CONTACTS = ["A", "B", "C", "D"]
BODY = json.dumps([{"timestamp": n, "id": f"{n:x}", "type": "hit", "note": "x" * 150} for n in range(5_000)]).encode()


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    """In a thread of its own, which is not blocked."""
    with FakeNP6(contacts=0) as running:
        for contact in CONTACTS:
            running.set_raw(contact, BODY)
        yield running


def client(server: FakeNP6) -> NP6Client:
    return server.client(retry=ONCE, timeout=SHORT)


async def test_by_the_consumer_of_a_bulk_run(server: FakeNP6) -> None:
    """While bodies of a megabyte, which take many reads, are on their way to it."""
    async with client(server) as np6, np6.events.stream_many(CONTACTS, concurrency=4) as events:
        count = 0
        async for batch in events.batches():
            count += len(batch[1])
            if count % 3 == 0 and count < 5_000:
                time.sleep(LONGER)  # noqa: ASYNC251 - that is the point
    assert (count, events.stats.requests, server.request_count) == (20_000, 4, 4)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_at_any_moment_of_a_request(server: FakeNP6, turns: int) -> None:
    """Connecting, sending, waiting, reading: of which each takes a few turns of the event loop."""
    async with client(server) as np6:
        reading = asyncio.create_task(np6.events.list("A"))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(LONGER)  # noqa: ASYNC251
        assert len(await reading) == 5_000
    assert server.request_count == 1


async def test_again_and_again(server: FakeNP6) -> None:
    async def block() -> None:
        while True:
            await asyncio.sleep(0.02)
            time.sleep(LONGER)  # noqa: ASYNC251

    async with client(server) as np6:
        blocking = asyncio.create_task(block())
        try:
            assert len(await np6.events.list("A")) == 5_000
        finally:
            blocking.cancel()
    assert server.request_count == 1
