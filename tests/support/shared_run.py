"""Several processes with one API key share one rate limit: what came of it. Goal L1.

``PYTHONPATH=tests python -m support.shared_run --contacts 30000`` starts a Redis, a fake server with a limit, and the
processes, and prints what the server and Redis counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
from attrs import asdict, define, field

from np6_async import NP6Client
from np6_async.integrations.redis import SharedLimit
from np6_async.testing import FakeNP6, RateLimit
from np6_async.testing._rate_limit import RateWindow
from support.services import redis_server


class CountingWindow(RateWindow):
    """A window that remembers when a request came, and whether it was served."""

    def __init__(self, rule: RateLimit) -> None:
        super().__init__(rule)
        self.served: list[float] = []
        self.refused: list[float] = []

    def admit(self, now: float) -> tuple[bool, dict[str, str]]:
        allowed, headers = super().admit(now)
        (self.served if allowed else self.refused).append(now)
        return allowed, headers


@define
class Report:
    """What the server and Redis counted, and what the processes say."""

    contacts: int
    served: int
    refused: int
    share: float  # of the rate, by the server's clock
    by_second: list[int]
    refused_by_second: list[int]
    redis_calls: int
    redis_calls_a_second: float
    value_bytes: int
    done: int = 0
    events: int = 0
    processes: list[dict[str, Any]] = field(factory=list)


async def work(
    base_url: str, key: str, url: str, ids: list[str], concurrency: int, share: float | None
) -> dict[str, Any]:
    limit = SharedLimit(url, share=share)
    async with NP6Client(key, base_url=base_url, rate_limiter=limit, concurrency=concurrency) as np6:
        events = 0
        async with np6.events.stream_many(ids, on_error="collect") as stream:
            async for _, batch in stream.batches():
                events += len(batch)
        stats = stream.stats
        return {"done": stats.done, "failed": stats.failed, "events": events, "requests": stats.requests}


def measure(
    contacts: int, rule: RateLimit, *, processes: int = 4, concurrency: int = 16, share: float | None = None
) -> Report:
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server(Path(folder)) as url,
        FakeNP6(contacts, 2, rate_limit=rule) as server,
    ):
        server._app.rate = window = CountingWindow(rule)
        ids = list(server.contact_ids)
        command = [sys.executable, "-W", "error", "-m", "support.shared_run", "--worker"]
        running = []
        for number in range(processes):
            task = [server.url, server.api_key, url, ids[number::processes], concurrency, share]
            path = os.pathsep.join(filter(None, sys.path))
            environment = {**os.environ, "PYTHONPATH": path}
            one = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert one.stdin is not None
            one.stdin.write(json.dumps(task).encode())
            one.stdin.close()
            running.append(one)
        reports = []
        for one in running:
            with one:
                assert one.stdout is not None
                reports.append(json.loads(one.stdout.read()))
            assert one.returncode == 0
        with redis.Redis.from_url(url) as connection:
            stats = connection.info("commandstats")
            calls = stats["cmdstat_evalsha"]["calls"]
            (name,) = connection.scan_iter("np6:limit:*")
            size = len(connection.get(name) or b"")
    return report(contacts, rule, window, calls, size, reports)


def report(
    contacts: int, rule: RateLimit, window: CountingWindow, calls: int, size: int, processes: list[dict[str, Any]]
) -> Report:
    first, last = window.served[0], window.served[-1]
    seconds = max(last - first, 1e-9)
    served, refused = [0] * (int(seconds) + 1), [0] * (int(seconds) + 1)
    for at in window.served:
        served[int(at - first)] += 1
    for at in window.refused:
        refused[min(int(at - first), len(refused) - 1)] += 1
    rate = rule.limit / rule.window
    return Report(
        contacts,
        len(window.served),
        len(window.refused),
        round(len(window.served) / seconds / rate, 3),
        served,
        refused,
        calls,
        round(calls / seconds, 1),
        size,
        sum(one["done"] for one in processes),
        sum(one["events"] for one in processes),
        processes,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=5_000)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--window", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--headers", action="store_true", help="the server reports its limit")
    parser.add_argument("--no-retry-after", action="store_true", help="and does not say when to come back")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(asyncio.run(work(*json.load(sys.stdin)))))
        return
    rule = RateLimit(
        limit=options.limit, window=options.window, headers=options.headers, retry_after=not options.no_retry_after
    )
    began = time.monotonic()
    found = measure(options.contacts, rule, processes=options.processes, concurrency=options.concurrency)
    print(json.dumps(asdict(found)))
    print(f"{time.monotonic() - began:.1f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()
