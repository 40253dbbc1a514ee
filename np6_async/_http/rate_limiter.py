"""One gate for all requests of a client: the pause after a 429, and pacing.

A 429 stops every request of the client, not only the one that met it. Afterwards requests go out one by one,
at the rate that the server's headers allow or, where they tell nothing of it, at the rate that it was seen to
bear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import frozen

from .._config import RetryPolicy
from .._errors import RateLimited
from .._protocol.rate_headers import RateState

# Requests that go out before the first answer, which may tell of a limit: no herd of a thousand at the start.
_FIRST_VOLLEY: Final = 16
# A rate that was measured grows by this fraction at each answer, or doubles in so many seconds where that is
# more: soon while no 429 has come since it was measured, slowly afterwards. It shrinks by a tenth at each 429.
_GROWTH: Final = 0.0005
_FIRST_DOUBLING: Final = 4.0
_DOUBLING: Final = 28.0
_SHRINK: Final = 0.9
# Intervals shorter than this are not worth a timer.
_NO_INTERVAL: Final = 0.0005
# The wait after a 429 that names none: doubled at each 429 in a row.
_FIRST_PAUSE: Final = 1.0
# What is left of a window is made to last a little longer than the window.
_MARGIN: Final = 1.03
# A client that sends nothing for so long after a pause is not one that waits to be served.
_IDLE: Final = 5.0
# No interval is longer: the last ten requests of a day need no hour each, and a pause says the rest.
_LONGEST_INTERVAL: Final = 1.0


@frozen
class RateLimitStatus:
    """What the server last said of the account's rate limit, and what the client makes of it.

    `limit` is how many requests a window allows, `remaining` how many are left in it and `reset` in how many seconds,
    from `said_at` on, the next begins; None is what the server did not say, and `said_at` is None where it never
    said anything. `paused_until` is until when no request goes out, after a 429; None unless the client is paused.
    Times are aware datetimes in UTC.
    """

    limit: int | None
    remaining: int | None
    reset: float | None
    said_at: datetime | None
    paused_until: datetime | None

    @property
    def reset_at(self) -> datetime | None:
        """When the next window begins; None where the server did not say it."""
        if self.said_at is None or self.reset is None:
            return None
        return self.said_at + timedelta(seconds=self.reset)

    @property
    def paused(self) -> bool:
        """Whether the client was paused when this was read."""
        return self.paused_until is not None


class Gate:
    """See the module. All times are in seconds of `policy.clock`.

    A request waits for its `turn`, and then reports exactly one of `answered`, `unanswered` and `refused`.
    `requests` tells how many there may be at once: the pace is measured against it.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        requests: Callable[[], int],
        rate_limiter: AbstractAsyncContextManager[Any] | None = None,
    ) -> None:
        self._policy = policy
        self._clock = policy.clock
        self._rate_limiter = rate_limiter
        self._requests = requests

        self._line = asyncio.Lock()  # first come, first served, while requests are held back
        self._unheard = 0  # requests sent whose answer has not begun
        self._anything_heard = False
        self._first_heard = asyncio.Event()
        self._open_at = 0.0  # end of the pause
        self._refusals = 0  # 429 in a row, those of one volley counted once
        self._refused_since: float | None = None  # first 429 since the last answer
        self._next_at = 0.0  # when the next request may go out, at the pace
        self._said: tuple[RateState, float] | None = None  # the last headers, and when they came
        self._window: _RateWindow | None = None  # what the headers say
        self._interval = 0.0  # what was measured
        self._limit_met = False  # by what it had grown to
        self._measured_from: float | None = None
        self._answers = 0
        self._grown_at = 0.0

    async def turn(self) -> float:
        """Wait until a request may go out; return when that was.

        Raises `RateLimited` where a pause is longer than the policy waits.
        """
        if (
            self._rate_limiter is not None
            or self._line.locked()
            or not (self._anything_heard or self._unheard < _FIRST_VOLLEY)
            or self._send_at() > self._clock()
        ):
            await self._wait_in_line()
        now = self._clock()
        if self._measured_from is None:
            self._measured_from = now
        interval = self._interval
        if self._window is not None:
            interval = max(interval, self._window.interval(now, self._unheard, self._requests()))
        # A timer that fired late is made good by the next, up to one interval: delays do not add up.
        self._next_at = max(self._next_at, now - interval) + interval
        self._unheard += 1
        return now

    async def _wait_in_line(self) -> None:
        async with self._line:
            while not self._anything_heard and self._unheard >= _FIRST_VOLLEY:
                self._first_heard.clear()
                await self._first_heard.wait()
            await self._wait_for_pace()
            if self._rate_limiter is not None:  # not before a pause, where those it let through would gather
                async with self._rate_limiter:
                    pass
                await self._wait_for_pace()

    async def _wait_for_pace(self) -> None:
        while (wait := self._send_at() - self._clock()) > 0:
            pause = self._open_at - self._clock()
            if pause > self._policy.max_wait:
                error = RateLimited("429: the account's rate limit is used up", status=429)
                error.retry_after = pause
                raise error
            await self._policy.sleep(wait)

    def answered(self, sent_at: float, rate: RateState | None) -> None:
        """The request sent at `sent_at` has an answer that is no 429."""
        if sent_at >= self._open_at:
            self._refusals = 0
            self._refused_since = None
        self._answers += 1
        if self._interval:
            now = self._clock()
            quiet = max(0.0, now - max(self._grown_at, self._open_at))
            doubling = _DOUBLING if self._limit_met else _FIRST_DOUBLING
            self._interval *= min(1 - _GROWTH, 0.5 ** (quiet / doubling))
            self._grown_at = now
            if self._interval < _NO_INTERVAL:
                self._interval = 0.0
        self._heard()
        self._learn(sent_at, rate)

    def unanswered(self) -> None:
        """A request came to nothing before its answer began."""
        self._heard()

    def refused(self, sent_at: float, wait: float | None, rate: RateState | None) -> tuple[float, float]:
        """A 429 came to the request sent at `sent_at`; `wait` is what the server asks for.

        Returns the seconds until requests go out again, and how long the client will then have been
        refused without one answer.
        """
        now = self._clock()
        self._heard()
        self._learn(sent_at, rate)
        if self._refused_since is None or sent_at > self._open_at + _IDLE:  # nobody was waiting meanwhile
            self._refused_since = now
        if sent_at >= self._open_at:  # not one more of the volley that the last pause is for
            self._refusals += 1
            pause = wait or _FIRST_PAUSE * 2.0 ** min(self._refusals - 1, 10)
            self._open_at = now + pause
            if rate is None or rate.remaining != 0 or not rate.reset:  # the headers tell nothing of this limit
                self._slow_down(pause)
        elif wait:
            self._open_at = max(self._open_at, now + wait)
        return max(0.0, self._open_at - now), self._open_at - self._refused_since

    def _slow_down(self, pause: float) -> None:
        """Go on at the rate that was borne since the first request, the coming pause included."""
        self._limit_met = self._interval > 0
        if not self._interval:
            # At least all slots once in such a pause: what was asked over a quiet hour tells little.
            borne = (self._open_at - (self._measured_from or 0.0)) / max(self._answers, 1)
            self._interval = min(borne, pause / self._requests())
        self._interval = min(self._interval / _SHRINK, _LONGEST_INTERVAL)
        self._measured_from = None
        self._answers = 0

    def _heard(self) -> None:
        self._unheard -= 1
        if not self._anything_heard:
            self._anything_heard = True
            self._first_heard.set()

    def _learn(self, sent_at: float, rate: RateState | None) -> None:
        if rate is None:
            return
        now = self._clock()
        self._said = rate, now
        if rate.remaining is None or rate.reset is None:
            return
        if self._window is None:
            self._window = _RateWindow()
        self._window.update(sent_at, now, self._unheard, rate.limit, rate.remaining, rate.reset)

    def status(self) -> RateLimitStatus | None:
        """What is known of the rate limit; None while the server has said nothing and paused nobody."""
        now, wall_now = self._clock(), self._policy.wall_clock()
        paused = self._open_at > now
        if self._said is None and not paused:
            return None

        def moment(at: float) -> datetime:
            return datetime.fromtimestamp(wall_now + at - now, UTC)

        rate, said_at = self._said or (RateState(None, None, None), None)
        return RateLimitStatus(
            limit=rate.limit,
            remaining=rate.remaining,
            reset=rate.reset,
            said_at=None if said_at is None else moment(said_at),
            paused_until=moment(self._open_at) if paused else None,
        )

    def _send_at(self) -> float:
        at = max(self._open_at, self._next_at)
        if self._window is not None and self._window.left(self._unheard) <= 0:
            # An end beyond the policy's patience holds nobody: the 429 then says it for certain.
            ends_at = self._window.ends_at
            if ends_at - self._clock() <= self._policy.max_wait:
                at = max(at, ends_at)
        return at


