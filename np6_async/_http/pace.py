"""The law of the pace: when the next request may be sent, by what responses have said.

What is known of the limit, and when it applies:

- Pause: after a 429, nothing is sent until the time that the server asks for. Where it names none, it is a second or,
  once a pace is known and as long as that helps, a few requests long. It doubles with each 429 in a row, of which those
  of one volley count once. A 429 may overtake the response to a request that was sent with it, so a request that was
  sent after the last pause, and is served, ends the row.
- Window: where headers report a limit, what is left of the window is spread over the rest of it (`RateWindow`).
- Measured pace: where they do not, requests go out at the rate that was sustained until the 429. The pace grows with
  each response, and shrinks with each 429: by a tenth, a fifth or a half, depending on how much was served since the
  last one. Where nothing was, it is the pause that was too short.
- Easing in: after an outage or a pause without a 429, requests begin at a pace, which then grows fast.

Nothing here waits: `RateLimiter` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from .._protocol.rate_headers import RateState

# A measured rate grows by this fraction at each response, or doubles in this many seconds where that is more: fast
# while no 429 has come since it was measured, slowly afterwards. What it shrinks to at each 429:
GROWTH: Final = 0.0005
_FIRST_DOUBLING: Final = 4.0
DOUBLING: Final = 28.0
SHRINK: Final = ((2, 0.5), (8, 0.8), (math.inf, 0.9))  # up to so many responses since the last one, to so much
# The interval that requests begin with after an outage, in seconds, and how soon their rate then doubles.
_EASY: Final = 0.003
_EASING_DOUBLING: Final = 0.5
# Intervals shorter than this are not worth a timer.
_NO_INTERVAL: Final = 0.0005
# The wait after a 429 that names none: doubled at each 429 in a row.
_FIRST_PAUSE: Final = 1.0
# The same where a pace is known, in requests, and in seconds at least.
_REQUESTS_PAUSE: Final = 4
_SHORTEST_PAUSE: Final = 0.05
# A request may make up for a timer that fired so many seconds late, so that delays do not add up: a limiter without
# burst refuses one that comes too soon after the last. Where headers report a window, up to a whole interval.
_LATE: Final = 0.002
# What is left of a window is spread over a little more than the rest of it.
_MARGIN: Final = 1.03
# A client that sends nothing for this long after a pause is not waiting to be served.
_IDLE: Final = 5.0
# No interval is longer: the last ten requests of a day need not wait an hour each, and a pause does the rest.
_LONGEST_INTERVAL: Final = 1.0


class Pace:
    """See the module. All times are in seconds of `clock`.

    `requests` returns how many there may be at once: the pace is measured against it. An end of a window that is
    further away than `max_wait` stops nobody.
    """

    _growth: float = GROWTH
    _doubling: float = DOUBLING
    _first_doubling: float = _FIRST_DOUBLING
    _shrink: tuple[tuple[float, float], ...] = SHRINK

    def __init__(self, clock: Callable[[], float], *, requests: Callable[[], int], max_wait: float) -> None:
        self._clock = clock
        self._requests = requests
        self._max_wait = max_wait

        self._pending = 0  # requests sent whose response has not begun
        self._any_response = False
        self.paused_until: float = 0.0
        self._pause_before = 0.0  # the end of the pause before that
        self._short = False  # the pause is a short one
        self._short_helps = True  # or was never tried
        self._guessed_until: float | None = None  # where it is our own guess: its end, had it not been doubled
        self._asked_by: int = 429  # the status code that asked for the pause
        self._refusals = 0  # 429s in a row, those of one volley counted once
        self._refused_since: float | None = None  # the first 429 since the last other response
        self._next_at = 0.0  # when the pace allows the next request
        self._reported: tuple[RateState, float] | None = None  # the last headers, and when they came
        self._window: RateWindow | None = None  # made of the headers
        self._interval = 0.0  # as measured; 0 is no limit
        self._limit_met = False  # a 429 came at the measured pace
        self._easing = False
        self._measured_from: float | None = None
        self._responses = 0
        self._grown_at = 0.0

    def _acquired(self, now: float) -> float:
        if self._measured_from is None:
            self._measured_from = now
        interval = self._interval
        late = _LATE if interval > _LATE else interval
        if self._window is not None:
            interval = max(interval, self._window.interval(now, self._pending, self._requests()))
            late = interval
        self._next_at = max(self._next_at, now - late) + interval
        self._pending += 1
        return now

    @property
    def failure_pause(self) -> float:
        """Seconds that are left of a pause that was not for a 429; 0 where there is none."""
        return 0.0 if self._asked_by == 429 else max(0.0, self.paused_until - self._clock())

    def responded(self, sent_at: float, rate: RateState | None) -> None:
        """The request sent at `sent_at` has a response that is not a 429."""
        if sent_at >= self._pause_before:
            if self._refusals:
                self._end_refusals(sent_at)
            self._refused_since = None
        self._responses += 1
        if self._interval:
            now = self._clock()
            quiet = max(0.0, now - max(self._grown_at, self.paused_until))
            doubling = _EASING_DOUBLING if self._easing else self._doubling if self._limit_met else self._first_doubling
            self._interval *= min(1 - self._growth, 0.5 ** (quiet / doubling))
            self._grown_at = now
            if self._interval < _NO_INTERVAL:
                self._interval = 0.0
                self._easing = False
        if self._any_response:
            self._pending -= 1
        else:
            self._no_longer_pending()
        if rate is not None:
            self._learn(sent_at, rate)

    def failed(self) -> None:
        """A request failed before its response began."""
        self._no_longer_pending()

    def limited(self, sent_at: float, wait: float | None, rate: RateState | None) -> tuple[float, float]:
        """The request sent at `sent_at` was answered by a 429; `wait` is what the server asks for.

        Returns the seconds until requests are sent again, and for how long the client will then have received nothing
        but 429s.
        """
        now = self._clock()
        self._no_longer_pending()
        if rate is not None:
            self._learn(sent_at, rate)
        if self._refused_since is None or sent_at > self.paused_until + _IDLE:  # nobody was waiting meanwhile
            self._refused_since = now
        if sent_at >= self.paused_until:  # not another one of the volley that caused the last pause
            self._refusals += 1
            first = _FIRST_PAUSE
            if self._refusals > 1 and self._short:  # it helped nobody: there may be a window, which is used up
                self._short_helps, self._refusals = False, 1
            self._short = self._short_helps and self._refusals == 1 and self._interval > 0 and not self._easing
            if self._short:
                first = min(first, max(_SHORTEST_PAUSE, _REQUESTS_PAUSE * self._interval))
            pause = wait or first * 2.0 ** min(self._refusals - 1, 10)
            self._pause_before, self.paused_until = self.paused_until, now + pause
            self._next_at = self.paused_until
            self._guessed_until = None if wait else now + first
            self._asked_by = 429
            if rate is None or rate.remaining != 0 or not rate.reset:  # the headers do not report this limit
                self._slow_down(pause)
        elif wait:
            self.paused_until = max(self.paused_until, now + wait)
            self._guessed_until = None
        return max(0.0, self.paused_until - now), self.paused_until - self._refused_since

    def pause(self, wait: float, status: int) -> None:
        """A response with `status` asks to wait for so many seconds."""
        until = self._clock() + wait
        if until > self.paused_until:
            self.paused_until = self._next_at = until
            self._guessed_until = None
            self._asked_by = status
            self.ease_in()
        elif self._guessed_until is not None:
            self._guessed_until = max(self._guessed_until, until)

    def ease_in(self) -> None:
        """Let no herd out: begin at a pace that grows soon."""
        if self._interval < _EASY:
            self._interval = _EASY
            self._easing = True
        self._grown_at = max(self.paused_until, self._clock())

    def _end_refusals(self, sent_at: float) -> None:
        """A request was served that was sent after the pause before the last one."""
        if sent_at >= self.paused_until:
            self._refusals = 0
            return
        self._refusals = 1
        if self._guessed_until is not None:
            self.paused_until = self._next_at = min(self.paused_until, self._guessed_until)

    def _slow_down(self, pause: float) -> None:
        """Continue at the rate that was sustained since the first request, the coming pause included."""
        if self._easing:
            self._interval, self._easing = 0.0, False
        self._limit_met = self._interval > 0
        if self._limit_met and not self._responses:
            return
        shrink = next(shrink for most, shrink in self._shrink if self._responses <= most)
        if not self._interval:
            shrink = SHRINK[-1][1]
            # At least all slots once in such a pause: the rate of a quiet hour says little.
            sustained = (self.paused_until - (self._measured_from or 0.0)) / max(self._responses, 1)
            self._interval = min(sustained, pause / self._requests())
        self._interval = min(self._interval / shrink, _LONGEST_INTERVAL)
        self._measured_from = None
        self._responses = 0

    def _no_longer_pending(self) -> None:
        self._pending -= 1
        self._any_response = True

    def _learn(self, sent_at: float, rate: RateState) -> None:
        now = self._clock()
        self._reported = rate, now
        if rate.remaining is None or rate.reset is None:
            return
        if self._window is None:
            self._window = RateWindow()
        self._window.update(sent_at, now, self._pending, rate.limit, rate.remaining, rate.reset)

    def _send_at(self) -> float:
        at = max(self.paused_until, self._next_at)
        if self._window is not None and self._window.left(self._pending) <= 0:
            # An end later than `max_wait` stops nobody: the 429 will then say for certain.
            ends_at = self._window.ends_at
            if ends_at - self._clock() <= self._max_wait:
                at = max(at, ends_at)
        return at


class RateWindow:
    """The window in which the server counts requests, as its headers report it.

    Headers are rounded, often up to whole seconds, so the length of a window is measured where one is seen to follow
    another. Responses overtake each other: only the lowest count of a window is news, and a count belongs to a new
    window where no request in flight could explain it.
    """

    def __init__(self) -> None:
        self._reported_end = 0.0  # by the headers
        self._limit = 1
        self._remaining = -1  # the lowest that was reported of this window
        self._pending = 0  # requests in flight when it was reported: they may have been counted before
        self._began = 0.0
        self._began_seen = False  # whether `_began` is the window's beginning and not merely our first request in it
        self._length = 0.0

    def update(self, sent_at: float, now: float, pending: int, limit: int | None, remaining: int, reset: float) -> bool:
        """What the response to the request sent at `sent_at` reports; whether it is news."""
        if sent_at < self._began:
            return False
        if remaining > self._remaining + self._pending:
            self._roll(sent_at, reset)
            self._reported_end = now + reset
        elif remaining > self._remaining:
            return False
        else:
            self._reported_end = now + reset if self._reported_end <= now else min(self._reported_end, now + reset)
        self._limit = max(1, remaining, self._limit if limit is None else limit)
        self._remaining = remaining
        self._pending = pending
        return True

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
        """When requests count for the next window: as reported, or as measured where that is sooner."""
        return min(self._reported_end, self._began + self._length * _MARGIN)

    @property
    def share(self) -> float:
        """The interval that spreads a whole window evenly."""
        return self._length * _MARGIN / self._limit

    def left(self, pending: int) -> int:
        """How many requests may still be sent, `pending` being in flight."""
        return self._remaining - pending

    def interval(self, now: float, pending: int, slots: int) -> float:
        """The interval that makes the remaining requests last until the window ends; 0 while there are plenty.

        Never shorter than an even share of the window, so that an error about its end does not release a herd.
        """
        left = self.left(pending)
        if left > max(2 * slots, self._limit // 10):
            return 0.0
        share = self.share
        ahead = self._began + self._length * _MARGIN - now
        return min(max(share, ahead / left if left > 0 else 0.0), _LONGEST_INTERVAL)
