"""What a progress tells: how much is done, how fast, how long the rest takes and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

from attrs import define


class Progress:
    """Shows nothing; the others show more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""

    def update(
        self, contacts: int | None, events: int, retries: int, failed: int = 0, reached: int | None = None
    ) -> None:
        """Numbers up to now: `contacts` are done or failed. Cheap enough for every batch.

        None: the events are not fetched by contact, so that they are what is counted; they came up to the time
        `reached`, in epoch milliseconds.
        """

    def paused(self, seconds: float) -> None:
        """The client waits for the rate limit."""

    def outage(self, text: str, seconds: float) -> None:
        """The client waits for so many seconds, because nobody is answered; `text` says so."""


@define(eq=False, repr=False)
class Pace:
    """How many contacts a second have ended since the first call, and how long the rest of `total` takes.

    Of events, where these are what is counted.
    """

    total: int | None
    clock: Callable[[], float] = time.monotonic
    _first: tuple[float, int] | None = None

    def say(self, number: int, noun: str = "contacts") -> str:
        """Such as `120 contacts/s, 2 h 05 min left`; empty where it is not known yet."""
        now = self.clock()
        if self._first is None:
            self._first = now, number
        seconds, through = now - self._first[0], number - self._first[1]
        if seconds <= 0 or through <= 0:
            return ""
        rate = through / seconds
        said = f"{rate:,.0f} {noun}/s" if rate >= 10 else f"{rate:,.1f} {noun}/s"
        return said if self.total is None else f"{said}, {_length(max(self.total - number, 0) / rate)} left"

    def of(self, contacts: int | None, events: int) -> str:
        """That of contacts, or where they are None, of events."""
        return self.say(events, "events") if contacts is None else self.say(contacts)


def pause(seconds: float) -> str:
    """What is said of a wait for the rate limit."""
    return f"the rate limit is reached: every request waits {seconds:.1f} s"


def _exact(number: int) -> str:
    return f"{number:,}"


def counts(
    contacts: int | None,
    total: int | None,
    events: int,
    reached: int | None,
    of: str,
    shown: Callable[[int], str] = _exact,
) -> list[str]:
    """What a progress counts, such as `5 of 10 contacts` and `50 events`."""
    if contacts is not None:
        return [f"{shown(contacts)}{f'{of}{shown(total)}' if total else ''} contacts", f"{shown(events)} events"]
    up_to = [] if reached is None else [f"up to {datetime.fromtimestamp(reached // 1000, UTC):%Y-%m-%d %H:%M:%SZ}"]
    return [f"{shown(events)} events", *up_to]


def amount(number: int, one: str, more: str, shown: Callable[[int], str] = _exact) -> str:
    """Such as `1 retry` or `2,000 retries`."""
    return f"{shown(number)} {one if number == 1 else more}"


def trouble(retries: int, failed: int, shown: Callable[[int], str] = _exact) -> list[str]:
    """Failures and retries, where there were any."""
    return [f"{shown(failed)} failed"] * (failed > 0) + [amount(retries, "retry", "retries", shown)] * (retries > 0)


def _length(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min"
