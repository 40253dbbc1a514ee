"""A bulk run in its own process, which may open few files: run as a program, it prints what came of it as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen


@frozen
class Ended:
    """How it ended. `free` is the least number of descriptors that were left, up to 6, once the limit was known."""

    done: int
    failed: int
    events: int
    requests: int
    retries: int
    error: str
    free: int
    warnings: list[str]


async def run_with_few(descriptors: int, **options: Any) -> Ended:
    """`options`: url, key, contacts, concurrency, and where wanted `way`, `capath` and `left`: how many descriptors
    remain of those few, for `seconds`."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, json.dumps({"descriptors": descriptors, **options}), stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await child.communicate()
    finally:
        with suppress(ProcessLookupError):
            child.kill()
    assert child.returncode == 0
    return Ended(**json.loads(out))


def _open(most: int) -> list[int]:
    opened: list[int] = []
    with suppress(OSError):
        for _ in range(most):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    return opened


def _free() -> int:
    opened = _open(6)
    count = len(opened)
    _close(opened, count)
    return count


def _close(opened: list[int], count: int) -> None:
    for _ in range(count):
        os.close(opened.pop())


async def _run(
    url: str,
    key: str,
    contacts: list[str],
    concurrency: int,
    way: str = "wire",
    capath: str | None = None,
    left: int | None = None,
    seconds: float = 60,
    **options: Any,
) -> Ended:
    import aiohttp

    from np6_async import NP6Client, NP6Error, RetryPolicy, Timeout
    from np6_async._http import transport

    if way == "session":
        transport.supported = lambda: False
    warnings: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record.getMessage())

    logging.getLogger().addHandler(Handler(logging.WARNING))
    context = None if capath is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if context is not None:
        context.load_verify_locations(capath=capath)
    taken: list[int] = []
    if left is not None:
        taken = _open(10_000)
        _close(taken, left)
        asyncio.get_running_loop().call_later(seconds, _close, taken, len(taken))
    session = aiohttp.ClientSession() if way == "borrowed" else None
    done = failed = events = 0
    free, error = 6, ""
    retry = RetryPolicy(max_attempts=1, budget=0)
    async with NP6Client(
        key,
        base_url=url,
        session=session,
        retry=retry,
        ssl_context=context,
        concurrency=concurrency,
        timeout=Timeout(**options),
    ) as np6:
        bulk = np6.events.stream_many(contacts, concurrency=concurrency, on_error="collect")
        try:
            async with bulk as stream:
                async for _ in stream:
                    events += 1
                    if warnings and stream.stats.done > len(contacts) // 2:
                        free = min(free, _free())
            failed = len(bulk.failures)
            error = str(bulk.failures[0].error) if bulk.failures else ""
        except NP6Error as why:
            error = str(why)
        done, stats = bulk.stats.done, bulk.stats
    if session is not None:
        await session.close()
    _close(taken, len(taken))
    return Ended(done, failed, events, stats.requests, stats.retries, error, free, warnings)


if __name__ == "__main__":
    import resource

    from attrs import asdict

    given = json.loads(sys.argv[1])
    limit = given.pop("descriptors")
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import encodings.idna  # noqa: F401 - before there are no descriptors to read modules with

    import np6_async.cli  # noqa: F401

    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print(json.dumps(asdict(asyncio.run(_run(**given)))))
