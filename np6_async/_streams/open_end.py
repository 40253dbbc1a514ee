"""The end of what is called complete, where that is "now": see `np6_async._http.server_clock`."""

from __future__ import annotations

from math import floor

from .._http.server_clock import MARGIN, ServerClock


class OpenEnd:
    """An end of `own` milliseconds, by this machine's clock, which is cut at the server's time when this was made.

    That is known only when the first response has come; it is then `before` milliseconds less, as `own` already is.
    Whoever fetches up to `own` leaves out the events from `ms` on, and calls nothing complete after it.

    The server's time is known to about a second. Where `own` lies in that second it may be too late, and is cut only if
    `strict`.
    """

    def __init__(self, clock: ServerClock, own: int, before: int = 0, *, strict: bool = True) -> None:
        self._clock = clock
        self._moment = clock.moment()
        self._observations = clock.observations
        self.own: int = own
        self._before = before
        self._strict = strict
        self._cut: int | None = None

    @property
    def ms(self) -> int:
        """The end, in epoch milliseconds. Once it is cut it stays the same, unless the server's Date is refuted."""
        server = self._clock.at(self._moment)
        if server is None or self._clock.observations == self._observations:
            return self.own
        if self._cut is None:
            earliest, latest = (floor(time * 1000) - self._before for time in server)
            self._cut = self.own if self.own <= (earliest if self._strict else latest) else max(0, earliest)
        return self._cut

    @property
    def is_early(self) -> bool:
        """Whether it was cut by more than a minute, so that this machine's clock or the server's is wrong."""
        return self.own - self.ms > MARGIN * 1000

    def refuted_by(self, published: int) -> bool:
        """Whether an event of that time, in epoch milliseconds, proves that the server's Date is wrong.

        Then the end is `own`.
        """
        return self._clock.refuted_by(published / 1000)
