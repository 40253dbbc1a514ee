"""A rate limiter that shares its pace with those of other processes, over one value that somebody keeps for all.

One task, which runs while there is something to do, takes the steps of `SharedPace`: it reports what was seen, and
takes slots. Between two steps a request costs no call:

- Where no limit is known requests are sent as they come, and a step every 100 ms tells of others' 429s and outages.
- Where one is, each request needs a slot, of which a step takes as many as wait for one, up to 200 ms ahead.
- A 429, a pause and an outage are reported at once, and pause this process before anybody else hears of them.

Where the keeper is away, slots that were taken remain good, and then:

- with `share`, this process goes on alone at this share of the pace that was known, until the keeper is back;
- without, requests wait for up to 10 s, and then the calls end with `ServiceUnavailable`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from attrs import define, frozen

from .._config import RetryPolicy
from .._errors import ServiceUnavailable
from .._http.pace import DOUBLING, GROWTH
from .._http.rate_limiter import FIRST_VOLLEY, SharingLimiter
from .._protocol.rate_headers import RateState
from ._shared_pace import SHOWN_FIGURES, Limited, OutageBegan, OutageEnded, Paused, Report, Served, SharedPace, Slot

# Seconds: how far ahead slots are taken, between two steps that take some, and between two that only tell and hear.
_AHEAD: Final = 0.2
_GAP: Final = 0.1
_TELL: Final = 0.1
_PAUSED: Final = 0.5  # the same during a pause
# A slot is not used later than this: several at once would be a herd.
_STALE: Final = 0.1
# Without the keeper: how long the calls wait, how often it is looked for, and how many reports are kept for it.
_PATIENCE: Final = 10.0
_LOOK: Final = 0.5
_KEPT: Final = 1_000
# What the bounds of the clock's offset widen by, in seconds a second, since no two clocks run alike.
_DRIFT: Final = 1e-4
# No value is equal to this: to read, and change nothing.
_NOTHING: Final = b"?"

_log = logging.getLogger("np6_async")


@frozen
class Answer:
    """What the keeper says: its `time` in epoch seconds, whether the new value is `kept`, or else the `present` one."""

    time: float
    kept: bool
    present: bytes


class Away(Exception):
    """The keeper cannot be asked, because of `args[0]`; `lasting`: nor will it change its mind by itself."""

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.lasting = lasting


class Keeper(Protocol):
    """Keeps the value of an account."""

    async def exchange(self, expected: bytes, new: bytes) -> Answer:
        """Keep `new` if the present value is `expected`, which is empty where there is none. Raises `Away`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""


class _SentAt(float):
    """When a request was sent, by the clock of this process; `at`, by that of the keeper; and its `slot`."""

    __slots__ = ("at", "slot")
    at: float
    slot: int


@define
class _Offset:
    """What to add to this process's clock to get the keeper's: known to lie between two bounds."""

    least: float
    most: float
    since: float

    def narrow(self, least: float, most: float, now: float) -> None:
        """It was found to lie between these, too."""
        drift = _DRIFT * (now - self.since)
        self.least, self.most, self.since = max(least, self.least - drift), min(most, self.most + drift), now
        if self.least > self.most:  # a clock was set
            self.least, self.most = least, most

    @property
    def seconds(self) -> float:
        return (self.least + self.most) / 2


