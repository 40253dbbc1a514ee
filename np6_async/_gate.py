"""One gate for all requests of a client: slots, the pause after a 429, and pacing.

Slots stand before aiohttp's pool, so that waiting for one never eats into a timeout. A 429 stops every
request of the client, not only the one that met it. Afterwards requests go out one by one, at the rate that
the server's headers allow or, without headers, at the rate that it was seen to bear.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final

from ._errors import TimeoutExceeded
from ._retry import RateState, RetryPolicy

# Without rate headers: the rate grows by this fraction at each answer and shrinks by a tenth at each 429.
_GROWTH: Final = 0.0005
_SHRINK: Final = 0.9
# Intervals shorter than this are not worth a timer.
_NO_INTERVAL: Final = 0.0005
# The wait after a 429 that names none: doubled at each 429 in a row.
_FIRST_PAUSE: Final = 1.0


class Gate:
    """See the module. `slots` bounds the requests in flight; all times are in seconds of `policy.clock`."""

    def __init__(
        self, slots: int, policy: RetryPolicy, *, rate_limiter: AbstractAsyncContextManager[Any] | None = None
    ) -> None:
        self._policy = policy
        self._clock = policy.clock
        self._rate_limiter = rate_limiter
        self._limit = slots
        self._asked = [slots]
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._last_release = 0.0
        self._line = asyncio.Lock()  # first come, first served, while requests are held back
        self._open_at = 0.0  # end of the pause
        self._next_at = 0.0  # when the next request may go out, at the pace of `_interval`
        self._interval = 0.0
        self._paused_since = 0.0  # since the last answer that was no 429
        self._refusals = 0  # 429 in a row, those of one volley counted once
        self._measured_from = 0.0  # `_answers` were counted from here
        self._answers = 0
        self._window: _RateWindow | None = None  # what the headers say

    # -- slots ---------------------------------------------------------------------------------

    @property
    def in_use(self) -> int:
        """Slots taken now."""
        return self._in_use

    @property
    def slots(self) -> int:
        """How many requests may be in flight."""
        return self._limit

    @contextmanager
    def widened(self, slots: int) -> Iterator[None]:
        """At least `slots` slots while the context lasts."""
        self._asked.append(slots)
        self._limit = max(self._asked)
        self._wake()
        try:
            yield
        finally:
            self._asked.remove(slots)
            self._limit = max(self._asked)

    async def acquire(self, patience: float) -> None:
        """Wait for a slot. `TimeoutExceeded` where none came free for `patience` seconds outside a pause."""
        if self._in_use < self._limit and not self._waiting:
            self._in_use += 1
            return
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        began = self._clock()
        try:
            while not slot.done():
                idle = self._clock() - max(began, self._last_release, self._open_at)
                if idle >= patience:
                    raise TimeoutExceeded(
                        f"no slot came free for {patience:g} s: all {self._limit} are held by streams that are "
                        "open and not being read; close them, or raise `concurrency`",
                        limit="pool",
                    )
                await asyncio.wait([slot], timeout=patience - idle)
        except BaseException:
            if slot.done() and not slot.cancelled():
                self.release()
            else:
                slot.cancel()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._in_use -= 1
        self._last_release = self._clock()
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._in_use < self._limit:
            slot = self._waiting.popleft()
            if not slot.done():
                self._in_use += 1
                slot.set_result(None)

    # -- pace ----------------------------------------------------------------------------------

    async def turn(self) -> float:
        """Wait until a request may go out; return when that was."""
        if self._rate_limiter is not None:
            async with self._rate_limiter:
                pass
        if self._line.locked() or self._send_at() > self._clock():
            async with self._line:
                while (wait := self._send_at() - self._clock()) > 0:
                    await self._policy.sleep(wait)
        now = self._clock()
        self._next_at = now + self._spacing(now)
        if self._window is not None:
            self._window.unanswered += 1
        return now

    def answered(self, rate: RateState | None) -> None:
        """An answer came that was no 429."""
        self._refusals = 0
        self._paused_since = 0.0
        self._answers += 1
        if self._interval:
            self._interval *= 1 - _GROWTH
            if self._interval < _NO_INTERVAL:
                self._interval = 0.0
        self._learn(rate)

    def unanswered(self) -> None:
        """A request came to nothing before its answer began."""
        if self._window is not None:
            self._window.unanswered = max(0, self._window.unanswered - 1)

    def refused(self, sent_at: float, wait: float | None, rate: RateState | None) -> tuple[float, float]:
        """A 429 came to a request sent at `sent_at`; `wait` is what the server asks for.

        Returns the seconds until requests go out again, and how long the client will then have been
        refused without one answer.
        """
        now = self._clock()
        self._learn(rate)
        if sent_at >= self._open_at:  # not one more of the volley that the last pause is for
            self._refusals += 1
            self._paused_since = self._paused_since or now
            pause = max(wait or 0.0, _FIRST_PAUSE * 2 ** min(self._refusals - 1, 10) if not wait else 0.0)
            self._open_at = now + pause
            if self._window is None:
                self._slow_down()
        elif wait:
            self._open_at = max(self._open_at, now + wait)
        return max(0.0, self._open_at - now), self._open_at - (self._paused_since or now)

    def _slow_down(self) -> None:
        """No headers: go on at the rate that was answered since the last pause, the coming one included."""
        if self._interval:
            self._interval /= _SHRINK
        elif self._answers:
            self._interval = (self._open_at - self._measured_from) / self._answers
        self._measured_from = self._open_at
        self._answers = 0

    def _learn(self, rate: RateState | None) -> None:
        if rate is None or rate.remaining is None or rate.reset is None:
            self.unanswered()
            return
        if self._window is None:
            self._window = _RateWindow()
        self._window.update(rate, self._clock())

    def _send_at(self) -> float:
        at = max(self._open_at, self._next_at)
        return at if self._window is None else max(at, self._window.open_at(self._clock()))

    def _spacing(self, now: float) -> float:
        if self._window is None:
            return self._interval
        return self._window.spacing(now, self._limit)


class _RateWindow:
    """The server's rate window, as its headers tell it."""

    def __init__(self) -> None:
        self.unanswered = 0  # requests sent that the last `remaining` may not have counted
        self._limit = 1
        self._remaining = 0
        self._ends_at = 0.0
        self._length = 0.0

    def update(self, rate: RateState, now: float) -> None:
        assert rate.remaining is not None
        assert rate.reset is not None
        self.unanswered = max(0, self.unanswered - 1)
        ends_at = now + rate.reset
        # Answers overtake each other: within one window only the lowest count is news.
        same = abs(ends_at - self._ends_at) < max(0.05, self._length / 4)
        self._remaining = min(self._remaining, rate.remaining) if same else rate.remaining
        self._ends_at = ends_at
        self._length = max(self._length, rate.reset)
        self._limit = max(1, rate.limit or self._limit, self._remaining)

    def _left(self, now: float) -> int:
        if now >= self._ends_at:  # a new window that no answer has told of
            self._remaining = self._limit
            self._ends_at = now + self._length
        return self._remaining - self.unanswered

    def open_at(self, now: float) -> float:
        """When the next request may go out without a 429, pacing apart."""
        return now if self._left(now) > 0 else self._ends_at

    def spacing(self, now: float, slots: int) -> float:
        """The interval that makes what is left last until the window ends; 0 while there is plenty."""
        left = self._left(now)
        if left > max(2 * slots, self._limit // 10):
            return 0.0
        return (self._ends_at - now) / max(left, 1)
