"""`np6 demo`: a bulk fetch from a fake NP6 server in this process, and a check that nothing was lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Final, TextIO

from attrs import Factory, define

from .. import BulkStats, Event, NP6Client
from ..testing import FakeNP6, Fault, RateLimit
from ._exit import DONE, SOME_FAILED, Interrupts, run_until_signal
from ._figures import Progress
from ._observing import Watch
from ._progress import Lines, has_rich, in_terminal, is_terminal

if TYPE_CHECKING:
    from rich.console import Console

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS: Final = "_.:-=+*#"

_WEEK: Final = 7 * 24 * 3600 * 1000
# Weeks begin on Monday: the first one of 1970 was the 5th of January.
_MONDAY: Final = 4 * 24 * 3600 * 1000
_BAR_WIDTH: Final = 40
_TEXT_WIDTH: Final = 62
_GLUE: Final = "\0"  # a space at which no line is broken
_KEPT: Final = 5  # failures that are shown

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
_EVENTS_PER_CONTACT = (10, 60)
# Contacts for each of the faults below; a small demo still meets each fault once.
_CONTACTS_PER_FAULT = 60
_FAULTS = (
    Fault.cut(how="chunked"),
    Fault.status(503),
    Fault.cut(how="rst"),
    Fault.reset(),
    Fault.cut(how="length"),
    Fault.status(502),
    Fault.cut(how="eof"),
    Fault.html(),
)


class Screen:
    """Standard output, with a little colour where a person looks at it; none of that if `plain`."""

    def __init__(self, *, plain: bool) -> None:
        self.blocks = can_draw(sys.stdout)
        self._console: Console | None = None
        if not plain and is_terminal(sys.stdout) and has_rich():
            from rich.console import Console

            self._console = Console(highlight=False, soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        """One line."""
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(text, style=style or None, markup=False)

    def progress(self, total: int) -> Progress:
        """Shows the progress of a run over `total` contacts."""
        return Lines(self.say, total) if self._console is None else in_terminal(sys.stdout, total)


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
    """What the server says about the same run."""

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
    row("retries", f"{watch.retries:,}, of which {watch.resumed:,} resumed a broken response where it ended")
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
        f"{truth.surplus:,} came more than once, {truth.disordered:,} contacts are out of order",
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


# Pictures, with plain characters where others cannot be shown


def can_draw(stream: TextIO | None) -> bool:
    """Whether `stream` can encode block characters."""
    try:
        (_EIGHTHS + _LEVELS).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar(value: int, most: int, width: int, *, blocks: bool) -> str:
    """A bar of at most `width` characters, full at `most`; every value above 0 shows something."""
    if value <= 0 or most <= 0:
        return ""
    if not blocks:
        return "#" * max(1, round(value / most * width))
    whole, eighths = divmod(max(1, round(value / most * width * 8)), 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[eighths] if eighths else "")


def sparkline(values: Sequence[int], *, blocks: bool) -> str:
    """One character a value, the height relative to the greatest; a blank for 0."""
    levels = _LEVELS if blocks else _PLAIN_LEVELS
    most = max(values, default=0)
    return "".join(levels[(value * len(levels) - 1) // most] if value > 0 else " " for value in values)


class DemoCommand:
    """One run of `np6 demo`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._screen = Screen(plain=options.plain)
        # Half the contacts a second at most, so that a small demo meets the limit as well.
        most = min(options.rate_limit, options.contacts // 2)
        self._limit = RateLimit(limit=max(1, most), headers=False) if options.rate_limit else None

    def run(self) -> int:
        """Show the demo; returns the exit code."""
        return run_until_signal(self._run)

    async def _run(self, interrupts: Interrupts) -> int:
        screen, limit, contacts = self._screen, self._limit, self._options.contacts
        try:
            # On this event loop and not in a thread: two threads of Python take turns, which costs both.
            async with FakeNP6(contacts, _EVENTS_PER_CONTACT, rate_limit=limit) as server:
                faulty = _order_faults(server)
                allowed = f"{limit.limit:,} requests a second" if limit else "any number of requests a second"
                screen.say(f"A fake NP6 server runs at {server.url} with {contacts:,} contacts.")
                screen.say(f"It allows {allowed}, and {len(faulty)} of its responses will go wrong.")
                screen.say()
                found = await _fetch(screen, server, contacts, self._options.concurrency)
                truth = await _compare(server, found)
        except asyncio.CancelledError:
            if interrupts.code is None:
                raise
            print(f"np6 demo: {interrupts.cause}; the fake server is closed, nothing is left running", file=sys.stderr)
            return interrupts.code
        if limit is not None:
            found.rate_limit = limit.limit
        screen.say()
        show(screen, found, truth)
        return DONE if truth.complete else SOME_FAILED


def _order_faults(server: FakeNP6) -> Sequence[str]:
    """Script faults for contacts spread over the whole run; returns their ids."""
    ids = server.contact_ids
    number = min(len(ids), max(len(_FAULTS), len(ids) // _CONTACTS_PER_FAULT))
    faulty = [ids[n * len(ids) // number] for n in range(number)]
    for n, contact in enumerate(faulty):
        server.script(_FAULTS[n % len(_FAULTS)], contact=contact)
    return faulty


async def _fetch(screen: Screen, server: FakeNP6, contacts: int, concurrency: int) -> Found:
    progress: Progress
    watch = Watch(lambda seconds: progress.paused(seconds), lambda text, seconds: progress.outage(text, seconds))
    found = Found(watch=watch)
    began = time.perf_counter()
    async with NP6Client(server.api_key, base_url=server.url, hooks=[watch]) as np6:
        with screen.progress(contacts) as progress:
            async with np6.events.stream_many(
                server.contact_ids, concurrency=concurrency, on_error="collect"
            ) as stream:
                async for contact, batch in stream.batches():
                    found.add(str(contact), batch)
                    progress.update(watch.contacts, found.events, watch.retries)
                # The last contacts are known to be complete only after their last batch.
                progress.update(watch.contacts, found.events, watch.retries)
                found.stats = stream.stats
                found.failures = [str(failure) for failure in stream.failures]
    found.seconds = time.perf_counter() - began
    return found


async def _compare(server: FakeNP6, found: Found) -> Truth:
    """Compare what arrived with what the server has."""
    truth = Truth(injected=server.faults_consumed)
    exact = set()
    for contact in server.contact_ids:
        expected = Counter((event["id"], event["timestamp"]) for event in server.events(contact))
        arrived = found.arrived.get(contact, [])
        got = Counter(arrived)
        truth.expected += expected.total()
        truth.missing += (expected - got).total()
        truth.surplus += (got - expected).total()
        in_order = all(before[1] <= after[1] for before, after in pairwise(arrived))
        truth.disordered += not in_order
        if expected == got and in_order:
            exact.add(contact)
        await asyncio.sleep(0)  # a hundred thousand contacts take a while: Ctrl-C must be handled
    for request in server.requests:
        truth.recovered += request.fault is not None and request.contact in exact
        truth.refused += request.status == 429
    truth.requests = server.request_count
    return truth