class PaceSharingLimiter(SharingLimiter):
    """See the module. What it inherits is the pace as it was last seen, or that of this process while it is alone."""

    def __init__(
        self, policy: RetryPolicy, *, requests: Callable[[], int], keeper: Keeper, share: float | None = None
    ) -> None:
        super().__init__(policy, requests=requests)
        self._keeper = keeper
        self._share = share
        self.suspect = lambda: None
        self.steps: int = 0  # calls of the keeper
        self._name = os.urandom(4)
        self._number = 0  # of the last step

        self._offset: _Offset | None = None
        self._present = b""  # what the keeper is believed to have
        self._known = b""  # the last value that was seen
        self._unsure: bytes | None = None  # the number of a step that may or may not have been taken
        self._unsure_of: list[Report] = []  # what it reports

        self._reports: list[Report] = []
        self._urgent = False
        self._sent = 0  # requests since the last step
        self._waiting = 0  # requests
        self._slots: deque[Slot] = deque()
        self._spaced = 0.0  # when the next request may follow the last one
        self._needs_slots = False
        self._pace = 0.0  # the shared interval
        self._granted = 0
        self._paused_at = 0.0  # `paused_until` by the keeper's clock
        self._outage = 0  # the last that was heard of, or found

        self._task: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()  # something is due sooner
        self._stepped = asyncio.Event()  # a step was taken, or failed
        self._last = -math.inf  # when
        self._gap = _GAP
        self._closed = False
        self._away: Away | None = None
        self._away_since = 0.0
        self._alone = False

    # -- before a request ----------------------------------------------------------------------------

    def acquire_nowait(self) -> float | None:
        """`acquire`, where there is nothing to wait for; otherwise None."""
        volley_is_out = not (self._any_response or self._pending < FIRST_VOLLEY)
        if volley_is_out or self._queue.locked() or self._ready_at() > (now := self._clock()):
            return None
        return self._acquired(now)

    async def acquire_first(self, policy: RetryPolicy | None = None) -> float:
        """`acquire`, before all others that wait."""
        self._waiting += 1
        try:
            return await super().acquire_first(policy)
        finally:
            self._waiting -= 1

    async def _wait_in_queue(self, policy: RetryPolicy) -> None:
        self._waiting += 1
        try:
            await super()._wait_in_queue(policy)
        finally:
            self._waiting -= 1

    async def _wait_for_turn(self, policy: RetryPolicy) -> None:
        tried = False
        while (at := self._ready_at()) > (now := self._clock()):
            self.check_pause(policy)
            if self._away is not None and not self._alone and tried:
                self._check_patience(self._away)
            self._wake(nudge=True)
            if at < math.inf and (self._alone or self._away is None):
                await self._sleep_or_step(at - now)
            else:
                await self._stepped.wait()
                tried = True

    async def _sleep_or_step(self, seconds: float) -> None:
        """A step may bring a pause, or the end of one."""
        if seconds <= _AHEAD or self._alone:
            await self._policy.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stepped.wait()
        except TimeoutError:
            pass

    def _ready_at(self) -> float:
        """When the next request may be sent, as far as it is known."""
        if self._alone:
            return self._send_at()
        if self._offset is None:
            return math.inf
        if not self._needs_slots:
            return self.paused_until if self._away is None else math.inf
        offset, slots = self._offset.seconds, self._slots
        oldest = max(self._paused_at, self._clock() + offset - _STALE)
        while slots and slots[0].at < oldest:
            slots.popleft()
        if slots:
            return max(slots[0].at - offset, self._spaced)
        return math.inf if self.paused_until <= self._clock() else self.paused_until  # which a step may shorten

    def _acquired(self, now: float) -> float:
        self._sent += 1
        if self._alone or self._offset is None:
            self._wake()
            return super()._acquired(now)
        sent_at = _SentAt(now)
        sent_at.at = max(now + self._offset.seconds, self._paused_at)
        sent_at.slot = self._granted
        if self._needs_slots:
            slot = self._slots.popleft()
            self._spaced = now + self._pace / 2
            sent_at.at, sent_at.slot = max(sent_at.at, slot.at), slot.number
        self._pending += 1
        self._wake()
        return sent_at

    # -- after it ------------------------------------------------------------------------------------

    def responded(self, sent_at: float, rate: RateState | None) -> None:
        """The request sent at `sent_at` has a response that is not a 429."""
        if self._alone or not isinstance(sent_at, _SentAt):
            super().responded(sent_at, rate)
            return
        self._no_longer_pending()
        if rate is not None:
            self._learn(sent_at, rate)
        self._report(Served(sent_at.at, sent_at.slot, rate))

    def limited(self, sent_at: float, wait: float | None, rate: RateState | None) -> tuple[float, float]:
        """The request sent at `sent_at` was answered by a 429; see `RateLimiter`."""
        result = super().limited(sent_at, wait, rate)
        if isinstance(sent_at, _SentAt):
            self._report(Limited(sent_at.at, sent_at.slot, rate, wait), urgent=True)
        return result

    def pause(self, wait: float, status: int) -> None:
        """A response with `status` asks to wait for so many seconds."""
        super().pause(wait, status)
        self._report(Paused(wait, status), urgent=True)

    def outage_began(self) -> None:
        """The server is known to be away."""
        self._report(OutageBegan(), urgent=True)

    def outage_ended(self) -> None:
        """It answers again."""
        super().outage_ended()
        self._report(OutageEnded(), urgent=True)

    def _learn(self, sent_at: float, rate: RateState) -> None:
        if self._alone:
            super()._learn(sent_at, rate)
        else:
            self._reported = rate, self._clock()

    def _report(self, report: Report, *, urgent: bool = False) -> None:
        if self._alone:
            return
        self._reports.append(report)
        if len(self._reports) > _KEPT and self._away is not None:
            del self._reports[0]
        if urgent:
            self._urgent = True
        self._wake(nudge=urgent)

    # -- steps ---------------------------------------------------------------------------------------

    def _wake(self, *, nudge: bool = False) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._keep_up(), name="np6_async shared limit")
        if nudge:
            self._nudge.set()

    async def _keep_up(self) -> None:
        """Take steps while there is something to do."""
        try:
            while (due := self._due()) < math.inf:
                self._nudge.clear()
                if (wait := due - self._clock()) > 0:
                    try:
                        async with asyncio.timeout(wait):
                            await self._nudge.wait()
                    except TimeoutError:
                        pass
                    continue
                await self._step()
        finally:
            self._task = None
            self._wake_waiting()

    def _due(self) -> float:
        """When to take the next step; never, if there is nothing to do."""
        if self._away is not None:
            return self._last + _LOOK if self._waiting or self._sent else math.inf
        if self._urgent:
            return self._last + _GAP / 20
        if self._waiting and self._offset is None:
            return self._last
        if self._waiting > len(self._slots) and (self._needs_slots or self.paused_until > self._clock()):
            soon = min(self.paused_until - _AHEAD / 2, self._last + _PAUSED)
            return max(self._last + self._gap, soon)
        if self._reports or self._sent:
            return self._last + _TELL
        return math.inf

    async def _step(self) -> None:
        reports, self._reports = self._reports, []
        self._urgent = False
        sent, self._sent = self._sent, 0
        away: Away | None = None
        try:
            await self._take_step(reports, sent)
        except Away as why:
            away = why
            self._reports = [*reports, *self._reports][-_KEPT:]
        except BaseException:
            self._reports = [*reports, *self._reports]
            raise
        finally:
            self._last = self._clock()
            self._gap = _GAP * (0.5 + 0.5 * self._policy.random())  # so that no process is always the first
        if away is not None:
            self._miss(away)
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        self._stepped.set()
        self._stepped = asyncio.Event()

    async def _take_step(self, reports: list[Report], sent: int) -> None:
        if self._offset is None or self._unsure is not None or self._away is not None:
            await self._look(reports)
        while True:
            assert self._offset is not None
            now = self._clock() + self._offset.seconds
            pace = SharedPace.read(self._known, now, requests=self._requests, max_wait=self._max_wait)
            for report in reports:
                pace.apply(report)
            slots = pace.grant(self._wanted(pace, sent), now + _AHEAD)
            if self._present and not (reports or slots or pace.set_back):
                present, self._present = self._present, (await self._exchange(_NOTHING, _NOTHING)).present
                self._known = self._present or self._known
                if self._present == present:
                    break
                continue
            self._number += 1
            step = self._name + self._number.to_bytes(4)
            value = pace.write(step)
            self._unsure, self._unsure_of = step, reports
            answer = await self._exchange(self._present, value)
            self._unsure = None
            if answer.kept:
                self._present = self._known = value
                break
            self._present = answer.present
            self._known = self._present or self._known
            if SharedPace.has_taken(self._present, step):
                pace = self._read()
                break
        if self._away is not None:  # not before, since one that is full can be read
            self._return()
        self._slots.extend(slots)
        self._show(pace)

    async def _look(self, reports: list[Report]) -> None:
        """Learn what is there, after a reply was lost or at the beginning; forget what was told in that step."""
        self._present = (await self._exchange(_NOTHING, _NOTHING)).present
        self._known = self._present or self._known
        if self._unsure is not None and SharedPace.has_taken(self._present, self._unsure):
            told = {id(report) for report in self._unsure_of}
            reports[:] = [report for report in reports if id(report) not in told]
        self._unsure, self._unsure_of = None, []

    async def _exchange(self, expected: bytes, new: bytes) -> Answer:
        sent = self._clock()
        self.steps += 1
        answer = await self._keeper.exchange(expected, new)
        now = self._clock()
        if self._offset is None:
            self._offset = _Offset(answer.time - now, answer.time - sent, now)
        else:
            self._offset.narrow(answer.time - now, answer.time - sent, now)
        return answer

    def _read(self) -> SharedPace:
        assert self._offset is not None
        now = self._clock() + self._offset.seconds
        return SharedPace.read(self._known, now, requests=self._requests, max_wait=self._max_wait)

    def _wanted(self, pace: SharedPace, sent: int) -> int:
        """How many slots; `sent` is how many requests were sent since the last step."""
        if not pace.needs_slots or not self._waiting:
            return 0
        return max(0, max(self._waiting, 2 * sent, pace.plenty(self._requests())) - len(self._slots))

    def _show(self, pace: SharedPace) -> None:
        """Take over what the pace says, in times of this process's clock."""
        assert self._offset is not None
        offset = self._offset.seconds
        asked, paused = self._asked_by, self.paused_until
        for name in _SHOWN_TIMES:
            time = getattr(pace, name)
            setattr(self, name, None if time is None else time - offset)
        for name in SHOWN_FIGURES:
            setattr(self, name, getattr(pace, name))
        if pace.said is not None:
            self._reported = pace.said[0], pace.said[1] - offset
        self._paused_at = pace.paused_until
        if any(isinstance(report, Limited | Paused) for report in self._reports) and paused > self.paused_until:
            self.paused_until, self._asked_by, self._paused_at = paused, asked, paused + offset  # not told yet
        self._needs_slots, self._pace, self._granted = pace.needs_slots, pace.interval, pace.granted
        if not self._needs_slots:
            self._slots.clear()
        if pace.out and pace.out != self._outage:
            self.suspect()
        self._outage = pace.out
        self._tell_queued()

    # -- without the keeper --------------------------------------------------------------------------

    def _miss(self, why: Away) -> None:
        """The keeper cannot be asked."""
        first = self._away is None
        self._away = why
        if not first:
            return
        self._away_since = self._clock()
        if self._share is None:
            _log.warning("the shared rate limit is away: %s; requests wait for it", why)
            return
        _log.warning(
            "the shared rate limit is away: %s; this process goes on alone, at %g of the rate", why, self._share
        )
        self._alone = True
        self._slots.clear()
        self._window, self._measured_from, self._easing = None, None, False
        self._responses = 0
        self._next_at = self._clock()
        self._interval = self._pace / self._share
        if self._interval:  # the share is not exceeded, however long it takes
            self._limit_met = True
            self._growth, self._doubling = 0.0, math.inf

    def _return(self) -> None:
        """The keeper is back."""
        self._away = None
        _log.warning("the shared rate limit is back")
        if not self._alone:
            return
        self._alone = False
        self._growth, self._doubling = GROWTH, DOUBLING
        self._window = None
        if (left := self.paused_until - self._clock()) > 0:
            self._reports.append(Paused(left, self._asked_by))
            self._urgent = True

    def _check_patience(self, why: Away) -> None:
        """Raise what ends a call, if the keeper is away for too long."""
        if why.lasting or self._clock() - self._away_since >= _PATIENCE:
            raise self._unavailable(why)

    def _unavailable(self, why: Away) -> ServiceUnavailable:
        ago = self._clock() - self._away_since
        since = datetime.fromtimestamp(self._policy.wall_clock() - ago, UTC)
        error = ServiceUnavailable(
            f"the shared rate limit is away since {since:%Y-%m-%d %H:%M:%S} UTC: {why}; contacts that are not done "
            "have not failed: continue with them later, or let SharedLimit(share=...) go on without it"
        )
        error.since = since
        return error

    async def close(self) -> None:
        """Tell what is urgent, and let go of the connections."""
        self._closed = True
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._away is None and any(type(report) is not Served for report in self._reports):
            await self._step()
        await self._keeper.close()


_SHOWN_TIMES: Final = ("paused_until", "_pause_before", "_guessed_until", "_refused_since", "_next_at", "_grown_at")