class _RateWindow:
    """The window in which the server counts requests, as its headers tell it.

    Headers are rounded, often up to whole seconds, so the window's length is measured where the windows are
    seen to follow each other. Answers overtake each other: only the lowest count of a window is news, and
    a count is from a new window where no answer on the way could explain it.
    """

    def __init__(self) -> None:
        self._told_end = 0.0  # by the headers
        self._limit = 1
        self._remaining = -1  # the lowest heard of this window
        self._unheard = 0  # requests on the way when it was heard: they may have been counted before
        self._began = 0.0
        self._began_seen = False  # whether `_began` is the window's begin and not only our first request in it
        self._length = 0.0

    def update(self, sent_at: float, now: float, unheard: int, limit: int | None, remaining: int, reset: float) -> None:
        """The answer to the request sent at `sent_at` says so."""
        if sent_at < self._began:
            return
        if remaining > self._remaining + self._unheard:
            self._roll(sent_at, reset)
            self._told_end = now + reset
        elif remaining > self._remaining:
            return
        else:
            self._told_end = now + reset if self._told_end <= now else min(self._told_end, now + reset)
        self._limit = max(1, remaining, self._limit if limit is None else limit)
        self._remaining = remaining
        self._unheard = unheard

    def _roll(self, sent_at: float, reset: float) -> None:
        """A new window began just before `sent_at`."""
        gap = sent_at - self._began
        # Only a busy client sees a window begin when it begins.
        busy = self._began_seen and self._remaining <= self._limit // 2
        if not busy:
            self._length = reset
        elif gap > self._length / 4:
            self._length = gap
        self._began_seen = self._remaining >= 0
        self._began = sent_at

    @property
    def ends_at(self) -> float:
        """When requests count for the next window: as told, or as measured where that is sooner."""
        return min(self._told_end, self._began + self._length * _MARGIN)

    def left(self, unheard: int) -> int:
        """How many requests may still go out, `unheard` being on their way."""
        return self._remaining - unheard

    def interval(self, now: float, unheard: int, slots: int) -> float:
        """The interval that makes what is left last until the window ends; 0 while there is plenty.

        Never shorter than an even share of the window, so that no error about its end lets a herd out.
        """
        left = self.left(unheard)
        if left > max(2 * slots, self._limit // 10):
            return 0.0
        share = self._length * _MARGIN / self._limit
        ahead = self._began + self._length * _MARGIN - now
        return min(max(share, ahead / left if left > 0 else 0.0), _LONGEST_INTERVAL)
