"""The progress of a run: a bar on a terminal, plain lines, or nothing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self, TextIO

from attrs import define

if TYPE_CHECKING:
    from rich.progress import TaskID

# Seconds between two updates of the bar, and between two lines of a run whose length is not known.
_BAR_PERIOD: Final = 0.1
_LINE_PERIOD: Final = 5.0


class Progress:
    """Shows nothing; the others show more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""

    def update(self, contacts: int, events: int, retries: int, failed: int = 0) -> None:
        """Numbers up to now: `contacts` are done or failed. Cheap enough for every batch."""

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

    def update(self, contacts: int, events: int, retries: int, failed: int = 0) -> None:
        if self._total:
            tenth = contacts * 10 // self._total
            if tenth <= self._tenth:
                return
            self._tenth = tenth
            share, of = f"{tenth * 10:3d} %  ", f" of {self._total:,}"
        else:
            if time.monotonic() < self._due:
                return
            self._due = time.monotonic() + _LINE_PERIOD
            share = of = ""
        self._say(f"{share}{contacts:,}{of} contacts, {events:,} events, {_count(retries, 'retry', 'retries')}")

    def paused(self, seconds: float) -> None:
        self._say(_pause(seconds))

    def outage(self, text: str, seconds: float) -> None:
        self._say(text)


@define(eq=False, repr=False)
class Pace:
    """How many contacts a second have ended since the first call, and how long the rest of `total` takes."""

    total: int | None
    clock: Callable[[], float] = time.monotonic
    _first: tuple[float, int] | None = None

    def say(self, contacts: int) -> str:
        """Such as `120 contacts/s, 2 h 05 min left`; empty where it is not known yet."""
        now = self.clock()
        if self._first is None:
            self._first = now, contacts
        seconds, through = now - self._first[0], contacts - self._first[1]
        if seconds <= 0 or through <= 0:
            return ""
        rate = through / seconds
        said = f"{rate:,.0f} contacts/s" if rate >= 10 else f"{rate:,.1f} contacts/s"
        return said if self.total is None else f"{said}, {_length(max(self.total - contacts, 0) / rate)} left"


class Timed(Progress):
    """A line every `period` seconds: for a log."""

    def __init__(self, say: Callable[[str], None], total: int | None, period: float = 30.0) -> None:
        self._say = say
        self._total = total
        self._period = period
        self._pace = Pace(total)
        self._due = time.monotonic() + period
        self._outage_due = 0.0

    def update(self, contacts: int, events: int, retries: int, failed: int = 0) -> None:
        pace = self._pace.say(contacts)
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._period
        share = f"{contacts * 100 // self._total:3d} %  " if self._total else ""
        of = f" of {self._total:,}" if self._total else ""
        parts = [f"{contacts:,}{of} contacts", f"{events:,} events", pace, *_trouble(retries, failed)]
        self._say(share + ", ".join(filter(None, parts)))

    def paused(self, seconds: float) -> None:
        if seconds >= 1:
            self._say(_pause(seconds))

    def outage(self, text: str, seconds: float) -> None:
        if time.monotonic() >= self._outage_due:
            self._outage_due = time.monotonic() + self._period
            self._say(text)


class Bar(Progress):
    """A rich progress bar. What is printed to the terminal meanwhile appears above it, and so do pauses where `say` is
    given: the bar shows the last one only."""

    def __init__(self, stream: TextIO, total: int | None, say: Callable[[str], None] | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        first = SpinnerColumn() if total is None else BarColumn(bar_width=24)
        self._bar = RichProgress(
            first,
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("[yellow]{task.fields[note]}"),
            console=Console(file=stream, highlight=False),
            transient=True,
        )
        self._total = total
        self._pace = Pace(total)
        self._say = say
        self._task: TaskID | None = None
        self._due = 0.0
        self._paused_until = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task("", total=self._total, counts="starting", pace="", note="")
        return self

    def update(self, contacts: int, events: int, retries: int, failed: int = 0) -> None:
        now = time.monotonic()
        if self._task is None or (now < self._due and contacts != self._total):
            return
        self._due = now + _BAR_PERIOD
        of = "" if self._total is None else f"/{self._total:,}"
        counts = f"{contacts:,}{of} contacts  {events:,} events"
        self._bar.update(self._task, completed=contacts, counts=counts, pace=self._pace.say(contacts))
        if now >= self._paused_until:
            self._bar.update(self._task, note=", ".join(_trouble(retries, failed)))

    def paused(self, seconds: float) -> None:
        self._paused_until = time.monotonic() + seconds
        if self._say is not None:
            self._say(_pause(seconds))
        if self._task is not None:
            self._bar.update(self._task, note=f"rate limit: waits {seconds:.1f} s")

    def outage(self, text: str, seconds: float) -> None:
        self._paused_until = time.monotonic() + seconds
        if self._say is not None:
            self._say(text)
        if self._task is not None:
            self._bar.update(self._task, note=text)

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal was closed
            self._bar.stop()


def for_files(options: argparse.Namespace, total: int | None, say: Callable[[str], None]) -> Progress:
    """The progress of a command that writes files: a bar on a terminal of its own, else a line now and then."""
    typed = "-" in options.ids_from and is_terminal(sys.stdin)
    if options.verbose or typed or not is_terminal(sys.stderr) or not has_rich():
        return Timed(say, total)
    return Bar(sys.stderr, total)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is looking at `stream`."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def has_rich() -> bool:
    """Whether rich, of the extra `cli`, is installed."""
    return find_spec("rich") is not None


def _pause(seconds: float) -> str:
    return f"the rate limit is reached: every request waits {seconds:.1f} s"


def _count(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _trouble(retries: int, failed: int) -> list[str]:
    """Failures and retries, where there were any."""
    return [f"{failed:,} failed"] * (failed > 0) + [_count(retries, "retry", "retries")] * (retries > 0)


def _length(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min"
