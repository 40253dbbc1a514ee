"""The progress of a run: a bar on a terminal, plain lines, or nothing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, TextIO

from ._figures import Pace, Progress, amount, counts, pause, trouble

# Seconds between two lines of a run whose length is not known.
_LINE_PERIOD: Final = 5.0


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
        self._say(share + ", ".join([*told, amount(retries, "retry", "retries")]))

    def paused(self, seconds: float) -> None:
        self._say(pause(seconds))

    def outage(self, text: str, seconds: float) -> None:
        self._say(text)


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
