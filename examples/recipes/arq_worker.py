"""arq: ``arq examples.recipes.arq_worker.WorkerSettings``."""

import os
from pathlib import Path
from typing import Any

from arq import Retry
from arq.connections import RedisSettings

from examples.worker.parts import fetch_part
from np6_async import NP6Client, NP6Error

PARTS = Path(os.environ.get("PARTS", "parts"))


async def startup(ctx: dict[str, Any]) -> None:
    ctx["np6"] = NP6Client()


async def shutdown(ctx: dict[str, Any]) -> None:
    await ctx["np6"].close()


async def fetch(ctx: dict[str, Any], contacts: list[str], start: str, end: str) -> str:
    try:
        return await fetch_part(ctx["np6"], PARTS, contacts, start, end)
    except NP6Error as error:
        raise Retry(defer=60 * ctx["job_try"]) from error


class WorkerSettings:
    functions = (fetch,)
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
    job_timeout = 600  # seconds; a job that takes longer is cancelled
    max_tries = 5  # a job whose worker was stopped or killed runs again
    max_jobs = 4  # at the same time; within each, the concurrency is the client's
