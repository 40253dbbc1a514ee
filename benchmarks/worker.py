"""A client process: reads jobs as lines of JSON from its standard input, and prints the result of each as one."""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, Final, TypeAlias
from urllib.request import urlopen

from .bodies import answer
from .consumers import READERS
from .contenders import KEY, open_contender
from .meter import Heartbeat, Memory, TaskCount, ids

_PIECE = 64 * 1024  # what aiohttp delivers at a time


async def fetch(
    *,
    contender: str,
    base_url: str,
    shape: str,
    contacts: int,
    concurrency: int,
    authority: str | None = None,
    consumer: str = "envelope",
    collector: bool = True,
    heartbeat: bool = False,
    count_tasks: bool = False,
    hooks: int = 0,
    warm_up: int | None = None,
) -> dict[str, Any]:
    """Fetch the events of `contacts` contacts over connections that are already open."""
    async with open_contender(contender, base_url, concurrency, consumer, authority=authority, hooks=hooks) as run:
        # Of the same shape, unless that is slow: only requests that overlap open every connection.
        await run(ids("M" if shape == "L" else shape, concurrency * 4 if warm_up is None else warm_up))
        memory = Memory()
        memory.start()
        if not collector:
            gc.disable()
        beating = Heartbeat() if heartbeat else None
        tasks = TaskCount() if count_tasks else None
        async with beating or nullcontext():
            began, worked = time.perf_counter(), time.process_time()
            events = await run(ids(shape, contacts))
            seconds, cpu = time.perf_counter() - began, time.process_time() - worked
        gc.enable()
        if tasks:
            tasks.stop()
        growth = memory.growth()
    return {
        "seconds": seconds,
        "cpu": cpu,
        "contacts": contacts,
        "events": events,
        "growth": growth,
        "tasks": tasks.most if tasks else 0,
        "stall": beating.worst if beating else 0.0,
    }


async def check(*, contender: str, base_url: str, consumer: str) -> dict[str, Any]:
    """A digest of everything that the contender reads in a response, which must be the same for all."""
    seen: list[str] = []
    for readers in READERS.values():
        read = readers[consumer]
        readers[consumer] = lambda event, read=read: seen.append(repr(read(event))) or ()
    async with open_contender(contender, base_url, 1, consumer) as run:
        await run(["M0"])
    return {"digest": hashlib.sha256("".join(sorted(seen)).encode()).hexdigest(), "events": len(seen)}


async def decode(
    *, how: str, events: int, seconds: float, consumer: str | None = None, collector: bool = True
) -> dict[str, Any]:
    """Processor microseconds per event from bytes in memory to events, and to what `consumer` reads of them."""
    bodies = [answer(events, seed) for seed in range(max(1, 2_000 // events))]
    batches_of = _BATCHES[how]()
    count: Callable[[list[Any]], int] = len
    if consumer:
        read = READERS[_OBJECTS[how]][consumer]

        def count(batch: list[Any]) -> int:
            for event in batch:
                read(event)
            return len(batch)

    rounds = 0
    if not collector:
        gc.disable()
    began = time.process_time()
    while True:
        for body in bodies:
            if sum(map(count, batches_of(body))) != events:
                raise AssertionError("events were lost")
        rounds += 1
        if (spent := time.process_time() - began) >= seconds:
            break
    gc.enable()
    return {"us": spent * 1e6 / (rounds * len(bodies) * events)}


Batches: TypeAlias = Callable[[bytes], Iterable[list[Any]]]  # from a body to batches of its events


def _sdk_batches() -> Batches:
    """As the client does it: in one go if possible, otherwise piece by piece."""
    from np6_async._config import DecodeLimits
    from np6_async._models.events import EventKind
    from np6_async._protocol.event_decoder import Demand, EventDecoder, decode_whole

    limits, demand = DecodeLimits(), Demand()

    def batches(body: bytes) -> Iterable[list[Any]]:
        events = decode_whole(body, EventKind.ALL, limits, demand)
        return in_pieces(body) if events is None else (events,)

    def in_pieces(body: bytes) -> Iterator[list[Any]]:
        decoder: EventDecoder[Any] = EventDecoder(EventKind.ALL, limits, demand)
        for first in range(0, len(body), _PIECE):
            decoder.feed(body[first : first + _PIECE])
            while (batch := decoder.next_batch()) is not None:
                yield batch
        decoder.finish()

    return batches


def _orjson_batches() -> Batches:
    import orjson

    return lambda body: (orjson.loads(body),)


_BATCHES: Final = {"np6_async": _sdk_batches, "by hand": _orjson_batches}
_OBJECTS: Final = {"np6_async": "sdk", "by hand": "dict"}


async def retained(*, how: str, events: int) -> dict[str, Any]:
    """Bytes of memory for each event that is kept."""
    kept: list[Any] = []
    bodies = [answer(100, seed) for seed in range(events // 100)]
    batches_of = _BATCHES[how]()
    memory = Memory()
    memory.start()
    for body in bodies:
        for batch in batches_of(body):
            kept += batch
    gc.collect()
    return {"bytes": memory.grown() / len(kept)}


async def slow(*, contender: str, base_url: str, contacts: int, pause: float) -> dict[str, Any]:
    """L at concurrency 10 into a consumer that pauses every 256 events: how much memory accumulates."""
    memory = Memory()
    count = 0
    if contender == "np6_async":
        from np6_async import NP6Client

        async with NP6Client(KEY, base_url=base_url, concurrency=10) as np6:
            await np6.events.list("S0")
            memory.start()
            async with np6.events.stream_many(ids("L", contacts)) as events:
                async for _ in events:
                    count += 1
                    if count % 256 == 0:
                        await asyncio.sleep(pause)
    else:
        import aiohttp
        import orjson

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=10)) as session:
            gate = asyncio.Semaphore(10)

            async def one(contact: str) -> list[dict[str, Any]]:
                async with gate, session.get(f"{base_url}/targets/{contact}/events?sort=asc") as response:
                    return orjson.loads(await response.read())

            await one("S0")
            memory.start()
            for done in asyncio.as_completed([one(contact) for contact in ids("L", contacts)]):
                for _ in await done:
                    count += 1
                    if count % 256 == 0:
                        await asyncio.sleep(pause)
    return {"growth": memory.growth(), "events": count}


async def first_event(*, contender: str, base_url: str) -> dict[str, Any]:
    """Seconds from when the chunk that completes the first event is sent until that event."""
    if contender == "np6_async":
        from np6_async import NP6Client

        async with NP6Client(KEY, base_url=base_url) as np6:
            await np6.events.list("S0")
            async with np6.events.stream("T0") as events:
                await anext(aiter(events))
                seen = time.monotonic()
    else:
        import aiohttp
        import orjson

        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base_url}/targets/S0/events") as response:
                await response.read()
            async with session.get(f"{base_url}/targets/T0/events") as response:
                orjson.loads(await response.read())[0]
                seen = time.monotonic()
    with urlopen(f"{base_url}/stamps") as response:  # noqa: ASYNC210 - nothing is measured any more
        sent, _ = json.load(response)
    return {"late": seen - sent}


JOBS = {job.__name__: job for job in (fetch, check, decode, retained, slow, first_event)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="the processor to stay on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(asyncio.run(JOBS[job.pop("job")](**job))), flush=True)


if __name__ == "__main__":
    main()
