"""What `np6 demo` prints in the end. Every number in it was measured in that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import Final

from attrs import Factory, define

from .. import BulkStats, Event
from ._picture import bar, sparkline
from ._screen import Screen
from ._watch import Watch

_WEEK: Final = 7 * 24 * 3600 * 1000
# Weeks begin on Monday: the first one of 1970 was the 5th of January.
_MONDAY: Final = 4 * 24 * 3600 * 1000
_BAR_WIDTH: Final = 40
_TEXT_WIDTH: Final = 62
_GLUE: Final = "\0"  # a space that no line ends at
_KEPT: Final = 5

_SNIPPET: Final = """\
import asyncio
from datetime import timedelta
from np6_async import NP6Client

# or any iterable: a file, a query, ten million of them
ids = ["000MLGPR", "0013KDC0"]
since = timedelta(days=7)

async def main():
    async with NP6Client() as np6:  # the key is in NP6_API_KEY
        bulk = np6.events.stream_many(ids, start=since, on_error="collect")
        async with bulk as events:
            async for contact, event in events:
                print(contact, event.at, event.type)
        for failure in events.failures:
            print(failure)

asyncio.run(main())"""


@define
class Found:
    """What a run fetched."""

    watch: Watch
    rate_limit: int | None = None
    events: int = 0
    seconds: float = 0.0
    stats: BulkStats = Factory(BulkStats)
    failures: list[str] = Factory(list)
    arrived: dict[str, list[tuple[str | None, int]]] = Factory(dict)
    kinds: dict[str, Counter[int]] = Factory(dict)

    def add(self, contact: str, batch: Sequence[Event]) -> None:
        """Count a batch of a contact's events."""
        self.events += len(batch)
        self.arrived.setdefault(contact, []).extend([(event.id, event.timestamp) for event in batch])
        for event in batch:
            weeks = self.kinds.setdefault(event.type or "(none)", Counter())
            weeks[(event.timestamp - _MONDAY) // _WEEK] += 1


@define
class Truth:
    """What the server says of the same run."""

    injected: Counter[str]
    recovered: int = 0
    requests: int = 0
    refused: int = 0
    expected: int = 0
    missing: int = 0
    surplus: int = 0
    disordered: int = 0

    @property
    def complete(self) -> bool:
        """Whether every event arrived exactly once, in order."""
        return not (self.missing or self.surplus or self.disordered)


def show(screen: Screen, found: Found, truth: Truth) -> None:
    """Print all of it."""
    _show_kinds(screen, found)
    _show_weeks(screen, found)
    _show_run(screen, found, truth)
    _show_check(screen, truth, found.failures)
    screen.say()
    screen.say("The same against the real host, in Python", "bold")
    screen.say()
    for line in _SNIPPET.splitlines():
        screen.say(f"    {line}" if line else "")
    screen.say()
    screen.say("or on the command line", "bold")
    screen.say()
    screen.say("    export NP6_API_KEY=...")
    screen.say("    np6 events --ids-from ids.txt --start 7d --output events.ndjson")


def _show_kinds(screen: Screen, found: Found) -> None:
    weeks = _weeks(found)
    screen.say(f"  {'fetched':<14}{'events':>10}{'share':>9}   over time", "bold")
    kinds = sorted(found.kinds.items(), key=lambda kind: (-kind[1].total(), kind[0]))
    for kind, counts in kinds:
        share = counts.total() / found.events
        line = sparkline([counts[week] for week in weeks], blocks=screen.blocks)
        screen.say(f"  {kind:<14}{counts.total():>10,}{share:>9.1%}   {line}")
    screen.say(f"  {'all':<14}{found.events:>10,}")
    screen.say()


def _show_weeks(screen: Screen, found: Found) -> None:
    weeks = _weeks(found)
    totals: Counter[int] = Counter()
    for counts in found.kinds.values():
        totals.update(counts)
    most = max(totals.values(), default=0)
    screen.say("  week of           events", "bold")
    for week in weeks:
        drawn = bar(totals[week], most, _BAR_WIDTH, blocks=screen.blocks)
        screen.say(f"  {_monday(week)}{totals[week]:>14,}   {drawn}", "cyan")
    screen.say()


def _show_run(screen: Screen, found: Found, truth: Truth) -> None:
    watch, stats, seconds = found.watch, found.stats, max(found.seconds, 1e-9)

    def row(name: str, text: str) -> None:
        screen.say(f"  {name:<14}{text}")

    paused = f", of which {watch.paused:.2f} s paused by the rate limit" if watch.pauses else ""
    row("time", f"{seconds:.2f} s{paused}")
    row("throughput", f"{found.events / seconds:,.0f} events/s, {stats.done / seconds:,.0f} contacts/s")
    if found.rate_limit is None:
        row("", "(the server shares this thread and its time)")
    else:
        row("", f"(held back by the limit of {found.rate_limit:,} requests/s: see --rate-limit 0)")
    row("requests", f"{truth.requests:,}, {stats.bytes / 1e6:,.1f} MB of JSON")
    if found.rate_limit is not None:
        times = "once" if watch.pauses == 1 else f"{watch.pauses} times"
        row("rate limit", f"{truth.refused:,} requests refused with 429; the client paused {times}")
    row("retries", f"{watch.retries:,}, of which {watch.resumed:,} took up a broken answer where it ended")
    faults = truth.injected.total()
    row("faults", f"{faults:,} injected, {truth.recovered:,} recovered from")
    names = [f"{number}{_GLUE}x{_GLUE}{name}" for name, number in sorted(truth.injected.items())]
    for line in wrap(", ".join(names), _TEXT_WIDTH, break_on_hyphens=False):
        row("", line.replace(_GLUE, " "))
    screen.say()


def _show_check(screen: Screen, truth: Truth, failures: Sequence[str]) -> None:
    if truth.complete:
        screen.say(f"  every event arrived exactly once: yes ({truth.expected:,} of {truth.expected:,})", "bold green")
        return
    screen.say(
        f"  every event arrived exactly once: NO: of {truth.expected:,}, {truth.missing:,} are missing, "
        f"{truth.surplus:,} came too often, {truth.disordered:,} contacts are out of order",
        "bold red",
    )
    for failure in failures[:_KEPT]:
        screen.say(f"    {failure}", "red")
    if len(failures) > _KEPT:
        screen.say(f"    ... and {len(failures) - _KEPT:,} more failures", "red")


def _weeks(found: Found) -> range:
    seen = [week for counts in found.kinds.values() for week in counts]
    return range(min(seen), max(seen) + 1) if seen else range(0)


def _monday(week: int) -> str:
    return datetime.fromtimestamp((week * _WEEK + _MONDAY) / 1000, UTC).date().isoformat()
