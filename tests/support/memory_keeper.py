"""A Redis in virtual time that holds one value for the limiters of a test, and the limiters."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from attrs import Factory, define

from np6_async import RetryPolicy
from np6_async.integrations._sharing_limiter import Answer, Away, PaceSharingLimiter
from support.virtual_time import now

EPOCH = 1_790_000_000.0


@define(eq=False)
class MemoryKeeper:
    """What the one script does. `latency` is that of a whole call; `lost` and `twice` are how likely it is that a
    reply is lost, but not more than three in a row, and that a call is sent again after a moment; `away`: nobody
    answers."""

    latency: float = 0.001
    lost: float = 0.0
    twice: float = 0.0
    rng: random.Random = Factory(lambda: random.Random(1))
    value: bytes = b""
    calls: int = 0
    kept: int = 0
    away: Away | None = None
    clock_error: float = 0.0
    open: int = 0
    _lost_in_a_row: int = 0

    async def exchange(self, expected: bytes, new: bytes) -> Answer:
        await asyncio.sleep(self.latency / 2)
        if self.away is not None:
            raise self.away
        answer = self._run(expected, new)
        if self.rng.random() < self.twice:
            await asyncio.sleep(self.latency * self.rng.random() * 5)
            answer = self._run(expected, new)
        await asyncio.sleep(self.latency / 2)
        if self.rng.random() < self.lost and self._lost_in_a_row < 3:
            self._lost_in_a_row += 1
            raise Away("Redis does not answer")
        self._lost_in_a_row = 0
        return answer

    def _run(self, expected: bytes, new: bytes) -> Answer:
        self.calls += 1
        time = EPOCH + now() + self.clock_error
        if self.value != expected:
            return Answer(time, False, self.value)
        self.value = new
        self.kept += 1
        return Answer(time, True, b"")

    async def close(self) -> None:
        self.open -= 1


def sharing(keeper: MemoryKeeper, slots: int = 16, share: float | None = None, **policy: Any) -> PaceSharingLimiter:
    """The limiter of one process."""
    keeper.open += 1
    settings = RetryPolicy(**{"clock": now, "wall_clock": lambda: EPOCH + now(), **policy})
    return PaceSharingLimiter(settings, requests=lambda: slots, keeper=keeper, share=share)
