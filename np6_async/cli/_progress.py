"""The progress of a run: a bar on a terminal, plain lines, or nothing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Final, Self, TextIO

from attrs import define

# Seconds between two lines of a run whose length is not known.
_LINE_PERIOD: Final = 5.0


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


class Lines(Progress):
    """A line about every tenth of `total` contacts, or every few seconds where that is not known."""

    def __init__(self, say: Callable[[str], None], total: int | None) -> None:
        self._say = say
        self._total = total
        self._tenth = 0
        self._due = time.monotonic() + _LINE_PERIOD

    def update(
        self, contacts: int | None, events: int, retries: int, failed: int = 0, reached: int | None = None
    ) -> None:
        if self._total and contacts is not None:
            tenth = contacts * 10 // self._total
            if tenth <= self._tenth:
                return
            self._tenth = tenth
            share = f"{tenth * 10:3d} %  "
        else:
            if time.monotonic() < self._due:
                return
            self._due = time.monotonic() + _LINE_PERIOD
            share = ""
        told = counts(contacts, self._total, events, reached, " of ")
        self._say(share + ", ".join([*told, _count(retries, "retry", "retries")]))

    def paused(self, seconds: float) -> None:
        self._say(pause(seconds))

    def outage(self, text: str, seconds: float) -> None:
        self._say(text)


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


class Timed(Progress):
    """A line every `period` seconds: for a log."""

    def __init__(self, say: Callable[[str], None], total: int | None, period: float = 30.0) -> None:
        self._say = say
        self._total = total
        self._period = period
        self._pace = Pace(total)
        self._due = time.monotonic() + period
        self._outage_due = 0.0

    def update(
        self, contacts: int | None, events: int, retries: int, failed: int = 0, reached: int | None = None
    ) -> None:
        pace = self._pace.of(contacts, events)
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._period
        share = f"{contacts * 100 // self._total:3d} %  " if self._total and contacts is not None else ""
        told = counts(contacts, self._total, events, reached, " of ")
        self._say(share + ", ".join(filter(None, [*told, pace, *trouble(retries, failed)])))

    def paused(self, seconds: float) -> None:
        if seconds >= 1:
            self._say(pause(seconds))

    def outage(self, text: str, seconds: float) -> None:
        if time.monotonic() >= self._outage_due:
            self._outage_due = time.monotonic() + self._period
            self._say(text)


def in_terminal(stream: TextIO, total: int | None, say: Callable[[str], None] | None = None) -> Progress:
    """A bar; `has_rich` must be true."""
    from ._bar import Bar

    return Bar(stream, total, say)


def for_files(options: argparse.Namespace, total: int | None, say: Callable[[str], None]) -> Progress:
    """The progress of a command that writes files: a bar on a terminal of its own, else a line now and then."""
    if options.quiet:
        return Progress()
    typed = "-" in [*options.ids_from, *getattr(options, "only_ids", ())] and is_terminal(sys.stdin)
    if options.verbose or typed or not is_terminal(sys.stderr) or not has_rich():
        return Timed(say, total)
    return in_terminal(sys.stderr, total)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is looking at `stream`."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def has_rich() -> bool:
    """Whether rich, of the extra `cli`, is installed."""
    return find_spec("rich") is not None


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


def _count(number: int, one: str, more: str, shown: Callable[[int], str] = _exact) -> str:
    return f"{shown(number)} {one if number == 1 else more}"


def trouble(retries: int, failed: int, shown: Callable[[int], str] = _exact) -> list[str]:
    """Failures and retries, where there were any."""
    return [f"{shown(failed)} failed"] * (failed > 0) + [_count(retries, "retry", "retries", shown)] * (retries > 0)


def _length(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min"
