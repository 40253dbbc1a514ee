"""The progress bar of a terminal: one line, however narrow that is. Needs rich, of the extra `cli`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.progress import Progress as RichProgress
from rich.text import Text

from ._figures import Pace, Progress, counts, pause, trouble

_PERIOD: Final = 0.1  # seconds between two updates
_WIDE: Final = 110  # columns that have room for a long bar
_GAP: Final = "  "
# What a narrow terminal does without: the highest first, those of 0 last of all.
_ELAPSED, _RATE, _MORE_COUNTS, _LEFT, _KEPT = 4, 3, 2, 1, 0


class Bar(Progress):
    """A rich progress bar. What is printed to the terminal meanwhile appears above it, and so do pauses where `say` is
    given: the bar shows the last one only."""

    def __init__(self, stream: TextIO, total: int | None, say: Callable[[str], None] | None = None) -> None:
        console = Console(file=stream, highlight=False)
        bar = 1 if total is None else 24 if console.width >= _WIDE else 8
        first = SpinnerColumn() if total is None else BarColumn(bar_width=bar)
        self._bar = RichProgress(first, _Line(self), console=console, transient=True)
        self._width = console.width - bar - 2  # a blank behind each of the two
        self._total = total
        self._pace = Pace(total)
        self._say = say
        self._task: TaskID | None = None
        self._due = 0.0
        self._paused_until = 0.0
        self._numbers: tuple[int | None, int, int, int, int | None] | None = None
        self._rate = ""
        self._note = ""

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task("", total=self._total)
        return self

    def update(
        self, contacts: int | None, events: int, retries: int, failed: int = 0, reached: int | None = None
    ) -> None:
        now = time.monotonic()
        if self._task is None or (now < self._due and (contacts is None or contacts != self._total)):
            return
        self._due = now + _PERIOD
        self._numbers = contacts, events, retries, failed, reached
        self._rate = self._pace.of(contacts, events)
        if now >= self._paused_until:
            self._note = ""
        self._bar.update(self._task, completed=contacts)

    def paused(self, seconds: float) -> None:
        self._wait(seconds, pause(seconds), f"rate limit: waits {seconds:.1f} s")

    def outage(self, text: str, seconds: float) -> None:
        self._wait(seconds, text, text)

    def _wait(self, seconds: float, text: str, note: str) -> None:
        self._paused_until = time.monotonic() + seconds
        self._note = note
        if self._say is not None:
            self._say(text)

    def line(self, elapsed: float) -> Text:
        """What is beside the bar, `elapsed` seconds after it began."""
        exact = self._parts(elapsed, "{:,}".format)
        if len(_GAP.join(text for _, text in exact)) <= self._width:
            return _styled(exact)
        return _styled(_fitted(self._parts(elapsed, short), self._width))

    def _parts(self, elapsed: float, shown: Callable[[int], str]) -> list[tuple[int, str]]:
        """Each with what it is worth; empty ones are left out."""
        if self._numbers is None:
            parts = [(_KEPT, "starting"), (_KEPT, self._note)]
        else:
            contacts, events, retries, failed, reached = self._numbers
            first, *more = counts(contacts, self._total, events, reached, "/", shown)
            rate, _, left = self._rate.partition(", ")
            if shown is short:
                rate = rate.replace(" contacts", "").replace(" events", "")
            parts = [(_KEPT, first), *((_MORE_COUNTS, text) for text in more), (_ELAPSED, _clock(elapsed))]
            parts += [(_RATE, rate), (_LEFT, left), (_KEPT, self._note or ", ".join(trouble(retries, failed, shown)))]
        return [(worth, text) for worth, text in parts if text]

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal was closed
            self._bar.stop()


class _Line(ProgressColumn):
    """The text beside the bar; rich asks for it several times a second."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._of = bar

    def render(self, task: Task) -> Text:
        return self._of.line(task.elapsed or 0.0)


def _fitted(parts: Sequence[tuple[int, str]], width: int) -> Sequence[tuple[int, str]]:
    while parts and len(_GAP.join(text for _, text in parts)) > width:
        least = max(worth for worth, _ in parts)
        if least == _KEPT:
            break  # its end is cut off
        parts = [part for part in parts if part[0] != least]
    return parts


def _styled(parts: Sequence[tuple[int, str]]) -> Text:
    *others, (_, last) = parts
    text = Text(_GAP.join([*(text for _, text in others), ""]), no_wrap=True, overflow="ellipsis")
    return text.append(last)


def _clock(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole:02d}"


def short(number: int) -> str:
    """At most five characters: 9,999 or 99.9k or 1.23M, and never more than it is."""
    whole, *groups = f"{number:,}".split(",")
    if not groups or number < 10_000:
        return f"{number:,}"
    decimals = groups[0][: 3 - len(whole)]
    return f"{whole}{'.' if decimals else ''}{decimals}{' kMGT'[len(groups)]}"
