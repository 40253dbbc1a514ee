"""The pace of an account as one small value, and what a process does to it in one step.

A step reads the value, applies what the responses of this process have said since its last step, takes slots for its
next requests, and writes a new value. Whoever keeps the value sees to it that no other step comes in between. All
times are those of one clock, the keeper's.

A step may be taken twice by mistake, where its reply is lost: so a value holds the number of the last step of each
process, and each finds its own there.

Slots are numbered. Headers that report how many requests are left are those of some slot, and every slot after it may
still count against that number: so requests in flight are known over all processes, and a slot whose process was
killed is forgotten with the next response to a later one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Self, TypeAlias

import msgspec
from attrs import define, frozen

from .._http.pace import SHRINK, Pace, RateWindow
from .._protocol.rate_headers import RateState

# What a process reports of many responses at once tells nothing of their order, so a pace grows with time alone: as
# `Pace` does it up to this share of the rate that was refused last and, for a while, slower from there on.
_NEAR: Final = 0.95
_FIRST_DOUBLING: Final = 8.0
_DOUBLING: Final = 28.0
_NEAR_DOUBLING: Final = 1200.0
_NEAR_FOR: Final = 60.0
# What a rate shrinks to at a 429, as in `Pace`: the first that was met grew fast, and is beyond the limit by so much;
# later ones came near it slowly, if it was not soon after the last time.
_SHRINK_FIRST: Final = ((2, 0.5), (8, 0.8), (math.inf, 0.88))
_BEYOND: Final = 1.08
_SAME: Final = 1.0  # seconds after a 429 in which another one tells nothing new of the pace
_SHRINK_NEAR: Final = ((2, 0.5), (8, 0.8), (500, 0.9), (math.inf, 0.95))
# A window of up to so many seconds is spread evenly from its beginning: it could be used up before anybody reports.
# Of a longer one, so many times the slots of a process are no plenty.
_SHORT: Final = 10.0
_CROWD: Final = 8
_JITTER: Final = 16  # slots by which requests overtake each other
_SHORTER: Final = 0.97  # what a measurement changes of the length of a window, at least and at most
_LONGER: Final = 1.1
_EARLIER: Final = 0.3  # of a window: by how much it may have begun before it was heard of
# The processes whose last step a value remembers, and after how many seconds nobody needs to know of an outage.
_PROCESSES: Final = 32
_SET_BACK: Final = 1.0  # seconds by which clocks never differ
_OUTAGE: Final = 600.0

_TIMES: Final = (
    "paused_until",
    "_pause_before",
    "_guessed_until",
    "_refused_since",
    "_next_at",
    "_measured_from",
    "_grown_at",
    "_met_at",
    "_outage_at",
    "_measured_at",
)
# Those that a process shows as its own, too.
SHOWN_FIGURES: Final = (
    "_short",
    "_short_helps",
    "_asked_by",
    "_refusals",
    "_interval",
    "_limit_met",
    "_easing",
)
_FIGURES: Final = (
    *SHOWN_FIGURES,
    "_responses",
    "_met",
    "granted",
    "_seen",
    "outage",
    "_span",
    "_counted",
)
_WINDOW_TIMES: Final = ("_reported_end", "_began")
_WINDOW_FIGURES: Final = ("_limit", "_remaining", "_pending", "_began_seen", "_length", "_rolled", "_before")


class _Value(msgspec.Struct, array_like=True):
    """A pace in MessagePack. `at` is when it was written; all other times are relative to that."""

    at: float
    steps: list[bytes]
    times: list[float | None]
    figures: list[float | int | bool]
    window: list[float | int | bool] | None
    rate: tuple[int | None, int | None, float | None] | None
    rate_at: float


@frozen
class Served:
    """A response that is not a 429; `sent_at` is when its request was sent, `slot` its number."""

    sent_at: float
    slot: int
    rate: RateState | None


@frozen
class Limited(Served):
    """A 429, and what it asks for, in seconds."""

    wait: float | None


@frozen
class Paused:
    """A response asks to wait for so many seconds."""

    wait: float
    status: int


@frozen
class OutageBegan:
    """A process found that the server is away."""


@frozen
class OutageEnded:
    """And that it is back."""


Report: TypeAlias = Served | Limited | Paused | OutageBegan | OutageEnded


@define
class Slot:
    """Leave to send one request, at this time or later."""

    at: float
    number: int


class _SharedWindow(RateWindow):
    """A window that several processes send in, each of which tells a little later what it has seen of it.

    So whoever tells first of a new window has often not seen its beginning, and another one has.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rolled = 0  # how many requests were left when this window was first heard of
        self._before = 0.0  # its length, before that was measured by when it began; 0 if it was not

    def update(self, sent_at: float, now: float, pending: int, limit: int | None, remaining: int, reset: float) -> bool:
        """See `RateWindow`."""
        began, length = self._began, self._length
        measured = self._began_seen and self._remaining <= self._limit // 2
        news = super().update(sent_at, now, pending, limit, remaining, reset)
        if self._began != began:
            self._rolled, self._before = remaining, length if measured else 0.0
            if self._before:  # no measurement is exact
                self._length = min(max(self._length, length * _SHORTER), length * _LONGER)
        return news

    def is_past(self, sent_at: float, behind: int, remaining: int) -> bool:
        """Whether a response is explained by its slot, which is so many `behind` the one that the count is known by."""
        if behind <= 0 or remaining > self._remaining + behind + _JITTER:
            return False
        early = self._began - sent_at
        if remaining > self._rolled and 0 < early < self._length * _EARLIER:
            self._began, self._rolled = sent_at, remaining
            if self._before:
                self._length = max(self._length - early, self._before * _SHORTER)
        return True

    def interval(self, now: float, pending: int, slots: int) -> float:
        """See `RateWindow`."""
        return super().interval(now, pending, self._limit if self._length <= _SHORT else _CROWD * slots)


