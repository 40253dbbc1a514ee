"""The law of a shared pace, in virtual time: several processes over one value, without Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_keeper import EPOCH, MemoryKeeper, sharing
from support.virtual_time import now, run, settle

from np6_async import ServiceUnavailable
from np6_async._protocol.rate_headers import parse_rate, parse_retry_after
from np6_async.integrations._shared_pace import Limited, OutageBegan, OutageEnded, Paused, Served, SharedPace
from np6_async.integrations._sharing_limiter import Away, PaceSharingLimiter
from np6_async.testing import RateLimit
from np6_async.testing._rate_limit import RateWindow


@define
class Load:
    """What a run of several processes against one limited server came to."""

    served: list[float] = field(factory=list)
    refused: list[float] = field(factory=list)
    steps: int = 0
    by_process: list[int] = field(factory=list)

    @property
    def seconds(self) -> float:
        return self.served[-1] - self.served[0]


@define
class Fleet:
    """`processes` with `slots` each send `requests` in all to a server with a limit."""

    rule: RateLimit
    processes: int = 4
    slots: int = 16
    requests: int = 3000
    latency: tuple[float, float] = (0.005, 0.015)
    keeper: MemoryKeeper = field(factory=MemoryKeeper)
    killed: dict[int, float] = field(factory=dict)  # process: after how many seconds

    def run(self, seed: int = 1) -> Load:
        return run(lambda: self._run(random.Random(seed)))

    async def _run(self, rng: random.Random) -> Load:
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds + rng.random() * 0.001)  # timers are late

        def wall() -> float:
            return EPOCH + now()

        window, load = RateWindow(self.rule), Load(by_process=[0] * self.processes)
        work = iter(range(self.requests))

        async def one(limiter: PaceSharingLimiter, number: int) -> bool:
            sent_at = await limiter.acquire()
            await asyncio.sleep(rng.uniform(*self.latency) / 2)
            allowed, headers = window.admit(wall())
            (load.served if allowed else load.refused).append(now())
            load.by_process[number] += allowed
            await asyncio.sleep(rng.uniform(*self.latency) / 2)
            rate = parse_rate(headers, wall)
            if allowed:
                limiter.responded(sent_at, rate)
            else:
                wait = parse_retry_after(headers, wall)
                limiter.limited(sent_at, rate.reset if wait is None and rate else wait, rate)
            return allowed

        async def process(number: int) -> None:
            limiter = sharing(self.keeper, self.slots, sleep=sleep)

            async def worker(work: Iterator[int]) -> None:
                for _ in work:
                    while not await one(limiter, number):
                        pass

            workers = [asyncio.ensure_future(worker(work)) for _ in range(self.slots)]
            await asyncio.wait(workers, timeout=self.killed.get(number))
            if number in self.killed:  # without a word to anybody
                for task in workers:
                    task.cancel()
                await asyncio.wait(workers)
                limiter._reports.clear()
            else:
                await asyncio.gather(*workers)
            load.steps += limiter.steps
            await limiter.close()

        await asyncio.gather(*(process(number) for number in range(self.processes)))
        return load

if __name__ == "__main__":
    import sys
    for rule in (RateLimit(limit=500, headers=False), RateLimit(limit=500), RateLimit(limit=500,reset="epoch_ms"), RateLimit(limit=50),RateLimit(limit=3000,window=60)):
        f=Fleet(rule, requests=30000, latency=(0.004,0.012))
        l=f.run()
        b=[0]*(int(l.seconds)+1)
        for x in l.served: b[int(x-l.served[0])]+=1
        print(rule, round(len(l.served)/l.seconds/500,3), len(l.refused), round(l.steps/l.seconds,1), l.by_process, b)
