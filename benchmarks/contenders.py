"""The contenders: the same work done with np6_async, by hand, and with a generated SDK.

Each is the best that its user would reasonably write: one session, bounded concurrency, whole bodies read
as bytes, the fastest decoder of its kind.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias

from .consumers import READERS, Reader

KEY: Final = "benchmark"


Tls: TypeAlias = ssl.SSLContext | None


class Fetch(Protocol):
    """Fetches the events of contacts and reads each; returns how many events there were."""

    async def __call__(self, ids: Iterable[str]) -> int: ...


@asynccontextmanager
async def _np6(base_url: str, concurrency: int, tls: Tls, read: Reader, hooks: int = 0) -> AsyncIterator[Fetch]:
    from np6_async import NP6Client

    async with NP6Client(
        KEY, base_url=base_url, concurrency=concurrency, ssl_context=tls, hooks=[lambda _: None] * hooks
    ) as np6:

        async def fetch(ids: Iterable[str]) -> int:
            count = 0
            async with np6.events.stream_many(ids) as events:
                async for _contact, event in events:
                    read(event)
                    count += 1
            return count

        yield fetch


@asynccontextmanager
async def _np6_batches(base_url: str, concurrency: int, tls: Tls, read: Reader) -> AsyncIterator[Fetch]:
    from np6_async import NP6Client

    async with NP6Client(KEY, base_url=base_url, concurrency=concurrency, ssl_context=tls) as np6:

        async def fetch(ids: Iterable[str]) -> int:
            count = 0
            async with np6.events.stream_many(ids) as events:
                async for _contact, batch in events.batches():
                    for event in batch:
                        read(event)
                    count += len(batch)
            return count

        yield fetch


@asynccontextmanager
async def _aiohttp(
    base_url: str, concurrency: int, tls: Tls, read: Reader, decode: Callable[[bytes], Sequence[Any]]
) -> AsyncIterator[Fetch]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=concurrency, ssl=tls or True)
    async with aiohttp.ClientSession(connector=connector, headers={"X-Key": KEY}) as session:

        async def fetch(ids: Iterable[str]) -> int:
            gate = asyncio.Semaphore(concurrency)

            async def one(contact: str) -> int:
                async with gate:
                    async with session.get(f"{base_url}/targets/{contact}/events?sort=asc") as response:
                        response.raise_for_status()
                        events = decode(await response.read())
                    for event in events:
                        read(event)
                    return len(events)

            return sum(await asyncio.gather(*(one(contact) for contact in ids)))

        yield fetch


@asynccontextmanager
async def _httpx(
    base_url: str, concurrency: int, tls: Tls, read: Reader, decode: Callable[[bytes], Sequence[Any]]
) -> AsyncIterator[Fetch]:
    import httpx

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(
        base_url=base_url, headers={"X-Key": KEY}, limits=limits, timeout=60, trust_env=False, verify=tls or True
    ) as client:

        async def fetch(ids: Iterable[str]) -> int:
            gate = asyncio.Semaphore(concurrency)

            async def one(contact: str) -> int:
                async with gate:
                    response = await client.get(f"/targets/{contact}/events?sort=asc")
                    response.raise_for_status()
                    events = decode(response.content)
                    for event in events:
                        read(event)
                    return len(events)

            return sum(await asyncio.gather(*(one(contact) for contact in ids)))

        yield fetch


def open_contender(
    name: str, base_url: str, concurrency: int, consumer: str, *, authority: str | None = None, hooks: int = 0
) -> AbstractAsyncContextManager[Fetch]:
    """The contender `name`, ready to fetch. Imports only what this contender needs.

    `authority` is the certificate, as PEM, by which the server is verified over TLS.
    """
    tls = ssl.create_default_context(cadata=authority) if authority else None
    if name == "np6_async":
        return _np6(base_url, concurrency, tls, READERS["sdk"][consumer], hooks)
    if name == "np6_async batches":
        return _np6_batches(base_url, concurrency, tls, READERS["sdk"][consumer])
    if name == "httpx+pydantic":
        from .models_pydantic import decode as decode_pydantic

        return _httpx(base_url, concurrency, tls, READERS["model"][consumer], decode_pydantic)
    if name == "aiohttp+cattrs":
        from .models_cattrs import decode as decode_cattrs

        return _aiohttp(base_url, concurrency, tls, READERS["model"][consumer], decode_cattrs)
    if name == "transport limit":
        return _aiohttp(base_url, concurrency, tls, READERS["dict"][consumer], lambda _: ())
    if name == "by hand":
        import orjson

        return _aiohttp(base_url, concurrency, tls, READERS["dict"][consumer], orjson.loads)
    raise ValueError(f"no contender {name!r}")


NAMES: Final = ("np6_async", "np6_async batches", "by hand", "transport limit", "aiohttp+cattrs", "httpx+pydantic")
