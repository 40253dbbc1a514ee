"""How many requests may be in flight. A slot is taken before a connection, so that waiting uses up no timeout."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._errors import TimeoutExceeded


class Slots:
    """The slots of a client, for its single streams; a bulk run has as many requests in flight as workers.

    `most` is how many connections a borrowed session opens: more requests would wait in its pool. So bulk runs borrow
    slots (`lend`), and leave one for a call from inside their loops.
    """

    def __init__(self, count: int, clock: Callable[[], float], *, most: int = sys.maxsize) -> None:
        self._count = count
        self._clock = clock
        self._most = most
        self._lent = 0
        self._in_use = 0
        self._reading = 0  # holders that wait for the server, and not for the consumer of their events
        self._last_progress = 0.0  # when a holder last received what it waited for
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def in_use(self) -> int:
        """Slots taken now."""
        return self._in_use

    @property
    def limit(self) -> int:
        """How many may be taken at once."""
        return max(1, min(self._count, self._most - self._lent))

    @property
    def requests(self) -> int:
        """How many requests there may be at once, including those of bulk runs."""
        return self.limit + self._lent

    @contextmanager
    def lend(self, wanted: int) -> Iterator[int]:
        """Slots for a bulk run, while the context lasts: `wanted`, or as many as are free; at least one."""
        lent = max(1, min(wanted, self._most - self._lent - max(1, self._in_use)))
        self._lent += lent
        try:
            yield lent
        finally:
            self._lent -= lent
            self._wake()

    async def acquire(self, timeout: float) -> None:  # noqa: ASYNC109 - it runs only while nobody reads
        """Take a slot, to read. Raises `TimeoutExceeded` if for `timeout` seconds none came free and nobody read."""
        if self._in_use < self.limit and not self._waiting:
            self._in_use += 1
            self._reading += 1
            return
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        began = self._clock()
        try:
            while not slot.done():
                idle = 0.0 if self._reading else self._clock() - max(began, self._last_progress)
                if idle >= timeout:
                    raise TimeoutExceeded(
                        f"no slot came free for {timeout:g} s (Timeout.pool): the {self._in_use} in use are held by "
                        "streams that are open and not being read; close them, or raise `concurrency`",
                        limit="pool",
                    )
                await asyncio.wait([slot], timeout=timeout - idle)
        except BaseException:
            if slot.done():
                self.release(reading=True)
            else:
                self._waiting.remove(slot)
            raise

    def start_reading(self) -> None:
        """The holder of a slot waits for the server again."""
        self._reading += 1

    def stop_reading(self) -> None:
        """The holder of a slot has what it waited for, and keeps the slot."""
        self._reading -= 1
        self._last_progress = self._clock()

    def release(self, *, reading: bool) -> None:
        """Give a slot back; `reading`: between `start_reading` and `stop_reading`."""
        self._in_use -= 1
        self._reading -= reading
        self._last_progress = self._clock()
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._in_use < self.limit:
            self._in_use += 1
            self._reading += 1
            self._waiting.popleft().set_result(None)
