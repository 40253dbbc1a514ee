"""The server's clock, measured by the `Date` of its responses.

Whatever is called complete up to "now" depends on a clock: where this machine's is ahead, "now" is a time at which the
server has yet to publish events, and these would never be asked for again. So "now" is the earlier of two clocks, this
machine's and the server's. Neither needs to be right for that: an end that is too early costs a delay, and loses
nothing.

A response with a whole second as its Date was made within that second, after its request was sent and before it
arrived. So each narrows the interval in which the server's time lies at a moment of the monotonic clock, which does not
jump as clocks do that are set. A response that was long on the way narrows it little. One that contradicts the interval
begins another: clocks drift, are set, and differ between servers.

A Date is not always the time of those who publish events: a gateway's clock may be wrong, and a cache repeats an old
one. An event that is later than the Date gives that away, and then this machine's clock alone counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from .._protocol.rate_headers import http_date
from .observations import logger

# Clocks that are this close, in seconds, are called equal. Those of servers behind one address may differ by a little.
MARGIN: Final = 60.0


class ServerClock:
    """The server's time, as its responses report it. Times are epoch seconds, moments those of the monotonic `clock`.

    Where it differs from `wall_clock`, this machine's, by more than a minute, that is logged once as a warning.
    """

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self.date: str | None = None
        """The text of the Date observed last: the next response's is news only if it differs."""
        self._clock = clock
        self._wall_clock = wall_clock
        self._low = -inf  # the server's time minus the monotonic clock lies between these
        self._high = inf
        self._own = 0.0  # this machine's time minus the monotonic clock, at the last observation
        self._refuted = False
        self._warned = False
        self.observations: int = 0
        """How many responses have shown the time."""

    def observe(self, headers: Mapping[str, str], sent_at: float) -> None:
        """The headers of a response that has arrived, to a request that was sent at the moment `sent_at`."""
        date = headers.get("Date")
        if date == self.date:
            return
        self.date = date
        time = None if date is None or self._refuted else http_date(date)
        if time is None or headers.get("Age", "0").strip(" 0"):  # with an age it is the time of another response
            return
        now = self._clock()
        low, high = time - now, time + 1 - sent_at
        if low < self._high and high > self._low:
            low, high = max(low, self._low), min(high, self._high)
        self._low, self._high = low, high
        self._own = self._wall_clock() - now
        self.observations += 1
        self._warn()

    def at(self, moment: float) -> tuple[float, float] | None:
        """What the server's time was at least, and at most, at that moment; None while it is not known."""
        return (moment + self._low, moment + self._high) if self.known else None

    def moment(self) -> float:
        """The present, as a moment. The next response is observed, even if its Date is no news."""
        self.date = None
        return self._clock()

    def now(self) -> float:
        """The present by this machine's clock or, where that is known to be ahead of the server's, by the server's.

        Not known if this machine's clock was set since the last response, or the machine slept, for which monotonic
        clocks may stand still.
        """
        moment, own = self._clock(), self._wall_clock()
        server = self.at(moment)
        if server is None or own <= server[1] or abs(own - moment - self._own) > 1:
            return own
        return server[0]

    @property
    def known(self) -> bool:
        """Whether the server's time is known."""
        return not self._refuted and self._low > -inf

    def lies_ahead(self, time: float) -> bool:
        """Whether it is later than now by more than a minute, for this machine and, as far as known, the server."""
        return time > self._wall_clock() + MARGIN and (not self.known or time > self._clock() + self._low + MARGIN)

    def refuted_by(self, published: float) -> bool:
        """Whether an event of that time proves the server's Date wrong: it is later by more than a minute.

        From then on the server's time counts as not known.
        """
        late = published - self._clock() - self._low if self.known else 0.0
        if late > MARGIN:
            self._refuted = True
            logger.warning(
                "the Date of the server's responses is %s behind the latest event: this machine's clock alone is used",
                duration(late),
            )
        return self._refuted

    def _warn(self) -> None:
        """Warn, once, of a clock that is wrong."""
        own = self._own
        if self._warned or self._low - MARGIN <= own <= self._high + MARGIN:
            return
        self._warned = True
        ahead = own - (self._low + self._high) / 2
        logger.warning(
            "this machine's clock is %s %s the server's, as the Date of its responses shows: set it; until then, "
            "whatever is fetched up to now ends at %s",
            duration(abs(ahead)),
            "ahead of" if ahead > 0 else "behind",
            "the server's time" if ahead > 0 else "this machine's time, and later events are left to later runs",
        )


def duration(seconds: float) -> str:
    """A length of time in its two largest units, from ten minutes on to the minute: `1 d 2 h`, `20 min`, `5 min`."""
    rest = round(seconds / 60) * 60 if seconds > 600 - 1 else round(seconds)
    words: list[tuple[int, str]] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if rest >= size or words:
            words.append((rest // size, unit))
        rest %= size
    return " ".join(f"{count:,} {unit}" for count, unit in words[:2] if count) or "0 s"
