"""The page on shared limits: web application and workers, processes of their own, on one Redis."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest
from support.needs import needs

from np6_async.testing import FakeNP6, RateLimit

needs("taskiq", "taskiq_redis", "fastapi", "uvicorn", command="redis-server")

import redis
from support.services import free_port, process, redis_server
from support.waiting import until

pytestmark = pytest.mark.services

PAGE = Path(__file__).parents[2] / "docs/how-to/shared-limit.md"


def serves(url: str) -> bool:
    try:
        return httpx.get(f"{url}/openapi.json").status_code == 200
    except httpx.TransportError:
        return False


def test_a_web_application_and_workers_share_one_limit(tmp_path: Path) -> None:
    """Two processes of uvicorn and one of taskiq, 100 requests a second in all: everything is answered, hardly anything
    refused."""
    with FakeNP6(contacts=300, events_per_contact=2) as np6, redis_server(tmp_path) as url:
        np6.rate_limit = RateLimit(limit=100)
        ids, port = list(np6.contact_ids), free_port()
        environment = {
            "NP6_API_KEY": np6.api_key,
            "NP6_BASE_URL": np6.url,
            "PARTS": str(tmp_path / "parts"),
            "REDIS_URL": url,
        }
        app = "examples.shared_limit.app:app"
        uvicorn = (sys.executable, "-m", "uvicorn", app, "--workers=2", f"--port={port}", "--log-level=warning")
        taskiq = (sys.executable, "-m", "taskiq", "worker", "examples.worker.tasks:broker", "--workers=1")
        with process(*uvicorn, **environment), process(*taskiq, **environment):
            until(lambda: serves(f"http://127.0.0.1:{port}"))
            send = [sys.executable, "-m", "examples.worker.send", "2025-01-01", "2026-01-01", "--size", "50"]
            lines = "\n".join(ids[:150]).encode()
            subprocess.run(send, env={**os.environ, **environment}, input=lines, check=True, capture_output=True)

            async def browse() -> Counter[int]:
                limits = httpx.Limits(max_connections=20)
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=30) as web:
                    got = await asyncio.gather(*(web.get(f"/contacts/{one}/events") for one in ids[150:]))
                return Counter(response.status_code for response in got)

            assert asyncio.run(browse()) == {200: 150}
            until(lambda: len(list((tmp_path / "parts").glob("*.ndjson"))) == 3)
        with redis.Redis.from_url(url) as connection:
            assert len(connection.keys("np6:limit:*")) == 1
        statuses = Counter(seen.status for seen in np6.requests)
        assert statuses[200] == 300
        assert statuses[429] <= 3 * 16 + 20


def test_the_page_names_what_there_is() -> None:
    """Each file that it shows or names."""
    for name in re.findall(r"examples/[\w/.]+\.(?:py|md)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parents[2] / name).exists()