class SharedPace(Pace):
    """See the module. A step is taken at one moment, `now`."""

    _growth = 0.0
    _first_doubling = _FIRST_DOUBLING

    def __init__(self, now: float, *, requests: Callable[[], int], max_wait: float) -> None:
        super().__init__(lambda: now, requests=requests, max_wait=max_wait)
        self._steps: list[bytes] = []
        self.granted = 0  # slots, ever
        self._seen = 0  # the slot whose response the window is known by
        self._met = 0.0  # the interval at which the limit was met last; 0 if it never was
        self._met_at = 0.0
        self.outage = 0  # the number of the last outage, negative when it is over
        self._outage_at = 0.0
        # The first measurement: how long it took, how many responses it is made of, and when it was made.
        self._span = 0.0
        self._counted = 0
        self._measured_at = 0.0
        self.set_back = False  # this value has to be written
        self._slot = 0  # of the response that is being applied

    # -- the value ---------------------------------------------------------------------------------

    @classmethod
    def read(cls, value: bytes, now: float, *, requests: Callable[[], int], max_wait: float) -> Self:
        """The pace of a value, or that of nothing, if there is none or it cannot be read."""
        pace = cls(now, requests=requests, max_wait=max_wait)
        found = _decoded(value)
        if found is None:
            return pace
        # A clock that was put back takes all times with it, once.
        pace.set_back = found.at > now + _SET_BACK
        at = now if pace.set_back else found.at
        for name, time in zip(_TIMES, found.times, strict=True):
            setattr(pace, name, None if time is None else at + time)
        for name, figure in zip(_FIGURES, found.figures, strict=True):
            setattr(pace, name, figure)
        pace._steps = found.steps
        pace._pending = pace.granted - pace._seen
        if found.window is not None:
            pace._window = window = _SharedWindow()
            for name, figure in zip((*_WINDOW_TIMES, *_WINDOW_FIGURES), found.window, strict=True):
                setattr(window, name, at + figure if name in _WINDOW_TIMES else figure)
        if found.rate is not None:
            pace._reported = RateState(*found.rate), at + found.rate_at
        return pace

    def write(self, step: bytes) -> bytes:
        """The value of this pace after a step: four bytes for the process, and others for the step."""
        at = self._clock()

        def relative(time: float | None) -> float | None:
            return None if time is None else round(time - at, 6)

        window: list[Any] | None = None
        if self._window is not None:
            window = [relative(getattr(self._window, name)) for name in _WINDOW_TIMES]
            window += [getattr(self._window, name) for name in _WINDOW_FIGURES]
        rate, rate_at = self._reported or (None, at)
        return msgspec.msgpack.encode(
            _Value(
                at,
                [*(other for other in self._steps if other[:4] != step[:4]), step][-_PROCESSES:],
                [relative(getattr(self, name)) for name in _TIMES],
                [getattr(self, name) for name in _FIGURES],
                window,
                None if rate is None else (rate.limit, rate.remaining, rate.reset),
                rate_at - at,
            )
        )

    @staticmethod
    def has_taken(value: bytes, step: bytes) -> bool:
        """Whether this step is among the last that led to the value."""
        found = _decoded(value)
        return found is not None and step in found.steps

    # -- a step --------------------------------------------------------------------------------------

    @property
    def needs_slots(self) -> bool:
        """Whether requests need a slot."""
        return self._interval > 0 or self._window is not None

    @property
    def interval(self) -> float:
        """Seconds between two requests; 0 where no pace is known."""
        interval = self._interval
        if self._window is not None:
            interval = max(interval, self._window.share)
        return interval

    @property
    def said(self) -> tuple[RateState, float] | None:
        """The last headers, and when they came."""
        return self._reported

    @property
    def out(self) -> int:
        """The number of the outage that lasts; 0 if there is none."""
        return self.outage if self.outage > 0 and self._clock() - self._outage_at < _OUTAGE else 0

    def apply(self, report: Report) -> None:
        """What a process has seen."""
        now = self._clock()
        match report:
            case Served():
                if self._measured_from is None and not self._interval:
                    self._measured_from = report.sent_at
                self._slot = report.slot
                if isinstance(report, Limited):
                    self.limited(report.sent_at, report.wait, report.rate)
                else:
                    self.responded(report.sent_at, report.rate)
                    if report.sent_at < self.paused_until:
                        self._served_before(report.sent_at)
            case Paused():
                self.pause(report.wait, report.status)
            case OutageBegan():
                if self.outage <= 0:
                    self.outage = 1 - self.outage
                self._outage_at = now
            case OutageEnded():
                self.outage = -abs(self.outage)
                self.ease_in()

    def grant(self, most: int, until: float) -> list[Slot]:
        """Slots for the next requests, not later than `until`: up to half of what there is, since others wait."""
        slots: list[Slot] = []
        if interval := self.interval:
            most = min(most, 1 + max(0, int((until - max(self._clock(), self._next_at)) / interval / 2)))
        while len(slots) < most and (at := max(self._clock(), self._send_at())) <= until:
            self._acquired(at)
            self.granted += 1
            self._span = 0.0
            slots.append(Slot(at, self.granted))
        return slots

    def plenty(self, slots: int) -> int:
        """How many slots a process may take in advance where a window is known and far from used up."""
        window = self._window
        if self._interval or window is None or window.interval(self._clock(), self._pending, slots):
            return 0
        return min(2 * slots, max(1, window.left(self._pending) // 10))

    # -- where the law differs -------------------------------------------------------------------------

    def _no_longer_pending(self) -> None:
        """Slots are pending until a later one is known of."""

    def _learn(self, sent_at: float, rate: RateState) -> None:
        now = self._clock()
        self._reported = rate, now
        if rate.remaining is None or rate.reset is None:
            return
        if self._window is None:
            self._window = _SharedWindow()
        assert isinstance(self._window, _SharedWindow)
        slot = min(self._slot, self.granted)
        if self._window.is_past(sent_at, self._seen - slot, rate.remaining):
            return
        if self._window.update(sent_at, now, self.granted - slot, rate.limit, rate.remaining, rate.reset):
            self._seen = slot
            self._pending = self.granted - slot

    def _slow_down(self, pause: float) -> None:
        if self._met and self._clock() - self._met_at < _SAME:
            return  # the pause was too short, and not the pace too fast
        met = 0.0 if self._easing or not self._responses else self._interval
        if met and not self._met:
            met *= _BEYOND
        if not self._interval or self._easing:
            self._measured_at = self._clock()
            self._span = self.paused_until - (self._measured_at if self._measured_from is None else self._measured_from)
            self._counted = self._responses
        super()._slow_down(pause)
        if met:
            self._met, self._met_at = met, self._clock()

    def _served_before(self, sent_at: float) -> None:
        """A request was served that had been sent before the pause, and is reported after the 429."""
        self._responses -= 1  # it says nothing of the pace since then
        if self._span and sent_at < self._measured_at:
            self._counted += 1
            self._interval = min(self._interval, self._span / self._counted / SHRINK[-1][1])

    @property
    def _shrink(self) -> tuple[tuple[float, float], ...]:  # type: ignore[override]
        return _SHRINK_NEAR if self._met else _SHRINK_FIRST if self._interval else SHRINK

    @property
    def _doubling(self) -> float:  # type: ignore[override]
        near = self._interval * _NEAR < self._met and self._clock() - self._met_at < _NEAR_FOR
        return _NEAR_DOUBLING if near else _DOUBLING


def _decoded(value: bytes) -> _Value | None:
    if not value:
        return None
    try:
        found = msgspec.msgpack.decode(value, type=_Value)
    except msgspec.MsgspecError:
        return None
    fits = len(found.times) == len(_TIMES) and len(found.figures) == len(_FIGURES)
    if found.window is not None:
        fits = fits and len(found.window) == len(_WINDOW_TIMES) + len(_WINDOW_FIGURES)
    return found if fits else None
