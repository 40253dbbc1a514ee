"""The worker: ``taskiq worker examples.worker.tasks:broker``."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from taskiq import SimpleRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq.exceptions import SendTaskError
from taskiq_redis import RedisStreamBroker

from examples.worker.parts import fetch_part
from np6_async import NP6Client
from np6_async.integrations.redis import SharedLimit

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
PARTS = Path(os.environ.get("PARTS", "parts"))
# The longest that a batch may take. If it was taken longer ago and is not acknowledged, its worker has died.
SECONDS = float(os.environ.get("BATCH_SECONDS", "600"))

broker = RedisStreamBroker(
    REDIS_URL,
    consumer_id="0",  # includes batches that were sent before the first worker ran
    xread_count=1,  # take only what starts at once, and leave the rest to other workers
    idle_timeout=int(SECONDS * 1000) + 1000,
).with_middlewares(SimpleRetryMiddleware(default_retry_count=5))


@broker.task(retry_on_error=True)
async def fetch(contacts: list[str], start: str, end: str) -> None:
    """Fetch one batch. It is acknowledged when this returns, when the file has its name."""
    async with asyncio.timeout(SECONDS):
        await fetch_part(broker.state.np6, PARTS, contacts, start, end)


@broker.task
async def tick() -> None:
    """Do nothing: see `look_for_lost_batches`."""


async def look_for_lost_batches() -> None:
    """Send a message now and then: only after a new one does taskiq-redis look for the batches of a killed worker."""
    while True:
        with suppress(SendTaskError):  # Redis is down: the next tick will do
            await tick.kiq()
        await asyncio.sleep(SECONDS / 4)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state: TaskiqState) -> None:
    state.np6 = NP6Client(rate_limiter=SharedLimit(REDIS_URL))  # all workers together keep to one rate limit
    state.looking = asyncio.create_task(look_for_lost_batches())


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    state.looking.cancel()
    await asyncio.wait([state.looking])
    await state.np6.close()
