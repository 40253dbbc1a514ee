"""Counts events, in memory that is bounded however many they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import tzinfo
from typing import Final

from attrs import frozen

from .._models.events import Activation, Bounce, Event, Hit, Optout
from .._models.mail_status import meaning
from ._days import Days
from ._domains import Domains, address_of
from ._rows import BOUNCED, CLICKED, OPENED, SENT, STOPPED, Rows

_MOST_ACTIONS: Final = 10_000
_MOST_CODES: Final = 1_000
_LINKS: Final = {"open": OPENED, "redirection": CLICKED}
NO_CODE: Final = ""  # a bounce without one, or with one that is no enhanced code
NO_ACTION: Final = ""
AN_ADDRESS: Final = "(an address)"  # where an id is expected: it is not told


@frozen
class Totals:
    """How many events there are of each sort; `hard` and `soft` are bounces, `robots` hits that were left out."""

    events: int
    sent: int
    bounced: int
    hard: int
    soft: int
    opened: int
    clicked: int
    stopped: int
    robots: int


class Tally:
    """Everything that a report shows, event by event."""

    def __init__(self, tz: tzinfo) -> None:
        self.days = Days(tz)
        self.actions = Rows(_MOST_ACTIONS)
        self.domains = Domains()
        self.codes = Rows(_MOST_CODES)  # of which only what bounced is counted
        self.first: int | None = None  # times in epoch milliseconds
        self.last: int | None = None
        self._counts: Counter[str] = Counter()
        self._series = [0] * 5
        self._events = 0
        self._hits = 0  # of people
        self._with_robots = 0  # hits
        self._apart = False  # whether hits were asked for without those of robots

    def add(self, events: Iterable[Event], *, robots: bool) -> None:
        """Count these; with `robots`, hits among them may be of robots and are not counted as opened or clicked."""
        self._apart |= not robots
        for event in events:
            self._events += 1
            kind = type(event)
            series: int | None
            if kind is Activation:
                series = SENT
            elif isinstance(event, Hit):
                if robots:
                    self._with_robots += 1
                    continue
                self._hits += 1
                link = event.link
                series = None if link is None else _LINKS.get(link.type or "")
            elif isinstance(event, Bounce):
                series = BOUNCED
                self._bounce(event)
            else:
                series = STOPPED if kind is Optout else None
            if series is not None:
                self._count(event, series)

    def _count(self, event: Event, series: int) -> None:
        timestamp = event.timestamp
        if self.first is None or self.last is None:
            self.first = self.last = timestamp
        elif timestamp < self.first:
            self.first = timestamp
        elif timestamp > self.last:
            self.last = timestamp
        detail = event.detail
        message = detail.activation or detail.execution
        self._series[series] += 1
        self.days.of(timestamp)[series] += 1
        action = (message.id if message is not None else None) or NO_ACTION
        self.actions.of(action if "@" not in action else AN_ADDRESS)[series] += 1
        self.domains.of(address_of(message))[series] += 1

    def _bounce(self, event: Bounce) -> None:
        verdict = event.verdict
        if verdict in ("hard", "soft"):
            self._counts[verdict] += 1
        status = event.status
        code = status.code.enhanced if status is not None and status.code is not None else None
        known = code is not None and meaning(code) is not None
        self.codes.of(code.strip() if code is not None and known else NO_CODE)[BOUNCED] += 1

    @property
    def totals(self) -> Totals:
        """The sums."""
        sent, bounced, opened, clicked, stopped = self._series
        return Totals(
            events=self._events,
            sent=sent,
            bounced=bounced,
            hard=self._counts["hard"],
            soft=self._counts["soft"],
            opened=opened,
            clicked=clicked,
            stopped=stopped,
            robots=max(self._with_robots - self._hits, 0) if self._apart else 0,
        )
