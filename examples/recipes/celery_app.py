"""Celery: ``celery -A examples.recipes.celery_app worker``, with its default pool of processes."""

import asyncio
import os
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown

from examples.worker.parts import fetch_part
from np6_async import NP6Client, NP6Error

PARTS = Path(os.environ.get("PARTS", "parts"))

app = Celery("events", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
app.conf.update(
    task_acks_late=True,  # acknowledged when done,
    task_reject_on_worker_lost=True,  # and run again if the process was killed
    worker_prefetch_multiplier=1,
)


@cache
def runner() -> asyncio.Runner:
    """The event loop of this process, created by its first task and not by the parent process."""
    return asyncio.Runner()


@cache
def np6() -> NP6Client:
    """The client of this process: all tasks use it on the one loop, so that connections outlive a task."""
    return NP6Client()


@worker_process_shutdown.connect
def close(**_: Any) -> None:
    with runner() as last:
        last.run(np6().close())


async def fetch_in_time(contacts: list[str], start: str, end: str) -> str:
    async with asyncio.timeout(600):
        return await fetch_part(np6(), PARTS, contacts, start, end)


@app.task(autoretry_for=(NP6Error, TimeoutError), retry_backoff=True, max_retries=5)
def fetch(contacts: list[str], start: str, end: str) -> str:
    return runner().run(fetch_in_time(contacts, start, end))
